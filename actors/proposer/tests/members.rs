//! Who rules which slots, one rule at a time, and the runs that it is for.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use quorate_acceptor::{
    ALPHA, Acceptor, Answer, Ballot, Entry, Message as ToAcceptor, Outbound as AcceptorSays,
    Progress, Report, Round, Slot, Value, Vote, configuration_of, configuration_proposal,
};
use quorate_learner::{
    Holes, Learner, Message as ToLearner, Notice, Outbound as LearnerSays, Timer as LearnerTimer,
    Timing as LearnerTiming,
};
use quorate_proposer::{Config, Limits, Message, Outbound, Proposer, Timer, Timing, Wish};
use quorate_protocol::{
    Change, Configuration, Core, GroupId, Incarnation, Member, Name, NodeId, Out, Role,
    log::{Chosen, Event, Index, Position, Proposal, ProposalId, Request},
};

const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);
const N3: NodeId = NodeId(3);
const N4: NodeId = NodeId(4);

fn of(voters: &[u32]) -> Configuration {
    Configuration::of(voters.iter().copied().map(NodeId))
}

fn at(index: u64, configuration: Configuration) -> Position {
    Position { index: Index(index), place: index, term: 0, configuration }
}

/// A place at which a configuration of slot `entry` is pending.
fn pending(index: u64, entry: u64, voters: Configuration, outgoing: &[u32]) -> Position {
    let outgoing = of(outgoing).voters;
    Position { term: entry, ..at(index, Configuration { outgoing, ..voters }) }
}

fn member(node: NodeId, incarnation: u64) -> Member {
    Member { node, incarnation: Incarnation(incarnation) }
}

fn command(node: NodeId, seq: u64) -> Proposal {
    Proposal { id: ProposalId { node, life: 1, seq }, command: vec![seq as u8; 4].into() }
}

fn name(node: NodeId) -> Name {
    Name::new(node, GroupId(1), Role::Outside)
}

fn drained<C: Core>(core: &mut C, mut out: Out<C>) -> Vec<C::Outbound> {
    while std::mem::take(&mut out.drain) {
        core.on_drained(&mut out);
    }
    core.invariants();
    assert!(out.alarms.is_empty(), "{:?}", out.alarms);
    out.sends
}

fn say<C: Core>(core: &mut C, from: NodeId, message: C::Inbound) -> Vec<C::Outbound> {
    let mut out = Out::default();
    core.on_message(name(from), message, &mut out);
    drained(core, out)
}

fn wake<C: Core>(core: &mut C, timer: C::Timer) -> Vec<C::Outbound> {
    let mut out = Out::default();
    core.on_timer(timer, &mut out);
    drained(core, out)
}

/// A proposer whose learner stands at `position`.
fn proposer(me: NodeId, position: Position) -> Proposer {
    let ms = Duration::from_millis;
    let timing = Timing {
        retry: ms(100),
        campaign: ms(100),
        backoff_max: ms(700),
        linger: ms(5),
        resend: ms(40),
        hurry: ms(20),
    };
    let (formation, limits) = (of(&[1, 2, 3]), Limits::default());
    let me = member(me, 1);
    let mut proposer =
        Proposer::new(Config { me, formation, holes: Holes::Filled, limits, timing });
    proposer.start(&mut Out::default());
    say(&mut proposer, me.node, Message::Answer(Answer::Promised { promised: Ballot::NONE }));
    knows(&mut proposer, me.node, position);
    proposer
}

/// Its learner tells a proposer where the log stands.
fn knows(proposer: &mut Proposer, me: NodeId, position: Position) -> Vec<Outbound> {
    let known = Slot(position.index.0 + 1);
    let mut said = say(proposer, me, Message::Notice(Notice::Members(position)));
    let decided = Notice::Decided { slots: vec![], below: known, known };
    said.extend(say(proposer, me, Message::Notice(decided)));
    said
}

fn promise(ballot: Ballot, votes: Vec<(Slot, Vote)>) -> Message {
    let (from, below, forgotten) = (Slot(1), None, Slot(0));
    Message::Answer(Answer::Promise { ballot, from, below, votes, forgotten })
}

fn accepted(ballot: Ballot, round: u64) -> Message {
    Message::Answer(Answer::Accepted { ballot, round: Round(round) })
}

/// A proposer that leads by the promises of `voters`.
fn leader(me: NodeId, position: Position, voters: &[NodeId]) -> Proposer {
    let mut leader = proposer(me, position);
    say(&mut leader, me, Message::Log(Request::Propose(command(me, 1))));
    let ballot = leader.highest();
    for voter in voters {
        say(&mut leader, *voter, promise(ballot, vec![]));
    }
    assert!(leader.leads());
    leader
}

/// Its learner has heard that what n1 wanted first is chosen.
fn first_is_chosen(proposer: &mut Proposer) {
    let slots = vec![(Slot(1), Some(command(N1, 1).id))];
    let decided = Notice::Decided { slots, below: Slot(2), known: Slot(2) };
    say(proposer, N1, Message::Notice(decided));
}

