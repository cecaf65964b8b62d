//! Dialect H: with a real server, and line by line with a peer of ours. What fails in between is in `links.rs` and `power.rs`.

use std::pin::pin;

use bowline_embedded::lines::{self, Text};
use bowline_embedded::{
    Address, Client, Config, ConfigError, DeviceId, DownReason, Expiry, LinkState, Message as Packet, Policy,
    Provision, PushError, RamOutbox, RequestError, Slot,
};
use bowline_flash::sim::Nor;
use bowline_flash::{Clock, Outbox};
use bowline_proto::legacy::CloseReason;
use bowline_server::{Message, Receipt};
use embassy_time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::net::Net;
use crate::world::{How, Memory, PAYLOAD, Rng, World, address, beside, is_pending, number, payload, soon, with_lines};

type Flash = Nor<4, 4, 1024>;

#[tokio::test]
async fn text_arrives_once_and_in_order_both_ways() {
    let world = World::runs(How::Lines).await;
    let device = world.device();
    world.net.pieces(3);
    with_lines(&world, async |client| {
        let up = async {
            for number in 0..60 {
                client.send(address(1), &payload(number)).await.unwrap();
            }
            client.drained().await;
        };
        let down = async {
            for number in 0..60 {
                device.send(Message::on_channel(1, 2, 3, &payload(number))).await.unwrap();
            }
        };
        let hears = async {
            for expected in 0..60 {
                let message = device.recv().await.unwrap();
                assert_eq!((message.header(), number(message.payload())), (&[1, 1, 7][..], expected));
            }
        };
        let takes = async {
            let mut buffer = [0; PAYLOAD];
            for expected in 0..60 {
                let message = client.recv(&mut buffer).await.unwrap();
                assert_eq!(
                    (message.channel, number(message.payload)),
                    (Address { app: 1, instance: 2, tag: 3 }, expected)
                );
                assert_eq!((message.id, message.gap), ((0, u64::from(expected) + 1), 0));
            }
        };
        tokio::join!(up, down, hears, takes);
        assert_eq!(client.status().link, LinkState::Up { protection: None });
        let counters = client.counters();
        assert_eq!((counters.sent, counters.acked, counters.received, counters.links), (60, 60, 60, 1));
    })
    .await;
}

