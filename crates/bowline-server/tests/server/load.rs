//! Heavier loads, each in a process of its own: memory and descriptors are counted.

use bowline_server::{Limits, Server};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::harness::{Board, alone, echo, eventually, is_alone, loopback, millis, round_trip, seed, server, soon};

/// How much more memory a round of load may leave behind than the same round before it did.
const MARGIN: u64 = 6 << 20;

/// Memory of this process that is resident, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a resident size");
    let kilobytes: u64 = line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number");
    kilobytes * 1024
}

/// Connections that send random bytes, some of them behind a login, and end in some way.
async fn garbage(server: &Server, count: usize, random: &mut fastrand::Rng) {
    let mut connections = tokio::task::JoinSet::new();
    for _ in 0..count {
        if connections.len() >= 64 {
            connections.join_next().await.unwrap().unwrap();
        }
        let (server, mut random) = (server.clone(), random.fork());
        connections.spawn(async move {
            let mut peer = Board::connects(&server).await;
            let mut bytes = Vec::new();
            match random.u8(..4) {
                0 => bytes.extend_from_slice(b"2c00ff"),
                1 => bytes.extend_from_slice(b"noise\n"),
                2 => bytes.extend_from_slice(format!("2c00ffnoise-{}\n", random.u8(..)).as_bytes()),
                _ => {}
            }
            let alphabet: &[u8] = if random.bool() { b"0123456789abcdef\n" } else { &[] };
            bytes.extend((0..random.usize(..600)).map(|_| random.choice(alphabet).copied().unwrap_or(random.u8(..))));
            for part in bytes.chunks(random.usize(1..=600)) {
                if peer.try_writes(part).await.is_err() {
                    break;
                }
            }
            // Always by RST: a socket that ends by FIN would keep its port for a minute.
            if random.u8(..16) == 0 {
                let _ = tokio::time::timeout(millis(20), peer.line()).await;
            }
            peer.cuts();
        });
    }
    while let Some(result) = connections.join_next().await {
        result.unwrap();
    }
}

async fn silence(server: &Server, count: usize) {
    let mut silent = Vec::new();
    for _ in 0..count {
        silent.push(Board::connects(server).await);
    }
    round_trip(&mut Board::logs_in_h(server, "among-silent").await, 0).await;
    silent.into_iter().for_each(Board::cuts);
}

/// Clients that log in, have much to read, and never read.
async fn never_read(server: &Server, count: usize) {
    let mut boards = Vec::new();
    for number in 0..count {
        let id = format!("deaf-{number}");
        let mut board = Board::logs_in_h(server, &id).await;
        let device = server.get(&id).unwrap();
        // Everything it says is echoed. What it does not read back piles up somewhere.
        for id in 0..60 {
            if board.try_writes(format!("{id:02x}0001\"{}\"\n", "x".repeat(8_000))).await.is_err() {
                break;
            }
        }
        boards.push((board, device));
    }
    for (board, device) in boards {
        board.cuts();
        crate::harness::goes_down(&device).await;
    }
}

#[test]
fn hostile_load_leaves_a_server_that_works_and_has_not_grown() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if !runtime().block_on(is_alone("load::hostile_load_leaves_a_server_that_works_and_has_not_grown")) {
        return;
    }
    runtime().block_on(async {
        let mut random = fastrand::Rng::with_seed(seed());
        let server = server().expiry(millis(100)).on_device(echo).start().await.unwrap();
        let mut sizes = Vec::new();
        for round in 0..2 {
            let start = std::time::Instant::now();
            garbage(&server, 5_000, &mut random).await;
            println!("round {round}: garbage after {:?}", start.elapsed());
            silence(&server, 2_000).await;
            never_read(&server, 10).await;
            eventually(|| server.devices().is_empty()).await;
            sizes.push(resident());
            println!("round {round}: {:?}, {} KiB resident", start.elapsed(), resident() / 1024);
        }
        println!("{:?}", server.stats());
        assert!(sizes[1] <= sizes[0] + MARGIN, "{sizes:?}");
        let mut board = Board::logs_in_h(&server, "fresh").await;
        for id in 0..10 {
            round_trip(&mut board, id).await;
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_silent_sockets_do_not_keep_a_device_out() {
    if is_alone("load::five_thousand_silent_sockets_do_not_keep_a_device_out").await {
        let server = server().max_logins(10_000).on_device(echo).start().await.unwrap();
        silence(&server, 5_000).await;
        assert_eq!(server.stats().refused_evicted, 0);
        assert_eq!(server.stats().accept_pauses, 0);
    }
}

/// Below the printed address, the server's process prints what is asked for by a line to it.
const ADDRESS: &str = "listens on ";

#[tokio::test]
async fn r35_without_descriptors_accepting_pauses_and_goes_on() {
    let Some(mut child) = alone("load::r35_without_descriptors_accepting_pauses_and_goes_on", "ulimit -n 64;") else {
        return serve_with_few_descriptors().await;
    };
    let mut says = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = loop {
        let line = soon(says.next_line()).await.unwrap().expect("the server starts");
        if let Some((_, address)) = line.split_once(ADDRESS) {
            break address.parse().unwrap();
        }
    };
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(Board::connects_to(address).await);
    }
    let mut board = Board::connects_to(address).await;
    board.sends("2c00ffh").await;
    round_trip(&mut board, 0).await;
    // Links that are up use all descriptors; then some end.
    let mut links = Vec::new();
    for number in 0..60 {
        let mut link = Board::connects_to(address).await;
        link.sends(&format!("2c00ffl{number}")).await;
        links.push(link);
    }
    round_trip(&mut board, 1).await;
    links.drain(..40).for_each(Board::cuts);
    for link in &mut links {
        link.is_up().await;
    }
    round_trip(&mut board, 2).await;

    child.stdin.take().unwrap().write_all(b"stop\n").await.unwrap();
    let mut pauses = None;
    while let Some(line) = soon(says.next_line()).await.unwrap() {
        if let Some((_, count)) = line.split_once("accept_pauses ") {
            pauses = count.parse::<u64>().ok();
        }
    }
    assert!(pauses.is_some_and(|pauses| pauses > 0), "{pauses:?}");
    assert!(soon(child.wait()).await.unwrap().success());
}

async fn serve_with_few_descriptors() {
    let server = server().listen(loopback()).limits(Limits::default()).on_device(echo).start().await.unwrap();
    println!("{ADDRESS}{}", server.addresses()[0]);
    let asked = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    asked.await.unwrap().unwrap();
    println!("accept_pauses {}", server.stats().accept_pauses);
}
