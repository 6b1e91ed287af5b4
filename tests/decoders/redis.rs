//! The Redis protocol: what clients send, what servers answer, and what a connection makes of it.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use quorate_clerk::Outcome;
use quorate_gateway::resp::{
    Decoder, Protocol, ProtocolError, Value,
    client::{AnswerDecoder, AnswerError, encode_command},
    encode,
};
use quorate_gateway::{Connection, Member, NodeInfo, Redirect, Session, Submission, Work};
use quorate_protocol::{GroupId, NodeId};
use quorate_shardmaster::Configuration;

use crate::damage::{Bound, Target};

const WORDS: &[&[u8]] = &[b"\r\n", b"*", b"$", b"$-1\r\n", b"*1048577\r\n", b"\""];

fn command(args: &[&[u8]]) -> Vec<u8> {
    let mut out = BytesMut::new();
    encode_command(args, &mut out);
    out.to_vec()
}

fn requests_in(pieces: &[&[u8]]) -> (Vec<Vec<Bytes>>, Option<ProtocolError>) {
    let (mut decoder, mut found) = (Decoder::new(), vec![]);
    for piece in pieces {
        decoder.buffer().put_slice(piece);
        loop {
            match decoder.decode() {
                Ok(Some(request)) => found.push(request),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.decode(), Err(error), "an error is the end");
                    return (found, Some(error));
                }
            }
        }
    }
    (found, None)
}

pub(super) fn requests() -> Target {
    let samples = [
        command(&[b"SET", b"key", b"value"]),
        [command(&[b"GET", b"k"]), command(&[b"PING"]), b"PING\r\n".to_vec()].concat(),
        command(&[b"MSET", b"a", b"", b"\x00\xff\r\n", &[7; 300]]),
        b"set \"a\\x00b\" 'it\\'s'\r\n".to_vec(),
        b"*0\r\n*-1\r\n\r\n*1\r\n$4\r\nPING\r\n".to_vec(),
    ];
    Target::new(samples.into(), WORDS, Bound::SMALL, |input, chance| {
        let (whole, error) = requests_in(&[input]);
        let in_pieces = requests_in(&chance.pieces(input));
        assert_eq!(in_pieces, (whole.clone(), error), "pieces make a difference");
        for request in &whole {
            assert!(!request.is_empty(), "a request without a name");
            let mut again = BytesMut::new();
            encode_command(request, &mut again);
            assert_eq!(requests_in(&[&again]), (vec![request.clone()], None));
        }
        error.is_none() && !whole.is_empty()
    })
}

fn answers_in(pieces: &[&[u8]]) -> (Vec<Value>, Option<AnswerError>) {
    let (mut decoder, mut found) = (AnswerDecoder::new(), vec![]);
    for piece in pieces {
        decoder.buffer().put_slice(piece);
        loop {
            match decoder.decode() {
                Ok(Some(answer)) => found.push(answer),
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
        }
    }
    (found, None)
}

fn encoded(value: &Value, protocol: Protocol) -> BytesMut {
    let mut out = BytesMut::new();
    encode(value, protocol, &mut out);
    out
}

pub(super) fn answers() -> Target {
    let values = [
        Value::OK,
        Value::error("ERR no such key"),
        Value::Integer(-42),
        Value::bulk("some\r\nbytes"),
        Value::Verbatim("txt".into()),
        Value::Null,
        Value::NullArray,
        Value::Array(vec![Value::bulk("a"), Value::Array(vec![]), Value::Null]),
        Value::Map(vec![(Value::simple("key"), Value::Set(vec![Value::Boolean(true)]))]),
        Value::Push(vec![Value::Double(-1.5e10), Value::Boolean(false)]),
    ];
    let by = |protocol: Protocol| {
        values.iter().map(|value| encoded(value, protocol).to_vec()).collect::<Vec<_>>()
    };
    let mut samples = [by(Protocol::Resp2), by(Protocol::Resp3)].concat();
    samples.push(by(Protocol::Resp3).concat());
    samples.push(b"|1\r\n+remark\r\n:1\r\n(123456789012345678901234567890\r\n".to_vec());
    samples.push(b"!5\r\nERR x\r\n,inf\r\n,nan\r\n=7\r\ntxt:abc\r\n".to_vec());
    let words: &[&[u8]] = &[b"\r\n", b"*1\r\n", b"%1\r\n", b"$-1\r\n", b"|1\r\n", b"*4194304\r\n"];
    Target::new(samples, words, Bound::SMALL, |input, chance| {
        let (whole, error) = answers_in(&[input]);
        let in_pieces = answers_in(&chance.pieces(input));
        // Not a number is not even equal to itself.
        let shown = |found: &(Vec<Value>, Option<AnswerError>)| format!("{found:?}");
        assert_eq!(shown(&in_pieces), shown(&(whole.clone(), error)), "pieces make a difference");
        for value in &whole {
            for protocol in [Protocol::Resp2, Protocol::Resp3] {
                let once = encoded(value, protocol);
                let (again, error) = answers_in(&[&once]);
                assert_eq!((again.len(), error), (1, None), "one answer is one answer");
                assert_eq!(encoded(&again[0], protocol), once, "and stays the same");
            }
        }
        error.is_none() && !whole.is_empty()
    })
}

/// What a connection makes of its input: what it asks the clerk, and what it answers, in short.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    work: Vec<Work>,
    answers: usize,
    /// A sum over all bytes that were answered.
    sum: u64,
}

