//! The pump between an endpoint and a socket.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bowline_proto::legacy::{CloseReason, Config, Incoming, Kind, Link, Output, Received};
use bowline_proto::time::{Duration, Instant};
use bowline_proto::wire::Frame;
use bowline_proto::wire::login::{self, Login};
use bowline_proto::{DeviceId, Dialect};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::endpoint::{Current, State};
use crate::inbox::Accepted;
use crate::status::LinkState;
use crate::{DownReason, Endpoint, Message};

/// Bytes read at one time. Other links get their turn in between.
const READ: usize = 4 * 1024;

/// Bytes waiting to be written above which nothing more is read: who does not take our
/// acknowledgements gets no further.
const WRITE_HIGH: usize = 64 * 1024;

/// Bytes that the system holds for a peer beside those on their way.
#[cfg(target_os = "linux")]
const NOT_SENT: u32 = 32 * 1024;

/// How long a link that is shut down stays to be read to its end.
const LINGER: std::time::Duration = std::time::Duration::from_millis(250);

/// A link to drive: a connected socket, and what was agreed about it.
#[derive(Debug)]
pub struct Drive {
    /// The socket.
    pub stream: TcpStream,
    /// Its peer's address.
    pub peer: SocketAddr,
    /// What is spoken on it.
    pub dialect: Dialect,
    /// Times and limits. The line limit is the endpoint's.
    pub config: Config,
    /// Device side: the id to log in with. Server side: the login has been read.
    pub login: Option<Box<str>>,
    /// Bytes that came behind the login and belong to this link.
    pub early: Vec<u8>,
}

impl Endpoint {
    /// Drives one link until it ends, and says why. Takes over from a link that is being driven: that
    /// one ends as replaced. Dropping the future ends the link; nothing accepted is lost by it.
    pub async fn drive(&self, drive: Drive) -> DownReason {
        Driver::open(self, drive).run().await
    }
}

struct Driver<'a> {
    endpoint: &'a Endpoint,
    stream: TcpStream,
    peer: SocketAddr,
    login: Option<Box<str>>,
    link: Link,
    kick: Arc<Notify>,
    /// Bytes have come that the engine has not been told of.
    heard: bool,
    /// Received and not consumed. Dies with the link.
    input: Vec<u8>,
    /// To be written, from `written` on. How far a partial write got is state: nothing that is
    /// dropped in the middle can tear a line.
    output: Vec<u8>,
    written: usize,
    /// Bytes written on this link and no longer in the output.
    gone: u64,
    /// Where the head of the qos queue ends, counted from the link's start, until it is written.
    head_end: Option<u64>,
    /// The engine knows that the socket takes no more.
    blocked: bool,
    pause: Pause,
    rate: Rate,
    /// The status says "up".
    announced: bool,
    /// Why the link ended, once it has.
    ended: Option<DownReason>,
}

impl<'a> Driver<'a> {
    fn open(endpoint: &'a Endpoint, drive: Drive) -> Self {
        let kick = Arc::new(Notify::new());
        let limits = endpoint.limits();
        let config = Config { line_limit: limits.line, ..drive.config };
        let now = endpoint.clock().now();
        let mut state = endpoint.lock();
        let link = Link::open(&mut state.session, drive.dialect, config, now);
        let next = Current { generation: link.generation(), kick: Arc::clone(&kick) };
        if let Some(old) = state.link.replace(next) {
            // It finds itself replaced, and best-effort messages for it go nowhere.
            old.kick.notify_one();
            let in_flight = state.session.in_flight().is_some();
            state.outbox.link_ended(DownReason::Engine(CloseReason::Replaced), in_flight);
        }
        drop(state);
        Driver {
            endpoint,
            stream: drive.stream,
            peer: drive.peer,
            login: drive.login,
            link,
            kick,
            heard: !drive.early.is_empty(),
            input: drive.early,
            output: Vec::new(),
            written: 0,
            gone: 0,
            head_end: None,
            blocked: false,
            pause: Pause::No,
            rate: Rate::new(limits.messages_per_second),
            announced: false,
            ended: None,
        }
    }

