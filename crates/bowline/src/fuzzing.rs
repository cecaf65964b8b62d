//! Where the fuzzers of `fuzz/` get in: what the program does with bytes that others have written.

use std::future::pending;
use std::io;

use axum::serve::Listener;
use bowline_server::Keys;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::config::Config;
use crate::control;
use crate::external::Externals;
use crate::hub::Hub;

/// Reads a configuration and checks it, as far as no other file is needed for that. Says what is wrong.
///
/// # Errors
/// If it is not right, for people.
pub fn configuration(text: &str) -> Result<(), String> {
    Config::checked(text).map(drop).map_err(|error| format!("{error:#}"))
}

/// A server without a store, of which the device `board` and the external app `garden` (ident 7) are known.
pub struct LocalApi {
    api: control::Api,
}

impl LocalApi {
    /// Starts it on the current runtime, with a port of its own on loopback.
    ///
    /// # Errors
    /// If the server does not start.
    pub async fn start() -> Result<Self, String> {
        let text = "listen = [\"127.0.0.1:0\"]\ndevices.expected = [\"board\"]\nlimits.outbox = 4\n\
                    [[apps.external]]\nident = 7\nname = \"garden\"\n";
        let config = Config::checked(text).map_err(|error| error.to_string())?;
        let (keys, hub, externals) = (Keys::default(), Hub::new(), Externals::new(&config));
        let builder = externals
            .all()
            .fold(config.builder(), |builder, external| builder.app(external.ident, &external.name, external.app()));
        let server = builder.keys(keys.clone()).start().await.map_err(|error| error.to_string())?;
        Ok(LocalApi { api: control::Api { server, keys, hub, externals } })
    }

    /// Answers one connection, for ever.
    pub async fn serve(&self, connection: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        // Accepting never fails, so that serving does not either.
        let _ = axum::serve(One(Some(connection)), control::routes(self.api.clone())).await;
    }

    /// The server ends, and its links with it.
    pub async fn stop(self) {
        self.api.externals.stop();
        drop(self.api.server.shutdown(std::time::Duration::ZERO).await);
    }
}

/// A listener at which one connection arrives.
struct One<C>(Option<C>);

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> Listener for One<C> {
    type Io = C;
    type Addr = ();

    async fn accept(&mut self) -> (C, ()) {
        match self.0.take() {
            Some(connection) => (connection, ()),
            None => pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}
