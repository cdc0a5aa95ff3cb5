//! The policy table: one row for each kind of request, with its methods, body, headers and deadline.
//!
//! Must never: allow a method, a header or a body that the kind's row does not name, or a path that no route names.

use std::fmt;
use std::time::Duration;

use super::pattern::{self, Pattern};

/// The kind of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The boot script that iPXE chain-loads.
    Script,
    /// metal-hammer's configuration with its token.
    Token,
    /// A kernel, an initrd or an OS image.
    Image,
    /// metal-apiserver.
    Api,
}

/// The rules for all requests of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The kind in logs and metrics.
    pub name: &'static str,
    /// The methods that are relayed, as `Allow` lists them (RFC 9110 10.2.1).
    pub methods: &'static str,
    /// Whether the target may have a query.
    pub query: bool,
    /// The most bytes of the request's body; 0: no body is allowed.
    pub body_max: u64,
    /// The machine's headers that upstreams get, in lower case. A server could take any other for a header of a proxy
    /// (`X-Client-IP`, `Remote-User`).
    pub headers: &'static [&'static str],
    /// The longest time until the answer is complete; none: no limit while bytes flow.
    pub deadline: Option<Duration>,
    /// Whether a failed request may be sent again (RFC 9110 9.2.2).
    pub idempotent: bool,
}

const SCRIPT: Policy = Policy {
    name: "script",
    methods: "GET",
    query: true,
    body_max: 0,
    headers: &["accept", "accept-language", "user-agent"],
    deadline: Some(Duration::from_secs(60)),
    idempotent: true,
};

/// The boot service makes a token for one request, so a request that failed is not sent again. The machine starts
/// anew.
const TOKEN: Policy =
    Policy { name: "token", deadline: Some(Duration::from_millis(4500)), idempotent: false, ..SCRIPT };

/// An image's URL has no query. An image with a query would be cached a second time.
const IMAGE: Policy = Policy {
    name: "image",
    methods: "GET, HEAD",
    query: false,
    body_max: 0,
    headers: &["accept", "user-agent", "range", "if-range", "if-none-match", "if-modified-since"],
    deadline: None,
    idempotent: true,
};

/// Connect's unary methods without side effects may be GET. The headers are HTTP's for content and conditions, those of
/// Connect (Connect Protocol Reference, «Unary Request», «Streaming Request») and of gRPC-Web (gRPC over HTTP2, «Requests»;
/// gRPC Web).
const API: Policy = Policy {
    name: "api",
    methods: "GET, POST",
    query: true,
    // A request to metal-apiserver has some kilobytes.
    body_max: 4 * 1024 * 1024,
    headers: &[
        "accept",
        "accept-encoding",
        "accept-language",
        "authorization",
        "user-agent",
        "content-type",
        "content-encoding",
        "content-language",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        "connect-protocol-version",
        "connect-timeout-ms",
        "connect-content-encoding",
        "connect-accept-encoding",
        "grpc-timeout",
        "grpc-encoding",
        "grpc-accept-encoding",
        "x-grpc-web",
        "x-user-agent",
    ],
    deadline: None,
    idempotent: false,
};

impl Kind {
    /// The kind's row of the table.
    pub fn policy(self) -> &'static Policy {
        match self {
            Self::Script => &SCRIPT,
            Self::Token => &TOKEN,
            Self::Image => &IMAGE,
            Self::Api => &API,
        }
    }

    /// The kind in logs and metrics.
    pub fn as_str(self) -> &'static str {
        self.policy().name
    }
}

