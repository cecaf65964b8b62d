//! How much an endpoint may hold.

/// How much an endpoint may hold. Its memory is bounded by these, whatever its peer and its application do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Messages received and not yet handled. At least 4.
    pub inbox: usize,
    /// Qos messages accepted for sending. Further calls of `send` wait.
    pub outbox: usize,
    /// Bytes in each of these two, headers and payloads. One message is taken whatever its size.
    pub queue_bytes: usize,
    /// Best-effort messages waiting for the link. Further calls fail.
    pub best_effort: usize,
    /// Dead letters kept.
    pub dead_letters: usize,
    /// Messages a second taken from a link; a faster peer is made to wait. `None` for no limit.
    pub messages_per_second: Option<u32>,
    /// Longest line in bytes, newline not counted, both ways; on N, the largest payload.
    pub line: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            inbox: 256,
            outbox: 256,
            queue_bytes: 256 * 1024,
            best_effort: 16,
            dead_letters: 32,
            messages_per_second: Some(20_000),
            line: 16 * 1024,
        }
    }
}
