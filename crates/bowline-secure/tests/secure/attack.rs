//! What an attacker on the path can do: nothing but cut the link (§15, §18).
//!
//! Each test counts its attempts; together they are above 10,000, every one refused, and afterwards the
//! true device's link goes on as if nothing had been.

use bowline_secure::{AnswerError, Carrier, Grant, Protection, Resumed, Transport};

use crate::support::{Decided, Device, Link, Random, Server, id, key, key_id, seal, unseal};

const CARRIERS: [Carrier; 2] = [Carrier::Lossless, Carrier::Lossy];
const PROTECTIONS: [Protection; 3] = [Protection::Handshake, Protection::Resumed, Protection::Keyed];

/// The true device's link, and a second one of the same device.
fn world(carrier: Carrier, protection: Protection) -> (Server, Device, Link, Link) {
    let mut server = Server::new(carrier);
    let mut device = server.device("kitchen", 1, 10);
    if protection == Protection::Resumed {
        device.connect_for_ticket(&mut server, Grant::default());
    }
    let mut link = || match protection {
        Protection::Handshake => device.connect(&mut server),
        Protection::Resumed => device.resume(&mut server),
        Protection::Keyed => device.connect_keyed(&mut server),
    };
    let (first, second) = (link(), link());
    for transport in [&first.device, &first.server, &second.device, &second.server] {
        assert_eq!(transport.protection(), protection);
    }
    (server, device, first, second)
}

fn worlds() -> impl Iterator<Item = (Server, Device, Link, Link)> {
    CARRIERS.into_iter().flat_map(|carrier| PROTECTIONS.map(|protection| world(carrier, protection)))
}

fn each_bit(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..8 * bytes.len()).map(|bit| {
        let mut changed = bytes.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        changed
    })
}

/// Whether the server lets a link begin with `opening`.
fn let_in(server: &mut Server, opening: &[u8]) -> bool {
    matches!(server.decide(opening).0, Decided::Secured(..) | Decided::Open(_))
}

#[test]
fn no_changed_bit_of_an_opening_gets_in() {
    let mut attempts = 0;
    for carrier in CARRIERS {
        let mut server = Server::new(carrier);
        let mut device = server.device("kitchen", 1, 10);
        // What a changed id or key id might hit: a neighbour with the same key, the same key under another
        // id, an id that is open.
        let mut neighbour = server.device("kitchdn", 1, 10);
        neighbour.random = Random(11);
        server.registry.entry("kitcheo".into()).or_default().open = true;
        let ring = server.registry.get_mut("kitchen").unwrap().keys.as_mut().unwrap();
        ring.add(key_id(3), key(10)).unwrap();
        let mut link = device.connect_for_ticket(&mut server, Grant::default());
        neighbour.connect_for_ticket(&mut server, Grant::default());

        let full = device.open().1;
        let resumption = device.open_resumption(server.now).unwrap().1;
        let keyed = device.open_keyed().1;
        for opening in [&full, &resumption, &keyed] {
            for changed in each_bit(opening) {
                assert!(!let_in(&mut server, &changed), "{opening:02x?} as {changed:02x?}");
                attempts += 1;
            }
        }
        // Version, mode and key id take every other value.
        for (at, value) in (4..7).flat_map(|at| (0..=255).map(move |value| (at, value))) {
            for opening in [&full, &resumption, &keyed] {
                let mut changed = opening.clone();
                changed[at] = value;
                if changed != *opening {
                    assert!(!let_in(&mut server, &changed), "byte {at} as {value}");
                    attempts += 1;
                }
            }
        }
        link.assert_works();
        // None of it has used up the ticket: the untouched opening still resumes.
        assert!(let_in(&mut server, &resumption));
        assert!(let_in(&mut server, &keyed));
        device.resume(&mut server).assert_works();
        neighbour.resume(&mut server).assert_works();
    }
    assert!(attempts >= 6_000, "{attempts}");
}

