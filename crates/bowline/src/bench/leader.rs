//! Leads a run: has all devices connect, tells them what to do, and adds up what they say.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bowline_proto::time::Duration as Span;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::device::{Clock, Device, Event, Left, Order, Shared, Speech};
use super::flow::Flow;
use super::keys;
use super::opening::Began;
use super::payload::Payload;
use super::plan::{Load, Plan, What};
use super::report::{self, Connect, Echo, Generator, Hold, Report, Server, Storm, rate};
use super::speak::{LinesState, NativeState};
use super::system::{self, Usage};
use super::tally::{Percentiles, Tally, histogram};
use super::wire::Wire;
use crate::cli::FleetArgs;
use crate::units::count;

/// Time between two looks at what goes on.
const FRAME: Duration = Duration::from_millis(100);

/// A run that has begun.
pub(super) struct Leader {
    plan: Plan,
    dialect: &'static str,
    encrypted: bool,
    patience: Duration,
    clock: Clock,
    orders: watch::Sender<Order>,
    events: mpsc::UnboundedReceiver<Event>,
    devices: JoinSet<Left>,
    tally: Arc<Tally>,
    seen: Seen,
    interrupt: Signal,
    interrupted: bool,
    view: ProgressBar,
    pid: Option<u32>,
    /// What the server had used before anybody connected.
    before: Option<Usage>,
}

/// What devices have told.
struct Seen {
    /// Links that have come up, and that have ended without order.
    ups: u64,
    downs: u64,
    /// Devices that were ever there.
    connected: u64,
    refused: u64,
    failed: u64,
    done: u64,
    tickets: u64,
    /// Times from the cut to the next link, in microseconds.
    back: Histogram<u64>,
    back_resumed: u64,
    last_up: Instant,
    first_down: Option<Instant>,
    problems: BTreeMap<String, u64>,
}

/// What was used since.
struct Meter {
    generator: f64,
    server: Option<Usage>,
    start: Instant,
}

impl Leader {
    /// Makes the devices and has them connect.
    pub(super) async fn start(plan: Plan, fleet: &FleetArgs) -> anyhow::Result<Self> {
        let server = resolve(&fleet.server).await?;
        let sources = system::sources(server, &fleet.source, plan.devices)?;
        system::allow_descriptors(plan.devices)?;
        let keys = fleet.keys.as_deref().map(|path| keys::read(path, plan.devices)).transpose()?;
        let encrypted = keys.is_some();
        let before = fleet.pid.map(Usage::of).transpose()?;
        let interrupt = signal(SignalKind::interrupt())?;

        let clock = Clock(Instant::now());
        let (orders, order) = watch::channel(Order::Stay);
        let (event, events) = mpsc::unbounded_channel();
        let parts = std::thread::available_parallelism().map_or(2, |count| 2 * count.get());
        let tally = Arc::new(Tally::new(parts));
        let shared = Arc::new(Shared {
            server,
            timeout: Duration::from_millis(fleet.timeout_ms),
            connecting: Arc::new(Semaphore::new((fleet.connecting as usize).min(Semaphore::MAX_PERMITS))),
            clock,
        });
        let run = fastrand::u32(..);
        let timeout = Span::from_millis(fleet.timeout_ms);
        let mut keys = keys.map(Vec::into_iter);
        let mut devices = JoinSet::new();
        for number in 0..plan.devices {
            let size = &plan.size;
            let key = keys.as_mut().and_then(Iterator::next);
            let id = key.as_ref().map_or_else(|| keys::id(&fleet.prefix, number), |key| key.id.clone());
            let speech = match fleet.dialect.lines() {
                Some(dialect) => Speech::Lines(Box::new(LinesState::new(&id, dialect, &size.header, timeout))),
                None => {
                    let state = NativeState::new(size.channel(), timeout, size.window, size.bytes);
                    Speech::Native(Box::new(state), key.map(|key| (key.key_id, key.key)))
                }
            };
            let payload = Payload::new(run, number, size.bytes);
            let flow = Flow::new(number, payload, size.window, plan.echoes(), Arc::clone(&tally));
            let source = sources.get(number as usize % sources.len().max(1)).copied();
            devices.spawn(
                Device {
                    id: id.into(),
                    source,
                    speech: Some(speech),
                    flow,
                    shared: Arc::clone(&shared),
                    events: event.clone(),
                    orders: order.clone(),
                    order: Order::Stay,
                    wire: Wire::default(),
                    cut_at: None,
                    was_up: false,
                    was_cut: false,
                    told_ticket: false,
                    told_done: false,
                }
                .run(),
            );
        }
        Ok(Leader {
            dialect: fleet.dialect.letter(),
            encrypted,
            patience: fleet.patience,
            clock,
            orders,
            events,
            devices,
            tally,
            seen: Seen::new(),
            interrupt,
            interrupted: false,
            view: view(),
            pid: fleet.pid,
            before,
            plan,
        })
    }

