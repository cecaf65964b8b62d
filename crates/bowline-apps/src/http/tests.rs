//! The client against hosts that behave in every way, on the loopback.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::answer::{Answer, Code, Problem};
use super::client::{Client, Lookup};
use super::request::Request;
use super::{HttpSettings, Network};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\non";

/// A host that answers each connection's first request with what `respond` makes of the request's head.
struct Host {
    address: SocketAddr,
    requests: mpsc::UnboundedReceiver<String>,
}

impl Host {
    async fn starts(respond: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self::serves(move |head, mut stream| {
            let response = respond(&head);
            async move {
                let _ = stream.write_all(response.as_bytes()).await;
            }
        })
        .await
    }

    async fn serves<F>(serve: impl Fn(String, TcpStream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (heads, requests) = mpsc::unbounded_channel();
        let serve = Arc::new(serve);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (serve, heads) = (Arc::clone(&serve), heads.clone());
                tokio::spawn(async move {
                    let head = head_of(&mut stream).await;
                    let _ = heads.send(head.clone());
                    serve(head, stream).await;
                });
            }
        });
        Host { address, requests }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn asked(&mut self) -> Option<String> {
        self.requests.try_recv().ok()
    }
}

/// Reads a request: the head, and as much of a body as its length says.
async fn head_of(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        if let Some(end) = text.find("\r\n\r\n") {
            let length = text.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
            if bytes.len() >= end + 4 + length.map_or(0, |length| length.parse::<usize>().unwrap()) {
                return String::from_utf8(bytes).unwrap();
            }
        }
        match stream.read_buf(&mut bytes).await {
            Ok(1..) => {}
            _ => return String::from_utf8(bytes).unwrap(),
        }
    }
}

fn redirect(status: u16, location: &str) -> String {
    format!("HTTP/1.1 {status} Moved\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n")
}

/// Every host on every port may be asked, on the loopback too.
fn open() -> HttpSettings {
    HttpSettings {
        allow: vec!["*:*".parse().unwrap()],
        networks: vec!["127.0.0.0/8".parse().unwrap()],
        total: Duration::from_secs(10),
        idle: Duration::from_secs(5),
        ..HttpSettings::default()
    }
}

/// The public Internet as the settings are by default, with every host allowed.
fn public() -> HttpSettings {
    HttpSettings { networks: Vec::new(), ..open() }
}

/// A name service that answers the nth question with the nth list, and further ones with the last.
fn names(answers: &[&[&str]]) -> (Lookup, Arc<AtomicUsize>) {
    let answers: Vec<Vec<SocketAddr>> = answers
        .iter()
        .map(|list| list.iter().map(|address| SocketAddr::new(address.parse::<IpAddr>().unwrap(), 0)).collect())
        .collect();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let lookup: Lookup = Arc::new(move |_| {
        let nth = counter.fetch_add(1, Ordering::Relaxed);
        let answer = answers.get(nth).or(answers.last()).cloned();
        Box::pin(async move { answer.ok_or(io::ErrorKind::NotFound.into()) })
    });
    (lookup, asked)
}

fn nowhere() -> Lookup {
    Arc::new(|_| Box::pin(async { Err(io::ErrorKind::NotFound.into()) }))
}

async fn ask_as(settings: HttpSettings, lookup: Lookup, payload: &str) -> Result<Answer, Problem> {
    let request = Request::read(payload.as_bytes())?;
    let deadline = Instant::now() + settings.total;
    Client::new(settings, lookup).unwrap().ask(&request, None, deadline).await
}

async fn ask(settings: HttpSettings, payload: &str) -> Result<Answer, Problem> {
    ask_as(settings, nowhere(), payload).await
}

#[track_caller]
fn fails(answer: Result<Answer, Problem>, code: Code) -> Problem {
    let problem = answer.expect_err("it was answered");
    assert_eq!(problem.code, code, "{problem:?}");
    problem
}

