//! What policies drop is told to the other side, across restarts of either.

use std::time::Duration;

use bowline_client::{DropReason, Policy, Receipt, SendError};

use crate::harness::soon;
use crate::world::{World, eventually, is_pending};

/// Accepted by the outbox; what becomes of it then is up to its policy.
async fn queues(world: &World, text: &str, policy: Policy) {
    soon(world.client().send(text).policy(policy).until(Receipt::Accepted)).await.unwrap();
}

/// Text and gap of the next message at the server.
async fn hears(world: &World) -> (String, u64) {
    let message = soon(world.device().recv()).await.unwrap();
    (message.text().unwrap().to_owned(), message.gap())
}

#[tokio::test]
async fn holes_survive_a_crash_of_the_sender() {
    let mut world = World::waits().await;
    world.server_starts().await;
    world.client_starts().await;
    soon(world.client().send("first")).await.unwrap();
    world.net.target(None);
    eventually(|| !world.client().status().is_up()).await;
    for value in ["1", "2", "3"] {
        queues(&world, value, Policy::KeepLatest).await;
    }
    queues(&world, "between", Policy::Block).await;
    queues(&world, "4", Policy::KeepLatest).await;
    world.client_crashes();
    world.client_starts().await;
    world.net.target(Some(world.server().addresses()[0]));
    assert_eq!(hears(&world).await, ("first".into(), 0));
    assert_eq!(hears(&world).await, ("between".into(), 3));
    assert_eq!(hears(&world).await, ("4".into(), 0));
    assert_eq!(world.device().ledger().totals.gaps, 3);
    soon(world.client().send("last")).await.unwrap();
    assert_eq!(hears(&world).await, ("last".into(), 0));
}

#[tokio::test]
async fn a_gap_wider_than_the_receivers_inbox_leaves_room_for_what_follows() {
    let mut world = World::waits().await;
    world.server_starts().await;
    world.client_starts().await;
    soon(world.client().send("first")).await.unwrap();
    world.net.target(None);
    eventually(|| !world.client().status().is_up()).await;
    let values = 2 * bowline_client::Limits::default().inbox as u64;
    for value in 1..=values {
        queues(&world, &value.to_string(), Policy::KeepLatest).await;
    }
    world.net.target(Some(world.server().addresses()[0]));
    assert_eq!(hears(&world).await, ("first".into(), 0));
    assert_eq!(hears(&world).await, (values.to_string(), values - 1));
}

#[tokio::test]
async fn a_hole_at_the_end_of_an_outbox_survives_too_and_its_number_is_not_used_again() {
    let mut world = World::runs().await;
    soon(world.client().send("first")).await.unwrap();
    world.net.target(None);
    eventually(|| !world.client().status().is_up()).await;
    let late = world.client().send("late").expires_in(Duration::from_millis(20));
    assert_eq!(soon(late).await, Err(SendError::Dropped(DropReason::Expired)));
    // Most likely stored by then; otherwise it expires once more.
    tokio::time::sleep(Duration::from_millis(50)).await;
    world.client_crashes();
    world.client_starts().await;
    world.net.target(Some(world.server().addresses()[0]));
    soon(world.client().send("next")).await.unwrap();
    assert_eq!((hears(&world).await, hears(&world).await), (("first".into(), 0), ("next".into(), 1)));
}

