//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::demo::DemoArgs;
use crate::how::How;

mod bench;
mod ledger;
mod record;

pub(crate) use bench::{
    BenchArgs, BenchCommand, BenchDialect, BenchKeysArgs, FleetArgs, HoldArgs, LatencyArgs, LoadArgs, SizeArgs,
    StormArgs,
};
pub(crate) use ledger::{
    DeadArgs, DeadCommand, DeadLetters, DeviceCommand, ForgetDeviceArgs, ListDeadArgs, ShowDeadArgs, ShowDeviceArgs,
    TakeDeadArgs,
};
pub(crate) use record::{Aggregate, Format, ListRecordArgs, QueryArgs, RecordArgs, RecordCommand, RecordFolder};

/// A link between small boards and a server that outlives the network, the board and the server.
///
/// A board calls `send`; the message reaches the server's app exactly once and in order. Boards that
/// run the MicroPython library `micropython-iot` (either flavour) connect unchanged.
#[derive(Debug, Parser)]
#[command(
    name = "bowline",
    version,
    arg_required_else_help = true,
    after_help = "\
Try it:
  bowline demo                          see the point, no hardware needed
  bowline serve                         a server with an echo app, this machine
  bowline serve --open-lan              the same for the boards on your network
  echo '[1]' | bowline device kitchen   be a board for a moment"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server
    Serve(ServeArgs),
    /// Be a device: send lines from standard input, print what comes. Also: show and forget devices
    Device(DeviceArgs),
    /// Send a message to a device through the running server
    Send(SendArgs),
    /// Print what devices send and receive, as it happens
    Tail(TailArgs),
    /// List the devices that the running server knows
    Devices(Question),
    /// List, show, retry and drop messages that nobody could handle
    Dead(DeadArgs),
    /// Read what the record app has kept of the devices' telemetry: tables, CSV, JSON, plots
    Record(RecordArgs),
    /// Give devices keys, so that each can prove who it is
    Key(KeyArgs),
    /// Show the point in half a minute: cut links, a restarted server, nothing lost
    Demo(DemoArgs),
    /// Put load on a server and measure it: latency, throughput, echoes, idle links, everyone back at once
    Bench(BenchArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Without a configuration it listens on 127.0.0.1, ports 9999 and 8123, lets every
device of this machine in, and echoes what it gets. Both ports speak all
dialects; they are the defaults of the two MicroPython libraries.

Boards that speak H, U or P cannot prove who they are, so letting the network in
must be asked for: --open-lan. A device with a key (bowline key) can, and gets
in with that only.")]
pub(crate) struct ServeArgs {
    /// Configuration file (TOML); all fields are explained in docs/configuration.md
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Address to listen on, instead of the configured ones; may be repeated. Port 0: the system chooses
    #[arg(short, long, value_name = "ADDRESS:PORT", value_parser = parse_address)]
    pub(crate) listen: Vec<SocketAddr>,
    /// Let devices without a key in from the whole network, without proof of who they are. Without --listen: on all addresses
    #[arg(long)]
    pub(crate) open_lan: bool,
    /// Folder for the server's files [default: ./bowline-data]
    #[arg(short, long, value_name = "FOLDER")]
    pub(crate) data: Option<PathBuf>,
    /// Check the configuration, say what it means, and stop
    #[arg(long)]
    pub(crate) check: bool,
    /// How log lines look
    #[arg(long, value_enum, default_value_t)]
    pub(crate) log_format: LogFormat,
    /// What is logged: error, warn, info, debug or trace, also for parts (bowline_server=debug)
    #[arg(long, env = "BOWLINE_LOG", default_value = "info", value_name = "FILTER")]
    pub(crate) log: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true,
    after_help = "\
Each line of standard input is a message. On dialect H a line that is not JSON
is sent as a JSON string, because that is what the other side expects; --raw
switches that off. After the end of input it waits until everything is
acknowledged, and a moment for answers.

  bowline device kitchen             be the device \"kitchen\"
  bowline device show kitchen        what the running server knows of it
  bowline device forget kitchen      have the server forget it
  bowline device -- show             be a device with the id \"show\""
)]
pub(crate) struct DeviceArgs {
    #[command(subcommand)]
    pub(crate) command: Option<DeviceCommand>,
    /// The device's id
    #[arg(required = true)]
    pub(crate) id: Option<String>,
    /// The server to connect to
    #[arg(short, long, default_value = "127.0.0.1:9999", value_name = "HOST:PORT")]
    pub(crate) server: String,
    /// What to speak
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) dialect: DialectArg,
    /// The line that `bowline key new` has printed, or a file with it: then everything is encrypted
    #[arg(short, long, value_name = "LINE|FILE", env = "BOWLINE_KEY", hide_env_values = true)]
    pub(crate) key: Option<String>,
    /// Prove by the key who is who, and encrypt nothing: as a board does that cannot. The server must allow it
    /// (security.unencrypted)
    #[arg(long, requires = "key")]
    pub(crate) unencrypted: bool,
    /// Folder for the outbox: what was read from standard input survives this process and goes on with the next
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data: Option<PathBuf>,
    /// Silence after which the link is given up, in milliseconds; the same as the server's
    #[arg(long, default_value_t = 3000, value_name = "MS", value_parser = clap::value_parser!(u64).range(100..))]
    pub(crate) timeout_ms: u64,
    /// Header of each message, in hexadecimal (dialects N and H): app, instance, tag
    #[arg(long, value_name = "HEX", value_parser = parse_hex)]
    pub(crate) header: Option<Bytes>,
    /// Send without waiting for acknowledgements; what finds no link is lost
    #[arg(long)]
    pub(crate) best_effort: bool,
    #[command(flatten)]
    pub(crate) how: How,
    /// Send lines as they are, JSON or not
    #[arg(long)]
    pub(crate) raw: bool,
    /// How long to wait for answers after the end of input, in milliseconds
    #[arg(long, default_value_t = 1000, value_name = "MS")]
    pub(crate) linger_ms: u64,
    /// End with an error if there is no server at first, instead of trying for ever
    #[arg(long)]
    pub(crate) fail_fast: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum DialectArg {
    /// The native one: many messages in flight, keys, durable sessions
    #[default]
    N,
    /// Headers: the library with read/write and readline/writeline (port 9999)
    H,
    /// Upstream: the library with readline/write (port 8123)
    U,
    /// Plain lines, without acknowledgements; the server has to know: devices.plain or listen_plain
    P,
}

