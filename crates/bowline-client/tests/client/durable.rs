//! Crashes of either side, with a store at both, on N.

use bowline_client::{Dialect, Receipt};
use bowline_store_vfs::Folder;
use futures_util::FutureExt;

use crate::harness::soon;
use crate::world::{ID, World, eventually, is_pending, numbers, takes, takes_here};

#[tokio::test]
async fn what_a_device_accepted_survives_its_crash_and_arrives_once() {
    let mut world = World::waits().await;
    world.client_starts().await;
    for number in numbers(0..5) {
        soon(world.client().send(number.as_str()).until(Receipt::Accepted)).await.unwrap();
    }
    world.client_crashes();
    world.client_starts().await;
    assert_eq!(world.client().ledger().unsent, 5);
    world.server_starts().await;
    soon(world.client().send("5")).await.unwrap();
    assert_eq!(takes(&world.device(), 6).await, numbers(0..6));
    world.client_crashes();
    world.client_starts().await;
    soon(world.client().send("6")).await.unwrap();
    assert_eq!(takes(&world.device(), 1).await, ["6"]);
    assert_eq!(world.device().ledger().totals.quarantined, 0);
}

#[tokio::test]
async fn what_a_server_accepted_survives_its_crash_and_arrives_once() {
    let mut world = World::waits().await;
    world.server_starts().await;
    for number in numbers(0..5) {
        soon(world.device().send(number.as_str()).until(Receipt::Accepted)).await.unwrap();
    }
    world.server_crashes();
    world.server_starts().await;
    world.client_starts().await;
    soon(world.device().send("5")).await.unwrap();
    assert_eq!(takes_here(world.client(), 6).await, numbers(0..6));
}

#[tokio::test]
async fn r08_what_was_acknowledged_and_not_handled_comes_after_a_crash() {
    let mut world = World::runs().await;
    for number in numbers(0..4) {
        soon(world.client().send(number.as_str())).await.unwrap();
        soon(world.device().send(number.as_str())).await.unwrap();
    }
    world.server_crashes();
    world.client_crashes();
    world.server_starts().await;
    world.client_starts().await;
    world.connected().await;
    assert_eq!(takes(&world.device(), 4).await, numbers(0..4));
    assert_eq!(takes_here(world.client(), 4).await, numbers(0..4));
    soon(world.client().send("4")).await.unwrap();
    assert_eq!(takes(&world.device(), 1).await, ["4"]);
}

#[tokio::test]
async fn a_message_returned_last_comes_again_after_a_crash_under_its_number_and_no_other_does() {
    let mut world = World::runs().await;
    for number in numbers(0..3) {
        soon(world.client().send(number.as_str())).await.unwrap();
    }
    assert_eq!(takes(&world.device(), 1).await, ["0"]);
    let last = soon(world.device().recv()).await.unwrap();
    assert_eq!((last.text(), last.seq()), (Some("1"), Some(2)));
    stored(&world).await;
    world.server_crashes();
    world.server_starts().await;
    let again = soon(world.device().recv()).await.unwrap();
    assert_eq!((again.text(), again.seq(), again.epoch()), (Some("1"), Some(2), last.epoch()));
    assert_eq!(takes(&world.device(), 1).await, ["2"]);
    // Asked for the next one, of which there is none.
    assert!(world.device().recv().now_or_never().is_none());
    stored(&world).await;
    world.server_crashes();
    world.server_starts().await;
    assert!(world.device().recv().now_or_never().is_none());
}

#[tokio::test]
async fn an_orderly_stop_counts_as_handled_what_was_returned() {
    let mut world = World::runs().await;
    soon(world.client().send("0")).await.unwrap();
    assert_eq!(takes(&world.device(), 1).await, ["0"]);
    world.server_restarts().await;
    assert!(world.device().recv().now_or_never().is_none());
}

