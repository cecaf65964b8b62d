//! The task of an instance: one message after the other, again and again if need be.

use std::sync::Arc;
use std::task::Poll;

use bowline_link::{Delivery, DownReason, SendError, Sending};
use bowline_proto::legacy::CloseReason;
use tokio::sync::Notify;

use super::desk::{Desk, Envelope, Link, Seat};
use super::erased::{AnyInstance, Lapse, caught_in, contained};
use super::host::{AppEvent, Host, Registered, Stage};
use super::{AppError, AppMessage, Handled, Port, Reply};

/// Most characters of a reason that an app gives which are kept.
const REASON: usize = 500;

/// Starts the task of an instance, for `port`, or for all devices.
pub(crate) fn spawn(host: &Arc<Host>, desk: &Arc<Desk>, seat: Seat, wake: &Arc<Notify>, port: Option<Port>) {
    let runner = Runner {
        host: Arc::clone(host),
        desk: Arc::clone(desk),
        seat,
        wake: Arc::clone(wake),
        port,
        instance: None,
        started: None,
        head: None,
        failures: 0,
    };
    host.spawn(Box::pin(runner.run()));
}

struct Runner {
    host: Arc<Host>,
    desk: Arc<Desk>,
    seat: Seat,
    wake: Arc<Notify>,
    /// `None`: for all devices.
    port: Option<Port>,
    instance: Option<Box<dyn AnyInstance>>,
    /// The number of the link for which it has started.
    started: Option<u64>,
    /// The message in hand.
    head: Option<Head>,
    /// How often in a row it could not be made or started.
    failures: u32,
}

struct Head {
    envelope: Envelope,
    /// How often it was tried.
    failures: u32,
}

impl Head {
    fn lasts(&self) -> bool {
        lasts(&self.envelope.delivery)
    }
}

/// What became of a turn.
enum Outcome {
    /// There may be more to do.
    Busy,
    Idle,
    /// The instance has said that it ends.
    Ended,
}

/// What an instance did not do.
struct Trouble {
    /// What it failed in, if not in handling a message.
    before: Option<&'static str>,
    why: Why,
}

enum Why {
    Error(AppError),
    Lapse(Lapse),
}

impl Runner {
    async fn run(mut self) {
        loop {
            let turn = self.desk.turn(&self.seat, self.head.is_none());
            if let Some(envelope) = turn.message {
                self.head = Some(Head { envelope, failures: 0 });
            }
            let closed = turn.closed || self.host.is_stopping();
            if closed || turn.past && self.head.is_none() {
                if self.leaves(closed).await {
                    return;
                }
                continue;
            }
            match self.works(if turn.past { None } else { Some(turn.link) }).await {
                Ok(Outcome::Busy) => {}
                Ok(Outcome::Idle) => self.wake.notified().await,
                Ok(Outcome::Ended) => {
                    if self.leaves(false).await {
                        return;
                    }
                }
                Err(trouble) => self.fails(trouble).await,
            }
        }
    }

