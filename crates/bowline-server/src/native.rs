//! A native link, from its login to its end.

use std::net::SocketAddr;
use std::sync::Arc;

use bowline_link::{Drive, Native, Seal, Speech, Stream};
use bowline_proto::DeviceId;
use bowline_secure::{Protection, Transport};

use crate::keys::Proof;
use crate::link;
use crate::login::Refusal;
use crate::opening::NativeLogin;
use crate::server::Shared;

/// Drives the link of a device that has logged in on the native protocol.
pub(crate) async fn native_link(
    shared: &Arc<Shared>,
    stream: Stream,
    peer: SocketAddr,
    login: NativeLogin,
) -> Result<(), Refusal> {
    let NativeLogin { id, proof, transport, first, rest } = login;
    let (speaks, counter) = match transport.as_ref().map(Transport::protection) {
        None => ("native, open", &shared.counters.native_open),
        Some(Protection::Resumed) => ("native, resumed", &shared.counters.native_resumed),
        Some(Protection::Handshake) => ("native, sealed", &shared.counters.native_sealed),
        Some(Protection::Keyed) => ("native, keyed, not encrypted", &shared.counters.native_keyed),
    };
    let attachment = link::attach(shared, &id, peer, &proof, speaks)?;
    counter.one();
    let mut ticket = None;
    if let (Proof::Key(key_id, key), Some(transport)) = (&proof, &transport) {
        shared.shown(&id, *key_id);
        let device = DeviceId::new(&id).map_err(|_| Refusal::Opening)?;
        // Without random bytes there is none, and the next link takes a full handshake.
        ticket = shared
            .outside
            .bytes()
            .ok()
            .and_then(|random| shared.keys.ticket(device, *key_id, key, transport, shared.max_devices, &random));
    }
    let seal = transport.map(|transport| Seal { transport, first, ticket, keep: None });
    let speech = Speech::Native(Native { config: shared.native, seal });
    let drive = Drive { stream, peer, speech, early: rest };
    let reason = link::drive(shared, &attachment.device, &proof, drive).await;
    link::ended(&id, peer, reason);
    Ok(())
}
