//! What a session has counted since it was made.

/// Counts of one session, both directions. Nothing is refused without being counted here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Messages received and accepted.
    pub accepted: u64,
    /// Messages received again, acknowledged again and not delivered again.
    pub duplicates: u64,
    /// Of those: first messages after a login that equal the last accepted one byte for byte. A
    /// resend and a rebooted device's first message look the same here (§2.5).
    pub ambiguous: u64,
    /// Messages refused for want of room, not acknowledged: a qos one comes again, best effort is lost.
    pub refused: u64,
    /// Messages with an id whose content could not be read; kept as dead letters, acknowledged once.
    pub undecodable: u64,
    /// Lines that are none of the dialect; there is nothing in them to acknowledge.
    pub malformed: u64,
    /// Acknowledgements of nothing that is in flight. On U these include those of best-effort messages.
    pub stray_acks: u64,
    /// Times the peer's ids started anew: it restarted.
    pub restarts: u64,
    /// Qos messages sent for the first time.
    pub sent: u64,
    /// Qos messages sent again.
    pub resent: u64,
    /// Qos messages the peer has acknowledged.
    pub acked: u64,
    /// Best-effort messages sent.
    pub best_effort: u64,
}
