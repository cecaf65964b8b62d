//! Requests of apps outside of the server.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::ws::{
    CloseFrame, Message as Frame, WebSocket, WebSocketUpgrade, close_code, rejection::WebSocketUpgradeRejection,
};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bowline_server::{Message, Receipt, SendError};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};

use super::server::{Api, problem};
use super::{App, Problem, devices};
use crate::external::{Answer, External, Incoming, Payload, Taker};
use crate::hub::{Event, What};
use crate::near::nearest;

/// Most messages that a program may have in hand.
const WINDOW: usize = 256;
/// Longest time that a request for messages waits.
const PATIENCE_MS: u64 = 60_000;
/// How often a WebSocket is asked whether it is there, and after how many times without any answer it is not.
const PING: Duration = Duration::from_secs(20);
const SILENCE: u32 = 3;
/// How long a write may take before the program counts as gone.
const STALLED: Duration = Duration::from_secs(30);
/// How long a message to a device may take into its queue.
const ACCEPTING: Duration = Duration::from_secs(5);
/// Longest frame from a program, in bytes.
const FRAME: usize = 1 << 20;

/// What a program asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Next {
    /// Most messages in the answer.
    max: usize,
    /// How long to wait for the first.
    wait_ms: u64,
}

impl Default for Next {
    fn default() -> Self {
        Next { max: 1, wait_ms: 30_000 }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Messages {
    messages: Vec<Incoming>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Commands {
    answers: Vec<Command>,
}

#[derive(Debug, Serialize)]
pub(super) struct Results {
    results: Vec<Outcome>,
}

/// What a program says: one of `ack`, `nack` and `send`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Command {
    /// Id of a message that is handled.
    ack: Option<String>,
    /// Goes back to where the message came from, in one transaction with its being handled.
    reply: Option<Reply>,
    /// The instance ends with this.
    #[serde(default)]
    end: bool,
    /// Id of a message that is not handled.
    nack: Option<String>,
    /// Why.
    reason: Option<String>,
    /// It comes again, until its attempts are used up; otherwise it becomes a dead letter at once.
    retry: Option<bool>,
    /// A message to a device.
    send: Option<Outgoing>,
    /// Comes back in the outcome of `send`.
    #[serde(rename = "ref")]
    reference: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Reply {
    #[serde(default)]
    tag: u8,
    #[serde(flatten)]
    payload: Payload,
}

#[derive(Debug, Deserialize)]
struct Outgoing {
    device: String,
    #[serde(default)]
    instance: u8,
    #[serde(default)]
    tag: u8,
    #[serde(flatten)]
    payload: Payload,
}

/// What became of a [`Command`].
#[derive(Debug, Serialize)]
struct Outcome {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// What a WebSocket carries to the program.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Told {
    Message(Incoming),
    /// What became of a command that was not an answer in time, or was a `send`.
    Outcome(Outcome),
    Up {
        device: String,
    },
    Down {
        device: String,
        reason: String,
    },
    /// The program was too slow: so many link events are missing here.
    Missed {
        events: u64,
    },
}

pub(super) async fn list(State(context): State<Api>) -> Json<Vec<App>> {
    Json(context.externals.all().map(|external| describe(external)).collect())
}

fn describe(external: &External) -> App {
    let (waiting, in_hand) = external.counts();
    App { name: external.name.clone(), ident: external.ident, waiting, in_hand }
}

fn find(context: &Api, name: &str) -> Result<Arc<External>, (StatusCode, Json<Problem>)> {
    context.externals.get(name).cloned().ok_or_else(|| {
        let known: Vec<_> = context.externals.all().map(|external| external.name.as_str()).collect();
        let hint = match nearest(name, known.iter().copied()) {
            Some(nearest) => format!("did you mean {nearest:?}?"),
            None => format!("expected one of {known:?}, which [[apps.external]] in the configuration lists"),
        };
        let error = format!("there is no external app {name:?}: {hint}");
        (StatusCode::NOT_FOUND, Json(Problem { error }))
    })
}

pub(super) async fn next(
    State(context): State<Api>,
    Path(name): Path<String>,
    Json(Next { max, wait_ms }): Json<Next>,
) -> Result<Json<Messages>, Response> {
    let external = find(&context, &name).map_err(IntoResponse::into_response)?;
    if !(1..=WINDOW).contains(&max) || wait_ms > PATIENCE_MS {
        let error = format!("max = {max}, wait_ms = {wait_ms}: expected 1 to {WINDOW}, and 0 to {PATIENCE_MS}");
        return Err(problem(StatusCode::BAD_REQUEST, error));
    }
    let messages = timeout(Duration::from_millis(wait_ms), external.next(external.taker(), max)).await;
    Ok(Json(Messages { messages: messages.unwrap_or_default() }))
}

pub(super) async fn answers(
    State(context): State<Api>,
    Path(name): Path<String>,
    Json(Commands { answers }): Json<Commands>,
) -> Result<Json<Results>, Response> {
    let external = find(&context, &name).map_err(IntoResponse::into_response)?;
    let mut results = Vec::new();
    for command in answers {
        results.push(does(&context, &external, command).await);
    }
    Ok(Json(Results { results }))
}

async fn does(context: &Api, external: &External, command: Command) -> Outcome {
    let Command { ack, reply, end, nack, reason, retry, send, reference } = command;
    let id = ack.clone().or_else(|| nack.clone());
    let result = match (ack, nack, send) {
        (Some(id), None, None) if reason.is_none() && retry.is_none() => {
            let reply = reply.map(|Reply { tag, payload }| payload.bytes().map(|bytes| (tag, bytes))).transpose();
            reply.and_then(|reply| answered(external, &id, Answer::Handled { reply, end }))
        }
        (None, Some(id), None) if reply.is_none() && !end => {
            let reason = reason.unwrap_or_else(|| "the app gave no reason".to_owned());
            answered(external, &id, Answer::Failed { reason, retry: retry.unwrap_or(true) })
        }
        (None, None, Some(outgoing)) if reply.is_none() && reason.is_none() && retry.is_none() && !end => {
            sends(context, external, outgoing).await
        }
        _ => Err("expected one of {\"ack\": id, \"reply\"?, \"end\"?}, {\"nack\": id, \"reason\"?, \"retry\"?} and \
                  {\"send\": {…}, \"ref\"?}"
            .to_owned()),
    };
    Outcome { id, reference, ok: result.is_ok(), error: result.err() }
}

fn answered(external: &External, id: &str, answer: Answer) -> Result<(), String> {
    match external.answers(id, answer) {
        true => Ok(()),
        false => {
            Err(format!("nobody waits for an answer to {id:?}: it was answered, or took too long and comes again"))
        }
    }
}

/// Returns when the message is in the device's queue, and stored if there is a store.
async fn sends(context: &Api, external: &External, outgoing: Outgoing) -> Result<(), String> {
    let Outgoing { device: id, instance, tag, payload } = outgoing;
    let device = context.server.get(&id).ok_or_else(|| devices::unknown_text(&context.server, &id))?;
    let message = Message::on_channel(external.ident, instance, tag, &payload.bytes()?);
    match timeout(ACCEPTING, device.send(message).until(Receipt::Accepted)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error @ SendError::Message(_))) => Err(error.to_string()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("the queue for {id:?} is full, or the store takes nothing: not sent, try again later")),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Window {
    window: Option<usize>,
}

/// A WebSocket takes the app's messages; anything else learns how the app is.
pub(super) async fn subscribe(
    State(context): State<Api>,
    Path(name): Path<String>,
    Query(Window { window }): Query<Window>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Response> {
    let external = find(&context, &name).map_err(IntoResponse::into_response)?;
    let window = window.unwrap_or(16);
    if !(1..=WINDOW).contains(&window) {
        return Err(problem(StatusCode::BAD_REQUEST, format!("window = {window}: expected 1 to {WINDOW}")));
    }
    let Ok(upgrade) = upgrade else { return Ok(Json(describe(&external)).into_response()) };
    let upgrade = upgrade.max_message_size(FRAME).max_frame_size(FRAME);
    Ok(upgrade.on_upgrade(move |socket| async move {
        let taker = external.taker();
        let subscription = Subscription { context, external, taker, socket, window };
        subscription.run().await;
    }))
}

struct Subscription {
    context: Api,
    external: Arc<External>,
    taker: Taker,
    socket: WebSocket,
    window: usize,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.external.leaves(self.taker);
    }
}

impl Subscription {
    async fn run(mut self) {
        let reason = self.serve().await.err().unwrap_or("the server stops");
        let code = if reason == "the server stops" { close_code::AWAY } else { close_code::POLICY };
        // It may be gone.
        let close = self.socket.send(Frame::Close(Some(CloseFrame { code, reason: reason.into() })));
        let _ = timeout(Duration::from_secs(1), close).await;
    }

    /// Until the server stops, or what goes wrong.
    async fn serve(&mut self) -> Result<(), &'static str> {
        let mut events = self.context.hub.watch();
        let external = Arc::clone(&self.external);
        let mut ping = tokio::time::interval_at(Instant::now() + PING, PING);
        let mut heard = Instant::now();
        for device in self.context.server.devices().iter().filter(|device| device.status().is_up()) {
            self.tells(&Told::Up { device: device.id().to_owned() }).await?;
        }
        loop {
            // An answer, or a message taken back because it took too long, makes room at the next turn.
            let has_room = external.in_hand(self.taker) < self.window;
            tokio::select! {
                frame = self.socket.recv() => {
                    heard = Instant::now();
                    match frame {
                        Some(Ok(Frame::Text(text))) => self.hears(&text).await?,
                        Some(Ok(Frame::Binary(_))) => return Err("expected JSON in text frames"),
                        Some(Ok(Frame::Ping(_) | Frame::Pong(_))) => {}
                        Some(Ok(Frame::Close(_)) | Err(_)) | None => return Err("closed"),
                    }
                }
                messages = external.next(self.taker, 1), if has_room => {
                    if messages.is_empty() {
                        return Ok(());
                    }
                    for message in messages {
                        self.tells(&Told::Message(message)).await?;
                    }
                }
                event = super::server::next(&mut events) => {
                    let told = match event {
                        Some(Event { device, what: What::Up { .. } }) => Told::Up { device },
                        Some(Event { device, what: What::Down { reason } }) => Told::Down { device, reason },
                        Some(Event { what: What::Missed { events }, .. }) => Told::Missed { events },
                        Some(_) => continue,
                        None => return Ok(()),
                    };
                    self.tells(&told).await?;
                }
                _ = ping.tick() => {
                    if heard.elapsed() > PING * SILENCE {
                        return Err("no answer to pings");
                    }
                    self.writes(Frame::Ping(Vec::new().into())).await?;
                }
            }
        }
    }

    async fn hears(&mut self, text: &str) -> Result<(), &'static str> {
        let outcome = match serde_json::from_str::<Command>(text) {
            Ok(command) => does(&self.context, &self.external, command).await,
            Err(error) => Outcome { id: None, reference: None, ok: false, error: Some(error.to_string()) },
        };
        if outcome.ok && outcome.id.is_some() {
            return Ok(());
        }
        self.tells(&Told::Outcome(outcome)).await
    }

    async fn tells(&mut self, told: &Told) -> Result<(), &'static str> {
        let text = serde_json::to_string(told).map_err(|_| "what is to be said is no JSON")?;
        self.writes(Frame::Text(text.into())).await
    }

    async fn writes(&mut self, frame: Frame) -> Result<(), &'static str> {
        match timeout(STALLED, self.socket.send(frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err("closed"),
            Err(_) => Err("it does not read"),
        }
    }
}
