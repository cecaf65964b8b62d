//! Bowline's device client on an STM32F405, such as a Pyboard v1.1: it has no network, so a co-processor on a serial line is
//! its network. The chip's temperature every ten seconds. How to build and wire it, and what to expect: `README.md`.

#![no_std]
#![no_main]

mod settings;

use core::cell::RefCell;
use core::fmt::Write as _;

use bowline_coprocessor::Board;
use bowline_embedded::{Address, Client, Config, Guard, Provision, Resources, Slot, Watchdog, buffer_for, inbox_for};
use bowline_flash::Clock;
use embassy_embedded_hal::flash::partition::Partition;
use embassy_executor::{Spawner, main, task};
use embassy_futures::join::join4;
use embassy_stm32::adc::{Adc, SampleTime, Temperature};
use embassy_stm32::flash::{self, Async, Bank1Region3, Flash};
use embassy_stm32::gpio::{Level, Output, OutputOpenDrain, Speed};
use embassy_stm32::peripherals::{ADC1, IWDG, RNG, USART6};
use embassy_stm32::rng::{self, Rng};
use embassy_stm32::time::Hertz;
use embassy_stm32::usart::{self, BufferedUart, BufferedUartRx, BufferedUartTx};
use embassy_stm32::wdg::IndependentWatchdog;
use embassy_stm32::{bind_interrupts, rcc};
use embassy_sync::blocking_mutex;
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::mutex::Mutex;
use embassy_time::{Duration, Timer};
use heapless::String;
use panic_reset as _;
use static_cell::{ConstStaticCell, StaticCell};

use crate::settings::{APP, KEY, NETWORK, PASSWORD, SERVER};

/// The crystal of the board: 12 MHz on a Pyboard, 8 MHz on many others. `clocks` goes with it.
const CRYSTAL: Hertz = Hertz(12_000_000);
/// Bits a second to the co-processor, both ways.
const BAUD: u32 = 115_200;
/// The last four sectors of the flash are the outbox's, which `memory.x` leaves free: where they begin among those of 128 KiB,
/// and their bytes.
const OUTBOX_START: u32 = 3 * 128 * 1024;
const OUTBOX: u32 = 4 * 128 * 1024;
/// Messages that may wait to be sent, and most bytes of each.
const WAITING: usize = 512;
const PAYLOAD: usize = 64;
/// Messages that may have come and not be taken.
const COME: usize = 4;
/// Bytes each direction of the connection has room for on the way through the co-processor.
const ROOM: usize = 1024;
/// Between two temperatures.
const EVERY: Duration = Duration::from_secs(10);

type Region = Bank1Region3<'static, Async>;
type Outbox = bowline_flash::Outbox<'static, Partition<'static, CriticalSectionRawMutex, Region>>;
type Memory = Resources<Outbox, COME, { inbox_for(COME, COME * PAYLOAD) }, { buffer_for(PAYLOAD) }>;
type Runner = bowline_embedded::Runner<'static, Outbox, fn(&mut [u8])>;
type Line = Board<'static, ROOM>;

bind_interrupts!(struct Interrupts {
    USART6 => usart::BufferedInterruptHandler<USART6>;
    RNG => rng::InterruptHandler<RNG>;
    FLASH => flash::InterruptHandler;
});

#[main]
async fn main(spawner: Spawner) {
    let mut config = embassy_stm32::Config::default();
    config.rcc = clocks();
    let board = embassy_stm32::init(config);
    RANDOM.lock(|generator| generator.replace(Some(Rng::new(board.RNG, Interrupts))));

    static TRANSMIT: ConstStaticCell<[u8; 256]> = ConstStaticCell::new([0; 256]);
    static RECEIVE: ConstStaticCell<[u8; 1024]> = ConstStaticCell::new([0; 1024]);
    let mut serial = usart::Config::default();
    serial.baudrate = BAUD;
    // Y1 is the board's transmitter, Y2 its receiver, Y3 the co-processor's reset.
    let uart =
        BufferedUart::new(board.USART6, board.PC7, board.PC6, TRANSMIT.take(), RECEIVE.take(), Interrupts, serial);
    let (transmitter, receiver) = uart.expect("the pins and the speed fit the UART").split();
    let reset = OutputOpenDrain::new(board.PB8, Level::High, Speed::Low);
    static LINE: StaticCell<Line> = StaticCell::new();
    let line = Board::new(NETWORK, PASSWORD).expect("a WiFi's name has 32 bytes at most, its password 64");
    let line: &'static Line = LINE.init(line);
    let mut life = [0; 4];
    random(&mut life);
    spawner.spawn(lines(line, receiver, transmitter, reset, u32::from_le_bytes(life)).expect("spawned once"));

    static CHIP_FLASH: StaticCell<Mutex<CriticalSectionRawMutex, Region>> = StaticCell::new();
    let sectors = Flash::new(board.FLASH, Interrupts).into_regions().bank1_region3;
    let partition = Partition::new(CHIP_FLASH.init(Mutex::new(sectors)), OUTBOX_START, OUTBOX);
    static SLOTS: ConstStaticCell<[Slot; WAITING]> = ConstStaticCell::new([Slot::EMPTY; WAITING]);
    let opened = Outbox::open(partition, SLOTS.take(), PAYLOAD, Clock::default()).await;
    let (outbox, _) = opened.expect("the flash can be written, and holds no more than there are slots for");

    static MEMORY: ConstStaticCell<Memory> = ConstStaticCell::new(Memory::new());
    let provision = Provision::parse(KEY).expect("BOWLINE_KEY is a line that `bowline key new` has printed");
    let server = SERVER.parse().expect("BOWLINE_SERVER is an address and a port");
    let (client, runner) =
        bowline_embedded::new(MEMORY.take(), outbox, Config::provisioned(&provision, server), random as fn(&mut [u8]))
            .expect("sizes that fit");
    spawner.spawn(links(runner, line).expect("spawned once"));

    // The flash stands still while it erases, and the chip with it: up to 2 s.
    let guard =
        Guard { every: Duration::from_secs(3), runner: Duration::from_secs(60), application: Duration::from_secs(60) };
    let mut dog = Dog(IndependentWatchdog::new(board.IWDG, 20_000_000));
    dog.0.unleash();
    let mut green = Output::new(board.PA14, Level::Low, Speed::Low);
    let mut red = Output::new(board.PA13, Level::High, Speed::Low);
    let sensor = Adc::new(board.ADC1);
    let inside = sensor.enable_temperature();
    join4(
        measures(client, sensor, inside),
        shows(client, &mut red),
        client.guard(&mut dog, &guard),
        client.heartbeat(&mut green),
    )
    .await;
}

