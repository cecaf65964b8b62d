//! An app of the server that takes messages, and fails at some of them.

use std::sync::Arc;
use std::time::Duration;

use bowline_server::{App, AppError, AppMessage, Handled, Instance, Port};
use fastrand::Rng;

use super::host::Pulse;
use super::{Shared, talk};
use crate::net::Direction;

/// Attempts at one message that fail, at most; fewer than make a dead letter of it.
const FAILURES: u32 = 3;

/// Takes what devices send in one life of the server.
pub(super) struct Sink {
    pub(super) world: Shared,
    pub(super) pulse: Pulse,
}

/// Takes what one device sends.
pub(super) struct Taker {
    world: Shared,
    pulse: Pulse,
    device: usize,
    random: Rng,
}

impl App for Sink {
    type Instance = Taker;

    fn instance(&self, port: Port) -> Taker {
        let id = port.device().id();
        let device = self.world.natures.iter().position(|nature| nature.id == id).unwrap_or(usize::MAX);
        Taker {
            world: Arc::clone(&self.world),
            pulse: self.pulse.clone(),
            device,
            random: self.world.random(Rng::fork),
        }
    }
}

impl Instance for Taker {
    async fn handle(&mut self, message: &AppMessage) -> Result<Handled, AppError> {
        // A stranger's.
        if self.device == usize::MAX {
            return Ok(Handled::done());
        }
        if !self.pulse.beats() {
            // Nobody hears what it says.
            std::future::pending::<()>().await;
        }
        let (world, device) = (&self.world, self.device);
        let Some(number) = talk::judge(world, device, Direction::Up, &message.message().into()) else {
            return Err(AppError::reject("never sent"));
        };
        let quiet = world.lock().quiet;
        if self.random.u32(..6) == 0 && !quiet {
            tokio::time::sleep(Duration::from_millis(self.random.u64(1..150))).await;
        }
        if !self.pulse.beats() {
            std::future::pending::<()>().await;
        }
        match message.seq() {
            Some(seq) if message.attempt() <= FAILURES && self.random.u32(..15) == 0 && !quiet => {
                world.says("app fails", || format!("d{device} {number}"));
                world.stream(device, Direction::Up, |stream| stream.given_back(seq));
                Err(AppError::retry("as it pleases"))
            }
            _ => Ok(Handled::done()),
        }
    }
}
