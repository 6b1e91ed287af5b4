//! The endpoints, asked over a real socket.

mod common;

use common::{Plan, Told, build, eventually, metrics, name, parse, raw, scene};
use quorate_protocol::{NodeId, Role};
use quorate_rsm::Status;
use quorate_stage::{Class, Parcel, Transport};
use serde_json::json;

#[test]
fn every_actor_is_listed_and_shown() {
    let scene = scene(false);
    scene.send(&scene.acceptor, Told::Ping);
    eventually("the ping is handled", || scene.acceptor.stats().mailbox().recent.len() == 1);

    let all = scene.get("/debug/actors");
    assert_eq!(all.status, 200);
    assert!(all.head.contains("content-type: application/json"), "{}", all.head);
    assert!(all.head.contains("cache-control: no-store"), "{}", all.head);
    let all = all.json();
    let names: Vec<_> = all.as_array().unwrap().iter().map(|a| a["name"].clone()).collect();
    assert_eq!(names, ["n1/g1/acceptor", "n1/g1/rsm"]);
    assert_eq!(all[0]["handled"], 1);

    for path in ["n1/g1/acceptor", "n1%2Fg1%2Facceptor", "n1%2fg1/acceptor"] {
        let one = scene.get(&format!("/debug/actors/{path}")).json();
        assert_eq!(one, scene.get("/debug/actors").json()[0], "{path}");
        for slash in ["/", "%2F"] {
            let full = scene.get(&format!("/debug/actors/{path}{slash}mailbox")).json();
            assert_eq!(full["name"], "n1/g1/acceptor", "{path}");
            assert_eq!(full["kinds"][0], json!({ "kind": "Ping", "enqueued": 1, "handled": 1 }));
            assert_eq!(full["recent"][0]["from"], "n1/outside");
        }
    }
}

#[test]
fn a_stuck_actor_can_be_looked_into() {
    let scene = scene(false);
    let stuck = scene.stick(&scene.acceptor);
    for _ in 0..3 {
        scene.send(&scene.acceptor, Told::Ping);
    }
    let mailbox = scene.get("/debug/actors/n1/g1/acceptor/mailbox").json();
    assert_eq!((&mailbox["depth"], &mailbox["busy"]["kind"]), (&json!(3), &json!("Stick")));
    assert_eq!(mailbox["oldest"]["kind"], "Ping");
    assert_eq!(scene.get("/debug/status").status, 200, "the rsm is not stuck");
    drop(stuck);
    eventually("it goes on", || scene.acceptor.stats().actor().depth == 0);
}

#[test]
fn a_stuck_rsm_is_reported_and_asked_once() {
    let scene = scene(false);
    let stuck = scene.stick(&scene.rsm);
    for path in ["/debug/status", "/readyz", "/debug/status"] {
        let answer = scene.get(path);
        assert_eq!(answer.status, 503, "{path}");
        assert_eq!(answer.error().matches("n1/g1/rsm").count(), 2, "{}", answer.text);
        assert!(answer.error().contains("1 messages waiting and has been at a Stick for"));
    }
    let shown = metrics(&scene.get("/metrics").text);
    assert_eq!(shown.samples["quorate_rsm_answered{node=\"n1\"}"], 0.0);
    assert!(!shown.types.contains_key("quorate_rsm_applied"));
    assert!(shown.samples["quorate_actor_busy_seconds{node=\"n1\",actor=\"n1/g1/rsm\"}"] > 1.0);
    assert_eq!(scene.get("/healthz").status, 200);
    assert_eq!(scene.rsm.stats().actor().enqueued, 2, "Stick, and one question");
    drop(stuck);
    eventually("it answers again", || scene.get("/debug/status").status == 200);
}

#[test]
fn status_and_readiness_are_the_rsms() {
    let full = Status {
        leader: Some(3),
        applied: 12,
        checkpointed: 10,
        commands: 8,
        duplicates: 2,
        waiting: 1,
        ready: true,
        size: (5, 90),
        log_bytes: 700,
        taken: 2,
        installed: 1,
        fetched: Some((30, 40)),
    };
    let scene = build(Plan { status: full, ..Plan::default() });
    let replica = json!({
        "leader": 3, "applied": 12, "checkpointed": 10, "commands": 8,
        "duplicates": 2, "waiting": 1, "ready": true, "size": [5, 90],
        "log_bytes": 700, "taken": 2, "installed": 1, "fetched": [30, 40],
    });
    // The node as a whole, and each of its replicas.
    let (mut whole, mut group) = (replica.clone(), replica);
    group["group"] = 1.into();
    whole["node"] = 1.into();
    whole["groups"] = json!([group]);
    assert_eq!(scene.get("/debug/status").json(), whole);
    assert_eq!(scene.get("/readyz").json()["ready"], true);
    assert_eq!(scene.get("/healthz").json()["version"], "0.0.0-test");
    for (status, expected) in [
        (Status { ready: true, ..Status::default() }, "\"ready\":true"),
        (Status { ready: true, waiting: 1, ..Status::default() }, "no leader is known"),
        (Status::default(), "not been recovered"),
    ] {
        let scene = build(Plan { status, ..Plan::default() });
        assert!(scene.get("/readyz").text.contains(expected), "{expected}");
    }
}

