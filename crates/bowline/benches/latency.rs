//! Latency of a qos message: device → server → ACK over loopback, against a raw tokio TCP echo of the
//! same bytes. Both are measured in the same run, alternately, by the same code, and printed as ratios.
//! On N the message is stored before it is acknowledged, and the echo of sealed bytes is there, too.
//!
//! `cargo bench -p bowline --bench latency [-- ROUNDS]`

use std::hint::black_box;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream as StdStream};
use std::time::{Duration, Instant};

use bowline_client::Client;
use bowline_server::{Date, Dialect, Keys, Limits, Server};
use bowline_store::{Durability, Store};
use snow::TransportState;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// Round trips measured at a stretch, before it is the other one's turn.
const BLOCK: usize = 500;

const PAYLOAD: &str = r#"{"sensor": "attic", "temperature": 21.25, "humidity": 48}"#;

fn main() {
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(40);
    // The servers share a thread; whoever measures them has one of its own.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let echo = runtime.block_on(start_echo());
    let server = runtime.block_on(start_server());
    let address = server.addresses()[0];

    println!("qos message to ACK over loopback, {} round trips each, {}-byte payload", rounds * BLOCK, PAYLOAD.len());
    println!("{:44} {:>9} {:>9} {:>9}", "", "median", "p99", "ratio");

    // A device in a thread of its own, with nothing but a blocking socket: what the server adds.
    let mut raw = Wire::connect(echo, None);
    let (mut h, mut u) = (Wire::connect(address, Some("2c00ffbench-h")), Wire::connect(address, Some("bench-u")));
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..=rounds {
        for (device, times) in [&mut raw, &mut h, &mut u].into_iter().zip(&mut times) {
            device.block(times);
        }
    }
    let [raw, h, u] = times.map(Summary::of);
    raw.print("raw tokio echo, blocking device", None);
    h.print("bowline server, H, blocking device", Some(&raw));
    u.print("bowline server, U, blocking device", Some(&raw));

    // The same with a tokio client: what server and client add together.
    let (mut raw, mut ours) = (Vec::new(), Vec::new());
    let device = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    device.block_on(async {
        let stream = TcpStream::connect(echo).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (reader, mut writer) = stream.into_split();
        let mut reader = tokio::io::BufReader::new(reader);
        let client = Client::builder("bench-client", address.to_string()).start().unwrap();
        client.connected().await.unwrap();
        let line = format!("010001{PAYLOAD}\n");
        let mut answer = Vec::new();
        for _ in 0..=rounds {
            for _ in 0..BLOCK {
                let start = Instant::now();
                writer.write_all(line.as_bytes()).await.unwrap();
                answer.clear();
                reader.read_until(b'\n', &mut answer).await.unwrap();
                raw.push(start.elapsed());
            }
            for _ in 0..BLOCK {
                let start = Instant::now();
                client.send(PAYLOAD).await.unwrap();
                ours.push(start.elapsed());
            }
        }
    });
    let (raw, ours) = (Summary::of(raw), Summary::of(ours));
    raw.print("raw tokio echo, tokio client", None);
    ours.print("bowline server, H, bowline client", Some(&raw));

    native(&runtime, &device, echo, rounds);
}

/// N with a store that survives the process: what it takes to keep the promise, open and encrypted.
fn native(servers: &Runtime, device: &Runtime, echo: SocketAddr, rounds: usize) {
    let folder = tempfile::tempdir().unwrap();
    let keys = Keys::default();
    let key = keys.issue("bench-sealed", Date::from_unix(0)).unwrap().line();
    let store = Store::open(folder.path(), Durability::Os, bowline_store::Limits::default()).unwrap();
    let server = servers.block_on(builder().keys(keys).store(store).start()).unwrap();
    let (ours, theirs) = sealed_pair();
    let sealed_echo = servers.block_on(start_sealed_echo(theirs));
    let address = server.addresses()[0].to_string();
    let times = device.block_on(async {
        let mut raw = BufStream::new(TcpStream::connect(echo).await.unwrap());
        raw.get_ref().set_nodelay(true).unwrap();
        let mut sealed = Sealed::new(TcpStream::connect(sealed_echo).await.unwrap(), ours);
        let open = Client::builder("bench-open", address.as_str()).start().unwrap();
        let keyed = Client::builder("bench-sealed", address.as_str()).key(&key).unwrap().start().unwrap();
        open.connected().await.unwrap();
        keyed.connected().await.unwrap();
        let mut times = [const { Vec::new() }; 4];
        let mut answer = vec![0; PAYLOAD.len()];
        for _ in 0..=rounds {
            for _ in 0..BLOCK {
                let start = Instant::now();
                raw.write_all(PAYLOAD.as_bytes()).await.unwrap();
                raw.flush().await.unwrap();
                raw.read_exact(&mut answer).await.unwrap();
                times[0].push(start.elapsed());
            }
            for _ in 0..BLOCK {
                let start = Instant::now();
                sealed.send(PAYLOAD.as_bytes()).await.unwrap();
                sealed.receive(&mut answer).await.unwrap();
                times[1].push(start.elapsed());
            }
            for (client, times) in [&open, &keyed].into_iter().zip(&mut times[2..]) {
                for _ in 0..BLOCK {
                    let start = Instant::now();
                    client.send(PAYLOAD).await.unwrap();
                    times.push(start.elapsed());
                }
            }
        }
        times
    });
    let [raw, sealed, open, keyed] = times.map(Summary::of);
    raw.print("raw tokio echo, tokio client", None);
    open.print("bowline server, N open, os", Some(&raw));
    sealed.print("tokio echo of sealed bytes, tokio client", None);
    keyed.print("bowline server, N encrypted, os", Some(&sealed));
    keyed.print("  the same, against the raw echo", Some(&raw));
}

