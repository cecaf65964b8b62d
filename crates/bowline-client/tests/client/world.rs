//! One server and one device, with disks that survive them and a network between them that does not hold.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bowline_client::{Builder, Client, Dialect};
use bowline_server::{Admission, Date, Device, Keys, Server};
use bowline_store::{Durability, OpenError, Store};
use bowline_store_vfs::Folder;
use futures_util::FutureExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::harness::soon;

/// The one device's id.
pub(crate) const ID: &str = "board";

/// A server, a device, and the way from one to the other.
pub(crate) struct World {
    pub(crate) server_folder: Folder,
    pub(crate) device_folder: Folder,
    pub(crate) keys: Keys,
    pub(crate) line: String,
    pub(crate) net: Net,
    pub(crate) dialect: Dialect,
    pub(crate) server: Option<Server>,
    pub(crate) client: Option<Client>,
    /// Whether the device encrypts.
    pub(crate) encrypts: bool,
    /// What both may hold.
    pub(crate) limits: bowline_server::Limits,
}

pub(crate) fn today() -> Date {
    Date::from_unix(1_793_664_000)
}

impl World {
    /// Both run, with a store each, on N.
    pub(crate) async fn runs() -> World {
        let mut world = World::waits().await;
        world.server_starts().await;
        world.client_starts().await;
        world
    }

    /// Nothing runs yet.
    pub(crate) async fn waits() -> World {
        let keys = Keys::default();
        let line = keys.issue(ID, today()).unwrap().line();
        World {
            server_folder: Folder::new(),
            device_folder: Folder::new(),
            keys,
            line: line.to_string(),
            net: Net::new().await,
            dialect: Dialect::Native,
            server: None,
            client: None,
            encrypts: true,
            limits: bowline_server::Limits::default(),
        }
    }

    pub(crate) async fn server_starts(&mut self) {
        // One end commits in place, the other in its writer's thread, while more comes.
        let store = open_as(self.server_folder.path(), Durability::Os).await;
        let server = Server::builder()
            .listen("127.0.0.1:0".parse().unwrap())
            .keys(self.keys.clone())
            .admission(Admission { unencrypted: vec![ID.to_owned()], ..Admission::open() })
            .timeout(Duration::from_secs(10))
            .settle(Duration::ZERO)
            .pace(1, Duration::ZERO)
            .handshakes(0, 0)
            .limits(self.limits)
            .store(store)
            .start()
            .await
            .unwrap();
        self.net.target(Some(server.addresses()[0]));
        self.server = Some(server);
    }

    /// A client for this world, without a store.
    pub(crate) fn builder(&self) -> Builder {
        let builder = crate::harness::client(&self.net.address, self.dialect)
            .timeout(Duration::from_secs(10))
            .limits(self.limits);
        match (self.dialect, self.encrypts) {
            (Dialect::Native, true) => builder.key(&self.line).unwrap(),
            (Dialect::Native, false) => builder.key(&self.line).unwrap().unencrypted(),
            _ => builder,
        }
    }

    pub(crate) async fn client_starts(&mut self) {
        let store = open(self.device_folder.path()).await;
        self.client = Some(self.builder().store(store).start().unwrap());
    }

    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().expect("the server runs")
    }

    pub(crate) fn client(&self) -> &Client {
        self.client.as_ref().expect("the client runs")
    }

    /// The device at the server.
    pub(crate) fn device(&self) -> Device {
        self.server().expect(ID).expect("it may log in")
    }

    /// The server's process ends in the middle of whatever it does.
    pub(crate) fn server_crashes(&mut self) {
        self.net.target(None);
        self.server_folder = self.server_folder.crashes();
        self.server = None;
    }

    /// The device's process ends in the middle of whatever it does.
    pub(crate) fn client_crashes(&mut self) {
        self.device_folder = self.device_folder.crashes();
        self.client = None;
    }

    /// In order.
    pub(crate) async fn server_restarts(&mut self) {
        self.server_stops().await;
        self.server_starts().await;
    }

    pub(crate) async fn server_stops(&mut self) {
        let server = self.server.take().expect("the server runs");
        assert!(server.shutdown(Duration::from_millis(100)).await.close(Duration::from_secs(10)).await);
    }

    /// In order.
    pub(crate) async fn client_stops(&mut self) {
        self.client.take().expect("the client runs").close(Duration::from_millis(100)).await;
    }

    pub(crate) async fn connected(&self) {
        soon(self.client().connected()).await.unwrap();
        soon(self.device().connected()).await.unwrap();
    }
}

/// Opens a device's store in `folder` once the process before has let go of it.
pub(crate) async fn open(folder: &Path) -> Store {
    open_as(folder, Durability::Fsync).await
}

async fn open_as(folder: &Path, durability: Durability) -> Store {
    soon(async {
        loop {
            match Store::open(folder, durability, bowline_store::Limits::default()) {
                Ok(store) => return store,
                Err(OpenError::Locked { .. }) => tokio::time::sleep(Duration::from_millis(2)).await,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await
}

/// A stretch of network at a fixed address, which leads to wherever the server is.
pub(crate) struct Net {
    pub(crate) address: String,
    /// Where connections lead to; a change cuts those there are.
    leads_to: watch::Sender<Option<SocketAddr>>,
    task: JoinHandle<()>,
}

impl Net {
    async fn new() -> Net {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (leads_to, route) = watch::channel(None);
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, route.clone()));
            }
        });
        Net { address, leads_to, task }
    }

    /// All connections are lost; new ones lead to `server`, or to nobody.
    pub(crate) fn target(&self, server: Option<SocketAddr>) {
        self.leads_to.send_replace(server);
    }

    /// All connections are lost.
    pub(crate) fn cuts(&self) {
        self.leads_to.send_modify(|_| {});
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(mut near: TcpStream, mut route: watch::Receiver<Option<SocketAddr>>) {
    let Some(server) = *route.borrow_and_update() else { return };
    let Ok(mut far) = TcpStream::connect(server).await else { return };
    let (_, _) = (near.set_nodelay(true), far.set_nodelay(true));
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
        _ = route.changed() => {
            // Like a cable: what is on its way is gone.
            let _ = near.set_zero_linger();
            let _ = far.set_zero_linger();
        }
    }
}

/// Waits for what nothing announces.
pub(crate) async fn eventually(mut condition: impl FnMut() -> bool) {
    soon(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// The payloads of the next `count` messages from the device.
pub(crate) async fn takes(device: &Device, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    while all.len() < count {
        all.push(soon(device.recv()).await.unwrap().text().unwrap().to_owned());
    }
    all
}

/// The payloads of the next `count` messages from the server.
pub(crate) async fn takes_here(client: &Client, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    while all.len() < count {
        all.push(soon(client.recv()).await.unwrap().text().unwrap().to_owned());
    }
    all
}

/// `"from"` to `"to"`, less one, as texts.
pub(crate) fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// Polls once, without waiting.
pub(crate) fn is_pending(future: &mut (impl Future + Unpin)) -> bool {
    future.now_or_never().is_none()
}
