//! `bowline demo`: devices, a server and a bad network in one process, and the ledger at the end.

mod checker;
mod faults;
mod fleet;
mod host;
mod proxy;
mod report;
mod traffic;
mod view;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bowline_client::{Backoff, Client};
use bowline_server::Device;
use fastrand::Rng;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use fleet::Board;
use host::Host;
use proxy::Proxy;
use report::{Effort, Report, Row, Run};
use traffic::End;
use view::View;

/// Timeout of both ends. Short, so that half a minute shows many outages.
const TIMEOUT: Duration = Duration::from_secs(1);

/// What has not arrived this long after the last fault is lost: three timeouts, and a margin for a
/// machine that has other things to do.
const HEALING: Duration = Duration::from_secs(4);

/// Time in which nothing may come any more once everything has arrived.
const QUIET: Duration = Duration::from_millis(300);

/// Show what Bowline is for, without hardware: bad links, a server restart, and nothing lost.
///
/// Runs a server and some devices in this process, on loopback, with a bad network between them. Both
/// sides keep sending numbered messages. At the end a ledger says what became of each.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DemoArgs {
    /// How long the demo takes, in seconds, 5 to 600
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u16).range(5..=600))]
    pub(crate) seconds: u16,
    /// How many devices take part, 1 to 50
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=50))]
    pub(crate) devices: u16,
    /// Replay the faults of an earlier run with the same number of seconds and devices
    #[arg(long, value_name = "SEED")]
    pub(crate) seed: Option<u64>,
    /// Print the ledger as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What the demo is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Everyone sends, and the network is bad.
    Faults,
    /// Nobody begins to send, the network is good: what is pending must arrive.
    Healing,
}

/// Runs the demo. The exit code is a success if every message arrived exactly once and in order.
///
/// # Errors
/// If the system gives no sockets, or the ledger cannot be written.
pub(crate) async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    // Not more digits than one likes to type.
    let seed = args.seed.unwrap_or_else(|| u64::from(fastrand::u32(..)));
    introduce(&args, seed);
    let report = Demo::start(&args, seed).await?.play().await?;
    let mut stdout = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut stdout, &report)?;
        writeln!(stdout)?;
    } else {
        writeln!(stdout, "{report}")?;
    }
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn introduce(args: &DemoArgs, seed: u64) {
    let devices = args.devices;
    view::print(&format!(
        "Bowline demo, seed {seed}: a server, {devices} devices and a bad network between them.

Both sides keep sending numbered messages while the network cuts links, leaves
them half-open, stalls and delays them, and the server is restarted once. Then
it heals, and each message must have arrived exactly once and in order.

Every third device speaks the native dialect, the others those of the two
MicroPython libraries. The demo keeps everything in memory; `bowline serve`
keeps it on disk, where it outlives kill -9 and power cuts too."
    ));
}

/// Everything that runs.
struct Demo {
    args: DemoArgs,
    seed: u64,
    start: Instant,
    /// How long the network is bad.
    faults_last: Duration,
    phase: watch::Sender<Phase>,
    host: Host,
    boards: Vec<Arc<Board>>,
    clients: Vec<Client>,
    /// They run until dropped.
    _proxies: Vec<Arc<Proxy>>,
    view: View,
    /// Applications, observers, faults and the view. They end when dropped.
    tasks: JoinSet<()>,
}

