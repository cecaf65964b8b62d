//! What survives a link.

use super::wire::Cursors;
use super::{CloseReason, Counters};
use crate::Side;

/// One device's side of the conversation, across links. Its [`saved`](Session::save) form survives
/// the process too.
#[derive(Debug, Clone)]
pub struct Session {
    /// Whether this is the server's end.
    pub(super) server: Option<AsServer>,
    /// 0: none yet.
    pub(super) epoch: u64,
    /// The epoch and its numbering are stored here (§10.1).
    pub(super) epoch_stored: bool,
    /// Highest epoch ever offered by this process.
    pub(super) offered: u64,
    /// Numbers WELCOMEs on the server and links on the device.
    pub(super) serial: u64,
    /// The serial of the link that has the session. What has a lower one is of no effect (§10.5).
    pub(super) active: u64,
    /// The serial with which a failure to store ended the link there was.
    pub(super) failed: u64,
    pub(super) tx: Tx,
    pub(super) rx: Rx,
    pub(super) counters: Counters,
}

/// Stands in what only a server's end comes to. Without the feature `server` there is no value of it, so the compiler
/// leaves out what follows from one.
#[cfg(feature = "server")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct AsServer;

#[cfg(not(feature = "server"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum AsServer {}

/// The sending half.
#[derive(Debug, Clone, Default, Hash)]
pub(super) struct Tx {
    pub(super) acked: u64,
    /// The outbox is stored up to here.
    pub(super) last: u64,
    pub(super) processed: u64,
    /// Sent at least once by this process.
    pub(super) sent: u64,
}

/// The receiving half. `processed` ≤ `durable` ≤ `received`.
#[derive(Debug, Clone, Default, Hash)]
pub(super) struct Rx {
    pub(super) received: u64,
    pub(super) durable: u64,
    pub(super) processed: u64,
}

/// Names a received message or gap, and with it all before it in its epoch. Any may go back more
/// than once, in any order: they are cumulative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket {
    pub(super) epoch: u64,
    pub(super) seq: u64,
}

impl Ticket {
    /// Of a message that was stored by an earlier process.
    #[must_use]
    pub const fn stored(epoch: u64, seq: u64) -> Self {
        Ticket { epoch, seq }
    }

    /// The epoch the message belongs to.
    #[must_use]
    pub const fn epoch(self) -> u64 {
        self.epoch
    }

    /// The message's number in it. With the epoch, a stable id of the message.
    #[must_use]
    pub const fn seq(self) -> u64 {
        self.seq
    }
}

impl Session {
    /// A new session: no epoch yet, nothing sent, nothing received. With the feature `server`; a device's is
    /// [resumed](Session::resume).
    #[cfg(feature = "server")]
    #[must_use]
    pub fn new(side: Side) -> Self {
        Session { server: (side == Side::Server).then_some(AsServer), ..Session::device() }
    }

    /// A new one of a device.
    pub(super) fn device() -> Self {
        Session {
            server: None,
            epoch: 0,
            epoch_stored: true,
            offered: 0,
            serial: 0,
            active: 0,
            failed: 0,
            tx: Tx::default(),
            rx: Rx::default(),
            counters: Counters::default(),
        }
    }

    /// Which end this is.
    #[must_use]
    pub const fn side(&self) -> Side {
        match self.server {
            None => Side::Device,
            Some(_) => Side::Server,
        }
    }

    /// The epoch, 0 if there is none yet.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The peer has this message and all before durably: they may leave the outbox.
    #[must_use]
    pub const fn acked(&self) -> u64 {
        self.tx.acked
    }

