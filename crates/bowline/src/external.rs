//! Apps outside of the server: programs that take their messages from the local API.
//!
//! Each message is one call of [`Instance::handle`], which returns when the program has answered: what makes the
//! message come again, what bounds it and what makes a reply transactional is the app host. While no program asks
//! for messages they wait in the inboxes, and no attempt is used up.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bowline_server::{App, AppError, AppMessage, Handled, Instance, Port};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, oneshot};

use crate::config::Config;

/// Longest time for which a message is offered before it steps back for a moment, so that its instance can end.
const OFFERED: Duration = Duration::from_secs(5);

/// All of them, by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Externals(Arc<BTreeMap<String, Arc<External>>>);

impl Externals {
    pub(crate) fn new(config: &Config) -> Self {
        let offered = OFFERED.min(config.apps.limits.handle_timeout() / 2);
        let external = |app: &crate::config::External| {
            let (ident, name) = (app.ident, app.name.clone());
            let external = External { ident, name, offered, state: Mutex::default(), work: Notify::new() };
            (app.name.clone(), Arc::new(external))
        };
        Externals(Arc::new(config.apps.external.iter().map(external).collect()))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<External>> {
        self.0.get(name)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<External>> {
        self.0.values()
    }

    /// No program gets messages any more; those it has and has not answered come again after the next start.
    pub(crate) fn stop(&self) {
        for external in self.all() {
            let mut state = external.lock();
            state.stopped = true;
            (state.waiting, state.taken) = Default::default();
            drop(state);
            external.work.notify_waiters();
        }
    }
}

/// An app outside.
#[derive(Debug)]
pub(crate) struct External {
    pub(crate) ident: u8,
    pub(crate) name: String,
    offered: Duration,
    state: Mutex<State>,
    /// A message waits, or there will be none any more.
    work: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// At most one of each instance.
    waiting: VecDeque<Work>,
    /// By message id.
    taken: HashMap<String, Taken>,
    /// Numbers best-effort messages, and those who take messages.
    last: u64,
    stopped: bool,
}

#[derive(Debug)]
struct Work {
    message: Incoming,
    answer: oneshot::Sender<Answer>,
}

#[derive(Debug)]
struct Taken {
    taker: Taker,
    answer: oneshot::Sender<Answer>,
}

/// Who has messages, for those who can go away with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taker(u64);

/// What a program says of a message.
#[derive(Debug)]
pub(crate) enum Answer {
    Handled { reply: Option<(u8, Vec<u8>)>, end: bool },
    Failed { reason: String, retry: bool },
}

/// A message for the program.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct Incoming {
    /// Names the message for ever: the same when it comes again.
    pub(crate) id: String,
    pub(crate) device: String,
    pub(crate) instance: u8,
    pub(crate) tag: u8,
    /// Rises with each message of the device; none for best effort.
    pub(crate) seq: Option<u64>,
    /// The life of the device in which it was sent.
    pub(crate) epoch: u64,
    pub(crate) qos: bool,
    /// 1 when it comes for the first time since it was received or the server started.
    pub(crate) attempt: u32,
    #[serde(flatten)]
    pub(crate) payload: Payload,
}

/// Bytes: as text if they are UTF-8, in base64 if they are not.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) enum Payload {
    #[serde(rename = "payload")]
    Text(String),
    #[serde(rename = "payload_base64")]
    Base64(String),
}

impl Payload {
    fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Payload::Text(text.to_owned()),
            Err(_) => Payload::Base64(BASE64_STANDARD.encode(bytes)),
        }
    }

    pub(crate) fn bytes(self) -> Result<Vec<u8>, String> {
        match self {
            Payload::Text(text) => Ok(text.into_bytes()),
            Payload::Base64(text) => {
                BASE64_STANDARD.decode(text).map_err(|error| format!("payload_base64 is no base64: {error}"))
            }
        }
    }
}

impl External {
    /// What serves one device's instance of the app.
    pub(crate) fn app(self: &Arc<Self>) -> impl App {
        Handler(Arc::clone(self))
    }

    /// A new one who takes messages.
    pub(crate) fn taker(&self) -> Taker {
        let mut state = self.lock();
        state.last += 1;
        Taker(state.last)
    }

