//! Applications of both ends: they send numbered messages, and book what arrives.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bowline_client::{Client, RecvError, Sending};
use bowline_server::{Device, Message, SendError};
use fastrand::Rng;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::Phase;
use super::fleet::{Board, Direction};

/// Messages that may be under way from one sender. Less than an outbox holds, so that each is
/// accepted at once, and then arrives whatever becomes of its future.
const UNDER_WAY: usize = 32;

/// One end of a device's conversation.
#[derive(Debug)]
pub(super) enum End {
    Device(Client),
    Server(Device),
}

/// A message's text.
#[derive(Debug, Serialize, Deserialize)]
struct Body {
    n: u64,
    /// The message this answers.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    re: Option<u64>,
    text: String,
}

impl End {
    fn send(&self, text: String) -> Sending<'_> {
        match self {
            End::Device(client) => client.send(text),
            End::Server(device) => device.send(text),
        }
    }

    async fn recv(&self) -> Result<Message, RecvError> {
        match self {
            End::Device(client) => client.recv().await,
            End::Server(device) => device.recv().await,
        }
    }

    fn sends(&self) -> Direction {
        match self {
            End::Device(_) => Direction::ToServer,
            End::Server(_) => Direction::ToDevice,
        }
    }

    fn receives(&self) -> Direction {
        match self {
            End::Device(_) => Direction::ToDevice,
            End::Server(_) => Direction::ToServer,
        }
    }

    /// Time between two messages of its own accord, in milliseconds. The server's app answers as
    /// well; together that is half of what the server's pacing lets through.
    fn period(&self) -> std::ops::Range<u64> {
        match self {
            End::Device(_) => 150..350,
            End::Server(_) => 250..550,
        }
    }
}

/// Runs one end until the endpoint is closed or the task is dropped. Sends of its own accord while
/// the network is bad, and answers if it is the server's.
pub(super) async fn run(end: End, board: Arc<Board>, mut random: Rng, mut phase: watch::Receiver<Phase>) {
    let mut outgoing = Outgoing { end: &end, board: &board, sends: VecDeque::new() };
    let beat = tokio::time::sleep(Duration::from_millis(random.u64(end.period())));
    tokio::pin!(beat);
    loop {
        let sending = *phase.borrow_and_update() == Phase::Faults;
        tokio::select! {
            message = end.recv(), if outgoing.has_room() => {
                let Ok(message) = message else { return };
                let payload = message.text().unwrap_or_default();
                let number = serde_json::from_str(payload).ok().map(|body: Body| body.n);
                if let End::Server(_) = end {
                    // Before the arrival is booked: nobody must see everything settled in between.
                    outgoing.push(number, &mut random).await;
                }
                board.stream(end.receives(), |stream| stream.arrived(number, payload));
            }
            () = outgoing.settle(), if !outgoing.sends.is_empty() => {}
            () = &mut beat, if sending && outgoing.has_room() => {
                beat.set(tokio::time::sleep(Duration::from_millis(random.u64(end.period()))));
                outgoing.push(None, &mut random).await;
            }
            changed = phase.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

/// Messages under way, oldest first, with their numbers.
struct Outgoing<'a> {
    end: &'a End,
    board: &'a Board,
    sends: VecDeque<(u64, Sending<'a>)>,
}

impl Outgoing<'_> {
    fn has_room(&self) -> bool {
        self.sends.len() < UNDER_WAY
    }

    /// Sends one more message. Does not wait: the first poll puts it into the outbox.
    async fn push(&mut self, re: Option<u64>, random: &mut Rng) {
        let text = text(random);
        let (number, payload) = self.board.stream(self.end.sends(), |stream| {
            stream.send(|n| serde_json::to_string(&Body { n, re, text }).unwrap_or_default())
        });
        let mut send = self.end.send(payload);
        let first = poll_fn(|context| Poll::Ready(Pin::new(&mut send).poll(context))).await;
        match first {
            Poll::Pending => self.sends.push_back((number, send)),
            Poll::Ready(result) => self.book(number, result),
        }
    }

    /// Waits for the oldest to be acknowledged: nothing overtakes it. Cancel-safe.
    async fn settle(&mut self) {
        let Some((number, send)) = self.sends.front_mut() else { return };
        let (number, result) = (*number, send.await);
        self.sends.pop_front();
        self.book(number, result);
    }

    fn book(&self, number: u64, result: Result<(), SendError>) {
        self.board.stream(self.end.sends(), |stream| match result {
            Ok(()) => stream.acked(),
            Err(_) => stream.refused(number),
        });
    }
}

/// A text that hardly comes twice, with characters of more than one byte.
fn text(random: &mut Rng) -> String {
    const WORDS: [&str; 8] = ["door", "Küche", "21.5 °C", "valve \"B\"", "motion", "水位", "battery", "back\\slash"];
    let words = random.usize(1..=6);
    let mut text = format!("{:08x}", random.u32(..));
    for _ in 0..words {
        text.push(' ');
        text.push_str(WORDS[random.usize(..WORDS.len())]);
    }
    text
}
