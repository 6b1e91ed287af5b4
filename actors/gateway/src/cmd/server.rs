//! The node's clock, and WAIT.

use super::table::Spec;
use super::{Action, Call, Parsed, error};
use crate::resp::Value;

pub(super) const COMMANDS: &[Spec] = &[
    Spec::new("time", 1, "server", time)
        .flags("loading stale fast")
        .since("2.6.0")
        .says("", "Gives the clock of this node: seconds and microseconds since 1970"),
    Spec::new("wait", 3, "generic", wait)
        .since("3.0.0")
        .says("numreplicas timeout", "Gives how many other nodes hold what was acknowledged"),
];

fn time(call: &mut Call<'_>) -> Parsed {
    let (seconds, rest) = (call.node.now_us / 1_000_000, call.node.now_us % 1_000_000);
    let parts = [seconds, rest].map(|part| Value::bulk(part.to_string()));
    Ok(Action::Answer(Value::Array(parts.into())))
}

/// Answered behind the writes before it, which then are on a majority: there is nothing to wait
/// for.
fn wait(call: &mut Call<'_>) -> Parsed {
    call.integer(1)?;
    match call.integer(2) {
        Err(_) => Err(error::fixed("ERR timeout is not an integer or out of range")),
        Ok(..=-1) => Err(error::fixed("ERR timeout is negative")),
        Ok(_) => Ok(Action::Answer(Value::count(call.node.copies_elsewhere()))),
    }
}
