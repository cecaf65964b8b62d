//! The http app: requests of boards to hosts on the network. The payloads are in `docs/apps/http.md`.

mod account;
mod address;
mod allow;
mod answer;
mod client;
mod request;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bowline_server::{App, AppError, AppMessage, Handled, Instance, Port, Receipt, SendError};
use reqwest::Method;
use reqwest::header::HeaderValue;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

pub use self::address::{Network, NetworkError};
pub use self::allow::{HostError, HostPattern};

use self::account::{Account, Accounts};
use self::answer::{Code, Problem};
use self::client::{Client, Lookup, host_of, system_lookup};
use self::request::Request;

/// What a payload shares its line with: ids, header, quotes.
const AROUND: usize = 64;

/// What boards may ask, and how much.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Hosts that may be asked. Default: none.
    pub allow: Vec<HostPattern>,
    /// Networks that may be connected to though they are not public. Default: none.
    pub networks: Vec<Network>,
    /// Files with certificates in PEM form that are trusted, beside the system's.
    pub roots: Vec<PathBuf>,
    /// Most time for a request, redirects and body included. Default: 20 s.
    pub total: Duration,
    /// Most time without a byte, and for a connection. Default: 8 s.
    pub idle: Duration,
    /// Most bytes of a body that are read. Default: 64 KiB.
    pub body_bytes: usize,
    /// Most bytes of a body in an answer that asks for no other number. Default: 4,096.
    pub answer_bytes: usize,
    /// Most redirects that are followed. Default: 5.
    pub redirects: usize,
    /// Most requests of a device at a time. Default: 4.
    pub in_flight: usize,
    /// Requests of a device: so many at once, then one each interval. Default: 20, one a second.
    pub pace: (u32, Duration),
    /// What the keys are made from that let a host know a repeated request. It must be another one
    /// whenever the numbers of messages begin anew. Default: a random one, for messages that do not
    /// survive the process.
    pub key_seed: [u8; 16],
}

impl Default for HttpSettings {
    fn default() -> Self {
        HttpSettings {
            allow: Vec::new(),
            networks: Vec::new(),
            roots: Vec::new(),
            total: Duration::from_secs(20),
            idle: Duration::from_secs(8),
            body_bytes: 64 * 1024,
            answer_bytes: 4096,
            redirects: 5,
            in_flight: 4,
            pace: (20, Duration::from_secs(1)),
            key_seed: random_seed(),
        }
    }
}

/// Why there is no http app.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpSetupError {
    /// The certificates of the settings.
    #[error("the certificates in {path} cannot be used: {problem}", path = path.display())]
    Roots {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The certificates of the system.
    #[error("the system's certificates cannot be used: {0}; install them (often a package ca-certificates)")]
    Tls(rustls::Error),
    /// The HTTP client.
    #[error("the HTTP client cannot be set up: {0}")]
    Client(reqwest::Error),
}

/// Asks hosts on the network for boards. Its ident is 2 by custom.
///
/// The requests of an instance are made one after the other, those of several at the same time.
#[derive(Debug, Clone)]
pub struct Http(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    client: Client,
    accounts: Accounts,
}

/// The requests of one instance.
#[derive(Debug)]
pub struct HttpInstance {
    shared: Arc<Shared>,
    account: Arc<Account>,
    port: Port,
    /// Kept while the outbox has no room, so that the host is not asked again when the message comes again.
    unsent: Option<Unsent>,
}

/// What is left of the answer to a message.
#[derive(Debug)]
struct Unsent {
    seq: u64,
    payloads: VecDeque<Vec<u8>>,
}

impl Http {
    /// Reads certificates from disk.
    ///
    /// # Errors
    /// If they cannot be used.
    pub fn new(settings: HttpSettings) -> Result<Self, HttpSetupError> {
        Self::with_lookup(settings, system_lookup())
    }

    fn with_lookup(settings: HttpSettings, lookup: Lookup) -> Result<Self, HttpSetupError> {
        let accounts = Accounts::new(settings.pace.0, settings.pace.1, settings.in_flight);
        Ok(Http(Arc::new(Shared { client: Client::new(settings, lookup)?, accounts })))
    }
}

impl App for Http {
    type Instance = HttpInstance;

