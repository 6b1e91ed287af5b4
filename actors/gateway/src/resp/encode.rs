//! Answers to bytes.

use bytes::{BufMut, BytesMut};

use super::{Protocol, Value};

/// Appends an answer in the form of this protocol.
pub fn encode(value: &Value, protocol: Protocol, out: &mut BytesMut) {
    let resp3 = protocol == Protocol::Resp3;
    match value {
        Value::Simple(text) => line(b'+', text, out),
        Value::Error(text) => line(b'-', text, out),
        Value::Integer(number) => integer(b':', *number, out),
        Value::Bulk(bytes) => bulk(bytes, out),
        Value::Verbatim(text) if resp3 => {
            length(b'=', text.len() + 4, out);
            out.put_slice(b"txt:");
            out.put_slice(text);
            out.put_slice(b"\r\n");
        }
        Value::Verbatim(text) => bulk(text, out),
        Value::Null | Value::NullArray if resp3 => out.put_slice(b"_\r\n"),
        Value::Null => out.put_slice(b"$-1\r\n"),
        Value::NullArray => out.put_slice(b"*-1\r\n"),
        Value::Array(items) => list(b'*', items, protocol, out),
        Value::Set(items) => list(if resp3 { b'~' } else { b'*' }, items, protocol, out),
        Value::Push(items) => list(if resp3 { b'>' } else { b'*' }, items, protocol, out),
        Value::Map(pairs) => {
            match resp3 {
                true => length(b'%', pairs.len(), out),
                false => length(b'*', pairs.len() * 2, out),
            }
            for (key, value) in pairs {
                encode(key, protocol, out);
                encode(value, protocol, out);
            }
        }
        Value::Double(number) if resp3 => line(b',', double(*number).as_bytes(), out),
        Value::Double(number) => bulk(double(*number).as_bytes(), out),
        Value::Boolean(truth) if resp3 => out.put_slice(if *truth { b"#t\r\n" } else { b"#f\r\n" }),
        Value::Boolean(truth) => integer(b':', i64::from(*truth), out),
    }
}

/// Appends a byte string: `$`, its length, and the bytes.
pub(super) fn bulk(bytes: &[u8], out: &mut BytesMut) {
    out.reserve(bytes.len() + 16);
    length(b'$', bytes.len(), out);
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
}

/// Appends a type byte and a length.
pub(super) fn length(kind: u8, length: usize, out: &mut BytesMut) {
    // No buffer is longer than isize, so this is exact.
    integer(kind, i64::try_from(length).unwrap_or(i64::MAX), out);
}

fn list(kind: u8, items: &[Value], protocol: Protocol, out: &mut BytesMut) {
    length(kind, items.len(), out);
    for item in items {
        encode(item, protocol, out);
    }
}

/// A line must not end early: a line break within it becomes a space, as Redis has it.
fn line(kind: u8, text: &[u8], out: &mut BytesMut) {
    out.put_u8(kind);
    let start = out.len();
    out.put_slice(text);
    for byte in &mut out[start..] {
        if matches!(byte, b'\r' | b'\n') {
            *byte = b' ';
        }
    }
    out.put_slice(b"\r\n");
}

fn integer(kind: u8, number: i64, out: &mut BytesMut) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.put_u8(kind);
    if number < 0 {
        out.put_u8(b'-');
    }
    out.put_slice(&digits[at..]);
    out.put_slice(b"\r\n");
}

fn double(number: f64) -> String {
    if number.is_nan() {
        "nan".into()
    } else if number.is_infinite() {
        if number > 0.0 { "inf".into() } else { "-inf".into() }
    } else {
        number.to_string()
    }
}
