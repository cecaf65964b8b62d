//! A server with a registry and a table of tickets, and devices that talk to it.

use std::collections::BTreeMap;

use bowline_proto::DeviceId;
use bowline_proto::time::{Duration, Instant};
use bowline_secure::{
    AnswerError, Carrier, Decision, Ephemeral, Gate, Grant, Handshake, Key, KeyId, KeyRing, Keyed, MAX_ANSWER,
    MAX_OPENING, Resumed, Resumption, Standing, Ticket, TicketSlot, Tickets, Transport, is_security_body,
};

/// Different bytes at each call; the same in each run.
#[derive(Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        [(); N].map(|()| self.next() as u8)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

pub(crate) fn id(text: &str) -> DeviceId<'_> {
    DeviceId::new(text).unwrap()
}

pub(crate) fn key_id(id: u8) -> KeyId {
    KeyId::new(id).unwrap()
}

pub(crate) fn key(seed: u64) -> Key {
    Key::new(&Random(seed).bytes()).unwrap()
}

pub(crate) struct Server {
    pub(crate) registry: BTreeMap<String, Standing>,
    pub(crate) tickets: Tickets<Vec<TicketSlot>>,
    pub(crate) now: Instant,
    pub(crate) carrier: Carrier,
    pub(crate) random: Random,
}

/// What the server decided, with nothing borrowed.
#[derive(Debug)]
pub(crate) enum Decided {
    More,
    Foreign,
    Refused(u8),
    Open(String),
    Secured(String, u8, Transport),
    Again,
}

impl Server {
    pub(crate) fn new(carrier: Carrier) -> Self {
        Server {
            registry: BTreeMap::new(),
            tickets: Tickets::new(vec![TicketSlot::FREE; 64]),
            now: Instant::ZERO,
            carrier,
            random: Random(1000),
        }
    }

    /// Registers a device and hands back what it is provisioned with.
    pub(crate) fn device(&mut self, name: &str, number: u8, seed: u64) -> Device {
        let ring = KeyRing::new(key_id(number), key(seed));
        self.registry.insert(name.into(), Standing { keys: Some(ring), open: false, unencrypted: true });
        Device::new(name, number, seed, self.carrier)
    }

    pub(crate) fn gate(&self) -> Gate {
        Gate::new(self.carrier)
    }

    /// The decision on `input` at a new link, and the answer.
    pub(crate) fn decide(&mut self, input: &[u8]) -> (Decided, Vec<u8>) {
        let mut gate = self.gate();
        self.decide_at(&mut gate, input)
    }

    pub(crate) fn decide_at(&mut self, gate: &mut Gate, input: &[u8]) -> (Decided, Vec<u8>) {
        let mut buffer = [0xee; MAX_ANSWER];
        let random = self.random.bytes();
        let (registry, tickets) = (&self.registry, &mut self.tickets);
        let decision = gate.decide(
            input,
            &random,
            self.now,
            |id| registry.get(id.as_str()).cloned().unwrap_or_default(),
            |asked| tickets.redeem(asked),
            &mut buffer,
        );
        let (decided, used, answer) = match decision {
            Decision::More => (Decided::More, 0, 0),
            Decision::Foreign => (Decided::Foreign, 0, 0),
            Decision::Refused { code, answer } => (Decided::Refused(code), 0, answer),
            Decision::Open { id, consumed, answer } => (Decided::Open(id.as_str().into()), consumed, answer),
            Decision::Secured { id, key_id, transport, consumed, answer } => {
                (Decided::Secured(id.as_str().into(), key_id.get(), transport), consumed, answer)
            }
            Decision::Again { consumed, answer } => (Decided::Again, consumed, answer),
        };
        assert!(used <= input.len());
        (decided, buffer[..answer].to_vec())
    }

    pub(crate) fn secured(&mut self, input: &[u8]) -> (Transport, Vec<u8>) {
        match self.decide(input) {
            (Decided::Secured(_, _, transport), answer) => (transport, answer),
            (other, _) => panic!("expected a secured link, got {other:?}"),
        }
    }

    pub(crate) fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_millis(1000 * seconds);
    }
}

pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) key_id: KeyId,
    pub(crate) key: Key,
    pub(crate) carrier: Carrier,
    pub(crate) random: Random,
    pub(crate) ticket: Option<Ticket>,
}

/// Both ends of a secured link, and what was said to get there.
pub(crate) struct Link {
    pub(crate) device: Transport,
    pub(crate) server: Transport,
    pub(crate) opening: Vec<u8>,
    pub(crate) answer: Vec<u8>,
}

impl Device {
    pub(crate) fn new(name: &str, number: u8, seed: u64, carrier: Carrier) -> Self {
        let random = Random(seed << 32);
        Device { name: name.into(), key_id: key_id(number), key: key(seed), carrier, random, ticket: None }
    }

