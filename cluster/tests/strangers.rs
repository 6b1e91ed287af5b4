//! Who is not let in, and who breaks the rules once inside.

mod common;

use std::time::Duration;

use common::{
    Plan, Subject, Wire, actor, bind, cluster, member, on_loopback, parcel, plans, soon, until,
};
use quorate_cluster::{
    Bounds, Dropped, Message, PeerEvent,
    counters::NOBODY,
    frame::{FRAME_BYTES_MAX, HELLO_BYTES_MAX, MAGIC, PROTOCOL_VERSION},
};
use quorate_protocol::{Incarnation, Member, NodeId};
use quorate_stage::{Parcel, Transport};
use tokio::io::AsyncReadExt;

/// n1, listening, and its address; it knows n2 and n3 at addresses where nobody is.
fn lonely(change: impl FnOnce(&mut Plan)) -> (Subject, std::net::SocketAddr) {
    let (listen, address) = bind();
    let nobody = "127.0.0.1:1".parse().unwrap();
    let mut plan = Plan::new(1, &[(2, nobody), (3, nobody)]);
    change(&mut plan);
    (plan.start(listen), address)
}

/// n1 still serves its peers.
async fn serves_on(a: &mut Subject, address: std::net::SocketAddr) {
    let mut wire = Wire::shake(address, 3, 1).await;
    wire.parcel(parcel(3, 1, "still there?")).await;
    assert_eq!(a.receive().await, (actor(3), "still there?".into()));
}

#[test]
fn each_mismatch_is_refused_by_name_and_harms_nobody() {
    on_loopback(async |logs| {
        let (mut a, address) = lonely(|plan| {
            plan.pins.insert(NodeId(2), member(2).incarnation);
        });
        let other_life = Member { incarnation: Incarnation(0xbad), ..member(2) };
        for (cluster, from, to, parts) in [
            ("beta", member(2), 1, ["`alpha`", "`beta`"]),
            ("alpha", member(2), 3, ["n1 is at this address", "n3 was meant"]),
            ("alpha", member(9), 1, ["n9@", "not in the list of peers of n1"]),
            ("alpha", other_life, 1, ["0000000000000200", "0000000000000bad"]),
        ] {
            let mut wire = Wire::connect(address).await;
            wire.hello(cluster, from, to).await;
            let refusal = wire.next().await.unwrap();
            assert!(refusal.starts_with("Refuse"), "{refusal}");
            for part in parts {
                assert!(refusal.contains(part), "`{part}` is not in `{refusal}`");
            }
            assert_eq!(wire.next().await, None, "closed after a refusal");
            logs.wait_for(parts[1]).await;
        }
        assert_eq!(a.counters(2).refusals(), 3);
        assert_eq!(a.counters(9).refusals(), 1);
        // A newer protocol version: the rest of its Hello may be anything.
        let mut wire = Wire::connect(address).await;
        let mut body = vec![1];
        body.extend(MAGIC);
        body.extend((PROTOCOL_VERSION + 1).to_le_bytes());
        body.extend(b"from the future");
        let mut bytes = (body.len() as u32).to_le_bytes().to_vec();
        bytes.extend(body);
        wire.write(&bytes).await;
        let refusal = wire.next().await.unwrap();
        let text = "n1 speaks protocol version 4, the other side speaks 5: upgrade";
        assert!(refusal.contains(text), "{refusal}");
        serves_on(&mut a, address).await;
    });
}

#[test]
fn the_refused_says_why_once_and_goes_on_trying() {
    on_loopback(async |logs| {
        let [(a, listen_a, at_a), (mut b, listen_b, at_b)] = plans();
        b.cluster_id = "beta".into();
        let (mut a, b) = (a.start(listen_a), b.start(listen_b));
        let both = || a.counters(2).refusals_by_it() >= 4 && b.counters(1).refusals_by_it() >= 4;
        until("four attempts each", both).await;
        for line in [
            format!("no link to n2 at {at_b}, retrying: it refuses: n2 belongs to cluster `beta`"),
            format!("no link to n1 at {at_a}, retrying: it refuses: n1 belongs to cluster `alpha`"),
        ] {
            assert_eq!(logs.count(&line), 1, "{line}");
        }
        assert!(a.events.try_recv().is_err());
        // The right node takes the place of the wrong one: no restart is needed.
        b.handle.kill();
        drop(b);
        let listen = common::bind_again(at_b).await;
        let _b = Plan::new(2, &[(1, at_a)]).start(listen);
        a.up(2).await;
    });
}

