//! Values: GET, SET and everything that changes a part of a value.

use quorate_kvserver::{Condition, Op};

use super::table::Spec;
use super::{Action, Call, Parsed, Shape, error};
use crate::resp::Value;

pub(super) const COMMANDS: &[Spec] = &[
    string("append", 3, append)
        .flags("write denyoom fast")
        .since("2.0.0")
        .says("key value", "Appends to a value, which is made when absent"),
    string("decr", 2, decr).flags("write denyoom fast").says("key", "Subtracts 1 from an integer"),
    string("decrby", 3, decrby)
        .flags("write denyoom fast")
        .says("key decrement", "Subtracts from an integer"),
    string("get", 2, get).flags("readonly fast").says("key", "Gives the value of a key"),
    string("getdel", 2, getdel)
        .flags("write fast")
        .since("6.2.0")
        .says("key", "Removes a key and gives what it held"),
    string("getrange", 4, getrange)
        .flags("readonly")
        .since("2.4.0")
        .says("key start end", "Gives a part of a value"),
    string("getset", 3, getset)
        .flags("write denyoom fast")
        .says("key value", "Stores a value and gives the former one"),
    string("incr", 2, incr).flags("write denyoom fast").says("key", "Adds 1 to an integer"),
    string("incrby", 3, incrby)
        .flags("write denyoom fast")
        .says("key increment", "Adds to an integer"),
    string("mget", -2, mget)
        .flags("readonly fast")
        .keys(1, -1, 1)
        .says("key...", "Gives the values of several keys, each at one moment"),
    string("mset", -3, mset)
        .flags("write denyoom")
        .keys(1, -1, 2)
        .since("1.0.1")
        .says("key value [key value...]", "Stores several values, each key by itself"),
    string("set", -3, set).flags("write denyoom").says("key value [NX|XX] [GET]", "Stores a value"),
    string("setnx", 3, setnx)
        .flags("write denyoom fast")
        .says("key value", "Stores a value when the key is absent"),
    string("setrange", 4, setrange)
        .flags("write denyoom")
        .since("2.2.0")
        .says("key offset value", "Writes over a part of a value"),
    string("strlen", 2, strlen)
        .flags("readonly fast")
        .since("2.2.0")
        .says("key", "Gives the length of a value"),
    string("substr", 4, getrange)
        .flags("readonly")
        .says("key start end", "Gives a part of a value (an older name of GETRANGE)"),
];

const fn string(name: &'static str, arity: i32, run: fn(&mut Call<'_>) -> Parsed) -> Spec {
    Spec::new(name, arity, "string", run).keys(1, 1, 1)
}

fn operate(op: Op, shape: Shape) -> Parsed {
    Ok(Action::Operate { op, shape })
}

fn get(call: &mut Call<'_>) -> Parsed {
    operate(Op::Get { key: call.key(1)? }, Shape::Value)
}

fn set(call: &mut Call<'_>) -> Parsed {
    let (mut condition, mut want_old) = (Condition::Always, false);
    // The place of the time of an expiry, or of KEEPTTL; at most one may be given.
    let mut expiry: Option<Option<usize>> = None;
    let mut at = 3;
    while at < call.len() {
        if call.is(at, "NX") && condition != Condition::IfPresent {
            condition = Condition::IfAbsent;
        } else if call.is(at, "XX") && condition != Condition::IfAbsent {
            condition = Condition::IfPresent;
        } else if call.is(at, "GET") {
            want_old = true;
        } else if call.is(at, "KEEPTTL") && matches!(expiry, None | Some(None)) {
            expiry = Some(None);
        } else if ["EX", "PX", "EXAT", "PXAT"].iter().any(|word| call.is(at, word))
            && expiry.is_none()
            && at + 1 < call.len()
        {
            at += 1;
            expiry = Some(Some(at));
        } else {
            return Err(error::fixed(error::SYNTAX));
        }
        at += 1;
    }
    if let Some(expiry) = expiry {
        return Err(no_expiry(call, expiry));
    }
    let (key, value) = (call.key(1)?, call.value(2)?);
    let shape = if want_old { Shape::Old } else { Shape::Ok };
    operate(Op::Put { key, value, condition, want_old }, shape)
}

/// What Redis would refuse is refused in its words; the rest because it does not exist here.
fn no_expiry(call: &Call<'_>, time: Option<usize>) -> Value {
    match time.map(|at| call.integer(at)) {
        Some(Err(error)) => error,
        Some(Ok(..=0)) => error::fixed("ERR invalid expire time in 'set' command"),
        _ => error::fixed(
            "ERR keys do not expire here: EX, PX, EXAT, PXAT and KEEPTTL are not supported yet; \
             the value was not stored",
        ),
    }
}

fn setnx(call: &mut Call<'_>) -> Parsed {
    let (key, value) = (call.key(1)?, call.value(2)?);
    operate(Op::Put { key, value, condition: Condition::IfAbsent, want_old: false }, Shape::Flag)
}

fn getset(call: &mut Call<'_>) -> Parsed {
    let (key, value) = (call.key(1)?, call.value(2)?);
    operate(Op::Put { key, value, condition: Condition::Always, want_old: true }, Shape::Old)
}

fn getdel(call: &mut Call<'_>) -> Parsed {
    operate(Op::Take { key: call.key(1)? }, Shape::Value)
}

fn append(call: &mut Call<'_>) -> Parsed {
    operate(Op::Append { key: call.key(1)?, value: call.value(2)? }, Shape::Number)
}

fn strlen(call: &mut Call<'_>) -> Parsed {
    operate(Op::Get { key: call.key(1)? }, Shape::Length)
}

fn mget(call: &mut Call<'_>) -> Parsed {
    operate(Op::GetMany { keys: call.keys_from(1)? }, Shape::Values)
}

fn mset(call: &mut Call<'_>) -> Parsed {
    if call.len().is_multiple_of(2) {
        return Err(error::wrong_arity("mset"));
    }
    call.check_total(1)?;
    let pairs = (1..call.len()).step_by(2).map(|at| Ok((call.key(at)?, call.value(at + 1)?)));
    operate(Op::PutMany { pairs: pairs.collect::<Result<_, Value>>()? }, Shape::Ok)
}

fn incr(call: &mut Call<'_>) -> Parsed {
    operate(Op::Add { key: call.key(1)?, delta: 1 }, Shape::Number)
}

fn decr(call: &mut Call<'_>) -> Parsed {
    operate(Op::Add { key: call.key(1)?, delta: -1 }, Shape::Number)
}

fn incrby(call: &mut Call<'_>) -> Parsed {
    let delta = call.integer(2)?;
    operate(Op::Add { key: call.key(1)?, delta }, Shape::Number)
}

fn decrby(call: &mut Call<'_>) -> Parsed {
    let Some(delta) = call.integer(2)?.checked_neg() else {
        return Err(error::fixed("ERR decrement would overflow"));
    };
    operate(Op::Add { key: call.key(1)?, delta }, Shape::Number)
}

fn getrange(call: &mut Call<'_>) -> Parsed {
    let (start, end) = (call.integer(2)?, call.integer(3)?);
    operate(Op::Get { key: call.key(1)? }, Shape::Range { start, end })
}

fn setrange(call: &mut Call<'_>) -> Parsed {
    let Ok(offset) = u64::try_from(call.integer(2)?) else {
        return Err(error::fixed("ERR offset is out of range"));
    };
    operate(Op::Overwrite { key: call.key(1)?, offset, value: call.value(3)? }, Shape::Number)
}