    async fn run(&mut self) -> DownReason {
        #[cfg(target_os = "linux")]
        // Otherwise the system takes megabytes for a peer that reads slowly, and calls the socket
        // writable only when a third of them is gone. A hint: without it only memory is lost.
        let _ = socket2::SockRef::from(&self.stream).set_tcp_notsent_lowat(NOT_SENT);
        let reason = self.pump().await;
        self.ended = Some(reason);
        if reason == DownReason::Shutdown {
            self.linger().await;
        }
        reason
    }

    async fn pump(&mut self) -> DownReason {
        let clock = self.endpoint.clock();
        let mut alarm = Box::pin(tokio::time::sleep_until(clock.at(clock.now())));
        loop {
            let deadline = match self.turn(clock.now()) {
                Ok(deadline) => clock.at(deadline),
                Err(reason) => return reason,
            };
            // Deadlines mostly move away: an alarm that rings early is cheaper than one moved a message.
            if alarm.is_elapsed() || alarm.deadline() > deadline {
                alarm.as_mut().reset(deadline);
            }
            let readable = if self.pause == Pause::No { Some(Interest::READABLE) } else { None };
            let writable = if self.output.is_empty() { None } else { Some(Interest::WRITABLE) };
            let interest = match (readable, writable) {
                (Some(readable), Some(writable)) => Some(readable | writable),
                (one, other) => one.or(other),
            };
            let socket = async {
                match interest {
                    Some(interest) => self.stream.ready(interest).await,
                    None => std::future::pending().await,
                }
            };
            let ready = tokio::select! {
                ready = socket => ready,
                () = self.kick.notified() => continue,
                () = &mut alarm => continue,
            };
            let result = match ready {
                Ok(ready) if ready.is_readable() && self.pause == Pause::No => self.read(),
                Ok(_) => Ok(()),
                Err(error) => Err(DownReason::Transport(error.kind())),
            };
            if let Err(reason) = result {
                return reason;
            }
        }
    }

