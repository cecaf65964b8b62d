//! One connection to the broker and the boards it serves: a task.
//!
//! Everything about a connection happens in this task, one thing after the other: asking, hearing,
//! acknowledging. So it is always known on which connection a publication came.

mod arrivals;
mod asked;
mod member;

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};

pub(super) use self::arrivals::Ticket;
use self::arrivals::{Ack, Arrivals};
pub(super) use self::member::{Member, MemberId};
use super::command::Publication;
use super::settings::{BoardDown, Connection, Qos};
use super::shared::{Kind, Shared, count};
use super::wire::{Event, Events, Failure, Incoming, Lost, Options, Outcome, Requests, Session};

/// What a task is told. The queue has no bound, and needs none: an instance waits for the answer to what it
/// asks before it asks again, and no more is told as stored than has arrived.
pub(super) enum Command {
    Join {
        id: MemberId,
        member: Box<Member>,
    },
    Leave {
        id: MemberId,
        left: Option<oneshot::Sender<()>>,
    },
    Up(MemberId),
    Down(MemberId),
    Ask {
        id: MemberId,
        ask: Ask,
        reply: Reply,
    },
    /// A message is in its outbox, or never will be. `None` for one that nobody acknowledges: there is room again.
    Stored(Option<Ticket>),
    /// The server has forgotten a device.
    Forgotten,
}

pub(super) type Reply = oneshot::Sender<Result<(), Failure>>;

/// What an instance wants; topics and filters are the board's.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    Publish(Publication),
    /// Now or never, with QoS 0.
    PublishNow(Publication),
    Subscribe(String),
    Unsubscribe(String),
    /// The retained message of `state` is for who subscribes to `filter`.
    FetchState {
        state: String,
        filter: String,
    },
    EndFetch {
        state: String,
    },
    Will(Option<Publication>),
    Welcome(Publication),
}

/// What was done, as far as the task has to know.
enum Done {
    Nothing,
    Subscribed(MemberId, String),
    Fetched(MemberId, String),
    Welcomed(MemberId),
}

type Doing = std::pin::Pin<Box<dyn Future<Output = Done> + Send>>;

pub(super) struct Hub {
    shared: Arc<Shared>,
    client_id: String,
    members: BTreeMap<MemberId, Member>,
    arrivals: Arrivals,
    session: Session,
    /// What an earlier process has left at the broker is still there.
    fresh: bool,
    /// There is one as long as there are [`Events`].
    requests: Option<Requests>,
    /// The events of a connection that was just begun, until they are polled.
    begun: Option<Events>,
    connected: bool,
    /// The will the broker has.
    registered: Option<Publication>,
    /// The connection is to end, gracefully; there is another one after it if it is wanted.
    closing: bool,
    /// The broker sends more than is taken; what is not taken comes again with the next connection.
    overflowed: bool,
    /// What the broker was asked for and has not answered. While there is any, the connection is wanted.
    doing: FuturesUnordered<Doing>,
    /// Those who wait for the connection's end.
    leaving: Vec<oneshot::Sender<()>>,
    /// Failed attempts in a row.
    attempts: u32,
    /// The next attempt is not made before this has passed.
    pause: Option<Duration>,
}

/// Why polling a connection has stopped.
enum Step {
    Happened(Result<Event, Lost>),
    /// Nobody wants the connection, and there is none.
    Unwanted,
}

impl Hub {
    /// The task for `client_id`, made if there is none, with one more member.
    pub(super) fn join(
        shared: &Arc<Shared>,
        client_id: String,
        id: MemberId,
        make: impl FnOnce(mpsc::UnboundedSender<Command>) -> Member,
    ) -> mpsc::UnboundedSender<Command> {
        let mut hubs = shared.hubs();
        let commands = hubs.entry(client_id.clone()).or_insert_with(|| {
            let (commands, queue) = mpsc::unbounded_channel();
            tokio::spawn(Hub::new(Arc::clone(shared), client_id).run(queue));
            commands
        });
        // The task leaves the map under its lock, and only if its queue is empty: it will read this.
        let _ = commands.send(Command::Join { id, member: Box::new(make(commands.clone())) });
        commands.clone()
    }

