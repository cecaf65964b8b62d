//! Connections that have not logged in: few, and never in the way of the next one.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a guest may be silent while others wait for its place: until what a device near by has said at once is known to have come.
const SILENCE: Duration = Duration::from_millis(50);

/// How long a guest that was answered may take to go on, while others wait for its place: the way there and back of a
/// device that is far away, with something lost on it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Connections that are accepted and not looked at yet. More are better left to the system's queue: whoever waits there costs
/// nothing, and is not taken for somebody silent.
const AHEAD: usize = 64;

/// Holds a bounded number of connections before their login. One too many waits at the door until there is a place.
///
/// Somebody makes room then. First it is the one that has been silent for the longest, if for [`SILENCE`]: a device says at once what
/// it has to, so that this is the least likely to be one. Those that have said something whole, and were answered, have
/// [`PATIENCE`], as the server has done its part for them. So strangers hold up nobody for long; and when everybody comes back
/// at once, the server takes as many as it can let in.
#[derive(Debug)]
pub(crate) struct Lobby {
    capacity: usize,
    inside: Mutex<Inside>,
    /// Rings when a place may be free, or somebody else can be asked for one.
    moved: Notify,
}

#[derive(Debug, Default)]
struct Inside {
    next: u64,
    /// Those that are to be looked at.
    new: usize,
    /// The others: the silent ones first, and of each kind the oldest.
    guests: BTreeMap<u64, Seat>,
}

#[derive(Debug)]
struct Seat {
    /// Since when it is what it is.
    since: Instant,
    /// Whether who sits there is to leave unless it says something.
    asked: bool,
    bell: Arc<Notify>,
}

/// Of the numbers of those that were answered: they are behind all others.
const ANSWERED: u64 = 1 << 63;

/// A place in the lobby, given back when dropped.
#[derive(Debug)]
pub(crate) struct Guest {
    lobby: Arc<Lobby>,
    /// Where the lobby has it, or [`NEW`]. Changes under the lobby's lock.
    number: AtomicU64,
    bell: Arc<Notify>,
}

/// In place of a number.
const NEW: u64 = u64::MAX;

