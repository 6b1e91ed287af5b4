//! Bytes that are no requests, or arrive in pieces.

mod common;

use bytes::{Bytes, BytesMut};
use common::{Server, request};
use quorate_gateway::resp::client::{AnswerDecoder, AnswerError, encode_command};
use quorate_gateway::resp::request::{BULK_BYTES_MAX, REQUEST_BYTES_MAX};
use quorate_gateway::resp::{Decoder, Protocol, ProtocolError, Value, encode};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Each is answered in Redis' own words, and ends the connection.
#[test]
fn protocol_errors() {
    let long = "1".repeat(70_000);
    for (bytes, error) in [
        ("*1\r\n#4\r\nPING\r\n", "expected '$', got '#'"),
        ("*1\r\n\r\n", "expected '$', got ' '"),
        ("*1\r\n\0\r\n", "expected '$', got ' '"),
        ("*abc\r\n", "invalid multibulk length"),
        ("*\r\n", "invalid multibulk length"),
        ("*01\r\n", "invalid multibulk length"),
        ("*+1\r\n", "invalid multibulk length"),
        ("*1048577\r\n", "invalid multibulk length"),
        ("*2147483648\r\n", "invalid multibulk length"),
        ("*99999999999999999999\r\n", "invalid multibulk length"),
        ("*1\r\n$-1\r\n", "invalid bulk length"),
        ("*1\r\n$abc\r\n", "invalid bulk length"),
        ("*1\r\n$\r\n", "invalid bulk length"),
        ("*1\r\n$ 4\r\n", "invalid bulk length"),
        ("*1\r\n$4294967296\r\n", "invalid bulk length"),
        (&format!("*1\r\n${}\r\n", BULK_BYTES_MAX + 1), "invalid bulk length"),
        ("SET a \"x\r\n", "unbalanced quotes in request"),
        ("SET a 'x'y\r\n", "unbalanced quotes in request"),
        (&long, "too big inline request"),
        (&format!("{long}\r\n"), "too big inline request"),
        (&format!("*{long}"), "too big mbulk count string"),
        (&format!("*1\r\n${long}"), "too big bulk count string"),
    ] {
        let mut server = Server::new();
        let input = [bytes.as_bytes(), b"\r\nPING\r\n"].concat();
        let answer = String::from_utf8(server.send(&input)).expect("text");
        assert_eq!(answer, format!("-ERR Protocol error: {error}\r\n"), "{}", bytes.escape_debug());
        assert!(server.connection.is_finished());
        assert_eq!(server.send(b"PING\r\n"), b"", "nothing that follows is read");
    }
}

#[test]
fn what_asks_for_nothing_is_passed_over() {
    let mut server = Server::new();
    assert_eq!(server.send(b"\r\n\n \t \r\n*0\r\n*-1\r\n*-7\r\nPING\r\n"), b"+PONG\r\n");
    assert!(server.connection.wants_input());
}

#[test]
fn inline_commands() {
    let mut server = Server::new();
    let sent = b"SET a \"x y\\n\\x41\"\r\nGET a\nGETRANGE 'a' 0 \"0\"\r\nECHO ''\r\n";
    assert_eq!(server.send(sent), b"+OK\r\n$5\r\nx y\nA\r\n$1\r\nx\r\n$0\r\n\r\n");
}

/// Redis does not look at these bytes, and some clients may rely on it.
#[test]
fn line_ends_are_not_looked_at() {
    let mut server = Server::new();
    assert_eq!(server.send(b"*1\rx$4\ryPINGzz*1\r\n$4\r\nPING\r\n"), b"+PONG\r\n+PONG\r\n");
}

#[test]
fn announced_lengths_cost_nothing() {
    let mut decoder = Decoder::new();
    decoder.buffer().extend_from_slice(b"*1048576\r\n$16777216\r\nabc");
    assert_eq!(decoder.decode(), Ok(None));
    assert!(decoder.buffer().capacity() < 4096, "nothing is reserved for what has not arrived");
}

#[test]
fn a_request_is_bounded_as_a_whole() {
    let mut decoder = Decoder::new();
    decoder.buffer().extend_from_slice(b"*9\r\n");
    let part = vec![b'x'; BULK_BYTES_MAX];
    let whole = REQUEST_BYTES_MAX / BULK_BYTES_MAX;
    for _ in 0..whole {
        decoder.buffer().extend_from_slice(format!("${BULK_BYTES_MAX}\r\n").as_bytes());
        decoder.buffer().extend_from_slice(&part);
        decoder.buffer().extend_from_slice(b"\r\n");
        assert_eq!(decoder.decode(), Ok(None));
    }
    decoder.buffer().extend_from_slice(format!("${BULK_BYTES_MAX}\r\n").as_bytes());
    assert_eq!(decoder.decode(), Err(ProtocolError::RequestTooBig));
    assert_eq!(decoder.decode(), Err(ProtocolError::RequestTooBig), "and for ever");
    let text = ProtocolError::RequestTooBig.answer();
    assert_eq!(text, "ERR Protocol error: request exceeds 67108864 bytes");
}

