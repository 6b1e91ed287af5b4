//! The one table of commands. Arity checks, COMMAND and its like, HELP and parsing all follow it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;

use super::{Call, Parsed, error};
use super::{client, cluster, command, config, connection, info, keys, server, shards};
use super::{strings, versions};
use crate::resp::Value;

/// A command, or a subcommand.
pub(super) struct Spec {
    /// In lower case; a subcommand as `client|id`.
    pub(super) name: &'static str,
    /// How many arguments it takes, its name included; negative: at least as many.
    pub(super) arity: i32,
    /// Redis' words for what it does, with a space between them.
    pub(super) flags: &'static str,
    /// Where its keys stand.
    pub(super) keys: Option<Keys>,
    /// Its family.
    pub(super) group: &'static str,
    /// The version of Redis that has it first; of Quorate for our own.
    pub(super) since: &'static str,
    /// One line for a person.
    pub(super) summary: &'static str,
    /// Its arguments, optional ones in brackets, with `...` after one that may be repeated.
    pub(super) syntax: &'static str,
    /// What it is divided into.
    pub(super) subcommands: &'static [Spec],
    /// Reads its arguments.
    pub(super) run: fn(&mut Call<'_>) -> Parsed,
}

/// Where the keys of a command stand among its arguments.
#[derive(Clone, Copy)]
pub(super) struct Keys {
    /// The first one.
    pub(super) first: usize,
    /// The last one; negative: counted from the end.
    pub(super) last: i64,
    /// From one to the next.
    pub(super) step: usize,
}

impl Spec {
    /// A command of the first version of Redis, without keys and arguments.
    pub(super) const fn new(
        name: &'static str,
        arity: i32,
        group: &'static str,
        run: fn(&mut Call<'_>) -> Parsed,
    ) -> Spec {
        let (flags, since, summary, syntax) = ("", "1.0.0", "", "");
        Spec {
            name,
            arity,
            flags,
            keys: None,
            group,
            since,
            summary,
            syntax,
            subcommands: &[],
            run,
        }
    }

    /// A command that is nothing but its subcommands.
    pub(super) const fn container(
        name: &'static str,
        group: &'static str,
        subcommands: &'static [Spec],
    ) -> Spec {
        Spec { subcommands, ..Spec::new(name, -2, group, without_subcommand) }
    }

    /// The subcommand that lists the others.
    pub(super) const fn help(name: &'static str, group: &'static str) -> Spec {
        Spec::new(name, 2, group, help).flags("loading stale").says("", "Prints this help")
    }

    pub(super) const fn flags(self, flags: &'static str) -> Spec {
        Spec { flags, ..self }
    }

    /// With the same key positions as `first last step` of COMMAND.
    pub(super) const fn keys(self, first: usize, last: i64, step: usize) -> Spec {
        Spec { keys: Some(Keys { first, last, step }), ..self }
    }

    pub(super) const fn since(self, since: &'static str) -> Spec {
        Spec { since, ..self }
    }

    /// With its arguments, and what it does.
    pub(super) const fn says(self, syntax: &'static str, summary: &'static str) -> Spec {
        Spec { syntax, summary, ..self }
    }

    pub(super) const fn subcommands(self, subcommands: &'static [Spec]) -> Spec {
        Spec { subcommands, ..self }
    }

    /// Whether it takes this many arguments, its name included.
    pub(super) fn takes(&self, args: usize) -> bool {
        let wanted = self.arity.unsigned_abs() as usize;
        // A subcommand's arity counts the name of its command, too.
        if self.arity < 0 { args >= wanted } else { args == wanted }
    }

    /// The keys among a request's arguments, its name included.
    pub(super) fn keys_of<'a>(
        &self,
        args: &'a [Bytes],
    ) -> impl Iterator<Item = &'a Bytes> + use<'a> {
        let places = self.keys.map(|keys| {
            let from_end = args.len().saturating_sub(keys.last.unsigned_abs() as usize);
            let last = usize::try_from(keys.last).unwrap_or(from_end);
            (keys.first..=last).step_by(keys.step)
        });
        places.into_iter().flatten().filter_map(|at| args.get(at))
    }

    /// The last part of the name.
    pub(super) fn short_name(&self) -> &'static str {
        self.name.rsplit('|').next().unwrap_or(self.name)
    }

    pub(super) fn has_flag(&self, flag: &str) -> bool {
        self.flags.split(' ').any(|word| word == flag)
    }

    /// The subcommand of this name.
    pub(super) fn subcommand(&self, name: &[u8]) -> Option<&'static Spec> {
        self.subcommands.iter().find(|sub| name.eq_ignore_ascii_case(sub.short_name().as_bytes()))
    }
}

