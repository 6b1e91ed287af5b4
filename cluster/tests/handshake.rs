//! The rules of the handshake, without sockets.

use std::collections::BTreeMap;

use quorate_cluster::{
    frame::{FrameError, Hello, Welcome},
    handshake::{Identity, Pinned, Pins, Refusal, judge_hello, judge_welcome},
};
use quorate_protocol::{Incarnation, Member, NodeId};

fn member(node: u32, incarnation: u64) -> Member {
    Member { node: NodeId(node), incarnation: Incarnation(incarnation) }
}

fn identity() -> Identity {
    Identity { cluster_id: "alpha".into(), me: member(1, 0xa1), founder: true }
}

fn pins(known: &[Member]) -> Pins {
    Pins::new(known.iter().map(|member| (member.node, member.incarnation)).collect())
}

fn hello(cluster_id: &str, from: Member, to: u32) -> Hello {
    Hello { cluster_id: cluster_id.into(), from, founder: true, to: NodeId(to) }
}

/// The text of the refusal of a Hello, at n1 of alpha, which knows n2@b1 and n3.
fn refused(hello: &Hello) -> String {
    let mut pins = pins(&[member(2, 0xb1)]);
    let before = pins.clone();
    let known = |node| node == NodeId(2) || node == NodeId(3);
    let text = judge_hello(&identity(), known, &mut pins, hello).unwrap_err().to_string();
    assert_eq!(pins, before, "who is refused leaves no trace");
    text
}

fn names(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in `{text}`");
    }
}

#[test]
fn each_mismatch_names_both_values_and_what_to_do() {
    let b = member(2, 0xb1);
    names(&refused(&hello("beta", b, 1)), &["`alpha`", "`beta`", "n2@", "cluster id"]);
    names(&refused(&hello("alpha", b, 3)), &["n1 is at", "n3 was meant", "correct the address"]);
    let stranger = refused(&hello("alpha", member(9, 1), 1));
    names(&stranger, &["n9@", "list of peers of n1", "add it"]);
    let other_life = refused(&hello("alpha", member(2, 0xb2), 1));
    let (old, new) = ("00000000000000b1", "00000000000000b2");
    names(&other_life, &["n2", old, new, "Start it from its old directory"]);
    let version = Refusal::of_frame(NodeId(1), FrameError::Version(7)).to_string();
    names(&version, &["n1 speaks protocol version 4", "speaks 7", "upgrade"]);
    let garbage = Refusal::of_frame(NodeId(1), FrameError::Magic(*b"\x00\xffab")).to_string();
    names(&garbage, &["n1", "not a quorate node", "\\x00\\xffab"]);
}

#[test]
fn the_dialler_asks_the_same_questions() {
    let mut pins = pins(&[member(2, 0xb1)]);
    let mut refused = |cluster_id: &str, from, wanted| {
        let welcome = Welcome { cluster_id: cluster_id.into(), from, founder: true };
        judge_welcome(&identity(), NodeId(wanted), &mut pins, &welcome).map_err(|r| r.to_string())
    };
    names(&refused("beta", member(2, 0xb1), 2).unwrap_err(), &["`alpha`", "`beta`"]);
    names(&refused("alpha", member(2, 0xb1), 3).unwrap_err(), &["n2 is at", "n3 was meant"]);
    names(&refused("alpha", member(2, 0xb2), 2).unwrap_err(), &["b1", "b2"]);
    assert_eq!(refused("alpha", member(2, 0xb1), 2), Ok(Pinned::Saved));
}

#[test]
fn the_first_life_met_is_pinned_and_waits_for_the_disk() {
    let mut pins = pins(&[]);
    let known = |_| true;
    let first = hello("alpha", member(2, 0xb1), 1);
    let second = hello("alpha", member(2, 0xb2), 1);
    let judge = |pins: &mut Pins, hello: &Hello| judge_hello(&identity(), known, pins, hello);
    assert_eq!(judge(&mut pins, &first), Ok(Pinned::Unsaved));
    assert_eq!(judge(&mut pins, &first), Ok(Pinned::Unsaved));
    assert!(matches!(judge(&mut pins, &second), Err(Refusal::OtherLife { .. })));
    assert_eq!(pins.to_save(), [member(2, 0xb1)]);
    assert_eq!(pins.on_saved(vec![member(2, 0xb1)]), []);
    assert_eq!(judge(&mut pins, &first), Ok(Pinned::Saved));
    // Another node's pin does not lose this one.
    let third = hello("alpha", member(3, 0xc1), 1);
    assert_eq!(judge(&mut pins, &third), Ok(Pinned::Unsaved));
    assert_eq!(pins.to_save(), [member(2, 0xb1), member(3, 0xc1)]);
    // An answer that contradicts what was asked for is reported and changes nothing.
    assert_eq!(pins.on_saved(vec![member(3, 0xc2)]), [member(3, 0xc2)]);
    assert_eq!(judge(&mut pins, &third), Ok(Pinned::Unsaved));
    assert_eq!(pins.on_saved(pins.to_save()), []);
    assert_eq!(judge(&mut pins, &third), Ok(Pinned::Saved));
    assert_eq!(
        pins,
        Pins::new(BTreeMap::from(
            [(NodeId(2), Incarnation(0xb1)), (NodeId(3), Incarnation(0xc1)),]
        ))
    );
}

#[test]
fn a_directory_that_came_later_is_let_in_beside_a_pin_and_makes_none() {
    let mut pins = pins(&[member(2, 0xb1)]);
    let before = pins.clone();
    let judge = |pins: &mut Pins, hello: &Hello| judge_hello(&identity(), |_| true, pins, hello);
    let later = Hello { founder: false, ..hello("alpha", member(2, 0xb2), 1) };
    assert_eq!(judge(&mut pins, &later), Ok(Pinned::Saved));
    let unknown = Hello { founder: false, ..hello("alpha", member(3, 0xc2), 1) };
    assert_eq!(judge(&mut pins, &unknown), Ok(Pinned::Saved));
    assert_eq!(pins, before, "a pin is for the only directory that may use the plain number");
}
