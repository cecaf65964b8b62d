//! The apps of `bowline serve`, and what watchers hear of them.

use std::io::Write;
use std::sync::Arc;

use bowline_apps::Echo;
use bowline_server::{
    App, AppError, AppEvent, AppMessage, Builder, Device, Handled, Instance, LinkState, Message, Port,
};

use tokio::sync::{mpsc, oneshot};

use crate::config::{self, Config};
use crate::external::{External, Externals};
use crate::hub::{Hub, Text, What};
use crate::talk::shown;

/// Ident of the echo app in the three-byte header of dialect H: `[app, instance, app header byte]`.
const ECHO: u8 = 0;

/// Registers the apps that the configuration names.
pub(crate) fn register(config: &Config, builder: Builder, printer: &Printer, externals: &Externals) -> Builder {
    let external =
        |builder: Builder, external: &Arc<External>| builder.app(external.ident, &external.name, external.app());
    let builder = externals.all().fold(builder, external);
    let (builder, lines) = match config.app {
        config::App::Echo => (builder.app(ECHO, "echo", Echo), "echo"),
        config::App::Print => (builder.other_app("print", Print(printer.clone())), "print"),
    };
    let lines = config.apps.lines.as_deref().unwrap_or(lines);
    let builder = if lines.is_empty() { builder } else { builder.lines_app(lines) };
    builder.app_rules(config.apps.rules()).app_limits(config.apps.limits.limits())
}

/// Tells watchers what happens.
pub(crate) fn tells(hub: &Hub, device: &Device, event: AppEvent<'_>) {
    match event {
        AppEvent::Received(message) => {
            hub.tell(device.id(), || What::Received(Text::of(message, message.is_qos())));
        }
        AppEvent::Sent { message, qos } => hub.tell(device.id(), || What::Sent(Text::of(message, qos))),
        AppEvent::Up => {
            let status = device.status();
            if let LinkState::Up { dialect, peer } = status.link {
                let (peer, dialect) = (peer.to_string(), dialect.to_string());
                hub.tell(device.id(), || What::Up { peer, dialect, connects: status.connects });
            }
        }
        AppEvent::Down(reason) => hub.tell(device.id(), || What::Down { reason: reason.to_string() }),
        _ => {}
    }
}

/// Prints what comes.
#[derive(Debug, Clone)]
struct Print(Printer);

impl App for Print {
    type Instance = Print;

    fn instance(&self, _: Port) -> Print {
        self.clone()
    }
}

impl Instance for Print {
    async fn handle(&mut self, message: &AppMessage) -> Result<Handled, AppError> {
        if self.0.print(line(message.port().device(), message.message())).await {
            Ok(Handled::done())
        } else {
            Err(AppError::reject("standard output is closed"))
        }
    }
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

fn line(device: &Device, message: &Message) -> String {
    let text = Text::of(message, message.is_qos());
    let header = if text.header.is_empty() { String::new() } else { format!("[{}] ", text.header) };
    shown(&format!("{}\t{header}{}", device.id(), text.payload)).into_owned()
}