#[test]
fn the_dialler_refuses_what_answers_wrongly() {
    on_loopback(async |logs| {
        let (listen_b, at_b) = bind();
        listen_b.set_nonblocking(true).unwrap();
        let listen_b = tokio::net::TcpListener::from_std(listen_b).unwrap();
        let (listen_a, _) = bind();
        let a = Plan::new(1, &[(2, at_b)]).start(listen_a);
        let mut told = 0;
        for (cluster, from, part) in [
            ("beta", member(2), "`alpha`"),
            ("alpha", member(7), "n7 is at this address, n2 was meant"),
        ] {
            for _ in 0..2 {
                let mut wire = Wire::new(soon(listen_b.accept()).await.unwrap().0);
                assert!(wire.next().await.unwrap().contains("to: NodeId(2)"));
                wire.welcome(cluster, from).await;
                assert_eq!(wire.next().await, None);
                told += 1;
                until("counted", || a.counters(2).refusals() == told).await;
            }
            assert_eq!(logs.count(part), 1, "{part}");
        }
        assert_eq!(a.counters(2).connects(), 0);
    });
}

#[test]
fn a_node_at_the_wrong_address_is_not_taken_for_another() {
    on_loopback(async |logs| {
        // n1 has exchanged n2 and n3 in its list.
        let [(_, listen_a, at_a), (_, listen_b, at_b), (c, listen_c, at_c)] = plans();
        let a = Plan::new(1, &[(2, at_c), (3, at_b)]).start(listen_a);
        let b = Plan::new(2, &[(1, at_a), (3, at_c)]).start(listen_b);
        let c = c.start(listen_c);
        logs.wait_for("n3 is at this address, n2 was meant").await;
        logs.wait_for("n2 is at this address, n3 was meant").await;
        assert_eq!(a.counters(2).connects() + a.counters(3).connects(), 0);
        until("the others find all", || {
            b.counters(1).connects() > 0 && c.counters(1).connects() > 0
        })
        .await;
    });
}

#[test]
fn a_pin_is_durable_before_the_handshake_completes() {
    on_loopback(async |_| {
        let [(mut a, listen_a, at_a), (b, listen_b, _)] = plans();
        a.saves = false;
        let (mut a, b) = (a.start(listen_a), b.start(listen_b));
        // Both directions wait: n1 neither welcomes n2 nor takes its welcome.
        for _ in 0..2 {
            assert_eq!(soon(a.saves.recv()).await.unwrap(), [member(2)]);
        }
        let mut wire = Wire::connect(at_a).await;
        wire.hello("alpha", member(2), 1).await;
        assert_eq!(soon(a.saves.recv()).await.unwrap(), [member(2)]);
        let waits = tokio::time::timeout(Duration::from_millis(50), wire.next()).await;
        assert!(waits.is_err(), "{waits:?}");
        assert_eq!(a.counters(2).connects() + b.counters(1).connects(), 0);
        // While it waits, another life of the same node is refused already.
        let mut twin = Wire::connect(at_a).await;
        twin.hello("alpha", Member { incarnation: Incarnation(5), ..member(2) }, 1).await;
        assert!(twin.next().await.unwrap().contains("knows n2 as incarnation 0000000000000200"));
        drop(wire);
        // A crash of the actor loses the handshakes and not what is pinned; they ask again.
        a.crash();
        assert_eq!(soon(a.saves.recv()).await.unwrap(), [member(2)]);
        let mailbox = a.handle.mailbox();
        mailbox.send(mailbox.name(), Message::PinsSaved(vec![member(2)]));
        a.up(2).await;
        while a.saves.try_recv().is_ok() {}
        // From now on nothing needs to be saved.
        a.crash();
        a.up(2).await;
        assert!(a.saves.is_empty());
    });
}

#[test]
fn a_half_open_handshake_times_out_and_harms_nobody() {
    on_loopback(async |logs| {
        // Short for a test, and long for those who shake hands while it runs.
        let short = Duration::from_secs(1);
        let (mut a, address) = lonely(|plan| plan.bounds.handshake_timeout = short);
        let mut silent = Wire::connect(address).await;
        let mut halting = Wire::connect(address).await;
        halting.write(&[60, 0, 0, 0, 1, b'Q']).await;
        serves_on(&mut a, address).await;
        assert_eq!(silent.next().await, None);
        assert_eq!(halting.next().await, None);
        logs.wait_for("shook no hands in 1s").await;
        serves_on(&mut a, address).await;
    });
}

