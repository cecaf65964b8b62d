//! Bits that rot.

use bowline_flash::sim::Nor;
use bowline_flash::{Clock, Expiry, Message, Outbox, Policy, ReadError, Slot};
use bowline_proto::Crc;
use bowline_proto::native::Item;
use bowline_proto::native::wire::Channel;

use crate::world::run;

type Flash = Nor<4, 4, 512>;

/// Each bit of a flash in turn. No payload is handed out that was not pushed, under another seq than its own;
/// what is missing is told, unless it was behind the last record that is whole, where it cannot be told from
/// one that was cut off.
#[test]
fn every_rotten_bit_is_found() {
    let mut fresh = Flash::new(5);
    let mut slots = [Slot::EMPTY; 16];
    let push = |outbox: &mut Outbox<'_, &mut Flash>, id: u8| {
        let message = Message {
            channel: Channel { app: id, instance: 0, tag: 0 },
            policy: Policy::Block,
            expiry: Expiry::Never,
            payload: &[id; 20],
        };
        run(outbox.push(&message, 0, Clock::default())).unwrap();
    };
    {
        let (mut outbox, _) = run(Outbox::open(&mut fresh, &mut slots, 24, Clock::default())).unwrap();
        run(outbox.begin_epoch(3)).unwrap();
        for id in 1..=12 {
            push(&mut outbox, id);
            if id == 8 {
                run(outbox.acknowledge(4)).unwrap();
            }
        }
        run(outbox.remove(7, 5)).unwrap();
        run(outbox.set_received(9)).unwrap();
    }
    let (mut told, mut unnoticed, mut back) = (0, 0, 0);
    for bit in 0..fresh.image().len() * 8 {
        let mut nor = fresh.clone();
        nor.rots(bit / 8, (bit % 8) as u8);
        let (mut outbox, report) = run(Outbox::open(&mut nor, &mut slots, 24, Clock::default())).unwrap();
        let mut found = 0;
        for seq in outbox.acked() + 1..=outbox.last() {
            if let Some(Item::Message { .. }) = outbox.item(seq) {
                let mut buffer = [0; 24];
                let read = run(outbox.read(seq, &mut buffer)).unwrap();
                assert_eq!(read.payload, [seq as u8; 20], "bit {bit}");
                assert_eq!(read.channel.app, seq as u8);
                found += u64::from(seq > 4 && seq != 7);
            }
        }
        let missing = 7 - found;
        told += report.lost;
        // A drop or an acknowledgement that has gone bad brings back what was dropped or acknowledged.
        back += u64::from(outbox.waiting() > 7);
        if missing > report.lost {
            unnoticed += 1;
            println!("bit {bit}: {missing} missing, {} told", report.lost);
        }
        assert!(outbox.last() >= 12 || report.lost > 0 || missing == 0, "bit {bit}: a seq would be given again");
        assert!(outbox.received() == 9 || missing > 0 || outbox.received() == 0);
    }
    println!("{} bits: {told} messages told as lost, in {back} cases some came back", fresh.image().len() * 8);
    assert_eq!(unnoticed, 0);
    assert!(told >= 7 * 20 * 8, "each bit of each payload");
}

fn message(payload: &[u8]) -> Message<'_> {
    Message { channel: Channel::default(), policy: Policy::Block, expiry: Expiry::Never, payload }
}

/// A bit that has rotted where nothing is written yet: nothing is written there. At the end of a page, where no record
/// begins, it was not looked for, and the message over it was lost.
#[test]
fn a_rotten_bit_in_free_space_costs_no_message() {
    let mut begun = Flash::new(5);
    let mut slots = [Slot::EMPTY; 16];
    {
        let (mut outbox, _) = run(Outbox::open(&mut begun, &mut slots, 24, Clock::default())).unwrap();
        run(outbox.push(&message(&[1; 20]), 0, Clock::default())).unwrap();
    }
    let free = (0..begun.image().len()).filter(|&at| begun.image()[at] == 0xff);
    for (at, len) in free.flat_map(|at| [1, 9, 17].map(|len| (at, len))) {
        let mut nor = begun.clone();
        nor.rots(at, at as u8);
        let (mut outbox, report) = run(Outbox::open(&mut nor, &mut slots, 24, Clock::default())).unwrap();
        if report.waiting == 0 {
            // It was no free space, but all ones of a record.
            continue;
        }
        // With one of these lengths a record ends where the page does, whatever else is in it.
        for seq in 2..=9 {
            let payload = [seq as u8; 24];
            let payload = &payload[..len];
            assert_eq!(run(outbox.push(&message(payload), 0, Clock::default())), Ok(seq), "byte {at:#x}");
            let mut buffer = [0; 24];
            let read = run(outbox.read(seq, &mut buffer)).map(|read| read.payload);
            assert_eq!(read, Ok(payload), "byte {at:#x}");
        }
    }
}

