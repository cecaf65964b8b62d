//! Asking hosts on the network.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderValue, LOCATION};
use reqwest::redirect::Policy;
use reqwest::{Method, Response, StatusCode};
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use rustls_platform_verifier::Verifier;
use tokio::time::Instant;
use url::{Host, Url};

use super::address::{Network, may_connect};
use super::answer::{Answer, Code, Problem};
use super::request::{Request, check_url, read_url};
use super::{HttpSettings, HttpSetupError};

/// Most addresses of a name that are tried.
const ADDRESSES: usize = 8;

/// Finds the addresses of a name. The port is not used.
pub(super) type Lookup = Arc<dyn Fn(String) -> Pin<Box<dyn Future<Output = Found> + Send>> + Send + Sync>;
type Found = io::Result<Vec<SocketAddr>>;

/// The system's way to find addresses.
pub(super) fn system_lookup() -> Lookup {
    Arc::new(|name| Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) }))
}

/// A client that reaches what the settings allow, and nothing else.
#[derive(Debug)]
pub(super) struct Client {
    client: reqwest::Client,
    settings: HttpSettings,
}

impl Client {
    pub(super) fn new(settings: HttpSettings, lookup: Lookup) -> Result<Self, HttpSetupError> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(&settings)?)
            .dns_resolver(Arc::new(Filter { lookup, networks: settings.networks.clone() }))
            // What the environment says about proxies would lead past the filter.
            .no_proxy()
            // Each hop has to be allowed.
            .redirect(Policy::none())
            .referer(false)
            .http1_only()
            .user_agent(concat!("bowline/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(settings.idle)
            .read_timeout(settings.idle)
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(2)
            .build()
            .map_err(HttpSetupError::Client)?;
        Ok(Client { client, settings })
    }

    pub(super) fn settings(&self) -> &HttpSettings {
        &self.settings
    }

    /// Asks, and follows redirects, until `deadline`. When the future is dropped, or fails, the host asked may
    /// have acted all the same.
    pub(super) async fn ask(
        &self,
        request: &Request,
        key: Option<HeaderValue>,
        deadline: Instant,
    ) -> Result<Answer, Problem> {
        tokio::time::timeout_at(deadline, self.follow(request, key)).await.unwrap_or_else(|_| {
            Err(Problem::new(Code::Timeout, format!("no whole answer within {:?}", self.settings.total)))
        })
    }

    async fn follow(&self, request: &Request, key: Option<HeaderValue>) -> Result<Answer, Problem> {
        let mut url = request.url.clone();
        let mut method = request.method.clone();
        let mut headers = request.headers.clone();
        let mut body = request.body.clone();
        if let Some(key) = key {
            headers.entry("idempotency-key").or_insert(key);
        }
        for _ in 0..=self.settings.redirects {
            self.check(&url)?;
            let asked = self.client.request(method.clone(), url.clone()).headers(headers.clone());
            let asked = if body.is_empty() { asked } else { asked.body(body.clone()) };
            let response = asked.send().await.map_err(|error| problem(&error))?;
            let Some(next) = next_hop(&url, &response)? else {
                return self.read(response).await;
            };
            let status = response.status();
            let to_get = status == StatusCode::SEE_OTHER && method != Method::HEAD
                || matches!(status, StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND) && method == Method::POST;
            if to_get {
                method = Method::GET;
                body.clear();
                forget_body(&mut headers);
            }
            if next.origin() != url.origin() {
                // What proves the board to one host is none of another's business.
                headers.remove(AUTHORIZATION);
                headers.remove(COOKIE);
            }
            url = next;
        }
        let most = self.settings.redirects;
        Err(Problem::new(Code::Redirects, format!("more than {most} redirects, the next one to {}", host_of(&url))))
    }

    /// Whether the settings let this be asked. Addresses of names are checked when they are looked up; a
    /// host that is an address is not looked up.
    fn check(&self, url: &Url) -> Result<(), Problem> {
        check_url(url)?;
        if !self.settings.allow.iter().any(|pattern| pattern.matches(url)) {
            let detail = format!("{} is not in the server's list of hosts (apps.http.allow)", host_of(url));
            return Err(Problem::new(Code::NotAllowed, detail));
        }
        let address: Option<IpAddr> = match url.host() {
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
            Some(Host::Domain(_)) | None => None,
        };
        match address {
            Some(address) if !may_connect(address, &self.settings.networks) => Err(Refused.into()),
            _ => Ok(()),
        }
    }

    async fn read(&self, mut response: Response) -> Result<Answer, Problem> {
        let most = self.settings.body_bytes;
        let (mut body, mut cut) = (Vec::new(), false);
        while let Some(chunk) = response.chunk().await.map_err(|error| problem(&error))? {
            let room = most - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                // The rest is not waited for: the connection ends here.
                cut = true;
                break;
            }
        }
        Ok(Answer { status: response.status().as_u16(), headers: std::mem::take(response.headers_mut()), body, cut })
    }
}

