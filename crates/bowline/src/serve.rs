//! `bowline serve`.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use bowline_server::{AppStats, Keys, Server, StartError};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app::Printer;
use crate::cli::ServeArgs;
use crate::config::{App, Config, DialectName, Durability};
use crate::external::Externals;
use crate::hub::Hub;
use crate::units::count;
use crate::{app, control, logging};

pub(crate) fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args)?;
    logging::start(&args.log, args.log_format)?;
    if args.check {
        let (opened, externals) = (app::Opened::unopened(&config)?, Externals::new(&config));
        app::register(&config, config.builder(), &Printer::start(), &opened, &externals)?.check()?;
        let keys = Keys::open(&config.data)?;
        config.check_keys(&keys)?;
        let addresses: Vec<_> = config.addresses().collect();
        println!("The configuration is right: {}\n{}", describe(&config, &addresses), openness(&config, &keys));
        if let Some(line) = unencrypted(&config) {
            println!("{line}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    tokio::runtime::Runtime::new()?.block_on(serve(config))
}

async fn serve(config: Config) -> anyhow::Result<ExitCode> {
    // Everything that may fail comes before the first board is let in: what is acknowledged must be kept.
    let lock = claim(&config.data)?;
    // Before keys are read: who changes them later finds the socket and tells this server.
    let socket = control::Socket::bind(&config.data)?;
    let keys = Keys::open(&config.data)?;
    config.check_keys(&keys)?;
    let tcp = match config.api.listen {
        Some(address) => Some(control::Tcp::bind(address, &config.api.token_file(&config.data)).await?),
        None => None,
    };
    let api = tcp.as_ref().map(|tcp| tcp.address);
    let externals = Externals::new(&config);
    let mut signals = Signals::new()?;
    let hub = Hub::new();
    let server = {
        let hub = hub.clone();
        let opening = {
            let config = config.clone();
            tokio::task::spawn_blocking(move || anyhow::Ok((config.open_store()?, app::Opened::open(&config)?))).await?
        };
        let (store, opened) = opening.context("the server did not start")?;
        let builder = app::register(&config, config.builder(), &Printer::start(), &opened, &externals)?
            .keys(keys.clone())
            .observer(move |device, event| app::tells(&hub, device, event));
        let builder = match store {
            Some(store) => builder.store(store),
            None => builder,
        };
        builder.start().await.map_err(explain)?
    };
    let control = socket
        .serve(control::Api { server: server.clone(), keys: keys.clone(), hub, externals: externals.clone() }, tcp);
    if let Some(address) = api {
        let token = config.api.token_file(&config.data);
        tracing::info!("local API on {address}, for those who know the token in {}", token.display());
    }
    // Announced only now: whoever reads this may connect.
    greet(&config, &keys, &server);

    let signal = signals.next().await;
    let drain = Duration::from_millis(config.link.drain_ms);
    tracing::info!(
        "{signal}: taking no more messages, sending what is queued (at most {drain:?}; again to stop at once)"
    );
    // Programs get no more messages, so that nobody waits for their answers.
    externals.stop();
    let left = tokio::select! {
        sessions = server.shutdown(drain) => {
            let left: usize = sessions.devices().map(|device| device.ledger()).map(|left| left.unsent + left.unread).sum();
            if !sessions.close(drain).await {
                tracing::error!("the store does not take the last changes: what they say may happen again at the next start");
            }
            left
        }
        signal = signals.next() => bail!("{signal}: stopped at once"),
    };
    control.stop();
    match config.store.durability {
        _ if left == 0 => {}
        Durability::Memory => {
            tracing::warn!(
                "lost with this process, as store.durability is \"memory\": {}",
                count(left as u64, "queued message")
            )
        }
        _ => tracing::info!("{} left in {}", count(left as u64, "queued message"), config.data.display()),
    }
    tracing::info!("stopped");
    drop(lock);
    Ok(ExitCode::SUCCESS)
}

/// Makes the data folder and locks it: one process owns it, until it ends in whatever way.
fn claim(data: &Path) -> anyhow::Result<File> {
    let hint =
        || format!("cannot use the data folder {}: choose another with --data, or make it writable", data.display());
    DirBuilder::new().recursive(true).mode(0o700).create(data).with_context(hint)?;
    let lock = File::create(data.join("lock")).with_context(hint)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => bail!(
            "another `bowline serve` uses the data folder {}: stop that one, or choose another folder with --data",
            data.display()
        ),
        Err(TryLockError::Error(error)) => Err(error).with_context(hint),
    }
}

/// Says what to do about a server that does not start.
fn explain(error: StartError) -> anyhow::Error {
    let advice = match &error {
        StartError::Listen { error, .. } => match error.kind() {
            io::ErrorKind::AddrInUse => {
                "another server has that port, perhaps the Python server or another `bowline serve`, or two of the \
                 configured addresses share it: stop that one, or choose another port with --listen"
            }
            io::ErrorKind::PermissionDenied => "ports below 1024 are for root: choose a higher one with --listen",
            io::ErrorKind::AddrNotAvailable => {
                "this machine has no such address: use one of its own, 127.0.0.1 for this machine only, \
                 or --open-lan for all"
            }
            _ => "choose another address with --listen",
        },
        _ => return error.into(),
    };
    anyhow::Error::new(error).context(advice).context("the server did not start")
}

fn greet(config: &Config, keys: &Keys, server: &Server) {
    let addresses = server.addresses();
    // For whoever starts this as a child and waits until it is ready.
    tracing::info!("{}", describe(config, addresses));
    let ident =
        |app: AppStats| app.ident.map_or_else(|| app.name.to_string(), |ident| format!("{} ({ident})", app.name));
    let apps: Vec<_> = server.app_stats().into_iter().map(ident).collect();
    tracing::info!("apps: {}", apps.join(", "));
    let openness = openness(config, keys);
    if config.open_lan {
        tracing::warn!("{openness}");
    } else {
        tracing::info!("{openness}");
    }
    if let Some(line) = unencrypted(config) {
        tracing::warn!("{line}");
    }
    if std::io::stderr().is_terminal() {
        let address = addresses.iter().find(|address| address.ip().is_loopback()).or(addresses.first());
        let server = match address {
            Some(address) if address.ip().is_unspecified() => format!(" --server 127.0.0.1:{}", address.port()),
            Some(address) => format!(" --server {address}"),
            None => String::new(),
        };
        let server = if server == " --server 127.0.0.1:9999" { "" } else { &server };
        let default = Config::default().data;
        let data = if config.data == default { String::new() } else { format!(" --data {}", config.data.display()) };
        eprintln!(
            "\n  Try, in another terminal:\n    echo '[1, 2, 3]' | bowline device kitchen{server}\n    bowline tail{data}\n    bowline devices{data}\n"
        );
    }
}

/// Who gets in without a key, in a line.
fn openness(config: &Config, keys: &Keys) -> String {
    let keyed = match keys.len() {
        0 => "no id has a key".to_owned(),
        1 => format!("1 id has or had a key, and gets in with that only{}", encrypted(config)),
        count => format!("{count} ids have or had a key, and get in with that only{}", encrypted(config)),
    };
    let mut open = Vec::new();
    for (letter, dialect) in [("H", DialectName::H), ("U", DialectName::U), ("P", DialectName::P)] {
        if config.speaks(dialect) {
            open.push(letter.to_owned());
        }
    }
    if config.speaks(DialectName::N) && !config.security.open.is_empty() {
        let whom = config.security.open.join(", ");
        open.push(if whom == "*" { "N".to_owned() } else { format!("N for {whom}") });
    }
    let addresses = config.listen.len() + config.listen_plain.len();
    if addresses == 0 || open.is_empty() {
        return format!("closed: nobody gets in without a key; {keyed}");
    }
    let who = if config.open_lan { "everyone who can reach these ports" } else { "everyone on this machine" };
    format!(
        "open: {who} may connect under any id without a key ({}), and nobody proves who it is; {keyed}",
        open.join(", ")
    )
}

/// How those with keys get in, unless there is more to say of it.
fn encrypted(config: &Config) -> &'static str {
    if config.security.unencrypted.is_empty() { ", encrypted" } else { "" }
}