    /// One step towards handling the message in hand. `link` is `None` if the instance's device is past.
    async fn works(&mut self, link: Option<Link>) -> Result<Outcome, Trouble> {
        let limit = self.host.limits.handle_timeout;
        let instance = match &mut self.instance {
            Some(instance) => instance,
            none => {
                let app = &self.host.apps[self.seat.app];
                let made = caught_in(|| app.makes.instance(self.port.as_ref()));
                // There always is one: the only one of its kind is never given away.
                let Some(made) = made.map_err(Trouble::before("be made"))? else { return Ok(Outcome::Ended) };
                app.counters.instances.one();
                none.insert(made)
            }
        };
        match (self.started, link) {
            (None, Some(Link::Up(number))) => {
                let started = contained(limit, instance.start()).await.map_err(Trouble::before("start"))?;
                started.map_err(|error| Trouble { before: Some("start"), why: Why::Error(error) })?;
                (self.started, self.failures) = (Some(number), 0);
                return Ok(Outcome::Busy);
            }
            (Some(number), Some(link)) if link != Link::Up(number) => {
                self.started = None;
                let reason = match link {
                    Link::Down(reason) => reason,
                    Link::Up(_) => DownReason::Engine(CloseReason::Replaced),
                };
                contained(limit, instance.pause(reason)).await.map_err(Trouble::before("pause"))?;
                return Ok(Outcome::Busy);
            }
            _ => {}
        }
        let Some(head) = &self.head else { return Ok(Outcome::Idle) };
        let message = AppMessage {
            message: head.envelope.delivery.message().clone(),
            port: head.envelope.port.clone(),
            attempt: head.failures + 1,
        };
        let trouble = |why| Trouble { before: None, why };
        let handled = contained(limit, instance.handle(&message)).await.map_err(|lapse| trouble(Why::Lapse(lapse)))?;
        let Handled { reply, end } = handled.map_err(|error| trouble(Why::Error(error)))?;
        if let Some(Head { envelope, .. }) = self.head.take() {
            self.answers(envelope, reply).await;
        }
        Ok(if end && self.port.is_some() { Outcome::Ended } else { Outcome::Busy })
    }

    /// The message is handled.
    async fn answers(&mut self, Envelope { delivery, port, .. }: Envelope, reply: Option<Reply>) {
        let host = Arc::clone(&self.host);
        let app = &host.apps[self.seat.app];
        let counters = &app.counters;
        let Some(Reply { tag, payload }) = reply else {
            counters.handled.one();
            delivery.done();
            return;
        };
        let reply = port.message(tag, &payload);
        let lasts = lasts(&delivery);
        let sent = if lasts {
            delivery.reply_in_epoch(reply.clone()).await
        } else {
            delivery.done();
            offer(port.sending(reply.clone(), false)).await
        };
        match sent {
            Ok(()) => host.observe(&port.device, AppEvent::Sent { message: &reply, qos: lasts }),
            Err(SendError::Message(error)) if lasts => {
                counters.buried.one();
                let reason = format!("the reply of the app {:?} cannot be sent: {error}", app.name);
                counters.said.warn(port.device.id(), &format!("{reason}; what it replied to is a dead letter"));
                return;
            }
            // The message is still in the inbox, if anything is.
            Err(SendError::Closed) => return,
            Err(error) => tracing::debug!(device = port.device.id(), app = port.app(), "a reply was lost: {error}"),
        }
        counters.handled.one();
    }

    /// The message in hand comes again after a pause, or is given up.
    async fn fails(&mut self, Trouble { before, why }: Trouble) {
        let host = Arc::clone(&self.host);
        let (app, limits) = (&host.apps[self.seat.app], &host.limits);
        let (reason, again) = match why {
            // Best effort does not wait.
            Why::Error(AppError { reason, counts: false, .. }) if self.head.as_ref().is_some_and(Head::lasts) => {
                return self.comes_again(&reason).await;
            }
            Why::Error(AppError { reason, again, .. }) => (shortened(reason), again),
            Why::Lapse(Lapse::Timeout(limit)) => {
                app.counters.timeouts.one();
                (format!("it took longer than {limit:?}"), true)
            }
            Why::Lapse(Lapse::Panic(text)) => {
                app.counters.panics.one();
                self.drops_instance();
                (format!("it panicked: {}", shortened(text)), true)
            }
        };
        let what = match before {
            Some(call) => format!("the app {:?} could not {call}: {reason}", app.name),
            None => format!("the app {:?} failed: {reason}", app.name),
        };
        self.failures = if before.is_some() { self.failures.saturating_add(1) } else { 0 };
        let device = match (&self.head, &self.port) {
            (Some(head), _) => head.envelope.port.device.id().to_owned(),
            (None, Some(port)) => port.device.id().to_owned(),
            (None, None) => "all".to_owned(),
        };
        let mut failures = self.failures;
        if let Some(mut head) = self.head.take() {
            head.failures += 1;
            if !head.lasts() {
                app.counters.dropped.one();
                app.counters.said.warn(&device, &format!("{what}; the best-effort message is dropped"));
                head.envelope.delivery.done();
            } else if !again || head.failures >= limits.attempts {
                app.counters.buried.one();
                let letter =
                    if again { format!("{what} (attempt {})", head.failures) } else { format!("{what} (rejected)") };
                app.counters.said.warn(&device, &format!("{letter}: kept as a dead letter"));
                head.envelope.delivery.bury(letter);
            } else {
                app.counters.retried.one();
                app.counters.said.warn(&device, &format!("{what}; it is tried again (attempt {})", head.failures));
                failures = head.failures;
                self.head = Some(head);
            }
        } else {
            app.counters.said.warn(&device, &what);
        }
        if failures > 0 {
            self.waits(limits.pause(failures, fastrand::f64())).await;
        }
    }

