//! The model sees what it is there to see.

use super::{How, Keeps, Stream};

fn stream() -> Stream {
    Stream::new(Keeps::All, Keeps::All, false)
}

/// Sends and accepts so many.
fn sends(stream: &mut Stream, count: u64) {
    for _ in 0..count {
        let number = stream.sends(How::Qos);
        stream.accepted(number);
    }
}

fn comes(stream: &mut Stream, number: u64, seq: u64) -> Result<(), String> {
    stream.delivers(number, Some(seq), 0)
}

#[test]
fn all_in_order_is_good_and_what_has_not_come_is_missing() {
    let mut stream = stream();
    sends(&mut stream, 2);
    comes(&mut stream, 0, 1).unwrap();
    assert!(stream.missing().unwrap().starts_with("1 of 2 is missing"));
    comes(&mut stream, 1, 2).unwrap();
    assert_eq!((stream.missing(), stream.counts(), stream.waiting()), (None, (2, 2), 0));
}

#[test]
fn twice_is_seen_under_another_seq_and_under_the_same() {
    let mut stream = stream();
    sends(&mut stream, 3);
    comes(&mut stream, 0, 1).unwrap();
    comes(&mut stream, 1, 2).unwrap();
    assert!(comes(&mut stream, 0, 3).unwrap_err().contains("twice"));
    let mut stream = super::Stream::new(Keeps::All, Keeps::All, false);
    sends(&mut stream, 1);
    comes(&mut stream, 0, 3).unwrap();
    assert!(comes(&mut stream, 0, 3).unwrap_err().contains("twice"));
}

#[test]
fn after_a_crash_or_given_back_it_may_come_again_under_its_seq_only() {
    let mut stream = stream();
    sends(&mut stream, 2);
    comes(&mut stream, 0, 1).unwrap();
    stream.given_back(1);
    comes(&mut stream, 0, 1).unwrap();
    stream.receiver_dies();
    comes(&mut stream, 0, 1).unwrap();
    stream.receiver_dies();
    assert!(comes(&mut stream, 0, 2).unwrap_err().contains("twice"));
    assert!(comes(&mut stream, 1, 1).unwrap_err().contains("carried"));
}

#[test]
fn out_of_order_is_seen() {
    let mut stream = stream();
    sends(&mut stream, 2);
    comes(&mut stream, 1, 1).unwrap();
    assert!(comes(&mut stream, 0, 2).unwrap_err().contains("behind"));
}

#[test]
fn a_jump_of_seqs_has_to_be_told() {
    let mut stream = stream();
    sends(&mut stream, 2);
    comes(&mut stream, 0, 1).unwrap();
    assert!(comes(&mut stream, 1, 3).unwrap_err().contains("1 were dropped"));
    let mut stream = super::Stream::new(Keeps::All, Keeps::All, false);
    sends(&mut stream, 2);
    comes(&mut stream, 0, 1).unwrap();
    stream.delivers(1, Some(3), 1).unwrap();
}

#[test]
fn what_was_never_sent_or_was_dropped_does_not_come() {
    let mut stream = stream();
    assert!(comes(&mut stream, 0, 1).unwrap_err().contains("never sent"));
    let number = stream.sends(How::Droppable);
    stream.dropped(number).unwrap();
    assert!(comes(&mut stream, number, 1).unwrap_err().contains("dropped"));
}

#[test]
fn an_end_without_a_memory_loses_what_only_it_had() {
    let mut volatile = Stream::new(Keeps::Nothing, Keeps::All, false);
    sends(&mut volatile, 2);
    volatile.acked(1).unwrap();
    volatile.sender_dies();
    assert!(volatile.missing().unwrap().starts_with("1 of 2"), "its receiver has it");
    let mut volatile = Stream::new(Keeps::All, Keeps::Nothing, false);
    sends(&mut volatile, 1);
    volatile.acked(0).unwrap();
    volatile.receiver_dies();
    assert_eq!(volatile.missing(), None, "it was acknowledged, and gone with the memory");
}

#[test]
fn a_receiver_without_a_memory_gets_again_only_what_was_not_acknowledged() {
    let mut volatile = Stream::new(Keeps::All, Keeps::Nothing, false);
    sends(&mut volatile, 2);
    comes(&mut volatile, 0, 1).unwrap();
    comes(&mut volatile, 1, 2).unwrap();
    volatile.acked(0).unwrap();
    volatile.receiver_dies();
    comes(&mut volatile, 1, 1).unwrap();
    assert!(comes(&mut volatile, 0, 2).unwrap_err().contains("acknowledged"));
}