#[tokio::test]
async fn only_unfinished_deliveries_come_again_after_a_crash() {
    let mut world = World::runs().await;
    for number in numbers(0..5) {
        soon(world.client().send(number.as_str())).await.unwrap();
    }
    let mut deliveries = Vec::new();
    for _ in 0..5 {
        deliveries.push(soon(world.device().next()).await.unwrap());
    }
    for at in [3, 1, 0] {
        deliveries.remove(at).done();
    }
    stored(&world).await;
    world.server_crashes();
    // What the dead process still does is of no effect.
    drop(deliveries);
    world.server_starts().await;
    assert_eq!(takes(&world.device(), 2).await, ["2", "4"]);
    assert!(world.device().recv().now_or_never().is_none());
}

#[tokio::test]
async fn a_delivery_that_is_dropped_is_the_next_one_again() {
    let world = World::runs().await;
    for number in numbers(0..3) {
        soon(world.client().send(number.as_str())).await.unwrap();
    }
    let device = world.device();
    let first = soon(device.next()).await.unwrap();
    let second = soon(device.next()).await.unwrap();
    drop(second);
    drop(first);
    assert_eq!(takes(&device, 3).await, numbers(0..3));
}

#[tokio::test]
async fn a_reply_and_what_it_answers_happen_together_or_not_at_all() {
    let mut world = World::runs().await;
    for round in 0..20 {
        soon(world.client().send(format!("ask {round}"))).await.unwrap();
        let delivery = soon(world.device().next()).await.unwrap();
        assert_eq!(delivery.message().text(), Some(format!("ask {round}").as_str()));
        soon(delivery.reply(format!("answer {round}"))).await.unwrap();
        world.server_crashes();
        world.server_starts().await;
        if let Some(delivery) = world.device().next().now_or_never() {
            // The transaction was not written: neither half of it.
            assert_eq!(world.device().ledger().unsent, 0);
            soon(delivery.unwrap().reply(format!("answer {round}"))).await.unwrap();
        }
        assert_eq!(takes_here(world.client(), 1).await, [format!("answer {round}")]);
    }
    assert!(world.client().recv().now_or_never().is_none());
}

#[tokio::test]
async fn a_message_buried_leaves_the_inbox_and_is_in_the_box_after_a_crash() {
    let mut world = World::runs().await;
    soon(world.client().send("bad")).await.unwrap();
    soon(world.device().next()).await.unwrap().bury("cannot be handled");
    stored(&world).await;
    world.server_crashes();
    world.server_starts().await;
    assert!(world.device().next().now_or_never().is_none());
    let letters = world.server().store().unwrap().dead_letters(Some(ID)).unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!((&letters[0].letter.payload[..], letters[0].letter.reason.as_str()), (&b"bad"[..], "cannot be handled"));
}

#[tokio::test]
async fn a_device_without_a_store_begins_a_new_epoch_and_doubles_nothing() {
    let mut world = World::waits().await;
    world.server_starts().await;
    let client = world.builder().start().unwrap();
    soon(client.send("1")).await.unwrap();
    soon(world.device().send("a")).await.unwrap();
    assert_eq!(takes_here(&client, 1).await, ["a"]);
    let epoch = world.device().epoch();
    world.net.target(None);
    eventually(|| !client.status().is_up()).await;
    let mut lost = Box::pin(client.send("gone with its memory"));
    assert!(is_pending(&mut lost));
    let _down = soon(world.device().send("b").until(Receipt::Accepted)).await;
    drop(lost);
    drop(client);
    world.net.target(Some(world.server().addresses()[0]));
    let client = world.builder().start().unwrap();
    soon(client.send("2")).await.unwrap();
    assert_eq!(takes_here(&client, 1).await, ["b"]);
    assert_eq!(takes(&world.device(), 2).await, ["1", "2"]);
    assert!(world.device().epoch() > epoch);
}