/// Two ends of the same cipher as N has.
fn sealed_pair() -> (TransportState, TransportState) {
    let builder = || snow::Builder::new("Noise_NNpsk0_25519_ChaChaPoly_SHA256".parse().unwrap());
    let mut device = builder().psk(0, &[7; 32]).unwrap().build_initiator().unwrap();
    let mut server = builder().psk(0, &[7; 32]).unwrap().build_responder().unwrap();
    let (mut message, mut nothing) = ([0; 128], [0; 128]);
    let len = device.write_message(&[], &mut message).unwrap();
    server.read_message(&message[..len], &mut nothing).unwrap();
    let len = server.write_message(&[], &mut message).unwrap();
    device.read_message(&message[..len], &mut nothing).unwrap();
    (device.into_transport_mode().unwrap(), server.into_transport_mode().unwrap())
}

/// Opens what comes, and seals the same bytes to go back, for one connection.
async fn start_sealed_echo(noise: TransportState) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = Sealed::new(stream, noise);
        let mut buffer = [0; 4096];
        while let Ok(len) = stream.receive(&mut buffer).await {
            stream.send(&buffer[..len]).await.unwrap();
        }
    });
    address
}

/// A connection with sealed records: their length in two bytes, then the record.
struct Sealed {
    stream: BufStream<TcpStream>,
    noise: TransportState,
    record: [u8; 4096],
}

impl Sealed {
    fn new(stream: TcpStream, noise: TransportState) -> Self {
        stream.set_nodelay(true).unwrap();
        Sealed { stream: BufStream::new(stream), noise, record: [0; 4096] }
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let len = self.noise.write_message(bytes, &mut self.record[2..]).unwrap();
        self.record[..2].copy_from_slice(&(len as u16).to_be_bytes());
        self.stream.write_all(&self.record[..2 + len]).await?;
        self.stream.flush().await
    }

    async fn receive(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let len = usize::from(self.stream.read_u16().await?);
        let record = &mut self.record[..len];
        self.stream.read_exact(record).await?;
        Ok(self.noise.read_message(record, bytes).unwrap())
    }
}

async fn start_echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    stream.write_all(&buffer[..count]).await.unwrap();
                }
            });
        }
    });
    address
}

async fn start_server() -> Server {
    builder().start().await.unwrap()
}

/// A server whose application takes messages.
fn builder() -> bowline_server::Builder {
    Server::builder()
        .listen("127.0.0.1:0".parse().unwrap())
        .limits(Limits { messages_per_second: None, ..Limits::default() })
        .on_device(|device| {
            tokio::spawn(async move {
                while let Ok(message) = device.recv().await {
                    black_box(message);
                }
            });
        })
}

/// A device that is nothing but a blocking socket.
struct Wire {
    reader: BufReader<StdStream>,
    writer: StdStream,
    dialect: Option<Dialect>,
    id: u8,
}

impl Wire {
    /// Connects; with a login line, to the server, without one, to the echo.
    fn connect(address: SocketAddr, login: Option<&str>) -> Self {
        let mut writer = StdStream::connect(address).unwrap();
        writer.set_nodelay(true).unwrap();
        writer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let reader = BufReader::new(writer.try_clone().unwrap());
        let dialect = login.map(|login| if login.starts_with("2c") { Dialect::Headers } else { Dialect::Upstream });
        if let Some(login) = login {
            writer.write_all(format!("{login}\n").as_bytes()).unwrap();
        }
        Wire { reader, writer, dialect, id: 0 }
    }

    /// [`BLOCK`] round trips.
    fn block(&mut self, times: &mut Vec<Duration>) {
        let mut answer = String::new();
        for _ in 0..BLOCK {
            let id = self.id;
            self.id = if id == 255 { 1 } else { id + 1 };
            let (line, ack) = match self.dialect {
                Some(Dialect::Upstream) => (format!("{id:02x}{PAYLOAD}\n"), format!("{id:02x}\n")),
                Some(_) => (format!("{id:02x}0001{PAYLOAD}\n"), format!("{id:02x}002c\n")),
                None => (format!("{id:02x}0001{PAYLOAD}\n"), format!("{id:02x}0001{PAYLOAD}\n")),
            };
            let start = Instant::now();
            self.writer.write_all(line.as_bytes()).unwrap();
            while {
                answer.clear();
                self.reader.read_line(&mut answer).unwrap();
                // Keepalives do not count.
                answer == "\n"
            } {}
            times.push(start.elapsed());
            assert_eq!(answer, ack);
        }
        // A device's keepalive, for when it is the others' turn.
        self.writer.write_all(b"\n").unwrap();
        if self.dialect.is_none() {
            self.reader.read_line(&mut answer).unwrap();
        }
    }
}

struct Summary {
    median: Duration,
    p99: Duration,
}

impl Summary {
    /// The first block only warms up.
    fn of(mut times: Vec<Duration>) -> Self {
        times.drain(..BLOCK);
        times.sort_unstable();
        Summary { median: times[times.len() / 2], p99: times[times.len() * 99 / 100] }
    }

    fn print(&self, name: &str, limit: Option<&Summary>) {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        let ratio =
            limit.map_or_else(String::new, |limit| format!("{:.2} x", micros(self.median) / micros(limit.median)));
        println!("{name:44} {:6.1} us {:6.1} us {ratio:>9}", micros(self.median), micros(self.p99));
    }
}
