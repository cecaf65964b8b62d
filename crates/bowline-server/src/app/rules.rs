//! Which device may use which app, and how much apps may take.

use std::time::Duration;

use crate::IdPattern;

/// What the devices that fit may use. Of several rules the first that fits a device decides; a device that
/// none fits may use every app.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppRule {
    /// Patterns of device ids: `*` stands for any text, `?` for one character.
    pub devices: Vec<String>,
    /// Names of apps; `*` for all of them.
    pub allow: Vec<String>,
}

/// [`AppRule`]s, ready to be asked.
#[derive(Debug)]
pub(crate) struct Rules(Vec<(Vec<IdPattern>, Vec<String>)>);

impl Rules {
    pub(crate) fn new(rules: Vec<AppRule>) -> Self {
        let patterns = |list: &[String]| list.iter().map(|pattern| IdPattern::new(pattern)).collect();
        Rules(rules.into_iter().map(|rule| (patterns(&rule.devices), rule.allow)).collect())
    }

    /// The rule that decides about the device with this id, if there is one.
    pub(crate) fn about(&self, device: &str) -> Option<usize> {
        self.0.iter().position(|(patterns, _)| patterns.iter().any(|pattern| pattern.matches(device)))
    }

    /// Whether a device that this rule decides about may use the app with this name.
    pub(crate) fn allow(&self, rule: Option<usize>, app: &str) -> bool {
        match rule.and_then(|rule| self.0.get(rule)) {
            Some((_, allowed)) => allowed.iter().any(|name| name == "*" || name == app),
            None => true,
        }
    }
}

/// How much an app may take, and how often it is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppLimits {
    /// How often a message is given to a failing app before it becomes a dead letter. At least 1.
    pub attempts: u32,
    /// Pause after the first failure; each further one is twice as long. Each is shortened at random by up to
    /// a half.
    pub first_pause: Duration,
    /// Longest of these pauses.
    pub longest_pause: Duration,
    /// How long a call of an instance may take. Its future is dropped then, at one of its awaits.
    pub handle_timeout: Duration,
    /// Instances of one device at a time. Messages that would make one more become dead letters.
    pub instances: usize,
    /// Best-effort messages that wait for an instance; more are dropped. For a global app: from each device.
    pub best_effort: usize,
}

impl Default for AppLimits {
    fn default() -> Self {
        AppLimits {
            attempts: 5,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(10),
            handle_timeout: Duration::from_secs(30),
            instances: 64,
            best_effort: 16,
        }
    }
}

impl AppLimits {
    /// The pause after this many failures in a row (at least 1), with `random` in `0.0..1.0`.
    pub(crate) fn pause(&self, failures: u32, random: f64) -> Duration {
        // 2^20 times any pause worth configuring is beyond the longest.
        let doublings = failures.saturating_sub(1).min(20);
        let pause = self.first_pause.saturating_mul(1 << doublings).min(self.longest_pause);
        pause.mul_f64(1.0 - 0.5 * random)
    }

    /// What makes no sense about them.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        if self.attempts == 0 {
            Some("attempts is 0, and a message that is never tried is never handled: use 1 or more")
        } else if self.handle_timeout.is_zero() {
            Some("handle_timeout is 0, and no call is as fast: use 1 s or more")
        } else if self.instances == 0 {
            Some("instances is 0, and without an instance nothing is handled: use 1 or more")
        } else if self.first_pause > self.longest_pause {
            Some("first_pause is longer than longest_pause")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_fits_decides() {
        let rule = |devices: &[&str], allow: &[&str]| AppRule {
            devices: devices.iter().map(ToString::to_string).collect(),
            allow: allow.iter().map(ToString::to_string).collect(),
        };
        let rules = Rules::new(vec![rule(&["garden-*", "hall"], &["echo"]), rule(&["garden-1", "b?ck"], &["*"])]);
        let allow = |device, app| rules.allow(rules.about(device), app);
        assert!(allow("garden-1", "echo") && !allow("garden-1", "mqtt"));
        assert!(allow("back", "mqtt") && !allow("hall", "mqtt"));
        assert!(allow("kitchen", "mqtt"), "no rule is about it");
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_are_shortened_by_up_to_a_half() {
        let limits = AppLimits::default();
        assert_eq!([1, 2, 3, 60].map(|failures| limits.pause(failures, 0.0).as_millis()), [100, 200, 400, 10_000]);
        assert_eq!(limits.pause(1, 1.0).as_millis(), 50);
    }
}
