//! What the server does with messages until there is an app host: echo, or print.

use bowline_server::{Device, LinkState, Message, SendError};

use crate::config::App;
use crate::hub::{Hub, Text, What};

/// Ident of the echo app in the three-byte header of dialect H: `[app, instance, app header byte]`.
const ECHO: u8 = 0;

/// Serves one device for as long as it is known.
pub(crate) async fn run(app: App, device: Device, hub: Hub) {
    tokio::join!(handle(app, &device, &hub), follow(&device, &hub));
}

async fn handle(app: App, device: &Device, hub: &Hub) {
    while let Ok(message) = device.recv().await {
        hub.tell(device.id(), || What::Received(Text::of(&message, message.is_qos())));
        match app {
            App::Print => print(device, &message),
            App::Echo => match message.header() {
                [] | [ECHO, _, _] => {
                    if echo(device, hub, message).await == Err(SendError::Closed) {
                        return;
                    }
                }
                header => {
                    let reason = format!("no app takes messages with the header {header:?}");
                    tracing::warn!(device = %device.id(), "{reason}: kept as a dead letter");
                    device.bury(&message, reason);
                }
            },
        }
    }
}

/// Sends the message back as it came.
async fn echo(device: &Device, hub: &Hub, message: Message) -> Result<(), SendError> {
    let qos = message.is_qos();
    let text = Text::of(&message, qos);
    let sent = if qos { device.send(message).await } else { device.send_best_effort(message).await };
    match &sent {
        Ok(()) => hub.tell(device.id(), || What::Sent(text)),
        // Best effort that finds no link any more: that is what best effort means.
        Err(error) if !qos => tracing::debug!(device = %device.id(), "an echo was lost: {error}"),
        Err(error) => tracing::warn!(device = %device.id(), "an echo could not be sent: {error}"),
    }
    sent
}

fn print(device: &Device, message: &Message) {
    use std::io::Write;

    let text = Text::of(message, message.is_qos());
    let header = if text.header.is_empty() { String::new() } else { format!("[{}] ", text.header) };
    // A reader that went away (`| head`) is no reason to stop serving.
    let _ = writeln!(std::io::stdout().lock(), "{}\t{header}{}", device.id(), text.payload);
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
