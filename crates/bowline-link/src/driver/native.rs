//! A link on N: between the native engine, the seal and the queues.

use bowline_proto::native::wire::{Best, Data, Frame, record};
use bowline_proto::native::{CloseReason, Config, Item, Link, Output, Received, Transport as Carrier};
use bowline_proto::time::Instant;
use bowline_proto::{Side, native};
use bowline_secure::{Protection, TICKET_BODY, Ticket, Transport};
use bowline_store::Direction;

use super::pause::{Pause, Rate};
use super::wire::{WRITE_HIGH, Wire};
use super::{Speak, Step};
use crate::endpoint::State;
use crate::message::Origin;
use crate::{Dialect, DownReason, DropReason, Endpoint, Message, MessageError, SendError, outbox};

/// More than any frame takes that carries no payload.
const CONTROL: usize = 96;

/// Bytes of a DATA or BEST frame beside its payload, at most.
const OVERHEAD: usize = native::wire::DATA_OVERHEAD as usize;

/// How to drive a native link whose opening was exchanged.
#[derive(Debug)]
pub struct Native {
    /// Times and limits.
    pub config: Config,
    /// What seals or tags its bodies, and opens them; `None` in open mode.
    pub seal: Option<Seal>,
}

/// The security layer of one link.
pub struct Seal {
    /// Seals and opens.
    pub transport: Transport,
    /// Server: the device's first body, which was opened to see that the device is there. Empty if none was.
    pub first: Vec<u8>,
    /// Server: a TICKET body to give the device when the link has started.
    pub ticket: Option<Box<[u8; TICKET_BODY]>>,
    /// Device: keeps a ticket. `None` on a keyed link, where one ends the link (§15.6).
    pub keep: Option<Keep>,
}

/// Keeps a ticket in the place of any earlier one.
pub type Keep = Box<dyn FnMut(Ticket) + Send>;

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seal").finish_non_exhaustive()
    }
}

/// A native link.
#[derive(Debug)]
pub(super) struct Speaker {
    link: Link,
    /// Boxed, for the sake of those who do without.
    seal: Option<Box<Seal>>,
    /// Where in the output the record begins that is being filled.
    record: Option<usize>,
    /// The seq of the message the engine knows and may not have sent for want of credit.
    described: Option<u64>,
    rate: Rate,
    /// The engine was told to wait until the output is written.
    held: bool,
    /// It has had the session, even if it ended in the same turn.
    started: bool,
}

impl Speaker {
    pub(super) fn open(endpoint: &Endpoint, state: &mut State, native: Native, now: Instant) -> Self {
        let limits = endpoint.limits();
        if state.native.epoch() == 0 {
            // What other dialects have acknowledged, this session knows nothing of.
            state.bases.tx = state.outbox.acked();
            // Dropped before they were stored, the first ones may be behind what is stored.
            state.native.forget(state.outbox.stored.saturating_sub(state.bases.tx));
        }
        debug_assert_eq!(native.config.transport, Carrier::Lossless, "records need a lossless transport");
        let largest = native.config.max_body - native::wire::DATA_OVERHEAD;
        let room = state.inbox.room(largest.into());
        let link = Link::open(&mut state.native, native.config, room, now);
        Speaker {
            link,
            seal: native.seal.map(Box::new),
            record: None,
            described: None,
            rate: Rate::new(limits.messages_per_second),
            held: false,
            started: false,
        }
    }
}

impl Speak for Speaker {
    fn dialect(&self) -> Dialect {
        Dialect::Native
    }

    fn protection(&self) -> Option<Protection> {
        self.seal.as_ref().map(|seal| seal.transport.protection())
    }

    fn is_up(&self) -> bool {
        self.link.is_up()
    }

    /// On the device a new link has the session at once.
    fn has_session(&self, state: &State) -> bool {
        state.native.side() == Side::Device || self.started || self.link.is_up()
    }

    fn handle_time(&mut self, now: Instant, _: bool) {
        self.link.handle_timeout(now);
    }

    fn end(&mut self, now: Instant, reason: DownReason) -> Step<()> {
        let reason = if reason == DownReason::Revoked { CloseReason::Revoked } else { CloseReason::Done };
        self.link.close(now, reason);
        Ok(())
    }

