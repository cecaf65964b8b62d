//! MQTT 5.

use std::sync::{Arc, Mutex, PoisonError};

use rumqttc_v5::mqttbytes::v5::{
    ConnectReturnCode, LastWill, Packet, PubAck, PubAckReason, PubRec, PubRecReason, SubscribeReasonCode,
    UnsubAckReason,
};
use rumqttc_v5::{
    AckMode, AsyncClient, Broker, ConnectionError, Event as LibraryEvent, EventLoop, IncomingPacketSizeLimit,
    ManualAck, MqttOptions, Outgoing, PersistedSession, PublishNoticeError, PublishOptions, PublishResult, QoS,
    SessionStore, SessionStoreError, SessionStoreKey, StateError, Transport,
};

use super::{Event, FAREWELL, Failure, Incoming, Lost, OUTGOING, Options, Outcome, lost_io};
use crate::mqtt::command::Publication;
use crate::mqtt::settings::Qos;

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
    /// A connection that begins and ends a session of no duration. The one after it must not begin with a
    /// clean start itself: mosquitto 2.0 does not write down a session that did, and has forgotten it when it
    /// restarts.
    sweep: Option<(AsyncClient, EventLoop)>,
    /// What the sweep is made with.
    sweeping: MqttOptions,
}

pub(super) fn connect(session: &Session, options: &Options<'_>) -> (Requests, Events) {
    let settings = options.settings;
    let mut library = library_options(options);
    let mut sweeping = library.clone();
    sweeping.set_clean_start(true).set_session_expiry_interval(Some(0));
    let sweep = options.fresh.then(|| AsyncClient::builder(sweeping.clone()).unbounded().build());
    // The greatest number says: for ever.
    let expiry = settings.session_expiry.and_then(|time| u32::try_from(time.as_secs()).ok()).unwrap_or(u32::MAX);
    library.set_clean_start(false).set_session_expiry_interval(Some(expiry)).set_session_store_arc(session.0.clone());
    if let Some(will) = options.will {
        let will = LastWill::new(&will.topic, will.payload.clone(), qos(settings.qos), will.retain, None);
        library.set_last_will(will);
    }
    let (client, events) = AsyncClient::builder(library).unbounded().build();
    (Requests(client), Events { events, sweep, sweeping })
}

fn library_options(options: &Options<'_>) -> MqttOptions {
    let settings = options.settings;
    let mut library =
        MqttOptions::new(options.client_id, Broker::tcp(settings.broker.host.clone(), settings.broker.port));
    library
        .set_keep_alive(u16::try_from(settings.keepalive.as_secs()).unwrap_or(u16::MAX))
        .set_connect_timeout(settings.connect_timeout)
        .set_ack_mode(AckMode::Manual)
        .set_receive_maximum(Some(settings.in_flight))
        .set_outgoing_inflight_upper_limit(OUTGOING)
        .set_incoming_packet_size_limit(IncomingPacketSizeLimit::Unlimited)
        // The broker does not send what is larger. Topic and header come on top of the payload.
        .set_max_packet_size(Some(u32::try_from(settings.payload).unwrap_or(u32::MAX).saturating_add(70_000)));
    if let Some(credentials) = &settings.credentials {
        library.set_credentials(credentials.username.clone(), credentials.password.clone());
    }
    if let Some(tls) = options.tls {
        library.set_transport(Transport::Tls(tls.clone()));
    }
    library
}

impl Requests {
    pub(super) fn publish(&self, publication: &Publication, at: Qos) -> Outcome {
        let options = PublishOptions::new(qos(at)).retain(publication.retain);
        let topic = publication.topic.clone();
        let Ok(notice) = self.0.try_publish_tracked(topic, publication.payload.clone(), options) else {
            return Box::pin(async { Err(Failure::Again) });
        };
        Box::pin(async {
            match notice.wait_async().await {
                Ok(PublishResult::Qos0Flushed) => Ok(()),
                Ok(PublishResult::Qos1(ack)) => of_reason(ack.reason as u8, || format!("{:?}", ack.reason)),
                // Also if the broker knows nothing of the id any more: it had completed it before.
                Ok(PublishResult::Qos2Completed(_)) => Ok(()),
                Ok(PublishResult::Qos2PubRecRejected(ack)) => {
                    of_reason(ack.reason as u8, || format!("{:?}", ack.reason))
                }
                Err(PublishNoticeError::RetainNotSupported) => {
                    Err(Failure::Refused("the broker keeps no retained messages".to_owned()))
                }
                Err(_) => Err(Failure::Again),
            }
        })
    }

