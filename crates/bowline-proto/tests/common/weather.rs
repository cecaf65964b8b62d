//! How a random conversation goes: work and faults for a while, then calm, in which everything must arrive.

use bowline_proto::time::{Duration, Instant};

use super::rng::Rng;

/// How long and how often, in milliseconds, each from and to.
pub(crate) struct Weather {
    /// Until the calm.
    pub(crate) storm: (u64, u64),
    /// Between two pieces of work.
    pub(crate) work: (u64, u64),
    /// Between two faults.
    pub(crate) faults: (u64, u64),
    /// How long everything may take to arrive in the calm.
    pub(crate) patience: Duration,
}

/// Two ends and what joins them, in virtual time.
pub(crate) trait World {
    fn now(&self) -> Instant;
    fn rng(&mut self) -> &mut Rng;
    /// When something happens next by itself.
    fn next_event(&self) -> Instant;
    /// Moves to `now`, which is not after [`World::next_event`], and lets everything happen that is due.
    fn moves_to(&mut self, now: Instant);
    /// From now on nothing goes wrong any more, and the applications accept everything.
    fn calms_down(&mut self);
}

/// What is done in a world.
pub(crate) trait Conversation {
    type World: World;
    fn world(&mut self) -> &mut Self::World;
    /// Something is to be sent.
    fn works(&mut self);
    /// Something goes wrong.
    fn fails(&mut self);
    fn is_done(&self) -> bool;

    /// Goes on until everything has arrived, or should have: returns when that is.
    fn goes_through(&mut self, weather: &Weather) -> Instant {
        let start = self.world().now();
        let calm = start + self.random(weather.storm);
        let (mut next_fault, mut next_work) = (start, start);
        while self.world().now() < calm {
            let next = self.world().next_event().min(next_fault).min(next_work).min(calm);
            self.world().moves_to(next);
            if next_work <= next {
                self.works();
                next_work = next + self.random(weather.work);
            }
            if next_fault <= next {
                self.fails();
                next_fault = next + self.random(weather.faults);
            }
        }
        self.world().calms_down();
        let end = calm + weather.patience;
        while self.world().now() < end && !self.is_done() {
            let next = self.world().next_event().min(end);
            self.world().moves_to(next);
        }
        end
    }

    fn random(&mut self, (low, high): (u64, u64)) -> Duration {
        self.world().rng().millis(low, high)
    }
}
