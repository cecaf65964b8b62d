//! `bowline devices`, `device show` and `device forget`: what the running server knows of its devices.

use std::borrow::Cow;
use std::process::ExitCode;

use crate::cli::{ForgetDeviceArgs, Question, ShowDeviceArgs};
use crate::confirm::confirm;
use crate::control::{Client, Device, DeviceDetail, Forgotten, KeyState, LinkProtection, escape};
use crate::talk::shown;
use crate::units::{count, moment, span};

pub(crate) async fn devices(question: Question) -> anyhow::Result<ExitCode> {
    let devices: Vec<Device> = Client::connect(&question.server.data).await?.get("/v1/devices").await?;
    if question.json {
        println!("{}", serde_json::to_string_pretty(&devices)?);
        return Ok(ExitCode::SUCCESS);
    }
    if devices.is_empty() {
        println!("No device has connected yet.");
        return Ok(ExitCode::SUCCESS);
    }
    let width = devices.iter().map(|device| shown(&device.id).chars().count()).max().unwrap_or(0).max(6);
    println!(
        "{:width$}  {:7}  {:11}  {:>8}  {:>8}  {:>6}  {:>5}  {:>4}",
        "device", "dialect", "link", "received", "acked", "unsent", "dupes", "dead"
    );
    for device in devices {
        println!(
            "{:width$}  {:7}  {:11}  {:>8}  {:>8}  {:>6}  {:>5}  {:>4}",
            shown(&device.id),
            spoken(&device),
            link(&device),
            device.total("received") + device.total("received_best_effort"),
            device.total("acked"),
            device.unsent,
            device.total("duplicates"),
            device.dead_letters,
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// The dialect, and what the table must not keep to itself: that everybody can read a device that has a key.
fn spoken(device: &Device) -> Cow<'_, str> {
    let dialect = device.dialect.as_deref().unwrap_or("-");
    match device.protection {
        Some(LinkProtection::Keyed) => format!("{dialect} keyed").into(),
        _ => dialect.into(),
    }
}

/// Whether it is there, briefly.
fn link(device: &Device) -> Cow<'static, str> {
    match device.away_ms {
        _ if device.up => "up".into(),
        Some(away) => format!("away {}", span(away)).into(),
        None if device.dialect.is_some() => "away".into(),
        None => "never".into(),
    }
}

pub(crate) async fn show(args: ShowDeviceArgs) -> anyhow::Result<ExitCode> {
    let path = format!("/v1/devices/{}", escape(&args.id));
    let detail: DeviceDetail = Client::connect(&args.question.server.data).await?.get(&path).await?;
    if args.question.json {
        println!("{}", serde_json::to_string_pretty(&detail)?);
    } else {
        print!("{}", page(&detail));
    }
    Ok(ExitCode::SUCCESS)
}

/// A device on one page, 80 columns wide.
fn page(detail: &DeviceDetail) -> String {
    let device = &detail.device;
    let mut page = format!("{}\n", shown(&device.id));
    let mut line = |name: &str, text: &str| {
        page += &format!("  {name:<9}  {text}\n");
    };
    line("link", &link_in_full(device));
    line("links", &links(detail));
    line("outages", &outages(detail));
    line("session", &session(detail));
    line("key", &key(&detail.keys));
    line("kept", kept(detail));
    page += &format!("\n{}\n", table(detail));
    page += &format!("  {:<26}{}\n", "dead letters", dead_letters(detail));
    match device.total("quarantined") {
        0 => {}
        times => {
            page += &format!(
                "\n  Its links were refused {}, because it and the server contradict each other:\n  \
                 two boards with one id, or one end restored from an old copy. `bowline device\n  \
                 forget` begins a new session.\n",
                count(times, "time")
            );
        }
    }
    page
}

fn link_in_full(device: &Device) -> String {
    let dialect = device.dialect.as_deref().unwrap_or("-");
    match (&device.peer, device.away_ms) {
        (Some(peer), _) => format!("up, dialect {dialect}{}, from {peer}", protection(device)),
        (None, Some(away)) => format!("away for {}, last on dialect {dialect}: {}", span(away), device.link),
        (None, None) if device.dialect.is_some() => format!("{}, last on dialect {dialect}", device.link),
        (None, None) => device.link.clone(),
    }
}

fn protection(device: &Device) -> &'static str {
    match device.protection {
        Some(LinkProtection::Encrypted) => ", encrypted",
        Some(LinkProtection::Keyed) => ", keyed, not encrypted",
        Some(LinkProtection::None) | None => "",
    }
}

