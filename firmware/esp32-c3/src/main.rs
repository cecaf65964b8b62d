//! Bowline's device client on an ESP32-C3: the chip's temperature every ten seconds, whatever the WiFi, the server and
//! the power do. How to build it, and what to expect: `README.md`.

#![no_std]
#![no_main]

mod settings;
mod wifi;

use core::fmt::Write as _;

use bowline_embedded::{
    Address, Client, Config, FrameFilter, Guard, LinkState, Provision, Resources, Slot, Watchdog, buffer_for, inbox_for,
};
use bowline_flash::Clock;
use embassy_embedded_hal::adapter::BlockingAsync;
use embassy_embedded_hal::flash::partition::Partition;
use embassy_executor::{Spawner, task};
use embassy_futures::join::join4;
use embassy_net::tcp::client::{TcpClient, TcpClientState};
use embassy_net::{DhcpConfig, Stack, StackResources};
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::mutex::Mutex;
use embassy_time::{Duration, Timer};
use esp_backtrace as _;
use esp_hal::gpio::{Level, Output, OutputConfig};
use esp_hal::rng::Rng;
use esp_hal::rtc_cntl::{Rtc, Rwdt, RwdtStage};
use esp_hal::timer::timg::TimerGroup;
use esp_hal::tsens::{self, TemperatureSensor};
use esp_println::println;
use esp_radio::wifi::{Interface, WifiController};
use esp_storage::FlashStorage;
use heapless::String;
use static_cell::{ConstStaticCell, StaticCell};

use crate::settings::{APP, KEY, SERVER};
use crate::wifi::Wifi;

esp_bootloader_esp_idf::esp_app_desc!();

/// Of the board's flash of 4 MiB, its end is the outbox's. The bootloader's usual partitions end far before it.
const OUTBOX_START: u32 = (4096 - 64) * 1024;
const OUTBOX: u32 = 64 * 1024;
/// Messages that may wait to be sent, and most bytes of each.
const WAITING: usize = 256;
const PAYLOAD: usize = 64;
/// Messages that may have come and not be taken.
const COME: usize = 4;
/// Bytes of each of the buffers of a connection.
const STREAM: usize = 1024;
/// Between two temperatures.
const EVERY: Duration = Duration::from_secs(10);

type Storage = BlockingAsync<FlashStorage<'static>>;
type Outbox = bowline_flash::Outbox<'static, Partition<'static, CriticalSectionRawMutex, Storage>>;
type Memory = Resources<Outbox, COME, { inbox_for(COME, COME * PAYLOAD) }, { buffer_for(PAYLOAD) }>;
type Runner = bowline_embedded::Runner<'static, Outbox, fn(&mut [u8])>;

