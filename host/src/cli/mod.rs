//! The command line. A command opens the directory itself, or asks the process that holds it through its socket; what it does is the same
//! `Request` in both cases.
//!
//! ```text
//! arguments ─► Request ─► Node, here        ─┐
//!                    └──► socket ─► Node, there ─┴─► lines, progress, result ─► Screen
//! ```
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | failed: the same command may succeed later, or once what the error names is set right |
//! | 2 | bad input: the arguments, a file or the directory are not what they should be; nothing was written |

mod bench;
mod binlog;
mod collection;
mod component;
mod delete;
mod demo;
mod export;
mod failure;
mod flush;
mod ingest;
mod quarantine;
mod record;
mod request;
mod scan;
mod screen;
mod segments;
mod serve;
mod status;
mod swap;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use serde_json::Value;
use tracing_subscriber::EnvFilter;

pub(crate) use self::failure::{BadInput, exit_code, sentence};
pub(crate) use self::request::{Progress, Request, Sink};

use self::screen::Screen;
use crate::admin;
use crate::node::{Node, NodeError, Settings};

/// How long a command waits for another process to let go of the directory or to open its socket.
const HELD_WAIT: Duration = Duration::from_secs(10);
const HELD_POLL: Duration = Duration::from_millis(50);

/// Tidegate drains the write-ahead log of a streaming vector database into segment files.
///
/// What is flushed when, and how far the log may be truncated, is decided by a WebAssembly component that this program hosts and checks. A
/// directory (--dir) is a self-contained node: log, coordinator, segment files and settings (tidegate.toml).
#[derive(Debug, Parser)]
#[command(version, after_long_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  tidegate demo
  tidegate collection create --dir node --schema digits.schema.json --shards 2
  tidegate ingest --dir node --collection digits --file digits.parquet
  tidegate flush --dir node --collection digits
  tidegate scan --dir node --collection digits --out back.parquet

Exit codes:
  0  done
  1  failed: the error says what to set right; the same command may then succeed
  2  bad input: the arguments, a file or the directory are not what they should be; nothing was written

With --json the last line of the output is one JSON object.
TIDEGATE_LOG=debug says more on stderr; TIDEGATE_<KEY> overrides a key of tidegate.toml.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the whole story on bundled real data: ingest, delete, flush, read back, compare.
    Demo(demo::Demo),
    /// Run a node until SIGTERM or SIGINT; other commands on its directory are served through its socket.
    Node(serve::Serve),
    /// Create, drop or list collections.
    Collection {
        #[command(subcommand)]
        command: CollectionCommand,
    },
    /// Insert the rows of a Parquet file; returns when they are durable in the log.
    Ingest(AtNode<ingest::Ingest>),
    /// Delete rows by their primary keys; returns when the deletes are durable in the log.
    Delete(AtNode<delete::Delete>),
    /// Complete the growing segments; returns when the rows are in flushed segments and the checkpoints passed.
    Flush(AtNode<flush::Flush>),
    /// Read the segment files of a collection back into a Parquet file, deletes applied.
    Scan(AtNode<scan::Scan>),
    /// Write the segment files of a flushed collection in the layout that a Milvus import takes, and print the calls to make.
    Export(AtNode<export::Export>),
    /// Show the pchannels, their channels, checkpoints and ledgers.
    Status(AtNode<status::ShowStatus>),
    /// List segments with their files.
    Segments(AtNode<segments::Segments>),
    /// Say why a channel's checkpoint is where it is.
    Explain(AtNode<status::Explain>),
    /// Have another component decide, without a restart and without reading a message twice.
    Swap(AtNode<swap::Swap>),
    /// Have the component before decide again.
    Rollback(AtNode<swap::Rollback>),
    /// Write the turns of a pchannel to a trace.
    Record(AtNode<record::Record>),
    /// Run a component over a trace.
    Replay(record::Replay),
    /// List messages that cannot be flushed, or append them again.
    Quarantine {
        #[command(subcommand)]
        command: QuarantineCommand,
    },
    /// Show what is in a segment file.
    Binlog(binlog::Binlog),
    /// Look at a component's file, or try it.
    Component {
        #[command(subcommand)]
        command: component::Component,
    },
    /// Measure on this machine; meant for a release build: cargo run --release -- bench dispatch.
    Bench(bench::Bench),
}

#[derive(Debug, Subcommand)]
enum CollectionCommand {
    /// Create a collection from a schema file; makes the directory if it is not there.
    Create(AtNode<collection::Create>),
    /// Drop a collection; returns when each of its channels is dropped.
    Drop(AtNode<collection::Drop>),
    /// List the collections.
    List(AtNode<collection::List>),
}

