//! How a message is sent.

use std::time::Duration;

use bowline_link::Sending;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

/// What happens to a message that cannot be sent at once, and what its sender waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct How {
    /// What happens while the queue is full; only messages with the same header and policy give way
    #[arg(long, value_enum, default_value_t, conflicts_with = "best_effort")]
    pub(crate) policy: Policy,
    /// Drop the message if it was not sent by then, in milliseconds from now [default: never]
    #[arg(long, value_name = "MS", conflicts_with = "best_effort", value_parser = clap::value_parser!(u64).range(1..))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires_ms: Option<u64>,
    /// What to wait for
    #[arg(long, value_enum, default_value_t, conflicts_with = "best_effort")]
    pub(crate) until: Until,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Policy {
    /// The message waits for room
    #[default]
    Block,
    /// The oldest message not sent yet makes room
    DropOldest,
    /// Earlier messages not sent yet go, room or not: only the latest counts
    KeepLatest,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Until {
    /// This side has stored it: it will be delivered
    Accepted,
    /// The other side has stored it
    #[default]
    Stored,
    /// The other side's app has handled it (dialect N)
    Processed,
}

impl How {
    /// Has the message sent this way.
    pub(crate) fn of(self, sending: Sending<'_>) -> Sending<'_> {
        let policy = match self.policy {
            Policy::Block => bowline_link::Policy::Block,
            Policy::DropOldest => bowline_link::Policy::DropOldest,
            Policy::KeepLatest => bowline_link::Policy::KeepLatest,
        };
        let receipt = match self.until {
            Until::Accepted => bowline_link::Receipt::Accepted,
            Until::Stored => bowline_link::Receipt::Stored,
            Until::Processed => bowline_link::Receipt::Processed,
        };
        let sending = sending.policy(policy).until(receipt);
        match self.expires_ms {
            Some(ms) => sending.expires_in(Duration::from_millis(ms)),
            None => sending,
        }
    }
}
