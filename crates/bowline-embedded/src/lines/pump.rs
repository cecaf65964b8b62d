//! One link on H: between the engine, the queues and the connection.

use core::task::Poll;

use bowline_flash::ReadError;
use bowline_proto::legacy::{Incoming, Link, Output, Queue, Received, Ticket};
use bowline_proto::native::Item;
use bowline_proto::native::wire::Channel;
use bowline_proto::time::{Duration, Instant};
use bowline_proto::wire::login::Login;
use bowline_proto::wire::{Frame, HexBytes, MessageId, MessageRepr};
use bowline_proto::{DeviceId, Dialect};
use embassy_futures::poll_once;
use embassy_futures::select::{Either, Either3, select, select3};
use embedded_io_async::{Error as _, ErrorKind, Read, Write};

use super::{Ends, Headers, OVERHEAD, text};
use crate::shared::{Shared, count};
use crate::wire::Wire;
use crate::{DownReason, Outbox, clock};

/// What has no header travels on it.
const NO_HEADER: Channel = Channel { app: 0xff, instance: 0xff, tag: 0xff };
/// As many as the engine gives out between two waits.
const ACKS: usize = 32;

pub(super) struct Pump<'p, 'i, O> {
    shared: &'p Shared<O>,
    own: &'p mut Headers,
    link: Link,
    id: DeviceId<'i>,
    input: Wire<'p>,
    output: Lines<'p>,
    due: Due,
    /// When the last heartbeat was, and how long after it the next may be.
    beat: Instant,
    every: Duration,
}

/// What the engine has given out, and was not put into the output for want of room.
#[derive(Debug, Default)]
struct Due {
    login: bool,
    keepalive: bool,
    acks: [u8; ACKS],
    len: usize,
    message: Option<MessageId>,
}

/// Lines on their way out.
struct Lines<'p> {
    bytes: &'p mut [u8],
    len: usize,
    written: usize,
}

impl Lines<'_> {
    fn unwritten(&self) -> &[u8] {
        self.bytes.get(self.written..self.len).unwrap_or_default()
    }

    /// False if there is no room before more is written.
    fn put(&mut self, frame: &Frame<'_>) -> bool {
        let put = self.bytes.get_mut(self.len..).and_then(|place| frame.emit(Dialect::Headers, place));
        self.len += put.unwrap_or(0);
        put.is_some()
    }
}

impl<'p, 'i, O: Outbox> Pump<'p, 'i, O> {
    pub(super) fn new(
        shared: &'p Shared<O>,
        own: &'p mut Headers,
        link: Link,
        id: DeviceId<'i>,
        input: &'p mut [u8],
        output: &'p mut [u8],
        every: Duration,
    ) -> Self {
        let output = Lines { bytes: output, len: 0, written: 0 };
        let input = Wire::new(input, &mut []);
        Pump { shared, own, link, id, input, output, due: Due::default(), beat: Instant::ZERO, every }
    }

    /// Drives the link until it is over. Each turn has one time, and ends with the engine drained.
    pub(super) async fn run<C: Read + Write>(&mut self, connection: &mut C) -> Ends {
        let mut now = clock::now();
        loop {
            let wait = self.turn(now).await;
            self.shared.counters.set(self.own.counters());
            if self.link.is_up() {
                self.shared.comes_up(None);
            }
            let wait = wait?;
            if !self.output.unwritten().is_empty() {
                now = self.write(connection).await?;
                // On a slow connection there may always be something to write: what comes meanwhile does not wait for that.
                if let Poll::Ready(read) = poll_once(self.input.fill(connection)) {
                    read?;
                    self.has_read(now);
                }
                continue;
            }
            self.shared.due.set(wait);
            let event = select3(self.input.fill(connection), self.shared.work.wait(), clock::at(wait)).await;
            now = clock::now();
            match event {
                Either3::First(read) => {
                    read?;
                    self.has_read(now);
                }
                Either3::Second(()) | Either3::Third(()) => self.link.handle_timeout(now),
            }
        }
    }

    fn has_read(&mut self, now: Instant) {
        self.link.handle_heard(now);
        loop {
            let Pump { shared, own, link, input, .. } = self;
            let found = link.handle_input(&mut own.session, now, input.input());
            let consumed = found.consumed;
            let Some(received) = found.received else { break };
            own.takes_in(shared, link, now, received);
            input.consume(consumed);
        }
        if self.link.is_up() && now.since(self.beat) >= self.every {
            self.beat = now;
            self.shared.beat();
        }
    }