#[test]
fn a_crash_strikes_and_is_counted() {
    let scene = scene(true);
    let path = "/debug/actors/n1/g1/acceptor/crash";
    let restarts = || scene.get("/debug/actors/n1%2Fg1%2Facceptor").json()["restarts"].clone();
    assert_eq!(scene.post(path, "").status, 202);
    eventually("it restarts", || restarts() == 1);

    for (mode, before) in [("before", 1), ("after", 2)] {
        let told = scene.post(&format!("{path}?mode={mode}"), "");
        assert_eq!((told.status, &told.json()["restarts_so_far"]), (202, &json!(before)));
        // The order has come before the message: one mailbox, in order.
        scene.send(&scene.acceptor, Told::Ping);
        eventually("it restarts", || restarts() == before + 1);
    }
    let shown = metrics(&scene.get("/metrics").text);
    let restarts = "quorate_actor_restarts_total{node=\"n1\",actor=\"n1/g1/acceptor\"}";
    assert_eq!(shown.samples[restarts], 3.0);
    let last = scene.get("/debug/actors").json()[0]["last_panic"]["injected"].clone();
    assert_eq!(last, true);

    let answer = scene.post(&format!("{path}?mode=later"), "");
    assert_eq!(answer.status, 400);
    assert!(answer.error().contains("now, before and after"), "{}", answer.text);
    assert_eq!(scene.get(path).status, 405);
    assert_eq!(scene.post("/debug/actors/n1/g1/acceptor", "").status, 405);
    let foreign = "Origin: http://elsewhere.example\r\n";
    assert_eq!(scene.ask("POST", path, foreign, "").status, 403);
    let own = format!("Origin: http://{}\r\n", scene.http.address());
    assert_eq!(scene.ask("POST", path, &own, "").status, 202);
}

#[test]
fn nothing_breaks_without_the_switch() {
    let scene = scene(false);
    for path in
        ["/debug/actors/n1/g1/acceptor/crash", "/debug/actors/n1/nobody/crash", "/debug/faults"]
    {
        let answer = scene.post(path, "{}");
        assert_eq!(answer.status, 403, "{path}");
        assert!(answer.error().contains("faults = true"), "{}", answer.text);
    }
    assert_eq!(scene.get("/debug/faults").status, 200);
    assert_eq!(scene.get("/debug/actors").json()[0]["restarts"], 0);
}

#[test]
fn who_does_not_exist_is_answered_with_who_does() {
    let scene = scene(true);
    for path in
        ["n1/g9/acceptor", "n1/g1/nobody", "x", "%ff", "n1/g1/learner/mailbox", "n1//rsm/mailbox"]
    {
        let answer = scene.get(&format!("/debug/actors/{path}"));
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.error().contains("see `actors`"), "{}", answer.text);
        assert_eq!(answer.json()["actors"], json!(["n1/g1/acceptor", "n1/g1/rsm"]));
    }
    let elsewhere = scene.post("/debug/actors/n2/g1/acceptor/crash", "");
    assert_eq!(elsewhere.status, 404);
    assert!(elsewhere.error().contains("lives on n2"), "{}", elsewhere.text);

    let answer = scene.get("/debug/nothing");
    assert_eq!(answer.status, 404);
    assert!(answer.text.contains("GET /debug/actors/{name}/mailbox"), "{}", answer.text);
    let answer = scene.ask("DELETE", "/debug/actors", "", "");
    assert_eq!(answer.status, 405);
    assert!(answer.text.contains("GET /debug/actors"), "{}", answer.text);
}

