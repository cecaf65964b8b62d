//! How messages, credit, acknowledgements and signs of life move (§11 to §13).

use std::assert_eq;
use std::vec;
use std::vec::Vec;

use super::script::*;
use crate::Side::{Device, Server};
use crate::native::wire::*;
use crate::native::*;

fn up(credit: Credit) -> Peer {
    Peer::up(Device, Transport::Lossless, credit)
}

fn lossy() -> Peer {
    Peer::up(Device, Transport::Lossy, PLENTY)
}

#[test]
fn nothing_is_acknowledged_before_it_is_persisted() {
    let mut peer = up(PLENTY);
    peer.persists = false;
    peer.hears_all(&[data(1, true), data(2, true)]);
    peer.waits(ms(500));
    assert_eq!(peer.acks(), []);
    peer.persisted(1);
    assert_eq!(peer.acks(), [(1, 8, 1_000)]);
    peer.persisted(2);
    assert_eq!(peer.acks()[0].0, 2);
}

#[test]
fn acknowledgements_are_at_once_when_asked_and_coalesced_when_not() {
    let mut peer = up(PLENTY);
    peer.hears(data(1, true));
    assert_eq!(peer.acks().len(), 1);
    peer.hears(data(2, false));
    assert_eq!(peer.acks(), []);
    peer.waits(ms(24));
    assert_eq!(peer.acks(), []);
    peer.waits(ms(1));
    assert_eq!(peer.acks(), [(2, 10, 1_020)]);
    // With company.
    peer.hears(data(3, false));
    peer.queues(1);
    assert_eq!(peer.sent().len(), 2);
    // Half of the window.
    for seq in 4..=6 {
        peer.hears(data(seq, false));
        assert_eq!(peer.acks(), [], "after {seq}");
    }
    peer.hears(data(7, false));
    assert_eq!(peer.acks()[0].0, 7);
}

#[test]
fn a_sender_stops_exactly_at_its_credit() {
    let mut peer = up(Credit { messages: 3, bytes: 10_000 });
    peer.queues(5);
    assert_eq!(peer.sent(), [Sent::Data(1), Sent::Data(2), Sent::Asking(3)]);
    peer.hears(ack(1, 3, Credit { messages: 1, bytes: 10_000 }));
    assert_eq!(peer.sent(), [Sent::Asking(4)]);
    // The same again gives nothing more.
    peer.hears(ack(1, 3, Credit { messages: 1, bytes: 10_000 }));
    assert_eq!(peer.sent(), []);
    peer.hears(ack(4, 4, Credit { messages: 1, bytes: 10_000 }));
    assert_eq!(peer.sent(), [Sent::Asking(5)]);

    let mut peer = up(Credit { messages: 9, bytes: 25 });
    peer.queues(4);
    assert_eq!(peer.sent(), [Sent::Data(1), Sent::Data(2)]);
    peer.hears(ack(2, 2, Credit { messages: 9, bytes: 29 }));
    assert_eq!(peer.sent(), []);
    peer.hears(ack(2, 2, Credit { messages: 9, bytes: 30 }));
    assert_eq!(peer.sent(), [Sent::Data(3)]);
}

#[test]
fn who_exceeds_its_credit_is_closed() {
    let mut peer = up(PLENTY);
    peer.persists = false;
    for seq in 1..=8 {
        peer.hears(data(seq, false));
    }
    assert_eq!((peer.closed, peer.events().len()), (None, 8));
    peer.hears(data(9, false));
    assert_eq!((peer.closed, close_code(&peer.sent()), peer.events()), (Some(CloseReason::Credit), Some(4), vec![]));

    let mut peer = up(PLENTY);
    peer.persists = false;
    for seq in 1..=2 {
        let channel = Channel::default();
        peer.hears(Frame::Data(Data { seq, ask: false, channel, payload: &[0; 500] }));
    }
    assert_eq!(peer.closed, None);
    peer.hears(data(3, false));
    assert_eq!(peer.closed, Some(CloseReason::Credit));

    let mut peer = up(PLENTY);
    peer.hears(Frame::Gap(Gap { first: 1, last: 9, reason: 1 }));
    assert_eq!((peer.closed, peer.session.received()), (Some(CloseReason::Credit), 0));
}

