//! One native engine against a driver and a peer that do anything the types allow: frames that fit
//! the moment, frames that do not, bytes, crashes, takeovers, late and repeated confirmations.
//!
//! What must hold whoever the peer is: no panic, no endless drain, cursors in order, and nothing
//! acknowledged that is not stored.

#![no_main]

use std::collections::VecDeque;

use bowline_fuzz::Choices;
use bowline_proto::Side;
use bowline_proto::native::wire::*;
use bowline_proto::native::{
    CloseReason, Config, Inbox, Item, Link, Output, Received, Room, SAVED_LEN, Session, Ticket, Transport,
};
use bowline_proto::time::{Duration, Instant};
use libfuzzer_sys::fuzz_target;

/// Links at a time: an old one, the one that takes over, and one more.
const LINKS: usize = 3;

fuzz_target!(|bytes: &[u8]| {
    let mut choices = Choices::new(bytes);
    let mut end = End::new(&mut choices);
    while !choices.is_empty() {
        end.does(&mut choices);
        end.holds();
    }
});

/// One end, its driver and what its disk has.
struct End {
    session: Session,
    links: VecDeque<Link>,
    config: Config,
    now: Instant,
    room: Room,
    /// Received and not known to be stored, oldest first.
    tickets: VecDeque<Ticket>,
    /// Given back: stored in this epoch up to here.
    stored: Option<Ticket>,
    /// Told to be processed, valid or not.
    processed: Vec<Ticket>,
    saved: Option<[u8; SAVED_LEN]>,
}

impl End {
    fn new(choices: &mut Choices<'_>) -> Self {
        let side = choices.pick(&[Side::Device, Side::Server]);
        let transport = choices.pick(&[Transport::Lossless, Transport::Lossy]);
        let inbox = choices.pick(&[Inbox::Kept, Inbox::Volatile]);
        let config = Config { inbox, ..Config::new(transport, Duration::from_millis(1_000), 300) };
        End {
            session: Session::new(side),
            links: VecDeque::new(),
            config,
            now: Instant::from_micros(1),
            room: Room { messages: 4, bytes: 400 },
            tickets: VecDeque::new(),
            stored: None,
            processed: vec![],
            saved: None,
        }
    }

    fn does(&mut self, choices: &mut Choices<'_>) {
        match choices.below(24) {
            0 => self.opens(),
            1..=9 => {
                let frame = self.frame(choices);
                self.hears(&frame, choices);
            }
            10 => self.hears(choices.bytes(40), choices),
            11 => self.session.handle_outbox(self.session.last() + choices.below(4) as u64),
            12..=13 => self.stores(choices),
            14 => self.session.handle_epoch_stored(self.session.epoch()),
            15 => self.stores_nothing(),
            16 => self.now += Duration::from_millis(choices.number().min(5_000)),
            17 => self.room = Room { messages: choices.below(6) as u64, bytes: choices.below(500) as u64 },
            18 => self.processes(choices),
            19 => self.crashes(choices),
            20 => drop(self.links.pop_front()),
            21 => {
                let blocked = choices.flag();
                self.with_link(choices, |link, _, now| link.handle_write_blocked(now, blocked));
            }
            22 => {
                let reason = choices.pick(&[CloseReason::Done, CloseReason::Revoked]);
                self.with_link(choices, |link, _, now| link.close(now, reason));
            }
            _ if choices.below(8) == 0 => self.forgets(),
            _ => self.with_link(choices, |link, _, now| link.handle_best_effort(now, true)),
        }
        self.drains(choices);
    }

    fn opens(&mut self) {
        if self.links.len() == LINKS {
            self.links.pop_front();
        }
        self.links.push_back(Link::open(&mut self.session, self.config, self.room, self.now));
    }

    fn with_link(&mut self, choices: &mut Choices<'_>, act: impl FnOnce(&mut Link, &mut Session, Instant)) {
        if !self.links.is_empty() {
            let at = choices.below(self.links.len());
            act(&mut self.links[at], &mut self.session, self.now);
        }
    }

