//! A device whose power goes at any moment: its outbox is on a flash that tears.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::task::Poll;

use bowline_embedded::lines::{self, Text};
use bowline_embedded::{DownReason, Halves, LinkState, Slot, Speaker};
use bowline_flash::sim::{Fault, Nor, Tear};
use bowline_flash::{Clock, OpenError, Outbox, WriteError};
use bowline_server::{Device, Message, Receipt};

use crate::world::{How, Memory, PAYLOAD, Rng, World, address, beside, number, payload, seed};

type Flash = Nor<4, 4, 1024>;

/// What was sent and what has come, over all lives of the device.
#[derive(Default)]
struct Ledger {
    /// The next number up.
    next: Cell<u32>,
    /// What `send` has accepted.
    accepted: RefCell<Vec<u32>>,
    /// What it had not answered for when the power went.
    doubtful: RefCell<BTreeSet<u32>>,
    /// What the server has got.
    heard: RefCell<Vec<u32>>,
    /// Numbers the server has sent.
    sent: Cell<u32>,
    /// Those the device has taken, under which id.
    taken: RefCell<BTreeMap<u32, (u64, u64)>>,
    /// How many of them it has taken twice.
    repeated: Cell<u32>,
    events: Cell<u64>,
}

impl Ledger {
    fn happens(&self) {
        self.events.set(self.events.get() + 1);
    }

    fn is_done(&self) -> bool {
        let heard = self.heard.borrow();
        self.accepted.borrow().iter().all(|number| heard.binary_search(number).is_ok())
            && self.taken.borrow().len() as u32 == self.sent.get()
    }

    async fn hears(&self, device: &Device) {
        loop {
            let heard = number(device.recv().await.unwrap().payload());
            let mut all = self.heard.borrow_mut();
            assert!(all.last().is_none_or(|last| *last < heard), "{heard} after {:?}", all.last());
            let known = self.accepted.borrow().contains(&heard) || self.doubtful.borrow().contains(&heard);
            assert!(known, "{heard} was never sent");
            all.push(heard);
            self.happens();
        }
    }

    async fn feeds(&self, device: &Device) {
        loop {
            let number = self.sent.get();
            poll_fn(|_| if number < self.taken.borrow().len() as u32 + 6 { Poll::Ready(()) } else { Poll::Pending })
                .await;
            // Polled once it has its place, and keeps it when this life is over.
            self.sent.set(number + 1);
            let message = Message::on_channel(1, 2, 3, &payload(number));
            device.send(message).until(Receipt::Accepted).await.unwrap();
        }
    }
}

