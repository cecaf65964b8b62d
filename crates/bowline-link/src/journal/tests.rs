//! What is in the store at every moment is what a restored endpoint may rest on.

use bowline_proto::legacy::{Config, Link, Received};
use bowline_proto::time::{Duration, Instant};
use bowline_proto::{Side, legacy, native};
use bowline_store::{Change, Durability, Seq, Store};

use crate::{Endpoint, Limits, Message, Outside, Receipt, Storage};

fn link(session: &mut legacy::Session) -> Link {
    let config = Config::new(Side::Server, Duration::from_millis(1_000));
    Link::open(session, bowline_proto::Dialect::Headers, config, Instant::ZERO)
}

/// The ticket of a message that comes on a new link, if it is new.
fn comes(session: &mut legacy::Session, line: &[u8]) -> Option<legacy::Ticket> {
    match link(session).handle_input(session, Instant::ZERO, line).received {
        Some(Received::Message(incoming)) => Some(incoming.ticket),
        _ => None,
    }
}

fn store() -> Store {
    Store::open("", Durability::Memory, bowline_store::Limits::default()).unwrap()
}

fn endpoint() -> Endpoint {
    Endpoint::stored(Side::Server, Limits::default(), "boat-7", Storage::new(store(), Outside::default()), None)
}

fn stored(endpoint: &Endpoint) -> bowline_store::Device {
    endpoint.0.storage.as_ref().unwrap().store().load("boat-7").unwrap().expect("it is known")
}

/// A message arrives on N, and is not given to the store yet.
fn arrives(endpoint: &Endpoint, seq: u64) {
    let mut state = endpoint.lock();
    state.inbox.accept_native(seq, native::Ticket::stored(1, seq), Message::new(seq.to_string()));
    state.journal.touch();
}

#[tokio::test]
async fn a_reply_is_stored_with_what_it_answers_also_when_something_arrives_at_that_moment() {
    let endpoint = endpoint();
    arrives(&endpoint, 1);
    endpoint.stored_all().await;
    let delivery = endpoint.next().await.unwrap();
    arrives(&endpoint, 2);
    delivery.reply("answer").await.unwrap();
    // What the transaction of the reply has left behind, if anything.
    let stored = stored(&endpoint);
    assert_eq!((stored.outbox.len(), stored.inbox_last), (1, Seq(2)), "one transaction");
    assert_eq!(stored.inbox_cursor, Seq(1), "the reply would be given again");
}

#[tokio::test]
async fn a_device_whose_row_somebody_has_deleted_is_stored_anew_with_what_is_queued() {
    let endpoint = endpoint();
    for seq in 1..=3 {
        arrives(&endpoint, seq);
        endpoint.send(seq.to_string()).until(Receipt::Accepted).await.unwrap();
    }
    endpoint.stored_all().await;
    let store = endpoint.0.storage.as_ref().unwrap().store();
    store.commit(Change::Forget { device: "boat-7".into() }).await.unwrap();
    let first = endpoint.next().await.unwrap();
    first.done();
    endpoint.lock().outbox.handle_acked(1);
    endpoint.lock().journal.touch();
    endpoint.stored_all().await;
    let stored = stored(&endpoint);
    let received: Vec<_> = stored.inbox.iter().map(|message| message.seq.0).collect();
    let sent: Vec<_> = stored.outbox.iter().map(|message| message.seq.0).collect();
    assert_eq!((received, sent), (vec![2, 3], vec![2, 3]));
}

#[tokio::test]
async fn what_the_application_holds_of_a_deleted_row_stops_nothing() {
    let endpoint = endpoint();
    arrives(&endpoint, 1);
    endpoint.stored_all().await;
    let held = endpoint.next().await.unwrap();
    let store = endpoint.0.storage.as_ref().unwrap().store();
    store.commit(Change::Forget { device: "boat-7".into() }).await.unwrap();
    endpoint.bury(&Message::new("no use"), "nobody wants it");
    endpoint.stored_all().await;
    held.done();
    endpoint.stored_all().await;
    arrives(&endpoint, 2);
    endpoint.stored_all().await;
    assert_eq!(stored(&endpoint).inbox_last, Seq(2));
}

#[tokio::test]
async fn a_stored_message_is_remembered_before_its_link_has_acknowledged_it() {
    const LINE: &[u8] = b"010001\"hello\"\n";
    let endpoint = endpoint();
    {
        let mut state = endpoint.lock();
        let ticket = comes(&mut state.lines, LINE).expect("a new message");
        // As it is when its transaction was committed and the link has not had its turn yet.
        state.tickets.push(ticket);
    }
    // Something else is to be stored meanwhile.
    endpoint.bury(&Message::new("no use"), "nobody wants it");
    endpoint.stored_all().await;

    let stored = Some(stored(&endpoint));
    let restored =
        Endpoint::stored(Side::Server, Limits::default(), "boat-7", Storage::new(store(), Outside::default()), stored);
    assert_eq!(comes(&mut restored.lock().lines, LINE), None, "the resend is known");
}

#[tokio::test]
async fn what_finds_the_stores_queue_full_is_stored_later() {
    let folder = tempfile::tempdir().unwrap();
    let limits = bowline_store::Limits { queue: 1, ..bowline_store::Limits::default() };
    let store = Store::open(folder.path(), Durability::Fsync, limits).unwrap();
    let endpoint =
        Endpoint::stored(Side::Server, Limits::default(), "boat-7", Storage::new(store, Outside::default()), None);
    endpoint.stored_all().await;
    let store = endpoint.0.storage.as_ref().unwrap().store();
    // The writer is held, and one more waits.
    let (release, held) = std::sync::mpsc::channel::<()>();
    let seen = || bowline_store::Change::device("other", true, bowline_store::Millis(1));
    let (began, begins) = tokio::sync::oneshot::channel();
    let hold = move |_| {
        began.send(()).unwrap();
        held.recv().unwrap_err();
    };
    store.commit_with(seen(), hold).unwrap();
    begins.await.unwrap();
    store.commit_with(seen(), drop).unwrap();
    endpoint.bury(&Message::new("no use"), "nobody wants it");
    drop(release);
    endpoint.stored_all().await;
    assert_eq!(store.dead_letters(Some("boat-7")).unwrap().len(), 1);
}
