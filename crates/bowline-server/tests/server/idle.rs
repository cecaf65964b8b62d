//! What a device that does nothing takes: bytes that the server has allocated and not given back. Not what is
//! resident: an allocator adds to it, and the system has its own for each connection.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use bowline_proto::native::wire::{Answer, Credit, Cursors, Frame, Start, record};
use bowline_server::{App, AppError, AppMessage, Handled, Instance, Issued, Keys, Port, Server};
use bowline_store::{Durability, Store};

use crate::harness::{eventually, is_alone, millis};
use crate::openers::{self, Device, hello, open_mode, today};

/// Devices that are counted. Those before them have made room for a few more in tables that grow.
const DEVICES: usize = 420;
const BEFORE: usize = 460;

/// Most bytes for each device, without a key and with one. What is kept for each link and for each device, with its task,
/// its place among the tasks and its row in the store's memory.
const OPEN: usize = 4_080;
const ENCRYPTED: usize = 4_190;

/// Bytes that are allocated now.
fn allocated() -> usize {
    let stats = crate::ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

struct Silent;

impl App for Silent {
    type Instance = Silent;

    fn instance(&self, _: Port) -> Silent {
        Silent
    }
}

impl Instance for Silent {
    async fn handle(&mut self, _: &AppMessage) -> Result<Handled, AppError> {
        Ok(Handled::done())
    }
}

/// A device as far as it takes to have a link, on a socket that has no buffers here.
struct Idle {
    _socket: TcpStream,
}

impl Idle {
    fn comes_in(server: &Server, number: usize, issued: Option<&Issued>) -> Idle {
        let mut socket = TcpStream::connect(server.addresses()[0]).unwrap();
        let mut transport = match issued {
            None => {
                socket.write_all(&open_mode(&format!("idle-{number}"))).unwrap();
                answer(&mut socket);
                None
            }
            Some(issued) => {
                let (mut handshake, opening) = Device::new(issued).opens();
                socket.write_all(&opening).unwrap();
                let answer = answer(&mut socket);
                Some(handshake.finish(&answer).unwrap().unwrap().0)
            }
        };
        socket.write_all(&hello(transport.as_mut())).unwrap();
        let mut welcome =
            read(&mut socket, |bytes| record::next(bytes, 1024).unwrap().map(|body| bytes[body].to_vec()));
        let welcome = match &mut transport {
            None => &welcome[..],
            Some(transport) => transport.open(&mut welcome).unwrap(),
        };
        let Some(Frame::Welcome(welcome)) = Frame::parse(welcome).unwrap().frame else { panic!("WELCOME") };
        let credit = Credit { messages: 9, bytes: 999 };
        let start = Frame::Start(Start { epoch: welcome.epoch, cursors: Cursors::default(), credit });
        socket.write_all(&openers::sealed(&start, transport.as_mut())).unwrap();
        Idle { _socket: socket }
    }
}

fn answer(socket: &mut TcpStream) -> Vec<u8> {
    read(socket, |bytes| Answer::parse(bytes).unwrap().map(|(_, len)| bytes[..len].to_vec()))
}

/// Reads until there is what `parse` looks for, and not a byte more.
fn read(socket: &mut TcpStream, parse: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Vec<u8> {
    let (mut bytes, mut byte) = (Vec::new(), [0]);
    loop {
        if let Some(found) = parse(&bytes) {
            return found;
        }
        socket.read_exact(&mut byte).unwrap();
        bytes.extend(byte);
    }
}

/// Devices come in, with their keys if there are any, and what each then takes must be at most `bound`.
async fn costs_at_most(bound: usize, encrypted: bool) {
    let folder = tempfile::tempdir().unwrap();
    let keys = Keys::default();
    let ids: Vec<_> = (0..BEFORE + DEVICES).map(|number| format!("idle-{number}")).collect();
    let ids = ids.iter().map(String::as_str).filter(|_| encrypted);
    let issued = keys.issue_all(ids, today()).unwrap();
    let server = openers::server()
        .timeout(Duration::from_secs(600))
        .keys(keys)
        .max_devices(BEFORE + DEVICES)
        .app(0, "silent", Silent)
        .store(Store::open(folder.path(), Durability::Os, bowline_store::Limits::default()).unwrap())
        .start()
        .await
        .unwrap();
    let mut devices = Vec::with_capacity(BEFORE + DEVICES);
    let mut comes_in = |numbers: std::ops::Range<usize>| {
        tokio::task::block_in_place(|| {
            devices.extend(numbers.map(|number| Idle::comes_in(&server, number, issued.get(number))));
        });
    };
    comes_in(0..BEFORE);
    // A moment after something has changed a device's ledger is stored, and somebody waits for that.
    tokio::time::sleep(millis(6_000)).await;
    let before = allocated();
    comes_in(BEFORE..BEFORE + DEVICES);
    let mut least = usize::MAX;
    let settles = async {
        eventually(|| {
            least = least.min(allocated().saturating_sub(before) / DEVICES);
            least <= bound && server.devices().iter().all(|device| device.status().is_up())
        })
        .await;
    };
    let settled = futures_util::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(settles)).await;
    println!("{least} bytes for each device, bound {bound}");
    assert!(settled.is_ok(), "{least} bytes for each device that does nothing, more than {bound}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_device_takes_no_more_than_is_said() {
    if is_alone("idle::an_idle_device_takes_no_more_than_is_said").await {
        costs_at_most(OPEN, false).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_device_that_encrypts_takes_no_more_than_is_said() {
    if is_alone("idle::an_idle_device_that_encrypts_takes_no_more_than_is_said").await {
        costs_at_most(ENCRYPTED, true).await;
    }
}