/// What was received and not taken is not acknowledged. The server waits, and the board can still be heard.
#[tokio::test]
async fn a_message_is_acknowledged_when_it_is_taken_and_not_before() {
    let world = World::runs(How::Lines).await;
    let device = world.device();
    with_lines(&world, async |client| {
        let message = |instance| Message::on_channel(1, instance, 0, &[b'a' + instance]);
        let mut first = pin!(device.send(message(4)).into_future());
        let mut second = pin!(device.send(message(5)).into_future());
        assert!(is_pending(&mut first) && is_pending(&mut second));
        client.connected().await;
        for number in 0..5 {
            client.send(address(1), &payload(number)).await.unwrap();
        }
        client.drained().await;
        assert!(is_pending(&mut first), "nobody has taken it");
        let mut buffer = [0; PAYLOAD];
        assert_eq!(client.recv(&mut buffer).await.unwrap().payload, b"e");
        first.await.unwrap();
        assert_eq!(client.recv(&mut buffer).await.unwrap().payload, b"f");
        second.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn requests_are_answered_and_what_has_no_header_comes_too() {
    let world = World::with_echo(How::Lines).await;
    let device = world.device();
    with_lines(&world, async |client| {
        let mut buffer = [0; PAYLOAD];
        let answer = client.request(1, 5, b"one", Duration::MAX, &mut buffer).await;
        assert_eq!(answer.unwrap().payload, b"one");
        let unheard = client.request(1, 5, b"silence", Duration::from_millis(50), &mut buffer).await;
        assert_eq!(unheard, Err(RequestError::NoAnswer));
        device.send(Message::new("bare")).until(Receipt::Accepted).await.unwrap();
        let message = client.recv(&mut buffer).await.unwrap();
        assert_eq!((message.channel, message.payload), (BARE, &b"bare"[..]));
    })
    .await;
}

/// Nothing that cannot be sent is accepted.
#[tokio::test]
async fn what_is_no_text_is_refused_where_it_is_sent() {
    let world = World::runs(How::Lines).await;
    let device = world.device();
    with_lines(&world, async |client| {
        let newline = client.send(address(1), b"two\nlines").await.unwrap_err();
        assert!(matches!(newline, PushError::Newline), "{newline}");
        assert!(newline.to_string().contains("send several messages"), "{newline}");
        let binary = client.send(address(1), &[0xff, 0xfe]).await.unwrap_err();
        assert!(matches!(binary, PushError::NotUtf8), "{binary}");
        assert!(binary.to_string().contains("encode binary data"), "{binary}");
        client.send(address(1), "Grüße".as_bytes()).await.unwrap();
        client.send(address(2), b"").await.unwrap();
        assert_eq!(device.recv().await.unwrap().payload(), "Grüße".as_bytes());
        assert_eq!(device.recv().await.unwrap().payload(), b"");
    })
    .await;
}

#[test]
fn a_key_is_no_use_on_h_and_settings_are_checked_as_on_n() {
    // That of the specification (§19.9).
    let key = "bowline1:1:AAAQEAYEAUDAOCAJBIFQYDIOB4IBCEQTCQKRMFYYDENBWHA5DYPYW24W:kitchen";
    let server = "127.0.0.1:9".parse().unwrap();
    let open = Config::new(DeviceId::new("board").unwrap(), server);
    let refused = |config: Config<'_>| {
        let (mut slots, mut bytes) = ([Slot::EMPTY; 8], [0; 8 * PAYLOAD]);
        let outbox = Text(RamOutbox::new(&mut slots, &mut bytes, PAYLOAD));
        lines::new(&mut Memory::new(), outbox, config, |_| {}).err()
    };
    let error = refused(Config::provisioned(&Provision::parse(key).unwrap(), server)).unwrap();
    assert_eq!(error, ConfigError::Keys);
    assert!(error.to_string().contains("Security::Open"), "{error}");
    assert_eq!(refused(open.clone().timeout(Duration::from_millis(99))), Some(ConfigError::Timeout));
    assert_eq!(refused(Config { request_instances: (9, 8), ..open }), Some(ConfigError::RequestInstances));
}

const BARE: Address = Address { app: 255, instance: 255, tag: 255 };

/// A server of which the test says every line.
struct Peer {
    listener: TcpListener,
    net: Net,
}

impl Peer {
    async fn listens() -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let net = Net::new();
        net.target(Some(listener.local_addr().unwrap()));
        Peer { listener, net }
    }

    /// The next link, behind its login.
    async fn accepts(&self) -> Link {
        let (stream, _) = soon(self.listener.accept()).await.unwrap();
        let mut link = Link(BufReader::new(stream));
        assert_eq!(link.hears().await, "2c00ffboard");
        link
    }
}

struct Link(BufReader<TcpStream>);

impl Link {
    /// The next line that is no keepalive.
    async fn hears(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert!(soon(self.0.read_line(&mut line)).await.unwrap() > 0, "the board has hung up");
            if line != "\n" {
                return line.strip_suffix('\n').expect("whole").to_owned();
            }
        }
    }

    async fn says(&mut self, line: &str) {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    async fn hangs_up(mut self) {
        soon(self.0.read_to_end(&mut Vec::new())).await.unwrap();
    }
}

fn config() -> Config<'static> {
    let config = Config::new(DeviceId::new("board").unwrap(), "127.0.0.1:9".parse().unwrap());
    config.timeout(Duration::from_millis(1_500))
}

/// A life of a board with its outbox on flash.
async fn lives(peer: &Peer, nor: &mut Flash, script: impl AsyncFnOnce(Client<'_, Text<Outbox<'_, &mut Flash>>>)) {
    let mut slots = [Slot::EMPTY; 8];
    let (outbox, _) = Outbox::open(nor, &mut slots, PAYLOAD, Clock::default()).await.unwrap();
    let mut memory = Memory::new();
    let (client, mut runner) = lines::new(&mut memory, Text(outbox), config(), Rng(5).fills()).unwrap();
    beside(runner.run(&peer.net), script(client)).await;
}

/// Ids are stored nowhere, and go on: over links, over lives, and over messages that a policy has dropped.
#[tokio::test]
async fn ids_go_on_without_a_hole_in_the_next_life() {
    let peer = Peer::listens().await;
    let mut nor = Flash::new(8);
    let latest = |payload| Packet { channel: BARE, policy: Policy::KeepLatest, expiry: Expiry::Never, payload };
    lives(&peer, &mut nor, async |client| {
        client.send(address(1), b"one").await.unwrap();
        client.send(BARE, b"two").await.unwrap();
        let mut link = peer.accepts().await;
        link.says("").await;
        assert_eq!(link.hears().await, "000301010107one");
        link.says("00002c").await;
        assert_eq!(link.hears().await, "010001two");
    })
    .await;
    // It was sent, and nobody has said that it has arrived.
    lives(&peer, &mut nor, async |client| {
        let mut link = peer.accepts().await;
        link.says("").await;
        assert_eq!(link.hears().await, "010001two", "the same again");
        for value in ["3", "4", "5"] {
            client.send_message(&latest(value.as_bytes())).await.unwrap();
        }
        link.says("01002c").await;
        assert_eq!(link.hears().await, "0200015", "3 and 4 have no ids");
        // Nothing takes the place of what was sent: it may have arrived.
        client.send_message(&latest(b"not 5")).await.unwrap();
    })
    .await;
    lives(&peer, &mut nor, async |client| {
        // Also not in the next life.
        client.send_message(&latest(b"6")).await.unwrap();
        let mut link = peer.accepts().await;
        link.says("").await;
        assert_eq!(link.hears().await, "0200015");
        link.says("02002c").await;
        assert_eq!(link.hears().await, "0300016");
        link.says("03002c").await;
        client.drained().await;
    })
    .await;
    lives(&peer, &mut nor, async |client| {
        client.send(BARE, b"7").await.unwrap();
        let mut link = peer.accepts().await;
        link.says("").await;
        assert_eq!(link.hears().await, "0400017");
        link.says("04002c").await;
        client.drained().await;
    })
    .await;
}

