//! HTTP/1.1 against the debug endpoints: one request on one connection, whole answers.

use std::io::{Read, Write};
use std::time::Duration;

use crate::resp::connect;

/// How long a request may take, connecting included.
const LIMIT: Duration = Duration::from_secs(3);
/// Most bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The status, such as 200.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: String,
}

/// Asks for `path` at `base`, which is `http://host:port` or `host:port`.
///
/// # Errors
/// Why nothing came back, as a text.
pub(crate) fn request(method: &str, base: &str, path: &str) -> Result<Answer, String> {
    let host = host(base)?;
    let fail = |error: std::io::Error| format!("{host} cannot be reached: {error}");
    let mut stream = connect(host, LIMIT).map_err(fail)?;
    stream.set_read_timeout(Some(LIMIT)).map_err(fail)?;
    stream.set_write_timeout(Some(LIMIT)).map_err(fail)?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
         Accept: application/json\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).map_err(fail)?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).map_err(fail)?;
    parse(&bytes).ok_or_else(|| format!("{host} does not answer as the debug endpoints do"))
}

/// The `host:port` of a debug URL.
fn host(base: &str) -> Result<&str, String> {
    let rest = base.strip_prefix("http://").unwrap_or(base);
    let host = rest.split('/').next().unwrap_or_default();
    match host.rsplit_once(':') {
        Some((name, port)) if !name.is_empty() && port.parse::<u16>().is_ok() => Ok(host),
        _ => Err(format!("{base:?} is no debug URL, such as http://127.0.0.1:7101")),
    }
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let is_chunked = lines.any(|line| {
        let line = line.to_ascii_lowercase();
        line.starts_with("transfer-encoding:") && line.contains("chunked")
    });
    let body = &bytes[end + 4..];
    let body = if is_chunked { join(body)? } else { body.to_vec() };
    Some(Answer { status, body: String::from_utf8(body).ok()? })
}

/// The body that chunks make.
fn join(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..end]).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        rest = &rest[end + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_whole_or_not_at_all() {
        for (text, answer) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", Some((200, "{}"))),
            ("HTTP/1.1 503 No\r\n\r\n", Some((503, ""))),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\n\r\n",
                Some((200, "abc")),
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nab\r\n", None),
            ("-ERR unknown command\r\n", None),
            ("", None),
        ] {
            let expected = answer.map(|(status, body)| Answer { status, body: body.into() });
            assert_eq!(parse(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn a_debug_url_has_a_host_and_a_port() {
        for (base, expected) in [
            ("http://127.0.0.1:7101", Some("127.0.0.1:7101")),
            ("127.0.0.1:7101/debug/", Some("127.0.0.1:7101")),
            ("http://localhost:1/", Some("localhost:1")),
            ("127.0.0.1", None),
            (":7101", None),
            ("http://a:b", None),
        ] {
            assert_eq!(host(base).ok(), expected, "{base}");
        }
    }
}
