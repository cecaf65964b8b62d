//! `bowline send` and `tail`: talking to the running server.

use std::borrow::Cow;
use std::io::{self, BufRead, IsTerminal, Write};
use std::process::ExitCode;

use bowline_server::Dialect;

use crate::cli::{SendArgs, TailArgs};
use crate::control::{Client, Send, Sent, escape, hex};
use crate::hub::{Event, Text, What};

/// Exit code of `bowline send` when the message stays queued.
const QUEUED: u8 = 3;

/// What a person typed, as a device expects it. On H payloads are JSON: a board that gets anything else
/// neither takes nor acknowledges it, and everything behind it waits.
pub(crate) fn as_payload(text: String, dialect: Option<Dialect>) -> String {
    let json = matches!(dialect, Some(Dialect::Headers) | None);
    if !json || serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok() {
        text
    } else {
        // A string always is JSON.
        serde_json::to_string(&text).unwrap_or(text)
    }
}

/// `text` as it may be shown: on a terminal, control characters are escaped. What a device sends must not
/// steer the terminal of whoever watches it.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    let harmless = |c: char| !c.is_control() || c == '\t';
    if !io::stdout().is_terminal() || text.chars().all(harmless) {
        return Cow::Borrowed(text);
    }
    text.chars().map(|c| if harmless(c) { c.to_string() } else { c.escape_default().to_string() }).collect()
}

pub(crate) async fn send(args: SendArgs) -> anyhow::Result<ExitCode> {
    let mut client = Client::connect(&args.server.data).await?;
    let path = format!("/v1/devices/{}/messages", escape(&args.id));
    let header = args.header.as_ref().map_or_else(String::new, |header| hex(&header.0));
    let mut queued = 0;
    if args.text.is_none() && io::stdin().is_terminal() {
        eprintln!("each line is a message; Ctrl-D ends");
    }
    let lines: Box<dyn Iterator<Item = io::Result<String>>> = match &args.text {
        Some(text) => Box::new(std::iter::once(Ok(text.clone()))),
        None => Box::new(io::stdin().lock().lines()),
    };
    for line in lines {
        let request = Send {
            payload: line?,
            header: header.clone(),
            qos: !args.best_effort,
            raw: args.raw,
            how: args.how,
            timeout_ms: args.timeout_ms,
        };
        match client.post::<Sent>(&path, &request).await? {
            Sent::Accepted { micros } => println!("accepted after {}", millis(micros)),
            Sent::Processed { micros } => println!("processed after {}", millis(micros)),
            Sent::Acknowledged { micros } => println!("acknowledged after {}", millis(micros)),
            Sent::Written { micros } => println!("written after {}", millis(micros)),
            Sent::Queued { device_is_up, stored } => {
                queued += 1;
                let why = if device_is_up { "has not acknowledged it yet" } else { "is not connected" };
                let but = if stored { "" } else { ", unless the server stops before: it has no store" };
                eprintln!(
                    "{:?} {why}: the message stays queued, and is delivered when the device takes it{but}",
                    args.id
                );
            }
        }
    }
    Ok(if queued == 0 { ExitCode::SUCCESS } else { ExitCode::from(QUEUED) })
}

fn millis(micros: u64) -> String {
    format!("{}.{} ms", micros / 1000, micros % 1000 / 100)
}

pub(crate) async fn tail(args: TailArgs) -> anyhow::Result<ExitCode> {
    let pattern = bowline_server::IdPattern::new(&args.pattern);
    let mut lines = Client::connect(&args.server.data).await?.lines("/v1/tail").await?;
    eprintln!("watching {:?}; Ctrl-C to stop", args.pattern);
    while let Some(line) = lines.next().await? {
        let event: Event = serde_json::from_slice(&line)?;
        if !matches!(event.what, What::Missed { .. }) && !pattern.matches(&event.device) {
            continue;
        }
        let mut out = io::stdout().lock();
        let written = if args.json {
            out.write_all(&line).and_then(|()| out.write_all(b"\n"))
        } else {
            writeln!(out, "{}", shown(&describe(&event)))
        };
        if written.and_then(|()| out.flush()).is_err() {
            // Nobody reads any more (`| head`).
            return Ok(ExitCode::SUCCESS);
        }
    }
    eprintln!("the server has stopped");
    Ok(ExitCode::SUCCESS)
}

fn describe(Event { device, what }: &Event) -> String {
    let text = |Text { header, payload, qos }: &Text| {
        let header = if header.is_empty() { String::new() } else { format!("[{header}] ") };
        let qos = if *qos { "" } else { "  (best effort)" };
        format!("{header}{payload}{qos}")
    };
    match what {
        What::Received(message) => format!("{device} > {}", text(message)),
        What::Sent(message) => format!("{device} < {}", text(message)),
        What::Up { peer, dialect, connects } => {
            format!("{device} up: dialect {dialect} from {peer}, link number {connects}")
        }
        What::Down { reason } => format!("{device} down: {reason}"),
        What::Missed { events } => format!("({events} events missed: this terminal is too slow)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_h_what_is_not_json_becomes_a_json_string() {
        let payload = |text: &str, dialect| as_payload(text.to_owned(), dialect);
        assert_eq!(payload("[1, 2]", Some(Dialect::Headers)), "[1, 2]");
        assert_eq!(payload("hello \"you\"", Some(Dialect::Headers)), r#""hello \"you\"""#);
        assert_eq!(payload("hello", None), "\"hello\"");
        assert_eq!(payload("hello", Some(Dialect::Upstream)), "hello");
        assert_eq!(payload("grüße", Some(Dialect::Headers)), "\"grüße\"");
    }
}
