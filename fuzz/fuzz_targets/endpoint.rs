//! What a store says of a device, in whatever state: an endpoint goes on from it, or begins new
//! sessions; its queues can be read, and it takes part in a link.

#![no_main]

use bowline_fuzz::{Choices, crc32};
use bowline_link::{Endpoint, Limits, Outside, Storage};
use bowline_proto::Side;
use bowline_store::{Device, DeviceSummary, Durability, InboxMessage, Millis, OutboxMessage, Seq, SessionState, Store};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut choices = Choices::new(bytes);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let store = Store::open("unused", Durability::Memory, bowline_store::Limits::default()).expect("in memory");
        let device = device(&mut choices);
        let (inbox, side) = (device.inbox.len(), choices.pick(&[Side::Server, Side::Device]));
        let endpoint = Endpoint::stored(side, Limits::default(), "board", Storage::new(store, Outside::default()), Some(device));
        let mut taken = 0;
        while let Ok(Some(delivery)) = endpoint.try_next() {
            taken += 1;
            delivery.done();
        }
        assert!(taken <= inbox, "{taken} messages of {inbox}");
        let _ = (endpoint.epoch(), endpoint.is_idle(), endpoint.ledger());
        drop(endpoint.send("goes on"));
        endpoint.close();
    });
});

/// Numbers as a store keeps them: of 63 bits. What it says of a device contradicts itself nowhere but in the bytes of
/// the session, which it does not read.
fn number(choices: &mut Choices<'_>) -> u64 {
    choices.number() & (u64::MAX >> 1)
}

fn device(choices: &mut Choices<'_>) -> Device {
    let session =
        choices.flag().then(|| SessionState { format: 1 + u32::from(choices.below(8) == 0), state: state(choices) });
    let inbox = (0..choices.below(5)).map(|_| InboxMessage {
        seq: Seq(number(choices)),
        epoch: choices.number(),
        qos: choices.flag(),
        received_at: Millis(number(choices)),
        header: choices.bytes(4).to_vec().into(),
        payload: choices.bytes(8).to_vec().into(),
    });
    let mut inbox: Vec<_> = inbox.collect();
    let outbox = (0..choices.below(5)).map(|_| OutboxMessage {
        seq: Seq(number(choices)),
        policy: choices.byte(),
        created_at: Millis(number(choices)),
        expires_at: choices.flag().then(|| Millis(number(choices))),
        header: choices.bytes(4).to_vec().into(),
        payload: choices.bytes(8).to_vec().into(),
    });
    let mut outbox: Vec<_> = outbox.collect();
    // They are read in order, and a key of the database is there once.
    inbox.sort_by_key(|message| message.seq);
    inbox.dedup_by_key(|message| message.seq);
    outbox.sort_by_key(|message| message.seq);
    outbox.dedup_by_key(|message| message.seq);
    inbox.retain(|message| message.seq.0 > 0);
    outbox.retain(|message| message.seq.0 > 0);
    let count = number(choices);
    let inbox_last = number(choices).max(inbox.last().map_or(0, |message| message.seq.0));
    let inbox_cursor = number(choices).min(inbox_last);
    let outbox_last = number(choices).max(outbox.last().map_or(0, |message| message.seq.0));
    Device {
        summary: DeviceSummary {
            device: "board".into(),
            persistent: choices.flag(),
            last_seen: Millis(count),
            inbox: inbox.len() as u64,
            inbox_bytes: count,
            outbox: outbox.len() as u64,
            outbox_bytes: count,
            dead_letters: count,
            dead_letter_bytes: count,
            dead_letters_dropped: count,
        },
        session,
        ledger: choices.bytes(300).to_vec(),
        inbox_last: Seq(inbox_last),
        inbox_cursor: Seq(inbox_cursor),
        outbox_last: Seq(outbox_last),
        inbox,
        outbox,
    }
}

/// The sessions as bytes, with checksums that fit: without that, nothing else would ever be tested.
fn state(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut state = vec![choices.pick(&[0, b'H', b'U', b'P', b'N', b'?'])];
    state.extend(choices.number().to_be_bytes());
    state.extend(choices.number().to_be_bytes());
    let mut native = b"BWS\x01".to_vec();
    for _ in 0..6 {
        native.extend(choices.number().to_be_bytes());
    }
    native.extend(crc32(&native).to_be_bytes());
    state.extend(native);
    if choices.flag() {
        let mut lines = b"BWL\x01".to_vec();
        lines.extend_from_slice(choices.bytes(60));
        lines.extend(crc32(&lines).to_be_bytes());
        state.extend(lines);
    }
    state
}
