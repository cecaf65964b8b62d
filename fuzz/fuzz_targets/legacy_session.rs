//! One legacy engine against a driver and a peer that do anything: lines that fit the moment, lines
//! that do not, bytes, crashes, takeovers, saves that are confirmed late or never.
//!
//! What must hold whoever the peer is: no panic, no endless drain, no id on the wire that a restored
//! session would use for another message, nothing acknowledged that was not accepted.

#![no_main]

use std::collections::VecDeque;

use bowline_fuzz::Choices;
use bowline_proto::legacy::{Config, Kind, Link, Mark, Output, Pace, Queue, Received, Session, Ticket};
use bowline_proto::time::{Duration, Instant};
use bowline_proto::wire::{Frame, Line, LineError, MessageId, MessageRepr};
use bowline_proto::{Dialect, Side};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut choices = Choices::new(bytes);
    let mut end = End::new(&mut choices);
    while !choices.is_empty() {
        end.does(&mut choices);
    }
});

struct End {
    session: Session,
    side: Side,
    durable: bool,
    dialect: Dialect,
    link: Option<Link>,
    now: Instant,
    input: Vec<u8>,
    queue: Queue,
    /// Received and not decided on, with their ids.
    tickets: Vec<(Ticket, Option<MessageId>)>,
    /// Saves under way, oldest first, as bytes and mark.
    saves: VecDeque<(Vec<u8>, Mark)>,
    committed: Option<Vec<u8>>,
    /// Ids under which something was ever accepted.
    accepted: [bool; 256],
}

impl End {
    fn new(choices: &mut Choices<'_>) -> Self {
        let side = choices.pick(&[Side::Device, Side::Server]);
        let durable = choices.flag();
        let dialect = choices.pick(&[Dialect::Headers, Dialect::Upstream, Dialect::Plain]);
        End {
            session: if durable { Session::durable(side) } else { Session::new(side) },
            side,
            durable,
            dialect,
            link: None,
            now: Instant::from_micros(1),
            input: vec![],
            queue: Queue::default(),
            tickets: vec![],
            saves: VecDeque::new(),
            committed: None,
            accepted: [false; 256],
        }
    }

    fn does(&mut self, choices: &mut Choices<'_>) {
        match choices.below(20) {
            0 => self.opens(choices),
            1..=6 => {
                let line = self.line(choices);
                self.hears(&line, choices);
            }
            7 => self.hears(choices.bytes(24), choices),
            8..=9 => self.decides(choices),
            10 => self.queue = Queue { qos: choices.flag(), best_effort: choices.flag() },
            11 => self.now += Duration::from_millis(choices.number().min(5_000)),
            12..=13 => self.saves(),
            14 => self.commits(choices),
            15 => self.crashes(choices),
            16 => self.link = None,
            17 => drop(self.session.reserve()),
            18 => {
                let blocked = choices.flag();
                if let Some(link) = &mut self.link {
                    link.handle_write_blocked(self.now, blocked);
                }
            }
            _ => {
                if let Some(link) = &mut self.link {
                    link.handle_read_paused(self.now, choices.flag());
                }
            }
        }
        self.drains();
    }

    fn opens(&mut self, choices: &mut Choices<'_>) {
        if choices.below(16) == 0 {
            self.dialect = choices.pick(&[Dialect::Headers, Dialect::Upstream, Dialect::Plain]);
        }
        let pace = choices.pick(&[Pace::OFF, Pace { burst: 2, interval: Duration::from_millis(3) }]);
        let config = Config { pace, settle: Duration::ZERO, ..Config::new(self.side, Duration::from_millis(500)) };
        self.link = Some(Link::open(&mut self.session, self.dialect, config, self.now));
        self.input.clear();
    }

    /// A line whose id lies near what has been, often.
    fn line(&self, choices: &mut Choices<'_>) -> Vec<u8> {
        let id = match (choices.below(3), self.session.in_flight()) {
            (0, Some(id)) => id,
            _ => MessageId::new(choices.byte()),
        };
        let repr = MessageRepr { qos: choices.flag(), header: &[], payload: choices.pick(&[b"on", b"of"]) };
        let frame = match choices.below(4) {
            0 => Frame::Ack(id),
            1 => Frame::Keepalive,
            _ => Frame::Message(id, repr),
        };
        let mut line = vec![0; frame.len(self.dialect)];
        let len = frame.emit(self.dialect, &mut line).expect("room");
        line.truncate(len);
        line
    }