    /// Settles the outbox, and drains the engine. When to come back, or why the link is over.
    async fn turn(&mut self, now: Instant) -> Result<Instant, DownReason> {
        let Pump { shared, own, link, due, .. } = self;
        let mut outbox = shared.outbox.lock().await;
        let head = async {
            own.settles(shared, &mut *outbox).await?;
            own.next(&mut *outbox).await
        };
        let head = head.await.map_err(|_| DownReason::Storage)?;
        own.acknowledges_taken(shared, link, now);
        let wait = loop {
            // One at a time: what follows it is known when that is settled.
            link.handle_queue(now, Queue { qos: head.is_some(), best_effort: false });
            match link.poll_output(&mut own.session, now) {
                Output::Login => due.login = true,
                Output::Keepalive => due.keepalive = true,
                Output::Ack(id) => {
                    // What finds no room here is not acknowledged, and comes again.
                    if let Some(place) = due.acks.get_mut(due.len) {
                        *place = id.number();
                        due.len += 1;
                    }
                }
                Output::Message(id, _) => {
                    due.message = Some(id);
                    own.flying = head;
                    shared.sent.set(head.unwrap_or(0));
                }
                Output::Wait(at) => break at,
                Output::Close(reason) => return Err(DownReason::Line(reason)),
            }
        };
        self.puts(&mut *outbox).await?;
        Ok(wait)
    }

    /// Puts what is due into the output, as far as there is room.
    async fn puts(&mut self, outbox: &mut O) -> Result<(), DownReason> {
        let Pump { own, id, output, due, .. } = self;
        if due.login {
            let login = Login { dialect: Dialect::Headers, id: *id };
            let put = output.bytes.get_mut(output.len..).and_then(|place| login.emit(place));
            output.len += put.unwrap_or(0);
            due.login = put.is_none();
        }
        while let Some(ack) = due.acks.get(..due.len).and_then(|acks| acks.first())
            && output.put(&Frame::Ack(MessageId::new(*ack)))
        {
            due.acks.rotate_left(1);
            due.len -= 1;
        }
        // What was to go again may have been acknowledged before there was room.
        due.message = due.message.filter(|_| own.flying.is_some());
        if let (Some(message), Some(seq)) = (due.message, own.flying) {
            let room = output.bytes.get_mut(output.len..).unwrap_or_default();
            let needed = match outbox.item(seq) {
                Some(Item::Message { len }) => len as usize + OVERHEAD,
                _ => 0,
            };
            if needed > room.len() && output.len > 0 {
                return Ok(());
            }
            match reads_line(outbox, seq, message, room).await {
                Ok(len) => output.len += len,
                Err(error) => {
                    if error == Unsent::Lost {
                        own.gives_up();
                    }
                    return Err(DownReason::Storage);
                }
            }
            due.message = None;
        }
        if due.keepalive {
            // Anything else is as good a sign of life.
            due.keepalive = output.len == 0 && !output.put(&Frame::Keepalive);
        }
        Ok(())
    }

    /// Writes what there is. What it returns is the time of the next turn.
    async fn write<C: Write>(&mut self, connection: &mut C) -> Result<Instant, DownReason> {
        let mut now = clock::now();
        self.link.handle_write_blocked(now, true);
        while !self.output.unwritten().is_empty() {
            let until = self.blocked_until(now)?;
            self.shared.due.set(until);
            let wrote = select(connection.write(self.output.unwritten()), clock::at(until)).await;
            now = clock::now();
            match wrote {
                Either::First(Ok(0)) => return Err(DownReason::Transport(ErrorKind::WriteZero)),
                Either::First(Ok(count)) => {
                    self.output.written += count;
                    self.link.handle_write_blocked(now, true);
                }
                Either::First(Err(error)) => return Err(DownReason::Transport(error.kind())),
                // The engine gives it up.
                Either::Second(()) => self.link.handle_timeout(now),
            }
        }
        (self.output.len, self.output.written) = (0, 0);
        self.link.handle_write_blocked(now, false);
        Ok(now)
    }

    /// Until when the connection may take no bytes.
    fn blocked_until(&mut self, now: Instant) -> Result<Instant, DownReason> {
        // Nothing new goes out meanwhile.
        self.link.handle_queue(now, Queue::default());
        loop {
            match self.link.poll_output(&mut self.own.session, now) {
                Output::Wait(at) => return Ok(at),
                Output::Close(reason) => return Err(DownReason::Line(reason)),
                // All that was due is: what is acknowledged or sent again waits for this to be written.
                _ => {}
            }
        }
    }
}

