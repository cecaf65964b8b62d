//! A link on H, U or P: between the engine of lines and the queues.

use bowline_proto::DeviceId;
use bowline_proto::legacy::{CloseReason, Config, Incoming, Kind, Link, Output, Received};
use bowline_proto::time::Instant;
use bowline_proto::wire::Frame;
use bowline_proto::wire::login::{self, Login};
use bowline_store::Direction;

use super::pause::{Pause, Rate};
use super::wire::{WRITE_HIGH, Wire};
use super::{Speak, Step};
use crate::endpoint::State;
use crate::inbox::Accepted;
use crate::message::Origin;
use crate::{Dialect, DownReason, Endpoint, Message};

/// Messages that may wait to be stored before no more are read: the engine refuses more than 16, and
/// what it refuses comes again late.
const WAITING: usize = 8;

/// How to drive a link of lines.
#[derive(Debug)]
pub struct Lines {
    /// What is spoken.
    pub dialect: bowline_proto::Dialect,
    /// Times and limits. The line limit is the endpoint's.
    pub config: Config,
    /// Device side: the id to log in with. Server side: the login has been read.
    pub login: Option<Box<str>>,
}

/// A link of lines.
#[derive(Debug)]
pub(super) struct Speaker {
    link: Link,
    login: Option<Box<str>>,
    /// Where the head of the qos queue ends, counted from the link's start, until it is written.
    head_end: Option<u64>,
    pub(super) rate: Rate,
    /// The engine knows that reading pauses.
    paused: bool,
}

impl Speaker {
    pub(super) fn open(endpoint: &Endpoint, state: &mut State, lines: Lines, now: Instant) -> Self {
        let limits = endpoint.limits();
        if state.native.epoch() != 0 {
            // Another program: what it acknowledges now, the native session knows nothing of.
            state.native.forget(0);
        }
        let config = Config { line_limit: limits.line, ..lines.config };
        let link = Link::open(&mut state.lines, lines.dialect, config, now);
        let rate = Rate::new(limits.messages_per_second);
        Speaker { link, login: lines.login, head_end: None, rate, paused: false }
    }

    pub(super) const fn replaced() -> DownReason {
        DownReason::Engine(CloseReason::Replaced)
    }
}

impl Speak for Speaker {
    fn dialect(&self) -> Dialect {
        self.link.dialect().into()
    }

    fn is_up(&self) -> bool {
        self.link.is_up()
    }

    fn has_session(&self, _: &State) -> bool {
        true
    }

    fn handle_time(&mut self, now: Instant, heard: bool) {
        if heard {
            self.link.handle_heard(now);
        } else {
            self.link.handle_timeout(now);
        }
    }

    fn end(&mut self, _: Instant, reason: DownReason) -> Step<()> {
        Err(reason)
    }

    fn settle(&mut self, state: &mut State, now: Instant) {
        for ticket in std::mem::take(&mut state.tickets) {
            self.link.handle_accepted(&mut state.lines, now, ticket);
        }
    }

    fn receive(&mut self, endpoint: &Endpoint, wire: &mut Wire, state: &mut State, now: Instant) -> Step<Pause> {
        // Taken, so that lines can be read while output is written. A link that ends keeps nothing.
        let input = std::mem::take(&mut wire.input);
        let mut consumed = 0;
        let pause = loop {
            if let Some(until) = self.rate.exhausted(now) {
                break Pause::Until(until);
            }
            // Where nothing is acknowledged, what there is no room for must stay with the sender.
            if !self.link.dialect().acknowledges() && !state.inbox.has_room() {
                break Pause::UntilRoom;
            }
            if wire.unwritten() > WRITE_HIGH {
                break Pause::UntilWritten;
            }
            if state.waiting.len() >= WAITING || state.journal.is_behind() {
                break Pause::UntilStored;
            }
            let input = self.link.handle_input(&mut state.lines, now, &input[consumed..]);
            consumed += input.consumed;
            let Some(received) = input.received else { break Pause::No };
            if !matches!(received, Received::Keepalive | Received::Acked(_)) {
                self.rate.count();
            }
            self.take_in(endpoint, state, now, received);
            if endpoint.0.storage.is_none() {
                endpoint.flush(state);
                self.settle(state, now);
            }
            // At once, so that acknowledgements wait in the output and not in the engine.
            self.drain(endpoint, wire, state, now)?;
        };
        wire.input = input;
        if wire.consume(consumed) && pause == Pause::No {
            wire.hurry();
        }
        if (pause != Pause::No) != self.paused {
            self.paused = pause != Pause::No;
            self.link.handle_read_paused(now, self.paused);
        }
        Ok(pause)
    }

