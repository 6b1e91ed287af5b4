//! Versions, which Redis does not have: the versioned Get and Put of Lab 2 (6.5840, 2026).

use quorate_kvserver::{Condition, Op, Version};

use super::table::Spec;
use super::{Action, Call, Parsed, Shape, error};

pub(super) const COMMANDS: &[Spec] = &[
    Spec::new("vget", 2, "string", vget)
        .flags("readonly fast")
        .keys(1, 1, 1)
        .since("0.1.0")
        .says("key", "Gives the value of a key and its version"),
    Spec::new("vput", 4, "string", vput)
        .flags("write denyoom fast")
        .keys(1, 1, 1)
        .since("0.1.0")
        .says("key value version", "Stores a value when the version is this one; 0: when absent"),
];

fn vget(call: &mut Call<'_>) -> Parsed {
    Ok(Action::Operate { op: Op::Get { key: call.key(1)? }, shape: Shape::Versioned })
}

fn vput(call: &mut Call<'_>) -> Parsed {
    let Ok(version) = u64::try_from(call.integer(3)?) else {
        return Err(error::fixed(error::NOT_AN_INTEGER));
    };
    let (key, value) = (call.key(1)?, call.value(2)?);
    let condition = Condition::IfVersion(Version(version));
    let op = Op::Put { key, value, condition, want_old: false };
    Ok(Action::Operate { op, shape: Shape::Version })
}
