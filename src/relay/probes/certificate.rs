//! How long a certificate in a PEM file is still valid.
//!
//! Must never: read a key.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use x509_parser::pem::Pem;

/// The seconds until the certificate that expires first in `path` is no longer valid; negative: since then.
pub(super) fn seconds_left(path: &Path) -> Result<i64, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok(expiry(path)?.saturating_sub(i64::try_from(now).unwrap_or(i64::MAX)))
}

/// When the certificate that expires first in `path` is no longer valid, in seconds since the Unix epoch.
pub(super) fn expiry(path: &Path) -> Result<i64, String> {
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    let mut ends = Vec::new();
    for pem in Pem::iter_from_buffer(&text) {
        let pem = pem.map_err(|error| error.to_string())?;
        if pem.label == "CERTIFICATE" {
            let certificate = pem.parse_x509().map_err(|error| error.to_string())?;
            ends.push(certificate.validity().not_after.timestamp());
        }
    }
    Ok(ends.into_iter().min().ok_or("it has no certificate")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_says_how_long_it_is_valid() {
        let mut parameters = rcgen::CertificateParams::new(vec!["leaf01.example".to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(2020, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("certificate.pem");
        std::fs::write(&path, certificate.pem()).unwrap();
        assert!(seconds_left(&path).unwrap() < 0);
        assert_eq!(expiry(&path), Ok(1_577_836_800));
        std::fs::write(&path, key.serialize_pem()).unwrap();
        assert_eq!(seconds_left(&path).unwrap_err(), "it has no certificate");
    }
}