    fn settle(&mut self, _: &mut State, _: Instant) {}

    fn receive(&mut self, endpoint: &Endpoint, wire: &mut Wire, state: &mut State, now: Instant) -> Step<Pause> {
        // Taken, so that bodies can be read while the wire is written to. A link that ends keeps nothing.
        let mut input = std::mem::take(&mut wire.input);
        let mut consumed = 0;
        let overhead = self.overhead() as u16;
        if let Some(first) =
            self.seal.as_mut().map(|seal| std::mem::take(&mut seal.first)).filter(|first| !first.is_empty())
        {
            self.take_in(endpoint, state, now, &first);
        }
        let pause = loop {
            if let Some(until) = self.rate.exhausted(now) {
                break Pause::Until(until);
            }
            if wire.unwritten() > WRITE_HIGH {
                break Pause::UntilWritten;
            }
            let range = match record::next(&input[consumed..], self.link.max_body() + overhead) {
                Ok(Some(range)) => consumed + range.start..consumed + range.end,
                Ok(None) => break Pause::No,
                Err(_) => {
                    self.link.close(now, CloseReason::Protocol);
                    break Pause::No;
                }
            };
            consumed = range.end;
            let body = &mut input[range];
            let body = match &mut self.seal {
                None => body,
                Some(seal) => match seal.transport.open(body) {
                    Ok(body) => body,
                    Err(error) => {
                        tracing::warn!(device = %endpoint.0.device, %error, "a record cannot be opened: the link ends");
                        self.link.close(now, CloseReason::Protocol);
                        break Pause::No;
                    }
                },
            };
            if self.seal.is_some() && bowline_secure::is_security_body(body) {
                self.keeps_ticket(now, body);
            } else {
                self.take_in(endpoint, state, now, body);
            }
        };
        wire.input = input;
        if wire.consume(consumed) && pause == Pause::No {
            wire.hurry();
        }
        Ok(pause)
    }

    fn drain(&mut self, endpoint: &Endpoint, wire: &mut Wire, state: &mut State, now: Instant) -> Step<Instant> {
        // Each time: gaps have used up some of what the engine was told last.
        self.link.handle_room(now, state.inbox.room(self.link.max_body().into()));
        self.gives_ticket(wire);
        // The engine notices by itself; until it is asked, the outbox is none of this link's business.
        let is_replaced = self.link.is_replaced(&state.native);
        if let Some(seq) = self.described.take_if(|seq| *seq > state.native.sent())
            && self.link.is_up()
            && !is_replaced
        {
            // A policy may have dropped it while it waited for credit.
            self.describes(endpoint, state, now, seq);
        }
        loop {
            if !is_replaced {
                self.tells_best_effort(state, now);
            }
            match self.link.poll_output(&mut state.native, now) {
                Output::Frame(frame) => self.put(wire, CONTROL, |buffer| frame.emit(buffer)),
                Output::Describe(seq) => self.describes(endpoint, state, now, seq),
                Output::Data { seq, ask } => {
                    if let Some(outbox::Item::Message(message)) = state.outbox.item(state.bases.tx + seq)
                        && let Some(channel) = message.channel()
                    {
                        let payload = message.payload();
                        let frame = Frame::Data(Data { seq: seq as u16, ask, channel, payload });
                        self.put(wire, OVERHEAD + payload.len(), |buffer| frame.emit(buffer));
                    }
                }
                Output::BestEffort => {
                    let overhead = self.overhead() as u64;
                    state.outbox.take_best_effort(|message| {
                        let (channel, payload) = (message.channel().unwrap_or_default(), message.payload());
                        let frame = Frame::Best(Best { channel, payload });
                        self.put(wire, OVERHEAD + payload.len(), |buffer| frame.emit(buffer));
                        wire.end() + overhead
                    });
                }
                Output::Wait(at) => {
                    self.finish(wire);
                    return Ok(at);
                }
                Output::Close(reason) => {
                    self.finish(wire);
                    return Err(DownReason::Native(reason));
                }
            }
            if wire.unwritten() > WRITE_HIGH {
                // No more until this is written.
                self.held = true;
                self.link.handle_write_blocked(now, true);
            }
        }
    }

