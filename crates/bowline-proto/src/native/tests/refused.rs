//! Starts, numbers and frames that cannot be (§10, §13).

use std::assert_eq;
use std::vec;

use super::script::*;
use crate::Side::{Device, Server};
use crate::native::wire::*;
use crate::native::*;
use crate::{Crc, SavedError};

const NONE: Cursors = Cursors { durable: 0, received: 0, acked: 0, last: 0 };

#[test]
fn a_version_below_ours_is_refused_and_told_on_both_sides() {
    let mut server = Peer::server();
    let old = Hello { version: 0, features: 0, epoch: 0, keepalive: 1_000, max_body: 512 };
    server.hears(Frame::Hello(old));
    assert_eq!((server.closed, close_code(&server.sent())), (Some(CloseReason::Version), Some(7)));

    let mut device = Peer::device();
    let Frame::Welcome(answer) = welcome(Outcome::New, 1, NONE, PLENTY) else { panic!("WELCOME") };
    device.hears(Frame::Welcome(Welcome { version: 0, ..answer }));
    assert_eq!((device.closed, close_code(&device.sent())), (Some(CloseReason::Version), Some(7)));
    assert_eq!(device.session.epoch(), 0);
}

#[test]
fn a_welcome_that_answers_another_hello_ends_the_link_and_changes_nothing() {
    // §10.3: no server says any of these to a device that has said epoch 5, or 0.
    for (known, outcome, epoch) in [
        (5, Outcome::Resumed, 6),
        (5, Outcome::New, 6),
        (5, Outcome::New, 4),
        (5, Outcome::Forgotten, 5),
        (0, Outcome::Resumed, 0),
        (0, Outcome::New, 0),
        (0, Outcome::Forgotten, 1),
    ] {
        let mut session = Session::new(Device);
        if known > 0 {
            session = Peer::at(Device, NONE);
        }
        let mut device = Peer::new(session, Transport::Lossless);
        device.hears(welcome(outcome, epoch, NONE, PLENTY));
        let told = (device.closed, close_code(&device.sent()));
        assert_eq!(told, (Some(CloseReason::Protocol), Some(2)), "{outcome:?} {epoch} to {known}");
        assert_eq!((device.events(), device.session.epoch()), (vec![], known));
    }
}

#[test]
fn a_start_with_another_epoch_than_was_offered_ends_the_link() {
    let mut server = Peer::server();
    server.hears(hello(0));
    server.hears(start(2, NONE, PLENTY));
    assert_eq!((server.closed, server.session.epoch()), (Some(CloseReason::Protocol), 0));
    assert_eq!(server.events(), []);
}

#[test]
fn a_new_epoch_in_which_something_was_received_or_acknowledged_is_not_new() {
    for happened in [cursors(0, 1, 0, 1), cursors(1, 1, 1, 1)] {
        let mut server = Peer::server();
        server.hears(hello(0));
        server.hears(start(1, happened, PLENTY));
        assert_eq!(server.events(), [Event::Quarantined(Conflict::NotNew)]);
        assert_eq!(close_code(&server.sent()), Some(5));
    }
}

#[test]
fn when_all_epochs_are_used_up_nothing_is_offered() {
    let mut server = Peer::server();
    server.session.renumber(NUMBER_LIMIT - 1);
    server.session.epoch_stored = true;
    server.reconnects();
    server.hears(hello(0));
    let [Sent::Frame(Frame::Welcome(answer))] = server.sent()[..] else { panic!("WELCOME") };
    assert_eq!((answer.outcome, answer.epoch), (Outcome::Quarantined, NUMBER_LIMIT - 1));
}

#[test]
fn a_second_hello_or_welcome_is_a_repeat_where_frames_get_lost_and_an_offence_elsewhere() {
    for (transport, closed) in [(Transport::Lossy, None), (Transport::Lossless, Some(CloseReason::Protocol))] {
        let mut server = Peer::new(Session::new(Server), transport);
        server.hears(hello(0));
        server.hears(hello(0));
        assert_eq!(server.closed, closed);
        let mut device = Peer::up(Device, transport, PLENTY);
        device.hears(welcome(Outcome::New, 1, NONE, PLENTY));
        assert_eq!(device.closed, closed);
    }
    // To a server nobody says WELCOME; where frames get lost it is passed over like any other.
    let mut server = Peer::up(Server, Transport::Lossy, PLENTY);
    server.hears(welcome(Outcome::New, 1, NONE, PLENTY));
    assert_eq!((server.closed, server.sent()), (None, vec![]));
}

#[test]
fn where_nothing_gets_lost_nothing_is_missing() {
    let mut peer = Peer::up(Device, Transport::Lossless, PLENTY);
    peer.queues(3);
    peer.sent();
    peer.hears(missing(0, 1));
    assert_eq!((peer.closed, peer.sent()), (None, vec![]));
}

#[test]
fn a_saved_session_that_contradicts_itself_is_not_restored() {
    let saved = |numbers: [u64; 6]| {
        let mut bytes = Session::new(Device).save();
        for (slot, number) in bytes[4..52].chunks_exact_mut(8).zip(numbers) {
            slot.copy_from_slice(&number.to_be_bytes());
        }
        let crc = Crc::new().with(&bytes[..52]).value();
        bytes[52..].copy_from_slice(&crc.to_be_bytes());
        bytes
    };
    let [epoch, acked, last, durable, processed, peer_processed] = [1, 2, 5, 7, 6, 5];
    let session = Session::restore(Device, &saved([epoch, acked, last, durable, processed, peer_processed]));
    assert_eq!(session.map(|session| (session.acked(), session.last(), session.durable())), Ok((2, 5, 7)));
    for numbers in [
        [NUMBER_LIMIT, acked, last, durable, processed, peer_processed],
        [epoch, last + 1, last, durable, processed, peer_processed],
        [epoch, acked, last, durable, durable + 1, peer_processed],
        [epoch, acked, last, durable, processed, last + 1],
    ] {
        assert_eq!(Session::restore(Device, &saved(numbers)).err(), Some(SavedError::Contradiction), "{numbers:?}");
    }
}
