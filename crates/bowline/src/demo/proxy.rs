//! A bad network in user space: a TCP proxy between one device and the server.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Bytes forwarded at one time.
const CHUNK: usize = 4 * 1024;

/// How the network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Weather {
    /// Bytes go through at once.
    #[default]
    Clear,
    /// Connections lose everything from now on, without a word to either end, and stay so when the
    /// weather changes: what a lost WiFi association or a forgotten NAT entry looks like. New ones
    /// wait for better weather, as a connection attempt would.
    HalfOpen,
    /// As [`Weather::HalfOpen`], but only what goes to the device is lost: messages get through, and
    /// their acknowledgements do not.
    OneWay,
    /// Nothing moves and nothing is lost.
    Stalled,
    /// Every byte is a segment of its own.
    OneByte,
    /// Bytes take this long.
    Delayed(Duration),
    /// Connections are cut, new ones too.
    Cut(Cut),
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// By a reset: bytes under way are thrown away.
    Reset,
    /// By a FIN, as if the peer had closed.
    Close,
}

/// A proxy that listens on loopback. Stops when dropped.
#[derive(Debug)]
pub(super) struct Proxy {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy to whatever `server` says the server's address is; without one, connections
    /// are reset.
    pub(super) async fn start(server: watch::Receiver<Option<SocketAddr>>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (weather, receiver) = watch::channel(Weather::Clear);
        let task = tokio::spawn(accept(listener, server, receiver));
        Ok(Proxy { address, weather, task })
    }

    /// Where the device connects to.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the weather, for connections there are and for new ones.
    pub(super) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The connections are in the task's set and go with it.
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, server: watch::Receiver<Option<SocketAddr>>, weather: watch::Receiver<Weather>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((device, _)) => {
                    connections.spawn(connect(device, server.clone(), weather.clone()));
                }
                // Out of descriptors, most likely: those in use come back.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection: waits until the network lets it through, then forwards until either end closes.
async fn connect(
    device: TcpStream,
    server: watch::Receiver<Option<SocketAddr>>,
    mut weather: watch::Receiver<Weather>,
) {
    let open = |now: &Weather| !matches!(now, Weather::HalfOpen | Weather::OneWay | Weather::Stalled);
    let now = weather.wait_for(open).await.map(|now| *now);
    match now {
        Ok(Weather::Cut(_)) => return end(device, Cut::Reset),
        Ok(_) => {}
        // Nobody makes the weather any more: the proxy is gone.
        Err(_) => return,
    }
    let address = *server.borrow();
    let connected = match address {
        Some(address) => TcpStream::connect(address).await.ok(),
        None => None,
    };
    let Some(server) = connected else { return end(device, Cut::Reset) };
    forward(device, server, weather).await;
}

async fn forward(mut device: TcpStream, mut server: TcpStream, mut weather: watch::Receiver<Weather>) {
    // One byte a segment means one byte a segment. Failing to say so is no reason not to forward.
    let _ = (device.set_nodelay(true), server.set_nodelay(true));
    let cut = {
        let (device_reader, device_writer) = device.split();
        let (server_reader, server_writer) = server.split();
        let up = Pump { from: device_reader, to: server_writer, weather: weather.clone(), toward: End::Server };
        let down = Pump { from: server_reader, to: device_writer, weather: weather.clone(), toward: End::Device };
        tokio::select! {
            ((), ()) = async { tokio::join!(up.run(), down.run()) } => None,
            cut = cut(&mut weather) => Some(cut),
        }
    };
    if let Some(cut) = cut {
        end(device, cut);
        end(server, cut);
    }
}

async fn cut(weather: &mut watch::Receiver<Weather>) -> Cut {
    let cut = match weather.wait_for(|now| matches!(now, Weather::Cut(_))).await {
        Ok(now) => match *now {
            Weather::Cut(cut) => Some(cut),
            _ => None,
        },
        Err(_) => None,
    };
    // No sender: the proxy is gone, and this task is about to be.
    cut.unwrap_or(Cut::Close)
}

fn end(stream: TcpStream, cut: Cut) {
    if cut == Cut::Reset {
        // The system sends a reset instead of a FIN then; if it cannot, a FIN ends it as well.
        let _ = stream.set_zero_linger();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Device,
    Server,
}

/// One direction of a connection.
struct Pump<'a> {
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    weather: watch::Receiver<Weather>,
    toward: End,
}

impl Pump<'_> {
    /// Forwards until either end closes. A closed end is told to the other one, unless the
    /// connection has died before: then nobody is told anything.
    async fn run(mut self) {
        let mut alive = true;
        let mut chunk = [0; CHUNK];
        loop {
            let now = if alive { self.wait_out_stall().await } else { Weather::HalfOpen };
            alive &= !self.kills(now);
            let limit = if now == Weather::OneByte { 1 } else { CHUNK };
            let count = tokio::select! {
                // What is read is forwarded: the weather must not change unseen in between.
                biased;
                changed = self.weather.changed(), if alive => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
                count = self.from.read(&mut chunk[..limit]) => count.unwrap_or(0),
            };
            if count == 0 {
                break;
            }
            if !alive {
                continue;
            }
            if let Weather::Delayed(delay) = now {
                tokio::time::sleep(delay).await;
            }
            // Who has been under way when the weather turned is lost with the rest.
            let now = self.wait_out_stall().await;
            alive &= !self.kills(now);
            if alive && self.to.write_all(&chunk[..count]).await.is_err() {
                break;
            }
        }
        if alive {
            // An end that is gone already needs no telling.
            let _ = self.to.shutdown().await;
        }
    }

    fn kills(&self, weather: Weather) -> bool {
        match weather {
            Weather::HalfOpen => true,
            Weather::OneWay => self.toward == End::Device,
            _ => false,
        }
    }

    /// The weather once it is not [`Weather::Stalled`].
    async fn wait_out_stall(&mut self) -> Weather {
        match self.weather.wait_for(|now| *now != Weather::Stalled).await {
            Ok(now) => *now,
            Err(_) => Weather::HalfOpen,
        }
    }
}

#[cfg(test)]
mod tests;
