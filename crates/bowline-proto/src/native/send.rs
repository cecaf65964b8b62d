//! What goes out next.

use super::link::{CloseReason, Item, Link, Output, Phase};
use super::rx::Need;
use super::session::Session;
use super::timer::Timer;
use super::wire::{Close, Frame, Gap};
use crate::time::{Duration, Instant};
use core::mem::take;

/// The reason of a gap for a message that is larger than the peer takes (§11.5).
const TOO_LARGE: u8 = 4;

impl Link {
    /// What to do next; to be asked again until it is [`Output::Wait`] or [`Output::Close`].
    ///
    /// Bounded: one frame of each control type, as many messages as the peer has given credit for,
    /// and as many best-effort ones as the driver announces.
    pub fn poll_output(&mut self, session: &mut Session, now: Instant) -> Output {
        self.check_serial(session);
        if self.timers.is_due(Timer::Silence, now) {
            self.closes(CloseReason::Silence);
        } else if self.timers.is_due(Timer::Write, now) {
            self.closes(CloseReason::NotReading);
        }
        if matches!(self.phase, Phase::AwaitStored) && session.epoch_stored {
            self.opens(session, now);
            self.due.start = true;
        }
        let blocked = self.timers.is_set(Timer::Write);
        let frame = match self.phase {
            Phase::Closed(reason) => {
                self.drained();
                return Output::Close(reason);
            }
            Phase::Closing(reason) => return self.says_why(reason, blocked),
            _ if blocked => None,
            Phase::Hello => {
                self.phase = Phase::AwaitWelcome;
                // Only the first HELLO measures: a WELCOME after a second one may answer either.
                self.rtt.asked = (self.tx.backoff == 0).then_some((0, now));
                self.resends_after(now);
                Some(Output::Frame(self.hello_frame(session)))
            }
            Phase::AwaitWelcome if self.timers.is_due(Timer::Resend, now) => {
                self.tx.backoff = self.tx.backoff.saturating_add(1);
                self.phase = Phase::Hello;
                return self.poll_output(session, now);
            }
            Phase::AwaitStart(offer) => {
                let again = self.timers.is_due(Timer::Resend, now);
                if again {
                    self.tx.backoff = self.tx.backoff.saturating_add(1);
                }
                if self.due.welcome || again {
                    self.due.welcome = false;
                    self.resends_after(now);
                    Some(Output::Frame(self.welcome_frame(session, offer)))
                } else {
                    None
                }
            }
            Phase::Open => self.next_frame(session, now),
            Phase::AwaitWelcome | Phase::AwaitStored | Phase::AwaitHello(_) => None,
        };
        match frame {
            Some(output) => {
                if self.is_up() && !matches!(output, Output::Describe(_)) {
                    self.timers.set(Timer::Keepalive, now + self.ping_after());
                    if crate::planted!(KeepaliveStarved) {
                        self.timers.set(Timer::Silence, now + self.agreed.outage);
                    }
                }
                output
            }
            None => self.waits(now, blocked),
        }
    }

    /// CLOSE, if it can be said and the peer is not the one who said it.
    fn says_why(&mut self, reason: CloseReason, blocked: bool) -> Output {
        self.phase = Phase::Closed(reason);
        match reason.told() {
            Some((code, text)) if !blocked => Output::Frame(Frame::Close(Close { code, text })),
            _ => {
                self.drained();
                Output::Close(reason)
            }
        }
    }

    fn waits(&mut self, now: Instant, blocked: bool) -> Output {
        self.drained();
        if blocked {
            // What is due goes when the bytes have gone; only the two that end the link go on.
            let (at, late) = (self.timers.next_end(), now + Duration::from_millis(1));
            return Output::Wait(at.min(now + self.agreed.outage).max(late));
        }
        Output::Wait(self.timers.next())
    }

    #[cfg_attr(not(feature = "server"), inline(never))]
    fn next_frame(&mut self, session: &mut Session, now: Instant) -> Option<Output> {
        if take(&mut self.due.start) {
            return Some(Output::Frame(self.start_frame(session)));
        }
        if self.is_lossy() {
            self.checks_progress(session, now);
        }
        let message = self.next_message(session);
        if let Some(Output::Describe(_)) = message {
            return message;
        }
        let ping = self.due.ping || self.timers.is_due(Timer::Keepalive, now);
        let company = message.is_some() || ping || self.due.pong.is_some();
        if let Some(ack) = self.next_ack(session, now, company) {
            return Some(ack);
        }
        if let Some(token) = self.due.pong.take() {
            return Some(Output::Frame(Frame::Pong(token)));
        }
        if ping {
            self.due.ping = false;
            self.rtt.token = self.rtt.token.wrapping_add(1);
            self.rtt.asked = Some((self.rtt.token, now));
            return Some(Output::Frame(Frame::Ping(self.rtt.token)));
        }
        if let Some(message) = message {
            self.goes(session, now, &message);
            return Some(message);
        }
        if self.best_effort {
            session.counters.best_sent += 1;
            self.best_effort = false;
            return Some(Output::BestEffort);
        }
        None
    }