/// Every Accept among what was said.
fn accepts(said: &[Outbound]) -> Vec<(Vec<NodeId>, Round, Vec<Entry>)> {
    let accept = |said: &Outbound| match said {
        Outbound::Acceptors(to, ToAcceptor::Accept { round, entries, .. }) => {
            Some((to.clone(), *round, entries.clone()))
        }
        _ => None,
    };
    said.iter().filter_map(accept).collect()
}

fn prepares(said: &[Outbound]) -> Vec<NodeId> {
    let to = said.iter().filter_map(|said| match said {
        Outbound::Acceptors(to, ToAcceptor::Prepare { .. }) => Some(to.clone()),
        _ => None,
    });
    to.flatten().collect()
}

fn forwards(said: &[Outbound]) -> Vec<(NodeId, usize, bool)> {
    let forward = |said: &Outbound| match said {
        Outbound::Proposer(to, Message::Forward { wishes, appeal, .. }) => {
            Some((*to, wishes.len(), appeal.is_some()))
        }
        _ => None,
    };
    said.iter().filter_map(forward).collect()
}

fn is_barrier(said: &Outbound) -> bool {
    matches!(said, Outbound::Log(Event::Barrier { .. }))
}

fn confirms(said: &[Outbound]) -> Vec<u64> {
    let id = |said: &Outbound| match said {
        Outbound::Acceptors(_, ToAcceptor::Confirm { id, .. }) => Some(*id),
        _ => None,
    };
    said.iter().filter_map(id).collect()
}

fn read(node: NodeId, seq: u64) -> Message {
    Message::Log(Request::ReadBarrier { id: ProposalId { node, life: 9, seq } })
}

#[test]
fn only_voters_of_the_stretch_count() {
    let replaced = of(&[1, 2, 3]).after(&Change::Replace(member(N3, 7))).unwrap();
    let third = N3.in_life(1);
    let mut leader = proposer(N1, at(600, replaced));
    let said = say(&mut leader, N1, Message::Log(Request::Propose(command(N1, 1))));
    assert_eq!(prepares(&said), [N1]);
    let ballot = leader.highest();
    let said = say(&mut leader, N1, promise(ballot, vec![]));
    assert_eq!(prepares(&said), [N2, third], "the others who vote, in the lives that they have");
    say(&mut leader, N3, promise(ballot, vec![]));
    say(&mut leader, N4, promise(ballot, vec![]));
    assert!(!leader.leads(), "neither a dead life nor a stranger makes a majority");
    let said = say(&mut leader, third, promise(ballot, vec![]));
    assert!(leader.leads());
    let sent = accepts(&said);
    assert_eq!(sent.len(), 1);
    assert_eq!(BTreeSet::from_iter(sent[0].0.clone()), [N1, N2, third].into());
    assert_eq!(sent[0].2[0].0, Slot(601));
    let decides = |said: &[Outbound]| {
        said.iter().any(|said| matches!(said, Outbound::Learner(_, ToLearner::Decided { .. })))
    };
    assert!(!decides(&say(&mut leader, N1, accepted(ballot, 1))));
    let mut out = Out::default();
    leader.on_message(name(N3), accepted(ballot, 1), &mut out);
    assert!(out.sends.is_empty() && !out.alarms.is_empty(), "it was not even asked");
    assert!(decides(&say(&mut leader, third, accepted(ballot, 1))));
}

#[test]
fn nothing_is_proposed_further_ahead_than_who_rules_is_known() {
    let mut leader = leader(N1, at(0, of(&[1, 2, 3])), &[N1, N2]);
    let ballot = leader.highest();
    let mut highest = Slot(1);
    let mut settle = |leader: &mut Proposer, mut round: u64, mut said: Vec<Outbound>| {
        loop {
            let sent = accepts(&said);
            let slots = sent.iter().flat_map(|(_, _, entries)| entries.iter().map(|(s, _)| *s));
            highest = slots.max().unwrap_or(highest).max(highest);
            let last = sent.iter().map(|(_, round, _)| round.0).max().unwrap_or(round);
            if last == round && sent.is_empty() {
                return (round, highest);
            }
            round = last;
            said = vec![];
            for r in 1..=round {
                for node in [N1, N2] {
                    said.extend(say(leader, node, accepted(ballot, r)));
                }
            }
        }
    };
    let mut said = vec![];
    for seq in 2..=2 * ALPHA {
        said.extend(say(&mut leader, N1, Message::Log(Request::Propose(command(N1, seq)))));
    }
    let (round, highest) = settle(&mut leader, 0, said);
    assert_eq!(highest, Slot(ALPHA), "all of it is chosen, and our learner has not said so");
    let said = knows(&mut leader, N1, at(10, of(&[1, 2, 3])));
    let (_, highest) = settle(&mut leader, round, said);
    assert_eq!(highest, Slot(ALPHA + 10));
}

