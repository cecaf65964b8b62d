//! What a full outbox does, and what becomes of the gaps.

use bowline_flash::sim::Nor;
use bowline_flash::{Clock, Expiry, Message, Outbox, Policy, PushError, Slot};
use bowline_proto::native::Item;
use bowline_proto::native::wire::Channel;

use crate::world::run;

type Flash = Nor<4, 4, 1024>;
const NOW: Clock = Clock { uptime: 0, wall: None };

fn message(app: u8, policy: Policy, payload: &[u8]) -> Message<'_> {
    Message { channel: Channel { app, instance: 1, tag: 2 }, policy, expiry: Expiry::Never, payload }
}

fn open<'a>(nor: &'a mut Flash, slots: &'a mut [Slot]) -> Outbox<'a, &'a mut Flash> {
    let (outbox, report) = run(Outbox::open(nor, slots, 32, NOW)).unwrap();
    assert_eq!(report.lost, 0);
    outbox
}

fn seqs(outbox: &Outbox<'_, &mut Flash>) -> Vec<u64> {
    let is_there = |seq: &u64| matches!(outbox.item(*seq), Some(Item::Message { .. }));
    (outbox.acked() + 1..=outbox.last()).filter(is_there).collect()
}

#[test]
fn a_full_outbox_refuses_and_takes_again_when_there_is_room() {
    let (mut nor, mut slots) = (Flash::new(8), [Slot::EMPTY; 3]);
    let mut outbox = open(&mut nor, &mut slots);
    for _ in 0..3 {
        run(outbox.push(&message(1, Policy::Block, b"x"), 0, NOW)).unwrap();
    }
    assert_eq!(run(outbox.push(&message(1, Policy::Block, b"y"), 0, NOW)), Err(PushError::Full));
    assert_eq!(outbox.last(), 3, "a refused message takes no seq");
    run(outbox.acknowledge(1)).unwrap();
    assert_eq!(run(outbox.push(&message(1, Policy::Block, b"y"), 0, NOW)), Ok(4));
}

#[test]
fn bytes_fill_it_too_and_all_of_its_room_can_be_used() {
    let (mut nor, mut slots) = (Flash::new(8), vec![Slot::EMPTY; 1_000]);
    let mut outbox = open(&mut nor, &mut slots);
    let mut count = 0;
    while run(outbox.push(&message(1, Policy::Block, &[7; 32]), 0, NOW)).is_ok() {
        count += 1;
    }
    assert!(count >= outbox.room() / Outbox::<&mut Flash>::size_of(32), "{count}");
    // Full, it still acknowledges, and goes on for ever.
    for round in 0..2_000 {
        run(outbox.acknowledge(round + 1)).unwrap();
        run(outbox.push(&message(1, Policy::Block, &[8; 32]), 0, NOW)).unwrap();
    }
}

#[test]
fn the_oldest_of_the_stream_goes_and_no_other() {
    let (mut nor, mut slots) = (Flash::new(8), [Slot::EMPTY; 4]);
    let mut outbox = open(&mut nor, &mut slots);
    for (app, policy) in [(1, Policy::Block), (2, Policy::DropOldest), (2, Policy::DropOldest), (1, Policy::Block)] {
        run(outbox.push(&message(app, policy, b"x"), 0, NOW)).unwrap();
    }
    run(outbox.push(&message(2, Policy::DropOldest, b"y"), 0, NOW)).unwrap();
    assert_eq!(seqs(&outbox), [1, 3, 4, 5]);
    assert_eq!(outbox.item(2), Some(Item::Dropped { last: 2, reason: 1 }));
    // What was sent stays.
    assert_eq!(run(outbox.push(&message(2, Policy::DropOldest, b"z"), 5, NOW)), Err(PushError::Full));
    assert_eq!(run(outbox.push(&message(3, Policy::DropOldest, b"z"), 0, NOW)), Err(PushError::Full));
    assert_eq!(seqs(&outbox), [1, 3, 4, 5]);
}

