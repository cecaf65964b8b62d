//! What the server does with messages until there is an app host: echo, or print.

use std::io::Write;

use bowline_server::{Delivery, Device, LinkState, Message, SendError};

use tokio::sync::{mpsc, oneshot};

use crate::config::App;
use crate::hub::{Hub, Text, What};
use crate::talk::shown;

/// Ident of the echo app in the three-byte header of dialect H: `[app, instance, app header byte]`.
const ECHO: u8 = 0;

/// Serves one device for as long as it is known.
pub(crate) async fn run(app: App, device: Device, hub: Hub, printer: Printer) {
    tokio::join!(handle(app, &device, &hub, &printer), follow(&device, &hub));
}

/// Writes lines to standard output from a thread of its own: a reader that stalls makes devices wait, and
/// nothing else.
#[derive(Debug, Clone)]
pub(crate) struct Printer(mpsc::Sender<(String, oneshot::Sender<()>)>);

impl Printer {
    pub(crate) fn start() -> Self {
        let (lines, mut queue) = mpsc::channel::<(String, oneshot::Sender<()>)>(64);
        std::thread::spawn(move || {
            while let Some((line, written)) = queue.blocking_recv() {
                if writeln!(std::io::stdout().lock(), "{line}").is_err() {
                    // Nobody reads any more. Whoever prints finds the queue closed.
                    return;
                }
                // The one who waits for it may be gone.
                let _ = written.send(());
            }
        });
        Printer(lines)
    }

    /// Returns when the line is written; whether it was.
    async fn print(&self, line: String) -> bool {
        let (written, done) = oneshot::channel();
        self.0.send((line, written)).await.is_ok() && done.await.is_ok()
    }
}

async fn handle(app: App, device: &Device, hub: &Hub, printer: &Printer) {
    while let Ok(delivery) = device.next().await {
        let message = delivery.message().clone();
        hub.tell(device.id(), || What::Received(Text::of(&message, message.is_qos())));
        match app {
            App::Print => {
                if printer.print(line(device, &message)).await {
                    delivery.done();
                } else {
                    delivery.bury("standard output is closed");
                }
            }
            App::Echo => match message.header() {
                [] | [ECHO, _, _] => {
                    if echo(device, hub, delivery).await == Err(SendError::Closed) {
                        return;
                    }
                }
                header => {
                    let reason = format!("no app takes messages with the header {header:?}");
                    tracing::warn!(device = %device.id(), "{reason}: kept as a dead letter");
                    delivery.bury(reason);
                }
            },
        }
    }
}

/// Sends the message back as it came: a qos one in one transaction with its leaving the inbox, so that it
/// goes back exactly once.
async fn echo(device: &Device, hub: &Hub, delivery: Delivery) -> Result<(), SendError> {
    let message = delivery.message().clone();
    let qos = message.is_qos();
    let text = Text::of(&message, qos);
    let sent = if qos {
        delivery.reply(message).await
    } else {
        delivery.done();
        device.send_best_effort(message).await
    };
    match &sent {
        Ok(()) => hub.tell(device.id(), || What::Sent(text)),
        // Best effort that finds no link any more: that is what best effort means.
        Err(error) if !qos => tracing::debug!(device = %device.id(), "an echo was lost: {error}"),
        Err(SendError::Closed) => {}
        Err(error) => tracing::warn!(device = %device.id(), "an echo could not be sent: {error}"),
    }
    sent
}

fn line(device: &Device, message: &Message) -> String {
    let text = Text::of(message, message.is_qos());
    let header = if text.header.is_empty() { String::new() } else { format!("[{}] ", text.header) };
    shown(&format!("{}\t{header}{}", device.id(), text.payload)).into_owned()
}

/// Tells watchers about the device's link.
async fn follow(device: &Device, hub: &Hub) {
    let mut watch = device.watch();
    let mut told = 0;
    let mut status = watch.now();
    loop {
        match &status.link {
            LinkState::Up { dialect, peer } if status.connects > told => {
                told = status.connects;
                hub.tell(device.id(), || What::Up {
                    peer: peer.to_string(),
                    dialect: dialect.to_string(),
                    connects: status.connects,
                });
            }
            LinkState::Down(reason) => hub.tell(device.id(), || What::Down { reason: reason.to_string() }),
            LinkState::Up { .. } | LinkState::Never => {}
        }
        match watch.changed().await {
            Some(next) if !device.is_closed() => status = next,
            _ => return,
        }
    }
}
