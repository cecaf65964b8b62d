//! Peers that mean no good, or do not know what they do.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bowline_proto::legacy::CloseReason;
use bowline_proto::wire::MessageError as LineError;
use bowline_server::{Dialect, DownReason, Limits, MessageError, RecvError, SendError, Server};
use tokio::time::Instant;

use crate::harness::{
    Board, echo, eventually, goes_down, millis, only, receives, round_trip, seed, sending, server, soon,
};

fn refused(server: &Server) -> u64 {
    server.stats().iter().filter(|(name, _)| name.starts_with("refused_")).map(|(_, count)| count).sum()
}

#[tokio::test]
async fn r34_what_is_no_login_is_refused_and_counted_and_the_server_goes_on() {
    let mut random = fastrand::Rng::with_seed(seed());
    let server = server().login_timeout(millis(300)).on_device(echo).start().await.unwrap();
    let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(1..)).take(64 * 1024).collect();
    let tls_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice();
    let hostile: [&[u8]; 12] = [
        b"\n",
        b"\r\n",
        b"\xff",
        b"\xff\n",
        b"GET / HTTP/1.1\r\nHost: bowline\r\n\r\n",
        b"POST /goform/set HTTP/1.0\n\n",
        tls_hello,
        &[tls_hello, &noise[..500]].concat(),
        b"\x00\x01\x02",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"2c00ff\xfe\xff\n",
        &noise,
    ];
    for (count, bytes) in (1..).zip(hostile) {
        let mut peer = Board::connects(&server).await;
        // It may be refused before everything is written.
        let _ = peer.try_writes(bytes).await;
        peer.expects_end().await;
        eventually(|| refused(&server) == count).await;
    }
    let mut peer = Board::connects(&server).await;
    let _ = peer.try_writes("half a lo").await;
    peer.cuts();
    eventually(|| server.stats().refused_closed == 1).await;

    let stats = server.stats();
    assert_eq!((stats.refused_http, stats.refused_opening, stats.logins), (2, 1, 0), "{stats:?}");
    assert_eq!(stats.connections, refused(&server));
    assert!(server.devices().is_empty());
    round_trip(&mut Board::logs_in_h(&server, "h").await, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r36_silent_and_hostile_sockets_do_not_delay_a_login() {
    let server = server().start().await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..250 {
        silent.push(Board::connects(&server).await);
    }
    let over = Arc::new(AtomicBool::new(false));
    let flood = tokio::spawn({
        let (server, over) = (server.clone(), Arc::clone(&over));
        async move {
            let junk = vec![b'a'; 64 * 1024];
            while !over.load(Ordering::Relaxed) {
                let mut peer = Board::connects(&server).await;
                let _ = peer.try_writes(&junk).await;
                peer.cuts();
            }
        }
    });
    // The machine may be busy with something else: the best of three medians.
    let mut medians = Vec::new();
    for batch in 0..3 {
        let mut delays = Vec::new();
        for number in 0..11 {
            let start = Instant::now();
            let board = Board::logs_in_h(&server, &format!("h{batch}-{number}")).await;
            delays.push(start.elapsed());
            board.leaves();
        }
        delays.sort();
        medians.push(delays[delays.len() / 2]);
    }
    over.store(true, Ordering::Relaxed);
    flood.await.unwrap();
    assert!(medians.iter().any(|median| *median < millis(50)), "{medians:?}");
    assert_eq!(server.stats().refused_timeout, 0, "the silent ones are still there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r37_an_endless_line_ends_its_link_at_the_limit_and_no_other() {
    let server = server().on_device(echo).start().await.unwrap();
    let mut other = Board::logs_in_h(&server, "other").await;
    round_trip(&mut other, 0).await;
    for (id, login) in [("h", "2c00ffh"), ("u", "u")] {
        let mut peer = Board::connects(&server).await;
        peer.sends(login).await;
        peer.is_up().await;
        let device = server.get(id).unwrap();
        let flood = tokio::spawn(async move {
            let (junk, mut written) = (vec![b'7'; 64 * 1024], 0);
            while written < 256 << 20 && peer.try_writes(&junk).await.is_ok() {
                written += junk.len();
            }
            written
        });
        for id in 1..5 {
            round_trip(&mut other, id).await;
        }
        assert_eq!(goes_down(&device).await, DownReason::Engine(CloseReason::LineTooLong));
        let written = soon(flood).await.unwrap();
        // What the socket buffers took. The server holds a line and one read of it at most.
        assert!(written < 32 << 20, "{written} bytes of one line were taken");
        let mut other_again = Board::logs_in_h(&server, "other").await;
        round_trip(&mut other_again, 0).await;
        other = other_again;
    }
}

#[tokio::test]
async fn r38_silent_sockets_are_closed_at_the_login_timeout() {
    let server = server().login_timeout(millis(200)).start().await.unwrap();
    let start = Instant::now();
    let mut silent = Vec::new();
    for bytes in ["", "", "half a log"] {
        let mut board = Board::connects(&server).await;
        board.writes(bytes).await;
        silent.push(board);
    }
    for mut board in silent {
        board.expects_end().await;
    }
    assert!(start.elapsed() >= millis(200));
    eventually(|| server.stats().refused_timeout == 3).await;
}

#[tokio::test]
async fn r38_the_login_timeout_is_not_put_off_byte_by_byte() {
    let server = server().login_timeout(millis(200)).start().await.unwrap();
    let mut board = Board::connects(&server).await;
    for _ in 0..100 {
        if board.try_writes("x").await.is_err() {
            break;
        }
        tokio::time::sleep(millis(20)).await;
    }
    board.expects_end().await;
    assert_eq!(server.stats().refused_timeout, 1, "{:?}", server.stats());
}

#[tokio::test]
async fn r38_a_full_lobby_shows_the_oldest_out() {
    let server = server().max_logins(4).on_device(echo).start().await.unwrap();
    let mut silent = std::collections::VecDeque::new();
    for _ in 0..4 {
        silent.push_back(Board::connects(&server).await);
    }
    eventually(|| server.stats().connections == 4).await;
    for evicted in 1..=4 {
        let mut board = Board::logs_in_h(&server, &format!("h{evicted}")).await;
        round_trip(&mut board, 0).await;
        silent.push_back(Board::connects(&server).await);
        eventually(|| server.stats().connections == 4 + 2 * evicted).await;
        silent.pop_front().unwrap().expects_end().await;
        assert_eq!(server.stats().refused_evicted, evicted);
    }
}

#[tokio::test]
async fn r38_saying_little_keeps_no_place_in_the_lobby() {
    let server = server().max_logins(2).on_device(echo).start().await.unwrap();
    let mut dribblers = [Board::connects(&server).await, Board::connects(&server).await];
    eventually(|| server.stats().connections == 2).await;
    let dribbling = async {
        loop {
            for dribbler in &mut dribblers {
                // One of them is shown out.
                let _ = dribbler.try_writes("a").await;
            }
            tokio::time::sleep(millis(20)).await;
        }
    };
    let works = async { round_trip(&mut Board::logs_in_h(&server, "h").await, 0).await };
    tokio::select! {
        () = dribbling => {}
        _ = works => {}
    }
    assert_eq!((server.stats().refused_evicted, server.stats().refused_timeout), (1, 0));
}

#[tokio::test]
async fn a_full_lobby_takes_everybody_who_comes_at_once_and_shows_nobody_out() {
    let server = server().max_logins(4).on_device(echo).start().await.unwrap();
    let mut boards: Vec<_> = (0..60).map(|at| Board::says_at_once(&server, &format!("2c00ffh{at}"))).collect();
    for board in &mut boards {
        board.is_up().await;
    }
    assert_eq!((server.stats().logins, refused(&server)), (60, 0));
}

#[tokio::test]
async fn r38_temporary_devices_expire_and_are_counted() {
    let server = server().admission(bowline_server::Admission { allow: vec!["*".to_owned()], ..only(&["kept"]) });
    let server = server.expiry(millis(100)).start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "temporary").await;
    let device = server.get("temporary").unwrap();
    board.sends("000001[0]").await;
    board.expects("00002c").await;
    Board::logs_in_h(&server, "kept").await.leaves();
    let _connected = Board::logs_in_h(&server, "connected").await;
    board.leaves();
    goes_down(&device).await;
    let queued = sending(&device, "[1]");

    eventually(|| server.stats().expired_devices == 1).await;
    assert!(server.get("temporary").is_none());
    assert_eq!(soon(queued).await.unwrap(), Err(SendError::Closed));
    assert_eq!(server.stats().expired_messages, 2, "one to the device, one from it");
    // What was received can still be taken.
    receives(&device, "[0]").await;
    assert_eq!(device.recv().await, Err(RecvError::Closed));
    assert_eq!(device.send("[2]").await, Err(SendError::Closed));
    assert_eq!(device.send_best_effort("[2]").await, Err(SendError::Closed));

    tokio::time::sleep(millis(150)).await;
    assert!(server.get("kept").is_some() && server.get("connected").is_some());
    // It may come back as another one.
    let mut board = Board::logs_in_h(&server, "temporary").await;
    board.sends("000001[0]").await;
    board.expects("00002c").await;
    receives(&server.get("temporary").unwrap(), "[0]").await;
}

#[test]
fn r40_no_wall_clock_is_read() {
    fn search(folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).expect("a source folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                search(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source file");
                let clocks = ["SystemTime::now", "UNIX_EPOCH.elapsed", "Utc::now", "Local::now", "OffsetDateTime"];
                found.extend(
                    clocks.iter().filter(|clock| text.contains(**clock)).map(|clock| format!("{path:?}: {clock}")),
                );
            }
        }
    }
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace's crates");
    let mut found = Vec::new();
    for name in ["bowline-proto", "bowline-link", "bowline-server", "bowline-client"] {
        search(&crates.join(name).join("src"), &mut found);
    }
    // Times for people to read, and what is left of a message's life after a restart.
    found.retain(|place| !place.contains("bowline-link/src/outside.rs"));
    assert!(found.is_empty(), "{found:?}");
}