#[test]
fn no_changed_bit_of_an_answer_is_taken() {
    for carrier in CARRIERS {
        let mut server = Server::new(carrier);
        let mut device = server.device("kitchen", 1, 10);
        let (mut handshake, opening) = device.open();
        let (transport, answer) = server.secured(&opening);
        for changed in each_bit(&answer) {
            assert!(!matches!(handshake.finish(&changed), Ok(Some(_))), "{changed:02x?}");
        }
        // A lossy link carries on with the true answer.
        let (end, _) = handshake.finish(&answer).unwrap().unwrap();
        Link { device: end, server: transport, opening, answer }.assert_works();

        let (mut keyed, opening) = device.open_keyed();
        let (transport, answer) = server.secured(&opening);
        for changed in each_bit(&answer) {
            assert!(!matches!(keyed.finish(&changed), Ok(Some(_))), "{changed:02x?}");
        }
        let (end, _) = keyed.finish(&answer).unwrap().unwrap();
        Link { device: end, server: transport, opening, answer }.assert_works();
        assert_eq!(keyed.finish(&[0, b'B', b'W', b'L', 1, 0, 0]).unwrap_err(), AnswerError::Finished);
    }
}

/// Seals ten bodies each way, has every bit of each changed, cut off or added to, and then delivers them.
#[test]
fn no_changed_record_opens() {
    let mut attempts = 0;
    for (_, _, mut link, _) in worlds() {
        for n in 0..10usize {
            let body = vec![n as u8; 1 + 3 * n];
            for to_server in [true, false] {
                let (from, to) = ends(&mut link, to_server);
                let sealed = seal(from, &body);
                for changed in each_bit(&sealed) {
                    assert_eq!(unseal(to, &changed), None);
                    attempts += 1;
                }
                for len in 0..sealed.len() {
                    assert_eq!(unseal(to, &sealed[..len]), None);
                    attempts += 1;
                }
                assert_eq!(unseal(to, &[&sealed[..], &[0]].concat()), None);
                assert_eq!(unseal(to, &sealed), Some(body.clone()));
            }
        }
        link.assert_works();
    }
    assert!(attempts >= 30_000, "{attempts}");
}

fn ends(link: &mut Link, to_server: bool) -> (&mut Transport, &mut Transport) {
    if to_server { (&mut link.device, &mut link.server) } else { (&mut link.server, &mut link.device) }
}

/// Every record of a session: again on the same link, on another link of the same device, on a link
/// of another device, and in the other direction.
#[test]
fn no_record_opens_in_another_place() {
    let mut attempts = 0;
    for (mut server, _, mut link, mut second) in worlds() {
        // The same key for two devices is an error of the operator's, and still no way in.
        let mut cellar = server.device("cellar", 1, 10);
        let mut others = [
            server.device("hall", 1, 11).connect(&mut server),
            cellar.connect(&mut server),
            cellar.connect_keyed(&mut server),
        ];
        let sealed: [Vec<Vec<u8>>; 2] = [true, false].map(|to_server| {
            let recorded = (0..100u8).map(|n| seal(ends(&mut link, to_server).0, &[n; 20])).collect::<Vec<_>>();
            for (n, record) in recorded.iter().enumerate() {
                assert_eq!(unseal(ends(&mut link, to_server).1, record), Some(vec![n as u8; 20]));
            }
            recorded
        });
        for record in sealed.iter().flatten() {
            for to_server in [true, false] {
                assert_eq!(unseal(ends(&mut link, to_server).1, record), None);
                assert_eq!(unseal(ends(&mut second, to_server).1, record), None);
                for other in &mut others {
                    assert_eq!(unseal(ends(other, to_server).1, record), None);
                }
                attempts += 5;
            }
        }
        for link in [&mut link, &mut second].into_iter().chain(&mut others) {
            link.assert_works();
        }
    }
    assert!(attempts >= 10_000, "{attempts}");
}

/// The first records each way, thrown back at who sealed them, where the nonce would fit.
#[test]
fn no_record_opens_where_it_came_from() {
    for (_, _, mut link, _) in worlds() {
        for n in 0..10u8 {
            let up = seal(&mut link.device, &[n; 20]);
            let down = seal(&mut link.server, &[n; 20]);
            assert_eq!(unseal(&mut link.device, &up), None);
            assert_eq!(unseal(&mut link.server, &down), None);
            assert_eq!(unseal(&mut link.server, &up), Some(vec![n; 20]));
            assert_eq!(unseal(&mut link.device, &down), Some(vec![n; 20]));
        }
    }
}

/// On a lossless link a record left out, or two in the other order, open as nothing.
#[test]
fn order_is_part_of_a_lossless_record() {
    for protection in PROTECTIONS {
        let (_, _, mut link, _) = world(Carrier::Lossless, protection);
        // The same bytes each time: their place alone tells them apart.
        let records: Vec<_> = (0..20).map(|_| seal(&mut link.device, b"ping")).collect();
        for n in 0..20 {
            for (other, record) in records.iter().enumerate().filter(|(other, _)| *other != n) {
                assert_eq!(unseal(&mut link.server, record), None, "{other} in place of {n}");
            }
            assert_eq!(unseal(&mut link.server, &records[n]), Some(b"ping".to_vec()));
        }
    }
}

