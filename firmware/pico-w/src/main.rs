//! Bowline's device client on a Raspberry Pi Pico W: the chip's temperature every ten seconds, whatever the WiFi, the
//! server and the power do. How to build it, and what to expect: `README.md`.

#![no_std]
#![no_main]

mod settings;
mod wifi;

use core::fmt::Write as _;

use bowline_embedded::{
    Address, Client, Config, FrameFilter, Guard, LinkState, Provision, Resources, Slot, Watchdog, buffer_for, inbox_for,
};
use bowline_flash::Clock;
use cyw43_pio::{DEFAULT_CLOCK_DIVIDER, PioSpi};
use embassy_embedded_hal::flash::partition::Partition;
use embassy_executor::{Spawner, main, task};
use embassy_futures::join::join4;
use embassy_net::tcp::client::{TcpClient, TcpClientState};
use embassy_net::{DhcpConfig, Stack, StackResources};
use embassy_rp::adc::{self, Adc, Channel};
use embassy_rp::clocks::RoscRng;
use embassy_rp::flash::{Async, Flash};
use embassy_rp::gpio::{Level, Output};
use embassy_rp::peripherals::{DMA_CH0, DMA_CH1, FLASH, PIO0, USB};
use embassy_rp::pio::{self, Pio};
use embassy_rp::{bind_interrupts, dma, usb, watchdog};
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::mutex::Mutex;
use embassy_time::{Duration, Timer};
use heapless::String;
use log::{LevelFilter, info, warn};
use panic_reset as _;
use sha2::{Digest, Sha256};
use static_cell::{ConstStaticCell, StaticCell};

use crate::settings::{APP, KEY, SERVER};
use crate::wifi::Wifi;

/// All of the board's flash, and what of it is the outbox's: its end, which `memory.x` leaves free.
const CHIP: usize = 2048 * 1024;
const OUTBOX: usize = 64 * 1024;
/// Messages that may wait to be sent, and most bytes of each.
const WAITING: usize = 256;
const PAYLOAD: usize = 64;
/// Messages that may have come and not be taken.
const COME: usize = 4;
/// Bytes of each of the buffers of a connection.
const STREAM: usize = 1024;
/// Between two temperatures.
const EVERY: Duration = Duration::from_secs(10);

type Storage = Flash<'static, FLASH, Async, CHIP>;
type Outbox = bowline_flash::Outbox<'static, Partition<'static, CriticalSectionRawMutex, Storage>>;
type Memory = Resources<Outbox, COME, { inbox_for(COME, COME * PAYLOAD) }, { buffer_for(PAYLOAD) }>;
type Runner = bowline_embedded::Runner<'static, Outbox, fn(&mut [u8])>;
type Radio = cyw43::Runner<'static, cyw43::SpiBus<Output<'static>, PioSpi<'static, PIO0, 0>>>;

bind_interrupts!(struct Interrupts {
    PIO0_IRQ_0 => pio::InterruptHandler<PIO0>;
    DMA_IRQ_0 => dma::InterruptHandler<DMA_CH0>, dma::InterruptHandler<DMA_CH1>;
    ADC_IRQ_FIFO => adc::InterruptHandler;
    USBCTRL_IRQ => usb::InterruptHandler<USB>;
});