impl Policy {
    fn allows(&self, method: &str) -> bool {
        self.methods.split(", ").any(|allowed| allowed == method)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The path patterns of each kind. A path that several kinds match belongs to the first one, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Routes {
    /// Boot scripts.
    pub script: Vec<Pattern>,
    /// Configurations with tokens.
    pub token: Vec<Pattern>,
    /// Images.
    pub image: Vec<Pattern>,
    /// metal-apiserver's methods.
    pub api: Vec<Pattern>,
}

impl Routes {
    /// The kind of a path; none if the path is not relayed.
    pub fn kind(&self, path: &str) -> Option<Kind> {
        if !pattern::is_relayed(path) {
            return None;
        }
        let mut kinds = self.kinds().into_iter();
        kinds.find_map(|(kind, patterns)| patterns.iter().any(|p| p.matches(path)).then_some(kind))
    }

    fn kinds(&self) -> [(Kind, &[Pattern]); 4] {
        [
            (Kind::Script, &self.script),
            (Kind::Token, &self.token),
            (Kind::Image, &self.image),
            (Kind::Api, &self.api),
        ]
    }
}

/// All patterns, for the answer to a path that is not relayed.
impl fmt::Display for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.kinds().into_iter().flat_map(|(_, patterns)| patterns);
        f.write_str(&all.map(ToString::to_string).collect::<Vec<_>>().join(", "))
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No route names the path, or the kind allows no query (404).
    Path,
    /// The kind does not allow the method (405). The methods that it allows, as `Allow` lists them.
    Method(&'static str),
}

/// The kind of a request with this method, path and query.
pub fn kind_of(routes: &Routes, method: &str, path: &str, query: Option<&str>) -> Result<Kind, Refusal> {
    let kind = routes.kind(path).ok_or(Refusal::Path)?;
    let policy = kind.policy();
    if !policy.allows(method) {
        return Err(Refusal::Method(policy.methods));
    }
    if query.is_some() && !policy.query { Err(Refusal::Path) } else { Ok(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::pattern::PATH_MAX;
    use proptest::prelude::*;

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn routes() -> Routes {
        Routes {
            script: patterns(&["/boot.ipxe", "/*/boot.ipxe"]),
            token: patterns(&["/certs", "/config/{uuid}"]),
            image: patterns(&["/metal-stack/kernel/**", "/metal-os/**"]),
            api: patterns(&["/metalstack.infra.v2.BootService/*"]),
        }
    }

    #[test]
    fn every_kind_has_its_paths() {
        for (path, kind) in [
            ("/boot.ipxe", Kind::Script),
            ("/fra-equ01/boot.ipxe", Kind::Script),
            ("/certs", Kind::Token),
            ("/config/00000000-0000-0000-0000-525400fea501", Kind::Token),
            ("/metal-stack/kernel/releases/download/6.18.38-172/metal-kernel", Kind::Image),
            ("/metal-os/stable/debian/12/img.tar.lz4", Kind::Image),
            ("/metalstack.infra.v2.BootService/Wait", Kind::Api),
        ] {
            assert_eq!(routes().kind(path), Some(kind), "{path}");
        }
    }

    #[test]
    fn other_paths_have_no_kind() {
        for path in [
            "",
            "/",
            "/index.html",
            "boot.ipxe",
            "//boot.ipxe",
            "/a/b/boot.ipxe",
            "/../boot.ipxe",
            "/boot.ipxe/",
            "/config/",
            "/config/x",
            "/config/00000000-0000-0000-0000-525400fea5011",
            "/config/00000000-0000-0000-0000-525400fea501/x",
            "/certsx",
            "/certs/x",
            "/metal-osx/y",
            "/config/../certs",
            "/metal-os",
            "/metal-os/",
            "/metal-os/../certs",
            "/metal-os/%2e%2e/certs",
            "/metal-os/a\\b",
            "/metal-os/a b",
            "/metal-os/a\u{e9}",
            "/metal-stack/other/x",
            "/metalstack.infra.v2.BootService/Wait/x",
        ] {
            assert_eq!(routes().kind(path), None, "{path}");
        }
        assert_eq!(routes().kind(&format!("/metal-os/{}", "x".repeat(600))), None);
    }

    proptest! {
        #[test]
        fn a_path_is_matched_if_and_only_if_its_segments_are_plain(
            path in "(/(\\.{1,3}|[a-z*]{0,3}|\\.?[a-z]\\.{0,2}|metal-os|certs)){0,5}|\\PC{0,80}"
        ) {
            let any = Routes { image: patterns(&["/**"]), ..Routes::default() };
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_~+:".contains(&byte);
            let legal = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(plain);
            let is_legal = path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(legal));
            prop_assert_eq!(any.kind(&path).is_some(), is_legal && path.len() <= PATH_MAX, "{}", path);
        }
    }

    fn plain_routes() -> Routes {
        Routes {
            script: patterns(&["/boot.ipxe"]),
            token: patterns(&["/certs"]),
            image: patterns(&["/metal-os/**"]),
            api: patterns(&["/api/*"]),
        }
    }

    #[test]
    fn each_kind_takes_its_methods_only() {
        for (path, allowed) in [
            ("/boot.ipxe", &["GET"][..]),
            ("/certs", &["GET"]),
            ("/metal-os/x", &["GET", "HEAD"]),
            ("/api/x", &["GET", "POST"]),
        ] {
            for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "get", ""] {
                let decision = kind_of(&plain_routes(), method, path, None);
                assert_eq!(decision.is_ok(), allowed.contains(&method), "{method} {path}: {decision:?}");
            }
        }
        assert_eq!(kind_of(&plain_routes(), "GET", "/other", None), Err(Refusal::Path));
        assert_eq!(kind_of(&plain_routes(), "POST", "/metal-os/x", None), Err(Refusal::Method("GET, HEAD")));
        assert_eq!(kind_of(&plain_routes(), "HEAD", "/api/x", None), Err(Refusal::Method("GET, POST")));
        assert_eq!(kind_of(&plain_routes(), "POST", "/boot.ipxe", None), Err(Refusal::Method("GET")));
    }

    #[test]
    fn a_script_may_have_a_query_and_an_image_may_not() {
        assert_eq!(kind_of(&plain_routes(), "GET", "/boot.ipxe", Some("mac=52-54")), Ok(Kind::Script));
        assert_eq!(kind_of(&plain_routes(), "GET", "/metal-os/x", Some("y")), Err(Refusal::Path));
    }
}
