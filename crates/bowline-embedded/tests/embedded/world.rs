//! A server with a store, and what a device takes to talk to it.

use std::future::Future;
use std::time::Duration;

use bowline_embedded::lines::{self, Text};
use bowline_embedded::{
    Address, Backoff, Client, Config, DeviceId, Provision, RamOutbox, Resources, Security, Slot, buffer_for, inbox_for,
};
use bowline_proto::time::Duration as Span;
use bowline_server::{Admission, App, AppError, AppMessage, Date, Device, Handled, Instance, Keys, Port, Server};
use bowline_store::{Durability, Limits, OpenError, Store};
use tempfile::TempDir;

use crate::net::Net;

/// The one device's id.
pub(crate) const ID: &str = "board";
/// Largest payload in these tests.
pub(crate) const PAYLOAD: usize = 64;

pub(crate) type Memory<O> = Resources<O, 4, { inbox_for(4, 3 * PAYLOAD) }, { buffer_for(PAYLOAD) }>;

/// How the device comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Open,
    Encrypted,
    Keyed,
    /// On dialect H, which has no keys.
    Lines,
}

pub(crate) const ALL: [How; 3] = [How::Open, How::Encrypted, How::Keyed];

/// How long anything may take on a busy machine before it counts as not happening.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("in time")
}

/// A small random source (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn fills(mut self) -> impl FnMut(&mut [u8]) {
        move |bytes| bytes.fill_with(|| self.next() as u8)
    }
}

/// A seed for this run, unless `BOWLINE_SEED` says which.
pub(crate) fn seed() -> u64 {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = std::env::var("BOWLINE_SEED").map_or(clock, |seed| seed.parse().expect("a number"));
    println!("BOWLINE_SEED={seed}");
    seed
}

pub(crate) const fn address(instance: u8) -> Address {
    Address { app: 1, instance, tag: 7 }
}

pub(crate) struct World {
    folder: TempDir,
    keys: Keys,
    line: &'static str,
    server: Option<Server>,
    pub(crate) net: Net,
    echo: bool,
}

impl World {
    /// A server runs.
    pub(crate) async fn runs(how: How) -> World {
        World::begins(how, false).await
    }

    /// A server with an app under ident 1 runs.
    pub(crate) async fn with_echo(how: How) -> World {
        World::begins(how, true).await
    }

    async fn begins(how: How, echo: bool) -> World {
        let keys = Keys::default();
        let mut line = String::new();
        if matches!(how, How::Encrypted | How::Keyed) {
            line.push_str(&keys.issue(ID, Date::from_unix(1_793_664_000)).unwrap().line());
        }
        let folder = tempfile::tempdir().unwrap();
        let mut world = World { folder, keys, line: line.leak(), server: None, net: Net::new(), echo };
        world.server_starts().await;
        world
    }

    pub(crate) async fn server_starts(&mut self) {
        let store = soon(async {
            loop {
                match Store::open(self.folder.path(), Durability::Os, Limits::default()) {
                    Ok(store) => return store,
                    // The process before is about to let go of it.
                    Err(OpenError::Locked { .. }) => tokio::time::sleep(Duration::from_millis(2)).await,
                    Err(error) => panic!("{error}"),
                }
            }
        })
        .await;
        let builder = Server::builder()
            .listen("127.0.0.1:0".parse().unwrap())
            .keys(self.keys.clone())
            .admission(Admission { unencrypted: vec![ID.to_owned()], ..Admission::open() })
            .settle(Duration::ZERO)
            .pace(1, Duration::ZERO)
            .handshakes(0, 0)
            .store(store);
        let builder = if self.echo { builder.app(1, "echo", Echo) } else { builder };
        let server = builder.start().await.unwrap();
        self.net.target(Some(server.addresses()[0]));
        self.server = Some(server);
    }

