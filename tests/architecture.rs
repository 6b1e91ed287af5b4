//! The house's hard rules, each a test that says what to do when it fails.
//!
//! The rules stand in ARCHITECTURE.md; its list of folders, its lives of a Put and of a Get, and
//! the table in docs/messages.md are read here and held against the code.

mod source;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use source::{code, enums, files, has_function, has_struct, words};
use toml::{Table, Value};

/// A crate of the workspace.
struct Crate {
    /// Without `quorate-`.
    name: String,
    /// From the root of the repository; of the binary, where its sources are.
    dir: String,
    manifest: Table,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn manifest(dir: &str) -> Table {
    let path = Path::new(dir).join("Cargo.toml");
    text(&path.to_string_lossy()).parse().unwrap_or_else(|error| panic!("{dir}: {error}"))
}

fn workspace() -> Vec<Crate> {
    let own = manifest("");
    let members = own["workspace"]["members"].as_array().expect("members is a list");
    let mut dirs = BTreeSet::new();
    for member in members.iter().filter_map(Value::as_str) {
        match member.strip_suffix("/*") {
            None => dirs.extend([member.to_string()]),
            Some(above) => {
                let inside = fs::read_dir(root().join(above)).expect("its members are there");
                let names = inside.map(|entry| entry.expect("it can be read").file_name());
                dirs.extend(names.map(|name| format!("{above}/{}", name.to_string_lossy())));
            }
        }
    }
    let mut crates: Vec<Crate> = vec![];
    for dir in dirs {
        let manifest = manifest(&dir);
        let name = manifest["package"]["name"].as_str().expect("a name is text");
        let name = name.trim_start_matches("quorate-").to_string();
        crates.push(Crate { name, dir, manifest });
    }
    crates.push(Crate { name: "cli".into(), dir: "cli".into(), manifest: own });
    crates
}

impl Crate {
    /// What its code is built with; what its tests are built with is another matter.
    fn dependencies(&self) -> Vec<&str> {
        let table = self.manifest.get("dependencies").and_then(Value::as_table);
        table.into_iter().flat_map(|table| table.keys().map(String::as_str)).collect()
    }

    /// The crates of the house among them.
    fn of_the_house(&self) -> Vec<&str> {
        self.dependencies().iter().filter_map(|name| name.strip_prefix("quorate-")).collect()
    }

