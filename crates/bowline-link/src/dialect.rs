//! What links speak.

/// The language of a link, told by the device's first bytes or by configuration (§2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// H, "headers": lines with a hexadecimal pre-header, qos per message (§3).
    Headers,
    /// U, "upstream": lines with a two-digit id, every one acknowledged (§4).
    Upstream,
    /// P, plain lines: no ids, no acknowledgements (§5).
    Plain,
    /// N, the native one: many messages in flight, keys, gaps (§7).
    Native,
}

impl Dialect {
    /// One letter, as used in documents, configuration and logs.
    #[must_use]
    pub const fn letter(self) -> char {
        match self.lines() {
            Some(lines) => lines.letter(),
            None => 'N',
        }
    }

    /// The dialect of lines, if it is one.
    #[must_use]
    pub const fn lines(self) -> Option<bowline_proto::Dialect> {
        Some(match self {
            Dialect::Headers => bowline_proto::Dialect::Headers,
            Dialect::Upstream => bowline_proto::Dialect::Upstream,
            Dialect::Plain => bowline_proto::Dialect::Plain,
            Dialect::Native => return None,
        })
    }

    /// Whether the dialect has acknowledgements at all. Without them "exactly once" cannot be had.
    #[must_use]
    pub const fn acknowledges(self) -> bool {
        !matches!(self, Dialect::Plain)
    }

    /// Whether a message may carry a header beside its payload.
    #[must_use]
    pub const fn has_header(self) -> bool {
        matches!(self, Dialect::Headers | Dialect::Native)
    }
}

impl From<bowline_proto::Dialect> for Dialect {
    fn from(lines: bowline_proto::Dialect) -> Self {
        match lines {
            bowline_proto::Dialect::Headers => Dialect::Headers,
            bowline_proto::Dialect::Upstream => Dialect::Upstream,
            bowline_proto::Dialect::Plain => Dialect::Plain,
        }
    }
}

impl std::fmt::Display for Dialect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.letter().encode_utf8(&mut [0; 4]))
    }
}
