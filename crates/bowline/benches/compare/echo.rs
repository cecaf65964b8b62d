//! The limit: a server that reads frames and writes them back, and does nothing else.

use std::io::Write as _;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::load::{Heard, Peer};

/// Serves until its process is ended: each frame, its length in two bytes before it, is copied to the answer; what was
/// read together is answered together.
pub(crate) async fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let (mut input, mut out) = (Vec::with_capacity(64 * 1024), Vec::new());
            while stream.read_buf(&mut input).await.is_ok_and(|count| count > 0) {
                let mut at = 0;
                while let Some(len) = frame(&input[at..]) {
                    out.extend_from_slice(&input[at..at + len]);
                    at += len;
                }
                input.drain(..at);
                if stream.write_all(&out).await.is_err() {
                    return;
                }
                out.clear();
            }
        });
    }
}

/// How long the frame at the front is, if it is whole.
fn frame(bytes: &[u8]) -> Option<usize> {
    let (len, _) = bytes.split_first_chunk::<2>()?;
    let len = 2 + usize::from(u16::from_be_bytes(*len));
    (bytes.len() >= len).then_some(len)
}

/// Who sends frames and waits for them.
pub(crate) struct Framed {
    is_up: bool,
}

impl Framed {
    pub(crate) fn new() -> Self {
        Framed { is_up: false }
    }
}

impl Peer for Framed {
    fn hello(&mut self, _: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 0]);
    }

    fn publish(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&(payload.len() as u16).to_be_bytes());
        out.extend_from_slice(payload);
    }

    fn heard(&mut self, input: &[u8], _: &mut Vec<u8>) -> Result<Heard> {
        let Some(len) = frame(input) else { return Ok(Heard::Part) };
        Ok(Heard::Bytes(len, usize::from(std::mem::replace(&mut self.is_up, true))))
    }
}
