//! Pure: what becomes of a machine's request.
//!
//! Must never: let through a method or path that is not listed here.

/// What to do with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Ask the boot service for the same path.
    Forward(Kind),
    /// Send the machine to the partition cache for the same path (RFC 9110 15.4.8: 307).
    Redirect,
    /// Answer with an error.
    Refuse(Refusal),
}

/// What a machine asks the boot service for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The boot script that iPXE chain-loads.
    Script,
    /// metal-hammer's configuration with its token.
    Token,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Not a path that is relayed (404).
    Path,
    /// Not a method that the path takes (405).
    Method,
}

/// Longest path that is relayed, in bytes; metal-stack's longest image path has some 120.
const PATH_MAX: usize = 512;
/// A machine's UUID in its text form (RFC 9562 4).
const UUID_LENGTH: usize = 36;

/// Decides on a request's method and target path with its query.
///
/// | path | metal-stack's name for it |
/// |---|---|
/// | `/boot.ipxe`, `/<partition>/boot.ipxe` | the boot script |
/// | `/certs`, `/config/<machine uuid>` | metal-hammer's configuration, v1 and v2 |
/// | `/metal-stack/kernel/…`, `/metal-stack/metal-hammer/…`, `/metal-hammer/…`, `/metal-os/…` | images |
pub fn decide(method: &str, path: &str, query: Option<&str>) -> Decision {
    let Some(target) = target(path) else {
        return Decision::Refuse(Refusal::Path);
    };
    match (target, method) {
        (Target::Service(kind), "GET") => Decision::Forward(kind),
        // Image URLs have no query; one that has would be cached under another name.
        (Target::Image, "GET" | "HEAD") if query.is_none() => Decision::Redirect,
        (Target::Image, "GET" | "HEAD") => Decision::Refuse(Refusal::Path),
        (Target::Service(_) | Target::Image, _) => Decision::Refuse(Refusal::Method),
    }
}

enum Target {
    Service(Kind),
    Image,
}

fn target(path: &str) -> Option<Target> {
    if path.len() > PATH_MAX || !path.bytes().all(is_plain) {
        return None;
    }
    let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    // Empty and dot segments could mean another path to the server behind.
    if segments.iter().any(|segment| matches!(*segment, "" | "." | "..")) {
        return None;
    }
    match segments.as_slice() {
        ["boot.ipxe"] | [_, "boot.ipxe"] => Some(Target::Service(Kind::Script)),
        ["certs"] => Some(Target::Service(Kind::Token)),
        ["config", uuid] if is_uuid(uuid) => Some(Target::Service(Kind::Token)),
        ["metal-stack", "kernel" | "metal-hammer", _, ..] | ["metal-hammer" | "metal-os", _, ..] => {
            Some(Target::Image)
        }
        _ => None,
    }
}

/// The characters of RFC 3986's paths that metal-stack's paths consist of; no percent-encoding, so nothing can
/// mean something else after decoding.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'-' | b'_' | b'~' | b'+' | b':')
}

fn is_uuid(text: &str) -> bool {
    text.len() == UUID_LENGTH
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UUID: &str = "/config/00000000-0000-0000-0000-525400fea501";

    fn get(path: &str) -> Decision {
        decide("GET", path, None)
    }

    #[test]
    fn scripts_and_tokens_go_to_the_boot_service() {
        assert_eq!(get("/boot.ipxe"), Decision::Forward(Kind::Script));
        assert_eq!(get("/fra-equ01/boot.ipxe"), Decision::Forward(Kind::Script));
        assert_eq!(decide("GET", "/boot.ipxe", Some("mac=52-54")), Decision::Forward(Kind::Script));
        assert_eq!(get("/certs"), Decision::Forward(Kind::Token));
        assert_eq!(get(UUID), Decision::Forward(Kind::Token));
    }

    #[test]
    fn images_go_to_the_cache() {
        for path in [
            "/metal-stack/kernel/releases/download/6.18.38-172/metal-kernel",
            "/metal-stack/metal-hammer/releases/download/v0.15.0/metal-hammer-initrd.img.lz4",
            "/metal-hammer/pull-requests/7/metal-hammer-initrd.img.lz4.md5",
            "/metal-os/stable/debian/12/img.tar.lz4",
        ] {
            assert_eq!(get(path), Decision::Redirect, "{path}");
            assert_eq!(decide("HEAD", path, None), Decision::Redirect, "{path}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
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
            "/config/../certs",
            "/metal-os",
            "/metal-os/",
            "/metal-os/../certs",
            "/metal-stack/other/x",
            "/metal-os/%2e%2e/certs",
            "/metal-os/a\\b",
            "/metal-os/a b",
            "/metal-os/a\u{e9}",
        ] {
            assert_eq!(get(path), Decision::Refuse(Refusal::Path), "{path}");
        }
        assert_eq!(get(&format!("/metal-os/{}", "x".repeat(600))), Decision::Refuse(Refusal::Path));
        assert_eq!(decide("GET", "/metal-os/x", Some("y")), Decision::Refuse(Refusal::Path));
        for method in ["POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "get", ""] {
            assert_eq!(decide(method, "/boot.ipxe", None), Decision::Refuse(Refusal::Method), "{method}");
        }
        assert_eq!(decide("HEAD", "/certs", None), Decision::Refuse(Refusal::Method));
    }

    proptest! {
        #[test]
        fn no_path_panics_or_climbs(path in "\\PC{0,80}") {
            if get(&path) != Decision::Refuse(Refusal::Path) {
                prop_assert!(!path.contains("..") || !path.split('/').any(|segment| segment == ".."));
            }
        }
    }
}
