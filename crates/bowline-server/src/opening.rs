//! Native openings: who may come in, before anything is made for them (§8.2, §15).

use std::io;
use std::net::SocketAddr;

use bowline_link::Stream;
use bowline_proto::native::wire::{MAX_OPENING, MIN_BODY, Mode, Opening, record};
use bowline_secure::{Carrier, Decision, Gate, KeyId, MAX_ANSWER, Standing, Transport, code};

use crate::keys::Proof;
use crate::listener::Kind;
use crate::lobby::Guest;
use crate::login::Refusal;
use crate::server::Shared;

/// A connection's first bytes. All that a stranger can make the server hold.
#[derive(Debug)]
pub(crate) struct Input {
    bytes: [u8; MAX_OPENING],
    len: usize,
}

/// A device that may come in on the native protocol.
#[derive(Debug)]
pub(crate) struct NativeLogin {
    pub(crate) id: Box<str>,
    /// What lets it in.
    pub(crate) proof: Proof,
    /// Seals or tags the link's bodies, and opens them; `None` in open mode. The device has shown with `first` that it
    /// is there now ([`Transport::confirmed`]).
    pub(crate) transport: Option<Transport>,
    /// The body of its first record, opened. Empty in open mode, where no record was waited for.
    pub(crate) first: Vec<u8>,
    /// Bytes behind that. They belong to the link.
    pub(crate) rest: Vec<u8>,
}

/// What was decided on an opening of `consumed` bytes.
enum Decided {
    Open { consumed: usize },
    Secured { key_id: KeyId, transport: Transport, consumed: usize },
    Again { consumed: usize },
    Refused(Refusal),
}