#[test]
fn a_dialled_peer_that_says_nothing_is_tried_again() {
    on_loopback(async |logs| {
        let (listen_b, at_b) = bind();
        listen_b.set_nonblocking(true).unwrap();
        let listen_b = tokio::net::TcpListener::from_std(listen_b).unwrap();
        let (listen_a, _) = bind();
        let handshake_timeout = Duration::from_secs(1);
        let bounds = Bounds { handshake_timeout, ..Bounds::default() };
        let a = Plan { bounds, ..Plan::new(1, &[(2, at_b)]) }.start(listen_a);
        let mut silent = vec![];
        for _ in 0..3 {
            silent.push(soon(listen_b.accept()).await.unwrap().0);
        }
        logs.wait_for("no handshake within 1s").await;
        assert_eq!(logs.count("no handshake within"), 1);
        let mut wire = Wire::new(soon(listen_b.accept()).await.unwrap().0);
        assert!(wire.next().await.unwrap().starts_with("Hello"));
        wire.welcome("alpha", member(2)).await;
        until("linked", || a.counters(2).connects() == 1).await;
    });
}

#[test]
fn strangers_beyond_the_bound_replace_the_one_that_idles_longest() {
    on_loopback(async |_| {
        let (mut a, address) = lonely(|plan| plan.bounds.strangers_max = 3);
        let mut strangers = vec![];
        for _ in 0..10 {
            strangers.push(Wire::connect(address).await);
        }
        for stranger in &mut strangers[..7] {
            assert_eq!(stranger.next().await, None);
        }
        serves_on(&mut a, address).await;
    });
}

#[test]
fn garbage_and_hostile_lengths_close_the_connection_with_a_word() {
    on_loopback(async |logs| {
        let (mut a, address) = lonely(|_| {});
        let long = (HELLO_BYTES_MAX as u32 + 1).to_le_bytes();
        for (bytes, word) in [
            (&b"GET / HTTP/1.1\r\nHost: quorate\r\n\r\n"[..], "bytes is announced"),
            (b"\xff\xff\xff\xff", "a frame of 4294967295 bytes is announced, 4096 are allowed"),
            (&long, "a frame of 4097 bytes is announced, 4096 are allowed"),
            (b"\x00\x00\x00\x00", "a frame ends too early"),
            (b"\x01\x00\x00\x00\x63", "no frame is of kind 99"),
            (b"\x08\x00\x00\x00\x01HTTP\x01\x00x", "it begins with HTTP"),
            (b"\x08\x00\x00\x00\x01QRT1\x04\x00\xc1", "an unreadable handshake"),
        ] {
            let before = a.counters(NOBODY.0).refusals();
            let mut wire = Wire::connect(address).await;
            wire.write(bytes).await;
            // The refusal is a courtesy; the end of the connection is a must.
            while wire.next().await.is_some() {}
            until("counted", || a.counters(NOBODY.0).refusals() == before + 1).await;
            logs.wait_for(word).await;
        }
        // A parcel or a welcome is no way to begin.
        let mut wire = Wire::connect(address).await;
        wire.parcel(parcel(2, 1, "hello?")).await;
        while wire.next().await.is_some() {}
        let mut wire = Wire::connect(address).await;
        wire.welcome("alpha", member(2)).await;
        while wire.next().await.is_some() {}
        logs.wait_for("another frame than Hello came").await;
        assert!(a.inbox.try_recv().is_err());
        serves_on(&mut a, address).await;
    });
}

