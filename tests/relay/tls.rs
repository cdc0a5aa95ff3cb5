//! TLS on both sides: the listener's certificate, the origins' trust roots, the leaf's own certificate.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use leafboot::internals::relay::lifecycle::ServiceStage;

use super::partition::{Relayed, closed_origin, ok};
use super::support::cable::Cable;
use super::support::eventually;

/// A certificate authority whose root lies in a directory as `ca.crt`.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(directory: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, directory.display().to_string());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(directory.join("ca.crt"), issuer.pem()).unwrap();
        Self(issuer)
    }

    /// Writes `<stem>.crt` and `<stem>.key` for a name.
    fn issue(&self, directory: &Path, stem: &str, name: &str) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        std::fs::write(directory.join(format!("{stem}.key")), key.serialize_pem()).unwrap();
        std::fs::write(directory.join(format!("{stem}.crt")), certificate.pem()).unwrap();
    }
}

/// A boot service over TLS that takes only clients of its own authority; says how many it has answered.
fn boot_service(directory: &Path) -> String {
    let read = |name: &str| directory.join(name);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(read("ca.crt")).unwrap()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(
            vec![CertificateDer::from_pem_file(read("boot.crt")).unwrap()],
            PrivateKeyDer::from_pem_file(read("boot.key")).unwrap(),
        )
        .unwrap();
    let listener = TcpListener::bind("[::]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = Arc::new(config);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, stream.unwrap());
            let mut head = [0; 4096];
            if stream.read(&mut head).is_ok_and(|read| read > 0) {
                let _ = stream.write_all(&ok("#!ipxe\n# over TLS\n"));
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    format!("https://localhost:{port}")
}

fn settings(origin: &str, directory: &Path, client: Option<&str>) -> String {
    let directory = directory.display();
    let own = client.map_or(String::new(), |stem| {
        format!(", certificate = \"{directory}/{stem}.crt\", key = \"{directory}/{stem}.key\"")
    });
    format!("[relay.boot_service]\norigins = [\"{origin}\"]\ntls = {{ ca = \"{directory}/ca.crt\"{own} }}\n")
}

#[test]
fn the_boot_service_knows_the_leaf_by_its_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let authority = Authority::new(directory);
    authority.issue(directory, "boot", "localhost");
    authority.issue(directory, "leaf", "leaf01");
    let cable = Cable::plug();
    let origin = boot_service(directory);
    let relayed = Relayed::with(cable, &settings(&origin, directory, Some("leaf")));
    let answer = relayed.curl(&["/boot.ipxe"]);
    assert!(answer.starts_with("200") && answer.contains("# over TLS"), "{answer}");
    // A certificate that the boot service does not know, and a good one in its place.
    let other = tempfile::tempdir().unwrap();
    Authority::new(other.path()).issue(directory, "leaf", "leaf01");
    eventually("the bad certificate is taken up", || relayed.curl(&["/boot.ipxe"]).starts_with("503"));
    authority.issue(directory, "leaf", "leaf01");
    eventually("the good certificate is taken up", || relayed.curl(&["/boot.ipxe"]).starts_with("200"));
    // Another authority is to be trusted, and then the first one again.
    let root = std::fs::read(directory.join("ca.crt")).unwrap();
    std::fs::copy(other.path().join("ca.crt"), directory.join("ca.crt")).unwrap();
    eventually("the changed root is taken up", || relayed.curl(&["/boot.ipxe"]).contains("UnknownIssuer"));
    std::fs::write(directory.join("ca.crt"), root).unwrap();
    eventually("the old root is taken up", || relayed.curl(&["/boot.ipxe"]).starts_with("200"));
}

#[test]
fn a_leaf_without_its_certificate_is_refused_and_so_is_a_server_without_a_trusted_one() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let authority = Authority::new(directory);
    authority.issue(directory, "boot", "localhost");
    let cable = Cable::plug();
    let origin = boot_service(directory);
    let relayed = Relayed::with(cable, &settings(&origin, directory, None));
    let answer = relayed.ipxe("/boot.ipxe");
    assert!(answer.contains("boot service: ") && answer.contains(":again"), "{answer}");
    // Another authority: the server's certificate is not to be trusted.
    let other = tempfile::tempdir().unwrap();
    Authority::new(other.path());
    let cable = Cable::plug();
    let origin = boot_service(directory);
    let relayed = Relayed::with(cable, &settings(&origin, other.path(), None));
    let answer = relayed.curl(&["/boot.ipxe"]);
    assert!(answer.starts_with("503") && answer.contains("UnknownIssuer"), "{answer}");
}

