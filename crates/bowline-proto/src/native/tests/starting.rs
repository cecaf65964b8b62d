//! How links start, take over and are refused (§10).

use std::assert_eq;
use std::vec;

use super::script::*;
use crate::Side::{Device, Server};
use crate::native::wire::*;
use crate::native::*;

const NONE: Cursors = Cursors { durable: 0, received: 0, acked: 0, last: 0 };

fn offered(sent: &[Sent]) -> Option<(Outcome, u64)> {
    sent.iter().find_map(|sent| match sent {
        Sent::Frame(Frame::Welcome(welcome)) => Some((welcome.outcome, welcome.epoch)),
        _ => None,
    })
}

fn offer_for(session: Session, epoch: u64) -> Option<(Outcome, u64)> {
    let mut server = Peer::new(session, Transport::Lossless);
    server.hears(hello(epoch));
    offered(&server.sent())
}

#[test]
fn the_server_answers_every_epoch_by_the_table() {
    // §10.3. The server is at epoch 5, or knows nothing.
    let known = || Peer::at(Server, cursors(3, 3, 2, 4));
    assert_eq!(offer_for(known(), 0), Some((Outcome::New, 6)));
    assert_eq!(offer_for(known(), 5), Some((Outcome::Resumed, 5)));
    assert_eq!(offer_for(known(), 6), Some((Outcome::New, 6)));
    assert_eq!(offer_for(known(), 4), Some((Outcome::Quarantined, 5)));
    assert_eq!(offer_for(Session::new(Server), 0), Some((Outcome::New, 1)));
    assert_eq!(offer_for(Session::new(Server), 9), Some((Outcome::Forgotten, 10)));
    let leap = 1 << 32;
    assert_eq!(offer_for(known(), 5 + leap), Some((Outcome::New, 5 + leap)));
    assert_eq!(offer_for(known(), 6 + leap), Some((Outcome::Quarantined, 5)));
    assert_eq!(offer_for(Session::new(Server), leap), Some((Outcome::Forgotten, leap + 1)));
    assert_eq!(offer_for(Session::new(Server), leap + 1), Some((Outcome::Quarantined, 0)));
}

#[test]
fn an_epoch_that_goes_back_is_not_believed() {
    let mut server = Peer::new(Peer::at(Server, cursors(3, 3, 2, 4)), Transport::Lossless);
    server.hears(hello(4));
    assert_eq!(server.events(), [], "the HELLO may have come late");
    let mut never = server.reconnects();
    server.hears(hello(4));
    let refusal = offered(&server.sent()[1..]);
    assert_eq!(refusal, Some((Outcome::Quarantined, 5)));
    let mut device = Peer::new(Peer::at(Device, NONE), Transport::Lossless);
    device.hears(welcome(Outcome::Quarantined, 6, NONE, PLENTY));
    assert_eq!(device.closed, Some(CloseReason::Quarantined(Conflict::EpochBack)));
    assert_eq!(close_code(&device.sent()), Some(5));
    server.hears(Frame::Close(Close { code: 5, text: "" }));
    assert_eq!(server.events(), [Event::Quarantined(Conflict::EpochBack)]);
    assert_eq!((server.closed, server.session.counters().quarantined), (Some(CloseReason::Peer(5)), 1));
    // It cannot be started.
    server.closed = None;
    std::mem::swap(&mut server.link, &mut never);
    server.hears(start(5, cursors(2, 2, 3, 3), PLENTY));
    assert_eq!(server.closed, Some(CloseReason::Protocol));
    assert_eq!((server.session.epoch(), server.session.durable(), server.session.acked()), (5, 3, 2));
}

#[test]
fn a_server_knows_its_own_offer_again() {
    // The device took it on one link and says so on the next, while its START is still on its way on
    // the first: were it offered another epoch, what that START brings would come twice.
    let mut server = Peer::server();
    server.hears(hello(0));
    let mut old = server.reconnects();
    server.sent();
    server.hears(hello(1));
    assert_eq!(offered(&server.sent()), Some((Outcome::New, 1)));
    std::mem::swap(&mut server.link, &mut old);
    server.hears_all(&[start(1, NONE, PLENTY), data(1, true)]);
    assert_eq!(server.events(), [Event::NewEpoch(1, false), Event::Message(1)]);
    std::mem::swap(&mut server.link, &mut old);
    server.hears(start(1, NONE, PLENTY));
    assert_eq!((server.closed, server.session.received()), (Some(CloseReason::Replaced), 1));
}

