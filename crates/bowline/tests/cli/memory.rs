//! What a peer can make the server hold.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::harness::Server;

/// A board that asks for more than it reads, but never stops reading: there is always something left to
/// write to it. What is written must not be kept (P10).
#[test]
fn a_slow_reader_does_not_grow_the_server() {
    let server = Server::configured("[limits]\nmessages_per_second = 0\n");
    let address: SocketAddr = server.address().parse().unwrap();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // Little room on the way, so that what is not read waits in the server.
    socket.set_recv_buffer_size(4096).unwrap();
    socket.set_tcp_mss(1460).unwrap();
    socket.connect(&address.into()).unwrap();
    let mut reader = TcpStream::from(socket);
    reader.set_read_timeout(Some(Duration::from_secs(20))).unwrap();

    let mut writer = reader.try_clone().unwrap();
    writer.write_all(b"2c00ffslow\n").unwrap();
    // One message and its resends, each of which is acknowledged. Ends with the socket.
    let flood = thread::spawn(move || while writer.write_all(&b"000001\"x\"\n".repeat(100)).is_ok() {});

    let mut reads = |mut bytes: usize| {
        let mut buffer = [0; 4096];
        while bytes > 0 {
            let count = reader.read(&mut buffer).unwrap();
            assert!(count > 0, "the server closed the link");
            bytes = bytes.saturating_sub(count);
            thread::sleep(Duration::from_millis(4));
        }
    };
    reads(200_000);
    let before = server.resident();
    reads(1_500_000);
    let after = server.resident();
    assert!(after < before + 700, "from {before} to {after} KiB while 1.5 MB were read");

    reader.shutdown(std::net::Shutdown::Both).unwrap();
    flood.join().unwrap();
}