/// A message that goes bad while the board runs is not handed out; it becomes a gap, which stays one.
#[test]
fn what_rots_later_becomes_a_gap() {
    let mut nor = Flash::new(5);
    let mut slots = [Slot::EMPTY; 16];
    let mut image = 0;
    for life in 0..2 {
        let (mut outbox, report) = run(Outbox::open(&mut nor, &mut slots, 24, Clock::default())).unwrap();
        let mut buffer = [0; 24];
        if life == 0 {
            for id in [1, 2, 3] {
                let message = Message {
                    channel: Channel::default(),
                    policy: Policy::Block,
                    expiry: Expiry::Never,
                    payload: &[id; 20],
                };
                run(outbox.push(&message, 0, Clock::default())).unwrap();
            }
            let nor = outbox.close();
            image = nor.image().windows(20).position(|bytes| bytes == [2; 20]).unwrap();
            nor.rots(image + 5, 3);
            continue;
        }
        assert_eq!((report.lost, report.waiting), (1, 2));
        assert_eq!(outbox.item(2), Some(Item::Dropped { last: 2, reason: 0 }));
        assert_eq!(run(outbox.read(2, &mut buffer)), Err(ReadError::Missing));
        assert_eq!(run(outbox.read(3, &mut buffer)).unwrap().payload, [3; 20]);
        outbox.close().rots(image, 0);
    }
    let (_, report) = run(Outbox::open(&mut nor, &mut slots, 24, Clock::default())).unwrap();
    assert_eq!((report.lost, report.waiting), (0, 2), "a loss is told once");
}

/// A record, or a page's head, with a checksum that fits.
fn forged(page: u32, offset: u32, head: &[u8], body: &[u8]) -> Vec<u8> {
    let at = Crc::new().with(&page.to_le_bytes()).with(&offset.to_le_bytes());
    [head, &at.with(head).value().to_le_bytes(), body].concat()
}

fn record(page: u32, offset: u32, kind: u8, number: u64, body: &[u8]) -> Vec<u8> {
    let mut head = vec![kind, 1];
    head.extend((body.len() as u16).to_le_bytes());
    head.extend([0xff; 4]);
    head.extend(number.to_le_bytes());
    head.extend(Crc::new().with(body).value().to_le_bytes());
    forged(page, offset, &head, body)
}

fn state(page: u32, offset: u32, numbers: [u64; 5], oldest: u32) -> Vec<u8> {
    let mut body: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    body.extend([oldest, page, offset].iter().flat_map(|number| number.to_le_bytes()));
    record(page, offset, 5, 0, &body)
}