fn pipeline() -> Vec<u8> {
    let mut sent = Vec::new();
    for args in [&["SET", "key", "a\r\nb"][..], &["GET", "key"], &["HELLO", "3"], &["GET", ""]] {
        sent.extend(request(args));
    }
    sent.extend(
        b"\r\nAPPEND key \"c d\"\r\n*0\r\nGET key\n*2\r\n$4\r\nECHO\r\n$0\r\n\r\nFOO 'x\r\n",
    );
    sent
}

#[test]
fn a_pipeline_may_be_split_at_every_byte() {
    let sent = pipeline();
    let expected = Server::new().send(&sent);
    assert!(expected.ends_with(b"$0\r\n\r\n-ERR Protocol error: unbalanced quotes in request\r\n"));
    for at in 0..=sent.len() {
        let mut server = Server::new();
        let (first, second) = sent.split_at(at);
        assert_eq!([server.send(first), server.send(second)].concat(), expected, "split at {at}");
    }
    let mut server = Server::new();
    let answers: Vec<u8> = sent.iter().flat_map(|&byte| server.send(&[byte])).collect();
    assert_eq!(answers, expected, "byte by byte");
}

/// Whatever is sent, and however it is cut: the answers are the same and nothing panics.
#[test]
fn random_bytes_cut_at_random() {
    let words = [
        "*",
        "$",
        "\r\n",
        "\r",
        "\n",
        "1",
        "2",
        "3",
        "4",
        "0",
        "-",
        " ",
        "'",
        "\"",
        "\\x",
        "PING",
        "GET",
        "SET",
        "k",
        "*1\r\n$4\r\nPING\r\n",
        "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
        "\0",
        "\u{ff}",
        "CLIENT REPLY SKIP\r\n",
        "HELLO 3\r\n",
        "INCR k\r\n",
        "COMMAND\r\n",
        "COMMAND GETKEYS ",
    ];
    for seed in 0..4000 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let sent: String =
            (0..rng.random_range(1..40)).map(|_| words[rng.random_range(0..words.len())]).collect();
        let sent = sent.as_bytes();
        let expected = Server::new().send(sent);
        let mut server = Server::new();
        let (mut rest, mut answers) = (sent, Vec::new());
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(rng.random_range(1..=rest.len().min(9)));
            answers.extend(server.send(piece));
            rest = later;
        }
        assert_eq!(answers, expected, "seed {seed}: {}", sent.escape_ascii());

        // Whatever was answered is well formed.
        let mut decoder = AnswerDecoder::new();
        decoder.buffer().extend_from_slice(&expected);
        while decoder.decode().expect("well-formed answers").is_some() {}
        assert!(decoder.buffer().is_empty(), "seed {seed}: {}", expected.escape_ascii());
    }
}

/// Arguments of any bytes come out as they went in, however they are cut.
#[test]
fn what_is_encoded_is_decoded() {
    for seed in 0..500 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let commands: Vec<Vec<Vec<u8>>> = (0..rng.random_range(1..5))
            .map(|_| {
                let args = 0..rng.random_range(1..5);
                args.map(|_| (0..rng.random_range(0..300)).map(|_| rng.random()).collect())
                    .collect()
            })
            .collect();
        let mut sent = BytesMut::new();
        commands.iter().for_each(|args| encode_command(args, &mut sent));
        let (mut decoder, mut decoded) = (Decoder::new(), Vec::new());
        for piece in sent.chunks(rng.random_range(1..200)) {
            decoder.buffer().extend_from_slice(piece);
            while let Some(args) = decoder.decode().expect("well formed") {
                decoded.push(args.iter().map(|arg| arg.to_vec()).collect::<Vec<_>>());
            }
        }
        assert_eq!(decoded, commands, "seed {seed}");
        assert_eq!(decoder.buffered(), 0);
    }
}

fn bulk(text: &str) -> Value {
    Value::Bulk(Bytes::copy_from_slice(text.as_bytes()))
}

fn encoded(value: &Value, protocol: Protocol) -> String {
    let mut out = BytesMut::new();
    encode(value, protocol, &mut out);
    String::from_utf8(out.to_vec()).expect("text")
}

