//! What the applications at both ends do, and what they tell the model of it.

use std::sync::Arc;
use std::time::Duration;

use bowline_client::{Client, Delivery, Dialect, Message, Policy, Receipt, RecvError, SendError, Sending};
use bowline_server::Device;
use fastrand::Rng;
use futures_util::FutureExt as _;
use tokio::task::JoinSet;

use super::host::Pulse;
use super::{Nature, Shared, World};
use crate::model::How;
use crate::net::Direction;

/// The app that messages with a header are for.
pub(super) const APP: u8 = 9;

/// An end of a stream.
pub(super) trait Peer: Clone + Send + Sync + 'static {
    fn send(&self, message: Message) -> Sending<'_>;
    fn send_best_effort(&self, message: Message) -> Sending<'_>;
    fn next(&self) -> impl Future<Output = Result<Delivery, RecvError>> + Send;
}

impl Peer for Client {
    fn send(&self, message: Message) -> Sending<'_> {
        self.send(message)
    }

    fn send_best_effort(&self, message: Message) -> Sending<'_> {
        self.send_best_effort(message)
    }

    async fn next(&self) -> Result<Delivery, RecvError> {
        self.next().await
    }
}

impl Peer for Device {
    fn send(&self, message: Message) -> Sending<'_> {
        self.send(message)
    }

    fn send_best_effort(&self, message: Message) -> Sending<'_> {
        self.send_best_effort(message)
    }

    async fn next(&self) -> Result<Delivery, RecvError> {
        self.next().await
    }
}

/// What a message says: which it is.
pub(super) fn text(device: usize, direction: Direction, number: u64, padding: usize) -> String {
    format!("\"{}{device} {number} {:.<padding$}\"", letter(direction), "")
}

fn message(device: usize, direction: Direction, number: u64, padding: usize, header: bool) -> Message {
    let text = text(device, direction, number, padding);
    if header { Message::on_channel(APP, 0, 1, text.as_bytes()) } else { Message::new(text) }
}

/// Which message it is, if it is one of this stream.
fn number(device: usize, direction: Direction, text: &str) -> Option<u64> {
    let text = text.strip_prefix('"')?.strip_prefix(letter(direction))?;
    let (whose, rest) = text.split_once(' ')?;
    if whose.parse() != Ok(device) {
        return None;
    }
    rest.split(' ').next()?.parse().ok()
}

fn letter(direction: Direction) -> char {
    if direction == Direction::Up { 'u' } else { 'd' }
}

/// Sends one message after the other, for as long as the life goes on and the world does not heal.
pub(super) async fn sends<P: Peer>(world: Shared, device: usize, direction: Direction, peer: P, pulse: Pulse) {
    let mut random = world.random(Rng::fork);
    let mut open = JoinSet::new();
    let pause = world.natures[device].pause;
    loop {
        tokio::time::sleep(Duration::from_millis(random.u64(1..=pause))).await;
        while open.try_join_next().is_some() {}
        if world.lock().quiet {
            // Those that wait go on waiting: they are a part of what is to be delivered.
            std::future::pending::<()>().await;
        }
        // Whoever waits for so many would be a program that fills its memory.
        let burst = if random.u32(..12) == 0 { random.u32(2..12) } else { 1 };
        for _ in 0..burst {
            if open.len() < 24 {
                let one = send(Arc::clone(&world), device, direction, peer.clone(), pulse.clone(), &mut random);
                // Numbers follow the order of first polls, as messages do.
                let mut one = Box::pin(one);
                if one.as_mut().now_or_never().is_none() {
                    open.spawn(one);
                }
            }
        }
    }
}

