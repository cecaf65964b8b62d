//! The format stays as it is: an image that was written once is read for ever.

use std::path::Path;

use bowline_flash::sim::Nor;
use bowline_flash::{Clock, Expiry, Message, Outbox, Policy, Slot};
use bowline_proto::native::Item;
use bowline_proto::native::wire::Channel;

use crate::world::run;

type Flash = Nor<1, 4, 512>;

/// Writes every kind of record, over several pages.
fn written() -> Vec<u8> {
    let mut nor = Flash::new(8);
    let mut slots = [Slot::EMPTY; 16];
    let (mut outbox, _) = run(Outbox::open(&mut nor, &mut slots, 24, Clock::default())).unwrap();
    run(outbox.begin_epoch(7)).unwrap();
    for id in 1..=18_u8 {
        let message = Message {
            channel: Channel { app: id, instance: id % 3, tag: 9 },
            policy: [Policy::Block, Policy::DropOldest, Policy::KeepLatest][usize::from(id % 3)],
            expiry: [Expiry::Never, Expiry::At(5_000), Expiry::After(60)][usize::from(id / 3 % 3)],
            payload: &[id; 24][..usize::from(id)],
        };
        run(outbox.push(&message, 0, Clock::default())).unwrap();
        if id == 9 {
            run(outbox.acknowledge(6)).unwrap();
        }
    }
    // It takes the place of seq 17.
    let channel = Channel { app: 17, instance: 2, tag: 9 };
    let latest = Message { channel, policy: Policy::KeepLatest, expiry: Expiry::Never, payload: b"latest" };
    run(outbox.push(&latest, 0, Clock::default())).unwrap();
    run(outbox.remove(12, 5)).unwrap();
    run(outbox.set_received(33)).unwrap();
    nor.image().to_vec()
}

#[test]
fn the_format_is_that_of_the_golden_image() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/flash/golden-v1.bin");
    if std::env::var_os("BOWLINE_WRITE_GOLDEN").is_some() {
        std::fs::write(&file, written()).unwrap();
    }
    let image = std::fs::read(&file).unwrap();
    assert_eq!(written(), image, "what is written is what was always written");

    let mut nor = Flash::of_image(&image);
    let mut slots = [Slot::EMPTY; 16];
    let (mut outbox, report) = run(Outbox::open(&mut nor, &mut slots, 24, Clock::default())).unwrap();
    assert_eq!((report.fresh, report.lost, report.waiting), (false, 0, 11));
    assert_eq!((outbox.epoch(), outbox.acked(), outbox.last(), outbox.received()), (7, 6, 19, 33));
    for seq in 7..=18_u8 {
        let item = outbox.item(seq.into()).unwrap();
        match seq {
            12 => assert_eq!(item, Item::Dropped { last: 12, reason: 5 }),
            17 => assert_eq!(item, Item::Dropped { last: 17, reason: 2 }),
            _ => {
                let mut buffer = [0; 24];
                let read = run(outbox.read(seq.into(), &mut buffer)).unwrap();
                assert_eq!((read.payload, read.channel.app), (&[seq; 24][..usize::from(seq)], seq));
            }
        }
    }
    let expired = run(outbox.expire(6, Clock { uptime: 60, wall: Some(5_000) })).unwrap();
    assert_eq!(expired, 6);
}
