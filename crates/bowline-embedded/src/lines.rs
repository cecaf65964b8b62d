//! Dialect H, for servers that do not speak N: lines of text, acknowledged one at a time, without keys.
//!
//! ```
//! use bowline_embedded::lines::{self, Text};
//! use bowline_embedded::{Address, Config, DeviceId, RamOutbox, Resources, Slot, buffer_for, inbox_for};
//! use embassy_futures::join::join;
//! use embedded_nal_async::TcpConnect;
//!
//! type Memory<'a> = Resources<Text<RamOutbox<'a>>, 4, { inbox_for(4, 4 * 256) }, { buffer_for(256) }>;
//!
//! async fn board(network: impl TcpConnect, random: impl FnMut(&mut [u8])) {
//!     let (mut slots, mut bytes) = ([Slot::EMPTY; 4], [0; 4 * 256]);
//!     let outbox = Text(RamOutbox::new(&mut slots, &mut bytes, 256));
//!     let mut memory = Memory::new();
//!     let config = Config::new(DeviceId::new("garden").unwrap(), "192.168.0.41:9999".parse().unwrap());
//!     let (client, mut runner) = lines::new(&mut memory, outbox, config, random).unwrap();
//!     let application = async { client.send(Address { app: 5, instance: 0, tag: 0 }, b"21.5").await };
//!     join(runner.run(&network), application).await;
//! }
//! ```
//!
//! All else is as on N, but for this:
//!
//! - Payloads are text without newlines ([`Text`]). A message's channel is its header; that without one is `ff ff ff`, both ways.
//! - One message is on its way at a time: on a slow network N is many times faster.
//! - With an outbox on flash a power cut neither loses an accepted message nor repeats one, as long as both ends are what they
//!   were: ids have 8 bits, and are told from the outbox ([`Text`]), so that none has to be stored beside it.
//! - What the server has sent and the application has not taken comes again after a power cut, and so does what was taken in the moment
//!   before. Its [id](crate::Received::id) counts what has come since the start of the board.
//! - Best-effort messages of the server are received like others while there is room, and lost when there is none
//!   ([`Client::refused`](crate::Client::refused)).
//! - [`Client::counters`](crate::Client::counters) has `received`, `duplicates`, `sent`, `resent`, `acked`, `links`, `best_received` and `gaps_sent`, which are
//!   messages that could not be read any more, or were no text.
//!
//! A board that goes from one dialect to the other with the same outbox is another program for the server: what it had in flight
//! may arrive twice.

mod place;
mod pump;
mod text;

use core::convert::Infallible;

use bowline_flash::WriteError;
use bowline_proto::legacy::{Config as Times, Link, Session, Ticket};
use bowline_proto::native::{Counters, Item};
use bowline_proto::time::Duration;
use bowline_proto::wire::login;
use bowline_proto::{Dialect, Side};
use embassy_time::with_timeout;
use embedded_nal_async::TcpConnect;

pub use text::Text;

use crate::shared::{Begin, Shared};
use crate::speaker::{SHORTEST_ATTEMPT, Speaker, connected};
use crate::{Config, ConfigError, DownReason, Halves, Outbox, Resources, Runner, Security, clock};

/// Messages that have come and wait to be taken, as far as the engine follows.
const WAITING: usize = 16;
/// Bytes of a message's line beside its payload: id, length of the header, flags, header, newline.
const OVERHEAD: usize = 2 + 2 + 2 + 6 + 1;

/// As [`new`](crate::new), for a server on dialect H.
///
/// # Errors
/// If a setting makes no sense; if there is a key, for H has none.
pub fn new<'a, O: Outbox, R: FnMut(&mut [u8]), const MESSAGES: usize, const INBOX: usize, const BUFFER: usize>(
    resources: &'a mut Resources<Text<O>, MESSAGES, INBOX, BUFFER>,
    outbox: Text<O>,
    config: Config<'a>,
    random: R,
) -> Result<Halves<'a, Text<O>, R, Headers>, ConfigError> {
    config.check_times()?;
    if !matches!(config.security, Security::Open) {
        return Err(ConfigError::Keys);
    }
    let headers = Headers::goes_on(&outbox);
    let begin = Begin { epoch: 0, sent: headers.flying.unwrap_or(0), received: 0 };
    let buffer = (outbox.max_payload() + OVERHEAD).max(login::MAX_LINE + 1);
    crate::assemble(resources, outbox, config, random, headers, begin, buffer)
}

