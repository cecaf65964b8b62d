//! The server's end of the local API.

use std::convert::Infallible;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::body::Body;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bowline_server::{Keys, Message, SendError, Sending};
use tokio::net::UnixListener;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{KeysReloaded, Problem, Send, Sent, Status, Tcp, apps, dead, devices};
use crate::external::Externals;
use crate::how::{How, Until};
use crate::hub::{Event, Hub, Text, What};
use crate::{cli, talk};

/// How long storing a message may take before whoever sends it is told that it is not stored.
const STORING: Duration = Duration::from_secs(5);

/// The socket, bound and not yet served.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    listener: UnixListener,
}

/// Answers requests until stopped. The socket goes with it.
#[derive(Debug)]
pub(crate) struct Server {
    socket: PathBuf,
    tasks: Vec<JoinHandle<()>>,
}

/// What requests are answered from.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) server: bowline_server::Server,
    pub(crate) keys: Keys,
    pub(crate) hub: Hub,
    pub(crate) externals: Externals,
}

impl Socket {
    /// Makes the socket in the folder `data`, which the caller has locked.
    pub(crate) fn bind(data: &Path) -> anyhow::Result<Self> {
        let path = super::socket(data);
        // The folder is ours alone, so a socket in it is left from a server that was killed.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot replace the socket {}", path.display()));
            }
            _ => {}
        }
        let listener = UnixListener::bind(&path).with_context(|| {
            format!(
                "cannot make the control socket {} (a path of at most about 100 bytes): choose a shorter --data folder",
                path.display()
            )
        })?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
            .with_context(|| format!("cannot protect the socket {}", path.display()))?;
        Ok(Socket { path, listener })
    }

    /// Starts answering, here and on TCP if that is wanted.
    pub(crate) fn serve(self, api: Api, tcp: Option<Tcp>) -> Server {
        let routes = routes(api);
        let tcp = tcp.map(|tcp| tokio::spawn(tcp.serve(routes.clone())));
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(self.listener, routes).await {
                tracing::error!(%error, "the local API stopped: `bowline send` and `bowline tail` do not work any more");
            }
        });
        Server { socket: self.path, tasks: std::iter::once(task).chain(tcp).collect() }
    }
}

/// Everything there is. `docs/api/openapi.yaml` describes it, and a test compares.
pub(crate) fn routes(api: Api) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/devices", get(devices::list))
        .route("/v1/devices/{id}", get(devices::show).delete(devices::forget))
        .route("/v1/devices/{id}/messages", post(send))
        .route("/v1/dead", get(dead::list))
        .route("/v1/dead/{number}", get(dead::show).delete(dead::drop))
        .route("/v1/dead/{number}/retry", post(dead::retry))
        .route("/v1/keys/reload", post(reload_keys))
        .route("/v1/apps", get(apps::list))
        .route("/v1/apps/{name}", get(apps::subscribe))
        .route("/v1/apps/{name}/next", post(apps::next))
        .route("/v1/apps/{name}/answers", post(apps::answers))
        .route("/v1/tail", get(tail))
        .with_state(api)
}

impl Server {
    pub(crate) fn stop(self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        // Gone or not, the next server replaces it.
        let _ = fs::remove_file(&self.socket);
    }
}

async fn status(State(context): State<Api>) -> Json<Status> {
    let server = &context.server;
    Json(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        addresses: server.addresses().iter().map(ToString::to_string).collect(),
        devices: server.devices().len(),
        stats: server.stats().iter().map(|(name, count)| (name.to_owned(), count)).collect(),
    })
}

async fn send(
    State(context): State<Api>,
    UrlPath(id): UrlPath<String>,
    Json(request): Json<Send>,
) -> Result<Json<Sent>, Response> {
    let device = context.server.get(&id).ok_or_else(|| devices::unknown(&context.server, &id))?;
    let header = cli::parse_hex(&request.header).map_err(|error| problem(StatusCode::BAD_REQUEST, error))?;
    let dialect = device.dialect();
    let payload = if request.raw { request.payload } else { talk::as_payload(request.payload, dialect) };
    let message = Message::with_header(&header.0, payload.as_bytes());
    let start = Instant::now();
    let timeout = Duration::from_millis(request.timeout_ms);
    match deliver(device.clone(), context.hub, message, request.qos.then_some(request.how), timeout).await {
        Delivery::Done(Ok(())) => {
            let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
            let acknowledged = request.qos && device.dialect().is_none_or(bowline_server::Dialect::acknowledges);
            Ok(Json(match request.how.until {
                Until::Accepted if request.qos => Sent::Accepted { micros },
                Until::Processed if acknowledged => Sent::Processed { micros },
                _ if acknowledged => Sent::Acknowledged { micros },
                _ => Sent::Written { micros },
            }))
        }
        Delivery::Done(Err(error @ SendError::Message(_))) => {
            Err(problem(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))
        }
        Delivery::Done(Err(error)) => Err(problem(StatusCode::CONFLICT, error.to_string())),
        Delivery::Queued => {
            let stored = context.server.store().is_some();
            Ok(Json(Sent::Queued { device_is_up: device.status().is_up(), stored }))
        }
        Delivery::NotStored => Err(problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "the store takes no changes now: the message is sent as soon as it does, unless the server stops before"
                .to_owned(),
        )),
        Delivery::NoRoom => Err(problem(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the queue for {id:?} is full ({} messages): not sent, try again later", device.ledger().unsent),
        )),
    }
}

