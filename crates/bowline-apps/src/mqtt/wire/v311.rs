//! MQTT 3.1.1.

use std::sync::{Arc, Mutex, PoisonError};

use rumqttc_v4::mqttbytes::v4::{ConnectReturnCode, LastWill, Packet, PubAck, PubRec, SubscribeReasonCode};
use rumqttc_v4::{
    AckMode, AsyncClient, Broker, ConnectionError, Event as LibraryEvent, EventLoop, ManualAck, MqttOptions, Outgoing,
    PersistedSession, PublishOptions, QoS, SessionStore, SessionStoreError, SessionStoreKey, Transport,
};

use super::{Event, FAREWELL, Failure, Incoming, Lost, OUTGOING, Options, Outcome, lost_io};
use crate::mqtt::command::Publication;
use crate::mqtt::settings::Qos;

/// Largest packets. This version has no way to tell the broker a limit, and a packet beyond it would come
/// again on every connection, so it is far above what is passed on to boards.
const PACKET: usize = 64 << 20;

/// In memory: the session goes on in the next connection of this process.
#[derive(Debug, Default)]
pub(in crate::mqtt) struct Session(Arc<Kept>);

#[derive(Debug, Default)]
struct Kept(Mutex<Option<PersistedSession>>);

type Stored<'a, T> = std::pin::Pin<Box<dyn Future<Output = Result<T, SessionStoreError>> + Send + 'a>>;

impl Kept {
    fn set(&self, session: Option<PersistedSession>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = session;
    }
}

impl SessionStore for Kept {
    fn load<'a>(&'a self, _: &'a SessionStoreKey) -> Stored<'a, Option<PersistedSession>> {
        let session = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Box::pin(async { Ok(session) })
    }

    fn save<'a>(&'a self, _: &'a SessionStoreKey, session: &'a PersistedSession) -> Stored<'a, ()> {
        self.set(Some(session.clone()));
        Box::pin(async { Ok(()) })
    }

    fn clear<'a>(&'a self, _: &'a SessionStoreKey) -> Stored<'a, ()> {
        self.set(None);
        Box::pin(async { Ok(()) })
    }
}

pub(in crate::mqtt) struct Requests(AsyncClient);

pub(in crate::mqtt) struct Events {
    events: EventLoop,
    /// A connection that begins and ends a clean session: this version throws nothing away otherwise.
    sweep: Option<(AsyncClient, EventLoop)>,
}

pub(super) fn connect(session: &Session, options: &Options<'_>) -> (Requests, Events) {
    let mut library = library_options(options);
    let sweep = options.fresh.then(|| {
        let mut library = library.clone();
        library.set_clean_session(true);
        build(library, options)
    });
    library.set_clean_session(false).set_session_store_arc(session.0.clone());
    if let Some(will) = options.will {
        library.set_last_will(LastWill::new(&will.topic, will.payload.clone(), qos(options.settings.qos), will.retain));
    }
    let (client, events) = build(library, options);
    (Requests(client), Events { events, sweep })
}

fn library_options(options: &Options<'_>) -> MqttOptions {
    let settings = options.settings;
    let mut library =
        MqttOptions::new(options.client_id, Broker::tcp(settings.broker.host.clone(), settings.broker.port));
    library
        .set_keep_alive(u16::try_from(settings.keepalive.as_secs()).unwrap_or(u16::MAX))
        .set_ack_mode(AckMode::Manual)
        .set_inflight(OUTGOING)
        .set_max_packet_size(PACKET, PACKET);
    if let Some(credentials) = &settings.credentials {
        library.set_credentials(credentials.username.clone(), credentials.password.clone());
    }
    if let Some(tls) = options.tls {
        library.set_transport(Transport::Tls(tls.clone()));
    }
    library
}

fn build(library: MqttOptions, options: &Options<'_>) -> (AsyncClient, EventLoop) {
    let (client, mut events) = AsyncClient::builder(library).unbounded().build();
    events.network_options.set_connection_timeout(options.settings.connect_timeout.as_secs().max(1));
    events.network_options.set_tcp_nodelay(true);
    (client, events)
}

