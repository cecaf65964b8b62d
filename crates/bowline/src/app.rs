//! The apps of `bowline serve`, and what watchers hear of them.

use std::io::Write;
use std::sync::Arc;

use anyhow::Context;
use bowline_apps::Echo;
use bowline_apps::mqtt::Mqtt;
use bowline_apps::record::Record;
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

/// Ident of the mqtt app.
const MQTT: u8 = 1;

/// Ident of the record app.
const RECORD: u8 = 3;

/// The apps that have files, open.
#[derive(Debug)]
pub(crate) struct Opened {
    record: Option<Record>,
    mqtt: Option<Mqtt>,
    /// See [`seed`].
    seed: [u8; 16],
}

impl Opened {
    /// What the configuration switches on, to see whether it can be registered. Touches nothing.
    pub(crate) fn unopened(config: &Config) -> anyhow::Result<Self> {
        let record = config.apps.record.settings(&config.data).map(Record::lazy).transpose()?;
        let mqtt = config.apps.mqtt.read()?.map(Mqtt::new).transpose()?;
        Ok(Opened { record, mqtt, seed: [0; 16] })
    }

    /// Opens what the configuration switches on. Blocks.
    pub(crate) fn open(config: &Config) -> anyhow::Result<Self> {
        let record = config.apps.record.settings(&config.data).map(Record::open).transpose()?;
        let mqtt = config.apps.mqtt.read()?.map(Mqtt::new).transpose()?;
        Ok(Opened { record, mqtt, seed: seed(config)? })
    }
}

/// Registers the apps that the configuration names.
pub(crate) fn register(
    config: &Config,
    builder: Builder,
    printer: &Printer,
    opened: &Opened,
    externals: &Externals,
) -> anyhow::Result<Builder> {
    let external =
        |builder: Builder, external: &Arc<External>| builder.app(external.ident, &external.name, external.app());
    let builder = externals.all().fold(builder, external);
    let (builder, lines) = match config.app {
        config::App::Echo => (builder.app(ECHO, "echo", Echo), "echo"),
        config::App::Print => (builder.other_app("print", Print(printer.clone())), "print"),
    };
    let builder = match &opened.record {
        Some(record) => builder.app(RECORD, "record", record.clone()),
        None => builder,
    };
    let builder = match &opened.mqtt {
        Some(mqtt) => builder.app(MQTT, "mqtt", mqtt.clone()),
        None => builder,
    };
    let lines = config.apps.lines.as_deref().unwrap_or(lines);
    let builder = if lines.is_empty() { builder } else { builder.lines_app(lines) };
    let builder = config.apps.register(builder, opened.seed)?;
    Ok(builder.app_rules(config.apps.rules()).app_limits(config.apps.limits.limits()))
}

/// What tells the messages of this store from those of any other: random, and kept beside the store as long as
/// the messages are. Without a store it is another one with each start. Blocks.
fn seed(config: &Config) -> anyhow::Result<[u8; 16]> {
    let fresh: [u8; 16] = std::array::from_fn(|_| fastrand::u8(..));
    if !config.apps.needs_seed() || config.store.durability == config::Durability::Memory {
        return Ok(fresh);
    }
    let path = config.data.join("seed");
    let wrong = || format!("cannot use {}", path.display());
    match std::fs::read(&path) {
        Ok(bytes) => bytes.try_into().map_err(|bytes: Vec<u8>| {
            anyhow::anyhow!(
                "{} has {} bytes, expected 16: remove it, and a new one is made",
                path.display(),
                bytes.len()
            )
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // Whole or not at all.
            let temporary = config.data.join("seed.new");
            std::fs::write(&temporary, fresh).with_context(wrong)?;
            std::fs::rename(&temporary, &path).with_context(wrong)?;
            Ok(fresh)
        }
        Err(error) => Err(error).with_context(wrong),
    }
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