#[test]
fn no_epoch_is_offered_twice() {
    // §10.1: the first offer is not taken, its device is gone; another life must not get the same.
    let mut server = Peer::server();
    server.hears(hello(0));
    let old = server.reconnects();
    server.hears(hello(0));
    assert_eq!(offered(&server.sent()[1..]), Some((Outcome::New, 2)));
    server.hears(start(2, NONE, PLENTY));
    assert_eq!(server.events(), [Event::NewEpoch(2, false)]);
    // The START of the first comes late: refused, and the session stays where it is.
    let new = std::mem::replace(&mut server.link, old);
    server.hears(start(1, NONE, PLENTY));
    assert_eq!((server.closed, server.session.epoch()), (Some(CloseReason::Replaced), 2));
    server.link = new;
    server.closed = None;
    server.hears(data(1, true));
    assert_eq!(server.events(), [Event::Message(1)]);
}

#[test]
fn both_ends_resume_behind_what_was_received() {
    let mut device = Peer::new(Peer::at(Device, cursors(7, 9, 2, 6)), Transport::Lossless);
    device.sent();
    device.hears(welcome(Outcome::Resumed, 5, cursors(3, 4, 7, 12), PLENTY));
    let start = Start { epoch: 5, cursors: cursors(7, 9, 3, 6), credit: Credit { messages: 8, bytes: 1_000 } };
    // 4 is received there and not durable: it is not sent again. 3 is acknowledged by it.
    assert_eq!(device.sent(), [Sent::Frame(Frame::Start(start)), Sent::Data(5), Sent::Asking(6)]);
    assert_eq!(device.events(), [Event::Resumed]);
    device.hears(data(10, false));
    assert_eq!(device.events(), [Event::Message(10)]);
}

#[test]
fn cursors_that_cannot_be_are_quarantined() {
    use Conflict::*;
    // §10.4: own durable 7, received 9, acknowledged 3, last 6.
    for (peer, conflict) in [
        (cursors(2, 4, 7, 12), PeerLostReceived),
        (cursors(3, 7, 7, 12), NeverSent),
        (cursors(3, 4, 8, 12), NeverAcked),
        (cursors(3, 4, 7, 8), PeerLostSent),
    ] {
        let own = cursors(7, 9, 3, 6);
        let mut device = Peer::new(Peer::at(Device, own), Transport::Lossless);
        device.hears(welcome(Outcome::Resumed, 5, peer, PLENTY));
        assert_eq!(device.events(), [Event::Quarantined(conflict)]);
        assert_eq!(close_code(&device.sent()), Some(5));
        assert_eq!((device.session.acked(), device.session.durable()), (3, 7));

        let mut server = Peer::new(Peer::at(Server, own), Transport::Lossless);
        server.hears(hello(5));
        server.hears(start(5, peer, PLENTY));
        assert_eq!(server.events(), [Event::Quarantined(conflict)]);
        assert_eq!(server.session.active, 0, "a link that is not believed has the session");
    }
    for good in [cursors(3, 3, 0, 9), cursors(6, 6, 7, 9), cursors(3, 6, 7, 100)] {
        let mut server = Peer::new(Peer::at(Server, cursors(7, 9, 3, 6)), Transport::Lossless);
        server.hears(hello(5));
        server.hears(start(5, good, PLENTY));
        assert_eq!(server.events(), [Event::Resumed]);
    }
}

#[test]
fn a_new_epoch_in_which_something_has_happened_is_not_believed() {
    let mut server = Peer::new(Peer::at(Server, NONE), Transport::Lossless);
    server.hears(hello(6));
    server.hears(start(6, cursors(0, 0, 1, 4), PLENTY));
    assert_eq!(server.events(), [Event::Quarantined(Conflict::NotNew)]);

    // The device has had acknowledgements in epoch 5; the server offers it as new: an old backup.
    let mut device = Peer::new(Peer::at(Device, cursors(0, 0, 2, 4)), Transport::Lossless);
    device.hears(welcome(Outcome::New, 5, NONE, PLENTY));
    assert_eq!(device.events(), [Event::Quarantined(Conflict::NotNew)]);
}

