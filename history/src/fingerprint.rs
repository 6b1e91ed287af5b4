//! Fingerprints of strings that grow: a polynomial modulo 2^61 - 1, so that the fingerprint of a
//! concatenation follows from those of its parts.
//!
//! Equal strings have equal fingerprints. Two different strings of length n share one with a chance
//! of about n / 2^61; [`crate::check`] says what follows from that.

/// A Mersenne prime: reducing modulo it is a shift and an addition.
const MODULUS: u64 = (1 << 61) - 1;

/// The point at which the polynomial is taken; any large number will do.
const BASE: u64 = 0x0b5a_d4ec_eda1_ce2a;

/// Powers of the base, for eight bytes at a time.
const POWERS: [u64; 9] = {
    let mut powers = [1; 9];
    let mut place = 1;
    while place < 9 {
        powers[place] = multiply(powers[place - 1], BASE);
        place += 1;
    }
    powers
};

const fn reduce(wide: u128) -> u64 {
    let folded = (wide & MODULUS as u128) as u64 + (wide >> 61) as u64;
    if folded >= MODULUS { folded - MODULUS } else { folded }
}

const fn multiply(a: u64, b: u64) -> u64 {
    reduce(a as u128 * b as u128)
}

/// The hash of a string, given the hash of what comes before these bytes.
fn extend(hash: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut hash = hash;
    for word in words {
        // Below 2^122 + 8 * 2^70: no overflow before the one reduction.
        let mut wide = u128::from(hash) * u128::from(POWERS[8]);
        for (place, byte) in word.iter().enumerate() {
            wide += u128::from(*byte) * u128::from(POWERS[7 - place]);
        }
        hash = reduce(wide);
    }
    for byte in rest {
        hash = reduce(u128::from(hash) * u128::from(BASE) + u128::from(*byte));
    }
    hash
}

/// The fingerprint of a string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Print {
    /// Its length in bytes.
    pub(crate) len: u64,
    hash: u64,
}

impl Print {
    /// Takes the fingerprint of a string.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Print::default().then(bytes)
    }

    /// The fingerprint of this string with those bytes after it.
    pub(crate) fn then(self, bytes: &[u8]) -> Self {
        Print { len: self.len + bytes.len() as u64, hash: extend(self.hash, bytes) }
    }

    /// The fingerprints of every prefix of a string, from the empty one to the whole.
    pub(crate) fn of_prefixes(bytes: &[u8]) -> Vec<Self> {
        let mut print = Print::default();
        let mut prints = vec![print];
        for byte in bytes {
            print = print.then(&[*byte]);
            prints.push(print);
        }
        prints
    }

    /// Both numbers in one, for the memo.
    pub(crate) fn folded(self) -> u64 {
        self.hash ^ self.len.rotate_left(48)
    }
}

/// The fingerprint of something to append, with what appending it needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suffix {
    print: Print,
    /// The base to the power of the length.
    power: u64,
}

impl Suffix {
    /// Prepares bytes for appending.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let (mut power, mut square, mut rest) = (1, BASE, bytes.len());
        while rest > 0 {
            if rest % 2 == 1 {
                power = multiply(power, square);
            }
            square = multiply(square, square);
            rest /= 2;
        }
        Suffix { print: Print::of(bytes), power }
    }

    /// The fingerprint of the bytes themselves.
    pub(crate) fn print(&self) -> Print {
        self.print
    }

    /// The fingerprint of a string with these bytes after it, in constant time.
    pub(crate) fn after(&self, head: Print) -> Print {
        let wide = u128::from(head.hash) * u128::from(self.power) + u128::from(self.print.hash);
        Print { len: head.len + self.print.len, hash: reduce(wide) }
    }

    /// The fingerprint of what stands between the end of a prefix and the end of a longer one, when
    /// that is as long as this suffix.
    pub(crate) fn part(&self, head: Print, whole: Print) -> Print {
        let before = multiply(head.hash, self.power);
        let hash = reduce(u128::from(whole.hash) + u128::from(MODULUS - before));
        Print { len: self.print.len, hash }
    }
}

/// How many bytes lie between two entries of a table of prefixes.
const STRIDE: usize = 64;

/// The fingerprints of every prefix of a string, in an eighth of its size.
#[derive(Clone, Debug)]
pub(crate) struct Prefixes {
    hashes: Box<[u64]>,
}

impl Prefixes {
    /// Prepares a string.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut hashes = vec![0];
        let mut hash = 0;
        for chunk in bytes.chunks_exact(STRIDE) {
            hash = extend(hash, chunk);
            hashes.push(hash);
        }
        Prefixes { hashes: hashes.into() }
    }

    /// Whether a string is a prefix of the one that was prepared, which is given once more.
    pub(crate) fn begins_with(&self, bytes: &[u8], prefix: Print) -> bool {
        let len = prefix.len as usize;
        if len > bytes.len() {
            return false;
        }
        let start = len / STRIDE;
        extend(self.hashes[start], &bytes[start * STRIDE..len]) == prefix.hash
    }
}

/// A number that looks random and depends on nothing but its index (SplitMix64).
pub(crate) const fn scatter(index: u64) -> u64 {
    let mut x = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Two such numbers side by side.
pub(crate) const fn scatter_wide(index: u64) -> u128 {
    (scatter(index.wrapping_mul(2)) as u128) << 64 | scatter(index.wrapping_mul(2) + 1) as u128
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_concatenation_follows_from_its_parts() {
        let text: Vec<u8> = (0..300u32).map(|i| (i * 7 % 256) as u8).collect();
        let table = Prefixes::of(&text);
        for cut in 0..text.len() {
            let (head, tail) = text.split_at(cut);
            assert_eq!(Suffix::of(tail).after(Print::of(head)), Print::of(&text));
            assert_eq!(Print::of(head).then(tail), Print::of(&text));
            let part = Suffix::of(tail).part(Print::of(head), Print::of(&text));
            assert_eq!(part, Print::of(tail));
            assert_eq!(Print::of_prefixes(&text)[cut], Print::of(head));
            assert!(table.begins_with(&text, Print::of(head)), "prefix of {cut}");
            assert!(cut == 0 || !table.begins_with(&text, Print::of(&text[1..=cut])));
        }
    }
}
