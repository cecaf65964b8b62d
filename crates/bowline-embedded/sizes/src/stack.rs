//! How deep the stack gets while a client logs in, sends four messages of 256 bytes and receives four, with a real server at the
//! other end of a cable. Runs in QEMU.
//!
//! Before each time that the client's futures are polled, the free stack is painted; what has lost its paint afterwards was
//! used. The server has its turn between, and leaves no trace. Beside that it counts the client's instructions until the link is
//! up.

use core::cell::RefCell;
use core::future::poll_fn;
use core::hint::black_box;
use core::net::SocketAddr;
use core::pin::pin;
use core::task::{Context, Poll, Waker};

use bowline_embedded::{Address, Client, Config, DeviceId, Outbox, RamOutbox, Resources, Slot, buffer_for, inbox_for};
use bowline_proto::Side;
use bowline_proto::native::wire::{Data, record};
use bowline_proto::native::{self, Item, Link, Output, Received, Room, Session};
use bowline_proto::time::{Duration, Instant};
use bowline_secure::{Carrier, Decision, Gate, Standing, Transport};
use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_semihosting::{debug, hprintln};
use embassy_futures::select::select;
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use embedded_nal_async::TcpConnect;

const PAYLOAD: usize = 256;
const MESSAGES: usize = 4;

/// Bytes on their way.
struct Way {
    bytes: [u8; 4_096],
    len: usize,
}

impl Way {
    const fn new() -> Self {
        Way { bytes: [0; 4_096], len: 0 }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.len..][..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn drop_first(&mut self, count: usize) {
        self.bytes.copy_within(count..self.len, 0);
        self.len -= count;
    }
}

struct Cable {
    up: RefCell<Way>,
    down: RefCell<Way>,
}

struct Plug<'c>(&'c Cable);

impl ErrorType for Plug<'_> {
    type Error = ErrorKind;
}

impl Read for Plug<'_> {
    async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ErrorKind> {
        poll_fn(|_| {
            let mut down = self.0.down.borrow_mut();
            let count = down.len.min(bytes.len());
            bytes[..count].copy_from_slice(&down.bytes[..count]);
            down.drop_first(count);
            if count == 0 { Poll::Pending } else { Poll::Ready(Ok(count)) }
        })
        .await
    }
}

impl Write for Plug<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        self.0.up.borrow_mut().put(bytes);
        Ok(bytes.len())
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

impl TcpConnect for Cable {
    type Error = ErrorKind;
    type Connection<'a> = Plug<'a>;

    async fn connect(&self, _: SocketAddr) -> Result<Plug<'_>, ErrorKind> {
        Ok(Plug(self))
    }
}

fn now() -> Instant {
    Instant::from_micros(embassy_time::Instant::now().as_micros())
}

struct Server {
    session: Session,
    link: Option<(Link, Option<Transport>)>,
}

impl Server {
    fn takes_its_turn(&mut self, cable: &Cable) {
        let (mut up, mut down) = (cable.up.borrow_mut(), cable.down.borrow_mut());
        let Some((link, seal)) = &mut self.link else {
            let mut answer = [0; bowline_secure::MAX_ANSWER];
            let input = &up.bytes[..up.len];
            let decision =
                Gate::new(Carrier::Lossless).decide(input, &[7; 32], now(), |_| standing(), |_| None, &mut answer);
            let (seal, consumed, len) = match decision {
                Decision::More => return,
                Decision::Open { consumed, answer, .. } => (None, consumed, answer),
                Decision::Secured { transport, consumed, answer, .. } => (Some(transport), consumed, answer),
                _ => panic!("the server does not let the client in"),
            };
            down.put(&answer[..len]);
            up.drop_first(consumed);
            self.session.forget(MESSAGES as u64);
            let config = native::Config::new(native::Transport::Lossless, Duration::from_millis(1_000), 1_024);
            let room = Room { messages: 64, bytes: 65_536 };
            self.link = Some((Link::open(&mut self.session, config, room, now()), seal));
            return;
        };
        let now = now();
        let Way { bytes, len } = &mut *up;
        while let Ok(Some(range)) = record::next(&bytes[..*len], 1_200) {
            let end = range.end;
            let body = &mut bytes[range];
            let mut body = match seal {
                None => body,
                Some(seal) => seal.open(body).expect("sealed by the client"),
            } as &[u8];
            loop {
                let input = link.handle_body(&mut self.session, now, body);
                body = &body[input.consumed..];
                match input.received {
                    None => break,
                    Some(Received::Message { ticket, .. }) => self.session.handle_persisted(ticket),
                    Some(Received::NewEpoch { .. }) => self.session.handle_epoch_stored(self.session.epoch()),
                    Some(_) => {}
                }
            }
            bytes.copy_within(end..*len, 0);
            *len -= end;
        }
        link.handle_timeout(now);
        loop {
            let mut out = [0; 1_200];
            let place = &mut out[record::HEADER..];
            let len = match link.poll_output(&mut self.session, now) {
                Output::Frame(frame) => frame.emit(place).expect("it fits"),
                Output::Data { seq, ask } => {
                    let head = Data::head_len(PAYLOAD);
                    let channel = Address { app: 5, instance: 0, tag: 0 };
                    Data::emit_head(seq as u16, ask, channel, PAYLOAD, &mut place[..head]).expect("it fits");
                    head + PAYLOAD
                }
                Output::Describe(seq) => {
                    link.handle_item(now, seq, Item::Message { len: PAYLOAD as u32 });
                    continue;
                }
                Output::BestEffort => continue,
                Output::Wait(_) => return,
                Output::Close(reason) => panic!("{reason}"),
            };
            let len = match seal {
                None => len,
                Some(seal) => seal.seal(&mut out[record::HEADER..], len).expect("it fits"),
            };
            let len = record::finish(&mut out, len).expect("it fits");
            down.put(&out[..len]);
        }
    }
}

