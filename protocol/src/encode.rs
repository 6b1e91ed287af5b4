//! The one encoding of what actors say, keep and put into the log: MessagePack, structures as arrays.

use bytes::Bytes;
use serde::Serialize;

/// Plain data as bytes.
///
/// # Panics
/// If `what` cannot be encoded: it is not plain data.
pub fn encode(what: &impl Serialize) -> Bytes {
    rmp_serde::to_vec(what).expect("plain data always encodes into memory").into()
}