    /// The whole run.
    ///
    /// # Errors
    /// If it cannot go on in any way.
    pub(super) async fn lead(mut self) -> anyhow::Result<Report> {
        let connect = self.connects().await?;
        let mut report = Report {
            kind: self.plan.kind,
            ok: false,
            interrupted: false,
            dialect: self.dialect,
            encrypted: self.encrypted,
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            devices: self.plan.devices,
            connect,
            links_lost: 0,
            load: None,
            echo: None,
            hold: None,
            storm: None,
            generator: Generator { cpu_seconds: 0.0 },
            server: None,
            problems: BTreeMap::new(),
        };
        let all_there = connect.connected == u64::from(self.plan.devices);
        let fine = match self.plan.what {
            What::Load(load) => self.loads(&mut report, load).await?,
            What::Hold(time) => self.holds(&mut report, time).await?,
            What::Storm { restarts } => self.storms(&mut report, restarts).await?,
        };
        self.view.finish_and_clear();
        report.interrupted = self.interrupted;
        report.problems = self.seen.problems;
        report.ok = fine && all_there && connect.refused == 0 && !report.interrupted;
        Ok(report)
    }

    /// Until all devices are there.
    async fn connects(&mut self) -> anyhow::Result<Connect> {
        let all = u64::from(self.plan.devices);
        self.say(&format!("connecting {}", count(all, "device")));
        let start = Instant::now();
        self.waits(None, true, |seen| seen.connected >= all).await?;
        let seconds = (self.seen.last_up - start).as_secs_f64();
        let connected = self.seen.connected;
        let connect = Connect {
            connected,
            seconds: report::micros(seconds),
            per_second: rate(connected, seconds),
            refused: self.seen.refused,
            failed: self.seen.failed,
        };
        if connected == 0 && !self.interrupted {
            let problems: Vec<_> = self.seen.problems.keys().map(String::as_str).collect();
            bail!("no device got in within {:?}: {}", self.patience, problems.join("; "));
        }
        if connected < all && !self.interrupted {
            self.say(&format!("only {connected} of {all} devices got in"));
        }
        Ok(connect)
    }

    /// Sends and measures.
    async fn loads(&mut self, report: &mut Report, load: Load) -> anyhow::Result<bool> {
        let all = report.connect.connected;
        if !self.interrupted && !load.warm_up.is_zero() {
            self.say(&format!("warming up for {:?}", load.warm_up));
            self.order(Order::WarmUp);
            self.waits(Some(load.warm_up), false, |_| false).await?;
        }
        let (meter, start) = (self.meter()?, self.clock.now().as_micros());
        if !self.interrupted {
            self.say("measuring");
            self.order(Order::Measure(load.messages));
            match load.messages {
                Some(_) => self.waits(None, true, |seen| seen.done >= all).await?,
                None => self.waits(Some(load.seconds), false, |_| false).await?,
            }
        }
        self.order(Order::Finish);
        self.waits(None, true, |seen| seen.done >= all).await?;
        self.read_meter(&meter, report)?;
        let left = self.closes().await?;

        let counts = self.tally.total();
        let seconds = counts.last.saturating_sub(start) as f64 / 1e6;
        let (offered, acknowledged) = (left.sums.offered, left.sums.acked);
        let lost = offered - acknowledged;
        report.load = Some(report::Load {
            window: self.plan.size.window,
            bytes: self.plan.size.bytes,
            seconds,
            offered,
            acknowledged,
            lost,
            offered_per_second: rate(offered, seconds),
            acknowledged_per_second: rate(acknowledged, seconds),
            latency_us: Percentiles::of(&counts.acks),
            resent: left.resent,
            stray_acks: left.faults.stray,
        });
        // Also of the warm-up: then nothing that was to be measured may have been sent at all.
        let unfinished = all.saturating_sub(self.seen.done);
        if unfinished > 0 {
            *self.seen.problems.entry("a device waits in vain for what it has sent".to_owned()).or_default() +=
                unfinished;
        }
        let mut fine = unfinished == 0 && lost == 0 && left.faults.stray == 0 && counts.acks.len() == acknowledged;
        if load.echoes {
            // What was left out has not come, though what was sent later has.
            let received = left.sums.echoed.saturating_sub(left.faults.missed);
            report.echo = Some(Echo {
                received,
                received_per_second: rate(received, seconds),
                lost: offered - received,
                doubled: left.faults.doubled,
                wrong: left.faults.wrong,
                round_trip_us: Percentiles::of(&counts.echoes),
            });
            fine &= received == offered && left.faults.doubled == 0 && left.faults.wrong == 0;
        }
        if let Some(server) = report.server.as_mut().filter(|server| server.cpu_seconds > 0.0) {
            server.messages_per_cpu_second = Some(rate(acknowledged, server.cpu_seconds));
        }
        report.links_lost = self.seen.downs;
        Ok(fine && self.seen.downs == 0)
    }