#[cfg(not(feature = "keys"))]
fn standing() -> Standing {
    Standing { open: true, ..Standing::default() }
}

#[cfg(not(feature = "keys"))]
fn config(server: SocketAddr) -> Config<'static> {
    Config::new(DeviceId::new("garden").unwrap(), server)
}

#[cfg(feature = "keys")]
fn key() -> (bowline_embedded::KeyId, bowline_embedded::Key) {
    (
        bowline_embedded::KeyId::new(1).unwrap(),
        bowline_embedded::Key::new(&core::array::from_fn(|at| at as u8)).unwrap(),
    )
}

#[cfg(feature = "keys")]
fn standing() -> Standing {
    let (id, key) = key();
    Standing { keys: Some(bowline_secure::KeyRing::new(id, key)), ..Standing::default() }
}

#[cfg(feature = "keys")]
fn config(server: SocketAddr) -> Config<'static> {
    let (id, key) = key();
    let security = bowline_embedded::Security::Encrypted(id, key);
    Config { security, ..Config::new(DeviceId::new("garden").unwrap(), server) }
}

async fn application<O: Outbox>(client: Client<'_, O>) {
    let mut buffer = [0; PAYLOAD];
    for _ in 0..MESSAGES {
        client.send(Address { app: 5, instance: 0, tag: 0 }, &[1; PAYLOAD]).await.unwrap();
    }
    client.drained().await;
    for _ in 0..MESSAGES {
        black_box(client.recv(&mut buffer).await.unwrap());
    }
}

const PAINT: u32 = 0xa5a5_5a5a;

/// Calls `poll`, and says how many bytes of stack it has used.
#[inline(never)]
fn depth_of(poll: &mut dyn FnMut()) -> usize {
    let bottom = cortex_m_rt::heap_start() as usize;
    let top = cortex_m::register::msp::read() as usize;
    for at in (bottom..top - 64).step_by(4) {
        // SAFETY: between the last static and the stack pointer nothing lives; interrupts are not in use.
        unsafe { (at as *mut u32).write_volatile(PAINT) };
    }
    poll();
    // SAFETY: as above.
    let is_used = |at: &usize| unsafe { (*at as *const u32).read_volatile() != PAINT };
    top - (bottom..top).step_by(4).find(is_used).unwrap_or(top)
}

/// Ticks of the core's timer that pass meanwhile. In an emulator that gives each instruction the same time they count
/// instructions.
fn ticks_of(does: impl FnOnce()) -> u64 {
    let before = SYST::get_current();
    does();
    (before.wrapping_sub(SYST::get_current()) & TICKS).into()
}

/// The timer's 24 bits.
const TICKS: u32 = 0xff_ffff;

pub fn measures() -> ! {
    let mut timer = cortex_m::Peripherals::take().unwrap().SYST;
    timer.set_clock_source(SystClkSource::Core);
    timer.set_reload(TICKS);
    timer.clear_current();
    timer.enable_counter();
    /// A loop of two instructions, half as many times.
    const KNOWN: u32 = 1_000_000;
    let ticks_of_known = ticks_of(|| cortex_m::asm::delay(KNOWN)).max(1);
    let cable = Cable { up: RefCell::new(Way::new()), down: RefCell::new(Way::new()) };
    let (mut slots, mut bytes) = ([Slot::EMPTY; MESSAGES], [0; MESSAGES * PAYLOAD]);
    let outbox = RamOutbox::new(&mut slots, &mut bytes, PAYLOAD);
    let mut memory =
        Resources::<_, MESSAGES, { inbox_for(MESSAGES, MESSAGES * PAYLOAD) }, { buffer_for(PAYLOAD) }>::new();
    let config = config(SocketAddr::from(([10, 0, 0, 1], 9_999)));
    let (client, mut runner) = bowline_embedded::new(&mut memory, outbox, config, |bytes| bytes.fill(9)).unwrap();
    let mut server = Server { session: Session::new(Side::Server), link: None };
    let mut program = pin!(select(runner.run(&cable), application(client)));
    let (mut deepest, mut is_done, mut ticks) = (0, false, 0);
    for _ in 0..1_000 {
        let depth = depth_of(&mut || {
            let was_up = client.status().is_up();
            let spent = ticks_of(|| {
                is_done = program.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
            });
            ticks += if was_up { 0 } else { spent };
        });
        deepest = deepest.max(depth);
        if is_done {
            hprintln!("stack {}", deepest);
            hprintln!("instructions {}", ticks * u64::from(KNOWN) / ticks_of_known);
            debug::exit(debug::EXIT_SUCCESS);
        }
        server.takes_its_turn(&cable);
    }
    hprintln!("not done: {:?}, {:?}", client.status(), client.counters());
    debug::exit(debug::EXIT_FAILURE);
    loop {
        cortex_m::asm::nop();
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    hprintln!("{}", info);
    debug::exit(debug::EXIT_FAILURE);
    loop {
        cortex_m::asm::nop();
    }
}
