//! Watchdog and LED.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;

use bowline_embedded::{Guard, RamOutbox, Slot, Watchdog};
use embassy_time::Duration;
use embedded_hal::digital::{ErrorType, OutputPin};

use crate::world::{How, Memory, PAYLOAD, Rng, World, beside, soon};

struct Dog<'c>(&'c Cell<u32>);

impl Watchdog for Dog<'_> {
    fn feed(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

/// Waits for what nothing announces.
async fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_watchdog_is_fed_only_while_runner_and_application_are_alive() {
    let world = World::runs(How::Open).await;
    let (mut slots, mut bytes) = ([Slot::EMPTY; 8], [0; 8 * PAYLOAD]);
    let outbox = RamOutbox::new(&mut slots, &mut bytes, PAYLOAD);
    let mut memory = Memory::new();
    // A keepalive of a second is what the runner says it waits for, at most.
    let config = world.config(How::Open).timeout(Duration::from_millis(300));
    let (client, mut runner) = bowline_embedded::new(&mut memory, outbox, config, Rng(1).fills()).unwrap();
    let long = Duration::from_secs(60);
    let patient = Guard { every: Duration::from_millis(1), runner: long, application: long };
    let fed = Cell::new(0);

    // Both are alive, and it is fed again and again.
    let guard = async { client.guard(&mut Dog(&fed), &patient).await };
    let script = async {
        tokio::select! {
            _ = guard => unreachable!(),
            () = until(|| fed.get() >= 10) => {}
        }
        client.connected().await;
        assert!(client.is_alive(&patient));

        // The application hangs, and the runner does not.
        let strict = Guard { application: Duration::from_millis(20), ..patient };
        until(|| !client.is_alive(&strict)).await;
        client.alive();
        assert!(client.is_alive(&strict));
    };
    beside(runner.run(&world.net), script).await;

    // The runner hangs, and the application does not.
    let strict = Guard { runner: Duration::from_millis(20), ..patient };
    soon(until(|| {
        client.alive();
        !client.is_alive(&strict)
    }))
    .await;
    client.alive();
    assert!(!client.is_alive(&strict));
    // It comes back to life.
    let again = async {
        client.connected().await;
        client.alive();
        assert!(client.is_alive(&strict));
    };
    beside(runner.run(&world.net), again).await;

    // Who is not alive feeds nobody.
    until(|| !client.is_alive(&strict)).await;
    let before = fed.get();
    let guard = async { client.guard(&mut Dog(&fed), &strict).await };
    tokio::select! {
        biased;
        // Looks once.
        _ = guard => unreachable!(),
        () = std::future::ready(()) => {}
    }
    assert_eq!(fed.get(), before);
}

#[derive(Default)]
struct Led(RefCell<Vec<bool>>);

impl ErrorType for &Led {
    type Error = Infallible;
}

impl OutputPin for &Led {
    fn set_low(&mut self) -> Result<(), Infallible> {
        self.0.borrow_mut().push(false);
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        self.0.borrow_mut().push(true);
        Ok(())
    }
}

#[tokio::test]
async fn the_heart_beats_with_keepalives_and_is_dark_without_a_link() {
    let world = World::runs(How::Open).await;
    let config = world.config(How::Open).timeout(Duration::from_millis(300));
    let led = Led::default();
    world
        .with_device(config, async |client| {
            let script = async {
                // Nothing is said but keepalives, one a second.
                until(|| led.0.borrow().len() >= 4).await;
                world.net.target(None);
                let mut watch = client.watch();
                while watch.changed().await.is_up() {}
                until(|| led.0.borrow().last() == Some(&false) && !client.status().is_up()).await;
            };
            let mut pin = &led;
            tokio::select! {
                _ = client.heartbeat(&mut pin) => unreachable!(),
                () = script => {}
            }
            assert_eq!(client.connects(), 1);
        })
        .await;
    let seen = led.0.take();
    println!("{seen:?}");
    assert!(!seen[0], "dark before the first link");
    let (last, beats) = seen[1..].split_last().unwrap();
    assert!(beats.iter().zip(beats.iter().skip(1)).all(|(one, other)| one != other), "it toggles");
    assert!(!last && beats.contains(&true));
}
