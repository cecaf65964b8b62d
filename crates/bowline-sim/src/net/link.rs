//! One connection's bytes, in both directions.

use std::collections::VecDeque;
use std::io;
use std::task::Waker;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the device to the server.
    Up,
    /// From the server to the device.
    Down,
}

/// Bytes at the beginning of a link that are worth recording.
const OPENING: usize = 120;

/// How the end of a process shows at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    /// Its system breaks the connection; what was on its way is lost.
    Reset,
    /// Its system ends the connection behind what was said.
    Finish,
    /// Not at all: its system is gone, too.
    Silence,
}

/// A connection, or an attempt at one.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) device: usize,
    connected: bool,
    /// Who waits for the connection.
    connecting: Option<Waker>,
    up: Pipe,
    down: Pipe,
    /// Both ends have learnt that it is over, or are gone.
    over: bool,
    /// How it began, as somebody who listens has it.
    beginning: Vec<u8>,
}

/// One direction.
#[derive(Debug, Default)]
struct Pipe {
    /// On their way, each with the time at which it arrives.
    segments: VecDeque<(u64, Vec<u8>)>,
    flying: usize,
    /// Arrived, and not read.
    here: VecDeque<u8>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// The writer has said that nothing more comes; the time at which that arrives.
    finished: Option<u64>,
    /// That has arrived.
    ended: bool,
    /// Nothing arrives any more.
    hushed: bool,
    /// The reading end finds the connection broken.
    broken_for_reader: bool,
    broken_for_writer: bool,
}

impl Link {
    pub(super) fn new(device: usize) -> Self {
        Link {
            device,
            connected: false,
            connecting: None,
            up: Pipe::default(),
            down: Pipe::default(),
            over: false,
            beginning: Vec::new(),
        }
    }