#[tokio::test]
async fn a_device_restored_from_an_old_copy_is_quarantined_until_someone_decides() {
    let mut world = World::runs().await;
    soon(world.client().send("1")).await.unwrap();
    soon(world.device().send("a")).await.unwrap();
    assert_eq!(takes_here(world.client(), 1).await, ["a"]);
    world.client_stops().await;
    let copy = Folder::copy_of(world.device_folder.path());
    world.client_starts().await;
    soon(world.client().send("2")).await.unwrap();
    soon(world.device().send("b")).await.unwrap();
    world.client_stops().await;

    world.device_folder = copy;
    world.client_starts().await;
    eventually(|| world.client().ledger().totals.quarantined > 0).await;
    let down = world.client().status().link;
    let mut sent = Box::pin(world.client().send("3"));
    assert!(is_pending(&mut sent), "{down:?}");
    assert_eq!(takes(&world.device(), 2).await, ["1", "2"]);
    assert!(world.device().recv().now_or_never().is_none(), "nothing twice");
    assert!(world.server().forget(ID));
    soon(sent).await.unwrap();
    assert_eq!(takes(&world.device(), 1).await, ["3"]);
}

#[tokio::test]
async fn a_server_restored_from_an_old_copy_reports_the_quarantine_too() {
    let mut world = World::runs().await;
    soon(world.client().send("1")).await.unwrap();
    world.server_stops().await;
    let copy = Folder::copy_of(world.server_folder.path());
    world.server_starts().await;
    soon(world.client().send("2")).await.unwrap();
    world.server_stops().await;
    world.server_folder = copy;
    world.server_starts().await;
    eventually(|| world.client().ledger().totals.quarantined > 0).await;
    eventually(|| world.device().ledger().totals.quarantined > 0).await;
    assert_eq!((world.device().connects(), takes(&world.device(), 1).await), (0, numbers(1..2)));
}

#[tokio::test]
async fn a_server_that_lost_its_store_is_reported_and_gone_on_with() {
    let mut world = World::runs().await;
    soon(world.client().send("1")).await.unwrap();
    world.net.target(None);
    eventually(|| !world.client().status().is_up()).await;
    for number in numbers(2..5) {
        soon(world.client().send(number.as_str()).until(Receipt::Accepted)).await.unwrap();
    }
    world.server_stops().await;
    world.server_folder = Folder::new();
    world.server_starts().await;
    soon(world.client().send("5")).await.unwrap();
    assert_eq!(takes(&world.device(), 4).await, numbers(2..6));
    assert_eq!(world.client().ledger().native.forgotten, 1);
}

#[tokio::test]
async fn an_id_that_changes_its_dialect_loses_and_doubles_nothing() {
    let mut world = World::waits().await;
    world.keys = bowline_server::Keys::default();
    world.server_starts().await;
    let mut next = 0;
    for dialect in [Dialect::Headers, Dialect::Native, Dialect::Headers, Dialect::Native, Dialect::Upstream] {
        world.dialect = dialect;
        let builder = crate::harness::client(&world.net.address, dialect);
        // Waiting on both sides before there is a link.
        let store = crate::world::open(world.device_folder.path()).await;
        world.net.target(None);
        world.client = Some(builder.store(store).start().unwrap());
        for _ in 0..3 {
            let number = next.to_string();
            soon(world.client().send(number.as_str()).until(Receipt::Accepted)).await.unwrap();
            soon(world.device().send(number.as_str()).until(Receipt::Accepted)).await.unwrap();
            next += 1;
        }
        world.net.target(Some(world.server().addresses()[0]));
        assert_eq!(takes(&world.device(), 3).await, numbers(next - 3..next), "{dialect}");
        assert_eq!(takes_here(world.client(), 3).await, numbers(next - 3..next), "{dialect}");
        eventually(|| world.client().ledger().unsent + world.device().ledger().unsent == 0).await;
        world.client_stops().await;
        world.server_restarts().await;
    }
    assert!(world.device().recv().now_or_never().is_none());
}

/// Everything the server was asked to store is stored.
async fn stored(world: &World) {
    // One more transaction, behind all others.
    soon(world.device().send("marker").until(Receipt::Accepted)).await.unwrap();
}