    fn new(shared: Arc<Shared>, client_id: String) -> Self {
        let session = Session::new(shared.settings.version);
        Hub {
            shared,
            client_id,
            members: BTreeMap::new(),
            arrivals: Arrivals::default(),
            session,
            fresh: true,
            requests: None,
            begun: None,
            connected: false,
            registered: None,
            closing: false,
            overflowed: false,
            doing: FuturesUnordered::new(),
            leaving: Vec::new(),
            attempts: 0,
            pause: None,
        }
    }

    async fn run(mut self, mut queue: mpsc::UnboundedReceiver<Command>) {
        let mut events: Option<Events> = None;
        loop {
            if let Some(connection) = &mut events {
                match self.attend(connection, &mut queue).await {
                    Step::Happened(Ok(event)) => self.happened(event),
                    Step::Happened(Err(lost)) => {
                        if self.lost(&lost) {
                            events = None;
                        }
                    }
                    Step::Unwanted => {
                        self.ended();
                        events = None;
                    }
                }
                continue;
            }
            if self.is_wanted() {
                self.ready();
            }
            if let Some(begun) = self.begun.take() {
                events = Some(begun);
                continue;
            }
            for left in self.leaving.drain(..) {
                // Who waits does not wait for ever.
                let _ = left.send(());
            }
            if self.members.is_empty() {
                let shared = Arc::clone(&self.shared);
                let mut hubs = shared.hubs();
                if queue.is_empty() {
                    hubs.remove(&self.client_id);
                    return;
                }
            }
            match queue.recv().await {
                Some(command) => self.obey(command),
                None => return,
            }
        }
    }

    /// Waits for something to happen on the connection, and does what it is told meanwhile.
    ///
    /// What has happened comes before what is done: a retained message is seen before the end of the
    /// subscription that has brought it.
    async fn attend(&mut self, events: &mut Events, queue: &mut mpsc::UnboundedReceiver<Command>) -> Step {
        let pause = self.pause.take();
        let mut next = pin!(async {
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            events.next().await
        });
        loop {
            // While there is nothing under way, an attempt to connect can be given up at any time.
            let needless = self.closing || !self.is_wanted();
            if !self.connected && needless && self.doing.is_empty() {
                return Step::Unwanted;
            }
            tokio::select! {
                biased;
                happened = &mut next => return Step::Happened(happened),
                Some(done) = self.doing.next() => self.done(done),
                // What is asked of a connection that is about to end would be lost; it waits for the next.
                Some(command) = queue.recv(), if !self.closing => self.obey(command),
            }
            self.close_if_unwanted();
        }
    }

    fn is_wanted(&self) -> bool {
        !self.doing.is_empty() || self.members.values().any(|member| member.active)
    }

    /// The connection there is, or a new one.
    fn ready(&mut self) -> &Requests {
        if self.requests.is_none() {
            self.closing = false;
            self.overflowed = false;
            let settings = &self.shared.settings;
            // A shared connection may break while some boards are there and some are not.
            self.registered = match settings.connection {
                Connection::Device => self.members.values().find_map(Member::full_will),
                Connection::Shared => None,
            };
            let (requests, events) = self.session.connect(&Options {
                settings,
                tls: self.shared.tls.as_ref(),
                client_id: &self.client_id,
                will: self.registered.as_ref(),
                fresh: self.fresh,
            });
            self.begun = Some(events);
            return self.requests.insert(requests);
        }
        self.requests.as_ref().unwrap_or_else(|| unreachable!("it was made above if there was none"))
    }

    fn close_if_unwanted(&mut self) {
        if self.connected && !self.is_wanted() {
            self.close();
        }
    }

    fn close(&mut self) {
        if !std::mem::replace(&mut self.closing, true)
            && self.connected
            && let Some(requests) = &self.requests
        {
            requests.disconnect();
        }
    }

    fn ended(&mut self) {
        self.disconnected();
        self.requests = None;
    }

    fn disconnected(&mut self) {
        if std::mem::take(&mut self.connected) {
            self.shared.counters.connected.fetch_sub(1, Ordering::Relaxed);
        }
        self.arrivals.disconnected();
    }

