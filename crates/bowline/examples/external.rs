//! An app outside of the server: it answers each message with the text in capitals. `docs/apps/external.md` says what is
//! promised.
//!
//! With `[[apps.external]]`, `ident = 7`, `name = "garden"` in the configuration of the server:
//!
//! ```sh
//! cargo run --example external -- bowline-data/control.sock garden
//! ```

use std::time::Duration;

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixStream;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(socket), Some(app)) = (arguments.next(), arguments.next()) else {
        bail!("expected the server's socket and the app's name: external bowline-data/control.sock garden");
    };
    loop {
        let Err(error) = serves(&socket, &app).await;
        eprintln!("{error:#}; trying again");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Handles messages until the server goes away.
async fn serves(socket: &str, app: &str) -> anyhow::Result<std::convert::Infallible> {
    let stream = UnixStream::connect(socket).await.with_context(|| format!("no server on {socket}"))?;
    let (mut server, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Its end shows in the requests.
    tokio::spawn(connection);
    loop {
        let taken = posts(&mut server, &format!("/v1/apps/{app}/next"), &json!({ "max": 16 })).await?;
        let messages = taken["messages"].as_array().context("no messages in the answer")?;
        let answers: Vec<Value> = messages.iter().map(handle).collect();
        if !answers.is_empty() {
            posts(&mut server, &format!("/v1/apps/{app}/answers"), &json!({ "answers": answers })).await?;
        }
    }
}

/// The same whenever the message comes again, so that ids need not be remembered.
fn handle(message: &Value) -> Value {
    match message["payload"].as_str() {
        Some(text) => {
            json!({ "ack": message["id"], "reply": { "tag": message["tag"], "payload": text.to_uppercase() } })
        }
        None => json!({ "nack": message["id"], "retry": false, "reason": "expected text" }),
    }
}

async fn posts(server: &mut SendRequest<Full<Bytes>>, path: &str, body: &Value) -> anyhow::Result<Value> {
    let request = Request::post(path)
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.to_string())))?;
    server.ready().await?;
    let response = server.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    if !status.is_success() {
        bail!("{path}: {status} {}", String::from_utf8_lossy(&body));
    }
    Ok(serde_json::from_slice(&body)?)
}