    /// Its sources, from the root of the repository, with their code.
    fn sources(&self) -> Vec<(String, String)> {
        let all = files(&root().join(&self.dir).join("src"), ".rs");
        all.iter().map(|path| (short(path), code(path))).collect()
    }
}

fn short(path: &Path) -> String {
    let short = path.strip_prefix(root()).unwrap_or(path);
    short.to_string_lossy().replace('\\', "/")
}

/// The sources of all crates.
fn sources() -> Vec<(String, String)> {
    workspace().iter().flat_map(Crate::sources).collect()
}

/// Fails with one line for each offence.
fn none(offences: Vec<String>, what_to_do: &str) {
    assert!(offences.is_empty(), "\n  {}\n\n{what_to_do}\n", offences.join("\n  "));
}

/// Every place where a file uses one of these words, unless it is excused by its path.
fn uses(sources: &[(String, String)], banned: &[&str], excused: &[&str]) -> Vec<String> {
    let mut found = vec![];
    for (path, code) in sources {
        if excused.iter().any(|excused| path.starts_with(excused)) {
            continue;
        }
        for (line, word) in words(code) {
            if banned.contains(&word) {
                found.push(format!("{path}:{line}: {word}"));
            }
        }
    }
    found
}

/// A section of a document, by its heading.
fn section(document: &str, heading: &str) -> String {
    let all = text(document);
    let start = all.find(&format!("\n## {heading}\n"));
    let start = start.unwrap_or_else(|| panic!("{document} has no section `{heading}`"));
    let rest = &all[start + 1..];
    rest[..rest[1..].find("\n## ").map_or(rest.len(), |end| end + 1)].to_string()
}

/// The folders in the order in which ARCHITECTURE.md has them.
fn folders() -> Vec<String> {
    let all = text("ARCHITECTURE.md");
    let list = all.split("### The folders").nth(1).and_then(|rest| rest.split("```").nth(1));
    let list = list.expect("ARCHITECTURE.md lists the folders between two fences");
    let lines = list.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    lines.map(str::to_string).collect()
}

#[test]
fn dependencies_point_up_the_list_of_folders() {
    let order = folders();
    let crates = workspace();
    let place = |dir: &str| order.iter().position(|listed| listed == dir);
    let dirs: BTreeMap<&str, &str> =
        crates.iter().map(|c| (c.name.as_str(), c.dir.as_str())).collect();
    let mut offences = vec![];
    for c in &crates {
        let Some(own) = place(&c.dir) else {
            offences.push(format!("{} is not in the list", c.dir));
            continue;
        };
        for name in c.of_the_house() {
            if dirs.get(name).and_then(|dir| place(dir)).is_none_or(|theirs| theirs >= own) {
                offences.push(format!("{} depends on {name}, which is not above it", c.dir));
            }
        }
    }
    for dir in order.iter().filter(|dir| !dirs.values().any(|known| known == dir)) {
        offences.push(format!("{dir} is in the list and is no crate"));
    }
    none(
        offences,
        "The list is in ARCHITECTURE.md, The folders. Turn the arrow round (a type lives with\nthe role that is authoritative for it), or add a new crate to the list.",
    );
}

#[test]
fn services_know_the_rsm_and_never_an_engine() {
    let engines = ["acceptor", "learner", "proposer", "raft"];
    let services = ["rsm", "kvserver", "clerk", "gateway", "dashboard"];
    let mut offences = vec![];
    for c in workspace() {
        for name in c.of_the_house() {
            let is = |list: &[&str], name: &str| list.contains(&name);
            let service_to_engine = is(&services, &c.name) && is(&engines, name);
            let engine_to_service = is(&engines, &c.name) && is(&services, name);
            let far = matches!((c.name.as_str(), name), ("gateway" | "clerk", "cluster"));
            if service_to_engine || engine_to_service || far {
                offences.push(format!("{} depends on {name}", c.name));
            }
        }
    }
    none(
        offences,
        "Services and engines meet in protocol::log only: an engine never looks inside a command, and\na service runs on any engine. Put what both need into protocol.",
    );
}

#[test]
fn no_dependency_is_idle() {
    let mut offences = vec![];
    for c in workspace() {
        let sources = c.sources();
        for name in c.dependencies() {
            let word = name.replace('-', "_");
            // By path (`serde::`), by `use`, or by an attribute of a derive.
            if !sources.iter().any(|(_, code)| words(code).iter().any(|(_, w)| *w == word)) {
                offences.push(format!("{} does not use {name}", c.dir));
            }
        }
    }
    none(offences, "Take it out of the crate's [dependencies] (tests have [dev-dependencies]).");
}

#[test]
fn every_crate_inherits_the_lints_and_the_versions() {
    let mut offences = vec![];
    for c in workspace() {
        let lints = c.manifest.get("lints").and_then(|lints| lints.get("workspace"));
        if lints.and_then(Value::as_bool) != Some(true) {
            offences.push(format!("{}: add [lints] workspace = true", c.dir));
        }
        for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(table) = c.manifest.get(table).and_then(Value::as_table) else { continue };
            for (name, value) in table {
                if value.get("workspace").and_then(Value::as_bool) != Some(true) {
                    offences.push(format!("{}: write {name}.workspace = true", c.dir));
                }
            }
        }
    }
    none(offences, "Lints and versions stand once, in the Cargo.toml of the workspace.");
}

#[test]
fn every_dependency_says_what_for() {
    let all = text("Cargo.toml");
    let list = all.split("[workspace.dependencies]").nth(1).unwrap_or_default();
    let list = list.split("\n[").next().unwrap_or_default();
    let foreign = list.lines().filter(|line| line.contains('=') && !line.starts_with("quorate-"));
    let silent = foreign.filter(|line| {
        line.rsplit_once(" # ").is_none_or(|(_, why)| why.trim().is_empty() || why.contains('"'))
    });
    let silent = silent.map(str::to_string).collect();
    none(silent, "Say behind a # what the crate is for: few dependencies, each with a reason.");
}

#[test]
fn only_the_gateway_knows_resp() {
    let mut offences = vec![];
    let mut all = sources();
    for folder in ["tests", "benches"] {
        let more = files(&root().join(folder), ".rs");
        all.extend(more.iter().map(|path| (short(path), code(path))));
    }
    for (path, code) in all {
        let client = ["cli/", "tests/", "benches/"].iter().any(|dir| path.starts_with(dir));
        for (at, _) in code.match_indices("resp::") {
            let whole =
                code[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '_');
            let through =
                code[..at].ends_with("quorate_gateway::") || code[..at].ends_with("crate::");
            let own = path.starts_with("actors/gateway/");
            if whole && !own && !(client && through) {
                offences.push(format!("{path}:{}", code[..at].matches('\n').count() + 1));
            }
        }
    }
    none(
        offences,
        "Only actors/gateway encodes and decodes the Redis protocol. Clients of a node (the binary, its\nbench, tests) use quorate_gateway::resp; everybody else speaks in operations, to the clerk.",
    );
}

