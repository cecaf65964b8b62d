//! Messages both ways while nothing fails.

use std::pin::pin;

use bowline_embedded::{ClaimError, Expiry, LinkState, Message as Packet, Policy, PushError, RequestError, buffer_for};
use bowline_server::Message;
use embassy_time::Duration;

use crate::world::{ALL, How, PAYLOAD, World, address, is_pending, number, payload, soon};

const COUNT: u32 = 60;

#[tokio::test]
async fn messages_arrive_once_and_in_order_both_ways_however_the_link_is_protected() {
    for how in ALL {
        let world = World::runs(how).await;
        let device = world.device();
        // In pieces of three bytes no record comes whole.
        world.net.pieces(if how == How::Open { 3 } else { usize::MAX });
        world
            .with_device(world.config(how), async |client| {
                let up = async {
                    for number in 0..COUNT {
                        client.send(address(1), &payload(number)).await.unwrap();
                    }
                    client.drained().await;
                };
                let down = async {
                    for number in 0..COUNT {
                        device.send(Message::on_channel(1, 2, 3, &payload(number))).await.unwrap();
                    }
                };
                let hears = async {
                    for expected in 0..COUNT {
                        let message = device.recv().await.unwrap();
                        assert_eq!((message.header(), number(message.payload())), (&[1, 1, 7][..], expected));
                    }
                };
                let takes = async {
                    let mut buffer = [0; PAYLOAD];
                    for expected in 0..COUNT {
                        let message = client.recv(&mut buffer).await.unwrap();
                        assert_eq!((message.channel.instance, number(message.payload)), (2, expected));
                        assert_eq!(message.id, (1, u64::from(expected) + 1));
                    }
                };
                tokio::join!(up, down, hears, takes);
                let LinkState::Up { protection } = client.status().link else { panic!("up") };
                assert_eq!(protection, device.protection());
                assert_eq!(protection.map(|it| it.encrypts()), [None, Some(true), Some(false)][how as usize]);
                assert_eq!((client.connects(), client.counters().resent), (1, 0));
            })
            .await;
    }
}

/// What was received and not taken is not acknowledged; when it is, the server's `send` returns.
#[tokio::test]
async fn a_message_is_acknowledged_when_it_is_taken_and_not_before() {
    let world = World::runs(How::Open).await;
    let device = world.device();
    world
        .with_device(world.config(How::Open), async |client| {
            let channel = client.open(1, 4).unwrap();
            let message = |instance| Message::on_channel(1, instance, 0, &[instance]);
            let mut first = pin!(device.send(message(4)).into_future());
            let mut second = pin!(device.send(message(5)).into_future());
            let mut third = pin!(device.send(message(4)).into_future());
            assert!(is_pending(&mut first) && is_pending(&mut second) && is_pending(&mut third));
            let mut buffer = [0; PAYLOAD];
            channel.recv(&mut buffer).await.unwrap();
            // With the third the second has come, and waits.
            channel.recv(&mut buffer).await.unwrap();
            // What was acknowledged before this has arrived when this has.
            client.send(address(1), b"up").await.unwrap();
            client.drained().await;
            first.await.unwrap();
            assert!(is_pending(&mut second), "nobody has taken the second");
            assert!(is_pending(&mut third), "it is behind one that nobody has taken");
            assert_eq!(client.recv(&mut buffer).await.unwrap().payload, [5]);
            second.await.unwrap();
            third.await.unwrap();
        })
        .await;
}

/// While nobody takes what has come, the server keeps the rest, and nothing is lost.
#[tokio::test]
async fn a_full_inbox_holds_the_server_back() {
    let world = World::runs(How::Encrypted).await;
    let device = world.device();
    world
        .with_device(world.config(How::Encrypted), async |client| {
            let sends = (0..30).map(|number| device.send(Message::on_channel(1, 2, 3, &payload(number))));
            let sends: Vec<_> = sends.map(|sending| async { sending.await.unwrap() }).collect();
            let all = futures_util::future::join_all(sends);
            let takes = async {
                // Up, with as much as there is room for, and the device can still be heard.
                client.connected().await;
                client.send(address(1), b"up").await.unwrap();
                client.drained().await;
                assert!(client.counters().received <= 4);
                let mut buffer = [0; PAYLOAD];
                for expected in 0..30 {
                    assert_eq!(number(client.recv(&mut buffer).await.unwrap().payload), expected);
                }
            };
            tokio::join!(all, takes);
        })
        .await;
}

/// On a connection that is slow enough there is always something to write. What comes does not wait for that.
#[tokio::test]
async fn it_listens_between_any_two_records_that_it_writes() {
    let world = World::runs(How::Encrypted).await;
    let server = world.server().addresses()[0];
    world.net.target(None);
    world
        .with_device(world.config(How::Encrypted), async |client| {
            for _ in 0..8 {
                client.send(address(1), &[7; PAYLOAD]).await.unwrap();
            }
            world.net.target(Some(server));
            client.drained().await;
        })
        .await;
    let most = world.net.most_unheard();
    assert!((PAYLOAD..=buffer_for(PAYLOAD)).contains(&most), "{most}");
}

