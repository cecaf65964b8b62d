//! A board on a connection: what it has asked for, and the way into its outbox.

use std::collections::BTreeMap;
use std::sync::Arc;

use bowline_server::{Port, Receipt, SendError};
use tokio::sync::mpsc;

use super::Command;
use super::arrivals::Ticket;
use crate::mqtt::command::{self, Publication};
use crate::mqtt::settings::BoardDown;
use crate::mqtt::shared::{Kind, Shared, count};
use crate::mqtt::topic;
use crate::mqtt::wire::Incoming;

/// Which of an app's instances; never used again.
pub(in crate::mqtt) type MemberId = u64;

pub(in crate::mqtt) struct Member {
    shared: Arc<Shared>,
    port: Port,
    prefix: String,
    /// By the filter at the broker.
    filters: BTreeMap<String, Filter>,
    /// Retained messages that are being fetched: the filter at the broker, and the board's own that they are for.
    states: BTreeMap<String, String>,
    /// With the board's own topics.
    pub(super) will: Option<Publication>,
    pub(super) welcome: Option<Publication>,
    /// The broker has the welcome.
    pub(super) welcomed: bool,
    /// The board's link is up.
    pub(super) up: bool,
    /// The board wants a connection.
    pub(super) active: bool,
    /// The instance has ended; what is kept is for the next one.
    pub(super) left: bool,
    outbox: mpsc::Sender<Message>,
}

struct Filter {
    /// As the board knows it.
    own: String,
    /// The broker has it.
    confirmed: bool,
}

/// A message on its way into the outbox.
struct Message {
    /// None with QoS 0.
    ticket: Option<Ticket>,
    tag: u8,
    body: Vec<u8>,
}

impl Member {
    /// One whose link is down. Its messages go into its outbox by a task, which ends with the member.
    pub(in crate::mqtt) fn new(shared: &Arc<Shared>, port: Port, commands: mpsc::UnboundedSender<Command>) -> Self {
        let (outbox, messages) = mpsc::channel(shared.settings.in_flight.into());
        tokio::spawn(fill(Arc::clone(shared), port.clone(), messages, commands));
        Member {
            shared: Arc::clone(shared),
            prefix: topic::of_device(&shared.settings.prefix, port.device().id()),
            port,
            filters: BTreeMap::new(),
            states: BTreeMap::new(),
            will: None,
            welcome: None,
            welcomed: false,
            up: false,
            active: false,
            left: false,
            outbox,
        }
    }

    pub(super) fn is_same_board(&self, other: &Member) -> bool {
        self.port.device().id() == other.port.device().id() && self.port.instance() == other.port.instance()
    }

    /// Goes on with what an earlier one had, if that is kept.
    pub(super) fn inherit(&mut self, kept: Member) {
        self.filters = kept.filters;
        self.states = kept.states;
        self.will = kept.will;
        self.welcome = kept.welcome;
        self.welcomed = kept.welcomed;
        self.active = kept.active;
        // With what is on its way, which comes first.
        if self.shared.settings.board_down == BoardDown::Keep && !kept.outbox.is_closed() {
            self.outbox = kept.outbox;
        }
    }

    /// The server has forgotten the device.
    pub(super) fn is_gone(&self) -> bool {
        self.port.device().is_closed()
    }

    /// Forgets what the board has asked for; returns the filters the broker has.
    pub(super) fn clear(&mut self) -> Vec<String> {
        (self.will, self.welcome, self.active) = (None, None, false);
        let states = std::mem::take(&mut self.states).into_keys();
        std::mem::take(&mut self.filters).into_keys().chain(states).collect()
    }

    pub(super) fn full_topic(&self, own: &str) -> String {
        format!("{}{own}", self.prefix)
    }

    pub(super) fn full(&self, own: &Publication) -> Publication {
        Publication { topic: self.full_topic(&own.topic), ..own.clone() }
    }

    pub(super) fn full_will(&self) -> Option<Publication> {
        self.will.as_ref().map(|will| self.full(will))
    }

    /// What is published when the connection is new.
    pub(super) fn due_welcome(&self) -> Option<Publication> {
        let due = self.up && self.welcomed;
        self.welcome.as_ref().filter(|_| due).map(|welcome| self.full(welcome))
    }

    pub(super) fn subscribe(&mut self, own: String) -> String {
        let full = self.full_topic(&own);
        self.filters.entry(full.clone()).or_insert(Filter { own, confirmed: false });
        full
    }