impl Requests {
    pub(super) fn publish(&self, publication: &Publication, at: Qos) -> Outcome {
        let options = PublishOptions::new(qos(at)).retain(publication.retain);
        let topic = publication.topic.clone();
        let Ok(notice) = self.0.try_publish_tracked(topic, publication.payload.clone(), options) else {
            return Box::pin(async { Err(Failure::Again) });
        };
        // A broker that refuses has no words for it: it acknowledges, or ends the connection.
        Box::pin(async { notice.wait_async().await.map(|_| ()).map_err(|_| Failure::Again) })
    }

    pub(super) fn subscribe(&self, filter: &str, at: Qos) -> Outcome {
        let Ok(notice) = self.0.try_subscribe_tracked(filter, qos(at)) else {
            return Box::pin(async { Err(Failure::Again) });
        };
        Box::pin(async {
            let ack = notice.wait_async().await.map_err(|_| Failure::Again)?;
            match ack.return_codes.first() {
                Some(SubscribeReasonCode::Failure) => Err(Failure::Refused("no reason given".to_owned())),
                Some(SubscribeReasonCode::Success(_)) | None => Ok(()),
            }
        })
    }

    pub(super) fn unsubscribe(&self, filter: &str) -> Outcome {
        let Ok(notice) = self.0.try_unsubscribe_tracked(filter) else {
            return Box::pin(async { Err(Failure::Again) });
        };
        Box::pin(async { notice.wait_async().await.map(|_| ()).map_err(|_| Failure::Again) })
    }

    pub(super) fn acknowledge(&self, id: u16, at: Qos) {
        let ack = match at {
            Qos::AtMostOnce => return,
            Qos::AtLeastOnce => ManualAck::PubAck(PubAck { pkid: id }),
            Qos::ExactlyOnce => ManualAck::PubRec(PubRec { pkid: id }),
        };
        // The channel has no bound; it is closed when the connection has ended, and then there is no one to tell.
        let _ = self.0.try_manual_ack(ack);
    }

    pub(super) fn disconnect(&self) {
        let _ = self.0.try_disconnect_with_timeout(FAREWELL);
    }
}

impl Events {
    pub(super) async fn next(&mut self) -> Result<Event, Lost> {
        while let Some((client, events)) = &mut self.sweep {
            match events.poll().await {
                Ok(LibraryEvent::Incoming(Packet::ConnAck(_))) => {
                    let _ = client.try_disconnect_with_timeout(FAREWELL);
                }
                Ok(_) => {}
                Err(error) => match lost(&error) {
                    Lost::Ended => self.sweep = None,
                    lost => return Err(lost),
                },
            }
        }
        match self.events.poll().await {
            Ok(event) => Ok(translate(event)),
            Err(error) => Err(lost(&error)),
        }
    }
}

fn translate(event: LibraryEvent) -> Event {
    match event {
        LibraryEvent::Incoming(Packet::ConnAck(ack)) => Event::Connected { same_session: ack.session_present },
        LibraryEvent::Incoming(Packet::Publish(publish)) => Event::Publish(Incoming {
            topic: publish.topic,
            payload: publish.payload,
            retain: publish.retain,
            repeated: publish.dup,
            qos: match publish.qos {
                QoS::AtMostOnce => Qos::AtMostOnce,
                QoS::AtLeastOnce => Qos::AtLeastOnce,
                QoS::ExactlyOnce => Qos::ExactlyOnce,
            },
            id: publish.pkid,
        }),
        LibraryEvent::Incoming(Packet::PubRel(release)) => Event::Released(release.pkid),
        LibraryEvent::Outgoing(Outgoing::PubAck(id)) => Event::Acknowledged(id),
        _ => Event::Other,
    }
}

fn lost(error: &ConnectionError) -> Lost {
    match error {
        ConnectionError::RequestsDone | ConnectionError::DisconnectTimeout => Lost::Ended,
        ConnectionError::ConnectionRefused(ConnectReturnCode::ServiceUnavailable) => {
            Lost::Away("the broker says ServiceUnavailable".to_owned())
        }
        ConnectionError::ConnectionRefused(code) => Lost::Refused(format!("{code:?}")),
        ConnectionError::Tls(error) => Lost::Tls(error.to_string()),
        ConnectionError::Io(error) => lost_io(error),
        ConnectionError::NetworkTimeout | ConnectionError::FlushTimeout => Lost::Away("no answer in time".to_owned()),
        error => Lost::Away(error.to_string()),
    }
}

fn qos(qos: Qos) -> QoS {
    match qos {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
        Qos::ExactlyOnce => QoS::ExactlyOnce,
    }
}