    /// The server's process ends in the middle of whatever it does, and links with it.
    pub(crate) fn server_crashes(&mut self) {
        self.net.target(None);
        self.server = None;
    }

    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().expect("the server runs")
    }

    /// The device at the server.
    pub(crate) fn device(&self) -> Device {
        self.server().expect(ID).expect("it may log in")
    }

    /// Settings of a device that comes back quickly.
    pub(crate) fn config(&self, how: How) -> Config<'static> {
        // Where it is the network knows.
        let server = "127.0.0.1:9".parse().unwrap();
        let config = match (Provision::parse(self.line), how) {
            (Ok(provision), How::Encrypted) => Config::provisioned(&provision, server),
            (Ok(Provision { id, key_id, key }), How::Keyed) => {
                Config { security: Security::Keyed(key_id, key), ..Config::new(id, server) }
            }
            _ => Config::new(DeviceId::new(ID).unwrap(), server),
        };
        let config = config.timeout(embassy_time::Duration::from_secs(10));
        Config { backoff: Backoff { first: Span::from_millis(2), longest: Span::from_millis(20) }, ..config }
    }

    /// Runs a device with an outbox in memory for 8 messages, beside what is to happen.
    pub(crate) async fn with_device<T>(
        &self,
        config: Config<'_>,
        script: impl AsyncFnOnce(Client<'_, RamOutbox<'_>>) -> T,
    ) -> T {
        let (mut slots, mut bytes) = ([Slot::EMPTY; 8], [0; 8 * PAYLOAD]);
        let outbox = RamOutbox::new(&mut slots, &mut bytes, PAYLOAD);
        let mut memory = Memory::new();
        let (client, mut runner) = bowline_embedded::new(&mut memory, outbox, config, Rng(7).fills()).unwrap();
        beside(runner.run(&self.net), script(client)).await
    }
}

/// As [`World::with_device`], on dialect H.
pub(crate) async fn with_lines<T>(world: &World, script: impl AsyncFnOnce(Client<'_, Text<RamOutbox<'_>>>) -> T) -> T {
    let (mut slots, mut bytes) = ([Slot::EMPTY; 8], [0; 8 * PAYLOAD]);
    let outbox = Text(RamOutbox::new(&mut slots, &mut bytes, PAYLOAD));
    let mut memory = Memory::new();
    let (client, mut runner) = lines::new(&mut memory, outbox, world.config(How::Lines), Rng(7).fills()).unwrap();
    beside(runner.run(&world.net), script(client)).await
}

/// Runs the runner until the other is done.
pub(crate) async fn beside<T>(runner: impl Future<Output = impl Sized>, script: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        _ = runner => unreachable!("the runner never returns"),
        result = soon(script) => result,
    }
}

/// Sends back what it gets, but for `silence`.
pub(crate) struct Echo;

impl App for Echo {
    type Instance = Echo;

    fn instance(&self, _: Port) -> Echo {
        Echo
    }
}

impl Instance for Echo {
    async fn handle(&mut self, message: &AppMessage) -> Result<Handled, AppError> {
        Ok(match message.payload() {
            b"silence" => Handled::done(),
            payload => Handled::reply(message.tag(), payload.to_vec()),
        })
    }
}

/// A message's number and letters to a length that depends on it: text, which every dialect can send.
pub(crate) fn payload(number: u32) -> Vec<u8> {
    let mut payload = format!("{number:08x}").into_bytes();
    payload.extend(std::iter::repeat_n(b'a' + (number % 26) as u8, number as usize * 7 % (PAYLOAD - 8)));
    payload
}

pub(crate) fn number(bytes: &[u8]) -> u32 {
    let number = u32::from_str_radix(std::str::from_utf8(&bytes[..8]).unwrap(), 16).unwrap();
    assert_eq!(bytes, payload(number), "as it was sent");
    number
}

/// Whether a future is pending.
pub(crate) fn is_pending(future: &mut (impl Future + Unpin)) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    std::pin::Pin::new(future).poll(&mut context).is_pending()
}
