//! What is stored, confirmed, forgotten (§14).

use std::assert_eq;
use std::vec;

use super::script::*;
use crate::Side::{Device, Server};
use crate::native::wire::*;
use crate::native::*;

const NONE: Cursors = Cursors { durable: 0, received: 0, acked: 0, last: 0 };

#[test]
fn a_failure_to_store_ends_the_link_and_the_messages_come_again() {
    let mut server = Peer::up(Server, Transport::Lossless, PLENTY);
    server.persists = false;
    server.hears_all(&[data(1, false), data(2, false), data(3, false)]);
    server.persisted(1);
    // A link that is about to start has heard the wrong cursor in its WELCOME: it must not go on.
    let mut failing = server.reconnects();
    server.hears(hello(1));
    server.session.handle_storage_failed();
    server.drains();
    server.hears(start(1, cursors(0, 0, 1, 3), PLENTY));
    assert_eq!((server.closed, close_code(&server.sent())), (Some(CloseReason::Storage), Some(6)));
    std::mem::swap(&mut server.link, &mut failing);
    server.drains();
    assert_eq!((server.closed, close_code(&server.sent())), (Some(CloseReason::Storage), Some(6)));

    server.session.handle_persisted(server.tickets[2]);
    assert_eq!(server.session.durable(), 1, "what was forgotten is confirmed");
    server.events();
    server.reconnects();
    server.hears(hello(1));
    server.hears(start(1, cursors(0, 0, 1, 3), PLENTY));
    server.hears_all(&[data(2, false), data(3, false)]);
    assert_eq!(server.events(), [Event::Resumed, Event::Message(2), Event::Message(3)]);
}

#[test]
fn forgetting_is_the_way_out_of_a_quarantine() {
    let mut device = Peer::new(Peer::at(Device, cursors(7, 7, 2, 6)), Transport::Lossless);
    device.session.forget(4);
    device.reconnects();
    device.sent();
    device.hears(welcome(Outcome::New, 6, NONE, PLENTY));
    assert_eq!(device.events(), [Event::NewEpoch(6, false)]);
    assert_eq!(device.session.last(), 4);

    let mut server = Peer::new(Peer::at(Server, cursors(7, 7, 2, 6)), Transport::Lossless);
    server.session.forget(4);
    server.reconnects();
    server.sent();
    server.hears(hello(0));
    let [Sent::Frame(Frame::Welcome(welcome))] = server.sent()[..] else { panic!("WELCOME") };
    assert_eq!((welcome.outcome, welcome.epoch), (Outcome::New, 6), "an epoch is used again");
}

#[test]
fn tickets_of_an_earlier_epoch_change_nothing() {
    let mut server = Peer::up(Server, Transport::Lossless, PLENTY);
    server.persists = false;
    server.hears_all(&[data(1, false), data(2, false)]);
    server.reconnects();
    server.hears(hello(0));
    server.hears(start(2, NONE, PLENTY));
    server.hears_all(&[data(1, true), data(2, true)]);
    assert_eq!(server.session.received(), 2);
    server.sent();
    let old = server.tickets[1];
    assert_eq!(server.session.save_with(old), None);
    server.session.handle_persisted(old);
    server.session.handle_processed(old);
    server.waits(ms(100));
    assert_eq!((server.session.durable(), server.acks()), (0, vec![]));
}

#[test]
fn a_saved_session_goes_on_where_its_messages_end() {
    let mut server = Peer::up(Server, Transport::Lossless, PLENTY);
    server.persists = false;
    server.hears_all(&[data(1, false), data(2, false), data(3, false)]);
    let saved = server.session.save_with(server.tickets[1]).expect("a valid ticket");
    let restored = Session::restore(Server, &saved).expect("a session");
    assert_eq!((restored.epoch(), restored.durable(), restored.received()), (1, 2, 2));
    assert_eq!(server.session.durable(), 0, "saving is not yet stored");
}

#[test]
fn a_device_goes_on_from_what_its_outbox_has_kept() {
    let kept = Kept { epoch: 5, acked: 2, last: 6, received: 3 };
    let mut device = Peer::new(Session::resume(kept).unwrap(), Transport::Lossless);
    let [Sent::Frame(Frame::Hello(hello))] = device.sent()[..] else { panic!("HELLO") };
    assert_eq!(hello.epoch, 5);
    device.hears(welcome(Outcome::Resumed, 5, Cursors { durable: 3, received: 3, acked: 3, last: 4 }, PLENTY));
    assert_eq!(device.events(), [Event::Resumed]);
    let cursors = Cursors { durable: 3, received: 3, acked: 3, last: 6 };
    let start = Start { epoch: 5, cursors, credit: Credit { messages: 8, bytes: 1_000 } };
    let sent = device.sent();
    // What was received was handled, and what the server has is not sent again.
    assert_eq!(sent[0], Sent::Frame(Frame::Start(start)));
    assert!(sent.contains(&Sent::Frame(Frame::Processed(3))), "{sent:?}");
    assert!(sent.contains(&Sent::Data(4)) && !sent.contains(&Sent::Data(3)), "{sent:?}");
    device.hears(data(4, false));
    assert_eq!(device.events(), [Event::Message(4)]);

    for wrong in [Kept { acked: 7, ..kept }, Kept { received: 1 << 62, ..kept }, Kept { epoch: u64::MAX, ..kept }] {
        assert!(matches!(Session::resume(wrong), Err(SavedError::Contradiction)), "{wrong:?}");
    }
    assert_eq!(Session::resume(Kept::default()).unwrap().epoch(), 0);
    // Before the first epoch the outbox was another dialect's, and so was what it has kept of receiving.
    let other = Session::resume(Kept { epoch: 0, ..kept }).unwrap();
    assert_eq!((other.epoch(), other.received(), other.durable(), other.sent()), (0, 0, 0, 2));
}