#[esp_rtos::main]
async fn main(spawner: Spawner) {
    let board = esp_hal::init(esp_hal::Config::default());
    // The driver of the WiFi allocates; nothing of Bowline does.
    esp_alloc::heap_allocator!(size: 72 * 1024);
    esp_rtos::start(TimerGroup::new(board.TIMG0).timer0, board.FROM_CPU_INTR0);

    // From here on the radio is on, and with it the random generator is one.
    let controller = WifiController::new(board.WIFI, Default::default()).expect("a chip with WiFi");
    let mut seed = [0; 8];
    random(&mut seed);
    static SOCKETS: StaticCell<StackResources<3>> = StaticCell::new();
    let addresses = embassy_net::Config::dhcpv4(DhcpConfig::default());
    let sockets = SOCKETS.init(StackResources::new());
    let (stack, network) =
        embassy_net::new(FrameFilter::new(Interface::station()), addresses, sockets, u64::from_le_bytes(seed));
    spawner.spawn(networks(network).expect("spawned once"));
    let wifi = Wifi::new(controller, stack);

    static CHIP_FLASH: StaticCell<Mutex<CriticalSectionRawMutex, Storage>> = StaticCell::new();
    let chip = CHIP_FLASH.init(Mutex::new(BlockingAsync::new(FlashStorage::new(board.FLASH))));
    let partition = Partition::new(chip, OUTBOX_START, OUTBOX);
    static SLOTS: ConstStaticCell<[Slot; WAITING]> = ConstStaticCell::new([Slot::EMPTY; WAITING]);
    let opened = Outbox::open(partition, SLOTS.take(), PAYLOAD, Clock::default()).await;
    let (outbox, report) =
        opened.expect("a flash of 4 MiB that can be written, with no more in it than there are slots");
    println!("outbox: {} waiting, {} lost", report.waiting, report.lost);

    static MEMORY: ConstStaticCell<Memory> = ConstStaticCell::new(Memory::new());
    let provision = Provision::parse(KEY).expect("BOWLINE_KEY is a line that `bowline key new` has printed");
    let server = SERVER.parse().expect("BOWLINE_SERVER is an address and a port");
    let config = Config::provisioned(&provision, server);
    let (client, runner) =
        bowline_embedded::new(MEMORY.take(), outbox, config, random as fn(&mut [u8])).expect("sizes that fit");
    spawner.spawn(links(runner, stack, wifi).expect("spawned once"));

    let guard =
        Guard { every: Duration::from_secs(2), runner: Duration::from_secs(60), application: Duration::from_secs(60) };
    let mut dog = Dog(Rtc::new(board.RTC_TIMER).rwdt);
    dog.0.set_timeout(RwdtStage::Stage0, esp_hal::time::Duration::from_secs(8));
    dog.0.enable();
    let mut led = Output::new(board.GPIO8, Level::High, OutputConfig::default());
    let sensor = TemperatureSensor::new(board.TSENS, tsens::Config::default()).expect("the default settings fit");
    join4(
        measures(client, sensor),
        tells(client),
        client.guard(&mut dog, &guard),
        // A pin of the chip does not fail.
        client.heartbeat(&mut led),
    )
    .await;
}

/// Sends what the sensor says, and shows what comes.
async fn measures(client: Client<'static, Outbox>, sensor: TemperatureSensor<'static>) -> ! {
    let mut buffer = [0; PAYLOAD];
    loop {
        client.alive();
        let mut text = String::<16>::new();
        // No temperature is longer.
        let _ = write!(text, "{:.1}", sensor.get_temperature().to_celsius());
        // Without a server the board goes on measuring. What does not fit any more is told, and left out.
        match client.try_send(Address { app: APP, instance: 0, tag: 0 }, text.as_bytes()).await {
            Ok(()) => println!("{text} degrees accepted"),
            Err(error) => println!("{text} degrees not accepted: {error}"),
        }
        while let Ok(Some(message)) = client.try_recv(&mut buffer) {
            println!("came: {}", core::str::from_utf8(message.payload).unwrap_or("(no text)"));
        }
        Timer::after(EVERY).await;
    }
}

/// Shows what becomes of the link.
async fn tells(client: Client<'static, Outbox>) -> ! {
    let mut watch = client.watch();
    loop {
        match watch.changed().await.link {
            LinkState::Up { .. } => println!("up"),
            LinkState::Down(why) => println!("down: {why}"),
            _ => {}
        }
    }
}

/// Bytes that nobody can guess, while the radio is on.
fn random(bytes: &mut [u8]) {
    Rng::new().read(bytes);
}

/// The chip's watchdog that runs on its own clock.
struct Dog(Rwdt);

impl Watchdog for Dog {
    fn feed(&mut self) {
        self.0.feed();
    }
}

#[task]
async fn networks(mut runner: embassy_net::Runner<'static, FrameFilter<Interface>>) -> ! {
    runner.run().await
}

#[task]
async fn links(mut runner: Runner, stack: Stack<'static>, mut wifi: Wifi) -> ! {
    static CONNECTIONS: StaticCell<TcpClientState<1, STREAM, STREAM>> = StaticCell::new();
    let tcp = TcpClient::new(stack, CONNECTIONS.init(TcpClientState::new()));
    runner.run_on(&tcp, &mut wifi).await
}