impl Input {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let mut input = Input { bytes: [0; MAX_OPENING], len: bytes.len().min(MAX_OPENING) };
        input.bytes[..input.len].copy_from_slice(&bytes[..input.len]);
        input
    }

    fn get(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn consume(&mut self, count: usize) {
        self.bytes.copy_within(count..self.len, 0);
        self.len -= count;
    }

    /// Reads some more.
    async fn fill(&mut self, stream: &mut Stream) -> Result<(), Refusal> {
        match stream.read(&mut self.bytes[self.len..]).await {
            // Or the buffer is full, and nothing in it was an opening or a record. Neither is so long.
            Ok(0) | Err(_) => Err(Refusal::Closed),
            Ok(count) => {
                self.len += count;
                Ok(())
            }
        }
    }

    /// Whether the peer has gone, which nothing is computed for: who has waited for too long is among the others when
    /// everybody comes at once.
    fn is_over(&mut self, stream: &mut Stream) -> bool {
        let room = &mut self.bytes[self.len..];
        // Reading nothing looks like the end.
        if room.is_empty() {
            return false;
        }
        match stream.try_read(room) {
            Ok(count) => {
                self.len += count;
                count == 0
            }
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

/// Reads a link's opening, which begins with `input`, answers it, and, unless the link is open, waits for the
/// first record: an opening alone can be a recording, and must not get further than this (§15.4).
///
/// Sets `claimed` to the id of the opening, once there is one.
pub(crate) async fn read(
    shared: &Shared,
    stream: &mut Stream,
    guest: &Guest,
    peer: SocketAddr,
    kind: Kind,
    mut input: Input,
    claimed: &mut Option<Box<str>>,
) -> Result<NativeLogin, Refusal> {
    let mut gate = Gate::new(Carrier::Lossless);
    loop {
        let (id, mode): (Option<Box<str>>, _) = match Opening::parse(input.get()) {
            Ok(None) => {
                input.fill(stream).await?;
                continue;
            }
            Ok(Some((opening, _))) => {
                // A whole one, and not each byte: otherwise a guest could stay by saying little.
                guest.is_answered();
                (Some(opening.id.as_str().into()), Some(opening.mode))
            }
            Err(_) => (None, None),
        };
        if matches!(mode, Some(Mode::Noise { .. } | Mode::Keyed { .. })) && input.is_over(stream) {
            return Err(Refusal::Closed);
        }
        claimed.clone_from(&id);
        let mut answer = [0; MAX_ANSWER];
        let mut standing = None;
        let (decided, len) = match (mode, shared.gate.dialects.native) {
            (Some(Mode::Noise { .. } | Mode::Keyed { .. }), true)
                if !shared.handshakes.take(peer.ip(), shared.keys.now()) =>
            {
                (Decided::Refused(Refusal::Handshakes), Gate::refuse(code::TRY_AGAIN, &mut answer))
            }
            (mode, true) => decide(shared, &mut gate, input.get(), kind, mode, &mut standing, &mut answer)?,
            (_, false) => (Decided::Refused(Refusal::NativeOff), Gate::refuse(code::NOT_ALLOWED, &mut answer)),
        };
        // The login timeout bounds how long that may take.
        stream.write_all(&answer[..len]).await.map_err(|_| Refusal::Closed)?;
        match (decided, id) {
            (Decided::Again { consumed }, _) => input.consume(consumed),
            (Decided::Open { consumed }, Some(id)) => {
                let rest = input.get()[consumed..].to_vec();
                return Ok(NativeLogin { id, proof: Proof::Open, transport: None, first: Vec::new(), rest });
            }
            (Decided::Secured { key_id, transport, consumed }, Some(id)) => {
                // The key it was decided with, not one that has taken its place meanwhile.
                let ring = standing.and_then(|standing: Standing| standing.keys);
                let key = ring.as_ref().and_then(|ring| ring.get(key_id)).ok_or(Refusal::Key)?.clone();
                input.consume(consumed);
                if bowline_proto::planted!(TakeoverBeforeProof) {
                    let (proof, rest) = (Proof::Key(key_id, key), input.get().to_vec());
                    return Ok(NativeLogin { id, proof, transport: Some(transport), first: Vec::new(), rest });
                }
                return confirm(stream, id, Proof::Key(key_id, key), transport, input).await;
            }
            (Decided::Refused(refusal), _) => {
                discard(stream);
                return Err(refusal);
            }
            // Nothing is let in without an id.
            (_, None) => return Err(Refusal::Opening),
        }
    }
}

/// Decides on a whole opening and says how long the answer is.
fn decide(
    shared: &Shared,
    gate: &mut Gate,
    input: &[u8],
    kind: Kind,
    mode: Option<Mode>,
    known: &mut Option<Standing>,
    answer: &mut [u8; MAX_ANSWER],
) -> Result<(Decided, usize), Refusal> {
    let random = shared.outside.bytes::<32>().map_err(|_| Refusal::Random)?;
    let standing = |id: bowline_proto::DeviceId<'_>| {
        let open = kind != Kind::Secured && shared.gate.opens(id.as_str());
        let unencrypted = shared.gate.unencrypted(id.as_str());
        let standing = Standing { keys: shared.keys.ring(id.as_str()), open, unencrypted };
        *known = Some(standing.clone());
        standing
    };
    let decision = gate.decide(input, &random, shared.keys.now(), standing, |asked| shared.keys.redeem(asked), answer);
    let decided = match decision {
        Decision::Open { consumed, answer, .. } => (Decided::Open { consumed }, answer),
        Decision::Secured { key_id, transport, consumed, answer, .. } => {
            (Decided::Secured { key_id, transport, consumed }, answer)
        }
        Decision::Again { consumed, answer } => (Decided::Again { consumed }, answer),
        Decision::Refused { code, answer } => {
            let keyed = known.as_ref().is_some_and(|standing| standing.keys.is_some());
            let refusal = match code {
                code::VERSION => Refusal::Version,
                code::KEY => Refusal::Key,
                code::NOT_ALLOWED if matches!(mode, Some(Mode::Keyed { .. })) => Refusal::Unencrypted,
                code::NOT_ALLOWED if keyed => Refusal::Keyed,
                code::NOT_ALLOWED if known.is_some() => Refusal::NotOpen,
                _ => Refusal::Opening,
            };
            (Decided::Refused(refusal), answer)
        }
        // Asked only once it is whole.
        Decision::More | Decision::Foreign => (Decided::Refused(Refusal::Opening), 0),
    };
    Ok(decided)
}

/// Waits for the first record and opens it.
async fn confirm(
    stream: &mut Stream,
    id: Box<str>,
    proof: Proof,
    mut transport: Transport,
    mut input: Input,
) -> Result<NativeLogin, Refusal> {
    let limit = MIN_BODY + Carrier::Lossless.overhead() as u16;
    loop {
        match record::next(input.get(), limit).map_err(|_| Refusal::Unconfirmed)? {
            None => input.fill(stream).await?,
            Some(body) => {
                let rest = input.get()[body.end..].to_vec();
                let first = transport.open(&mut input.bytes[body]).map_err(|_| Refusal::Unconfirmed)?.to_vec();
                return Ok(NativeLogin { id, proof, transport: Some(transport), first, rest });
            }
        }
    }
}

/// Takes what has come behind a refused opening: a socket that is closed with unread bytes takes the
/// answer back. What comes later is not waited for.
fn discard(stream: &mut Stream) {
    let mut bytes = [0; 1024];
    let _ = stream.try_read(&mut bytes);
}