/// n1 leads {n1, n2, n3}, and has n3 replaced.
#[test]
fn a_leader_has_a_configuration_chosen_fills_its_stretch_and_leads_the_next_one() {
    let formed = of(&[1, 2, 3]);
    let mut leader = leader(N1, at(0, formed.clone()), &[N1, N2]);
    let ballot = leader.highest();
    for node in [N1, N2] {
        say(&mut leader, node, accepted(ballot, 1));
    }
    first_is_chosen(&mut leader);
    let change = Change::Replace(member(N3, 7));
    let said = say(&mut leader, N1, Message::Log(Request::Reconfigure(change.clone())));
    let next = formed.after(&change).unwrap();
    let sent = accepts(&said);
    let [(slot, value)] = &sent[0].2[..] else { panic!("{sent:?}") };
    assert_eq!((*slot, configuration_of(value)), (Slot(2), Some(Ok(next.clone()))));
    // It is under way, so a second one is not begun, and no read is answered.
    let other = Change::Remove(N2);
    let said = say(&mut leader, N1, Message::Log(Request::Reconfigure(other.clone())));
    assert_eq!(accepts(&said), []);
    assert!(confirms(&say(&mut leader, N1, read(N1, 1))).is_empty());
    for node in [N1, N2] {
        say(&mut leader, node, accepted(ballot, 2));
    }
    let said = knows(&mut leader, N1, pending(2, 2, next.clone(), &[1, 2, 3]));
    let sent = accepts(&said);
    let filled: Vec<Slot> = sent.iter().flat_map(|(_, _, all)| all.iter().map(|e| e.0)).collect();
    let until = 2 + ALPHA;
    assert_eq!(filled, (3..until).map(Slot).collect::<Vec<_>>());
    assert!(sent.iter().all(|(_, _, all)| all.iter().all(|(_, value)| value.is_none())));
    assert!(sent[0].0.contains(&N3.in_life(1)), "the newcomer gets the log");
    // What comes now has no place in this stretch. Offers are told so.
    let offer = Request::Offer(command(N1, 2));
    let said = say(&mut leader, N1, Message::Log(offer));
    assert!(
        said.iter()
            .any(|said| { matches!(said, Outbound::Log(Event::Offered { place: None, .. })) })
    );
    let said = say(&mut leader, N1, Message::Log(Request::Propose(command(N1, 3))));
    assert_eq!(accepts(&said), []);
    let said = say(&mut leader, N1, Message::Log(Request::Reconfigure(other)));
    assert_eq!(accepts(&said), [], "one is pending");
    assert!(confirms(&said).is_empty(), "and the read still waits");
    for node in [N1, N2] {
        say(&mut leader, node, accepted(ballot, 3));
    }
    let said = knows(&mut leader, N1, at(until - 1, next));
    assert_eq!(prepares(&said), [N1], "it campaigns anew");
    assert!(leader.highest() > ballot && !leader.leads());
    let ballot = leader.highest();
    let said = say(&mut leader, N1, promise(ballot, vec![]));
    assert_eq!(prepares(&said), [N2, N3.in_life(1)]);
    let said = say(&mut leader, N3.in_life(1), promise(ballot, vec![]));
    let sent = accepts(&said);
    assert_eq!(sent[0].2, [(Slot(until), Some(command(N1, 3)))]);
    assert!(!confirms(&said).is_empty(), "the read is asked for under the new configuration");
}

#[test]
fn a_leader_that_has_removed_itself_gives_up_the_lead() {
    let formed = of(&[1, 2, 3]);
    let mut leader = leader(N1, at(0, formed.clone()), &[N1, N2]);
    let ballot = leader.highest();
    for node in [N1, N2] {
        say(&mut leader, node, accepted(ballot, 1));
    }
    first_is_chosen(&mut leader);
    say(&mut leader, N1, Message::Log(Request::Reconfigure(Change::Remove(N1))));
    for node in [N1, N2] {
        say(&mut leader, node, accepted(ballot, 2));
    }
    let next = formed.after(&Change::Remove(N1)).unwrap();
    knows(&mut leader, N1, pending(2, 2, next.clone(), &[1, 2, 3]));
    assert!(leader.leads(), "it rules so far");
    say(
        &mut leader,
        N2,
        Message::Forward {
            wishes: vec![Wish { slot: None, proposal: command(N2, 1) }],
            barrier: None,
            change: None,
            appeal: None,
        },
    );
    let said = knows(&mut leader, N1, at(1 + ALPHA, next));
    assert!(!leader.leads());
    assert!(prepares(&said).is_empty(), "it has no vote");
    let asked = forwards(&said);
    assert!(matches!(asked[..], [(N2 | N3, 0, true)]), "somebody else is to begin: {asked:?}");
    // Nor does it campaign for anything that is wanted of it.
    let said = say(&mut leader, N1, Message::Log(Request::Propose(command(N1, 2))));
    assert!(prepares(&said).is_empty());
    let said = wake(&mut leader, Timer::Retry);
    assert!(prepares(&said).is_empty());
    assert!(forwards(&said).iter().any(|(_, wishes, appeal)| *wishes == 1 && *appeal), "{said:?}");
    // Whoever asks is told that it leads no more.
    let (wishes, barrier, change, appeal) = (vec![], None, None, None);
    let said = say(&mut leader, N3, Message::Forward { wishes, barrier, change, appeal });
    assert!(said.iter().any(|s| matches!(s, Outbound::Proposer(N3, Message::Redirect { .. }))));
}

