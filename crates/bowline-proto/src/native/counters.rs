//! What a session has counted since its process started.

/// Counts of one session, both directions. Nothing is dropped without being counted here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Qos messages received and given to the driver.
    pub received: u64,
    /// DATA and GAP received again and not given to the driver.
    pub duplicates: u64,
    /// Messages the peer dropped, by its gaps.
    pub gaps: u64,
    /// Best-effort messages received.
    pub best_received: u64,
    /// Qos messages sent for the first time.
    pub sent: u64,
    /// Qos messages sent again.
    pub resent: u64,
    /// Messages and gaps the peer has acknowledged.
    pub acked: u64,
    /// Messages dropped here, by the gaps sent.
    pub gaps_sent: u64,
    /// Of those: larger than the peer takes.
    pub too_large: u64,
    /// Best-effort messages sent.
    pub best_sent: u64,
    /// New epochs.
    pub epochs: u64,
    /// Of those: begun because the peer had forgotten a session in which something had happened.
    pub forgotten: u64,
    /// Starts refused because the two ends contradict each other.
    pub quarantined: u64,
    /// Links that have started.
    pub links: u64,
    /// Frames skipped because this version does not know them.
    pub unknown: u64,
    /// Messages a volatile device will not see again: acknowledged before its restart (§14.4).
    pub skipped: u64,
    /// Times that storing failed.
    pub storage_failures: u64,
}
