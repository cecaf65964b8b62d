//! Resumption (§15.5).

use bowline_proto::time::{Duration, Instant};
use bowline_secure::{
    AnswerError, Carrier, Decision, Gate, Grant, MAX_ANSWER, Resumed, Ticket, TicketSlot, Tickets, Transport,
};

use crate::support::{Decided, Device, Random, Server, id, key_id};

fn world(grant: Grant) -> (Server, Device) {
    let mut server = Server::new(Carrier::Lossless);
    let mut device = server.device("d", 1, 10);
    device.connect_for_ticket(&mut server, grant);
    (server, device)
}

/// The server does not take the ticket; a full handshake on the same link does.
fn falls_back(server: &mut Server, device: &mut Device, opening: &[u8]) {
    let mut gate = server.gate();
    let (decided, answer) = server.decide_at(&mut gate, opening);
    assert!(matches!(decided, Decided::Again), "{decided:?}");
    assert_eq!(answer, [0, b'B', b'W', b'L', 1, 1, 0]);
    let (mut handshake, opening) = device.open();
    let (decided, answer) = server.decide_at(&mut gate, &opening);
    assert!(matches!(decided, Decided::Secured(..)), "{decided:?}");
    assert!(handshake.finish(&answer).unwrap().is_some());
}

#[test]
fn a_ticket_resumes_as_often_as_it_says() {
    let (mut server, mut device) = world(Grant { uses: 5, lifetime: 60 });
    for _ in 0..5 {
        let mut link = device.resume(&mut server);
        assert!(link.server.resumed() && link.device.resumed());
        link.assert_works();
    }
    assert!(device.open_resumption(server.now).is_none());
    assert!(server.tickets.is_empty());
}

#[test]
fn grants_are_kept_within_their_bounds() {
    let (mut server, mut device) = world(Grant { uses: 255, lifetime: u32::MAX });
    for _ in 0..16 {
        device.resume(&mut server);
    }
    assert!(device.open_resumption(server.now).is_none());
    device.connect_for_ticket(&mut server, Grant { uses: 255, lifetime: u32::MAX });
    server.pass(24 * 60 * 60);
    assert!(device.open_resumption(server.now).is_none());

    let mut link = device.connect(&mut server);
    link.assert_works();
    for grant in [Grant { uses: 0, lifetime: 9 }, Grant { uses: 9, lifetime: 0 }] {
        assert!(server.tickets.issue(id("d"), key_id(1), &link.server, grant, &[1; 40], server.now).is_none());
    }
    // Random bytes that are none.
    assert!(server.tickets.issue(id("d"), key_id(1), &link.server, Grant::default(), &[1; 40], server.now).is_none());
}

#[test]
fn no_use_number_is_taken_twice() {
    let (mut server, mut device) = world(Grant { uses: 16, lifetime: 60 });
    let recorded: Vec<_> = (0..3).map(|_| device.open_resumption(server.now).unwrap().1).collect();
    // The second arrives first: the first is then too late, and none comes twice.
    server.secured(&recorded[1]);
    for opening in [&recorded[0], &recorded[1]] {
        falls_back(&mut server, &mut device, opening);
    }
    server.secured(&recorded[2]);
    for opening in &recorded {
        falls_back(&mut server, &mut device, opening);
    }
    device.resume(&mut server).assert_works();
}

#[test]
fn a_ticket_expires_at_the_server() {
    let (mut server, mut device) = world(Grant { uses: 16, lifetime: 60 });
    server.pass(59);
    device.resume(&mut server);
    let (mut resumption, opening) = device.open_resumption(server.now).unwrap();
    server.pass(1);
    let (_, answer) = server.decide(&opening);
    assert!(matches!(resumption.finish(&answer), Ok(Some((Resumed::FullHandshake, 7)))));
    falls_back(&mut server, &mut device, &opening);
}

