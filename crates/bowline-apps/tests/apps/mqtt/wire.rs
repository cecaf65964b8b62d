//! A wire that can be cut.

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes connections on, as long as it is whole.
pub(crate) struct Wire {
    pub(crate) address: String,
    whole: watch::Sender<bool>,
}

impl Wire {
    pub(crate) async fn to(address: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let local = listener.local_addr().unwrap().to_string();
        let (whole, state) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (mut state, address) = (state.clone(), address.clone());
                if !*state.borrow() {
                    continue;
                }
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(&address).await else { return };
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
