//! Links between nodes: parcels, order, reconnection, bounds, faults, crashes.

mod common;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use common::{
    Plan, Subject, Wire, actor, bind, bind_again, cluster, member, on_loopback, parcel, plans,
    soon, until,
};
use quorate_cluster::{Bounds, Dropped, Faults, PeerEvent, Switches};
use quorate_protocol::{GroupId, Name, NodeId, Role};
use quorate_stage::{Class, Parcel, Transport};

/// Sends numbered parcels and expects them in order.
async fn exchange(from: &Subject, to: &mut Subject, count: u32) {
    for number in 0..count {
        from.send(to.id, number.to_string());
    }
    for number in 0..count {
        let (sender, body) = to.receive().await;
        assert_eq!((sender, body), (actor(from.id), Bytes::from(number.to_string())));
    }
}

#[test]
fn two_nodes_exchange_parcels_in_order() {
    on_loopback(async |_| {
        let [mut a, mut b] = cluster().await;
        exchange(&a, &mut b, 5000).await;
        exchange(&b, &mut a, 5000).await;
        assert_eq!(a.counters(2).parcels_sent(), 5000);
        assert_eq!(a.counters(2).parcels_received(), 5000);
        let view = a.handle.counters().view();
        let peer = view.iter().find(|peer| peer.node == NodeId(2)).unwrap();
        assert_eq!((peer.sent[0].what.as_str(), peer.sent[0].parcels), ("Test", 5000));
        assert_eq!(peer.received[0].what, actor(1).to_string());
        assert_eq!((peer.connects, peer.alarms, &peer.dropped), (1, 0, &BTreeMap::new()));
        let json = serde_json::to_string(&view).unwrap();
        assert!(json.contains(r#""sent":[{"what":"Test","parcels":5000"#), "{json}");
    });
}

#[test]
fn three_nodes_exchange_parcels_in_order_each_with_each() {
    on_loopback(async |_| {
        let mut all: [Subject; 3] = cluster().await;
        for number in 0..1000 {
            for (from, to) in [(0, 2), (0, 3), (1, 1), (1, 3), (2, 1), (2, 2)] {
                all[from].send(to, number.to_string());
            }
        }
        for subject in &mut all {
            let mut next: BTreeMap<Name, u32> = BTreeMap::new();
            for _ in 0..2000 {
                let (from, body) = subject.receive().await;
                let next = next.entry(from).or_default();
                assert_eq!(body, next.to_string());
                *next += 1;
            }
            assert_eq!(next.len(), 2);
        }
    });
}

#[test]
fn large_parcels_arrive_whole() {
    on_loopback(async |_| {
        let [a, mut b] = cluster().await;
        let body = |n: u8| Bytes::from(vec![n; 3 << 20]);
        for n in 0..5 {
            a.send(2, body(n));
        }
        for n in 0..5 {
            assert!(b.receive().await.1 == body(n));
        }
    });
}

#[test]
fn a_parcel_for_the_own_node_needs_no_link() {
    on_loopback(async |_| {
        let (listen, _) = bind();
        let mut a = Plan::new(1, &[]).start(listen);
        a.send(1, "self");
        assert_eq!(a.receive().await, (actor(1), Bytes::from("self")));
    });
}

#[test]
fn parcels_to_nobody_are_counted() {
    on_loopback(async |_| {
        let [a, mut b] = cluster().await;
        a.send(9, "no such node");
        let to = Name::new(NodeId(2), GroupId(77), Role::Rsm);
        a.handle.send(Parcel { to, ..parcel(1, 2, "no such actor") });
        a.handle.send(Parcel { from: actor(2), ..parcel(1, 2, "not from here") });
        exchange(&a, &mut b, 1).await;
        assert_eq!(a.counters(9).dropped(Dropped::UnknownNode), 1);
        assert_eq!(a.counters(2).dropped(Dropped::ForeignSender), 1);
        assert_eq!(b.counters(1).dropped(Dropped::UnknownActor), 1);
    });
}

#[test]
fn what_cannot_be_read_is_dropped_with_one_alarm_and_the_rest_goes_on() {
    on_loopback(async |logs| {
        let [a, mut b] = cluster().await;
        for _ in 0..3 {
            a.send(2, "bad");
        }
        exchange(&a, &mut b, 10).await;
        assert_eq!(b.counters(1).dropped(Dropped::Unreadable), 3);
        assert_eq!(b.counters(1).alarms(), 1);
        assert_eq!(logs.count("cannot read"), 1);
        assert_eq!(a.counters(2).connects(), 1);
    });
}

#[test]
fn a_peer_that_goes_is_down_at_once_and_a_peer_that_returns_is_up_again() {
    on_loopback(async |_| {
        let [(a, listen_a, at_a), (b, listen_b, at_b)] = plans();
        let mut a = a.start(listen_a);
        let mut b = b.start(listen_b);
        a.up(2).await;
        b.up(1).await;
        for round in 0..3 {
            b.handle.kill();
            drop(b);
            assert_eq!(a.event().await, PeerEvent::Down(NodeId(2)));
            let listen = bind_again(at_b).await;
            b = Plan::new(2, &[(1, at_a)]).start(listen);
            assert_eq!(a.event().await, PeerEvent::Up(NodeId(2)));
            b.up(1).await;
            exchange(&a, &mut b, 100).await;
            exchange(&b, &mut a, 100).await;
            assert!(a.counters(2).connects() >= round + 2);
        }
    });
}

#[test]
fn while_a_link_is_down_only_the_newest_few_parcels_are_kept() {
    on_loopback(async |_| {
        let [(mut a, listen_a, at_a), (b, listen_b, _)] = plans();
        drop(listen_b);
        a.bounds.unlinked_parcels_max = 5;
        let at_b = b_address(&a);
        let a = a.start(listen_a);
        for number in 0..100 {
            a.send(2, number.to_string());
        }
        until("95 dropped", || a.counters(2).dropped(Dropped::Unlinked) == 95).await;
        let mut b = Plan { peers: [(NodeId(1), at_a.to_string())].into(), ..b }
            .start(bind_again(at_b).await);
        for number in 95..100 {
            assert_eq!(b.receive().await.1, number.to_string());
        }
    });
}

fn b_address(plan: &Plan) -> std::net::SocketAddr {
    plan.peers[&NodeId(2)].parse().unwrap()
}

#[test]
fn a_peer_that_does_not_read_costs_a_bounded_queue() {
    on_loopback(async |_| {
        let (listen_b, at_b) = bind();
        listen_b.set_nonblocking(true).unwrap();
        let listen_b = tokio::net::TcpListener::from_std(listen_b).unwrap();
        for (bounds, full_at) in [
            (Bounds { link_parcels_max: 50, ..Bounds::default() }, u64::MAX),
            (Bounds { link_bytes_max: 1 << 20, ..Bounds::default() }, 1 << 20),
        ] {
            let (listen_a, _) = bind();
            let a = Plan { bounds, ..Plan::new(1, &[(2, at_b)]) }.start(listen_a);
            let mut wire = Wire::new(soon(listen_b.accept()).await.unwrap().0);
            assert!(wire.next().await.unwrap().starts_with("Hello"));
            wire.welcome("alpha", member(2)).await;
            until("linked", || a.counters(2).connects() == 1).await;
            // Until the sockets are full, and then as much again.
            let mut sent = 0;
            let mut beyond = 0;
            while beyond < 200 {
                let mut body = format!("{sent:08} ").into_bytes();
                body.resize(64 << 10, b'.');
                a.send(2, body);
                sent += 1;
                tokio::task::yield_now().await;
                let full = a.counters(2).dropped(Dropped::Full);
                beyond += u32::from(full > 0);
                let queued = a.counters(2).queued_bytes();
                assert!(queued <= full_at && queued <= 50 * (65 << 10), "{queued}");
            }
            // What was not dropped comes in order, and then the link is as good as new.
            let dropped = || a.counters(2).dropped(Dropped::Full);
            let kept = sent - dropped();
            let mut last = None;
            for _ in 0..kept {
                let frame = wire.next().await.unwrap();
                let number: u64 = frame["Parcel ".len()..][..8].parse().unwrap();
                assert!(last < Some(number));
                last = Some(number);
            }
            a.send(2, "again");
            assert_eq!(wire.next().await.unwrap(), "Parcel again");
            assert_eq!(a.counters(2).connects(), 1);
            a.handle.kill();
        }
    });
}

#[test]
fn a_parcel_too_long_for_a_frame_is_dropped_by_its_sender() {
    on_loopback(async |logs| {
        let [(mut a, listen_a, _), (b, listen_b, _)] = plans();
        a.bounds.frame_bytes_max = 1000;
        let (mut a, mut b) = (a.start(listen_a), b.start(listen_b));
        a.up(2).await;
        a.send(2, vec![1; 1001]);
        exchange(&a, &mut b, 1).await;
        assert_eq!(a.counters(2).dropped(Dropped::TooLong), 1);
        assert_eq!(logs.count("too long for a frame"), 1);
    });
}

fn faults(from: u32, to: u32, switches: Switches) -> Faults {
    let mut faults = Faults::none();
    faults.set(NodeId(from), NodeId(to), switches).unwrap();
    faults
}

#[test]
fn a_cut_is_down_at_once_on_the_node_that_cuts_and_heals() {
    on_loopback(async |_| {
        let [mut a, mut b] = cluster().await;
        for (from, to) in [(1, 2), (2, 1)] {
            a.handle.set_faults(faults(from, to, Switches::CUT));
            assert_eq!(a.event().await, PeerEvent::Down(NodeId(2)));
            a.send(2, "there");
            b.send(1, "back");
            let cut = |a: &Subject| a.counters(2).dropped(Dropped::Cut);
            let before = if (from, to) == (1, 2) { 0 } else { 1 };
            until("one lost", || cut(&a) == before + 1).await;
            // The other direction works.
            if (from, to) == (1, 2) {
                assert_eq!(a.receive().await.1, "back");
            } else {
                assert_eq!(b.receive().await.1, "there");
            }
            a.handle.set_faults(Faults::none());
            assert_eq!(a.event().await, PeerEvent::Up(NodeId(2)));
            exchange(&a, &mut b, 3).await;
            exchange(&b, &mut a, 3).await;
        }
        assert_eq!(a.counters(2).connects(), 1);
        assert!(b.events.is_empty());
    });
}

#[test]
fn the_deaf_hear_answers_and_lost_replies_are_answers() {
    on_loopback(async |_| {
        let [a, mut b] = cluster().await;
        let both = |tag: &'static str| {
            a.handle.send(Parcel { class: Class::Request, ..parcel(1, 2, format!("ask {tag}")) });
            a.handle.send(Parcel { class: Class::Answer, ..parcel(1, 2, format!("tell {tag}")) });
        };
        // Receiving side.
        b.handle.set_faults(faults(1, 2, Switches { deaf: true, ..Switches::NONE }));
        until("set", || b.node.mailboxes()[0].handled_of("SetFaults") == 1).await;
        both("deaf");
        assert_eq!(b.receive().await.1, "tell deaf");
        assert_eq!(b.counters(1).dropped(Dropped::Deaf), 1);
        b.handle.set_faults(faults(1, 2, Switches { reply_loss_permille: 1000, ..Switches::NONE }));
        until("set", || b.node.mailboxes()[0].handled_of("SetFaults") == 2).await;
        both("reply");
        assert_eq!(b.receive().await.1, "ask reply");
        until("lost", || b.counters(1).dropped(Dropped::ReplyLost) == 1).await;
        b.handle.set_faults(Faults::none());
        // Sending side.
        a.handle.set_faults(faults(1, 2, Switches { drop_permille: 1000, ..Switches::NONE }));
        both("dropped");
        a.handle.set_faults(Faults::none());
        both("healed");
        assert_eq!(b.receive().await.1, "ask healed");
        assert_eq!(a.counters(2).dropped(Dropped::Chance), 2);
    });
}

#[test]
fn duplicates_come_twice_and_delays_take_their_time_on_either_side() {
    on_loopback(async |_| {
        let [a, mut b] = cluster().await;
        let slow = Switches {
            duplicate_permille: 1000,
            delay_us_min: 30_000,
            delay_us_max: 60_000,
            ..Switches::NONE
        };
        for at_sender in [true, false] {
            let (here, there) = if at_sender { (&a, &b) } else { (&b, &a) };
            there.handle.set_faults(Faults::none());
            here.handle.set_faults(faults(1, 2, slow));
            let handled = |s: &Subject| s.node.mailboxes()[0].actor().depth == 0;
            until("set", || handled(here) && handled(there)).await;
            let start = tokio::time::Instant::now();
            let mut expected = vec![];
            for number in 0..50 {
                a.send(2, format!("{number:02}"));
                expected.extend([format!("{number:02}"), format!("{number:02}")]);
            }
            let mut came = vec![];
            for _ in 0..100 {
                came.push(String::from_utf8(b.receive().await.1.to_vec()).unwrap());
            }
            assert!(start.elapsed() >= Duration::from_millis(30));
            assert_ne!(came, expected, "unequal delays reorder");
            came.sort();
            assert_eq!(came, expected);
        }
    });
}

#[test]
fn faults_hold_across_a_crash_of_the_actor() {
    on_loopback(async |_| {
        let [mut a, mut b] = cluster().await;
        a.handle.set_faults(faults(1, 2, Switches::CUT));
        a.down(2).await;
        a.crash();
        until("linked again", || a.counters(2).connects() == 2).await;
        a.send(2, "lost");
        until("lost", || a.counters(2).dropped(Dropped::Cut) == 1).await;
        a.handle.set_faults(Faults::none());
        a.up(2).await;
        exchange(&a, &mut b, 3).await;
    });
}

#[test]
fn a_panic_while_a_parcel_is_handed_over_costs_the_connection() {
    on_loopback(async |logs| {
        let [mut a, mut b] = cluster().await;
        a.send(2, "panic");
        a.down(2).await;
        a.up(2).await;
        logs.wait_for("a connection ended in a panic").await;
        exchange(&a, &mut b, 10).await;
        assert_eq!(b.node.mailboxes()[0].actor().restarts, 0);
    });
}

#[test]
fn a_panic_of_a_task_of_the_actor_is_one_of_the_actor() {
    on_loopback(async |_| {
        let [(a, listen_a, _), (mut b, listen_b, _)] = plans();
        b.panics_max = 1;
        let (mut a, mut b) = (a.start(listen_a), b.start(listen_b));
        a.up(2).await;
        let slow = Switches { delay_us_min: 1, delay_us_max: 1, ..Switches::NONE };
        b.handle.set_faults(faults(1, 2, slow));
        until("set", || b.node.mailboxes()[0].handled_of("SetFaults") == 1).await;
        // The task that lets delayed parcels out is the victim.
        a.send(2, "panic");
        a.down(2).await;
        a.up(2).await;
        let view = b.node.mailboxes()[0].actor();
        assert!(view.last_panic.unwrap().message.contains("a port that panics"));
        a.send(2, "again");
        assert_eq!(b.receive().await.1, "again");
    });
}

#[test]
fn fifty_crashes_under_traffic_cost_parcels_and_neither_the_address_nor_the_order() {
    on_loopback(async |_| {
        let [(a, listen_a, at_a), (b, listen_b, _)] = plans();
        let (mut a, mut b) = (a.start(listen_a), b.start(listen_b));
        a.up(2).await;
        b.up(1).await;
        let (mut sent, mut last) = (0_u64, [0, 0]);
        for crash in 1..=50 {
            let first = sent;
            a.crash();
            // Traffic goes on all the time; both directions come back.
            while last[0] <= first || last[1] <= first {
                sent += 1;
                a.send(2, sent.to_string());
                b.send(1, sent.to_string());
                tokio::time::sleep(Duration::from_micros(200)).await;
                for (subject, last) in [&mut b, &mut a].into_iter().zip(&mut last) {
                    while let Ok((_, body)) = subject.inbox.try_recv() {
                        let number = std::str::from_utf8(&body).unwrap().parse().unwrap();
                        assert!(*last < number, "{number} after {last}");
                        *last = number;
                    }
                }
                assert!(sent < first + 50_000, "crash {crash}: no link");
            }
            a.down(2).await;
            a.up(2).await;
            b.down(1).await;
            b.up(1).await;
        }
        let view = a.node.mailbox(a.handle.mailbox().name()).unwrap().actor();
        assert_eq!(view.restarts, 50);
        // The same port serves, and strangers are still greeted there.
        let mut wire = Wire::connect(at_a).await;
        wire.hello("beta", member(2), 1).await;
        assert!(wire.next().await.unwrap().starts_with("Refuse n1 belongs to cluster `alpha`"));
        assert_eq!(a.counters(2).alarms() + b.counters(1).alarms(), 0);
    });
}