fn links(detail: &DeviceDetail) -> String {
    let DeviceDetail { device, connects, stored, .. } = detail;
    let all = device.total("connects");
    let mut text = all.to_string();
    if *stored && all != *connects {
        text += &format!(", {connects} since the server started");
    }
    if let Some(seen) = device.last_seen_ms.filter(|_| all > 0) {
        text += &format!("\n  {:<9}  the last one began {}", "", moment(seen));
    }
    text
}

fn outages(detail: &DeviceDetail) -> String {
    let outages = &detail.outages;
    if outages.count == 0 {
        return "none".to_owned();
    }
    let mut text = outages.count.to_string();
    if outages.total_ms > 0 {
        text += &format!(", {} in all, the longest {}", span(outages.total_ms), span(outages.longest_ms));
    }
    if !detail.device.up && detail.device.away_ms.is_none() {
        text += "; when the present one began is not known";
    }
    // The one there is stands in the line of the link.
    if let (Some(last), Some(reason), None) = (outages.last_ms, &outages.last_reason, detail.device.away_ms) {
        text += &format!("\n  {:<9}  the last one {}: {reason}", "", span(last));
    }
    text
}

fn session(detail: &DeviceDetail) -> String {
    let begun = match detail.device.total("epochs") {
        0 => String::new(),
        times => format!(", begun {}", count(times, "time")),
    };
    format!("epoch {}{begun}", detail.epoch)
}

fn key(keys: &KeyState) -> String {
    match keys {
        KeyState::None => "none: it cannot prove who it is".to_owned(),
        KeyState::Live { key_ids } => {
            let ids = key_ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
            format!("{ids}; it gets in with that only")
        }
        KeyState::Revoked => "revoked: it does not get in".to_owned(),
    }
}

fn kept(detail: &DeviceDetail) -> &'static str {
    match (detail.persistent, detail.stored) {
        (true, true) => "until it is forgotten, in the store",
        (true, false) => "until it is forgotten, or the server stops: there is no store",
        (false, true) => "for a while after it leaves (temporary), in the store",
        (false, false) => "for a while after it leaves (temporary), in memory only",
    }
}

/// Both directions beside each other.
fn table(detail: &DeviceDetail) -> String {
    let DeviceDetail { device, limits, .. } = detail;
    let total = |name: &str| device.total(name).to_string();
    let none = || "-".to_owned();
    let rows = [
        ("", "from it".to_owned(), "to it".to_owned()),
        ("accepted", total("received"), total("accepted")),
        ("bytes of those", total("received_bytes"), total("accepted_bytes")),
        ("sent", none(), total("sent")),
        ("sent again", none(), total("resent")),
        ("duplicates refused", total("duplicates"), none()),
        ("of those ambiguous", total("ambiguous"), none()),
        ("refused, no room", total("refused"), none()),
        ("acknowledged", none(), total("acked")),
        ("processed by the app", total("processed"), total("peer_processed")),
        ("dropped unsent (gaps)", total("gaps"), total("dropped")),
        ("best effort", total("received_best_effort"), total("sent_best_effort")),
        (
            "waiting now",
            format!("{} of {}", device.unread, limits.unread),
            format!("{} of {}", device.unsent, limits.unsent),
        ),
    ];
    rows.map(|(name, from, to)| format!("  {name:<26}{from:>16}{to:>16}").trim_end().to_owned()).join("\n")
}

fn dead_letters(detail: &DeviceDetail) -> String {
    let DeviceDetail { device, limits, dead_letters_dropped, .. } = detail;
    let lost = match dead_letters_dropped {
        Some(lost @ 1..) => format!(", {lost} lost for want of room"),
        _ => String::new(),
    };
    let ever = device.total("dead_letters");
    format!("{:>16}  ({ever} so far{lost})", format!("{} of {}", device.dead_letters, limits.dead_letters))
}

pub(crate) async fn forget(args: ForgetDeviceArgs) -> anyhow::Result<ExitCode> {
    let mut server = Client::connect(&args.server.data).await?;
    let path = format!("/v1/devices/{}", escape(&args.id));
    let DeviceDetail { device, .. } = server.get(&path).await?;
    let what = what_goes(device.unsent, device.unread, device.dead_letters);
    if !confirm(&format!("Forget {:?} for good, with {what}?", args.id), args.yes)? {
        eprintln!("Nothing is forgotten.");
        return Ok(ExitCode::FAILURE);
    }
    let Forgotten { unread, unsent, dead_letters } = server.delete(&path).await?;
    println!("Forgot {:?}, with {}.", args.id, what_goes(unsent, unread, dead_letters));
    Ok(ExitCode::SUCCESS)
}

fn what_goes(unsent: usize, unread: usize, dead_letters: u64) -> String {
    format!(
        "{} to it, {unread} from it, {} and all its counts",
        count(unsent as u64, "message"),
        count(dead_letters, "dead letter")
    )
}
