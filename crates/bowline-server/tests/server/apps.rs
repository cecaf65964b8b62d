//! Apps: who gets which message, and when instances come and go.

use std::sync::Arc;

use bowline_client::Client;
use bowline_server::{
    Admission, AppLimits, AppMessage, AppRule, Dialect, Handled, Limits, Message, SendError, StartError,
};
use tokio::sync::Semaphore;

use crate::durable::with_store;
use crate::harness::{Board, eventually, goes_down, loopback, millis, server, soon};
use crate::scripted::{Scripted, scripted};

/// Sends back what comes, and ends.
fn echo() -> Scripted {
    scripted(
        |message: AppMessage| async move { Ok(Handled::reply(message.tag(), message.payload().to_vec()).and_end()) },
    )
    .0
}

#[tokio::test]
async fn an_app_gets_the_messages_of_its_ident_and_answers_on_their_channel() {
    let server = server().app(0, "echo", echo()).app(7, "other", echo()).start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "kitchen").await;
    board.sends("000301070509\"21.5\"").await;
    board.expects("00002c").await;
    board.expects("000301070509\"21.5\"").await;
    let handled: Vec<_> = server.app_stats().into_iter().map(|app| (app.name, app.handled)).collect();
    assert_eq!(handled, [("echo".to_owned(), 0), ("other".to_owned(), 1)]);
}

#[tokio::test]
async fn instances_start_pause_and_stop_with_the_link_and_the_server() {
    let (app, mut log) = scripted(|_| async { Ok(Handled::done()) });
    let server = server().app(1, "app", app).start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    let device = server.get("h").unwrap();
    board.sends("000301010000[0]").await;
    log.tells("1 starts").await;
    log.tells("1 handles [0]").await;
    board.sends("010301010100[1]").await;
    log.tells("2 starts").await;
    log.tells("2 handles [1]").await;
    board.sends("020301010000[2]").await;
    log.tells("1 handles [2]").await;
    for ack in ["00002c", "01002c", "02002c"] {
        board.expects(ack).await;
    }
    board.leaves();
    goes_down(&device).await;
    let mut pauses = [log.next().await, log.next().await];
    pauses.sort();
    assert_eq!(pauses, ["1 pauses: closed by the peer", "2 pauses: closed by the peer"]);

    let mut board = Board::logs_in_h(&server, "h").await;
    board.sends("030301010000[3]").await;
    let mut starts = vec![];
    for _ in 0..3 {
        starts.push(log.next().await);
    }
    assert!(starts.iter().position(|told| told == "1 starts") < starts.iter().position(|told| told == "1 handles [3]"));
    board.expects("03002c").await;
    soon(server.shutdown(millis(5000))).await.close(millis(1000)).await;
    drop(server);
    let rest = log.rest().await;
    assert_eq!(rest.iter().filter(|told| told.ends_with("stops")).count(), 2, "{rest:?}");
}

#[tokio::test]
async fn one_app_takes_lines_of_every_dialect() {
    let admission = Admission { plain: vec!["meter".to_owned()], ..Admission::open() };
    let server = server().admission(admission).app(0, "echo", echo()).lines_app("echo").start().await.unwrap();
    let mut board = Board::logs_in_u(&server, "u").await;
    board.sends("00[1]").await;
    board.expects("00").await;
    board.expects("00[1]").await;
    let mut board = Board::logs_in_u(&server, "meter").await;
    board.sends("21 degrees").await;
    board.expects("21 degrees").await;
    let mut board = Board::logs_in_h(&server, "h").await;
    board.sends("000001[2]").await;
    board.expects("00002c").await;
    board.expects("000001[2]").await;

    let client = Client::builder("n", server.addresses()[0].to_string()).start().unwrap();
    soon(client.send("anything")).await.unwrap();
    let answer = soon(client.recv()).await.unwrap();
    assert_eq!((answer.header(), answer.payload()), (&[][..], &b"anything"[..]));
}

