//! One device: a task that connects, drives its link, and connects again.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bowline_client::Backoff;
use bowline_proto::DeviceId;
use bowline_proto::time::Instant;
use bowline_secure::{Key, KeyId};
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Sleep;

use super::flow::{Faults, Flow, Sums};
use super::opening::{self, Began, Refusal};
use super::speak::{Ended, LinesState, NativeState, Seal, Speak};
use super::wire::Wire;

/// What all devices are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Connect, and stay.
    Stay,
    /// Send; it does not count yet.
    WarmUp,
    /// What is sent from now on counts: so many messages, or without a limit.
    Measure(Option<u64>),
    /// Send nothing any more.
    Finish,
    /// Every link is cut, once; everybody comes back, as soon as it can.
    Cut,
    /// As after [`Order::Cut`], but the server is the one who cuts.
    ExpectCut,
    /// The end.
    Close,
}

/// What happens to a device, for who leads the run.
#[derive(Debug)]
pub(super) enum Event {
    /// A link has come up.
    Up {
        began: Began,
        /// The device was never there before.
        first: bool,
        /// For the first link after the cut: how many microseconds it took.
        back: Option<u64>,
    },
    /// The device can come back without a full handshake.
    Ticket,
    /// A link that was up has ended.
    Down(Ended),
    /// An attempt came to nothing.
    Failed(String),
    /// The server said: not now.
    Refused,
    /// Nobody listens there.
    Nobody,
    /// Everything measured was sent and acknowledged.
    Done,
    /// No further attempt makes sense.
    Fatal(String),
}

/// What all devices share.
pub(super) struct Shared {
    pub(super) server: SocketAddr,
    pub(super) timeout: Duration,
    /// How many connect at a time, before anything is cut.
    pub(super) connecting: Arc<Semaphore>,
    pub(super) clock: Clock,
}

/// Microseconds since the run's start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock(pub(super) std::time::Instant);

impl Clock {
    pub(super) fn now(self) -> Instant {
        // 2^64 microseconds are 584,000 years.
        Instant::from_micros(self.0.elapsed().as_micros() as u64)
    }
}

/// What a device speaks, with what survives its links.
pub(super) enum Speech {
    Native(Box<NativeState>, Option<(KeyId, Key)>),
    Lines(Box<LinesState>),
}

/// One device.
pub(super) struct Device {
    pub(super) id: Box<str>,
    /// The address it connects from, if that matters.
    pub(super) source: Option<IpAddr>,
    /// Not there while a link has it.
    pub(super) speech: Option<Speech>,
    pub(super) flow: Flow,
    pub(super) shared: Arc<Shared>,
    pub(super) events: mpsc::UnboundedSender<Event>,
    pub(super) orders: watch::Receiver<Order>,
    /// What it was told last.
    pub(super) order: Order,
    pub(super) wire: Wire,
    /// When its link was cut, as long as it is not back.
    pub(super) cut_at: Option<Instant>,
    /// It was there, and it was cut.
    pub(super) was_up: bool,
    pub(super) was_cut: bool,
    /// The leader was told that there is a ticket, and that everything is done.
    pub(super) told_ticket: bool,
    pub(super) told_done: bool,
}

/// What is left of a device.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Left {
    pub(super) sums: Sums,
    pub(super) resent: u64,
    pub(super) faults: Faults,
}

/// What a wait ended with.
enum Woken {
    Order(watch::Receiver<Order>),
    Read,
    Write,
    Time,
}

/// Why a turn on a link was the last one.
enum Over {
    /// The link is no more.
    Ended(Ended),
    /// As ordered.
    Cut,
    Close,
    /// Nothing makes sense any more.
    Fatal(String),
}