impl Demo {
    async fn start(args: &DemoArgs, seed: u64) -> anyhow::Result<Self> {
        let seconds = Duration::from_secs(args.seconds.into());
        // Healing takes a second or two, seldom all of its time.
        let faults_last = seconds.saturating_sub(Duration::from_secs(2)).max(seconds / 2);
        let boards: Vec<_> = (0..args.devices.into()).map(|number| Arc::new(Board::new(number))).collect();
        let phase = watch::Sender::new(Phase::Faults);
        let mut random = Rng::with_seed(seed);
        let mut tasks = JoinSet::new();

        let (newcomers, arrivals) = mpsc::unbounded_channel();
        let host = Host::start(newcomers).await.context("the demo's server did not start")?;
        tasks.spawn(serve(boards.clone(), arrivals, random.fork(), phase.subscribe()));

        let start = Instant::now();
        let view = View::start(boards.clone(), faults_last);
        tasks.spawn(view.clone().run());
        let (mut clients, mut proxies) = (Vec::new(), Vec::new());
        for (board, faults) in boards.iter().zip(faults::schedule(seed, boards.len(), faults_last)) {
            let proxy = Proxy::start(host.address()).await.context("the demo's network did not start")?;
            let proxy = Arc::new(proxy);
            proxies.push(Arc::clone(&proxy));
            let client = Client::builder(&board.id, proxy.address().to_string())
                .dialect(board.dialect)
                .timeout(TIMEOUT)
                .backoff(Backoff { first: Duration::from_millis(100), longest: Duration::from_millis(500) })
                .start()?;
            clients.push(client.clone());
            tasks.spawn(Arc::clone(board).follow(client.clone()));
            tasks.spawn(traffic::run(End::Device(client), Arc::clone(board), random.fork(), phase.subscribe()));
            tasks.spawn(faults::play(faults, start, proxy, Arc::clone(board), view.clone(), phase.subscribe()));
        }
        Ok(Demo {
            args: args.clone(),
            seed,
            start,
            faults_last,
            phase,
            host,
            boards,
            clients,
            _proxies: proxies,
            view,
            tasks,
        })
    }

    /// From the first fault to the ledger.
    async fn play(mut self) -> anyhow::Result<Report> {
        let interrupt = tokio::signal::ctrl_c();
        tokio::pin!(interrupt);
        let mut ended_early = false;
        let mut server_restarts = 0;
        for (until, restart) in [(self.faults_last.mul_f64(0.45), true), (self.faults_last, false)] {
            tokio::select! {
                () = tokio::time::sleep_until(self.start + until) => {}
                // If there is no such signal, the demo takes its time.
                Ok(()) = &mut interrupt => ended_early = true,
            }
            if ended_early {
                break;
            }
            if restart {
                // An interrupt meanwhile is not lost: the next turn finds it.
                self.host.restart(&self.view).await.context("the demo's server did not start again")?;
                server_restarts += 1;
            }
        }
        self.view.say(if ended_early { "interrupted: the network heals" } else { "the network heals" }.to_owned());
        let healed = self.heal().await;
        let run = Run {
            seed: self.seed,
            seconds: report::round(self.start.elapsed()),
            ended_early,
            server_restarts,
            healed_after_seconds: healed.map(report::round),
        };
        let report = self.report(run);
        self.stop().await;
        Ok(report)
    }

    /// Ends the faults and waits until everything has arrived. Says how long that took, if it has.
    async fn heal(&self) -> Option<Duration> {
        let start = Instant::now();
        self.phase.send_replace(Phase::Healing);
        while !self.boards.iter().all(|board| board.snapshot().settled) {
            if start.elapsed() >= HEALING {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let took = start.elapsed();
        tokio::time::sleep(QUIET).await;
        Some(took)
    }

    fn report(&self, run: Run) -> Report {
        let rows = self.boards.iter().map(|board| Row::new(board, &board.snapshot())).collect();
        let ends = self.boards.iter().filter_map(|board| self.host.ledger(&board.id));
        let mut effort = Effort::default();
        for ledger in ends.chain(self.clients.iter().map(Client::ledger)) {
            effort.resent += ledger.totals.resent;
            effort.duplicates_refused += ledger.totals.duplicates;
        }
        let DemoArgs { seconds, devices, .. } = self.args;
        let replay = format!("bowline demo --seed {} --devices {devices} --seconds {seconds}", self.seed);
        Report::new(run, replay, rows, effort)
    }

    async fn stop(mut self) {
        self.tasks.shutdown().await;
        self.view.close();
        for client in &self.clients {
            client.close(Duration::ZERO).await;
        }
        self.host.stop().await;
    }
}

/// Runs the server's application for each device that comes for the first time.
async fn serve(
    boards: Vec<Arc<Board>>,
    mut arrivals: mpsc::UnboundedReceiver<Device>,
    mut random: Rng,
    phase: watch::Receiver<Phase>,
) {
    let mut apps = JoinSet::new();
    while let Some(device) = arrivals.recv().await {
        if let Some(board) = boards.iter().find(|board| board.id == device.id()) {
            apps.spawn(traffic::run(End::Server(device), Arc::clone(board), random.fork(), phase.clone()));
        }
    }
}