/// Numbers that no outbox comes to, with checksums that fit. Adding to them overflowed, and so did taking one from
/// the other.
#[test]
fn numbers_that_cannot_be_are_no_records() {
    let begun = {
        let (mut nor, mut slots) = (Flash::new(5), [Slot::EMPTY; 16]);
        drop(run(Outbox::open(&mut nor, &mut slots, 24, Clock::default())).unwrap());
        nor
    };
    // The first page is number 1: its head, the state it begins with, its commit, the state of the start.
    let (page, end) = (1, begun.image()[512..1024].iter().rposition(|&byte| byte != 0xff).unwrap() + 1);
    let end = end.next_multiple_of(8) as u32;
    let last_page = {
        let head = [&b"BWF\x01"[..], &u32::MAX.to_le_bytes(), &8_u32.to_le_bytes()].concat();
        // It is at home in the first place of five.
        (0, forged(u32::MAX, 0, &head, &[]))
    };
    let here = |record: Vec<u8>| (512 + end, record);
    for (at, bytes) in [
        last_page,
        here(record(page, end, 1, u64::MAX, &[1; 8])),
        here(record(page, end, 3, u64::MAX, &[])),
        here(record(page, end, 1, 1 << 61, &[1; 8])),
        here(state(page, end, [1, 9, 3, 12, 0], 1)),
        here(state(page, end, [1, 0, 13, 12, 0], 1)),
        here(state(page, end, [1, 0, 0, u64::MAX, 0], 1)),
        here(state(page, end, [1, 0, 0, 0, 0], 9)),
    ] {
        let mut image = begun.image().to_vec();
        image[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
        let (mut nor, mut slots) = (Flash::of_image(&image), [Slot::EMPTY; 16]);
        for _ in 0..2 {
            let (mut outbox, _) = run(Outbox::open(&mut nor, &mut slots, 24, Clock::default())).unwrap();
            let last = outbox.last();
            let message =
                Message { channel: Channel::default(), policy: Policy::Block, expiry: Expiry::Never, payload: b"on" };
            assert_eq!(run(outbox.push(&message, 0, Clock::default())), Ok(last + 1));
            assert_eq!(run(outbox.read(last + 1, &mut [0; 24])).unwrap().payload, b"on");
            run(outbox.acknowledge(last + 1)).unwrap();
        }
    }
}

#[test]
fn what_is_no_outbox_is_told_and_begun_anew() {
    let mut nor = Flash::of_image(&[0x5a; 5 * 512]);
    let mut slots = [Slot::EMPTY; 16];
    let (_, report) = run(Outbox::open(&mut nor, &mut slots, 24, Clock::default())).unwrap();
    assert!(report.fresh && report.foreign);
    let (_, report) = run(Outbox::open(&mut nor, &mut slots, 24, Clock::default())).unwrap();
    assert!(!report.fresh && !report.foreign);
}

/// Pushes as many messages, each with its number as its payload.
fn fills(nor: &mut Flash, messages: u8) {
    let mut slots = [Slot::EMPTY; 16];
    let (mut outbox, _) = run(Outbox::open(nor, &mut slots, 24, Clock::default())).unwrap();
    for id in 1..=messages {
        run(outbox.push(&message(&[id; 20]), 0, Clock::default())).unwrap();
    }
}

/// A page was lost, and with it where the next one follows: its own head is damaged too. It counts all the same. Once
/// it did not, seqs were given again, and what it held came after them.
#[test]
fn a_page_behind_one_that_is_lost_is_found_without_its_head() {
    let mut nor = Flash::new(6);
    fills(&mut nor, 9);
    let page = nor.image()[1024..].to_vec();
    assert_eq!(page[4], 2, "some are in the second page");
    let mut image = nor.image().to_vec();
    image[512..1024].fill(0);
    image[1024] ^= 1;
    let mut nor = Flash::of_image(&image);
    let mut lost = 0;
    for _ in 0..2 {
        let mut slots = [Slot::EMPTY; 16];
        let (mut outbox, report) = run(Outbox::open(&mut nor, &mut slots, 24, Clock::default())).unwrap();
        assert!(!report.fresh);
        lost += report.lost;
        assert_eq!(outbox.last(), 9);
        let mut found = 0;
        for seq in 1..=9 {
            if let Some(Item::Message { .. }) = outbox.item(seq) {
                assert_eq!(run(outbox.read(seq, &mut [0; 24])).unwrap().payload, [seq as u8; 20]);
                found += 1;
            }
        }
        assert!(found > 0);
        assert_eq!(lost + found, 9, "told, once");
    }
}

/// As above, and nothing says that the second page counts: another outbox is begun, and the first never comes back.
#[test]
fn an_outbox_begun_anew_is_never_joined_by_what_was_left() {
    let mut nor = Flash::new(6);
    fills(&mut nor, 9);
    let mut image = nor.image().to_vec();
    image[512..1024].fill(0);
    // The page's head and its commit.
    image[1024] ^= 1;
    image[1024 + 96] ^= 1;
    let mut nor = Flash::of_image(&image);
    let mut slots = [Slot::EMPTY; 16];
    let (mut outbox, report) = run(Outbox::open(&mut nor, &mut slots, 24, Clock::default())).unwrap();
    assert!(report.fresh && report.foreign);
    run(outbox.push(&message(b"new"), 0, Clock::default())).unwrap();
    for start in 0..3 {
        let (mut outbox, report) = run(Outbox::open(&mut nor, &mut slots, 24, Clock::default())).unwrap();
        assert_eq!((report.fresh, report.lost, report.waiting), (false, 0, 1 + start));
        assert_eq!(run(outbox.read(1, &mut [0; 24])).unwrap().payload, b"new");
        run(outbox.push(&message(b"more"), 0, Clock::default())).unwrap();
    }
}
