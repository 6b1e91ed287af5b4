//! A replicated counter, complete: the machine, and three replicas of it in a simulated world.

use quorate_protocol::NodeId;
use quorate_rsm::{At, Restore, StateMachine, Writer};
use quorate_sim::machine::run_machine;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    Inc,
    Dec,
    Read,
}

#[derive(Default)]
pub(crate) struct Counter(i64);

impl StateMachine for Counter {
    type Command = Command;
    type Reply = i64;

    fn is_read(command: &Command) -> bool {
        matches!(command, Command::Read)
    }

    fn apply(&mut self, _: At, command: Command) -> i64 {
        match command {
            Command::Inc => self.0 += 1,
            Command::Dec => self.0 -= 1,
            Command::Read => {}
        }
        self.0
    }

    fn query(&self, _: &Command) -> i64 {
        self.0
    }

    fn snapshot(&self) -> Writer {
        Writer::of(self.0.to_le_bytes().to_vec())
    }

    fn restore() -> Restore<Self> {
        Restore::whole(|bytes| {
            let bytes = bytes.try_into().map_err(|_| format!("{} bytes, not 8", bytes.len()))?;
            Ok(Counter(i64::from_le_bytes(bytes)))
        })
    }
}

fn main() {
    run_machine(1, 3, Counter::default, async |replicas| {
        for node in [1, 2, 3, 1] {
            let value = replicas.call(NodeId(node), Command::Inc).await;
            println!("Inc at n{node}: {value}");
        }
        println!("Dec at n2: {}", replicas.call(NodeId(2), Command::Dec).await);
        println!("Read at n3: {}", replicas.call(NodeId(3), Command::Read).await);
    });
}