/// A message that has rotted on flash takes none with it: its id is left out, and the next one goes.
#[tokio::test]
async fn a_message_that_has_rotted_is_counted_and_passed_over() {
    let peer = Peer::listens().await;
    let mut nor = Flash::new(8);
    peer.net.target(None);
    lives(&peer, &mut nor, async |client| {
        for payload in [&b"first"[..], b"second", b"third"] {
            client.send(BARE, payload).await.unwrap();
        }
    })
    .await;
    peer.net.target(Some(peer.listener.local_addr().unwrap()));
    let mut slots = [Slot::EMPTY; 8];
    let at = nor.image().windows(6).position(|bytes| bytes == b"second").unwrap();
    let rots = std::cell::Cell::new(false);
    let flash = Rotting(&mut nor, &rots, at);
    let (outbox, _) = Outbox::open(flash, &mut slots, PAYLOAD, Clock::default()).await.unwrap();
    let mut memory = Memory::new();
    let (client, mut runner) = lines::new(&mut memory, Text(outbox), config(), Rng(5).fills()).unwrap();
    beside(runner.run(&peer.net), async {
        let mut link = peer.accepts().await;
        link.says("").await;
        assert_eq!(link.hears().await, "000001first");
        rots.set(true);
        link.says("00002c").await;
        link.hangs_up().await;
        let mut link = peer.accepts().await;
        link.says("").await;
        assert_eq!(link.hears().await, "020001third");
        link.says("02002c").await;
        client.drained().await;
        assert_eq!(client.counters().gaps_sent, 1);
    })
    .await;
    lives(&peer, &mut nor, async |client| {
        client.send(BARE, b"fourth").await.unwrap();
        let mut link = peer.accepts().await;
        link.says("").await;
        assert_eq!(link.hears().await, "030001fourth");
    })
    .await;
}

/// A flash with an address at which a bit flips, once it is said to.
struct Rotting<'f>(&'f mut Flash, &'f std::cell::Cell<bool>, usize);

impl embedded_storage_async::nor_flash::ErrorType for Rotting<'_> {
    type Error = bowline_flash::sim::Fault;
}

impl embedded_storage_async::nor_flash::ReadNorFlash for Rotting<'_> {
    const READ_SIZE: usize = Flash::READ_SIZE;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        if self.1.take() {
            self.0.rots(self.2, 3);
        }
        self.0.read(offset, bytes).await
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl embedded_storage_async::nor_flash::NorFlash for Rotting<'_> {
    const WRITE_SIZE: usize = Flash::WRITE_SIZE;
    const ERASE_SIZE: usize = Flash::ERASE_SIZE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        self.0.erase(from, to).await
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        self.0.write(offset, bytes).await
    }
}

/// A server that says nothing any more is left, and the next link goes on; so is one whose line does not end.
#[tokio::test]
async fn a_peer_that_falls_silent_or_talks_nonsense_is_left() {
    let peer = Peer::listens().await;
    let (mut slots, mut bytes) = ([Slot::EMPTY; 8], [0; 8 * PAYLOAD]);
    let outbox = Text(RamOutbox::new(&mut slots, &mut bytes, PAYLOAD));
    let mut memory = Memory::new();
    let (client, mut runner) = lines::new(&mut memory, outbox, config(), Rng(5).fills()).unwrap();
    beside(runner.run(&peer.net), async {
        let mut watch = client.watch();
        let mut ends = async |reason| loop {
            let LinkState::Down(down) = watch.changed().await.link else { continue };
            assert_eq!(down, DownReason::Line(reason));
            assert!(!down.to_string().is_empty());
            break;
        };
        client.send(BARE, b"one").await.unwrap();
        let mut link = peer.accepts().await;
        link.says("").await;
        assert_eq!(link.hears().await, "000001one");
        ends(CloseReason::Silence).await;
        drop(link);
        let mut link = peer.accepts().await;
        link.says(&"x".repeat(400)).await;
        ends(CloseReason::LineTooLong).await;
        let mut link = peer.accepts().await;
        link.says("").await;
        assert_eq!(link.hears().await, "000001one", "again, under its id");
        for _ in 0..16 {
            link.says("no line of H").await;
        }
        ends(CloseReason::Malformed).await;
        let mut link = peer.accepts().await;
        // A message that comes twice is taken once; one whose header is not of three bytes is for nobody.
        for line in ["00030101020aonce", "00030101020aonce", "010101aanobody", "", "02030101020atwice"] {
            link.says(line).await;
        }
        let mut buffer = [0; PAYLOAD];
        assert_eq!(client.recv(&mut buffer).await.unwrap().payload, b"once");
        assert_eq!(client.recv(&mut buffer).await.unwrap().payload, b"twice");
        assert_eq!(client.refused(), 1);
        let mut acks = Vec::new();
        while acks.len() < 3 {
            acks.extend(Some(link.hears().await).filter(|line| line.ends_with("2c")));
        }
        acks.sort();
        assert_eq!(acks, ["00002c", "01002c", "02002c"]);
    })
    .await;
}

