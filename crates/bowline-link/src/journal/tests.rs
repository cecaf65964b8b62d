//! What is in the store at every moment is what a restored endpoint may rest on.

use bowline_proto::legacy::{Config, Link, Received};
use bowline_proto::time::{Duration, Instant};
use bowline_proto::{Side, legacy};
use bowline_store::{Durability, Store};

use crate::{Endpoint, Limits, Message, Storage};

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

#[tokio::test]
async fn a_stored_message_is_remembered_before_its_link_has_acknowledged_it() {
    const LINE: &[u8] = b"010001\"hello\"\n";
    let store = || Store::open("", Durability::Memory, bowline_store::Limits::default()).unwrap();
    let endpoint = Endpoint::stored(Side::Server, Limits::default(), "boat-7", Storage::new(store()), None);
    {
        let mut state = endpoint.lock();
        let ticket = comes(&mut state.lines, LINE).expect("a new message");
        // As it is when its transaction was committed and the link has not had its turn yet.
        state.tickets.push(ticket);
    }
    // Something else is to be stored meanwhile.
    endpoint.bury(&Message::new("no use"), "nobody wants it");
    endpoint.stored_all().await;

    let stored = endpoint.0.storage.as_ref().unwrap().store().load("boat-7").unwrap();
    let restored = Endpoint::stored(Side::Server, Limits::default(), "boat-7", Storage::new(store()), stored);
    assert_eq!(comes(&mut restored.lock().lines, LINE), None, "the resend is known");
}

#[tokio::test]
async fn what_finds_the_stores_queue_full_is_stored_later() {
    let folder = tempfile::tempdir().unwrap();
    let limits = bowline_store::Limits { queue: 1, ..bowline_store::Limits::default() };
    let store = Store::open(folder.path(), Durability::Fsync, limits).unwrap();
    let endpoint = Endpoint::stored(Side::Server, Limits::default(), "boat-7", Storage::new(store), None);
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
