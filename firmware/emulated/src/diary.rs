//! What the board does: it sends numbers, takes those that come, and says so on the console, line by line.
//!
//! | line | when |
//! |---|---|
//! | `send N` | before N is given to the outbox |
//! | `accepted N` | it is there, and will be delivered |
//! | `take EPOCH SEQ N` | N has come, as the message with this id |
//! | `no number of a board in EPOCH SEQ` | something else has come |
//! | `up`, `down: WHY` | the link |
//! | `done` | the server has sent the end, and has everything |

use core::convert::Infallible;
use core::future::pending;
use core::str;

use bowline_embedded::{Address, Client, LinkState};
use embassy_futures::select::{Either3, select3};
use embassy_time::{Duration, Timer};

use crate::board::{Outbox, PAYLOAD};
use crate::host::say;
use crate::settings::Settings;

/// The host's file does not fail, and no payload is longer than the outbox takes.
const STORED: &str = "the outbox stores it";

type Board = Client<'static, Outbox>;

/// What the server sends when there is nothing more to do, and what it gets then.
const END: &[u8] = b"end";

/// Keeps the diary until the server sends the end and has everything, if that is ever.
pub async fn keep(client: Board, settings: &Settings) {
    let Settings { app, every, from, .. } = *settings;
    let channel = Address { app, instance: 0, tag: 0 };
    match select3(takes(client), sends(client, channel, from, every), watches(client)).await {
        Either3::First(()) => {}
    }
    client.send(channel, END).await.expect(STORED);
    client.drained().await;
    say(format_args!("done"));
}

async fn sends(client: Board, channel: Address, from: u64, every: Duration) -> Infallible {
    let mut number = from;
    loop {
        let mut buffer = [0; PAYLOAD];
        say(format_args!("send {number}"));
        client.send(channel, written(number, &mut buffer)).await.expect(STORED);
        say(format_args!("accepted {number}"));
        Timer::after(every).await;
        number += 1;
    }
}

async fn takes(client: Board) {
    let mut buffer = [0; PAYLOAD];
    loop {
        let message = match client.recv(&mut buffer).await {
            Ok(message) => message,
            // No server of ours sends so much: without more of them the diary is not whole.
            Err(error) => {
                say(format_args!("cannot take: {error}"));
                return pending().await;
            }
        };
        if message.payload == END {
            return;
        }
        let (epoch, seq) = message.id;
        match read(message.payload) {
            Some(number) => say(format_args!("take {epoch} {seq} {number}")),
            None => say(format_args!("no number of a board in {epoch} {seq}")),
        }
    }
}

async fn watches(client: Board) -> Infallible {
    let mut watch = client.watch();
    loop {
        match watch.changed().await.link {
            LinkState::Up { .. } => say(format_args!("up")),
            LinkState::Down(reason) => say(format_args!("down: {reason}")),
            _ => {}
        }
    }
}

/// A payload for a number: its digits, and dots up to a length that follows from it.
fn written(number: u64, buffer: &mut [u8; PAYLOAD]) -> &[u8] {
    let mut digits = [0; 20];
    let mut first = digits.len();
    let mut rest = number;
    while rest > 0 || first == digits.len() {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let digits = &digits[first..];
    buffer.fill(b'.');
    buffer[..digits.len()].copy_from_slice(digits);
    &buffer[..digits.len().max((number.wrapping_mul(37) % PAYLOAD as u64) as usize)]
}

/// The number of a payload, if that is whole.
fn read(payload: &[u8]) -> Option<u64> {
    let number = str::from_utf8(payload).ok()?.trim_end_matches('.').parse().ok()?;
    let mut buffer = [0; PAYLOAD];
    (written(number, &mut buffer) == payload).then_some(number)
}
