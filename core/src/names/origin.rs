//! A checked type for the origin of an HTTP server: scheme, host and port.
//!
//! Must never: accept a path, a user or a fragment. An origin names a server, not a resource.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use thiserror::Error;

/// Why a text is not the origin of an HTTP server.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{text:?} is not an HTTP origin such as http://[2001:db8::80]:8080 or https://boot.example: {reason}"
)]
pub struct OriginError {
    text: String,
    reason: &'static str,
}

/// The origin of an HTTP server: `http://host[:port]` or `https://host[:port]`, without a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HttpOrigin {
    tls: bool,
    host: String,
    port: u16,
}

impl HttpOrigin {
    /// Whether connections use TLS (`https`).
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// The host to connect to: a name, an IPv4 address, or an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The TCP port. The default is 80 for `http` and 443 for `https`.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The value of the `Host` header (RFC 9110 7.2). It has the port only if that is not the scheme's default.
    pub fn authority(&self) -> String {
        if self.port == default_port(self.tls) {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// The scheme's default port (RFC 9110 4.2.1, 4.2.2).
fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

impl FromStr for HttpOrigin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let wrong = |reason| OriginError { text: text.to_owned(), reason };
        let (tls, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            (None, None) => return Err(wrong("it must start with http:// or https://")),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = split_authority(authority).ok_or(wrong("the port is not a number"))?;
        if let Some(literal) = host.strip_prefix('[') {
            let address = literal.strip_suffix(']').and_then(|a| a.parse::<Ipv6Addr>().ok());
            address.ok_or(wrong("there is no IPv6 address in the brackets"))?;
        } else if host.is_empty()
            || !host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
        {
            return Err(wrong("the host has characters that a host name cannot have"));
        }
        if port == Some(0) {
            return Err(wrong("0 is not a port to connect to"));
        }
        Ok(Self { tls, host: host.to_owned(), port: port.unwrap_or(default_port(tls)) })
    }
}

/// Splits `host[:port]`. The host keeps the brackets of an IPv6 literal. None if the port is not a number.
fn split_authority(authority: &str) -> Option<(&str, Option<u16>)> {
    let literal_end = authority.rfind(']').map_or(0, |end| end + 1);
    match authority[literal_end..].find(':') {
        None => Some((authority, None)),
        Some(colon) => {
            let (host, port) = authority.split_at(literal_end + colon);
            Some((host, Some(port[1..].parse().ok()?)))
        }
    }
}

impl fmt::Display for HttpOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_keep_host_and_port_and_refuse_paths() {
        let literal: HttpOrigin = "http://[2001:db8::80]:8080".parse().unwrap();
        assert_eq!((literal.host(), literal.port()), ("2001:db8::80", 8080));
        assert_eq!(literal.authority(), "[2001:db8::80]:8080");
        let name: HttpOrigin = "http://images.metal-stack.io/".parse().unwrap();
        assert_eq!(name.to_string(), "http://images.metal-stack.io");
        let secure: HttpOrigin = "https://boot.example".parse().unwrap();
        assert_eq!((secure.port(), secure.is_tls()), (443, true));
        assert_eq!(secure.to_string(), "https://boot.example");
        for bad in [
            "ftp://a",
            "http://",
            "https://",
            "http://a/b",
            "http://a:x",
            "http://a:0",
            "http://[x]",
            "http://a@b",
        ] {
            assert!(bad.parse::<HttpOrigin>().is_err(), "{bad}");
        }
    }
}
