//! Requests to actions: what each command asks for, and how its answer looks.
//!
//! One table (`table.rs`) names every command with its arity, flags and keys, and the function that
//! reads its arguments. Such a function either answers at once, from the connection and the node,
//! or gives an operation for the clerk together with the shape of the answer ([`Shape`]). Before it is
//! called, its keys may lead the client elsewhere (`redirect.rs`).

mod args;
mod client;
mod cluster;
mod command;
mod config;
mod connection;
mod error;
mod glob;
mod info;
mod keys;
mod redirect;
mod server;
mod shape;
mod shards;
mod strings;
mod table;
mod versions;

pub use shape::Shape;
pub(crate) use shards::administered;

use bytes::Bytes;
use quorate_kvserver::Op;
use quorate_shardmaster::Command;

use crate::resp::Value;
use crate::{NodeInfo, Session};
use table::Spec;

/// What a request leads to.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// This answer, at once.
    Answer(Value),
    /// An operation for the clerk; its outcome is answered in this shape.
    Operate {
        /// What to do.
        op: Op,
        /// How to answer.
        shape: Shape,
    },
    /// A call to the shardmaster, for the clerk to make.
    Administer(Command),
    /// No answer (CLIENT REPLY).
    Silence,
    /// `OK`, and the connection ends.
    Quit,
    /// The connection ends without an answer: what speaks here is no client of ours.
    Close,
}

/// What a command's function gives: an action, or an error to answer.
pub(crate) type Parsed = Result<Action, Value>;

/// A request under way: the command, its arguments (its own name among them), and who asks where.
pub(crate) struct Call<'a> {
    spec: &'static Spec,
    args: Vec<Bytes>,
    session: &'a mut Session,
    node: &'a NodeInfo,
}

/// Reads a request, which has at least its name.
pub fn read(args: Vec<Bytes>, session: &mut Session, node: &NodeInfo) -> Action {
    let name = args.first().map_or(&[][..], |name| name);
    // A browser that was led here by a web page; what follows is chosen by that page.
    if name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:") {
        return Action::Close;
    }
    let spec = match table::find(&args) {
        Ok(spec) => spec,
        Err(error) => return Action::Answer(error),
    };
    if !spec.takes(args.len()) {
        return Action::Answer(error::wrong_arity(spec.name));
    }
    if let Some(elsewhere) = redirect::elsewhere(spec, &args, session, node) {
        return Action::Answer(elsewhere);
    }
    let mut call = Call { spec, args, session, node };
    (spec.run)(&mut call).unwrap_or_else(Action::Answer)
}
