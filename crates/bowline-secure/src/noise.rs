//! Noise `NNpsk0_25519_ChaChaPoly_SHA256` (§15.1): the handshake is that of `noise-protocol`, the
//! Diffie-Hellman function is here.
//!
//! The wrapper that `noise-rust-crypto` has for X25519 brings 30 KB of tables and a random source of
//! its own. A ladder for both multiplications is smaller, and random bytes are inputs here.

use curve25519_dalek::constants::X25519_BASEPOINT;
use curve25519_dalek::montgomery::MontgomeryPoint;
use noise_protocol::patterns::noise_nn_psk0;
use noise_protocol::{DH, HandshakeState, U8Array as _};
use noise_rust_crypto::sensitive::Sensitive;
use noise_rust_crypto::{ChaCha20Poly1305, Sha256};
use subtle::ConstantTimeEq as _;

use crate::Key;
use crate::wire::HANDSHAKE;

pub(crate) type State = HandshakeState<X25519, ChaCha20Poly1305, Sha256>;

/// A key for one direction of a transport.
pub(crate) type TransportKey = Sensitive<[u8; 32]>;

/// Transport keys in the order of Noise: from device to server, from server to device.
pub(crate) type TransportKeys = (TransportKey, TransportKey);

/// A secret for one handshake, with its public half made beforehand: half of a handshake's work on a
/// slow chip, done while nobody waits.
pub struct Ephemeral(Sensitive<[u8; 64]>);

impl Ephemeral {
    /// Makes one of random bytes, which are used for nothing else.
    #[must_use]
    pub fn new(random: &[u8; 32]) -> Self {
        let mut pair = Ephemeral::lazy(random);
        let public = X25519::pubkey(&pair.0);
        pair.0.iter_mut().skip(32).zip(public).for_each(|(to, from)| *to = from);
        pair
    }

    /// One whose public half is made when it is sent: a server has not authenticated anybody before.
    pub(crate) fn lazy(random: &[u8; 32]) -> Self {
        let mut pair = Sensitive::<[u8; 64]>::new();
        pair.iter_mut().zip(random).for_each(|(to, from)| *to = *from);
        Ephemeral(pair)
    }
}

impl core::fmt::Debug for Ephemeral {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Ephemeral(..)")
    }
}

/// Each byte of what stands for a key where there is none: no public half has all of them.
const NO_KEY: u8 = 0xff;

/// X25519 by the Montgomery ladder. A key is a secret followed by its public half, or by zeros if that
/// was not made yet.
pub(crate) enum X25519 {}

impl X25519 {
    fn secret(key: &Sensitive<[u8; 64]>) -> Sensitive<[u8; 32]> {
        Sensitive::from_slice(&key[..32])
    }
}

impl DH for X25519 {
    type Key = Sensitive<[u8; 64]>;
    type Pubkey = [u8; 32];
    type Output = Sensitive<[u8; 32]>;

    fn name() -> &'static str {
        "25519"
    }

    fn genkey() -> Self::Key {
        // Asked for by a state that has no ephemeral key, and `state`, which makes them all, gives one. There is no
        // random source here, and everybody would know any other key: with this one no handshake ends.
        Sensitive::from_slice(&[NO_KEY; 64])
    }

    fn pubkey(key: &Self::Key) -> Self::Pubkey {
        let mut public = [0; 32];
        public.copy_from_slice(&key[32..]);
        if public == [0; 32] { X25519_BASEPOINT.mul_clamped(*Self::secret(key)).0 } else { public }
    }

    fn dh(key: &Self::Key, public: &Self::Pubkey) -> Result<Self::Output, ()> {
        if key.iter().skip(32).all(|&byte| byte == NO_KEY) {
            return Err(());
        }
        let shared = Self::Output::from_slice(&MontgomeryPoint(*public).mul_clamped(*Self::secret(key)).0);
        // A point of small order: the peer would have chosen the secret alone, without secrecy for later.
        if bool::from(shared.ct_eq(&[0; 32])) { Err(()) } else { Ok(shared) }
    }
}

/// A handshake that has not begun.
pub(crate) fn state(initiator: bool, prologue: &[u8], key: &Key, ephemeral: Ephemeral) -> State {
    let mut state = State::new(noise_nn_psk0(), initiator, prologue, None, Some(ephemeral.0), None, None);
    state.push_psk(key.expose());
    state
}

/// The next message; `None` cannot be for the device, with a key and an ephemeral key in place.
pub(crate) fn write(state: &mut State) -> Option<[u8; HANDSHAKE]> {
    let mut message = [0; HANDSHAKE];
    state.write_message(&[], &mut message).ok().map(|()| message)
}

/// The server's side. `None` if the message was not made with this key and prologue: it has then cost
/// some hashing, and no multiplication.
pub(crate) fn respond(
    prologue: &[u8],
    first: &[u8; HANDSHAKE],
    key: &Key,
    ephemeral: Ephemeral,
) -> Option<([u8; HANDSHAKE], TransportKeys)> {
    let mut state = state(false, prologue, key, ephemeral);
    state.read_message(first, &mut []).ok()?;
    let second = write(&mut state)?;
    Some((second, keys(&state)))
}

/// Reads the server's message. `state` is left as it was, so that another can be tried.
pub(crate) fn read_second(state: &State, second: &[u8; HANDSHAKE]) -> Option<TransportKeys> {
    let mut state = state.clone();
    state.read_message(second, &mut []).ok()?;
    Some(keys(&state))
}

fn keys(state: &State) -> TransportKeys {
    let (device, server) = state.get_ciphers();
    (device.extract().0, server.extract().0)
}

#[cfg(test)]
mod tests;
