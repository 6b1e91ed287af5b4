//! Who is sent elsewhere: MOVED and CROSSSLOT, as Redis Cluster has them, where the configuration asks
//! for it. Whoever is not sent away is answered, from whatever node the answer must come.

use bytes::Bytes;
use quorate_kvserver::HashSlot;

use super::table::Spec;
use crate::resp::Value;
use crate::{NodeInfo, Redirect, Session};

/// What to answer instead, if the client is to ask somebody else. As in Redis this comes before the
/// arguments are looked at. Nobody is sent here, nor to where the leader is only guessed: two nodes that
/// guess could send a client to and fro.
pub(super) fn elsewhere(
    spec: &Spec,
    args: &[Bytes],
    session: &Session,
    node: &NodeInfo,
) -> Option<Value> {
    if node.redirect == Redirect::Never {
        return None;
    }
    let mut slots = spec.keys_of(args).map(|key| HashSlot::of(key).number());
    let slot = slots.next()?;
    if slots.any(|other| other != slot) {
        return Some(Value::error("CROSSSLOT Keys in request don't hash to the same slot"));
    }
    let row = node.map.row(slot);
    let by_replica = session.reads_replicas && spec.has_flag("readonly");
    if row.first == 0 || !row.leads || by_replica && row.replicas.contains(&0) {
        return None;
    }
    let leader = node.member(row.first);
    Some(Value::error(format!("MOVED {slot} {}:{}", leader.host, leader.port)))
}