/// A connection takes these pieces. Of every operation the outcome is unknown.
fn connected(pieces: &[&[u8]]) -> Heard {
    let member = |number: u16| {
        let (id, host, port) = (format!("{number:040x}"), "127.0.0.1".to_string(), 7000 + number);
        let node = NodeId(number.into());
        Member { node, id, host, port, peer_port: port + 10_000, alive: true }
    };
    let nodes: Vec<NodeId> = (1..=3).map(NodeId).collect();
    let mut node = NodeInfo {
        own: member(1),
        peers: vec![member(2), member(3)],
        redirect: Redirect::Always,
        groups: [(GroupId(1), nodes.clone()), (GroupId(2), nodes)].into(),
        // Half of the keys are to be asked for elsewhere.
        leaders: [(GroupId(1), NodeId(1)), (GroupId(2), NodeId(2))].into(),
        ..NodeInfo::default()
    };
    let owners = vec![GroupId(1), GroupId(2)];
    let configuration = Configuration { number: 1, owners, groups: node.groups.clone() };
    node.on_configured(Arc::new(configuration));
    let session = Session::new(9, "10.0.0.5:1234".into(), "10.0.0.1:7001".into(), 0);
    let (mut connection, mut client) = (Connection::new(session), AnswerDecoder::new());
    let mut heard = Heard::default();
    for piece in pieces {
        connection.feed(piece);
        loop {
            let submissions = connection.advance(&node);
            let done = submissions.is_empty();
            for Submission { seq, work } in submissions {
                match work {
                    Work::Operate(_) => connection.complete(seq, Outcome::Unknown),
                    Work::Administer(_) => connection.administered(seq, Outcome::Unknown),
                }
                heard.work.push(work);
            }
            let mut out = BytesMut::new();
            connection.drain_output(&mut out);
            let mix = |h: u64, b: &u8| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3);
            heard.sum = out.iter().fold(heard.sum, mix);
            client.buffer().unsplit(out);
            while client.decode().expect("every answer can be read").is_some() {
                heard.answers += 1;
            }
            if done && !connection.has_output() {
                break;
            }
        }
    }
    heard
}

/// Requests as a connection reads them: every command with its arguments.
pub(super) fn connections() -> Target {
    let lines = [
        "SET k v NX GET|GET k|GETRANGE k 0 -1|SETNX k v|APPEND k v|STRLEN k|TYPE k",
        "MSET a 1 b 2|MGET a b|DEL a b|EXISTS a a|DBSIZE|INCRBY k -5|DECR k|GETDEL k",
        "VGET k|VPUT k v 3|SETRANGE k 3 v|GETSET k v|UNLINK k|TOUCH k",
        "HELLO 3 SETNAME me|PING|ECHO x|CLIENT LIST|CLIENT REPLY SKIP|CLIENT SETINFO LIB-NAME x|GET k",
        "COMMAND DOCS get|COMMAND GETKEYS mset a 1|COMMAND LIST FILTERBY PATTERN c*|COMMAND COUNT",
        "CONFIG GET *max[a-m]*|INFO server|CLUSTER SLOTS|CLUSTER SHARDS|CLUSTER KEYSLOT {k}|TIME",
        "SHARDS JOIN g1 2|SHARDS LEAVE 1 EVENTHELAST|SHARDS MOVE s1 g2|SHARDS QUERY 7|SHARDS HELP",
        "CLUSTER COUNTKEYSINSLOT 7|READONLY|GET k|READWRITE|ASKING|MGET {k}1 {k}2|INFO errorstats",
        "SELECT 0|EXPIRE k 10|SET k v EX 10|WAIT 1 0|RESET|NONSENSE a b|CLIENT|QUIT",
    ];
    let pipeline = |line: &&str| {
        let words = line.split('|').map(|line| line.split(' ').map(str::as_bytes).collect());
        words.flat_map(|words: Vec<&[u8]>| command(&words)).collect()
    };
    let samples = lines.iter().map(pipeline).collect();
    let words: &[&[u8]] = &[b"$1\r\n*\r\n", b"$2\r\n-1\r\n", b"$3\r\nGET\r\n", b"[^", b"\\", b"{}"];
    // COMMAND, seven bytes, is answered with all there is to say of every command.
    let bound = Bound { base: 2 << 20, per_byte: 10_000 };
    Target::new(samples, words, bound, |input, chance| {
        let heard = connected(&[input]);
        assert_eq!(connected(&chance.pieces(input)), heard, "pieces make a difference");
        heard.answers > 0
    })
}