    /// Does nothing, and sees who stays.
    async fn holds(&mut self, report: &mut Report, time: Duration) -> anyhow::Result<bool> {
        let (meter, start) = (self.meter()?, Instant::now());
        self.say(&format!("holding {} for {time:?}", count(report.connect.connected, "link")));
        self.waits(Some(time), false, |_| false).await?;
        let seconds = start.elapsed().as_secs_f64();
        self.read_meter(&meter, report)?;
        let lost = self.seen.downs;
        let connected = self.seen.ups.saturating_sub(lost);
        self.closes().await?;
        report.hold = Some(Hold { seconds: report::micros(seconds), connected, lost });
        report.links_lost = lost;
        Ok(lost == 0)
    }

    /// Cuts all links, or waits until they are, and sees who comes back.
    async fn storms(&mut self, report: &mut Report, restarts: bool) -> anyhow::Result<bool> {
        let all = report.connect.connected;
        if self.encrypted && !self.interrupted {
            // Boards have had theirs for long when something happens.
            self.waits(Some(self.patience), false, |seen| seen.tickets >= all).await?;
        }
        report.links_lost = self.seen.downs;
        let (meter, mut start) = (self.meter()?, Instant::now());
        let (refused, failed) = (self.seen.refused, self.seen.failed);
        if !self.interrupted {
            if restarts {
                self.say("waiting until the server cuts all links: restart it");
                self.order(Order::ExpectCut);
                self.seen.first_down = None;
                self.waits(None, false, |seen| seen.first_down.is_some()).await?;
                start = self.seen.first_down.unwrap_or(start);
            } else {
                self.order(Order::Cut);
            }
            self.say("all links are cut");
            self.waits(None, true, |seen| seen.back.len() >= all).await?;
        }
        self.read_meter(&meter, report)?;
        self.closes().await?;
        let back = self.seen.back.len();
        report.storm = Some(Storm {
            back,
            seconds: if back == 0 { 0.0 } else { report::micros((self.seen.last_up - start).as_secs_f64()) },
            back_us: Percentiles::of(&self.seen.back),
            resumed: self.seen.back_resumed,
            refused: self.seen.refused - refused,
            failed: self.seen.failed - failed,
        });
        Ok(back >= all && report.links_lost == 0)
    }

    fn order(&self, order: Order) {
        self.orders.send_replace(order);
    }

    /// Waits until devices have told enough, the time is over, nothing has happened for too long if that is not to
    /// be, or the user wants no more.
    async fn waits(
        &mut self,
        time: Option<Duration>,
        must_move: bool,
        enough: impl Fn(&Seen) -> bool,
    ) -> anyhow::Result<()> {
        let start = Instant::now();
        let (mut moved, mut last) = (start, (0, 0));
        let mut frames = tokio::time::interval(FRAME);
        let end = tokio::time::sleep(time.unwrap_or(Duration::from_secs(1 << 30)));
        let mut end = std::pin::pin!(end);
        loop {
            if enough(&self.seen) {
                return Ok(());
            }
            tokio::select! {
                // It has a sender as long as there are devices, and those end by order.
                Some(event) = self.events.recv() => self.seen.take(event)?,
                () = &mut end => return Ok(()),
                _ = frames.tick() => {
                    // Not links: those may come and go for ever.
                    let now = (self.tally.progress(), self.seen.connected + self.seen.back.len());
                    if now != last {
                        (moved, last) = (Instant::now(), now);
                    } else if must_move && moved.elapsed() > self.patience {
                        return Ok(());
                    }
                    let (seconds, seen) = (start.elapsed().as_secs_f64(), &self.seen);
                    let back = if seen.back.is_empty() { String::new() } else { format!(", {} back", seen.back.len()) };
                    let messages = if now.0 == 0 { String::new() } else { format!(", {} messages", now.0) };
                    self.view.set_message(format!("{seconds:.0} s: {} connected{back}{messages}", seen.connected));
                }
                _ = self.interrupt.recv() => {
                    self.interrupted = true;
                    return Ok(());
                }
            }
        }
    }

