//! Who gets which message.
//!
//! One of those who wait for a message takes what has come from the endpoint and hands on what is for others:
//! there is no task in between, and nothing is taken while nobody waits. What was handed on and not taken is
//! not handled: it takes up the inbox's room, and comes again after a crash.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bowline_link::{Delivery, Endpoint, Message, RecvError};
use tokio::sync::Mutex as Turn;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::ids::{Ids, Recipient, Rest};

/// What a message waits in until its recipient takes it.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    deliveries: VecDeque<Delivery>,
    /// Best-effort ones among them: these take up no room in the inbox.
    best_effort: usize,
    /// Handed out by `recv`: handled when the next one is asked for.
    out: Vec<Delivery>,
}

/// All queues of a client.
#[derive(Debug)]
pub(crate) struct Channels {
    endpoint: Endpoint,
    quarantine: Duration,
    table: Mutex<Table>,
    /// What is for no open channel.
    rest: Arc<Queue>,
    /// An id may be free.
    freed: Notify,
    /// Whose turn it is to take from the endpoint; what was taken is handed on in the same turn, so that
    /// messages stay in order.
    turn: Turn<()>,
}

#[derive(Debug, Default)]
struct Table {
    /// By ident; at most 256, with some 8 KiB each.
    apps: HashMap<u8, Ids>,
    late: u64,
}

impl Table {
    fn app(&mut self, app: u8) -> &mut Ids {
        self.apps.entry(app).or_insert_with(|| Ids::new(app, fastrand::u8(..)))
    }
}

/// An id in use. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    channels: Arc<Channels>,
    queue: Arc<Queue>,
    pub(crate) app: u8,
    pub(crate) instance: u8,
    /// What may come when this is dropped.
    pub(crate) rest: Rest,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut table = lock(&self.channels.table);
        let Waiting { deliveries, out, .. } = std::mem::take(&mut *lock(&self.queue.waiting));
        table.late += deliveries.len() as u64;
        // The answer is among them.
        let answered = self.rest == Rest::Answer && !deliveries.is_empty();
        let rest = if answered { Rest::Nothing } else { self.rest };
        table.app(self.app).release(self.instance, rest);
        drop(table);
        out.into_iter().chain(deliveries).for_each(Delivery::done);
        // All of them look again: what is free for one app is of no use to another.
        self.channels.freed.notify_waiters();
    }
}

impl Claim {
    /// Waits for the next message. Cancel-safe.
    pub(crate) async fn next(&self) -> Result<Delivery, RecvError> {
        self.channels.next_of(&self.queue).await
    }

    /// As [`Channels::recv`].
    pub(crate) async fn recv(&self) -> Result<Message, RecvError> {
        self.channels.recv_of(&self.queue).await
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.channels.endpoint
    }

    /// A message that came is for nobody.
    pub(crate) fn discards(&self, delivery: Delivery) {
        lock(&self.channels.table).late += 1;
        delivery.done();
    }
}

