//! When the timer of a link is set anew.

use bowline_proto::time::Instant;

/// When a link's timer fires, and since when that stands.
///
/// Deadlines mostly move away. A timer that follows each message costs more than one that fires early now and then; one
/// that never follows wakes an idle link for nothing, once in each keepalive. So it follows once at least half of its time
/// is over: a busy link sets it twice in that time at most, and an idle one is not woken by it.
#[derive(Debug)]
pub(super) struct Alarm {
    fires: Instant,
    since: Instant,
}

impl Alarm {
    /// That of a timer that fires at once.
    pub(super) fn new(now: Instant) -> Self {
        Alarm { fires: now, since: now }
    }

    /// Whether the timer is to be set to `deadline`, which it then is. One that has fired `is_elapsed`, and says so until
    /// it is set.
    pub(super) fn follows(&mut self, deadline: Instant, now: Instant, is_elapsed: bool) -> bool {
        let is_half_over = now.since(self.since) >= self.fires.since(now);
        let follows = is_elapsed || self.fires > deadline || self.fires < deadline && is_half_over;
        if follows {
            *self = Alarm { fires: deadline, since: now };
        }
        follows
    }
}

#[cfg(test)]
mod tests {
    use bowline_proto::time::Duration;

    use super::*;

    /// How often the timer was set and how often it fired in vain, where a link has a turn at each of `turns`, in
    /// milliseconds, and its deadline is always `span` behind that.
    fn set_and_fired(turns: impl Iterator<Item = u64>, span: u64) -> (u32, u32) {
        let at = |millis| Instant::ZERO + Duration::from_millis(millis);
        let (mut set, mut fired) = (0, 0);
        let mut alarm = Alarm::new(at(0));
        let mut deadline = at(0);
        for turn in turns {
            while alarm.fires < at(turn) && deadline != at(0) {
                let now = alarm.fires;
                assert!(alarm.follows(deadline, now, true), "it would fire for ever");
                (set, fired) = (set + 1, fired + 1);
            }
            deadline = at(turn + span);
            set += u32::from(alarm.follows(deadline, at(turn), false));
            assert!(alarm.fires <= deadline, "it fires too late");
        }
        (set, fired)
    }

    #[test]
    fn keepalives_do_not_let_the_timer_fire() {
        assert_eq!(set_and_fired((1..=100).map(|second| second * 1_000), 1_250), (100, 0));
    }

    #[test]
    fn messages_do_not_each_set_the_timer() {
        let (set, fired) = set_and_fired(1..=100_000, 1_250);
        assert!(set + fired <= 2 * 100_000 / 1_250 + 1, "set {set} times, fired {fired} times");
    }

    #[test]
    fn a_deadline_that_comes_nearer_is_followed_at_once() {
        let now = Instant::ZERO;
        let mut alarm = Alarm::new(now);
        assert!(alarm.follows(now + Duration::from_millis(900), now, false));
        assert!(alarm.follows(now + Duration::from_millis(5), now, false));
        assert!(!alarm.follows(now + Duration::from_millis(900), now + Duration::from_millis(1), false));
        assert!(alarm.follows(now + Duration::from_millis(900), now + Duration::from_millis(5), true));
    }
}