#[tokio::test]
async fn a_request_goes_out_and_its_answer_comes_back() {
    let mut host = Host::starts(|_| OK.to_owned()).await;
    let answer = ask(open(), &host.url("/lamp?on=1")).await.unwrap();
    assert_eq!((answer.status, &answer.body[..], answer.cut), (200, &b"on"[..], false));
    let head = host.asked().unwrap();
    assert!(head.starts_with("GET /lamp?on=1 HTTP/1.1\r\n"), "{head}");

    let url = host.url("/set");
    let wish = format!(r#"{{"method": "POST", "url": "{url}", "headers": {{"X-Key": "7"}}, "body": "hällo"}}"#);
    ask(open(), &wish).await.unwrap();
    let request = host.asked().unwrap();
    assert!(request.starts_with("POST /set HTTP/1.1\r\n") && request.contains("x-key: 7\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\nhällo"), "{request}");
}

#[tokio::test]
async fn nothing_is_allowed_that_is_not_in_the_list() {
    let mut host = Host::starts(|_| OK.to_owned()).await;
    fails(ask(HttpSettings { allow: Vec::new(), ..open() }, &host.url("/")).await, Code::NotAllowed);
    let other_port = vec![format!("127.0.0.1:{}", host.address.port() ^ 1).parse().unwrap()];
    fails(ask(HttpSettings { allow: other_port, ..open() }, &host.url("/")).await, Code::NotAllowed);
    assert_eq!(host.asked(), None);
}

#[tokio::test]
async fn private_addresses_are_refused_however_they_are_written() {
    let mut host = Host::starts(|_| OK.to_owned()).await;
    let port = host.address.port();
    let writings = [
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "127.1",
        "127.0.0.1.",
        "%31%32%37.0.0.1",
        "１２７.0.0.1",
        "0.0.0.0",
        "0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
        "169.254.169.254",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "10.0.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "224.0.0.1",
        "[ff02::1]",
    ];
    for writing in writings {
        let problem = fails(ask(public(), &format!("http://{writing}:{port}/")).await, Code::NotAllowed);
        assert!(problem.detail.contains("not a public one"), "{writing}: {problem:?}");
    }
    assert_eq!(host.asked(), None);
}

#[tokio::test]
async fn names_that_lead_to_private_addresses_are_refused() {
    let mut host = Host::starts(|_| OK.to_owned()).await;
    let url = format!("http://internal.example:{}/", host.address.port());
    for address in ["127.0.0.1", "10.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254", "fd00::1", "64:ff9b::7f00:1"]
    {
        let (lookup, _) = names(&[&[address]]);
        let problem = fails(ask_as(public(), lookup, &url).await, Code::NotAllowed);
        assert!(!problem.detail.contains(address), "the address is told: {problem:?}");
    }
    // The name that every system leads to the loopback, by way of the system.
    let by_system = ask_as(public(), super::system_lookup(), &url.replace("internal.example", "localhost")).await;
    fails(by_system, Code::NotAllowed);
    assert_eq!(host.asked(), None);
}

#[tokio::test]
async fn of_several_addresses_only_the_allowed_are_connected_to() {
    let mut host = Host::starts(|_| OK.to_owned()).await;
    let just = HttpSettings { networks: vec!["127.0.0.1".parse::<Network>().unwrap()], ..open() };
    let (lookup, _) = names(&[&["10.255.255.1", "127.0.0.1", "127.0.0.2"]]);
    let url = format!("http://mixed.example:{}/", host.address.port());
    assert_eq!(ask_as(just, lookup, &url).await.unwrap().status, 200);
    assert!(host.asked().unwrap().contains("host: mixed.example:"));
}

#[tokio::test]
async fn a_name_that_changes_its_address_gets_nowhere() {
    // The host closes its connection, so that the redirect needs a new look-up, which says something else.
    let mut host = Host::starts(|head| match head.starts_with("GET / ") {
        true => redirect(302, "/inside").replace("content-length", "connection: close\r\ncontent-length"),
        false => OK.to_owned(),
    })
    .await;
    let just = HttpSettings { networks: vec!["127.0.0.1".parse().unwrap()], ..open() };
    let (lookup, asked) = names(&[&["127.0.0.1"], &["127.0.0.2"]]);
    let url = format!("http://rebind.example:{}/", host.address.port());
    fails(ask_as(just, lookup, &url).await, Code::NotAllowed);
    assert_eq!(asked.load(Ordering::Relaxed), 2, "one look-up a connection: what was checked is what is used");
    assert!(host.asked().unwrap().starts_with("GET / ") && host.asked().is_none());
}

#[tokio::test]
async fn each_hop_of_a_redirect_has_to_be_allowed() {
    let mut inside = Host::starts(|_| OK.to_owned()).await;
    let port = inside.address.port();
    let targets = [
        format!("http://127.0.0.2:{port}/"),
        format!("http://2130706434:{port}/"),
        format!("//[::ffff:127.0.0.2]:{port}/"),
        format!("http://name.example:{port}/"),
        "file:///etc/passwd".to_owned(),
        "gopher://127.0.0.1/".to_owned(),
        format!("http://user:pass@127.0.0.1:{port}/"),
    ];
    for target in targets {
        let location = target.clone();
        let host = Host::starts(move |_| redirect(302, &location)).await;
        let just = HttpSettings { networks: vec!["127.0.0.1".parse().unwrap()], ..open() };
        let (lookup, _) = names(&[&["127.0.0.2"]]);
        let answer = ask_as(just, lookup, &host.url("/")).await;
        assert_eq!(fails(answer, Code::NotAllowed).code, Code::NotAllowed, "{target}");
    }
    // The address is right, the host is not in the list.
    let location = inside.url("/");
    let host = Host::starts(move |_| redirect(307, &location)).await;
    let listed = HttpSettings { allow: vec![host.address.to_string().parse().unwrap()], ..open() };
    let problem = fails(ask(listed, &host.url("/")).await, Code::NotAllowed);
    assert!(problem.detail.contains("list of hosts"), "{problem:?}");
    assert_eq!(inside.asked(), None);
}

#[tokio::test]
async fn redirects_are_followed_so_far_and_no_further() {
    let mut host = Host::starts(|head| {
        let left: usize = head.split(['/', ' ']).nth(2).unwrap().parse().unwrap();
        if left == 0 { OK.to_owned() } else { redirect(302, &format!("/{}", left - 1)) }
    })
    .await;
    let three = || HttpSettings { redirects: 3, ..open() };
    assert_eq!(ask(three(), &host.url("/3")).await.unwrap().status, 200);
    for _ in 0..4 {
        host.asked().unwrap();
    }
    fails(ask(three(), &host.url("/4")).await, Code::Redirects);
    for _ in 0..4 {
        host.asked().unwrap();
    }
    assert_eq!(host.asked(), None);

    let circle = Host::starts(|_| redirect(301, "/")).await;
    fails(ask(open(), &circle.url("/")).await, Code::Redirects);
}

#[tokio::test]
async fn a_redirect_to_another_host_takes_no_secrets_along() {
    let mut other = Host::starts(|_| OK.to_owned()).await;
    let location = other.url("/");
    let mut host = Host::starts(move |_| redirect(303, &location)).await;
    let url = host.url("/");
    let headers = r#"{"Authorization": "Bearer 1", "Cookie": "a=1", "X-Other": "1"}"#;
    ask(open(), &format!(r#"{{"url": "{url}", "headers": {headers}, "body": "secret"}}"#)).await.unwrap();
    assert!(host.asked().unwrap().contains("Bearer 1"));
    let second = other.asked().unwrap();
    assert!(second.starts_with("GET / ") && second.contains("x-other: 1"), "{second}");
    for secret in ["authorization", "cookie", "secret"] {
        assert!(!second.contains(secret), "{second}");
    }
}

#[tokio::test]
async fn a_huge_body_is_read_so_far_and_no_further() {
    let sent = Arc::new(AtomicUsize::new(0));
    let (counter, (ended, mut end)) = (Arc::clone(&sent), mpsc::unbounded_channel());
    let host = Host::serves(move |_, mut stream| {
        let (counter, ended) = (Arc::clone(&counter), ended.clone());
        async move {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n").await;
            while stream.write_all(&[b'x'; 4096]).await.is_ok() {
                counter.fetch_add(4096, Ordering::Relaxed);
            }
            let _ = ended.send(());
        }
    })
    .await;
    let answer = ask(HttpSettings { body_bytes: 10_000, ..open() }, &host.url("/")).await.unwrap();
    assert_eq!((answer.body.len(), answer.cut), (10_000, true));
    // The connection was ended, rather than read on.
    end.recv().await.unwrap();
    assert!(sent.load(Ordering::Relaxed) < 64 * 1024 * 1024);
}

#[tokio::test]
async fn a_body_of_just_the_limit_is_not_cut() {
    let host = Host::starts(|_| OK.to_owned()).await;
    let answer = ask(HttpSettings { body_bytes: 2, ..open() }, &host.url("/")).await.unwrap();
    assert_eq!((&answer.body[..], answer.cut), (&b"on"[..], false));
}

#[tokio::test]
async fn endless_headers_end() {
    let host = Host::serves(|_, mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nx-long: ").await;
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
    })
    .await;
    fails(ask(open(), &host.url("/")).await, Code::TooLarge);
    let host = Host::serves(|_, mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while stream.write_all(b"x: y\r\n").await.is_ok() {}
    })
    .await;
    let answer = ask(HttpSettings { total: Duration::from_secs(60), ..open() }, &host.url("/")).await;
    fails(answer, Code::TooLarge);
}

#[tokio::test]
async fn slow_hosts_are_given_up() {
    let short = || HttpSettings { idle: Duration::from_millis(100), ..open() };
    // Says nothing at all.
    let host = Host::serves(|_, stream| async move { hold(stream).await }).await;
    fails(ask(short(), &host.url("/")).await, Code::Timeout);
    // Stops in the middle of a body.
    let host = Host::serves(|_, mut stream| async move {
        let _ = stream.write_all(&OK.as_bytes()[..OK.len() - 1]).await;
        hold(stream).await;
    })
    .await;
    fails(ask(short(), &host.url("/")).await, Code::Timeout);
    // Never stops for long, and never ends.
    let host = Host::serves(|_, mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").await;
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let total = HttpSettings { total: Duration::from_millis(300), ..open() };
    let problem = fails(ask(total, &host.url("/")).await, Code::Timeout);
    assert!(problem.detail.contains("300ms"), "{problem:?}");
}

/// Keeps a connection until the other side ends it.
async fn hold(mut stream: TcpStream) {
    while let Ok(1..) = stream.read(&mut [0; 64]).await {}
}

#[tokio::test]
async fn what_is_wrong_with_a_host_is_told_apart() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    fails(ask(open(), &format!("http://{unused}/")).await, Code::Refused);
    fails(ask(open(), "http://missing.example/").await, Code::Dns);
    let rubbish = Host::starts(|_| "SSH-2.0-OpenSSH_9.9\r\n".to_owned()).await;
    fails(ask(open(), &rubbish.url("/")).await, Code::BadAnswer);
    let silent = Host::starts(|_| String::new()).await;
    fails(ask(open(), &silent.url("/")).await, Code::BadAnswer);
    let short = Host::starts(|_| OK[..OK.len() - 1].to_owned()).await;
    fails(ask(open(), &short.url("/")).await, Code::BadAnswer);
}

/// A certificate for `name`, and a host that shows it. All of its paths but the root lead to `down`.
async fn secured(name: &str, down: &str) -> (SocketAddr, String) {
    let certified = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let down = down.to_owned();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, down) = (acceptor.clone(), down.clone());
            tokio::spawn(async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let head = head_of(&mut stream).await;
                    let response = if head.starts_with("GET / ") { OK.to_owned() } else { redirect(302, &down) };
                    let _ = stream.write_all(response.as_bytes()).await;
                    let _ = stream.shutdown().await;
                }
            });
        }
    });
    (address, certified.cert.pem())
}