#[test]
fn a_head_and_a_payload_are_a_frame() {
    for len in [0, 1, 63, 64, 300, 16_383, 16_384, 65_000] {
        let payload = vec![7; len];
        let channel = Channel { app: 1, instance: 2, tag: 3 };
        let (mut whole, mut parts) = (vec![0; len + 10], vec![0; len + 10]);
        let wrote = Frame::Data(Data { seq: 9, ask: true, channel, payload: &payload }).emit(&mut whole).unwrap();
        let head = Data::emit_head(9, true, channel, len, &mut parts).unwrap();
        assert_eq!((head, head + len), (Data::head_len(len), wrote));
        parts[head..wrote].copy_from_slice(&payload);
        assert_eq!(parts, whole);
        assert_eq!(Data::emit_head(9, true, channel, len, &mut parts[..head - 1]), None);
    }
}

#[test]
fn one_save_has_messages_of_both_ways_and_leaves_the_session_as_it_is() {
    let mut server = Peer::up(Server, Transport::Lossless, PLENTY);
    server.persists = false;
    server.hears_all(&[data(1, false), data(2, false)]);
    let (first, second) = (server.tickets[0], server.tickets[1]);
    assert_eq!((server.session.durable_with(None), server.session.durable_with(Some(second))), (0, 2));
    let restored = Session::restore(Server, &server.session.save_both(Some(first), 3)).expect("a session");
    assert_eq!((restored.durable(), restored.last()), (1, 3));
    assert_eq!((server.session.durable(), server.session.last()), (0, 0), "saving is not yet stored");
    // A ticket of an earlier epoch adds nothing; nor is what is stored taken back.
    let old = Ticket::stored(7, 2);
    let restored = Session::restore(Server, &server.session.save_both(Some(old), 0)).expect("a session");
    assert_eq!((restored.durable(), restored.last()), (0, 0));
    server.session.handle_persisted(second);
    assert_eq!(server.session.durable_with(Some(first)), 2);
}

#[test]
fn what_was_received_needs_no_save_of_what_was_sent() {
    let mut server = Peer::up(Server, Transport::Lossless, PLENTY);
    let before = server.session.save_sent(0);
    server.hears_all(&[data(1, true), data(2, true)]);
    assert_eq!(server.session.save_sent(0), before, "only the inbox has changed");
    assert_ne!(server.session.save_sent(1), before, "a message is stored with it");
    server.queues(1);
    let queued = server.session.save_sent(0);
    assert_ne!(queued, before);
    server.hears(ack(1, 1, PLENTY));
    let acked = server.session.save_sent(0);
    assert_ne!(acked, queued);
    server.hears(Frame::Processed(1));
    assert_ne!(server.session.save_sent(0), acked);
}

#[test]
fn a_session_is_as_far_as_its_inbox() {
    let mut server = Peer::up(Server, Transport::Lossless, PLENTY);
    server.persists = false;
    server.hears_all(&[data(1, false), data(2, false), data(3, false)]);
    let saved = server.session.save();
    let mut restored = Session::restore(Server, &saved).expect("a session");
    restored.handle_inbox(3, 9);
    assert_eq!((restored.durable(), restored.received()), (3, 3));
    let again = Session::restore(Server, &restored.save()).expect("no more was handled than is there");
    assert_eq!(again.durable(), 3);
    let mut server = Peer::new(restored, Transport::Lossless);
    server.hears(hello(1));
    server.hears(start(1, cursors(0, 0, 0, 3), PLENTY));
    assert_eq!(server.events(), [Event::Resumed]);
    assert!(server.sent().contains(&Sent::Frame(Frame::Processed(3))));
    // What was stored in another dialect is not of an epoch that has not begun.
    let mut new = Session::new(Server);
    new.handle_inbox(3, 3);
    assert_eq!((new.durable(), new.received()), (0, 0));
}

#[test]
fn the_first_epoch_begins_behind_what_another_dialect_has_delivered() {
    let mut device = Peer::device();
    device.queues(5);
    device.session.handle_delivered(3);
    device.hears(welcome(Outcome::New, 1, NONE, PLENTY));
    assert_eq!(device.events(), [Event::NewEpoch(1, false)]);
    // Two are left, numbered from 1.
    assert_eq!((device.session.acked(), device.session.last()), (0, 2));
    device.session.handle_delivered(2);
    assert_eq!(device.session.acked(), 0, "once there is an epoch, only its acknowledgements count");
}