/// A relay over TLS with the directory's `relay.crt`, and these further keys of `[relay]`.
fn relayed(directory: &Path, further: &str) -> Relayed {
    let display = directory.display();
    let settings = format!(
        "[relay]\ntls = {{ certificate = \"{display}/relay.crt\", key = \"{display}/relay.key\" }}\n{further}\
         [relay.boot_service]\norigins = [\"{}\"]\n",
        closed_origin(),
    );
    Relayed::with(Cable::plug(), &settings)
}

/// The answer to a machine's image request to a relay of this name.
fn image(relayed: &Relayed, directory: &Path, name: &str) -> String {
    let ca = directory.join("ca.crt");
    let to = format!("{name}:443:[2001:db8:b007::1]");
    let url = format!("https://{name}/metal-os/x");
    let all = ["-sSi", "-m", "8", "--cacert", ca.to_str().unwrap(), "--resolve", &to, &url];
    relayed.cable.machine("curl", &all)
}

#[test]
fn a_port_that_shakes_hands_too_often_waits_and_is_served() {
    let directory = tempfile::tempdir().unwrap();
    Authority::new(directory.path()).issue(directory.path(), "relay", "leaf.example");
    let relayed = relayed(directory.path(), "requests = 20\n");
    let begun = Instant::now();
    for _ in 0..4 {
        let answer = image(&relayed, directory.path(), "leaf.example");
        assert!(answer.contains("307 "), "{answer}");
    }
    assert!(
        begun.elapsed() > Duration::from_secs(1),
        "a handshake costs as ten requests: {:?}",
        begun.elapsed()
    );
}

#[test]
fn a_machine_may_ask_for_an_address_as_ipxe_does() {
    let directory = tempfile::tempdir().unwrap();
    Authority::new(directory.path()).issue(directory.path(), "relay", "leaf.example");
    let relayed = relayed(directory.path(), "");
    let session = directory.path().join("session");
    let (ca, session) = (directory.path().join("ca.crt"), session.to_str().unwrap().to_owned());
    let ask = |name: &str, further: &[&str]| {
        let mut all = vec![
            "s_client",
            "-connect",
            "[2001:db8:b007::1]:443",
            "-servername",
            name,
            "-verify_return_error",
            "-CAfile",
            ca.to_str().unwrap(),
            "-ign_eof",
        ];
        all.extend(further);
        let mut command = relayed.cable.command("openssl");
        let mut child = command
            .args(&all)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let request = b"GET /metal-os/x HTTP/1.1\r\nHost: leaf\r\nConnection: close\r\n\r\n";
        child.stdin.take().unwrap().write_all(request).unwrap();
        String::from_utf8_lossy(&child.wait_with_output().unwrap().stdout).into_owned()
    };
    let long = "x".repeat(255);
    for name in ["[2001:db8:b007::1]", "[fe80::1%25net0]", "2001:db8:b007::1", "leaf.example", "a b", &long] {
        // P-521 first: the server asks for another key, and there is a second ClientHello.
        for further in [["-tls1_2", "-no_ticket"], ["-tls1_3", "-no_ticket"], ["-groups", "P-521:X25519"]] {
            let answer = ask(name, &further);
            assert!(answer.contains("HTTP/1.1 307 "), "{name} {further:?}: {answer}");
        }
    }
    // iPXE may know only the root's fingerprint, so the relay sends an appended root.
    let certificate = directory.path().join("relay.crt");
    let chain = [std::fs::read(&certificate).unwrap(), std::fs::read(&ca).unwrap()].concat();
    std::fs::write(&certificate, chain).unwrap();
    eventually("the root is sent, too", || {
        ask("leaf.example", &["-showcerts"]).matches("BEGIN CERTIFICATE").count() == 2
    });
    // A session that is taken up again is proven by a hash of the ClientHello.
    assert!(ask("[2001:db8:b007::1]", &["-sess_out", &session]).contains("HTTP/1.1 307 "));
    let again = ask("[2001:db8:b007::1]", &["-sess_in", &session]);
    assert!(again.contains("Reused, TLSv1.3") && again.contains("HTTP/1.1 307 "), "{again}");
}

