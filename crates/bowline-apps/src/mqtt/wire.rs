//! One connection to a broker, in either version of MQTT: what the library offers, in the app's words.

mod v311;
mod v5;

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
pub(super) use rumqttc_v5::TlsConfiguration;

use super::command::Publication;
use super::settings::{Qos, Settings, Version};

/// How long a connection may take to finish what it has begun when it is asked to end.
const FAREWELL: Duration = Duration::from_secs(5);
/// Publications on their way to the broker. The library keeps a slot for each.
const OUTGOING: u16 = 256;

/// What happened on a connection.
#[derive(Debug)]
pub(super) enum Event {
    /// The broker has let the app in. If the session is not the one before, the broker has
    /// forgotten subscriptions and messages.
    Connected { same_session: bool },
    /// A publication. It is acknowledged by [`Requests::acknowledge`] and not before.
    Publish(Incoming),
    /// The broker will not send the QoS 2 publication with this id again.
    Released(u16),
    /// The acknowledgement of the QoS 1 publication with this id was written.
    Acknowledged(u16),
    /// Nothing that matters here.
    Other,
}

/// A publication from the broker.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) topic: Bytes,
    pub(super) payload: Bytes,
    pub(super) retain: bool,
    /// The broker has sent it before.
    pub(super) repeated: bool,
    pub(super) qos: Qos,
    /// 0 with QoS 0.
    pub(super) id: u16,
}

/// Why there is no connection, for people. It never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lost {
    /// It ended as asked.
    Ended,
    /// The broker does not let the app in.
    Refused(String),
    /// The other end cannot be trusted, or does not trust this one.
    Tls(String),
    /// There is no broker, or it went away.
    Away(String),
}

/// Why the broker has not done what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The session or the connection ended before: it is to be asked again.
    Again,
    /// It said no, and would again.
    Refused(String),
    /// It said no, and may think otherwise later.
    Busy(String),
}

/// Ready when the broker has done what it was asked.
pub(super) type Outcome = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// What a connection is made of.
pub(super) struct Options<'a> {
    pub(super) settings: &'a Settings,
    pub(super) tls: Option<&'a TlsConfiguration>,
    pub(super) client_id: &'a str,
    /// Published by the broker if the connection breaks.
    pub(super) will: Option<&'a Publication>,
    /// What an earlier process has left at the broker is thrown away.
    pub(super) fresh: bool,
}

/// What this side knows of a session; it outlives connections.
pub(super) enum Session {
    V311(v311::Session),
    V5(v5::Session),
}

/// The half of a connection that asks.
pub(super) enum Requests {
    V311(v311::Requests),
    V5(v5::Requests),
}

/// The half of a connection that has to be polled for anything to happen.
pub(super) enum Events {
    V311(Box<v311::Events>),
    V5(Box<v5::Events>),
}

impl Session {
    pub(super) fn new(version: Version) -> Self {
        match version {
            Version::V311 => Session::V311(v311::Session::default()),
            Version::V5 => Session::V5(v5::Session::default()),
        }
    }

    /// A connection that goes on with the session. At most one at a time.
    pub(super) fn connect(&self, options: &Options<'_>) -> (Requests, Events) {
        match self {
            Session::V311(session) => {
                let (requests, events) = v311::connect(session, options);
                (Requests::V311(requests), Events::V311(Box::new(events)))
            }
            Session::V5(session) => {
                let (requests, events) = v5::connect(session, options);
                (Requests::V5(requests), Events::V5(Box::new(events)))
            }
        }
    }
}

impl Requests {
    /// Publishes at once or when there is a connection.
    pub(super) fn publish(&self, publication: &Publication, qos: Qos) -> Outcome {
        match self {
            Requests::V311(requests) => requests.publish(publication, qos),
            Requests::V5(requests) => requests.publish(publication, qos),
        }
    }

    pub(super) fn subscribe(&self, filter: &str, qos: Qos) -> Outcome {
        match self {
            Requests::V311(requests) => requests.subscribe(filter, qos),
            Requests::V5(requests) => requests.subscribe(filter, qos),
        }
    }

    pub(super) fn unsubscribe(&self, filter: &str) -> Outcome {
        match self {
            Requests::V311(requests) => requests.unsubscribe(filter),
            Requests::V5(requests) => requests.unsubscribe(filter),
        }
    }

    /// Tells the broker that the publication is safe here. Only on the connection on which it came, and
    /// once: the library takes a second time for a mistake and ends the connection.
    pub(super) fn acknowledge(&self, id: u16, qos: Qos) {
        match self {
            Requests::V311(requests) => requests.acknowledge(id, qos),
            Requests::V5(requests) => requests.acknowledge(id, qos),
        }
    }

    /// Ends the connection when what is under way is done, so that no will is published.
    pub(super) fn disconnect(&self) {
        match self {
            Requests::V311(requests) => requests.disconnect(),
            Requests::V5(requests) => requests.disconnect(),
        }
    }
}

impl Events {
    /// What happens next. After an error, the next call connects again; after [`Lost::Ended`], none
    /// does. Not cancel-safe, except that dropping all of it is.
    pub(super) async fn next(&mut self) -> Result<Event, Lost> {
        match self {
            Events::V311(events) => events.next().await,
            Events::V5(events) => events.next().await,
        }
    }
}

/// Reads what a failed connection says. The libraries pass on what TLS says as an I/O error.
fn lost_io(error: &std::io::Error) -> Lost {
    let text = error.to_string();
    match error.kind() {
        std::io::ErrorKind::InvalidData => Lost::Tls(text),
        _ => Lost::Away(text),
    }
}
