//! A durable server and a board that runs the reference, with its map of 256 bits (§6.2): what the
//! board acknowledges it has delivered, however often the server crashes and whatever is lost.

use std::collections::VecDeque;

use bowline_proto::legacy::{Config, Kind, Link, Output, Pace, Queue, Received, Saved, Session};
use bowline_proto::time::{Duration, Instant};
use bowline_proto::wire::{Frame, MessageId};
use bowline_proto::{Dialect, Side};

use crate::common::rng::Rng;
use crate::random::{Trouble, run_seeds};

/// Steps of one run: enough for the ids to come round several times.
const STEPS: u32 = 8_000;

#[test]
fn a_board_with_the_reference_loses_nothing_it_acknowledges() {
    let seen = run_seeds("board", |seed, verbose| {
        let dialect = if seed.is_multiple_of(2) { Dialect::Headers } else { Dialect::Upstream };
        Run::new(dialect, Rng::new(seed), verbose).goes()
    });
    if let Some((trouble, seeds)) = seen {
        let Trouble { resent, crashes, commits, failures, .. } = trouble;
        assert!(
            crashes.min(failures) > 10 * seeds && commits.min(resent) > 100 * seeds,
            "too little trouble: {trouble:?}"
        );
    }
}

/// How the reference remembers ids: a bit for each, and a byte of them is forgotten when the byte half
/// a lap away is seen.
struct Board {
    seen: [u8; 32],
    /// Numbers of the qos messages delivered.
    delivered: Vec<usize>,
}

impl Board {
    fn hears(&mut self, id: MessageId, number: Option<usize>) {
        let id = usize::from(id.number());
        if id == 0 {
            self.seen = [0; 32];
        }
        let (byte, bit) = (id / 8, 1 << (id % 8));
        let new = self.seen[byte] & bit == 0;
        self.seen[byte] |= bit;
        self.seen[(byte + 16) % 32] = 0;
        let Some(number) = number else { return };
        if new {
            // A resend of id 0 is taken for a restart: that cannot be helped.
            let expected = self.delivered.last().map_or(0, |last| last + 1);
            assert!(number == expected || number == 0 && expected == 1, "{number} instead of {expected}, id {id:02x}");
            self.delivered.push(number);
        }
        assert!(self.delivered.contains(&number), "{number} is acknowledged and not delivered, id {id:02x}");
    }
}

/// What a save has, and what is committed.
struct Stored {
    saved: Saved,
    acked: usize,
}

struct Run {
    rng: Rng,
    verbose: bool,
    dialect: Dialect,
    now: Instant,
    board: Board,
    session: Session,
    link: Option<Link>,
    /// What is sent on this link goes nowhere.
    dead: bool,
    /// Acknowledgements on their way to the server.
    acks: VecDeque<MessageId>,
    /// Qos messages are numbers; so many were queued, and so many are known to be acknowledged.
    queued: usize,
    acked: usize,
    best_effort: usize,
    under_way: VecDeque<Stored>,
    committed: Option<Stored>,
    trouble: Trouble,
}

impl Run {
    fn new(dialect: Dialect, rng: Rng, verbose: bool) -> Self {
        Run {
            rng,
            verbose,
            dialect,
            now: Instant::from_micros(1),
            board: Board { seen: [0; 32], delivered: vec![] },
            session: Session::durable(Side::Server),
            link: None,
            dead: false,
            acks: VecDeque::new(),
            queued: 0,
            acked: 0,
            best_effort: 0,
            under_way: VecDeque::new(),
            committed: None,
            trouble: Trouble::default(),
        }
    }