#[derive(Debug, Subcommand)]
enum QuarantineCommand {
    /// List the messages that are set aside, why, and what became of them.
    List(AtNode<quarantine::List>),
    /// Append messages that are set aside again, with new ticks; returns when they are durable in the log.
    Retry(AtNode<quarantine::Retry>),
}

/// A request and the node it is for.
#[derive(Debug, Args)]
struct AtNode<R: Args> {
    /// Directory of the node.
    #[arg(long)]
    dir: PathBuf,
    /// Print one JSON object as the last line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    request: R,
}

/// Runs the program with the process' arguments.
pub fn main() -> ExitCode {
    main_with(std::env::args_os())
}

/// Runs the program with given arguments, the program's name first.
pub fn main_with(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = Cli::parse_from(args);
    // What the databases warn of is why a log or a coordinator stopped.
    let quiet = if matches!(cli.command, Command::Node(_)) { "info,fjall=warn,lsm_tree=warn" } else { "warn" };
    let filter = EnvFilter::try_from_env("TIDEGATE_LOG").unwrap_or_else(|_| EnvFilter::new(quiet));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal()).init();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", sentence(&error));
            ExitCode::from(exit_code(&error))
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Demo(demo) => demo.run(),
        Command::Node(serve) => serve.run(),
        Command::Collection { command: CollectionCommand::Create(at) } => at.run(Request::CreateCollection),
        Command::Collection { command: CollectionCommand::Drop(at) } => at.run(Request::DropCollection),
        Command::Collection { command: CollectionCommand::List(at) } => at.run(Request::ListCollections),
        Command::Ingest(at) => at.run(Request::Ingest),
        Command::Delete(at) => at.run(Request::Delete),
        Command::Flush(at) => at.run(Request::Flush),
        Command::Scan(at) => at.run(Request::Scan),
        Command::Export(at) => at.run(Request::Export),
        Command::Status(at) => at.run(Request::Status),
        Command::Segments(at) => at.run(Request::Segments),
        Command::Explain(at) => at.run(Request::Explain),
        Command::Swap(at) => at.run(Request::Swap),
        Command::Rollback(at) => at.run(Request::Rollback),
        Command::Record(at) => at.run(Request::Record),
        Command::Replay(replay) => replay.run(),
        Command::Quarantine { command: QuarantineCommand::List(at) } => at.run(Request::QuarantineList),
        Command::Quarantine { command: QuarantineCommand::Retry(at) } => at.run(Request::QuarantineRetry),
        Command::Binlog(binlog) => binlog.run(),
        Command::Component { command } => command.run(),
        Command::Bench(bench) => bench.run(),
    }
}

impl<R: Args> AtNode<R> {
    fn run(self, to_request: fn(R) -> Request) -> anyhow::Result<()> {
        let mut request = to_request(self.request);
        request.check()?;
        let mut screen = Screen::new(self.json);
        let done = ask(&self.dir, &request, &mut screen)?;
        screen.finish(&done, |done| request.render(done))
    }
}

/// Has a request carried out, by the process that holds the directory if there is one.
fn ask(dir: &Path, request: &Request, sink: &mut dyn Sink) -> anyhow::Result<Value> {
    let began = Instant::now();
    loop {
        if let Some(connection) = admin::connect(dir) {
            return connection.ask(request, sink);
        }
        match Node::open(dir, settings(dir)?, request.makes_directory()) {
            Ok(node) => {
                let done = request.run(&node, sink);
                node.shutdown();
                return done;
            }
            Err(NodeError::Held { .. }) if began.elapsed() < HELD_WAIT => thread::sleep(HELD_POLL),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Settings of a directory; a wrong key or value in them is bad input.
fn settings(dir: &Path) -> anyhow::Result<Settings> {
    Settings::load(dir).map_err(|e| BadInput(sentence(&e)).into())
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
    fn a_request_is_the_same_on_both_sides_of_a_socket() {
        let line = ["tidegate", "ingest", "--dir", "d", "--collection", "c", "--file", "/r", "--from-row", "7", "--json"];
        let Command::Ingest(at) = Cli::try_parse_from(line).unwrap().command else { panic!("another command") };
        let sent = serde_json::to_string(&Request::Ingest(at.request)).unwrap();
        let received: Request = serde_json::from_str(&sent).unwrap();
        assert_eq!(serde_json::to_string(&received).unwrap(), sent);
        assert!(sent.contains("\"from_row\":7"), "{sent}");
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused_as_arguments() {
        for wrong in [
            &["tidegate", "collection", "create", "--dir", "d", "--schema", "s", "--shards", "0"][..],
            &["tidegate", "ingest", "--dir", "d", "--collection", "c", "--file", "f", "--batch-rows", "0"],
            &["tidegate", "node", "--dir", "d", "--http", "0.0.0.0:80"],
        ] {
            assert_eq!(Cli::try_parse_from(wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
    }
}
