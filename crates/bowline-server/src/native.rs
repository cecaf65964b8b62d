//! A native link, between its login and its first turn.

use std::net::SocketAddr;

use bowline_link::{Drive, Native, Seal, Speech, Stream};
use bowline_proto::DeviceId;
use bowline_secure::{Protection, Transport};

use crate::keys::Proof;
use crate::link;
use crate::login::Refusal;
use crate::opening::NativeLogin;
use crate::registry::Attachment;
use crate::server::Shared;

/// A link that may be driven.
pub(crate) struct Prepared {
    pub(crate) attachment: Attachment,
    pub(crate) proof: Proof,
    pub(crate) drive: Drive,
}

/// Makes the link of a device that has logged in on the native protocol.
pub(crate) fn prepares(
    shared: &Shared,
    stream: Stream,
    peer: SocketAddr,
    login: NativeLogin,
) -> Result<Prepared, Refusal> {
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
    let ticket = ticket.map(Box::new);
    let seal = transport.map(|transport| Seal { transport, first, ticket, keep: None });
    let speech = Speech::Native(Native { config: shared.native, seal });
    Ok(Prepared { attachment, proof, drive: Drive { stream, peer, speech, early: rest } })
}