#[tokio::test]
async fn tls_asks_for_proof() {
    let mut plain = Host::starts(|_| OK.to_owned()).await;
    let (address, certificate) = secured("box.example", &plain.url("/")).await;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root.pem");
    std::fs::write(&root, certificate).unwrap();
    let trusting = || HttpSettings { roots: vec![root.clone()], ..open() };
    let (lookup, _) = names(&[&["127.0.0.1"]]);
    let at = |name: &str| format!("https://{name}:{}/", address.port());

    let answer = ask_as(trusting(), Arc::clone(&lookup), &at("box.example")).await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (200, &b"on"[..]));
    // Nobody has signed it that the system knows.
    fails(ask_as(open(), Arc::clone(&lookup), &at("box.example")).await, Code::Tls);
    // It is another's.
    fails(ask_as(trusting(), Arc::clone(&lookup), &at("other.example")).await, Code::Tls);
    // And it must not lead to where nobody has to prove anything.
    fails(ask_as(trusting(), Arc::clone(&lookup), &format!("{}down", at("box.example"))).await, Code::NotAllowed);
    assert_eq!(plain.asked(), None);
    // There is no TLS.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain = format!("https://box.example:{}/", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.write_all(b"220 smtp.box.example\r\n").await;
        hold(stream).await;
    });
    fails(ask_as(trusting(), Arc::clone(&lookup), &plain).await, Code::Tls);

    std::fs::write(&root, "nothing").unwrap();
    let error = Client::new(trusting(), lookup).unwrap_err().to_string();
    assert!(error.contains("root.pem") && error.contains("no certificate"), "{error}");
}