#[test]
fn a_revoked_key_takes_its_tickets_with_it() {
    let (mut server, mut device) = world(Grant::default());
    let opening = device.open_resumption(server.now).unwrap().1;
    // Another key's revocation does not.
    server.tickets.revoke(id("d"), key_id(2));
    server.tickets.revoke_device(id("e"));
    device.resume(&mut server);
    server.tickets.revoke(id("d"), key_id(1));
    let later = device.open_resumption(server.now).unwrap().1;
    falls_back(&mut server, &mut device, &later);
    assert!(server.tickets.is_empty());
    falls_back(&mut server, &mut device, &opening);

    device.connect_for_ticket(&mut server, Grant::default());
    server.tickets.revoke_device(id("d"));
    assert!(server.tickets.is_empty());

    // Where only the key is taken from the ring, the ticket does not help either.
    device.connect_for_ticket(&mut server, Grant::default());
    let opening = device.open_resumption(server.now).unwrap().1;
    server.registry.get_mut("d").unwrap().keys.as_mut().unwrap().revoke(key_id(1));
    assert!(matches!(server.decide(&opening).0, Decided::Again));
    assert!(matches!(server.decide(&device.open().1).0, Decided::Refused(9)));
}

fn device_opening(ticket: &mut Option<Ticket>, number: u8) -> Vec<u8> {
    let mut device = Device::new("d", number, 10, Carrier::Lossless);
    device.ticket = ticket.take();
    let opening = device.open_resumption(Instant::ZERO).unwrap().1;
    *ticket = device.ticket;
    opening
}

#[test]
fn a_ticket_is_for_one_id_and_one_key() {
    let (mut server, mut device) = world(Grant::default());
    let mut other = server.device("e", 1, 11);
    other.ticket = device.ticket.take();
    let opening = other.open_resumption(server.now).unwrap().1;
    falls_back(&mut server, &mut other, &opening);
    device.ticket = other.ticket.take();
    let ring = server.registry.get_mut("d").unwrap().keys.as_mut().unwrap();
    ring.add(key_id(2), crate::support::key(12)).unwrap();
    let opening = device_opening(&mut device.ticket, 2);
    falls_back(&mut server, &mut device, &opening);
    device.resume(&mut server).assert_works();
}

/// §15.4, §15.5: neither a recorded opening nor a resumed link gets a ticket.
#[test]
fn tickets_are_for_full_handshakes_that_were_confirmed() {
    let (mut server, mut device) = world(Grant::default());
    let issue = |server: &mut Server, transport: &Transport| {
        let random = server.random.bytes();
        server.tickets.issue(id("d"), key_id(1), transport, Grant::default(), &random, server.now)
    };
    let mut full = device.connect(&mut server);
    assert!(issue(&mut server, &full.server).is_none());
    let mut resumed = device.resume(&mut server);
    resumed.assert_works();
    assert!(issue(&mut server, &resumed.server).is_none());
    full.assert_works();
    assert!(issue(&mut server, &full.server).is_some());
    // The new one is instead of the old one.
    assert_eq!(server.tickets.len(), 1);
    let opening = device.open_resumption(server.now).unwrap().1;
    falls_back(&mut server, &mut device, &opening);
}

#[test]
fn a_refused_resumption_is_followed_by_a_handshake_and_nothing_else() {
    let (mut server, mut device) = world(Grant::default());
    server.tickets.revoke_device(id("d"));
    let opening = device.open_resumption(server.now).unwrap().1;
    let mut gate = server.gate();
    assert!(matches!(server.decide_at(&mut gate, &opening).0, Decided::Again));
    assert!(matches!(server.decide_at(&mut gate, &opening).0, Decided::Refused(2)));
    server.registry.entry("open".into()).or_default().open = true;
    let open = [&[0, b'B', b'W', b'L', 1, 0, 0, 4], &b"open"[..]].concat();
    assert!(matches!(server.decide_at(&mut gate, &open).0, Decided::Refused(2)));
}

