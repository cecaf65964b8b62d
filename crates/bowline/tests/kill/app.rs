//! A process of the fleet: the app on a server or a device, as a user would write it.

use std::io::Read;
use std::ops::Range;
use std::time::Duration;

use bowline_client::{Backoff, Client};
use bowline_server::{Delivery, Device, Keys, Limits, Receipt, RecvError, Sending, Server, StartError};
use bowline_store::Store;
use futures_util::future::poll_immediate;
use tokio::task::JoinSet;

use crate::diary::Diary;
use crate::role::{FLEET, Kind, Role, Stream};

/// Short, so that links which hang are replaced while the test runs.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Most messages given to `send` at once.
const BURST: u64 = 8;

/// Longest pause between two bursts, in milliseconds: there is always something on its way.
const PAUSE: u64 = 40;

/// Small queues, so that full ones are met, too.
fn limits() -> Limits {
    Limits { inbox: 16, outbox: 32, ..Limits::default() }
}

/// Plays the role until it is killed, or until the test is no more.
pub(crate) fn run(role: &Role) {
    std::thread::spawn(|| {
        // The test holds the other end and writes nothing.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    // Only what must not happen: the fleet looks whether anything was said.
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::ERROR)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let mut runtime = match role.device {
        Some(_) => tokio::runtime::Builder::new_current_thread(),
        None => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut tasks = match role.kind() {
            Some(kind) => device(role, kind).await,
            None => server(role).await,
        };
        while let Some(ended) = tasks.join_next().await {
            ended.expect("apps do not fail");
        }
        std::future::pending().await
    })
}

async fn device(role: &Role, kind: &'static Kind) -> JoinSet<()> {
    let store = Store::open(role.home(), role.durability(), bowline_store::Limits::default()).unwrap();
    let mut builder = Client::builder(kind.id, role.address.to_string())
        .dialect(kind.dialect)
        .timeout(TIMEOUT)
        .backoff(Backoff { first: Duration::from_millis(10), longest: Duration::from_millis(100) })
        .limits(limits())
        .store(store);
    if let Some(key) = &role.key {
        builder = builder.key(key).unwrap();
    }
    let client = builder.start().unwrap();
    let mut tasks = JoinSet::new();
    for stream in kind.streams() {
        let end = End::Device(client.clone());
        if stream.way != "down" {
            tasks.spawn(sends(end.clone(), stream, role.clone()));
        }
        if stream.way != "up" {
            tasks.spawn(receives(end, stream, role.clone()));
        }
    }
    tasks
}

async fn server(role: &Role) -> JoinSet<()> {
    let server = loop {
        match start(role).await {
            Ok(server) => break server,
            // The system has not let go of the port yet, and tells nobody when it does.
            Err(StartError::Listen { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(error) => panic!("{error}"),
        }
    };
    let mut tasks = JoinSet::new();
    for kind in &FLEET {
        let device = server.expect(kind.id).unwrap();
        for stream in kind.streams() {
            let end = End::Server(device.clone());
            match stream.way {
                "up" => tasks.spawn(receives(end, stream, role.clone())),
                "down" => tasks.spawn(sends(end, stream, role.clone())),
                _ => tasks.spawn(answers(end)),
            };
        }
    }
    tasks.spawn(async move {
        let _stays = server;
        std::future::pending().await
    });
    tasks
}

async fn start(role: &Role) -> Result<Server, StartError> {
    let store = Store::open(role.home(), role.durability(), bowline_store::Limits::default()).unwrap();
    Server::builder()
        .listen(role.address)
        .keys(Keys::open(&role.home()).unwrap())
        .store(store)
        .timeout(TIMEOUT)
        .settle(Duration::ZERO)
        .pace(1, Duration::ZERO)
        .handshakes(0, 0)
        .limits(limits())
        .start()
        .await
}

/// One end of the conversation.
#[derive(Clone)]
enum End {
    Device(Client),
    Server(Device),
}

impl End {
    fn send(&self, message: String) -> Sending<'_> {
        match self {
            End::Device(client) => client.send(message),
            End::Server(device) => device.send(message),
        }
    }

    async fn next(&self) -> Result<Delivery, RecvError> {
        match self {
            End::Device(client) => client.next().await,
            End::Server(device) => device.next().await,
        }
    }
}

/// Sends, several messages at a time, and never the same number twice.
async fn sends(end: End, stream: Stream, role: Role) {
    let (mut diary, tail) = Diary::open(&stream.sent(&role.diaries()));
    let mut random = fastrand::Rng::with_seed(role.seed);
    let mut number = tail.last("send");
    if !role.is_last {
        loop {
            let burst = number + 1..number + 1 + random.u64(1..=BURST);
            number = burst.end - 1;
            sends_burst(&end, stream, &mut diary, burst).await;
            tokio::time::sleep(Duration::from_millis(random.u64(0..PAUSE))).await;
        }
    }
    number += 1;
    diary.line(format_args!("send {number}"));
    // The last one: when it is there, all are.
    end.send(stream.payload(number)).await.unwrap();
    diary.line(format_args!("accepted {number}"));
    diary.line(format_args!("end"));
}

async fn sends_burst(end: &End, stream: Stream, diary: &mut Diary, numbers: Range<u64>) {
    let mut on_their_way = Vec::new();
    for number in numbers {
        diary.line(format_args!("send {number}"));
        let mut sending = end.send(stream.payload(number)).until(Receipt::Accepted);
        // The order of messages is that of first polls.
        let sent = poll_immediate(&mut sending).await;
        on_their_way.push((number, sent, sending));
    }
    for (number, sent, sending) in on_their_way {
        match sent {
            Some(sent) => sent,
            None => sending.await,
        }
        .unwrap();
        diary.line(format_args!("accepted {number}"));
    }
}

/// Takes every message once, by its seq: it may have been taken by a life that was killed before that
/// was stored.
async fn receives(end: End, stream: Stream, role: Role) {
    let (mut diary, tail) = Diary::open(&stream.received(&role.diaries()));
    let mut last = tail.last("take");
    loop {
        let delivery = end.next().await.unwrap();
        let message = delivery.message();
        let number =
            stream.number(message.payload()).unwrap_or_else(|| panic!("{message:?} is no message of {stream}"));
        assert_eq!(message.gap(), 0, "before {number} of {stream}, and nothing was dropped");
        let seq = message.seq().expect("a qos message has a seq");
        let word = if seq > last { "take" } else { "again" };
        diary.line(format_args!("{word} {seq} {number}"));
        last = last.max(seq);
        delivery.done();
    }
}

/// Answers every message with itself, and remembers nothing: reply and message are one transaction.
async fn answers(end: End) {
    loop {
        let delivery = end.next().await.unwrap();
        let answer = delivery.message().payload().to_vec();
        delivery.reply(bowline_server::Message::new(answer)).await.unwrap();
    }
}
