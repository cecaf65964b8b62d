//! Requests about dead letters.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use bowline_server::{DeadError, DeadId, DeadLetterEntry, RetryError};
use serde::Deserialize;

use super::server::{Api, problem};
use super::{DeadLetter, Direction, devices, hex};

/// How long a change may take before whoever asks for it is told that it will come later.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Deserialize)]
pub(super) struct Which {
    device: Option<String>,
}

pub(super) async fn list(
    State(context): State<Api>,
    Query(which): Query<Which>,
) -> Result<Json<Vec<DeadLetter>>, Response> {
    let server = &context.server;
    if let Some(id) = which.device.as_deref().filter(|id| server.get(id).is_none()) {
        return Err(devices::unknown(server, id));
    }
    let letters = server.dead_letters(which.device.as_deref()).await.map_err(refused)?;
    let without_payload = |entry| DeadLetter { text: None, hex: None, ..describe(entry) };
    Ok(Json(letters.iter().map(without_payload).collect()))
}

pub(super) async fn show(State(context): State<Api>, Path(number): Path<u64>) -> Result<Json<DeadLetter>, Response> {
    let entry = context.server.dead_letter(DeadId(number)).await.map_err(refused)?;
    Ok(Json(describe(&entry)))
}

pub(super) async fn retry(State(context): State<Api>, Path(number): Path<u64>) -> Result<Json<DeadLetter>, Response> {
    let entry = in_time(context.server.retry_dead(DeadId(number))).await?;
    tracing::info!(device = %entry.device, number, "a dead letter is tried again");
    Ok(Json(describe(&entry)))
}

pub(super) async fn drop(State(context): State<Api>, Path(number): Path<u64>) -> Result<Json<DeadLetter>, Response> {
    let entry = in_time(context.server.drop_dead(DeadId(number))).await?;
    tracing::info!(device = %entry.device, number, "a dead letter is dropped");
    Ok(Json(describe(&entry)))
}

async fn in_time(work: impl Future<Output = Result<DeadLetterEntry, DeadError>>) -> Result<DeadLetterEntry, Response> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done.map_err(refused),
        Err(_) => Err(problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "the store takes no changes now: this one is done as soon as it does, unless the server stops before"
                .to_owned(),
        )),
    }
}

fn refused(error: DeadError) -> Response {
    let status = match &error {
        DeadError::Unknown { .. } => StatusCode::NOT_FOUND,
        DeadError::NoStore => {
            return problem(StatusCode::CONFLICT, format!("{error}: it runs with store.durability = \"memory\""));
        }
        DeadError::Retry { error: RetryError::Full { .. }, .. } => StatusCode::SERVICE_UNAVAILABLE,
        DeadError::Retry { error: RetryError::Message(_), .. } => StatusCode::UNPROCESSABLE_ENTITY,
        DeadError::Retry { .. } => StatusCode::CONFLICT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    problem(status, error.to_string())
}

fn describe(entry: &DeadLetterEntry) -> DeadLetter {
    let letter = &entry.letter;
    let text = std::str::from_utf8(&letter.payload).ok().map(str::to_owned);
    DeadLetter {
        number: entry.id.0,
        device: entry.device.to_string(),
        direction: match letter.direction {
            bowline_server::Direction::Received => Direction::Received,
            bowline_server::Direction::Sent => Direction::Sent,
        },
        reason: letter.reason.clone(),
        at_ms: letter.at.0,
        qos: letter.qos,
        epoch: letter.epoch,
        header: hex(&letter.header),
        bytes: letter.payload.len(),
        hex: text.is_none().then(|| hex(&letter.payload)),
        text,
    }
}
