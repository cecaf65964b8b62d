//! What bodies say.

use super::Conflict;
use super::link::{CloseReason, Link, Offer, Phase, QUARANTINED};
use super::session::{Session, Ticket};
use super::timer::Timer;
use super::tx::Impossible;
use super::wire::{Ack, Channel, Data, Frame, Gap, Outcome};
use crate::time::Instant;

/// What [`Link::handle_body`] found.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "consumed bytes must leave the body"]
pub struct Input<'a> {
    /// Bytes to drop from the front of the body.
    pub consumed: usize,
    /// What they said; `None` when there is nothing more to read.
    pub received: Option<Received<'a>>,
}

/// A received frame's meaning.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// A new qos message.
    Message {
        /// Goes back when it is stored.
        ticket: Ticket,
        /// Where it belongs.
        channel: Channel,
        /// Any bytes.
        payload: &'a [u8],
    },
    /// A best-effort message.
    BestEffort {
        /// Where it belongs.
        channel: Channel,
        /// Any bytes.
        payload: &'a [u8],
    },
    /// Messages that will not come. To be stored as one message is.
    Gap {
        /// Goes back when it is stored.
        ticket: Ticket,
        /// How many.
        count: u64,
        /// Why (§11.5).
        reason: u8,
    },
    /// [`Session::acked`] has grown.
    Acked,
    /// [`Session::peer_processed`] has grown.
    Processed,
    /// The session goes on.
    Resumed,
    /// A new epoch begins: see the contract, 5.
    NewEpoch {
        /// The epoch to confirm.
        epoch: u64,
        /// The server has lost its record of a session in which something had happened. To be reported.
        forgotten: bool,
    },
    /// The two ends contradict each other. To be reported (§10.4).
    Quarantined(Conflict),
    /// The peer closes.
    Closing {
        /// §16.2.
        code: u8,
        /// For people. Escape it in logs.
        text: &'a str,
    },
    /// Nothing to do.
    Handled,
}

