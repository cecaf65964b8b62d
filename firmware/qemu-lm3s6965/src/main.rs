//! Bowline's device client on an emulated board: QEMU's `lm3s6965evb`, a Cortex-M3 with 256 KiB of flash, 64 KiB of RAM and
//! Ethernet. How to build and run it, and what it needs: `README.md`.

#![no_std]
#![no_main]

mod clock;
mod diary;
mod ethernet;
mod flash;
mod host;
mod settings;

use bowline_embedded::{Config, Network, Provision, Resources, Slot, Supervision, buffer_for, inbox_for};
use bowline_flash::Clock;
use cortex_m::interrupt::InterruptNumber;
use cortex_m::peripheral::NVIC;
use cortex_m_rt::exception;
use embassy_executor::{Spawner, main, task};
use embassy_net::tcp::client::{TcpClient, TcpClientState};
use embassy_net::{DhcpConfig, Stack, StackResources};
use embassy_time::{Duration, Instant};
use static_cell::{ConstStaticCell, StaticCell};

use crate::diary::PAYLOAD;
use crate::ethernet::Ethernet;
use crate::flash::Flash;
use crate::host::{File, ends, say};
use crate::settings::Settings;

/// Messages that may wait to be sent; where their payloads are there is room for about 100.
const WAITING: usize = 64;
/// Messages that may have come and not be taken.
const COME: usize = 4;
/// Bytes of each of the buffers of a connection.
const STREAM: usize = 1024;

type Outbox = bowline_flash::Outbox<'static, Flash>;
type Memory = Resources<Outbox, COME, { inbox_for(COME, COME * PAYLOAD) }, { buffer_for(PAYLOAD) }>;
type Runner = bowline_embedded::Runner<'static, Outbox, fn(&mut [u8])>;

#[main]
async fn main(spawner: Spawner) {
    let settings = settings();
    let mut core = cortex_m::Peripherals::take().expect("the first and only time");
    clock::starts(&mut core.SYST);

    let mut seed = [0; 8];
    host::random(&mut seed);
    static SOCKETS: StaticCell<StackResources<2>> = StaticCell::new();
    let config = embassy_net::Config::dhcpv4(DhcpConfig::default());
    let sockets = SOCKETS.init(StackResources::new());
    let (stack, network) = embassy_net::new(Ethernet::new(), config, sockets, u64::from_le_bytes(seed));
    lets_through(Interrupt);
    spawner.spawn(networks(network).expect("spawned once"));

    static SLOTS: ConstStaticCell<[Slot; WAITING]> = ConstStaticCell::new([Slot::EMPTY; WAITING]);
    let flash = Flash::powers_up().expect("flash.bin is an image of 32 KiB, or is not there");
    let opened = Outbox::open(flash, SLOTS.take(), PAYLOAD, Clock::default()).await;
    let (outbox, report) = opened.expect("flash.bin holds an outbox");
    say(format_args!("outbox: waiting {}, lost {}, epoch {}", report.waiting, report.lost, outbox.epoch()));

    static MEMORY: ConstStaticCell<Memory> = ConstStaticCell::new(Memory::new());
    let supervision = Supervision { stable: Duration::MIN, ..Supervision::DEFAULT };
    let config = Config { supervision, ..Config::provisioned(&provision(), settings.server).timeout(settings.timeout) };
    let random = host::random as fn(&mut [u8]);
    let (client, runner) = bowline_embedded::new(MEMORY.take(), outbox, config, random).expect("sizes that fit");
    spawner.spawn(links(runner, stack).expect("spawned once"));

    diary::keep(client, &settings).await;
    ends(true);
}

/// What the board was told.
fn settings() -> Settings {
    let mut buffer = [0; 256];
    let words = host::arguments(&mut buffer).expect("the host gives arguments, 255 bytes at most");
    match Settings::parse(words) {
        Ok(settings) => settings,
        Err(word) => panic!("expected server=ADDRESS:PORT and what else README.md names, got {word}"),
    }
}

/// Who the board is: the provisioning line in the file `board.key`.
fn provision() -> Provision<'static> {
    static LINE: ConstStaticCell<[u8; 256]> = ConstStaticCell::new([0; 256]);
    let buffer = LINE.take();
    let len = File::reads(c"board.key").and_then(|mut file| file.read(buffer));
    let len = len.expect("board.key is there: `bowline key new board --out board.key` makes it");
    let line = core::str::from_utf8(&buffer[..len]).expect("a provisioning line is text");
    match Provision::parse(line) {
        Ok(provision) => provision,
        Err(error) => panic!("board.key: {error}"),
    }
}

#[task]
async fn networks(mut runner: embassy_net::Runner<'static, Ethernet>) -> ! {
    runner.run().await
}

#[task]
async fn links(mut runner: Runner, stack: Stack<'static>) -> ! {
    static CONNECTIONS: StaticCell<TcpClientState<1, STREAM, STREAM>> = StaticCell::new();
    let tcp = TcpClient::new(stack, CONNECTIONS.init(TcpClientState::new()));
    runner.run_on(&tcp, &mut Wire(stack)).await
}

/// The cable: the board has joined when it has an address.
struct Wire(Stack<'static>);

impl Network for Wire {
    type Error = core::convert::Infallible;

    async fn join(&mut self) -> Result<(), Self::Error> {
        self.0.wait_config_up().await;
        if let Some(config) = self.0.config_v4() {
            say(format_args!("address {} after {} ms", config.address, Instant::now().as_millis()));
        }
        Ok(())
    }

    async fn leave(&mut self) {}

    fn is_up(&self) -> bool {
        self.0.is_config_up()
    }
}

/// The Ethernet controller's interrupt.
#[derive(Clone, Copy)]
struct Interrupt;

#[expect(unsafe_code, reason = "the trait asks for a promise")]
// SAFETY: always the same number, and one that the board has.
unsafe impl InterruptNumber for Interrupt {
    fn number(self) -> u16 {
        ethernet::INTERRUPT.into()
    }
}

#[expect(unsafe_code, reason = "an interrupt that is let through may break critical sections that mask it")]
fn lets_through(interrupt: Interrupt) {
    // SAFETY: critical sections here mask all interrupts and none of its own.
    unsafe { NVIC::unmask(interrupt) }
}

#[exception]
#[allow(unsafe_code, reason = "the attribute asks for it")]
unsafe fn DefaultHandler(number: i16) {
    match u8::try_from(number) {
        Ok(ethernet::INTERRUPT) => ethernet::interrupted(),
        _ => panic!("interrupt {number}, which nothing has asked for"),
    }
}
