//! Order, bounds and ends of a connection whose operations take their time.

mod common;

use bytes::BytesMut;
use common::{connection, node, output, request};
use quorate_clerk::{Outcome, Refusal};
use quorate_gateway::{Connection, OUTPUT_BYTES_MAX, OUTSTANDING_MAX, Seq, Submission, Work};
use quorate_kvserver::{Op, Reply, Version, Versioned};

fn send(connection: &mut Connection, lines: &[&str]) -> Vec<Submission> {
    for line in lines {
        connection.feed(&request(&line.split(' ').collect::<Vec<_>>()));
    }
    connection.advance(&node())
}

fn seqs(submissions: &[Submission]) -> Vec<u64> {
    submissions.iter().map(|submission| submission.seq.0).collect()
}

fn done(number: i64) -> Outcome {
    Outcome::Done(Reply::Integer(number))
}

fn text(connection: &mut Connection) -> String {
    output(connection).escape_ascii().to_string()
}

#[test]
fn answers_keep_the_order_of_their_requests() {
    let mut c = connection();
    let submissions = send(&mut c, &["INCR a", "PING", "INCR b", "ECHO x", "INCR a", "FOO"]);
    assert_eq!(seqs(&submissions), [0, 2, 4], "all that is read goes together");
    assert_eq!(c.outstanding(), 3);
    assert_eq!(text(&mut c), "");
    c.complete(Seq(4), done(3));
    c.complete(Seq(2), done(2));
    assert_eq!(text(&mut c), "", "the first one still stands before them");
    c.complete(Seq(0), done(1));
    let foo = "-ERR unknown command \\'FOO\\', with args beginning with: \\r\\n";
    let answers = format!(":1\\r\\n+PONG\\r\\n:2\\r\\n$1\\r\\nx\\r\\n:3\\r\\n{foo}");
    assert_eq!(text(&mut c), answers);
    assert_eq!((c.tally().commands, c.tally().errors.total()), (6, 1));
}

#[test]
fn outcomes_that_nobody_waits_for_are_ignored() {
    let mut c = connection();
    let submissions = send(&mut c, &["INCR a", "INCR b"]);
    c.complete(submissions[0].seq, done(1));
    c.complete(submissions[0].seq, done(99));
    c.complete(Seq(7), done(99));
    c.complete(Seq(u64::MAX), done(99));
    c.complete(submissions[1].seq, done(2));
    assert_eq!(text(&mut c), ":1\\r\\n:2\\r\\n");
}

#[test]
fn the_protocol_of_an_answer_is_that_of_its_request() {
    let mut c = connection();
    send(&mut c, &["GET a", "HELLO 3", "GET a", "CLIENT REPLY SKIP", "GET a", "GET a"]);
    for seq in [0, 2, 3, 4] {
        c.complete(Seq(seq), Outcome::Done(Reply::Value(None)));
    }
    let answers = text(&mut c);
    assert!(
        answers.starts_with("$-1\\r\\n%7\\r\\n") && answers.ends_with("*0\\r\\n_\\r\\n_\\r\\n")
    );
}

/// G2: a pipeline sees its own effects.
#[test]
fn a_read_waits_for_the_writes_of_its_key() {
    let mut c = connection();
    let submissions = send(&mut c, &["INCR a", "GET b", "GET a", "GET b", "INCR a"]);
    assert_eq!(seqs(&submissions), [0, 1], "GET a must not overtake INCR a");
    assert!(!c.wants_input());
    c.complete(Seq(0), done(1));
    let submissions = c.advance(&node());
    assert_eq!(seqs(&submissions), [2, 3], "INCR a must not overtake GET a");
    assert_eq!(submissions[0].work, Work::Operate(Op::Get { key: "a".into() }));
    let value = Versioned { value: "1".into(), version: Version(1) };
    c.complete(Seq(2), Outcome::Done(Reply::Value(Some(value))));
    assert_eq!(seqs(&c.advance(&node())), [4]);
    assert!(c.wants_input());
}

#[test]
fn a_full_connection_reads_no_more_until_outcomes_come() {
    let mut c = connection();
    let lines = vec!["INCR a"; OUTSTANDING_MAX + 10];
    assert_eq!(send(&mut c, &lines).len(), OUTSTANDING_MAX);
    assert!(!c.wants_input());
    assert!(c.advance(&node()).is_empty());
    c.complete(Seq(5), done(0));
    assert!(c.advance(&node()).is_empty(), "the oldest is what everything waits for");
    c.complete(Seq(0), done(0));
    c.complete(Seq(1), done(0));
    assert_eq!(seqs(&c.advance(&node())), [OUTSTANDING_MAX as u64, OUTSTANDING_MAX as u64 + 1]);
    for seq in 0..OUTSTANDING_MAX as u64 + 2 {
        c.complete(Seq(seq), done(0));
    }
    assert_eq!(c.advance(&node()).len(), 8);
    assert!(c.wants_input());
}