#[test]
fn a_voter_campaigns_for_one_who_has_no_vote() {
    let mut voter = proposer(N2, at(0, of(&[1, 2, 3])));
    let wishes = vec![Wish { slot: None, proposal: command(N4, 1) }];
    let forward = |appeal| {
        let (wishes, barrier, change) = (wishes.clone(), None, None);
        Message::Forward { wishes, barrier, change, appeal }
    };
    let said = say(&mut voter, N4, forward(None));
    assert!(prepares(&said).is_empty(), "who does not appeal may campaign itself");
    let said = say(&mut voter, N4, forward(Some(Ballot::NONE)));
    assert_eq!(prepares(&said), [N2]);
    let ballot = voter.highest();
    say(&mut voter, N2, promise(ballot, vec![]));
    let said = say(&mut voter, N3, promise(ballot, vec![]));
    assert_eq!(accepts(&said)[0].2, [(Slot(1), Some(command(N4, 1)))]);
    say(&mut voter, N2, accepted(ballot, 1));
    let said = say(&mut voter, N3, accepted(ballot, 1));
    let informs = |said: &Outbound| matches!(said, Outbound::Learner(N4, ToLearner::Inform { .. }));
    assert!(said.iter().any(informs), "it hears of it, though it is no member: {said:?}");
    // One who knows a leader sends it there.
    let mut other = proposer(N3, at(0, of(&[1, 2, 3])));
    let ballot = Ballot::new(7, member(N2, 1));
    say(&mut other, N3, Message::Notice(Notice::Ballot(ballot)));
    let said = say(&mut other, N4, forward(Some(Ballot::NONE)));
    assert!(prepares(&said).is_empty());
    let redirects = |s: &Outbound| matches!(s, Outbound::Proposer(N4, Message::Redirect { ballot: b }) if *b == ballot);
    assert!(said.iter().any(redirects), "{said:?}");
    let said = say(&mut other, N4, forward(Some(ballot)));
    assert_eq!(prepares(&said), [N3], "who was asked, and does not answer");
}

#[test]
fn links_are_of_machines() {
    let replaced = of(&[1, 2, 3]).after(&Change::Replace(member(N3, 7))).unwrap();
    let third = N3.in_life(1);
    let mut follower = proposer(N1, at(600, replaced));
    let ballot = Ballot::new(7, Member { node: third, incarnation: Incarnation(7) });
    say(&mut follower, N1, Message::Notice(Notice::Ballot(ballot)));
    let said = say(&mut follower, N1, Message::Log(Request::Propose(command(N1, 1))));
    assert_eq!(forwards(&said), [(third, 1, false)]);
    say(&mut follower, N1, Message::LinkDown(N3));
    let said = wake(&mut follower, Timer::Retry);
    assert_eq!(prepares(&said), [N1], "the leader's machine cannot be reached");
    let ballot = follower.highest();
    say(&mut follower, N1, promise(ballot, vec![]));
    let said = say(&mut follower, N1, Message::LinkUp(N3));
    assert_eq!(prepares(&said), [third]);
}

/// n3 leads {n1, n2, n3} in the highest ballot of all, by a promise of n2, and hears nothing more. In
/// lower ballots n1 has members replaced until nobody is left whom n3 asks: n2 and n3 go on promising to
/// n3 that they know of nothing higher, and what n4, n5 and n6 choose is none of their business.
#[test]
fn a_stale_leader_with_a_higher_ballot_answers_no_read() {
    let formed = of(&[1, 2, 3]);
    let next = of(&[1, 4, 5]);
    let stale = |entry: Value| {
        let mut stale = proposer(N3, at(4, formed.clone()));
        say(&mut stale, N3, Message::Notice(Notice::Ballot(Ballot::new(8, member(N1, 1)))));
        say(&mut stale, N3, Message::LinkDown(N1));
        let said = say(&mut stale, N3, read(N3, 1));
        let mut ballot = stale.highest();
        assert_eq!((prepares(&said), ballot.round), (vec![N3], 9));
        // n2 has voted in n1's ballot for what stands in slot 5, which was chosen by that.
        let vote = Vote { ballot: Ballot::new(1, member(N1, 1)), round: Round(1), value: entry };
        say(&mut stale, N3, promise(ballot, vec![]));
        let mut said = say(&mut stale, N2, promise(ballot, vec![(Slot(5), vote)]));
        assert!(stale.leads());
        let mut answered = false;
        for _ in 0..3 {
            for id in confirms(&said) {
                for node in [N2, N3] {
                    let confirmed = Answer::Confirmed { ballot, id };
                    let said = say(&mut stale, node, Message::Answer(confirmed));
                    answered |= said.iter().any(is_barrier);
                }
            }
            said = wake(&mut stale, Timer::Resend);
            ballot = stale.highest();
        }
        (stale, answered)
    };
    // A command in that place would be no reason to wait.
    let (_, answered) = stale(Some(command(N1, 1)));
    assert!(answered);
    let configuration = configuration_proposal(N1, 1, &next);
    let (mut stale, answered) = stale(Some(configuration));
    assert!(!answered, "what rules may be chosen, and others lead under it");
    // It has the configuration chosen once more, and knows that it rules no longer than so far.
    let said = knows(&mut stale, N3, pending(5, 5, next.clone(), &[1, 2, 3]));
    assert!(confirms(&said).is_empty(), "one is pending");
    let said = knows(&mut stale, N3, at(4 + ALPHA, next));
    assert!(!stale.leads() && confirms(&said).is_empty());
    assert!(forwards(&said).iter().all(|(to, ..)| [1, 4, 5].contains(&to.0)), "{said:?}");
}

