//! Topics, filters, and the prefix that keeps devices apart.

use super::settings::DEVICE;

/// Longest topic or filter, in bytes: its length is told in two.
const LONGEST: usize = 65_535;

/// Whether something can be published under `topic`.
pub(super) fn check_name(topic: &str) -> Result<(), &'static str> {
    check_text(topic)?;
    if topic.contains(['+', '#']) {
        return Err("the topic has a wildcard: expected one without + and #, which are for subscriptions");
    }
    Ok(())
}

/// Whether `filter` can be subscribed to.
pub(super) fn check_filter(filter: &str) -> Result<(), &'static str> {
    check_text(filter)?;
    if filter.starts_with("$share/") {
        return Err("the topic is a shared subscription, which would let others take the board's messages: \
                    expected a topic without $share/");
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let wrong = match level {
            "+" => false,
            "#" => levels.peek().is_some(),
            _ => level.contains(['+', '#']),
        };
        if wrong {
            return Err(
                "the topic has a wildcard in the wrong place: expected + for a whole level, # for the last one",
            );
        }
    }
    Ok(())
}

fn check_text(topic: &str) -> Result<(), &'static str> {
    match topic {
        "" => Err("the topic is empty: expected one such as \"home/kitchen\""),
        _ if topic.len() > LONGEST => Err("the topic is too long: expected at most 65535 bytes"),
        _ if topic.contains(char::is_control) => Err("the topic has a control character, which brokers refuse"),
        _ => Ok(()),
    }
}

/// Whether a message under `topic` is for a subscription to `filter`. Wildcards at the beginning do not
/// match topics that begin with `$`, which are the broker's own.
pub(super) fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for expected in filter.split('/') {
        match (expected, levels.next()) {
            ("#", _) | ("+", Some(_)) => {}
            (expected, Some(level)) if expected == level => {}
            _ => return false,
        }
        if expected == "#" {
            return true;
        }
    }
    levels.next().is_none()
}

/// The topic in which an actuator keeps its state, if `filter` is the one for its commands.
pub(super) fn state_of(filter: &str) -> Option<&str> {
    filter.strip_suffix("/set").filter(|state| !state.is_empty())
}

/// `template` for a device. In topics its id must not be more than a part of a level.
pub(super) fn of_device(template: &str, device: &str) -> String {
    let mut safe = String::with_capacity(device.len());
    for c in device.chars() {
        if matches!(c, '/' | '+' | '#' | '%' | '$') || c.is_control() {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                safe.push_str(&format!("%{byte:02X}"));
            }
        } else {
            safe.push(c);
        }
    }
    template.replace(DEVICE, &safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_the_specification_says() {
        for (filter, topic, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/bc", false),
            ("a/+", "a/b", true),
            ("a/+", "a", false),
            ("a/+", "a/", true),
            ("a/+", "a/b/c", false),
            ("a/#", "a/b/c", true),
            ("a/#", "a", true),
            ("#", "a/b", true),
            ("+/+", "/a", true),
            ("#", "$SYS/uptime", false),
            ("+/uptime", "$SYS/uptime", false),
            ("$SYS/#", "$SYS/uptime", true),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} on {topic}");
        }
    }

    #[test]
    fn what_is_no_topic_is_refused() {
        for filter in ["", "a/#/b", "a+", "a/b#", "$share/g/a", "a\0"] {
            assert!(check_filter(filter).is_err(), "{filter:?}");
        }
        for filter in ["a", "/", "+", "#", "a/+/b/#"] {
            assert_eq!(check_filter(filter), Ok(()), "{filter:?}");
        }
        assert!(check_name("a/+").is_err() && check_name("a/#").is_err() && check_name("a/b").is_ok());
    }

    #[test]
    fn no_id_gets_into_the_topics_of_another() {
        let prefix = |device| of_device("bowline/{device}/", device);
        assert_eq!(prefix("kitchen"), "bowline/kitchen/");
        assert_eq!(prefix("a/b"), "bowline/a%2Fb/");
        assert_eq!(prefix("#+%$"), "bowline/%23%2B%25%24/");
        assert_ne!(prefix("a/b"), prefix("a%2Fb"));
    }

    #[test]
    fn only_topics_for_commands_have_a_state() {
        assert_eq!(state_of("lamp/set"), Some("lamp"));
        assert_eq!(state_of("lamp"), None);
        assert_eq!(state_of("/set"), None);
    }
}