/// §13.3: on a lossy one they may go missing and change places within 32, each once.
#[test]
fn a_lossy_record_opens_once_within_the_window() {
    for protection in PROTECTIONS {
        let (_, _, mut link, _) = world(Carrier::Lossy, protection);
        let records: Vec<_> = (0..100u8).map(|n| seal(&mut link.device, &[n])).collect();
        assert_eq!(unseal(&mut link.server, &records[50]), Some(vec![50]));
        for (n, record) in records.iter().enumerate().take(19) {
            assert_eq!(unseal(&mut link.server, record), None, "{n} is out of the window");
        }
        for n in (19..50).rev() {
            assert_eq!(unseal(&mut link.server, &records[n]), Some(vec![n as u8]), "{n} is in the window");
        }
        for (n, record) in records.iter().enumerate().take(51) {
            assert_eq!(unseal(&mut link.server, record), None, "{n} again");
        }
        assert_eq!(unseal(&mut link.server, &records[99]), Some(vec![99]));
        assert_eq!(unseal(&mut link.server, &records[67]), None);
        assert_eq!(unseal(&mut link.server, &records[68]), Some(vec![68]));
    }
}

/// A recorded opening gets an answer at most; nothing recorded or invented opens behind it, no ticket comes of it,
/// and the true link goes on (§15.4).
#[test]
fn recorded_openings_lead_nowhere() {
    let mut attempts = 0;
    for (mut server, mut device, mut link, second) in worlds() {
        let recorded: Vec<_> = (0..20u8).map(|n| seal(&mut link.device, &[n; 9])).collect();
        for record in &recorded {
            unseal(&mut link.server, record).unwrap();
        }
        for opening in [&link.opening, &second.opening] {
            let (decided, answer) = server.decide(opening);
            assert_ne!(answer, link.answer);
            match decided {
                Decided::Secured(_, _, mut replayed) if !link.server.resumed() => {
                    for record in &recorded {
                        assert_eq!(unseal(&mut replayed, record), None);
                        attempts += 1;
                    }
                    assert!(!replayed.confirmed());
                }
                Decided::Again => {}
                other => panic!("a recorded opening led to {other:?}"),
            }
        }
        link.assert_works();
        match link.server.protection() {
            Protection::Handshake => device.connect(&mut server).assert_works(),
            Protection::Resumed => device.resume(&mut server).assert_works(),
            Protection::Keyed => device.connect_keyed(&mut server).assert_works(),
        }
    }
    assert!(attempts > 0);
}

/// Answers of other links, other devices and attackers with other keys.
#[test]
fn only_the_answer_to_this_opening_is_taken() {
    for carrier in CARRIERS {
        let mut server = Server::new(carrier);
        let mut device = server.device("kitchen", 1, 10);
        let mut hall = server.device("hall", 1, 11);
        let (mut handshake, opening) = device.open();
        let mut impostor = Server::new(carrier);
        impostor.device("kitchen", 1, 66);
        // It does not know the key, so it can answer its own accomplice only.
        let accomplice = Device::new("kitchen", 1, 66, carrier).open().1;
        for foreign in
            [device.connect(&mut server).answer, hall.connect(&mut server).answer, impostor.secured(&accomplice).1]
        {
            assert_eq!(handshake.finish(&foreign).unwrap_err(), AnswerError::NotAuthentic);
        }
        assert!(matches!(impostor.decide(&opening).0, Decided::Refused(9)));
        let (_, answer) = server.secured(&opening);
        assert!(handshake.finish(&answer).unwrap().is_some());

        let (mut keyed, opening) = device.open_keyed();
        let other_mode = device.connect(&mut server).answer;
        assert!(keyed.finish(&other_mode).is_err());
        let accomplice = Device::new("kitchen", 1, 66, carrier).open_keyed().1;
        for foreign in [
            // A recording of an earlier link: its server had another nonce of the device to answer.
            device.connect_keyed(&mut server).answer,
            hall.connect_keyed(&mut server).answer,
            impostor.secured(&accomplice).1,
        ] {
            assert_eq!(keyed.finish(&foreign).unwrap_err(), AnswerError::NotAuthentic);
        }
        assert!(matches!(impostor.decide(&opening).0, Decided::Refused(9)));
        let (_, answer) = server.secured(&opening);
        assert!(keyed.finish(&answer).unwrap().is_some());
    }
}