/// Where a redirect leads; `None` if it is none.
fn next_hop(from: &Url, response: &Response) -> Result<Option<Url>, Problem> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = response.headers().get(LOCATION) else { return Ok(None) };
    let wrong = || Problem::new(Code::Redirects, format!("{} redirects to what is no URL", host_of(from)));
    let location = location.to_str().map_err(|_| wrong())?;
    let next = from.join(location).map_err(|_| wrong())?;
    let next = read_url(next.as_str()).map_err(|problem| Problem { code: Code::NotAllowed, ..problem })?;
    if from.scheme() == "https" && next.scheme() == "http" {
        let detail = format!("{} redirects from https to http", host_of(from));
        return Err(Problem::new(Code::NotAllowed, detail));
    }
    Ok(Some(next))
}

fn forget_body(headers: &mut HeaderMap) {
    for name in ["content-type", "content-encoding", "content-language", "content-location", "idempotency-key"] {
        headers.remove(name);
    }
}

/// What of a URL may be said to people: neither path nor query, which may have secrets.
pub(super) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or("?");
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Trusts the system's roots, and those of the settings.
fn tls(settings: &HttpSettings) -> Result<ClientConfig, HttpSetupError> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = Vec::new();
    for path in &settings.roots {
        let wrong = |problem: String| HttpSetupError::Roots { path: path.clone(), problem };
        let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            roots.push(certificate.map_err(|error| wrong(error.to_string()))?);
        }
        if roots.len() == before {
            return Err(wrong("there is no certificate in it".to_owned()));
        }
    }
    let verifier = Verifier::new_with_extra_roots(roots, Arc::clone(&provider)).map_err(HttpSetupError::Tls)?;
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(HttpSetupError::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

/// Looks names up, and lets only those addresses through that may be connected to. What is connected to is
/// what was checked: there is no second look-up in between that could say something else.
struct Filter {
    lookup: Lookup,
    networks: Vec<Network>,
}

impl Resolve for Filter {
    fn resolve(&self, name: Name) -> Resolving {
        let found = (self.lookup)(name.as_str().to_owned());
        let networks = self.networks.clone();
        Box::pin(async move {
            let found = found.await.map_err(NoName)?;
            let any = !found.is_empty();
            let allowed: Vec<_> =
                found.into_iter().filter(|address| may_connect(address.ip(), &networks)).take(ADDRESSES).collect();
            match (allowed.is_empty(), any) {
                (false, _) => Ok(Box::new(allowed.into_iter()) as Addrs),
                (true, true) => Err(Refused.into()),
                (true, false) => Err(NoName(io::ErrorKind::NotFound.into()).into()),
            }
        })
    }
}

/// The address is not public, nor one of the settings' networks. It is not told: a board is not to find
/// out what is in the server's network.
#[derive(Debug, thiserror::Error)]
#[error("its address is not a public one, and in none of the server's networks (apps.http.networks)")]
struct Refused;

#[derive(Debug, thiserror::Error)]
#[error("the name has no address")]
struct NoName(#[source] io::Error);

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        Problem::new(Code::NotAllowed, refused.to_string())
    }
}

/// What has gone wrong, by the cause that says it best.
fn problem(error: &reqwest::Error) -> Problem {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    let mut words = String::new();
    while let Some(error) = cause {
        if let Some(Refused) = error.downcast_ref::<Refused>() {
            return Refused.into();
        }
        if let Some(no_name) = error.downcast_ref::<NoName>() {
            return Problem::new(Code::Dns, no_name.to_string());
        }
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Problem::new(Code::Tls, error.to_string());
        }
        if let Some(io) = error.downcast_ref::<io::Error>() {
            if io.kind() == io::ErrorKind::ConnectionRefused {
                return Problem::new(Code::Refused, "nobody listens there");
            }
            // An error inside an I/O error is not among its sources.
            if let Some(inner) = io.get_ref() {
                cause = Some(inner);
                continue;
            }
        }
        words = error.to_string();
        cause = error.source();
    }
    if error.is_timeout() {
        return Problem::new(Code::Timeout, "nothing came for too long");
    }
    if words.contains("too large") {
        return Problem::new(Code::TooLarge, "the head of the answer is too large");
    }
    let code = if error.is_connect() { Code::Unreachable } else { Code::BadAnswer };
    Problem::new(code, words)
}
