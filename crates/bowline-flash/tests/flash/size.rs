//! What it costs: memory, and reads at the start.

use bowline_flash::sim::Nor;
use bowline_flash::{Clock, Expiry, Message, Outbox, Policy, Slot};
use bowline_proto::native::wire::Channel;

use crate::world::run;

type Flash = Nor<1, 4, 4096>;

#[test]
fn memory_is_as_documented() {
    assert_eq!(size_of::<Slot>(), 24);
    // On a board with words of 4 bytes it is less.
    let own = size_of::<Outbox<'_, &mut Flash>>();
    assert!(own <= 240, "an outbox takes {own} bytes");
    let (mut nor, mut slots) = (Flash::new(16), [Slot::EMPTY; 8]);
    let open = size_of_val(&Outbox::open(&mut nor, &mut slots, 256, Clock::default()));
    let (mut outbox, _) = run(Outbox::open(&mut nor, &mut slots, 256, Clock::default())).unwrap();
    let message =
        Message { channel: Channel::default(), policy: Policy::Block, expiry: Expiry::Never, payload: &[0; 256] };
    let push = size_of_val(&outbox.push(&message, 0, Clock::default()));
    let mut buffer = [0; 256];
    let read = size_of_val(&outbox.read(1, &mut buffer));
    println!("outbox {own}, futures: open {open}, push {push}, read {read} bytes");
    assert!(open <= 4_096, "opening takes {open} bytes");
    assert!(push <= 2_560, "a push takes {push} bytes");
}

/// However many messages there are, a start reads each page that counts at most three times, and the head
/// of each.
#[test]
fn a_start_reads_a_bounded_amount() {
    let mut most = 0.0_f64;
    for pages in [4, 16, 64] {
        let mut nor = Flash::new(pages);
        let mut slots = vec![Slot::EMPTY; 2_000];
        let (mut outbox, _) = run(Outbox::open(&mut nor, &mut slots, 256, Clock::default())).unwrap();
        let mut payload = [0; 256];
        let mut seq = 0_u32;
        loop {
            payload[..4].copy_from_slice(&seq.to_le_bytes());
            let message = Message {
                channel: Channel::default(),
                policy: Policy::Block,
                expiry: Expiry::Never,
                payload: &payload[..20 + seq as usize % 200],
            };
            if run(outbox.push(&message, 0, Clock::default())).is_err() {
                break;
            }
            seq += 1;
        }
        let before = nor.counts();
        let _ = run(Outbox::open(&mut nor, &mut slots, 256, Clock::default())).unwrap();
        let after = nor.counts();
        let bytes = (after.bytes_read - before.bytes_read) as f64 / (pages * 4096) as f64;
        println!("{pages} pages, {seq} messages: {} reads, {bytes:.2} of the flash", after.reads - before.reads);
        most = most.max(bytes);
    }
    assert!(most < 3.0, "{most} of the flash");
}