/// What a proposer that knows less than a promise has forgotten might overlook is a configuration.
#[test]
fn a_leader_that_is_behind_what_is_forgotten_answers_no_read_and_proposes_nothing() {
    let mut leader = proposer(N1, at(0, of(&[1, 2, 3])));
    say(&mut leader, N1, read(N1, 1));
    say(&mut leader, N1, Message::Log(Request::Propose(command(N1, 1))));
    let ballot = leader.highest();
    say(&mut leader, N1, promise(ballot, vec![]));
    let (from, below, votes, forgotten) = (Slot(1), None, vec![], Slot(5000));
    let answer = Answer::Promise { ballot, from, below, votes, forgotten };
    let said = say(&mut leader, N2, Message::Answer(answer));
    assert!(leader.leads() && accepts(&said).is_empty() && confirms(&said).is_empty());
    // Its learner gets a checkpoint, and others rule.
    let said = knows(&mut leader, N1, at(5100, of(&[2, 3, 4])));
    assert!(!leader.leads());
    assert!(accepts(&said).is_empty() && prepares(&said).is_empty(), "{said:?}");
}

// The named run.

/// Five acceptors, of which the last loses its disk; who counts what is for the test to say.
struct Five {
    acceptors: BTreeMap<NodeId, Acceptor>,
}

const N5: NodeId = NodeId(5);

impl Five {
    /// What an acceptor answers.
    fn ask(&mut self, node: NodeId, from: NodeId, message: ToAcceptor) -> Option<Answer> {
        let acceptor = self.acceptors.get_mut(&node)?;
        say(acceptor, from, message).into_iter().find_map(|said| match said {
            AcceptorSays::Answer(_, answer) => Some(answer),
            _ => None,
        })
    }

    /// Takes what a proposer says to some acceptors, and its answers back; what is said to others is
    /// lost.
    fn exchange(&mut self, proposer: &mut Proposer, said: Vec<Outbound>, with: &[NodeId]) {
        let me = proposer.highest().proposer.expect("it campaigns").node;
        let mut queue = std::collections::VecDeque::from(said);
        while let Some(said) = queue.pop_front() {
            let Outbound::Acceptors(to, message) = said else { continue };
            for node in with.iter().filter(|node| to.contains(node)) {
                if let Some(answer) = self.ask(*node, me, message.clone()) {
                    queue.extend(say(proposer, *node, Message::Answer(answer)));
                }
            }
        }
    }

    /// The values that a majority of five machines has voted for in one ballot in slot 1, where the last
    /// machine is `fifth`.
    fn chosen(&self, fifth: NodeId, history: &BTreeMap<NodeId, BTreeSet<(Ballot, u64)>>) -> usize {
        let mut votes: BTreeMap<(Ballot, u64), usize> = BTreeMap::new();
        for (node, voted) in history {
            if node.home() != N5 || *node == fifth {
                voted.iter().for_each(|vote| *votes.entry(*vote).or_default() += 1);
            }
        }
        let chosen = votes.into_iter().filter(|(_, count)| *count >= 3);
        chosen.map(|((_, value), _)| value).collect::<BTreeSet<_>>().len()
    }
}

