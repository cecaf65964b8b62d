//! A server in one thread, from the bytes of a device's messages to the acknowledgement's. What is counted is the
//! server's: the device's engine works before and after. The connection is memory, and the system not in it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bowline_proto::native::wire::{Answer, Channel, Data, Frame, MAX_BODY, Mode, Opening, record};
use bowline_proto::native::{Config, Item, Link, Output, Received, Room, Session, Transport as Lossless};
use bowline_proto::time::Instant;
use bowline_proto::{DeviceId, Side, time};
use bowline_secure::{Carrier, Ephemeral, Handshake, MAX_OPENING, Provision, Transport, is_security_body};
use bowline_server::{Date, Keys, Limits, Listener, Outside, Server, Socket, Stream};
use bowline_store::{Durability, Store};
use tokio::io::ReadBuf;
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use crate::secure::bytes;
use crate::{BATCH, PAYLOAD, case};

const ROOM: Room = Room { messages: 256, bytes: 256 * 1024 };

pub(crate) fn cases() {
    for (name, keyed, stored, count) in [
        ("server: a message, open, no store", false, false, 1),
        ("server: a message, open, stored", false, true, 1),
        ("server: 16 messages, open, no store", false, false, BATCH),
        ("server: 16 messages, open, stored", false, true, BATCH),
        ("server: 16 messages, encrypted, stored", true, true, BATCH),
    ] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let runtime = runtime.expect("a runtime");
        let keys = Keys::default();
        let key = keyed.then(|| keys.issue("kitchen", Date::from_unix(0)).expect("a key").line());
        let pipe = Pipe::default();
        let _server = runtime.block_on(start(keys, stored, pipe.clone()));
        let board = Mutex::new(Board::connect(&runtime, pipe.clone(), key.as_ref().map(|key| key.as_str())));
        let board = || board.lock().expect("nobody panics");
        case(
            name,
            || board().messages(count),
            |written| {
                pipe.put(&written);
                runtime.block_on(pipe.answer())
            },
            |answer| board().take_acks(&runtime, answer),
        );
    }
}

/// A server whose application takes messages.
async fn start(keys: Keys, stored: bool, pipe: Pipe) -> Server {
    let mut builder = Server::builder()
        .listener(One(Some(pipe)))
        .keys(keys)
        .timeout(std::time::Duration::from_secs(600))
        .limits(Limits { messages_per_second: None, ..Limits::default() })
        .outside(Outside {
            random: |bytes| {
                bytes.iter_mut().zip(1..).for_each(|(byte, n): (&mut u8, u8)| *byte = n.wrapping_mul(37));
                Ok(())
            },
            wall: || std::time::UNIX_EPOCH,
        })
        .on_device(|device| {
            tokio::spawn(async move { while device.recv().await.is_ok() {} });
        });
    if stored {
        let work = Arc::new(Notify::new());
        let call = Arc::clone(&work);
        let limits = bowline_store::Limits::default();
        let store = Store::open_driven("", Durability::Memory, limits, move || call.notify_one());
        let (store, worker) = store.expect("opens");
        tokio::spawn(async move {
            loop {
                work.notified().await;
                while worker.work() {}
            }
        });
        builder = builder.store(store);
    }
    builder.start().await.expect("starts")
}

/// A device's end of dialect N.
struct Board {
    pipe: Pipe,
    session: Session,
    link: Link,
    seal: Option<Transport>,
    now: Instant,
}

impl Board {
    fn connect(runtime: &Runtime, pipe: Pipe, key: Option<&str>) -> Self {
        let id = DeviceId::new("kitchen").expect("an id");
        let mut opening = [0; MAX_OPENING];
        let seal = match key {
            None => {
                let open = Opening { id, mode: Mode::Open, handshake: &[] };
                let len = open.emit(&mut opening).expect("a short id");
                pipe.put(&opening[..len]);
                let answer = runtime.block_on(pipe.answer());
                let (answer, _) = Answer::parse(&answer).expect("an answer").expect("a whole one");
                assert_eq!(answer.verdict, 0);
                None
            }
            Some(line) => {
                let provision = Provision::parse(line).expect("the server's line");
                let (ephemeral, carrier) = (Ephemeral::new(&bytes(7)), Carrier::Lossless);
                let (mut handshake, len) =
                    Handshake::start(id, provision.key_id, &provision.key, ephemeral, carrier, &mut opening)
                        .expect("a short id");
                pipe.put(&opening[..len]);
                let answer = runtime.block_on(pipe.answer());
                Some(handshake.finish(&answer).expect("an answer").expect("a whole one").0)
            }
        };
        let now = Instant::ZERO;
        let mut session = Session::new(Side::Device);
        let config = Config::new(Lossless::Lossless, time::Duration::from_millis(60_000), MAX_BODY);
        let link = Link::open(&mut session, config, ROOM, now);
        let mut board = Board { pipe, session, link, seal, now };
        while !board.link.is_up() {
            let written = board.drain();
            board.pipe.put(&written);
            let answer = runtime.block_on(board.pipe.answer());
            board.take_in(answer);
        }
        let written = board.drain();
        board.pipe.put(&written);
        board
    }