#[test]
fn a_new_epoch_renumbers_what_is_not_acknowledged() {
    let mut server = Peer::new(Peer::at(Server, cursors(3, 3, 10, 12)), Transport::Lossless);
    server.hears(hello(0));
    server.hears(start(6, NONE, PLENTY));
    assert_eq!(server.events(), [Event::NewEpoch(6, false)]);
    assert_eq!((server.session.acked(), server.session.last(), server.session.durable()), (0, 2, 0));
    assert_eq!(server.sent()[2..], [Sent::Data(1), Sent::Asking(2)]);
}

#[test]
fn a_new_epoch_gets_credit_when_the_old_link_can_no_longer_use_it() {
    let mut server = Peer::up(Server, Transport::Lossless, PLENTY);
    server.persists = false;
    let mut old = server.reconnects();
    server.hears(hello(0));
    let [Sent::Frame(Frame::Welcome(welcome))] = server.sent()[..] else { panic!("WELCOME") };
    assert_eq!(welcome.credit, Credit::default());
    std::mem::swap(&mut server.link, &mut old);
    server.hears_all(&[data(1, false), data(2, false), data(3, false)]);
    std::mem::swap(&mut server.link, &mut old);
    server.link.handle_room(server.now, Room { messages: 5, bytes: 970 });
    server.hears(start(2, NONE, PLENTY));
    assert_eq!(server.acks(), [(0, 5, 970)]);
}

#[test]
fn a_server_that_has_forgotten_is_reported_if_anything_had_happened() {
    for (own, reported) in [(cursors(3, 3, 10, 12), true), (cursors(0, 0, 0, 2), false)] {
        let mut device = Peer::new(Peer::at(Device, own), Transport::Lossless);
        device.hears(welcome(Outcome::Forgotten, 6, NONE, PLENTY));
        assert_eq!(device.events(), [Event::NewEpoch(6, reported)]);
        assert_eq!(device.session.counters().forgotten, u64::from(reported));
        assert_eq!(device.sent()[2..], [Sent::Data(1), Sent::Asking(2)]);
    }
}

#[test]
fn an_epoch_is_stored_before_anything_goes_out_in_it() {
    let mut device = Peer::device();
    device.stores_epochs = false;
    device.sent();
    device.hears(welcome(Outcome::New, 1, NONE, PLENTY));
    device.queues(1);
    assert_eq!(device.sent(), []);
    device.session.handle_epoch_stored(2);
    device.drains();
    assert_eq!(device.sent(), [], "another epoch was stored");
    device.session.handle_epoch_stored(1);
    device.drains();
    assert_eq!(device.sent().len(), 2, "START and DATA");

    let mut server = Peer::server();
    server.stores_epochs = false;
    server.hears(hello(0));
    server.hears(start(1, NONE, PLENTY));
    server.sent();
    server.queues(1);
    server.hears(data(1, true));
    server.waits(ms(100));
    assert_eq!(server.sent(), [], "DATA or ACK in an epoch that is not stored");
    server.session.handle_epoch_stored(1);
    server.drains();
    assert_eq!(server.sent().len(), 2, "ACK and DATA");
}

#[test]
fn the_old_link_has_the_session_until_start_and_not_after_it() {
    let mut server = Peer::up(Server, Transport::Lossless, PLENTY);
    let mut old = server.reconnects();
    server.hears(hello(1));
    server.sent();
    // HELLO and WELCOME change nothing for it.
    std::mem::swap(&mut server.link, &mut old);
    server.hears(data(1, true));
    assert_eq!((server.events(), server.acks().len()), (vec![Event::Message(1)], 1));
    std::mem::swap(&mut server.link, &mut old);
    server.hears(start(1, cursors(0, 0, 0, 3), PLENTY));
    assert_eq!(server.events(), [Event::Resumed]);
    // Now it is of no effect.
    std::mem::swap(&mut server.link, &mut old);
    server.hears(data(2, true));
    assert_eq!((server.events(), server.closed), (vec![], Some(CloseReason::Replaced)));
    assert_eq!((server.session.received(), close_code(&server.sent())), (1, Some(3)));
    // The new one brings again what came on the old one behind its WELCOME, and goes on.
    std::mem::swap(&mut server.link, &mut old);
    server.hears_all(&[data(1, false), data(2, false)]);
    assert_eq!(server.events(), [Event::Message(2)]);
    assert_eq!(server.session.counters().duplicates, 1);
}