    /// The outbox is stored up to this seq; the next message gets the next one.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.tx.last
    }

    /// Sent up to this seq by this process, in this epoch. Nothing of that is dropped before it is
    /// acknowledged (§11.5).
    #[must_use]
    pub const fn sent(&self) -> u64 {
        self.tx.sent
    }

    /// The peer's app has handled everything up to this seq (§11.4).
    #[must_use]
    pub const fn peer_processed(&self) -> u64 {
        self.tx.processed
    }

    /// Received up to this seq; not all of it need be durable.
    #[must_use]
    pub const fn received(&self) -> u64 {
        self.rx.received
    }

    /// Received and stored up to this seq.
    #[must_use]
    pub const fn durable(&self) -> u64 {
        self.rx.durable
    }

    /// What was counted so far.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The outbox is stored up to seq `last`, with that number (§14.2). Never goes back.
    pub fn handle_outbox(&mut self, last: u64) {
        self.tx.last = self.tx.last.max(last);
    }

    /// Another dialect has delivered the outbox up to `seq` while there was no epoch: the first epoch
    /// begins behind that, also if it has been offered already.
    pub fn handle_delivered(&mut self, seq: u64) {
        if self.epoch == 0 {
            self.tx.acked = self.tx.acked.max(seq);
            self.tx.last = self.tx.last.max(seq);
        }
    }

    /// The message or gap of `ticket` and all before it are stored. A ticket of an earlier epoch, or
    /// for what has been forgotten since, changes nothing (§14.3).
    pub fn handle_persisted(&mut self, ticket: Ticket) {
        if ticket.epoch == self.epoch && ticket.seq <= self.rx.received {
            self.rx.durable = self.rx.durable.max(ticket.seq);
        }
    }

    /// The app has handled the message of `ticket` and all before it. What is not durable is not processed (§11.4).
    pub fn handle_processed(&mut self, ticket: Ticket) {
        if ticket.epoch == self.epoch {
            self.rx.processed = self.rx.processed.max(ticket.seq.min(self.rx.durable));
        }
    }

    /// The epoch and its numbering are stored (§10.1).
    pub fn handle_epoch_stored(&mut self, epoch: u64) {
        self.epoch_stored |= epoch == self.epoch;
    }

    /// Storing has failed: what is not durable is forgotten, and comes again on the next link (§14.3).
    /// The driver must have dropped it too. Any link there is ends.
    pub fn handle_storage_failed(&mut self) {
        self.counters.storage_failures += 1;
        self.rx.received = self.rx.durable;
        self.expel();
        self.failed = self.active;
    }

    /// Forgets the peer, so that the next link begins a new epoch: someone's answer to a quarantine.
    /// The driver's outbox holds `waiting` stored messages. From now on they are numbered 1 to `waiting`,
    /// and will be sent from 1, as after [`Received::NewEpoch`](super::Received::NewEpoch): the driver
    /// may have sent some of what stood there by another dialect since.
    /// What was received and is not durable must be dropped, and this stored, before the next link opens.
    pub fn forget(&mut self, waiting: u64) {
        self.offered = self.offered.max(self.epoch);
        self.renumber(0);
        self.tx.last = waiting;
        self.epoch_stored = true;
        self.expel();
    }

    /// Takes the session from whatever link has it or is about to get it.
    pub(super) fn expel(&mut self) {
        self.active = self.next_serial();
    }

    /// Why a link does not have the session any more.
    pub(super) const fn expelled_by(&self) -> CloseReason {
        if self.active == self.failed { CloseReason::Storage } else { CloseReason::Replaced }
    }

    pub(super) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Begins an epoch: what is not acknowledged is numbered from 1 (§10.1).
    pub(super) fn renumber(&mut self, epoch: u64) {
        self.epoch = epoch;
        self.epoch_stored = false;
        self.tx = Tx { last: self.tx.last - self.tx.acked, ..Tx::default() };
        self.rx = Rx::default();
    }

    /// Where this end stands, or would stand in a new epoch.
    pub(super) const fn cursors(&self, new_epoch: bool) -> Cursors {
        let (tx, rx) = (&self.tx, &self.rx);
        if new_epoch {
            Cursors { durable: 0, received: 0, acked: 0, last: tx.last - tx.acked }
        } else {
            Cursors { durable: rx.durable, received: rx.received, acked: tx.acked, last: tx.last }
        }
    }
}
