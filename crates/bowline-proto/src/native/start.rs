//! How a link starts: HELLO, WELCOME, START (§10.2 to §10.5).

use super::Conflict;
use super::config::{Inbox, Room};
use super::judge;
use super::link::{Agreed, CloseReason, Link, Offer, Phase};
use super::receive::Received;
use super::session::{AsServer, Session};
use super::timer::Timer;
use super::wire::{Cursors, Frame, Hello, Outcome, Start, VERSION, Welcome};
use crate::time::{Duration, Instant};

impl Link {
    pub(super) fn hello_frame(&self, session: &Session) -> Frame<'static> {
        Frame::Hello(Hello {
            version: VERSION,
            features: self.config.features,
            epoch: session.epoch,
            keepalive: millis(self.config.keepalive),
            max_body: self.config.max_body,
        })
    }

    pub(super) fn welcome_frame(&mut self, session: &Session, offer: Offer) -> Frame<'static> {
        let new = offer.epoch != offer.base;
        let mut cursors = session.cursors(new);
        // The link before may still fill the room there is, in its epoch's numbers: no credit before START (§11.2).
        let room = if new && offer.base != 0 { Room::default() } else { self.rx.room };
        let (claimed, credit) = self.rx.claim(cursors.received, room);
        (cursors.durable, cursors.received) = (cursors.durable.min(claimed), claimed);
        Frame::Welcome(Welcome {
            version: VERSION,
            outcome: offer.outcome,
            features: self.config.features,
            epoch: offer.epoch,
            keepalive: millis(self.agreed.keepalive),
            max_body: self.config.max_body,
            cursors,
            credit,
        })
    }

    pub(super) fn start_frame(&mut self, session: &Session) -> Frame<'static> {
        let mut cursors = session.cursors(false);
        let (claimed, credit) = self.rx.claim(cursors.received, self.rx.room);
        (cursors.durable, cursors.received) = (cursors.durable.min(claimed), claimed);
        self.rx.told.durable = self.rx.told.durable.max(cursors.durable);
        Frame::Start(Start { epoch: session.epoch, cursors, credit })
    }

    /// Server: the device has said what it remembers (§10.3).
    pub(super) fn hello(&mut self, session: &mut Session, server: AsServer, hello: &Hello) -> Received<'static> {
        if hello.version < VERSION {
            self.closes(CloseReason::Version);
            return Received::Handled;
        }
        let (shortest, longest) = self.config.keepalive_bounds;
        let wish = Duration::from_millis(hello.keepalive.into());
        self.agrees(wish.min(longest).max(shortest), hello.max_body, hello.features);
        // Numbered now, so that of two STARTs that cross the older is told (§10.5).
        let (outcome, epoch) = judge::outcome(session, hello.epoch);
        self.serial = session.next_serial();
        self.phase = Phase::AwaitStart(Offer { server, outcome, epoch, base: session.epoch, acked: session.tx.acked });
        self.due.welcome = true;
        Received::Handled
    }

    /// Device: the server has said what it makes of that, and where it stands.
    #[cfg_attr(not(feature = "server"), inline(never))]
    pub(super) fn welcome(&mut self, session: &mut Session, now: Instant, welcome: &Welcome) -> Received<'static> {
        if welcome.version < VERSION {
            self.closes(CloseReason::Version);
            return Received::Handled;
        }
        let keepalive = Duration::from_millis(welcome.keepalive.max(1).into());
        self.agrees(keepalive, welcome.max_body, welcome.features);
        if let Some((_, at)) = self.rtt.asked.take() {
            self.rtt.sample(now.since(at));
        }
        let (known, cursors) = (session.epoch, &welcome.cursors);
        let untouched = session.tx.acked == 0 && session.rx.received == 0;
        let judged = match welcome.outcome {
            Outcome::Quarantined => Err(Conflict::EpochBack),
            Outcome::Resumed if known != 0 && welcome.epoch == known => {
                self.skip_what_is_lost(session, cursors);
                judge::resumed(session, cursors)
            }
            Outcome::New if known != 0 && welcome.epoch == known => {
                if untouched {
                    judge::new(cursors)
                } else {
                    Err(Conflict::NotNew)
                }
            }
            Outcome::New if known == 0 && welcome.epoch > 0 => judge::new(cursors),
            Outcome::Forgotten if known != 0 && welcome.epoch > known => judge::new(cursors),
            _ => {
                self.closes(CloseReason::Protocol);
                return Received::Handled;
            }
        };
        if let Err(conflict) = judged {
            return self.quarantines(session, conflict);
        }
        let received = if welcome.epoch == known {
            Received::Resumed
        } else {
            let forgotten = welcome.outcome == Outcome::Forgotten && !untouched;
            session.counters.forgotten += u64::from(forgotten);
            session.counters.epochs += 1;
            session.renumber(welcome.epoch);
            Received::NewEpoch { epoch: welcome.epoch, forgotten }
        };
        self.tx.start(session, cursors, welcome.credit);
        self.timers.stop(Timer::Resend);
        self.phase = Phase::AwaitStored;
        received
    }

    /// A volatile device goes on where the server does (§10.4, §14.4).
    fn skip_what_is_lost(&self, session: &mut Session, server: &Cursors) {
        let lost = server.acked.saturating_sub(session.rx.durable);
        if self.config.inbox == Inbox::Volatile && session.rx.received <= server.acked {
            session.counters.skipped += lost;
            session.rx.durable = session.rx.durable.max(server.acked);
            session.rx.received = session.rx.durable;
        }
    }

    /// Server: the device has taken the offer, and has the session if its cursors can be (§10.4, §10.5).
    pub(super) fn start(
        &mut self,
        session: &mut Session,
        now: Instant,
        offer: Offer,
        start: &Start,
    ) -> Received<'static> {
        if self.serial < session.active || offer.base != session.epoch {
            self.closes(session.expelled_by());
            return Received::Handled;
        }
        if start.epoch != offer.epoch || self.rx.claimed.is_none() || offer.outcome == Outcome::Quarantined {
            // Not what was offered, or before anything was.
            self.closes(CloseReason::Protocol);
            return Received::Handled;
        }
        let new = offer.epoch != offer.base;
        let judged = if new { judge::new(&start.cursors) } else { judge::resumed(session, &start.cursors) };
        match judged {
            Ok(()) => {}
            // A volatile device has taken its cursor from WELCOME; then what its last life had still
            // acknowledged came late on the old link.
            Err(Conflict::PeerLostReceived) if start.cursors.durable >= offer.acked => {
                self.closes(CloseReason::Changed);
                return Received::Handled;
            }
            Err(conflict) => return self.quarantines(session, conflict),
        }
        session.active = self.serial;
        if new {
            session.counters.epochs += 1;
            session.renumber(offer.epoch);
        }
        self.tx.start(session, &start.cursors, start.credit);
        self.opens(session, now);
        if new { Received::NewEpoch { epoch: offer.epoch, forgotten: false } } else { Received::Resumed }
    }

    /// The link has started.
    pub(super) fn opens(&mut self, session: &mut Session, now: Instant) {
        session.counters.links += 1;
        self.phase = Phase::Open;
        self.due.processed = session.rx.processed > 0;
        self.timers.stop(Timer::Resend);
        self.timers.set(Timer::Silence, now + self.agreed.outage);
        self.timers.set(Timer::Keepalive, now + self.ping_after());
    }

    fn quarantines(&mut self, session: &mut Session, conflict: Conflict) -> Received<'static> {
        session.counters.quarantined += 1;
        self.closes(CloseReason::Quarantined(conflict));
        Received::Quarantined(conflict)
    }

    fn agrees(&mut self, keepalive: Duration, peer_body: u16, features: u32) {
        self.agreed = Agreed::new(keepalive, peer_body, features & self.config.features);
    }
}

/// Whole milliseconds, at least 1.
fn millis(span: Duration) -> u32 {
    u32::try_from(span.as_micros() / 1_000).unwrap_or(u32::MAX).max(1)
}
