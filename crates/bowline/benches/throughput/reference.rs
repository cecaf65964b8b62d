//! The MicroPython library's server under CPython, unchanged, and a device that is nothing but a socket:
//! faster than any board, so that what is measured is the server.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::PAYLOAD;

/// Starts the server with an application that takes messages, on the loopback only.
const DRIVER: &str = r#"
import asyncio, importlib, os, socket, sys
folder, port = os.path.abspath(sys.argv[1]), int(sys.argv[2])
sys.path.insert(0, os.path.dirname(folder))
class Loopback(socket.socket):
    def bind(self, address):
        super().bind(("127.0.0.1", address[1]))
socket.socket = Loopback
server = importlib.import_module(os.path.basename(folder) + ".server")
async def app():
    connection = await server.client_conn("bench")
    while True:
        await connection.read()
async def main():
    loop = asyncio.get_running_loop()
    await asyncio.gather(server.run(loop, {"bench"}, False, port=port, timeout=600000), app())
asyncio.run(main())
"#;

pub(crate) struct Reference {
    process: Child,
    stream: BufReader<TcpStream>,
    id: u8,
}

impl Reference {
    pub(crate) async fn start(package: &Path) -> Self {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let process =
            Command::new("python3").args(["-B", "-c", DRIVER]).arg(package).arg(port.to_string()).spawn().unwrap();
        let mut stream = loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
                break stream;
            }
        };
        stream.set_nodelay(true).unwrap();
        stream.write_all(b"2c00ffbench\n").await.unwrap();
        Reference { process, stream: BufReader::new(stream), id: 0 }
    }

    pub(crate) async fn send(&mut self, count: u64) -> u64 {
        let mut answer = String::new();
        for _ in 0..count {
            let id = self.id;
            self.id = if id == 255 { 1 } else { id + 1 };
            self.stream.write_all(format!("{id:02x}0001{PAYLOAD}\n").as_bytes()).await.unwrap();
            while {
                answer.clear();
                assert_ne!(self.stream.read_line(&mut answer).await.unwrap(), 0, "the reference's server hung up");
                // Keepalives do not count.
                answer == "\n"
            } {}
            assert_eq!(answer, format!("{id:02x}002c\n"));
        }
        count
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