#[tokio::test]
async fn one_app_serves_headers_and_channels_alike() {
    let server = server().app(9, "echo", echo()).start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    board.sends("0003010907ff\"x\"").await;
    board.expects("00002c").await;
    board.expects("0003010907ff\"x\"").await;
    for dialect in [Dialect::Headers, Dialect::Native] {
        let id = dialect.to_string();
        let client = Client::builder(&*id, server.addresses()[0].to_string()).dialect(dialect).start().unwrap();
        soon(client.send(Message::on_channel(9, 200, 3, b"[1]"))).await.unwrap();
        let answer = soon(client.recv()).await.unwrap();
        assert_eq!((answer.header(), answer.payload(), answer.is_qos()), (&[9, 200, 3][..], &b"[1]"[..], true));
        soon(client.connected()).await.unwrap();
        soon(client.send_best_effort(Message::on_channel(9, 1, 0, b"[2]"))).await.unwrap();
        let answer = soon(client.recv()).await.unwrap();
        assert_eq!((answer.payload(), answer.is_qos()), (&b"[2]"[..], false), "an answer to best effort is that");
    }
}

#[tokio::test]
async fn what_no_app_takes_becomes_a_dead_letter_and_the_link_stays() {
    let server = server().app(0, "echo", echo()).start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    for (line, ack) in [("000301050000[0]", "00002c"), ("010401000000ff[1]", "01002c"), ("020001[2]", "02002c")] {
        board.sends(line).await;
        board.expects(ack).await;
    }
    // Best effort is not kept.
    board.sends("030300050000[3]").await;
    board.sends("040301000000[4]").await;
    board.expects("04002c").await;
    board.expects("000301000000[4]").await;
    let device = server.get("h").unwrap();
    let reasons: Vec<_> = device.dead_letters().into_iter().map(|letter| letter.reason).collect();
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    assert!(reasons[0].contains("none has the ident 5"), "{reasons:?}");
    assert!(reasons[1].contains("expected three bytes"), "{reasons:?}");
    assert!(reasons[2].contains("without a header"), "{reasons:?}");
    assert_eq!(server.stats().messages_without_app, 4);
}

#[tokio::test]
async fn r46_a_device_starts_only_apps_that_it_may_use() {
    let rule = |devices: &str, allow: &[&str]| AppRule {
        devices: vec![devices.to_owned()],
        allow: allow.iter().map(ToString::to_string).collect(),
    };
    let (secret, mut log) = scripted(|_| async { Ok(Handled::done()) });
    let server = server()
        .app(0, "echo", echo())
        .app(1, "secret", secret.ahead(&[0]))
        .app_rules([rule("guest-*", &["echo"]), rule("*", &["*"])])
        .start()
        .await
        .unwrap();
    let mut guest = Board::logs_in_h(&server, "guest-1").await;
    guest.sends("000301010000[0]").await;
    guest.expects("00002c").await;
    guest.sends("010301000000[1]").await;
    guest.expects("01002c").await;
    guest.expects("000301000000[1]").await;
    let letters = server.get("guest-1").unwrap().dead_letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].reason, "the device may not use the app \"secret\"");
    assert_eq!(server.stats().messages_not_allowed, 1);
    log.tells_nothing();

    let mut owner = Board::logs_in_h(&server, "owner").await;
    log.tells("1 starts").await;
    owner.sends("000301010000[2]").await;
    log.tells("1 handles [2]").await;
}

#[tokio::test]
async fn r11_what_an_app_sends_is_qos_and_survives_outages() {
    let (app, _log) = scripted(|_| async { Ok(Handled::done()) });
    let server = server().app(3, "writer", app).start().await.unwrap();
    let port = server.port("kitchen", "writer", 2).unwrap();
    assert_eq!(port.send_best_effort(0, b"[-1]").await, Err(SendError::NoLink));
    let sent = tokio::spawn({
        let port = port.clone();
        async move { port.send(1, b"[0]").await }
    });
    let mut board = Board::logs_in_h(&server, "kitchen").await;
    board.expects("000301030201[0]").await;
    // It was lost on its way, as far as the board goes.
    board.cuts();
    let mut board = Board::logs_in_h(&server, "kitchen").await;
    assert!(!sent.is_finished());
    board.expects("000301030201[0]").await;
    board.sends("00002c").await;
    soon(sent).await.unwrap().unwrap();
}

