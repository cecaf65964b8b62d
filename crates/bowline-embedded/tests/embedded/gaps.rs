//! What the server has dropped is told to the program, once.

use bowline_embedded::{Client, Slot};
use bowline_flash::sim::Nor;
use bowline_flash::{Clock, Outbox};
use bowline_server::{Device, DropReason, Message, Policy, Receipt, SendError};
use embassy_time::Duration;

use crate::world::{How, Memory, PAYLOAD, Rng, World, address, beside, number, payload, soon};

fn message(instance: u8, number: u32) -> Message {
    Message::on_channel(1, instance, 7, &payload(number))
}

/// The server takes it, and keeps it while there is no link.
async fn accepts(device: &Device, message: Message, policy: Policy) {
    soon(device.send(message).policy(policy).until(Receipt::Accepted).into_future()).await.unwrap();
}

/// The link is away, and both ends know it: what the server sends now is not on its way.
async fn parts<O: bowline_embedded::Outbox>(world: &World, client: &Client<'_, O>) {
    // Until then the server may not know of the link, and not of its end.
    client.send(address(1), b"up").await.unwrap();
    client.drained().await;
    world.net.target(None);
    let mut here = client.watch();
    while client.status().is_up() {
        here.changed().await;
    }
    let device = world.device();
    let mut there = device.watch();
    while there.now().is_up() {
        there.changed().await;
    }
}

/// While the link is away the time of a message is up at the server.
async fn drops<O: bowline_embedded::Outbox>(world: &World, client: &Client<'_, O>) {
    parts(world, client).await;
    let device = world.device();
    let late = device.send(message(2, 99)).expires_in(std::time::Duration::from_millis(1));
    assert_eq!(soon(late.into_future()).await, Err(SendError::Dropped(DropReason::Expired)));
}

/// The link is back, and the device has heard of so many dropped messages in all.
async fn hears_of<O: bowline_embedded::Outbox>(world: &World, client: &Client<'_, O>, gaps: u64) {
    world.net.target(Some(world.server().addresses()[0]));
    while client.counters().gaps < gaps {
        client.send(address(1), b"up").await.unwrap();
        client.drained().await;
    }
    assert_eq!(client.counters().gaps, gaps);
}

/// Number and gap of the next message.
async fn takes<O: bowline_embedded::Outbox>(client: &Client<'_, O>) -> (u32, u64) {
    let mut buffer = [0; PAYLOAD];
    let message = client.recv(&mut buffer).await.unwrap();
    (number(message.payload), message.gap)
}

#[tokio::test]
async fn what_the_servers_policies_drop_is_told_by_the_message_behind_it() {
    let world = World::runs(How::Open).await;
    let server = world.server().addresses()[0];
    let device = world.device();
    world
        .with_device(world.config(How::Open), async |client| {
            parts(&world, &client).await;
            accepts(&device, message(2, 0), Policy::Block).await;
            // Two gaps in a row, of two streams, and one that is apart.
            for number in [1, 2] {
                accepts(&device, message(3, number), Policy::KeepLatest).await;
            }
            for number in [3, 4] {
                accepts(&device, message(4, number), Policy::KeepLatest).await;
            }
            accepts(&device, message(3, 5), Policy::KeepLatest).await;
            accepts(&device, message(2, 6), Policy::Block).await;
            accepts(&device, message(4, 7), Policy::KeepLatest).await;
            world.net.target(Some(server));
            // 1, 2, 3 and 4 are no more.
            for expected in [(0, 0), (5, 4), (6, 0), (7, 0)] {
                assert_eq!(takes(&client).await, expected);
            }
            assert_eq!(client.counters().gaps, 4);
        })
        .await;
}

#[tokio::test]
async fn a_gap_with_nothing_behind_it_waits_for_the_next_message_over_links() {
    for how in [How::Open, How::Encrypted] {
        let world = World::runs(how).await;
        let device = world.device();
        world
            .with_device(world.config(how), async |client| {
                for gaps in 1..=3 {
                    drops(&world, &client).await;
                    hears_of(&world, &client, gaps).await;
                }
                for expected in [(1, 3), (2, 0)] {
                    accepts(&device, message(2, expected.0), Policy::Block).await;
                    assert_eq!(takes(&client).await, expected);
                }
            })
            .await;
    }
}