#[test]
fn credit_neither_leaks_nor_grows_over_many_messages() {
    let mut peer = up(PLENTY);
    let mut limits = (8, 1_000);
    for seq in 1..=100_000 {
        assert!(seq <= limits.0 && seq * 10 <= limits.1, "the window has shrunk at {seq}: {limits:?}");
        peer.hears(data(seq, seq % 4 == 0));
        for (_, messages, bytes) in peer.acks() {
            assert!(messages <= seq + 8 && bytes <= seq * 10 + 1_000, "the window has grown at {seq}");
            limits = (messages, bytes);
        }
    }
    assert_eq!(limits, (100_008, 1_001_000));
}

#[test]
fn room_is_given_once() {
    let mut peer = up(PLENTY);
    peer.persists = false;
    peer.hears_all(&[data(1, false), data(2, true)]);
    peer.persisted(2);
    // The application has not taken them: no room was made.
    assert_eq!(peer.acks(), [(2, 8, 1_000)]);
    peer.link.handle_room(peer.now, Room { messages: 7, bytes: 990 });
    peer.drains();
    peer.waits(ms(25));
    assert_eq!(peer.acks(), [(2, 9, 1_010)]);
}

#[test]
fn seqs_without_holes_or_the_link_ends() {
    for wrong in [2, 0, 40_000] {
        let mut peer = up(PLENTY);
        peer.hears(data(wrong, false));
        assert_eq!((peer.closed, peer.events()), (Some(CloseReason::Protocol), vec![]));
    }
    let mut peer = up(PLENTY);
    peer.hears_all(&[data(1, false), data(1, false)]);
    assert_eq!((peer.closed, peer.events().len()), (Some(CloseReason::Protocol), 1));
}

#[test]
fn acknowledgements_of_what_was_never_sent_end_the_link() {
    let mut peer = up(PLENTY);
    peer.queues(2);
    peer.hears(ack(3, 3, PLENTY));
    assert_eq!((peer.closed, peer.session.acked()), (Some(CloseReason::Protocol), 0));
    let mut peer = up(PLENTY);
    peer.hears(Frame::Processed(1));
    assert_eq!(peer.closed, Some(CloseReason::Protocol));
}

#[test]
fn gaps_take_their_place_and_are_told_counted_and_acknowledged() {
    let mut peer = up(PLENTY);
    peer.dropped = vec![(2, 3)];
    peer.queues(4);
    let gap = Sent::Frame(Frame::Gap(Gap { first: 2, last: 3, reason: 3 }));
    assert_eq!(peer.sent(), [Sent::Data(1), gap, Sent::Asking(4)]);
    assert_eq!(peer.session.counters().gaps_sent, 2);

    let mut peer = up(PLENTY);
    peer.hears_all(&[data(1, false), Frame::Gap(Gap { first: 2, last: 3, reason: 3 }), data(4, false)]);
    assert_eq!(peer.events(), [Event::Message(1), Event::Gap(3, 2), Event::Message(4)]);
    assert_eq!((peer.session.counters().gaps, peer.acks()[0].0), (2, 4));
}

#[test]
fn a_message_too_large_for_the_peer_becomes_a_gap() {
    let mut peer = up(PLENTY);
    peer.len = 503;
    peer.queues(1);
    assert_eq!(peer.sent(), [Sent::Frame(Frame::Gap(Gap { first: 1, last: 1, reason: 4 }))]);
    assert_eq!(peer.session.counters().too_large, 1);
    peer.len = 502;
    peer.queues(1);
    assert_eq!(peer.sent(), [Sent::Asking(2)]);
}

#[test]
fn best_effort_goes_behind_qos_and_takes_no_credit() {
    let mut peer = up(Credit { messages: 1, bytes: 10 });
    peer.best_effort = 2;
    peer.queues(2);
    assert_eq!(peer.sent(), [Sent::Asking(1), Sent::Best, Sent::Best]);
    peer.hears(ack(1, 1, Credit { messages: 1, bytes: 20 }));
    assert_eq!(peer.sent(), [Sent::Asking(2)]);
    let best = Frame::Best(Best { channel: Channel::default(), payload: &[0; 300] });
    for _ in 0..50 {
        peer.hears(best);
    }
    assert_eq!((peer.closed, peer.events().len(), peer.session.received()), (None, 51, 0));
}