#[tokio::test]
async fn r22_a_rebooted_device_reaches_a_new_instance_and_hears_nothing_of_the_old_one() {
    let gate = Arc::new(Semaphore::new(0));
    let (app, mut log) = scripted({
        let gate = Arc::clone(&gate);
        move |message: AppMessage| {
            let gate = Arc::clone(&gate);
            async move {
                let (text, port) = (message.text().unwrap_or_default().to_owned(), message.port().clone());
                if text.starts_with("[\"old") {
                    gate.acquire().await.unwrap().forget();
                    assert_eq!(port.send(0, b"[\"more\"]").await, Err(SendError::PastEpoch));
                }
                Ok(Handled::reply(message.tag(), text))
            }
        }
    });
    let server = server().app(1, "app", app).start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    board.sends("000301010000[\"old 0\"]").await;
    board.expects("00002c").await;
    board.sends("010301010000[\"old 1\"]").await;
    board.expects("01002c").await;
    log.tells("1 starts").await;
    log.tells("1 handles [\"old 0\"]").await;
    board.cuts();

    // Its ids start anew: another life.
    let mut board = Board::logs_in_h(&server, "h").await;
    board.sends("000301010000[\"new\"]").await;
    board.expects("00002c").await;
    board.expects("000301010000[\"new\"]").await;
    board.sends("00002c").await;
    gate.add_permits(2);
    eventually(|| server.app_stats()[0].handled == 3).await;
    board.expects_nothing_for(millis(20)).await;
    soon(server.shutdown(millis(5000))).await.close(millis(1000)).await;
    drop(server);
    let told = log.rest().await;
    let at = |what: &str| told.iter().position(|told| told == what).unwrap_or_else(|| panic!("{what} in {told:?}"));
    assert!(at("1 handles [\"old 1\"]") < at("1 stops"), "{told:?}");
    assert!(at("2 starts") < at("2 handles [\"new\"]"), "{told:?}");
}

#[tokio::test]
async fn r22_on_n_a_new_life_reaches_a_new_instance_too() {
    let (app, mut log) = scripted(|message: AppMessage| async move {
        assert_eq!(message.port().epoch(), message.message().epoch());
        Ok(Handled::reply(0, message.payload().to_vec()))
    });
    let server = server().app(1, "app", app).start().await.unwrap();
    for (life, told) in [("0", ["1 starts", "1 handles 0"]), ("1", ["2 starts", "2 handles 1"])] {
        // One that keeps nothing: its next life has another epoch.
        let client = Client::builder("n", server.addresses()[0].to_string()).start().unwrap();
        soon(client.send(Message::on_channel(1, 0, 0, life.as_bytes()))).await.unwrap();
        let mut seen = vec![log.next().await, log.next().await];
        if life == "1" {
            // The old one pauses with the old link, if that is seen before the new one, and stops.
            while seen.len() < 3 || seen.iter().any(|told| told.contains("pauses")) && seen.len() < 4 {
                seen.push(log.next().await);
            }
            assert!(seen.iter().any(|told| told == "1 stops"), "{seen:?}");
            seen.retain(|told| told.starts_with('2'));
        }
        assert_eq!(seen, told);
        assert_eq!(soon(client.recv()).await.unwrap().text(), Some(life));
    }
}

