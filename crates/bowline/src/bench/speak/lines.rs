//! Dialects H and U.

use bowline_proto::legacy::{Config, Link, Output, Queue, Received, Session};
use bowline_proto::time::{Duration, Instant};
use bowline_proto::wire::login::{self, Login};
use bowline_proto::wire::{Frame, MessageRepr};
use bowline_proto::{DeviceId, Dialect, Side};

use super::{Ended, Speak};
use crate::bench::flow::Flow;
use crate::bench::wire::Wire;

/// What survives links.
#[derive(Debug)]
pub(in crate::bench) struct LinesState {
    session: Session,
    dialect: Dialect,
    config: Config,
    header: Box<[u8]>,
    id: Box<str>,
}

/// One link.
struct LinesLink<'a> {
    state: &'a mut LinesState,
    link: Link,
}

impl LinesState {
    /// A device that has just started.
    pub(in crate::bench) fn new(id: &str, dialect: Dialect, header: &[u8], timeout: Duration) -> Self {
        // Nothing that a server of this dialect sends is too long.
        let config = Config { line_limit: 1 << 20, ..Config::new(Side::Device, timeout) };
        LinesState { session: Session::new(Side::Device), dialect, config, header: header.into(), id: id.into() }
    }

    /// A link on a new connection.
    pub(in crate::bench) fn open(&mut self, now: Instant) -> impl Speak + '_ {
        let link = Link::open(&mut self.session, self.dialect, self.config, now);
        LinesLink { state: self, link }
    }

    pub(in crate::bench) fn resent(&self) -> u64 {
        self.session.counters().resent
    }

    /// Acknowledgements of what was not on its way, beside those that answer what was sent again.
    pub(in crate::bench) fn stray(&self) -> u64 {
        let counters = self.session.counters();
        counters.stray_acks.saturating_sub(counters.resent)
    }
}

impl Speak for LinesLink<'_> {
    fn is_up(&self) -> bool {
        self.link.is_up()
    }

    fn largest(&self) -> Option<usize> {
        None
    }

    fn has_ticket(&self) -> bool {
        false
    }

    fn receive(&mut self, wire: &mut Wire, flow: &mut Flow, now: Instant) -> Result<(), Ended> {
        self.link.handle_heard(now);
        let session = &mut self.state.session;
        let mut consumed = 0;
        loop {
            let input = self.link.handle_input(session, now, &wire.input[consumed..]);
            consumed += input.consumed;
            let Some(received) = input.received else { break };
            match received {
                Received::Message(message) => {
                    flow.handle_message(message.payload.as_bytes(), now.as_micros());
                    self.link.handle_accepted(session, now, message.ticket);
                }
                Received::Undecodable { ticket, .. } => self.link.handle_accepted(session, now, ticket),
                Received::Acked(_) => flow.handle_acked(flow.acked() + 1, now.as_micros()),
                Received::Keepalive | Received::Handled | Received::Malformed(_) => {}
            }
        }
        wire.consume(consumed);
        Ok(())
    }

    fn drain(&mut self, wire: &mut Wire, flow: &mut Flow, now: Instant) -> Result<Instant, Ended> {
        loop {
            let waiting = flow.offer(now.as_micros()) > flow.acked();
            self.link.handle_queue(now, Queue { qos: waiting, best_effort: false });
            match self.link.poll_output(&mut self.state.session, now) {
                Output::Login => self.put_login(wire),
                Output::Keepalive => self.put(wire, &Frame::Keepalive),
                Output::Ack(id) => self.put(wire, &Frame::Ack(id)),
                Output::Message(id, _) => {
                    let number = flow.acked() + 1;
                    let message =
                        MessageRepr { qos: true, header: &self.state.header, payload: flow.payload.write(number) };
                    self.put(wire, &Frame::Message(id, message));
                }
                Output::Wait(at) => return Ok(at),
                Output::Close(reason) => return Err(Ended::Lines(reason)),
            }
        }
    }

    fn handle_blocked(&mut self, now: Instant, blocked: bool) {
        self.link.handle_write_blocked(now, blocked);
    }

    fn close(&mut self, _: Instant) {}
}

impl LinesLink<'_> {
    /// Puts a line at the end of the output.
    fn put(&self, wire: &mut Wire, frame: &Frame<'_>) {
        let (start, dialect) = (wire.output.len(), self.state.dialect);
        wire.output.resize(start + frame.len(dialect), 0);
        // The room is exactly what the frame takes.
        let _ = frame.emit(dialect, &mut wire.output[start..]);
    }

    fn put_login(&self, wire: &mut Wire) {
        // Checked before the run begins.
        let Ok(id) = DeviceId::new(&self.state.id) else { return };
        let mut line = [0; login::MAX_LINE + 1];
        if let Some(len) = (Login { dialect: self.state.dialect, id }).emit(&mut line) {
            wire.output.extend_from_slice(&line[..len]);
        }
    }
}
