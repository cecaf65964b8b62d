//! Dialect N.

use bowline_proto::Side;
use bowline_proto::native::wire::{Channel, DATA_OVERHEAD, Data, Frame, MAX_BODY, record};
use bowline_proto::native::{CloseReason, Config, Item, Link, Output, Received, Room, Session, Transport as Carrier};
use bowline_proto::time::{Duration, Instant};
use bowline_secure::{Ticket, Transport};

use super::{Ended, Speak};
use crate::bench::flow::Flow;
use crate::bench::wire::Wire;

/// More than any frame takes that carries no payload.
const CONTROL: usize = 96;

/// What survives links.
#[derive(Debug)]
pub(in crate::bench) struct NativeState {
    session: Session,
    /// Messages acknowledged before the epoch began: what its seqs are counted from.
    base: u64,
    channel: Channel,
    config: Config,
    room: Room,
    /// For the next link.
    pub(in crate::bench) ticket: Option<Ticket>,
}

/// What protects a link.
pub(in crate::bench) struct Seal(pub(in crate::bench) Transport);

/// One link.
struct NativeLink<'a> {
    state: &'a mut NativeState,
    link: Link,
    seal: Option<Seal>,
    /// Where in the output the record begins that is being filled.
    record: Option<usize>,
}

impl NativeState {
    /// A device that was never there before. `window` messages of `bytes` bytes may be on their way to it.
    pub(in crate::bench) fn new(channel: Channel, timeout: Duration, window: u32, bytes: usize) -> Self {
        // Three times the keepalive is an outage.
        let config = Config::new(Carrier::Lossless, timeout.scaled(1, 3), MAX_BODY);
        let messages = u64::from(window).max(16);
        // What is left of an earlier run may be of any size; a receiver without room takes one message anyway.
        let room = Room { messages, bytes: (messages * bytes as u64).max(64 * 1024) };
        NativeState { session: Session::new(Side::Device), base: 0, channel, config, room, ticket: None }
    }

    /// A link whose opening was exchanged.
    pub(in crate::bench) fn open(&mut self, seal: Option<Seal>, now: Instant) -> impl Speak + '_ {
        let link = Link::open(&mut self.session, self.config, self.room, now);
        NativeLink { state: self, link, seal, record: None }
    }

    pub(in crate::bench) fn resent(&self) -> u64 {
        self.session.counters().resent
    }
}

impl Speak for NativeLink<'_> {
    fn is_up(&self) -> bool {
        self.link.is_up()
    }

    fn largest(&self) -> Option<usize> {
        Some(self.link.max_payload().into())
    }

    fn has_ticket(&self) -> bool {
        self.state.ticket.is_some()
    }

    fn receive(&mut self, wire: &mut Wire, flow: &mut Flow, now: Instant) -> Result<(), Ended> {
        let mut consumed = 0;
        let limit = self.link.max_body().saturating_add(self.overhead() as u16);
        loop {
            let range = match record::next(&wire.input[consumed..], limit) {
                Ok(Some(range)) => consumed + range.start..consumed + range.end,
                Ok(None) => break,
                Err(_) => return Err(Ended::Native(CloseReason::Protocol)),
            };
            consumed = range.end;
            let body = &mut wire.input[range];
            let body = match &mut self.seal {
                None => body,
                Some(Seal(transport)) => transport.open(body).map_err(|_| Ended::Forged)?,
            };
            if self.seal.is_some() && bowline_secure::is_security_body(body) {
                self.state.ticket = Ticket::receive(body, now).ok();
            } else {
                self.take_in(body, flow, now);
            }
        }
        wire.consume(consumed);
        Ok(())
    }

    fn drain(&mut self, wire: &mut Wire, flow: &mut Flow, now: Instant) -> Result<Instant, Ended> {
        let state = &mut *self.state;
        state.session.handle_outbox(flow.offer(now.as_micros()) - state.base);
        // Everything that comes is taken at once: there always is as much room.
        self.link.handle_room(now, state.room);
        loop {
            match self.link.poll_output(&mut self.state.session, now) {
                Output::Frame(frame) => self.put(wire, CONTROL, |buffer| frame.emit(buffer)),
                Output::Describe(seq) => {
                    // Payloads are shorter than 2^16.
                    self.link.handle_item(now, seq, Item::Message { len: flow.payload.len() as u32 });
                }
                Output::Data { seq, ask } => {
                    let (channel, number) = (self.state.channel, self.state.base + seq);
                    let payload = flow.payload.write(number);
                    let frame = Frame::Data(Data { seq: seq as u16, ask, channel, payload });
                    self.put(wire, usize::from(DATA_OVERHEAD) + payload.len(), |buffer| frame.emit(buffer));
                }
                // None is ever announced.
                Output::BestEffort => {}
                Output::Wait(at) => {
                    self.finish(wire);
                    return Ok(at);
                }
                Output::Close(reason) => {
                    self.finish(wire);
                    return Err(Ended::Native(reason));
                }
            }
        }
    }

    fn handle_blocked(&mut self, now: Instant, blocked: bool) {
        self.link.handle_write_blocked(now, blocked);
    }

    fn close(&mut self, now: Instant) {
        self.link.close(now, CloseReason::Done);
    }
}

impl NativeLink<'_> {
    fn take_in(&mut self, mut body: &[u8], flow: &mut Flow, now: Instant) {
        let session = &mut self.state.session;
        loop {
            let input = self.link.handle_body(session, now, body);
            body = &body[input.consumed..];
            let Some(received) = input.received else { break };
            match received {
                Received::Message { ticket, payload, .. } => {
                    flow.handle_message(payload, now.as_micros());
                    session.handle_persisted(ticket);
                    session.handle_processed(ticket);
                }
                Received::Gap { ticket, .. } => session.handle_persisted(ticket),
                Received::NewEpoch { epoch, .. } => {
                    // What is not acknowledged is numbered from 1.
                    self.state.base = flow.acked();
                    session.handle_epoch_stored(epoch);
                }
                Received::Acked
                | Received::Processed
                | Received::Resumed
                | Received::BestEffort { .. }
                | Received::Quarantined(_)
                | Received::Closing { .. }
                | Received::Handled => {}
            }
            flow.handle_acked(self.state.base + session.acked(), now.as_micros());
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
        if let Some(Seal(transport)) = &mut self.seal {
            wire.output.resize(wire.output.len() + bowline_secure::Carrier::Lossless.overhead(), 0);
            // Fails after 2^48 records, which no link has.
            len = transport.seal(&mut wire.output[start + record::HEADER..], len).unwrap_or(0);
        }
        let len = record::finish(&mut wire.output[start..], len).unwrap_or(0);
        wire.output.truncate(start + len);
    }
}