#[tokio::test]
async fn an_instance_that_ends_loses_no_message_in_its_queue() {
    let (app, mut log) = scripted(|message: AppMessage| async move {
        tokio::task::yield_now().await;
        Ok(Handled::reply(0, message.payload().to_vec()).and_end())
    });
    let server = server().app(0, "echo", app).start().await.unwrap();
    let client = Client::builder("n", server.addresses()[0].to_string()).start().unwrap();
    for number in 0..200 {
        let message = Message::on_channel(0, 0, 0, number.to_string().as_bytes());
        soon(client.send(message).until(bowline_client::Receipt::Accepted)).await.unwrap();
    }
    for number in 0..200 {
        assert_eq!(soon(client.recv()).await.unwrap().text(), Some(&*number.to_string()));
    }
    log.tells("1 starts").await;
    log.tells("1 handles 0").await;
    log.tells("1 stops").await;
    log.tells("2 starts").await;
    eventually(|| server.app_stats()[0].instances == 200).await;
}

#[tokio::test]
async fn an_app_for_all_devices_has_one_instance() {
    let (app, mut log) = scripted(|message: AppMessage| async move {
        let port = message.port();
        Ok(Handled::reply(message.tag(), format!("[\"{} {}\"]", port.device().id(), port.instance())).and_end())
    });
    let server = server().global_app(4, "all", app.global()).start().await.unwrap();
    log.tells("0 starts").await;
    let mut a = Board::logs_in_h(&server, "a").await;
    let mut b = Board::logs_in_h(&server, "b").await;
    for (board, id) in [(&mut a, "a"), (&mut b, "b")] {
        board.sends("0003010409aa[0]").await;
        board.expects("00002c").await;
        log.tells("0 handles [0]").await;
        board.expects(&format!("0003010409aa[\"{id} 9\"]")).await;
        board.sends("00002c").await;
    }
    a.leaves();
    goes_down(&server.get("a").unwrap()).await;
    soon(server.shutdown(millis(5000))).await.close(millis(1000)).await;
    log.tells("0 stops").await;
}

#[tokio::test]
async fn an_app_may_write_first_and_moves_to_the_devices_new_life() {
    let (app, mut log) = scripted(|_| async { Ok(Handled::done()) });
    let app = app.ahead(&[5]).starts(|port| async move {
        port.send(1, b"[\"config\"]").until(bowline_server::Receipt::Accepted).await?;
        Ok(Handled::done())
    });
    let server = server().app(3, "config", app).start().await.unwrap();
    for (life, number) in [(0, 1), (1, 2)] {
        // On H a new life shows with its first message. Before, it is the same instance, and starts again.
        let mut board = Board::logs_in_h(&server, "h").await;
        log.tells("1 starts").await;
        let line = soon(board.line()).await.unwrap();
        assert!(line.ends_with("01030501[\"config\"]"), "{line}");
        board.sends(&format!("{}002c", &line[..2])).await;
        board.sends(&format!("000301030500[\"life {life}\"]")).await;
        board.expects("00002c").await;
        if number == 2 {
            let mut told = vec![];
            for _ in 0..3 {
                told.push(log.next().await);
            }
            told.sort();
            assert_eq!(told, ["1 stops", "2 handles [\"life 1\"]", "2 starts"]);
        } else {
            log.tells("1 handles [\"life 0\"]").await;
            let device = server.get("h").unwrap();
            board.leaves();
            goes_down(&device).await;
            log.tells("1 pauses: closed by the peer").await;
        }
    }
}

#[tokio::test]
async fn instances_beyond_the_limit_are_refused() {
    let (app, mut log) = scripted(|_| async { Ok(Handled::done()) });
    let limits = AppLimits { instances: 2, ..AppLimits::default() };
    let server = server().app(1, "app", app).app_limits(limits).start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    for instance in 0..3 {
        board.sends(&format!("0{instance}030101{instance:02x}00[{instance}]")).await;
        board.expects(&format!("0{instance}002c")).await;
    }
    board.sends("030301010100[3]").await;
    eventually(|| server.app_stats()[0].handled == 3).await;
    let letters = server.get("h").unwrap().dead_letters();
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert!(letters[0].reason.contains("has 2 instances"), "{letters:?}");
    assert_eq!(server.stats().messages_without_instance, 1);
    for told in ["1 starts", "1 handles [0]", "2 starts", "2 handles [1]", "2 handles [3]"] {
        log.tells(told).await;
    }
}

