//! Which of the 16384 hash slots a key belongs to, exactly as Redis Cluster has it, so that
//! cluster-aware clients and this store always agree.

use std::fmt;

/// The number of hash slots of Redis Cluster.
pub const HASH_SLOT_COUNT: u16 = 16384;

/// The number of a hash slot, below [`HASH_SLOT_COUNT`]. (A bare "slot" is a place in the log.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HashSlot(u16);

impl HashSlot {
    /// The slot of a key. When the key holds a `{tag}`, only the tag is hashed, so that keys with
    /// the same tag share a slot.
    pub fn of(key: &[u8]) -> HashSlot {
        HashSlot(crc16(tag(key)) % HASH_SLOT_COUNT)
    }

    /// The slot of this number; of one that is too high, the last.
    pub fn numbered(number: u16) -> HashSlot {
        HashSlot(number.min(HASH_SLOT_COUNT - 1))
    }

    /// The slot's number, from 0.
    pub fn number(self) -> u16 {
        self.0
    }

    /// The slot's place in a table that has one row per slot.
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for HashSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "h{}", self.0)
    }
}

/// What is hashed of a key: the bytes between the first `{` and the first `}` after it, when there
/// is at least one; otherwise the whole key.
fn tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&b| b == b'{') else { return key };
    let inner = &key[open + 1..];
    match inner.iter().position(|&b| b == b'}') {
        Some(0) | None => key,
        Some(close) => &inner[..close],
    }
}

/// CRC16 in its XMODEM form: polynomial 0x1021, initially 0, nothing reflected.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| {
        let [high, _] = crc.to_be_bytes();
        (crc << 8) ^ CRC16[usize::from(high ^ byte)]
    })
}

/// The remainder that each byte leaves.
const CRC16: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc16_known_vectors() {
        assert_eq!(crc16(b""), 0);
        assert_eq!(crc16(b"123456789"), 0x31c3, "the check value of CRC-16/XMODEM");
    }

    #[test]
    fn slots_are_those_of_redis_cluster() {
        // Each answered by CLUSTER KEYSLOT of redis-server 7.0.15.
        for (key, slot) in [
            (&b""[..], 0),
            (b"a", 15495),
            (b"foo", 12182),
            (b"123456789", 12739),
            (b"{a}b", 15495),
            (b"x{foo}y{bar}", 12182),
            (b"{}foo", 9500),
            (b"foo{", 7673),
            (b"foo}{bar", 7624),
            (b"{{foo}}", 13308),
            (b"\xff\x00\r\n", 7349),
        ] {
            assert_eq!(HashSlot::of(key).number(), slot, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn a_tag_needs_a_byte_between_its_braces() {
        assert_eq!(tag(b"{user}.name"), b"user");
        assert_eq!(tag(b"{}{user}"), b"{}{user}", "only the first brace counts");
        assert_eq!(tag(b"}{user}"), b"user");
        assert_eq!(tag(b"{user"), b"{user");
    }
}