#[test]
fn processed_is_told_after_durable_and_again_on_the_next_link() {
    let mut peer = up(PLENTY);
    peer.hears_all(&[data(1, false), data(2, false)]);
    peer.session.handle_processed(Ticket { epoch: 1, seq: 2 });
    peer.waits(ms(25));
    let [Sent::Frame(Frame::Ack(ack)), Sent::Frame(Frame::Processed(2))] = peer.sent()[..] else { panic!("order") };
    assert_eq!(ack.durable, 2);
    peer.reconnects();
    peer.hears(welcome(Outcome::Resumed, 1, cursors(0, 0, 0, 2), PLENTY));
    assert_eq!(peer.sent()[2..], [Sent::Frame(Frame::Processed(2))]);

    let mut peer = up(PLENTY);
    peer.queues(2);
    peer.hears(Frame::Processed(1));
    assert_eq!((peer.events(), peer.session.peer_processed()), (vec![Event::Processed], 1));
}

#[test]
fn an_idle_link_asks_and_notices_an_outage_after_three_intervals() {
    for (side, after) in [(Device, 1_000), (Server, 1_250)] {
        let mut peer = Peer::up(side, Transport::Lossless, PLENTY);
        peer.waits(ms(after - 1));
        assert_eq!(peer.sent(), []);
        peer.waits(ms(1));
        let [Sent::Frame(Frame::Ping(token))] = peer.sent()[..] else { panic!("one PING") };
        peer.waits(ms(30));
        peer.hears(Frame::Pong(token));
        assert_eq!(peer.link.round_trip().map(|rtt| rtt <= ms(30)), Some(true));
        peer.waits(ms(2_999));
        assert_eq!(peer.closed, None);
        peer.waits(ms(1));
        assert_eq!((peer.closed, close_code(&peer.sent())), (Some(CloseReason::Silence), Some(11)));
    }
}

#[test]
fn under_load_there_are_no_pings() {
    let mut peer = up(PLENTY);
    for seq in 1..=20 {
        peer.waits(ms(600));
        peer.hears(data(seq, true));
        assert_eq!(peer.sent().len(), 1, "an ACK");
    }
}

#[test]
fn a_peer_that_takes_no_bytes_is_given_up_and_gets_none() {
    let mut peer = up(PLENTY);
    peer.link.handle_write_blocked(peer.now, true);
    peer.best_effort = 1;
    peer.queues(3);
    for seq in 1..=4 {
        peer.waits(ms(700));
        peer.hears_all(&[data(seq, true), Frame::Ping(1)]);
    }
    assert_eq!((peer.sent(), peer.closed), (vec![], None));
    peer.waits(ms(200));
    assert_eq!((peer.sent(), peer.closed), (vec![], Some(CloseReason::NotReading)));
}

#[test]
fn when_bytes_have_gone_the_link_goes_on_and_its_time_begins_anew() {
    let mut peer = up(PLENTY);
    peer.link.handle_write_blocked(peer.now, true);
    peer.queues(2);
    peer.waits(ms(2_900));
    assert_eq!(peer.sent(), []);
    peer.hears(Frame::Pong(0));
    peer.link.handle_write_blocked(peer.now, false);
    peer.drains();
    assert_eq!(peer.sent(), [Sent::Frame(Frame::Ping(1)), Sent::Data(1), Sent::Asking(2)]);
    peer.waits(ms(500));
    assert_eq!(peer.closed, None, "its peer reads again");
}

#[test]
fn what_was_handled_is_told_along_with_what_is_sent() {
    let mut peer = up(PLENTY);
    peer.hears(data(1, true));
    peer.sent();
    let ticket = Ticket::stored(peer.session.epoch(), 1);
    peer.session.handle_processed(ticket);
    peer.drains();
    assert_eq!(peer.sent(), [], "there is time");
    peer.queues(1);
    assert_eq!(peer.sent(), [Sent::Frame(Frame::Processed(1)), Sent::Asking(1)]);
}

#[test]
fn who_is_closed_while_bytes_wait_is_told_nothing() {
    let mut peer = up(PLENTY);
    peer.link.handle_write_blocked(peer.now, true);
    peer.link.close(peer.now, CloseReason::Revoked);
    peer.drains();
    assert_eq!((peer.closed, peer.sent()), (Some(CloseReason::Revoked), vec![]));
}

#[test]
fn a_revoked_key_is_told() {
    let mut peer = up(PLENTY);
    peer.link.close(peer.now, CloseReason::Revoked);
    peer.drains();
    assert_eq!(close_code(&peer.sent()), Some(9));
}

#[test]
fn what_arrives_meanwhile_is_not_sent_again() {
    let mut peer = lossy();
    peer.queues(3);
    peer.sent();
    peer.link.handle_write_blocked(peer.now, true);
    peer.hears(missing(0, 0));
    // It was only late.
    peer.hears(ack(2, 2, PLENTY));
    peer.link.handle_write_blocked(peer.now, false);
    peer.drains();
    assert_eq!(peer.sent(), [Sent::Asking(3)]);
}

