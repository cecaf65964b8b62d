//! Who sends to whom, and whether that can go round in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bowline_server::Policy;
use wildmatch::WildMatch;

/// Most targets of one message.
pub(super) const FAN_OUT: usize = 256;

/// What a relay does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RelaySettings {
    /// Who sends to whom. A message goes by all rules that fit its sender.
    pub rules: Vec<RelayRule>,
    /// Names for several ids.
    pub groups: BTreeMap<String, Vec<String>>,
    /// Rules may send in a circle, so that boards can talk with each other.
    pub circles: bool,
    /// How often a message may be passed on, counted in what boards get and send on as it is.
    pub hops: u64,
}

/// What the devices that fit send to whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RelayRule {
    /// Pattern of the senders' ids: `*` stands for any text, `?` for one character.
    pub from: String,
    /// Ids, patterns of ids, and names of groups. A pattern means the devices that are known.
    pub to: Vec<String>,
    /// The sender says which of them it means; otherwise all of them get the message.
    pub named: bool,
    /// The message goes on as it is, without its sender.
    pub raw: bool,
    /// Whether it is acknowledged.
    pub qos: RelayQos,
    /// What happens when a target's outbox is full.
    pub policy: Policy,
    /// The message is worth nothing after this long.
    pub expires: Option<Duration>,
    /// The instance on the targets that gets it.
    pub instance: u8,
}

/// Whether a relayed message is qos.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RelayQos {
    /// As it came.
    #[default]
    AsSent,
    /// It is, however it came.
    Always,
    /// It is best effort, however it came.
    Never,
}

/// What is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// A rule has no sender or no target.
    #[error("rule {rule} has no {what}: expected an id or a pattern")]
    Empty {
        /// The rule, counted from 1.
        rule: usize,
        /// What it has not.
        what: &'static str,
    },
    /// Messages could go round for ever.
    #[error(
        "rule {rule} sends to {target:?}, and from there messages can come back to {from:?} ({way}): boards that pass on \
         what they get would do it for ever. Change the rules, or allow it with circles = true"
    )]
    Circle {
        /// The rule, counted from 1.
        rule: usize,
        /// Its senders.
        from: String,
        /// The target that is on the way.
        target: String,
        /// The rules on the way, counted from 1.
        way: String,
    },
}

/// Why a message is not relayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotRelayed {
    NoRule,
    NoSuchTarget(String),
    TooMany,
}

/// Settings that make sense.
#[derive(Debug)]
pub(super) struct Rules {
    rules: Vec<Checked>,
    groups: BTreeMap<String, Vec<String>>,
    pub(super) hops: u64,
}

#[derive(Debug)]
struct Checked {
    from: WildMatch,
    /// Groups are resolved.
    to: Vec<String>,
    rule: RelayRule,
}

/// Whom a message goes to, and by which rule.
pub(super) type Plan<'a> = BTreeMap<String, &'a RelayRule>;

impl Rules {
    pub(super) fn new(settings: RelaySettings) -> Result<Self, RelayError> {
        let RelaySettings { rules, groups, circles, hops } = settings;
        let resolve = |name: &String| groups.get(name).cloned().unwrap_or_else(|| vec![name.clone()]);
        let mut checked = Vec::new();
        for (at, rule) in rules.into_iter().enumerate() {
            let to: Vec<String> = rule.to.iter().flat_map(resolve).collect();
            for (what, is_empty) in
                [("sender", rule.from.is_empty()), ("target", to.is_empty() || to.iter().any(String::is_empty))]
            {
                if is_empty {
                    return Err(RelayError::Empty { rule: at + 1, what });
                }
            }
            checked.push(Checked { from: WildMatch::new(&rule.from), to, rule });
        }
        if !circles {
            no_circle(&checked)?;
        }
        Ok(Rules { rules: checked, groups, hops })
    }

    /// Whether the device may name targets.
    pub(super) fn names_targets(&self, sender: &str) -> bool {
        self.of(sender).any(|checked| checked.rule.named)
    }