/// Every command, by name.
static TABLE: LazyLock<BTreeMap<&'static [u8], &'static Spec>> = LazyLock::new(|| {
    let families = [
        strings::COMMANDS,
        keys::COMMANDS,
        versions::COMMANDS,
        connection::COMMANDS,
        client::COMMANDS,
        command::COMMANDS,
        config::COMMANDS,
        info::COMMANDS,
        cluster::COMMANDS,
        shards::COMMANDS,
        server::COMMANDS,
    ];
    families.into_iter().flatten().map(|spec| (spec.name.as_bytes(), spec)).collect()
});

/// Every command, in the order of their names.
pub(super) fn all() -> impl ExactSizeIterator<Item = &'static Spec> {
    TABLE.values().copied()
}

/// The command of this name, in letters of any case.
pub(super) fn command(name: &[u8]) -> Option<&'static Spec> {
    let mut lower = [0; 32];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    TABLE.get(&*lower).copied()
}

/// The command or subcommand that a request names; the answer when there is none.
pub(super) fn find(args: &[Bytes]) -> Result<&'static Spec, Value> {
    let name = args.first().map_or(&[][..], |name| name);
    let spec = command(name).ok_or_else(|| error::unknown_command(args))?;
    match args.get(1) {
        Some(name) if !spec.subcommands.is_empty() => {
            spec.subcommand(name).ok_or_else(|| error::unknown_subcommand(spec.name, name))
        }
        _ => Ok(spec),
    }
}

/// The command or subcommand of a name such as `client|id`.
pub(super) fn by_full_name(name: &[u8]) -> Option<&'static Spec> {
    let mut parts = name.splitn(2, |&byte| byte == b'|');
    let spec = command(parts.next()?)?;
    parts.next().map_or(Some(spec), |sub| spec.subcommand(sub))
}

/// A container is never run itself: its arity asks for a subcommand.
fn without_subcommand(call: &mut Call<'_>) -> Parsed {
    Err(error::wrong_arity(call.spec.name))
}

fn help(call: &mut Call<'_>) -> Parsed {
    let name = call.spec.name.split('|').next().unwrap_or_default();
    let subcommands = command(name.as_bytes()).map_or(&[][..], |spec| spec.subcommands);
    let heading =
        format!("{} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:", name.to_uppercase());
    let lines = subcommands.iter().flat_map(|sub| {
        let usage = format!("{} {}", sub.short_name().to_uppercase(), sub.syntax);
        [usage.trim_end().to_owned(), format!("    {}.", sub.summary)]
    });
    let lines = std::iter::once(heading).chain(lines);
    Ok(super::Action::Answer(Value::Array(lines.map(|line| Value::Simple(line.into())).collect())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everything() -> Vec<&'static Spec> {
        all().chain(all().flat_map(|spec| spec.subcommands)).collect()
    }

    #[test]
    fn every_row_is_complete() {
        for spec in everything() {
            assert!(!spec.summary.is_empty(), "{} has no summary", spec.name);
            assert!(!spec.summary.ends_with('.'), "{}", spec.name);
            assert_eq!(spec.name, spec.name.to_lowercase());
            assert!(spec.arity != 0);
            let is_data = spec.has_flag("readonly") || spec.has_flag("write");
            let only_one = !(spec.has_flag("readonly") && spec.has_flag("write"));
            assert!(only_one && (is_data || spec.keys.is_none()), "{}", spec.name);
            if let Some(keys) = spec.keys {
                assert!(keys.first > 0 && keys.step > 0, "{}", spec.name);
                assert!(spec.arity.unsigned_abs() as usize > keys.first, "{}", spec.name);
            }
        }
    }

    #[test]
    fn no_name_stands_twice() {
        let families: usize = everything().len();
        let names: std::collections::BTreeSet<_> = everything().iter().map(|s| s.name).collect();
        assert_eq!(names.len(), families);
    }

    #[test]
    fn subcommands_begin_with_their_command() {
        for spec in all() {
            for sub in spec.subcommands {
                assert_eq!(sub.name.split_once('|').map(|(name, _)| name), Some(spec.name));
                assert!(sub.subcommands.is_empty());
            }
        }
    }

    #[test]
    fn names_are_found_in_any_case() {
        assert_eq!(command(b"GeT").map(|spec| spec.name), Some("get"));
        assert!(command(b"").is_none());
        assert!(command(&[b'x'; 33]).is_none());
        assert_eq!(by_full_name(b"Config|GET").map(|spec| spec.name), Some("config|get"));
        assert!(by_full_name(b"config|none").is_none());
        assert!(by_full_name(b"get|none").is_none());
    }
}
