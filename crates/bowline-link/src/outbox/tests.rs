use std::task::{Poll, Waker};

use super::*;

fn outbox() -> Outbox {
    Outbox::new(2, 1024, 8)
}

fn push(outbox: &mut Outbox, text: &str) -> Ticket {
    let ticket = outbox.push_qos(text.into(), Options::default(), Instant::ZERO, 0);
    outbox.handle_stored(outbox.last());
    ticket
}

fn is_done(outbox: &mut Outbox, ticket: Ticket) -> bool {
    outbox.poll(ticket, Waker::noop()).is_ready()
}

#[test]
fn a_best_effort_message_is_done_when_its_own_bytes_are_written() {
    let mut outbox = outbox();
    let [first, second] = ["1", "2"].map(|text| outbox.push_best_effort(text.into(), false).unwrap());
    outbox.take_best_effort(|_| 10);
    outbox.take_best_effort(|_| 20);
    outbox.written(9, false);
    assert!(!is_done(&mut outbox, first));
    outbox.written(10, false);
    assert!(is_done(&mut outbox, first) && !is_done(&mut outbox, second));
    outbox.link_ended(DownReason::PeerClosed, false);
    assert_eq!(outbox.poll(second, Waker::noop()), Poll::Ready(Err(SendError::LinkEnded(DownReason::PeerClosed))));
}

#[test]
fn what_waits_behind_a_message_that_is_given_up_takes_its_place() {
    let mut outbox = Outbox::new(8, 10, 8);
    let [held, large, small] = ["12345678", "too large for now", "9"].map(|text| push(&mut outbox, text));
    assert!(outbox.is_accepted(held) && !outbox.is_accepted(small));
    assert!(outbox.abandon(large));
    outbox.handle_stored(outbox.last());
    assert!(outbox.is_accepted(small));
    assert!(!outbox.abandon(small), "it stays");
}

#[test]
fn what_waits_for_room_leaves_with_its_caller_and_what_is_accepted_stays() {
    let mut outbox = outbox();
    let tickets = ["1", "2", "3", "4"].map(|text| push(&mut outbox, text));
    assert_eq!(tickets.map(|ticket| outbox.is_accepted(ticket)), [true, true, false, false]);
    for ticket in tickets {
        if ticket != tickets[3] {
            outbox.abandon(ticket);
        }
    }
    let mut sent = Vec::new();
    while let Some(message) = outbox.head() {
        sent.push(message.text().unwrap().to_owned());
        outbox.delivered();
        outbox.handle_stored(outbox.last());
    }
    assert_eq!(sent, ["1", "2", "4"], "3 was taken back, 4 moved up");
    assert!(is_done(&mut outbox, tickets[3]));
}

#[test]
fn what_a_close_gives_up_is_counted() {
    let mut outbox = outbox();
    let tickets = ["1", "2", "3"].map(|text| push(&mut outbox, text));
    outbox.delivered();
    outbox.close(false);
    assert_eq!(outbox.lost, 2, "one was delivered, the last one had moved up");
    assert_eq!(outbox.poll(tickets[1], Waker::noop()), Poll::Ready(Err(SendError::Closed)));
}