#[tokio::test]
async fn r42_the_line_limit_holds_on_every_line_both_ways() {
    let server = server().limits(Limits { line: 100, ..Limits::default() }).start().await.unwrap();
    for (dialect, lead, ack) in [(Dialect::Headers, "0001", "002c"), (Dialect::Upstream, "", "")] {
        let id = dialect.letter().to_string();
        let login = || async {
            match dialect {
                Dialect::Headers => Board::logs_in_h(&server, &id).await,
                _ => Board::logs_in_u(&server, &id).await,
            }
        };
        let mut board = login().await;
        let device = server.get(&id).unwrap();
        let most = 98 - lead.len();
        board.sends(&format!("00{lead}{}", "x".repeat(most))).await;
        board.expects(&format!("00{ack}")).await;
        receives(&device, &"x".repeat(most)).await;

        let sent = sending(&device, "y".repeat(most));
        board.expects(&format!("00{lead}{}", "y".repeat(most))).await;
        board.sends(&format!("00{ack}")).await;
        soon(sent).await.unwrap().unwrap();
        let error = device.send("y".repeat(most + 1)).await.unwrap_err();
        assert_eq!(error, SendError::Message(MessageError::Line(LineError::TooLong { len: 101, limit: 100 })));

        // One more, with its newline in the same segment or never.
        for end in ["\n", ""] {
            board.writes(format!("01{lead}{}{end}", "x".repeat(most + 1))).await;
            board.expects_end().await;
            assert_eq!(goes_down(&device).await, DownReason::Engine(CloseReason::LineTooLong));
            board = login().await;
        }
        // An earlier one, in pieces.
        for _ in 0..11 {
            board.writes("xxxxxxxxxx").await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        board.expects_end().await;
        assert_eq!(device.try_recv(), Ok(None));
    }
}

#[tokio::test]
async fn a_fast_sender_is_slowed_down_and_loses_nothing() {
    let limits = Limits { messages_per_second: Some(50), inbox: 256, ..Limits::default() };
    let server = server().limits(limits).start().await.unwrap();
    let mut board = Board::logs_in_u(&server, "u").await;
    let mut other = Board::logs_in_u(&server, "other").await;
    let device = server.get("u").unwrap();
    let start = Instant::now();
    for number in 0..120 {
        board.sends(&format!("{number:02x}[{number}]")).await;
    }
    for number in 0..120 {
        receives(&device, &format!("[{number}]")).await;
        board.expects(&format!("{number:02x}")).await;
        if number == 60 {
            // Another device has a rate of its own.
            let start = Instant::now();
            other.sends("00[0]").await;
            other.expects("00").await;
            assert!(start.elapsed() < millis(500));
        }
    }
    // 50 at once, 50 after a second, 20 after another.
    assert!(start.elapsed() > millis(1900), "{:?}", start.elapsed());
    assert_eq!(device.ledger().session.refused, 0);
}

#[tokio::test]
async fn no_more_links_than_the_limit() {
    let server = server().max_links(2).max_logins(1).start().await.unwrap();
    let first = Board::logs_in_h(&server, "a").await;
    let second = Board::logs_in_h(&server, "b").await;
    let mut third = Board::connects(&server).await;
    third.sends("2c00ffc").await;
    third.expects_end().await;
    assert_eq!(server.stats().refused_too_many_links, 1);
    assert!(server.get("c").is_none(), "three links, two allowed");
    // Who has a link may come again, and who comes when one is free gets in.
    let _first_again = Board::logs_in_h(&server, "a").await;
    first.leaves();
    second.leaves();
    eventually(|| server.get("b").is_some_and(|device| !device.status().is_up())).await;
    let _third = Board::logs_in_h(&server, "c").await;
}

#[tokio::test]
async fn made_up_ids_do_not_keep_real_ones_out() {
    let server = server().max_devices(3).start().await.unwrap();
    let _connected = Board::logs_in_h(&server, "connected").await;
    let mut board = Board::logs_in_h(&server, "has-something-unread").await;
    board.sends("000001[0]").await;
    board.expects("00002c").await;
    board.leaves();
    goes_down(&server.get("has-something-unread").unwrap()).await;
    for number in 0..20 {
        let id = format!("made-up-{number}");
        Board::logs_in_u(&server, &id).await.leaves();
        goes_down(&server.get(&id).unwrap()).await;
        eventually(|| server.devices().len() <= 3).await;
    }
    assert_eq!(server.stats().refused_too_many_devices, 0);
    receives(&server.get("has-something-unread").unwrap(), "[0]").await;
    assert!(server.get("connected").unwrap().status().is_up());
    assert!(server.get("made-up-0").is_none());
}
