//! The network of a board: tokio's sockets behind the traits of embedded boards, and faults.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use embedded_nal_async::TcpConnect;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// A stretch of network that leads to wherever the server is.
#[derive(Clone)]
pub(crate) struct Net {
    /// A change cuts the connections there are.
    leads_to: Rc<watch::Sender<Option<SocketAddr>>>,
    /// Most bytes that go in one call, one way.
    piece: Rc<Cell<usize>>,
    /// Bytes that still go out before the connection is lost.
    budget: Rc<Cell<usize>>,
    /// Nothing goes in or out any more, and nobody is told.
    silent: Rc<Cell<bool>>,
    /// Bytes written since reading was tried last, and the most there ever were.
    unheard: Rc<Cell<(usize, usize)>>,
    /// Connections that the board has dropped and the server was not told of, as long as they are kept here.
    dangling: Rc<RefCell<Option<Vec<TcpStream>>>>,
}

impl Net {
    pub(crate) fn new() -> Net {
        Net {
            leads_to: Rc::new(watch::Sender::new(None)),
            piece: Rc::new(Cell::new(usize::MAX)),
            budget: Rc::new(Cell::new(usize::MAX)),
            silent: Rc::new(Cell::new(false)),
            unheard: Rc::default(),
            dangling: Rc::default(),
        }
    }

    /// All connections are lost; new ones lead to `server`, or to nobody.
    pub(crate) fn target(&self, server: Option<SocketAddr>) {
        self.leads_to.send_replace(server);
    }

    /// All connections are lost.
    pub(crate) fn cuts(&self) {
        self.leads_to.send_modify(|_| {});
    }

    /// The connection that writes byte `bytes` from now on is lost before it.
    pub(crate) fn cuts_after(&self, bytes: usize) {
        self.budget.set(bytes);
    }

    /// From now on bytes come and go in pieces of at most this.
    pub(crate) fn pieces(&self, bytes: usize) {
        self.piece.set(bytes);
    }

    /// From now on, or no more, what the board drops stays open for the server: a board without power closes nothing.
    pub(crate) fn dangles(&self, dangles: bool) {
        let mut dangling = self.dangling.borrow_mut();
        *dangling = dangles.then(|| dangling.take().unwrap_or_default());
    }

    /// The most bytes that were written without trying to read.
    pub(crate) fn most_unheard(&self) -> usize {
        self.unheard.get().1
    }

    /// From now on, or no more, nothing comes through.
    pub(crate) fn silent(&self, silent: bool) {
        self.silent.set(silent);
    }
}

pub(crate) struct Connection {
    /// `None` once it is dropped.
    stream: Option<TcpStream>,
    net: Net,
    route: watch::Receiver<Option<SocketAddr>>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct NetError(ErrorKind);

impl std::fmt::Display for NetError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::error::Error for NetError {}

impl embedded_io_async::Error for NetError {
    fn kind(&self) -> ErrorKind {
        self.0
    }
}

impl From<std::io::Error> for NetError {
    fn from(error: std::io::Error) -> Self {
        NetError(match error.kind() {
            std::io::ErrorKind::ConnectionRefused => ErrorKind::ConnectionRefused,
            std::io::ErrorKind::ConnectionReset => ErrorKind::ConnectionReset,
            _ => ErrorKind::Other,
        })
    }
}

const RESET: NetError = NetError(ErrorKind::ConnectionReset);

impl TcpConnect for Net {
    type Error = NetError;
    type Connection<'a> = Connection;

    async fn connect(&self, _: SocketAddr) -> Result<Connection, NetError> {
        let mut route = self.leads_to.subscribe();
        let server = *route.borrow_and_update();
        let Some(server) = server else { return Err(NetError(ErrorKind::ConnectionRefused)) };
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream: Some(stream), net: self.clone(), route })
    }
}

impl Connection {
    /// Like a cable: what is on its way is gone.
    fn is_lost(&self) -> NetError {
        let _ = self.stream.as_ref().expect("not dropped").set_zero_linger();
        RESET
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(dangling) = self.net.dangling.borrow_mut().as_mut() {
            dangling.extend(self.stream.take());
        }
    }
}

impl ErrorType for Connection {
    type Error = NetError;
}

impl Read for Connection {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, NetError> {
        let piece = buffer.len().min(self.net.piece.get());
        self.net.unheard.set((0, self.net.most_unheard()));
        tokio::select! {
            biased;
            _ = self.route.changed() => Err(self.is_lost()),
            result = self.stream.as_mut().expect("not dropped").read(&mut buffer[..piece]), if !self.net.silent.get() => Ok(result?),
        }
    }
}

impl Write for Connection {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, NetError> {
        if self.net.silent.get() {
            return Ok(bytes.len());
        }
        let budget = self.net.budget.get();
        if budget == 0 {
            self.net.budget.set(usize::MAX);
            return Err(self.is_lost());
        }
        let piece = bytes.len().min(self.net.piece.get()).min(budget);
        let count = tokio::select! {
            biased;
            _ = self.route.changed() => return Err(self.is_lost()),
            result = self.stream.as_mut().expect("not dropped").write(&bytes[..piece]) => result?,
        };
        if budget != usize::MAX {
            self.net.budget.set(budget - count);
        }
        let (since, most) = self.net.unheard.get();
        self.net.unheard.set((since + count, most.max(since + count)));
        Ok(count)
    }

    async fn flush(&mut self) -> Result<(), NetError> {
        panic!("the client does not flush: with embassy-net that waits for the peer")
    }
}
