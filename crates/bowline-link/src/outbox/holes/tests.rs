//! Policies, holes and what is kept of them.

use std::task::{Poll, Waker};

use super::*;
use crate::outbox::Item;
use crate::policy::Options;

fn outbox() -> Outbox {
    Outbox::new(4, 1024, 8)
}

fn options(policy: Policy) -> Options {
    Options { policy, ..Options::default() }
}

/// Queues and stores a message; what went out up to `sent` is not touched.
fn push(outbox: &mut Outbox, text: &str, policy: Policy, sent: u64) -> Ticket {
    let ticket = outbox.push_qos(text.into(), options(policy), Instant::ZERO, sent);
    outbox.handle_offered(outbox.last());
    outbox.handle_stored(outbox.last());
    ticket
}

/// What stands under the seqs up to the last one: texts, or where a hole ends.
fn items(outbox: &Outbox) -> Vec<String> {
    let mut items = Vec::new();
    let mut seq = outbox.acked() + 1;
    while let Some(item) = outbox.item(seq) {
        match item {
            Item::Message(message) => items.push(message.text().unwrap().to_owned()),
            Item::Dropped { last, reason } => {
                items.push(format!("{seq}-{last}:{reason}"));
                seq = last;
            }
        }
        seq += 1;
    }
    assert_eq!(seq, outbox.last() + 1, "every seq stands for something");
    items
}

#[test]
fn neighbouring_holes_of_one_reason_become_one_and_others_stay_apart() {
    let mut outbox = outbox();
    for text in ["1", "2", "3"] {
        push(&mut outbox, text, Policy::KeepLatest, 0);
    }
    push(&mut outbox, "4", Policy::Block, 0);
    push(&mut outbox, "5", Policy::KeepLatest, 0);
    assert_eq!(items(&outbox), ["1-3:2", "4", "5"]);
    outbox.drop_seq(4, DropReason::TooLarge, SendError::Closed);
    assert_eq!(items(&outbox), ["1-3:2", "4-4:4", "5"]);
    assert_eq!(outbox.accepted(), 1);
}

#[test]
fn a_stream_of_which_the_latest_counts_takes_no_memory() {
    let mut outbox = outbox();
    for number in 0..100_000 {
        let ticket = outbox.push_qos(number.to_string().into(), options(Policy::KeepLatest), Instant::ZERO, 0);
        outbox.abandon(ticket);
    }
    // Nothing was stored: the store does not work.
    assert!(outbox.entries.len() <= 2 && outbox.taken.is_empty() && outbox.failed.is_empty());
    assert_eq!((outbox.take_dropped(), outbox.last(), outbox.accepted()), (99_999, 100_000, 1));
}

#[test]
fn different_streams_leave_holes_in_bounded_number() {
    let mut outbox = outbox();
    for number in 0..10_000_u32 {
        let message = Message::with_header(&[(number % 3) as u8], b"1");
        let ttl = number.is_multiple_of(2).then_some(std::time::Duration::ZERO);
        let options = Options { ttl, ..options(Policy::KeepLatest) };
        let ticket = outbox.push_qos(message, options, Instant::ZERO, 0);
        outbox.abandon(ticket);
        outbox.expire(Instant::ZERO, 0);
    }
    assert!(outbox.entries.len() <= 4 * 4 + 1, "{}", outbox.entries.len());
}

#[test]
fn what_was_sent_is_dropped_by_no_policy() {
    let mut outbox = outbox();
    let ttl = Some(std::time::Duration::ZERO);
    for policy in [Policy::KeepLatest, Policy::DropOldest] {
        outbox.push_qos("1".into(), Options { ttl, ..options(policy) }, Instant::ZERO, 0);
    }
    let ticket = push(&mut outbox, "2", Policy::KeepLatest, 2);
    outbox.expire(Instant::ZERO, 2);
    assert_eq!(items(&outbox), ["1", "1", "2"]);
    outbox.expire_ticket(0, Instant::ZERO, 2);
    push(&mut outbox, "3", Policy::KeepLatest, 2);
    assert_eq!(items(&outbox), ["1", "1", "3-3:2", "3"]);
    outbox.take_taken();
    outbox.handle_taken();
    let dropped = outbox.poll(ticket, Waker::noop());
    assert_eq!(dropped, Poll::Ready(Err(SendError::Dropped(DropReason::Replaced))));
}