/// 168 MHz, and 48 MHz for the random generator.
fn clocks() -> rcc::Config {
    let mut config = rcc::Config::new();
    config.hse = Some(rcc::Hse { freq: CRYSTAL, mode: rcc::HseMode::Oscillator });
    config.pll_src = rcc::PllSource::HSE;
    config.pll = Some(rcc::Pll {
        prediv: rcc::PllPreDiv::DIV12,
        mul: rcc::PllMul::MUL336,
        divp: Some(rcc::PllPDiv::DIV2),
        divq: Some(rcc::PllQDiv::DIV7),
        divr: None,
    });
    config.ahb_pre = rcc::AHBPrescaler::DIV1;
    config.apb1_pre = rcc::APBPrescaler::DIV4;
    config.apb2_pre = rcc::APBPrescaler::DIV2;
    config.sys = rcc::Sysclk::PLL1_P;
    config
}

/// Sends what the sensor says, and takes what comes.
async fn measures(client: Client<'static, Outbox>, mut sensor: Adc<'static, ADC1>, mut inside: Temperature) -> ! {
    let mut buffer = [0; PAYLOAD];
    loop {
        client.alive();
        let raw = sensor.blocking_read(&mut inside, SampleTime::CYCLES480);
        let mut text = String::<16>::new();
        // No temperature is longer.
        let _ = write!(text, "{:.1}", degrees(raw));
        // Without a server the board goes on measuring; what does not fit any more is left out.
        let _ = client.try_send(Address { app: APP, instance: 0, tag: 0 }, text.as_bytes()).await;
        while let Ok(Some(message)) = client.try_recv(&mut buffer) {
            // What the server has sent: here it is to be done.
            let _ = message.payload;
        }
        Timer::after(EVERY).await;
    }
}

/// Degrees Celsius, from 12 bits of 3.3 V: the datasheet's figures (STM32F405, 5.3.22), which are good for a few degrees.
fn degrees(raw: u16) -> f32 {
    (f32::from(raw) * 3.3 / 4096.0 - 0.76) / 0.0025 + 25.0
}

/// Red while there is no link.
async fn shows(client: Client<'static, Outbox>, red: &mut Output<'static>) -> ! {
    let mut watch = client.watch();
    loop {
        let level = if watch.changed().await.is_up() { Level::Low } else { Level::High };
        red.set_level(level);
    }
}

/// The chip's own random generator, from the start of `main` on.
static RANDOM: blocking_mutex::Mutex<CriticalSectionRawMutex, RefCell<Option<Rng<'static, RNG>>>> =
    blocking_mutex::Mutex::new(RefCell::new(None));

/// Bytes that nobody can guess.
fn random(bytes: &mut [u8]) {
    RANDOM.lock(|generator| match generator.borrow_mut().as_mut() {
        Some(generator) => generator.fill_bytes(bytes),
        None => unreachable!("main has put it there before it began anything else"),
    });
}

/// The chip's own watchdog.
struct Dog(IndependentWatchdog<'static, IWDG>);

impl Watchdog for Dog {
    fn feed(&mut self) {
        self.0.pet();
    }
}

#[task]
async fn lines(
    line: &'static Line,
    receiver: BufferedUartRx<'static>,
    transmitter: BufferedUartTx<'static>,
    reset: OutputOpenDrain<'static>,
    life: u32,
) -> ! {
    line.run(receiver, transmitter, reset, life).await
}

#[task]
async fn links(mut runner: Runner, line: &'static Line) -> ! {
    let mut network = line;
    runner.run_on(line, &mut network).await
}
