//! Futures dropped at every await (P8): nothing wedges, nothing is lost or doubled, order is kept.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bowline_client::{Client, Dialect};
use bowline_server::Limits;

use crate::harness::{client, soon};

/// Polls `future` up to `polls` times, yielding in between so that everything else gets on, then drops it.
/// Says whether it was done before.
async fn dropped_after(polls: usize, future: impl Future) -> bool {
    let mut future = std::pin::pin!(future);
    for _ in 0..polls {
        if future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    false
}

async fn pair(dialect: Dialect, limits: Limits) -> (bowline_server::Server, bowline_server::Device, Client) {
    let server = bowline_server::Server::builder()
        .listen("127.0.0.1:0".parse().unwrap())
        .pace(1, Duration::ZERO)
        .settle(Duration::ZERO)
        .limits(limits)
        .start()
        .await
        .unwrap();
    let client = client(&server.addresses()[0].to_string(), dialect).limits(limits).start().unwrap();
    let device = soon(server.device("board")).await.unwrap();
    soon(client.connected()).await.unwrap();
    (server, device, client)
}

/// r24, r25: sends are dropped after 0 to 5 polls, others in between are awaited.
async fn sends_are_dropped(dialect: Dialect, outbox: usize) {
    let limits = Limits { outbox, inbox: 200, ..Limits::default() };
    let (_server, device, client) = pair(dialect, limits).await;
    let mut awaited = Vec::new();
    let mut number = 0;
    for polls in 0..6 {
        for _ in 0..6 {
            dropped_after(polls, client.send(number.to_string())).await;
            number += 1;
        }
        soon(client.send(number.to_string())).await.unwrap();
        awaited.push(number);
        number += 1;
    }
    let mut received = Vec::new();
    while let Some(message) = device.try_recv().unwrap() {
        received.push(message.text().unwrap().parse::<u32>().unwrap());
    }
    assert!(received.is_sorted_by(|a, b| a < b), "in order, none twice: {received:?}");
    assert!(awaited.iter().all(|number| received.contains(number)), "all that were awaited: {received:?}");
    assert!(!received.contains(&0), "a send that was never polled was never made");
}

#[tokio::test]
async fn r24_dropped_sends_wedge_nothing_on_h() {
    sends_are_dropped(Dialect::Headers, 64).await;
}

#[tokio::test]
async fn r24_dropped_sends_wedge_nothing_on_u() {
    sends_are_dropped(Dialect::Upstream, 64).await;
}

#[tokio::test]
async fn r25_dropped_sends_that_waited_for_room_wedge_nothing() {
    sends_are_dropped(Dialect::Headers, 1).await;
}

#[tokio::test]
async fn r17_a_send_that_timed_out_keeps_its_place() {
    let (_server, device, client) = pair(Dialect::Headers, Limits::default()).await;
    // Accepted by the outbox and dropped: it goes out all the same, once, and before what follows.
    assert!(!dropped_after(1, client.send("\"timed out\"")).await);
    soon(client.send("\"after\"")).await.unwrap();
    assert_eq!(soon(device.recv()).await.unwrap().payload(), b"\"timed out\"");
    assert_eq!(soon(device.recv()).await.unwrap().payload(), b"\"after\"");
    assert_eq!(device.try_recv().unwrap(), None);
}

#[tokio::test]
async fn dropped_receives_lose_nothing() {
    let (_server, device, client) = pair(Dialect::Headers, Limits::default()).await;
    let mut received = Vec::new();
    for number in 0..40_u32 {
        soon(device.send(number.to_string())).await.unwrap();
        // Two receivers wait and are dropped, one of them perhaps after it was woken.
        let (first, second) = (client.recv(), client.recv());
        let mut first = std::pin::pin!(first);
        let mut second = std::pin::pin!(second);
        let waker = Waker::noop();
        for future in [first.as_mut(), second.as_mut()] {
            if number % 2 == 0
                && let Poll::Ready(message) = future.poll(&mut Context::from_waker(waker))
            {
                received.push(message.unwrap());
            }
        }
    }
    while received.len() < 40 {
        received.push(soon(client.recv()).await.unwrap());
    }
    let numbers: Vec<u32> = received.iter().map(|message| message.text().unwrap().parse().unwrap()).collect();
    assert_eq!(numbers, (0..40).collect::<Vec<_>>());
}

#[tokio::test]
async fn waiting_for_a_link_may_be_dropped() {
    let client = client("127.0.0.1:1", Dialect::Headers).start().unwrap();
    for polls in 0..3 {
        assert!(!dropped_after(polls, client.connected()).await);
    }
    let mut watch = client.watch();
    for polls in 0..3 {
        assert!(!dropped_after(polls, watch.changed()).await);
    }
}
