//! What a steward promises: W1 to W3 of `src/lib.rs`, one step at a time.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use quorate_protocol::{
    Change, Configuration, Core, GroupId, Incarnation, Member, Name, NodeId, Out, Role,
    log::Request,
};
use quorate_stage::Outlet;
use quorate_steward::{Config, Message, Outbound, Standing, Steward, Timer};

const GROUP: GroupId = GroupId(1);

fn member(node: u32, incarnation: u64) -> Member {
    Member { node: NodeId(node), incarnation: Incarnation(incarnation) }
}

fn formed() -> Configuration {
    Configuration::of([1, 2, 3].map(NodeId))
}

fn replaced(incarnation: u64) -> Configuration {
    formed().after(&Change::Replace(member(3, incarnation))).unwrap()
}

fn steward(me: Member, standing: Standing) -> Steward {
    let nodes = [1, 2, 3].map(NodeId).to_vec();
    Steward::new(Config { me, nodes, retry: Duration::from_millis(100) }, standing)
}

fn step(steward: &mut Steward, run: impl FnOnce(&mut Steward, &mut Out<Steward>)) -> Vec<Outbound> {
    let mut out = Out::default();
    run(steward, &mut out);
    steward.invariants();
    assert!(out.records.is_empty() && out.alarms.is_empty());
    out.sends
}

fn hear(steward: &mut Steward, from: u32, message: Message) -> Vec<Outbound> {
    let from = Name::new(NodeId(from), GROUP, Role::Steward);
    step(steward, |steward, out| steward.on_message(from, message, out))
}

fn told(configuration: Configuration) -> Message {
    Message::Told { configuration }
}

/// W1, W2. The name is on the disk before anything begins under it.
#[test]
fn a_blank_node_begins_under_the_name_that_it_was_given_once_that_is_written_down() {
    let mut blank = steward(member(3, 7), Standing::Blank);
    let said = step(&mut blank, Steward::start);
    let [Outbound::Stewards(others, Message::Petition { wants: true, .. })] = &said[..] else {
        panic!("{said:?}")
    };
    assert_eq!(*others, [NodeId(1), NodeId(2)]);
    assert!(hear(&mut blank, 1, told(formed())).is_empty(), "it is not taken in yet");
    assert!(hear(&mut blank, 1, told(replaced(8))).is_empty(), "another directory is");
    let third = NodeId(3).in_life(1);
    let said = hear(&mut blank, 2, told(replaced(7)));
    assert!(matches!(&said[..], [Outbound::Record(node, _)] if *node == third), "{said:?}");
    assert!(hear(&mut blank, 1, told(replaced(7))).is_empty(), "once");
    let said = hear(&mut blank, 3, Message::Recorded);
    assert!(matches!(&said[..], [Outbound::Begin(node, _)] if *node == third), "{said:?}");
    assert_eq!(*blank.standing(), Standing::Member(third));
}

#[test]
fn a_node_asks_until_it_has_a_vote_and_then_no_more() {
    let mut blank = steward(member(3, 7), Standing::Member(NodeId(3).in_life(1)));
    let asks = |steward: &mut Steward| {
        let said = step(steward, |steward, out| steward.on_timer(Timer::Again, out));
        matches!(said[..], [Outbound::Stewards(_, Message::Petition { wants: true, .. })])
    };
    assert!(asks(&mut blank));
    let target = replaced(7);
    let learners = [NodeId(3).in_life(1)].into();
    let half_way = Configuration { learners, lives: target.lives.clone(), ..formed() };
    hear(&mut blank, 1, told(half_way));
    assert!(asks(&mut blank), "it has no vote yet");
    let joint = Configuration { outgoing: formed().voters, ..target.clone() };
    hear(&mut blank, 3, Message::Configured(joint));
    assert!(asks(&mut blank), "the former configuration rules too");
    hear(&mut blank, 3, Message::Configured(target));
    assert!(!asks(&mut blank));
}

