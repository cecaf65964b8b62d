//! The pump between an endpoint and a socket.

mod alarm;
mod kick;
mod lines;
mod native;
mod pause;
mod wire;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bowline_proto::time::Instant;
use bowline_secure::Protection;
use tokio::time::Sleep;

use self::alarm::Alarm;
use self::pause::Pause;
use self::wire::{WRITE_HIGH, Wire};
use crate::endpoint::{Current, State, Turn};
use crate::status::LinkState;
use crate::{Dialect, DownReason, Endpoint, Stream};

pub(crate) use self::kick::Kick;
pub use self::lines::Lines;
pub use self::native::{Keep, Native, Seal};

/// A link to drive: a connection, and what was agreed about it.
#[derive(Debug)]
pub struct Drive {
    /// The connection.
    pub stream: Stream,
    /// Its peer's address.
    pub peer: SocketAddr,
    /// What is spoken on it.
    pub speech: Speech,
    /// Bytes that came behind the login or the opening and belong to this link.
    pub early: Vec<u8>,
}

/// What is spoken on a link, with what it takes.
#[derive(Debug)]
pub enum Speech {
    /// H, U or P.
    Lines(Lines),
    /// N.
    Native(Native),
}

impl Endpoint {
    /// Drives one link until it ends, and says why. It takes over from a link that is being driven,
    /// which ends as replaced: on lines and on a device at once, on a native server when the device
    /// has started it. Dropping the future ends the link; nothing accepted is lost by it.
    pub fn drive(&self, drive: Drive) -> Driving<'_> {
        self.drive_until(drive, std::future::pending())
    }

    /// As [`Endpoint::drive`], but ends this link, and no other, for the reason that `end` gives. On N the
    /// peer is told.
    pub fn drive_until<'a>(
        &'a self,
        drive: Drive,
        end: impl Future<Output = DownReason> + Send + Unpin + 'a,
    ) -> Driving<'a> {
        let Drive { stream, peer, speech, early } = drive;
        let wire = Wire::new(stream, early);
        match speech {
            Speech::Lines(lines) => {
                let open = |state: &mut State, now| lines::Speaker::open(self, state, lines, now);
                Driver::open(self, wire, peer, open).driving(end)
            }
            Speech::Native(native) => {
                let open = |state: &mut State, now| native::Speaker::open(self, state, native, now);
                Driver::open(self, wire, peer, open).driving(end)
            }
        }
    }
}

/// A link being driven. Boxed: whoever awaits it holds no more than it takes, whatever the dialect, and holds it once.
pub type Driving<'a> = Pin<Box<dyn Future<Output = DownReason> + Send + 'a>>;

struct Driver<'a, S> {
    endpoint: &'a Endpoint,
    wire: Wire,
    peer: SocketAddr,
    dialect: Dialect,
    /// Its place among the endpoint's links.
    number: u64,
    speaker: S,
    kick: Arc<Kick>,
    /// Bytes have come that the engine has not been told of.
    heard: bool,
    /// The engine knows that the socket takes no more.
    blocked: bool,
    pause: Pause,
    /// It has the endpoint's session, or had it.
    adopted: bool,
    /// The status says "up".
    announced: bool,
    /// It is to end.
    end: Option<DownReason>,
    /// Why the link ended, once it has.
    ended: Option<DownReason>,
}

/// What comes of a step of the link, or why the link ends.
type Step<T> = Result<T, DownReason>;

/// Why a link has another turn.
enum Woken {
    End(DownReason),
    /// By others, or by the timer.
    Called,
    /// Whether it is reading that is possible.
    Ready(io::Result<bool>),
}

/// What the dialects do in a turn of the link, each with its engine.
trait Speak {
    fn dialect(&self) -> Dialect;

    /// How the link is protected; `None` if it is not.
    fn protection(&self) -> Option<Protection> {
        None
    }

    fn is_up(&self) -> bool;

    /// Whether the endpoint's session is this link's.
    fn has_session(&self, state: &State) -> bool;

    /// It is `now`, and the peer was `heard` since the last call or was not.
    fn handle_time(&mut self, now: Instant, heard: bool);

    /// The link is to end for `reason`: on lines at once, on N when the peer was told.
    fn end(&mut self, now: Instant, reason: DownReason) -> Step<()>;

    /// Gives back the tickets of what is durable. On N the journal tells the engine.
    fn settle(&mut self, state: &mut State, now: Instant);

    /// Takes in all complete lines or records for which there is room, and says whether reading has to
    /// pause.
    fn receive(&mut self, endpoint: &Endpoint, wire: &mut Wire, state: &mut State, now: Instant) -> Step<Pause>;

