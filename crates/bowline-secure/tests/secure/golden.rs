//! The lines of §19.9 and §19.10: what two ends say when every key and every random byte is fixed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bowline_proto::time::Instant;
use bowline_secure::{
    Carrier, Decision, Ephemeral, Gate, Grant, Handshake, Key, KeyId, KeyRing, Keyed, MAX_ANSWER, MAX_OPENING,
    Provision, Resumed, Resumption, Standing, Ticket, TicketSlot, Tickets, Transport,
};

use noise_protocol::Hash as _;
use noise_rust_crypto::Sha256;

use crate::support::{id, seal, unseal};

const SPECIFICATION: &str = include_str!("../../../../docs/protocol.md");

/// `first`, and those after it.
fn counting<const N: usize>(first: u8) -> [u8; N] {
    core::array::from_fn(|at| first + at as u8)
}

#[derive(Default)]
struct Vectors(BTreeMap<String, String>);

impl Vectors {
    fn hex(&mut self, name: &str, bytes: &[u8]) {
        let mut text = String::new();
        for byte in bytes {
            write!(text, "{byte:02x}").unwrap();
        }
        self.0.insert(name.into(), text);
    }

    /// Two bodies each way.
    fn records(&mut self, name: &str, device: &mut Transport, server: &mut Transport) {
        for (way, body) in [("device", b"hello"), ("server", b"world")] {
            for n in 0..2 {
                let (from, to) =
                    if way == "device" { (&mut *device, &mut *server) } else { (&mut *server, &mut *device) };
                let sealed = seal(from, body);
                assert_eq!(unseal(to, &sealed).as_deref(), Some(&body[..]));
                self.hex(&format!("{name}-{way}-record-{n}"), &sealed);
            }
        }
    }
}

fn computed() -> Vectors {
    let mut vectors = Vectors::default();
    let key = Key::new(&counting(0x00)).unwrap();
    let now = Instant::ZERO;
    let mut line = String::new();
    Provision { id: id("kitchen"), key_id: KeyId::FIRST, key: key.clone() }.write_secret(&mut line).unwrap();
    vectors.0.insert("provision".into(), line);

    let mut tickets = Tickets::new([TicketSlot::FREE]);
    let decide = |opening: &[u8], random: [u8; 32], carrier, tickets: &mut Tickets<[TicketSlot; 1]>| {
        let ring = KeyRing::new(KeyId::FIRST, key.clone());
        let mut out = [0; MAX_ANSWER];
        let standing = |id: bowline_proto::DeviceId<'_>| Standing {
            keys: (id.as_str() == "kitchen").then_some(ring),
            ..Standing::default()
        };
        let decision = Gate::new(carrier).decide(opening, &random, now, standing, |r| tickets.redeem(r), &mut out);
        match decision {
            Decision::Secured { transport, answer, .. } => (Some(transport), out[..answer].to_vec()),
            Decision::Again { answer, .. } | Decision::Refused { answer, .. } => (None, out[..answer].to_vec()),
            other => panic!("{other:?}"),
        }
    };

    for (name, carrier) in [("lossy", Carrier::Lossy), ("full", Carrier::Lossless)] {
        let mut out = [0; MAX_OPENING];
        let ephemeral = Ephemeral::new(&counting(0x20));
        let (mut handshake, len) =
            Handshake::start(id("kitchen"), KeyId::FIRST, &key, ephemeral, carrier, &mut out).unwrap();
        let (server, answer) = decide(&out[..len], counting(0x40), carrier, &mut tickets);
        let (mut server, (mut device, _)) = (server.unwrap(), handshake.finish(&answer).unwrap().unwrap());
        vectors.hex("full-opening", &out[..len]);
        vectors.hex("full-answer", &answer);
        vectors.records(name, &mut device, &mut server);
        if name == "full" {
            let body =
                tickets.issue(id("kitchen"), KeyId::FIRST, &server, Grant::default(), &counting(0x60), now).unwrap();
            vectors.hex("ticket-body", &body);
            let mut ticket = Ticket::receive(&body, now).unwrap();
            let (mut resumption, len) =
                Resumption::start(&mut ticket, id("kitchen"), KeyId::FIRST, &counting(0x90), now, carrier, &mut out)
                    .unwrap()
                    .unwrap();
            let (server, answer) = decide(&out[..len], counting(0xa0), carrier, &mut tickets);
            vectors.hex("resumption-opening", &out[..len]);
            vectors.hex("resumption-answer", &answer);
            let Some((Resumed::Transport(mut device), _)) = resumption.finish(&answer).unwrap() else { panic!() };
            vectors.records("resumption", &mut device, &mut server.unwrap());
            vectors.hex("resumption-refused", &decide(&out[..len], counting(0xa0), carrier, &mut tickets).1);
            out[6] = 2;
            let (mut bad, bad_len) = ([0; MAX_OPENING], len - 41 + 48);
            bad[..bad_len].copy_from_slice(&out[..bad_len]);
            bad[5] = 1;
            vectors.hex("full-refused", &decide(&bad[..bad_len], counting(0xa0), carrier, &mut tickets).1);
        }
    }
    vectors
}