#[derive(Debug, Args)]
#[command(after_help = "\
On dialect H a text that is not JSON is sent as a JSON string, because that is
what boards expect; --raw switches that off.

The message is stored before it is sent. If the device does not acknowledge it
in time it stays queued, also while the server does not run, and is delivered
when the device is back. Exit code 3 says so. Without a store
(store.durability = \"memory\") it ends with the server.

With --until accepted, `bowline tail` does not show when the device has it.")]
pub(crate) struct SendArgs {
    /// The device's id
    pub(crate) id: String,
    /// The message; without it, each line of standard input is one
    pub(crate) text: Option<String>,
    /// Header, in hexadecimal (dialects N and H): app, instance, tag
    #[arg(long, value_name = "HEX", value_parser = parse_hex)]
    pub(crate) header: Option<Bytes>,
    /// Send once, now, without an acknowledgement; fails if the device is not there
    #[arg(long)]
    pub(crate) best_effort: bool,
    #[command(flatten)]
    pub(crate) how: How,
    /// Send the text as it is, JSON or not
    #[arg(long)]
    pub(crate) raw: bool,
    /// How long to wait for what --until says, in milliseconds
    #[arg(long, default_value_t = 10_000, value_name = "MS")]
    pub(crate) timeout_ms: u64,
    #[command(flatten)]
    pub(crate) server: RunningServer,
}

#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// Only devices whose id matches; * stands for any text, ? for one character
    #[arg(default_value = "*")]
    pub(crate) pattern: String,
    /// Print one JSON object a line instead of text
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: RunningServer,
}

#[derive(Debug, Args)]
#[command(after_help = "\
A device with a key gets in with that key only: nobody can take its id, and what
it sends and gets is encrypted (for boards that cannot: security.unencrypted in
the configuration). The keys are in the data folder, in a file that
only its owner can read. The server need not run; if it does, it is told, and
acts at once.

  bowline key new kitchen      a key for the device \"kitchen\": a line to give it
  bowline key rotate kitchen   another one; the old goes when the new was shown
  bowline key revoke kitchen   it was stolen: its keys count no more, links end
  bowline key remove kitchen   forget the id: it is open again where the server is")]
pub(crate) struct KeyArgs {
    #[command(subcommand)]
    pub(crate) command: KeyCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key for a device that has none, and print the line to give to it
    New(NewKeyArgs),
    /// List the devices that have or had keys
    List(KeyFolder),
    /// Make a second key for a device; the first goes when the device has shown the second
    Rotate(NewKeyArgs),
    /// Revoke a device's keys; its id stays closed to everybody
    Revoke(RevokeKeyArgs),
    /// Forget a device's keys and that it ever had any
    Remove(RemoveKeyArgs),
}

#[derive(Debug, Args)]
pub(crate) struct NewKeyArgs {
    /// The device's id, at most 96 bytes
    pub(crate) id: String,
    /// Write the line to a new file that only its owner can read, instead of printing it
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Print a QR code of the line even if the output is no terminal
    #[arg(long, conflicts_with = "json")]
    pub(crate) qr: bool,
    #[command(flatten)]
    pub(crate) keys: KeyFolder,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeKeyArgs {
    /// The device's id
    pub(crate) id: String,
    /// Only the key with this id [default: all of the device's keys]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) key_id: Option<u8>,
    #[command(flatten)]
    pub(crate) keys: KeyFolder,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveKeyArgs {
    /// The device's id
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) keys: KeyFolder,
}

/// Where the keys are, and how the answer looks.
#[derive(Debug, Args)]
pub(crate) struct KeyFolder {
    /// Print JSON instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// The server's data folder, whether it runs or not
    #[arg(long, default_value = "./bowline-data", value_name = "FOLDER")]
    pub(crate) data: PathBuf,
}

/// Where the running server is that is asked, and how its answer looks.
#[derive(Debug, Args)]
pub(crate) struct Question {
    /// Print JSON instead of text
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: RunningServer,
}

/// Where the running server is.
#[derive(Debug, Args)]
pub(crate) struct RunningServer {
    /// The data folder of the running server
    #[arg(long, default_value = "./bowline-data", value_name = "FOLDER")]
    pub(crate) data: PathBuf,
}

/// Bytes given in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "expected ADDRESS:PORT in numbers, for example 127.0.0.1:9999 or [::1]:9999".to_owned())
}

/// Reads pairs of hexadecimal digits.
pub(crate) fn parse_hex(text: &str) -> Result<Bytes, String> {
    let wrong = || format!("expected pairs of hexadecimal digits, for example 000001, got {text:?}");
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return Err(wrong());
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| wrong()))
        .collect::<Result<_, _>>()
        .map(Bytes)
}