    fn instance(&self, port: Port) -> HttpInstance {
        let account = self.0.accounts.of(port.device().id());
        HttpInstance { shared: Arc::clone(&self.0), account, port, unsent: None }
    }
}

impl Instance for HttpInstance {
    async fn handle(&mut self, message: &AppMessage) -> Result<Handled, AppError> {
        if self.unsent.as_ref().is_none_or(|unsent| message.seq() != Some(unsent.seq)) {
            let payloads = self.payloads(message).await.into();
            // Best effort is not handled twice, so that its number does not matter.
            self.unsent = Some(Unsent { seq: message.seq().unwrap_or(0), payloads });
        }
        let Some(unsent) = &mut self.unsent else { return Ok(Handled::done()) };
        while unsent.payloads.len() > 1 {
            let Some(part) = unsent.payloads.front() else { break };
            match send(&self.port, message, part).await {
                // The board that asked has restarted.
                Err(SendError::PastEpoch) => return Ok(Handled::done()),
                sent => sent?,
            }
            unsent.payloads.pop_front();
        }
        // The last one goes with the request's being handled: with a store, both or neither.
        let last = unsent.payloads.front().cloned().unwrap_or_default();
        Ok(Handled::reply(message.tag(), last))
    }
}

impl HttpInstance {
    /// The answer, in as many payloads as the board wants. Never none.
    async fn payloads(&self, message: &AppMessage) -> Vec<Vec<u8>> {
        let device = self.port.device();
        let room = device.limits().line.saturating_sub(AROUND);
        match self.shared.answer(&self.account, device.id(), message, room).await {
            Ok(payloads) => payloads,
            Err(problem) => vec![problem.payload(room)],
        }
    }
}

/// Sends a part that is not the last.
async fn send(port: &Port, message: &AppMessage, part: &[u8]) -> Result<(), SendError> {
    if message.is_qos() {
        return port.send(message.tag(), part).until(Receipt::Accepted).await;
    }
    // A part that is lost is missed by the board, which sees the numbers of the others.
    match port.send_best_effort(message.tag(), part).await {
        Err(SendError::Closed) => Err(SendError::Closed),
        _ => Ok(()),
    }
}

impl Shared {
    async fn answer(
        &self,
        account: &Account,
        device: &str,
        message: &AppMessage,
        room: usize,
    ) -> Result<Vec<Vec<u8>>, Problem> {
        let request = Request::read(message.payload())?;
        self.accounts.take(account).map_err(|wait| {
            let detail = format!("too many requests: the next one in {} ms", wait.as_millis());
            Problem::new(Code::TooMany, detail)
        })?;
        let settings = self.client.settings();
        let deadline = Instant::now() + settings.total;
        // The semaphore is never closed: an error is that none of the others has ended in time.
        let Ok(Ok(_permit)) = tokio::time::timeout_at(deadline, account.in_flight.acquire()).await else {
            let most = settings.in_flight;
            return Err(Problem::new(Code::TooMany, format!("{most} requests are on their way already")));
        };
        let repeatable = !matches!(request.method, Method::POST | Method::PATCH);
        let key = if repeatable { None } else { idempotency_key(&settings.key_seed, device, message) };
        let answer = self.client.ask(&request, key, deadline).await.inspect_err(|problem| {
            // Paths and queries may have secrets.
            tracing::debug!(device, host = %host_of(&request.url), ?problem, "not answered");
        })?;
        Ok(answer.payloads(&request.want, request.shape, settings.answer_bytes, room))
    }
}

/// Names the message to a host that wants to know repeated requests, without naming the device. What is
/// asked is in it, so that no other request has the same even if the numbers of a device begin anew.
fn idempotency_key(seed: &[u8; 16], device: &str, message: &AppMessage) -> Option<HeaderValue> {
    let mut hash = Sha256::new();
    hash.update(seed);
    hash.update(message.seq()?.to_be_bytes());
    hash.update((device.len() as u64).to_be_bytes());
    hash.update(device);
    hash.update(message.payload());
    let digest: String = hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::from_str(&format!("\"{digest}\"")).ok()
}

fn random_seed() -> [u8; 16] {
    let mut seed = [0; 16];
    // Without randomness no TLS and no keys of devices would be there either; then the keys are at least
    // different for different messages.
    let _ = getrandom::fill(&mut seed);
    seed
}
