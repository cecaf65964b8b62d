//! Each future, polled so many times and dropped, for every number of times: nothing is lost, doubled or stuck.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use bowline_embedded::{Client, Slot};
use bowline_flash::sim::Nor;
use bowline_flash::{Clock, Outbox};
use bowline_server::Message;
use embassy_time::Duration;

use crate::world::{How, Memory, PAYLOAD, Rng, World, address, beside, number, payload};

type Flash = Nor<4, 4, 1024>;
type Board<'a> = Client<'a, Outbox<'a, &'a mut Flash>>;

/// Runs `script` on a device with a flash that takes its time.
async fn with_flash(world: &World, how: How, script: impl AsyncFnOnce(Board<'_>)) {
    let mut nor = Flash::new(8);
    nor.yields(true);
    let mut slots = [Slot::EMPTY; 8];
    let (outbox, _) = Outbox::open(&mut nor, &mut slots, PAYLOAD, Clock::default()).await.unwrap();
    let mut memory = Memory::new();
    let (client, mut runner) = bowline_embedded::new(&mut memory, outbox, world.config(how), Rng(3).fills()).unwrap();
    beside(runner.run(&world.net), script(client)).await;
}

/// Polls a future so many times, each when it was woken. What it returns, or `None` if it was dropped before.
async fn polls<T>(future: impl Future<Output = T>, times: usize) -> Option<T> {
    let mut future = pin!(future);
    let mut polled = 0;
    poll_fn(|context| {
        if polled == times {
            return Poll::Ready(None);
        }
        polled += 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            // Dropped in the same moment: nothing need wake it for that.
            Poll::Pending if polled == times => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[tokio::test]
async fn a_dropped_send_is_not_sent_and_the_others_are() {
    let world = World::runs(How::Open).await;
    let device = world.device();
    with_flash(&world, How::Open, async |client| {
        let (mut accepted, mut dropped) = (Vec::new(), 0);
        for times in 0.. {
            if polls(client.send(address(1), &payload(times)), times as usize).await.is_some() {
                accepted.push(times);
                // So many in a row that none is left to be polled longer.
                if accepted.len() == 5 {
                    break;
                }
            } else {
                dropped += 1;
                // What was begun is made void by the next write.
                let marker = 1_000 + times;
                client.send(address(1), &payload(marker)).await.unwrap();
                accepted.push(marker);
                accepted.retain(|number| *number >= 1_000);
                while let Some(marker) = accepted.first().copied() {
                    assert_eq!(number(device.recv().await.unwrap().payload()), marker, "after {times} polls");
                    accepted.remove(0);
                }
            }
        }
        assert!(dropped > 10, "{dropped} futures were dropped");
        for expected in accepted {
            assert_eq!(number(device.recv().await.unwrap().payload()), expected);
        }
        client.drained().await;
    })
    .await;
}

#[tokio::test]
async fn a_dropped_recv_has_taken_nothing() {
    let world = World::runs(How::Encrypted).await;
    let device = world.device();
    with_flash(&world, How::Encrypted, async |client| {
        let count = 40;
        let sends = async {
            for number in 0..count {
                device.send(Message::on_channel(1, 2, 3, &payload(number))).await.unwrap();
            }
        };
        let takes = async {
            let (mut next, mut dropped) = (0, 0);
            let mut buffer = [0; PAYLOAD];
            while next < count {
                // Once or twice: it is woken when there is something.
                match polls(client.recv(&mut buffer), 1 + dropped % 2).await {
                    Some(message) => {
                        assert_eq!(number(message.unwrap().payload), next);
                        next += 1;
                    }
                    None => {
                        dropped += 1;
                        tokio::task::yield_now().await;
                    }
                }
            }
            assert!(dropped > 0);
        };
        tokio::join!(sends, takes);
    })
    .await;
}

#[tokio::test]
async fn a_dropped_request_gives_its_instance_back() {
    let world = World::with_echo(How::Open).await;
    with_flash(&world, How::Open, async |client| {
        let long = Duration::from_secs(30);
        let mut answers = 0;
        for times in 0.. {
            let mut buffer = [0; PAYLOAD];
            let asked = payload(times);
            match polls(client.request(1, 9, &asked, long, &mut buffer), times as usize).await {
                Some(answer) => {
                    assert_eq!(number(answer.unwrap().payload), times, "its own answer");
                    answers += 1;
                    if answers == 3 {
                        break;
                    }
                }
                None => assert_eq!(client.try_recv(&mut buffer), Ok(None)),
            }
        }
        // More than can be open at a time were dropped, and all can be opened.
        let open: Vec<_> = (0..8).map(|instance| client.open(1, instance).unwrap()).collect();
        drop(open);
        client.drained().await;
    })
    .await;
}

#[tokio::test]
async fn dropped_waits_for_the_link_harm_nobody() {
    let world = World::runs(How::Open).await;
    with_flash(&world, How::Open, async |client| {
        let mut watch = client.watch();
        for times in 0..4 {
            polls(client.connected(), times).await;
            polls(client.drained(), times).await;
        }
        while polls(watch.changed(), 1).await.is_none() {
            tokio::task::yield_now().await;
        }
        client.connected().await;
        client.drained().await;
    })
    .await;
}

/// The runner is polled once, dropped, started again and polled twice, and so on.
#[tokio::test]
async fn a_dropped_runner_has_lost_and_doubled_nothing() {
    for how in [How::Open, How::Encrypted] {
        let world = World::runs(how).await;
        let device = world.device();
        let mut nor = Flash::new(8);
        nor.yields(true);
        let mut slots = [Slot::EMPTY; 8];
        let (outbox, _) = Outbox::open(&mut nor, &mut slots, PAYLOAD, Clock::default()).await.unwrap();
        assert_eq!(outbox.epoch(), 0);
        let mut memory = Memory::new();
        let (client, mut runner) =
            bowline_embedded::new(&mut memory, outbox, world.config(how), Rng(3).fills()).unwrap();
        let count = 120;
        let done = Cell::new(0);
        let up = async {
            for number in 0..count {
                client.send(address(1), &payload(number)).await.unwrap();
            }
            client.drained().await;
        };
        let hears = async {
            for expected in 0..count {
                assert_eq!(number(device.recv().await.unwrap().payload()), expected);
                done.set(done.get() + 1);
            }
        };
        let down = async {
            for number in 0..count {
                device.send(Message::on_channel(1, 2, 3, &payload(number))).await.unwrap();
            }
        };
        let takes = async {
            let mut buffer = [0; PAYLOAD];
            for expected in 0..count {
                assert_eq!(number(client.recv(&mut buffer).await.unwrap().payload), expected);
                done.set(done.get() + 1);
            }
        };
        let runs = async {
            for times in 1.. {
                polls(runner.run(&world.net), times).await;
            }
        };
        let all = async { tokio::join!(up, hears, down, takes) };
        beside(runs, all).await;
        assert_eq!(done.get(), 2 * count);
        println!("{how:?}: {} links", client.counters().links);
        assert!(client.counters().links > 5);
    }
}