    /// What its device said first.
    pub(super) fn beginning(&self) -> &[u8] {
        &self.beginning
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// Nothing goes through any more in either direction.
    pub(crate) fn is_dumb(&self) -> bool {
        self.up.hushed && self.down.hushed
    }

    pub(super) fn connects(&mut self) {
        self.connected = true;
        wake(&mut self.connecting);
    }

    /// Whether there is a connection; an error if there will be none.
    pub(super) fn is_connected(&mut self, waker: &Waker) -> io::Result<bool> {
        if self.down.broken_for_reader {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        self.connecting = Some(waker.clone());
        Ok(self.connected)
    }

    /// Broken, and both ends are told.
    pub(super) fn reset(&mut self) {
        self.breaks(true, true);
    }

    /// The process at one end is gone, and the other end learns of it in this way.
    pub(super) fn dies(&mut self, server: bool, death: Death, at: u64) {
        match death {
            Death::Reset => self.breaks(true, true),
            Death::Finish => {
                self.finish(if server { Direction::Down } else { Direction::Up }, at);
                self.gag(server);
            }
            Death::Silence => {
                self.gag(server);
                self.hush(&[Direction::Up, Direction::Down]);
            }
        }
    }

    /// One end neither says nor hears anything more. What it has said is still on its way.
    pub(super) fn gag(&mut self, server: bool) {
        self.breaks(!server, server);
    }

    /// An end finds the connection broken, or both do.
    fn breaks(&mut self, device: bool, server: bool) {
        if device {
            self.down.broken_for_reader = true;
            self.up.broken_for_writer = true;
        }
        if server {
            self.up.broken_for_reader = true;
            self.down.broken_for_writer = true;
        }
        self.over = self.down.broken_for_reader && self.up.broken_for_reader;
        wake(&mut self.connecting);
        self.wake(Direction::Up);
        self.wake(Direction::Down);
    }

    pub(super) fn hush(&mut self, directions: &[Direction]) {
        for direction in directions {
            self.pipe(*direction).hushed = true;
        }
    }

    pub(super) fn wake(&mut self, direction: Direction) {
        let pipe = self.pipe(direction);
        wake(&mut pipe.reader);
        wake(&mut pipe.writer);
    }

    /// When the next segment arrives.
    pub(super) fn due(&mut self, direction: Direction) -> Option<u64> {
        let pipe = self.pipe(direction);
        if pipe.hushed {
            return None;
        }
        pipe.segments.front().map(|(at, _)| *at).or(pipe.finished.filter(|_| !pipe.ended))
    }

    /// What has had its time arrives.
    pub(super) fn arrive(&mut self, direction: Direction, now: u64) {
        let pipe = self.pipe(direction);
        if pipe.hushed {
            return;
        }
        while pipe.segments.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, bytes)) = pipe.segments.pop_front() {
                pipe.flying -= bytes.len();
                pipe.here.extend(bytes);
            }
        }
        pipe.ended |= pipe.segments.is_empty() && pipe.finished.is_some_and(|at| at <= now);
        wake(&mut pipe.reader);
        wake(&mut pipe.writer);
    }

    /// Whether reading gives something; keeps the waker if not.
    pub(super) fn poll_read(&mut self, direction: Direction, waker: &Waker) -> bool {
        let pipe = self.pipe(direction);
        let ready = pipe.broken_for_reader || !pipe.here.is_empty() || pipe.ended;
        if !ready {
            pipe.reader = Some(waker.clone());
        }
        ready
    }

    /// Takes at most `most` bytes out.
    pub(super) fn read(&mut self, direction: Direction, most: usize) -> io::Result<Vec<u8>> {
        let pipe = self.pipe(direction);
        if pipe.broken_for_reader {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if pipe.here.is_empty() && !pipe.ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = most.min(pipe.here.len());
        let bytes = pipe.here.drain(..count).collect();
        wake(&mut pipe.writer);
        Ok(bytes)
    }

    /// How many bytes a write may put in, if `window` may be in it; keeps the waker if none.
    pub(super) fn poll_write(
        &mut self,
        direction: Direction,
        window: usize,
        waker: Option<&Waker>,
    ) -> io::Result<usize> {
        let pipe = self.pipe(direction);
        if pipe.broken_for_writer {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let room = window.saturating_sub(pipe.flying + pipe.here.len());
        if room == 0
            && let Some(waker) = waker
        {
            pipe.writer = Some(waker.clone());
        }
        Ok(room)
    }

    /// A segment sets out that takes `delay` at least; says when it arrives, behind all before it.
    pub(super) fn write(&mut self, direction: Direction, bytes: &[u8], at: u64) -> u64 {
        if direction == Direction::Up && self.beginning.len() < OPENING {
            self.beginning.extend_from_slice(bytes);
        }
        let pipe = self.pipe(direction);
        let at = pipe.segments.back().map_or(at, |(before, _)| at.max(*before));
        pipe.flying += bytes.len();
        pipe.segments.push_back((at, bytes.to_vec()));
        at
    }

    /// Nothing more is written.
    pub(super) fn finish(&mut self, direction: Direction, at: u64) -> u64 {
        let pipe = self.pipe(direction);
        let at = pipe.segments.back().map_or(at, |(before, _)| at.max(*before));
        *pipe.finished.get_or_insert(at)
    }

    /// One end is dropped: it reads nothing any more, and what it did not write is never written.
    pub(super) fn let_go(&mut self, server: bool) {
        let (reads, writes) = if server { (Direction::Up, Direction::Down) } else { (Direction::Down, Direction::Up) };
        self.pipe(reads).broken_for_writer = true;
        self.pipe(reads).broken_for_reader = true;
        self.pipe(writes).broken_for_writer = true;
        wake(&mut self.pipe(reads).writer);
        self.over = self.up.broken_for_writer && self.down.broken_for_writer && self.up.broken_for_reader;
    }

    fn pipe(&mut self, direction: Direction) -> &mut Pipe {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