#[test]
fn every_kind_of_answer_in_both_protocols() {
    let pair = vec![Value::Integer(1), Value::Null];
    for (value, resp2, resp3) in [
        (Value::OK, "+OK\r\n", "+OK\r\n"),
        (Value::error("ERR a\r\nb"), "-ERR a  b\r\n", "-ERR a  b\r\n"),
        (Value::Integer(-12), ":-12\r\n", ":-12\r\n"),
        (Value::Integer(i64::MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n"),
        (bulk("a\r\nb"), "$4\r\na\r\nb\r\n", "$4\r\na\r\nb\r\n"),
        (bulk(""), "$0\r\n\r\n", "$0\r\n\r\n"),
        (Value::Verbatim("hi".into()), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n"),
        (Value::Null, "$-1\r\n", "_\r\n"),
        (Value::NullArray, "*-1\r\n", "_\r\n"),
        (Value::Array(pair.clone()), "*2\r\n:1\r\n$-1\r\n", "*2\r\n:1\r\n_\r\n"),
        (Value::Set(pair.clone()), "*2\r\n:1\r\n$-1\r\n", "~2\r\n:1\r\n_\r\n"),
        (Value::Push(pair), "*2\r\n:1\r\n$-1\r\n", ">2\r\n:1\r\n_\r\n"),
        (
            Value::Map(vec![(bulk("k"), Value::OK)]),
            "*2\r\n$1\r\nk\r\n+OK\r\n",
            "%1\r\n$1\r\nk\r\n+OK\r\n",
        ),
        (Value::Double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n"),
        (Value::Double(-2.0), "$2\r\n-2\r\n", ",-2\r\n"),
        (Value::Double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n"),
        (Value::Boolean(true), ":1\r\n", "#t\r\n"),
        (Value::Boolean(false), ":0\r\n", "#f\r\n"),
    ] {
        assert_eq!(encoded(&value, Protocol::Resp2), resp2);
        assert_eq!(encoded(&value, Protocol::Resp3), resp3);
    }
}

fn decode(bytes: &[u8]) -> Result<Vec<Value>, AnswerError> {
    let mut decoder = AnswerDecoder::new();
    let mut answers = Vec::new();
    for byte in bytes {
        decoder.buffer().extend_from_slice(&[*byte]);
        while let Some(answer) = decoder.decode()? {
            answers.push(answer);
        }
    }
    Ok(answers)
}

#[test]
fn the_client_reads_what_servers_write() {
    for (bytes, answers) in [
        ("+OK\r\n-ERR x\r\n:7\r\n", vec![Value::OK, Value::error("ERR x"), Value::Integer(7)]),
        ("$-1\r\n*-1\r\n_\r\n", vec![Value::Null, Value::NullArray, Value::Null]),
        ("$0\r\n\r\n$2\r\n\r\n\r\n", vec![bulk(""), bulk("\r\n")]),
        ("*0\r\n%0\r\n", vec![Value::Array(vec![]), Value::Map(vec![])]),
        (
            "*2\r\n*1\r\n:1\r\n~2\r\n$1\r\na\r\n#t\r\n",
            vec![Value::Array(vec![
                Value::Array(vec![Value::Integer(1)]),
                Value::Set(vec![bulk("a"), Value::Boolean(true)]),
            ])],
        ),
        (
            "%2\r\n+a\r\n*0\r\n+b\r\n_\r\n",
            vec![Value::Map(vec![
                (Value::simple("a"), Value::Array(vec![])),
                (Value::simple("b"), Value::Null),
            ])],
        ),
        (",1.5\r\n,inf\r\n", vec![Value::Double(1.5), Value::Double(f64::INFINITY)]),
        (
            "=6\r\ntxt:hi\r\n!5\r\nERR x\r\n",
            vec![Value::Verbatim("hi".into()), Value::error("ERR x")],
        ),
        ("(123456789012345678901234567890\r\n", vec![bulk("123456789012345678901234567890")]),
        (">1\r\n+x\r\n", vec![Value::Push(vec![Value::simple("x")])]),
        ("|1\r\n+ttl\r\n:9\r\n+OK\r\n", vec![Value::OK]),
        (
            "*2\r\n|1\r\n+a\r\n*1\r\n:1\r\n:1\r\n|0\r\n:2\r\n",
            vec![Value::Array(vec![Value::Integer(1), Value::Integer(2)])],
        ),
    ] {
        assert_eq!(decode(bytes.as_bytes()), Ok(answers), "{}", bytes.escape_debug());
    }
}

#[test]
fn the_client_refuses_what_is_no_answer() {
    let deep = "*1\r\n".repeat(33);
    for (bytes, error) in [
        ("x\r\n", AnswerError::UnknownType(b'x')),
        ("\r\n", AnswerError::UnknownType(b'\r')),
        (":x\r\n", AnswerError::InvalidNumber),
        ("$-2\r\n", AnswerError::InvalidNumber),
        ("*x\r\n", AnswerError::InvalidNumber),
        ("#x\r\n", AnswerError::InvalidNumber),
        (",x\r\n", AnswerError::InvalidNumber),
        ("$99999999999\r\n", AnswerError::TooBig),
        ("*99999999999\r\n", AnswerError::TooBig),
        ("%4194304\r\n", AnswerError::TooBig),
        ("*3000000\r\n*3000000\r\n", AnswerError::TooBig),
        ("$1\r\nxyz\r\n", AnswerError::MissingLineEnd),
        (&deep, AnswerError::TooDeep),
        (&"+".repeat(70_000), AnswerError::LineTooLong),
    ] {
        assert_eq!(decode(bytes.as_bytes()), Err(error), "{:.50}", bytes.escape_debug());
    }
}
