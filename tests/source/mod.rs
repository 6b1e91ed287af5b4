//! Rust source as text: literals and comments blanked, test code cut out, items found.
//!
//! Not a parser. It knows as much of the language as the house rules need.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

/// The files below `dir` whose name ends with `ending`, in order, without build output and hidden
/// directories.
pub(crate) fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = vec![];
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries {
            let path = entry.expect("a directory can be listed").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && (!name.starts_with('.') || name == ".ci") {
                    open.push(path);
                }
            } else if name.ends_with(ending) && name != ".git" {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The code of a file: what stands in comments, strings and characters is blank, and so is what is
/// compiled for tests only. Lines keep their numbers.
pub(crate) fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    without_tests(&blanked(&text))
}

fn blanked(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        }
        for c in &chars[at..end.max(at)] {
            out.push(if *c == '\n' { '\n' } else { ' ' });
        }
        at = end.max(at);
    }
    out
}

/// Where the comment, string or character ends that begins at `at`; `at` if none does.
fn literal_end(chars: &[char], at: usize) -> usize {
    let is = |offset: usize, c: char| chars.get(at + offset) == Some(&c);
    let find = |from: usize, wanted: &str| {
        let wanted: Vec<char> = wanted.chars().collect();
        let starts = chars[from..].windows(wanted.len()).position(|window| window == wanted);
        starts.map_or(chars.len(), |place| from + place + wanted.len())
    };
    let quoted = |open: usize| {
        let mut end = open + 1;
        while end < chars.len() && chars[end] != chars[open] {
            end += if chars[end] == '\\' { 2 } else { 1 };
        }
        end + 1
    };
    let after_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match chars[at] {
        '/' if is(1, '/') => at + chars[at..].iter().take_while(|c| **c != '\n').count(),
        '/' if is(1, '*') => find(at + 2, "*/"),
        '"' => quoted(at).min(chars.len()),
        // Not a lifetime.
        '\'' if is(1, '\\') || is(2, '\'') => quoted(at).min(chars.len()),
        'r' if !after_word || chars[at - 1] == 'b' => {
            let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
            match is(1 + hashes, '"') {
                true => find(at + 2 + hashes, &format!("\"{}", "#".repeat(hashes))),
                false => at,
            }
        }
        _ => at,
    }
}

fn without_tests(code: &str) -> String {
    let mut code = code.to_string();
    while let Some(start) = code.find("#[cfg(test)]") {
        let rest = &code[start..];
        let item = rest.find([';', '{']).unwrap_or(rest.len() - 1);
        let end = match rest.as_bytes()[item] {
            b'{' => start + block(rest, item).end + 1,
            _ => start + item + 1,
        };
        let blank: String =
            code[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        code.replace_range(start..end, &blank);
    }
    code
}

/// What stands between the brace at `open` and the one that closes it.
fn block(code: &str, open: usize) -> Range<usize> {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return open + 1..at;
        }
    }
    open + 1..code.len()
}

/// The words of some code, each with its line.
pub(crate) fn words(code: &str) -> Vec<(usize, &str)> {
    let line = |(number, line)| {
        let words = str::split(line, |c: char| !c.is_alphanumeric() && c != '_');
        words.filter(|word| !word.is_empty()).map(move |word| (number + 1, word))
    };
    code.lines().enumerate().flat_map(line).collect()
}

fn follows(code: &str, first: &str, second: &str) -> bool {
    words(code).windows(2).any(|pair| pair[0].1 == first && pair[1].1 == second)
}

/// Whether some code defines a function, of a type if one is named.
pub(crate) fn has_function(code: &str, of: Option<&str>, name: &str) -> bool {
    let Some(of) = of else { return follows(code, "fn", name) };
    let starts = code.match_indices("\nimpl").map(|(at, _)| at);
    starts.into_iter().any(|start| {
        let open = code[start..].find('{').map_or(code.len(), |place| start + place);
        let header = &code[start..open];
        words(header).iter().any(|(_, word)| *word == of)
            && follows(&code[block(code, open)], "fn", name)
    })
}

/// Whether some code has a public struct of this name.
pub(crate) fn has_struct(code: &str, name: &str) -> bool {
    follows(code, "struct", name)
}

/// The public enums of some code, with their variants.
pub(crate) fn enums(code: &str) -> Vec<(String, Vec<String>)> {
    let starts = code.match_indices("pub enum ").map(|(at, found)| at + found.len());
    let found = starts.filter_map(|start| {
        let open = start + code[start..].find('{')?;
        let name = words(&code[start..open]).first()?.1.to_string();
        Some((name, variants(&code[block(code, open)])))
    });
    found.collect()
}

fn variants(body: &str) -> Vec<String> {
    let (mut found, mut depth, mut piece) = (vec![], 0, String::new());
    for c in body.chars().chain([',']) {
        match c {
            // Attributes, fields and their types are not names of variants.
            '(' | '{' | '[' => depth += 1,
            ')' | '}' | ']' => depth -= 1,
            ',' if depth == 0 => {
                found.extend(words(&piece).first().map(|(_, word)| word.to_string()));
                piece.clear();
            }
            c if depth == 0 => piece.push(c),
            _ => {}
        }
    }
    found
}
