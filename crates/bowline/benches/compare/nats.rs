//! The text protocol of NATS, as far as a publisher to JetStream needs it.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::load::{Heard, Peer};

/// The stream that keeps the messages, in files.
const STREAM: &str = concat!(
    r#"{"name":"bench","subjects":["bench.>"],"retention":"limits","storage":"file","discard":"old","#,
    r#""max_msgs":200000,"num_replicas":1,"max_consumers":-1,"max_bytes":-1,"max_age":0}"#
);

/// Makes the stream.
pub(crate) async fn prepare(address: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    let create = format!(
        "CONNECT {{\"verbose\":false}}\r\nSUB made.here 1\r\nPUB $JS.API.STREAM.CREATE.bench made.here {}\r\n{STREAM}\r\n",
        STREAM.len()
    );
    stream.write_all(create.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"}\r\n") || !answer.windows(4).any(|word| word == b"MSG ") {
        if stream.read_buf(&mut answer).await? == 0 {
            bail!("the server closed the connection");
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    if answer.contains("\"error\"") {
        bail!("the server made no stream: {answer}");
    }
    Ok(())
}

pub(crate) struct Nats {
    /// Ids of messages are never used again.
    run: u64,
    device: u32,
    number: u64,
}

impl Nats {
    pub(crate) fn new() -> Self {
        Nats { run: fastrand::u64(..), device: 0, number: 0 }
    }
}

impl Peer for Nats {
    fn hello(&mut self, device: u32, out: &mut Vec<u8>) {
        self.device = device;
        let connect = r#"CONNECT {"verbose":false,"pedantic":false,"headers":true}"#;
        out.extend_from_slice(format!("{connect}\r\nSUB acks.{device} 1\r\n").as_bytes());
    }

    /// With the id by which the server tells a repeated one.
    fn publish(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        self.number += 1;
        let headers = format!("NATS/1.0\r\nNats-Msg-Id: {:x}-{}\r\n\r\n", self.run, self.number);
        let device = self.device;
        let all = headers.len() + payload.len();
        out.extend_from_slice(format!("HPUB bench.{device} acks.{device} {} {all}\r\n", headers.len()).as_bytes());
        out.extend_from_slice(headers.as_bytes());
        out.extend_from_slice(payload);
        out.extend_from_slice(b"\r\n");
    }

    fn heard(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Heard> {
        let Some(end) = input.windows(2).position(|two| two == b"\r\n") else { return Ok(Heard::Part) };
        let line = std::str::from_utf8(&input[..end])?;
        let len = match line.split_once(' ').map_or(line, |(word, _)| word) {
            "INFO" => return Ok(Heard::Bytes(end + 2, 0)),
            "PING" => {
                out.extend_from_slice(b"PONG\r\n");
                return Ok(Heard::Bytes(end + 2, 0));
            }
            "MSG" => line.rsplit(' ').next().and_then(|len| len.parse::<usize>().ok()).context("a length")?,
            _ => bail!("the server says: {line}"),
        };
        let Some(body) = input.get(end + 2..end + 2 + len + 2) else { return Ok(Heard::Part) };
        let body = std::str::from_utf8(body)?;
        if body.contains("\"error\"") || body.contains("\"duplicate\"") {
            bail!("the server says: {}", body.trim());
        }
        Ok(Heard::Bytes(end + 2 + len + 2, 1))
    }
}