    /// The bytes of so many new messages.
    fn messages(&mut self, count: u64) -> Vec<u8> {
        assert_eq!(self.session.acked(), self.session.last(), "what was sent before is acknowledged");
        self.session.handle_outbox(self.session.last() + count);
        self.drain()
    }

    /// Takes in what was answered, and what else it takes until all is acknowledged and the board may send as much again.
    fn take_acks(&mut self, runtime: &Runtime, answer: Vec<u8>) {
        self.take_in(answer);
        while self.session.acked() < self.session.last() {
            let answer = runtime.block_on(self.pipe.answer());
            self.take_in(answer);
        }
    }

    fn drain(&mut self) -> Vec<u8> {
        let mut out = vec![0; record::HEADER];
        self.link.handle_room(self.now, ROOM);
        loop {
            let frame = match self.link.poll_output(&mut self.session, self.now) {
                Output::Frame(frame) => frame,
                Output::Describe(seq) => {
                    self.link.handle_item(self.now, seq, Item::Message { len: PAYLOAD.len() as u32 });
                    continue;
                }
                Output::Data { seq, ask } => {
                    Frame::Data(Data { seq: seq as u16, ask, channel: Channel::default(), payload: &PAYLOAD })
                }
                Output::BestEffort => continue,
                Output::Wait(_) => break,
                Output::Close(reason) => panic!("{reason}"),
            };
            let at = out.len();
            out.resize(at + 512, 0);
            let len = frame.emit(&mut out[at..]).expect("room");
            out.truncate(at + len);
        }
        let mut len = out.len() - record::HEADER;
        if len == 0 {
            return Vec::new();
        }
        if let Some(seal) = &mut self.seal {
            out.resize(out.len() + Carrier::Lossless.overhead(), 0);
            len = seal.seal(&mut out[record::HEADER..], len).expect("room");
        }
        record::finish(&mut out, len).expect("a record");
        out
    }

    fn take_in(&mut self, mut bytes: Vec<u8>) {
        let mut at = 0;
        while let Some(range) = record::next(&bytes[at..], u16::MAX).expect("a record") {
            let (start, end) = (at + range.start, at + range.end);
            at = end;
            let body = &mut bytes[start..end];
            let mut body: &[u8] = match &mut self.seal {
                Some(seal) => seal.open(body).expect("what the server has sealed"),
                None => body,
            };
            if self.seal.is_some() && is_security_body(body) {
                continue;
            }
            loop {
                let input = self.link.handle_body(&mut self.session, self.now, body);
                body = &body[input.consumed..];
                match input.received {
                    None => break,
                    Some(Received::NewEpoch { epoch, .. }) => self.session.handle_epoch_stored(epoch),
                    Some(_) => {}
                }
            }
        }
        assert_eq!(at, bytes.len(), "the server writes whole records");
    }
}

/// The server's end of a connection in memory, and the board's.
#[derive(Debug, Default, Clone)]
struct Pipe(Arc<Mutex<Bytes>>);

#[derive(Debug, Default)]
struct Bytes {
    up: Vec<u8>,
    down: Vec<u8>,
    server: Option<Waker>,
    board: Option<Waker>,
}

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, Bytes> {
        self.0.lock().expect("nobody panics")
    }

    /// The board writes.
    fn put(&self, bytes: &[u8]) {
        let mut pipe = self.lock();
        pipe.up.extend_from_slice(bytes);
        if let Some(waker) = pipe.server.take() {
            waker.wake();
        }
    }

    /// What the server has written, once it is something.
    async fn answer(&self) -> Vec<u8> {
        std::future::poll_fn(|context| {
            let mut pipe = self.lock();
            if pipe.down.is_empty() {
                pipe.board = Some(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(std::mem::take(&mut pipe.down))
        })
        .await
    }
}

impl Socket for Pipe {
    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.lock();
        if pipe.up.is_empty() {
            pipe.server = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn try_read(&mut self, bytes: &mut ReadBuf<'_>) -> io::Result<()> {
        let mut pipe = self.lock();
        if pipe.up.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = pipe.up.len().min(bytes.remaining());
        bytes.put_slice(&pipe.up[..count]);
        pipe.up.drain(..count);
        Ok(())
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut pipe = self.lock();
        pipe.down.extend_from_slice(bytes);
        if let Some(waker) = pipe.board.take() {
            waker.wake();
        }
        Ok(bytes.len())
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Gives the server its one connection.
struct One(Option<Pipe>);

impl Listener for One {
    fn poll_accept(&mut self, _: &mut Context<'_>) -> Poll<io::Result<(Stream, SocketAddr)>> {
        match self.0.take() {
            Some(pipe) => Poll::Ready(Ok((Stream::new(pipe), SocketAddr::from((Ipv4Addr::LOCALHOST, 1))))),
            None => Poll::Pending,
        }
    }
}
