//! The texts of errors: Redis' own where Redis has one.

use bytes::Bytes;

use crate::resp::Value;

pub(super) const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
pub(super) const SYNTAX: &str = "ERR syntax error";
/// CONFIG GET proto-max-bulk-len tells the bound.
pub(super) const STRING_TOO_LONG: &str =
    "ERR string exceeds maximum allowed size (proto-max-bulk-len)";

/// An error with a text that does not vary.
pub(super) fn fixed(text: &'static str) -> Value {
    Value::error(text)
}

pub(super) fn wrong_arity(command: &str) -> Value {
    Value::error(format!("ERR wrong number of arguments for '{command}' command"))
}

/// Redis shows 128 bytes of the name, and of the arguments as many whole ones as begin within 128
/// bytes, the last one cut.
pub(super) fn unknown_command(args: &[Bytes]) -> Value {
    let (name, rest) = args.split_first().map_or((&[][..], &[][..]), |(name, rest)| (name, rest));
    let mut shown = Vec::new();
    for arg in rest {
        if shown.len() >= 128 {
            break;
        }
        let most = 128 - shown.len();
        shown.push(b'\'');
        shown.extend_from_slice(text(arg, most));
        shown.extend_from_slice(b"' ");
    }
    let parts =
        [b"ERR unknown command '", text(name, 128), b"', with args beginning with: ", &shown];
    Value::error(parts.concat())
}

pub(super) fn unknown_subcommand(command: &str, subcommand: &[u8]) -> Value {
    let help = format!("'. Try {} HELP.", command.to_uppercase());
    Value::error([b"ERR unknown subcommand '", text(subcommand, 128), help.as_bytes()].concat())
}

/// The beginning of an argument as C sees a string: up to its first zero byte.
fn text(arg: &[u8], most: usize) -> &[u8] {
    let arg = arg.split(|&byte| byte == 0).next().unwrap_or_default();
    &arg[..arg.len().min(most)]
}
