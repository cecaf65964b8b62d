//! Which hosts may be asked.

use std::str::FromStr;

use url::Url;
use wildmatch::WildMatch;

/// A host of the allow-list: `[scheme://]host[:port]`.
///
/// In the host, `*` stands for any text and `?` for one character. Without a scheme both are allowed, without a
/// port that of the scheme; `:*` is any port.
#[derive(Debug, Clone)]
pub struct HostPattern {
    scheme: Option<&'static str>,
    host: WildMatch,
    port: Port,
}

#[derive(Debug, Clone, Copy)]
enum Port {
    OfTheScheme,
    Any,
    One(u16),
}

/// What is wrong with a [`HostPattern`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pattern:?} is no host: {problem}")]
pub struct HostError {
    pattern: String,
    problem: &'static str,
}

impl FromStr for HostPattern {
    type Err = HostError;

    fn from_str(pattern: &str) -> Result<Self, HostError> {
        let wrong = |problem| HostError { pattern: pattern.to_owned(), problem };
        let (scheme, rest) = match pattern.split_once("://") {
            Some(("http", rest)) => (Some("http"), rest),
            Some(("https", rest)) => (Some("https"), rest),
            Some(_) => return Err(wrong("expected http:// or https:// or no scheme")),
            None => (None, pattern),
        };
        // The colons of an IPv6 address are inside its brackets.
        let colon = rest.rfind(':').filter(|&at| rest.rfind(']').is_none_or(|bracket| bracket < at));
        let (host, port) = match colon {
            Some(at) => (&rest[..at], Some(&rest[at + 1..])),
            None => (rest, None),
        };
        let port = match port {
            None => Port::OfTheScheme,
            Some("*") => Port::Any,
            Some(port) => Port::One(port.parse().map_err(|_| wrong("expected a port of 1 to 65535, or *"))?),
        };
        if host.is_empty() {
            return Err(wrong("expected a name, for example \"api.example.org\" or \"*.example.org\""));
        }
        if !host.is_ascii() {
            return Err(wrong("a name with other letters than ASCII is written as on the wire: xn--…"));
        }
        if host.contains(['/', '@', ' ', '#']) {
            return Err(wrong("expected a host without path and user"));
        }
        if host.contains(':') && !host.starts_with('[') {
            return Err(wrong("an IPv6 address goes into brackets"));
        }
        Ok(HostPattern { scheme, host: WildMatch::new(&host.to_ascii_lowercase()), port })
    }
}

impl HostPattern {
    /// Whether `url` may be asked.
    pub(super) fn matches(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        let port = match (self.port, url.scheme()) {
            (Port::Any, _) => url.port_or_known_default(),
            (Port::One(port), _) => Some(port),
            (Port::OfTheScheme, "http") => Some(80),
            (Port::OfTheScheme, _) => Some(443),
        };
        self.scheme.is_none_or(|scheme| scheme == url.scheme())
            && port == url.port_or_known_default()
            // A name may end with the dot of the root.
            && self.host.matches(host.strip_suffix('.').unwrap_or(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(pattern: &str, url: &str) -> bool {
        pattern.parse::<HostPattern>().unwrap().matches(&Url::parse(url).unwrap())
    }

    #[test]
    fn host_port_and_scheme_are_compared() {
        assert!(allows("api.example.org", "https://api.example.org/x?y"));
        assert!(allows("api.example.org", "http://API.example.org./"));
        assert!(!allows("api.example.org", "http://api.example.org:8080/"));
        assert!(!allows("api.example.org", "http://api.example.org.evil.net/"));
        assert!(!allows("example.org", "http://api.example.org/"));
        assert!(allows("*.example.org", "http://a.b.example.org/"));
        assert!(!allows("*.example.org", "http://example.org/"));
        assert!(!allows("*.example.org", "http://evilexample.org/"));
        assert!(allows("box:8123", "http://box:8123/") && !allows("box:8123", "http://box/"));
        assert!(allows("box:*", "http://box:8123/") && allows("box:*", "https://box/"));
        assert!(allows("https://box", "https://box/") && !allows("https://box", "http://box/"));
        assert!(allows("[2606:4700::1]:80", "http://[2606:4700:0::1]/"));
        assert!(allows("1.1.1.1", "http://0x01010101/"), "the same address in another writing");
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for wrong in ["", "ftp://x", "x:0x", "x:70000", "x/y", "user@x", "::1", "bücher.example", ":80"] {
            assert!(wrong.parse::<HostPattern>().is_err(), "{wrong}");
        }
    }
}