impl Headers {
    fn takes_in<O: Outbox>(&mut self, shared: &Shared<O>, link: &mut Link, now: Instant, received: Received<'_>) {
        match received {
            Received::Message(Incoming { ticket, qos, header, payload }) => {
                let Some(channel) = channel(header) else {
                    // Of a server that has other headers than ours: there is nobody whom it could be for.
                    count(&shared.refused);
                    return link.handle_accepted(&mut self.session, now, ticket);
                };
                let late = shared.is_late(channel);
                let place = self.tickets.iter_mut().find(|place| place.is_none());
                let seq = self.arrived + 1;
                let pushed = !late
                    && (!qos || place.is_some())
                    && shared.inbox(|inbox| inbox.push(seq, channel, payload.as_bytes()));
                if pushed {
                    self.arrived = seq;
                    shared.receivers.wake();
                }
                match place {
                    Some(place) if pushed && qos => *place = Some((seq, ticket)),
                    _ if late || pushed => {
                        if late {
                            count(&shared.late);
                        }
                        self.counted.best_received += u64::from(!qos);
                        link.handle_accepted(&mut self.session, now, ticket);
                    }
                    _ => {
                        if !qos {
                            count(&shared.refused);
                        }
                        link.handle_refused(&mut self.session, now, ticket);
                    }
                }
            }
            Received::Undecodable { ticket, .. } => {
                count(&shared.refused);
                link.handle_accepted(&mut self.session, now, ticket);
            }
            Received::Acked(_) => self.acked = self.flying.take().unwrap_or(self.acked),
            Received::Keepalive | Received::Malformed(_) | Received::Handled => {}
        }
    }

    /// Taken is handled.
    fn acknowledges_taken<O: Outbox>(&mut self, shared: &Shared<O>, link: &mut Link, now: Instant) {
        let taken = shared.inbox(|inbox| inbox.taken());
        let number = |place: &Option<(u64, Ticket)>| place.as_ref().map_or(u64::MAX, |(seq, _)| *seq);
        while let Some(first) = self.tickets.iter_mut().min_by_key(|place| number(place))
            && let Some((_, ticket)) = first.take_if(|(seq, _)| *seq <= taken)
        {
            link.handle_accepted(&mut self.session, now, ticket);
        }
    }
}

/// Where a message belongs by its header; `None` if it is none of ours.
fn channel(header: HexBytes<'_>) -> Option<Channel> {
    let mut bytes = header.bytes();
    match (bytes.next(), bytes.next(), bytes.next(), bytes.next()) {
        (None, ..) => Some(NO_HEADER),
        (Some(app), Some(instance), Some(tag), None) => Some(Channel { app, instance, tag }),
        _ => None,
    }
}

/// Why there is no line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unsent {
    /// The flash cannot be read.
    Flash,
    /// The message has rotted, or is what another dialect has left: no text, or too long. There is no way to say so on H.
    Lost,
}

/// Reads a message as a line with this id into `place`, and says how many bytes it takes.
async fn reads_line<O: Outbox>(outbox: &mut O, seq: u64, id: MessageId, place: &mut [u8]) -> Result<usize, Unsent> {
    let (front, rest) = place.split_at_mut_checked(OVERHEAD - 1).ok_or(Unsent::Lost)?;
    let room = rest.len().checked_sub(1).and_then(|limit| rest.get_mut(..limit)).ok_or(Unsent::Lost)?;
    let read = outbox.read(seq, room).await.map_err(|error| match error {
        ReadError::Write(_) => Unsent::Flash,
        _ => Unsent::Lost,
    })?;
    let (channel, len) = (read.channel, read.payload.len());
    text::check::<()>(read.payload).map_err(|_| Unsent::Lost)?;
    let header = [channel.app, channel.instance, channel.tag];
    let header = if channel == NO_HEADER { &[][..] } else { &header[..] };
    // An empty message has its newline where the payload begins.
    let mut line = [0; OVERHEAD];
    let repr = MessageRepr { qos: true, header, payload: &[] };
    let head = Frame::Message(id, repr).emit(Dialect::Headers, &mut line).unwrap_or(1) - 1;
    if let (Some(to), Some(from)) = (front.get_mut(..head), line.get(..head)) {
        to.copy_from_slice(from);
    }
    if header.is_empty() {
        place.copy_within(OVERHEAD - 1..OVERHEAD - 1 + len, head);
    }
    *place.get_mut(head + len).ok_or(Unsent::Lost)? = b'\n';
    Ok(head + len + 1)
}
