//! Pure: what becomes of a machine's request, by method and target.
//!
//! Must never: let through a method that is not listed here, or a path that no route names.

use super::route::{Kind, Routes};

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Not a path that is relayed (404).
    Path,
    /// Not a method that the path takes (405); those that it takes, as `Allow` says them.
    Method(&'static str),
}

/// What a request with this method, path and query is relayed as.
pub fn decide(routes: &Routes, method: &str, path: &str, query: Option<&str>) -> Result<Kind, Refusal> {
    let kind = routes.kind(path).ok_or(Refusal::Path)?;
    let (methods, taken) = match kind {
        Kind::Script | Kind::Token => ("GET", method == "GET"),
        Kind::Image => ("GET, HEAD", matches!(method, "GET" | "HEAD")),
        // Connect's unary methods without side effects may be GET.
        Kind::Api => ("GET, POST", matches!(method, "GET" | "POST")),
    };
    if !taken {
        return Err(Refusal::Method(methods));
    }
    // Image URLs have no query; one that has would be cached under another name.
    if kind == Kind::Image && query.is_some() { Err(Refusal::Path) } else { Ok(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes() -> Routes {
        let pattern = |text: &str| vec![text.parse().unwrap()];
        Routes {
            script: pattern("/boot.ipxe"),
            token: pattern("/certs"),
            image: pattern("/metal-os/**"),
            api: pattern("/api/*"),
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
                let decision = decide(&routes(), method, path, None);
                assert_eq!(decision.is_ok(), allowed.contains(&method), "{method} {path}: {decision:?}");
            }
        }
        assert_eq!(decide(&routes(), "GET", "/other", None), Err(Refusal::Path));
        assert_eq!(decide(&routes(), "POST", "/metal-os/x", None), Err(Refusal::Method("GET, HEAD")));
        assert_eq!(decide(&routes(), "HEAD", "/api/x", None), Err(Refusal::Method("GET, POST")));
        assert_eq!(decide(&routes(), "POST", "/boot.ipxe", None), Err(Refusal::Method("GET")));
    }

    #[test]
    fn a_script_may_have_a_query_and_an_image_may_not() {
        assert_eq!(decide(&routes(), "GET", "/boot.ipxe", Some("mac=52-54")), Ok(Kind::Script));
        assert_eq!(decide(&routes(), "GET", "/metal-os/x", Some("y")), Err(Refusal::Path));
    }
}
