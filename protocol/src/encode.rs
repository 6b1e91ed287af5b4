//! The one encoding of what actors say, keep and put into the log: MessagePack, structures as arrays.

use std::cell::Cell;

use bytes::Bytes;
use serde::Serialize;

/// Bytes of the buffer that a thread keeps.
const KEPT_BYTES: usize = 1024 * 1024;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(vec![]) };
}

/// Plain data as bytes, in an allocation of just their length: a buffer that grows while a large value is
/// written into it would be copied, and its pages made anew by the system, again and again.
///
/// # Panics
/// If `what` cannot be encoded: it is not plain data.
pub fn encode(what: &impl Serialize) -> Bytes {
    // Taken, not borrowed: whatever encodes within this finds an empty one.
    let mut buffer = BUFFER.take();
    buffer.clear();
    rmp_serde::encode::write(&mut buffer, what).expect("plain data always encodes into memory");
    let bytes = Bytes::copy_from_slice(&buffer);
    if buffer.capacity() <= KEPT_BYTES {
        BUFFER.set(buffer);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use serde::{Serialize, Serializer};

    use super::encode;

    struct Nested;

    impl Serialize for Nested {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(&encode(&"within"))
        }
    }

    #[test]
    fn what_comes_out_is_what_the_codec_makes_of_it() {
        for len in [0, 1, 300, 2 * super::KEPT_BYTES, 5] {
            let text = "x".repeat(len);
            assert_eq!(encode(&text)[..], rmp_serde::to_vec(&text).unwrap());
        }
    }

    #[test]
    fn an_encoding_within_an_encoding_is_whole() {
        let within = rmp_serde::to_vec("within").unwrap();
        let mut expected = vec![];
        rmp_serde::encode::write(&mut expected, &("a", bytes::Bytes::from(within))).unwrap();
        assert_eq!(encode(&("a", Nested))[..], expected);
    }
}
