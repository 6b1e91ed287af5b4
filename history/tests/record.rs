//! Histories written and read back, and what is said about files that are no histories.

mod notation;
mod random;

use quorate_history::{
    History, Input, Operation, Outcome, Output, ReadError, Recorder, read, write,
};
use random::{Chance, Mix};

fn lines(history: &History) -> String {
    let mut bytes = Vec::new();
    write(history, &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn the_format_is_what_the_chapter_says() {
    let mut recorder = Recorder::new(Vec::new());
    let (key, value) = (b"a".as_slice().into(), b"1".as_slice().into());
    recorder.invoke(10, 1, 1, &key, &Input::Put { value }).unwrap();
    recorder.ok(25, 1, 1, &Output::Done).unwrap();
    recorder.invoke(31, 2, 1, &key, &Input::Get).unwrap();
    let value = b"1".as_slice().into();
    recorder.ok(40, 2, 1, &Output::Value { value, version: Some(1) }).unwrap();
    let value = b"\xff\x00".as_slice().into();
    recorder.invoke(40, 1, 2, &key, &Input::Cas { value, version: 1 }).unwrap();
    recorder.unknown(50, 1, 2).unwrap();
    recorder.invoke(60, 1, 3, &key, &Input::Delete).unwrap();
    recorder.fail(61, 1, 3).unwrap();
    recorder.invoke(62, 1, 4, &key, &Input::Get).unwrap();
    recorder.ok(63, 1, 4, &Output::Absent).unwrap();
    recorder.flush().unwrap();
    let text = String::from_utf8(recorder.into_inner()).unwrap();
    let expected = r#"
{"t":10,"client":1,"op":1,"e":"invoke","f":"put","key":"a","value":"1"}
{"t":25,"client":1,"op":1,"e":"ok"}
{"t":31,"client":2,"op":1,"e":"invoke","f":"get","key":"a"}
{"t":40,"client":2,"op":1,"e":"ok","value":"1","version":1}
{"t":41,"client":1,"op":2,"e":"invoke","f":"cas","key":"a","value":{"hex":"ff00"},"version":1}
{"t":50,"client":1,"op":2,"e":"unknown"}
{"t":60,"client":1,"op":3,"e":"invoke","f":"delete","key":"a"}
{"t":61,"client":1,"op":3,"e":"fail"}
{"t":62,"client":1,"op":4,"e":"invoke","f":"get","key":"a"}
{"t":63,"client":1,"op":4,"e":"ok","value":null}
"#;
    assert_eq!(text, expected.trim_start());

    // The delete failed, so it is gone.
    let history = read(text.as_bytes()).unwrap();
    let shown: Vec<String> = history.ops.iter().map(Operation::to_string).collect();
    assert_eq!(shown, ["put \"1\"", "get → \"1\" v1", "cas v1 \"\\xff\\x00\" ?", "get → absent"]);
}

#[test]
fn every_operation_survives_the_file() {
    let history = notation::history(
        "1: [put a] [append b =2] [append c] [get abc] [get abc v3] [get -] [del yes] [del no]
         2: [cas 0 a ok] [cas 4 a version] [cas 4 a nokey] [put a~ [append b~ [del~ [cas 1 c~",
    );
    let text = lines(&history);
    let again = read(text.as_bytes()).unwrap();
    assert_eq!(again.ops.len(), history.ops.len());
    assert_eq!(lines(&again).lines().count(), text.lines().count());
    let sorted = |history: &History| {
        let mut shown: Vec<String> = history.ops.iter().map(|op| format!("{op}")).collect();
        shown.sort();
        shown
    };
    assert_eq!(sorted(&again), sorted(&history));
}

#[test]
fn random_histories_survive_the_file() {
    for seed in 0..200 {
        let mut chance = Chance::new(seed);
        let mix = Mix {
            clients: 4,
            ops: 40,
            keys: 3,
            weights: [4, 3, 2, 2, 3],
            values: 3,
            unknown: 20,
            tells_more: seed % 2 == 0,
        };
        let mut history = random::linearizable(&mut chance, mix);
        // Moments of their own: the file would move shared ones apart.
        let mut moments: Vec<(u64, usize, bool)> = Vec::new();
        for (place, op) in history.ops.iter().enumerate() {
            moments.push((op.invoked, place, false));
            moments.extend(op.returned().map(|at| (at, place, true)));
        }
        moments.sort_unstable();
        for (moment, (_, place, is_return)) in moments.into_iter().enumerate() {
            match &mut history.ops[place].outcome {
                Outcome::Returned { at, .. } if is_return => *at = moment as u64,
                _ => history.ops[place].invoked = moment as u64,
            }
        }
        history.ops.sort_by_key(|op| op.invoked);
        assert_eq!(read(lines(&history).as_bytes()).unwrap(), history, "seed {seed}");
    }
}

#[test]
fn moments_shared_in_memory_stay_concurrent_in_the_file() {
    let history = notation::history("1: [put a]\n2:       [get -]");
    assert_eq!(history.ops[0].returned(), Some(history.ops[1].invoked));
    let again = read(lines(&history).as_bytes()).unwrap();
    assert!(again.ops[0].returned().unwrap() > again.ops[1].invoked);
}

#[test]
fn a_wrong_line_is_named_with_its_fault() {
    let invoke = r#"{"t":5,"client":1,"op":1,"e":"invoke","f":"get","key":"a"}"#;
    let put = r#"{"t":5,"client":1,"op":1,"e":"invoke","f":"put","key":"a","value":"1"}"#;
    let cas =
        r#"{"t":5,"client":1,"op":1,"e":"invoke","f":"cas","key":"a","value":"1","version":0}"#;
    let delete = r#"{"t":5,"client":1,"op":1,"e":"invoke","f":"delete","key":"a"}"#;
    let cases = [
        ("hello", "line 1: ", "expected value"),
        (r#"{"t":1}"#, "line 1: ", "missing field `client`"),
        (r#"{"t":-1,"client":1,"op":1,"e":"ok"}"#, "line 1: ", "invalid value"),
        (r#"{"t":1,"client":1,"op":1,"e":"done"}"#, "line 1: ", "unknown variant `done`"),
        (r#"{"t":1,"client":1,"op":1,"e":"ok","x":1}"#, "line 1: ", "unknown field `x`"),
        (r#"{"t":1,"client":1,"op":1,"e":"ok"}"#, "line 1: ", "never invoked op 1"),
        (r#"{"t":1,"client":1,"op":1,"e":"invoke"}"#, "line 1: ", "needs \"f\""),
        (r#"{"t":1,"client":1,"op":1,"e":"invoke","f":"get"}"#, "line 1: ", "needs \"key\""),
        (
            r#"{"t":1,"client":1,"op":1,"e":"invoke","f":"put","key":"a"}"#,
            "line 1: ",
            "put needs \"value\"",
        ),
        (
            r#"{"t":1,"client":1,"op":1,"e":"invoke","f":"put","key":"a","value":null}"#,
            "line 1: ",
            "cannot be null",
        ),
        (
            r#"{"t":1,"client":1,"op":1,"e":"invoke","f":"cas","key":"a","value":"b"}"#,
            "line 1: ",
            "needs \"version\"",
        ),
        (
            r#"{"t":1,"client":1,"op":1,"e":"invoke","f":"get","key":{"hex":"0"}}"#,
            "line 1: ",
            "not hexadecimal",
        ),
        (
            r#"{"t":1,"client":1,"op":1,"e":"invoke","f":"get","key":"a","value":"b"}"#,
            "line 1: ",
            "\"value\" has no meaning here",
        ),
        (&format!("{invoke}\n\n{invoke}"), "line 3: ", "invoked op 1 before"),
        (
            &format!("{invoke}\n{}", r#"{"t":4,"client":1,"op":1,"e":"ok","value":null}"#),
            "line 2: ",
            "time goes back from 5 to 4",
        ),
        (
            &format!("{invoke}\n{}", r#"{"t":6,"client":1,"op":1,"e":"ok"}"#),
            "line 2: ",
            "needs \"value\"",
        ),
        (
            &format!("{put}\n{}", r#"{"t":6,"client":1,"op":1,"e":"ok","version":3}"#),
            "line 2: ",
            "\"version\" has no meaning here",
        ),
        (
            &format!("{cas}\n{}", r#"{"t":6,"client":1,"op":1,"e":"ok"}"#),
            "line 2: ",
            "either \"version\" or \"err\"",
        ),
        (
            &format!("{delete}\n{}", r#"{"t":6,"client":1,"op":1,"e":"ok"}"#),
            "line 2: ",
            "needs \"present\"",
        ),
        (
            &format!("{put}\n{0}\n{0}", r#"{"t":6,"client":1,"op":1,"e":"ok"}"#),
            "line 3: ",
            "was completed before",
        ),
    ];
    for (text, line, fault) in cases {
        let error = read(text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(line) && error.contains(fault), "{text}\nis said to be: {error}");
    }
}

#[test]
fn bytes_that_are_not_text_are_an_error_of_their_line() {
    let error = read(b"\n{\"t\":\xff}\n".as_slice()).unwrap_err().to_string();
    assert!(error.starts_with("line 2: "), "{error}");
    let text = b"{\"t\":1,\"client\":1,\"op\":1,\"e\":\"invoke\",\"f\":\"get\",\"key\":\"\xff\"}\n";
    let error = read(text.as_slice()).unwrap_err().to_string();
    assert!(error.starts_with("line 1: ") && error.contains("column"), "{error}");
}

#[test]
fn a_file_that_is_cut_off_anywhere_says_so_or_is_a_shorter_history() {
    let whole = lines(&notation::history("1: [put \u{e9}] [get \u{e9}]\n2: [append b]"));
    let (mut cut_off, mut shorter) = (0, 0);
    for end in 0..=whole.len() {
        let line = whole.as_bytes()[..end].iter().filter(|byte| **byte == b'\n').count() + 1;
        match read(&whole.as_bytes()[..end]) {
            Ok(history) => {
                let at_an_end = end == 0 || whole.as_bytes()[end - 1] == b'\n';
                let only_the_end_is_missing = whole.as_bytes().get(end) == Some(&b'\n');
                assert!(at_an_end || only_the_end_is_missing, "cut at {end}: {history:?}");
                shorter += 1;
            }
            Err(ReadError::CutOff { line: found }) => {
                assert_eq!(found, line);
                cut_off += 1;
            }
            Err(error) => panic!("cut at {end}: {error}"),
        }
    }
    assert!(cut_off > 100 && shorter >= 10, "{cut_off} and {shorter}");
}
