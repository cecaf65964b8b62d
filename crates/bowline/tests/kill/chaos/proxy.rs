//! A network that is worse than that of the kernel: late, in pieces, out of order, or gone without a word.

use std::io::BufRead as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The environment variable with a proxy's [`Post`].
pub(super) const POST: &str = "BOWLINE_CHAOS_POST";

/// What a proxy is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Post {
    pub(super) listen: SocketAddr,
    pub(super) server: SocketAddr,
}

/// What it does with what passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Mode {
    Passes,
    /// Everything comes later, by up to so many milliseconds, in order.
    Late(u64),
    /// What a connection has sent comes when others are there already, and after its end.
    Behind(u64),
    /// One byte, one packet.
    Bytes,
    /// It takes what comes, and it is gone, and so is all that comes later on these connections.
    Swallows,
    /// It takes nothing.
    Stalls,
    /// Connections are reset, and there are no new ones.
    Resets,
}

struct Proxy {
    post: Post,
    mode: watch::Receiver<Mode>,
    seed: AtomicU64,
}

/// Plays the proxy until its input ends.
pub(super) fn run(post: Post) {
    let (tell, mode) = watch::channel(Mode::Passes);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            tell.send_replace(serde_json::from_str(&line).expect("a mode is what the test wrote"));
        }
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind(post.listen).await.unwrap();
        let proxy = Arc::new(Proxy { post, mode, seed: AtomicU64::new(1) });
        loop {
            // Without descriptors there is nothing to accept.
            if let Ok((near, _)) = listener.accept().await {
                let proxy = Arc::clone(&proxy);
                tokio::spawn(async move {
                    let _ = proxy.passes(near).await;
                });
            }
        }
    });
}

impl Proxy {
    async fn passes(&self, near: TcpStream) -> std::io::Result<()> {
        if *self.mode.borrow() == Mode::Resets {
            return SockRef::from(&near).set_linger(Some(Duration::ZERO));
        }
        let far = TcpStream::connect(self.post.server).await?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        let mut mode = self.mode.clone();
        let (mut from_near, mut to_near) = near.into_split();
        let (mut from_far, mut to_far) = far.into_split();
        let both = async {
            let _ = tokio::join!(self.copies(&mut from_near, &mut to_far), self.copies(&mut from_far, &mut to_near));
        };
        let is_reset = tokio::select! {
            () = both => false,
            reset = mode.wait_for(|mode| *mode == Mode::Resets) => reset.is_ok(),
        };
        if is_reset {
            for end in [to_near.as_ref(), to_far.as_ref()] {
                SockRef::from(end).set_linger(Some(Duration::ZERO))?;
            }
        }
        Ok(())
    }

    async fn copies(&self, from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf) -> std::io::Result<()> {
        let mut random = fastrand::Rng::with_seed(self.seed.fetch_add(1, Ordering::Relaxed));
        let mut mode = self.mode.clone();
        let mut bytes = [0; 4096];
        let mut is_gone = false;
        loop {
            let _ = mode.wait_for(|mode| *mode != Mode::Stalls).await;
            let size = from.read(&mut bytes).await?;
            if size == 0 {
                return to.shutdown().await;
            }
            let now = *mode.borrow();
            // Nothing has holes on a network.
            is_gone |= now == Mode::Swallows;
            match now {
                _ if is_gone => continue,
                Mode::Late(most) => tokio::time::sleep(Duration::from_millis(random.u64(0..=most))).await,
                // Some connections more, some not at all.
                Mode::Behind(most) if random.bool() => tokio::time::sleep(Duration::from_millis(most)).await,
                Mode::Bytes => {
                    for byte in &bytes[..size] {
                        to.write_all(&[*byte]).await?;
                        tokio::task::yield_now().await;
                    }
                    continue;
                }
                _ => {}
            }
            to.write_all(&bytes[..size]).await?;
        }
    }
}
