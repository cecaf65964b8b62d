//! Apps that fail, and what becomes of their messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bowline_client::Client;
use bowline_server::{AppError, AppLimits, AppMessage, Handled, Message};
use tokio::sync::Semaphore;

use crate::durable::with_store;
use crate::harness::{Board, eventually, millis, server, soon};
use crate::scripted::{Log, Scripted, scripted};

fn impatient() -> AppLimits {
    AppLimits {
        attempts: 3,
        first_pause: millis(4),
        longest_pause: millis(10),
        handle_timeout: millis(50),
        ..AppLimits::default()
    }
}

fn good() -> (Scripted, Log) {
    scripted(|message: AppMessage| async move { Ok(Handled::reply(0, message.payload().to_vec())) })
}

#[tokio::test]
async fn r09_bad_apps_become_dead_letters_and_the_good_one_and_the_link_go_on() {
    let folder = bowline_store_vfs::Folder::new();
    let heals = Arc::new(AtomicBool::new(false));
    let bad = |how: &'static str| {
        let heals = Arc::clone(&heals);
        scripted(move |message: AppMessage| {
            let heals = Arc::clone(&heals);
            async move {
                if heals.load(Ordering::Relaxed) {
                    return Ok(Handled::reply(9, message.payload().to_vec()));
                }
                match how {
                    "fails" => Err(std::io::Error::other("the broker is away"))?,
                    "panics" => panic!("index out of bounds"),
                    _ => std::future::pending().await,
                }
            }
        })
    };
    let ((failing, mut fails), (panicking, mut panics), (slow, _slow)) = (bad("fails"), bad("panics"), bad("sleeps"));
    let builder = server()
        .app(0, "good", good().0)
        .app(1, "failing", failing)
        .app(2, "panicking", panicking)
        .app(3, "slow", slow)
        .app_limits(impatient());
    let server = with_store(builder, folder.path()).await;
    let client = Client::builder("kitchen", server.addresses()[0].to_string()).start().unwrap();
    for ident in 1..=3 {
        soon(client.send(Message::on_channel(ident, 0, 0, &[b'0' + ident]))).await.unwrap();
    }
    while server.dead_letters(None).await.unwrap().len() < 3 {
        soon(client.send(Message::on_channel(0, 0, 0, b"good"))).await.unwrap();
        assert_eq!(soon(client.recv()).await.unwrap().text(), Some("good"));
    }
    for told in ["1 starts", "1 handles 1", "1 handles 1 (attempt 2)", "1 handles 1 (attempt 3)"] {
        fails.tells(told).await;
    }
    // Whatever it has panicked in, it begins anew.
    for told in ["1 starts", "1 handles 2", "2 starts", "2 handles 2 (attempt 2)", "3 starts"] {
        panics.tells(told).await;
    }
    let mut letters = server.dead_letters(None).await.unwrap();
    letters.sort_by_key(|letter| letter.letter.header[0]);
    let reasons: Vec<_> = letters.iter().map(|letter| &*letter.letter.reason).collect();
    assert_eq!(
        reasons,
        [
            "the app \"failing\" failed: the broker is away (attempt 3)",
            "the app \"panicking\" failed: it panicked: index out of bounds (attempt 3)",
            "the app \"slow\" failed: it took longer than 50ms (attempt 3)",
        ]
    );
    let counts = |at: usize| {
        let stats = &server.app_stats()[at];
        (stats.retried, stats.buried, stats.panics, stats.timeouts)
    };
    assert_eq!([counts(1), counts(2), counts(3)], [(2, 1, 0, 0), (2, 1, 3, 0), (2, 1, 0, 3)]);

    heals.store(true, Ordering::Relaxed);
    for letter in letters {
        soon(server.retry_dead(letter.id)).await.unwrap();
    }
    let mut answers = Vec::new();
    while answers.len() < 3 {
        let answer = soon(client.recv()).await.unwrap();
        if answer.header() != [0, 0, 0] {
            answers.push((answer.header().to_vec(), answer.payload().to_vec()));
        }
    }
    answers.sort();
    assert_eq!(answers, [1, 2, 3].map(|ident| (vec![ident, 0, 9], vec![b'0' + ident])));
    assert_eq!(client.connects(), 1);
    assert_eq!(server.dead_letters(None).await.unwrap(), []);
}

