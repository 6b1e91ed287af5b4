//! Patterns as in CONFIG GET: `*`, `?`, `[a-c]`, `[^a]`, and a backslash before any of them.

/// Whether a text fits a pattern, letters in any case. Takes time in proportion to the product of
/// the two lengths at most, whatever the pattern.
pub(super) fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // After the last star: where the pattern goes on, and which byte the star has reached.
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            star = Some((p, t));
            continue;
        }
        if p == pattern.len() && t == text.len() {
            return true;
        }
        match text.get(t).and_then(|&byte| one(&pattern[p..], byte)) {
            Some(used) => (p, t) = (p + used, t + 1),
            None => match star {
                Some((after, reached)) if reached < text.len() => {
                    star = Some((after, reached + 1));
                    (p, t) = (after, reached + 1);
                }
                _ => return false,
            },
        }
    }
}

/// Whether the front of a pattern fits one byte; gives the length of that front.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    let (fits, used) = match pattern {
        [] => return None,
        [b'?', ..] => (true, 1),
        [b'[', class @ ..] => {
            let (fits, used) = in_class(class, byte);
            (fits, used + 1)
        }
        [b'\\', escaped, ..] => (same(*escaped, byte), 2),
        [plain, ..] => (same(*plain, byte), 1),
    };
    fits.then_some(used)
}

/// Whether a byte is in the class that begins here, after its bracket; and the length of the class,
/// its closing bracket included. A class that is not closed ends with the pattern.
fn in_class(class: &[u8], byte: u8) -> (bool, usize) {
    let inverted = class.first() == Some(&b'^');
    let byte = byte.to_ascii_lowercase();
    let (mut at, mut found) = (usize::from(inverted), false);
    loop {
        match &class[at..] {
            [] => return (found != inverted, at),
            [b']', ..] => return (found != inverted, at + 1),
            [b'\\', escaped, ..] => {
                found |= same(*escaped, byte);
                at += 2;
            }
            [low, b'-', high, ..] => {
                let (low, high) = (low.to_ascii_lowercase(), high.to_ascii_lowercase());
                found |= (low.min(high)..=low.max(high)).contains(&byte);
                at += 3;
            }
            [plain, ..] => {
                found |= same(*plain, byte);
                at += 1;
            }
        }
    }
}

fn same(a: u8, b: u8) -> bool {
    a.eq_ignore_ascii_case(&b)
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("max*", "maxmemory", true),
            ("MAX*y", "maxmemory", true),
            ("*mem*", "maxmemory", true),
            ("*x", "maxmemory", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[a-c]x", "Bx", true),
            ("[c-a]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("[abc", "b", true),
            ("[]x", "x", false),
            (r"a\*c", "a*c", true),
            (r"a\*c", "abc", false),
            (r"[\]]", "]", true),
            ("a**c", "abc", true),
            ("*a*b", "ab ab a", false),
            ("\\", "\\", true),
        ] {
            assert_eq!(fits(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn no_pattern_takes_for_ever() {
        let pattern = "a*".repeat(2000) + "b";
        assert!(!fits(pattern.as_bytes(), "a".repeat(20_000).as_bytes()));
    }
}
