//! The security layer: records, openings, and what a server decides on them.

use std::cell::RefCell;
use std::hint::black_box;

use bowline_proto::DeviceId;
use bowline_proto::time::Instant;
use bowline_secure::{
    Carrier, Decision, Ephemeral, Gate, Grant, Handshake, Key, KeyId, KeyRing, Keyed, MAX_ANSWER, MAX_OPENING, Resumed,
    Resumption, Standing, Ticket, TicketSlot, Tickets, Transport,
};

use crate::{PAYLOAD, case};

const CARRIER: Carrier = Carrier::Lossless;

pub(crate) fn cases() {
    let id = DeviceId::new("kitchen").expect("an id");
    let key = Key::new(&bytes(3)).expect("bytes that differ");
    let gatekeeper = RefCell::new(Gatekeeper::new(key.clone()));
    let decide = |opening: &[u8]| gatekeeper.borrow_mut().decide(opening);
    let start = || {
        let mut opening = [0; MAX_OPENING];
        let ephemeral = Ephemeral::new(&bytes(7));
        let (handshake, len) =
            Handshake::start(id, KeyId::FIRST, &key, ephemeral, CARRIER, &mut opening).expect("a short id");
        (handshake, opening, len)
    };
    case("secure: a device begins a handshake", || (), |()| start(), |(_, _, len)| assert!(len > 0));
    case(
        "secure: the server answers a handshake",
        start,
        |(_, opening, len)| decide(&opening[..len]),
        |answered| assert!(answered.is_some()),
    );
    case(
        "secure: the device ends a handshake",
        || {
            let (handshake, opening, len) = start();
            let (_, answer, end) = decide(&opening[..len]).expect("the key is right");
            (handshake, answer, end)
        },
        |(mut handshake, answer, end)| handshake.finish(&answer[..end]).is_ok_and(|done| done.is_some()),
        |done| assert!(done),
    );

    let (mut handshake, opening, len) = start();
    let (mut server, answer, end) = decide(&opening[..len]).expect("the key is right");
    let (mut device, _) = handshake.finish(&answer[..end]).expect("an answer").expect("a whole one");

    case(
        "secure: both ends open a keyed link",
        || (),
        |()| {
            let mut opening = [0; MAX_OPENING];
            let (mut keyed, len) =
                Keyed::start(id, KeyId::FIRST, &key, &bytes(1), CARRIER, &mut opening).expect("a short id");
            let (_, answer, end) = decide(&opening[..len]).expect("the key is right");
            keyed.finish(&answer[..end]).is_ok_and(|done| done.is_some())
        },
        |done| assert!(done),
    );

    let mut record = [0; PAYLOAD.len() + 16];
    record[..PAYLOAD.len()].copy_from_slice(&PAYLOAD);
    case(
        "secure: seal 256 bytes",
        || record,
        |mut record| (device.seal(black_box(&mut record), PAYLOAD.len()).is_ok(), record),
        |(sealed, mut record)| {
            assert!(sealed);
            server.open(&mut record).expect("what was sealed");
        },
    );
    case(
        "secure: open 256 bytes",
        || {
            let mut record = record;
            device.seal(&mut record, PAYLOAD.len()).expect("room");
            record
        },
        |mut record| server.open(black_box(&mut record)).is_ok_and(|body| body == PAYLOAD),
        |opened| assert!(opened),
    );
    // Devices that have said nothing yet get none.
    case(
        "secure: both ends resume with a ticket",
        || {
            let now = Instant::ZERO;
            let tickets = &mut gatekeeper.borrow_mut().tickets;
            let body = tickets.issue(id, KeyId::FIRST, &server, Grant::default(), &bytes(5), now).expect("room");
            Ticket::receive(&body, now).expect("a ticket")
        },
        |mut ticket| {
            let mut opening = [0; MAX_OPENING];
            let (mut resumption, len) =
                Resumption::start(&mut ticket, id, KeyId::FIRST, &bytes(1), Instant::ZERO, CARRIER, &mut opening)
                    .expect("a short id")
                    .expect("usable");
            let (_, answer, end) = decide(&opening[..len]).expect("the ticket is right");
            matches!(resumption.finish(&answer[..end]), Ok(Some((Resumed::Transport(_), _))))
        },
        |resumed| assert!(resumed),
    );
}

/// What a server decides with.
struct Gatekeeper {
    ring: KeyRing,
    tickets: Tickets<Vec<TicketSlot>>,
}

impl Gatekeeper {
    fn new(key: Key) -> Self {
        Gatekeeper { ring: KeyRing::new(KeyId::FIRST, key), tickets: Tickets::new(vec![TicketSlot::FREE; 1024]) }
    }

    fn decide(&mut self, opening: &[u8]) -> Option<(Transport, [u8; MAX_ANSWER], usize)> {
        let Gatekeeper { ring, tickets, .. } = self;
        let mut answer = [0; MAX_ANSWER];
        let decision = Gate::new(CARRIER).decide(
            opening,
            &bytes(9),
            Instant::ZERO,
            |_| Standing { keys: Some(ring.clone()), unencrypted: true, open: false },
            |asked| tickets.redeem(asked),
            &mut answer,
        );
        match decision {
            Decision::Secured { transport, answer: len, .. } => Some((transport, answer, len)),
            _ => None,
        }
    }
}

pub(crate) fn bytes<const N: usize>(seed: u8) -> [u8; N] {
    std::array::from_fn(|at| seed.wrapping_mul(31).wrapping_add(at as u8))
}
