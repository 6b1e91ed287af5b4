//! `quorate check`: the verdict, what is printed with it, and the exit code.

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use quorate_history::{Input, Output, Recorder};
use serde_json::Value as Json;
use tempfile::TempDir;

/// Exit codes of `quorate check`, see its --help.
const LINEARIZABLE: i32 = 0;
const VIOLATION: i32 = 1;
const NO_HISTORY: i32 = 2;
const UNKNOWN: i32 = 3;

const GOOD: &str = r#"{"t":10,"client":1,"op":1,"e":"invoke","f":"put","key":"a","value":"1"}
{"t":25,"client":1,"op":1,"e":"ok"}
{"t":31,"client":2,"op":1,"e":"invoke","f":"get","key":"a"}
{"t":40,"client":2,"op":1,"e":"ok","value":"1","version":1}
"#;

fn check(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .arg("check")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the binary was built with this test");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().expect("it ends by itself");
    (code, text(&output.stdout), text(&output.stderr))
}

fn file(dir: &TempDir, content: &[u8]) -> PathBuf {
    let path = dir.path().join("seen.jsonl");
    fs::write(&path, content).unwrap();
    path
}

fn check_text(content: &[u8], more: &[&str]) -> (i32, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, content);
    let mut arguments = vec![path.to_str().unwrap()];
    arguments.extend(more);
    check(&arguments)
}

/// Twenty-two appends of few different values at once, and an answer that they cannot give: no
/// checker judges that quickly.
fn hard() -> Vec<u8> {
    let mut recorder = Recorder::new(vec![]);
    let key = b"x".as_slice().into();
    for client in 0..30 {
        let token = ["aab", "aba", "baa", "ab", "ba"][client as usize % 5];
        let value = token.as_bytes().into();
        recorder.invoke(1, client, 1, &key, &Input::Append { value }).unwrap();
    }
    for client in 0..30 {
        recorder.ok(100, client, 1, &Output::Done).unwrap();
    }
    recorder.invoke(200, 99, 1, &key, &Input::Get).unwrap();
    let value = b"aababaabaabaababaabaabaabaabaabaababab".as_slice().into();
    recorder.ok(300, 99, 1, &Output::Value { value, version: None }).unwrap();
    recorder.into_inner()
}

#[test]
fn a_good_history_is_linearizable() {
    let (code, out, err) = check_text(GOOD.as_bytes(), &[]);
    assert_eq!(code, LINEARIZABLE, "{err}");
    assert!(out.starts_with("linearizable: 2 operations on 1 keys"), "{out}");
    assert_eq!(err, "");
    let (code, out, _) = check_text(GOOD.as_bytes(), &["--json"]);
    let answer: Json = serde_json::from_str(&out).unwrap();
    assert_eq!(code, LINEARIZABLE);
    assert_eq!(answer["verdict"], "linearizable");
    assert_eq!((&answer["operations"], &answer["keys"]), (&2.into(), &1.into()));
}