#[test]
fn only_the_latest_is_kept_while_the_server_is_away_for_long() {
    let (mut nor, mut slots) = (Flash::new(4), [Slot::EMPTY; 3]);
    {
        let mut outbox = open(&mut nor, &mut slots);
        run(outbox.push(&message(9, Policy::Block, b"stays"), 0, NOW)).unwrap();
        for round in 0_u32..5_000 {
            run(outbox.push(&message(1, Policy::KeepLatest, &round.to_le_bytes()), 0, NOW)).unwrap();
        }
        assert_eq!(seqs(&outbox), [1, 5_001]);
        assert_eq!(outbox.item(2), Some(Item::Dropped { last: 5_000, reason: 2 }));
    }
    let mut outbox = open(&mut nor, &mut slots);
    assert_eq!(seqs(&outbox), [1, 5_001]);
    let mut buffer = [0; 32];
    assert_eq!(run(outbox.read(1, &mut buffer)).unwrap().payload, b"stays");
    assert_eq!(run(outbox.read(5_001, &mut buffer)).unwrap().payload, 4_999_u32.to_le_bytes());
    // The reasons are as old as the pages they stand in.
    assert!(matches!(outbox.item(2), Some(Item::Dropped { last: 5_000, reason: 0 | 2 })));
}

#[test]
fn time_runs_out_by_both_clocks() {
    let (mut nor, mut slots) = (Flash::new(8), [Slot::EMPTY; 8]);
    let clock = |uptime, wall| Clock { uptime, wall };
    {
        let mut outbox = open(&mut nor, &mut slots);
        for expiry in [Expiry::At(1_000), Expiry::After(10), Expiry::Never, Expiry::After(50)] {
            let message = Message { expiry, ..message(1, Policy::Block, b"x") };
            run(outbox.push(&message, 0, clock(5, None))).unwrap();
        }
        assert_eq!(run(outbox.expire(0, clock(14, None))), Ok(0));
        assert_eq!(run(outbox.expire(2, clock(15, None))), Ok(0), "what was sent stays");
        assert_eq!(run(outbox.expire(0, clock(15, Some(999)))), Ok(1));
        assert_eq!(outbox.item(2), Some(Item::Dropped { last: 2, reason: 3 }));
    }
    // After a power cut a time to live begins anew, and the time of day goes on.
    let mut outbox = open(&mut nor, &mut slots);
    assert_eq!(outbox.item(2), Some(Item::Dropped { last: 2, reason: 3 }));
    assert_eq!(run(outbox.expire(0, clock(49, None))), Ok(0));
    assert_eq!(run(outbox.expire(0, clock(50, Some(1_000)))), Ok(2));
    assert_eq!(seqs(&outbox), [3]);
}

#[test]
fn an_epoch_begins_at_one_and_keeps_what_waits() {
    let (mut nor, mut slots) = (Flash::new(8), [Slot::EMPTY; 8]);
    {
        let mut outbox = open(&mut nor, &mut slots);
        for payload in [b"a", b"b", b"c", b"d"] {
            run(outbox.push(&message(1, Policy::Block, payload), 0, NOW)).unwrap();
        }
        run(outbox.set_received(77)).unwrap();
        run(outbox.remove(3, 5)).unwrap();
        run(outbox.acknowledge(1)).unwrap();
        run(outbox.begin_epoch(12)).unwrap();
    }
    let mut outbox = open(&mut nor, &mut slots);
    assert_eq!((outbox.epoch(), outbox.acked(), outbox.last(), outbox.received()), (12, 0, 3, 0));
    assert_eq!(seqs(&outbox), [1, 3]);
    assert_eq!(outbox.item(2), Some(Item::Dropped { last: 2, reason: 5 }));
    let mut buffer = [0; 32];
    assert_eq!(run(outbox.read(3, &mut buffer)).unwrap().payload, b"d");
}

#[test]
fn a_message_that_never_fits_is_refused() {
    let (mut nor, mut slots) = (Flash::new(8), [Slot::EMPTY; 8]);
    let mut outbox = open(&mut nor, &mut slots);
    assert_eq!(outbox.max_payload(), 32);
    let refused = run(outbox.push(&message(1, Policy::Block, &[0; 33]), 0, NOW));
    assert_eq!(refused, Err(PushError::TooLarge { len: 33, limit: 32 }));
}