/// What became of a message in the time there was.
enum Delivery {
    Done(Result<(), SendError>),
    /// It will be sent.
    Queued,
    /// It will be sent if the store takes it before the server ends.
    NotStored,
    /// It will not.
    NoRoom,
}

/// Waits until a message that has a place in the queue is stored too, for as long as that may take.
/// Returns what became of it, if that is known sooner.
async fn settle(sending: &mut Sending<'_>) -> Option<Result<(), SendError>> {
    let deadline = Instant::now() + STORING;
    while !sending.is_accepted() && sending.is_placed() && Instant::now() < deadline {
        if let Ok(result) = tokio::time::timeout(Duration::from_millis(5), &mut *sending).await {
            return Some(result);
        }
    }
    None
}

/// Sends a message, as qos if it is said `how`, waits for at most `timeout`, and sees to it that watchers
/// learn of its delivery whenever that is, unless it was only to be accepted.
async fn deliver(
    device: bowline_server::Device,
    hub: Hub,
    message: Message,
    how: Option<How>,
    timeout: Duration,
) -> Delivery {
    let (tell, told) = oneshot::channel();
    tokio::spawn(async move {
        let qos = how.is_some();
        let text = Text::of(&message, qos);
        let copy = message.clone();
        let mut sending = match how {
            Some(how) => how.of(device.send(message)),
            None => device.send_best_effort(message),
        };
        let first = match tokio::time::timeout(timeout, &mut sending).await {
            Ok(result) => Some(result),
            Err(_) if qos => settle(&mut sending).await,
            Err(_) => None,
        };
        let (delivery, result) = match first {
            Some(result) => (Delivery::Done(result.clone()), Some(result)),
            None if qos && sending.is_accepted() => (Delivery::Queued, None),
            None if qos && sending.is_placed() => (Delivery::NotStored, None),
            None => (Delivery::NoRoom, Some(Err(SendError::Closed))),
        };
        // Who asked may be gone.
        let _ = tell.send(delivery);
        let result = match result {
            Some(result) => result,
            None => {
                let late = sending.await;
                // Nobody else learns of it any more.
                match &late {
                    Err(error @ SendError::Message(_)) => {
                        tracing::warn!(device = %device.id(), "{error}: kept as a dead letter");
                        device.bury_unsent(&copy, error.to_string());
                    }
                    Err(error @ SendError::Dropped(_)) => tracing::info!(device = %device.id(), "{error}"),
                    _ => {}
                }
                late
            }
        };
        if result.is_ok() && how.is_none_or(|how| how.until != Until::Accepted) {
            hub.tell(device.id(), || What::Sent(text));
        }
    });
    // The task ends only with the runtime before it has told.
    told.await.unwrap_or(Delivery::NoRoom)
}

async fn reload_keys(State(context): State<Api>) -> Result<Json<KeysReloaded>, Response> {
    let Api { server, keys, .. } = context;
    let reloaded = tokio::task::spawn_blocking(move || server.reload_keys().map(|changes| (changes, keys.len()))).await;
    let failed = |error: String| problem(StatusCode::INTERNAL_SERVER_ERROR, error);
    let (changes, ids) = reloaded.map_err(|error| failed(error.to_string()))?.map_err(|error| {
        tracing::error!(%error, "the keys could not be read again: those of before are in force");
        failed(error.to_string())
    })?;
    for (device, key_id) in &changes.added {
        tracing::info!(%device, "key {key_id} is in force");
    }
    for (device, key_id) in &changes.revoked {
        tracing::info!(%device, "key {key_id} is revoked");
    }
    for device in &changes.removed {
        tracing::info!(%device, "its keys are forgotten");
    }
    Ok(Json(KeysReloaded { ids }))
}

async fn tail(State(context): State<Api>) -> Response {
    let lines = futures_util::stream::unfold(context.hub.watch(), |mut events| async {
        let event = next(&mut events).await?;
        let mut line = serde_json::to_string(&event).unwrap_or_default();
        line.push('\n');
        Some((Ok::<_, Infallible>(line), events))
    });
    ([("content-type", "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

pub(super) async fn next(events: &mut broadcast::Receiver<Event>) -> Option<Event> {
    match events.recv().await {
        Ok(event) => Some(event),
        Err(RecvError::Lagged(events)) => Some(Event { device: String::new(), what: What::Missed { events } }),
        Err(RecvError::Closed) => None,
    }
}

pub(super) fn problem(status: StatusCode, error: String) -> Response {
    (status, Json(Problem { error })).into_response()
}

#[cfg(test)]
mod tests {
    /// The description, and the routes as they stand above.
    #[test]
    fn every_route_is_described() {
        let description = include_str!("../../../../docs/api/openapi.yaml");
        let mut routes = 0;
        for line in include_str!("server.rs").lines().filter_map(|line| line.trim().strip_prefix(".route(\"")) {
            let (path, methods) = line.split_once("\", ").unwrap();
            let (_, described) =
                description.split_once(&format!("\n  {path}:\n")).unwrap_or_else(|| panic!("{path} is not described"));
            let described = described.split("\n  /").next().unwrap();
            for method in ["get", "post", "delete"] {
                let there = methods.contains(&format!("{method}("));
                assert_eq!(described.contains(&format!("    {method}:\n")), there, "{method} {path}");
            }
            routes += 1;
        }
        assert_eq!(description.matches("\n  /v1/").count(), routes);
    }
}
