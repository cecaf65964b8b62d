//! What the demo shows while it runs, on stderr: a live view on a terminal, plain lines elsewhere.

use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::fleet::{Board, Look, Snapshot};
use super::proxy::Weather;

/// Time between two looks at the boards: on a terminal, and for plain lines.
const FRAME: Duration = Duration::from_millis(100);
const REPORT: Duration = Duration::from_secs(2);

/// Most devices with a line of their own: with all the rest it fits the smallest terminals.
const ROWS: usize = 14;

/// Events that stay on the terminal.
const EVENTS: usize = 4;

/// Writes lines to stderr. Whoever does not read them does not stop the demo.
pub(super) fn print(lines: &str) {
    let _ = writeln!(std::io::stderr(), "{lines}");
}

/// Shows boards and events. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct View(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    start: Instant,
    /// When the network heals, counted from the start.
    heals: Duration,
    boards: Vec<Arc<Board>>,
    live: Option<Live>,
    /// The latest, oldest first.
    events: Mutex<VecDeque<String>>,
}

/// The lines on the terminal, from top to bottom.
#[derive(Debug)]
struct Live {
    lines: MultiProgress,
    clock: ProgressBar,
    /// Lines that never change: kept because a line leaves the terminal when it is dropped.
    _fixed: [ProgressBar; 2],
    devices: Vec<ProgressBar>,
    /// About the devices without a line.
    others: Option<ProgressBar>,
    events: Vec<ProgressBar>,
    colours: bool,
}

impl View {
    /// A view of a run that starts now, whose network heals after `heals`.
    pub(super) fn start(boards: Vec<Arc<Board>>, heals: Duration) -> Self {
        let live = std::io::stderr().is_terminal().then(|| Live::new(boards.len(), heals));
        if live.is_none() {
            print("");
        }
        View(Arc::new(Inner { start: Instant::now(), heals, boards, live, events: Mutex::default() }))
    }

    /// Tells of an event.
    pub(super) fn say(&self, event: String) {
        let line = format!("{:5.1} s  {event}", self.0.start.elapsed().as_secs_f64());
        if self.0.live.is_none() {
            return print(&line);
        }
        // Nothing panics while it holds the lock.
        let mut events = self.0.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() == EVENTS {
            events.pop_front();
        }
        events.push_back(line);
    }

    /// Keeps the view up to date until the task is dropped.
    pub(super) async fn run(self) {
        let period = if self.0.live.is_some() { FRAME } else { REPORT };
        loop {
            tokio::time::sleep(period).await;
            match &self.0.live {
                Some(live) => self.draw(live),
                None => self.report(),
            }
        }
    }

    /// Takes the live view off the terminal.
    pub(super) fn close(&self) {
        if let Some(live) = &self.0.live {
            // What cannot be cleared stays on the screen.
            let _ = live.lines.clear();
            // A line draws those that are left when it is dropped.
            live.lines.set_draw_target(ProgressDrawTarget::hidden());
        }
    }

    fn snapshots(&self) -> Vec<Snapshot> {
        self.0.boards.iter().map(|board| board.snapshot()).collect()
    }

    fn draw(&self, live: &Live) {
        let elapsed = self.0.start.elapsed();
        live.clock.set_position(millis(elapsed.min(self.0.heals)));
        live.clock.set_message(self.time(elapsed));
        let snapshots = self.snapshots();
        for ((line, board), now) in live.devices.iter().zip(&self.0.boards).zip(&snapshots) {
            line.set_message(row(board, now, live.colours));
        }
        if let Some(line) = &live.others {
            line.set_message(format!("and {}", summary(&snapshots[live.devices.len()..])));
        }
        // Nothing panics while it holds the lock.
        let events = self.0.events.lock().unwrap_or_else(PoisonError::into_inner);
        for (line, event) in live.events.iter().zip(events.iter()) {
            line.set_message(event.clone());
        }
    }

