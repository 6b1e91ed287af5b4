//! The machine of the example `counter`, while its actors crash and its nodes are killed.

use quorate_protocol::{NodeId, Role};
use quorate_sim::{
    for_each_seed,
    machine::{Replicas, run_machine},
};
use quorate_stage::CrashMode;

#[expect(dead_code, reason = "the example's own main")]
#[path = "../examples/counter.rs"]
mod counter;

use counter::{Command, Counter};

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

/// Three clients, each at a replica of its own, count up `each` times; meanwhile `harm` is done.
async fn count(
    replicas: &Replicas<Counter>,
    each: i64,
    harm: impl AsyncFnOnce(&Replicas<Counter>),
) -> i64 {
    let client = |node| {
        let replicas = replicas.clone();
        replicas.world().clone().spawn(async move {
            for _ in 0..each {
                replicas.call(node, Command::Inc).await;
            }
        })
    };
    let clients = NODES.map(client);
    harm(replicas).await;
    assert!(clients.iter().any(|client| !client.is_finished()), "harm came while they counted");
    for client in clients {
        client.await.expect("a client only waits and counts");
    }
    let mut values = vec![];
    for node in NODES {
        values.push(replicas.call(node, Command::Read).await);
    }
    assert_eq!(values, vec![values[0]; 3], "every replica answers the same");
    values[0]
}

#[test]
fn every_command_takes_effect_once_while_each_actor_of_the_group_crashes() {
    for_each_seed("counter", 3, |seed| {
        run_machine(seed, 3, Counter::default, async |replicas| {
            let value = count(&replicas, 200, async |replicas| {
                let roles = [Role::Rsm, Role::Proposer, Role::Acceptor, Role::Learner];
                let modes = [CrashMode::Now, CrashMode::BeforeNext, CrashMode::AfterNext];
                for i in 0..60 {
                    replicas.world().sleep_ms(7).await;
                    let (role, mode) = (roles[i % roles.len()], modes[i % modes.len()]);
                    replicas.crash(NODES[i / 2 % NODES.len()], role, mode);
                }
            })
            .await;
            assert_eq!(value, 600, "seed {seed}");
        });
    });
}

#[test]
fn what_was_answered_survives_the_kill_of_every_node() {
    run_machine(7, 3, Counter::default, async |replicas| {
        let value = count(&replicas, 400, async |replicas| {
            for node in NODES {
                replicas.world().sleep_ms(100).await;
                replicas.kill(node);
                replicas.world().sleep_ms(300).await;
                replicas.start(node);
            }
        })
        .await;
        assert_eq!(value, 1200);
        for node in NODES {
            replicas.kill(node);
        }
        for node in NODES {
            replicas.start(node);
        }
        assert_eq!(replicas.call(NodeId(2), Command::Read).await, 1200);
        assert_eq!(replicas.call(NodeId(3), Command::Dec).await, 1199);
        let status = replicas.status(NodeId(3)).await.expect("it runs");
        assert!(status.ready && status.applied > 0);
    });
}

#[test]
fn one_seed_is_one_run() {
    let run = || {
        run_machine(11, 3, Counter::default, async |replicas| {
            count(&replicas, 20, async |_| {}).await;
            replicas.world().trace.hash()
        })
    };
    assert_eq!(run(), run());
}