/// n2's ballot, the higher one, has the promises of n2 and of n5, and n1's, the lower one, leads. Then n5
/// loses its disk and asks n1, n3 and n4, a majority, what has been promised: they do not know of n2's
/// ballot. After that n3 promises it, which makes its majority, n5's dead life among them.
///
/// Answers how many values are chosen in slot 1, and both proposers.
fn a_disk_is_lost(naive: bool) -> (usize, Proposer, Proposer, Five) {
    let five = of(&[1, 2, 3, 4, 5]);
    let acceptors = (1..=5).map(|node| (NodeId(node), Acceptor::recover([]))).collect();
    let mut group = Five { acceptors };
    let mut low = proposer(N1, at(0, five.clone()));
    let said = say(&mut low, N1, Message::Log(Request::Propose(command(N1, 1))));
    group.exchange(&mut low, said, &[N1]);
    // Its Prepare goes to the others with the first timer that runs out; so do its Accepts, later.
    let said = wake(&mut low, Timer::Campaign);
    let prepare =
        |said: &Outbound| matches!(said, Outbound::Acceptors(_, ToAcceptor::Prepare { .. }));
    let mut promises = vec![];
    for said in said.iter().filter(|said| prepare(said)) {
        let Outbound::Acceptors(_, message) = said else { continue };
        for node in [N3, N4] {
            promises.extend(group.ask(node, N1, message.clone()).map(|answer| (node, answer)));
        }
    }
    let mut late = vec![];
    for (node, answer) in promises {
        late.extend(say(&mut low, node, Message::Answer(answer)));
    }
    assert!(low.leads());

    let mut high = proposer(N2, at(0, five));
    say(&mut high, N2, Message::Notice(Notice::Ballot(Ballot::new(8, member(N4, 1)))));
    say(&mut high, N2, Message::LinkDown(N4));
    let said = say(&mut high, N2, Message::Log(Request::Propose(command(N2, 1))));
    group.exchange(&mut high, said, &[N2]);
    let said = wake(&mut high, Timer::Campaign);
    group.exchange(&mut high, said, &[N5]);
    assert!(!high.leads() && high.highest() > low.highest());

    // The disk is lost.
    group.acceptors.remove(&N5);
    let fifth = if naive { N5 } else { N5.in_life(1) };
    let reported = [N1, N3, N4].map(|node| group.acceptors[&node].promised());
    let promised = reported.into_iter().max().expect("three have answered");
    assert!(promised < high.highest());
    let recovered = match naive {
        // As if nothing had happened.
        true => Acceptor::recover([quorate_acceptor::Record::Promised(promised)]),
        false => Acceptor::recover([]),
    };
    group.acceptors.insert(fifth, recovered);

    // The Accepts of the lower ballot arrive, at n1, n4 and the fifth machine, whatever it is called.
    let mut history: BTreeMap<NodeId, BTreeSet<(Ballot, u64)>> = BTreeMap::new();
    let mut deliver =
        |group: &mut Five, proposer: &mut Proposer, said: Vec<Outbound>, to: &[NodeId]| {
            let me = proposer.highest().proposer.expect("it leads").node;
            for (_, round, entries) in accepts(&said) {
                let (ballot, progress) = (proposer.highest(), Progress::default());
                let seqs = entries.iter().filter_map(|(_, value)| value.as_ref());
                let voted = seqs.map(|proposal| u64::from(proposal.id.node.0)).next();
                for node in to {
                    let entries = entries.clone();
                    let message = ToAcceptor::Accept { ballot, round, entries, progress };
                    if let (Some(answer @ Answer::Accepted { .. }), Some(voted)) =
                        (group.ask(*node, me, message), voted)
                    {
                        history.entry(*node).or_default().insert((ballot, voted));
                        // One whom the proposer has not asked is no peer of its; the alarm is right.
                        let mut out = Out::default();
                        proposer.on_message(name(*node), Message::Answer(answer), &mut out);
                        proposer.invariants();
                    }
                }
            }
        };
    deliver(&mut group, &mut low, late, &[N1, N4, fifth]);

    // The higher ballot finishes its majority.
    let said = wake(&mut high, Timer::Campaign);
    let mut late = vec![];
    for said in &said {
        let Outbound::Acceptors(_, message @ ToAcceptor::Prepare { .. }) = said else { continue };
        if let Some(answer) = group.ask(N3, N2, message.clone()) {
            late.extend(say(&mut high, N3, Message::Answer(answer)));
        }
    }
    assert!(high.leads(), "n2, n3 and the dead life of n5 have promised");
    deliver(&mut group, &mut high, late, &[N2, N3, fifth]);
    // Votes of a new life are nobody's in a slot that its old life has a vote for.
    (group.chosen(N5, &history), low, high, group)
}

#[test]
fn a_ballot_that_counted_a_dead_life_chooses_nothing_beside_the_new_one() {
    let (chosen, ..) = a_disk_is_lost(true);
    assert_eq!(chosen, 2, "a blank node that asks around, and votes, breaks agreement");
    let (chosen, _, mut high, mut group) = a_disk_is_lost(false);
    assert_eq!(chosen, 0, "neither has a majority without the dead life's vote");

    // n2 goes on, with n3 and n4: its value is chosen, and n5 is replaced.
    say(&mut high, N2, Message::LinkUp(N4));
    let mut learner = learner(N2, of(&[1, 2, 3, 4, 5]));
    let change = || Request::Reconfigure(Change::Replace(member(N5, 7)));
    let rules = |learner: &Learner| learner.known() >= Slot(2 + ALPHA);
    go_on(&mut group, &mut high, &mut learner, &[N2, N3, N4], change, rules);
    assert_eq!(learner.chosen()[&Slot(1)], Some(command(N2, 1)));
    let members = learner.members().expect("they are known").configuration;
    let fifth = N5.in_life(1);
    assert_eq!((members.admitted(member(N5, 7)), members.is_joint()), (Some(fifth), false));
    // Now its vote counts: without n1 and n3 it is needed.
    let put = || Request::Propose(command(N2, 2));
    let wanted = Some(command(N2, 2));
    let is_chosen = |learner: &Learner| learner.chosen().values().any(|value| *value == wanted);
    go_on(&mut group, &mut high, &mut learner, &[N2, N4, fifth], put, is_chosen);
    let (_, _, votes) = high.counted().next().expect("it leads");
    assert!(votes.contains(&fifth) && !votes.contains(&N5), "{votes:?}");
}

