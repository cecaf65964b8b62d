//! One link, from its opening on: between the engine, the seal, the queues and the connection.

use core::task::Poll;

use bowline_proto::native::wire::{Data, record};
use bowline_proto::native::{CloseReason, Item, Link, Output, Received, Session};
use bowline_proto::time::Instant;
use bowline_secure::{Carrier, is_security_body};
use embassy_futures::poll_once;
use embassy_futures::select::{Either, Either3, select, select3};
use embassy_time::{Duration, with_timeout};
use embedded_io_async::{Error as _, ErrorKind, Read, Write};

use crate::seal::{Ticket, Transport};
use crate::shared::{Shared, count};
use crate::wire::{Wire, write_all};
use crate::{DownReason, Outbox, clock};

/// More than any frame takes that carries no payload.
const CONTROL: usize = 96;
/// What the server is told at the end may take this long to go.
const FAREWELL: Duration = Duration::from_millis(500);
/// The reason of a gap for a message that does not go through (§11.5).
const TOO_LARGE: u8 = 4;

pub(crate) struct Pump<'p, O> {
    pub(crate) shared: &'p Shared<O>,
    pub(crate) session: &'p mut Session,
    pub(crate) link: Link,
    pub(crate) seal: Option<Transport>,
    /// Where a ticket is kept for the next link.
    pub(crate) ticket: &'p mut Option<Ticket>,
    pub(crate) wire: Wire<'p>,
    /// Given out by the engine, and the record had no room for it: goes first into the next one.
    held: Option<Output>,
    /// The seq of the message the engine knows and may not have sent for want of credit.
    described: Option<u64>,
    /// When the last heartbeat was.
    beat: Instant,
}

impl<'p, O: Outbox> Pump<'p, O> {
    pub(crate) fn new(
        shared: &'p Shared<O>,
        session: &'p mut Session,
        link: Link,
        seal: Option<Transport>,
        ticket: &'p mut Option<Ticket>,
        wire: Wire<'p>,
    ) -> Self {
        Pump { shared, session, link, seal, ticket, wire, held: None, described: None, beat: Instant::ZERO }
    }

    /// Drives the link until it is over, and says why.
    ///
    /// Each turn has one time, and ends with the engine drained: first what was read goes in, then the outbox is
    /// settled and what the engine has to say is put into a record, then that is written or something is
    /// waited for.
    pub(crate) async fn run<C: Read + Write>(&mut self, connection: &mut C) -> DownReason {
        let mut now = clock::now();
        self.take_in(now);
        loop {
            let turn = self.turn(now).await;
            self.shared.counters.set(*self.session.counters());
            if self.link.is_up() {
                self.shared.comes_up(self.seal.as_ref().map(Transport::protection));
            }
            let wait = match turn {
                Ok(wait) => wait,
                Err(reason) => {
                    if self.wire.finish(self.seal.as_mut()) {
                        let _ = with_timeout(FAREWELL, write_all(connection, self.wire.unwritten())).await;
                    }
                    return reason;
                }
            };
            if !self.wire.is_empty() || self.held.is_some() {
                match self.write(connection).await {
                    Ok(then) => now = then,
                    Err(reason) => return reason,
                }
                // On a slow connection there may always be something to write: what comes meanwhile does not wait for that.
                match poll_once(self.wire.fill(connection)) {
                    Poll::Ready(Ok(())) => self.has_read(now),
                    Poll::Ready(Err(reason)) => return reason,
                    Poll::Pending => {}
                }
                continue;
            }
            self.shared.due.set(wait);
            let event = select3(self.wire.fill(connection), self.shared.work.wait(), clock::at(wait)).await;
            now = clock::now();
            match event {
                Either3::First(Ok(())) => self.has_read(now),
                Either3::First(Err(reason)) => return reason,
                Either3::Second(()) | Either3::Third(()) => self.link.handle_timeout(now),
            }
        }
    }

    fn has_read(&mut self, now: Instant) {
        self.take_in(now);
        self.beats(now);
    }

