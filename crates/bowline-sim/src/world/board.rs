//! A board: the client for devices without an operating system, with its outbox on flash.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bowline_client::{Dialect, Stream};
use bowline_embedded::lines::{self, Text};
use bowline_embedded::{
    Address, Client, Config, DeviceId, Expiry, Halves, Message, Policy, Provision, Resources, Slot, Speaker,
    StatusWatch, buffer_for, inbox_for,
};
use bowline_flash::sim::Fault;
use bowline_flash::{Clock, OpenError, Outbox, Report, WriteError};
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use embedded_nal_async::TcpConnect;
use fastrand::Rng;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::host::{Host, Life, Order, Pulse};
use super::{Shared, TIMEOUT, World, talk};
use crate::flash::Driver;
use crate::model::How;
use crate::net::{Direction, Net};

/// Longest payload.
const PAYLOAD: usize = 256;
/// Messages that may wait.
const SLOTS: usize = 24;
/// What has no header travels here.
const PLAIN: Address = Address { app: 255, instance: 255, tag: 255 };

type Log<'a> = Outbox<'a, Driver>;
type Memory<O> = Resources<O, 4, { inbox_for(4, 3 * PAYLOAD) }, { buffer_for(PAYLOAD) }>;

/// One life after the other.
pub(super) async fn keep(world: Shared, device: usize, orders: mpsc::UnboundedReceiver<Order>) {
    let mut host = Host::board(Arc::clone(&world), device + 1, orders);
    loop {
        let mut life = Life::new();
        let Some(driver) = host.boots(&life) else { return };
        let pulse = life.pulse();
        // Kept until the network knows how it has ended: a board that lost its power closes nothing.
        let mut lives = Box::pin(lives(&world, device, driver, pulse));
        let ending = tokio::select! {
            biased;
            ending = host.suffers(&life) => ending,
            () = &mut lives => return,
        };
        host.dies(&mut life, &ending);
        world.stream(device, Direction::Up, |stream| stream.sender_dies());
        world.stream(device, Direction::Down, |stream| stream.receiver_dies());
        drop(lives);
        host.rests(ending).await;
    }
}

/// One life, which does not end by itself unless something is broken. A board whose flash does not work at first tries
/// again.
async fn lives(world: &World, device: usize, driver: Driver, pulse: Pulse) {
    loop {
        let mut slots = [Slot::EMPTY; SLOTS];
        match Outbox::open(driver.clone(), &mut slots, PAYLOAD, Clock::default()).await {
            Ok((_, Report { lost, .. })) if lost > 0 => {
                return world.fail(format!("d{device}: {lost} messages on the flash cannot be read"));
            }
            Ok((outbox, _)) => return works(world, device, outbox, pulse).await,
            Err(OpenError::Write(WriteError::Flash(Fault::Failed))) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => return world.fail(format!("d{device}: the flash cannot be opened: {error}")),
        }
    }
}

async fn works(world: &World, device: usize, outbox: Log<'_>, pulse: Pulse) {
    let nature = &world.natures[device];
    let server = SocketAddr::from(([10, 0, 0, 1], 9999));
    let provision = nature.key.as_deref().map(Provision::parse).transpose();
    let config = match (provision, DeviceId::new(&nature.id)) {
        (Ok(Some(provision)), _) => Config::provisioned(&provision, server),
        (Ok(None), Ok(id)) => Config::new(id, server),
        (Err(error), _) => return world.fail(format!("d{device}: {error}")),
        (_, Err(error)) => return world.fail(format!("d{device}: {error}")),
    };
    let config = config.timeout(embassy_time::Duration::from_millis(TIMEOUT));
    let config = Config { wall: crate::outside::seconds, ..config };
    if nature.dialect == Dialect::Headers {
        let mut memory = Box::new(Memory::new());
        let made = lines::new(&mut *memory, Text(outbox), config, crate::outside::fill);
        match made {
            Ok(halves) => runs(world, device, halves, pulse).await,
            Err(error) => world.fail(format!("d{device}: the client does not start: {error}")),
        }
    } else {
        let mut memory = Box::new(Memory::new());
        let made = bowline_embedded::new(&mut *memory, outbox, config, crate::outside::fill);
        match made {
            Ok(halves) => runs(world, device, halves, pulse).await,
            Err(error) => world.fail(format!("d{device}: the client does not start: {error}")),
        }
    }
}

/// Runner and program.
async fn runs<O: bowline_embedded::Outbox, R: FnMut(&mut [u8]), S: Speaker<O>>(
    world: &World,
    device: usize,
    (client, mut runner): Halves<'_, O, R, S>,
    pulse: Pulse,
) {
    let way = Way { net: world.net.clone(), device };
    let runs = async {
        runner.run(&way).await;
    };
    let watch = client.watch();
    tokio::join!(
        runs,
        follows(world, device, watch),
        sends(world, device, client, &pulse),
        takes(world, device, client)
    );
}

/// Writes down when links come and go.
async fn follows(world: &World, device: usize, mut watch: StatusWatch<'_, impl bowline_embedded::Outbox>) {
    let mut connects = 0;
    loop {
        let status = watch.changed().await;
        if status.connects > connects {
            connects = status.connects;
            world.lock().connects += 1;
        }
        let healing = world.lock().quiet && world.natures[device].key.is_some();
        if healing && format!("{:?}", status.link).contains("Peer(3)") {
            world.fail(format!("d{device}: somebody without its key has taken its session"));
        }
        let kind = if status.is_up() { "up" } else { "down" };
        world.says(kind, || format!("d{device} {:?}", status.link));
    }
}

