//! A board with an outbox, the server it sends to, and power that goes.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bowline_flash::sim::{Fault, Nor};
use bowline_flash::{Clock, Expiry, Message, OpenError, Outbox, Policy, PushError, ReadError, Slot, WriteError};
use bowline_proto::native::Item;
use bowline_proto::native::wire::Channel;

use crate::model::{Change, Letter, Model, Shown};

/// Largest payload in these tests.
pub(crate) const PAYLOAD: usize = 24;

/// Runs a future that never waits for anything.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}

/// A small random source (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// What the server has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Server {
    epoch: u64,
    /// The highest seq it has, and has told nobody of what it has not.
    pub(crate) durable: u64,
    /// Payload ids, in the order they came.
    pub(crate) came: Vec<u32>,
    pub(crate) gaps: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct World<const READ: usize, const WRITE: usize, const PAGE: usize> {
    pub(crate) nor: Nor<READ, WRITE, PAGE>,
    slots: usize,
    pub(crate) model: Model,
    pub(crate) server: Server,
    pub(crate) rng: Rng,
    clock: Clock,
    next_id: u32,
}

/// The power is gone, or the flash has failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Down;

fn down<T>(result: Result<T, WriteError<Fault>>) -> Result<T, Down> {
    match result {
        Ok(value) => Ok(value),
        Err(WriteError::Flash(Fault::Off | Fault::Failed)) => Err(Down),
        Err(error) => panic!("{error}"),
    }
}

type Board<'a, const READ: usize, const WRITE: usize, const PAGE: usize> = Outbox<'a, &'a mut Nor<READ, WRITE, PAGE>>;

impl<const READ: usize, const WRITE: usize, const PAGE: usize> World<READ, WRITE, PAGE> {
    pub(crate) fn new(pages: usize, slots: usize, seed: u64) -> Self {
        let mut nor = Nor::new(pages);
        nor.seed(seed);
        World {
            nor,
            slots,
            model: Model::default(),
            server: Server::default(),
            rng: Rng(seed ^ 0x5eed),
            clock: Clock { uptime: 0, wall: Some(1) },
            next_id: 0,
        }
    }

    /// One life of the board: it starts, everything is there, and `count` things happen. True if the power
    /// has stayed.
    pub(crate) fn lives(&mut self, count: usize) -> bool {
        self.life(count, false)
    }

    /// One more life, in which everything arrives, and the ledger is right.
    pub(crate) fn ends(&mut self) {
        assert!(self.life(0, true), "the power stays");
    }

    fn life(&mut self, count: usize, ends: bool) -> bool {
        let mut slots = vec![Slot::EMPTY; self.slots];
        let opened = run(Outbox::open(&mut self.nor, &mut slots, PAYLOAD, self.clock));
        let (mut outbox, report) = match opened {
            Ok(opened) => opened,
            Err(OpenError::Write(WriteError::Flash(Fault::Off | Fault::Failed))) => return false,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(report.lost, 0, "nothing is damaged, only torn");
        let Ok(shown) = shows(&mut outbox) else { return false };
        assert_eq!(report.waiting, shown.live.len());
        self.model.checks_start(&shown);
        self.server.connects(&mut outbox, &self.model);
        let mut hand = Hand {
            model: &mut self.model,
            server: &mut self.server,
            rng: &mut self.rng,
            clock: &mut self.clock,
            next_id: &mut self.next_id,
        };
        for _ in 0..count {
            if hand.does_something(&mut outbox).is_err() {
                return false;
            }
        }
        if ends {
            while self.server.takes(&mut outbox).unwrap() {}
            run(outbox.acknowledge(self.server.durable)).unwrap();
            assert_eq!((outbox.waiting(), outbox.acked()), (0, outbox.last()));
            let ids = &self.server.came;
            assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "in order, none twice: {ids:?}");
            let accepted = self.model.last;
            assert_eq!(ids.len() as u64 + self.model.dropped, accepted, "what was accepted came, or was dropped");
        }
        true
    }
}