    /// Tells the engine what there is to send, and puts what it asks for into the output. Says when to
    /// look again.
    fn drain(&mut self, endpoint: &Endpoint, wire: &mut Wire, state: &mut State, now: Instant) -> Step<Instant>;

    /// The output was written up to `gone`. Says whether the engine was told.
    fn handle_written(&mut self, endpoint: &Endpoint, state: &mut State, now: Instant, gone: u64) -> bool;

    fn handle_blocked(&mut self, now: Instant, blocked: bool);

    /// Whether it has stopped by itself until the output is written.
    fn is_held(&self) -> bool;
}

impl<'a, S: Speak> Driver<'a, S> {
    fn open(
        endpoint: &'a Endpoint,
        wire: Wire,
        peer: SocketAddr,
        speaker: impl FnOnce(&mut State, Instant) -> S,
    ) -> Self {
        let now = endpoint.clock().now();
        let mut state = endpoint.lock();
        #[cfg(planted)]
        let wire = if bowline_proto::planted!(PartialFrameKept) {
            wire.behind(std::mem::take(&mut state.partial))
        } else {
            wire
        };
        let speaker = speaker(&mut state, now);
        state.links += 1;
        let number = state.links;
        let heard = !wire.input.is_empty();
        let mut driver = Driver {
            endpoint,
            wire,
            peer,
            dialect: speaker.dialect(),
            number,
            speaker,
            kick: Arc::default(),
            heard,
            blocked: false,
            pause: Pause::No,
            adopted: false,
            announced: false,
            end: None,
            ended: None,
        };
        if driver.speaker.has_session(&state) {
            driver.adopt(&mut state);
        }
        drop(state);
        driver
    }

    /// The endpoint's session is this link's from now on.
    fn adopt(&mut self, state: &mut State) {
        self.adopted = true;
        let next = Current { number: self.number, dialect: self.dialect, kick: Arc::clone(&self.kick) };
        if state.dialect != Some(self.dialect) {
            state.speaks(self.dialect);
        }
        state.protection = self.speaker.protection();
        if let Some(old) = state.link.replace(next) {
            // It finds itself replaced, and best-effort messages for it go nowhere.
            old.kick.call();
            let in_flight = state.lines.in_flight().is_some();
            state.outbox.link_ended(lines::Speaker::replaced(), in_flight);
        }
    }

