//! Whether what the peer says of itself can be true (§10.3, §10.4).

use super::session::Session;
use super::wire::{Cursors, NUMBER_LIMIT, Outcome};

/// How two ends contradict each other. One of them has been set back to an older state, or is not
/// the one the other knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Conflict {
    /// The peer no longer has what it has acknowledged.
    PeerLostReceived,
    /// The peer has messages that this end never sent.
    NeverSent,
    /// The peer takes messages for acknowledged that this end does not have.
    NeverAcked,
    /// The peer never sent what this end has from it.
    PeerLostSent,
    /// The device's epoch lies behind the server's.
    EpochBack,
    /// Something has happened in what one end takes for a new epoch.
    NotNew,
    /// The peer has found one of these.
    FoundByPeer,
}

impl core::fmt::Display for Conflict {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Conflict::PeerLostReceived => "the peer no longer has what it has acknowledged",
            Conflict::NeverSent => "the peer has messages that were never sent from here",
            Conflict::NeverAcked => "the peer takes messages for acknowledged that are not here",
            Conflict::PeerLostSent => "the peer knows nothing of messages that came from it",
            Conflict::EpochBack => "the device's epoch lies behind the server's",
            Conflict::NotNew => "one end takes an epoch for new in which something has happened",
            Conflict::FoundByPeer => "the peer says that the two ends contradict each other, and knows how",
        })
    }
}

/// A device cannot be this many epochs ahead: it has made that up (§10.3).
const LEAP: u64 = 1 << 32;

/// What the server says to the device's epoch, and which one it offers (§10.3).
pub(super) fn outcome(session: &mut Session, claimed: u64) -> (Outcome, u64) {
    let known = session.epoch;
    let next = |above: u64| (above + 1 < NUMBER_LIMIT).then_some(above + 1);
    let (outcome, epoch) = match claimed {
        0 if crate::planted!(EpochReuse) && known > 0 => (Outcome::New, Some(known)),
        0 => (Outcome::New, next(session.offered.max(known))),
        _ if claimed == known => (Outcome::Resumed, Some(known)),
        _ if claimed < known || claimed - known > LEAP => (Outcome::Quarantined, Some(known)),
        // Not if it is an offer of this process, whose START may still be on its way on another link.
        _ if known == 0 && claimed > session.offered => (Outcome::Forgotten, next(session.offered.max(claimed))),
        _ => (Outcome::New, Some(claimed)),
    };
    match epoch {
        Some(epoch) => {
            session.offered = session.offered.max(epoch);
            (outcome, epoch)
        }
        // All epochs are used up: nobody gets there but by lying.
        None => (Outcome::Quarantined, known),
    }
}

/// Compares cursors in an epoch that goes on (§10.4, rules 1 and 2).
pub(super) fn resumed(session: &Session, peer: &Cursors) -> Result<(), Conflict> {
    let (tx, rx) = (&session.tx, &session.rx);
    if peer.durable < tx.acked {
        return Err(Conflict::PeerLostReceived);
    }
    if peer.received > tx.last {
        return Err(Conflict::NeverSent);
    }
    if peer.acked > rx.durable {
        return Err(Conflict::NeverAcked);
    }
    if rx.received > peer.last {
        return Err(Conflict::PeerLostSent);
    }
    Ok(())
}

/// Checks that nothing has happened in a new epoch (§10.4, rule 3).
pub(super) fn new(peer: &Cursors) -> Result<(), Conflict> {
    if peer.received == 0 && peer.acked == 0 { Ok(()) } else { Err(Conflict::NotNew) }
}
