//! Many lives one after the other, each of which ends in a power cut, a failure or a dropped future.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bowline_flash::sim::Nor;
use bowline_flash::{Clock, Expiry, Message, Outbox, Policy, Slot};
use bowline_proto::native::Item;
use bowline_proto::native::wire::Channel;

use crate::cuts::{TEARS, seeds};
use crate::world::{Rng, World, run};

/// A board whose power is cut again and again, mostly in the middle of its start.
fn lives<const READ: usize, const WRITE: usize, const PAGE: usize>(pages: usize, slots: usize, seed: u64) -> u64 {
    let mut world = World::<READ, WRITE, PAGE>::new(pages, slots, seed);
    world.nor.tears(TEARS[(seed % 4) as usize]);
    for _ in 0..200 {
        let reach = [40, 400, 4 * PAGE as u64][world.rng.below(3) as usize];
        let cut = world.rng.below(reach);
        world.nor.cuts_after(cut);
        world.lives(40);
        world.nor.power_on();
    }
    world.ends();
    200
}

#[test]
fn many_lives_with_small_pages() {
    seeds("many lives, words of 4", 40_000, |seed| lives::<4, 4, 512>(4, 6, seed));
}

#[test]
fn many_lives_with_long_words() {
    seeds("many lives, words of 16", 20_000, |seed| lives::<1, 16, 1024>(7, 20, seed));
}

/// Single writes and erases fail, and some pages do not work at all any more.
#[test]
fn failures_of_the_flash_lose_nothing() {
    seeds("failures", 200, |seed| {
        let mut world = World::<4, 4, 512>::new(8, 10, seed);
        world.nor.tears(TEARS[(seed % 3) as usize]);
        if seed % 2 == 0 {
            let page = world.rng.below(8) as usize;
            world.nor.breaks(page);
        }
        for _ in 0..40 {
            let failure = world.rng.below(40);
            world.nor.fails_after(failure);
            world.lives(40);
        }
        world.nor.fails_after(u64::MAX);
        world.ends();
        1
    });
}

/// Polls so many times, then drops the future.
fn run_for<T>(polls: u64, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..polls {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
    }
    None
}

/// A push that was dropped at whatever await leaves an outbox that goes on: what is accepted behind it is
/// there, in order, and nothing that it had begun to replace is gone.
#[test]
fn futures_dropped_anywhere_corrupt_nothing() {
    let mut dropped = 0;
    seeds("dropped futures", 300, |seed| {
        let mut rng = Rng(seed);
        let mut nor = Nor::<4, 4, 512>::new(5);
        nor.yields(true);
        // Seqs and payloads.
        let mut held: Vec<(u64, Vec<u8>)> = Vec::new();
        for life in 0..8 {
            let mut slots = [Slot::EMPTY; 12];
            let (mut outbox, report) = run(Outbox::open(&mut nor, &mut slots, 24, Clock::default())).unwrap();
            assert_eq!(report.lost, 0);
            assert_eq!(all(&mut outbox), held, "life {life}");
            for turn in 0..20 {
                let payload = [life, turn, rng.below(2) as u8, 7].repeat(1 + rng.below(6) as usize);
                let policy = if payload[2] == 0 { Policy::KeepLatest } else { Policy::Block };
                let channel = Channel { app: payload[2], instance: 0, tag: 0 };
                let message = Message { channel, policy, expiry: Expiry::Never, payload: &payload };
                match run_for(1 + rng.below(80), outbox.push(&message, 0, Clock::default())) {
                    Some(pushed) => {
                        held.retain(|(_, old)| policy == Policy::Block || old[2] != payload[2]);
                        held.push((pushed.unwrap(), payload));
                    }
                    None => dropped += 1,
                }
                assert_eq!(all(&mut outbox), held, "life {life}, turn {turn}");
                if held.len() > 8 {
                    let last = outbox.last();
                    // Dropped, or not: done by the next.
                    run_for(1 + rng.below(20), outbox.acknowledge(last));
                    run(outbox.acknowledge(last)).unwrap();
                    held.clear();
                }
            }
            // Behind a write that has succeeded, what was dropped before is nowhere.
            run(outbox.set_received(u64::from(life) + 1)).unwrap();
        }
        1
    });
    assert!(dropped > 10_000, "{dropped} dropped");
}

fn all(outbox: &mut Outbox<'_, &mut Nor<4, 4, 512>>) -> Vec<(u64, Vec<u8>)> {
    let mut all = Vec::new();
    for seq in outbox.acked() + 1..=outbox.last() {
        if let Some(Item::Message { .. }) = outbox.item(seq) {
            let mut buffer = [0; 24];
            all.push((seq, run(outbox.read(seq, &mut buffer)).unwrap().payload.to_vec()));
        }
    }
    all
}

/// An epoch begins when it is stored, and not before: a future that was dropped at whatever await has begun none, or the
/// next start finds it.
#[test]
fn an_epoch_that_was_dropped_half_way_has_not_begun() {
    for polls in 1.. {
        let mut nor = Nor::<4, 4, 512>::new(5);
        nor.yields(true);
        let mut slots = [Slot::EMPTY; 12];
        let (mut outbox, _) = run(Outbox::open(&mut nor, &mut slots, 24, Clock::default())).unwrap();
        run(outbox.begin_epoch(1)).unwrap();
        run(outbox.set_received(7)).unwrap();
        let is_done = run_for(polls, outbox.begin_epoch(2)).is_some();
        let expected = if is_done { (2, 0) } else { (1, 7) };
        assert_eq!((outbox.epoch(), outbox.received()), expected, "after {polls} polls");
        // Goes on where memory says it is.
        run(outbox.set_received(8)).unwrap();
        let mut slots = [Slot::EMPTY; 12];
        let (outbox, _) = run(Outbox::open(&mut nor, &mut slots, 24, Clock::default())).unwrap();
        assert_eq!((outbox.epoch(), outbox.received()), (expected.0, 8), "after {polls} polls, at the next start");
        if is_done {
            assert!(polls > 2, "it waits for the flash");
            return;
        }
    }
}