/// §19.9, line by line, with nothing left over on either side.
#[test]
fn the_specification_has_these_lines() {
    let written = lines_of("### 19.9 ");
    let computed = computed().0;
    let lines = || computed.iter().map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>().join("\n");
    assert!(written == computed, "expected the lines of §19.9 to be:\n{}", lines());
}

fn lines_of(heading: &str) -> BTreeMap<String, String> {
    let section = SPECIFICATION.split(heading).nth(1).expect("the specification has this section");
    let section = section.split("\n#").next().unwrap_or(section);
    section
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, value)| (name.trim().into(), value.trim().into()))
        .collect()
}

/// The file that clients in other languages read says what §19.10 says.
#[test]
fn the_file_has_the_keyed_lines() {
    let file: BTreeMap<String, String> = include_str!("../golden/keyed.json")
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.trim_matches([' ', '"']).into(), value.trim_matches(['"', ',']).into()))
        .collect();
    assert_eq!(file.len(), 29);
    assert_eq!(file, lines_of("### 19.10 "));
}

/// §19.10, each line from the code or, for what the code keeps to itself, from HMAC-SHA256.
#[test]
fn the_specification_has_the_keyed_lines() {
    let written = lines_of("### 19.10 ");
    let bytes = |name: &str| -> Vec<u8> {
        let text = &written[name];
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
    };
    let array = |name: &str| -> [u8; 32] { bytes(name).try_into().unwrap() };
    let mut computed = Vectors::default();
    let key = Key::new(&counting(0x00)).unwrap();
    computed.hex("key", key.expose());
    computed.hex("device-id", b"kitchen");
    computed.hex("device-nonce", &counting::<16>(0x90));
    computed.hex("server-nonce", &counting::<16>(0xa0));

    let decide = |opening: &[u8], unencrypted, carrier| {
        let ring = KeyRing::new(KeyId::FIRST, key.clone());
        let mut out = [0; MAX_ANSWER];
        let standing = |_: bowline_proto::DeviceId<'_>| Standing { keys: Some(ring), open: false, unencrypted };
        match Gate::new(carrier).decide(opening, &counting(0xa0), Instant::ZERO, standing, |_| None, &mut out) {
            Decision::Secured { transport, answer, .. } => (Some(transport), out[..answer].to_vec()),
            Decision::Refused { answer, .. } => (None, out[..answer].to_vec()),
            other => panic!("{other:?}"),
        }
    };
    for (name, carrier) in [("record", Carrier::Lossless), ("lossy", Carrier::Lossy)] {
        let mut out = [0; MAX_OPENING];
        let (mut keyed, len) =
            Keyed::start(id("kitchen"), KeyId::FIRST, &key, &counting(0x90), carrier, &mut out).unwrap();
        let (server, answer) = decide(&out[..len], true, carrier);
        let (mut server, (mut device, _)) = (server.unwrap(), keyed.finish(&answer).unwrap().unwrap());
        computed.hex("opening", &out[..len]);
        computed.hex("answer", &answer);
        records(&mut computed, &bytes, ("device", name), &mut device, &mut server);
        records(&mut computed, &bytes, ("server", name), &mut server, &mut device);
        computed.hex("refused-not-allowed", &decide(&out[..len], false, carrier).1);
        out[len - 1] ^= 1;
        computed.hex("refused-key", &decide(&out[..len], true, carrier).1);
    }

    let (opening, answer) = (bytes("opening"), bytes("answer"));
    let hash = *Sha256::hash(&opening);
    computed.hex("opening-hash", &hash);
    let extracted = *Sha256::hmac(&[0; 32], key.expose());
    computed.hex("extracted", &extracted);
    computed.hex("auth-key", &*Sha256::hmac(&extracted, b"bowline n keyed auth\x01"));
    let (signed, tag) = opening.split_last_chunk::<16>().unwrap();
    assert_eq!(Sha256::hmac_many(&array("auth-key"), &[b"d", signed])[..16], *tag);
    let info = [&b"bowline n keyed keys"[..], &hash, &answer].concat();
    let device_key = *Sha256::hmac_many(&extracted, &[&info, &[1]]);
    computed.hex("device-key", &device_key);
    computed.hex("server-key", &*Sha256::hmac_many(&extracted, &[&device_key, &info, &[2]]));

    let lines = computed.0.iter().map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>().join("\n");
    assert!(written == computed.0, "expected the lines of §19.10 to be:\n{lines}");
}

/// The two bodies of one way, in each form.
fn records(
    computed: &mut Vectors,
    bytes: &impl Fn(&str) -> Vec<u8>,
    (way, form): (&str, &str),
    from: &mut Transport,
    to: &mut Transport,
) {
    for n in 0..2 {
        let body = bytes(&format!("{way}-body-{n}"));
        let sealed = seal(from, &body);
        assert_eq!(unseal(to, &sealed).as_deref(), Some(&body[..]));
        computed.hex(&format!("{way}-body-{n}"), &body);
        computed.hex(&format!("{way}-tag-{n}"), &sealed[sealed.len() - 16..]);
        let length = match form {
            "record" => (sealed.len() as u16).to_be_bytes().to_vec(),
            _ => Vec::new(),
        };
        computed.hex(&format!("{way}-{form}-{n}"), &[length, sealed].concat());
    }
}