    fn handle_written(&mut self, _: &Endpoint, state: &mut State, _: Instant, gone: u64) -> bool {
        state.outbox.written(gone, false);
        false
    }

    fn handle_blocked(&mut self, now: Instant, blocked: bool) {
        self.held = false;
        self.link.handle_write_blocked(now, blocked);
    }

    fn is_held(&self) -> bool {
        self.held
    }
}

impl Speaker {
    fn keeps_ticket(&mut self, now: Instant, body: &[u8]) {
        match (Ticket::receive(body, now), self.seal.as_mut().and_then(|seal| seal.keep.as_mut())) {
            (Ok(ticket), Some(keep)) => keep(ticket),
            _ => self.link.close(now, CloseReason::Protocol),
        }
    }

    fn take_in(&mut self, endpoint: &Endpoint, state: &mut State, now: Instant, mut body: &[u8]) {
        // While it starts, the link before may still deliver.
        state.native.handle_delivered(state.outbox.acked().saturating_sub(state.bases.tx));
        // They come together: the clock is asked once.
        let mut came = None;
        let mut origin = |epoch| Origin::of(epoch, *came.get_or_insert_with(|| endpoint.clock().wall()));
        loop {
            let processed = state.native.peer_processed();
            let input = self.link.handle_body(&mut state.native, now, body);
            body = &body[input.consumed..];
            let Some(received) = input.received else { break };
            match received {
                Received::Message { ticket, channel, payload } => {
                    self.rate.count();
                    let message = Message::from_frame(channel, payload, true).with_origin(origin(ticket.epoch()));
                    state.totals.received += 1;
                    state.totals.received_bytes += message.size() as u64;
                    state.inbox.accept_native(state.bases.rx + ticket.seq(), ticket, message);
                    state.received = Some(ticket);
                    state.journal.touch();
                }
                Received::BestEffort { channel, payload } => {
                    self.rate.count();
                    let message =
                        Message::from_frame(channel, payload, false).with_origin(origin(state.native.epoch()));
                    if state.inbox.accept_best_effort(message) {
                        state.totals.received_best_effort += 1;
                        endpoint.notify_arrival(state);
                    } else {
                        state.totals.refused += 1;
                    }
                }
                Received::Gap { ticket, .. } => {
                    state.received = Some(ticket);
                    state.journal.touch();
                }
                Received::Processed => {
                    state.totals.peer_processed += state.native.peer_processed() - processed;
                    state.outbox.handle_processed(state.bases.tx + state.native.peer_processed());
                }
                Received::NewEpoch { forgotten, .. } => {
                    self.started = true;
                    if forgotten {
                        tracing::warn!(
                            device = %endpoint.0.device,
                            "the server does not know this device's session any more: a new one begins. If its data \
                             folder was lost or replaced by an old one, what it had acknowledged may be lost with it"
                        );
                    }
                    state.begins_epoch();
                }
                Received::Quarantined(conflict) => tracing::error!(
                    device = %endpoint.0.device,
                    "quarantined: {conflict}. Either two boards share this id and key, or one end was restored from an \
                     old copy; nothing is sent until someone decides. `bowline device forget ID` at the server starts \
                     a new session"
                ),
                Received::Closing { code, text } => {
                    tracing::info!(device = %endpoint.0.device, code, text = ?text, "the peer closes the link");
                }
                Received::Resumed => self.started = true,
                Received::Acked | Received::Handled => {}
            }
            self.syncs_acked(endpoint, state);
        }
    }

    /// What the peer has acknowledged leaves the outbox.
    fn syncs_acked(&self, endpoint: &Endpoint, state: &mut State) {
        let acked = state.bases.tx + state.native.acked();
        if acked > state.outbox.acked() {
            state.totals.acked += state.outbox.handle_acked(acked);
            state.journal.touch();
            endpoint.notify_room();
        }
    }