#[tokio::test]
async fn what_an_app_has_not_handled_comes_again_after_a_restart_under_the_same_seq() {
    let folder = bowline_store_vfs::Folder::new();
    let seqs = Arc::new(std::sync::Mutex::new(Vec::new()));
    let app = |stuck: bool| {
        let seqs = Arc::clone(&seqs);
        scripted(move |message: AppMessage| {
            seqs.lock().unwrap().push((message.text().unwrap_or_default().to_owned(), message.seq()));
            async move {
                if stuck && message.text() != Some("[0]") {
                    std::future::pending::<()>().await;
                }
                Ok(Handled::reply(0, message.payload().to_vec()))
            }
        })
        .0
    };
    let first = with_store(server().app(1, "app", app(true)), folder.path()).await;
    let mut board = Board::logs_in_h(&first, "h").await;
    for id in 0..3 {
        board.sends(&format!("0{id}0301010000[{id}]")).await;
        board.expects(&format!("0{id}002c")).await;
        if id == 0 {
            board.expects("000301010000[0]").await;
            board.sends("00002c").await;
        }
    }
    eventually(|| seqs.lock().unwrap().len() == 2).await;
    let sessions = soon(first.shutdown(millis(50))).await;
    assert!(sessions.close(millis(5000)).await);
    drop((first, board));

    let second = with_store(server().app(1, "app", app(false)), folder.path()).await;
    eventually(|| seqs.lock().unwrap().len() == 4).await;
    let seen = seqs.lock().unwrap().clone();
    assert_eq!(seen[1], seen[2], "the one in hand comes again: {seen:?}");
    assert_eq!([seen[0].1, seen[2].1, seen[3].1].map(Option::unwrap), [1, 2, 3]);
    let mut board = Board::logs_in_h(&second, "h").await;
    for id in 1..3 {
        let line = soon(board.line()).await.unwrap();
        assert_eq!(&line[2..], format!("0301010000[{id}]"));
        board.sends(&format!("{}002c", &line[..2])).await;
    }
}

#[tokio::test]
async fn a_server_that_is_dropped_leaves_everything_unhandled_where_it_was() {
    let folder = bowline_store_vfs::Folder::new();
    let (app, mut log) = scripted(|_| std::future::pending());
    let first = with_store(server().app(1, "app", app), folder.path()).await;
    let mut board = Board::logs_in_h(&first, "h").await;
    for id in 0..3 {
        board.sends(&format!("0{id}0301010000[{id}]")).await;
        board.expects(&format!("0{id}002c")).await;
    }
    log.tells("1 starts").await;
    log.tells("1 handles [0]").await;
    drop((first, board));
    let (app, mut log) = scripted(|_| async { Ok(Handled::done()) });
    let second = with_store(server().app(1, "app", app), folder.path()).await;
    for told in ["1 handles [0]", "1 handles [1]", "1 handles [2]"] {
        log.tells(told).await;
    }
    eventually(|| second.get("h").unwrap().ledger().unread == 0).await;
}

#[tokio::test]
async fn a_shutdown_lets_the_message_in_hand_be_handled_and_answered() {
    let gate = Arc::new(Semaphore::new(0));
    let (app, mut log) = scripted({
        let gate = Arc::clone(&gate);
        move |message: AppMessage| {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.unwrap().forget();
                Ok(Handled::reply(0, message.payload().to_vec()))
            }
        }
    });
    let server = server().app(1, "app", app).start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    for id in 0..2 {
        board.sends(&format!("0{id}0301010000[{id}]")).await;
        board.expects(&format!("0{id}002c")).await;
    }
    log.tells("1 starts").await;
    log.tells("1 handles [0]").await;
    let stopping = tokio::spawn({
        let server = server.clone();
        async move { server.shutdown(millis(10_000)).await }
    });
    gate.add_permits(1);
    board.expects("000301010000[0]").await;
    board.sends("00002c").await;
    board.expects_end().await;
    let sessions = soon(stopping).await.unwrap();
    log.tells("1 stops").await;
    let left: Vec<_> = sessions.devices().map(|device| device.ledger().unread).collect();
    assert_eq!(left, [1], "the other one waits for the next server");
    drop(sessions);
}