impl Channels {
    pub(crate) fn new(endpoint: Endpoint, quarantine: Duration) -> Arc<Self> {
        Arc::new(Channels {
            endpoint,
            quarantine,
            table: Mutex::default(),
            rest: Arc::default(),
            freed: Notify::new(),
            turn: Turn::default(),
        })
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// An id of its own, as soon as there is one. Cancel-safe.
    pub(crate) async fn claim(self: &Arc<Self>, app: u8, rest: Rest) -> Result<Claim, RecvError> {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // From here on no id is missed.
            freed.as_mut().enable();
            let in_time = match self.try_claim(app, rest) {
                Ok(claim) => return Ok(claim),
                Err(at) => at,
            };
            let time = async {
                match in_time {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = freed => {}
                () = time => {}
                // It may be the late answer that frees one.
                handed_on = self.hand_on_next() => handed_on?,
            }
        }
    }

    /// An id of its own; otherwise, when one may be free by the passing of time, if ever.
    pub(crate) fn try_claim(self: &Arc<Self>, app: u8, rest: Rest) -> Result<Claim, Option<Instant>> {
        // What is closed shows when it is used.
        let _ = self.hand_on_all();
        let queue = Arc::default();
        let instance = lock(&self.table).app(app).claim(&queue, self.quarantine)?;
        Ok(Claim { channels: Arc::clone(self), queue, app, instance, rest })
    }

    /// This very id, if it is not in use.
    pub(crate) fn claim_at(self: &Arc<Self>, app: u8, instance: u8) -> Option<Claim> {
        let queue = Arc::default();
        let claimed = lock(&self.table).app(app).claim_at(instance, &queue);
        claimed.then(|| Claim { channels: Arc::clone(self), queue, app, instance, rest: Rest::Anything })
    }

    /// The application sends a message with a header of its own.
    pub(crate) fn application_sends(&self, message: &Message) {
        if let &[app, instance, _] = message.header() {
            lock(&self.table).app(app).is_the_applications(instance);
        }
    }

    /// Messages that were for nobody any more.
    pub(crate) fn late(&self) -> u64 {
        lock(&self.table).late
    }

    /// The next message for no open channel. Cancel-safe.
    pub(crate) async fn next(&self) -> Result<Delivery, RecvError> {
        self.next_of(&self.rest).await
    }

    /// As [`Channels::next`]; it is handled when the next one is asked for.
    pub(crate) async fn recv(&self) -> Result<Message, RecvError> {
        self.recv_of(&self.rest).await
    }

    /// The next message for no open channel, if one is there.
    pub(crate) fn try_recv(&self) -> Result<Option<Message>, RecvError> {
        self.rest.has_handled();
        let handed_on = self.hand_on_all();
        match self.rest.take() {
            Some(delivery) => Ok(Some(self.rest.hands_out(delivery))),
            None => handed_on.map(|()| None),
        }
    }

    /// What was handed out is handled: the application closes the client, this is no crash. What was not
    /// handed out goes back into the inbox, so that the link need not wait for it.
    pub(crate) fn close(&self) {
        self.rest.has_handled();
        let waiting = std::mem::take(&mut *lock(&self.rest.waiting));
        drop(waiting.deliveries);
    }

    async fn recv_of(&self, queue: &Queue) -> Result<Message, RecvError> {
        queue.has_handled();
        let delivery = self.next_of(queue).await?;
        Ok(queue.hands_out(delivery))
    }

    async fn next_of(&self, queue: &Queue) -> Result<Delivery, RecvError> {
        loop {
            let arrived = queue.arrived.notified();
            tokio::pin!(arrived);
            // From here on no message is missed.
            arrived.as_mut().enable();
            // What was given back comes before what waits here.
            let handed_on = self.hand_on_all();
            if let Some(delivery) = queue.take() {
                return Ok(delivery);
            }
            handed_on?;
            tokio::select! {
                biased;
                () = arrived => {}
                // If this fails, the next round says so.
                _ = self.hand_on_next() => {}
            }
        }
    }

    /// Waits for the next message, whoever it is for. Cancel-safe.
    async fn hand_on_next(&self) -> Result<(), RecvError> {
        let _turn = self.turn.lock().await;
        self.hand_on(self.endpoint.next().await?);
        Ok(())
    }

    /// What has come, if it is nobody else's turn: then it is handed on in a moment.
    fn hand_on_all(&self) -> Result<(), RecvError> {
        let Ok(_turn) = self.turn.try_lock() else { return Ok(()) };
        while let Some(delivery) = self.endpoint.try_next()? {
            self.hand_on(delivery);
        }
        Ok(())
    }

    /// To whom it is for.
    fn hand_on(&self, delivery: Delivery) {
        let recipient = match delivery.message().header() {
            &[app, instance, _] => {
                let mut table = lock(&self.table);
                let (recipient, freed) = table.app(app).recipient(instance);
                // Under the lock: a channel that is closed after this finds the message in its queue.
                match &recipient {
                    Recipient::Channel(queue) => return queue.put(delivery, &self.endpoint),
                    Recipient::Late => table.late += 1,
                    Recipient::Application => {}
                }
                drop(table);
                if freed {
                    self.freed.notify_waiters();
                }
                recipient
            }
            _ => Recipient::Application,
        };
        match recipient {
            Recipient::Late => delivery.done(),
            _ => self.rest.put(delivery, &self.endpoint),
        }
    }
}

impl Queue {
    fn put(&self, delivery: Delivery, endpoint: &Endpoint) {
        let mut waiting = lock(&self.waiting);
        if !delivery.message().is_qos() {
            if waiting.best_effort >= endpoint.limits().inbox {
                // As it is in a full inbox.
                tracing::debug!("a best-effort message is dropped: nobody takes them");
                return delivery.done();
            }
            waiting.best_effort += 1;
        }
        // What was given back comes before what came after it.
        let later = |other: &Delivery| delivery.message().seq().is_some_and(|seq| other.message().seq() > Some(seq));
        let at = waiting.deliveries.iter().position(later).unwrap_or(waiting.deliveries.len());
        waiting.deliveries.insert(at, delivery);
        drop(waiting);
        self.arrived.notify_one();
    }

    fn take(&self) -> Option<Delivery> {
        let mut waiting = lock(&self.waiting);
        let delivery = waiting.deliveries.pop_front()?;
        waiting.best_effort -= usize::from(!delivery.message().is_qos());
        if !waiting.deliveries.is_empty() {
            // Two arrivals may have left one wake-up.
            self.arrived.notify_one();
        }
        Some(delivery)
    }

    fn hands_out(&self, delivery: Delivery) -> Message {
        let message = delivery.message().clone();
        lock(&self.waiting).out.push(delivery);
        message
    }

    fn has_handled(&self) {
        let out = std::mem::take(&mut lock(&self.waiting).out);
        out.into_iter().for_each(Delivery::done);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds the lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
