//! A client that is used as programs use one: four messages of 256 bytes wait on their way out, one has come.

use core::convert::Infallible;
use core::future::poll_fn;
use core::hint::black_box;
use core::pin::{Pin, pin};
use core::task::{Context, Poll};

#[cfg(not(feature = "keys"))]
use bowline_embedded::DeviceId;
#[cfg(feature = "keys")]
use bowline_embedded::Provision;
#[cfg(feature = "lines")]
use bowline_embedded::lines::{self, Headers, Text};
use bowline_embedded::{Address, Client, Config, Resources, Runner, Slot, buffer_for, inbox_for};
use embassy_time::Duration;
use static_cell::ConstStaticCell;

use crate::board::{Nowhere, random};

const PAYLOAD: usize = 256;
/// On their way out.
const MESSAGES: usize = 4;
/// That have come and were not taken yet.
const INCOMING: usize = 1;

#[cfg(not(feature = "flash"))]
type Kept = bowline_embedded::RamOutbox<'static>;
#[cfg(feature = "flash")]
type Kept = bowline_flash::Outbox<'static, Nowhere>;
#[cfg(not(feature = "lines"))]
type Log = Kept;
#[cfg(feature = "lines")]
type Log = Text<Kept>;

type Memory = Resources<Log, INCOMING, { inbox_for(INCOMING, INCOMING * PAYLOAD) }, { buffer_for(PAYLOAD) }>;
#[cfg(not(feature = "lines"))]
type Run = Runner<'static, Log, fn(&mut [u8])>;
#[cfg(feature = "lines")]
type Run = Runner<'static, Log, fn(&mut [u8]), Headers>;

static MEMORY: ConstStaticCell<Memory> = ConstStaticCell::new(Memory::new());
static SLOTS: ConstStaticCell<[Slot; MESSAGES]> = ConstStaticCell::new([Slot::EMPTY; MESSAGES]);
#[cfg(not(feature = "flash"))]
static BYTES: ConstStaticCell<[u8; MESSAGES * PAYLOAD]> = ConstStaticCell::new([0; MESSAGES * PAYLOAD]);

/// Bytes of each part, as `PARTS` in `xtask/src/sizes.rs` names them.
#[unsafe(link_section = ".bowline.sizes")]
static SIZES: [u32; 8] = [
    if cfg!(feature = "flash") { 0 } else { (MESSAGES * PAYLOAD) as u32 },
    (MESSAGES * size_of::<Slot>()) as u32,
    (2 * buffer_for(PAYLOAD)) as u32,
    inbox_for(INCOMING, INCOMING * PAYLOAD) as u32,
    (size_of::<Memory>() - 2 * buffer_for(PAYLOAD) - inbox_for(INCOMING, INCOMING * PAYLOAD)) as u32,
    size_of::<Run>() as u32,
    size_of_future(run) as u32,
    size_of_future(application) as u32,
];

const fn size_of_future<A, F: Future>(_: fn(A) -> F) -> usize {
    size_of::<F>()
}

async fn run(runner: &mut Run) -> Infallible {
    runner.run(&Nowhere).await
}

const READINGS: Address = Address { app: 5, instance: 0, tag: 0 };

async fn application(client: Client<'static, Log>) -> Infallible {
    let mut buffer = [0; PAYLOAD];
    loop {
        client.connected().await;
        let _ = client.send(READINGS, black_box(&buffer[..8])).await;
        client.drained().await;
        if let Ok(message) = client.recv(&mut buffer).await {
            black_box((message.channel, message.payload, message.id, message.gap));
        }
        let _ = client.try_recv(&mut buffer).map(|message| black_box(message.is_some()));
        let _ = client.request(6, 0, black_box(b"?"), Duration::from_secs(1), &mut buffer).await.map(|_| ());
        black_box((client.counters(), client.status()));
    }
}

#[inline(never)]
fn polls<F: Future>(task: Pin<&mut F>, context: &mut Context<'_>) -> Poll<F::Output> {
    task.poll(context)
}

pub async fn runs() -> Infallible {
    black_box(&SIZES);
    let slots = SLOTS.take();
    #[cfg(not(feature = "flash"))]
    let outbox = Kept::new(slots, BYTES.take(), PAYLOAD);
    #[cfg(feature = "flash")]
    let outbox = match Kept::open(Nowhere, slots, PAYLOAD, Default::default()).await {
        Ok((outbox, _)) => outbox,
        Err(_) => loop {},
    };
    let server = core::net::SocketAddr::from(([192, 168, 0, 41], 9999));
    #[cfg(not(feature = "keys"))]
    let Ok(config) = DeviceId::new(black_box("garden")).map(|id| Config::new(id, server)) else { loop {} };
    #[cfg(feature = "keys")]
    let Ok(config) = Provision::parse(black_box("")).map(|line| Config::provisioned(&line, server)) else { loop {} };
    let random: fn(&mut [u8]) = random;
    #[cfg(not(feature = "lines"))]
    let made = bowline_embedded::new(MEMORY.take(), outbox, config, random);
    #[cfg(feature = "lines")]
    let made = lines::new(MEMORY.take(), Text(outbox), config, random);
    let Ok((client, mut runner)) = made else { loop {} };
    // As tasks of an executor are: each by itself.
    let (mut run, mut application) = (pin!(run(&mut runner)), pin!(application(client)));
    poll_fn(|context| {
        let _ = polls(run.as_mut(), context);
        polls(application.as_mut(), context)
    })
    .await
}