    /// Reads what is there, at most [`READ`] bytes.
    fn read(&mut self) -> Result<(), DownReason> {
        let mut scratch = [0; READ];
        match self.stream.try_read(&mut scratch) {
            Ok(0) => Err(DownReason::PeerClosed),
            Ok(count) => {
                self.heard = true;
                self.input.extend_from_slice(&scratch[..count]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(DownReason::Transport(error.kind())),
        }
    }

    /// Everything that can be done now: input, output, writing. Says when to look again.
    fn turn(&mut self, now: Instant) -> Result<Instant, DownReason> {
        let endpoint = self.endpoint;
        let mut state = endpoint.lock();
        let state = &mut *state;
        if state.outbox.closed {
            return Err(DownReason::Shutdown);
        }
        if state.link.as_ref().is_none_or(|link| link.generation != self.link.generation()) {
            return Err(DownReason::Engine(CloseReason::Replaced));
        }
        if std::mem::take(&mut self.heard) {
            self.link.handle_heard(now);
        } else {
            self.link.handle_timeout(now);
        }
        for ticket in std::mem::take(&mut state.tickets) {
            self.link.handle_accepted(&mut state.session, now, ticket);
            endpoint.notify_arrival();
        }
        let deadline = loop {
            let pause = self.receive(state, now)?;
            if (pause == Pause::No) != (self.pause == Pause::No) {
                self.link.handle_read_paused(now, pause != Pause::No);
            }
            self.pause = pause;
            let deadline = loop {
                let deadline = self.drain(state, now)?;
                // A socket does not block. Under the lock, so that a taken-over link writes nothing more.
                if !self.write(state, now)? {
                    break deadline;
                }
            };
            if pause != Pause::UntilWritten || self.unwritten() > WRITE_HIGH {
                break deadline;
            }
        };
        if self.link.is_up() && !self.announced {
            self.announced = true;
            endpoint.set_status(LinkState::Up { dialect: self.link.dialect(), peer: self.peer });
        }
        if state.inbox.draining && state.outbox.is_empty() && self.output.is_empty() {
            return Err(DownReason::Shutdown);
        }
        Ok(match self.pause {
            Pause::Until(until) => deadline.min(until),
            Pause::No | Pause::UntilRoom | Pause::UntilWritten => deadline,
        })
    }

    /// Takes in all complete lines for which there is room, and says whether reading has to pause.
    fn receive(&mut self, state: &mut State, now: Instant) -> Result<Pause, DownReason> {
        let mut consumed = 0;
        let pause = loop {
            if let Some(until) = self.rate.exhausted(now) {
                break Pause::Until(until);
            }
            // Where nothing is acknowledged, what there is no room for must stay with the sender.
            let full = !self.link.dialect().acknowledges() && !state.inbox.has_room();
            if full {
                break Pause::UntilRoom;
            }
            if self.unwritten() > WRITE_HIGH {
                break Pause::UntilWritten;
            }
            let input = self.link.handle_input(&mut state.session, now, &self.input[consumed..]);
            consumed += input.consumed;
            let Some(received) = input.received else { break Pause::No };
            if !matches!(received, Received::Keepalive | Received::Acked(_)) {
                self.rate.count();
            }
            match received {
                Received::Keepalive | Received::Handled => {}
                Received::Message(Incoming { ticket, qos, header, payload }) => {
                    match state.inbox.accept(ticket, Message::received(header, payload, qos), qos) {
                        Accepted::Now(ticket) => {
                            self.link.handle_accepted(&mut state.session, now, ticket);
                            self.endpoint.notify_arrival();
                        }
                        Accepted::Parked => {}
                        Accepted::Refused(ticket) => self.link.handle_refused(&mut state.session, now, ticket),
                    }
                }
                Received::Undecodable { ticket, .. } if state.inbox.draining => {
                    self.link.handle_refused(&mut state.session, now, ticket);
                }
                Received::Undecodable { ticket, fault, line } => {
                    state.inbox.bury(line.to_vec(), fault.to_string());
                    self.link.handle_accepted(&mut state.session, now, ticket);
                }
                Received::Malformed(line) => {
                    state.inbox.bury(line.to_vec(), format!("not a line of dialect {}", self.link.dialect()));
                }
                Received::Acked(_) => state.outbox.delivered(),
            }
            // At once, so that acknowledgements wait in the output and not in the engine.
            self.drain(state, now)?;
        };
        self.input.drain(..consumed);
        if self.input.is_empty() {
            self.input.shrink_to(READ);
        } else if pause == Pause::No {
            self.hurry();
        }
        Ok(pause)
    }

    /// A line has come in part. Boards write lines in several pieces, and with Nagle's algorithm at work
    /// the next piece leaves only when this one is acknowledged, which the system would delay by 40 ms.
    fn hurry(&self) {
        #[cfg(target_os = "linux")]
        // A hint: without it the line is only later.
        let _ = socket2::SockRef::from(&self.stream).set_tcp_quickack(true);
    }

    /// Tells the engine what there is to send, and puts what it asks for into the output.
    fn drain(&mut self, state: &mut State, now: Instant) -> Result<Instant, DownReason> {
        let dialect = self.link.dialect();
        loop {
            if state.session.in_flight().is_none() {
                for (message, error) in state.outbox.drop_unsendable(dialect, self.endpoint.limits().line) {
                    state.inbox.bury(message.payload().to_vec(), error.to_string());
                }
            }
            let mut queue = state.outbox.queue();
            queue.best_effort &= self.unwritten() < WRITE_HIGH;
            self.link.handle_queue(now, queue);
            match self.link.poll_output(&mut state.session, now) {
                Output::Login => self.put_login(),
                Output::Keepalive => put(&mut self.output, dialect, &Frame::Keepalive),
                Output::Ack(id) => put(&mut self.output, dialect, &Frame::Ack(id)),
                Output::Message(id, Kind::Qos | Kind::Resend) => {
                    if let Some(message) = state.outbox.head() {
                        put(&mut self.output, dialect, &Frame::Message(id, message.repr(true)));
                        self.head_end = Some(self.gone + self.output.len() as u64);
                    }
                }
                Output::Message(id, Kind::BestEffort) => state.outbox.take_best_effort(|message| {
                    put(&mut self.output, dialect, &Frame::Message(id, message.repr(false)));
                    self.gone + self.output.len() as u64
                }),
                Output::Wait(at) => return Ok(at),
                Output::Close(reason) => return Err(DownReason::Engine(reason)),
            }
        }
    }

    fn put_login(&mut self) {
        // Who builds a `Drive` for the device side has checked the id.
        let Some(id) = self.login.as_deref().and_then(|id| DeviceId::new(id).ok()) else { return };
        let mut line = [0; login::MAX_LINE + 1];
        if let Some(len) = (Login { dialect: self.link.dialect(), id }).emit(&mut line) {
            self.output.extend_from_slice(&line[..len]);
        }
    }

    fn unwritten(&self) -> usize {
        self.output.len() - self.written
    }

    /// Writes what the socket takes. Says whether the engine was told something by it.
    fn write(&mut self, state: &mut State, now: Instant) -> Result<bool, DownReason> {
        let before = self.written;
        while self.unwritten() > 0 {
            match self.stream.try_write(&self.output[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(DownReason::Transport(error.kind())),
            }
        }
        let progress = self.written > before;
        let mut news = progress && self.tell_written(state, now);
        let blocked = self.unwritten() > 0;
        if blocked && (progress || !self.blocked) || !blocked && self.blocked {
            self.link.handle_write_blocked(now, blocked);
            news = true;
        }
        self.blocked = blocked;
        Ok(news)
    }

    /// Drops what is written from the output, and tells whose bytes that were. Says whether the engine
    /// was told.
    fn tell_written(&mut self, state: &mut State, now: Instant) -> bool {
        self.output.drain(..self.written);
        self.output.shrink_to(READ);
        self.gone += self.written as u64;
        self.written = 0;
        let head = self.head_end.take_if(|end| *end <= self.gone).is_some();
        state.outbox.written(self.gone, head);
        let delivered = head && !self.link.dialect().acknowledges();
        if delivered {
            self.link.handle_written(&mut state.session, now);
            state.outbox.delivered();
        }
        delivered
    }

    /// Lets the peer read what was written before the socket goes: closing it with unread bytes in it
    /// would throw that away.
    async fn linger(&mut self) {
        let farewell = async {
            self.stream.shutdown().await?;
            let mut scratch = [0; READ];
            loop {
                self.stream.readable().await?;
                match self.stream.try_read(&mut scratch) {
                    Ok(0) => return Ok(()),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        };
        // Either way the link is over.
        let _: Result<io::Result<()>, _> = tokio::time::timeout(LINGER, farewell).await;
    }
}

impl Drop for Driver<'_> {
    fn drop(&mut self) {
        let reason = self.ended.unwrap_or(DownReason::Dropped);
        self.endpoint.link_ended(self.link.generation(), self.announced, reason);
    }
}

/// Puts a line at the end of `output`.
fn put(output: &mut Vec<u8>, dialect: Dialect, frame: &Frame<'_>) {
    let start = output.len();
    output.resize(start + frame.len(dialect), 0);
    // The room is exactly what the frame takes.
    let _ = frame.emit(dialect, &mut output[start..]);
}

/// Whether a link reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pause {
    No,
    /// The peer is too fast.
    Until(Instant),
    /// The application takes nothing. It wakes the link when it does.
    UntilRoom,
    /// The peer does not take our answers. The socket wakes the link when it does.
    UntilWritten,
}

/// Counts messages against a limit a second.
#[derive(Debug)]
struct Rate {
    limit: u32,
    count: u32,
    window: Instant,
}

impl Rate {
    fn new(limit: Option<u32>) -> Self {
        Rate { limit: limit.unwrap_or(u32::MAX).max(1), count: 0, window: Instant::ZERO }
    }

    fn count(&mut self) {
        self.count = self.count.saturating_add(1);
    }

    /// If this second's messages are used up: when the next second starts.
    fn exhausted(&mut self, now: Instant) -> Option<Instant> {
        let end = self.window + Duration::from_millis(1_000);
        if now >= end {
            self.window = now;
            self.count = 0;
            return None;
        }
        (self.count >= self.limit).then_some(end)
    }
}