    /// Whether the connection has ended for good, as it was asked to.
    fn lost(&mut self, lost: &Lost) -> bool {
        self.disconnected();
        if *lost == Lost::Ended {
            self.requests = None;
            return true;
        }
        count(&self.shared.counters.failures);
        self.shared.complain_of(lost, &self.client_id);
        let (first, longest) = self.shared.settings.backoff;
        let pause = match lost {
            // Nothing changes by asking often.
            Lost::Refused(_) | Lost::Tls(_) => longest,
            _ => first.saturating_mul(1 << self.attempts.min(16)).min(longest),
        };
        self.attempts += 1;
        self.pause = Some(pause.mul_f64(1.0 - fastrand::f64() / 4.0));
        false
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::Connected { same_session } => self.connected(same_session),
            Event::Publish(incoming) => self.arrived(&incoming),
            Event::Released(id) | Event::Acknowledged(id) => self.arrivals.released(id),
            Event::Other => {}
        }
    }

    fn connected(&mut self, same_session: bool) {
        self.connected = true;
        self.attempts = 0;
        self.fresh = false;
        count(&self.shared.counters.connects);
        count(&self.shared.counters.connected);
        tracing::info!(client_id = %self.client_id, broker = %self.shared.settings.broker, same_session, "connected");
        if self.closing {
            if let Some(requests) = &self.requests {
                requests.disconnect();
            }
            return;
        }
        if !same_session {
            self.arrivals.forget();
            self.resubscribe();
        }
        self.welcome();
    }

    /// The broker has forgotten what it was told before. What it had not answered is asked again by who
    /// has asked.
    fn resubscribe(&mut self) {
        let confirmed: Vec<String> = self.members.values().flat_map(Member::confirmed_filters).collect();
        for filter in confirmed {
            if let Some(requests) = &self.requests {
                let outcome = requests.subscribe(&filter, self.shared.settings.qos);
                let shared = Arc::clone(&self.shared);
                self.doing.push(Box::pin(async move {
                    if let Err(Failure::Refused(why) | Failure::Busy(why)) = outcome.await {
                        shared.complain(Kind::Resubscribing, || {
                            format!("the broker does not take the subscription to {filter} again: {why}")
                        });
                    }
                    Done::Nothing
                }));
            }
        }
    }

    /// The broker may have published wills.
    fn welcome(&mut self) {
        let welcomes: Vec<Publication> = self.members.values().filter_map(Member::due_welcome).collect();
        for welcome in welcomes {
            self.publish_for_nobody(&welcome);
        }
    }

    /// Publishes what nobody waits for.
    fn publish_for_nobody(&mut self, publication: &Publication) {
        let qos = self.shared.settings.qos;
        let outcome = self.ready().publish(publication, qos);
        self.do_for_nobody(outcome);
    }

    fn do_for_nobody(&self, outcome: Outcome) {
        self.doing.push(Box::pin(async {
            let _ = outcome.await;
            Done::Nothing
        }));
    }

    fn do_for(&self, reply: Reply, outcome: Outcome, done: Done) {
        self.doing.push(Box::pin(async {
            let result = outcome.await;
            let again = result == Err(Failure::Again);
            // Who has asked may have been dropped meanwhile.
            let _ = reply.send(result);
            if again { Done::Nothing } else { done }
        }));
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Nothing => {}
            Done::Subscribed(id, filter) => {
                if let Some(member) = self.members.get_mut(&id) {
                    member.confirm(&filter);
                }
            }
            Done::Fetched(id, state) => {
                if let Some(member) = self.members.get_mut(&id) {
                    member.end_fetch(&state);
                }
            }
            Done::Welcomed(id) => {
                if let Some(member) = self.members.get_mut(&id) {
                    member.welcomed = true;
                }
            }
        }
    }

    fn arrived(&mut self, incoming: &Incoming) {
        let counted = incoming.qos != Qos::AtMostOnce;
        if counted {
            // Left over from a connection that has broken; it comes again.
            if !self.connected || self.overflowed {
                return;
            }
            if let Some(ack) = self.arrivals.seen(incoming.id, incoming.repeated) {
                return self.acknowledge(ack);
            }
        }
        let topic = std::str::from_utf8(&incoming.topic).unwrap_or_default();
        let mut found: Vec<(MemberId, u8, Vec<u8>)> = self
            .members
            .iter()
            .filter_map(|(id, member)| {
                let (tag, body) = member.message_for(topic, incoming, self.shared.settings.payload)?;
                Some((*id, tag, body))
            })
            .collect();
        let has_room = |id: &MemberId| self.members.get(id).is_some_and(Member::has_room);
        if self.shared.settings.connection == Connection::Device && counted {
            if found.iter().any(|(id, ..)| !has_room(id)) {
                self.overflowed = true;
                return;
            }
        } else {
            found.retain(|(id, tag, body)| {
                let room = has_room(id);
                if !room && let Some(member) = self.members.get(id) {
                    member.drop_message(*tag, body, "the board is too slow: too many messages wait for its outbox");
                }
                room
            });
        }
        if found.is_empty() {
            return self.acknowledge(counted.then_some(Ack { id: incoming.id, qos: incoming.qos }));
        }
        let ticket = counted.then(|| self.arrivals.insert(incoming.id, incoming.qos, found.len()));
        for (id, tag, body) in found {
            if let Some(member) = self.members.get(&id) {
                member.pass_on(ticket, tag, body);
            }
        }
    }

    fn acknowledge(&self, ack: Option<Ack>) {
        if let (Some(Ack { id, qos }), Some(requests)) = (ack, &self.requests) {
            requests.acknowledge(id, qos);
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Join { id, member } => self.joined(id, *member),
            Command::Leave { id, left } => {
                self.leave(id);
                self.leaving.extend(left);
            }
            Command::Up(id) => {
                if let Some(member) = self.members.get_mut(&id) {
                    member.up = true;
                }
            }
            Command::Down(id) => self.down(id),
            Command::Ask { id, ask, reply } => self.asked(id, ask, reply),
            Command::Forgotten => self.members.retain(|_, member| !member.is_gone()),
            Command::Stored(ticket) => {
                let ack = ticket.and_then(|ticket| self.arrivals.stored(ticket));
                self.acknowledge(ack);
                if self.overflowed && self.arrivals.all_stored() {
                    self.close();
                }
            }
        }
    }

    /// A board that has restarted goes on with what is kept for it; or its will is published now, before it
    /// says that it is back. The instance of its earlier life may not have ended yet.
    fn joined(&mut self, id: MemberId, mut member: Member) {
        let earlier = self.members.iter().find(|(_, other)| other.is_same_board(&member)).map(|(id, _)| *id);
        if let Some(earlier) = earlier {
            self.down(earlier);
            if let Some(earlier) = self.members.remove(&earlier) {
                member.inherit(earlier);
            }
        }
        self.members.insert(id, member);
    }

    fn leave(&mut self, id: MemberId) {
        self.down(id);
        let Some(member) = self.members.get_mut(&id) else { return };
        if self.shared.settings.board_down == BoardDown::Keep && !member.is_gone() {
            member.left = true;
        } else {
            let filters = member.clear();
            self.members.remove(&id);
            self.unsubscribe_from(filters);
        }
    }

    fn down(&mut self, id: MemberId) {
        let Some(member) = self.members.get_mut(&id) else { return };
        if !std::mem::replace(&mut member.up, false) || self.shared.settings.board_down == BoardDown::Keep {
            return;
        }
        let will = member.full_will();
        let filters = member.clear();
        if let Some(will) = will {
            self.publish_for_nobody(&will);
        }
        self.unsubscribe_from(filters);
    }

    /// Ends subscriptions that no other member has.
    fn unsubscribe_from(&mut self, filters: Vec<String>) {
        for filter in filters {
            if !self.is_subscribed(&filter)
                && let Some(requests) = &self.requests
            {
                self.do_for_nobody(requests.unsubscribe(&filter));
            }
        }
    }

    fn is_subscribed(&self, filter: &str) -> bool {
        self.members.values().any(|member| member.has_filter(filter))
    }
}