#[test]
fn a_violation_is_shown_as_text_as_json_and_as_a_picture() {
    let bad = GOOD.replace(r#""value":"1","version":1"#, r#""value":null"#);
    let dir = tempfile::tempdir().unwrap();
    let picture = dir.path().join("seen.svg");
    let (code, out, err) = check_text(bad.as_bytes(), &["--svg", picture.to_str().unwrap()]);
    assert_eq!(code, VIOLATION, "{err}");
    assert!(out.starts_with("violation: 2 operations on 1 keys"), "{out}");
    assert!(out.contains("no order explains get → absent of client 2 (31..40 us)"), "{out}");
    let svg = fs::read_to_string(&picture).unwrap();
    assert!(svg.starts_with("<svg ") && svg.contains("class=\"culprit\""), "{svg}");

    let (code, out, _) = check_text(bad.as_bytes(), &["--json"]);
    let answer: Json = serde_json::from_str(&out).unwrap();
    assert_eq!(code, VIOLATION);
    assert_eq!((&answer["verdict"], &answer["key"]), (&"violation".into(), &"a".into()));
    let ops = answer["window"]["operations"].as_array().unwrap();
    let culprits: Vec<&Json> = ops.iter().filter(|op| op["culprit"] == true).collect();
    assert_eq!(culprits.len(), 1);
    assert_eq!((&culprits[0]["client"], &culprits[0]["invoked"]), (&2.into(), &31.into()));

    // A picture that cannot be written is said, and changes nothing about the verdict.
    let nowhere = dir.path().join("missing").join("seen.svg");
    let (code, out, err) = check_text(bad.as_bytes(), &["--svg", nowhere.to_str().unwrap()]);
    assert_eq!(code, VIOLATION);
    assert!(out.contains("no order explains") && err.contains("cannot be written"), "{err}");
}

#[test]
fn what_cannot_be_judged_in_time_is_unknown_and_says_what_would_help() {
    let history = hard();
    let (code, out, _) = check_text(&history, &["--budget", "1"]);
    assert_eq!(code, UNKNOWN, "{out}");
    assert!(out.starts_with("unknown: 31 operations"), "{out}");
    assert!(out.contains("key \"x\"") && out.contains("--budget 10"), "{out}");
    let (code, out, _) = check_text(&history, &["--memory", "1", "--budget", "600", "--json"]);
    let answer: Json = serde_json::from_str(&out).unwrap();
    assert_eq!(code, UNKNOWN, "{out}");
    assert_eq!((&answer["verdict"], &answer["key"]), (&"unknown".into(), &"x".into()));
    assert!(answer["advice"].as_str().unwrap().contains("--memory 4"), "{out}");
}

#[test]
fn what_is_no_history_is_refused_by_name_and_line() {
    let lines: Vec<&str> = GOOD.lines().collect();
    let cut_off = &GOOD[..GOOD.len() - 20];
    let damaged = format!("{}\n{}\n\u{0}\n", lines[0], lines[1]);
    let swapped = format!("{}\n{}\n", lines[1], lines[0]);
    let twice = format!("{GOOD}{}", lines[3]);
    let cases: [(&[u8], &[&str]); 8] = [
        (b"", &["holds no operation"]),
        (b"\n\n", &["holds no operation"]),
        (b"hello\n", &["not a history", "line 1", "docs/history.md"]),
        (b"\x7fELF\x02\x01\x01\x00\xff\xfe\n", &["not a history", "line 1"]),
        (cut_off.as_bytes(), &["cut off in line 4", "head -n 3"]),
        (damaged.as_bytes(), &["damaged", "line 3", "nothing was judged"]),
        (swapped.as_bytes(), &["line 1", "never invoked"]),
        (twice.as_bytes(), &["line 5", "completed before"]),
    ];
    for (content, words) in cases {
        let (code, out, err) = check_text(content, &[]);
        assert_eq!(code, NO_HISTORY, "{out}{err}");
        assert_eq!(out, "", "no verdict is given");
        assert!(err.contains("seen.jsonl"), "{err}");
        for word in words {
            assert!(err.contains(word), "`{word}` is missing in: {err}");
        }
    }
    // What stands before the cut is a history, as the advice says.
    let (code, out, _) = check_text(lines[..3].join("\n").as_bytes(), &[]);
    assert_eq!(code, LINEARIZABLE, "{out}");
}

#[test]
fn what_is_no_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    for (path, word) in [(missing.as_path(), "cannot be read"), (dir.path(), "directory")] {
        let path: &Path = path;
        let (code, out, err) = check(&[path.to_str().unwrap()]);
        assert_eq!((code, out.as_str()), (NO_HISTORY, ""));
        assert!(err.contains(word) && err.contains(path.to_str().unwrap()), "{err}");
        let (code, out, _) = check(&[path.to_str().unwrap(), "--json"]);
        let answer: Json = serde_json::from_str(&out).unwrap();
        assert_eq!((code, &answer["kind"]), (NO_HISTORY, &"usage".into()));
    }
    for arguments in [&[][..], &["a", "b"], &["a", "--budget", "0"], &["a", "--memory", "x"]] {
        let (code, _, err) = check(arguments);
        assert_eq!(code, NO_HISTORY, "{arguments:?}: {err}");
    }
}

#[test]
fn the_example_in_the_documentation_is_a_history() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/history.md");
    let text = fs::read_to_string(path).unwrap();
    let example = text.split("```json\n").nth(1).and_then(|rest| rest.split("```").next());
    assert_eq!(example, Some(GOOD));
}

#[test]
fn what_a_bench_records_is_judged() {
    let cluster = common::Cluster::started(1);
    let path = cluster.dir.path().join("seen.jsonl");
    let node = cluster.resp(0).to_string();
    let bench = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["bench", "--node", &node, "--workload", "mixed", "--keys", "50", "--clients", "8"])
        .args(["--seconds", "1", "--warmup", "0", "--json", "--history"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(bench.status.success(), "{}", String::from_utf8_lossy(&bench.stderr));
    let (code, out, err) = check(&[path.to_str().unwrap(), "--json"]);
    assert_eq!(code, LINEARIZABLE, "{out}{err}");
    let answer: Json = serde_json::from_str(&out).unwrap();
    assert!(answer["operations"].as_u64().unwrap() > 100, "{out}");
}
