//! Recovery of the outbox on flash: an image that a board has left, with damage of any kind, or any bytes. The
//! outbox opens and goes on, or says what is wrong, within so many reads; and what it hands out was pushed,
//! unless somebody has written records with the right checksums.

#![no_main]

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bowline_flash::sim::{Nor, Tear};
use bowline_flash::{Clock, Expiry, Message, Outbox, Policy, ReadError, Slot};
use bowline_fuzz::{Choices, crc32};
use bowline_proto::native::Item;
use bowline_proto::native::wire::Channel;
use libfuzzer_sys::fuzz_target;

const SLOTS: usize = 12;
const PAYLOAD: usize = 40;
/// The heads of pages and records, see `docs/flash.md`.
const PAGE_HEAD: usize = 16;
const HEAD: usize = 24;

fuzz_target!(|bytes: &[u8]| {
    let mut choices = Choices::new(bytes);
    match choices.below(4) {
        0 => tries::<1, 1, 320>(&mut choices, 6),
        1 => tries::<4, 4, 512>(&mut choices, 4),
        2 => tries::<1, 8, 512>(&mut choices, 5),
        _ => tries::<1, 32, 1024>(&mut choices, 5),
    }
});

/// What is on the flash, besides what the board has put there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Damage {
    /// Nothing.
    None,
    /// Less than any checksum of this length fails to notice, or what no checksum fits.
    Honest,
    /// Anything, also what fits.
    Forged,
}

/// Payloads by what they begin with, and the channel each was pushed on.
#[derive(Default)]
struct Pushed {
    messages: BTreeMap<u32, (u8, Vec<u8>)>,
}

type Board<'a, const READ: usize, const WRITE: usize, const PAGE: usize> = Outbox<'a, &'a mut Nor<READ, WRITE, PAGE>>;

fn tries<const READ: usize, const WRITE: usize, const PAGE: usize>(choices: &mut Choices<'_>, pages: usize) {
    let mut pushed = Pushed::default();
    let mut nor = Nor::<READ, WRITE, PAGE>::new(pages);
    for _ in 0..choices.below(4) {
        lives(&mut nor, choices, &mut pushed, Damage::None);
        nor.power_on();
    }
    let mut image = nor.image().to_vec();
    let damage = damages(&mut image, choices, PAGE, 8.max(READ).max(WRITE));
    if damage > Damage::None {
        nor = Nor::of_image(&image);
    }
    // What a start finds and does is there at the next one.
    for _ in 0..3 {
        lives(&mut nor, choices, &mut pushed, damage);
        nor.power_on();
    }
}

/// One life of the board, until it is told to end or its power goes.
fn lives<const READ: usize, const WRITE: usize, const PAGE: usize>(
    nor: &mut Nor<READ, WRITE, PAGE>,
    choices: &mut Choices<'_>,
    pushed: &mut Pushed,
    damage: Damage,
) {
    let mut clock = Clock { uptime: 0, wall: choices.flag().then_some(1) };
    if choices.flag() {
        nor.tears(choices.pick(&[Tear::Clean, Tear::Half, Tear::Unstable, Tear::UnstableCall]));
        nor.seed(choices.byte().into());
        nor.cuts_after(choices.number().min(4 * PAGE as u64));
    }
    let before = nor.counts();
    let capacity = nor.image().len() as u64;
    let mut slots = [Slot::EMPTY; SLOTS];
    let opened = run(Outbox::open(&mut *nor, &mut slots, PAYLOAD, clock));
    let (mut outbox, report) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert!(damage > Damage::None || nor.is_off(), "{error}");
            return;
        }
    };
    // A record that is whole but for its body is read again from each grain of it on.
    let read = outbox.flash().counts().bytes_read - before.bytes_read;
    let most = if damage == Damage::Forged { PAGE as u64 / 8 } else { 8 };
    assert!(read <= most * capacity, "{read} bytes were read of {capacity}");
    assert_eq!(report.waiting, outbox.waiting());
    assert!(damage > Damage::None || report.lost == 0, "nothing is damaged, only torn");
    if !checks(&mut outbox, pushed, damage) {
        return;
    }
    for _ in 0..24 {
        if choices.is_empty() || outbox.flash().is_off() {
            return;
        }
        let sent = outbox.acked().saturating_add(choices.below(3) as u64);
        let seq = outbox.acked().saturating_add(choices.below(8) as u64);
        match choices.below(10) {
            0..=4 => {
                let id = pushed.messages.len() as u32;
                let filling = choices.byte();
                let mut payload = id.to_le_bytes().to_vec();
                payload.resize(4 + choices.below(PAYLOAD), filling);
                let app = choices.below(3) as u8;
                let expiry = choices.pick(&[Expiry::Never, Expiry::Never, Expiry::At(2), Expiry::After(1)]);
                let policy = choices.pick(&[Policy::Block, Policy::DropOldest, Policy::KeepLatest]);
                pushed.messages.insert(id, (app, payload.clone()));
                let channel = Channel { app, instance: 0, tag: 0 };
                let last = outbox.last();
                if let Ok(seq) = run(outbox.push(&Message { channel, policy, expiry, payload: &payload }, sent, clock))
                {
                    assert_eq!(seq, last + 1);
                    let mut buffer = [0; PAYLOAD];
                    // As the outbox says, nothing that is whole lies over what was accepted just now.
                    match run(outbox.read(seq, &mut buffer)) {
                        Ok(read) => assert_eq!(read.payload, payload),
                        Err(error) => assert!(outbox.flash().is_off(), "{error}"),
                    }
                }
            }
            5 => drop(run(outbox.acknowledge(seq))),
            6 => drop(run(outbox.remove(seq, 5))),
            7 => {
                clock = Clock { uptime: clock.uptime + 1, wall: clock.wall.map(|wall| wall + 1) };
                let _ = run(outbox.expire(sent, clock));
            }
            8 => drop(run(outbox.begin_epoch(outbox.epoch().saturating_add(1)))),
            _ => drop(run(outbox.set_received(seq))),
        }
    }
    checks(&mut outbox, pushed, damage);
}

