//! What the board does: it sends numbers, takes those that come, and says so on the console, line by line.
//!
//! | line | when |
//! |---|---|
//! | `send N` | before N is given to the outbox |
//! | `accepted N` | it is there, and will be delivered |
//! | `take EPOCH SEQ N` | N has come, as the message with this id |
//! | `up`, `down: WHY` | the link |
//! | `done` | all that was asked for is done |

use core::str;

use bowline_embedded::{Address, Client, LinkState};
use embassy_futures::select::{Either3, select3};
use embassy_time::Timer;

use crate::Outbox;
use crate::host::say;
use crate::settings::Settings;

/// Most bytes of a payload.
pub(crate) const PAYLOAD: usize = 256;

type Board = Client<'static, Outbox>;

/// Keeps the diary until it is done, if that is ever.
pub(crate) async fn keep(client: Board, settings: &Settings) {
    let Settings { last, .. } = *settings;
    let takes = async {
        takes(client, last).await;
        client.send(channel(settings), b"end").await.expect("the outbox takes it");
        client.drained().await;
    };
    match select3(takes, sends(client, settings), watches(client)).await {
        Either3::First(()) => say(format_args!("done")),
        Either3::Second(never) | Either3::Third(never) => match never {},
    }
}

fn channel(settings: &Settings) -> Address {
    Address { app: settings.app, instance: 0, tag: 0 }
}

async fn sends(client: Board, settings: &Settings) -> ! {
    if settings.last.is_some() {
        core::future::pending().await
    }
    for number in settings.from.. {
        let mut buffer = [b'.'; PAYLOAD];
        let payload = written(number, &mut buffer);
        say(format_args!("send {number}"));
        client.send(channel(settings), payload).await.expect("the outbox takes it");
        say(format_args!("accepted {number}"));
        Timer::after(settings.every).await;
    }
    unreachable!("numbers go on for longer than boards")
}

async fn takes(client: Board, last: Option<u64>) {
    let mut buffer = [0; PAYLOAD];
    loop {
        let message = client.recv(&mut buffer).await.expect("the buffer is as long as the longest");
        let (epoch, seq) = message.id;
        let number = read(message.payload).expect("the server sends what the board sends");
        say(format_args!("take {epoch} {seq} {number}"));
        if last == Some(number) {
            return;
        }
    }
}

async fn watches(client: Board) -> ! {
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