    /// Ends all devices, and adds up what is left of them.
    async fn closes(&mut self) -> anyhow::Result<Left> {
        self.order(Order::Close);
        let mut sum = Left::default();
        while let Some(left) = self.devices.join_next().await {
            let left = left.context("the generator has failed, not the server")?;
            sum.sums.offered += left.sums.offered;
            sum.sums.acked += left.sums.acked;
            sum.sums.echoed += left.sums.echoed;
            sum.resent += left.resent;
            sum.faults.add(left.faults);
        }
        Ok(sum)
    }

    fn meter(&self) -> anyhow::Result<Meter> {
        let generator = Usage::of(std::process::id())?.cpu_seconds;
        Ok(Meter { generator, server: self.pid.map(Usage::of).transpose()?, start: Instant::now() })
    }

    fn read_meter(&self, meter: &Meter, report: &mut Report) -> anyhow::Result<()> {
        let used = |now: f64, then: f64| ((now - then) * 100.0).round() / 100.0;
        report.generator.cpu_seconds = used(Usage::of(std::process::id())?.cpu_seconds, meter.generator);
        let (Some(pid), Some(then), Some(before)) = (self.pid, meter.server, self.before) else { return Ok(()) };
        let Ok(now) = Usage::of(pid) else {
            // As it is meant to be with --restarts.
            self.say(&format!("the process {pid} is gone: nothing is said of the server"));
            return Ok(());
        };
        let devices = report.connect.connected.max(1) as f64;
        let cpu_seconds = used(now.cpu_seconds, then.cpu_seconds);
        let seconds = meter.start.elapsed().as_secs_f64().max(0.001);
        report.server = Some(Server {
            pid,
            cpu_seconds,
            messages_per_cpu_second: None,
            cpu_us_per_device_second: (cpu_seconds * 1e7 / seconds / devices).round() / 10.0,
            rss_bytes: now.rss_bytes,
            rss_bytes_per_device: ((now.rss_bytes as f64 - before.rss_bytes as f64) / devices).round(),
        });
        Ok(())
    }

    /// What happens now, for whoever waits. Who does not read it does not stop the run.
    fn say(&self, text: &str) {
        if self.view.is_hidden() {
            let _ = writeln!(std::io::stderr(), "{text}");
        } else {
            self.view.println(text);
        }
    }
}

impl Seen {
    fn new() -> Self {
        Seen {
            ups: 0,
            downs: 0,
            connected: 0,
            refused: 0,
            failed: 0,
            done: 0,
            tickets: 0,
            back: histogram(),
            back_resumed: 0,
            last_up: Instant::now(),
            first_down: None,
            problems: BTreeMap::new(),
        }
    }

    fn take(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Up { began, first, back } => {
                self.ups += 1;
                self.connected += u64::from(first);
                self.last_up = Instant::now();
                if let Some(back) = back {
                    self.back.saturating_record(back);
                    self.back_resumed += u64::from(began == Began::Resumed);
                }
            }
            Event::Down(ended) => {
                self.downs += 1;
                self.first_down.get_or_insert_with(Instant::now);
                self.problem(format!("a link was lost: {ended}"));
            }
            Event::Failed(text) => {
                self.failed += 1;
                self.problem(text);
            }
            Event::Refused => {
                self.refused += 1;
                self.problem(
                    "the server is busy or limits handshakes (security.handshakes_per_second in its configuration)"
                        .to_owned(),
                );
            }
            Event::Nobody if self.connected == 0 => {
                bail!("nobody listens there: start `bowline serve`, or say with --server where it is")
            }
            Event::Nobody => {
                self.failed += 1;
                self.problem("nobody listens there".to_owned());
            }
            Event::Done => self.done += 1,
            Event::Ticket => self.tickets += 1,
            Event::Fatal(text) => bail!(text),
        }
        Ok(())
    }

    fn problem(&mut self, text: String) {
        *self.problems.entry(text).or_default() += 1;
    }
}

async fn resolve(server: &str) -> anyhow::Result<SocketAddr> {
    let hint = || format!("--server {server}: expected HOST:PORT, for example 127.0.0.1:9999");
    let mut addresses = tokio::net::lookup_host(server).await.with_context(hint)?;
    addresses.next().with_context(hint)
}

/// A line on the terminal; hidden if there is none.
fn view() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::new_spinner().with_style(style)
}