#[test]
fn a_start_that_answers_an_older_welcome_is_refused() {
    let mut server = Peer::new(Peer::at(Server, NONE), Transport::Lossless);
    server.hears(hello(5));
    let mut older = server.reconnects();
    server.hears(hello(5));
    server.hears(start(5, NONE, PLENTY));
    assert!(server.link.is_up());
    std::mem::swap(&mut server.link, &mut older);
    server.hears(start(5, NONE, PLENTY));
    assert_eq!(server.closed, Some(CloseReason::Replaced));
}

#[test]
fn a_start_before_any_welcome_is_refused() {
    let mut server = Peer::server();
    server.hears_all(&[hello(0), start(1, NONE, PLENTY), data(1, false)]);
    assert_eq!((server.closed, server.session.epoch()), (Some(CloseReason::Protocol), 0));
}

#[test]
fn a_volatile_device_goes_on_where_the_server_does() {
    let mut device = Peer::new(Peer::at(Device, cursors(2, 2, 0, 0)), Transport::Lossless);
    device.config.inbox = Inbox::Volatile;
    device.reconnects();
    device.hears(welcome(Outcome::Resumed, 5, cursors(0, 0, 6, 9), PLENTY));
    assert_eq!(device.events(), [Event::Resumed]);
    assert_eq!((device.session.durable(), device.session.counters().skipped), (6, 4));
    device.hears(data(7, false));
    assert_eq!(device.events(), [Event::Message(7)]);
}

#[test]
fn a_volatile_device_tries_again_when_its_last_life_is_heard_late() {
    let mut server = Peer::up(Server, Transport::Lossless, PLENTY);
    server.queues(3);
    server.hears(ack(1, 3, PLENTY));
    let mut old = server.reconnects();
    server.hears(hello(1));
    std::mem::swap(&mut server.link, &mut old);
    server.hears(ack(2, 3, PLENTY));
    std::mem::swap(&mut server.link, &mut old);
    server.sent();
    server.hears(start(1, cursors(1, 1, 0, 0), PLENTY));
    assert_eq!((server.closed, close_code(&server.sent())), (Some(CloseReason::Changed), Some(10)));
    assert_eq!(server.session.counters().quarantined, 0);
}

#[test]
fn a_link_that_does_not_start_ends_within_the_handshake_timeout() {
    for side in [Device, Server] {
        let mut peer = Peer::new(Session::new(side), Transport::Lossless);
        peer.waits(ms(4_900));
        assert_eq!(peer.closed, None);
        peer.waits(ms(200));
        assert_eq!(peer.closed, Some(CloseReason::Silence));
    }
    // WELCOME is not enough: START is awaited within the same time.
    let mut server = Peer::server();
    server.waits(ms(3_000));
    server.hears(hello(0));
    server.waits(ms(2_100));
    assert_eq!(server.closed, Some(CloseReason::Silence));
}

#[test]
fn the_keepalive_is_the_wish_within_the_servers_bounds() {
    for (wish, agreed) in [(100, 500), (1_000, 1_000), (60_000, 5_000)] {
        let mut server = Peer::server();
        let first = Hello { version: 1, features: 3, epoch: 0, keepalive: wish, max_body: 300 };
        server.hears(Frame::Hello(first));
        assert_eq!(server.link.keepalive(), ms(agreed));
        assert_eq!((server.link.max_payload(), server.link.features()), (290, 0));
    }
}

#[test]
fn over_a_lossy_transport_the_start_is_repeated_until_it_is_through() {
    let mut device = Peer::new(Session::new(Device), Transport::Lossy);
    device.waits(ms(800));
    let hellos = device.sent();
    assert!(hellos.len() >= 2 && hellos.iter().all(|sent| *sent == Sent::Frame(hello(0))), "{hellos:?}");
    let welcomed = welcome(Outcome::New, 1, NONE, PLENTY);
    device.hears(welcomed);
    assert_eq!(device.sent().len(), 1, "START");
    device.hears(welcomed);
    assert!(matches!(device.sent()[..], [Sent::Frame(Frame::Start(_))]));
    assert_eq!(device.events(), [Event::NewEpoch(1, false)]);

    let mut server = Peer::new(Session::new(Server), Transport::Lossy);
    server.hears(hello(0));
    server.hears(hello(0));
    server.waits(ms(500));
    let welcomes = server.sent();
    assert!(welcomes.len() >= 3, "{welcomes:?}");
    assert!(welcomes.iter().all(|sent| *sent == welcomes[0]));
    server.hears(data(1, false));
    server.hears(start(1, NONE, PLENTY));
    assert_eq!(server.events(), [Event::NewEpoch(1, false)]);
}
