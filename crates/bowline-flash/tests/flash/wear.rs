//! Pages are erased evenly.

use bowline_flash::sim::Nor;
use bowline_flash::{Clock, Expiry, Message, Outbox, Policy, Slot};
use bowline_proto::native::wire::Channel;

use crate::world::{Rng, run};

/// A message that is never acknowledged lies in the first page, others come and go, the power goes now and
/// then: no page is erased twice as often as another.
#[test]
fn pages_wear_evenly() {
    let mut nor = Nor::<1, 4, 4096>::new(16);
    let mut rng = Rng(7);
    let (mut starts, mut count) = (0, 0_u64);
    while count < 200_000 {
        let mut slots = [Slot::EMPTY; 64];
        let Ok((mut outbox, _)) = run(Outbox::open(&mut nor, &mut slots, 64, Clock::default())) else {
            nor.power_on();
            continue;
        };
        starts += 1;
        loop {
            let payload = [count as u8; 64];
            let message = Message {
                channel: Channel { app: if count == 0 { 1 } else { 2 }, instance: 0, tag: 0 },
                policy: if count == 0 { Policy::Block } else { Policy::KeepLatest },
                expiry: Expiry::Never,
                payload: &payload[..1 + rng.below(64) as usize],
            };
            if run(outbox.push(&message, 0, Clock::default())).is_err() {
                break;
            }
            count += 1;
            if rng.below(1_000) == 0 {
                break;
            }
        }
        let cut = rng.below(200_000);
        nor.power_on();
        nor.cuts_after(cut);
    }
    let (least, most) = (nor.erased().iter().min().unwrap(), nor.erased().iter().max().unwrap());
    let mean = nor.counts().erases as f64 / 16.0;
    println!("{count} messages, {starts} starts: pages erased {least} to {most} times, {mean:.0} on average");
    assert!(f64::from(*most) < 2.0 * mean && *least * 2 > *most, "{least} to {most}");
}
