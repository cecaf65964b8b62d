//! What the security layer costs a server: `cargo bench -p bowline-secure`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bowline_proto::DeviceId;
use bowline_proto::time;
use bowline_secure::{
    Carrier, Decision, Ephemeral, Gate, Grant, Handshake, Key, KeyId, KeyRing, Keyed, MAX_ANSWER, MAX_OPENING, Resumed,
    Resumption, Standing, Ticket, TicketSlot, Tickets, Transport,
};

const CARRIER: Carrier = Carrier::Lossless;

/// How often a second `work` can be done.
fn rate(name: &str, mut work: impl FnMut()) {
    let (begin, mut done) = (Instant::now(), 0u32);
    while begin.elapsed() < Duration::from_millis(500) {
        for _ in 0..10 {
            work();
        }
        done += 10;
    }
    let seconds = begin.elapsed().as_secs_f64();
    let (rate, micros) = (f64::from(done) / seconds, seconds * 1e6 / f64::from(done));
    println!("{name:<44} {rate:>10.0} a second, {micros:>8.2} µs each");
}

fn bytes<const N: usize>(seed: u8) -> [u8; N] {
    core::array::from_fn(|at| seed.wrapping_mul(31).wrapping_add(at as u8))
}

struct Bench {
    id: DeviceId<'static>,
    key: Key,
    ring: KeyRing,
    tickets: Tickets<Vec<TicketSlot>>,
}

impl Bench {
    fn start(&self, key: &Key, out: &mut [u8; MAX_OPENING]) -> (Handshake, usize) {
        Handshake::start(self.id, KeyId::FIRST, key, Ephemeral::new(&bytes(7)), CARRIER, out).expect("a short id")
    }

    fn decide(&mut self, opening: &[u8], answer: &mut [u8; MAX_ANSWER]) -> Option<(Transport, usize)> {
        let Bench { ring, tickets, .. } = self;
        let decision = Gate::new(CARRIER).decide(
            opening,
            &bytes(9),
            time::Instant::ZERO,
            |_| Standing { keys: Some(ring.clone()), unencrypted: true, open: false },
            |asked| tickets.redeem(asked),
            answer,
        );
        match decision {
            Decision::Secured { transport, answer, .. } => Some((transport, answer)),
            _ => None,
        }
    }
}

fn main() {
    let key = Key::new(&bytes(3)).expect("bytes that differ");
    let ring = KeyRing::new(KeyId::FIRST, key.clone());
    let tickets = Tickets::new(vec![TicketSlot::FREE; 40_000]);
    let mut bench = Bench { id: DeviceId::new("kitchen").expect("an id"), key, ring, tickets };
    let (mut opening, mut answer) = ([0; MAX_OPENING], [0; MAX_ANSWER]);

    let (mut handshake, len) = bench.start(&bench.key, &mut opening);
    rate("server: full handshake", || {
        black_box(bench.decide(&opening[..len], &mut answer)).expect("the key is right");
    });
    let (mut server, end) = bench.decide(&opening[..len], &mut answer).expect("the key is right");
    let (mut device, _) = handshake.finish(&answer[..end]).expect("an answer").expect("a whole one");

    let wrong = Key::new(&bytes(4)).expect("bytes that differ");
    let mut bad = [0; MAX_OPENING];
    let (_, bad_len) = bench.start(&wrong, &mut bad);
    rate("server: opening with a wrong key, refused", || {
        assert!(black_box(bench.decide(&bad[..bad_len], &mut answer)).is_none());
    });
    rate("device: opening and its ephemeral key", || {
        let (handshake, _) = bench.start(&bench.key, &mut opening);
        black_box(handshake);
    });

    rate("both: keyed link", || {
        let (mut keyed, len) =
            Keyed::start(bench.id, KeyId::FIRST, &bench.key, &bytes(1), CARRIER, &mut opening).expect("a short id");
        let (_, end) = bench.decide(&opening[..len], &mut answer).expect("the key is right");
        black_box(keyed.finish(&answer[..end])).expect("an answer").expect("a whole one");
    });
    let (mut keyed, len) =
        Keyed::start(bench.id, KeyId::FIRST, &bench.key, &bytes(2), CARRIER, &mut opening).expect("a short id");
    let (mut keyed_server, end) = bench.decide(&opening[..len], &mut answer).expect("the key is right");
    let (mut keyed_device, _) = keyed.finish(&answer[..end]).expect("an answer").expect("a whole one");

    let mut body = [0; 256 + 16];
    device.seal(&mut body, 256).expect("room");
    server.open(&mut body).expect("what was sealed");
    let mut ticket = None;
    rate("both: ticket, resumption", || {
        if !ticket.as_ref().is_some_and(|ticket: &Ticket| ticket.usable(time::Instant::ZERO)) {
            let grant = Grant::default();
            let body = bench
                .tickets
                .issue(bench.id, KeyId::FIRST, &server, grant, &bytes(5), time::Instant::ZERO)
                .expect("room");
            ticket = Some(Ticket::receive(&body, time::Instant::ZERO).expect("a ticket"));
        }
        let ticket = ticket.as_mut().expect("it was just made");
        let now = time::Instant::ZERO;
        let (mut resumption, len) =
            Resumption::start(ticket, bench.id, KeyId::FIRST, &bytes(1), now, CARRIER, &mut opening)
                .expect("a short id")
                .expect("usable");
        let (_, end) = bench.decide(&opening[..len], &mut answer).expect("the ticket is right");
        assert!(matches!(resumption.finish(&answer[..end]), Ok(Some((Resumed::Transport(_), _)))));
    });

    for size in [2, 32, 256, 1024, 4096] {
        let mut body = vec![0; size + 16];
        rate(&format!("seal and open {size} bytes"), || {
            device.seal(&mut body, size).expect("room");
            black_box(server.open(&mut body)).expect("what was sealed");
        });
        rate(&format!("tag and check {size} bytes"), || {
            keyed_device.seal(&mut body, size).expect("room");
            black_box(keyed_server.open(&mut body)).expect("what was tagged");
        });
    }
}
