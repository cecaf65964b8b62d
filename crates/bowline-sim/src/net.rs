//! The network: connections that are slow, cut, half-open, or torn into single bytes.
//!
//! A connection behaves as TCP's do: bytes come in order or not at all. What is lost on the way shows as lateness; what a
//! dead host never acknowledged shows as silence. Everything is drawn from the network's own random numbers.

mod link;
mod socket;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bowline_client::{Connecting, Stream};
use bowline_server::Listener;
use fastrand::Rng;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::link::Link;
pub(crate) use self::link::{Death, Direction};
use self::socket::{End, Plug};

/// When a system sends the beginning of a connection again that nobody has answered, in milliseconds.
const KNOCK_AGAIN: u64 = 1_000;

/// A place in the network: 0 is the server, device `n` is `n + 1`.
pub(crate) type Place = usize;

/// How the way between a device and the server is.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    /// Longest time a segment takes, in milliseconds; at least 1.
    pub(crate) latency: u64,
    /// Of a hundred segments so many come late, as if they had been lost and sent again.
    pub(crate) loss: u32,
    /// Most bytes that one read gives, and one write takes.
    pub(crate) piece: usize,
    /// Bytes that may be on their way: 0 is a window that is shut.
    pub(crate) window: usize,
    /// Nothing goes through, and nobody is told.
    pub(crate) severed: bool,
    /// Attempts to connect are refused at once.
    pub(crate) refused: bool,
}

impl Default for Way {
    fn default() -> Self {
        Way { latency: 3, loss: 0, piece: usize::MAX, window: 64 * 1024, severed: false, refused: false }
    }
}

/// What happens later.
#[derive(Debug)]
enum Event {
    /// An attempt to connect arrives.
    Knock { link: usize },
    /// Segments arrive, or their acknowledgements.
    Arrive { link: usize, direction: Direction },
}

/// The network of one world.
#[derive(Clone)]
pub(crate) struct Net(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// An earlier event than the next one was added.
    sooner: Notify,
}

struct State {
    random: Rng,
    start: Instant,
    /// By time and order of coming.
    events: BTreeMap<(u64, u64), Event>,
    count: u64,
    links: Vec<Link>,
    /// Of each device.
    ways: Vec<Way>,
    /// Connections for the server's process, if one listens: those that wait, and who waits for them.
    listening: Option<(Vec<usize>, Option<Waker>)>,
    /// A place's process ends when it has written so many times more.
    fuses: BTreeMap<Place, (u64, Arc<Notify>)>,
}

impl Net {
    pub(crate) fn new(devices: usize, seed: u64) -> Self {
        let state = State {
            random: Rng::with_seed(seed),
            start: Instant::now(),
            events: BTreeMap::new(),
            count: 0,
            links: Vec::new(),
            ways: vec![Way::default(); devices],
            listening: None,
            fuses: BTreeMap::new(),
        };
        Net(Arc::new(Shared { state: Mutex::new(state), sooner: Notify::new() }))
    }