    fn tells_best_effort(&mut self, state: &mut State, now: Instant) {
        let limit = usize::from(self.link.max_payload());
        while self.link.is_up()
            && let Some(message) = state.outbox.best_effort()
        {
            let len = message.payload().len();
            if len <= limit {
                self.link.handle_best_effort(now, true);
                return;
            }
            state.outbox.fail_best_effort(MessageError::PayloadTooLarge { len, limit }.into());
        }
        self.link.handle_best_effort(now, false);
    }

    fn describes(&mut self, endpoint: &Endpoint, state: &mut State, now: Instant, seq: u64) {
        let item = self.describe(endpoint, state, now, seq);
        self.link.handle_item(now, seq, item);
        self.described = Some(seq);
    }

    /// What stands in the outbox under `seq` of the epoch.
    fn describe(&self, endpoint: &Endpoint, state: &mut State, now: Instant, seq: u64) -> Item {
        let (base, limit) = (state.bases.tx, usize::from(self.link.max_payload()));
        let place = base + seq;
        let problem = match state.outbox.item(place) {
            Some(outbox::Item::Message(message)) if place > base + state.native.sent() => {
                match message.check(Dialect::Native, true, limit) {
                    Err(error) => Some((DropReason::TooLarge, SendError::Message(error))),
                    Ok(()) if state.outbox.is_expired(place, now) => {
                        Some((DropReason::Expired, SendError::Dropped(DropReason::Expired)))
                    }
                    Ok(()) => None,
                }
            }
            _ => None,
        };
        if let Some((reason, error)) = problem {
            let text = error.to_string();
            let orphan = state.outbox.drop_seq(place, reason, error);
            if let Some(message) = orphan.filter(|_| reason == DropReason::TooLarge) {
                endpoint.put_into_box(state, Direction::Sent, &message, text);
            }
            endpoint.after_dropping(state);
        }
        match state.outbox.item(place) {
            Some(outbox::Item::Message(message)) => {
                Item::Message { len: u32::try_from(message.payload().len()).unwrap_or(u32::MAX) }
            }
            Some(outbox::Item::Dropped { last, reason }) => Item::Dropped { last: last - base, reason },
            // Everything that is stored and not acknowledged is there.
            None => Item::Dropped { last: seq, reason: outbox::REASON_LOST },
        }
    }

    /// The device may come back without a full handshake.
    fn gives_ticket(&mut self, wire: &mut Wire) {
        if !self.link.is_up() {
            return;
        }
        if let Some(body) = self.seal.as_mut().and_then(|seal| seal.ticket.take()) {
            self.finish(wire);
            self.put(wire, TICKET_BODY, |buffer| {
                buffer.copy_from_slice(&*body);
                Some(TICKET_BODY)
            });
            self.finish(wire);
        }
    }

    const fn overhead(&self) -> usize {
        if self.seal.is_some() { bowline_secure::Carrier::Lossless.overhead() } else { 0 }
    }

    /// Puts a frame of at most `bound` bytes into the record, or into the next one if it has no room.
    fn put(&mut self, wire: &mut Wire, bound: usize, emit: impl FnOnce(&mut [u8]) -> Option<usize>) {
        let limit = record::HEADER + usize::from(self.link.peer_max_body());
        if self.record.is_some_and(|start| wire.output.len() - start + bound > limit) {
            self.finish(wire);
        }
        if self.record.is_none() {
            self.record = Some(wire.output.len());
            wire.output.extend_from_slice(&[0; record::HEADER]);
        }
        let at = wire.output.len();
        wire.output.resize(at + bound, 0);
        let len = emit(&mut wire.output[at..]).unwrap_or(0);
        wire.output.truncate(at + len);
    }

    /// Seals the record that is being filled.
    fn finish(&mut self, wire: &mut Wire) {
        let Some(start) = self.record.take() else { return };
        let mut len = wire.output.len() - start - record::HEADER;
        if let Some(seal) = &mut self.seal {
            wire.output.resize(wire.output.len() + bowline_secure::Carrier::Lossless.overhead(), 0);
            // Fails after 2^48 records, which no link has.
            len = seal.transport.seal(&mut wire.output[start + record::HEADER..], len).unwrap_or(0);
        }
        let len = record::finish(&mut wire.output[start..], len).unwrap_or(0);
        wire.output.truncate(start + len);
    }
}

#[cfg(test)]
mod tests;
