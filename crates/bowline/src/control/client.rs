//! A command's end of the local API.

use std::io;
use std::path::Path;

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::Problem;

/// A connection to the running server.
#[derive(Debug)]
pub(crate) struct Client {
    requests: SendRequest<Full<Bytes>>,
}

impl Client {
    /// Connects to the server that uses the folder `data`.
    pub(crate) async fn connect(data: &Path) -> anyhow::Result<Self> {
        Self::find(data).await?.with_context(|| {
            format!(
                "{}: no server runs with this data folder: start `bowline serve`, or name its folder with --data",
                data.display()
            )
        })
    }

    /// Connects to the server that uses the folder `data`, if there is one.
    pub(crate) async fn find(data: &Path) -> anyhow::Result<Option<Self>> {
        let stream = match UnixStream::connect(super::socket(data)).await {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => {
                let advice = match error.kind() {
                    io::ErrorKind::PermissionDenied => "the server belongs to another user: run this as that user",
                    _ => "the server does not answer",
                };
                return Err(error).with_context(|| format!("{}: {advice}", data.display()));
            }
        };
        let (requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Its end shows in the requests.
        tokio::spawn(connection);
        Ok(Some(Client { requests }))
    }

    /// Asks, and reads the answer.
    pub(crate) async fn get<T: DeserializeOwned>(&mut self, path: &str) -> anyhow::Result<T> {
        self.ask(Method::GET, path, &()).await
    }

    /// Sends `body`, and reads the answer.
    pub(crate) async fn post<T: DeserializeOwned>(&mut self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        self.ask(Method::POST, path, body).await
    }

    /// Has something removed, and reads the answer.
    pub(crate) async fn delete<T: DeserializeOwned>(&mut self, path: &str) -> anyhow::Result<T> {
        self.ask(Method::DELETE, path, &()).await
    }

    /// Asks, and reads the answer line by line.
    pub(crate) async fn lines(&mut self, path: &str) -> anyhow::Result<Lines> {
        let response = self.request(Method::GET, path, &()).await?;
        Ok(Lines { body: response.into_body(), buffer: Vec::new() })
    }

    async fn ask<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        let response = self.request(method, path, body).await?;
        let status = response.status();
        let bytes = response.into_body().collect().await.context("the server went away")?.to_bytes();
        if !status.is_success() {
            match serde_json::from_slice::<Problem>(&bytes) {
                Ok(problem) => bail!("{}", problem.error),
                Err(_) => bail!("the server says {status}: {}", String::from_utf8_lossy(&bytes).trim()),
            }
        }
        serde_json::from_slice(&bytes).context("the server's answer is not understood: is it of this version?")
    }

    async fn request(
        &mut self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<Response<Incoming>> {
        let body = if method == Method::GET { Vec::new() } else { serde_json::to_vec(body)? };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "bowline")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))?;
        self.requests.ready().await.context("the server went away")?;
        self.requests.send_request(request).await.context("the server went away")
    }
}

/// An answer that goes on.
#[derive(Debug)]
pub(crate) struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Lines {
    /// The next line; `None` when the server has ended.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let mut line: Vec<_> = self.buffer.drain(..=end).collect();
                line.pop();
                return Ok(Some(line));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        self.buffer.extend_from_slice(&bytes);
                    }
                }
                // A server that is killed leaves the answer without an end.
                Some(Err(_)) | None => return Ok(None),
            }
        }
    }
}

/// `id` as part of a path.
pub(crate) fn escape(id: &str) -> String {
    id.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