    pub(crate) fn open(&mut self) -> (Handshake, Vec<u8>) {
        let mut out = [0; MAX_OPENING];
        let ephemeral = Ephemeral::new(&self.random.bytes());
        let (handshake, len) =
            Handshake::start(id(&self.name), self.key_id, &self.key, ephemeral, self.carrier, &mut out).unwrap();
        (handshake, out[..len].to_vec())
    }

    pub(crate) fn connect(&mut self, server: &mut Server) -> Link {
        let (mut handshake, opening) = self.open();
        let (transport, answer) = server.secured(&opening);
        let (device, len) = handshake.finish(&answer).unwrap().unwrap();
        assert_eq!(len, answer.len());
        Link { device, server: transport, opening, answer }
    }

    pub(crate) fn open_keyed(&mut self) -> (Keyed, Vec<u8>) {
        let mut out = [0; MAX_OPENING];
        let nonce = self.random.bytes();
        let (keyed, len) =
            Keyed::start(id(&self.name), self.key_id, &self.key, &nonce, self.carrier, &mut out).unwrap();
        (keyed, out[..len].to_vec())
    }

    /// A keyed link.
    pub(crate) fn connect_keyed(&mut self, server: &mut Server) -> Link {
        let (mut keyed, opening) = self.open_keyed();
        let (transport, answer) = server.secured(&opening);
        let (device, len) = keyed.finish(&answer).unwrap().unwrap();
        assert_eq!(len, answer.len());
        Link { device, server: transport, opening, answer }
    }

    /// A full handshake, a first record, and a ticket.
    pub(crate) fn connect_for_ticket(&mut self, server: &mut Server, grant: Grant) -> Link {
        let mut link = self.connect(server);
        link.up(b"\x01hello").unwrap();
        let random = server.random.bytes();
        let body = server
            .tickets
            .issue(id(&self.name), self.key_id, &link.server, grant, &random, server.now)
            .expect("a ticket");
        let body = link.down(&body).unwrap();
        assert!(is_security_body(&body));
        self.ticket = Some(Ticket::receive(&body, server.now).unwrap());
        link
    }

    pub(crate) fn open_resumption(&mut self, now: Instant) -> Option<(Resumption, Vec<u8>)> {
        let mut out = [0; MAX_OPENING];
        let nonce = self.random.bytes();
        let ticket = self.ticket.as_mut()?;
        let (resumption, len) =
            Resumption::start(ticket, id(&self.name), self.key_id, &nonce, now, self.carrier, &mut out).unwrap()?;
        Some((resumption, out[..len].to_vec()))
    }

    /// A resumption that must work.
    pub(crate) fn resume(&mut self, server: &mut Server) -> Link {
        let (mut resumption, opening) = self.open_resumption(server.now).expect("a usable ticket");
        let (transport, answer) = server.secured(&opening);
        match resumption.finish(&answer).unwrap() {
            Some((Resumed::Transport(device), len)) => {
                assert_eq!(len, answer.len());
                Link { device, server: transport, opening, answer }
            }
            other => panic!("expected a transport, got {other:?}"),
        }
    }
}

/// A sealed body, ready to be sent.
pub(crate) fn seal(from: &mut Transport, body: &[u8]) -> Vec<u8> {
    let head = from.carrier().headroom();
    let mut buffer = vec![0; body.len() + from.carrier().overhead()];
    buffer[head..head + body.len()].copy_from_slice(body);
    let len = from.seal(&mut buffer, body.len()).unwrap();
    assert_eq!(len, buffer.len());
    buffer
}

/// What is in a sealed body, if it opens.
pub(crate) fn unseal(to: &mut Transport, sealed: &[u8]) -> Option<Vec<u8>> {
    let mut buffer = sealed.to_vec();
    to.open(&mut buffer).ok().map(|body| body.to_vec())
}

impl Link {
    pub(crate) fn up(&mut self, body: &[u8]) -> Option<Vec<u8>> {
        unseal(&mut self.server, &seal(&mut self.device, body))
    }

    pub(crate) fn down(&mut self, body: &[u8]) -> Option<Vec<u8>> {
        unseal(&mut self.device, &seal(&mut self.server, body))
    }

    /// Both directions still carry what they are given.
    pub(crate) fn assert_works(&mut self) {
        for n in 0..3u8 {
            let body = vec![n; 1 + 50 * usize::from(n)];
            assert_eq!(self.up(&body).as_deref(), Some(&body[..]));
            assert_eq!(self.down(&body).as_deref(), Some(&body[..]));
        }
    }
}

/// The answer to a handshake is refused for this reason.
pub(crate) fn refusal(handshake: &mut Handshake, answer: &[u8]) -> AnswerError {
    match handshake.finish(answer) {
        Err(error) => error,
        Ok(other) => panic!("expected a refusal, got {other:?}"),
    }
}