/// Sends one message after the other, as a board's program does, until the world heals.
async fn sends(world: &World, device: usize, client: Client<'_, impl bowline_embedded::Outbox>, pulse: &Pulse) {
    let mut random = world.random(Rng::fork);
    let pause = world.natures[device].pause;
    // What the server is to have when the outbox is empty.
    let mut open = Vec::new();
    loop {
        let until = Instant::now() + Duration::from_millis(random.u64(1..=pause));
        if random.u32(..3) == 0 {
            let drained = tokio::time::timeout_at(until, client.drained()).await;
            if drained.is_ok() && pulse.beats() {
                for number in open.drain(..) {
                    let told = world.stream(device, Direction::Up, |stream| stream.acked(number));
                    world.judge(device, Direction::Up, told);
                }
            }
        }
        tokio::time::sleep_until(until).await;
        if world.lock().quiet {
            return;
        }
        let burst = if random.u32(..12) == 0 { random.u32(2..12) } else { 1 };
        for _ in 0..burst {
            if let Some(number) = send(world, device, client, &mut random).await {
                open.push(number);
            }
        }
    }
}

/// Sends a message. Its number, if it is to be delivered.
async fn send(
    world: &World,
    device: usize,
    client: Client<'_, impl bowline_embedded::Outbox>,
    random: &mut Rng,
) -> Option<u64> {
    let how = if random.u32(..10) == 0 { How::Droppable } else { How::Qos };
    let number = world.stream(device, Direction::Up, |stream| stream.sends(how));
    world.says("sends", || format!("d{device} Up {number} {how:?}"));
    let padding = if random.u32(..10) == 0 { random.usize(..200) } else { 0 };
    let text = talk::text(device, Direction::Up, number, padding);
    let header = world.apps || number.is_multiple_of(3);
    let channel = if header { Address { app: talk::APP, instance: 0, tag: 1 } } else { PLAIN };
    let (policy, expiry) = match how {
        How::Droppable if random.bool() => (Policy::KeepLatest, Expiry::Never),
        How::Droppable => (Policy::Block, Expiry::After(1)),
        _ => (Policy::Block, Expiry::Never),
    };
    let message = Message { channel, policy, expiry, payload: text.as_bytes() };
    let patience = if random.u32(..10) == 0 { random.u64(..20) } else { 3_600_000 };
    let result = tokio::time::timeout(Duration::from_millis(patience), client.send_message(&message)).await;
    let word = match &result {
        Err(_) => "given up",
        Ok(Ok(())) => "ok",
        Ok(Err(_)) => "not sent",
    };
    world.says(word, || format!("d{device} Up {number} stored on flash"));
    if word != "ok" {
        return None;
    }
    world.stream(device, Direction::Up, |stream| stream.accepted(number));
    (how == How::Qos).then_some(number)
}

/// Takes what comes.
async fn takes(world: &World, device: usize, client: Client<'_, impl bowline_embedded::Outbox>) {
    let mut random = world.random(Rng::fork);
    let mut buffer = [0; PAYLOAD];
    loop {
        let received = match client.recv(&mut buffer).await {
            Ok(received) => received,
            Err(error) => return world.fail(format!("d{device}: {error}")),
        };
        let (epoch, seq) = received.id;
        let text = std::str::from_utf8(received.payload).ok();
        let comes = talk::Comes { text, seq: Some(epoch << 40 | seq), gap: received.gap, epoch };
        if talk::judge(world, device, Direction::Down, &comes).is_none() {
            return;
        }
        if random.u32(..6) == 0 && !world.lock().quiet {
            tokio::time::sleep(Duration::from_millis(random.u64(1..150))).await;
        }
    }
}

/// The way to the server, as boards know networks.
struct Way {
    net: Net,
    device: usize,
}

/// A connection over it.
struct Connection(Stream);

#[derive(Debug)]
struct Broken(ErrorKind);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::error::Error for Broken {}

impl embedded_io_async::Error for Broken {
    fn kind(&self) -> ErrorKind {
        self.0
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Broken(match error.kind() {
            io::ErrorKind::ConnectionRefused => ErrorKind::ConnectionRefused,
            io::ErrorKind::ConnectionReset => ErrorKind::ConnectionReset,
            _ => ErrorKind::Other,
        })
    }
}

impl TcpConnect for Way {
    type Error = Broken;
    type Connection<'a> = Connection;

    async fn connect(&self, _: SocketAddr) -> Result<Connection, Broken> {
        let (stream, _) = self.net.connect(self.device).await?;
        Ok(Connection(stream))
    }
}

impl ErrorType for Connection {
    type Error = Broken;
}

impl Read for Connection {
    async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Broken> {
        loop {
            self.0.readable().await?;
            match self.0.try_read(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Ok(result?),
            }
        }
    }
}

impl Write for Connection {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        loop {
            self.0.writable().await?;
            match self.0.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Ok(result?),
            }
        }
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        Ok(())
    }
}