    fn hears(&mut self, bytes: &[u8], choices: &mut Choices<'_>) {
        let Some(link) = &mut self.link else { return };
        self.input.extend_from_slice(bytes);
        link.handle_heard(self.now);
        let buffer = std::mem::take(&mut self.input);
        let mut rest = &buffer[..];
        loop {
            let input = link.handle_input(&mut self.session, self.now, rest);
            let (line, behind) = rest.split_at(input.consumed);
            let line = line.strip_suffix(b"\n").unwrap_or_default();
            rest = behind;
            let ticket = match input.received {
                None => break,
                Some(Received::Message(incoming)) => incoming.ticket,
                Some(Received::Undecodable { ticket, .. }) => ticket,
                Some(_) => continue,
            };
            let id = match Line::parse(self.dialect, line) {
                Ok(Line::Message(view)) => view.id,
                Err(LineError::Undecodable { id, .. }) => id,
                other => panic!("{other:?} came with a ticket"),
            };
            if choices.flag() {
                self.tickets.push((ticket, id));
            } else {
                id.inspect(|id| self.accepted[usize::from(id.number())] = true);
                link.handle_accepted(&mut self.session, self.now, ticket);
            }
        }
        self.input = rest.to_vec();
    }

    fn decides(&mut self, choices: &mut Choices<'_>) {
        if self.tickets.is_empty() {
            return;
        }
        let (ticket, id) = self.tickets.remove(choices.below(self.tickets.len()));
        let refuse = choices.below(4);
        if refuse > 0 {
            id.inspect(|id| self.accepted[usize::from(id.number())] = true);
        }
        match (&mut self.link, refuse) {
            (Some(link), 0) => link.handle_refused(&mut self.session, self.now, ticket),
            (None, 0) => self.session.refused(ticket),
            (Some(link), _) => link.handle_accepted(&mut self.session, self.now, ticket),
            (None, _) => drop(self.session.accepted(ticket)),
        }
    }

    fn saves(&mut self) {
        if self.durable && self.saves.len() < 4 {
            // A session restored from it has accepted them, whatever becomes of the tickets here.
            for id in self.tickets.iter().filter_map(|(_, id)| *id) {
                self.accepted[usize::from(id.number())] = true;
            }
            let saved = self.session.save_with(self.tickets.iter().map(|(ticket, _)| ticket));
            self.saves.push_back((saved.as_bytes().to_vec(), saved.mark()));
        }
    }

    fn commits(&mut self, choices: &mut Choices<'_>) {
        let Some((saved, mark)) = self.saves.pop_front() else { return };
        self.committed = Some(saved);
        if !choices.flag() {
            self.session.handle_saved(mark);
        }
    }

    fn crashes(&mut self, choices: &mut Choices<'_>) {
        self.link = None;
        self.input.clear();
        self.tickets.clear();
        // The newest that was on its way may still have got there.
        if choices.flag()
            && let Some((saved, _)) = self.saves.pop_back()
        {
            self.committed = Some(saved);
        }
        self.saves.clear();
        self.session = match (&self.committed, self.durable) {
            (Some(saved), true) => Session::restore(self.side, saved).expect("what was saved"),
            (_, true) => Session::durable(self.side),
            (_, false) => Session::new(self.side),
        };
    }

    fn drains(&mut self) {
        let Some(link) = &mut self.link else { return };
        let mut turns = 0;
        let mut queue = self.queue;
        loop {
            turns += 1;
            assert!(turns < 2_000, "a drain without end");
            link.handle_queue(self.now, queue);
            let before = self.session.in_flight();
            match link.poll_output(&mut self.session, self.now) {
                Output::Wait(at) => {
                    assert!(at > self.now, "asked to wait for the past");
                    return;
                }
                Output::Close(_) => return,
                Output::Message(id, Kind::Resend) => assert_eq!(before, Some(id), "another message was in flight"),
                Output::Message(id, Kind::Qos) => {
                    if self.dialect != Dialect::Plain {
                        assert_eq!(self.session.in_flight(), Some(id));
                        if self.durable {
                            // A process that starts from the newest committed save knows of it (§6.2).
                            let saved = self.committed.as_ref().expect("stored before it is sent");
                            let restored = Session::restore(self.side, saved).expect("what was saved");
                            assert_eq!(restored.in_flight(), Some(id), "sent and not stored");
                        }
                    }
                    link.handle_written(&mut self.session, self.now);
                    // On P it has left the queue.
                    queue.qos = self.dialect != Dialect::Plain;
                }
                Output::Message(_, Kind::BestEffort) => queue.best_effort = false,
                Output::Ack(id) => assert!(self.accepted[usize::from(id.number())], "{id:?} was never accepted"),
                Output::Login | Output::Keepalive => {}
            }
        }
    }
}
