//! A native link, from its login to its end.

use std::net::SocketAddr;
use std::sync::Arc;

use bowline_link::DownReason;
use bowline_proto::DeviceId;
use bowline_proto::native::wire::{Close, Frame, record};
use bowline_secure::{Carrier, Transport, code};
use tokio::net::TcpStream;

use crate::keys::Proof;
use crate::link;
use crate::login::Refusal;
use crate::opening::NativeLogin;
use crate::server::Shared;

/// Drives the link of a device that has logged in on the native protocol.
pub(crate) async fn native_link(
    shared: &Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    login: NativeLogin,
) -> Result<(), Refusal> {
    let NativeLogin { id, proof, transport, first, rest } = login;
    let (speaks, counter) = match &transport {
        None => ("native, open", &shared.counters.native_open),
        Some(transport) if transport.resumed() => ("native, resumed", &shared.counters.native_resumed),
        Some(_) => ("native, sealed", &shared.counters.native_sealed),
    };
    let attachment = link::attach(shared, &id, peer, &proof, speaks)?;
    counter.one();
    let mut ticket = None;
    if let (Proof::Key(key_id, key), Some(transport)) = (&proof, &transport) {
        shared.shown(&id, *key_id);
        let device = DeviceId::new(&id).map_err(|_| Refusal::Opening)?;
        ticket = shared.keys.ticket(device, *key_id, key, transport, shared.max_devices);
    }
    // CALL SITE 1, `device.endpoint.drive(…)`: `first` is the first body, `rest` is read before the
    // stream, `ticket` is a body to be sealed and sent after START (§15.5).
    drop((first, rest, ticket));
    let drive = turn_away(&stream, transport);
    let reason = link::drive(shared, &attachment.device, &proof, drive).await;
    link::ended(&id, peer, reason);
    Ok(())
}

/// Closes the link with code 10.
async fn turn_away(stream: &TcpStream, transport: Option<Transport>) -> DownReason {
    let mut buffer = [0; record::HEADER + 128];
    let close = Frame::Close(Close { code: code::TRY_AGAIN, text: "sessions are not served yet" });
    let Some(mut len) = close.emit(&mut buffer[record::HEADER..]) else { return DownReason::Shutdown };
    if let Some(mut transport) = transport {
        debug_assert_eq!(Carrier::Lossless, transport.carrier());
        len = transport.seal(&mut buffer[record::HEADER..], len).unwrap_or(0);
    }
    if let Some(len) = record::finish(&mut buffer, len) {
        // It fits into an empty socket, or the device sees the end without a reason.
        let _ = stream.try_write(&buffer[..len]);
    }
    DownReason::Shutdown
}
