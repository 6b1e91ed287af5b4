//! What people write: configurations, histories, and what the debug endpoints are asked.

use quorate_cluster::Faults;
use quorate_history::{Budget, Input, Output, Recorder, check_within};
use quorate_node::config::{Engine, GroupSpec, NodeConfig, Peer, Reads, Redirect, Sharding};
use quorate_protocol::Name;

use crate::damage::{Bound, Target};

pub(super) fn configurations() -> Target {
    let peer = |node| Peer {
        node,
        peer: format!("127.0.0.1:{}", 7200 + node),
        resp: format!("127.0.0.1:{}", 7000 + node),
    };
    let address = |port: u16| ([127, 0, 0, 1], port).into();
    let config = NodeConfig {
        cluster_id: "test".into(),
        node: 1,
        dir: "data/n1".into(),
        initial: true,
        engine: Engine::Paxos,
        listen_peer: address(7201),
        listen_resp: address(7001),
        listen_debug: address(7101),
        faults: false,
        reads: Reads::Barrier,
        log_bytes_max: 1 << 20,
        clients_max: 100,
        request_deadline_ms: 1000,
        group_threads: 2,
        lossy: true,
        redirect: Redirect::Always,
        nodes: (1..=3).map(peer).collect(),
        sharding: Some(Sharding {
            shards: 64,
            shardmaster: vec![1, 2, 3],
            groups: vec![GroupSpec { group: 1, nodes: vec![1, 2, 3] }],
        }),
    };
    let sample = config.to_toml().unwrap().into_bytes();
    let words: &[&[u8]] = &[b"[[nodes]]\n", b"\"", b"'''", b"= [", b"{", b"\n"];
    // A document as a tree, with what it looked like, before it is a configuration.
    let bound = Bound { base: 1 << 20, per_byte: 1000 };
    Target::new(vec![sample], words, bound, |input, _| {
        let text = String::from_utf8_lossy(input);
        let Ok(config) = toml::from_str::<NodeConfig>(&text) else { return false };
        if config.check().is_err() {
            return false;
        }
        let again: NodeConfig = toml::from_str(&config.to_toml().unwrap()).unwrap();
        assert_eq!(again, config);
        true
    })
}

fn history() -> Vec<u8> {
    let mut recorder = Recorder::new(vec![]);
    let (key, value) = (b"k\xff".as_slice().into(), b"v".as_slice().into());
    let inputs = [
        (Input::Put { value }, Some(Output::Done)),
        (Input::Get, Some(Output::Value { value: b"v".as_slice().into(), version: Some(1) })),
        (Input::Append { value: b"\x00\xfe".as_slice().into() }, Some(Output::Length(3))),
        (Input::Cas { value: b"w".as_slice().into(), version: 2 }, Some(Output::ErrVersion)),
        (Input::Delete, Some(Output::Deleted { present: true })),
        (Input::Get, Some(Output::Absent)),
        (Input::Put { value: b"lost".as_slice().into() }, None),
    ];
    for (at, (input, output)) in inputs.into_iter().enumerate() {
        let (t, op) = (at as u64 * 20, at as u64);
        recorder.invoke(t, 1, op, &key, &input).unwrap();
        match output {
            Some(output) => recorder.ok(t + 10, 1, op, &output).unwrap(),
            None => recorder.unknown(t + 10, 1, op).unwrap(),
        }
    }
    recorder.into_inner()
}

pub(super) fn histories() -> Target {
    let words: &[&[u8]] =
        &[b"null", b"\"ok\"", b"\"fail\"", b"{\"hex\":\"0g\"}", b"\n", b"18446744073709551616"];
    let bound = Bound { base: 4 << 20, per_byte: 300 };
    Target::new(vec![history()], words, bound, |input, _| {
        let Ok(found) = quorate_history::read(input) else { return false };
        let mut again = vec![];
        quorate_history::write(&found, &mut again).unwrap();
        let again = quorate_history::read(&again[..]).expect("what was accepted");
        assert_eq!(again.ops.len(), found.ops.len());
        // It can be judged, whatever the verdict.
        check_within(&found, Budget { steps: 10_000, configurations: 1_000 });
        true
    })
}

pub(super) fn names() -> Target {
    let samples = [b"n1/g1/acceptor".to_vec(), b"n65535.65535/gateway".to_vec()];
    Target::new(samples.into(), &[b"/", b"n", b"g0"], Bound::SMALL, |input, _| {
        let text = String::from_utf8_lossy(input);
        let Ok(name) = text.parse::<Name>() else { return false };
        assert_eq!(name.to_string().parse(), Ok(name));
        true
    })
}

/// The body of POST /debug/faults.
pub(super) fn faults() -> Target {
    let sample = br#"{"everywhere": {"drop_permille": 5, "delay_us_min": 10, "delay_us_max": 20},
        "links": [{"from": 1, "to": 2, "switches": {"cut": true}}]}"#;
    let words: &[&[u8]] = &[b"1000", b"\"deaf\":true,", b"null", b"1e9", b"-1"];
    Target::new(vec![sample.to_vec(), b"{}".to_vec()], words, Bound::SERDE, |input, _| {
        let Ok(faults) = serde_json::from_slice::<Faults>(input) else { return false };
        let again = serde_json::to_vec(&faults).expect("plain data always encodes");
        assert_eq!(serde_json::from_slice::<Faults>(&again).expect("what was accepted"), faults);
        true
    })
}