/// Lets n2 get on with what is asked, as far as it gets with these acceptors, until its learner knows
/// something.
fn go_on(
    group: &mut Five,
    proposer: &mut Proposer,
    learner: &mut Learner,
    with: &[NodeId],
    request: impl Fn() -> Request,
    done: impl Fn(&Learner) -> bool,
) {
    for _ in 0..50 {
        let mut queue: std::collections::VecDeque<_> =
            say(proposer, N2, Message::Log(request())).into();
        for timer in [Timer::Resend, Timer::Campaign] {
            queue.extend(wake(proposer, timer));
        }
        while let Some(said) = queue.pop_front() {
            match said {
                Outbound::Acceptors(to, message) => {
                    for node in with.iter().filter(|node| to.contains(node)) {
                        if let Some(answer) = group.ask(*node, N2, message.clone()) {
                            queue.extend(say(proposer, *node, Message::Answer(answer)));
                        }
                    }
                }
                Outbound::Learner(N2, message) => {
                    for told in say(learner, N2, message) {
                        if let LearnerSays::Proposer(N2, notice) = told {
                            queue.extend(say(proposer, N2, Message::Notice(notice)));
                        }
                    }
                }
                _ => {}
            }
        }
        if done(learner) {
            return;
        }
    }
    panic!("it does not get on: {:?}, below {}", learner.members(), learner.below());
}

// The learner.

fn learner(me: NodeId, told: Configuration) -> Learner {
    let ms = Duration::from_millis;
    let timing = LearnerTiming {
        fetch_after: ms(10),
        fetch_after_max: ms(500),
        done_after: ms(10),
        done_after_max: ms(2000),
    };
    let mut learner = Learner::new(me, told, Holes::Filled, timing);
    say(&mut learner, me, recalled(vec![], 0));
    say(&mut learner, me, ToLearner::Log(Request::Subscribe { from: Index(1) }));
    learner
}

fn recalled(votes: Vec<(Slot, Vote)>, forgotten: u64) -> ToLearner {
    let (marks, forgotten) = (vec![], Slot(forgotten));
    ToLearner::Report(Report::Recalled { votes, marks, forgotten })
}

fn no_ops(slots: std::ops::Range<u64>) -> Vec<Entry> {
    slots.map(|slot| (Slot(slot), None)).collect()
}

fn configured(said: &[LearnerSays]) -> Vec<Configuration> {
    let told = said.iter().filter_map(|said| match said {
        LearnerSays::Log(Event::Configured { configuration }) => Some(configuration.clone()),
        _ => None,
    });
    told.collect()
}

fn asked(said: &[LearnerSays]) -> Vec<(NodeId, Slot)> {
    let learn = |said: &LearnerSays| match said {
        LearnerSays::Learner(to, ToLearner::Learn { from, .. }) => Some((*to, *from)),
        _ => None,
    };
    said.iter().filter_map(learn).collect()
}

#[test]
fn the_rsm_is_told_who_the_members_are() {
    let formed = of(&[1, 2, 3]);
    let next = formed.after(&Change::Replace(member(N3, 7))).unwrap();
    let mut learner = Learner::new(
        N1,
        formed.clone(),
        Holes::Filled,
        LearnerTiming {
            fetch_after: Duration::from_millis(10),
            fetch_after_max: Duration::from_millis(500),
            done_after: Duration::from_millis(10),
            done_after_max: Duration::from_millis(2000),
        },
    );
    let said = say(&mut learner, N1, recalled(vec![], 0));
    assert_eq!(configured(&said), std::slice::from_ref(&formed), "at the start");
    say(&mut learner, N1, ToLearner::Log(Request::Subscribe { from: Index(1) }));
    let entry = Some(configuration_proposal(N1, 1, &next));
    // Not before all below is known: another one may stand there.
    let decided = ToLearner::Decided { entries: vec![(Slot(2), entry.clone())] };
    assert!(configured(&say(&mut learner, N1, decided)).is_empty());
    let said = say(&mut learner, N1, ToLearner::Decided { entries: no_ops(1..2) });
    let joint = Configuration { outgoing: formed.voters.clone(), ..next.clone() };
    assert_eq!(configured(&said), std::slice::from_ref(&joint));
    let chosen = said.iter().find_map(|said| match said {
        LearnerSays::Log(Event::Chosen { entries, position }) => Some((entries, position)),
        _ => None,
    });
    let (entries, position) = chosen.expect("both are handed over");
    let nothing = |index| Chosen { index: Index(index), proposal: None };
    assert_eq!(*entries, [nothing(1), nothing(2)], "it is not for the machine");
    assert_eq!(*position, Position { term: 2, ..at(2, joint) });
    // A second one is void; and it rules once everything below is known.
    let void = Some(configuration_proposal(N2, 2, &of(&[1])));
    let decided = ToLearner::Decided { entries: vec![(Slot(3), void)] };
    assert!(configured(&say(&mut learner, N1, decided)).is_empty());
    let said = say(&mut learner, N1, ToLearner::Decided { entries: no_ops(4..1 + ALPHA) });
    assert!(configured(&said).is_empty());
    let said = say(&mut learner, N1, ToLearner::Decided { entries: no_ops(1 + ALPHA..2 + ALPHA) });
    assert_eq!(configured(&said), [next]);
}