impl Link {
    /// Reads the front of a body, one frame a call; to be called again until it receives nothing. A
    /// closed or replaced link consumes nothing.
    pub fn handle_body<'a>(&mut self, session: &mut Session, now: Instant, body: &'a [u8]) -> Input<'a> {
        self.begin(now);
        self.check_serial(session);
        let end = Input { consumed: 0, received: None };
        if body.is_empty() || matches!(self.phase, Phase::Closing(_) | Phase::Closed(_)) {
            return end;
        }
        let Ok(parsed) = Frame::parse(body) else {
            self.closes(CloseReason::Protocol);
            return end;
        };
        if self.is_up() {
            self.timers.set(Timer::Silence, now + self.agreed.outage);
        }
        let received = match parsed.frame {
            Some(frame) => self.receive(session, now, frame),
            None => {
                session.counters.unknown += 1;
                Received::Handled
            }
        };
        Input { consumed: parsed.len, received: Some(received) }
    }

    /// A link that another one has replaced is of no effect (§10.5).
    pub(super) fn check_serial(&mut self, session: &Session) {
        if self.is_replaced(session) {
            self.closes(session.expelled_by());
        }
    }

    fn receive<'a>(&mut self, session: &mut Session, now: Instant, frame: Frame<'a>) -> Received<'a> {
        match (self.phase, frame) {
            (Phase::AwaitStart(Offer { outcome: Outcome::Quarantined, .. }), Frame::Close(close)) => {
                // Only now: the HELLO may have been one that came late, from a link long dead (§10.3).
                session.counters.quarantined += 1;
                self.phase = Phase::Closed(CloseReason::Peer(close.code));
                return Received::Quarantined(Conflict::EpochBack);
            }
            (_, Frame::Close(close)) if close.code == QUARANTINED => {
                session.counters.quarantined += 1;
                self.phase = Phase::Closed(CloseReason::Peer(close.code));
                return Received::Quarantined(Conflict::FoundByPeer);
            }
            (_, Frame::Close(close)) => {
                self.phase = Phase::Closed(CloseReason::Peer(close.code));
                return Received::Closing { code: close.code, text: close.text };
            }
            (Phase::AwaitHello(server), Frame::Hello(hello)) => return self.hello(session, server, &hello),
            (Phase::AwaitWelcome, Frame::Welcome(welcome)) => return self.welcome(session, now, &welcome),
            (Phase::AwaitStart(offer), Frame::Start(start)) => return self.start(session, now, offer, &start),
            (Phase::AwaitStart(_), Frame::Hello(_)) if self.is_lossy() => self.due.welcome = true,
            (Phase::Open, Frame::Welcome(_)) if self.is_lossy() && self.server.is_none() => {
                // It has not seen START (§13.1).
                self.due.start = true;
            }
            (Phase::Open, Frame::Data(data)) => return self.data(session, data),
            (Phase::Open, Frame::Gap(gap)) => return self.gap(session, gap),
            (Phase::Open, Frame::Best(best)) => {
                session.counters.best_received += 1;
                return Received::BestEffort { channel: best.channel, payload: best.payload };
            }
            (Phase::Open, Frame::Ack(ack)) => return self.ack(session, &ack),
            (Phase::Open, Frame::Processed(seq)) => {
                if seq > self.tx.high {
                    self.closes(CloseReason::Protocol);
                } else if seq > session.tx.processed {
                    session.tx.processed = seq;
                    return Received::Processed;
                }
            }
            (Phase::Open, Frame::Ping(token)) => {
                self.due.pong = Some(token);
                if self.is_lossy() {
                    self.due.ack = true;
                    self.due.processed = session.rx.processed > 0;
                }
            }
            (Phase::Open, Frame::Pong(token)) => {
                if let Some((asked, at)) = self.rtt.asked
                    && asked == token
                {
                    self.rtt.asked = None;
                    self.rtt.sample(now.since(at));
                }
            }
            _ if self.is_lossy() => {}
            _ => self.closes(CloseReason::Protocol),
        }
        Received::Handled
    }

    /// §11.1: the seq nearest to the expected one.
    #[cfg_attr(not(feature = "server"), inline(never))]
    fn data<'a>(&mut self, session: &mut Session, data: Data<'a>) -> Received<'a> {
        let expected = self.rx.next;
        let ahead = data.seq.wrapping_sub(expected as u16) as i16;
        if ahead != 0 {
            return self.out_of_order(session, ahead > 0);
        }
        let len = data.payload.len() as u64;
        if expected > self.rx.told.limit || self.rx.bytes + len > self.rx.told.byte_limit {
            self.closes(CloseReason::Credit);
            return Received::Handled;
        }
        self.rx.next += 1;
        self.rx.bytes += len;
        if data.ask {
            self.rx.asks(expected);
        }
        if expected <= session.rx.received {
            session.counters.duplicates += 1;
            return Received::Handled;
        }
        session.rx.received = expected;
        if crate::planted!(AckBeforePersist) {
            session.rx.durable = expected;
        }
        session.counters.received += 1;
        self.rx.room.messages = self.rx.room.messages.saturating_sub(1);
        self.rx.room.bytes = self.rx.room.bytes.saturating_sub(len);
        let ticket = Ticket { epoch: session.epoch, seq: expected };
        Received::Message { ticket, channel: data.channel, payload: data.payload }
    }

    fn gap(&mut self, session: &mut Session, gap: Gap) -> Received<'static> {
        if gap.first > self.rx.next || gap.last < self.rx.next {
            return self.out_of_order(session, gap.first > self.rx.next);
        }
        if gap.last > self.rx.told.limit {
            self.closes(CloseReason::Credit);
            return Received::Handled;
        }
        self.rx.next = gap.last + 1;
        // Gaps are rare, and whoever waits for what was dropped should not wait for longer.
        self.rx.asks(gap.last);
        let known = session.rx.received;
        if gap.last <= known {
            session.counters.duplicates += 1;
            return Received::Handled;
        }
        let count = gap.last - known;
        session.rx.received = gap.last;
        session.counters.gaps += count;
        self.rx.room.messages = self.rx.room.messages.saturating_sub(count);
        Received::Gap { ticket: Ticket { epoch: session.epoch, seq: gap.last }, count, reason: gap.reason }
    }

    /// A message or gap that is not the next one: on a lossy transport something was lost or repeated (§13.2).
    fn out_of_order(&mut self, session: &mut Session, ahead: bool) -> Received<'static> {
        if !self.is_lossy() {
            self.closes(CloseReason::Protocol);
        } else if ahead {
            // Once for each; if that is lost, the sender's timer helps.
            if self.rx.missed != self.rx.next {
                self.rx.missed = self.rx.next;
                self.due.missing = true;
            }
        } else {
            session.counters.duplicates += 1;
            self.due.ack = true;
        }
        Received::Handled
    }

    fn ack(&mut self, session: &mut Session, ack: &Ack) -> Received<'static> {
        let before = session.tx.acked;
        match self.tx.acked(session, ack) {
            Err(Impossible) => {
                self.closes(CloseReason::Protocol);
                return Received::Handled;
            }
            Ok(progress) => {
                if progress || session.tx.acked > before {
                    self.tx.backoff = 0;
                    self.timers.stop(Timer::Resend);
                }
            }
        }
        if ack.missing && self.is_lossy() {
            self.tx.missing(ack.received);
        }
        if session.tx.acked > before { Received::Acked } else { Received::Handled }
    }
}