#[test]
fn only_the_cluster_connects_nodes() {
    let sockets = [
        "TcpStream",
        "TcpListener",
        "TcpSocket",
        "UdpSocket",
        "UnixStream",
        "UnixListener",
        "socket2",
    ];
    let excused = [
        "cluster/src/",
        // Their own clients' sockets, on listeners that node has bound.
        "actors/gateway/src/actor.rs",
        "actors/gateway/src/socket.rs",
        "actors/dashboard/src/",
        "node/src/process.rs",
        // A client of nodes, from outside.
        "cli/src/",
    ];
    let mut offences = uses(&sources(), &sockets, &excused);
    for (path, code) in sources() {
        let connects = code.contains("TcpStream::connect") || code.contains("TcpSocket");
        if connects && !path.starts_with("cluster/src/") && !path.starts_with("cli/src/") {
            offences.push(format!("{path} opens a connection"));
        }
    }
    none(
        offences,
        "Messages between nodes go through stage's Peers and Link to the cluster actor, which knows\nincarnations, bounds and faults. If this is another kind of socket, excuse its file by name here\nand in ARCHITECTURE.md, What always holds.",
    );
}

#[test]
fn only_persistence_touches_files() {
    let excused = [
        "persistence/src/",
        // The configuration is read before there is a node.
        "node/src/config.rs",
        // Configurations of a local cluster, values from files.
        "cli/src/",
        // The trace of a run that failed, when it is asked for.
        "sim/src/world.rs",
    ];
    let offences = uses(&sources(), &["fs", "OpenOptions", "tempfile"], &excused);
    none(
        offences,
        "Ask the files actor (quorate_persistence::FilesMessage) or go through the Disk trait: only so is\nit atomic, durable before it is said, and part of the simulation.",
    );
}

#[test]
fn rules_and_messages_are_plain_code() {
    let pure = |path: &str| {
        let name = path.rsplit('/').next().unwrap_or_default();
        let whole = [
            "protocol/src/",
            "actors/gateway/src/cmd/",
            "actors/gateway/src/resp/",
            "actors/gateway/src/connection.rs",
            "actors/gateway/src/counters.rs",
            "actors/gateway/src/node.rs",
            "actors/gateway/src/order.rs",
            "actors/gateway/src/session.rs",
            "actors/gateway/src/slots.rs",
            "actors/raft/src/candidate.rs",
            "actors/raft/src/follower.rs",
            "actors/raft/src/leader.rs",
            "actors/raft/src/log.rs",
            "actors/raft/src/wishes.rs",
            "cluster/src/frame.rs",
            "cluster/src/handshake.rs",
            "cluster/src/faults.rs",
        ];
        let names =
            ["core.rs", "messages.rs", "campaign.rs", "lead.rs", "machine.rs", "sessions.rs"];
        let actor = path.starts_with("actors/") || path.starts_with("cluster/");
        (actor && (names.contains(&name) || ["origins.rs", "request.rs"].contains(&name)))
            || whole.iter().any(|start| path.starts_with(start))
    };
    let sources: Vec<_> = sources().into_iter().filter(|(path, _)| pure(path)).collect();
    let cores = sources.iter().filter(|(path, _)| path.ends_with("/core.rs")).count();
    assert!(cores >= 4, "the cores have moved: {cores} are left; tell this test where they are");
    let world = [
        "actix",
        "actix_rt",
        "actix_web",
        "tokio",
        "rand",
        "rand_chacha",
        "Instant",
        "SystemTime",
        "fs",
        "thread",
        "thread_local",
        "Mutex",
        "RwLock",
        "OnceLock",
        "HashMap",
        "HashSet",
        "static_mut",
    ];
    none(
        uses(&sources, &world, &[]),
        "A core decides from messages and timers alone: no actor, clock, disk, thread, lock or chance.\nAsk for a timer range or a record through Out; let the actor in actor.rs do the rest.",
    );
}

#[test]
fn nothing_is_unwrapped_outside_of_tests() {
    let mut offences = vec![];
    for (path, code) in sources() {
        for (number, line) in code.lines().enumerate() {
            if line.contains(".unwrap()") {
                offences.push(format!("{path}:{}", number + 1));
            }
        }
    }
    none(offences, "Handle it, or say why it cannot fail: expect(\"..\").");
}