/// Found by the simulator: who was told too soon was given the message all the same after a crash.
#[test]
fn a_drop_is_told_when_the_store_has_the_message_no_more() {
    let mut outbox = outbox();
    let ticket = push(&mut outbox, "1", Policy::KeepLatest, 0);
    outbox.handle_offered(1);
    push(&mut outbox, "2", Policy::KeepLatest, 0);
    assert_eq!(outbox.poll(ticket, Waker::noop()), Poll::Pending);
    outbox.handle_taken();
    assert_eq!(outbox.poll(ticket, Waker::noop()), Poll::Pending, "its removal is not even on its way");
    assert_eq!(outbox.take_taken(), [1]);
    assert!(!outbox.is_accepted(ticket) && outbox.poll(ticket, Waker::noop()).is_pending());
    outbox.handle_taken();
    let dropped = outbox.poll(ticket, Waker::noop());
    assert_eq!(dropped, Poll::Ready(Err(SendError::Dropped(DropReason::Replaced))));
}

#[test]
fn the_oldest_of_the_stream_goes_for_a_newer_one_and_without_one_it_waits() {
    let mut outbox = outbox();
    push(&mut outbox, "block", Policy::Block, 0);
    for text in ["1", "2", "3", "4"] {
        push(&mut outbox, text, Policy::DropOldest, 0);
    }
    assert_eq!(items(&outbox), ["block", "2-2:1", "2", "3", "4"]);
    let waiting = push(&mut outbox, "other", Policy::Block, 0);
    assert!(!outbox.is_accepted(waiting));
    outbox.handle_acked(1);
    outbox.handle_stored(outbox.last());
    assert!(outbox.is_accepted(waiting));
}

#[test]
fn an_acknowledgement_may_end_inside_a_hole() {
    let mut outbox = outbox();
    for text in ["1", "2", "3", "4"] {
        push(&mut outbox, text, Policy::KeepLatest, 0);
    }
    outbox.handle_acked(2);
    assert_eq!(items(&outbox), ["3-3:2", "4"]);
    outbox.handle_acked(4);
    assert!(outbox.is_empty() && outbox.entries.is_empty());
}

#[test]
fn holes_come_back_with_what_stands_between_them() {
    let mut outbox = outbox();
    outbox.start_behind(10);
    outbox.restore(13, "13".into(), Policy::Block, None);
    outbox.restore(14, "14".into(), Policy::Block, None);
    outbox.restore_holes(16);
    assert_eq!(items(&outbox), ["11-12:0", "13", "14", "15-16:0"]);
    push(&mut outbox, "17", Policy::Block, 0);
    assert_eq!(outbox.last(), 17, "no seq is used twice");
    assert!(outbox.head().is_none(), "a line dialect cannot tell of the hole");
    outbox.skip_holes();
    assert_eq!(outbox.head().and_then(Message::text), Some("13"));
}

#[test]
fn a_message_dropped_on_its_way_to_the_store_is_taken_from_it() {
    let mut outbox = outbox();
    outbox.push_qos("1".into(), options(Policy::KeepLatest), Instant::ZERO, 0);
    outbox.handle_offered(1);
    outbox.push_qos("2".into(), options(Policy::KeepLatest), Instant::ZERO, 0);
    assert_eq!(outbox.take_taken(), [1]);
    outbox.push_qos("3".into(), options(Policy::KeepLatest), Instant::ZERO, 0);
    assert_eq!(outbox.take_taken(), [0; 0], "the store has not seen 2");
}

#[test]
fn a_receipt_nobody_waits_for_any_more_is_not_kept() {
    let mut outbox = outbox();
    for _ in 0..100 {
        let options = Options { receipt: Receipt::Processed, ..Options::default() };
        let ticket = outbox.push_qos("1".into(), options, Instant::ZERO, 0);
        outbox.handle_acked(outbox.last());
        assert!(outbox.poll(ticket, Waker::noop()).is_pending());
        outbox.abandon(ticket);
    }
    assert!(outbox.handled.is_empty());
}