    /// Has everything happen at its time. Runs for ever.
    pub(crate) async fn run(self) {
        loop {
            let next = {
                let mut state = self.lock();
                state.catch_up();
                state.events.first_key_value().map(|((at, _), _)| state.start + Duration::from_millis(*at))
            };
            let time = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.0.sooner.notified() => {}
                () = time => {}
            }
        }
    }

    /// Changes how the way of a device is.
    pub(crate) fn change(&self, device: usize, change: impl FnOnce(&mut Way)) {
        let mut state = self.lock();
        change(&mut state.ways[device]);
        for at in 0..state.links.len() {
            if state.links[at].device == device && !state.links[at].is_over() {
                state.restart(at);
            }
        }
        self.0.sooner.notify_one();
    }

    /// Ends all connections of a device; both ends are told. Says how many that were.
    pub(crate) fn cut(&self, device: usize) -> usize {
        self.end(|link| link.device == device && !link.is_dumb(), Link::reset)
    }

    /// From now on nothing goes through the connections that a device has, and nobody is told.
    pub(crate) fn hush(&self, device: usize, directions: &[Direction]) -> usize {
        let directions = directions.to_vec();
        self.end(|link| link.device == device && !link.is_dumb(), move |link| link.hush(&directions))
    }

    /// The process in this place has ended.
    pub(crate) fn dies(&self, place: Place, death: Death) {
        let concerns = |link: &Link| place == 0 || link.device + 1 == place;
        let at = self.lock().now() + 1;
        self.end(concerns, |link| link.dies(place == 0, death, at));
        let mut state = self.lock();
        state.fuses.remove(&place);
        for at in 0..state.links.len() {
            if concerns(&state.links[at]) && !state.links[at].is_over() {
                state.restart(at);
            }
        }
        self.0.sooner.notify_one();
        if place == 0 {
            state.listening = None;
        }
    }

    /// The process in this place ends in the middle of its `writes`th write from now on: `then` is told.
    pub(crate) fn fuse(&self, place: Place, writes: u64, then: Arc<Notify>) {
        self.lock().fuses.insert(place, (writes, then));
    }

    /// It does not, after all.
    pub(crate) fn unfuse(&self, place: Place) {
        self.lock().fuses.remove(&place);
    }

    fn end(&self, which: impl Fn(&Link) -> bool, how: impl Fn(&mut Link)) -> usize {
        let mut state = self.lock();
        let mut count = 0;
        for link in state.links.iter_mut().filter(|link| !link.is_over() && which(link)) {
            how(link);
            count += 1;
        }
        count
    }

    /// The server listens.
    pub(crate) fn listen(&self) -> Door {
        self.lock().listening = Some((Vec::new(), None));
        Door { net: self.clone() }
    }

    /// Connects a device, or a stranger on its way.
    pub(crate) fn connect(&self, device: usize) -> Connecting {
        let net = self.clone();
        Box::pin(async move {
            let at = net.knock(device);
            let plug = Plug { net, at, end: End::Device };
            std::future::poll_fn(|context| plug.poll_connected(context)).await?;
            Ok((Stream::new(plug), address(0)))
        })
    }

    /// What somebody who listens has recorded of one of a device's openings.
    pub(crate) fn recording(&self, device: usize) -> Option<Vec<u8>> {
        let mut state = self.lock();
        let State { links, random, .. } = &mut *state;
        let links: Vec<_> = links.iter().filter(|link| link.device == device && link.beginning().len() > 40).collect();
        random.choice(links).map(|link| link.beginning().to_vec())
    }

    fn knock(&self, device: usize) -> usize {
        let mut state = self.lock();
        let at = state.links.len();
        state.links.push(Link::new(device));
        let delay = state.delay(device);
        state.later(delay, Event::Knock { link: at });
        self.0.sooner.notify_one();
        at
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn later(&mut self, delay: u64, event: Event) {
        self.count += 1;
        self.events.insert((self.now() + delay, self.count), event);
    }

    /// How long a segment of this device takes now.
    fn delay(&mut self, device: usize) -> u64 {
        let Way { latency, loss, .. } = self.ways[device];
        let delay = self.random.u64(1..=latency.max(1));
        if self.random.u32(..100) < loss { delay + self.random.u64(100..=600) } else { delay }
    }

    /// What is due happens.
    fn catch_up(&mut self) {
        let now = self.now();
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= now) {
            match entry.remove() {
                Event::Knock { link } => self.knocked(link),
                Event::Arrive { link, direction } => {
                    if !self.ways[self.links[link].device].severed {
                        self.links[link].arrive(direction, now);
                    }
                }
            }
        }
    }

    fn knocked(&mut self, at: usize) {
        let way = &self.ways[self.links[at].device];
        match &mut self.listening {
            // Nobody answers, and it knocks again.
            _ if way.severed => self.later(KNOCK_AGAIN, Event::Knock { link: at }),
            Some((waiting, waker)) if !way.refused => {
                self.links[at].connects();
                waiting.push(at);
                if let Some(waker) = waker.take() {
                    waker.wake();
                }
            }
            _ => self.links[at].reset(),
        }
    }

    /// Sees to it that everything on its way on this link arrives some time.
    fn restart(&mut self, at: usize) {
        for direction in [Direction::Up, Direction::Down] {
            if let Some(due) = self.links[at].due(direction) {
                let delay = due.saturating_sub(self.now()).max(1);
                self.later(delay, Event::Arrive { link: at, direction });
            }
            self.links[at].wake(direction);
        }
    }
}

/// Where the server's process finds its connections.
pub(crate) struct Door {
    net: Net,
}

impl Listener for Door {
    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<io::Result<(Stream, SocketAddr)>> {
        let mut state = self.net.lock();
        let Some((waiting, waker)) = &mut state.listening else { return Poll::Pending };
        if waiting.is_empty() {
            *waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        let at = waiting.remove(0);
        let device = state.links[at].device;
        drop(state);
        let plug = Plug { net: self.net.clone(), at, end: End::Server };
        Poll::Ready(Ok((Stream::new(plug), address(device + 1))))
    }
}

fn address(place: Place) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, u8::try_from(place + 1).unwrap_or(255)], 9_999))
}