impl Device {
    /// Keeps a link to the server until the end is ordered.
    pub(super) async fn run(mut self) -> Left {
        let backoff = Backoff::within(self.shared.timeout);
        let mut failures = 0_u32;
        while self.order != Order::Close {
            let mut permit = None;
            if self.order != Order::Cut && self.order != Order::ExpectCut {
                let connecting = Arc::clone(&self.shared.connecting);
                tokio::select! {
                    // It is never closed.
                    got = connecting.acquire_owned() => permit = got.ok(),
                    () = next(&mut self.orders) => { self.handle_order(); continue; }
                }
            }
            let start = std::time::Instant::now();
            match self.link(permit).await {
                Ok(()) if start.elapsed() > self.shared.timeout => failures = 1,
                Ok(()) => failures += 1,
                Err(refusal) => {
                    failures = failures.saturating_add(1);
                    let event = match refusal {
                        Refusal::Later => Event::Refused,
                        Refusal::Nobody => Event::Nobody,
                        Refusal::Failed(text) => Event::Failed(text),
                        Refusal::Final(text) => Event::Fatal(format!("{}: {text}", self.id)),
                    };
                    self.tell(event);
                }
            }
            if self.order == Order::Close {
                break;
            }
            let pause = backoff.pause(failures.max(1), fastrand::f64());
            let mut orders = self.orders.clone();
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // What is cut again meanwhile is not there.
                () = async { while *orders.borrow_and_update() != Order::Close { next(&mut orders).await; } } => {}
            }
            self.handle_order();
        }
        let (resent, stray) = match &self.speech {
            Some(Speech::Native(state, _)) => (state.resent(), 0),
            Some(Speech::Lines(state)) => (state.resent(), state.stray()),
            None => (0, 0),
        };
        self.flow.faults.stray += stray;
        Left { sums: self.flow.sums(), resent, faults: self.flow.faults }
    }

    fn tell(&self, event: Event) {
        // The leader is gone when nobody wants to know any more.
        let _ = self.events.send(event);
    }

    fn handle_order(&mut self) {
        let order = *self.orders.borrow_and_update();
        if order == self.order {
            return;
        }
        self.order = order;
        match order {
            Order::WarmUp => self.flow.warms_up(),
            Order::Measure(messages) => self.flow.measures(messages),
            Order::Finish => self.flow.finishes(),
            Order::Stay | Order::Cut | Order::ExpectCut | Order::Close => {}
        }
    }

    /// One link, from connecting to its end.
    async fn link(&mut self, permit: Option<OwnedSemaphorePermit>) -> Result<(), Refusal> {
        let shared = Arc::clone(&self.shared);
        let patience = shared.timeout.max(Duration::from_millis(500));
        let late = |what| Refusal::Failed(format!("no answer to {what}"));
        let connecting = connect(shared.server, self.source);
        let mut stream =
            tokio::time::timeout(patience, connecting).await.map_err(|_| late("the attempt to connect"))??;
        self.wire.clear();
        let Some(mut speech) = self.speech.take() else { return Ok(()) };
        let result = match self.open(&mut stream, &mut speech, patience).await {
            Err(refusal) => Err(refusal),
            Ok((seal, began)) => {
                let now = shared.clock.now();
                match &mut speech {
                    Speech::Native(state, _) => {
                        self.drive(&mut stream, &mut state.open(seal, now), began, permit).await
                    }
                    Speech::Lines(state) => self.drive(&mut stream, &mut state.open(now), began, permit).await,
                }
            }
        };
        self.speech = Some(speech);
        result
    }

    /// What comes before the engine.
    async fn open(
        &self,
        stream: &mut TcpStream,
        speech: &mut Speech,
        patience: Duration,
    ) -> Result<(Option<Seal>, Began), Refusal> {
        let Speech::Native(state, key) = speech else { return Ok((None, Began::Fully)) };
        let id = DeviceId::new(&self.id).map_err(|error| Refusal::Final(error.to_string()))?;
        let now = self.shared.clock.now();
        let opening = async {
            match key {
                None => opening::open(stream, id).await.map(|()| (None, Began::Fully)),
                Some((key_id, key)) => {
                    let (transport, began) = opening::secure(stream, id, *key_id, key, &mut state.ticket, now).await?;
                    Ok((Some(Seal(transport)), began))
                }
            }
        };
        tokio::time::timeout(patience, opening)
            .await
            .map_err(|_| Refusal::Failed("no answer to the opening of the link".to_owned()))?
    }

    /// Drives a link until it ends. An error if it never came up.
    async fn drive(
        &mut self,
        stream: &mut TcpStream,
        speak: &mut impl Speak,
        began: Began,
        mut permit: Option<OwnedSemaphorePermit>,
    ) -> Result<(), Refusal> {
        let clock = self.shared.clock;
        let mut is_up = false;
        let mut blocked = false;
        let mut deadline = tokio::time::Instant::now();
        let mut sleep = pin!(tokio::time::sleep_until(deadline));
        let mut order = pin!(changed(self.orders.clone()));
        let mut now = clock.now();
        let over = loop {
            let wait = match self.turn(stream, speak, &mut blocked, now) {
                Ok(wait) => wait,
                Err(over) => break over,
            };
            if !is_up && speak.is_up() {
                is_up = true;
                permit = None;
                let back = self.cut_at.take().map(|at| now.since(at).as_micros());
                self.tell(Event::Up { began, first: !self.was_up, back });
                self.was_up = true;
                if let Some(largest) = speak.largest().filter(|largest| *largest < self.flow.payload.len()) {
                    break Over::Fatal(format!(
                        "the server takes payloads of at most {largest} bytes (limits.line in its configuration), and \
                         --bytes says {}",
                        self.flow.payload.len()
                    ));
                }
            }
            if !self.told_ticket && speak.has_ticket() {
                self.told_ticket = true;
                self.tell(Event::Ticket);
            }
            if self.flow.is_done() && matches!(self.order, Order::Measure(_) | Order::Finish) && !self.told_done {
                self.told_done = true;
                self.tell(Event::Done);
            }
            // Deadlines that move away are left until they come: most move with every message.
            let at = tokio::time::Instant::from_std(clock.0 + Duration::from_micros(wait.as_micros()));
            if at < deadline || sleep.is_elapsed() {
                deadline = at;
                sleep.as_mut().reset(at);
            }
            let woken = woken(stream, blocked, order.as_mut(), sleep.as_mut()).await;
            // One time for what comes in and what follows from it.
            now = clock.now();
            match woken {
                Woken::Order(orders) => {
                    order.set(changed(orders));
                    self.handle_order();
                    match self.order {
                        Order::Close => break Over::Close,
                        Order::Cut if is_up && !self.was_cut => break Over::Cut,
                        _ => {}
                    }
                }
                Woken::Read => match self.wire.read(stream) {
                    Ok(true) => {
                        if let Err(ended) = speak.receive(&mut self.wire, &mut self.flow, now) {
                            break Over::Ended(ended);
                        }
                    }
                    Ok(false) => {}
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break Over::Ended(Ended::PeerClosed),
                    Err(error) => break Over::Ended(Ended::Io(error.kind())),
                },
                Woken::Write | Woken::Time => {}
            }
        };
        drop(permit);
        // The link may have ended before the order to expect that was seen.
        self.handle_order();
        if matches!(self.order, Order::Cut | Order::ExpectCut) && is_up && !self.was_cut {
            (self.was_cut, self.cut_at) = (true, Some(clock.now()));
        }
        match over {
            Over::Close => self.farewell(stream, speak).await,
            Over::Cut => {
                // Not in order: as if the network had gone, except that the server hears of it.
                let _ = SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
            }
            Over::Fatal(text) => self.tell(Event::Fatal(text)),
            Over::Ended(ended) if is_up => self.tell(Event::Down(ended)),
            Over::Ended(ended) => return Err(Refusal::Failed(format!("at the login: {ended}"))),
        }
        Ok(())
    }

    /// Does what is due. Says until when nothing more is.
    fn turn(
        &mut self,
        stream: &TcpStream,
        speak: &mut impl Speak,
        blocked: &mut bool,
        now: Instant,
    ) -> Result<Instant, Over> {
        loop {
            let drained = speak.drain(&mut self.wire, &mut self.flow, now);
            // What the engine has said at the end counts, too.
            let progress = self.wire.write(stream).map_err(|error| Over::Ended(Ended::Io(error.kind())));
            let wait = drained.map_err(Over::Ended)?;
            let (was, progress) = (*blocked, progress?);
            *blocked = self.wire.is_unwritten();
            if *blocked && (progress || !was) {
                speak.handle_blocked(now, true);
                return speak.drain(&mut self.wire, &mut self.flow, now).map_err(Over::Ended);
            }
            if *blocked || !was {
                return Ok(wait);
            }
            speak.handle_blocked(now, false);
        }
    }

    /// Ends the link in order.
    async fn farewell(&mut self, stream: &mut TcpStream, speak: &mut impl Speak) {
        let now = self.shared.clock.now();
        speak.close(now);
        // The engine says why the link ends, which is known.
        let _ = speak.drain(&mut self.wire, &mut self.flow, now);
        let _ = self.wire.write(stream);
        let _ = tokio::io::AsyncWriteExt::shutdown(stream).await;
    }
}