    /// The server was heard.
    fn beats(&mut self, now: Instant) {
        if self.link.is_up() && now.since(self.beat) >= self.link.keepalive().scaled(1, 2) {
            self.beat = now;
            self.shared.beat();
        }
    }

    /// What was read.
    fn take_in(&mut self, now: Instant) {
        let overhead = if self.seal.is_some() { Carrier::Lossless.overhead() as u16 } else { 0 };
        let Pump { shared, session, link, seal, ticket, wire, .. } = self;
        loop {
            let input = wire.input();
            let range = match record::next(input, link.max_body() + overhead) {
                Ok(Some(range)) => range,
                Ok(None) => return,
                Err(_) => return link.close(now, CloseReason::Protocol),
            };
            let end = range.end;
            let Some(body) = input.get_mut(range) else { return };
            let body = match seal {
                None => body,
                Some(seal) => match seal.open(body) {
                    Ok(body) => body,
                    Err(_) => return link.close(now, CloseReason::Protocol),
                },
            };
            if let Some(seal) = seal
                && is_security_body(body)
            {
                // On a keyed link everybody could have read it.
                match Ticket::receive(body, now) {
                    Ok(new) if seal.protection().encrypts() => **ticket = Some(new),
                    _ => link.close(now, CloseReason::Protocol),
                }
            } else {
                takes_body(shared, session, link, now, body);
            }
            wire.consume(end);
        }
    }

    /// Settles the outbox, and drains the engine into the record. When to come back, or why the link is over.
    async fn turn(&mut self, now: Instant) -> Result<Instant, DownReason> {
        let mut outbox = self.shared.outbox.lock().await;
        self.shared.settle(self.session, &mut *outbox).await.map_err(|_| DownReason::Storage)?;
        self.link.handle_room(now, self.shared.inbox(|inbox| inbox.room()));
        let sent = self.shared.sent.get();
        if let Some(seq) = self.described.filter(|seq| *seq > sent && self.link.is_up()) {
            // A policy or its time may have dropped it while it waited for credit.
            self.link.handle_item(now, seq, describe(&*outbox, &self.wire, seq));
        }
        loop {
            let output = match self.held.take() {
                Some(output) => output,
                None => self.link.poll_output(self.session, now),
            };
            self.shared.sent.set(self.session.sent());
            let has_room = match output {
                Output::Frame(frame) => {
                    let max_body = self.link.peer_max_body();
                    let emitted = self.wire.place(CONTROL, max_body).map(|place| frame.emit(place).unwrap_or(0));
                    self.wire.push(emitted.unwrap_or(0));
                    emitted.is_some()
                }
                Output::Data { seq, ask } => self.puts_data(&mut *outbox, seq, ask).await?,
                Output::Describe(seq) => {
                    self.link.handle_item(now, seq, describe(&*outbox, &self.wire, seq));
                    self.described = Some(seq);
                    true
                }
                // None is ever announced.
                Output::BestEffort => true,
                Output::Wait(at) => return Ok(at),
                Output::Close(reason) => return Err(DownReason::Engine(reason)),
            };
            if !has_room {
                self.held = Some(output);
                self.link.handle_write_blocked(now, true);
                return self.blocked_until(now);
            }
        }
    }

    /// Reads a message into its place in the record. False if the record has no room for it.
    async fn puts_data(&mut self, outbox: &mut O, seq: u64, ask: bool) -> Result<bool, DownReason> {
        // What the engine sends it has asked for, and the lock was not given away since, or it is held: then it
        // counts as sent, and stays.
        let Some(Item::Message { len }) = outbox.item(seq) else { return Err(DownReason::Storage) };
        let len = len as usize;
        let head = Data::head_len(len);
        let Some(place) = self.wire.place(head + len, self.link.peer_max_body()) else { return Ok(false) };
        let Some((front, payload)) = place.split_at_mut_checked(head) else { return Ok(false) };
        // A message that has rotted is a gap from now on; the engine must be asked anew, by a new link.
        let channel = outbox.read(seq, payload).await.map_err(|_| DownReason::Storage)?.channel;
        if Data::emit_head(seq as u16, ask, channel, len, front) != Some(head) {
            return Err(DownReason::Storage);
        }
        self.wire.push(head + len);
        Ok(true)
    }