    /// ACK or PROCESSED, if one is due, or has something to say and company to go with (§11.3).
    #[cfg_attr(not(feature = "server"), inline(never))]
    fn next_ack(&mut self, session: &mut Session, now: Instant, company: bool) -> Option<Output> {
        // Nothing is acknowledged in an epoch that is not stored (§10.1).
        if !session.epoch_stored {
            return None;
        }
        let need = self.rx.need(session, self.is_lossy());
        let waited = self.timers.is_due(Timer::Ack, now);
        let processed = session.rx.processed.min(self.rx.seen());
        let news = processed > self.rx.told_processed;
        let missing = take(&mut self.due.missing);
        if take(&mut self.due.ack) || missing || need == Need::Now || (need == Need::Soon && (company || waited)) {
            self.timers.stop(Timer::Ack);
            // PROCESSED goes along.
            self.due.processed |= news;
            return Some(Output::Frame(Frame::Ack(self.rx.ack(session, missing))));
        }
        if processed > 0 && (self.due.processed || (news && (company || waited))) {
            self.timers.stop(Timer::Ack);
            self.due.processed = false;
            self.rx.told_processed = processed;
            return Some(Output::Frame(Frame::Processed(processed)));
        }
        if need == Need::Soon || news {
            self.timers.set_if_unset(Timer::Ack, now + self.config.ack_delay);
        } else {
            self.timers.stop(Timer::Ack);
        }
        None
    }

    /// The next message or gap, as far as credit allows. Changes nothing.
    #[cfg_attr(not(feature = "server"), inline(never))]
    fn next_message(&self, session: &Session) -> Option<Output> {
        // Nothing is sent in an epoch that is not stored (§10.1).
        if !session.epoch_stored || !self.tx.may_ask(session) {
            return None;
        }
        let (seq, last) = (self.tx.next, session.tx.last.min(self.tx.limit));
        Some(match self.tx.item {
            None => Output::Describe(seq),
            Some(Item::Message { len }) if len > self.max_payload().into() => {
                Output::Frame(Frame::Gap(Gap { first: seq, last: seq, reason: TOO_LARGE }))
            }
            Some(Item::Message { len }) => {
                let ask = self.is_lossy() || seq == last;
                self.tx.fits(len).then_some(Output::Data { seq, ask })?
            }
            Some(Item::Dropped { last: dropped, reason }) => {
                Output::Frame(Frame::Gap(Gap { first: seq, last: dropped.min(last).max(seq), reason }))
            }
        })
    }

    /// The message or gap goes out.
    fn goes(&mut self, session: &mut Session, now: Instant, output: &Output) {
        let (last, first_time) = match (output, self.tx.item) {
            (Output::Data { seq, .. }, Some(Item::Message { len })) => {
                self.tx.sent(len);
                let first_time = *seq > session.tx.sent;
                session.counters.sent += u64::from(first_time);
                session.counters.resent += u64::from(!first_time);
                (*seq, first_time)
            }
            (Output::Frame(Frame::Gap(gap)), _) => {
                self.tx.passed(gap.last);
                let news = gap.last.saturating_sub(session.tx.sent.max(gap.first - 1));
                session.counters.gaps_sent += news;
                session.counters.too_large += if gap.reason == TOO_LARGE { news } else { 0 };
                (gap.last, news > 0)
            }
            _ => return,
        };
        if first_time {
            session.tx.sent = last;
        }
        if self.is_lossy() {
            self.timers.set_if_unset(Timer::Resend, now + self.resend_time());
        }
    }

    /// Lossy transports: what to do when nothing has moved for the resend time (§13.2).
    fn checks_progress(&mut self, session: &Session, now: Instant) {
        let open = session.tx.acked < self.tx.high || self.tx.is_blocked(session);
        if !open {
            self.timers.stop(Timer::Resend);
            return;
        }
        if self.timers.is_due(Timer::Resend, now) {
            self.timers.stop(Timer::Resend);
            self.tx.backoff = self.tx.backoff.saturating_add(1);
            if self.tx.received < self.tx.high {
                self.tx.goes_to(self.tx.received + 1);
            } else {
                self.due.ping = true;
            }
        }
        self.timers.set_if_unset(Timer::Resend, now + self.resend_time());
    }

    /// While a link starts over a lossy transport, its frames are repeated (§13.1).
    fn resends_after(&mut self, now: Instant) {
        if self.is_lossy() {
            self.timers.set(Timer::Resend, now + self.resend_time());
        }
    }

    /// The device asks first; the server only if it does not (§12).
    pub(super) const fn ping_after(&self) -> Duration {
        match self.server {
            None => self.agreed.keepalive,
            Some(_) => self.agreed.keepalive.scaled(5, 4),
        }
    }
}
