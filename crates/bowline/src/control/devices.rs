//! Requests about devices.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use bowline_server::{Device as Known, Keys, LinkState, Server};
use bowline_store::{DeviceSummary, ReadError, Store};

use super::server::{Api, problem};
use super::{Device, DeviceDetail, Forgotten, KeyState, LinkProtection, Outages, QueueLimits};
use crate::near::nearest;

pub(super) async fn list(State(context): State<Api>) -> Json<Vec<Device>> {
    let stored = stored(&context.server).await;
    let known = context.server.devices();
    let mut devices: Vec<_> = known.iter().map(|device| describe(device, stored.get(device.id()))).collect();
    devices.sort_by(|a, b| a.id.cmp(&b.id));
    Json(devices)
}

pub(super) async fn show(State(context): State<Api>, Path(id): Path<String>) -> Result<Json<DeviceDetail>, Response> {
    let known = context.server.get(&id).ok_or_else(|| unknown(&context.server, &id))?;
    let mut stored = stored(&context.server).await;
    let stored = stored.remove(&*id);
    let device = describe(&known, stored.as_ref());
    let outage = known.ledger().outage;
    let limits = known.limits();
    Ok(Json(DeviceDetail {
        persistent: known.is_persistent(),
        epoch: known.epoch(),
        keys: keys(&context.keys, &id),
        connects: known.connects(),
        outages: Outages {
            count: device.total("outages"),
            // Those that are over, and the one there is.
            total_ms: device.total("outage_ms") + device.away_ms.unwrap_or(0),
            longest_ms: device.total("longest_outage_ms").max(device.away_ms.unwrap_or(0)),
            last_ms: outage.reason.map(|_| millis(outage.last)),
            last_reason: outage.reason.map(|reason| reason.to_string()),
        },
        limits: QueueLimits {
            unread: limits.inbox,
            unsent: limits.outbox,
            bytes: limits.queue_bytes,
            dead_letters: limits.dead_letters,
        },
        dead_letters_dropped: stored.map(|stored| stored.dead_letters_dropped),
        stored: context.server.store().is_some(),
        device,
    }))
}

pub(super) async fn forget(State(context): State<Api>, Path(id): Path<String>) -> Result<Json<Forgotten>, Response> {
    let Api { server, .. } = &context;
    let known = server.get(&id).ok_or_else(|| unknown(server, &id))?;
    let stored = stored(server).await;
    let Device { unread, unsent, dead_letters, .. } = describe(&known, stored.get(&*id));
    if !server.forget(&id) {
        return Err(unknown(server, &id));
    }
    tracing::info!(device = %id, unread, unsent, dead_letters, "forgotten, because someone asked for it");
    Ok(Json(Forgotten { unread, unsent, dead_letters }))
}

/// What the store has of each device, those left out that are damaged; nothing without one, or while it cannot be
/// read.
async fn stored(server: &Server) -> HashMap<Arc<str>, DeviceSummary> {
    let server = server.clone();
    // Reading the disk blocks.
    let read = tokio::task::spawn_blocking(move || server.store().map(summaries));
    match read.await {
        Ok(Some(Ok(summaries))) => summaries,
        Ok(Some(Err(error))) => {
            tracing::warn!(%error, "the store cannot be read");
            HashMap::new()
        }
        Ok(None) | Err(_) => HashMap::new(),
    }
}

fn summaries(store: &Store) -> Result<HashMap<Arc<str>, DeviceSummary>, ReadError> {
    let mut summaries = HashMap::new();
    for id in store.ids()? {
        match store.summary(&id) {
            Ok(Some(summary)) => drop(summaries.insert(id, summary)),
            Ok(None) => {}
            Err(error @ ReadError::Damaged(_)) => tracing::warn!(%error, "a device cannot be read"),
            Err(error) => return Err(error),
        }
    }
    Ok(summaries)
}

fn describe(device: &Known, stored: Option<&DeviceSummary>) -> Device {
    let status = device.status();
    let ledger = device.ledger();
    let dialect = device.dialect();
    let (link, peer) = match &status.link {
        _ if device.damage().is_some() => (format!("refused, damaged: {}", device.damage().unwrap_or_default()), None),
        LinkState::Never if dialect.is_none() && ledger.totals.connects == 0 => ("never connected".to_owned(), None),
        LinkState::Never => ("not since the server started".to_owned(), None),
        LinkState::Up { peer, .. } => ("up".to_owned(), Some(peer.to_string())),
        LinkState::Down(reason) => (reason.to_string(), None),
    };
    Device {
        id: device.id().to_owned(),
        up: status.is_up(),
        link,
        dialect: dialect.map(|dialect| dialect.to_string()),
        protection: (device.connects() > 0).then(|| match device.protection() {
            Some(protection) if protection.encrypts() => LinkProtection::Encrypted,
            Some(_) => LinkProtection::Keyed,
            None => LinkProtection::None,
        }),
        peer,
        away_ms: matches!(status.link, LinkState::Down(_)).then(|| millis(ledger.outage.last)),
        last_seen_ms: stored.map(|stored| stored.last_seen.0),
        unread: ledger.unread,
        unsent: ledger.unsent,
        dead_letters: stored.map_or_else(|| device.dead_letters().len() as u64, |stored| stored.dead_letters),
        totals: ledger.totals.iter().map(|(name, count)| (name.to_owned(), count)).collect(),
    }
}

fn keys(keys: &Keys, id: &str) -> KeyState {
    match keys.list().into_iter().find(|device| device.id == id) {
        None => KeyState::None,
        Some(device) if device.keys.is_empty() => KeyState::Revoked,
        Some(device) => KeyState::Live { key_ids: device.keys.iter().map(|key| key.key_id.get()).collect() },
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Says that there is no such device, and what was perhaps meant.
pub(super) fn unknown(server: &Server, id: &str) -> Response {
    problem(StatusCode::NOT_FOUND, unknown_text(server, id))
}

pub(super) fn unknown_text(server: &Server, id: &str) -> String {
    let known = server.devices();
    let hint = match (nearest(id, known.iter().map(|device| device.id())), known.len()) {
        (Some(nearest), _) => format!("did you mean {nearest:?}?"),
        (None, 0) => "no device has connected yet".to_owned(),
        (None, count) => format!("known are {count}, see `bowline devices`"),
    };
    format!("no device {id:?} has connected: {hint}")
}
