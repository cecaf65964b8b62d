//! A load generator for peers, which does what `bowline bench` does: so many devices, so many messages of each on their
//! way, the next one as soon as there is room.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::process::cpu_seconds;

/// What a device says and hears. Acknowledgements come in the order of the messages.
pub(crate) trait Peer: Send + 'static {
    /// What a new connection begins with.
    fn hello(&mut self, device: u32, out: &mut Vec<u8>);

    /// The next message.
    fn publish(&mut self, payload: &[u8], out: &mut Vec<u8>);

    /// Everything that is sent at once has been said: what follows the last message, if anything does.
    fn flush(&mut self, _out: &mut Vec<u8>) {}

    /// Understands the front of what has come, and writes what must be answered.
    fn heard(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Heard>;
}

/// What the front of the input was.
pub(crate) enum Heard {
    /// Not whole yet.
    Part,
    /// So many bytes, by which so many messages are acknowledged; the first of all says that the link is up.
    Bytes(usize, usize),
}

/// How much, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amount {
    pub(crate) devices: u32,
    pub(crate) window: usize,
    pub(crate) bytes: usize,
    pub(crate) seconds: Duration,
}

/// Before anything counts.
pub(crate) const WARM_UP: Duration = Duration::from_millis(500);

/// What one run has given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    /// Messages acknowledged a second.
    pub(crate) per_second: f64,
    /// The same for each second of the server's processor time.
    pub(crate) per_cpu_second: f64,
    /// From sending to the acknowledgement, in microseconds.
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// Phases of a run; 0 comes before.
const COUNTING: u8 = 1;
const ENDING: u8 = 2;

#[derive(Default)]
struct Shared {
    phase: AtomicU8,
    acked: AtomicU64,
}

/// Runs devices that `peer` makes against the server with this address and process id.
pub(crate) async fn run<P: Peer>(
    peer: impl Fn() -> P,
    address: SocketAddr,
    pid: u32,
    amount: Amount,
) -> Result<Figures> {
    let shared = Arc::new(Shared::default());
    let mut devices = JoinSet::new();
    for number in 0..amount.devices {
        devices.spawn(device(peer(), address, number, amount, Arc::clone(&shared)));
    }
    tokio::time::sleep(WARM_UP).await;
    let (start, cpu, before) = (Instant::now(), cpu_seconds(pid)?, shared.acked.load(Ordering::Relaxed));
    shared.phase.store(COUNTING, Ordering::Relaxed);
    tokio::time::sleep(amount.seconds).await;
    let (took, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds(pid)? - cpu);
    let count = (shared.acked.load(Ordering::Relaxed) - before) as f64;
    shared.phase.store(ENDING, Ordering::Relaxed);
    let mut times = Histogram::<u64>::new(3)?;
    let collected = async {
        while let Some(device) = devices.join_next().await {
            times += device??;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(20), collected)
        .await
        .context("a device's messages were not answered")??;
    if times.is_empty() {
        bail!("nothing was acknowledged");
    }
    let at = |quantile| times.value_at_quantile(quantile) as f64 / 1e3;
    Ok(Figures { per_second: count / took, per_cpu_second: count / cpu, p50_us: at(0.5), p99_us: at(0.99) })
}

async fn device<P: Peer>(
    mut peer: P,
    address: SocketAddr,
    number: u32,
    amount: Amount,
    shared: Arc<Shared>,
) -> Result<Histogram<u64>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let payload = vec![b'x'; amount.bytes];
    let (mut input, mut out) = (Vec::with_capacity(32 * 1024), Vec::new());
    let mut times = Histogram::<u64>::new(3)?;
    let mut sent = VecDeque::new();
    let mut is_up = false;
    peer.hello(number, &mut out);
    loop {
        let phase = shared.phase.load(Ordering::Relaxed);
        if phase == ENDING && sent.is_empty() {
            return Ok(times);
        }
        if is_up && phase != ENDING && sent.len() < amount.window {
            let now = Instant::now();
            while sent.len() < amount.window {
                peer.publish(&payload, &mut out);
                sent.push_back((now, phase == COUNTING));
            }
            peer.flush(&mut out);
        }
        if !out.is_empty() {
            stream.write_all(&out).await?;
            out.clear();
        }
        if stream.read_buf(&mut input).await? == 0 {
            bail!("the server closed the connection");
        }
        let (mut at, mut acked, now) = (0, 0, Instant::now());
        while let Heard::Bytes(len, count) = peer.heard(&input[at..], &mut out)? {
            at += len;
            is_up = true;
            acked += count;
            for (start, counts) in sent.drain(..count.min(sent.len())) {
                if counts {
                    times.record(now.duration_since(start).as_nanos() as u64)?;
                }
            }
        }
        input.drain(..at);
        shared.acked.fetch_add(acked as u64, Ordering::Relaxed);
    }
}
