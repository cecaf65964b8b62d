//! Servers and script-like boards.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::Location;
use std::pin::pin;
use std::process::Stdio;
use std::sync::Once;
use std::task::Poll;
use std::time::Duration;

use bowline_server::{Admission, Builder, Device, DownReason, LinkState, Message, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

/// What must happen happens within this time, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(10);

/// A message whose line no pair of loopback socket buffers can hold.
pub(crate) const HUGE: usize = 12 << 20;

/// A loopback address whose port the system chooses.
pub(crate) fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// A server without pauses, whose times are too long to matter.
pub(crate) fn server() -> Builder {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(end_at_a_panic_of_the_server);
    Server::builder()
        .listen(loopback())
        .timeout(Duration::from_secs(20))
        .login_timeout(Duration::from_secs(20))
        .settle(Duration::ZERO)
        .pace(1, Duration::ZERO)
}

/// The runtime catches what panics in a task. A server that panics has failed all the same, whatever
/// the test looks at.
fn end_at_a_panic_of_the_server() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        if panic
            .location()
            .is_some_and(|location| location.file().contains("bowline-") && location.file().contains("/src/"))
        {
            // Not captured, as printed text would be.
            let _ = writeln!(io::stderr(), "the server panicked: {panic}");
            std::process::exit(101);
        }
    }));
}

/// Only these ids.
pub(crate) fn only(ids: &[&str]) -> Admission {
    Admission { expected: ids.iter().map(ToString::to_string).collect(), ..Admission::default() }
}

pub(crate) fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// The output of what must happen soon.
#[track_caller]
pub(crate) fn soon<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let caller = Location::caller();
    async move { timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("did not happen: {caller}")) }
}

/// Waits for what nothing announces.
#[track_caller]
pub(crate) fn eventually(mut condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
    soon(async move {
        while !condition() {
            tokio::time::sleep(millis(2)).await;
        }
    })
}

/// Whether `future` is still pending after `time`.
pub(crate) async fn pending<F: Future + Unpin>(future: &mut F, time: Duration) -> bool {
    timeout(time, future).await.is_err()
}

/// Polls `future` whenever it is woken, then drops it if it is not ready after `polls` of them.
pub(crate) async fn polled<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Receives a message and checks its payload.
#[track_caller]
pub(crate) fn receives<'a>(device: &'a Device, payload: &'a str) -> impl Future<Output = ()> + 'a {
    let caller = Location::caller();
    let message = soon(device.recv());
    async move {
        let message = message.await.expect("the device is open");
        assert_eq!(message.text(), Some(payload), "{caller}");
    }
}

/// Waits until the device's link is down and says why.
#[track_caller]
pub(crate) fn goes_down(device: &Device) -> impl Future<Output = DownReason> {
    let mut watch = device.watch();
    soon(async move {
        let mut status = watch.now();
        loop {
            if let LinkState::Down(reason) = status.link {
                return reason;
            }
            status = watch.changed().await.expect("the device is open");
        }
    })
}

/// Sends in the background.
pub(crate) fn sending(device: &Device, message: impl Into<Message>) -> Sending {
    let (device, message) = (device.clone(), message.into());
    tokio::spawn(async move { device.send(message).await })
}

pub(crate) type Sending = tokio::task::JoinHandle<Result<(), bowline_server::SendError>>;

/// Sends back what comes, until the device is closed.
pub(crate) fn echo(device: Device) {
    tokio::spawn(async move {
        while let Ok(message) = device.recv().await {
            if device.send(message).await.is_err() {
                return;
            }
        }
    });
}

/// The far end of a link: bytes and lines, no protocol of its own.
#[derive(Debug)]
pub(crate) struct Board {
    stream: TcpStream,
    input: Vec<u8>,
    scanned: usize,
    alive: bool,
}

impl Board {
    pub(crate) async fn connects(server: &Server) -> Board {
        Board::connects_to(server.addresses()[0]).await
    }

    pub(crate) async fn connects_to(address: SocketAddr) -> Board {
        Board::new(soon(TcpStream::connect(address)).await.expect("the server listens"))
    }