#[main]
async fn main(spawner: Spawner) {
    let board = embassy_rp::init(Default::default());
    spawner.spawn(console(usb::Driver::new(board.USB, Interrupts)).expect("spawned once"));
    wifi::has_firmware().await;

    let mut pio = Pio::new(board.PIO0, Interrupts);
    let spi = PioSpi::new(
        &mut pio.common,
        pio.sm0,
        DEFAULT_CLOCK_DIVIDER,
        pio.irq0,
        Output::new(board.PIN_25, Level::High),
        board.PIN_24,
        board.PIN_29,
        dma::Channel::new(board.DMA_CH0, Interrupts),
    );
    static STATE: StaticCell<cyw43::State> = StaticCell::new();
    let power = Output::new(board.PIN_23, Level::Low);
    let (device, control, radio) =
        cyw43::new(STATE.init(cyw43::State::new()), power, spi, wifi::FIRMWARE, wifi::NVRAM).await;
    spawner.spawn(radios(radio).expect("spawned once"));

    let mut seed = [0; 8];
    random(&mut seed);
    static SOCKETS: StaticCell<StackResources<3>> = StaticCell::new();
    let addresses = embassy_net::Config::dhcpv4(DhcpConfig::default());
    let sockets = SOCKETS.init(StackResources::new());
    let (stack, network) = embassy_net::new(FrameFilter::new(device), addresses, sockets, u64::from_le_bytes(seed));
    spawner.spawn(networks(network).expect("spawned once"));
    let wifi = Wifi::new(control, stack).await;

    static CHIP_FLASH: StaticCell<Mutex<CriticalSectionRawMutex, Storage>> = StaticCell::new();
    let chip = CHIP_FLASH.init(Mutex::new(Flash::new(board.FLASH, board.DMA_CH1, Interrupts)));
    let partition = Partition::new(chip, (CHIP - OUTBOX) as u32, OUTBOX as u32);
    static SLOTS: ConstStaticCell<[Slot; WAITING]> = ConstStaticCell::new([Slot::EMPTY; WAITING]);
    let opened = Outbox::open(partition, SLOTS.take(), PAYLOAD, Clock::default()).await;
    let (outbox, report) = opened.expect("the flash can be written, and holds no more than there are slots for");
    info!("outbox: {} waiting, {} lost", report.waiting, report.lost);

    static MEMORY: ConstStaticCell<Memory> = ConstStaticCell::new(Memory::new());
    let provision = Provision::parse(KEY).expect("BOWLINE_KEY is a line that `bowline key new` has printed");
    let server = SERVER.parse().expect("BOWLINE_SERVER is an address and a port");
    let config = Config::provisioned(&provision, server);
    let (client, runner) =
        bowline_embedded::new(MEMORY.take(), outbox, config, random as fn(&mut [u8])).expect("sizes that fit");
    spawner.spawn(links(runner, stack, wifi).expect("spawned once"));

    let guard =
        Guard { every: Duration::from_secs(2), runner: Duration::from_secs(60), application: Duration::from_secs(60) };
    let mut dog = Dog(watchdog::Watchdog::new(board.WATCHDOG));
    dog.0.start(Dog::PATIENCE);
    let mut led = Output::new(board.PIN_15, Level::Low);
    let sensor = Adc::new(board.ADC, Interrupts, adc::Config::default());
    let inside = Channel::new_temp_sensor(board.ADC_TEMP_SENSOR);
    join4(
        measures(client, sensor, inside),
        tells(client),
        client.guard(&mut dog, &guard),
        // A pin of the chip does not fail.
        client.heartbeat(&mut led),
    )
    .await;
}

/// Sends what the sensor says, and logs what comes.
async fn measures(
    client: Client<'static, Outbox>,
    mut sensor: Adc<'static, adc::Async>,
    mut inside: Channel<'static>,
) -> ! {
    let mut buffer = [0; PAYLOAD];
    loop {
        client.alive();
        if let Ok(raw) = sensor.read(&mut inside).await {
            let mut text = String::<16>::new();
            // No temperature is longer.
            let _ = write!(text, "{:.1}", degrees(raw));
            // Without a server the board goes on measuring. What does not fit any more is told, and left out.
            match client.try_send(Address { app: APP, instance: 0, tag: 0 }, text.as_bytes()).await {
                Ok(()) => info!("{text} degrees accepted"),
                Err(error) => warn!("{text} degrees not accepted: {error}"),
            }
        }
        while let Ok(Some(message)) = client.try_recv(&mut buffer) {
            info!("came: {}", core::str::from_utf8(message.payload).unwrap_or("(no text)"));
        }
        Timer::after(EVERY).await;
    }
}

/// Degrees Celsius, from 12 bits of 3.3 V: the datasheet's formula (RP2040, 4.9.5).
fn degrees(raw: u16) -> f32 {
    27.0 - (f32::from(raw) * 3.3 / 4096.0 - 0.706) / 0.001_721
}

/// Logs what becomes of the link.
async fn tells(client: Client<'static, Outbox>) -> ! {
    let mut watch = client.watch();
    loop {
        match watch.changed().await.link {
            LinkState::Up { .. } => info!("up"),
            LinkState::Down(why) => warn!("down: {why}"),
            _ => {}
        }
    }
}

/// Bytes that nobody can guess. The ring oscillator gives bits that hang together; a digest of 256 bytes of it does not.
fn random(bytes: &mut [u8]) {
    for chunk in bytes.chunks_mut(32) {
        let mut raw = [0; 256];
        RoscRng.fill_bytes(&mut raw);
        chunk.copy_from_slice(&Sha256::digest(raw)[..chunk.len()]);
    }
}

/// The chip's own watchdog, which waits for 8.3 s at most.
struct Dog(watchdog::Watchdog);

impl Dog {
    const PATIENCE: Duration = Duration::from_secs(8);
}

impl Watchdog for Dog {
    fn feed(&mut self) {
        self.0.feed(Self::PATIENCE);
    }
}

#[task]
async fn console(driver: usb::Driver<'static, USB>) {
    embassy_usb_logger::run!(1024, LevelFilter::Info, driver);
}

#[task]
async fn radios(radio: Radio) -> ! {
    radio.run().await
}

#[task]
async fn networks(mut runner: embassy_net::Runner<'static, FrameFilter<cyw43::NetDriver<'static>>>) -> ! {
    runner.run().await
}

#[task]
async fn links(mut runner: Runner, stack: Stack<'static>, mut wifi: Wifi) -> ! {
    static CONNECTIONS: StaticCell<TcpClientState<1, STREAM, STREAM>> = StaticCell::new();
    let tcp = TcpClient::new(stack, CONNECTIONS.init(TcpClientState::new()));
    runner.run_on(&tcp, &mut wifi).await
}
