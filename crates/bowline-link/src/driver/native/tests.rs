//! Two links of one device.

use bowline_proto::DeviceId;
use bowline_proto::native::wire::{Ack, Credit, Cursors, Hello, Start};
use bowline_proto::time::Duration;
use bowline_secure::{
    Carrier as Secured, Decision, Gate, Key, KeyId, KeyRing, Keyed, MAX_ANSWER, MAX_OPENING, Standing,
};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::Limits;
use crate::policy::Options;

const NOW: Instant = Instant::ZERO;

struct Half {
    speaker: Speaker,
    wire: Wire,
}

impl Half {
    /// A link whose peer takes bodies of `max_body`, and has started `epoch`.
    async fn starts(endpoint: &Endpoint, max_body: u16, epoch: u64, credit: Credit) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let config = Config::new(Carrier::Lossless, Duration::from_millis(10_000), 4096);
        let speaker = Speaker::open(endpoint, &mut endpoint.lock(), Native { config, seal: None }, NOW);
        let mut half = Half { speaker, wire: Wire::new(stream.into(), Vec::new()) };
        half.hears(endpoint, &Frame::Hello(Hello { version: 1, features: 0, epoch: 0, keepalive: 20_000, max_body }));
        half.drains(endpoint).unwrap();
        half.hears(endpoint, &Frame::Start(Start { epoch, cursors: Cursors::default(), credit }));
        assert!(half.speaker.is_up());
        half
    }

    fn hears(&mut self, endpoint: &Endpoint, frame: &Frame<'_>) {
        let mut body = [0; 128];
        let len = frame.emit(&mut body).unwrap();
        self.speaker.take_in(endpoint, &mut endpoint.lock(), NOW, &body[..len]);
    }

    fn drains(&mut self, endpoint: &Endpoint) -> Step<Instant> {
        self.speaker.drain(endpoint, &mut self.wire, &mut endpoint.lock(), NOW)
    }
}

#[tokio::test]
async fn a_link_that_was_replaced_judges_nothing_in_the_outbox() {
    let endpoint = Endpoint::new(Side::Server, Limits::default());
    let send = |payload: Vec<u8>| endpoint.enqueue(Message::new(payload), true, Options::default()).unwrap();
    let mut old = Half::starts(&endpoint, 256, 1, Credit { messages: 9, bytes: 35 }).await;
    for _ in 0..4 {
        send(vec![b's'; 10]);
    }
    old.drains(&endpoint).unwrap();
    assert_eq!((old.speaker.described, endpoint.lock().native.sent()), (Some(4), 3), "it waits for credit");
    let credit = Credit { messages: 0, bytes: 0 };
    old.hears(&endpoint, &Frame::Ack(Ack { durable: 3, received: 3, credit, missing: false }));
    old.drains(&endpoint).unwrap();

    // Its peer takes more. The fourth of its epoch is another one, which the old one's peer would not take.
    let _new = Half::starts(&endpoint, 4096, 2, credit).await;
    for _ in 0..3 {
        send(vec![b'l'; 1_000]);
    }
    endpoint.lock().outbox.push_best_effort(Message::new(vec![b'l'; 1_000]), false).unwrap();
    assert_eq!(old.drains(&endpoint), Err(DownReason::Native(CloseReason::Replaced)));
    let state = endpoint.lock();
    assert!(matches!(state.outbox.item(state.bases.tx + 4), Some(outbox::Item::Message(_))), "it is still there");
    assert!(state.outbox.best_effort().is_some());
}

/// Both ends of a keyed link: the device's and the server's.
fn keyed() -> (Transport, Transport) {
    let key = Key::new(&std::array::from_fn(|at| at as u8)).unwrap();
    let (mut opening, mut answer) = ([0; MAX_OPENING], [0; MAX_ANSWER]);
    let id = DeviceId::new("board").unwrap();
    let (mut device, len) = Keyed::start(id, KeyId::FIRST, &key, &[1; 16], Secured::Lossless, &mut opening).unwrap();
    let standing = |_: DeviceId<'_>| Standing {
        keys: Some(KeyRing::new(KeyId::FIRST, key.clone())),
        unencrypted: true,
        ..Standing::default()
    };
    let decision = Gate::new(Secured::Lossless).decide(&opening[..len], &[2; 32], NOW, standing, |_| None, &mut answer);
    let Decision::Secured { transport, answer: len, .. } = decision else { panic!("{decision:?}") };
    (device.finish(&answer[..len]).unwrap().unwrap().0, transport)
}

/// Everybody could have read its secret (§15.6).
#[tokio::test]
async fn a_ticket_on_a_keyed_link_ends_it() {
    let endpoint = Endpoint::new(Side::Device, Limits::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (transport, mut server) = keyed();
    let seal = Some(Seal { transport, first: Vec::new(), ticket: None, keep: None });
    let config = Config::new(Carrier::Lossless, Duration::from_millis(10_000), 4096);
    let mut speaker = Speaker::open(&endpoint, &mut endpoint.lock(), Native { config, seal }, NOW);
    assert_eq!(speaker.protection(), Some(Protection::Keyed));

    // A ticket as it would be on an encrypted link.
    let mut body = [7; TICKET_BODY + 16];
    (body[0], body[9], body[41]) = (0x20, 1, 16);
    body[42..46].copy_from_slice(&60u32.to_be_bytes());
    assert!(Ticket::receive(&body[..TICKET_BODY], NOW).is_ok());
    let len = server.seal(&mut body, TICKET_BODY).unwrap();
    let record = [&(len as u16).to_be_bytes()[..], &body].concat();
    let mut wire = Wire::new(stream.into(), record);
    speaker.receive(&endpoint, &mut wire, &mut endpoint.lock(), NOW).unwrap();
    let ended = speaker.drain(&endpoint, &mut wire, &mut endpoint.lock(), NOW);
    assert_eq!(ended.unwrap_err(), DownReason::Native(CloseReason::Protocol));
}
