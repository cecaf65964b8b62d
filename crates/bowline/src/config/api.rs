//! The section about the local API.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::bail;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The local API, for programs on this machine. It is always there on a socket in the data folder, for the
/// server's user only; this is about TCP. See docs/apps/external.md.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Api {
    /// Address on which the API is offered too, to programs that know the token. Default: none.
    #[schemars(example = &"127.0.0.1:9997")]
    pub(crate) listen: Option<SocketAddr>,
    /// File with the token, mode 600; made at the first start. Default: `api-token` in the data folder.
    #[schemars(example = &"bowline-data/api-token")]
    pub(crate) token_file: Option<PathBuf>,
    /// Must be true before the API is offered on an address that the network can reach: the token and
    /// everything else goes over it without encryption.
    pub(crate) network: bool,
}

impl Api {
    pub(crate) fn token_file(&self, data: &Path) -> PathBuf {
        self.token_file.clone().unwrap_or_else(|| data.join("api-token"))
    }

    pub(super) fn check(&self) -> anyhow::Result<()> {
        match self.listen {
            Some(address) if !address.ip().is_loopback() && !self.network => bail!(
                "api.listen = {address} can be reached from the network, and the token goes over it without encryption: \
                 use 127.0.0.1 and let a proxy with TLS in front, or say api.network = true"
            ),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn the_network_gets_the_api_only_when_asked_for() {
        let check = |text: &str| Config::parse(text).unwrap().check();
        assert!(check("[api]\nlisten = \"127.0.0.1:9997\"").is_ok() && check("[api]\nlisten = \"[::1]:9997\"").is_ok());
        let error = check("[api]\nlisten = \"0.0.0.0:9997\"").unwrap_err().to_string();
        assert!(error.contains("api.network = true"), "{error}");
        assert!(check("[api]\nlisten = \"0.0.0.0:9997\"\nnetwork = true").is_ok());
    }
}
