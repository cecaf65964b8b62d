//! What everybody and a broker say to each other, written down between them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::broker::soon;

/// Who has said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Broker,
    Client,
}

/// What matters of a packet. An id is the one its sender or its receiver has given to a publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Packet {
    /// The client wants a new session.
    Connect {
        clean: bool,
    },
    /// The broker remembers the session, or not.
    ConnAck {
        remembers: bool,
    },
    /// Of QoS 2.
    Publish {
        id: u16,
        again: bool,
        payload: String,
    },
    PubRec(u16),
    PubRel(u16),
    PubComp(u16),
    Other,
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) at: SystemTime,
    /// The client's id.
    pub(crate) client: String,
    /// The broker's process it speaks to, counted from 0.
    pub(crate) life: usize,
    pub(crate) by: By,
    pub(crate) packet: Packet,
}

/// Stands between the broker on a port and everybody else, and passes everything on, at once.
pub(crate) struct Tape {
    pub(crate) port: u16,
    kept: Arc<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    entries: watch::Sender<Vec<Entry>>,
    /// The broker's processes that have ended.
    lives: AtomicUsize,
    /// Nothing that is said to the broker is passed on.
    held: watch::Sender<bool>,
}

impl Tape {
    pub(crate) async fn before(broker: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tape = Tape { port: listener.local_addr().unwrap().port(), kept: Arc::default() };
        let kept = Arc::clone(&tape.kept);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(passes(Arc::clone(&kept), near, broker));
            }
        });
        tape
    }

    /// The process of the broker that ran until now runs no more.
    pub(crate) fn broker_has_ended(&self) {
        self.kept.lives.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits until so much more has been said.
    pub(crate) async fn grows_by(&self, more: usize) {
        let until = self.entries().len() + more;
        self.shows(|entries| entries.len() >= until).await;
    }

    /// Waits until what is written down is like this.
    pub(crate) async fn shows(&self, like_this: impl Fn(&[Entry]) -> bool) {
        soon(self.kept.entries.subscribe().wait_for(|entries| like_this(entries))).await.unwrap();
    }

    /// From now on the broker hears nothing; what it says is heard.
    pub(crate) fn holds(&self) {
        self.kept.held.send_replace(true);
    }

    pub(crate) fn holds_no_more(&self) {
        self.kept.held.send_replace(false);
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.kept.entries.borrow().clone()
    }
}

async fn passes(kept: Arc<Kept>, near: TcpStream, broker: u16) -> io::Result<()> {
    let life = kept.lives.load(Ordering::SeqCst);
    let far = TcpStream::connect(("127.0.0.1", broker)).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let ((mut from_near, mut to_near), (mut from_far, mut to_far)) = (near.into_split(), far.into_split());
    // The first packet says who it is, and which version the two speak.
    let Some(hello) = read(&mut from_near).await? else { return Ok(()) };
    let (version, client, packet) = introduces(&hello);
    let entry = Entry { at: SystemTime::now(), client, life, by: By::Client, packet };
    kept.entries.send_modify(|entries| entries.push(entry.clone()));
    to_far.write_all(&hello).await?;
    let tell = |by: By, bytes: &[u8]| {
        let entry = Entry { at: SystemTime::now(), by, packet: understood(bytes, version), ..entry.clone() };
        kept.entries.send_modify(|entries| entries.push(entry));
    };
    // Each way goes on until who speaks has ended: what is said to nobody is said all the same.
    let asking = async {
        let mut held = kept.held.subscribe();
        while let Ok(Some(packet)) = read(&mut from_near).await {
            tell(By::Client, &packet);
            let _ = held.wait_for(|held| !held).await;
            let _ = to_far.write_all(&packet).await;
        }
        let _ = to_far.shutdown().await;
    };
    let answering = async {
        while let Ok(Some(packet)) = read(&mut from_far).await {
            tell(By::Broker, &packet);
            let _ = to_near.write_all(&packet).await;
        }
        let _ = to_near.shutdown().await;
    };
    tokio::join!(asking, answering);
    Ok(())
}

/// The next whole packet.
async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let Ok(first) = from.read_u8().await else { return Ok(None) };
    let mut packet = vec![first];
    let (mut size, mut shift) = (0, 0);
    loop {
        let byte = from.read_u8().await?;
        packet.push(byte);
        size |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            break;
        }
    }
    let start = packet.len();
    packet.resize(start + size, 0);
    from.read_exact(&mut packet[start..]).await?;
    Ok(Some(packet))
}

/// What comes after the fixed header.
fn body(packet: &[u8]) -> &[u8] {
    let length = packet[1..].iter().position(|byte| *byte < 0x80).unwrap();
    &packet[length + 2..]
}

/// A text with its length before it, and what comes after it.
fn text(bytes: &[u8]) -> (String, &[u8]) {
    let (text, rest) = bytes[2..].split_at(number(bytes).into());
    (String::from_utf8_lossy(text).into_owned(), rest)
}

fn number(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

/// What comes after the properties of MQTT 5; they are shorter than 128 bytes here.
fn after_properties(bytes: &[u8], version: u8) -> &[u8] {
    if version < 5 { bytes } else { &bytes[1 + usize::from(bytes[0])..] }
}

/// The version, the client's id, and what matters of a CONNECT.
fn introduces(packet: &[u8]) -> (u8, String, Packet) {
    let (_, rest) = text(body(packet));
    let (version, clean) = (rest[0], rest[1] & 0b10 != 0);
    (version, text(after_properties(&rest[4..], version)).0, Packet::Connect { clean })
}

fn understood(packet: &[u8], version: u8) -> Packet {
    let (first, body) = (packet[0], body(packet));
    match first >> 4 {
        2 => Packet::ConnAck { remembers: body[0] & 1 == 1 },
        3 if first & 0b110 == 0b100 => {
            let (_, rest) = text(body);
            let payload = String::from_utf8_lossy(after_properties(&rest[2..], version)).into_owned();
            Packet::Publish { id: number(rest), again: first & 0b1000 != 0, payload }
        }
        5 => Packet::PubRec(number(body)),
        6 => Packet::PubRel(number(body)),
        7 => Packet::PubComp(number(body)),
        _ => Packet::Other,
    }
}
