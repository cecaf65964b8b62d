//! Who is who.

use std::net::{IpAddr, Ipv4Addr};

use bowline_server::{Admission, Dialect, Dialects, LinkState};

use tokio::time::Instant;

use crate::harness::{Board, echo, eventually, millis, only, receives, round_trip, sending, server, soon};

#[tokio::test]
async fn r43_a_takeover_from_another_address_is_counted() {
    let server = server().start().await.unwrap();
    let mut victim = Board::logs_in_h(&server, "h").await;
    let mut again = Board::logs_in_h(&server, "h").await;
    victim.expects_end().await;
    assert_eq!((server.stats().takeovers, server.stats().takeovers_from_elsewhere), (1, 0));

    let elsewhere = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    let mut impostor = Board::connects_from(elsewhere, &server).await;
    impostor.sends("2c00ffh").await;
    impostor.is_up().await;
    again.expects_end().await;
    assert_eq!((server.stats().takeovers, server.stats().takeovers_from_elsewhere), (2, 1));
    let link = server.get("h").unwrap().status().link;
    assert!(matches!(link, LinkState::Up { peer, .. } if peer.ip() == elsewhere), "{link:?}");
}

#[tokio::test]
async fn r44_a_newcomer_wins_at_once_and_nothing_is_lost_or_doubled() {
    let server = server().start().await.unwrap();
    let mut before = Board::logs_in_h(&server, "h").await;
    let device = server.get("h").unwrap();
    before.sends("000001[0]").await;
    before.expects("00002c").await;
    let sent = sending(&device, "[a]");
    before.expects("000001[a]").await;
    let behind = sending(&device, "[b]");

    // The board rebooted its network: its old socket is still open.
    let start = Instant::now();
    let mut after = Board::logs_in_h(&server, "h").await;
    before.expects_end().await;
    assert!(start.elapsed() < millis(2000), "at once, not when the old link next has something to do");
    // An ACK on the old link comes too late to count.
    let _ = before.try_writes("00002c\n").await;
    after.sends("010001[1]").await;
    let mut lines = Vec::new();
    while lines.len() < 3 {
        let line = soon(after.line()).await.unwrap();
        if !line.ends_with("2c") {
            after.sends(&format!("{}002c", &line[..2])).await;
        }
        lines.push(line);
    }
    lines.sort();
    assert_eq!(lines, ["000001[a]", "010001[b]", "01002c"]);
    soon(sent).await.unwrap().unwrap();
    soon(behind).await.unwrap().unwrap();
    receives(&device, "[0]").await;
    receives(&device, "[1]").await;
    assert_eq!(device.try_recv(), Ok(None));
    assert_eq!(device.connects(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r44_takeovers_in_quick_succession_leave_one_link_that_works() {
    let server = server().on_device(echo).start().await.unwrap();
    for round in 0..20 {
        let (a, b, c) = tokio::join!(Board::connects(&server), Board::connects(&server), Board::connects(&server));
        let mut boards = [a, b, c];
        for board in &mut boards {
            board.sends("2c00ffh").await;
        }
        eventually(|| server.stats().logins == 4 * round + 3).await;
        // Counted is not open yet, and nothing tells when the last of three is.
        tokio::time::sleep(millis(10)).await;
        let mut last = Board::logs_in_h(&server, "h").await;
        round_trip(&mut last, 0).await;
        for mut board in boards {
            board.reads_to_the_end().await;
        }
        round_trip(&mut last, 1).await;
    }
}

#[tokio::test]
async fn r45_a_wrong_protocol_mark_is_never_an_h_client() {
    let server = server().start().await.unwrap();
    for mark in ["2d00ff", "2c01ff", "2c00fx", "zz00ff"] {
        let id = format!("{mark}dev");
        let _board = Board::logs_in_u(&server, &id).await;
        let link = server.get(&id).expect("a U client of that name").status().link;
        assert!(matches!(link, LinkState::Up { dialect: Dialect::Upstream, .. }), "{mark} {link:?}");
    }
    assert!(server.get("dev").is_none());
    // The mark without an id is the id of a U client, too.
    let _board = Board::logs_in_u(&server, "2c00ff").await;
    assert!(server.get("2c00ff").is_some());
}

#[tokio::test]
async fn r45_a_wrong_protocol_mark_is_refused_where_only_h_is_spoken() {
    let dialects = Dialects { headers: true, upstream: false, plain: false, native: false };
    let server = server().admission(Admission { dialects, ..Admission::open() }).start().await.unwrap();
    for login in ["2d00ffdev", "dev", "2c00ff"] {
        let mut board = Board::connects(&server).await;
        board.sends(login).await;
        board.expects_end().await;
    }
    assert_eq!(server.stats().refused_dialect, 3);
    assert!(server.devices().is_empty());
    Board::logs_in_h(&server, "dev").await.leaves();
}

#[tokio::test]
async fn r46_only_expected_and_allowed_ids_get_in() {
    let admission = Admission { allow: vec!["sensor-??".to_owned()], ..only(&["kitchen"]) };
    let server = server().admission(admission).start().await.unwrap();
    for id in ["attic", "sensor-123", "Kitchen", "kitchen "] {
        let mut board = Board::connects(&server).await;
        board.sends(&format!("2c00ff{id}")).await;
        board.expects_end().await;
        assert!(server.get(id).is_none());
    }
    assert_eq!(server.stats().refused_unknown_id, 4);
    for id in ["kitchen", "sensor-12"] {
        Board::logs_in_h(&server, id).await.leaves();
    }
    assert_eq!(server.stats().logins, 2);
    assert!(server.device("attic").await.is_err());
    assert!(server.expect("attic").is_err());
    assert!(server.wait_all(&["kitchen", "attic"]).await.is_err());
}

#[tokio::test]
async fn expected_devices_get_in_when_all_places_are_taken() {
    let admission = Admission { allow: vec!["*".to_owned()], ..only(&["kitchen"]) };
    let server = server().admission(admission).max_devices(2).start().await.unwrap();
    let _first = Board::logs_in_h(&server, "first").await;
    let mut second = Board::connects(&server).await;
    second.sends("2c00ffsecond").await;
    second.expects_end().await;
    assert_eq!(server.stats().refused_too_many_devices, 1);
    Board::logs_in_h(&server, "kitchen").await.leaves();
}
