//! What a good app's messages take when bad apps of the same device are at work beside it: one that fails, one
//! that panics, one that is slow. Alone and beside them are measured in the same run, alternately, by the same
//! code, and printed as a ratio.
//!
//! `cargo bench -p bowline-server --bench apps [-- ROUNDS]`

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bowline_client::{Client, Receipt};
use bowline_server::{App, AppError, AppLimits, AppMessage, Handled, Instance, Message, Port, Server};

/// Round trips measured at a stretch, before it is the other one's turn.
const BLOCK: usize = 500;

/// Messages that each of the bad apps has while the good one is measured.
const BAD: usize = 20;

const PAYLOAD: &[u8] = br#"{"sensor": "attic", "temperature": 21.25, "humidity": 48}"#;

/// What an app does with a message.
#[derive(Clone)]
enum Kind {
    Good,
    Fails,
    Panics,
    Sleeps,
}

/// An app that is bad as long as it is told to be.
#[derive(Clone)]
struct Sometimes {
    kind: Kind,
    bad: Arc<AtomicBool>,
}

impl App for Sometimes {
    type Instance = Sometimes;

    fn instance(&self, _: Port) -> Sometimes {
        self.clone()
    }
}

impl Instance for Sometimes {
    async fn handle(&mut self, message: &AppMessage) -> Result<Handled, AppError> {
        match self.kind {
            Kind::Good => return Ok(Handled::reply(message.tag(), message.payload().to_vec())),
            _ if !self.bad.load(Ordering::Relaxed) => {}
            Kind::Fails => return Err(AppError::retry("not now")),
            Kind::Panics => panic!("not now"),
            Kind::Sleeps => tokio::time::sleep(Duration::from_millis(20)).await,
        }
        Ok(Handled::done())
    }
}

fn main() {
    let rounds: usize = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(20);
    // The panics are part of the measurement, what they print is not.
    std::panic::set_hook(Box::new(|_| {}));
    let bad = Arc::new(AtomicBool::new(false));
    let app = |kind| Sometimes { kind, bad: Arc::clone(&bad) };
    let limits = AppLimits {
        attempts: u32::MAX,
        first_pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(20),
        ..AppLimits::default()
    };
    let servers = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let builder = Server::builder()
        .listen("127.0.0.1:0".parse().unwrap())
        .settle(Duration::ZERO)
        .pace(1, Duration::ZERO)
        .app(0, "good", app(Kind::Good))
        .app(1, "failing", app(Kind::Fails))
        .app(2, "panicking", app(Kind::Panics))
        .app(3, "slow", app(Kind::Sleeps))
        .app_limits(limits);
    let server = servers.block_on(builder.start()).unwrap();
    let address = server.addresses()[0].to_string();

    let device = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    device.block_on(async {
        let client = Client::builder("bench", address).start().unwrap();
        client.connected().await.unwrap();
        let bad_ones = || server.app_stats()[1..].iter().map(|app| app.handled).sum::<u64>();
        for round in 0..=rounds {
            measure(&client, &mut alone).await;
            bad.store(true, Ordering::Relaxed);
            for ident in (1..=3).cycle().take(3 * BAD) {
                let message = Message::on_channel(ident, 0, 0, PAYLOAD);
                client.send(message).until(Receipt::Accepted).await.unwrap();
            }
            measure(&client, &mut beside).await;
            bad.store(false, Ordering::Relaxed);
            while bad_ones() < (3 * BAD * (round + 1)) as u64 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            if round == 0 {
                // To warm up.
                alone.clear();
                beside.clear();
            }
        }
    });
    println!("a good app's answer over loopback, {} round trips each, dialect N, no store", rounds * BLOCK);
    println!("{:32} {:>10} {:>10}", "", "median", "p99");
    let (alone, beside) = (Summary::of(alone), Summary::of(beside));
    alone.print("alone");
    beside.print("beside three bad ones");
    println!(
        "{:32} {:>10.2} {:>10.2}",
        "ratio",
        beside.median.as_secs_f64() / alone.median.as_secs_f64(),
        beside.p99.as_secs_f64() / alone.p99.as_secs_f64(),
    );
    for app in &server.app_stats()[1..] {
        println!("{}: {} tries again, {} panics, {} handled", app.name, app.retried, app.panics, app.handled);
    }
}

async fn measure(client: &Client, times: &mut Vec<Duration>) {
    for _ in 0..BLOCK {
        let start = Instant::now();
        client.send(Message::on_channel(0, 0, 0, PAYLOAD)).until(Receipt::Accepted).await.unwrap();
        client.recv().await.unwrap();
        times.push(start.elapsed());
    }
}

struct Summary {
    median: Duration,
    p99: Duration,
}

impl Summary {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |per_mille: usize| times[(times.len() - 1) * per_mille / 1000];
        Summary { median: at(500), p99: at(990) }
    }

    fn print(&self, name: &str) {
        println!("{name:32} {:>7.1} us {:>7.1} us", self.median.as_secs_f64() * 1e6, self.p99.as_secs_f64() * 1e6);
    }
}
