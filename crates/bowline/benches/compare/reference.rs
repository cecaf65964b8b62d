//! The MicroPython library's server under CPython, unchanged.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::net::TcpStream;

use crate::load::{Amount, Figures};
use crate::ours;

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
    connection = await server.client_conn("h-0")
    while True:
        await connection.read()
async def main():
    loop = asyncio.get_running_loop()
    await asyncio.gather(server.run(loop, {"h-0"}, False, port=port, timeout=600000), app())
asyncio.run(main())
"#;

pub(crate) struct Reference {
    process: Child,
    address: SocketAddr,
}

impl Reference {
    pub(crate) async fn start(package: &Path) -> Result<Self> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let arguments = [package.as_os_str(), address.port().to_string().as_ref()].map(ToOwned::to_owned);
        let process = Command::new("python3").args(["-B", "-c", DRIVER]).args(arguments).spawn()?;
        let mut reference = Reference { process, address };
        while TcpStream::connect(address).await.is_err() {
            if let Some(status) = reference.process.try_wait()? {
                bail!("the reference's server ended at its start ({status})");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(reference)
    }

    /// One message at a time, on H.
    pub(crate) fn run(&self, amount: Amount) -> Result<Figures> {
        ours::generate(self.address, self.process.id(), "h", None, amount)
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
