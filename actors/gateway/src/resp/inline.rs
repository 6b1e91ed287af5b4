//! Inline commands: a line that a person types into a raw connection, split as Redis splits it.

use bytes::{Bytes, BytesMut};

/// Splits a line into its arguments. `None`: a quote is not closed, or not followed by a space.
///
/// Double quotes know `\n \r \t \b \a \xHH`, and a backslash before any other byte stands for that
/// byte; single quotes know only `\'`. Quotes may begin in the middle of an argument.
pub(super) fn split(line: &Bytes) -> Option<Vec<Bytes>> {
    let mut args = Vec::new();
    let mut at = 0;
    loop {
        while line.get(at).is_some_and(|&byte| is_space(byte)) {
            at += 1;
        }
        if at == line.len() {
            return Some(args);
        }
        let plain = line[at..].iter().take_while(|&&byte| !ends_word(byte) && !is_quote(byte));
        let end = at + plain.count();
        if line.get(end).copied().is_none_or(ends_word) {
            args.push(line.slice(at..end));
            at = end;
        } else {
            let (arg, end) = unquote(line, at)?;
            args.push(arg);
            at = end;
        }
    }
}

/// Reads an argument that has quotes in it; gives it and the place after it.
fn unquote(line: &[u8], start: usize) -> Option<(Bytes, usize)> {
    let mut arg = BytesMut::new();
    let mut at = start;
    while let Some(&byte) = line.get(at) {
        match byte {
            b'"' | b'\'' => {
                let end = quoted(line, at, &mut arg)?;
                return line.get(end).copied().is_none_or(is_space).then(|| (arg.freeze(), end));
            }
            byte if ends_word(byte) => break,
            byte => arg.extend_from_slice(&[byte]),
        }
        at += 1;
    }
    Some((arg.freeze(), at))
}

/// Reads from an opening quote; gives the place after the closing one.
fn quoted(line: &[u8], open: usize, arg: &mut BytesMut) -> Option<usize> {
    let quote = line[open];
    let mut at = open + 1;
    loop {
        let (byte, used) = match &line[at..] {
            [] => return None,
            [byte, ..] if *byte == quote => return Some(at + 1),
            [b'\\', b'\'', ..] if quote == b'\'' => (b'\'', 2),
            [b'\\', b'x', high, low, ..]
                if quote == b'"' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                (hex(*high) << 4 | hex(*low), 4)
            }
            [b'\\', escaped, ..] if quote == b'"' => (escape(*escaped), 2),
            [byte, ..] => (*byte, 1),
        };
        arg.extend_from_slice(&[byte]);
        at += used;
    }
}

fn escape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

fn is_quote(byte: u8) -> bool {
    matches!(byte, b'"' | b'\'')
}

/// The spaces between arguments.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// What ends an argument without quotes: fewer bytes than [`is_space`], as Redis has it.
fn ends_word(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split_str(line: &str) -> Option<Vec<String>> {
        let args = split(&Bytes::copy_from_slice(line.as_bytes()))?;
        Some(args.iter().map(|arg| arg.escape_ascii().to_string()).collect())
    }

    #[test]
    fn words_and_quotes() {
        for (line, args) in [
            ("", &[][..]),
            (" \t ", &[]),
            ("PING", &["PING"]),
            ("  SET a  b\t", &["SET", "a", "b"]),
            (r#"SET a "x y\n\x41\x4a""#, &["SET", "a", r"x y\nAJ"]),
            (r#"a "\q\a\b\t\r\"\\""#, &["a", r#"q\x07\x08\t\r\"\\"#]),
            (r#"a "\xzz" "\x4""#, &["a", "xzz", "x4"]),
            (r"a 'x\'y\n'", &["a", r"x\'y\\n"]),
            (r#"a b"c d""#, &["a", "bc d"]),
            (r#""" ''"#, &["", ""]),
            ("a\u{b}b \u{b}c", &["a\\x0bb", "c"]),
            ("a\0b \0", &["a\\x00b", "\\x00"]),
        ] {
            assert_eq!(split_str(line).as_deref(), Some(&to_strings(args)[..]), "{line}");
        }
    }

    fn to_strings(args: &[&str]) -> Vec<String> {
        args.iter().map(|arg| arg.to_string()).collect()
    }

    #[test]
    fn unbalanced_quotes() {
        for line in [r#"a "b"#, "a 'b", r#"a "b"c"#, r#"'a'"b""#, r#"a "b\"#, r#"a "\""#, r"'a\'"] {
            assert_eq!(split_str(line), None, "{line}");
        }
    }
}