#[test]
fn a_client_that_does_not_read_is_not_read() {
    let mut c = connection();
    let megabyte = "x".repeat(1 << 20);
    let echo = format!("ECHO {megabyte}");
    let mut sent = 0;
    while c.wants_input() {
        send(&mut c, &[&echo]);
        sent += 1;
        assert!(sent <= 65, "the bound is 64 MiB");
    }
    assert!(sent << 20 >= OUTPUT_BYTES_MAX);
    let mut out = BytesMut::new();
    c.drain_output(&mut out);
    assert!(out.len() >= OUTPUT_BYTES_MAX && c.wants_input());

    // The same behind an operation: what is known at once is bounded there, too.
    let mut c = connection();
    send(&mut c, &["INCR a", &echo, &echo, &echo]);
    assert!(!c.wants_input());
    c.complete(Seq(0), done(1));
    assert!(c.advance(&node()).is_empty() && c.wants_input());
    assert!(output(&mut c).len() > 3 << 20);
}

#[test]
fn large_answers_are_encoded_only_as_they_are_read() {
    let mut c = connection();
    let submissions = send(&mut c, &["GET a"; 20]);
    let value = bytes::Bytes::from(vec![b'v'; 16 << 20]);
    for Submission { seq, .. } in submissions {
        let value = Versioned { value: value.clone(), version: Version(1) };
        c.complete(seq, Outcome::Done(Reply::Value(Some(value))));
    }
    let (mut total, mut out) = (0, BytesMut::new());
    while c.has_output() {
        c.drain_output(&mut out);
        assert!(out.len() <= OUTPUT_BYTES_MAX + (17 << 20));
        total += out.split().len();
    }
    assert_eq!(total, 20 * ((16 << 20) + 13));
}

#[test]
fn an_end_waits_for_what_is_under_way() {
    let mut c = connection();
    send(&mut c, &["INCR a", "QUIT", "INCR b"]);
    assert!(!c.wants_input() && !c.is_finished());
    c.complete(Seq(0), done(1));
    assert!(!c.is_finished(), "not before the client has its answers");
    assert_eq!(text(&mut c), ":1\\r\\n+OK\\r\\n");
    assert!(c.is_finished());

    let mut c = connection();
    send(&mut c, &["INCR a"]);
    c.feed(b"*1\r\n#\r\nPING\r\n");
    assert!(c.advance(&node()).is_empty());
    c.complete(Seq(0), done(1));
    assert_eq!(text(&mut c), ":1\\r\\n-ERR Protocol error: expected \\'$\\', got \\'#\\'\\r\\n");
    assert!(c.is_finished());

    let mut c = connection();
    send(&mut c, &["INCR a", "GET a"]);
    c.end();
    c.complete(Seq(0), done(1));
    assert!(c.advance(&node()).is_empty());
    assert_eq!(text(&mut c), ":1\\r\\n");
    assert!(c.is_finished());
}

/// G3: words that make client libraries send again only where nothing was executed.
#[test]
fn each_outcome_has_its_word() {
    let not = "; the command was not executed";
    for (outcome, answer) in [
        (Outcome::Refused(Refusal::Busy), format!("TRYAGAIN too many operations under way{not}")),
        (
            Outcome::Refused(Refusal::NoQuorum),
            format!("CLUSTERDOWN no majority of replicas could be reached{not}"),
        ),
        (Outcome::Refused(Refusal::NotReady), format!("LOADING the node is not ready{not}")),
        (Outcome::Refused(Refusal::TooLong), format!("ERR a key or value is too long{not}")),
        (
            Outcome::Unknown,
            "INDETERMINATE the outcome is unknown: the command may have been executed, or may \
             still be; read what it changes before sending it again"
                .into(),
        ),
        (
            Outcome::Maybe,
            "INDETERMINATE the versioned write was carried out or refused, once, and its answer \
             is lost: read the key to see which value it holds"
                .into(),
        ),
        (
            Outcome::Done(Reply::Count(1)),
            "INDETERMINATE the store gave an answer of another kind than the command has: the \
             command may have been executed"
                .into(),
        ),
    ] {
        let mut c = connection();
        send(&mut c, &["VPUT k v 2"]);
        c.complete(Seq(0), outcome);
        assert_eq!(text(&mut c), format!("-{answer}\\r\\n"));
    }
}