/// Dialect H.
#[derive(Debug)]
pub struct Headers {
    session: Session,
    /// The outbox's message whose id the engine knows, and that is not acknowledged.
    flying: Option<u64>,
    /// Acknowledged up to here; the outbox may not know yet.
    acked: u64,
    /// Messages that have come, ever.
    arrived: u64,
    /// Those that were not taken, in order: they are acknowledged when they are.
    tickets: [Option<(u64, Ticket)>; WAITING],
    /// As far as the engine does not count them.
    counted: Counters,
}

impl Headers {
    /// Where the last life has ended, if that was on H as well.
    fn goes_on<O: Outbox>(outbox: &O) -> Self {
        let is_other = outbox.epoch() != 0;
        let acked = if is_other { 0 } else { outbox.acked() };
        let flying = if is_other { None } else { first(outbox) };
        let session = if acked == 0 && flying.is_none() {
            Session::new(Side::Device)
        } else {
            // What is first may have been sent.
            let next = place::Place::of(flying.unwrap_or(outbox.last() + 1), acked, outbox.received()).id();
            let (next, flying) = if flying.is_some() { (next.next(), Some(next)) } else { (next, None) };
            Session::continued(Side::Device, Dialect::Headers, next, flying)
        };
        Headers { session, flying, acked, arrived: 0, tickets: [const { None }; WAITING], counted: Counters::default() }
    }

    /// The message in flight cannot be sent any more. The link is to end.
    fn gives_up(&mut self) {
        self.session.give_up();
        self.acked = self.flying.take().unwrap_or(self.acked);
        self.counted.gaps_sent += 1;
    }

    fn counters(&self) -> Counters {
        let lines = self.session.counters();
        Counters {
            received: lines.accepted.saturating_sub(self.counted.best_received),
            duplicates: lines.duplicates,
            sent: lines.sent,
            resent: lines.resent,
            acked: lines.acked,
            ..self.counted
        }
    }

    /// The message in the outbox that is next, if there is one; with its place known to the outbox.
    async fn next<O: Outbox>(&self, outbox: &mut O) -> Result<Option<u64>, WriteError<O::Error>> {
        let Some(head) = self.flying.or_else(|| first(outbox)) else { return Ok(None) };
        let place = place::Place::of(head, outbox.acked(), outbox.received());
        if let Some(note) = place.note() {
            outbox.set_received(note).await?;
        }
        Ok(Some(head))
    }

    /// Brings session and outbox together. It goes by what they say, so one that was dropped or has failed is made good by the next.
    async fn settles<O: Outbox>(&mut self, shared: &Shared<O>, outbox: &mut O) -> Result<(), WriteError<O::Error>> {
        if outbox.epoch() != 0 {
            // Those of another dialect. H is what comes before the first one.
            outbox.begin_epoch(0).await?;
            *self = Headers::goes_on(outbox);
            shared.sent.set(self.flying.unwrap_or(0));
        }
        if outbox.acked() < self.acked {
            outbox.acknowledge(self.acked).await?;
            shared.notify_room();
        }
        shared.expires(outbox).await
    }
}

/// The first message that waits.
fn first<O: Outbox>(outbox: &O) -> Option<u64> {
    let mut seq = outbox.acked() + 1;
    loop {
        match outbox.item(seq)? {
            Item::Message { .. } => return Some(seq),
            Item::Dropped { last, .. } => seq = last + 1,
        }
    }
}

impl<O: Outbox> Speaker<O> for Headers {
    async fn link<N: TcpConnect, R: FnMut(&mut [u8])>(runner: &mut Runner<'_, O, R, Self>, tcp: &N) -> DownReason {
        let Runner { shared, speaker, input, output, config, .. } = runner;
        shared.is_due_in(Duration::ZERO);
        if speaker.settles(shared, &mut *shared.outbox.lock().await).await.is_err() {
            return DownReason::Storage;
        }
        let span = clock::span(config.timeout);
        let patience = span.max(SHORTEST_ATTEMPT);
        shared.is_due_in(patience.scaled(2, 1));
        let mut connection = match connected(with_timeout(clock::wait(patience), tcp.connect(config.server)).await) {
            Ok(connection) => connection,
            Err(reason) => return reason,
        };
        let times = Times::new(Side::Device, span);
        let times = Times { line_limit: input.len().saturating_sub(1), ..times };
        let link = Link::open(&mut speaker.session, Dialect::Headers, times, clock::now());
        speaker.counted.links += 1;
        let every = times.keepalive.scaled(1, 2);
        match pump::Pump::new(shared, speaker, link, config.id, input, output, every).run(&mut connection).await {
            Ok(never) => match never {},
            Err(reason) => reason,
        }
    }
}

/// A link ends with a reason.
type Ends = Result<Infallible, DownReason>;