    fn driving(mut self, mut end: impl Future<Output = DownReason> + Send + Unpin + 'a) -> Driving<'a>
    where
        S: Send + 'a,
    {
        Box::pin(async move { self.run(&mut end).await })
    }

    async fn run(&mut self, end: &mut (impl Future<Output = DownReason> + Unpin)) -> DownReason {
        let reason = self.pump(end).await;
        self.ended = Some(reason);
        if matches!(reason, DownReason::Shutdown | DownReason::Native(_) | DownReason::Revoked) {
            self.wire.linger().await;
        }
        reason
    }

    async fn pump(&mut self, end: &mut (impl Future<Output = DownReason> + Unpin)) -> DownReason {
        // Before anything is read.
        if let Poll::Ready(reason) = poll_fn(|context| Poll::Ready(Pin::new(&mut *end).poll(context))).await {
            self.end = Some(reason);
        }
        let clock = self.endpoint.clock();
        let mut alarm = Alarm::new(clock.now());
        let mut timer = std::pin::pin!(tokio::time::sleep_until(clock.at(clock.now())));
        loop {
            let now = clock.now();
            let deadline = match self.turn(now) {
                Ok(deadline) => deadline,
                Err(reason) => return reason,
            };
            if alarm.follows(deadline, now, timer.is_elapsed()) {
                timer.as_mut().reset(clock.at(deadline));
            }
            let woken = poll_fn(|context| self.poll_woken(context, end, timer.as_mut()));
            // Also where nothing else of it waits for the runtime, others get their turn.
            let ready = match tokio::task::coop::cooperative(woken).await {
                Woken::End(reason) => {
                    self.end = Some(reason);
                    continue;
                }
                Woken::Called => continue,
                Woken::Ready(ready) => ready,
            };
            let result = match ready {
                Ok(true) => self.wire.read(),
                Ok(false) => Ok(false),
                Err(error) => Err(DownReason::Transport(error.kind())),
            };
            match result {
                Ok(heard) => self.heard |= heard,
                Err(reason) => return reason,
            }
        }
    }

    /// Waits until there is something to do. By hand, as there is one of this for each link.
    fn poll_woken(
        &mut self,
        context: &mut Context<'_>,
        end: &mut (impl Future<Output = DownReason> + Unpin),
        timer: Pin<&mut Sleep>,
    ) -> Poll<Woken> {
        if self.end.is_none()
            && let Poll::Ready(reason) = Pin::new(end).poll(context)
        {
            return Poll::Ready(Woken::End(reason));
        }
        if self.kick.poll_called(context).is_ready() || timer.poll(context).is_ready() {
            return Poll::Ready(Woken::Called);
        }
        // Whatever the others woke it for, the turn sees to it: a busy socket keeps nothing waiting.
        let (read, write) = (self.pause == Pause::No, self.wire.unwritten() > 0);
        self.wire.stream.poll_ready(context, read, write).map(Woken::Ready)
    }

    /// Everything that can be done now: input, output, writing, storing. Says when to look again.
    fn turn(&mut self, now: Instant) -> Step<Instant> {
        let mut state = self.endpoint.lock();
        let is_current = state.link.as_ref().is_some_and(|link| link.number == self.number);
        state.turn = if is_current { Turn::Quiet } else { Turn::No };
        let result = self.locked_turn(&mut state, is_current, now);
        if std::mem::replace(&mut state.turn, Turn::No) == Turn::Kicked {
            state.kick();
        }
        result
    }

    fn locked_turn(&mut self, state: &mut State, is_current: bool, now: Instant) -> Step<Instant> {
        let endpoint = self.endpoint;
        if state.outbox.closed {
            return Err(DownReason::Shutdown);
        }
        // The native engine knows by itself, and tells the peer.
        if self.adopted && !is_current && self.dialect != Dialect::Native {
            return Err(lines::Speaker::replaced());
        }
        self.speaker.handle_time(now, std::mem::take(&mut self.heard));
        if let Some(reason) = self.end {
            self.speaker.end(now, reason)?;
        }
        self.speaker.settle(state, now);
        let deadline = loop {
            self.pause = self.speaker.receive(endpoint, &mut self.wire, state, now)?;
            if !self.adopted && self.speaker.has_session(state) {
                self.adopt(state);
            }
            if endpoint.stores_at_once() {
                endpoint.flush(state);
                self.speaker.settle(state, now);
            }
            let deadline = loop {
                // Whatever it was that kicked, this sees to it.
                state.turn.settle();
                let deadline = match self.speaker.drain(endpoint, &mut self.wire, state, now) {
                    Ok(deadline) => deadline,
                    Err(reason) => {
                        // The last words, if the socket takes them.
                        let _ = self.wire.write();
                        endpoint.flush(state);
                        return Err(if self.end == Some(DownReason::Revoked) { DownReason::Revoked } else { reason });
                    }
                };
                // A socket does not block. Under the lock, so that a taken-over link writes nothing more.
                if !self.write(state, now)? {
                    break deadline;
                }
            };
            if self.pause != Pause::UntilWritten || self.wire.unwritten() > WRITE_HIGH {
                break deadline;
            }
        };
        if self.speaker.is_up() && self.adopted && !self.announced {
            self.announced = true;
            endpoint.link_is_up(state, LinkState::Up { dialect: self.dialect, peer: self.peer });
        }
        endpoint.flush(state);
        let is_settled = state.outbox.is_empty()
            && state.waiting.is_empty()
            && state.inbox.held() == 0
            && self.wire.unwritten() == 0;
        if state.inbox.draining && is_settled && (endpoint.0.storage.is_none() || state.journal.is_idle()) {
            return Err(DownReason::Shutdown);
        }
        Ok(match self.pause {
            Pause::Until(until) => deadline.min(until),
            Pause::No | Pause::UntilRoom | Pause::UntilWritten | Pause::UntilStored => deadline,
        })
    }

    /// Writes what the socket takes. Says whether the engine was told something by it.
    fn write(&mut self, state: &mut State, now: Instant) -> Step<bool> {
        let progress = self.wire.write()?;
        let mut news = progress && self.speaker.handle_written(self.endpoint, state, now, self.wire.gone);
        let blocked = self.wire.unwritten() > 0;
        if blocked && (progress || !self.blocked) || !blocked && (self.blocked || self.speaker.is_held()) {
            self.speaker.handle_blocked(now, blocked);
            news = true;
        }
        self.blocked = blocked;
        Ok(news)
    }
}

impl<S> Drop for Driver<'_, S> {
    fn drop(&mut self) {
        #[cfg(planted)]
        {
            self.endpoint.lock().partial = std::mem::take(&mut self.wire.input);
        }
        let reason = self.ended.unwrap_or(DownReason::Dropped);
        self.endpoint.link_ended(self.number, self.announced, reason);
    }
}