#[test]
fn a_server_without_tickets_asks_for_a_handshake() {
    let (server, mut device) = world(Grant::default());
    let opening = device.open_resumption(server.now).unwrap().1;
    let decision = Gate::new(Carrier::Lossless).decide(
        &opening,
        &[1; 32],
        server.now,
        |id| server.registry[id.as_str()].clone(),
        |_| None,
        &mut [0; MAX_ANSWER],
    );
    assert!(matches!(decision, Decision::Again { .. }));
}

#[test]
fn tables_of_any_size_stay_within_it() {
    for size in [0, 1, 9, 64] {
        let mut server = Server::new(Carrier::Lossless);
        server.tickets = Tickets::new(vec![TicketSlot::FREE; size]);
        let mut last = None;
        for n in 0..20u64 {
            let mut device = server.device(&format!("device {n}"), 1, 100 + n);
            let mut link = device.connect(&mut server);
            link.assert_works();
            let random = server.random.bytes();
            server.pass(1);
            let grant = Grant { uses: 2, lifetime: 1000 };
            let body = server.tickets.issue(id(&device.name), key_id(1), &link.server, grant, &random, server.now);
            assert_eq!(body.is_some(), size > 0);
            device.ticket = body.map(|body| Ticket::receive(&body, server.now).unwrap());
            last = Some(device);
            assert!(server.tickets.len() <= size);
        }
        // The last one always got a place.
        let mut last = last.unwrap();
        if size > 0 {
            last.resume(&mut server).assert_works();
        }
    }
}

#[test]
fn a_device_takes_only_what_is_a_ticket() {
    let body =
        |uses: u8, lifetime: u32| [&[0x20][..], &Random(1).bytes::<40>(), &[uses], &lifetime.to_be_bytes()].concat();
    let receive = |body: &[u8]| Ticket::receive(body, Instant::ZERO).is_ok();
    assert!(receive(&body(1, 1)) && receive(&body(16, 86_400)));
    for (uses, lifetime) in [(0, 1), (17, 1), (255, 1), (1, 0), (1, 86_401), (1, u32::MAX)] {
        assert!(!receive(&body(uses, lifetime)), "{uses} {lifetime}");
    }
    let good = body(1, 1);
    assert!(!receive(&good[..45]) && !receive(&[&good[..], &[0]].concat()) && !receive(&[]));
    for kind in (0..=255).filter(|&kind| kind != 0x20) {
        assert!(!receive(&[&[kind], &good[1..]].concat()), "{kind}");
    }
    let ticket = Ticket::receive(&good, Instant::ZERO).unwrap();
    assert!(ticket.usable(Instant::ZERO + Duration::from_millis(999)));
    assert!(!ticket.usable(Instant::ZERO + Duration::from_millis(1000)));
}

#[test]
fn only_the_servers_own_answer_resumes() {
    let (mut server, mut device) = world(Grant::default());
    let (mut resumption, opening) = device.open_resumption(server.now).unwrap();
    let (_, answer) = server.secured(&opening);
    for bit in 0..8 * answer.len() {
        let mut changed = answer.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let got = resumption.finish(&changed);
        assert!(!matches!(got, Ok(Some((Resumed::Transport(_), _)))), "bit {bit}: {got:?}");
        if let Ok(Some((Resumed::FullHandshake, _))) = got {
            panic!("bit {bit} made a verdict 01 of {answer:02x?}");
        }
    }
    let (_, foreign) = server.secured(&device.open_resumption(server.now).unwrap().1);
    assert_eq!(resumption.finish(&foreign).unwrap_err(), AnswerError::NotAuthentic);
    assert!(matches!(resumption.finish(&answer), Ok(Some((Resumed::Transport(_), 39)))));
    assert_eq!(resumption.finish(&answer).unwrap_err(), AnswerError::Finished);
}