#[tokio::test]
async fn a_full_outbox_refuses_and_send_waits_for_room() {
    let mut world = World::runs(How::Open).await;
    let server = world.server().addresses()[0];
    world.net.target(None);
    let device = world.device();
    world
        .with_device(world.config(How::Open), async |client| {
            for number in 0..8 {
                client.try_send(address(1), &payload(number)).await.unwrap();
            }
            assert_eq!(client.try_send(address(1), b"9").await, Err(PushError::Full));
            let large = [0; PAYLOAD + 1];
            assert!(matches!(client.send(address(1), &large).await, Err(PushError::TooLarge { len: 65, limit: 64 })));
            let nine = payload(8);
            let mut waits = pin!(client.send(address(1), &nine));
            assert!(is_pending(&mut waits));
            world.net.target(Some(server));
            waits.await.unwrap();
            for expected in 0..9 {
                assert_eq!(number(device.recv().await.unwrap().payload()), expected);
            }
        })
        .await;
    world.server_crashes();
}

/// What a policy drops is told to the server as a gap, and nothing else is touched.
#[tokio::test]
async fn only_the_latest_value_goes_out_when_the_link_is_back() {
    let world = World::runs(How::Open).await;
    let server = world.server().addresses()[0];
    let device = world.device();
    world.net.target(None);
    world
        .with_device(world.config(How::Open), async |client| {
            client.send(address(1), b"first").await.unwrap();
            for value in [b"1", b"2", b"3"] {
                let (policy, expiry) = (Policy::KeepLatest, Expiry::Never);
                let message = Packet { channel: address(2), policy, expiry, payload: value };
                client.send_message(&message).await.unwrap();
            }
            client.send(address(1), b"last").await.unwrap();
            world.net.target(Some(server));
            for expected in [&b"first"[..], b"3", b"last"] {
                assert_eq!(device.recv().await.unwrap().payload(), expected);
            }
            client.drained().await;
            assert_eq!((client.counters().gaps_sent, client.counters().sent), (2, 3));
        })
        .await;
}

#[tokio::test]
async fn requests_get_their_own_answers_and_late_ones_are_discarded() {
    let world = World::with_echo(How::Encrypted).await;
    world
        .with_device(world.config(How::Encrypted), async |client| {
            let long = Duration::MAX;
            let (mut a, mut b) = ([0; PAYLOAD], [0; PAYLOAD]);
            let (one, two) =
                tokio::join!(client.request(1, 5, b"one", long, &mut a), client.request(1, 5, b"two", long, &mut b));
            assert_eq!((one.unwrap().payload, two.unwrap().payload), (&b"one"[..], &b"two"[..]));

            // The link is away: the request goes unanswered, and its answer comes when nobody waits.
            let server = world.server().addresses()[0];
            let mut status = client.watch();
            world.net.target(None);
            assert!(!status.changed().await.is_up());
            let short = client.request(1, 5, b"three", Duration::from_millis(900), &mut a).await;
            assert_eq!(short, Err(RequestError::NoAnswer));
            // It is not sent any more, or answered too late.
            world.net.target(Some(server));
            client.connected().await;
            assert_eq!(client.request(1, 5, b"four", long, &mut a).await.unwrap().payload, b"four");
            client.drained().await;
            assert!(client.late() <= 1);

            let unheard = client.request(1, 5, b"silence", Duration::from_millis(50), &mut a).await;
            assert_eq!(unheard, Err(RequestError::NoAnswer));
            assert_eq!(client.try_recv(&mut b), Ok(None), "nothing of this is for others");
            let short = client.request(1, 5, b"long answer", long, &mut a[..4]).await;
            assert_eq!(short, Err(RequestError::Buffer { needed: 11 }));
        })
        .await;
}

#[tokio::test]
async fn a_channel_gets_its_own_messages_and_leaves_the_rest() {
    let world = World::runs(How::Open).await;
    let device = world.device();
    world
        .with_device(world.config(How::Open), async |client| {
            let channel = client.open(1, 4).unwrap();
            assert!(matches!(client.open(1, 4), Err(ClaimError::InUse)));
            let others: Vec<_> = (10..17).map(|instance| client.open(1, instance).unwrap()).collect();
            assert!(matches!(client.open(1, 17), Err(ClaimError::TooMany)));
            drop(others);

            let send = |instance, payload: &'static str| {
                let device = device.clone();
                async move { device.send(Message::on_channel(1, instance, 0, payload.as_bytes())).await.unwrap() }
            };
            let mut buffer = [0; PAYLOAD];
            let script = async {
                assert_eq!(channel.recv(&mut buffer).await.unwrap().payload, b"for four");
                assert_eq!(client.recv(&mut buffer).await.unwrap().payload, b"for five");
                channel.send(9, b"up").await.unwrap();
                assert_eq!(device.recv().await.unwrap().header(), [1, 4, 9]);
                // What it leaves is for everybody.
                drop(channel);
                assert_eq!(client.recv(&mut buffer).await.unwrap().payload, b"again");
            };
            soon(async { tokio::join!(send(5, "for five"), send(4, "for four"), send(4, "again"), script) }).await;
        })
        .await;
}
