//! Commands that look into a running server's books.

use clap::{Args, Subcommand};

use super::{Question, RunningServer};

#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// Show what the running server knows of a device: link, queues, counts, outages, keys
    Show(ShowDeviceArgs),
    /// Have the running server forget a device, with everything queued and stored for it
    Forget(ForgetDeviceArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ShowDeviceArgs {
    /// The device's id
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) question: Question,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Its link ends, and its queues, dead letters and counts go for good. Its keys
stay: `bowline key remove` removes those. It may connect again, as a new device
with a new session.")]
pub(crate) struct ForgetDeviceArgs {
    /// The device's id
    pub(crate) id: String,
    /// Do not ask; without a terminal it does not ask anyway
    #[arg(short, long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) server: RunningServer,
}

#[derive(Debug, Args)]
#[command(after_help = "\
A dead letter is a message that an app refused, that could not be read, or that
the device it was meant for cannot take. It stays in the store until it is
retried or dropped; the oldest goes when a device has more of them than
limits.dead_letters. A line that could not be read is retried as it came.

  bowline dead list                  all of them, with their numbers
  bowline dead show 3                why, and the message itself
  bowline dead retry 3               to the app again, or to the device again
  bowline dead drop --all kitchen    those of one device are gone for good")]
pub(crate) struct DeadArgs {
    #[command(subcommand)]
    pub(crate) command: DeadCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// List dead letters, oldest first
    List(ListDeadArgs),
    /// Show a dead letter: why it is one, and the message itself
    Show(ShowDeadArgs),
    /// Put dead letters to the end of the queues they came from, once each
    Retry(DeadLetters),
    /// Drop dead letters for good
    Drop(TakeDeadArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListDeadArgs {
    /// Only those of this device
    pub(crate) id: Option<String>,
    #[command(flatten)]
    pub(crate) question: Question,
}

#[derive(Debug, Args)]
pub(crate) struct ShowDeadArgs {
    /// Its number
    pub(crate) number: u64,
    #[command(flatten)]
    pub(crate) question: Question,
}

#[derive(Debug, Args)]
pub(crate) struct TakeDeadArgs {
    #[command(flatten)]
    pub(crate) which: DeadLetters,
    /// Do not ask about --all; without a terminal it does not ask anyway
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// Which dead letters.
#[derive(Debug, Args)]
pub(crate) struct DeadLetters {
    /// Their numbers
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "NUMBER")]
    pub(crate) numbers: Vec<u64>,
    /// All there are, or all of this device
    #[arg(long, value_name = "ID", num_args = 0..=1)]
    pub(crate) all: Option<Option<String>>,
    #[command(flatten)]
    pub(crate) server: RunningServer,
}