/// Everything an outbox says.
pub(crate) fn shows<const READ: usize, const WRITE: usize, const PAGE: usize>(
    outbox: &mut Board<'_, READ, WRITE, PAGE>,
) -> Result<Shown, Down> {
    let mut live = BTreeMap::new();
    let mut seq = outbox.acked() + 1;
    while let Some(item) = outbox.item(seq) {
        match item {
            Item::Message { len } => {
                let mut buffer = [0; PAYLOAD];
                let read = match run(outbox.read(seq, &mut buffer)) {
                    Ok(read) => read,
                    Err(ReadError::Write(WriteError::Flash(Fault::Off | Fault::Failed))) => return Err(Down),
                    Err(error) => panic!("seq {seq}: {error}"),
                };
                assert_eq!(read.payload.len(), len as usize);
                live.insert(seq, (read.channel.app, read.payload.to_vec()));
                seq += 1;
            }
            Item::Dropped { last, .. } => {
                assert!(last >= seq && last <= outbox.last(), "a hole {seq} to {last}");
                seq = last + 1;
            }
        }
    }
    assert_eq!(seq, outbox.last() + 1, "no seq is left out");
    assert_eq!(outbox.waiting(), live.len());
    Ok(Shown { epoch: outbox.epoch(), acked: outbox.acked(), last: outbox.last(), received: outbox.received(), live })
}

impl Server {
    /// §10.4: what the outbox says and what the server has must fit.
    fn connects<const READ: usize, const WRITE: usize, const PAGE: usize>(
        &mut self,
        outbox: &mut Board<'_, READ, WRITE, PAGE>,
        model: &Model,
    ) {
        if outbox.epoch() == self.epoch {
            assert!(outbox.acked() <= self.durable, "the server has less than it has acknowledged");
            assert!(self.durable <= outbox.last(), "the board has lost what it has sent");
        } else {
            // The epoch was stored, and nothing was sent in it.
            (self.epoch, self.durable) = (model.epoch, 0);
        }
    }

    /// Takes the next message or gap. False if there is none.
    fn takes<const READ: usize, const WRITE: usize, const PAGE: usize>(
        &mut self,
        outbox: &mut Board<'_, READ, WRITE, PAGE>,
    ) -> Result<bool, Down> {
        let seq = self.durable + 1;
        match outbox.item(seq) {
            None => return Ok(false),
            Some(Item::Dropped { last, .. }) => {
                self.gaps += last - self.durable;
                self.durable = last;
            }
            Some(Item::Message { .. }) => {
                let mut buffer = [0; PAYLOAD];
                match run(outbox.read(seq, &mut buffer)) {
                    Ok(read) => self.came.push(id(read.payload)),
                    Err(ReadError::Write(WriteError::Flash(Fault::Off | Fault::Failed))) => return Err(Down),
                    Err(error) => panic!("seq {seq}: {error}"),
                }
                self.durable = seq;
            }
        }
        Ok(true)
    }
}

fn id(payload: &[u8]) -> u32 {
    u32::from_le_bytes(payload[..4].try_into().unwrap())
}

/// Everything of the world but the flash.
struct Hand<'w> {
    model: &'w mut Model,
    server: &'w mut Server,
    rng: &'w mut Rng,
    clock: &'w mut Clock,
    next_id: &'w mut u32,
}

