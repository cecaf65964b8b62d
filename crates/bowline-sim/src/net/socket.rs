//! A connection's end, as the programs under test hold it.

use std::fmt;
use std::io;
use std::task::{Context, Poll};

use bowline_server::Socket;
use tokio::io::ReadBuf;

use super::{Direction, Event, Net};

/// Whose end it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Device,
    Server,
}

/// One end of a connection.
pub(super) struct Plug {
    pub(super) net: Net,
    pub(super) at: usize,
    pub(super) end: End,
}

impl fmt::Debug for Plug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plug").field("at", &self.at).field("end", &self.end).finish_non_exhaustive()
    }
}

impl Plug {
    fn reads(&self) -> Direction {
        if self.end == End::Device { Direction::Down } else { Direction::Up }
    }

    fn writes(&self) -> Direction {
        if self.end == End::Device { Direction::Up } else { Direction::Down }
    }

    pub(super) fn poll_connected(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.net.lock().links[self.at].is_connected(context.waker()) {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl Socket for Plug {
    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ready = self.net.lock().links[self.at].poll_read(self.reads(), context.waker());
        if ready { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.net.lock();
        let window = state.ways[state.links[self.at].device].window;
        match state.links[self.at].poll_write(self.writes(), window, Some(context.waker())) {
            Ok(0) => Poll::Pending,
            Ok(_) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn try_read(&mut self, bytes: &mut ReadBuf<'_>) -> io::Result<()> {
        let mut state = self.net.lock();
        let piece = state.ways[state.links[self.at].device].piece;
        let most = bytes.remaining().min(piece);
        let most = if piece == usize::MAX { most } else { state.random.usize(1..=most.max(1)) };
        let read = state.links[self.at].read(self.reads(), most)?;
        bytes.put_slice(&read);
        Ok(())
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.net.lock();
        let device = state.links[self.at].device;
        let (window, piece) = (state.ways[device].window, state.ways[device].piece);
        let room = state.links[self.at].poll_write(self.writes(), window, None)?;
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut count = bytes.len().min(room).min(piece.max(16));
        let place = if self.end == End::Server { 0 } else { device + 1 };
        if let Some((writes, then)) = state.fuses.get_mut(&place) {
            *writes = writes.saturating_sub(1);
            if *writes == 0 {
                then.notify_one();
                state.fuses.remove(&place);
                // The last words, or a part of them; then the process says and hears nothing more.
                count = state.random.usize(0..=count);
                let at = state.now() + state.delay(device);
                self.set_out(&mut state, &bytes[..count], at);
                for link in state.links.iter_mut().filter(|link| place == 0 || link.device == device) {
                    link.gag(place == 0);
                }
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        let at = state.now() + state.delay(device);
        self.set_out(&mut state, &bytes[..count], at);
        Ok(count)
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.net.lock();
        let device = state.links[self.at].device;
        let delay = state.delay(device);
        self.finishes(&mut state, delay);
        Poll::Ready(Ok(()))
    }
}

impl Plug {
    fn set_out(&self, state: &mut super::State, bytes: &[u8], at: u64) {
        if bytes.is_empty() {
            return;
        }
        let at = state.links[self.at].write(self.writes(), bytes, at);
        let delay = at - state.now();
        state.later(delay, Event::Arrive { link: self.at, direction: self.writes() });
        self.net.0.sooner.notify_one();
    }

    fn finishes(&self, state: &mut super::State, delay: u64) {
        let at = state.now() + delay;
        let at = state.links[self.at].finish(self.writes(), at);
        let delay = at.saturating_sub(state.now());
        state.later(delay, Event::Arrive { link: self.at, direction: self.writes() });
        self.net.0.sooner.notify_one();
    }
}

impl Drop for Plug {
    fn drop(&mut self) {
        let mut state = self.net.lock();
        if !state.links[self.at].is_over() {
            let device = state.links[self.at].device;
            let delay = state.delay(device);
            self.finishes(&mut state, delay);
            state.links[self.at].let_go(self.end == End::Server);
        }
    }
}