#[test]
fn faults_reach_the_links() {
    let scene = build(Plan { faults_allowed: true, linked: true, ..Plan::default() });
    let cluster = scene.cluster.clone().unwrap();
    assert_eq!(scene.get("/debug/faults").json()["links"], json!([]));

    let cut = r#"{"links": [{"from": 1, "to": 2, "switches": {"cut": true}}]}"#;
    let set = scene.post("/debug/faults", cut);
    assert_eq!((set.status, &set.json()["links"][0]["switches"]["cut"]), (200, &json!(true)));
    assert_eq!(scene.get("/debug/faults").json(), set.json());
    cluster.send(Parcel {
        from: name(Role::Acceptor),
        to: name(Role::Acceptor).on(NodeId(2)),
        class: Class::Request,
        kind: "Ping",
        body: bytes::Bytes::from_static(b"ping"),
    });
    let lost = "quorate_cluster_dropped_parcels_total{node=\"n1\",peer=\"n2\",reason=\"cut\"}";
    eventually("the cut counts", || {
        metrics(&scene.get("/metrics").text).samples.get(lost) == Some(&1.0)
    });

    for (bad, why) in [
        ("cut everything", "expected value"),
        ("", "EOF"),
        (r#"{"everywhere": {"drop": 3}}"#, "drop_permille"),
        (r#"{"everywhere": {"drop_permille": 1001}}"#, "from 0 to 1000"),
        (r#"{"links": [{"from": 1, "to": 7, "switches": {"cut": true}}]}"#, "n7"),
    ] {
        let answer = scene.post("/debug/faults", bad);
        assert_eq!(answer.status, 400, "{bad}");
        assert!(answer.error().contains(why), "{}", answer.text);
    }
    assert_eq!(scene.get("/debug/faults").json(), set.json(), "what is bad changes nothing");
    let long = format!("{{{}}}", " ".repeat(quorate_dashboard::BODY_BYTES_MAX));
    assert_eq!(scene.post("/debug/faults", &long).status, 413);

    assert_eq!(scene.post("/debug/faults", "{}").status, 200);
    assert_eq!(scene.get("/debug/faults").json()["links"], json!([]));
}

#[test]
fn a_node_without_links_has_no_faults() {
    let scene = scene(true);
    let answer = scene.post("/debug/faults", "{}");
    assert_eq!(answer.status, 409);
    assert!(answer.error().contains("no links"), "{}", answer.text);
}

#[test]
fn what_is_not_http_harms_nothing() {
    let scene = scene(true);
    let address = scene.http.address();
    let noise: Vec<u8> =
        (0..4096u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let header = |len: usize| {
        format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: {}\r\n\r\n", "x".repeat(len))
    };
    let path =
        format!("GET /{} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "x".repeat(3000));
    let endless = format!("GET /{}", "x".repeat(300_000));
    for (bytes, expected) in [
        (&noise[..], Some(400)),
        (b"*1\r\n$4\r\nPING\r\n", Some(400)),
        (b"GET / HTTP/9.9\r\n\r\n", Some(400)),
        (header(20_000).as_bytes(), Some(431)),
        (header(300_000).as_bytes(), None),
        (path.as_bytes(), Some(414)),
        (endless.as_bytes(), None),
    ] {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
        let answer = parse(&raw(address, bytes));
        if let Some(status) = expected {
            assert_eq!(answer.map(|answer| answer.status), Some(status), "{shown}");
        } else {
            assert!(answer.is_none_or(|answer| answer.status >= 400), "{shown}");
        }
        assert_eq!(scene.get("/healthz").status, 200, "{shown}");
    }
}

#[test]
fn what_does_not_go_on_is_given_up() {
    let scene = build(Plan { faults_allowed: true, linked: true, ..Plan::default() });
    let address = scene.http.address();
    let half = "POST /debug/faults HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{";
    std::thread::scope(|scope| {
        for unfinished in ["\r\n\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\n", half] {
            scope.spawn(move || {
                let answer = parse(&raw(address, unfinished.as_bytes()));
                assert_eq!(answer.map(|answer| answer.status), Some(408), "{unfinished:?}");
            });
        }
    });
    assert!(scene.get("/debug/faults").json()["links"].as_array().unwrap().is_empty());
}

#[test]
fn who_only_holds_connections_is_closed_and_others_get_through() {
    let scene = scene(false);
    let address = scene.http.address();
    let silent: Vec<_> = (0..2 * quorate_dashboard::CONNECTIONS_MAX)
        .map(|_| std::net::TcpStream::connect(address).unwrap())
        .collect();
    assert_eq!(scene.get("/healthz").status, 200);
    drop(silent);
}

#[test]
fn the_metrics_have_names_and_types() {
    let scene = build(Plan { linked: true, ..Plan::default() });
    scene.send(&scene.acceptor, Told::Ping);
    eventually("the ping is handled", || scene.acceptor.stats().handled_of("Ping") == 1);
    let answer = scene.get("/metrics");
    assert!(answer.head.contains("content-type: application/openmetrics-text"), "{}", answer.head);
    let shown = metrics(&answer.text);
    for (family, kind) in [
        ("build", "info"),
        ("uptime_seconds", "gauge"),
        ("actor_messages_enqueued", "counter"),
        ("actor_messages_handled", "counter"),
        ("actor_mailbox_depth", "gauge"),
        ("actor_busy_seconds", "gauge"),
        ("actor_restarts", "counter"),
        ("cluster_sent_parcels", "counter"),
        ("cluster_sent_bytes", "counter"),
        ("cluster_received_parcels", "counter"),
        ("cluster_received_bytes", "counter"),
        ("cluster_dropped_parcels", "counter"),
        ("cluster_connects", "counter"),
        ("cluster_refusals", "counter"),
        ("cluster_refusals_by_peer", "counter"),
        ("cluster_alarms", "counter"),
        ("cluster_queued_bytes", "gauge"),
        ("journal_syncs", "counter"),
        ("journal_bytes", "counter"),
        ("journal_records", "counter"),
        ("rsm_answered", "gauge"),
        ("rsm_ready", "gauge"),
        ("rsm_leader", "gauge"),
        ("rsm_applied", "gauge"),
        ("rsm_checkpointed", "gauge"),
        ("rsm_log_bytes", "gauge"),
        ("rsm_checkpoints_taken", "counter"),
        ("rsm_checkpoints_installed", "counter"),
        ("rsm_waiting", "gauge"),
        ("rsm_commands", "counter"),
        ("rsm_duplicates", "counter"),
    ] {
        assert_eq!(shown.types[&format!("quorate_{family}")], kind, "{family}");
    }
    assert_eq!(shown.types.len(), 31);
    let labels = "{node=\"n1\",actor=\"n1/g1/acceptor\",kind=\"Ping\"}";
    let ping = |what| format!("quorate_actor_messages_{what}_total{labels}");
    assert_eq!(shown.samples[&ping("enqueued")], 1.0);
    assert_eq!(shown.samples[&ping("handled")], 1.0);
    assert_eq!(shown.samples["quorate_cluster_connects_total{node=\"n1\",peer=\"n2\"}"], 0.0);
    assert_eq!(shown.samples["quorate_build_info{node=\"n1\",version=\"0.0.0-test\"}"], 1.0);
}

#[test]
fn looking_sends_nothing_but_ask_status() {
    let scene = build(Plan { linked: true, ..Plan::default() });
    let cluster = scene.cluster.clone().unwrap().mailbox();
    let others = || (scene.acceptor.stats().actor().enqueued, cluster.stats().actor().enqueued);
    let before = others();
    for _ in 0..20 {
        for path in [
            "/",
            "/page.js",
            "/page.css",
            "/debug/actors",
            "/debug/actors/n1/g1/acceptor",
            "/debug/actors/n1/g1/acceptor/mailbox",
            "/debug/actors/n1/cluster/mailbox",
            "/debug/status",
            "/debug/faults",
            "/metrics",
            "/healthz",
            "/readyz",
        ] {
            let answer = scene.get(path);
            assert!([200, 503].contains(&answer.status), "{path}: {}", answer.text);
            let head = scene.ask("HEAD", path, "", "");
            assert_eq!((head.status, head.text.as_str()), (answer.status, ""), "{path}");
        }
    }
    assert_eq!(others(), before);
    let rsm = scene.rsm.stats().mailbox();
    assert_eq!(rsm.kinds.iter().map(|kind| kind.enqueued).sum::<u64>(), 2 * 20 * 3);
    assert_eq!(scene.rsm.stats().handled_of("AskStatus"), 2 * 20 * 3);
}

#[test]
fn a_checkpoint_is_asked_for_and_looked_at() {
    let status = Status { checkpointed: 10, taken: 2, applied: 12, ..Status::default() };
    let scene = build(Plan { status, ..Plan::default() });
    let asked = scene.ask("POST", "/debug/checkpoint", "", "");
    assert_eq!(asked.status, 202, "{}", asked.text);
    eventually("the rsm is told", || scene.rsm.stats().handled_of("TakeCheckpoint") == 1);
    assert_eq!(
        scene.get("/debug/checkpoint").json(),
        json!({ "checkpointed": 10, "taken": 2, "applied": 12 })
    );
    assert_eq!(scene.rsm.stats().handled_of("TakeCheckpoint"), 1, "looking asks for nothing");
}

#[test]
fn the_page_is_whole() {
    let scene = scene(false);
    let page = scene.get("/");
    assert!(page.head.contains("content-type: text/html"), "{}", page.head);
    assert!(page.head.contains("content-security-policy: default-src 'self'"), "{}", page.head);
    for part in page.text.split('"').filter(|part| part.starts_with('/')) {
        assert_eq!(scene.get(part).status, 200, "{part}");
    }
    assert!(scene.get("/page.js").head.contains("content-type: text/javascript"));
}

#[test]
fn stopping_closes_the_port() {
    let scene = scene(false);
    let address = scene.http.address();
    assert_eq!(scene.get("/healthz").status, 200);
    scene.http.stop();
    assert!(std::net::TcpStream::connect(address).is_err());
    std::net::TcpListener::bind(address).unwrap();
}