impl Hand<'_> {
    fn does_something<const READ: usize, const WRITE: usize, const PAGE: usize>(
        &mut self,
        outbox: &mut Board<'_, READ, WRITE, PAGE>,
    ) -> Result<(), Down> {
        let (base, sent) = (self.model.base, self.server.durable);
        let what = self.rng.below(100);
        let change = match what {
            0..50 => return self.pushes(outbox),
            50..75 => {
                self.server.takes(outbox)?;
                return Ok(());
            }
            75..88 => Change::Acknowledge(sent + base),
            88..91 => {
                *self.clock = Clock { wall: self.clock.wall.map(|wall| wall + 1), ..*self.clock };
                Change::Expire { sent, clock: *self.clock }
            }
            91..93 if sent < outbox.last() => Change::Remove(sent + base + 1 + self.rng.below(outbox.last() - sent)),
            // Where the server has forgotten the board: its epoch begins when all it had is acknowledged.
            93..95 if outbox.acked() == sent => Change::Epoch(self.model.epoch + 1),
            95..100 => Change::Received(self.model.received + 1),
            _ => return Ok(()),
        };
        self.model.begun = Some(change.clone());
        match change {
            Change::Push { .. } => {}
            Change::Acknowledge(number) => {
                down(run(outbox.acknowledge(number - base)))?;
                self.model.acknowledges(number);
            }
            Change::Expire { sent, clock } => {
                down(run(outbox.expire(sent, clock)))?;
                let over: Vec<u64> = self.model.live.range(sent + base + 1..).map(|(number, _)| *number).collect();
                for number in over {
                    if self.model.live[&number].is_over(clock) {
                        self.model.drops(number);
                    }
                }
            }
            Change::Remove(number) => {
                down(run(outbox.remove(number - base, 5)))?;
                self.model.drops(number);
            }
            Change::Epoch(epoch) => {
                down(run(outbox.begin_epoch(epoch)))?;
                self.model.begins_epoch(epoch);
                self.server.connects(outbox, self.model);
            }
            Change::Received(seq) => {
                down(run(outbox.set_received(seq)))?;
                self.model.received = seq;
            }
        }
        self.model.begun = None;
        self.checks(outbox)
    }

    fn pushes<const READ: usize, const WRITE: usize, const PAGE: usize>(
        &mut self,
        outbox: &mut Board<'_, READ, WRITE, PAGE>,
    ) -> Result<(), Down> {
        *self.next_id += 1;
        let mut payload = self.next_id.to_le_bytes().to_vec();
        payload.extend((0..self.rng.below(PAYLOAD as u64 - 3)).map(|at| at as u8 ^ self.next_id.to_le_bytes()[0]));
        let policy = [Policy::Block, Policy::DropOldest, Policy::KeepLatest][self.rng.below(3) as usize];
        let expiry = match self.rng.below(6) {
            0 => Expiry::At(self.clock.wall.unwrap() + self.rng.below(3) as u32),
            1 => Expiry::After(1_000),
            _ => Expiry::Never,
        };
        let letter = Letter { payload, channel: self.rng.below(3) as u8, policy, expiry };
        let (sent, clock) = (self.server.durable, *self.clock);
        self.model.begun = Some(Change::Push { letter: letter.clone(), sent, clock });
        let channel = Channel { app: letter.channel, instance: 0, tag: 0 };
        let message = Message { channel, policy, expiry, payload: &letter.payload };
        let pushed = match run(outbox.push(&message, sent, clock)) {
            Ok(seq) => Some(seq),
            Err(PushError::Full) => None,
            Err(PushError::Write(error)) => return down(Err(error)),
            Err(error) => panic!("{error}"),
        };
        self.model.begun = None;
        let shown = shows(outbox)?;
        self.model.expires(sent, clock, &shown);
        if let Some(seq) = pushed {
            self.model.pushes(letter, sent, &shown);
            assert_eq!(seq + self.model.base, self.model.last);
        }
        self.model.checks(&shown, &Model::default());
        Ok(())
    }

    fn checks<const READ: usize, const WRITE: usize, const PAGE: usize>(
        &mut self,
        outbox: &mut Board<'_, READ, WRITE, PAGE>,
    ) -> Result<(), Down> {
        let shown = shows(outbox)?;
        self.model.checks(&shown, &Model::default());
        Ok(())
    }
}