    /// Whom a message goes to: by the rules alone, or to those of `named` that the rules allow. `known` are the ids
    /// that patterns mean.
    pub(super) fn plan(
        &self,
        sender: &str,
        named: Option<&[String]>,
        known: impl Fn() -> Vec<String>,
    ) -> Result<Plan<'_>, NotRelayed> {
        let mut plan = Plan::new();
        let mut any = false;
        for checked in self.of(sender).filter(|checked| checked.rule.named == named.is_some()) {
            any = true;
            for target in &checked.to {
                let ids = if is_pattern(target) {
                    let pattern = WildMatch::new(target);
                    known().into_iter().filter(|id| id != sender && pattern.matches(id)).collect()
                } else {
                    vec![target.clone()]
                };
                for id in ids {
                    plan.entry(id).or_insert(&checked.rule);
                }
            }
        }
        if !any {
            return Err(NotRelayed::NoRule);
        }
        if let Some(named) = named {
            let mut wanted = BTreeSet::new();
            for name in named {
                let ids = self.groups.get(name).map_or(std::slice::from_ref(name), Vec::as_slice);
                let meant = |id: &&String| ids.iter().any(|text| WildMatch::new(text).matches(id));
                let meant: Vec<String> = plan.keys().filter(meant).cloned().collect();
                // Patterns are for the settings, not for devices.
                if meant.is_empty() || is_pattern(name) {
                    return Err(NotRelayed::NoSuchTarget(name.clone()));
                }
                wanted.extend(meant);
            }
            plan.retain(|id, _| wanted.contains(id));
        }
        if plan.len() > FAN_OUT { Err(NotRelayed::TooMany) } else { Ok(plan) }
    }

    fn of(&self, sender: &str) -> impl Iterator<Item = &Checked> {
        self.rules.iter().filter(move |checked| checked.from.matches(sender))
    }
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// Whether from any rule, by what boards pass on, messages can come back to it. An edge leads from a rule to each
/// whose senders can be among its targets.
fn no_circle(rules: &[Checked]) -> Result<(), RelayError> {
    let edge = |from: usize, to: usize| rules[from].to.iter().find(|target| overlap(target, &rules[to].rule.from));
    for start in 0..rules.len() {
        // The rule by which each was reached first.
        let mut reached: Vec<Option<usize>> = vec![None; rules.len()];
        let mut open = vec![start];
        while let Some(at) = open.pop() {
            let news: Vec<_> = (0..rules.len()).filter(|&to| reached[to].is_none() && edge(at, to).is_some()).collect();
            for next in news {
                reached[next] = Some(at);
                open.push(next);
            }
        }
        let Some(mut back) = reached[start] else { continue };
        let mut way = vec![start];
        while back != start {
            way.push(back);
            back = reached[back].unwrap_or(start);
        }
        way.push(start);
        way.reverse();
        return Err(RelayError::Circle {
            rule: start + 1,
            from: rules[start].rule.from.clone(),
            target: edge(start, way[1]).cloned().unwrap_or_default(),
            way: way.iter().map(|rule| format!("rule {}", rule + 1)).collect::<Vec<_>>().join(" to "),
        });
    }
    Ok(())
}