#[tokio::test]
async fn a_gap_is_told_although_the_receiver_crashes_before_the_next_message() {
    let mut world = World::waits().await;
    world.server_starts().await;
    world.client_starts().await;
    soon(world.client().send("first")).await.unwrap();
    assert_eq!(hears(&world).await, ("first".into(), 0));
    world.net.target(None);
    eventually(|| !world.client().status().is_up()).await;
    let mut late = Box::pin(world.client().send("late").expires_in(Duration::from_millis(20)));
    assert!(is_pending(&mut late));
    assert_eq!(soon(late).await, Err(SendError::Dropped(DropReason::Expired)));
    let address = world.server().addresses()[0];
    world.net.target(Some(address));
    eventually(|| world.device().ledger().totals.gaps == 1).await;
    // The gap is acknowledged, so it is stored.
    eventually(|| world.client().ledger().native.acked == 2).await;
    world.server_crashes();
    world.server_starts().await;
    soon(world.client().send("next")).await.unwrap();
    assert!(world.device().recv().await.unwrap().text() == Some("first"), "nothing was asked for after it");
    assert_eq!(hears(&world).await, ("next".into(), 1));
}

#[tokio::test]
async fn what_expired_while_its_sender_was_down_is_a_gap() {
    let mut world = World::waits().await;
    world.client_starts().await;
    let short = Duration::from_millis(100);
    soon(world.client().send("late").expires_in(short).until(Receipt::Accepted)).await.unwrap();
    queues(&world, "lasting", Policy::Block).await;
    world.client_crashes();
    tokio::time::sleep(short).await;
    world.client_starts().await;
    world.server_starts().await;
    assert_eq!(hears(&world).await, ("lasting".into(), 1));
    let ledger = world.client().ledger();
    assert_eq!((ledger.totals.dropped, world.device().ledger().totals.gaps), (1, 1));
}

#[tokio::test]
async fn what_was_sent_is_delivered_whatever_its_policy() {
    let mut world = World::waits().await;
    world.server_starts().await;
    world.client_starts().await;
    soon(world.client().send("0")).await.unwrap();
    assert_eq!(hears(&world).await, ("0".into(), 0));
    // Received, and not acknowledged: the server cannot store it.
    world.server_folder.breaks();
    let short = Duration::from_millis(20);
    let mut first = Box::pin(world.client().send("1").policy(Policy::KeepLatest).expires_in(short));
    assert!(is_pending(&mut first));
    eventually(|| world.device().ledger().totals.received == 2).await;
    let mut second = Box::pin(world.client().send("2").policy(Policy::KeepLatest));
    assert!(is_pending(&mut second));
    tokio::time::sleep(2 * short).await;
    assert!(is_pending(&mut first) && is_pending(&mut second), "neither dropped nor acknowledged");
    assert!(world.device().try_recv().unwrap().is_none());
    world.server_folder.heals();
    soon(first).await.unwrap();
    soon(second).await.unwrap();
    assert_eq!((hears(&world).await, hears(&world).await), (("1".into(), 0), ("2".into(), 0)));
    assert_eq!(world.client().connects(), 1, "the link stayed");
}

#[tokio::test]
async fn nothing_is_sent_before_it_is_stored() {
    let world = World::runs().await;
    world.connected().await;
    world.device_folder.breaks();
    let mut sent = Box::pin(world.client().send("1"));
    assert!(is_pending(&mut sent));
    soon(world.client().send_best_effort("behind it")).await.unwrap();
    let message = soon(world.device().recv()).await.unwrap();
    assert_eq!(message.text(), Some("behind it"), "best effort waits for no disk");
    assert!(!sent.is_accepted());
    world.device_folder.heals();
    soon(sent).await.unwrap();
    assert_eq!(hears(&world).await, ("1".into(), 0));
}

#[tokio::test]
async fn a_device_begins_no_epoch_that_it_cannot_store() {
    let mut world = World::waits().await;
    world.server_starts().await;
    world.device_folder = bowline_store_vfs::Folder::new();
    let store = crate::world::open(world.device_folder.path()).await;
    world.device_folder.breaks();
    world.client = Some(world.builder().store(store).start().unwrap());
    eventually(|| world.server().stats().native_sealed == 1).await;
    for _ in 0..50 {
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(!world.client().status().is_up() && !world.device().status().is_up());
    world.device_folder.heals();
    world.connected().await;
    assert_eq!(world.server().stats().native_sealed, 1, "on the same link");
}
