//! A network that has to be joined.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;

use bowline_embedded::{Config, DownReason, LinkState, Network, RamOutbox, Slot, Supervision};
use embassy_time::Duration;

use crate::net::Net;
use crate::world::{How, Memory, PAYLOAD, Rng, World, address, beside};

/// WiFi through which the server can be reached or not.
struct Wifi<'w> {
    net: &'w Net,
    server: SocketAddr,
    /// What becomes of the next attempts to join: `None` is a failure, else how often it is seen up after that.
    plan: RefCell<Vec<Option<u32>>>,
    left_up: Cell<u32>,
    said: RefCell<Vec<String>>,
    /// Through it the server can be reached only after it was left once.
    stuck: Cell<bool>,
}

impl Network for &Wifi<'_> {
    type Error = ();

    async fn join(&mut self) -> Result<(), ()> {
        let outcome = if self.plan.borrow().is_empty() { Some(u32::MAX) } else { self.plan.borrow_mut().remove(0) };
        self.said.borrow_mut().push(format!("join {}", outcome.is_some()));
        self.left_up.set(outcome.ok_or(())?);
        self.net.target(if self.stuck.get() { None } else { Some(self.server) });
        Ok(())
    }

    async fn leave(&mut self) {
        self.said.borrow_mut().push("leave".to_owned());
        self.left_up.set(0);
        self.stuck.set(false);
        self.net.target(None);
    }

    fn is_up(&self) -> bool {
        let left = self.left_up.get();
        self.left_up.set(if left == u32::MAX { left } else { left.saturating_sub(1) });
        left > 0
    }

    fn signal(&self) -> Option<i8> {
        Some(-67)
    }

    async fn not_joined_yet(&mut self, attempts: u32) {
        self.said.borrow_mut().push(format!("not joined {attempts}"));
    }

    async fn no_server_yet(&mut self, attempts: u32) {
        self.said.borrow_mut().push(format!("no server {attempts}"));
    }
}

#[tokio::test]
async fn a_network_is_joined_watched_left_and_joined_again() {
    let world = World::runs(How::Open).await;
    let wifi = Wifi {
        net: &world.net,
        server: world.server().addresses()[0],
        // Not there, then there and gone at once, then to stay.
        plan: RefCell::new(vec![None, Some(3)]),
        left_up: Cell::new(0),
        said: RefCell::default(),
        stuck: Cell::new(true),
    };
    world.net.target(None);
    let supervision =
        Supervision { join_timeout: Duration::from_secs(5), stable: Duration::from_millis(20), leave_after: 2 };
    let config = Config { supervision, ..world.config(How::Open) };
    let (mut slots, mut bytes) = ([Slot::EMPTY; 8], [0; 8 * PAYLOAD]);
    let outbox = RamOutbox::new(&mut slots, &mut bytes, PAYLOAD);
    let mut memory = Memory::new();
    let (client, mut runner) = bowline_embedded::new(&mut memory, outbox, config, Rng(1).fills()).unwrap();
    let script = async {
        let mut watch = client.watch();
        assert_eq!(watch.changed().await.link, LinkState::Down(DownReason::Network));
        client.send(address(1), b"1").await.unwrap();
        client.drained().await;
        assert_eq!(client.signal(), Some(-67));
        let beginning = [
            "join false",
            "not joined 1",
            "leave",
            "join true",
            "not joined 2",
            // The second attempt left it; that has unstuck it.
            "leave",
            "join true",
        ];
        assert_eq!(wifi.said.take(), beginning);

        // The server cannot be reached any more, although the network is there: twice, then it is joined anew.
        wifi.stuck.set(true);
        world.net.target(None);
        client.send(address(1), b"2").await.unwrap();
        client.drained().await;
        assert_eq!(wifi.said.take(), ["leave", "join true"]);
        assert_eq!(client.connects(), 2);
    };
    beside(runner.run_on(&world.net, &mut &wifi), script).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_at_first_is_told() {
    let world = World::runs(How::Open).await;
    let wifi = Wifi {
        net: &world.net,
        server: world.server().addresses()[0],
        plan: RefCell::default(),
        left_up: Cell::new(0),
        said: RefCell::default(),
        stuck: Cell::new(true),
    };
    let supervision =
        Supervision { join_timeout: Duration::from_secs(5), stable: Duration::from_ticks(0), leave_after: 3 };
    let config = Config { supervision, ..world.config(How::Open) };
    let (mut slots, mut bytes) = ([Slot::EMPTY; 8], [0; 8 * PAYLOAD]);
    let outbox = RamOutbox::new(&mut slots, &mut bytes, PAYLOAD);
    let mut memory = Memory::new();
    let (client, mut runner) = bowline_embedded::new(&mut memory, outbox, config, Rng(1).fills()).unwrap();
    beside(runner.run_on(&world.net, &mut &wifi), client.connected()).await;
    let said = ["join true", "no server 1", "no server 2", "no server 3", "leave", "join true"];
    assert_eq!(wifi.said.take(), said);
}

/// The simulator found boards on a wire that paused for two seconds after every five attempts.
#[tokio::test]
async fn what_is_not_to_be_joined_is_not_left_either() {
    let mut world = World::runs(How::Open).await;
    world.server_crashes();
    // Waited for, this would last longer than any test.
    let supervision = Supervision { stable: Duration::from_secs(3600), leave_after: 1, ..Supervision::DEFAULT };
    let config = Config { supervision, ..world.config(How::Open) };
    let (mut slots, mut bytes) = ([Slot::EMPTY; 8], [0; 8 * PAYLOAD]);
    let outbox = RamOutbox::new(&mut slots, &mut bytes, PAYLOAD);
    let mut memory = Memory::new();
    let (client, mut runner) = bowline_embedded::new(&mut memory, outbox, config, Rng(1).fills()).unwrap();
    let net = world.net.clone();
    let script = async {
        let mut watch = client.watch();
        while watch.changed().await.failures < 3 {}
        world.server_starts().await;
        client.connected().await;
    };
    beside(runner.run(&net), script).await;
}
