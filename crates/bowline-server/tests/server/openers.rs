//! Devices that speak the native protocol as far as their first record.

use bowline_proto::DeviceId;
use bowline_proto::native::wire::{Answer, Frame, Hello, Mode, Opening, record};
use bowline_secure::{Carrier, Ephemeral, Handshake, Key, KeyId, Keyed, MAX_OPENING, Provision, Transport};
use bowline_server::{Builder, Date, Issued, Server};

use crate::harness::{Board, seed, soon};

/// A server for openings: nobody is slowed down.
pub(crate) fn server() -> Builder {
    crate::harness::server().handshakes(0, 0)
}

pub(crate) fn today() -> Date {
    Date::from_unix(1_793_664_000)
}

/// A device that was provisioned.
pub(crate) struct Device {
    id: String,
    key_id: KeyId,
    key: Key,
    random: fastrand::Rng,
}

/// Why an answer refuses: a close code.
pub(crate) type Code = u8;

impl Device {
    pub(crate) fn new(issued: &Issued) -> Self {
        let line = issued.line();
        let Provision { id, key_id, key } = Provision::parse(&line).expect("a line");
        Device { id: id.to_string(), key_id, key, random: fastrand::Rng::with_seed(seed()) }
    }

    /// The key of somebody else, or none at all.
    pub(crate) fn with_wrong_key(id: &str, key_id: u8) -> Self {
        let key_id = KeyId::new(key_id).expect("not 0");
        let key = Key::new(&std::array::from_fn(|at| at as u8)).expect("not erased");
        Device { id: id.to_owned(), key_id, key, random: fastrand::Rng::with_seed(seed()) }
    }

    pub(crate) fn opens(&mut self) -> (Handshake, Vec<u8>) {
        let mut random = [0; 32];
        self.random.fill(&mut random);
        let mut out = [0; MAX_OPENING];
        let id = DeviceId::new(&self.id).expect("an id");
        let ephemeral = Ephemeral::new(&random);
        let (handshake, len) =
            Handshake::start(id, self.key_id, &self.key, ephemeral, Carrier::Lossless, &mut out).expect("a short id");
        (handshake, out[..len].to_vec())
    }

    /// An opening and its answer: the transport, or why there is none.
    pub(crate) async fn shakes_hands(&mut self, peer: &mut Peer) -> Result<Transport, Code> {
        let (mut handshake, opening) = self.opens();
        peer.0.writes(opening).await;
        let answer = peer.answer().await;
        match answer[5].checked_sub(0x80) {
            Some(code) => Err(code),
            None => Ok(handshake.finish(&answer).expect("authentic").expect("whole").0),
        }
    }

    pub(crate) fn opens_keyed(&mut self) -> (Keyed, Vec<u8>) {
        let mut nonce = [0; 16];
        self.random.fill(&mut nonce);
        let mut out = [0; MAX_OPENING];
        let id = DeviceId::new(&self.id).expect("an id");
        let (keyed, len) =
            Keyed::start(id, self.key_id, &self.key, &nonce, Carrier::Lossless, &mut out).expect("a short id");
        (keyed, out[..len].to_vec())
    }

    /// An opening without encryption and its answer: the transport, or why there is none.
    pub(crate) async fn proves_itself(&mut self, peer: &mut Peer) -> Result<Transport, Code> {
        let (mut keyed, opening) = self.opens_keyed();
        peer.0.writes(opening).await;
        let answer = peer.answer().await;
        match answer[5].checked_sub(0x80) {
            Some(code) => Err(code),
            None => Ok(keyed.finish(&answer).expect("authentic").expect("whole").0),
        }
    }

    /// All the way in.
    pub(crate) async fn comes_in(&mut self, server: &Server) -> Peer {
        let mut peer = Peer::connects(server).await;
        let mut transport = self.shakes_hands(&mut peer).await.expect("let in");
        peer.0.writes(hello(Some(&mut transport))).await;
        let mut body = peer.record().await.expect("a record");
        transport.open(&mut body).expect("sealed by the server");
        peer
    }
}

/// The far end of a connection: bytes, answers and records.
pub(crate) struct Peer(pub(crate) Board);

impl Peer {
    pub(crate) async fn connects(server: &Server) -> Peer {
        Peer(Board::connects(server).await)
    }

    /// Opens without a key.
    pub(crate) async fn opens(&mut self, id: &str) -> Option<Code> {
        self.0.writes([open_mode(id), hello(None)].concat()).await;
        self.answer().await[5].checked_sub(0x80)
    }

    pub(crate) async fn answer(&mut self) -> Vec<u8> {
        self.try_answer().await.expect("an answer")
    }

    pub(crate) async fn try_answer(&mut self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            if let Some((_, len)) = Answer::parse(&bytes).expect("an answer") {
                assert_eq!(len, bytes.len());
                return Some(bytes);
            }
            bytes.extend(soon(self.0.byte()).await?.to_be_bytes());
        }
    }

    /// The body of the next record.
    pub(crate) async fn record(&mut self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            if let Some(body) = record::next(&bytes, 1024).expect("a record") {
                return Some(bytes[body].to_vec());
            }
            bytes.extend(soon(self.0.byte()).await?.to_be_bytes());
        }
    }

    /// The server has ended it and says no more.
    pub(crate) async fn ends(&mut self) {
        assert_eq!(soon(self.0.byte()).await, None);
    }
}

pub(crate) fn open_mode(id: &str) -> Vec<u8> {
    let mut out = [0; MAX_OPENING];
    let opening = Opening { mode: Mode::Open, id: DeviceId::new(id).expect("an id"), handshake: &[] };
    let len = opening.emit(&mut out).expect("a short id");
    out[..len].to_vec()
}

pub(crate) fn hello(transport: Option<&mut Transport>) -> Vec<u8> {
    let hello = Hello { version: 1, features: 0, epoch: 0, keepalive: 20_000, max_body: 512 };
    sealed(&Frame::Hello(hello), transport)
}

/// A record with one frame, sealed if there is something to seal it with.
pub(crate) fn sealed(frame: &Frame<'_>, transport: Option<&mut Transport>) -> Vec<u8> {
    let mut bytes = [0; 128];
    let mut len = frame.emit(&mut bytes[record::HEADER..]).expect("room");
    if let Some(transport) = transport {
        len = transport.seal(&mut bytes[record::HEADER..], len).expect("room");
    }
    let len = record::finish(&mut bytes, len).expect("room");
    bytes[..len].to_vec()
}

/// Nobody is in, and nothing was made for those who tried.
pub(crate) fn assert_nobody(server: &Server) {
    assert!(server.devices().is_empty());
    assert_eq!(server.stats().logins, 0);
}

/// A record with one frame, not sealed.
pub(crate) fn frame(frame: &Frame<'_>) -> Vec<u8> {
    sealed(frame, None)
}
