//! How a subcommand ends: its exit code, and what it says on standard error.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use serde_json::json;

use crate::output::say;

/// What the exit codes mean, for --help.
pub(crate) const HELP: &str = "Exit codes: 0 done; 1 an error answer, definitely not done; \
    2 usage or configuration; 3 outcome unknown: it may have happened, or may still; \
    4 could not reach the node";

/// The same for `quorate node`.
pub(crate) const NODE_HELP: &str = "Exit codes: 0 stopped when asked to; 1 could not start; \
    2 usage or configuration; 70 could not go on (the last lines on standard error say why)";

/// Of which kind a failure is. The numbers are the exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An error answer: what was asked has definitely not been done.
    Refused = 1,
    /// A usage or configuration error: nothing was tried.
    Usage = 2,
    /// It may have been done, or may still be.
    Unknown = 3,
    /// Nobody was reached, and nothing was done.
    Unreachable = 4,
}

impl Kind {
    /// In JSON.
    fn word(self) -> &'static str {
        match self {
            Kind::Refused => "refused",
            Kind::Usage => "usage",
            Kind::Unknown => "unknown",
            Kind::Unreachable => "unreachable",
        }
    }
}

/// Why a subcommand did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    /// What happened, and what to do next.
    pub(crate) text: String,
    how: How,
}

/// How a failure is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// To a person, on standard error.
    Text,
    /// To a script, on standard output.
    Json,
    /// Not at all: it was said already.
    Silent,
}

/// What a subcommand ends with.
pub(crate) type Done = Result<(), Failure>;

impl Failure {
    /// A failure of a kind.
    pub(crate) fn new(kind: Kind, text: impl Into<String>) -> Failure {
        Failure { kind, text: text.into(), how: How::Text }
    }

    /// A usage or configuration error.
    pub(crate) fn usage(text: impl Into<String>) -> Failure {
        Failure::new(Kind::Usage, text)
    }

    /// The same failure, said as JSON when `json`, unless it was said already.
    pub(crate) fn in_json(mut self, json: bool) -> Failure {
        if json && self.how == How::Text {
            self.how = How::Json;
        }
        self
    }

    /// The same failure, of which only the exit code remains.
    pub(crate) fn silent(mut self) -> Failure {
        self.how = How::Silent;
        self
    }

    /// Says what happened, and gives the exit code. Who does not listen any more has the code.
    pub(crate) fn report(&self) -> ExitCode {
        match self.how {
            How::Text => {
                let _ = writeln!(std::io::stderr(), "quorate: {self}");
            }
            How::Json => {
                let line = json!({ "error": self.text, "kind": self.kind.word() });
                let _ = say(&line.to_string());
            }
            How::Silent => {}
        }
        ExitCode::from(self.kind as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
