//! A flash that fails, and one on which an earlier program has left what does not fit any more.

use std::cell::Cell;
use std::pin::pin;

use bowline_embedded::{DownReason, Expiry, LinkState, Message as Packet, Policy, PushError, Slot};
use bowline_flash::sim::{Fault, Nor};
use bowline_flash::{Clock, Outbox};
use bowline_server::Message;
use embedded_storage_async::nor_flash::{ErrorType, NorFlash, ReadNorFlash};

use crate::world::{How, Memory, PAYLOAD, Rng, World, address, beside, is_pending, number, payload};

type Flash = Nor<4, 4, 1024>;

/// A flash that can be read, and written only now and then.
struct Moody<'f>(&'f mut Flash, &'f Cell<bool>);

impl ErrorType for Moody<'_> {
    type Error = Fault;
}

impl ReadNorFlash for Moody<'_> {
    const READ_SIZE: usize = Flash::READ_SIZE;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Fault> {
        self.0.read(offset, bytes).await
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl NorFlash for Moody<'_> {
    const WRITE_SIZE: usize = Flash::WRITE_SIZE;
    const ERASE_SIZE: usize = Flash::ERASE_SIZE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), Fault> {
        if self.1.get() { Err(Fault::Failed) } else { self.0.erase(from, to).await }
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Fault> {
        if self.1.get() { Err(Fault::Failed) } else { self.0.write(offset, bytes).await }
    }
}

/// While it fails nothing is accepted and nothing acknowledged, and the client says so; then all goes on by itself.
#[tokio::test]
async fn a_flash_that_fails_for_a_while_costs_that_while_and_nothing_else() {
    let world = World::runs(How::Encrypted).await;
    let device = world.device();
    let (mut nor, fails) = (Flash::new(8), Cell::new(false));
    let mut slots = [Slot::EMPTY; 8];
    let flash = Moody(&mut nor, &fails);
    let (outbox, _) = Outbox::open(flash, &mut slots, PAYLOAD, Clock::default()).await.unwrap();
    let mut memory = Memory::new();
    let (client, mut runner) =
        bowline_embedded::new(&mut memory, outbox, world.config(How::Encrypted), Rng(2).fills()).unwrap();
    let script = async {
        let mut buffer = [0; PAYLOAD];
        let mut next = 0;
        client.connected().await;
        for round in 0..10 {
            // Sent before it fails, and acknowledged while it does.
            client.send(address(1), &payload(2 * round)).await.unwrap();
            fails.set(true);
            let refused = client.send(address(1), &payload(2 * round + 1)).await;
            assert!(matches!(refused, Err(PushError::Write(_))), "{refused:?}");
            let mut sending = pin!(device.send(Message::on_channel(1, 2, 3, &payload(round))).into_future());
            let mut watch = client.watch();
            // Either by the acknowledgement or by what was taken.
            let storage = async {
                while client.status().link != LinkState::Down(DownReason::Storage) {
                    watch.changed().await;
                }
            };
            let mut took = false;
            {
                let mut storage = pin!(storage);
                loop {
                    tokio::select! {
                        () = &mut storage => break,
                        _ = &mut sending => panic!("acknowledged, and not stored"),
                        message = client.recv(&mut buffer), if !took => {
                            assert_eq!(number(message.unwrap().payload), round);
                            took = true;
                        }
                    }
                }
            }
            assert!(is_pending(&mut sending));
            fails.set(false);
            if !took {
                assert_eq!(number(client.recv(&mut buffer).await.unwrap().payload), round);
            }
            sending.await.unwrap();
            client.send(address(1), &payload(2 * round + 1)).await.unwrap();
            client.drained().await;
            for _ in 0..2 {
                assert_eq!(number(device.recv().await.unwrap().payload()), next);
                next += 1;
            }
        }
        assert_eq!(client.try_recv(&mut buffer), Ok(None));
    };
    beside(runner.run(&world.net), script).await;
    println!("{} links", client.counters().links);
}

/// What a program with larger buffers has left on the flash is dropped, told, and in nobody's way.
#[tokio::test]
async fn a_message_that_does_not_fit_any_more_is_told_as_a_gap() {
    let world = World::runs(How::Open).await;
    let device = world.device();
    let mut nor = Flash::new(8);
    {
        let mut slots = [Slot::EMPTY; 8];
        let (mut outbox, _) = Outbox::open(&mut nor, &mut slots, 200, Clock::default()).await.unwrap();
        for payload in [&[1; 10][..], &[2; 150], &[3; 10]] {
            let message = Packet { channel: address(1), policy: Policy::Block, expiry: Expiry::Never, payload };
            outbox.push(&message, 0, Clock::default()).await.unwrap();
        }
    }
    let mut slots = [Slot::EMPTY; 8];
    let (outbox, _) = Outbox::open(&mut nor, &mut slots, PAYLOAD, Clock::default()).await.unwrap();
    let mut memory = Memory::new();
    let (client, mut runner) =
        bowline_embedded::new(&mut memory, outbox, world.config(How::Open), Rng(5).fills()).unwrap();
    let script = async {
        client.drained().await;
        assert_eq!(device.recv().await.unwrap().payload(), [1; 10]);
        let last = device.recv().await.unwrap();
        assert_eq!((last.payload(), last.gap()), (&[3; 10][..], 1));
        assert_eq!(client.counters().gaps_sent, 1);
    };
    beside(runner.run(&world.net), script).await;
}