    /// Waits for messages, and takes up to `most` of them. Cancel-safe. None when there will be none any more.
    pub(crate) async fn next(&self, taker: Taker, most: usize) -> Vec<Incoming> {
        loop {
            let work = self.work.notified();
            tokio::pin!(work);
            // From here on no message is missed.
            work.as_mut().enable();
            let messages = self.take(taker, most);
            if !messages.is_empty() || self.lock().stopped {
                return messages;
            }
            work.await;
        }
    }

    fn take(&self, taker: Taker, most: usize) -> Vec<Incoming> {
        let mut state = self.lock();
        let count = most.min(state.waiting.len());
        let work: Vec<_> = state.waiting.drain(..count).collect();
        let mut messages = Vec::new();
        for Work { message, answer } in work {
            state.taken.insert(message.id.clone(), Taken { taker, answer });
            messages.push(message);
        }
        if !state.waiting.is_empty() {
            // Two arrivals may have left one wake-up.
            self.work.notify_one();
        }
        messages
    }

    /// Says whether somebody waits for the answer: the message was taken, and neither answered nor taken back,
    /// because it took too long, since.
    pub(crate) fn answers(&self, id: &str, answer: Answer) -> bool {
        let taken = self.lock().taken.remove(id);
        taken.is_some_and(|taken| taken.answer.send(answer).is_ok())
    }

    /// The taker is gone: what it has not answered comes again.
    pub(crate) fn leaves(&self, taker: Taker) {
        self.lock().taken.retain(|_, taken| taken.taker != taker);
    }

    /// Messages that this taker has and has not answered.
    pub(crate) fn in_hand(&self, taker: Taker) -> usize {
        self.lock().taken.values().filter(|taken| taken.taker == taker).count()
    }

    /// Messages that nobody has taken, and those that were and are not answered.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = self.lock();
        (state.waiting.len(), state.taken.len())
    }

    async fn handle(&self, message: &AppMessage) -> Result<Handled, AppError> {
        let (answer, mut answered) = oneshot::channel();
        let place = {
            let mut state = self.lock();
            if state.stopped {
                return Err(AppError::wait("the server stops"));
            }
            let message = state.incoming(message);
            let place = Place { external: self, id: message.id.clone() };
            state.waiting.push_back(Work { message, answer });
            place
        };
        self.work.notify_one();
        let answer = match tokio::time::timeout(self.offered, &mut answered).await {
            Ok(answer) => answer,
            Err(_) if place.withdraws() => {
                return Err(AppError::wait(format!("no program takes the messages of {:?}", self.name)));
            }
            Err(_) => answered.await,
        };
        match answer {
            Ok(Answer::Handled { reply, end }) => {
                let handled = match reply {
                    Some((tag, payload)) => Handled::reply(tag, payload),
                    None => Handled::done(),
                };
                Ok(if end { handled.and_end() } else { handled })
            }
            Ok(Answer::Failed { reason, retry: true }) => Err(AppError::retry(reason)),
            Ok(Answer::Failed { reason, retry: false }) => Err(AppError::reject(reason)),
            Err(_) if self.lock().stopped => Err(AppError::wait("the server stops")),
            Err(_) => Err(AppError::retry("the program that had it went away without an answer")),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn incoming(&mut self, message: &AppMessage) -> Incoming {
        let (port, seq) = (message.port(), message.seq());
        let device = port.device().id();
        let id = match seq {
            Some(seq) => format!("{device}/{seq}"),
            None => {
                self.last += 1;
                format!("{device}/best-effort-{}", self.last)
            }
        };
        Incoming {
            id,
            device: device.to_owned(),
            instance: port.instance(),
            tag: message.tag(),
            seq,
            epoch: port.epoch(),
            qos: message.is_qos(),
            attempt: message.attempt(),
            payload: Payload::of(message.payload()),
        }
    }
}

/// A message's place in here, which it leaves however its handling ends.
struct Place<'a> {
    external: &'a External,
    id: String,
}

impl Place<'_> {
    /// Says whether nobody has taken it.
    fn withdraws(&self) -> bool {
        let mut state = self.external.lock();
        let before = state.waiting.len();
        state.waiting.retain(|work| work.message.id != self.id);
        before > state.waiting.len()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.withdraws() {
            self.external.lock().taken.remove(&self.id);
        }
    }
}

struct Handler(Arc<External>);

impl App for Handler {
    type Instance = Handler;

    fn instance(&self, _: Port) -> Handler {
        Handler(Arc::clone(&self.0))
    }
}

impl Instance for Handler {
    async fn handle(&mut self, message: &AppMessage) -> Result<Handled, AppError> {
        self.0.handle(message).await
    }
}
