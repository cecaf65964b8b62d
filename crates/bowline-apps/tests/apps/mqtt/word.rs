//! A broker that keeps its word.
//!
//! mosquitto writes down what it knows now and then, and after it has acknowledged it; killed in between, it
//! has forgotten what it has said. Behind a [`Word`], nothing that it says is heard before it has written down
//! what it knew when it said it.

use std::io;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::broker::{Broker, Life};

pub(crate) struct Word {
    pub(crate) port: u16,
}

struct Keeper {
    port: u16,
    life: Arc<Mutex<Life>>,
    /// A connection of its own to the broker. One save at a time.
    fence: tokio::sync::Mutex<Option<TcpStream>>,
}

impl Word {
    pub(crate) async fn of(broker: &Broker) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let word = Word { port: listener.local_addr().unwrap().port() };
        let keeper = Arc::new(Keeper { port: broker.port, life: broker.life(), fence: tokio::sync::Mutex::default() });
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let keeper = Arc::clone(&keeper);
                tokio::spawn(async move { keeper.passes(near).await });
            }
        });
        word
    }
}

impl Keeper {
    async fn passes(&self, near: TcpStream) -> io::Result<()> {
        let far = TcpStream::connect(("127.0.0.1", self.port)).await?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        let ((mut from_near, mut to_near), (mut from_far, mut to_far)) = (near.into_split(), far.into_split());
        let asking = async {
            tokio::io::copy(&mut from_near, &mut to_far).await?;
            io::Result::Ok(())
        };
        let answering = async {
            let mut answer = vec![0; 64 << 10];
            loop {
                let size = from_far.read(&mut answer).await?;
                if size == 0 {
                    return io::Result::Ok(());
                }
                self.saves().await?;
                to_near.write_all(&answer[..size]).await?;
            }
        };
        tokio::select! {
            ended = asking => ended,
            ended = answering => ended,
        }
    }

    /// Ready when the broker has written down all that it knew when this was called.
    async fn saves(&self) -> io::Result<()> {
        let mut fence = self.fence.lock().await;
        let life = self.life.lock().unwrap().clone();
        let stream = match fence.take() {
            Some(stream) => stream,
            None => connects(self.port).await?,
        };
        *fence = Some(saves(life, stream).await?);
        Ok(())
    }
}

/// Ready when the broker has written down all that it has said, if it has heard nothing since.
pub(crate) async fn is_written(broker: &Broker) {
    let life = broker.life().lock().unwrap().clone();
    let mut fence = connects(broker.port).await.unwrap();
    // What it had still to read when it began to write for the first time, it writes down the second time.
    for _ in 0..2 {
        fence = saves(life.clone(), fence).await.unwrap();
    }
}

async fn connects(port: u16) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    stream.write_all(b"\x10\x11\0\x04MQTT\x04\x02\0\0\0\x05fence").await?;
    stream.read_exact(&mut [0; 4]).await?;
    Ok(stream)
}

async fn saves(mut life: Life, mut stream: TcpStream) -> io::Result<TcpStream> {
    const PING: &[u8] = b"\xc0\0";
    let before = *life.saves.borrow();
    if !life.gets("USR1").await {
        return Err(io::ErrorKind::NotConnected.into());
    }
    // It looks for signals when it has been sent something.
    stream.write_all(PING).await?;
    life.saves.wait_for(|times| *times > before).await.map_err(io::Error::other)?;
    // It has one thread: when it answers, it has finished.
    stream.write_all(PING).await?;
    stream.read_exact(&mut [0; 4]).await?;
    Ok(stream)
}