/// Keys, ids and key ids mixed in every way: only the true ones get in.
#[test]
fn only_the_right_key_for_the_right_id() {
    let mut server = Server::new(Carrier::Lossless);
    let names = ["kitchen", "hall", "cellar", "kitchen2", "nobody"];
    for (n, name) in names.iter().enumerate().take(4) {
        server.device(name, 1 + n as u8, 10 + n as u64);
    }
    let (mut attempts, mut entered) = (0, 0);
    for name in names {
        for number in 1..=8u8 {
            for seed in 8..=16u64 {
                let truth = names.iter().take(4).position(|known| *known == name);
                let right = truth.is_some_and(|n| number == 1 + n as u8 && seed == 10 + n as u64);
                let mut device = Device::new(name, number, seed, Carrier::Lossless);
                for opening in [device.open().1, device.open_keyed().1] {
                    assert_eq!(let_in(&mut server, &opening), right, "{name} {number} {seed}");
                    attempts += 1;
                    entered += usize::from(right);
                }
            }
        }
    }
    assert_eq!((attempts, entered), (720, 8));
}

/// Someone between the ends changes the opening on its way and the device's answers fit: whatever is
/// lowered, nobody gets a transport.
#[test]
fn what_is_lowered_on_the_way_is_refused() {
    let mut server = Server::new(Carrier::Lossless);
    let mut device = server.device("kitchen", 1, 10);
    server.registry.get_mut("kitchen").unwrap().open = true;
    let (mut handshake, opening) = device.open();
    // To open mode: the server does not, and the device does not believe a go-ahead without its half.
    let mut open = opening[..opening.len() - 48].to_vec();
    open[5..7].copy_from_slice(&[0, 0]);
    assert!(matches!(server.decide(&open).0, Decided::Refused(8)));
    assert_eq!(handshake.finish(&[0, b'B', b'W', b'L', 1, 0, 0]).unwrap_err(), AnswerError::Malformed);
    // To another version: a refusal, which the device reports and does not follow.
    let mut version = opening.clone();
    version[4] = 0;
    let (decided, answer) = server.decide(&version);
    assert!(matches!(decided, Decided::Refused(7)));
    assert_eq!(handshake.finish(&answer).unwrap_err(), AnswerError::Refused { code: 7, version: 1 });
    // From resumption to a full handshake is upwards, and anybody may say it.
    device.connect_for_ticket(&mut server, Grant::default());
    let (mut resumption, _) = device.open_resumption(server.now).unwrap();
    let forged = [0, b'B', b'W', b'L', 1, 1, 0];
    assert!(matches!(resumption.finish(&forged), Ok(Some((Resumed::FullHandshake, 7)))));
}

/// A man in the middle makes neither end leave encryption for a keyed link, nor a keyed link for an open one.
#[test]
fn nobody_between_the_ends_changes_the_mode() {
    let mut server = Server::new(Carrier::Lossless);
    let mut device = server.device("kitchen", 1, 10);
    device.connect_for_ticket(&mut server, Grant::default());
    // The server would take any mode of this device with its proof.
    assert!(server.registry["kitchen"].unencrypted);
    let openings =
        [(1, device.open().1), (2, device.open_resumption(server.now).unwrap().1), (3, device.open_keyed().1)];
    for (mode, opening) in &openings {
        for other in (0..=255).filter(|other| other != mode) {
            // Cut or filled to the length that this mode has, and as it is.
            for len in [48, 41, 32, 0] {
                let mut changed = opening[..15].to_vec();
                changed[5] = other;
                changed.extend(opening[15..].iter().chain([0; 48].iter()).take(len));
                assert!(!let_in(&mut server, &changed), "mode {mode} as {other}");
                if other == 0 {
                    changed[6] = 0;
                    assert!(!let_in(&mut server, &changed), "mode {mode} as {other}");
                }
            }
        }
    }
    // What a device that waits for one mode is answered in another is no answer.
    let (mut handshake, _) = device.open();
    let (mut resumption, _) = device.open_resumption(server.now).unwrap();
    let (mut keyed, opening) = device.open_keyed();
    let (_, answer) = server.secured(&opening);
    assert_eq!(handshake.finish(&answer).unwrap_err(), AnswerError::Malformed);
    assert_eq!(resumption.finish(&answer).unwrap_err(), AnswerError::NotAuthentic);
    for verdict in 0..=0x7f {
        let forged = [0, b'B', b'W', b'L', 1, verdict, 0];
        assert_eq!(keyed.finish(&forged).unwrap_err(), AnswerError::Malformed, "verdict {verdict}");
    }
    assert!(keyed.finish(&answer).unwrap().is_some());
}

