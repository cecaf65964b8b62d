//! The lines of §19.9: what two ends say when every key and every random byte is fixed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bowline_proto::time::Instant;
use bowline_secure::{
    Carrier, Decision, Ephemeral, Gate, Grant, Handshake, Key, KeyId, KeyRing, MAX_ANSWER, MAX_OPENING, Provision,
    Resumed, Resumption, Standing, Ticket, TicketSlot, Tickets, Transport,
};

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
            open: false,
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
    let section = SPECIFICATION.split("### 19.9 ").nth(1).expect("the specification has a section 19.9");
    let section = section.split("\n#").next().unwrap_or(section);
    let written: BTreeMap<String, String> = section
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, value)| (name.trim().into(), value.trim().into()))
        .collect();
    let computed = computed().0;
    let lines = || computed.iter().map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>().join("\n");
    assert!(written == computed, "expected the lines of §19.9 to be:\n{}", lines());
}