/// The file of a module of a crate, and what its path has left over.
fn module(c: &Crate, path: &[&str]) -> Option<(String, usize)> {
    let depth = path.iter().take_while(|part| part.starts_with(char::is_lowercase)).count();
    for depth in (1..=depth).rev() {
        let inside = path[..depth].join("/");
        for end in [format!("{inside}.rs"), format!("{inside}/mod.rs")] {
            let file = format!("{}/src/{end}", c.dir);
            if root().join(&file).is_file() {
                return Some((file, depth));
            }
        }
    }
    None
}

#[test]
fn every_name_in_the_life_of_a_put_exists() {
    let crates = workspace();
    let mut offences = vec![];
    let mut found = 0;
    for heading in ["Life of a Put", "Life of a Get"] {
        let section = section("ARCHITECTURE.md", heading);
        for name in section.split('`').skip(1).step_by(2).filter(|span| span.contains("::")) {
            let parts: Vec<&str> = name.split("::").collect();
            let at = crates.iter().find(|c| c.name == parts[0]);
            let at = at.and_then(|c| module(c, &parts[1..]));
            let exists = at.is_some_and(|(file, depth)| {
                let code = code(&root().join(file));
                match &parts[1 + depth..] {
                    [function] => has_function(&code, None, function),
                    [of, function] => has_function(&code, Some(of), function),
                    _ => false,
                }
            });
            match exists {
                true => found += 1,
                false => offences.push(format!("{heading}: {name}")),
            }
        }
    }
    none(
        offences,
        "ARCHITECTURE.md names a function that is not in the code, as crate::module::[Type::]function.\nFollow the code from the step before, and tell the way it goes now.",
    );
    assert!(found >= 40, "only {found} functions are named: the lives have lost their steps");
}

/// The enums that actors speak in: crate and type, with the file and the variants.
fn vocabulary() -> BTreeMap<(String, String), (String, Vec<String>)> {
    let mut all = BTreeMap::new();
    for c in workspace() {
        let speaks = c.dir.starts_with("actors/")
            || ["cluster", "persistence", "protocol"].contains(&c.dir.as_str());
        for (path, code) in c.sources().into_iter().filter(|_| speaks) {
            let log = path == "protocol/src/log.rs";
            let name = if log { "log".to_string() } else { c.name.clone() };
            for (of, variants) in enums(&code) {
                all.insert((name.clone(), of), (path.clone(), variants));
            }
        }
    }
    all
}

#[test]
fn every_message_has_its_row_and_every_row_its_message() {
    let vocabulary = vocabulary();
    let code_of = |file: &str| code(&root().join(file));
    let table = text("docs/messages.md");
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let (mut listed, mut offences) = (BTreeSet::new(), vec![]);
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, _, _, file, _] = cells[..] else {
            offences.push(format!("not five cells: {row}"));
            continue;
        };
        if cells.iter().any(|cell| cell.is_empty()) {
            offences.push(format!("an empty cell: {row}"));
        }
        let (name, file) = (name.trim_matches('`'), file.trim_matches('`'));
        let exists = match name.split("::").collect::<Vec<_>>()[..] {
            [of, r#type, variant] => {
                let found = vocabulary.get(&(of.to_string(), r#type.to_string()));
                found.is_some_and(|(path, all)| path == file && all.iter().any(|v| v == variant))
            }
            [_, r#type] => root().join(file).is_file() && has_struct(&code_of(file), r#type),
            _ => false,
        };
        if !exists {
            offences.push(format!("{name} is not in {file}"));
        }
        if !listed.insert(name.to_string()) {
            offences.push(format!("{name} has two rows"));
        }
    }
    // What else is spoken, besides enums whose names say so.
    let also = ["Answer", "Report", "Notice", "Request", "Outcome", "Library", "Durability"];
    let messages = vocabulary.iter().filter(|((_, of), _)| {
        of.ends_with("Message") || of.ends_with("Event") || also.contains(&of.as_str())
    });
    for ((name, of), (file, variants)) in messages {
        for variant in variants.iter().map(|variant| format!("{name}::{of}::{variant}")) {
            if !listed.contains(&variant) {
                offences.push(format!("{variant} of {file} has no row"));
            }
        }
    }
    none(
        offences,
        "docs/messages.md has one row for each variant: message, from, to, file, section.",
    );
}

/// The numbers of invariants that stand right behind `before` and in front of `after`.
fn numbers<'a>(text: &'a str, before: &str, after: char) -> BTreeSet<&'a str> {
    let behind = text.match_indices(before).map(|(at, found)| &text[at + found.len()..]);
    let numbers = behind.filter_map(|rest| Some(rest.split_once(after)?.0)).filter(|number| {
        let digits = number.trim_start_matches(|c: char| c.is_ascii_uppercase());
        number.len() == digits.len() + 1
            && !digits.is_empty()
            && digits.chars().all(|c| c.is_ascii_digit())
    });
    numbers.collect()
}