    /// The message in hand comes again after a pause, as if it had not been tried.
    async fn comes_again(&mut self, reason: &str) {
        tracing::debug!(app = %self.app().name, "a message waits: {}", shortened(reason.to_owned()));
        self.waits(self.host.limits.pause(1, fastrand::f64())).await;
    }

    /// Waits, unless the instance is to end.
    async fn waits(&mut self, pause: std::time::Duration) {
        let (mut stage, desk, seat, wake) = (self.host.stage(), &self.desk, &self.seat, &self.wake);
        let closed = async {
            while !desk.turn(seat, false).closed {
                wake.notified().await;
            }
        };
        tokio::select! {
            biased;
            () = tokio::time::sleep(pause) => {}
            _ = stage.wait_for(|stage| *stage != Stage::Run) => {}
            () = closed => {}
        }
    }

    /// The instance ends. Says whether its task does, too: not if there are messages for a new one, unless it is
    /// `closed`.
    async fn leaves(&mut self, closed: bool) -> bool {
        self.head = None;
        self.started = None;
        if let Some(instance) = &mut self.instance {
            let stopped = contained(self.host.limits.handle_timeout, instance.stop()).await;
            if let Err(lapse) = stopped {
                let counters = &self.app().counters;
                match lapse {
                    Lapse::Panic(_) => counters.panics.one(),
                    Lapse::Timeout(_) => counters.timeouts.one(),
                }
                tracing::warn!(app = %self.app().name, "an instance did not stop: {lapse:?}");
            }
        }
        self.drops_instance();
        self.desk.leave(&self.seat, closed)
    }

    /// A new one is made. The one there is for all devices stays, whatever it has done.
    fn drops_instance(&mut self) {
        if self.port.is_some() {
            self.started = None;
            if let Err(lapse) = caught_in(|| drop(self.instance.take())) {
                tracing::warn!(app = %self.app().name, "an instance did not end: {lapse:?}");
            }
        }
    }

    fn app(&self) -> &Registered {
        &self.host.apps[self.seat.app]
    }
}

impl Trouble {
    fn before(call: &'static str) -> impl FnOnce(Lapse) -> Trouble {
        move |lapse| Trouble { before: Some(call), why: Why::Lapse(lapse) }
    }
}

/// Whether the message is in the inbox until it is handled; best effort is not.
fn lasts(delivery: &Delivery) -> bool {
    delivery.message().seq().is_some()
}

/// Gives a best-effort message to the link. Nobody waits until it is written.
async fn offer(mut sending: Sending<'_>) -> Result<(), SendError> {
    let mut sending = std::pin::Pin::new(&mut sending);
    std::future::poll_fn(|context| match sending.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(result),
        Poll::Pending => Poll::Ready(Ok(())),
    })
    .await
}

fn shortened(mut text: String) -> String {
    if let Some((at, _)) = text.char_indices().nth(REASON) {
        text.truncate(at);
        text.push('…');
    }
    text
}
