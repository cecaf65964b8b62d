//! Saved sessions of both engines: bytes from a disk are a session that can be saved again as it was,
//! or a typed error.

#![no_main]

use bowline_fuzz::{Choices, crc32};
use bowline_proto::native::{self, Room, SAVED_LEN, Transport};
use bowline_proto::time::{Duration, Instant};
use bowline_proto::{Dialect, Side, legacy};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut choices = Choices::new(bytes);
    let side = choices.pick(&[Side::Device, Side::Server]);
    let (is_native, fix) = (choices.flag(), choices.flag());
    let mut saved = choices.rest().to_vec();
    if is_native {
        saved.resize(SAVED_LEN, 0);
    }
    // Without that, nothing but the checksum would ever be tested.
    if fix && let Some((content, sum)) = saved.split_last_chunk_mut::<4>() {
        *sum = crc32(content).to_be_bytes();
    }
    if is_native { native(side, saved.as_slice().try_into().expect("its length")) } else { legacy(side, &saved) }
});

fn native(side: Side, saved: &[u8; SAVED_LEN]) {
    let Ok(mut session) = native::Session::restore(side, saved) else { return };
    assert_eq!(&session.save(), saved, "as it was");
    assert!(session.acked() <= session.last() && session.durable() <= session.received());
    let config = native::Config::new(Transport::Lossless, Duration::from_millis(1_000), 256);
    let mut link = native::Link::open(&mut session, config, Room { messages: 4, bytes: 400 }, Instant::ZERO);
    for _ in 0..100 {
        if let native::Output::Wait(_) = link.poll_output(&mut session, Instant::ZERO) {
            return;
        }
    }
    panic!("a drain without end");
}

fn legacy(side: Side, saved: &[u8]) {
    let Ok(mut session) = legacy::Session::restore(side, saved) else { return };
    let again = session.save_with([]);
    let twice = legacy::Session::restore(side, again.as_bytes()).expect("what was saved").save_with([]);
    assert_eq!(again.as_bytes(), twice.as_bytes());
    // A session that is restored twice without having done anything leaves ids out only once.
    for dialect in [Dialect::Headers, Dialect::Upstream, Dialect::Plain] {
        let config = legacy::Config::new(side, Duration::from_millis(1_000));
        let mut link = legacy::Link::open(&mut session, dialect, config, Instant::ZERO);
        let mut drained = false;
        for _ in 0..1_000 {
            link.handle_queue(Instant::ZERO, legacy::Queue { qos: true, best_effort: true });
            if let legacy::Output::Wait(_) = link.poll_output(&mut session, Instant::ZERO) {
                drained = true;
                break;
            }
            session.handle_saved(session.save_with([]).mark());
        }
        assert!(drained, "a drain without end on {dialect}");
    }
}