    pub(super) fn confirm(&mut self, full: &str) {
        if let Some(filter) = self.filters.get_mut(full) {
            filter.confirmed = true;
        }
    }

    pub(super) fn unsubscribe(&mut self, own: &str) -> String {
        let full = self.full_topic(own);
        self.filters.remove(&full);
        full
    }

    /// The filter under which the retained messages of `state` come, for who subscribes to `filter`.
    pub(super) fn fetch(&mut self, state: &str, filter: String) -> String {
        let full = self.full_topic(state);
        self.states.insert(full.clone(), filter);
        full
    }

    pub(super) fn end_fetch(&mut self, state: &str) {
        self.states.remove(state);
    }

    pub(super) fn has_filter(&self, full: &str) -> bool {
        self.filters.contains_key(full)
    }

    pub(super) fn confirmed_filters(&self) -> impl Iterator<Item = String> {
        self.filters.iter().filter(|(_, filter)| filter.confirmed).map(|(full, _)| full.clone())
    }

    /// The publication as the board gets it, if it is for the board: the message's tag and its payload.
    pub(super) fn message_for(&self, topic: &str, incoming: &Incoming, limit: usize) -> Option<(u8, Vec<u8>)> {
        let own_topic = topic.strip_prefix(&self.prefix)?;
        let matching = self.filters.iter().filter(|(full, _)| topic::matches(full, topic));
        let mut filters: Vec<&str> = matching.map(|(_, filter)| filter.own.as_str()).collect();
        if incoming.retain {
            let states = self.states.iter().filter(|(full, _)| topic::matches(full, topic));
            filters.extend(states.map(|(_, own)| own.as_str()));
            filters.sort_unstable();
            filters.dedup();
        }
        if filters.is_empty() {
            return None;
        }
        let size = incoming.payload.len();
        if size > limit {
            let reason = format!("the message under {own_topic} has {size} bytes, and boards get at most {limit}");
            self.shared.complain(Kind::Dropped, || format!("{}: {reason}", self.port.device().id()));
            count(&self.shared.counters.dropped);
            return Some((command::ERROR, command::error(command::MESSAGE, &reason)));
        }
        Some((command::MESSAGE, command::message(own_topic, &filters, &incoming.payload, incoming.retain)))
    }

    pub(super) fn has_room(&self) -> bool {
        self.outbox.capacity() > 0
    }

    pub(super) fn pass_on(&self, ticket: Option<Ticket>, tag: u8, body: Vec<u8>) {
        // There is room, as the hub is the only one to fill it and has asked. A closed one belongs to a device
        // that was forgotten.
        let _ = self.outbox.try_send(Message { ticket, tag, body });
    }

    /// The message cannot be had in the outbox; it becomes a dead letter.
    pub(super) fn drop_message(&self, tag: u8, body: &[u8], reason: &str) {
        bury(&self.shared, &self.port, tag, body, reason);
    }
}

fn bury(shared: &Shared, port: &Port, tag: u8, body: &[u8], reason: &str) {
    count(&shared.counters.dropped);
    shared
        .complain(Kind::Dropped, || format!("{}: a message did not get into the outbox: {reason}", port.device().id()));
    port.device().bury_unsent(&port.message(tag, body), format!("{}: {reason}", port.app()));
}

/// Puts messages into the outbox, one after the other, and says of each that it is stored there.
async fn fill(
    shared: Arc<Shared>,
    port: Port,
    mut messages: mpsc::Receiver<Message>,
    commands: mpsc::UnboundedSender<Command>,
) {
    let device = port.device().clone();
    let mut watch = device.watch();
    loop {
        let message = tokio::select! {
            message = messages.recv() => message,
            status = watch.changed() => match status {
                Some(_) => continue,
                None => {
                    let _ = commands.send(Command::Forgotten);
                    return;
                }
            },
        };
        let Some(Message { ticket, tag, body }) = message else { return };
        // What is kept outlives the board's lives; what is not was asked for by the one before.
        let sending = match shared.settings.board_down {
            BoardDown::Keep => device.send(port.message(tag, &body)),
            BoardDown::Will => port.send(tag, &body),
        };
        match sending.until(Receipt::Accepted).await {
            Ok(()) => count(&shared.counters.delivered),
            // It is not said to be stored: the broker still has it.
            Err(SendError::Closed) => {
                let _ = commands.send(Command::Forgotten);
                return;
            }
            Err(error) => bury(&shared, &port, tag, &body, &error.to_string()),
        }
        let _ = commands.send(Command::Stored(ticket));
    }
}