#[test]
fn a_failed_handshake_is_logged_and_counted_by_its_reason() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    authority.issue(directory.path(), "relay", "leaf.example");
    let relayed = relayed(directory.path(), "");
    // A machine that trusts another authority, one that speaks HTTP, and one that hangs up.
    let other = tempfile::tempdir().unwrap();
    Authority::new(other.path());
    assert!(image(&relayed, other.path(), "leaf.example").contains("curl: (60)"));
    relayed.cable.machine("curl", &["-sS", "-m", "4", "-g", "http://[2001:db8:b007::1]:443/boot.ipxe"]);
    relayed.cable.inside(|| drop(TcpStream::connect("[2001:db8:b007::1]:443").unwrap())).join().unwrap();
    for reason in ["refused", "malformed", "closed"] {
        let counted =
            format!("leafboot_relay_handshake_failures_total{{port=\"Ethernet0\",reason=\"{reason}\"}} 1\n");
        eventually(&counted, || relayed.metrics.text().contains(&counted));
    }
    let log = relayed.log();
    let said: Vec<&str> =
        log.lines().filter(|line| line.contains("WARN") && line.contains("handshake")).collect();
    assert_eq!(said.len(), 3, "{log}");
    assert!(said.iter().all(|line| line.contains("port=Ethernet0") && line.contains("reason=")), "{said:?}");
    assert!(said.iter().any(|line| line.contains("UnknownCA")), "{said:?}");
}

#[test]
fn a_handshake_ends_with_its_port() {
    let directory = tempfile::tempdir().unwrap();
    Authority::new(directory.path()).issue(directory.path(), "relay", "leaf.example");
    let relayed = relayed(directory.path(), "");
    let open = |count| {
        let connections = format!("leafboot_relay_connections{{port=\"Ethernet0\"}} {count}\n");
        eventually(&connections, || relayed.metrics.text().contains(&connections));
    };
    open(0);
    let connect = || TcpStream::connect("[2001:db8:b007::1]:443").unwrap();
    let silent = relayed.cable.inside(connect).join().unwrap();
    open(1);
    relayed.enter(ServiceStage::Released);
    // Sooner than a silent machine is given up.
    open(0);
    drop(silent);
}

#[test]
fn machines_are_served_over_tls_and_a_new_certificate_is_taken_up() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let authority = Authority::new(directory);
    authority.issue(directory, "relay", "first.example");
    let relayed = relayed(directory, "");
    let get = |name: &str| image(&relayed, directory, name);
    assert!(get("first.example").contains("307 "), "{}", get("first.example"));
    assert!(get("second.example").contains("SSL"), "another name's certificate");
    std::fs::write(directory.join("relay.crt"), "half a file").unwrap();
    assert!(get("first.example").contains("307 "), "the last good one stays");
    authority.issue(directory, "relay", "second.example");
    eventually("the new certificate is taken up", || get("second.example").contains("307 "));
}
