//! Links that break, and servers that do.

use bowline_embedded::lines::{self, Text};
use bowline_embedded::{Halves, Speaker};
use bowline_server::Message;

use crate::world::{ALL, How, PAYLOAD, Rng, World, address, number, payload, seed};

/// Messages go both ways; each fault waits until some more have arrived.
async fn survives(how: How, seed: u64, count: u32, fault: impl AsyncFnMut(&mut World, &mut Rng)) {
    let rng = Rng(seed);
    let world = World::runs(how).await;
    // The device lives through all of it, and so does its memory.
    let config = world.config(how);
    let (mut slots, mut bytes) = ([bowline_embedded::Slot::EMPTY; 8], [0; 8 * PAYLOAD]);
    let outbox = bowline_embedded::RamOutbox::new(&mut slots, &mut bytes, PAYLOAD);
    let random = rng.clone().fills();
    if how == How::Lines {
        let mut memory = crate::world::Memory::new();
        let halves = lines::new(&mut memory, Text(outbox), config, random).unwrap();
        talks(world, halves, rng, count, fault).await;
    } else {
        let mut memory = crate::world::Memory::new();
        let halves = bowline_embedded::new(&mut memory, outbox, config, random).unwrap();
        talks(world, halves, rng, count, fault).await;
    }
}

async fn talks<O: bowline_embedded::Outbox, S: Speaker<O>>(
    mut world: World,
    (client, mut runner): Halves<'_, O, impl FnMut(&mut [u8]), S>,
    mut rng: Rng,
    count: u32,
    mut fault: impl AsyncFnMut(&mut World, &mut Rng),
) {
    let seed = rng.0;
    let net = world.net.clone();
    net.pieces(1 + rng.below(40) as usize);
    let (mut heard, mut taken) = (0, 0);
    // Of the server's inbox: what was not noted as handled in a crash comes again under the same number.
    let mut seen = 0;
    let mut faults = 0;
    let script = async {
        let up = async {
            for number in 0..count {
                client.send(address(1), &payload(number)).await.unwrap();
            }
            client.drained().await;
        };
        let mut up = std::pin::pin!(up);
        let mut is_up = false;
        let mut sent = 0;
        while heard < count || taken < count || !is_up {
            let device = world.device();
            // A message that was accepted here is in the server's store: the next process has it too.
            while sent < count && sent < taken + 6 {
                let message = Message::on_channel(1, 2, 3, &payload(sent));
                device.send(message).until(bowline_server::Receipt::Accepted).await.unwrap();
                sent += 1;
            }
            let progress = rng.below(12) as u32 + heard + taken;
            let mut buffer = [0; PAYLOAD];
            while heard + taken <= progress && (heard < count || taken < sent || !is_up) {
                tokio::select! {
                    () = &mut up, if !is_up => is_up = true,
                    message = device.recv(), if heard < count => {
                        let message = message.unwrap();
                        if message.seq().unwrap() > seen {
                            seen = message.seq().unwrap();
                            assert_eq!(number(message.payload()), heard, "seed {seed}");
                            heard += 1;
                        }
                    }
                    message = client.recv(&mut buffer), if taken < sent => {
                        assert_eq!(number(message.unwrap().payload), taken, "seed {seed}");
                        taken += 1;
                    }
                }
            }
            drop(device);
            fault(&mut world, &mut rng).await;
            faults += 1;
        }
    };
    crate::world::beside(runner.run(&net), script).await;
    let counters = client.counters();
    println!("{faults} faults, {} links, {} resent", counters.links, counters.resent);
}

#[tokio::test]
async fn links_are_cut_at_random_and_nothing_is_lost_doubled_or_out_of_order() {
    let seed = seed();
    for how in ALL.into_iter().chain([How::Lines]) {
        survives(how, seed, 150, async |world, rng| match rng.below(3) {
            0 => world.net.cuts(),
            1 => world.net.cuts_after(rng.below(400) as usize),
            _ => world.net.pieces(1 + rng.below(60) as usize),
        })
        .await;
    }
}

#[tokio::test]
async fn the_server_crashes_and_nothing_is_lost_doubled_or_out_of_order() {
    let seed = seed();
    for how in [How::Encrypted, How::Lines] {
        survives(how, seed, 60, async |world, rng| {
            if rng.below(3) == 0 {
                world.server_crashes();
                world.server_starts().await;
            }
        })
        .await;
    }
}