#[tokio::test]
async fn instances_of_a_forgotten_device_stop() {
    let (app, mut log) = scripted(|_| async { Ok(Handled::done()) });
    let server = server().app(1, "app", app).start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "h").await;
    board.sends("000301010000[0]").await;
    log.tells("1 starts").await;
    log.tells("1 handles [0]").await;
    assert!(server.forget("h"));
    log.tells("1 stops").await;
}

#[tokio::test]
async fn a_slow_app_holds_up_its_device_and_no_other() {
    let (app, mut log) = scripted(|message: AppMessage| async move {
        if message.port().device().id() == "slow" {
            std::future::pending::<()>().await;
        }
        Ok(Handled::reply(0, message.payload().to_vec()))
    });
    let limits = Limits { inbox: 8, ..Limits::default() };
    let server = server().limits(limits).app(1, "app", app).start().await.unwrap();
    let address = server.addresses()[0].to_string();
    let slow = Client::builder("slow", &*address).start().unwrap();
    for number in 0..8 {
        soon(slow.send(Message::on_channel(1, 0, 0, format!("{number}").as_bytes()))).await.unwrap();
    }
    log.tells("1 starts").await;
    log.tells("1 handles 0").await;
    let mut ninth = slow.send(Message::on_channel(1, 0, 0, b"8"));
    assert!(crate::harness::pending(&mut ninth, millis(50)).await, "there is room for eight, handled or not");
    assert_eq!(server.get("slow").unwrap().ledger().unread, 8);

    let fast = Client::builder("fast", &*address).start().unwrap();
    for number in 0..50 {
        soon(fast.send(Message::on_channel(1, 0, 0, format!("{number}").as_bytes()))).await.unwrap();
        soon(fast.recv()).await.unwrap();
    }
}

#[tokio::test]
async fn settings_of_apps_that_make_no_sense_are_refused() {
    let checks = |builder: bowline_server::Builder| builder.listen(loopback()).check().unwrap_err();
    let error = checks(server().app(1, "a", echo()).app(1, "b", echo()));
    assert!(matches!(&error, StartError::SameAppIdent { ident: Some(1), .. }), "{error}");
    let error = checks(server().app(1, "a", echo()).app(2, "a", echo()));
    assert!(matches!(&error, StartError::SameAppName { .. }), "{error}");
    let error = checks(server().app(1, "a", echo()).lines_app("b"));
    assert_eq!(error.to_string(), r#"there is no app "b": expected one of ["a"]"#);
    let rule = AppRule { devices: vec!["*".to_owned()], allow: vec!["*".to_owned(), "c".to_owned()] };
    let error = checks(server().app(1, "a", echo()).app_rules([rule]));
    assert!(matches!(&error, StartError::UnknownApp { name, .. } if name == "c"), "{error}");
    let error = checks(server().app_limits(AppLimits { attempts: 0, ..AppLimits::default() }));
    assert!(error.to_string().contains("attempts is 0"), "{error}");
    let server = server().app(1, "a", echo()).start().await.unwrap();
    assert!(server.port("h", "b", 0).unwrap_err().to_string().contains(r#"no app "b""#));
}

#[test]
fn the_guide_ends_with_the_example() {
    let guide = include_str!("../../../../docs/apps/writing.md");
    let code = guide.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert_eq!(code, include_str!("../../examples/fan.rs"));
}