#[test]
fn a_learner_whose_log_is_trimmed_takes_the_members_from_its_checkpoint() {
    let formed = of(&[1, 2, 3]);
    let next = formed.after(&Change::Replace(member(N3, 7))).unwrap();
    let timing = LearnerTiming {
        fetch_after: Duration::from_millis(10),
        fetch_after_max: Duration::from_millis(500),
        done_after: Duration::from_millis(10),
        done_after_max: Duration::from_millis(2000),
    };
    let mut learner = Learner::new(N1, formed, Holes::Filled, timing);
    let said = say(&mut learner, N1, recalled(vec![], 900));
    assert!(configured(&said).is_empty(), "what it was told once may be long past");
    assert_eq!((learner.below(), learner.known()), (Slot(900), Slot(1)));
    // So its proposer knows nobody whom it could lead there.
    let known = |said: &[LearnerSays]| {
        said.iter().rev().find_map(|said| match said {
            LearnerSays::Proposer(N1, Notice::Decided { known, .. }) => Some(*known),
            _ => None,
        })
    };
    assert_eq!(known(&said), Some(Slot(1)));
    let saved = at(1000, next.clone());
    let forget = Request::Forget { saved, below: Index(900) };
    say(&mut learner, N1, ToLearner::Log(forget));
    let said = say(&mut learner, N1, ToLearner::Log(Request::Subscribe { from: Index(1001) }));
    assert_eq!(configured(&said), std::slice::from_ref(&next));
    assert_eq!(known(&said), Some(Slot(1001)));
    let said = say(&mut learner, N1, ToLearner::Decided { entries: no_ops(1001..1002) });
    let position = said.iter().find_map(|said| match said {
        LearnerSays::Log(Event::Chosen { position, .. }) => Some(position.clone()),
        _ => None,
    });
    assert_eq!(position, Some(at(1001, next)));
}

#[test]
fn a_newcomer_asks_where_the_log_begins_and_until_it_has_a_vote() {
    let formed = of(&[1, 2, 3]);
    let next = formed.after(&Change::Replace(member(N3, 7))).unwrap();
    let third = N3.in_life(1);
    let mut newcomer = learner(third, next.clone());
    assert_eq!(newcomer.members(), None, "what it was told does not rule from slot 1 on");
    let said = wake(&mut newcomer, LearnerTimer::Fetch);
    let [(teacher, Slot(1))] = asked(&said)[..] else { panic!("{said:?}") };
    let entry = (Slot(2), Some(configuration_proposal(N1, 1, &next)));
    let entries = [no_ops(1..2), vec![entry]].concat();
    let (from, forgotten, before) = (Slot(1), Slot(0), Some(at(0, formed.clone())));
    let taught = ToLearner::Taught { from, entries, forgotten, before };
    let said = say(&mut newcomer, teacher, taught);
    let outgoing = formed.voters;
    assert_eq!(configured(&said), [Configuration { outgoing, ..next.clone() }]);
    assert_eq!(asked(&said).len(), 1, "it goes on asking");
    let (from, forgotten, before) = (Slot(3), Slot(0), None);
    let entries = no_ops(3..2 + ALPHA);
    let said = say(&mut newcomer, teacher, ToLearner::Taught { from, entries, forgotten, before });
    assert_eq!(configured(&said), [next]);
    assert!(asked(&said).is_empty() && asked(&wake(&mut newcomer, LearnerTimer::Fetch)).is_empty());
}

#[test]
fn a_newcomer_gets_a_checkpoint_where_the_log_is_forgotten() {
    let next = of(&[1, 2, 3]).after(&Change::Replace(member(N3, 7))).unwrap();
    let third = N3.in_life(1);
    let mut newcomer = learner(third, next.clone());
    let before = Some(at(899, next.clone()));
    let (from, entries, forgotten) = (Slot(1), vec![], Slot(900));
    let said = say(&mut newcomer, N1, ToLearner::Taught { from, entries, forgotten, before });
    let behind = Event::Behind { ask: N1, index: Index(899) };
    assert!(said.contains(&LearnerSays::Log(behind)), "{said:?}");
    let saved = at(950, next.clone());
    let forget = Request::Forget { saved, below: Index(951) };
    let mut said = say(&mut newcomer, third, ToLearner::Log(forget));
    let from = Index(951);
    said.extend(say(&mut newcomer, third, ToLearner::Log(Request::Subscribe { from })));
    assert_eq!(configured(&said), [next]);
    assert_eq!(newcomer.known(), Slot(951));
}

/// All of those who formed the group have been replaced since. A newcomer that has got so far only as where they
/// were the members must not ask for them by name, which would be in vain.
#[test]
fn a_newcomer_asks_machines_whoever_they_are_by_now() {
    let formed = of(&[1, 2, 3]);
    let replace = |members: &Configuration, node| members.after(&Change::Replace(member(node, 7)));
    let one = replace(&formed, N1).unwrap();
    let two = replace(&one, N2).unwrap();
    let now = replace(&two, N3).unwrap();
    let mut newcomer = learner(N3.in_life(1), now);
    let mut said = wake(&mut newcomer, LearnerTimer::Fetch);
    let (from, forgotten, before) = (Slot(1), Slot(0), Some(at(0, formed)));
    let taught = ToLearner::Taught { from, entries: no_ops(1..10), forgotten, before };
    said.extend(say(&mut newcomer, N1.in_life(1), taught));
    for _ in 0..20 {
        said.extend(wake(&mut newcomer, LearnerTimer::Fetch));
    }
    let machines: BTreeSet<NodeId> = asked(&said).into_iter().map(|(to, _)| to).collect();
    assert_eq!(machines, [N1, N2].into());
    assert_eq!(asked(&said).last().map(|(_, from)| *from), Some(Slot(10)));
}