    fn time(&self, elapsed: Duration) -> String {
        match self.0.heals.checked_sub(elapsed) {
            Some(left) => format!("{} s, {} s left", elapsed.as_secs(), left.as_secs() + 1),
            None => "healing".to_owned(),
        }
    }

    fn report(&self) {
        let elapsed = self.0.start.elapsed();
        let (snapshots, time) = (self.snapshots(), self.time(elapsed));
        print(&format!("{:5.1} s  ({time}) {}", elapsed.as_secs_f64(), summary(&snapshots)));
    }
}

impl Live {
    fn new(devices: usize, heals: Duration) -> Self {
        // 15 times a second at most: a line that changes more often cannot be read anyway.
        let lines = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(15));
        // Lines are overwritten, not cleared and written again: nothing flickers.
        lines.set_move_cursor(true);
        let add = |template: &str, length: u64| {
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            lines.add(ProgressBar::new(length).with_style(style.progress_chars("━╸─")))
        };
        // Blank: the echo of a Ctrl-C moves everything down by a line, and this is what stays above.
        let margin = add("{wide_msg}", 0);
        margin.set_message(" ");
        let clock = add("{wide_bar:.cyan/black.bright} {msg}", millis(heals));
        let head = add("{wide_msg:.bold}", 0);
        let rows = if devices > ROWS { ROWS - 1 } else { devices };
        head.set_message(format!(
            "{:<12} {:<8} {:<13} {:>6} {:>6} {:>9} {:>8} {:>8}",
            "device", "dialect", "link", "sent", "acked", "received", "outages", "longest"
        ));
        Live {
            devices: (0..rows).map(|_| add("{wide_msg}", 0)).collect(),
            others: (rows < devices).then(|| add("{wide_msg}", 0)),
            events: (0..EVENTS).map(|_| add("{wide_msg:.dim}", 0)).collect(),
            colours: std::env::var_os("NO_COLOR").is_none(),
            clock,
            _fixed: [margin, head],
            lines,
        }
    }
}

fn row(board: &Board, now: &Snapshot, colours: bool) -> String {
    let (link, colour) = describe(now.look);
    let link = if colours { format!("\x1b[{colour}m{link:<13}\x1b[0m") } else { format!("{link:<13}") };
    format!(
        "{:<12} {:<8} {link} {:>6} {:>6} {:>9} {:>8} {:>6.1} s",
        board.id,
        board.dialect.letter(),
        now.to_server.sent,
        now.acked,
        now.to_device.delivered,
        now.outages,
        now.longest_outage.as_secs_f64(),
    )
}

/// In words, and as an ANSI colour: green works, yellow is slow, red does not work.
fn describe(look: Look) -> (&'static str, u8) {
    const GREEN: u8 = 32;
    const YELLOW: u8 = 33;
    const RED: u8 = 31;
    const MAGENTA: u8 = 35;
    match look {
        Look::Up | Look::Weather(Weather::Clear) => ("up", GREEN),
        Look::Dead => ("dead, unseen", MAGENTA),
        Look::Connecting => ("connecting", YELLOW),
        Look::Weather(Weather::HalfOpen) => ("half-open", RED),
        Look::Weather(Weather::OneWay) => ("one-way", RED),
        Look::Weather(Weather::Cut(_)) => ("cut", RED),
        Look::Weather(Weather::Stalled) => ("stalled", RED),
        Look::Weather(Weather::OneByte) => ("byte by byte", YELLOW),
        Look::Weather(Weather::Delayed(_)) => ("slow", YELLOW),
    }
}

fn summary(snapshots: &[Snapshot]) -> String {
    let sum = |count: fn(&Snapshot) -> u64| snapshots.iter().map(count).sum::<u64>();
    format!(
        "{} devices: {} up; {} sent, {} delivered; {} outages",
        snapshots.len(),
        snapshots.iter().filter(|now| describe(now.look).0 == "up").count(),
        sum(|now| now.to_server.sent + now.to_device.sent),
        sum(|now| now.to_server.delivered + now.to_device.delivered),
        sum(|now| now.outages),
    )
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