    /// A frame whose numbers lie near those of the session, often.
    fn frame(&self, choices: &mut Choices<'_>) -> Vec<u8> {
        let session = &self.session;
        let near = |choices: &mut Choices<'_>, number: u64| match choices.below(8) {
            0 => choices.number(),
            1 => number.saturating_sub(1),
            2 => number + 1,
            3 => number + 2,
            4 => 0,
            _ => number,
        };
        let credit = Credit { messages: choices.below(5) as u64, bytes: near(choices, 300) };
        let cursors = |choices: &mut Choices<'_>| {
            let durable = near(choices, session.acked());
            let acked = near(choices, session.durable());
            Cursors {
                durable,
                received: durable.saturating_add(choices.below(3) as u64),
                acked,
                last: acked.saturating_add(choices.below(4) as u64).max(near(choices, session.received())),
            }
        };
        let channel = Channel::default();
        let payload = &[7; 255][..choices.byte().into()];
        let seq = near(choices, session.received() + 1);
        let frame = match choices.below(13) {
            0 => Frame::Hello(Hello {
                version: 1,
                features: 0,
                epoch: near(choices, session.epoch()),
                keepalive: choices.number() as u32,
                max_body: 128 + u16::from(choices.byte()),
            }),
            1 => Frame::Welcome(Welcome {
                version: 1,
                outcome: choices.pick(&[Outcome::Resumed, Outcome::New, Outcome::Forgotten, Outcome::Quarantined]),
                features: 0,
                epoch: near(choices, session.epoch()),
                keepalive: choices.number() as u32,
                max_body: 128 + u16::from(choices.byte()),
                cursors: cursors(choices),
                credit,
            }),
            2 => Frame::Start(Start { epoch: near(choices, session.epoch()), cursors: cursors(choices), credit }),
            3..=5 => Frame::Data(Data { seq: seq as u16, ask: choices.flag(), channel, payload }),
            6 => Frame::Best(Best { channel, payload }),
            7 => Frame::Gap(Gap { first: seq, last: seq.saturating_add(choices.below(4) as u64), reason: 1 }),
            8..=9 => {
                let durable = near(choices, session.acked());
                let received = near(choices, session.sent()).max(durable);
                Frame::Ack(Ack { durable, received, credit, missing: choices.flag() })
            }
            10 => Frame::Processed(near(choices, session.acked())),
            11 => Frame::Ping(choices.below(3) as u32),
            _ if choices.flag() => Frame::Pong(choices.below(3) as u32),
            _ => Frame::Close(Close { code: choices.below(14) as u8, text: "" }),
        };
        let mut buffer = [0; 600];
        // What cannot be written cannot come.
        let len = frame.emit(&mut buffer).unwrap_or(0);
        buffer[..len].to_vec()
    }

    fn hears(&mut self, body: &[u8], choices: &mut Choices<'_>) {
        if self.links.is_empty() {
            return;
        }
        let at = choices.below(self.links.len());
        let mut rest = body;
        loop {
            let (received, epoch) = (self.session.received(), self.session.epoch());
            let input = self.links[at].handle_body(&mut self.session, self.now, rest);
            rest = &rest[input.consumed..];
            match input.received {
                None => return,
                Some(Received::Message { ticket, .. }) => {
                    assert_eq!((ticket.epoch(), ticket.seq()), (epoch, received + 1), "the next one, once");
                    self.tickets.push_back(ticket);
                }
                Some(Received::Gap { ticket, count, .. }) => {
                    assert_eq!((ticket.epoch(), ticket.seq()), (epoch, received + count), "what is missing, once");
                    self.tickets.push_back(ticket);
                }
                Some(Received::NewEpoch { epoch, .. }) => {
                    assert_eq!(self.session.epoch(), epoch);
                    self.stored = None;
                    if choices.flag() {
                        self.session.handle_epoch_stored(epoch);
                    }
                }
                // What a restart has cost a volatile device counts as stored (§14.4).
                Some(Received::Resumed) => self.stored = Some(Ticket::stored(epoch, self.session.durable())),
                Some(_) => {}
            }
        }
    }

    /// The store commits, up to some message; now and then it says so again, or too late.
    fn stores(&mut self, choices: &mut Choices<'_>) {
        if self.tickets.is_empty() {
            return;
        }
        let at = choices.below(self.tickets.len());
        let ticket = self.tickets[at];
        let valid = ticket.epoch() == self.session.epoch() && ticket.seq() <= self.session.received();
        let saved = self.session.save_with(ticket);
        assert_eq!(saved.is_some(), valid);
        if let Some(saved) = saved {
            self.saved = Some(saved);
            self.stored = self.stored.filter(|stored| stored.epoch() == ticket.epoch()).max(Some(ticket));
        }
        self.session.handle_persisted(ticket);
        if choices.flag() {
            self.tickets.drain(..=at);
        }
    }

    /// Storing fails: the driver has dropped what is not durable.
    fn stores_nothing(&mut self) {
        self.tickets.clear();
        self.session.handle_storage_failed();
    }

    fn processes(&mut self, choices: &mut Choices<'_>) {
        let ticket = Ticket::stored(self.session.epoch(), choices.below(8) as u64);
        self.processed.push(ticket);
        self.session.handle_processed(ticket);
    }

    /// The process ends and goes on from what was stored, or from the session as it would be saved now.
    fn crashes(&mut self, choices: &mut Choices<'_>) {
        self.links.clear();
        self.tickets.clear();
        let side = self.session.side();
        let saved = if choices.flag() { Some(self.session.save()) } else { self.saved };
        self.session = match saved {
            Some(saved) => Session::restore(side, &saved).expect("what was saved"),
            None => Session::new(side),
        };
        self.saved = saved;
        self.stored = Some(Ticket::stored(self.session.epoch(), self.session.durable()));
    }

    fn forgets(&mut self) {
        self.tickets.clear();
        self.session.forget(self.session.last() - self.session.acked());
        self.saved = Some(self.session.save());
    }

    fn drains(&mut self, choices: &mut Choices<'_>) {
        let drops = choices.below(6) == 0;
        for at in 0..self.links.len() {
            let link = &mut self.links[at];
            link.handle_room(self.now, self.room);
            let limit = usize::from(link.peer_max_body());
            let mut turns = 0;
            loop {
                turns += 1;
                assert!(turns < 40_000, "a drain without end");
                match link.poll_output(&mut self.session, self.now) {
                    Output::Wait(at) => {
                        assert!(at > self.now, "asked to wait for the past");
                        break;
                    }
                    Output::Close(_) => break,
                    Output::Describe(seq) => {
                        assert!(seq > self.session.acked() && seq <= self.session.last(), "{seq} is not in the outbox");
                        let item = if drops && seq > self.session.sent() {
                            Item::Dropped { last: seq + 1, reason: 1 }
                        } else {
                            Item::Message { len: len(seq) }
                        };
                        link.handle_item(self.now, seq, item);
                    }
                    Output::Data { seq, .. } => {
                        assert!(seq > self.session.acked() && seq <= self.session.last(), "{seq} is not in the outbox");
                        let len = usize::try_from(len(seq)).expect("small") + usize::from(DATA_OVERHEAD);
                        assert!(len <= limit, "{len} bytes for a body of {limit}");
                    }
                    Output::BestEffort => {}
                    Output::Frame(frame) => {
                        let mut buffer = [0; MIN_BODY as usize];
                        assert!(frame.emit(&mut buffer).is_some(), "{frame:?}");
                        let epoch = self.session.epoch();
                        let stored =
                            self.stored.filter(|stored| stored.epoch() == epoch).map_or(0, |stored| stored.seq());
                        match frame {
                            // P3.
                            Frame::Ack(ack) => assert!(ack.durable <= stored, "{ack:?}, stored: {stored}"),
                            Frame::Start(start) => assert!(start.cursors.durable <= stored, "{start:?}"),
                            Frame::Processed(seq) => assert!(seq <= stored, "processed {seq}, stored: {stored}"),
                            _ => {}
                        }
                    }
                }
            }
        }
    }

    fn holds(&self) {
        let session = &self.session;
        assert!(session.acked() <= session.last(), "{session:?}");
        assert!(session.durable() <= session.received(), "{session:?}");
        let saved = session.save();
        let restored = Session::restore(session.side(), &saved).expect("what was saved");
        assert_eq!(restored.save(), saved);
    }
}

/// How long the message under a seq is: it is the same however often it is asked for.
fn len(seq: u64) -> u32 {
    (seq.wrapping_mul(37) % 400) as u32
}