    fn goes(mut self) -> Trouble {
        // Some runs crash all the time and send next to nothing, others hardly ever crash.
        let crashes = self.rng.range(0, 8);
        let qos = self.rng.range(1, 30);
        for _ in 0..STEPS {
            match self.rng.range(0, 99) {
                0..10 => self.saves(),
                10..35 => self.settles(),
                35..60 => self.hears_ack(),
                60..63 => self.ends_link(),
                63..65 => self.dead = true,
                65..70 => self.now += Duration::from_millis(1_100),
                70..80 => self.best_effort = self.best_effort.max(self.rng.index(9)),
                step if step < 80 + qos / 2 => self.queued += usize::from(self.queued < self.acked + 4),
                _ if self.rng.chance(crashes) => self.crashes(),
                _ => {}
            }
            self.turns();
        }
        for _ in 0..500 {
            self.now += Duration::from_millis(1_100);
            self.settles();
            self.hears_ack();
            if self.dead {
                self.ends_link();
            }
            self.turns();
        }
        assert_eq!((self.acked, self.board.delivered.last()), (self.queued, self.queued.checked_sub(1).as_ref()));
        self.trouble
    }

    fn saves(&mut self) {
        if self.under_way.len() < 3 {
            let saved = self.session.save_with([]);
            self.under_way.push_back(Stored { saved, acked: self.acked });
        }
    }

    fn settles(&mut self) {
        if self.under_way.is_empty() && self.session.wants_save() {
            self.saves();
        }
        if self.rng.chance(10) {
            self.trouble.failures += u64::from(!self.under_way.is_empty());
            self.under_way.clear();
        }
        if let Some(stored) = self.under_way.pop_front() {
            self.trouble.commits += 1;
            self.session.handle_saved(stored.saved.mark());
            self.committed = Some(stored);
        }
    }

    fn crashes(&mut self) {
        self.say("crash");
        self.trouble.crashes += 1;
        self.ends_link();
        // The newest that was on its way may still have got there.
        if self.rng.chance(50)
            && let Some(stored) = self.under_way.pop_back()
        {
            self.committed = Some(stored);
        }
        self.under_way.clear();
        self.best_effort = 0;
        (self.session, self.acked) = match &self.committed {
            Some(Stored { saved, acked }) => {
                (Session::restore(Side::Server, saved.as_bytes()).expect("a session"), *acked)
            }
            None => (Session::durable(Side::Server), 0),
        };
    }

    fn ends_link(&mut self) {
        self.link = None;
        self.acks.clear();
    }

    fn hears_ack(&mut self) {
        let Some(link) = &mut self.link else { return };
        let Some(id) = self.acks.pop_front() else { return };
        let mut line = [0; 16];
        let len = Frame::Ack(id).emit(self.dialect, &mut line).expect("room");
        link.handle_heard(self.now);
        let input = link.handle_input(&mut self.session, self.now, &line[..len]);
        if matches!(input.received, Some(Received::Acked(_))) {
            self.acked += 1;
        }
    }

    /// Opens a link if there is none, and does all that can be done.
    fn turns(&mut self) {
        let now = self.now;
        // A restarted server that has nothing to send for long is where ids are left out for nothing.
        if self.best_effort > 0 && self.session.wants_qos() && self.rng.chance(10) {
            self.queued += usize::from(self.queued == self.acked);
        }
        if self.link.is_none() {
            let config = Config {
                settle: Duration::ZERO,
                pace: Pace::OFF,
                ..Config::new(Side::Server, Duration::from_millis(2_000))
            };
            self.link = Some(Link::open(&mut self.session, self.dialect, config, now));
            self.dead = false;
        }
        loop {
            let Some(link) = &mut self.link else { return };
            link.handle_queue(now, Queue { qos: self.queued > self.acked, best_effort: self.best_effort > 0 });
            match link.poll_output(&mut self.session, now) {
                Output::Message(id, kind) => {
                    self.best_effort -= usize::from(kind == Kind::BestEffort);
                    self.trouble.resent += u64::from(kind == Kind::Resend);
                    let number = (kind != Kind::BestEffort).then_some(self.acked);
                    self.say(&format!("{id} {kind:?} {number:?}, dead: {}", self.dead));
                    if !self.dead {
                        self.board.hears(id, number);
                        if number.is_some() || self.dialect == Dialect::Upstream {
                            self.acks.push_back(id);
                        }
                    }
                }
                Output::Close(_) => self.ends_link(),
                Output::Wait(_) => return,
                Output::Login | Output::Keepalive | Output::Ack(_) => {}
            }
        }
    }

    fn say(&self, what: &str) {
        if self.verbose {
            eprintln!("{what}");
        }
    }
}