/// Reads all there is. False if the power went.
fn checks<const READ: usize, const WRITE: usize, const PAGE: usize>(
    outbox: &mut Board<'_, READ, WRITE, PAGE>,
    pushed: &Pushed,
    damage: Damage,
) -> bool {
    let (mut seq, mut before, mut count) = (outbox.acked() + 1, None, 0);
    assert_eq!(outbox.item(outbox.acked()), None);
    while let Some(item) = outbox.item(seq) {
        let Item::Message { len } = item else {
            let Item::Dropped { last, .. } = item else { unreachable!("an item is a message or a gap") };
            assert!((seq..=outbox.last()).contains(&last), "a gap {seq} to {last}");
            seq = last + 1;
            continue;
        };
        count += 1;
        assert!(count <= SLOTS);
        let mut buffer = [0; PAGE];
        match run(outbox.read(seq, &mut buffer)) {
            Ok(read) => {
                assert_eq!(read.payload.len(), len as usize);
                if damage < Damage::Forged {
                    let id = read.payload.first_chunk().map(|id| u32::from_le_bytes(*id)).expect("four");
                    let (app, payload) = pushed.messages.get(&id).expect("nobody has pushed that");
                    assert_eq!((read.channel.app, read.payload), (*app, &payload[..]));
                    assert!(before < Some(id), "twice, or not in order");
                    before = Some(id);
                }
            }
            Err(ReadError::Damaged) if damage > Damage::None => {}
            Err(error) => {
                assert!(outbox.flash().is_off(), "{error}");
                return false;
            }
        }
        seq += 1;
    }
    assert_eq!(seq, outbox.last() + 1, "no seq is left out");
    true
}

/// Changes the image, and says how badly.
fn damages(image: &mut Vec<u8>, choices: &mut Choices<'_>, page: usize, grain: usize) -> Damage {
    let (mut damage, mut flips) = (Damage::None, 0);
    for _ in 0..choices.below(6) {
        let at = choices.below(image.len());
        let len = (1 + choices.below(2 * page)).min(image.len() - at);
        damage = damage.max(match choices.below(8) {
            // Of up to three bits, CRC-32 finds all that are wrong.
            0..=2 => {
                flips += 1;
                image[at] ^= 1 << choices.below(8);
                if flips <= 3 { Damage::Honest } else { Damage::Forged }
            }
            // Erased or programmed in part: nothing that fits was ever there.
            3 => {
                image[at..at + len].fill(choices.pick(&[0xff, 0]));
                Damage::Honest
            }
            // Checksums go with places.
            4 => {
                let to = choices.below(image.len() - len + 1);
                image.copy_within(at..at + len, to);
                Damage::Honest
            }
            5 => {
                let new = choices.bytes(64);
                let end = (at + new.len()).min(image.len());
                image[at..end].copy_from_slice(&new[..end - at]);
                Damage::Forged
            }
            6 => {
                let number = choices.number() as u32;
                let mut head = [&b"BWF"[..], &[1 + u8::from(choices.below(16) == 0)]].concat();
                head.extend(number.to_le_bytes());
                head.extend((grain as u32).to_le_bytes());
                head.extend(checksum(number, 0, &head).to_le_bytes());
                let at = number as usize * page % image.len();
                image[at..at + PAGE_HEAD].copy_from_slice(&head);
                Damage::Forged
            }
            _ => {
                forges(image, choices, at / grain * grain, page, grain);
                Damage::Forged
            }
        });
    }
    damage
}

/// A record with any content and the right checksums, in the page that is there.
fn forges(image: &mut [u8], choices: &mut Choices<'_>, at: usize, page: usize, grain: usize) {
    let start = at / page * page;
    let number = u32::from_le_bytes(image[start + 4..start + 8].try_into().expect("four"));
    let kind = choices.below(8) as u8;
    let mut body = match kind {
        5 => {
            let mut state: Vec<u8> = (0..5).flat_map(|_| choices.number().to_le_bytes()).collect();
            for _ in 0..3 {
                state.extend(number.wrapping_add(choices.byte().into()).wrapping_sub(4).to_le_bytes());
            }
            state
        }
        _ => choices.bytes(48).to_vec(),
    };
    let room = start + page - at;
    body.truncate(room.saturating_sub(HEAD.next_multiple_of(grain)));
    let mut head = vec![kind, choices.byte()];
    head.extend((body.len() as u16).to_le_bytes());
    head.extend(choices.byte().to_le_bytes());
    head.extend([0; 3]);
    head.extend(choices.number().to_le_bytes());
    head.extend(crc32(&body).to_le_bytes());
    head.extend(checksum(number, (at - start) as u32, &head).to_le_bytes());
    head.resize(HEAD.next_multiple_of(grain), 0xff);
    head.extend(body);
    let end = (at + head.len()).min(start + page);
    image[at..end].copy_from_slice(&head[..end - at]);
}

/// That of a head, which goes with its place.
fn checksum(page: u32, offset: u32, head: &[u8]) -> u32 {
    crc32(&[&page.to_le_bytes()[..], &offset.to_le_bytes(), head].concat())
}

/// Runs a future that never waits for anything.
fn run<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    match future.as_mut().poll(&mut context) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nothing here waits"),
    }
}
