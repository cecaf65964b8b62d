//! The core: bytes and meaning, and the native engine with both its ends.

use std::hint::black_box;

use bowline_proto::Side;
use bowline_proto::native::wire::{Channel, Data, Frame, MAX_BODY};
use bowline_proto::native::{Config, Item, Link, Output, Received, Room, Session, Transport};
use bowline_proto::time::{Duration, Instant};
use bowline_proto::wire::LineScanner;

use crate::{BATCH, PAYLOAD, case};

const ROOM: Room = Room { messages: 256, bytes: 256 * 1024 };

pub(crate) fn cases() {
    let frame = Frame::Data(Data { seq: 7, ask: true, channel: Channel::default(), payload: &PAYLOAD });
    let mut body = [0; 512];
    case(
        "emit a message",
        || (),
        |()| frame.emit(black_box(&mut body)).expect("room"),
        |len| {
            assert!(len > PAYLOAD.len());
        },
    );
    case(
        "parse a message",
        || (),
        |()| Frame::parse(black_box(&body)).map(|parsed| parsed.len),
        |len| {
            assert!(len.expect("what was just emitted") > PAYLOAD.len());
        },
    );
    let mut line = vec![b'x'; 256];
    line.push(b'\n');
    case(
        "find a line",
        || LineScanner::new(1024),
        |mut scanner| scanner.next(black_box(&line)).map(|line| line.map(<[u8]>::len)),
        |len| {
            assert_eq!(len, Ok(Some(256)));
        },
    );

    let mut pair = Pair::new();
    case(
        "engine: send, take and acknowledge 16 messages",
        || (),
        |()| pair.exchange(BATCH),
        |acked| {
            assert!(acked > 0);
        },
    );
    case(
        "engine: a new link resumes the session",
        || (),
        |()| pair.connect(),
        |up| {
            assert!(up);
        },
    );
}

/// A device's engine and a server's, which hand each other what they write.
struct Pair {
    ends: [End; 2],
    now: Instant,
}

struct End {
    session: Session,
    link: Link,
}

impl Pair {
    fn new() -> Self {
        let now = Instant::ZERO;
        let mut pair = Pair { ends: [End::new(Side::Device, now), End::new(Side::Server, now)], now };
        assert!(pair.connect());
        pair
    }

    /// New links for the same sessions.
    fn connect(&mut self) -> bool {
        for end in &mut self.ends {
            end.link = Link::open(&mut end.session, config(), ROOM, self.now);
        }
        self.settle();
        self.ends.iter().all(|end| end.link.is_up())
    }

    /// The device sends so many messages. Says up to which one they are acknowledged; all must be.
    fn exchange(&mut self, count: u64) -> u64 {
        let last = self.ends[0].session.last() + count;
        self.ends[0].session.handle_outbox(last);
        self.settle();
        let acked = self.ends[0].session.acked();
        assert_eq!(acked, last);
        acked
    }

    /// Until neither has anything to say.
    fn settle(&mut self) {
        let mut body = [0; 8192];
        loop {
            let mut quiet = true;
            for side in 0..2 {
                let len = self.ends[side].drain(self.now, &mut body);
                if len > 0 {
                    quiet = false;
                    self.ends[1 - side].take_in(self.now, &body[..len]);
                }
            }
            if quiet {
                // An acknowledgement may wait for others.
                let wait = self.ends.iter_mut().any(|end| end.session.received() > end.session.durable());
                assert!(!wait, "everything was stored");
                if self.ends[0].session.acked() == self.ends[0].session.last() {
                    return;
                }
                self.now += Duration::from_millis(1);
            }
        }
    }
}

impl End {
    fn new(side: Side, now: Instant) -> Self {
        let mut session = Session::new(side);
        let link = Link::open(&mut session, config(), ROOM, now);
        End { session, link }
    }

    fn drain(&mut self, now: Instant, body: &mut [u8]) -> usize {
        self.link.handle_room(now, ROOM);
        let mut len = 0;
        loop {
            let frame = match self.link.poll_output(&mut self.session, now) {
                Output::Frame(frame) => frame,
                Output::Describe(seq) => {
                    self.link.handle_item(now, seq, Item::Message { len: PAYLOAD.len() as u32 });
                    continue;
                }
                Output::Data { seq, ask } => {
                    Frame::Data(Data { seq: seq as u16, ask, channel: Channel::default(), payload: &PAYLOAD })
                }
                Output::BestEffort => continue,
                Output::Wait(_) => return len,
                Output::Close(reason) => panic!("{reason}"),
            };
            len += frame.emit(&mut body[len..]).expect("room");
        }
    }

    fn take_in(&mut self, now: Instant, mut body: &[u8]) {
        loop {
            let input = self.link.handle_body(&mut self.session, now, body);
            body = &body[input.consumed..];
            match input.received {
                None => return,
                Some(Received::Message { ticket, .. }) => {
                    self.session.handle_persisted(ticket);
                    self.session.handle_processed(ticket);
                }
                Some(Received::NewEpoch { epoch, .. }) => self.session.handle_epoch_stored(epoch),
                Some(_) => {}
            }
        }
    }
}

fn config() -> Config {
    Config::new(Transport::Lossless, Duration::from_millis(60_000), MAX_BODY)
}