    pub(crate) async fn connects_from(source: IpAddr, server: &Server) -> Board {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from((source, 0))).expect("a loopback address");
        Board::new(soon(socket.connect(server.addresses()[0])).await.expect("the server listens"))
    }

    /// Connects and writes a line before the server can do anything, where both share a thread.
    pub(crate) fn says_at_once(server: &Server, line: &str) -> Board {
        let mut stream = std::net::TcpStream::connect(server.addresses()[0]).expect("the system's queue has room");
        stream.write_all(format!("{line}\n").as_bytes()).expect("a short line");
        stream.set_nonblocking(true).expect("a TCP socket");
        Board::new(TcpStream::from_std(stream).expect("a runtime"))
    }

    fn new(stream: TcpStream) -> Board {
        stream.set_nodelay(true).expect("a TCP socket");
        Board { stream, input: Vec::new(), scanned: 0, alive: false }
    }

    /// Logs in on dialect H, and is up.
    pub(crate) async fn logs_in_h(server: &Server, id: &str) -> Board {
        Board::logs_in(server, &format!("2c00ff{id}")).await
    }

    /// Logs in on dialect U (or P), and is up.
    pub(crate) async fn logs_in_u(server: &Server, id: &str) -> Board {
        Board::logs_in(server, id).await
    }

    async fn logs_in(server: &Server, line: &str) -> Board {
        let mut board = Board::connects(server).await;
        board.sends(line).await;
        board.is_up().await;
        board
    }

    /// Waits for the first byte.
    #[track_caller]
    pub(crate) fn is_up(&mut self) -> impl Future<Output = ()> + '_ {
        soon(async {
            if self.input.is_empty() {
                assert!(self.more().await > 0, "the server closed the connection instead of a sign of life");
            }
        })
    }

    /// Sends a line.
    pub(crate) async fn sends(&mut self, line: &str) {
        self.writes(format!("{line}\n")).await;
    }

    /// Sends bytes, in one segment if they are few.
    pub(crate) async fn writes(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_writes(bytes).await.expect("the server reads");
    }

    pub(crate) async fn try_writes(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        soon(self.stream.write_all(bytes.as_ref())).await
    }

    /// The next line that is not a keepalive. `None` when the server has ended the connection.
    pub(crate) async fn line(&mut self) -> Option<String> {
        loop {
            // `contains` is fast in a debug build, too.
            if self.input[self.scanned..].contains(&b'\n') {
                let end = self.input.iter().skip(self.scanned).position(|&byte| byte == b'\n');
                let mut line: Vec<u8> = self.input.drain(..=self.scanned + end.unwrap_or_default()).collect();
                self.scanned = 0;
                line.pop();
                if line.is_empty() {
                    continue;
                }
                return Some(String::from_utf8_lossy(&line).into_owned());
            }
            self.scanned = self.input.len();
            if self.more().await == 0 {
                return None;
            }
        }
    }

    /// The next byte; `None` when the connection has ended.
    pub(crate) async fn byte(&mut self) -> Option<u8> {
        if self.input.is_empty() && self.more().await == 0 {
            return None;
        }
        Some(self.input.remove(0))
    }

    /// Reads some bytes, or none if the connection has ended, by FIN or RST.
    async fn more(&mut self) -> usize {
        if self.alive {
            let _ = self.stream.try_write(b"\n");
        }
        self.stream.read_buf(&mut self.input).await.unwrap_or(0)
    }

    /// From now on it gives a sign of life for each one it reads.
    pub(crate) fn keeps_alive(&mut self) {
        self.alive = true;
    }

    /// Reads at least `count` bytes and leaves the rest unread.
    pub(crate) async fn reads_only(&mut self, count: usize) {
        let mut some = vec![0; count];
        soon(self.stream.read_exact(&mut some)).await.expect("the server writes");
    }

    #[track_caller]
    pub(crate) fn expects<'a>(&'a mut self, expected: &'a str) -> impl Future<Output = ()> + 'a {
        let caller = Location::caller();
        let line = soon(self.line());
        async move { assert_eq!(line.await.as_deref(), Some(expected), "{caller}") }
    }

    /// The server ends the connection, with nothing but keepalives before.
    #[track_caller]
    pub(crate) fn expects_end(&mut self) -> impl Future<Output = ()> + '_ {
        let caller = Location::caller();
        let line = soon(self.line());
        async move { assert_eq!(line.await, None, "{caller}") }
    }

    /// The server ends the connection, whatever it says before.
    #[track_caller]
    pub(crate) fn reads_to_the_end(&mut self) -> impl Future<Output = ()> + '_ {
        soon(async { while self.line().await.is_some() {} })
    }

    /// Neither a message nor an ACK nor the end comes within `time`.
    #[track_caller]
    pub(crate) fn expects_nothing_for(&mut self, time: Duration) -> impl Future<Output = ()> + '_ {
        let caller = Location::caller();
        async move {
            if let Ok(line) = timeout(time, self.line()).await {
                panic!("{line:?} came, {caller}");
            }
        }
    }

    /// Ends the connection by FIN.
    pub(crate) fn leaves(self) {
        drop(self.stream);
    }

    /// Ends the connection by RST: what is under way is lost.
    pub(crate) fn cuts(self) {
        self.stream.set_zero_linger().expect("a TCP socket");
        drop(self.stream);
    }

    /// Neither reads nor writes any more, and does not end either until the result is dropped.
    pub(crate) fn goes_silent(self) -> TcpStream {
        self.stream
    }

    /// Acknowledges every message on H until the connection ends, and returns their lines. `count` of
    /// them at most.
    pub(crate) async fn acknowledges_h(&mut self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.len() < count {
            let Some(line) = soon(self.line()).await else { break };
            self.sends(&format!("{}002c", &line[..2])).await;
            lines.push(line);
        }
        lines
    }
}

