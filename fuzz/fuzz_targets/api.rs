//! The local API: requests, JSON and WebSocket frames of any kind. Every request that is whole has an
//! answer, and none brings the server down.

#![no_main]

use std::time::Duration;

use bowline::fuzzing::LocalApi;
use bowline_fuzz::Choices;
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PATHS: &[&str] = &[
    "/v1/status",
    "/v1/devices",
    "/v1/devices/board",
    "/v1/devices/board/messages",
    "/v1/dead",
    "/v1/dead?device=board",
    "/v1/dead/1",
    "/v1/dead/1/retry",
    "/v1/keys/reload",
    "/v1/apps",
    "/v1/apps/garden",
    "/v1/apps/garden/next",
    "/v1/apps/garden/answers",
    "/v1/apps/gordon/next",
    "/v1/tail",
];

const UPGRADE: &str = "GET /v1/apps/garden?window=4 HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                       sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fuzz_target!(|bytes: &[u8]| {
    let mut choices = Choices::new(bytes);
    let kind = choices.below(4);
    let input = match kind {
        0 => choices.rest().to_vec(),
        1 => web_socket(&mut choices),
        _ => requests(&mut choices),
    };
    // Time stands still but for timeouts, which come at once when there is nothing else to do.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let answer = runtime.expect("a runtime").block_on(answer(&input));
    if !answer.is_empty() {
        assert!(answer.starts_with(b"HTTP/1."), "{}", answer.escape_ascii());
        assert!(!answer.starts_with(b"HTTP/1.1 500"), "{}", answer.escape_ascii());
    }
    if kind > 1 {
        assert!(!answer.is_empty(), "no answer to {}", input.escape_ascii());
    }
});

/// Requests that are whole.
fn requests(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut input = vec![];
    for _ in 0..=choices.below(3) {
        let method = choices.pick(&["POST", "GET", "DELETE", "PUT"]);
        let path = choices.pick(PATHS);
        let tail = choices.bytes(20);
        let tail: String = tail.iter().map(|byte| format!("%{byte:02x}")).collect();
        let body = choices.bytes(400);
        let head = format!(
            "{method} {path}{tail} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        input.extend_from_slice(head.as_bytes());
        input.extend_from_slice(body);
    }
    input
}

/// A WebSocket of the app `garden`, and frames on it. The mask is 0, so that the content is the fuzzer's.
fn web_socket(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut input = UPGRADE.as_bytes().to_vec();
    while !choices.is_empty() {
        let content = choices.bytes(125);
        let first = if choices.below(8) == 0 { choices.byte() } else { 0x81 };
        input.extend_from_slice(&[first, 0x80 | content.len() as u8, 0, 0, 0, 0]);
        input.extend_from_slice(content);
    }
    input
}

async fn answer(input: &[u8]) -> Vec<u8> {
    let api = LocalApi::start().await.expect("the server starts");
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let mut answer = vec![];
    {
        let talk = async {
            // The server may have hung up in the middle of it.
            let _ = client.write_all(input).await;
            let _ = client.read_to_end(&mut answer).await;
        };
        // Longer than anything here waits for anything.
        let talk = tokio::time::timeout(Duration::from_secs(300), talk);
        tokio::select! {
            _ = talk => {}
            () = api.serve(server) => {}
        }
    }
    api.stop().await;
    answer
}