/// Sends a message and tells what became of it.
fn send<P: Peer>(
    world: Shared,
    device: usize,
    direction: Direction,
    peer: P,
    pulse: Pulse,
    random: &mut Rng,
) -> impl Future<Output = ()> + Send + 'static {
    let how = match random.u32(..20) {
        0..16 => How::Qos,
        16..18 => How::Droppable,
        _ => How::BestEffort,
    };
    let number = world.stream(device, direction, |stream| stream.sends(how));
    world.says("sends", || format!("d{device} {direction:?} {number} {how:?}"));
    let padding = if random.u32(..10) == 0 { random.usize(..200) } else { 0 };
    let Nature { dialect, .. } = world.natures[device];
    let has_headers = matches!(dialect, Dialect::Native | Dialect::Headers);
    let header = has_headers && (world.apps || number.is_multiple_of(3));
    let content = message(device, direction, number, padding, header);
    let patience = (random.u32(..10) == 0).then(|| Duration::from_millis(random.u64(..200)));
    let receipt = if how == How::Qos && random.u32(..3) == 0 { Receipt::Accepted } else { Receipt::Stored };
    let latest = random.bool();
    async move {
        let sending = match how {
            How::BestEffort => peer.send_best_effort(content),
            How::Qos => peer.send(content),
            How::Droppable if latest => peer.send(content).policy(Policy::KeepLatest),
            How::Droppable => peer.send(content).expires_in(Duration::from_millis(300)),
        };
        let mut sending = sending.until(receipt);
        let time = async {
            match patience {
                Some(patience) => tokio::time::sleep(patience).await,
                None => std::future::pending().await,
            }
        };
        let result = tokio::select! {
            biased;
            result = &mut sending => Some(result),
            () = time => None,
        };
        if !pulse.beats() {
            return;
        }
        let word = match &result {
            None if sending.is_accepted() => "given up, accepted",
            None => "given up",
            Some(Ok(())) => "ok",
            Some(Err(SendError::Dropped(_))) => "dropped",
            Some(Err(_)) => "not sent",
        };
        world.says(word, || format!("d{device} {direction:?} {number} {receipt:?}"));
        let told = world.stream(device, direction, |stream| {
            match (&result, receipt) {
                _ if how == How::BestEffort => {}
                (Some(Ok(())), Receipt::Accepted) => stream.accepted(number),
                (Some(Ok(())), _) => return stream.acked(number),
                (Some(Err(SendError::Dropped(_))), _) => return stream.dropped(number),
                (None, _) if word == "given up, accepted" => stream.accepted(number),
                (None | Some(Err(_)), _) => {}
            }
            Ok(())
        });
        world.judge(device, direction, told);
    }
}

/// What an application is given.
#[derive(Debug)]
pub(super) struct Comes<'a> {
    pub(super) text: Option<&'a str>,
    pub(super) seq: Option<u64>,
    pub(super) gap: u64,
    pub(super) epoch: u64,
}

impl<'a> From<&'a Message> for Comes<'a> {
    fn from(message: &'a Message) -> Self {
        Comes { text: message.text(), seq: message.seq(), gap: message.gap(), epoch: message.epoch() }
    }
}

/// The model judges a message that is given to an application. Says which it is.
pub(super) fn judge(world: &World, device: usize, direction: Direction, comes: &Comes<'_>) -> Option<u64> {
    let Comes { text, seq, gap, epoch } = *comes;
    let Some(number) = text.and_then(|text| number(device, direction, text)) else {
        world.fail(format!("d{device} {direction:?}: what comes was never sent: {comes:?}"));
        return None;
    };
    world.says("comes", || format!("d{device} {direction:?} {number} seq {seq:?} epoch {epoch}"));
    let judged = world.stream(device, direction, |stream| stream.delivers(number, seq, gap));
    world.judge(device, direction, judged);
    Some(number)
}

/// Takes what comes, and handles it after a while.
pub(super) async fn takes<P: Peer>(world: Shared, device: usize, direction: Direction, peer: P, pulse: Pulse) {
    let mut random = world.random(Rng::fork);
    while let Ok(delivery) = peer.next().await {
        if !pulse.beats() {
            return;
        }
        let Some(number) = judge(&world, device, direction, &delivery.message().into()) else { return };
        let seq = delivery.message().seq();
        let quiet = world.lock().quiet;
        if random.u32(..6) == 0 && !quiet {
            tokio::time::sleep(Duration::from_millis(random.u64(1..150))).await;
        }
        if !pulse.beats() {
            return;
        }
        match seq {
            Some(seq) if random.u32(..25) == 0 => {
                world.says("given back", || format!("d{device} {direction:?} {number}"));
                world.stream(device, direction, |stream| stream.given_back(seq));
                drop(delivery);
            }
            _ => delivery.done(),
        }
    }
}