/// Sends a message to an echo and waits for its ACK and its answer.
pub(crate) async fn round_trip(board: &mut Board, id: u8) -> Duration {
    let start = Instant::now();
    let id = format!("{id:02x}");
    board.sends(&format!("{id}0001\"ping {id}\"")).await;
    let (mut acked, mut answered) = (false, false);
    while !(acked && answered) {
        let line = soon(board.line()).await.expect("the link is up");
        if line == format!("{id}002c") {
            acked = true;
        } else {
            // Or an earlier answer again, whose ACK was lost with a link.
            answered |= line.ends_with(&format!("\"ping {id}\""));
            board.sends(&format!("{}002c", &line[..2])).await;
        }
    }
    start.elapsed()
}

/// The seed of a random test, from the environment or new. Printed: a failing test shows it.
pub(crate) fn seed() -> u64 {
    let seed =
        std::env::var("BOWLINE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("BOWLINE_SEED={seed}");
    seed
}

/// Set in a process that runs one test alone.
const ALONE: &str = "BOWLINE_ALONE";

/// Whether this process runs only this test. If not, starts one that does, by a shell that first does
/// `prelude`, and returns it.
pub(crate) fn alone(test: &str, prelude: &str) -> Option<tokio::process::Child> {
    if std::env::var_os(ALONE).is_some() {
        return None;
    }
    let binary = std::env::current_exe().expect("a test binary");
    let child = tokio::process::Command::new("sh")
        .args(["-c", &format!("{prelude} exec \"$0\" \"$@\"")])
        .arg(binary)
        .args(["--exact", test, "--nocapture"])
        .env(ALONE, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("a shell");
    Some(child)
}

/// Runs `test` in a process of its own, unless this is it. Says whether it is.
pub(crate) async fn is_alone(test: &str) -> bool {
    // An allocator that gives back what is freed: what stays resident is in use.
    let prelude = "export MALLOC_ARENA_MAX=1 MALLOC_TRIM_THRESHOLD_=65536;";
    let Some(child) = alone(test, prelude) else { return true };
    let output = timeout(Duration::from_secs(60), child.wait_with_output()).await;
    let output = output.expect("it ends").expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    assert!(output.status.success() && text.contains("1 passed"), "{}", output.status);
    false
}
