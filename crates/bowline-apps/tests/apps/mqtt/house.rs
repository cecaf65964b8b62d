//! Somebody else at a broker who does what MQTT 3.1.1 asks of a client, and no more, whatever the broker forgets.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use super::broker::soon;

/// A client with a session that it never gives up. It says one thing after the other.
pub(crate) struct Member {
    say: mpsc::UnboundedSender<Saying>,
    heard: mpsc::UnboundedReceiver<String>,
}

struct Saying {
    topic: Arc<str>,
    payload: String,
    completed: Option<oneshot::Sender<()>>,
    /// The broker has it.
    received: bool,
}

struct State {
    port: u16,
    id: &'static str,
    filter: &'static str,
    queue: mpsc::UnboundedReceiver<Saying>,
    tell: mpsc::UnboundedSender<String>,
    /// Under way, with its id.
    saying: Option<(u16, Saying)>,
    /// The ids of what the broker has not released.
    open: HashSet<u16>,
    ready: Option<oneshot::Sender<()>>,
}

impl Member {
    /// One that hears `filter`.
    pub(crate) async fn joins(port: u16, id: &'static str, filter: &'static str) -> Self {
        let (say, queue) = mpsc::unbounded_channel();
        let (tell, heard) = mpsc::unbounded_channel();
        let (ready, joined) = oneshot::channel();
        let state = State { port, id, filter, queue, tell, saying: None, open: HashSet::new(), ready: Some(ready) };
        tokio::spawn(state.lives());
        soon(joined).await.unwrap();
        Member { say, heard }
    }

    /// Says something and waits until the broker has completed it.
    pub(crate) async fn says(&self, topic: &str, payload: &str) {
        let (completed, done) = oneshot::channel();
        let (topic, payload) = (topic.into(), payload.to_owned());
        self.say.send(Saying { topic, payload, completed: Some(completed), received: false }).ok().unwrap();
        soon(done).await.unwrap();
    }

    pub(crate) async fn hears(&mut self) -> String {
        soon(self.heard.recv()).await.unwrap()
    }
}

impl State {
    async fn lives(mut self) {
        while !self.tell.is_closed() {
            let _ = self.connects().await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn connects(&mut self) -> io::Result<()> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.set_nodelay(true)?;
        // No clean session, no keepalive.
        stream.write_all(&packet(0x10, &[b"\0\x04MQTT\x04\0\0\0", &text(self.id)[..]].concat())).await?;
        let (_, answer) = read(&mut stream).await?;
        if answer[1] != 0 {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let remembers = answer[0] & 1 == 1;
        if !remembers {
            self.open.clear();
            if let Some((_, saying)) = &mut self.saying {
                saying.received = false;
            }
        }
        // 1 is never the id of what it says.
        stream.write_all(&packet(0x82, &[&[0, 1], &text(self.filter)[..], &[2]].concat())).await?;
        self.says_or_releases(&mut stream, remembers).await?;
        let (mut from, mut to) = stream.into_split();
        let (pass, mut packets) = mpsc::unbounded_channel();
        let reads = async {
            loop {
                let packet = read(&mut from).await?;
                let _ = pass.send(packet);
            }
        };
        let acts = async {
            loop {
                tokio::select! {
                    Some((first, body)) = packets.recv() => self.obeys(first, &body, &mut to).await?,
                    Some(saying) = self.queue.recv(), if self.saying.is_none() => {
                        self.saying = Some((2, saying));
                        self.says_or_releases(&mut to, false).await?;
                    }
                }
            }
        };
        tokio::select! { ended = reads => ended, ended = acts => ended }
    }

    async fn says_or_releases(&self, to: &mut (impl AsyncWriteExt + Unpin), again: bool) -> io::Result<()> {
        let Some((id, saying)) = &self.saying else { return Ok(()) };
        let id = id.to_be_bytes();
        if saying.received {
            return to.write_all(&packet(0x62, &id)).await;
        }
        let body = [&text(&saying.topic)[..], &id, saying.payload.as_bytes()].concat();
        to.write_all(&packet(if again { 0x3c } else { 0x34 }, &body)).await
    }

    async fn obeys(&mut self, first: u8, body: &[u8], to: &mut (impl AsyncWriteExt + Unpin)) -> io::Result<()> {
        match first >> 4 {
            3 => {
                let (topic, rest) = body[2..].split_at(usize::from(body[0]) << 8 | usize::from(body[1]));
                assert!(!topic.is_empty());
                let id = &rest[..2];
                // An id that was not released is that of the same publication, whatever else the broker says of it.
                if self.open.insert(u16::from_be_bytes([id[0], id[1]])) {
                    let _ = self.tell.send(String::from_utf8_lossy(&rest[2..]).into_owned());
                }
                to.write_all(&packet(0x50, id)).await
            }
            5 => {
                if let Some((_, saying)) = &mut self.saying {
                    saying.received = true;
                }
                to.write_all(&packet(0x62, body)).await
            }
            6 => {
                self.open.remove(&u16::from_be_bytes([body[0], body[1]]));
                to.write_all(&packet(0x70, body)).await
            }
            7 => {
                if let Some((_, Saying { completed: Some(completed), .. })) = self.saying.take() {
                    let _ = completed.send(());
                }
                Ok(())
            }
            9 => {
                self.ready.take().map(|ready| ready.send(()));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    assert!(body.len() < 128);
    [&[first, u8::try_from(body.len()).unwrap()], body].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat()
}

/// The next packet: its first byte, and what comes after its length.
async fn read(from: &mut (impl AsyncReadExt + Unpin)) -> io::Result<(u8, Vec<u8>)> {
    let first = from.read_u8().await?;
    let size = from.read_u8().await?;
    let mut body = vec![0; size.into()];
    from.read_exact(&mut body).await?;
    Ok((first, body))
}
