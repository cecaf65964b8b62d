//! Connections that have not logged in: few, and never in the way of the next one.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a guest may be silent while others wait for its place: the way there and back of a device that is far away.
const PATIENCE: Duration = Duration::from_millis(250);

/// Holds a bounded number of connections before their login. One too many waits at the door until there is a place.
///
/// A guest that has said nothing whole for long is shown out then: devices say at once what they have to, so that it is the
/// least likely to be one. Those that wait for the server are not silent. When everybody comes back at once, it takes
/// as many as it can let in, and leaves the others to the system's queue.
#[derive(Debug)]
pub(crate) struct Lobby {
    capacity: usize,
    inside: Mutex<Inside>,
    /// Rings when somebody has left, or will stay.
    moved: Notify,
}

#[derive(Debug, Default)]
struct Inside {
    next: u64,
    /// Those that have been silent for the longest first.
    guests: BTreeMap<u64, Seat>,
}

#[derive(Debug)]
struct Seat {
    /// When something was heard from there.
    heard: Instant,
    /// Whether who sits there is to leave unless it says something.
    asked: bool,
    bell: Arc<Notify>,
}

/// A place in the lobby, given back when dropped.
#[derive(Debug)]
pub(crate) struct Guest {
    lobby: Arc<Lobby>,
    /// Where the lobby has it. Changes under the lobby's lock.
    number: AtomicU64,
    bell: Arc<Notify>,
}

impl Lobby {
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Lobby { capacity: capacity.max(1), inside: Mutex::default(), moved: Notify::new() })
    }

    /// Lets one more in, when there is a place.
    pub(crate) async fn enter(self: &Arc<Self>) -> Guest {
        let mut moved = pin!(self.moved.notified());
        loop {
            // From here on nobody's leaving is missed.
            moved.as_mut().enable();
            let patience_ends = {
                let mut inside = self.lock();
                if inside.guests.len() < self.capacity {
                    return self.seat(&mut inside);
                }
                inside.ask(Instant::now().checked_sub(PATIENCE)).map(|heard| heard + PATIENCE)
            };
            let silence = async {
                match patience_ends {
                    Some(at) => tokio::time::sleep_until(at).await,
                    // Somebody was asked.
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = &mut moved => moved.set(self.moved.notified()),
                () = silence => {}
            }
        }
    }

    fn seat(self: &Arc<Self>, inside: &mut Inside) -> Guest {
        let bell = Arc::new(Notify::new());
        let number = inside.insert(Seat { heard: Instant::now(), asked: false, bell: Arc::clone(&bell) });
        Guest { lobby: Arc::clone(self), number: number.into(), bell }
    }

    /// Asks the one that has been silent for the longest to leave, if there is one.
    pub(crate) fn show_one_out(&self) {
        self.lock().ask(Some(Instant::now()));
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        // Nothing panics while it holds the lock.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn insert(&mut self, seat: Seat) -> u64 {
        let number = self.next;
        self.next += 1;
        self.guests.insert(number, seat);
        number
    }

    /// Asks the one to leave that has been silent for the longest, if that is since `before`. Otherwise says since when it
    /// has. Those that were asked already are on their way.
    fn ask(&mut self, before: Option<Instant>) -> Option<Instant> {
        let oldest = self.guests.values_mut().find(|seat| !seat.asked)?;
        if before.is_none_or(|before| oldest.heard > before) {
            return Some(oldest.heard);
        }
        oldest.asked = true;
        oldest.bell.notify_one();
        None
    }
}

impl Guest {
    /// It has said something whole, or it is only now that the server listens: it is here, and stays.
    pub(crate) fn is_heard(&self) {
        let mut inside = self.lobby.lock();
        let Some(mut seat) = inside.guests.remove(&self.number.load(Ordering::Relaxed)) else { return };
        seat.heard = Instant::now();
        let was_asked = std::mem::take(&mut seat.asked);
        self.number.store(inside.insert(seat), Ordering::Relaxed);
        drop(inside);
        if was_asked {
            // Who waits for its place asks the next one.
            self.lobby.moved.notify_waiters();
        }
    }

    /// Waits until this guest is shown out. What it may have said is to be read first: it stays then.
    pub(crate) async fn shown_out(&self) {
        loop {
            self.bell.notified().await;
            let number = self.number.load(Ordering::Relaxed);
            if self.lobby.lock().guests.get(&number).is_none_or(|seat| seat.asked) {
                return;
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.lobby.lock().guests.remove(&self.number.load(Ordering::Relaxed));
        self.lobby.moved.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::Poll;

    use super::*;

    async fn is_ready(future: &mut (impl Future<Output = ()> + Unpin)) -> bool {
        std::future::poll_fn(|context| Poll::Ready(std::pin::Pin::new(&mut *future).poll(context).is_ready())).await
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_silent_makes_room_after_a_while() {
        let lobby = Lobby::new(2);
        let (first, second) = (lobby.enter().await, lobby.enter().await);
        let start = Instant::now();
        let entering = async {
            let third = lobby.enter().await;
            assert_eq!(start.elapsed(), PATIENCE);
            third
        };
        let leaving = async {
            first.shown_out().await;
            drop(first);
        };
        let (third, ()) = tokio::join!(entering, leaving);
        assert!(!is_ready(&mut Box::pin(second.shown_out())).await);
        drop(third);
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_something_stays_and_the_next_one_is_asked() {
        let lobby = Lobby::new(2);
        let (first, second) = (lobby.enter().await, lobby.enter().await);
        tokio::time::advance(PATIENCE).await;
        let mut entering = Box::pin(async { drop(lobby.enter().await) });
        assert!(!is_ready(&mut entering).await);
        // Asked, and heard before it has left.
        first.is_heard();
        assert!(!is_ready(&mut Box::pin(first.shown_out())).await);
        assert!(!is_ready(&mut entering).await, "the second one is there yet");
        second.shown_out().await;
        drop(second);
        assert!(is_ready(&mut entering).await);
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_makes_room_at_once() {
        let lobby = Lobby::new(1);
        let first = lobby.enter().await;
        let mut entering = Box::pin(async { drop(lobby.enter().await) });
        assert!(!is_ready(&mut entering).await);
        drop(first);
        assert!(is_ready(&mut entering).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shortage_asks_without_patience() {
        let lobby = Lobby::new(8);
        let (first, second) = (lobby.enter().await, lobby.enter().await);
        lobby.show_one_out();
        first.shown_out().await;
        assert!(!is_ready(&mut Box::pin(second.shown_out())).await);
        // The first one is on its way.
        lobby.show_one_out();
        second.shown_out().await;
    }
}