/// A message that is to go again and finds no room may be acknowledged before it does: then it need not go, and nothing is wrong.
#[tokio::test]
async fn a_message_that_is_acknowledged_before_it_went_again_ends_no_link() {
    let peer = Peer::listens().await;
    let (mut slots, mut bytes) = ([Slot::EMPTY; 8], [0; 8 * PAYLOAD]);
    let outbox = Text(RamOutbox::new(&mut slots, &mut bytes, PAYLOAD));
    let mut memory = Memory::new();
    let (client, mut runner) = lines::new(&mut memory, outbox, config(), Rng(5).fills()).unwrap();
    beside(runner.run(&peer.net), async {
        let long = "x".repeat(PAYLOAD);
        client.send(BARE, long.as_bytes()).await.unwrap();
        let mut link = peer.accepts().await;
        link.says("000001y").await;
        assert_eq!(link.hears().await, format!("000001{long}"));
        let mut buffer = [0; PAYLOAD];
        assert_eq!(client.recv(&mut buffer).await.unwrap().payload, b"y");
        assert_eq!(link.hears().await, "00002c");
        drop(link);
        // Twenty duplicates fill its input, and their acknowledgements its output; behind them comes what it waits for.
        let mut link = peer.accepts().await;
        link.says(&format!("{}00002c", "000001y\n".repeat(20))).await;
        client.drained().await;
        client.send(BARE, b"next").await.unwrap();
        while link.hears().await != "010001next" {}
        link.says("01002c").await;
        client.drained().await;
        assert_eq!((client.connects(), client.counters().duplicates), (2, 20));
    })
    .await;
}

/// What waits goes over to the other dialect, in both directions, and the server takes it for another program.
#[tokio::test]
async fn a_board_may_change_its_dialect() {
    let world = World::runs(How::Open).await;
    let device = world.device();
    let mut nor = Flash::new(8);
    let mut next = 0;
    for life in 0..5 {
        let mut slots = [Slot::EMPTY; 8];
        let (outbox, _) = Outbox::open(&mut nor, &mut slots, PAYLOAD, Clock::default()).await.unwrap();
        let (config, random) = (world.config(How::Open), Rng(5).fills());
        // The last one waits until the next life.
        let server = world.server().addresses()[0];
        macro_rules! plays {
            ($halves:expr) => {{
                let (client, mut runner) = $halves.unwrap();
                beside(runner.run(&world.net), async {
                    client.send(address(1), &payload(3 * life)).await.unwrap();
                    client.send(address(1), &payload(3 * life + 1)).await.unwrap();
                    client.drained().await;
                    let mut buffer = [0; PAYLOAD];
                    let sending = device.send(Message::on_channel(1, 2, 3, &payload(life)));
                    let (sent, taken) = tokio::join!(sending, client.recv(&mut buffer));
                    sent.unwrap();
                    assert_eq!(number(taken.unwrap().payload), life);
                    let mut watch = client.watch();
                    world.net.target(None);
                    while watch.changed().await.is_up() {}
                    client.send(address(1), &payload(3 * life + 2)).await.unwrap();
                })
                .await;
            }};
        }
        if life % 2 == 0 {
            let mut memory = Memory::new();
            plays!(bowline_embedded::new(&mut memory, outbox, config, random));
        } else {
            let mut memory = Memory::new();
            plays!(lines::new(&mut memory, Text(outbox), config, random));
        }
        world.net.target(Some(server));
        for _ in 0..if life == 0 { 2 } else { 3 } {
            assert_eq!(number(device.recv().await.unwrap().payload()), next);
            next += 1;
        }
    }
}
