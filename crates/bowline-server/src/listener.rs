//! Accepting connections, and what each goes through.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bowline_link::{DownReason, Drive, LinkState};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::JoinSet;

use crate::login::{self, FirstLine, Refusal};
use crate::server::Shared;

/// Pause after the system had no descriptor or memory for a connection, if nothing ends meanwhile.
const BREATH: Duration = Duration::from_millis(500);

/// Accepts connections until told to stop, then waits for the links to end.
pub(crate) async fn run(shared: Arc<Shared>, listener: TcpListener, plain: bool, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let mut short_of = false;
    loop {
        // A permit first: a connection that cannot be served is better left to the system's queue.
        let permit = tokio::select! {
            permit = Arc::clone(&shared.permits).acquire_owned() => permit,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Ok(permit) = permit else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                short_of = false;
                shared.counters.connections.one();
                connections.spawn(serve(Arc::clone(&shared), stream, peer, plain, permit));
            }
            Err(error) if is_shortage(&error) => {
                if !std::mem::replace(&mut short_of, true) {
                    shared.counters.accept_pauses.one();
                    tracing::warn!(
                        %error,
                        "cannot accept connections for now: raise the limit of open files (ulimit -n)"
                    );
                }
                let ended = shared.ended.notified();
                tokio::pin!(ended);
                // From here on no end is missed.
                ended.as_mut().enable();
                // Who has not logged in makes room for who will.
                shared.lobby.show_one_out();
                tokio::select! {
                    () = ended => {}
                    () = tokio::time::sleep(BREATH) => {}
                    _ = stop.wait_for(|stop| *stop) => break,
                }
            }
            // The peer was gone before we looked. Nothing to do with the listener.
            Err(error) => tracing::debug!(%error, "a connection was lost before it was accepted"),
        }
    }
    drop(listener);
    // Links end by themselves once their devices drain; whoever stops us bounds the time.
    while connections.join_next().await.is_some() {}
}

fn is_shortage(error: &io::Error) -> bool {
    // ENOMEM, ENFILE, EMFILE, ENOBUFS
    matches!(error.raw_os_error(), Some(12 | 23 | 24 | 105))
}

/// One connection, from its first byte to its end.
async fn serve(shared: Arc<Shared>, stream: TcpStream, peer: SocketAddr, plain: bool, permit: OwnedSemaphorePermit) {
    let mut id = None;
    if let Err(refusal) = connection(&shared, stream, peer, plain, &mut id).await {
        refusal.counter(&shared.counters).one();
        let id = id.unwrap_or_default();
        if shared.refused.is_first(peer.ip(), refusal, &id) {
            tracing::warn!(%peer, device = ?id, "refused a connection: {refusal} (logged once for this address)");
        } else {
            tracing::debug!(%peer, device = ?id, "refused a connection: {refusal}");
        }
    }
    drop(permit);
    shared.ended.notify_waiters();
}

/// Sets `claimed` to the id of the login, once there is one.
async fn connection(
    shared: &Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    plain: bool,
    claimed: &mut Option<Box<str>>,
) -> Result<(), Refusal> {
    // A small message is worth sending at once. Failing to say so is no reason to refuse.
    let _ = stream.set_nodelay(true);
    let FirstLine { dialect, id, rest } = {
        let mut guest = shared.lobby.enter();
        let mut stop = shared.stop.subscribe();
        tokio::select! {
            line = login::read(&stream) => line?,
            () = guest.shown_out() => return Err(Refusal::Evicted),
            () = tokio::time::sleep(shared.login_timeout) => return Err(Refusal::Timeout),
            _ = stop.wait_for(|stop| *stop) => return Err(Refusal::Closed),
        }
    };
    *claimed = Some(id.clone());
    let checked = bowline_proto::DeviceId::new(&id).map_err(|error| Refusal::Login(error.into()))?;
    let dialect = shared.gate.admit(checked, dialect, plain)?;
    let expected = shared.gate.is_expected(&id);
    let attachment = shared.registry.attach(&id, expected)?;
    let device = &attachment.device;
    if *shared.stop.borrow() {
        // The server drains its devices once; this one has come behind.
        device.endpoint.drain();
    }
    shared.counters.logins.one();
    if let LinkState::Up { peer: old, .. } = device.status().link {
        shared.counters.takeovers.one();
        if old.ip() == peer.ip() {
            tracing::info!(device = %id, %peer, "logged in again while its link was up: the newer link wins");
        } else {
            shared.counters.takeovers_from_elsewhere.one();
            tracing::warn!(
                device = %id, %peer, before = %old,
                "logged in from another address while its link was up: the newer link wins; \
                 these dialects cannot prove who is who, so make sure that no two devices share an id"
            );
        }
    }
    tracing::info!(device = %id, %peer, %dialect, "link up");
    if attachment.is_new
        && let Some(callback) = &shared.on_device
    {
        callback(device.clone());
    }
    let before = device.ledger().session;
    let drive = Drive { stream, peer, dialect, config: shared.config, login: None, early: rest };
    let reason = device.endpoint.drive(drive).await;
    let counted = device.ledger().session;
    let unread = (counted.malformed - before.malformed) + (counted.undecodable - before.undecodable);
    if unread > 0 {
        tracing::warn!(
            device = %id, %peer,
            "{unread} lines could not be read as dialect {dialect} and are kept as dead letters; \
             a device that sends plain lines has to be configured as one"
        );
    }
    match reason {
        DownReason::PeerClosed | DownReason::Shutdown => {
            tracing::info!(device = %id, %peer, "link down: {reason}");
        }
        _ => tracing::warn!(device = %id, %peer, "link down: {reason}"),
    }
    Ok(())
}
