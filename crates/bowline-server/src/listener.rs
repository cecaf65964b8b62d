//! Accepting connections, and what each goes through.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bowline_link::{Drive, Lines, Speech, Stream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::JoinSet;

use crate::Listener;
use crate::keys::Proof;
use crate::lobby::Guest;
use crate::login::{self, First, FirstLine, Refusal};
use crate::native::{self, Prepared};
use crate::opening::NativeLogin;
use crate::server::Shared;
use crate::{link, opening};

/// Pause after the system had no descriptor or memory for a connection, if nothing ends meanwhile.
const BREATH: Duration = Duration::from_millis(500);

/// Who may come in by a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Everyone who may log in.
    Any,
    /// The same; lines without the mark of H are plain ones.
    Plain,
    /// Devices with keys.
    Secured,
}

/// Accepts connections until told to stop, then waits for the links to end.
pub(crate) async fn run(
    shared: Arc<Shared>,
    mut listener: Box<dyn Listener>,
    kind: Kind,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let mut short_of = false;
    loop {
        // A permit first: a connection that cannot be served is better left to the system's queue.
        let permit = tokio::select! {
            biased;
            permit = Arc::clone(&shared.permits).acquire_owned() => permit,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Ok(permit) = permit else { break };
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => continue,
            accepted = poll_fn(|context| listener.poll_accept(context)) => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                short_of = false;
                let guest = tokio::select! {
                    biased;
                    _ = stop.wait_for(|stop| *stop) => break,
                    guest = shared.lobby.enter() => guest,
                };
                shared.counters.connections.one();
                connections.spawn(serve(Arc::clone(&shared), stream, peer, kind, permit, guest));
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
                    biased;
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
///
/// There is a task of this for each link, and most of them do nothing: what comes before the link is in a box that goes
/// when the link begins, as is the link itself, and little else is kept across an await.
async fn serve(
    shared: Arc<Shared>,
    stream: Stream,
    peer: SocketAddr,
    kind: Kind,
    permit: OwnedSemaphorePermit,
    guest: Guest,
) {
    let mut claimed = None;
    let entered = Box::pin(enter(&shared, stream, peer, kind, guest, &mut claimed)).await;
    match entered {
        Ok(Entered::Native(prepared)) => {
            let Prepared { attachment, proof, drive } = unboxed(prepared);
            let device = &attachment.device;
            let barred = std::pin::pin!(link::barred(&shared, device, &proof));
            let reason = device.endpoint.drive_until(drive, barred).await;
            link::ended(device.id(), peer, reason);
        }
        Ok(Entered::Line(stream, line)) => {
            claimed = Some(line.id.clone());
            if let Err(refusal) = Box::pin(legacy_link(&shared, stream, peer, kind, *line)).await {
                refused(&shared, peer, refusal, claimed);
            }
        }
        Err(refusal) => refused(&shared, peer, refusal, claimed),
    }
    drop(permit);
    shared.ended.notify_waiters();
}

/// Out of its box, which is gone then. One that is taken apart where it is stays until the end of the scope.
#[expect(clippy::boxed_local, reason = "its end is what is wanted")]
fn unboxed<T>(boxed: Box<T>) -> T {
    *boxed
}

fn refused(shared: &Shared, peer: SocketAddr, refusal: Refusal, id: Option<Box<str>>) {
    refusal.counter(&shared.counters).one();
    let id = id.unwrap_or_default();
    if shared.refused.is_first(peer.ip(), refusal, &id) {
        tracing::warn!(%peer, device = ?id, "refused a connection: {refusal} (logged once for this address)");
    } else {
        tracing::debug!(%peer, device = ?id, "refused a connection: {refusal}");
    }
}

/// Sets `claimed` to the id of the login, once there is one.
async fn enter(
    shared: &Arc<Shared>,
    mut stream: Stream,
    peer: SocketAddr,
    kind: Kind,
    guest: Guest,
    claimed: &mut Option<Box<str>>,
) -> Result<Entered, Refusal> {
    let login = {
        guest.is_seen();
        let mut stop = shared.stop.subscribe();
        let login = async {
            Ok(match login::read(&mut stream).await? {
                First::Line(line) => Login::Line(line),
                First::Native(input) => {
                    Login::Native(opening::read(shared, &mut stream, &guest, peer, kind, input, claimed).await?)
                }
            })
        };
        tokio::select! {
            biased;
            login = login => login?,
            () = guest.shown_out() => return Err(Refusal::Evicted),
            () = tokio::time::sleep(shared.login_timeout) => return Err(Refusal::Timeout),
            _ = stop.wait_for(|stop| *stop) => return Err(Refusal::Closed),
        }
    };
    Ok(match login {
        Login::Line(line) => Entered::Line(stream, Box::new(line)),
        Login::Native(login) => Entered::Native(Box::new(native::prepares(shared, stream, peer, login)?)),
    })
}

/// Who has logged in, and what is to be driven.
enum Entered {
    Line(Stream, Box<FirstLine>),
    Native(Box<Prepared>),
}

/// Who has left the lobby by the right door.
enum Login {
    Line(FirstLine),
    Native(NativeLogin),
}

/// Drives the link of a device that has logged in by a line.
async fn legacy_link(
    shared: &Shared,
    stream: Stream,
    peer: SocketAddr,
    kind: Kind,
    FirstLine { dialect, id, rest }: FirstLine,
) -> Result<(), Refusal> {
    let checked = bowline_proto::DeviceId::new(&id).map_err(|error| Refusal::Login(error.into()))?;
    if shared.keys.knows(&id) {
        return Err(Refusal::Keyed);
    }
    let dialect = shared.gate.admit(checked, dialect, kind)?;
    let proof = Proof::Open;
    let attachment = link::attach(shared, &id, peer, &proof, &format!("dialect {dialect}"))?;
    let device = &attachment.device;
    let before = device.ledger().session;
    let speech = Speech::Lines(Lines { dialect, config: shared.config, login: None });
    let drive = Drive { stream, peer, speech, early: rest };
    let barred = std::pin::pin!(link::barred(shared, device, &proof));
    let reason = device.endpoint.drive_until(drive, barred).await;
    let counted = device.ledger().session;
    let unread = (counted.malformed - before.malformed) + (counted.undecodable - before.undecodable);
    if unread > 0 {
        tracing::warn!(
            device = %id, %peer,
            "lines that could not be read as dialect {dialect}, kept as dead letters: {unread}; \
             a device that sends plain lines has to be configured as one"
        );
    }
    link::ended(&id, peer, reason);
    Ok(())
}
