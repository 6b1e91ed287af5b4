//! The README's commands are what the binary understands.
//!
//! Nothing is built here: the binary is asked for its help.

use std::{fs, path::Path, process::Command};

/// The lines of the fenced blocks.
fn commands() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = fs::read_to_string(path).expect("there is a README");
    let blocks = text.split("```").skip(1).step_by(2);
    // The first line of a block is its language.
    let lines = blocks.flat_map(|block| block.lines().skip(1));
    lines.map(str::trim).filter(|line| !line.is_empty()).map(str::to_string).collect()
}

/// What the binary says of a subcommand, which may have one of its own.
fn help(subcommand: &str) -> String {
    let words = subcommand.split(' ');
    let asked = Command::new(env!("CARGO_BIN_EXE_quorate")).args(words).arg("--help").output();
    let answer = asked.expect("the binary was built with this test");
    let said = String::from_utf8_lossy(&answer.stderr);
    assert!(answer.status.success(), "`quorate {subcommand}` does not exist: {said}");
    String::from_utf8_lossy(&answer.stdout).into_owned()
}

/// Whether a text of help has an option, and whether the option takes a value.
fn option(help: &str, name: &str) -> Option<bool> {
    let lines = help.lines().filter(|line| line.trim_start().starts_with('-'));
    let mut found = lines.filter_map(|line| {
        let (_, rest) = line.split_once(name)?;
        rest.chars().next().is_none_or(|c| c == ' ').then(|| rest.trim_start().starts_with('<'))
    });
    found.next()
}

/// How many arguments without a name a subcommand takes, at least and at most.
fn places(help: &str, subcommand: &str) -> (usize, usize) {
    let usage = help.lines().find_map(|line| line.trim().strip_prefix("Usage:"));
    let usage = usage.unwrap_or_else(|| panic!("the help of `{subcommand}` has no usage"));
    let own = 1 + subcommand.split(' ').count();
    let mut words = usage.split_whitespace().skip(own).peekable();
    let (mut least, mut most) = (0, 0);
    while let Some(word) = words.next() {
        if word.starts_with("--") {
            words.next_if(|value| value.starts_with('<'));
        } else if word.starts_with('<') {
            least += 1;
            most += if word.ends_with("...") { usize::MAX / 2 } else { 1 };
        } else if word.starts_with('[') && word != "[OPTIONS]" {
            most += if word.ends_with("...") { usize::MAX / 2 } else { 1 };
        }
    }
    (least, most)
}

fn check(line: &str, arguments: &str) {
    let mut words = arguments.split_whitespace();
    let subcommand = words.next().unwrap_or_else(|| panic!("`{line}` names no subcommand"));
    let mut subcommand = subcommand.to_string();
    let mut help = help(&subcommand);
    if help.contains("\nCommands:") {
        let of_it = words.next().unwrap_or_else(|| panic!("`{line}` names no subcommand of it"));
        subcommand = format!("{subcommand} {of_it}");
        help = self::help(&subcommand);
    }
    let mut given = 0;
    while let Some(word) = words.next() {
        match word.starts_with("--") {
            false => given += 1,
            true => match option(&help, word) {
                None => panic!("`{line}`: `quorate {subcommand}` has no {word}\n{help}"),
                Some(false) => {}
                Some(true) => {
                    assert!(words.next().is_some(), "`{line}`: {word} takes a value");
                }
            },
        }
    }
    let (least, most) = places(&help, &subcommand);
    assert!((least..=most).contains(&given), "`{line}` has {given} arguments\n{help}");
}

#[test]
fn the_two_commands_are_set_up_and_test() {
    let cargo: Vec<String> =
        commands().into_iter().filter(|line| line.contains("cargo ")).collect();
    assert_eq!(cargo, ["cargo run --release -- local", "cargo test --workspace"]);
}

#[test]
fn the_binary_understands_every_command() {
    let mut checked = 0;
    for line in commands() {
        let own = line.strip_prefix("cargo run --release -- ").or(line.strip_prefix("quorate "));
        if let Some(arguments) = own {
            check(&line, arguments);
            checked += 1;
        }
    }
    assert!(checked >= 5, "the README shows how to use the binary; {checked} commands are left");
}

#[test]
fn the_debug_endpoints_exist() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("actors/dashboard/src");
    let sources = fs::read_dir(sources).expect("the dashboard has sources");
    let paths = sources.map(|entry| entry.expect("it can be listed").path());
    let files = paths.filter(|path| path.is_file());
    let code: String = files.map(|path| fs::read_to_string(path).unwrap_or_default()).collect();
    for line in commands().iter().filter(|line| line.starts_with("curl ")) {
        let url = line.split("http://").nth(1).unwrap_or_else(|| panic!("`{line}` has no address"));
        let path = url.split_once('/').map_or("", |(_, path)| path);
        let base: Vec<&str> = path.split('/').take(2).collect();
        let known = format!("\"/{}", base.join("/"));
        assert!(code.contains(&known), "`{line}`: no endpoint /{} exists", base.join("/"));
    }
}
