//! The durable store of one server process: what each device's session, inbox, outbox and dead
//! letters are, across crashes of the process and of the machine.
//!
//! There is one way to change anything: [`Store::commit`] with a [`Transaction`], a list of
//! [`Change`]s that happen all or not at all. One thread writes at a time, mostly the store's own;
//! whatever waits while it writes goes into its next commit, so that a hundred devices share one
//! `fsync`. Without `fsync`, callers commit small transactions themselves
//! ([`Store::commit_in_place`]) while nothing waits, or gather some and commit them at one time
//! ([`Store::gather`]). A transaction's answer comes after its commit, so
//! an acknowledgement that waits for the answer never runs ahead of the disk (P3).
//!
//! ```
//! use bowline_store::{Change, Durability, InboxMessage, Limits, Millis, Seq, Store, Transaction};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let store = Store::open(folder.path(), Durability::Fsync, Limits::default())?;
//! let now = Millis(1_767_225_600_000);
//! store.commit(Change::device("boat-7", true, now)).wait()?;
//!
//! // A message and the session that remembers it: both or neither.
//! let message = InboxMessage {
//!     seq: Seq(1), epoch: 1, qos: true, received_at: now, header: "".into(), payload: "21.5".into(),
//! };
//! let transaction = Transaction::new()
//!     .with(Change::Receive { device: "boat-7".into(), message })
//!     .with(Change::Session { device: "boat-7".into(), format: 1, state: vec![1] });
//! store.commit(transaction).wait()?; // or `.await`
//!
//! let device = store.load("boat-7")?.ok_or("unknown")?;
//! assert_eq!(device.inbox[0].payload, "21.5");
//! # Ok(())
//! # }
//! ```
//!
//! # What a failed commit means
//! A transaction that was answered with an error is not visible, and no later answer rests on it.
//! After [`CommitError::Io`] alone there is a rest of doubt that no disk can take away: if the process
//! or the power fails before the next successful commit, the next process may find the transaction
//! after all, whole. It was never acknowledged, and comes with the session that recognises its resend.
//!
//! # Damage
//! What is read is what was committed: checksums tell where bits of the database have flipped, and a row that damage hides is
//! missed. [`ReadError::Damaged`] and [`CommitError::Damaged`] say where. Other devices are not hindered, and one
//! that is damaged can be forgotten.
//!
//! # Times
//! are the caller's ([`Millis`]); the store reads no clock.

mod apply;
mod batch;
mod change;
mod checksum;
mod commit;
mod database;
mod device;
mod directory;
mod error;
mod known;
mod limits;
mod model;
mod queue;
mod read;
mod rows;
mod schema;
mod store;
mod writer;

pub use change::{Change, Committed, Forgotten, Transaction};
pub use commit::Commit;
pub use error::{CommitError, NotQueued, OpenError, Queue, QuotaUnit, ReadError};
pub use limits::{Durability, Limits, Quota};
pub use model::{
    DeadId, DeadLetter, DeadLetterEntry, Device, DeviceSummary, Direction, InboxMessage, Millis, OutboxMessage, Seq,
    SessionState,
};
pub use store::{Health, Stats, Store, Worker};
