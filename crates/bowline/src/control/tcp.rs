//! The local API on TCP, for programs that know the token.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;

use super::bounded::Bounded;
use super::server::problem;

/// Connections at a time, one for each program that takes messages, and some more.
const CONNECTIONS: usize = 64;

/// Bytes of randomness in a token.
const TOKEN: usize = 32;

/// The listener, bound and not yet served.
pub(crate) struct Tcp {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
    token: Arc<str>,
}

impl Tcp {
    /// Binds to `address`, and reads the token from the file, which is made if it is not there.
    pub(crate) async fn bind(address: SocketAddr, token_file: &Path) -> anyhow::Result<Self> {
        let token = token(token_file)
            .with_context(|| format!("the token of the local API, {}, cannot be used", token_file.display()))?;
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot offer the local API on {address}: choose another api.listen"))?;
        let address = listener.local_addr()?;
        Ok(Tcp { listener, address, token: token.into() })
    }

    pub(super) async fn serve(self, routes: Router) {
        let routes = routes.layer(from_fn_with_state(self.token, admit));
        if let Err(error) = axum::serve(Bounded::new(self.listener, CONNECTIONS), routes).await {
            tracing::error!(%error, "the local API on TCP stopped");
        }
    }
}

fn token(file: &Path) -> anyhow::Result<String> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Ok(mut new) => {
            let mut bytes = [0; TOKEN];
            getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
            let token = super::hex(&bytes);
            writeln!(new, "{token}")?;
            new.sync_all()?;
            Ok(token)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mode = fs::metadata(file)?.permissions().mode();
            if mode & 0o077 != 0 {
                bail!(
                    "others can read it (mode {:o}): `chmod 600` it, and make a new one if they may have",
                    mode & 0o777
                );
            }
            let token = fs::read_to_string(file)?.trim().to_owned();
            if token.len() < TOKEN {
                bail!("it has {} characters, and {TOKEN} are the least: remove it, and a new one is made", token.len());
            }
            Ok(token)
        }
        Err(error) => Err(error.into()),
    }
}

/// Lets in who knows the token. A browser that was lured here by a name that leads to this machine is sent away
/// before that: it says the name, or where it comes from.
async fn admit(State(token): State<Arc<str>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    if let Err(error) = is_meant(headers) {
        return problem(StatusCode::FORBIDDEN, error);
    }
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given =
        given.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let fits = given.is_some_and(|(_, given)| bool::from(given.trim().as_bytes().ct_eq(token.as_bytes())));
    if !fits {
        let error =
            "expected the header `Authorization: Bearer TOKEN`, with the token in the file that api.token_file names";
        let mut refused = problem(StatusCode::UNAUTHORIZED, error.to_owned());
        refused.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return refused;
    }
    next.run(request).await
}

fn is_meant(headers: &HeaderMap) -> Result<(), String> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !is_numeric_or_local(host) {
        return Err(format!("the request is for {host:?}: expected an IP address, or localhost"));
    }
    let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
    match origin {
        Some(origin) if origin.split_once("://").is_none_or(|(_, from)| from != host) => {
            Err(format!("the request comes from a page of {origin:?}, and pages of others have no business here"))
        }
        _ => Ok(()),
    }
}

fn is_numeric_or_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_anybody_can_point_here_are_no_hosts() {
        for host in ["127.0.0.1:9997", "localhost:9997", "localhost", "[::1]:9997", "10.0.0.1"] {
            assert!(is_numeric_or_local(host), "{host}");
        }
        for host in ["", "evil.example", "evil.example:9997", "127.0.0.1.evil.example", "localhost.evil.example:80"] {
            assert!(!is_numeric_or_local(host), "{host}");
        }
    }

    #[test]
    fn a_token_is_made_once_and_is_for_its_owner_only() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("api-token");
        let made = token(&file).unwrap();
        assert_eq!((made.len(), fs::metadata(&file).unwrap().permissions().mode() & 0o777), (64, 0o600));
        assert_eq!(token(&file).unwrap(), made);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(token(&file).unwrap_err().to_string().contains("chmod 600"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&file, "short").unwrap();
        assert!(token(&file).unwrap_err().to_string().contains("32 are the least"));
    }
}