/// The link is lost at each point between the opening and the acknowledgement of the gap.
#[tokio::test]
async fn a_gap_counts_once_wherever_the_link_is_lost() {
    let world = World::runs(How::Open).await;
    let device = world.device();
    world
        .with_device(world.config(How::Open), async |client| {
            for round in 0..40 {
                drops(&world, &client).await;
                world.net.cuts_after(3 * round as usize);
                hears_of(&world, &client, round + 1).await;
                accepts(&device, message(2, round as u32), Policy::Block).await;
                assert_eq!(takes(&client).await, (round as u32, 1));
            }
            println!("{} links", client.connects());
            assert!(client.connects() > 45, "some were lost");
        })
        .await;
}

/// The answer that nobody waits for any more does not take the gap with it.
#[tokio::test]
async fn the_gap_before_an_answer_that_is_late_is_told_by_the_message_behind_it() {
    let world = World::runs(How::Open).await;
    let device = world.device();
    world
        .with_device(world.config(How::Open), async |client| {
            client.connected().await;
            let mut buffer = [0; PAYLOAD];
            let instance = {
                let request = client.request(1, 7, b"what?", Duration::from_millis(300), &mut buffer);
                let (answer, asked) = tokio::join!(request, device.recv());
                assert!(answer.is_err());
                asked.unwrap().header()[1]
            };
            drops(&world, &client).await;
            accepts(&device, message(instance, 1), Policy::Block).await;
            accepts(&device, message(2, 2), Policy::Block).await;
            hears_of(&world, &client, 1).await;
            assert_eq!(takes(&client).await, (2, 1));
            assert_eq!(client.late(), 1);
        })
        .await;
}

/// What has been acknowledged does not come again in the new epoch, but for this it is not forgotten.
#[tokio::test]
async fn a_gap_that_nobody_was_told_of_is_told_in_the_next_epoch() {
    let world = World::runs(How::Open).await;
    world
        .with_device(world.config(How::Open), async |client| {
            drops(&world, &client).await;
            hears_of(&world, &client, 1).await;
            let mut status = client.watch();
            let links = client.connects();
            assert!(world.server().forget(crate::world::ID));
            while client.connects() == links {
                status.changed().await;
            }
            drops(&world, &client).await;
            hears_of(&world, &client, 2).await;
            for number in [1, 2] {
                accepts(&world.device(), message(2, number), Policy::Block).await;
            }
            let mut buffer = [0; PAYLOAD];
            let first = client.recv(&mut buffer).await.unwrap();
            assert_eq!((number(first.payload), first.id, first.gap), (1, (2, 2), 2));
            assert_eq!(takes(&client).await, (2, 0));
        })
        .await;
}

/// As long as the message behind it was not taken, a gap is not acknowledged either.
#[tokio::test]
async fn a_gap_is_told_again_after_a_power_cut_when_its_message_was_not_taken() {
    let world = World::runs(How::Open).await;
    let server = world.server().addresses()[0];
    let mut nor = Nor::<4, 4, 1024>::new(8);
    world.net.target(None);
    let device = world.device();
    for number in 0..4 {
        accepts(&device, message(3, number), Policy::KeepLatest).await;
    }
    accepts(&device, message(2, 4), Policy::Block).await;
    world.net.target(Some(server));
    for life in 0..2 {
        let mut slots = [Slot::EMPTY; 8];
        let (outbox, _) = Outbox::open(&mut nor, &mut slots, PAYLOAD, Clock::default()).await.unwrap();
        let mut memory = Memory::new();
        let (client, mut runner) =
            bowline_embedded::new(&mut memory, outbox, world.config(How::Open), Rng(3).fills()).unwrap();
        let script = async {
            if life == 0 {
                // Both have come when the server has this, and nobody takes them.
                while client.counters().received < 2 {
                    client.send(address(1), b"up").await.unwrap();
                    client.drained().await;
                }
            } else {
                assert_eq!(takes(&client).await, (3, 3));
                assert_eq!(takes(&client).await, (4, 0));
            }
        };
        beside(runner.run(&world.net), script).await;
    }
}
