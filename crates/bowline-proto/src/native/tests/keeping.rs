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