/// Whether there is an id that both patterns fit.
fn overlap(a: &str, b: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // `fits[j]` for the rests of the patterns from `i` and `j` on, from the back.
    let mut below = vec![false; b.len() + 1];
    for i in (0..=a.len()).rev() {
        let mut fits = vec![false; b.len() + 1];
        for j in (0..=b.len()).rev() {
            fits[j] = match (a.get(i), b.get(j)) {
                (None, None) => true,
                // A star is nothing, or one character more; which one, the other pattern says.
                (Some('*'), None) => below[j],
                (None, Some('*')) => fits[j + 1],
                (Some('*'), Some(_)) | (Some(_), Some('*')) => below[j] || fits[j + 1],
                (Some(x), Some(y)) => (x == y || *x == '?' || *y == '?') && below[j + 1],
                (Some(_), None) | (None, Some(_)) => false,
            };
        }
        below = fits;
    }
    below[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(from: &str, to: &[&str]) -> RelayRule {
        RelayRule { from: from.into(), to: to.iter().map(ToString::to_string).collect(), ..RelayRule::default() }
    }

    fn settings(rules: &[RelayRule]) -> RelaySettings {
        let lights = vec!["lamp-1".to_owned(), "lamp-2".to_owned()];
        RelaySettings { rules: rules.to_vec(), groups: [("lights".to_owned(), lights)].into(), circles: false, hops: 4 }
    }

    fn ids(rules: &Rules, sender: &str, named: Option<&[&str]>) -> Result<Vec<String>, NotRelayed> {
        let known = || ["lamp-1", "lamp-9", "horn", sender].map(str::to_owned).to_vec();
        let named: Option<Vec<String>> = named.map(|names| names.iter().map(ToString::to_string).collect());
        Ok(rules.plan(sender, named.as_deref(), known)?.into_keys().collect())
    }

    #[test]
    fn a_message_goes_by_all_rules_that_fit() {
        let rules = [rule("button-*", &["lights", "horn"]), rule("button-1", &["log"]), rule("tx", &["lamp-*"])];
        let rules = Rules::new(settings(&rules)).unwrap();
        assert_eq!(ids(&rules, "button-1", None).unwrap(), ["horn", "lamp-1", "lamp-2", "log"]);
        assert_eq!(ids(&rules, "button-2", None).unwrap(), ["horn", "lamp-1", "lamp-2"]);
        assert_eq!(ids(&rules, "tx", None).unwrap(), ["lamp-1", "lamp-9"], "the known ones");
        assert_eq!(ids(&rules, "stranger", None), Err(NotRelayed::NoRule));
    }

    #[test]
    fn a_sender_may_name_what_the_rules_allow_and_no_more() {
        let named = RelayRule { named: true, ..rule("desk", &["lights", "horn", "lamp-*"]) };
        let rules = Rules::new(settings(&[named, rule("desk", &["log"])])).unwrap();
        assert_eq!(ids(&rules, "desk", None).unwrap(), ["log"]);
        assert_eq!(ids(&rules, "desk", Some(&["horn"])).unwrap(), ["horn"]);
        assert_eq!(ids(&rules, "desk", Some(&["lights", "horn", "lamp-1"])).unwrap(), ["horn", "lamp-1", "lamp-2"]);
        assert_eq!(ids(&rules, "desk", Some(&["lamp-9"])).unwrap(), ["lamp-9"]);
        for refused in ["log", "lamp-7", "*", "lamp-?", ""] {
            assert_eq!(ids(&rules, "desk", Some(&[refused])), Err(NotRelayed::NoSuchTarget(refused.to_owned())));
        }
    }

    #[test]
    fn a_message_goes_to_so_many_and_no_more() {
        let rules = Rules::new(settings(&[rule("a", &["b*"])])).unwrap();
        let known = |count: usize| move || (0..count).map(|number| format!("b{number}")).collect();
        assert_eq!(rules.plan("a", None, known(FAN_OUT)).unwrap().len(), FAN_OUT);
        assert_eq!(rules.plan("a", None, known(FAN_OUT + 1)), Err(NotRelayed::TooMany));
    }

    #[test]
    fn circles_are_refused() {
        let circles: [&[RelayRule]; 6] = [
            &[rule("a", &["a"])],
            &[rule("*", &["b"])],
            &[rule("a", &["b"]), rule("b", &["a"])],
            &[rule("x", &["y"]), rule("a-*", &["b"]), rule("b", &["c?"]), rule("c1", &["*-7"])],
            &[rule("lamp-*", &["lights"])],
            &[rule("s*1", &["*2"]), rule("s??", &["sa1"])],
        ];
        for rules in circles {
            let error = Rules::new(settings(rules)).unwrap_err();
            assert!(error.to_string().contains("circles = true"), "{error}");
            Rules::new(RelaySettings { circles: true, ..settings(rules) }).unwrap();
        }
        let error = Rules::new(settings(circles[3])).unwrap_err().to_string();
        assert!(error.contains("rule 2 to rule 3 to rule 4 to rule 2"), "{error}");
        for straight in [vec![rule("a", &["b"]), rule("b", &["c"])], vec![rule("button-*", &["lamp-*"])]] {
            Rules::new(settings(&straight)).unwrap();
        }
    }

    #[test]
    fn rules_without_an_end_are_refused() {
        for wrong in [rule("", &["b"]), rule("a", &[]), rule("a", &[""])] {
            assert!(matches!(Rules::new(settings(&[wrong])), Err(RelayError::Empty { rule: 1, .. })));
        }
    }

    #[test]
    fn patterns_overlap_when_an_id_fits_both() {
        for (a, b) in [("*", ""), ("a*", "*b"), ("a?c", "*"), ("*a*", "b*b"), ("??", "a*"), ("**", "x"), ("abc", "a*c")]
        {
            assert!(overlap(a, b) && overlap(b, a), "{a} {b}");
        }
        for (a, b) in [("a*", "b*"), ("?", "*aa"), ("abc", "ab"), ("a?", "?"), ("*x", "*y"), ("", "?")] {
            assert!(!overlap(a, b) && !overlap(b, a), "{a} {b}");
        }
    }
}