/// One life of the device. In the last one the power stays, and everything arrives.
async fn lives(world: &World, how: How, nor: &mut Flash, rng: &mut Rng, ledger: &Ledger, last: bool) {
    nor.power_on();
    nor.tears([Tear::Clean, Tear::Half, Tear::Unstable, Tear::UnstableCall][rng.below(4) as usize]);
    nor.yields(rng.below(2) == 0);
    world.net.dangles(rng.below(2) == 0);
    if !last {
        // What a start writes is so little that most power cuts come later.
        let bytes = if rng.below(3) == 0 { 600 } else { 4_000 };
        nor.cuts_after(rng.below(bytes));
    }
    let mut slots = [Slot::EMPTY; 8];
    let (outbox, report) = match Outbox::open(nor, &mut slots, PAYLOAD, Clock::default()).await {
        Ok(opened) => opened,
        Err(OpenError::Write(WriteError::Flash(Fault::Off))) => return,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(report.lost, 0);
    let (config, random) = (world.config(how), Rng(rng.next()).fills());
    if how == How::Lines {
        let mut memory = Memory::new();
        let halves = lines::new(&mut memory, Text(outbox), config, random).unwrap();
        plays(world, how, halves, rng, ledger, last).await;
    } else {
        let mut memory = Memory::new();
        let halves = bowline_embedded::new(&mut memory, outbox, config, random).unwrap();
        plays(world, how, halves, rng, ledger, last).await;
    }
}

/// Until the power goes.
async fn plays<O: bowline_embedded::Outbox, S: Speaker<O>>(
    world: &World,
    how: How,
    (client, mut runner): Halves<'_, O, impl FnMut(&mut [u8]), S>,
    rng: &mut Rng,
    ledger: &Ledger,
    last: bool,
) {
    let device = world.device();
    // What has been acknowledged does not come again.
    let acked = device.ledger().totals.acked;
    let end = ledger.events.get() + rng.below(40);
    let up = async {
        if !last {
            loop {
                let number = ledger.next.replace(ledger.next.get() + 1);
                ledger.doubtful.borrow_mut().insert(number);
                if client.send(address(1), &payload(number)).await.is_err() {
                    break;
                }
                ledger.doubtful.borrow_mut().remove(&number);
                ledger.accepted.borrow_mut().push(number);
                ledger.happens();
            }
        }
        std::future::pending::<()>().await;
    };
    let mut pace = Rng(rng.next());
    let takes = async {
        let mut buffer = [0; PAYLOAD];
        let mut next = None;
        loop {
            // It takes its time, so that the power goes while messages wait.
            for _ in 0..pace.below(12) {
                tokio::task::yield_now().await;
            }
            let message = client.recv(&mut buffer).await.unwrap();
            let number = number(message.payload);
            let mut taken = ledger.taken.borrow_mut();
            assert!(number <= taken.len() as u32, "{number} where {} is missing", taken.len());
            assert!(next.is_none_or(|next| next == number), "{number} where {next:?} was to come");
            if let Some(id) = taken.insert(number, message.id) {
                assert!(u64::from(number) >= acked, "{number} was acknowledged and comes again");
                let same = id == message.id;
                assert!(same || how == How::Lines, "{number} comes again under another id");
                ledger.repeated.set(ledger.repeated.get() + 1);
            }
            next = Some(number + 1);
            ledger.happens();
        }
    };
    let goes = async {
        let mut status = client.watch();
        while client.status().link != LinkState::Down(DownReason::Storage) {
            status.changed().await;
        }
        assert!(!last, "the flash does not fail");
    };
    let is_over = poll_fn(|_| {
        let is_over = if last { ledger.is_done() } else { ledger.events.get() >= end };
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    });
    let feeds = async {
        if !last {
            ledger.feeds(&device).await;
        }
        std::future::pending::<()>().await;
    };
    // Each after those it goes by.
    let script = async {
        tokio::select! {
            biased;
            () = up => {}
            () = takes => {}
            () = ledger.hears(&device) => {}
            () = feeds => {}
            () = goes => {}
            () = is_over => {}
        }
    };
    beside(runner.run(&world.net), script).await;
    if last {
        beside(runner.run(&world.net), client.drained()).await;
    }
}

async fn survives_power_cuts(how: How, rng: &mut Rng, count: u32) {
    let world = World::runs(how).await;
    let mut nor = Flash::new(8);
    nor.seed(rng.next());
    let ledger = Ledger::default();
    for _ in 0..count {
        lives(&world, how, &mut nor, rng, &ledger, false).await;
    }
    lives(&world, how, &mut nor, rng, &ledger, true).await;
    println!(
        "{how:?}: {} lives, {} accepted, {} in doubt, {} heard; {} taken, {} of them twice; epoch {}",
        count + 1,
        ledger.accepted.borrow().len(),
        ledger.doubtful.borrow().len(),
        ledger.heard.borrow().len(),
        ledger.taken.borrow().len(),
        ledger.repeated.get(),
        world.device().epoch(),
    );
}

#[tokio::test]
async fn the_power_goes_at_random_and_nothing_is_lost_doubled_or_out_of_order() {
    let seed = seed();
    let mut rng = Rng(seed);
    for how in [How::Open, How::Encrypted, How::Lines] {
        survives_power_cuts(how, &mut rng, 60).await;
    }
}

/// In the first lives the epoch is at stake.
#[tokio::test]
async fn the_power_goes_in_a_devices_first_lives() {
    let seed = seed();
    let mut rng = Rng(seed);
    for _ in 0..12 {
        survives_power_cuts(How::Open, &mut rng, 4).await;
    }
}

/// Each life has an epoch of its own: what it numbers from 1 is not taken for what an earlier one has sent.
#[tokio::test]
async fn a_board_without_flash_begins_anew_in_each_life() {
    let world = World::runs(How::Encrypted).await;
    let device = world.device();
    for life in 0..4 {
        // Nobody takes this: it comes again to the next life, and to the last.
        let waits = device.send(Message::on_channel(1, 2, 3, &payload(life))).until(Receipt::Accepted);
        waits.await.unwrap();
        world
            .with_device(world.config(How::Encrypted), async |client| {
                for number in 0..3 {
                    client.send(address(1), &payload(10 * life + number)).await.unwrap();
                }
                client.drained().await;
                let mut buffer = [0; PAYLOAD];
                if life == 3 {
                    for expected in 0..=life {
                        let message = client.recv(&mut buffer).await.unwrap();
                        let id = (u64::from(life) + 1, u64::from(expected) + 1);
                        assert_eq!((number(message.payload), message.id), (expected, id));
                    }
                }
            })
            .await;
        assert_eq!(device.epoch(), u64::from(life) + 1);
        for expected in 0..3 {
            assert_eq!(number(device.recv().await.unwrap().payload()), 10 * life + expected);
        }
    }
}

/// The server's operator forgets the device, with all that is queued for it there, in the middle of a conversation. The
/// new epoch survives a power cut like the first one.
#[tokio::test]
async fn a_forgotten_device_goes_on_in_a_new_epoch_and_keeps_it() {
    let world = World::runs(How::Open).await;
    let server = world.server().addresses()[0];
    let mut nor = Flash::new(8);
    for life in 0..3_u32 {
        let mut slots = [Slot::EMPTY; 8];
        let (outbox, _) = Outbox::open(&mut nor, &mut slots, PAYLOAD, Clock::default()).await.unwrap();
        let mut memory = Memory::new();
        let (client, mut runner) =
            bowline_embedded::new(&mut memory, outbox, world.config(How::Open), Rng(5).fills()).unwrap();
        let script = async {
            let mut buffer = [0; PAYLOAD];
            if life < 2 {
                let device = world.device();
                let channel = client.open(1, 9).unwrap();
                // The first waits in the inbox when the other has come.
                for instance in [8, 9] {
                    let message = Message::on_channel(1, instance, 0, b"of the last epoch");
                    device.send(message).until(Receipt::Accepted).await.unwrap();
                }
                channel.recv(&mut buffer).await.unwrap();
                client.send(address(1), &payload(10 * life)).await.unwrap();
                client.drained().await;
                assert_eq!(number(device.recv().await.unwrap().payload()), 10 * life);
                world.net.target(None);
                client.send(address(1), &payload(10 * life + 1)).await.unwrap();
                assert!(world.server().forget(crate::world::ID));
                world.net.target(Some(server));
            }
            client.connected().await;
            let device = world.device();
            if life < 2 {
                assert_eq!(number(device.recv().await.unwrap().payload()), 10 * life + 1);
            }
            // The numbers of both directions are those of the new epoch.
            client.send(address(1), &payload(10 * life + 2)).await.unwrap();
            assert_eq!(number(device.recv().await.unwrap().payload()), 10 * life + 2);
            let send = device.send(Message::on_channel(1, 8, 0, &payload(life)));
            let take = async { client.recv(&mut buffer).await.map(|message| (number(message.payload), message.id)) };
            let (sent, taken) = tokio::join!(send.into_future(), take);
            sent.unwrap();
            let epoch = [2, 3, 3][life as usize];
            assert_eq!(taken, Ok((life, (epoch, [1, 1, 2][life as usize]))));
            client.drained().await;
            assert_eq!(client.counters().quarantined, 0);
        };
        beside(runner.run(&world.net), script).await;
    }
}