#[tokio::test]
async fn what_is_rejected_is_not_tried_again() {
    let (app, mut log) = scripted(|message: AppMessage| async move {
        if message.text() == Some("[1]") { Err(AppError::reject("no such topic")) } else { Ok(Handled::done()) }
    });
    let server = server().app(1, "app", app).start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    board.sends("000301010000[1]").await;
    board.expects("00002c").await;
    board.sends("010301010000[2]").await;
    for told in ["1 starts", "1 handles [1]", "1 handles [2]"] {
        log.tells(told).await;
    }
    let letters = server.get("h").unwrap().dead_letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].reason, "the app \"app\" failed: no such topic (rejected)");
}

#[tokio::test]
async fn messages_wait_until_the_instance_has_started_or_their_attempts_are_used_up() {
    let works = Arc::new(AtomicBool::new(false));
    let (app, mut log) = good();
    let app = app.starts({
        let works = Arc::clone(&works);
        move |_| {
            let works = works.load(Ordering::Relaxed);
            async move { if works { Ok(Handled::done()) } else { Err(AppError::retry("no credentials")) } }
        }
    });
    let server = server().app(1, "app", app).app_limits(impatient()).start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    board.sends("000301010000[0]").await;
    board.expects("00002c").await;
    let device = server.get("h").unwrap();
    eventually(|| device.dead_letters().len() == 1).await;
    assert_eq!(device.dead_letters()[0].reason, "the app \"app\" could not start: no credentials (attempt 3)");
    works.store(true, Ordering::Relaxed);
    board.sends("010301010000[1]").await;
    board.expects("01002c").await;
    board.expects("000301010000[1]").await;
    while log.next().await != "1 handles [1]" {}
}

#[tokio::test]
async fn a_reply_that_the_dialect_cannot_carry_buries_its_message() {
    let (app, _log) = scripted(|_| async { Ok(Handled::reply(0, "two\nlines")) });
    let server = server().app(1, "app", app).start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    board.sends("000301010000[0]").await;
    board.expects("00002c").await;
    let device = server.get("h").unwrap();
    eventually(|| device.dead_letters().len() == 1).await;
    assert!(device.dead_letters()[0].reason.contains("the reply to it cannot be sent"));
    eventually(|| server.app_stats()[0].buried == 1).await;
}

#[tokio::test]
async fn best_effort_beyond_its_room_is_dropped_and_never_holds_up_qos() {
    let gate = Arc::new(Semaphore::new(0));
    let (app, mut log) = scripted({
        let gate = Arc::clone(&gate);
        move |message: AppMessage| {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.unwrap().forget();
                if message.is_qos() { Ok(Handled::done()) } else { Err(AppError::retry("not now")) }
            }
        }
    });
    let limits = AppLimits { best_effort: 4, handle_timeout: Duration::from_secs(60), ..impatient() };
    let server = server().app(1, "app", app).app_limits(limits).start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    board.sends("000301010000[0]").await;
    board.expects("00002c").await;
    log.tells("1 starts").await;
    log.tells("1 handles [0]").await;
    for id in 1..=9 {
        board.sends(&format!("0{id}0300010000[{id}]")).await;
    }
    board.sends("0a0301010000[10]").await;
    board.expects("0a002c").await;
    eventually(|| server.app_stats()[0].dropped == 5).await;
    gate.add_permits(100);
    // Each of them once.
    for told in ["[1]", "[2]", "[3]", "[4]", "[10]"] {
        log.tells(&format!("1 handles {told}")).await;
    }
    eventually(|| server.app_stats()[0].handled == 2).await;
    assert_eq!(server.app_stats()[0].dropped, 9);
    assert_eq!(server.get("h").unwrap().dead_letters(), []);
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_the_next_attempt() {
    let (app, mut log) = scripted(|_| async { Err(AppError::retry("not now")) });
    let limits =
        AppLimits { first_pause: Duration::from_secs(3600), longest_pause: Duration::from_secs(3600), ..impatient() };
    let server = server().app(1, "app", app).app_limits(limits).start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    board.sends("000301010000[0]").await;
    board.expects("00002c").await;
    log.tells("1 starts").await;
    log.tells("1 handles [0]").await;
    let sessions = soon(server.shutdown(Duration::from_secs(3600))).await;
    log.tells("1 stops").await;
    assert_eq!(sessions.devices().map(|device| device.ledger().unread).sum::<usize>(), 1);
    assert_eq!(server.app_stats()[0].buried, 0);
    drop(sessions);
}
