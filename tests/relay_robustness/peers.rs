//! What Debian 12's nginx and HAProxy are known to fail, in the order of the cases.

/// nginx 1.22.1.
pub const NGINX: &[&str] = &[];

/// HAProxy 2.6.12.
pub const HAPROXY: &[&str] = &[];