/// Where the configuration does not name an id, a right key is told so, and everybody else learns nothing.
#[test]
fn a_keyed_link_is_for_ids_that_may() {
    let mut server = Server::new(Carrier::Lossless);
    let mut device = server.device("kitchen", 1, 10);
    server.registry.get_mut("kitchen").unwrap().unencrypted = false;
    assert!(matches!(server.decide(&device.open_keyed().1).0, Decided::Refused(8)));
    device.connect(&mut server).assert_works();
    let other_key = Device::new("kitchen", 1, 66, Carrier::Lossless).open_keyed().1;
    let other_id = Device::new("nobody", 1, 66, Carrier::Lossless).open_keyed().1;
    let answers = [other_key, other_id].map(|opening| server.decide(&opening).1);
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], [0, b'B', b'W', b'L', 1, 0x89, 0]);
    server.registry.get_mut("kitchen").unwrap().unencrypted = true;
    device.connect_keyed(&mut server).assert_works();
}

/// A keyed link that has shown its key gets no ticket: everybody could read the secret.
#[test]
fn nothing_secret_goes_over_a_keyed_link() {
    let mut server = Server::new(Carrier::Lossless);
    let mut device = server.device("kitchen", 1, 10);
    let mut link = device.connect_keyed(&mut server);
    link.up(b"\x01hello").unwrap();
    assert!(link.server.confirmed() && !link.server.protection().encrypts());
    let random = server.random.bytes();
    let made = server.tickets.issue(id("kitchen"), key_id(1), &link.server, Grant::default(), &random, server.now);
    assert_eq!((made, server.tickets.len()), (None, 0));
}

/// Both nonces are in the keys of the records: with either one new, no record of an earlier link fits.
#[test]
fn either_nonce_makes_new_keys() {
    let mut server = Server::new(Carrier::Lossless);
    let mut device = server.device("kitchen", 1, 10);
    let mut link = device.connect_keyed(&mut server);
    let (up, down) = (seal(&mut link.device, b"same"), seal(&mut link.server, b"same"));
    // The same opening again: the server's nonce alone is new.
    let (mut again, answer) = server.secured(&link.opening);
    assert_ne!(answer[7..23], link.answer[7..23]);
    assert_eq!(unseal(&mut again, &up), None);
    assert_ne!(seal(&mut again, b"same"), down);
    // A server whose random source repeats itself: the device's nonce alone is new.
    server.random = Random(7);
    let mut first = device.connect_keyed(&mut server);
    server.random = Random(7);
    let mut second = device.connect_keyed(&mut server);
    assert_eq!(first.answer[7..23], second.answer[7..23]);
    let recorded = seal(&mut first.server, b"same");
    assert_eq!(unseal(&mut second.device, &recorded), None);
    second.assert_works();
}

/// Invented bytes of every length against every place where bytes go in.
#[test]
fn nothing_invented_gets_in() {
    let mut random = Random(99);
    for (mut server, mut device, mut link, _) in worlds() {
        let (mut handshake, opening) = device.open();
        let prologue = opening.len() - 48;
        for _ in 0..500 {
            let mut forged = opening[..prologue].to_vec();
            forged.extend(random.bytes::<48>());
            assert!(!let_in(&mut server, &forged));
            forged[5] = 2;
            assert!(!let_in(&mut server, &forged));
            forged[5] = 3;
            assert!(!let_in(&mut server, &forged));
            let answer = [&[0, b'B', b'W', b'L', 1, 0, 48][..], &random.bytes::<48>()].concat();
            assert_eq!(handshake.finish(&answer).unwrap_err(), AnswerError::NotAuthentic);
            let record = random.bytes::<64>();
            let len = random.below(65);
            assert_eq!(unseal(&mut link.server, &record[..len]), None);
            assert_eq!(unseal(&mut link.device, &record[..len]), None);
        }
        link.assert_works();
        let (_, answer) = server.secured(&opening);
        assert!(handshake.finish(&answer).unwrap().is_some());
    }
}