    pub(super) fn subscribe(&self, filter: &str, at: Qos) -> Outcome {
        let Ok(notice) = self.0.try_subscribe_tracked(filter, qos(at)) else {
            return Box::pin(async { Err(Failure::Again) });
        };
        Box::pin(async {
            let ack = notice.wait_async().await.map_err(|_| Failure::Again)?;
            match ack.return_codes.first() {
                Some(SubscribeReasonCode::Success(_)) | None => Ok(()),
                Some(reason @ SubscribeReasonCode::QuotaExceeded) => Err(Failure::Busy(format!("{reason:?}"))),
                Some(reason) => Err(Failure::Refused(format!("{reason:?}"))),
            }
        })
    }

    pub(super) fn unsubscribe(&self, filter: &str) -> Outcome {
        let Ok(notice) = self.0.try_unsubscribe_tracked(filter) else {
            return Box::pin(async { Err(Failure::Again) });
        };
        Box::pin(async {
            let ack = notice.wait_async().await.map_err(|_| Failure::Again)?;
            match ack.reasons.first() {
                Some(UnsubAckReason::Success | UnsubAckReason::NoSubscriptionExisted) | None => Ok(()),
                Some(reason) => of_reason(*reason as u8, || format!("{reason:?}")),
            }
        })
    }

    pub(super) fn acknowledge(&self, id: u16, at: Qos) {
        let ack = match at {
            Qos::AtMostOnce => return,
            Qos::AtLeastOnce => ManualAck::PubAck(PubAck { pkid: id, reason: PubAckReason::Success, properties: None }),
            Qos::ExactlyOnce => ManualAck::PubRec(PubRec { pkid: id, reason: PubRecReason::Success, properties: None }),
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
            Err(error) => {
                // The broker's answer to the first connect was lost, and now it has a session that this side has not.
                if matches!(error, ConnectionError::SessionStateMismatch { .. }) {
                    self.sweep = Some(AsyncClient::builder(self.sweeping.clone()).unbounded().build());
                }
                Err(lost(&error))
            }
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

/// Reasons from 0x80 are failures; of these, some pass.
fn of_reason(code: u8, name: impl Fn() -> String) -> Result<(), Failure> {
    /// Unspecified, implementation specific, packet identifier in use, quota exceeded.
    const PASSING: [u8; 4] = [0x80, 0x83, 0x91, 0x97];
    match code {
        ..0x80 => Ok(()),
        code if PASSING.contains(&code) => Err(Failure::Busy(name())),
        _ => Err(Failure::Refused(name())),
    }
}

fn lost(error: &ConnectionError) -> Lost {
    let refused = |code: &ConnectReturnCode| match code {
        ConnectReturnCode::ServerUnavailable
        | ConnectReturnCode::ServerBusy
        | ConnectReturnCode::ServiceUnavailable => Lost::Away(format!("the broker says {code:?}")),
        code => Lost::Refused(format!("{code:?}")),
    };
    match error {
        ConnectionError::RequestsDone | ConnectionError::DisconnectTimeout => Lost::Ended,
        ConnectionError::ConnectionRefused(code)
        | ConnectionError::MqttState(StateError::ConnFail { reason: code }) => refused(code),
        ConnectionError::Tls(error) => Lost::Tls(error.to_string()),
        ConnectionError::Io(error) => lost_io(error),
        ConnectionError::Timeout(_) => Lost::Away("no answer in time".to_owned()),
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
