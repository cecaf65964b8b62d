//! `bowline device`: a device on the command line.

use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use bowline_client::{Client, Dialect, LinkState, Message, Next, SendError};
use tokio::sync::mpsc;

use crate::cli::{DeviceArgs, DeviceCommand, DialectArg};
use crate::{inspect, talk};

/// How long queued messages are tried for after Ctrl-C.
const DRAIN: Duration = Duration::from_secs(2);

pub(crate) async fn run(mut args: DeviceArgs) -> anyhow::Result<ExitCode> {
    let id = match (args.command.take(), args.id.take()) {
        (Some(DeviceCommand::Show(args)), _) => return inspect::show(args).await,
        (Some(DeviceCommand::Forget(args)), _) => return inspect::forget(args).await,
        (None, Some(id)) => id,
        // The command line is not accepted without.
        (None, None) => bail!("expected the id of a device"),
    };
    let dialect = match args.dialect {
        DialectArg::N => Dialect::Native,
        DialectArg::H => Dialect::Headers,
        DialectArg::U => Dialect::Upstream,
        DialectArg::P => Dialect::Plain,
    };
    let fail_fast = args.fail_fast;
    let server = args.server.clone();
    let mut builder = Client::builder(&id, &args.server);
    if let Some(key) = &args.key {
        builder = builder.key(&read_key(key)?)?;
    }
    if args.unencrypted {
        eprintln!("not encrypted: everybody on the way can read all messages, and nobody can change them");
        builder = builder.unencrypted();
    }
    if let Some(data) = &args.data {
        let limits = bowline_store::Limits::default();
        builder = builder.store(bowline_store::Store::open(data, bowline_store::Durability::Fsync, limits)?);
    }
    let client = builder
        .dialect(dialect)
        .timeout(Duration::from_millis(args.timeout_ms))
        .on_failure(move |attempt| {
            let give_up = fail_fast && attempt.connects == 0;
            if attempt.failures == 1 || give_up {
                eprintln!("no link to {server}: {}", attempt.error);
            }
            if give_up {
                return Next::GiveUp;
            }
            if attempt.failures == 1 {
                eprintln!("trying until there is one; Ctrl-C to stop");
            }
            Next::Retry
        })
        .start()?;
    client.on_change(|status| match &status.link {
        LinkState::Up { peer, dialect } => eprintln!("up: {peer}, dialect {dialect}, link number {}", status.connects),
        LinkState::Down(reason) => eprintln!("down: {reason}"),
        LinkState::Never => {}
    });

    let work = async {
        tokio::select! {
            result = feed(&client, &args, dialect) => result,
            () = print(&client) => Ok(true),
        }
    };
    let (result, lost) = tokio::select! {
        result = work => (result, !client.close(Duration::ZERO).await),
        _ = tokio::signal::ctrl_c() => (Ok(true), !client.close(DRAIN).await),
    };
    let all_taken = result?;
    if lost {
        eprintln!("ended before everything was acknowledged");
    } else if client.connects() == 0 && !fail_fast {
        eprintln!("ended without a link");
    }
    Ok(if lost || !all_taken || client.connects() == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The line itself, or the first one of the file.
fn read_key(key: &str) -> anyhow::Result<String> {
    if key.starts_with("bowline1:") {
        return Ok(key.to_owned());
    }
    let text = std::fs::read_to_string(key).with_context(|| {
        format!("--key: expected a line that begins with bowline1: or a file with it, and cannot read the file {key:?}")
    })?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// Sends the lines of standard input; at its end, waits for acknowledgements and answers. Whether all
/// lines could be sent, and had the receipt that was asked for.
async fn feed(client: &Client, args: &DeviceArgs, dialect: Dialect) -> anyhow::Result<bool> {
    let mut lines = input();
    let mut all_taken = true;
    while let Some(line) = lines.recv().await {
        let line = line.context("standard input: expected lines of UTF-8 text")?;
        let payload = if args.raw { line } else { talk::as_payload(line, Some(dialect)) };
        let header = args.header.as_ref().map_or(&[][..], |header| &header.0);
        let message = Message::with_header(header, payload.as_bytes());
        if !args.best_effort {
            // One after the other: standard input is read as fast as messages are acknowledged.
            match args.how.of(client.send(message)).await {
                Err(SendError::Message(error)) => {
                    eprintln!("not sent: {error}");
                    all_taken = false;
                }
                Err(error @ SendError::NoReceipt(_)) => {
                    eprintln!("{error}");
                    all_taken = false;
                }
                // As the user's policy has it.
                Err(error @ SendError::Dropped(_)) => eprintln!("{error}"),
                // The client has given up, and has said why.
                Err(SendError::Closed) => return Ok(false),
                other => other?,
            }
        } else {
            if client.connected().await == Err(SendError::Closed) {
                return Ok(false);
            }
            if let Err(error) = client.send_best_effort(message).await {
                eprintln!("not sent: {error}");
            }
        }
    }
    while client.ledger().unsent > 0 {
        // Nobody waits for what was only to be accepted.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(args.linger_ms)).await;
    Ok(all_taken)
}

/// The lines of standard input. Read by a thread: a terminal cannot be read without blocking.
fn input() -> mpsc::Receiver<io::Result<String>> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Prints what comes, until the client is closed or nobody reads.
async fn print(client: &Client) {
    while let Ok(message) = client.recv().await {
        let header: String = message.header().iter().map(|byte| format!("{byte:02x}")).collect();
        let header = if header.is_empty() { header } else { format!("[{header}] ") };
        let mut out = io::stdout().lock();
        let text = String::from_utf8_lossy(message.payload());
        if writeln!(out, "{}", talk::shown(&format!("{header}{text}"))).and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}
