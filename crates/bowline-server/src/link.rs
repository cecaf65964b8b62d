//! What links of all dialects have in common, from admission to their end.

use std::net::SocketAddr;

use bowline_link::{DownReason, LinkState};

use crate::Device;
use crate::keys::Proof;
use crate::login::Refusal;
use crate::registry::Attachment;
use crate::server::Shared;

/// Finds a device that may come in, or makes it, and says so to whoever is to know.
pub(crate) fn attach(
    shared: &Shared,
    id: &str,
    peer: SocketAddr,
    proof: &Proof,
    speaks: &str,
) -> Result<Attachment, Refusal> {
    let proven = matches!(proof, Proof::Key(..));
    // Somebody has made a key for it: it is known as well as one that is expected.
    let attachment = shared.registry.attach(id, proven || shared.gate.is_expected(id))?;
    let device = &attachment.device;
    if *shared.stop.borrow() {
        // The server drains its devices once; this one has come behind.
        device.endpoint.drain();
    }
    shared.counters.logins.one();
    if let LinkState::Up { peer: old, .. } = device.status().link {
        shared.counters.takeovers.one();
        if proven || old.ip() == peer.ip() {
            tracing::info!(device = %id, %peer, "logged in again while its link was up: the newer link wins");
        } else {
            shared.counters.takeovers_from_elsewhere.one();
            tracing::warn!(
                device = %id, %peer, before = %old,
                "logged in from another address while its link was up: the newer link wins; without keys nobody can \
                 prove who is who, so make sure that no two devices share an id"
            );
        }
    }
    tracing::info!(device = %id, %peer, "link up: {speaks}");
    if attachment.is_new
        && let Some(callback) = &shared.on_device
    {
        callback(device.clone());
    }
    Ok(attachment)
}

/// Returns when keys change such that what has let a link in does so no more. Also looks at once: they may have changed
/// since the login.
pub(crate) async fn barred(shared: &Shared, device: &Device, proof: &Proof) -> DownReason {
    loop {
        // Before looking: what changes from here on is not missed.
        let changed = shared.keys.changed();
        if !shared.keys.admit(device.id(), proof) {
            break;
        }
        changed.await;
    }
    shared.counters.revoked_links.one();
    let why = match proof {
        Proof::Open => "the id has a key now, and nobody gets in without it",
        Proof::Key(..) => "its key was revoked",
    };
    tracing::warn!(device = %device.id(), "ending the link: {why}");
    DownReason::Revoked
}

/// Says why a link ended.
pub(crate) fn ended(id: &str, peer: SocketAddr, reason: DownReason) {
    match reason {
        DownReason::PeerClosed | DownReason::Shutdown => {
            tracing::info!(device = %id, %peer, "link down: {reason}");
        }
        _ => tracing::warn!(device = %id, %peer, "link down: {reason}"),
    }
}