/// Who may do without encryption, if anybody may.
fn unencrypted(config: &Config) -> Option<String> {
    let whom = &config.security.unencrypted;
    (config.speaks(DialectName::N) && !whom.is_empty()).then(|| {
        format!(
            "not encrypted: {} may use their key without encryption (security.unencrypted): everybody on the way can \
             read what they send and get, and nobody can change it",
            whom.join(", ")
        )
    })
}

/// What the server is, in a line.
fn describe(config: &Config, addresses: &[SocketAddr]) -> String {
    // In the order of `Config::addresses`.
    let (open, secured) = addresses.split_at(addresses.len().saturating_sub(config.listen_secured.len()));
    let list = |addresses: &[SocketAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let secured = match secured {
        [] => String::new(),
        secured => format!("{} for devices with keys", list(secured)),
    };
    let app = match config.app {
        App::Echo => "echoes what it gets",
        App::Print => "prints what it gets",
    };
    let who = match (config.devices.allow.iter().any(|pattern| pattern == "*"), config.devices.expected.len()) {
        (true, _) => "any device".to_owned(),
        (false, 0) => format!("devices {:?}", config.devices.allow),
        (false, count) => format!("{count} expected devices and {:?}", config.devices.allow),
    };
    let all = match open {
        [] => secured,
        open if secured.is_empty() => format!("{} for {who}", list(open)),
        open => format!("{} for {who}, on {secured}", list(open)),
    };
    format!("listening on {all}, timeout {} ms, {app}; data in {}", config.link.timeout_ms, config.data.display())
}

/// The ways in which the process is asked to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for one, and says which.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "terminated",
            _ = self.interrupt.recv() => "interrupted",
        }
    }
}