    fn drain(&mut self, endpoint: &Endpoint, wire: &mut Wire, state: &mut State, now: Instant) -> Step<Instant> {
        let dialect = self.link.dialect();
        loop {
            if state.lines.in_flight().is_none() {
                let limit = endpoint.limits().line;
                for (message, error) in state.outbox.drop_unsendable(dialect.into(), limit, now) {
                    endpoint.put_into_box(state, Direction::Sent, &message, error.to_string());
                }
                endpoint.after_dropping(state);
            }
            let mut queue = state.outbox.queue();
            queue.best_effort &= wire.unwritten() < WRITE_HIGH;
            self.link.handle_queue(now, queue);
            match self.link.poll_output(&mut state.lines, now) {
                Output::Login => self.put_login(wire),
                Output::Keepalive => put(&mut wire.output, dialect, &Frame::Keepalive),
                Output::Ack(id) => put(&mut wire.output, dialect, &Frame::Ack(id)),
                Output::Message(id, Kind::Qos | Kind::Resend) => {
                    if let Some(message) = state.outbox.head() {
                        put(&mut wire.output, dialect, &Frame::Message(id, message.repr(true)));
                        self.head_end = Some(wire.end());
                    }
                }
                Output::Message(id, Kind::BestEffort) => state.outbox.take_best_effort(|message| {
                    put(&mut wire.output, dialect, &Frame::Message(id, message.repr(false)));
                    wire.end()
                }),
                Output::Wait(at) => return Ok(at),
                Output::Close(reason) => return Err(DownReason::Engine(reason)),
            }
        }
    }

    fn handle_written(&mut self, endpoint: &Endpoint, state: &mut State, now: Instant, gone: u64) -> bool {
        let head = self.head_end.take_if(|end| *end <= gone).is_some();
        state.outbox.written(gone, head);
        let delivered = head && !self.link.dialect().acknowledges();
        if delivered {
            self.link.handle_written(&mut state.lines, now);
            self.delivered(endpoint, state);
        }
        delivered
    }

    fn handle_blocked(&mut self, now: Instant, blocked: bool) {
        self.link.handle_write_blocked(now, blocked);
    }

    fn is_held(&self) -> bool {
        false
    }
}

impl Speaker {
    fn take_in(&mut self, endpoint: &Endpoint, state: &mut State, now: Instant, received: Received<'_>) {
        match received {
            Received::Keepalive | Received::Handled => {}
            Received::Message(Incoming { ticket, qos, header, payload }) => {
                let origin = Origin::of(state.lines.epoch().into(), endpoint.clock().wall());
                let message = Message::from_line(header, payload, qos).with_origin(origin);
                let size = message.size() as u64;
                let lasting = qos || !self.link.dialect().acknowledges();
                match state.inbox.accept(ticket, message, lasting, qos) {
                    Accepted::In(ticket, Some(_)) => {
                        state.totals.received += 1;
                        state.totals.received_bytes += size;
                        state.waiting.push(ticket);
                        state.journal.touch();
                    }
                    Accepted::In(ticket, None) => {
                        state.totals.received_best_effort += 1;
                        self.link.handle_accepted(&mut state.lines, now, ticket);
                        endpoint.notify_arrival(state);
                    }
                    Accepted::Parked => {
                        state.totals.received += 1;
                        state.totals.received_bytes += size;
                    }
                    Accepted::Refused(ticket) => self.link.handle_refused(&mut state.lines, now, ticket),
                }
            }
            Received::Undecodable { ticket, .. } if state.inbox.draining => {
                self.link.handle_refused(&mut state.lines, now, ticket);
            }
            Received::Undecodable { ticket, fault, line } => {
                let letter = Message::new(line.to_vec());
                endpoint.put_into_box(state, Direction::Received, &letter, fault.to_string());
                state.waiting.push(ticket);
            }
            Received::Malformed(line) => {
                let letter = Message::new(line.to_vec());
                let reason = format!("not a line of dialect {}", self.link.dialect());
                endpoint.put_into_box(state, Direction::Received, &letter, reason);
            }
            Received::Acked(_) => self.delivered(endpoint, state),
        }
    }

    fn delivered(&mut self, endpoint: &Endpoint, state: &mut State) {
        state.outbox.delivered();
        state.outbox.skip_holes();
        // These dialects do not tell what was handled.
        state.outbox.forget_handled();
        if state.outbox.queue().qos {
            // The next one's id goes into the transaction that drops this one.
            state.lines.reserve();
        }
        state.journal.touch();
        endpoint.notify_room();
    }

    fn put_login(&mut self, wire: &mut Wire) {
        // Who builds a `Drive` for the device side has checked the id.
        let Some(id) = self.login.as_deref().and_then(|id| DeviceId::new(id).ok()) else { return };
        let mut line = [0; login::MAX_LINE + 1];
        if let Some(len) = (Login { dialect: self.link.dialect(), id }).emit(&mut line) {
            wire.output.extend_from_slice(&line[..len]);
        }
    }
}

/// Puts a line at the end of `output`.
fn put(output: &mut Vec<u8>, dialect: bowline_proto::Dialect, frame: &Frame<'_>) {
    let start = output.len();
    output.resize(start + frame.len(dialect), 0);
    // The room is exactly what the frame takes.
    let _ = frame.emit(dialect, &mut output[start..]);
}