#[test]
fn a_peer_that_breaks_the_rules_is_cut_off_and_the_others_are_served() {
    on_loopback(async |logs| {
        let (mut a, address) = lonely(|_| {});
        let foreign = Parcel { from: actor(3), ..parcel(2, 1, "in n3's name") };
        let mut alarms = 0;
        for (breach, word) in [
            (
                Breach::Parcel(foreign),
                "n2 sends in the name of n3/g1/learner, which is not its own",
            ),
            (Breach::Bytes(vec![0xff; 4]), "bytes is announced"),
            (Breach::Bytes((FRAME_BYTES_MAX as u32 + 1).to_le_bytes().into()), "67108865"),
            (Breach::Bytes(vec![1, 0, 0, 0, 77]), "no frame is of kind 77"),
            (Breach::Hello, "n2 sends a Hello among its parcels"),
        ] {
            let mut wire = Wire::shake(address, 2, 1).await;
            wire.parcel(parcel(2, 1, "good")).await;
            match breach {
                Breach::Parcel(parcel) => wire.parcel(parcel).await,
                Breach::Bytes(bytes) => wire.write(&bytes).await,
                Breach::Hello => wire.hello("alpha", member(2), 1).await,
            }
            assert_eq!(wire.next().await, None);
            alarms += 1;
            assert_eq!(a.counters(2).alarms(), alarms);
            logs.wait_for(word).await;
            assert_eq!(a.receive().await, (actor(2), "good".into()));
            serves_on(&mut a, address).await;
        }
        assert_eq!(a.counters(2).dropped(Dropped::ForeignSender), 1);
        assert!(a.inbox.try_recv().is_err());
    });
}

/// H1. Under the plain number of a node only a founder's engine speaks; a later directory has another name.
#[test]
fn a_directory_that_came_later_speaks_only_under_a_name_that_it_was_given() {
    on_loopback(async |logs| {
        let (mut a, address) = lonely(|_| {});
        let from = Member { incarnation: Incarnation(0xfeed), ..member(2) };
        let hello = quorate_cluster::frame::Hello {
            cluster_id: "alpha".into(),
            from,
            founder: false,
            to: NodeId(1),
        };
        let mut wire = Wire::connect(address).await;
        wire.hello_of(hello).await;
        assert!(wire.next().await.unwrap().starts_with("Welcome"));
        let named = actor(2).on(NodeId(2).in_life(1));
        wire.parcel(Parcel { from: named, ..parcel(2, 1, "as n2.1") }).await;
        assert_eq!(a.receive().await, (named, "as n2.1".into()));
        wire.parcel(parcel(2, 1, "as n2")).await;
        assert_eq!(wire.next().await, None, "it is cut off");
        logs.wait_for("n2 sends in the name of n2/g1/learner, which is not its own").await;
        assert!(a.inbox.try_recv().is_err());
        serves_on(&mut a, address).await;
    });
}

enum Breach {
    Parcel(Parcel),
    Bytes(Vec<u8>),
    Hello,
}

#[test]
fn a_new_connection_of_a_peer_ends_its_old_one() {
    on_loopback(async |_| {
        let (mut a, address) = lonely(|_| {});
        let mut old = Wire::shake(address, 2, 1).await;
        old.parcel(parcel(2, 1, "old")).await;
        assert_eq!(a.receive().await.1, "old");
        let mut new = Wire::shake(address, 2, 1).await;
        assert_eq!(old.next().await, None);
        new.parcel(parcel(2, 1, "new")).await;
        assert_eq!(a.receive().await.1, "new");
    });
}

#[test]
fn a_peer_that_answers_on_a_one_way_connection_is_cut_off() {
    on_loopback(async |logs| {
        let (listen_b, at_b) = bind();
        listen_b.set_nonblocking(true).unwrap();
        let listen_b = tokio::net::TcpListener::from_std(listen_b).unwrap();
        let (listen_a, _) = bind();
        let a = Plan::new(1, &[(2, at_b)]).start(listen_a);
        let mut wire = Wire::new(soon(listen_b.accept()).await.unwrap().0);
        assert!(wire.next().await.unwrap().starts_with("Hello"));
        wire.welcome("alpha", member(2)).await;
        wire.parcel(parcel(2, 1, "wrong way")).await;
        logs.wait_for("n2 answers on a connection made for sending").await;
        let mut rest = vec![];
        let _ = soon(wire.stream.read_to_end(&mut rest)).await;
        until("alarm", || a.counters(2).alarms() == 1).await;
    });
}

#[test]
fn strangers_at_the_door_do_not_disturb_a_link_at_work() {
    on_loopback(async |_| {
        let [mut a, mut b] = cluster().await;
        let address = b.address;
        for number in 0..200_u32 {
            let mut wire = Wire::connect(address).await;
            wire.write(&number.to_le_bytes().repeat(5)).await;
            a.handle.send(parcel(1, 2, number.to_string()));
            assert_eq!(b.receive().await.1, number.to_string());
        }
        assert!(a.events.try_recv().is_err());
        assert!(b.events.try_recv().is_err());
        b.handle.kill();
        assert_eq!(a.event().await, PeerEvent::Down(NodeId(2)));
    });
}
