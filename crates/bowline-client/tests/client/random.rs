//! Links cut and processes crashed at random, with a store at both ends: exactly once, in order.

use std::time::Duration;

use bowline_client::{Message, Receipt, RecvError};
use bowline_server::Device;

use crate::harness::soon;
use crate::world::{World, eventually};

const ROUNDS: u32 = 120;

/// What one end was sent, and what its app has seen of it.
#[derive(Default)]
struct Way {
    /// Sends that were accepted, or may have been.
    sent: u32,
    /// The number expected next.
    next: u32,
    /// The seqs of those taken.
    seqs: Vec<u64>,
    /// After a crash: the one to come, if those of which the store does not know that they were handled
    /// come again.
    again: Option<usize>,
    /// Nothing was taken since the receiver crashed.
    crashed: bool,
}

impl Way {
    /// A message with the number `sent`.
    fn message(&self) -> String {
        self.sent.to_string()
    }

    fn receiver_crashes(&mut self) {
        (self.crashed, self.again) = (true, None);
    }

    fn takes(&mut self, message: Result<Option<Message>, RecvError>) -> bool {
        let Ok(Some(message)) = message else { return false };
        let number: u32 = message.text().unwrap().parse().unwrap();
        let seq = message.seq().unwrap();
        if let Ok(at) = self.seqs.binary_search(&seq) {
            assert_eq!(number as usize, at, "under its seq");
            assert!(self.crashed || self.again == Some(at), "{number} comes twice without a crash");
            self.again = Some(at + 1);
        } else {
            assert!(self.again.is_none_or(|at| at == self.seqs.len()), "{number} comes before all others came again");
            assert_eq!(number, self.next, "in order, none left out, none twice");
            self.next += 1;
            self.seqs.push(seq);
            self.again = None;
        }
        self.crashed = false;
        true
    }
}

#[tokio::test]
async fn whatever_crashes_and_is_cut_everything_arrives_once_and_in_order() {
    let seed = std::env::var("BOWLINE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("BOWLINE_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut world = World::runs().await;
    world.limits.inbox = 8;
    let (mut up, mut down) = (Way::default(), Way::default());
    for _ in 0..ROUNDS {
        let device = world.device();
        for _ in 0..random.usize(0..6) {
            if random.bool() {
                if world.client().ledger().unsent < 200 {
                    soon(world.client().send(up.message()).until(Receipt::Accepted)).await.unwrap();
                    up.sent += 1;
                }
            } else if device.ledger().unsent < 200 {
                soon(device.send(down.message()).until(Receipt::Accepted)).await.unwrap();
                down.sent += 1;
            }
        }
        if random.bool() {
            while up.takes(device.try_recv()) && random.u8(0..8) > 0 {}
        }
        if random.bool() {
            while down.takes(world.client().try_recv()) && random.u8(0..8) > 0 {}
        }
        drop(device);
        // Somewhere in the middle of what this has set off.
        for _ in 0..random.usize(0..30) {
            tokio::task::yield_now().await;
        }
        if random.u8(0..4) == 0 {
            tokio::time::sleep(Duration::from_millis(random.u64(1..20))).await;
        }
        let (server, client) = match random.u8(0..12) {
            0 => (true, false),
            1 => (false, true),
            2 => (true, true),
            3..=5 => {
                world.net.cuts();
                (false, false)
            }
            _ => (false, false),
        };
        if server {
            world.server_crashes();
            up.receiver_crashes();
        }
        if client {
            world.client_crashes();
            down.receiver_crashes();
            world.client_starts().await;
        }
        if server {
            world.server_starts().await;
        }
    }
    let device = world.device();
    while up.next < up.sent || down.next < down.sent {
        up.takes(soon(async { if up.next < up.sent { device.recv().await.map(Some) } else { Ok(None) } }).await);
        down.takes(
            soon(async { if down.next < down.sent { world.client().recv().await.map(Some) } else { Ok(None) } }).await,
        );
    }
    ends(&world, &device, &mut up, &mut down).await;
}

/// Nothing is left, and nothing more comes.
async fn ends(world: &World, device: &Device, up: &mut Way, down: &mut Way) {
    eventually(|| world.client().ledger().unsent == 0 && device.ledger().unsent == 0).await;
    while up.takes(device.try_recv()) || down.takes(world.client().try_recv()) {}
    let ledger = device.ledger();
    assert_eq!((ledger.totals.quarantined, ledger.totals.gaps, ledger.totals.dropped), (0, 0, 0));
    println!("up {}, down {}", up.sent, down.sent);
}
