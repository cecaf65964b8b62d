//! A wire that can be cut.

use tokio::io::{copy, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes connections on, as long as it is whole.
pub(crate) struct Wire {
    pub(crate) address: String,
    whole: watch::Sender<bool>,
}

impl Wire {
    pub(crate) async fn to(address: String) -> Self {
        Self::that_loses(usize::MAX, address).await
    }

    /// What comes first from the other end of connection `lost`, counted from 0, is lost, and the connection with it.
    pub(crate) async fn that_loses(lost: usize, address: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let local = listener.local_addr().unwrap().to_string();
        let (whole, state) = watch::channel(true);
        tokio::spawn(async move {
            for number in 0.. {
                let Ok((mut near, _)) = listener.accept().await else { return };
                let (mut state, address) = (state.clone(), address.clone());
                if !*state.borrow() {
                    continue;
                }
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(&address).await else { return };
                    if number == lost {
                        let (mut asking, _) = near.split();
                        let (answers, mut hears) = far.split();
                        tokio::select! {
                            _ = copy(&mut asking, &mut hears) => {}
                            _ = answers.readable() => {}
                        }
                        return;
                    }
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = state.wait_for(|whole| !whole) => {}
                    }
                });
            }
        });
        Wire { address: local, whole }
    }

    /// Ends all connections; there are no new ones.
    pub(crate) fn is_cut(&self) {
        self.whole.send_replace(false);
    }

    pub(crate) fn is_mended(&self) {
        self.whole.send_replace(true);
    }
}