#[test]
fn a_member_passes_on_what_is_open_and_answers_what_is_chosen() {
    let mut one = steward(member(1, 1), Standing::Member(NodeId(1)));
    let petition = |wants| Message::Petition { incarnation: Incarnation(7), wants };
    assert!(hear(&mut one, 3, petition(true)).is_empty(), "it knows nothing for sure");
    hear(&mut one, 1, Message::Configured(Configuration::default()));
    assert!(hear(&mut one, 3, petition(true)).is_empty(), "a replica that has to catch up");
    hear(&mut one, 1, Message::Configured(formed()));
    let asked: Arc<Mutex<Vec<Request>>> = Arc::default();
    let keep = asked.clone();
    let engine = Outlet::from_fn(move |_, request| keep.lock().unwrap().push(request));
    hear(&mut one, 1, Message::Begun(engine));
    let said = hear(&mut one, 3, petition(true));
    let replace = Request::Reconfigure(Change::Replace(member(3, 7)));
    let [Outbound::Engine(_, request), Outbound::Stewards(to, Message::Told { configuration })] =
        &said[..]
    else {
        panic!("{said:?}")
    };
    assert_eq!((request, &to[..], configuration), (&replace, &[NodeId(3)][..], &formed()));
    let said = hear(&mut one, 3, petition(false));
    assert!(matches!(&said[..], [Outbound::Stewards(..)]), "only asked who the members are");
    hear(&mut one, 1, Message::Configured(replaced(7)));
    let said = hear(&mut one, 3, petition(true));
    let [Outbound::Stewards(_, Message::Told { configuration })] = &said[..] else {
        panic!("nothing is open: {said:?}")
    };
    assert_eq!(*configuration, replaced(7));
    // A machine that is no member is not let in by asking.
    assert!(matches!(&hear(&mut one, 9, petition(true))[..], [Outbound::Stewards(..)]));
}

/// W3.
#[test]
fn whoever_lives_no_more_is_told_and_says_nothing_after() {
    for standing in [Standing::Member(NodeId(3)), Standing::Member(NodeId(3).in_life(1))] {
        let mut dead = steward(member(3, 7), standing);
        let next = replaced(7).after(&Change::Replace(member(3, 8))).unwrap();
        let said = hear(&mut dead, 1, told(next.clone()));
        let [Outbound::Gone(why)] = &said[..] else { panic!("{said:?}") };
        assert!(why.contains("n3.2 has taken its place") && why.contains("set it aside"), "{why}");
        assert!(hear(&mut dead, 1, told(next)).is_empty());
        assert!(step(&mut dead, |dead, out| dead.on_timer(Timer::Again, out)).is_empty());
    }
    let mut removed = steward(member(3, 7), Standing::Member(NodeId(3)));
    let without = formed().after(&Change::Remove(NodeId(3))).unwrap();
    let said = hear(&mut removed, 1, told(without));
    assert!(
        matches!(&said[..], [Outbound::Gone(why)] if why.contains("it was removed")),
        "{said:?}"
    );
}

#[test]
fn a_node_that_was_never_a_member_is_told_to_be_added_once() {
    let mut stranger = steward(member(9, 7), Standing::Blank);
    let said = hear(&mut stranger, 1, told(formed()));
    assert!(matches!(&said[..], [Outbound::Warn(text)] if text.contains("n9 is no member")));
    assert!(hear(&mut stranger, 2, told(formed())).is_empty(), "once");
}

/// A founder has nothing to ask for; only whether it is too late.
#[test]
fn a_founder_asks_a_few_times_whether_it_is_a_member_still() {
    let mut founder = steward(member(1, 1), Standing::Member(NodeId(1)));
    let mut asked = 0;
    let mut said = step(&mut founder, Steward::start);
    while let [Outbound::Stewards(_, Message::Petition { wants, .. })] = &said[..] {
        assert!(!wants);
        asked += 1;
        said = step(&mut founder, |founder, out| founder.on_timer(Timer::Again, out));
    }
    assert!((2..20).contains(&asked), "an idle group is left alone: {asked}");
    let mut answered = steward(member(1, 1), Standing::Member(NodeId(1)));
    step(&mut answered, Steward::start);
    hear(&mut answered, 2, told(formed()));
    assert!(step(&mut answered, |one, out| one.on_timer(Timer::Again, out)).is_empty());
}