#[test]
fn a_gap_that_came_on_the_link_before_is_told_once() {
    let mut server = Peer::up(Server, Transport::Lossless, PLENTY);
    let mut old = server.reconnects();
    server.hears(hello(1));
    // The offer says that nothing was received. Then the old link brings it.
    std::mem::swap(&mut server.link, &mut old);
    server.hears(Frame::Gap(Gap { first: 1, last: 2, reason: 3 }));
    std::mem::swap(&mut server.link, &mut old);
    server.hears(start(1, Cursors { durable: 0, received: 0, acked: 0, last: 3 }, PLENTY));
    server.hears_all(&[Frame::Gap(Gap { first: 1, last: 2, reason: 3 }), data(3, true)]);
    assert_eq!(server.events(), [Event::Gap(2, 2), Event::Resumed, Event::Message(3)]);
    assert_eq!((server.session.counters().gaps, server.session.counters().duplicates), (2, 1));
}

#[test]
fn both_ends_close_in_order() {
    let mut peer = up(PLENTY);
    peer.link.close(peer.now, CloseReason::Done);
    peer.drains();
    assert_eq!((peer.closed, close_code(&peer.sent())), (Some(CloseReason::Done), Some(1)));
    let mut peer = up(PLENTY);
    peer.hears_all(&[data(1, true), Frame::Close(Close { code: 10, text: "busy" }), data(2, true)]);
    assert_eq!(peer.events(), [Event::Message(1), Event::Closing(10, "busy".into())]);
    assert_eq!((peer.closed, peer.sent()), (Some(CloseReason::Peer(10)), vec![]));
}

#[test]
fn over_a_lossy_transport_what_is_missing_is_sent_again_once() {
    let mut peer = lossy();
    peer.queues(4);
    assert_eq!(peer.sent().len(), 4);
    peer.hears(missing(0, 1));
    assert_eq!(peer.sent(), [Sent::Asking(2), Sent::Asking(3), Sent::Asking(4)]);
    peer.hears(missing(0, 1));
    assert_eq!(peer.sent(), []);
    // Lost again: the timer helps, more and more slowly.
    let times: Vec<_> = (0..6)
        .map(|_| {
            while peer.sent().is_empty() {
                peer.waits(ms(10));
                peer.hears(Frame::Pong(0));
            }
            peer.now
        })
        .collect();
    let pauses: Vec<_> = times.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    assert!(pauses.is_sorted() && pauses[4] > pauses[0] && pauses[4] <= ms(KEEPALIVE + 10), "{pauses:?}");
    peer.hears(ack(4, 4, PLENTY));
    peer.sent();
    peer.waits(ms(900));
    assert_eq!(peer.sent(), []);
}

#[test]
fn over_a_lossy_transport_a_hole_is_told_once_and_repeats_are_not_delivered() {
    let mut peer = lossy();
    peer.hears_all(&[data(1, false), data(3, false), data(4, false)]);
    let sent = peer.sent();
    let [Sent::Frame(Frame::Ack(ack))] = sent[..] else { panic!("one ACK: {sent:?}") };
    assert!(ack.missing && ack.received == 1);
    peer.hears(data(5, false));
    assert_eq!(peer.sent(), []);
    peer.hears_all(&[data(1, false), data(2, false), data(3, false)]);
    assert_eq!(peer.events(), [Event::Message(1), Event::Message(2), Event::Message(3)]);
    assert_eq!((peer.acks()[0].0, peer.session.counters().duplicates), (3, 1));
}

#[test]
fn over_a_lossy_transport_a_lost_acknowledgement_is_asked_for() {
    let mut peer = lossy();
    peer.queues(1);
    peer.hears(ack(0, 1, PLENTY));
    peer.sent();
    peer.waits(ms(600));
    let sent = peer.sent();
    assert!(!sent.is_empty() && sent.iter().all(|sent| matches!(sent, Sent::Frame(Frame::Ping(_)))), "{sent:?}");

    let mut peer = lossy();
    peer.hears(data(1, true));
    peer.sent();
    peer.hears(Frame::Ping(7));
    assert!(matches!(peer.sent()[..], [Sent::Frame(Frame::Ack(_)), Sent::Frame(Frame::Pong(7))]));
}
