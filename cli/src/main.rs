//! The `quorate` binary: nodes, a local cluster of them, a client, a bench, a judge.
//!
//! Every subcommand has its file. Human output is the default, `--json` is there on each.

mod bench;
mod check;
mod clock;
mod crash;
mod exit;
mod http;
mod kv;
mod local;
mod node;
mod output;
mod resp;
mod shards;
mod sim;
mod status;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Messages are many, small and freed by other threads than made them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A replicated, linearizable key/value store made of actors.
#[derive(Debug, Parser)]
#[command(version, after_help = exit::HELP, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a cluster of node processes on this machine, until Ctrl-C
    #[command(after_help = exit::HELP)]
    Local(local::Args),
    /// Run one node, until Ctrl-C
    #[command(after_help = exit::NODE_HELP)]
    Node(node::Args),
    /// Read the value of a key
    #[command(after_help = exit::HELP)]
    Get(kv::Get),
    /// Store a value
    #[command(after_help = exit::HELP)]
    Put(kv::Put),
    /// Append to a value, which is made when absent
    #[command(after_help = exit::HELP)]
    Append(kv::Append),
    /// Remove a key
    #[command(after_help = exit::HELP)]
    Delete(kv::Delete),
    /// Store a value only if the key is at a version (0: absent)
    #[command(after_help = exit::HELP)]
    Cas(kv::Cas),
    /// Show how the nodes stand
    #[command(after_help = exit::HELP)]
    Status(status::Args),
    /// See and change which group serves which shard
    #[command(after_help = exit::HELP)]
    Shards(shards::Args),
    /// Make an actor of a node panic; it restarts from what is durable
    #[command(after_help = exit::HELP)]
    Crash(crash::Args),
    /// Measure throughput and latency
    #[command(after_help = exit::HELP)]
    Bench(bench::Args),
    /// Judge whether a recorded history is linearizable
    #[command(after_help = check::HELP)]
    Check(check::Args),
    /// Simulate clusters in which anything may fail, and judge them
    #[command(after_help = sim::HELP)]
    Sim(sim::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Local(args) => local::run(args),
        Command::Node(args) => node::run(args),
        Command::Get(args) => kv::get(args),
        Command::Put(args) => kv::put(args),
        Command::Append(args) => kv::append(args),
        Command::Delete(args) => kv::delete(args),
        Command::Cas(args) => kv::cas(args),
        Command::Status(args) => status::run(args),
        Command::Shards(args) => shards::run(args),
        Command::Crash(args) => crash::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Check(args) => check::run(args),
        Command::Sim(args) => sim::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_subcommand_has_json() {
        for command in Cli::command().get_subcommands() {
            let has = command.get_arguments().any(|arg| arg.get_long() == Some("json"));
            assert!(has, "{} lacks --json", command.get_name());
        }
    }
}
