use std::time::Instant;

use super::*;

/// Long enough for loopback, short enough for a test that expects nothing.
const MOMENT: Duration = Duration::from_millis(150);

/// A proxy before a listener that plays the server.
struct Net {
    listener: TcpListener,
    proxy: Proxy,
    address: watch::Sender<Option<SocketAddr>>,
}

impl Net {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (address, receiver) = watch::channel(Some(listener.local_addr().unwrap()));
        let proxy = Proxy::start(receiver).await.unwrap();
        Net { listener, proxy, address }
    }

    async fn device(&self) -> TcpStream {
        TcpStream::connect(self.proxy.address()).await.unwrap()
    }

    /// A connection through the proxy that has carried a byte each way.
    async fn connect(&self) -> (TcpStream, TcpStream) {
        let mut device = self.device().await;
        let (mut server, _) = self.listener.accept().await.unwrap();
        carries(&mut device, &mut server).await;
        carries(&mut server, &mut device).await;
        (device, server)
    }
}

async fn carries(from: &mut TcpStream, to: &mut TcpStream) {
    from.write_all(b"!").await.unwrap();
    assert_eq!(to.read_u8().await.unwrap(), b'!');
}

/// Nothing comes, not even an end.
async fn is_silent(stream: &mut TcpStream) -> bool {
    tokio::time::timeout(MOMENT, stream.read_u8()).await.is_err()
}

#[tokio::test]
async fn a_reset_and_a_close_look_different_to_both_ends() {
    let net = Net::start().await;
    let (mut device, mut server) = net.connect().await;
    net.proxy.set(Weather::Cut(Cut::Reset));
    assert_eq!(device.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(server.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);

    net.proxy.set(Weather::Clear);
    let (mut device, mut server) = net.connect().await;
    net.proxy.set(Weather::Cut(Cut::Close));
    assert_eq!(device.read_u8().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(server.read_u8().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);

    // While the cut lasts, nobody gets in.
    let mut device = net.device().await;
    assert!(device.read_u8().await.is_err());
}

#[tokio::test]
async fn a_half_open_connection_swallows_everything_and_stays_dead() {
    let net = Net::start().await;
    let (mut device, mut server) = net.connect().await;
    net.proxy.set(Weather::HalfOpen);
    device.write_all(b"lost").await.unwrap();
    server.write_all(b"lost").await.unwrap();
    assert!(is_silent(&mut device).await && is_silent(&mut server).await);

    // One that begins now waits for better weather, and loses nothing.
    let mut late = net.device().await;
    late.write_all(b"?").await.unwrap();
    assert!(tokio::time::timeout(MOMENT, net.listener.accept()).await.is_err());
    net.proxy.set(Weather::Clear);
    let (mut accepted, _) = net.listener.accept().await.unwrap();
    assert_eq!(accepted.read_u8().await.unwrap(), b'?');

    device.write_all(b"lost").await.unwrap();
    drop(device);
    assert!(is_silent(&mut server).await, "neither bytes nor the end get through");
}

#[tokio::test]
async fn one_way_loses_only_what_goes_to_the_device() {
    let net = Net::start().await;
    let (mut device, mut server) = net.connect().await;
    net.proxy.set(Weather::OneWay);
    carries(&mut device, &mut server).await;
    server.write_all(b"lost").await.unwrap();
    assert!(is_silent(&mut device).await);
}

#[tokio::test]
async fn a_stall_loses_nothing() {
    let net = Net::start().await;
    let (mut device, mut server) = net.connect().await;
    net.proxy.set(Weather::Stalled);
    device.write_all(b"late").await.unwrap();
    assert!(is_silent(&mut server).await);
    net.proxy.set(Weather::Clear);
    let mut late = [0; 4];
    server.read_exact(&mut late).await.unwrap();
    assert_eq!(&late, b"late");
}

#[tokio::test]
async fn bytes_come_one_by_one_and_whole() {
    let net = Net::start().await;
    let (mut device, mut server) = net.connect().await;
    net.proxy.set(Weather::OneByte);
    let sent: Vec<u8> = (0..2000_u32).map(|at| at.to_le_bytes()[0]).collect();
    device.write_all(&sent).await.unwrap();
    let (mut received, mut reads) = (vec![0; sent.len()], 0);
    let mut at = 0;
    while at < sent.len() {
        at += server.read(&mut received[at..]).await.unwrap();
        reads += 1;
    }
    assert_eq!(received, sent);
    // The system may put segments together again, but not all of them.
    assert!(reads > 5, "{reads} reads");
}

#[tokio::test]
async fn a_delay_is_a_delay() {
    let net = Net::start().await;
    let (mut device, mut server) = net.connect().await;
    net.proxy.set(Weather::Delayed(MOMENT));
    let start = Instant::now();
    carries(&mut device, &mut server).await;
    assert!(start.elapsed() >= MOMENT);
}

#[tokio::test]
async fn an_end_is_passed_on_and_without_a_server_there_is_a_reset() {
    let net = Net::start().await;
    let (device, mut server) = net.connect().await;
    drop(device);
    assert_eq!(server.read_u8().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);

    net.address.send_replace(None);
    let mut device = net.device().await;
    assert_eq!(device.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}
