//! The boot service: gives a machine its boot script, and mints its token.
//!
//! It trusts the leaf's identity headers only, and refuses a request without them.

use std::fs::File;
use std::io::{self, Read};
use std::net::Ipv6Addr;

use hyper::StatusCode;
use serde_json::json;

use super::behaviour::Behaviour;
use super::journal::{Claim, Entry, Journal, Server};
use super::{Answer, Head, plain};
use crate::site;

const TEXT: &str = "text/plain; charset=utf-8";

pub(super) fn answer(head: &Head, behaviour: &Behaviour, journal: &Journal) -> Answer {
    let path = head.request.uri().path();
    let mut token_end = None;
    let answer = match Claim::of(head) {
        None => plain(StatusCode::FORBIDDEN, TEXT, "this request has no identity headers of a leaf\n"),
        Some(claim) => match path.strip_prefix("/config/") {
            Some(uuid) if is_uuid(uuid) => match mint() {
                Ok(token) => {
                    token_end = token.get(token.len() - 6..).map(str::to_owned);
                    plain(StatusCode::OK, "application/json", config(&token))
                }
                Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("no token: {error}\n")),
            },
            None if path == "/boot.ipxe" => match script(&claim, &behaviour.edition) {
                Some(script) => plain(StatusCode::OK, TEXT, script),
                None => plain(StatusCode::BAD_REQUEST, TEXT, "the claim names no IPv6 prefix\n"),
            },
            Some(_) | None => plain(StatusCode::NOT_FOUND, TEXT, "the boot service has no such page\n"),
        },
    };
    let entry = Entry::new(Server::BootService, head, behaviour, answer.status());
    journal.write(&Entry { token_end, ..entry });
    answer
}

/// The boot script. Its paths are relative: they lead to the leaf's relay, which knows the way to the cache.
fn script(claim: &Claim, edition: &str) -> Option<String> {
    let network: Ipv6Addr = claim.prefix.strip_suffix("/64")?.parse().ok()?;
    let gateway = Ipv6Addr::from_bits(network.to_bits() | 1);
    Some(format!(
        "#!ipxe\n\
         echo boot.ipxe {edition} for {leaf} {port}\n\
         kernel {kernel} console=ttyS0,115200n8 initrd=initrd0 PIXIE_API_URL=http://[{gateway}]\n\
         initrd --name initrd0 {initrd}\n\
         boot\n",
        leaf = claim.leaf,
        port = claim.port,
        kernel = site::KERNEL,
        initrd = site::INITRD,
    ))
}

/// metal-stack's answer (v2) to a machine's token request.
fn config(token: &str) -> String {
    json!({
        "debug": false,
        "logging": null,
        "metal_api_url": "",
        "metal_apiserver_token": "",
        "metal_apiserver_token_for_hammer": token,
        "metal_apiserver_url": "https://v2.metal-stack.example",
        "ntp_servers": [],
        "partition": "lab",
        "pixie_api_url": "",
    })
    .to_string()
}

/// 128 random bits as text.
fn mint() -> io::Result<String> {
    let mut random = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(format!("{:032x}", u128::from_be_bytes(random)))
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.concat().bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::{Claim, is_uuid, script};

    #[test]
    fn the_script_sends_the_machine_to_its_own_gateway() {
        let claim = |prefix: &str| Claim {
            leaf: "leaf01".to_owned(),
            port: "Ethernet4".to_owned(),
            prefix: prefix.to_owned(),
        };
        let text = script(&claim("2001:db8:b007:1::/64"), "of today").unwrap();
        assert!(text.starts_with("#!ipxe\necho boot.ipxe of today for leaf01 Ethernet4\n"));
        assert!(text.contains("PIXIE_API_URL=http://[2001:db8:b007:1::1]\n"));
        assert_eq!(script(&claim("2001:db8:b007:1::/65"), ""), None);
    }

    #[test]
    fn only_a_uuid_gets_a_token() {
        assert!(is_uuid("1eaf0000-0000-4000-8000-000000000000"));
        assert!(!is_uuid("1eaf0000-0000-4000-8000-00000000000g"));
        assert!(!is_uuid("../boot.ipxe"));
    }
}
