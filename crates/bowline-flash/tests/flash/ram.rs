//! The outbox in memory does what the one on flash does.

use bowline_flash::sim::Nor;
use bowline_flash::{Clock, Expiry, Message, Outbox, Policy, PushError, RamOutbox, Slot};
use bowline_proto::native::wire::Channel;

use crate::world::{Rng, run};

type Flash = Nor<4, 4, 1024>;

/// Everything that can be asked, of both.
fn compares(flash: &mut Outbox<'_, &mut Flash>, ram: &RamOutbox<'_>, seed: u64) {
    let numbers = |epoch, acked, last, received, waiting| (epoch, acked, last, received, waiting);
    assert_eq!(
        numbers(ram.epoch(), ram.acked(), ram.last(), ram.received(), ram.waiting()),
        numbers(flash.epoch(), flash.acked(), flash.last(), flash.received(), flash.waiting()),
        "seed {seed}"
    );
    let (mut one, mut two) = ([0; 32], [0; 32]);
    for seq in 0..=ram.last() + 1 {
        assert_eq!(ram.item(seq), flash.item(seq), "seq {seq}, seed {seed}");
        let (ram, flash) = (ram.read(seq, &mut one), run(flash.read(seq, &mut two)));
        assert_eq!(ram.ok(), flash.ok(), "seq {seq}, seed {seed}");
    }
}

#[test]
fn both_outboxes_agree_whatever_is_done() {
    for seed in 0..300 {
        let mut rng = Rng(seed);
        let (mut nor, mut slots) = (Flash::new(16), [Slot::EMPTY; 6]);
        let (mut flash, _) = run(Outbox::open(&mut nor, &mut slots, 32, Clock::default())).unwrap();
        let (mut slots, mut bytes) = ([Slot::EMPTY; 6], [0; 6 * 32]);
        let mut ram = RamOutbox::new(&mut slots, &mut bytes, 32);
        let mut clock = Clock { uptime: 0, wall: Some(100) };
        let mut sent = 0;
        for step in 0..120_u32 {
            match rng.below(10) {
                0..=4 => {
                    let policy = [Policy::Block, Policy::DropOldest, Policy::KeepLatest][rng.below(3) as usize];
                    let seconds = rng.below(8) as u32;
                    let expiry = [Expiry::Never, Expiry::After(seconds), Expiry::At(100 + clock.uptime + seconds)]
                        [rng.below(3) as usize];
                    let channel = Channel { app: rng.below(2) as u8, instance: 1, tag: 2 };
                    let payload = vec![step as u8; rng.below(34) as usize];
                    let message = Message { channel, policy, expiry, payload: &payload };
                    let (ram, flash) = (ram.push(&message, sent, clock), run(flash.push(&message, sent, clock)));
                    match (ram, flash) {
                        (Ok(ram), Ok(flash)) => assert_eq!(ram, flash, "seed {seed}"),
                        (Err(PushError::Full), Err(PushError::Full)) => {}
                        (Err(PushError::TooLarge { len: 33, limit: 32 }), Err(PushError::TooLarge { .. })) => {}
                        (ram, flash) => panic!("{ram:?}, on flash {flash:?}, seed {seed}"),
                    }
                }
                5 => sent = (sent + rng.below(3)).min(ram.last()),
                6 => {
                    let seq = ram.acked() + rng.below(sent.saturating_sub(ram.acked()) + 1);
                    ram.acknowledge(seq);
                    run(flash.acknowledge(seq)).unwrap();
                }
                7 => {
                    let seq = rng.below(ram.last() + 2);
                    let reason = rng.below(6) as u8;
                    assert_eq!(ram.remove(seq, reason), run(flash.remove(seq, reason)).unwrap(), "seed {seed}");
                }
                8 => {
                    clock.uptime += 1;
                    clock.wall = Some(100 + clock.uptime);
                    assert_eq!(ram.expire(sent, clock), run(flash.expire(sent, clock)).unwrap(), "seed {seed}");
                }
                _ if rng.below(4) == 0 => {
                    let epoch = ram.epoch() + 1;
                    ram.begin_epoch(epoch);
                    run(flash.begin_epoch(epoch)).unwrap();
                    sent = 0;
                }
                _ => {
                    let seq = ram.received() + rng.below(3);
                    ram.set_received(seq);
                    run(flash.set_received(seq)).unwrap();
                }
            }
            compares(&mut flash, &ram, seed);
        }
    }
}
