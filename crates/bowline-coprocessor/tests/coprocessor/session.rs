//! A session, end to end: the co-processor is a pipe, and what happens to it is a lost link.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use bowline_coprocessor::{Board, NoReset};
use bowline_embedded::{
    Address, Backoff, Config, DeviceId, Provision, RamOutbox, Resources, Slot, Supervision, buffer_for, inbox_for,
};
use bowline_proto::time::Duration as Span;
use bowline_server::{Admission, Date, Keys, Server};
use embassy_futures::join::join3;
use fastrand::Rng;
use tokio::sync::Notify;

use crate::line::{Noise, Wifi, beside, coprocessor, line, seed};

const ID: &str = "board";
const PAYLOAD: usize = 64;
const MESSAGES: u32 = 300;

type Memory<'a> = Resources<RamOutbox<'a>, 4, { inbox_for(4, 3 * PAYLOAD) }, { buffer_for(PAYLOAD) }>;

const CHANNEL: Address = Address { app: 1, instance: 0, tag: 7 };

/// What happens while messages go both ways.
struct Fate {
    one_in: u32,
    crashes: bool,
    cuts: bool,
    is_sealed: bool,
}

/// How often there was a link, and how often the co-processor was started anew.
struct Seen {
    connects: u32,
    restarts: u32,
    damaged: u32,
}

/// Messages go both ways, each once and in order.
async fn goes_on(fate: Fate) -> Seen {
    let seed = seed();
    let mut random = Rng::with_seed(seed);
    let keys = Keys::default();
    let provisioned = keys.issue(ID, Date::from_unix(1_793_664_000)).unwrap().line().to_string();
    let admission = Admission { unencrypted: vec![ID.to_owned()], ..Admission::open() };
    let builder = Server::builder().listen("127.0.0.1:0".parse().unwrap()).settle(Duration::ZERO).handshakes(0, 0);
    let builder = if fate.is_sealed { builder.keys(keys) } else { builder };
    let server = builder.admission(admission).start().await.unwrap();
    let address = server.addresses()[0];
    let device = server.expect(ID).unwrap();

    let noise = Noise::seeded(seed, fate.one_in);
    let [(rx, tx), (other_rx, other_tx)] = line(&noise);
    let (wifi, crash) = (Wifi::default(), Notify::new());
    let board = Board::<512>::new("net", "word").unwrap();

    let config = if fate.is_sealed {
        Config::provisioned(&Provision::parse(&provisioned).unwrap(), address)
    } else {
        Config::new(DeviceId::new(ID).unwrap(), address)
    };
    let backoff = Backoff { first: Span::from_millis(2), longest: Span::from_millis(20) };
    let supervision = Supervision { stable: embassy_time::Duration::from_ticks(0), ..Supervision::DEFAULT };
    let config = Config { supervision, ..config.timeout(embassy_time::Duration::from_secs(2)) };
    let config = Config { backoff, ..config };
    let (mut slots, mut bytes) = ([Slot::EMPTY; 8], [0; 8 * PAYLOAD]);
    let outbox = RamOutbox::new(&mut slots, &mut bytes, PAYLOAD);
    let mut memory = Memory::new();
    let (client, mut runner) = bowline_embedded::new(&mut memory, outbox, config, fastrand::fill).unwrap();

    let is_done = Cell::new(false);
    let fates = async {
        while !is_done.get() {
            // A bad line takes longer to come to a link.
            let most = if fate.cuts { 1_500 } else { 400 };
            tokio::time::sleep(Duration::from_millis(random.u64(20..most))).await;
            if fate.crashes {
                crash.notify_one();
            }
            if fate.cuts {
                noise.cuts(true);
                tokio::time::sleep(Duration::from_millis(random.u64(0..300))).await;
                noise.cuts(false);
            }
        }
    };
    let ledger = RefCell::new((Vec::new(), Vec::new()));
    let up = async {
        for number in 0..MESSAGES {
            client.send(CHANNEL, &number.to_le_bytes()).await.unwrap();
        }
    };
    let down = async {
        for number in 0..MESSAGES {
            device.send(bowline_server::Message::new(number.to_le_bytes().to_vec())).await.unwrap();
        }
    };
    let board_takes = async {
        let mut buffer = [0; PAYLOAD];
        while ledger.borrow().0.len() < MESSAGES as usize {
            let received = client.recv(&mut buffer).await.unwrap();
            ledger.borrow_mut().0.push(u32::from_le_bytes(received.payload.try_into().unwrap()));
        }
    };
    let server_takes = async {
        while ledger.borrow().1.len() < MESSAGES as usize {
            let received = device.recv().await.unwrap();
            let payload = received.payload();
            ledger.borrow_mut().1.push(u32::from_le_bytes(payload[payload.len() - 4..].try_into().unwrap()));
        }
    };
    let script = async {
        let talk = async {
            tokio::join!(up, down, board_takes, server_takes);
            client.drained().await;
            is_done.set(true);
        };
        tokio::join!(talk, fates);
        let all: Vec<u32> = (0..MESSAGES).collect();
        assert_eq!(ledger.borrow().0, all, "to the board");
        assert_eq!(ledger.borrow().1, all, "to the server");
        let report = board.report();
        println!("links {}, {report:?}", client.connects());
        Seen { connects: client.connects(), restarts: report.restarts, damaged: report.damaged }
    };
    let mut network = &board;
    let sides = join3(
        board.run(rx, tx, NoReset, 1),
        coprocessor(other_rx, other_tx, &wifi, &crash),
        runner.run_on(&board, &mut network),
    );
    beside(sides, script).await
}

#[tokio::test]
async fn messages_go_both_ways_through_a_coprocessor() {
    for is_sealed in [false, true] {
        let seen = goes_on(Fate { one_in: 0, crashes: false, cuts: false, is_sealed }).await;
        assert_eq!((seen.connects, seen.damaged), (1, 0));
    }
}

#[tokio::test]
async fn r48_a_damaged_frame_is_sent_again_and_the_link_goes_on() {
    let seen = goes_on(Fate { one_in: 1_000, crashes: false, cuts: false, is_sealed: true }).await;
    assert!(seen.damaged > 0);
    assert_eq!(seen.connects, 1);
}

#[tokio::test]
async fn r48_a_coprocessor_that_crashes_loses_nothing() {
    let seen = goes_on(Fate { one_in: 0, crashes: true, cuts: false, is_sealed: true }).await;
    assert!(seen.restarts > 1, "{}", seen.restarts);
}

#[tokio::test]
async fn r48_on_a_bad_line_to_a_coprocessor_that_crashes_nothing_is_lost_either() {
    let seen = goes_on(Fate { one_in: 2_000, crashes: true, cuts: true, is_sealed: true }).await;
    assert!(seen.restarts > 1 && seen.damaged > 0, "{} {}", seen.restarts, seen.damaged);
}
