//! A broker that is killed with messages under way both ways, and nobody between to make up for what it forgets.

use std::time::SystemTime;

use bowline_apps::mqtt::{Settings, Version};
use serde_json::Value;

use super::boards::*;
use super::broker::Broker;
use super::house::Member;
use super::tape::{Entry, Tape};
use super::{blame, word};

const COUNT: usize = 60;
const KILLS: usize = 3;

/// When the broker writes down what it knows: as soon as it can, or when it is told to.
const SOON: &str = "allow_anonymous true\nautosave_on_changes true\nautosave_interval 1";
const SELDOM: &str = "allow_anonymous true";

#[derive(Clone, Copy, PartialEq)]
enum Kill {
    /// At any moment.
    Bare,
    /// When it has written down all that it has said; what it was told meanwhile is lost.
    Written,
}

/// One way, from whom to whom.
struct Way {
    from: &'static str,
    to: &'static str,
    sent: Vec<String>,
    heard: Vec<String>,
}

impl Way {
    /// Sends something that arrives. What comes under an id that the broker has forgotten to release does not.
    async fn ends(&mut self, tape: &Tape, say: impl AsyncFn(&str)) {
        for number in 0.. {
            let end = format!("{} end {number}", self.from);
            say(&end).await;
            tape.shows(|tape| blame::is_over(tape, self.to, &end)).await;
            let arrives = blame::begun(&tape.entries(), self.to).contains(&(&*end, true));
            self.sent.push(end);
            if arrives {
                return;
            }
        }
    }
}

struct Told {
    ways: [Way; 2],
    tape: Vec<Entry>,
    /// For each kill, when the broker had last written down what it knew.
    written: Vec<Option<SystemTime>>,
}

async fn through_kills(version: Version, when: &str, kill: Kill) -> Told {
    let mut random = random();
    let mut broker = Broker::starts_with(when, |_| ()).await;
    let tape = Tape::before(broker.port).await;
    let mut listener = Member::joins(tape.port, "listener", "up").await;
    let speaker = Member::joins(tape.port, "speaker", "speaker").await;
    let server = server_with(Settings { version, ..settings(&format!("mqtt://127.0.0.1:{}", tape.port)) }).await;
    let board = Board::connects(&server, "kitchen").await;
    board.does(SUBSCRIBE, r#""down""#).await;
    // From here on it knows who they are, whatever comes.
    word::is_written(&broker).await;

    let numbered = |way: &str| (0..COUNT).map(|number| format!("{way} {number}")).collect();
    let mut up = Way { from: "kitchen", to: "listener", sent: numbered("up"), heard: Vec::new() };
    let mut down = Way { from: "speaker", to: "kitchen", sent: numbered("down"), heard: Vec::new() };
    let mut written = Vec::new();
    let board_says = async |payload: &str| board.says(PUBLISH, &format!(r#"["up", "{payload}"]"#)).await;
    let all_up = async {
        for payload in &up.sent {
            board_says(payload).await;
        }
    };
    let all_down = async {
        for payload in &down.sent {
            speaker.says("down", payload).await;
        }
    };
    let kills = async {
        for _ in 0..KILLS {
            // Altogether less than it takes to say everything, so something is under way.
            tape.grows_by(random.usize(20..100)).await;
            if kill == Kill::Written {
                tape.holds();
                word::is_written(&broker).await;
            }
            broker.is_killed().await;
            tape.broker_has_ended();
            tape.holds_no_more();
            written.push(std::fs::metadata(broker.path("mosquitto.db")).and_then(|file| file.modified()).ok());
            broker.starts_again().await;
            // Before the next one: mosquitto 2.0 forgets a session that it has read and that nobody came for.
            broker.says("as kitchen").await;
        }
    };
    tokio::join!(all_up, all_down, kills);

    up.ends(&tape, board_says).await;
    down.ends(&tape, async |payload| speaker.says("down", payload).await).await;
    while up.heard.last() != up.sent.last() {
        up.heard.push(listener.hears().await);
    }
    while down.heard.last() != down.sent.last() {
        let message: Value = serde_json::from_str(board.hears().await.text().unwrap()).unwrap();
        down.heard.push(message[2].as_str().unwrap().to_owned());
    }
    board.hears_no_more().await;
    assert_eq!(server.get("kitchen").unwrap().dead_letters(), []);
    Told { ways: [up, down], tape: tape.entries(), written }
}

/// Everybody but the broker has done what MQTT asks of them, and of what was lost or doubled the broker had said
/// something that it had not written down.
async fn only_the_broker_is_to_blame(version: Version, when: &str) {
    let told = through_kills(version, when, Kill::Bare).await;
    for Way { from, to, sent, heard } in &told.ways {
        for client in [from, to] {
            assert_eq!(blame::has_kept_its_session(&told.tape, client), Ok(()));
        }
        assert_eq!(blame::has_published(&told.tape, from, sent), Ok(()));
        assert_eq!(blame::has_heard(&told.tape, to, heard), Ok(()));
        assert_eq!(blame::has_answered(&told.tape, to), Ok(()));
        let times = |payload: &String| heard.iter().filter(|heard| *heard == payload).count();
        let (lost, doubled): (Vec<&String>, Vec<&String>) =
            sent.iter().filter(|payload| times(payload) != 1).partition(|payload| times(payload) == 0);
        println!("{from} to {to}: lost {lost:?}, doubled {doubled:?}");
        for payload in lost.into_iter().chain(doubled) {
            let unwritten = |word: &&Entry| {
                let written = told.written.get(word.life);
                written.is_some_and(|written| written.is_none_or(|written| word.at > written))
            };
            assert!(
                blame::words(&told.tape, from, to, payload).iter().any(unwritten),
                "what was said of {payload}:\n{}",
                blame::story(&told.tape, payload, &told.written)
            );
        }
    }
}

#[tokio::test]
async fn who_is_to_blame_when_a_broker_is_killed_v311() {
    only_the_broker_is_to_blame(Version::V311, SOON).await;
}

#[tokio::test]
async fn who_is_to_blame_when_a_broker_is_killed_v5() {
    only_the_broker_is_to_blame(Version::V5, SOON).await;
}

#[tokio::test]
async fn who_is_to_blame_when_a_broker_that_seldom_writes_is_killed_v311() {
    only_the_broker_is_to_blame(Version::V311, SELDOM).await;
}

#[tokio::test]
async fn who_is_to_blame_when_a_broker_that_seldom_writes_is_killed_v5() {
    only_the_broker_is_to_blame(Version::V5, SELDOM).await;
}

async fn nothing_is_lost_or_doubled(version: Version) {
    let told = through_kills(version, SELDOM, Kill::Written).await;
    for Way { sent, heard, .. } in &told.ways {
        assert_eq!(heard, sent);
    }
}

#[tokio::test]
async fn a_broker_killed_when_it_has_written_what_it_said_loses_and_doubles_nothing_v311() {
    nothing_is_lost_or_doubled(Version::V311).await;
}

#[tokio::test]
async fn a_broker_killed_when_it_has_written_what_it_said_loses_and_doubles_nothing_v5() {
    nothing_is_lost_or_doubled(Version::V5).await;
}
