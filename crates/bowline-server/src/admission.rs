//! Who may log in, and as what.

use bowline_proto::{DeviceId, Dialect};
use wildmatch::WildMatch;

use crate::listener::Kind;
use crate::login::Refusal;

/// Which dialects are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialects {
    /// H, for boards with the `read`/`write` library.
    pub headers: bool,
    /// U, for boards with the upstream library.
    pub upstream: bool,
    /// P, for the devices and listeners that are set to plain lines.
    pub plain: bool,
    /// The native protocol, with a key or without.
    pub native: bool,
}

impl Dialects {
    /// All of them.
    pub const ALL: Dialects = Dialects { headers: true, upstream: true, plain: true, native: true };

    fn allow(self, dialect: Dialect) -> bool {
        match dialect {
            Dialect::Headers => self.headers,
            Dialect::Upstream => self.upstream,
            Dialect::Plain => self.plain,
        }
    }
}

impl Default for Dialects {
    fn default() -> Self {
        Dialects::ALL
    }
}

/// Who may log in without a key, or without encryption. In patterns, `*` stands for any text and `?` for one character.
///
/// A device with a key ([`crate::Keys`]) may always log in with it, on the native protocol; an id that
/// has or had a key gets in by nothing else.
#[derive(Debug, Clone, Default)]
pub struct Admission {
    /// Ids that are known before they connect. They are persistent: they never expire.
    pub expected: Vec<String>,
    /// Patterns of further ids. They are temporary. Without any, only expected ids may log in.
    pub allow: Vec<String>,
    /// Patterns of ids that speak plain lines. On the wire their login looks like that of U.
    pub plain: Vec<String>,
    /// Patterns of ids that may speak the native protocol without a key, if they may log in at all.
    pub open: Vec<String>,
    /// Patterns of ids that may use their key on a keyed link (§15.6), which proves who they are and encrypts
    /// nothing. Others must encrypt.
    pub unencrypted: Vec<String>,
    /// Dialects spoken at all.
    pub dialects: Dialects,
}

impl Admission {
    /// Everyone may log in, in every dialect. Who has a key must encrypt all the same.
    #[must_use]
    pub fn open() -> Self {
        Admission { allow: vec!["*".to_owned()], open: vec!["*".to_owned()], ..Admission::default() }
    }
}

/// A pattern of device ids: `*` stands for any text, `?` for one character.
#[derive(Debug, Clone)]
pub struct IdPattern(WildMatch);

impl IdPattern {
    /// Every text is a pattern.
    #[must_use]
    pub fn new(pattern: &str) -> Self {
        IdPattern(WildMatch::new(pattern))
    }

    /// Whether the pattern fits the whole of `id`.
    #[must_use]
    pub fn matches(&self, id: &str) -> bool {
        self.0.matches(id)
    }
}

/// [`Admission`], ready to be asked.
#[derive(Debug)]
pub(crate) struct Gate {
    expected: std::collections::HashSet<String>,
    allow: Vec<IdPattern>,
    plain: Vec<IdPattern>,
    open: Vec<IdPattern>,
    unencrypted: Vec<IdPattern>,
    pub(crate) dialects: Dialects,
}

impl Gate {
    pub(crate) fn new(admission: &Admission) -> Self {
        let patterns = |list: &[String]| list.iter().map(|pattern| IdPattern::new(pattern)).collect();
        Gate {
            expected: admission.expected.iter().cloned().collect(),
            allow: patterns(&admission.allow),
            plain: patterns(&admission.plain),
            open: patterns(&admission.open),
            unencrypted: patterns(&admission.unencrypted),
            dialects: admission.dialects,
        }
    }

    /// The dialect that a device without a key speaks which logs in like this, if it may.
    pub(crate) fn admit(&self, id: DeviceId<'_>, wire: Dialect, kind: Kind) -> Result<Dialect, Refusal> {
        if kind == Kind::Secured {
            return Err(Refusal::NotSecured);
        }
        if !self.knows(id.as_str()) {
            return Err(Refusal::UnknownId);
        }
        // Only a U login can be one of plain lines: an H login says that it is H.
        let plain = wire == Dialect::Upstream
            && (kind == Kind::Plain || self.plain.iter().any(|pattern| pattern.matches(id.as_str())));
        let dialect = if plain { Dialect::Plain } else { wire };
        if self.dialects.allow(dialect) { Ok(dialect) } else { Err(Refusal::Dialect(dialect)) }
    }

    /// Whether a device with this id may speak the native protocol without a key.
    pub(crate) fn opens(&self, id: &str) -> bool {
        self.knows(id) && self.open.iter().any(|pattern| pattern.matches(id))
    }

    /// Whether a device with this id may use its key without encryption.
    pub(crate) fn unencrypted(&self, id: &str) -> bool {
        self.unencrypted.iter().any(|pattern| pattern.matches(id))
    }

    /// Whether a device with this id may log in without a key.
    pub(crate) fn knows(&self, id: &str) -> bool {
        self.is_expected(id) || self.allow.iter().any(|pattern| pattern.matches(id))
    }

    pub(crate) fn is_expected(&self, id: &str) -> bool {
        self.expected.contains(id)
    }
}