impl Lobby {
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Lobby { capacity: capacity.max(1), inside: Mutex::default(), moved: Notify::new() })
    }

    /// Lets one more in, when there is a place.
    pub(crate) async fn enter(self: &Arc<Self>) -> Guest {
        let mut moved = pin!(self.moved.notified());
        loop {
            // From here on nothing that moves is missed.
            moved.as_mut().enable();
            let patience_ends = {
                let mut inside = self.lock();
                let is_full = inside.new + inside.guests.len() >= self.capacity;
                if !is_full && inside.new < AHEAD {
                    inside.new += 1;
                    return Guest { lobby: Arc::clone(self), number: NEW.into(), bell: Arc::default() };
                }
                if is_full { inside.ask(Instant::now()) } else { None }
            };
            let patience = async {
                match patience_ends {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = &mut moved => moved.set(self.moved.notified()),
                () = patience => {}
            }
        }
    }

    /// Asks the one to leave that is the least likely to be a device, if there is one.
    pub(crate) fn show_one_out(&self) {
        let mut inside = self.lock();
        if let Some(seat) = inside.guests.values_mut().find(|seat| !seat.asked) {
            seat.ask();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        // Nothing panics while it holds the lock.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    /// Asks one to leave. If it is only that nobody is to be asked yet, says when somebody is. Those that were asked already are on their
    /// way.
    fn ask(&mut self, now: Instant) -> Option<Instant> {
        let (number, seat) = self.guests.iter_mut().find(|(_, seat)| !seat.asked)?;
        let until = seat.since + if *number < ANSWERED { SILENCE } else { PATIENCE };
        if until > now {
            return Some(until);
        }
        seat.ask();
        None
    }
}

impl Seat {
    fn ask(&mut self) {
        self.asked = true;
        self.bell.notify_one();
    }
}

impl Guest {
    /// The server looks at it from now on: if it says nothing, that is its own silence.
    pub(crate) fn is_seen(&self) {
        self.sits(0);
    }

    /// It has said something whole, and is answered.
    pub(crate) fn is_answered(&self) {
        self.sits(ANSWERED);
    }

    fn sits(&self, kind: u64) {
        let mut inside = self.lobby.lock();
        let before = self.number.load(Ordering::Relaxed);
        self.leaves(&mut inside, before);
        let number = inside.next | kind;
        inside.next += 1;
        let seat = Seat { since: Instant::now(), asked: false, bell: Arc::clone(&self.bell) };
        inside.guests.insert(number, seat);
        self.number.store(number, Ordering::Relaxed);
        drop(inside);
        // Who waits at the door asks the next one.
        self.lobby.moved.notify_waiters();
    }

    fn leaves(&self, inside: &mut Inside, number: u64) {
        if number == NEW {
            inside.new -= 1;
        } else {
            inside.guests.remove(&number);
        }
    }

    /// Waits until this guest is shown out. What it may have said is to be read first: it stays then.
    pub(crate) async fn shown_out(&self) {
        loop {
            self.bell.notified().await;
            let number = self.number.load(Ordering::Relaxed);
            if self.lobby.lock().guests.get(&number).is_some_and(|seat| seat.asked) {
                return;
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.leaves(&mut self.lobby.lock(), self.number.load(Ordering::Relaxed));
        self.lobby.moved.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::Poll;

    use super::*;

    async fn is_ready<T>(future: &mut (impl Future<Output = T> + Unpin)) -> bool {
        std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context).is_ready())).await
    }

    async fn seen(lobby: &Arc<Lobby>) -> Guest {
        let guest = lobby.enter().await;
        guest.is_seen();
        guest
    }

    /// Of two guests who fill the lobby, each as `has` left it, the first makes room for a third after `wait`.
    async fn the_oldest_makes_room(has: impl Fn(&Guest), wait: Duration) {
        let lobby = Lobby::new(2);
        let (first, second) = (seen(&lobby).await, seen(&lobby).await);
        has(&first);
        has(&second);
        let start = Instant::now();
        let entering = async {
            drop(lobby.enter().await);
            assert_eq!(start.elapsed(), wait);
        };
        let leaving = async {
            first.shown_out().await;
            drop(first);
        };
        tokio::join!(entering, leaving);
        assert!(!is_ready(&mut Box::pin(second.shown_out())).await);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_silent_makes_room_soon_the_oldest_first() {
        the_oldest_makes_room(|_| {}, SILENCE).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_answered_has_some_time() {
        the_oldest_makes_room(Guest::is_answered, PATIENCE).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_something_after_all_stays_and_the_next_one_is_asked() {
        let lobby = Lobby::new(2);
        let (first, second) = (seen(&lobby).await, seen(&lobby).await);
        tokio::time::advance(SILENCE).await;
        let mut entering = Box::pin(lobby.enter());
        assert!(!is_ready(&mut entering).await);
        // Asked, and answered before it has left.
        first.is_answered();
        assert!(!is_ready(&mut Box::pin(first.shown_out())).await);
        assert!(!is_ready(&mut entering).await, "the second one is there yet");
        second.shown_out().await;
        drop(second);
        assert!(is_ready(&mut entering).await);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_the_server_is_not_shown_out() {
        let lobby = Lobby::new(2);
        let (first, second) = (lobby.enter().await, lobby.enter().await);
        let mut entering = Box::pin(lobby.enter());
        assert!(!is_ready(&mut entering).await);
        tokio::time::advance(10 * PATIENCE).await;
        assert!(!is_ready(&mut entering).await);
        // Looked at, it goes in; and there is room.
        first.is_seen();
        first.is_answered();
        drop(first);
        assert!(is_ready(&mut entering).await);
        assert!(!is_ready(&mut Box::pin(second.shown_out())).await);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_taken_in_than_can_be_looked_at_soon() {
        let lobby = Lobby::new(1_000);
        let mut ahead = Vec::new();
        for _ in 0..AHEAD {
            ahead.push(lobby.enter().await);
        }
        let mut entering = Box::pin(lobby.enter());
        assert!(!is_ready(&mut entering).await);
        ahead[7].is_seen();
        assert!(is_ready(&mut entering).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shortage_shows_somebody_out_though_there_is_room() {
        let lobby = Lobby::new(8);
        let (first, second) = (seen(&lobby).await, seen(&lobby).await);
        lobby.show_one_out();
        first.shown_out().await;
        assert!(!is_ready(&mut Box::pin(second.shown_out())).await);
        // The first one is on its way.
        lobby.show_one_out();
        second.shown_out().await;
    }
}