#[test]
fn every_invariant_that_is_asserted_is_stated() {
    let (mut offences, mut found) = (vec![], 0);
    for c in workspace() {
        let paths = files(&root().join(&c.dir).join("src"), ".rs");
        let texts: Vec<String> = paths.iter().map(|path| text(&short(path))).collect();
        let stated: BTreeSet<&str> =
            texts.iter().flat_map(|text| numbers(text, "//! ", '.')).collect();
        for number in texts.iter().flat_map(|text| numbers(text, "\"", ':')) {
            found += 1;
            if !stated.contains(number) {
                offences.push(format!("{} asserts {number}", c.dir));
            }
        }
    }
    none(offences, "State it in the crate's documentation, as a line that begins with its number.");
    assert!(found >= 10, "only {found} assertions name an invariant");
}

#[test]
fn the_table_of_invariants_is_complete() {
    let section = section("ARCHITECTURE.md", "What always holds");
    let mut listed = BTreeSet::new();
    for row in section.lines().filter(|row| row.starts_with("| ") && row.contains('–')) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let (first, last) = cells[0].split_once('–').expect("a row begins with a range");
        let (letter, last) = last.split_at(1);
        let last: u32 = last.parse().unwrap_or_else(|error| panic!("{row}: {error}"));
        assert_eq!(first, format!("{letter}1"), "{row}");
        let file = cells[1].trim_matches('`');
        listed.extend((1..=last).map(|number| (file.to_string(), format!("{letter}{number}"))));
    }
    let mut stated = BTreeSet::new();
    for c in workspace() {
        for path in files(&root().join(&c.dir).join("src"), ".rs") {
            let (file, text) = (short(&path), text(&short(&path)));
            let numbers = numbers(&text, "\n//! ", '.');
            stated.extend(numbers.into_iter().map(|number| (file.clone(), number.to_string())));
        }
    }
    let show = |(file, number): &(String, String)| format!("{number} of {file}");
    let offences = listed.symmetric_difference(&stated).map(show).collect();
    none(offences, "Bring the table in ARCHITECTURE.md, What always holds, up to date.");
}

#[test]
fn documents_that_are_named_exist() {
    let mut offences = vec![];
    for ending in [".rs", ".md", ".toml"] {
        for path in files(&root(), ending) {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let name = |c: char| !c.is_alphanumeric() && !"./_-".contains(c);
            let words = text.split(name).map(|word| word.trim_end_matches('.'));
            for word in words.filter(|word| word.ends_with(".md") && word.len() > 3) {
                let beside = path.parent().map(|dir| dir.join(word));
                if !root().join(word).exists() && !beside.is_some_and(|path| path.exists()) {
                    offences.push(format!("{}: {word}", short(&path)));
                }
            }
        }
    }
    none(offences, "Name documents of this repository, by their path from its root.");
}

#[test]
fn no_file_has_a_path_of_a_machine() {
    let homes = ["home", "root", "Users", "work"].map(|name| format!("/{name}/"));
    let mut offences = vec![];
    for path in files(&root(), "") {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (number, line) in text.lines().enumerate() {
            if homes.iter().any(|home| line.contains(home)) {
                offences.push(format!("{}:{}: {}", short(&path), number + 1, line.trim()));
            }
        }
    }
    none(
        offences,
        "Take the place from an argument, from the environment or from a temporary directory.",
    );
}

#[test]
fn the_reader_of_sources_is_not_fooled() {
    let dir = root().join("tests/source");
    let own = code(&dir.join("mod.rs"));
    assert!(has_function(&own, None, "literal_end"));
    assert!(!has_function(&own, Some("Path"), "literal_end"));
    assert!(!own.contains("compiled for tests only"), "comments are blank");
    assert!(!own.contains("#[cfg(test)]"), "strings are blank");
    let enums =
        enums("pub enum A {\n #[serde(skip)]\n B(Vec<(u8, u8)>),\n C { d: E, f: G },\n H,\n}");
    assert_eq!(enums, [("A".to_string(), ["B", "C", "H"].map(str::to_string).to_vec())]);
}
