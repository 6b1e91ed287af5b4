//! Integers as decimal text, in the one form that Redis accepts.

/// Reads a decimal integer of 64 bits in its canonical form: what formatting the number would give.
/// No sign but a leading minus, no leading zero, no `-0`, no space.
pub fn canonical_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [] => return None,
        [b'0'] => return (!negative).then_some(0),
        [b'0', ..] => return None,
        _ => {}
    }
    // Counted downwards, since the smallest number has no positive counterpart.
    let mut number: i64 = 0;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number.checked_mul(10)?.checked_sub(i64::from(digit - b'0'))?;
    }
    if negative { Some(number) } else { number.checked_neg() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_canonical_number_is_read() {
        for number in [0, 1, -1, 9, 10, -10, 12345, i64::MAX, i64::MIN, i64::MAX - 1, i64::MIN + 1]
        {
            assert_eq!(canonical_i64(number.to_string().as_bytes()), Some(number));
        }
    }

    #[test]
    fn any_other_form_is_refused() {
        for text in [
            "",
            "-",
            "-0",
            "+1",
            "01",
            "-01",
            "00",
            " 1",
            "1 ",
            "1.0",
            "1e3",
            "0x1",
            "abc",
            "9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999999999",
        ] {
            assert_eq!(canonical_i64(text.as_bytes()), None, "{text:?}");
        }
    }
}