/// Connects, from a port of `source` if there is one.
async fn connect(server: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if server.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream = socket.connect(server).await?;
    // A hint: without it things are slower.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Waits for another order.
async fn next(orders: &mut watch::Receiver<Order>) {
    if orders.changed().await.is_err() {
        // Nobody leads any more: this task is about to be dropped.
        std::future::pending::<()>().await;
    }
}

/// The same, with the receiver in it.
async fn changed(mut orders: watch::Receiver<Order>) -> watch::Receiver<Order> {
    next(&mut orders).await;
    orders
}

/// Waits until something is to be done.
async fn woken(
    stream: &TcpStream,
    blocked: bool,
    mut order: Pin<&mut impl Future<Output = watch::Receiver<Order>>>,
    mut sleep: Pin<&mut Sleep>,
) -> Woken {
    std::future::poll_fn(|context| {
        if let Poll::Ready(orders) = order.as_mut().poll(context) {
            return Poll::Ready(Woken::Order(orders));
        }
        // An error is found again by reading or writing.
        if stream.poll_read_ready(context).is_ready() {
            return Poll::Ready(Woken::Read);
        }
        if blocked && stream.poll_write_ready(context).is_ready() {
            return Poll::Ready(Woken::Write);
        }
        if sleep.as_mut().poll(context).is_ready() {
            return Poll::Ready(Woken::Time);
        }
        Poll::Pending
    })
    .await
}
