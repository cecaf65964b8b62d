//! Flash of all sizes: what an outbox says that it takes, it takes.

use bowline_flash::sim::Nor;
use bowline_flash::{Clock, Expiry, GeometryError, Message, OpenError, Outbox, Policy, Slot};
use bowline_proto::native::wire::Channel;

use crate::world::run;

const NOW: Clock = Clock { uptime: 0, wall: None };

/// Sends the largest messages there may be, one after the other, through a flash of so many pages.
fn takes_the_largest<const READ: usize, const WRITE: usize, const PAGE: usize>(pages: usize) {
    let (mut nor, mut slots) = (Nor::<READ, WRITE, PAGE>::new(pages), [Slot::EMPTY; 8]);
    let (mut outbox, _) = run(Outbox::open(&mut nor, &mut slots, usize::MAX, NOW)).unwrap();
    let payload = vec![7; outbox.max_payload()];
    assert!(!payload.is_empty());
    // As long as a message can be: with a time.
    let message =
        Message { channel: Channel::default(), policy: Policy::KeepLatest, expiry: Expiry::At(9), payload: &payload };
    for seq in 1..=5 * pages as u64 {
        assert_eq!(run(outbox.push(&message, 0, NOW)), Ok(seq), "{pages} pages of {PAGE} bytes");
        let mut buffer = vec![0; payload.len()];
        assert_eq!(run(outbox.read(seq, &mut buffer)).unwrap().payload, payload);
        if seq % 3 == 0 {
            run(outbox.acknowledge(seq)).unwrap();
        }
    }
}

/// It said that it took more than there was room for, and was full for ever; with small pages it panicked.
#[test]
fn the_largest_payload_fits_into_the_smallest_outbox() {
    takes_the_largest::<1, 1, 320>(4);
    takes_the_largest::<1, 8, 512>(4);
    takes_the_largest::<16, 16, 384>(4);
    takes_the_largest::<1, 32, 384>(4);
    takes_the_largest::<64, 64, 640>(4);
    takes_the_largest::<1, 4, 4096>(4);
    takes_the_largest::<1, 4, 4096>(5);
    takes_the_largest::<4, 4, 65536>(4);
    takes_the_largest::<4, 4, 262_144>(4);
}

/// Refused with what is wrong.
fn is_refused<const READ: usize, const WRITE: usize, const PAGE: usize>(pages: usize) -> GeometryError {
    let (mut nor, mut slots) = (Nor::<READ, WRITE, PAGE>::new(pages), [Slot::EMPTY; 8]);
    match run(Outbox::open(&mut nor, &mut slots, 8, NOW)).map(drop) {
        Err(OpenError::Geometry(error)) => error,
        other => panic!("{PAGE} bytes a page: {other:?}"),
    }
}

#[test]
fn a_flash_that_is_not_made_for_it_is_refused() {
    assert_eq!(is_refused::<1, 1, 256>(8), GeometryError::Page { size: 256 });
    assert_eq!(is_refused::<1, 16, 320>(8), GeometryError::Page { size: 320 });
    assert_eq!(is_refused::<1, 32, 320>(8), GeometryError::Page { size: 320 });
    assert_eq!(is_refused::<1, 64, 576>(8), GeometryError::Page { size: 576 });
    assert_eq!(is_refused::<1, 4, 520>(8), GeometryError::Page { size: 520 });
    assert_eq!(is_refused::<1, 4, 512>(3), GeometryError::Pages { count: 3 });
    assert_eq!(is_refused::<1, 128, 4096>(8), GeometryError::Words { read: 1, write: 128 });
    assert!(is_refused::<1, 4, 512>(3).to_string().contains("4 pages or more, got 3"));
}
