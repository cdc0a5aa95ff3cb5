//! The identifier of an attempt, and how addresses are spelled in the kept file.
//!
//! Must never: be zero. A trace id may not be (W3C Trace Context 3.2.2.3).

use std::fmt;

use serde::{Deserialize, Serialize};

/// An attempt's identifier: the value of `leafboot-session`, and the trace id of all its requests. 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AttemptId(u128);

impl AttemptId {
    /// An identifier of random bits, all but the last, which is set.
    pub fn new(random: u128) -> Self {
        Self(random | 1)
    }

    /// The trace id of OpenTelemetry.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl From<AttemptId> for String {
    fn from(id: AttemptId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for AttemptId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match u128::from_str_radix(&text, 16) {
            Ok(id) if is_hex && id != 0 => Ok(Self(id)),
            _ => Err("not 32 hexadecimal digits"),
        }
    }
}

/// An optional Ethernet address as text.
pub(super) mod mac {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::names::Mac;

    pub fn serialize<S: Serializer>(mac: &Option<Mac>, serializer: S) -> Result<S::Ok, S::Error> {
        mac.map(|mac| mac.to_string()).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Mac>, D::Error> {
        let text: Option<String> = Option::deserialize(deserializer)?;
        Ok(text.as_deref().and_then(parse))
    }

    fn parse(text: &str) -> Option<Mac> {
        let bytes: Vec<u8> =
            text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<_, _>>().ok()?;
        Some(Mac(bytes.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_has_32_digits_and_is_never_zero() {
        assert_eq!(AttemptId::new(0).to_string(), "00000000000000000000000000000001");
        let id = AttemptId::new(u128::MAX - 1);
        assert_eq!(AttemptId::try_from(id.to_string()), Ok(id));
        for bad in ["", "0", "00000000000000000000000000000000", "+0000000000000000000000000000001"] {
            assert!(AttemptId::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