    /// Until when the connection may take no bytes. While that is so the engine puts nothing out.
    fn blocked_until(&mut self, now: Instant) -> Result<Instant, DownReason> {
        loop {
            match self.link.poll_output(self.session, now) {
                Output::Wait(at) => return Ok(at),
                Output::Close(reason) => return Err(DownReason::Engine(reason)),
                _ => {}
            }
        }
    }

    /// Writes the record. What it returns is the time of the next turn.
    async fn write<C: Write>(&mut self, connection: &mut C) -> Result<Instant, DownReason> {
        if !self.wire.finish(self.seal.as_mut()) {
            return Err(DownReason::Engine(CloseReason::Done));
        }
        let mut now = clock::now();
        self.link.handle_write_blocked(now, true);
        while !self.wire.unwritten().is_empty() {
            let until = self.blocked_until(now)?;
            self.shared.due.set(until);
            let wrote = select(connection.write(self.wire.unwritten()), clock::at(until)).await;
            now = clock::now();
            match wrote {
                Either::First(Ok(0)) => return Err(DownReason::Transport(ErrorKind::WriteZero)),
                Either::First(Ok(count)) => {
                    self.wire.wrote(count);
                    self.link.handle_write_blocked(now, true);
                }
                Either::First(Err(error)) => return Err(DownReason::Transport(error.kind())),
                // The engine gives it up.
                Either::Second(()) => self.link.handle_timeout(now),
            }
        }
        self.link.handle_write_blocked(now, false);
        Ok(now)
    }
}

/// Reads a body frame by frame.
fn takes_body<O: Outbox>(shared: &Shared<O>, session: &mut Session, link: &mut Link, now: Instant, mut body: &[u8]) {
    loop {
        let durable = session.durable();
        let input = link.handle_body(session, now, body);
        body = body.get(input.consumed..).unwrap_or_default();
        let Some(received) = input.received else { return };
        match received {
            Received::Message { ticket, channel, .. } if shared.is_late(channel) => {
                shared.inbox(|inbox| inbox.skip(ticket.seq()));
                count(&shared.late);
            }
            Received::Message { ticket, channel, payload } => {
                if shared.inbox(|inbox| inbox.push(ticket.seq(), channel, payload)) {
                    shared.receivers.wake();
                } else {
                    // Cannot be: credit is room. It comes again, and so does what was not taken.
                    session.handle_storage_failed();
                    shared.inbox(|inbox| inbox.clear(session.durable(), session.durable()));
                    return;
                }
            }
            Received::Gap { ticket, count, .. } => shared.inbox(|inbox| inbox.drops(ticket.seq(), count)),
            Received::BestEffort { .. } => {
                count(&shared.refused);
            }
            // What was not acknowledged comes again, in the new one's numbers.
            Received::NewEpoch { epoch, .. } => {
                shared.epoch.set(epoch);
                shared.inbox(|inbox| inbox.clear(durable, 0));
            }
            Received::Acked
            | Received::Processed
            | Received::Resumed
            | Received::Quarantined(_)
            | Received::Closing { .. }
            | Received::Handled => {}
        }
    }
}

/// What stands in the outbox under a seq.
fn describe<O: Outbox>(outbox: &O, wire: &Wire<'_>, seq: u64) -> Item {
    match outbox.item(seq) {
        // Stored by a program with larger buffers.
        Some(Item::Message { len }) if len as usize > wire.max_payload() => {
            Item::Dropped { last: seq, reason: TOO_LARGE }
        }
        Some(item) => item,
        // Everything that is stored and not acknowledged is there.
        None => Item::Dropped { last: seq, reason: 0 },
    }
}
