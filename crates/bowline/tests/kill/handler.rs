//! An app's handler, killed in the middle of its work.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bowline_client::{Backoff, Client, Message, Receipt};
use bowline_server::{App, AppError, AppMessage, Handled, Instance, Port, Server, StartError};
use bowline_store::{Durability, Store};
use serde::{Deserialize, Serialize};

use crate::fleet::free_address;

/// The environment variable with what the server process is told.
const LIFE: &str = "BOWLINE_KILL_LIFE";

/// Messages the device sends in all.
const MESSAGES: usize = 300;

/// How long everything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Before the lines of the process that are for us: the test runner writes some, too.
const MARK: &str = "@handles ";

/// One life of the server.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Life {
    address: SocketAddr,
    folder: PathBuf,
    /// The call that never ends.
    stuck: Option<usize>,
}

/// Tells what it handles, and answers.
#[derive(Clone)]
struct Telling {
    calls: usize,
    stuck: Option<usize>,
}

impl App for Telling {
    type Instance = Telling;

    fn instance(&self, _: Port) -> Telling {
        self.clone()
    }
}

impl Instance for Telling {
    async fn handle(&mut self, message: &AppMessage) -> Result<Handled, AppError> {
        self.calls += 1;
        let line = format!("{MARK}{} {}", message.seq().unwrap_or(0), message.text().unwrap_or("?"));
        writeln!(std::io::stdout(), "{line}")?;
        if Some(self.calls) == self.stuck {
            std::future::pending::<()>().await;
        }
        Ok(Handled::reply(0, message.payload().to_vec()))
    }
}

/// Serves until it is killed, if this process is to.
pub(crate) fn run() {
    let Ok(life) = std::env::var(LIFE) else { return };
    let life: Life = serde_json::from_str(&life).expect("a life is what the test wrote");
    std::thread::spawn(|| {
        // The test holds the other end and writes nothing.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let _server = loop {
            let store = Store::open(&life.folder, Durability::Os, bowline_store::Limits::default()).unwrap();
            let builder = Server::builder().listen(life.address).store(store).settle(Duration::ZERO);
            let builder = builder.pace(1, Duration::ZERO).app(1, "telling", Telling { calls: 0, stuck: life.stuck });
            match builder.start().await {
                Ok(server) => break server,
                // The system has not let go of the port yet, and tells nobody when it does.
                Err(StartError::Listen { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(error) => panic!("{error}"),
            }
        };
        std::future::pending::<()>().await
    })
}

impl Life {
    fn starts(&self) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "process", "--ignored", "--nocapture"])
            .env(LIFE, serde_json::to_string(self).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

/// What a life has handled: seq and text, in order.
fn handled(child: &mut Child) -> impl Iterator<Item = (u64, String)> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // A killed process may leave half a line.
    lines.map_while(Result::ok).filter_map(|line| {
        let (seq, text) = line.split_once(MARK)?.1.split_once(' ')?;
        Some((seq.parse().ok()?, text.to_owned()))
    })
}

#[test]
fn r08_a_killed_handler_sees_its_message_again_under_the_same_seq_and_its_reply_is_there_once() {
    let folder = tempfile::tempdir().unwrap();
    let life = Life { address: free_address(), folder: folder.path().join("server"), stuck: None };
    let address = life.address.to_string();
    let device = std::thread::spawn(move || {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let backoff = Backoff { first: Duration::from_millis(5), longest: Duration::from_millis(50) };
            let client = Client::builder("device", address).backoff(backoff).start().unwrap();
            let sends = async {
                for number in 0..MESSAGES {
                    let message = Message::on_channel(1, 0, 0, number.to_string().as_bytes());
                    client.send(message).until(Receipt::Accepted).await.unwrap();
                }
            };
            let receives = async {
                let mut answers = Vec::new();
                while answers.len() < MESSAGES {
                    answers.push(client.recv().await.unwrap().text().unwrap().to_owned());
                }
                // One too many would be here by the time the last message is acknowledged.
                client.send(Message::on_channel(1, 0, 0, b"end")).await.unwrap();
                answers.push(client.recv().await.unwrap().text().unwrap().to_owned());
                answers
            };
            let both = async { tokio::join!(sends, receives).1 };
            tokio::time::timeout(PATIENCE, both).await.expect("every message is answered")
        })
    });

    let mut seen = BTreeMap::<u64, (String, u32)>::new();
    let mut again = 0;
    for turn in 0..20 {
        // Every other one is killed in a call that has not returned, the others wherever they are by then.
        let last = 3 + turn % 7;
        let mut child = Life { stuck: (turn % 2 == 0).then_some(last), ..life.clone() }.starts();
        let calls: Vec<_> = handled(&mut child).take(last).collect();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(calls.len(), last, "the server of turn {turn} has ended by itself");
        for (seq, text) in calls {
            let (before, times) = seen.entry(seq).or_insert_with(|| (text.clone(), 0));
            assert_eq!(*before, text, "the message with seq {seq} is another one");
            *times += 1;
            again += u32::from(*times > 1);
        }
    }
    assert!(
        again >= 9,
        "{again} messages came again, and 10 lives ended in the middle of one, the last at most unseen"
    );

    let mut child = life.starts();
    // It must not wait for us to read.
    let _reader = std::thread::spawn({
        let calls = handled(&mut child);
        move || calls.count()
    });
    let answers = device.join();
    child.kill().unwrap();
    child.wait().unwrap();
    let expected: Vec<_> = (0..MESSAGES).map(|number| number.to_string()).chain(["end".to_owned()]).collect();
    assert_eq!(answers.unwrap(), expected);
}
