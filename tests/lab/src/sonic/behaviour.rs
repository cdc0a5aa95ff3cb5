//! How one switch differs from another: the release of swss that it runs, and how long its ASIC takes.
//!
//! Owns: those differences, as settings of the model. Must never: have a daemon's rules; those are in the daemon's own
//! file.

use std::time::Duration;

/// By default, other clients see ASIC_DB between the SAI calls for a rule.
const SAI_CALLS_APART: bool = true;

/// The behaviour of the model. The default is swss's newest code on an ASIC that takes no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub struct Behaviour {
    /// Which release's swss the model follows
    #[arg(long, value_enum, default_value = "head")]
    pub release: SonicRelease,
    /// Whether each SAI call about an ACL rule is a step of its own, after which others see ASIC_DB
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, default_value_t = SAI_CALLS_APART)]
    pub sai_calls_apart: bool,
    /// How many milliseconds each SAI call about ACLs takes; with any, they are apart
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub sai_delay_ms: u64,
    /// How many milliseconds after a start of swss orchagent comes to its router interfaces
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub interfaces_after_ms: u64,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            release: SonicRelease::default(),
            sai_calls_apart: SAI_CALLS_APART,
            sai_delay_ms: 0,
            interfaces_after_ms: 0,
        }
    }
}

/// The words of an order.
#[derive(clap::Parser)]
#[command(no_binary_name = true)]
struct Words {
    #[command(flatten)]
    behaviour: Behaviour,
}

impl Behaviour {
    /// Reads the model's own arguments, as `--release r202511 --sai-delay-ms 60`. What is not named has its default.
    pub fn from_words(words: &str) -> Result<Self, clap::Error> {
        let words = <Words as clap::Parser>::try_parse_from(words.split_whitespace())?;
        Ok(words.behaviour)
    }

    /// Does orchagent stop in each SAI call about a rule?
    pub fn stops_in_sai_calls(self) -> bool {
        self.sai_calls_apart || self.sai_delay_ms > 0
    }

    /// How long one SAI call about ACLs takes.
    pub fn sai_delay(self) -> Duration {
        Duration::from_millis(self.sai_delay_ms)
    }

    /// How long after a start of swss orchagent comes to its router interfaces.
    pub fn interfaces_after(self) -> Duration {
        Duration::from_millis(self.interfaces_after_ms)
    }
}

/// A release of swss, as far as leafboot can tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, clap::ValueEnum)]
pub enum SonicRelease {
    /// 202511 and before: a task that throws ends the daemon, and with it the container. ACL rules are worked off by
    /// key, the DEL of a key before its SET.
    R202511,
    /// 202605: a task that throws stays queued for ever, and so does everything sorted behind it. ACL rules as before.
    R202605,
    /// The branch master at e6b0c5b5d: tasks as in 202605. A batch of ACL rules is worked off as all DELs by ascending
    /// priority, then all SETs by descending priority.
    #[default]
    Head,
}

impl SonicRelease {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::R202511, Self::R202605, Self::Head];

    /// Does a daemon live on when one of its tasks throws?
    // sonic-swss orchagent/orch.cpp: Consumer::drain, since cb37c0453 (#4469, 2026-04-16)
    pub fn outlives_a_throwing_task(self) -> bool {
        self >= Self::R202605
    }

    /// Are ACL rules worked off in the order of their priorities?
    // sonic-swss orchagent/aclorch.cpp: AclOrch::doAclRuleTask, since 8b5508b6a (#4209, 2026-07-09)
    pub fn sorts_rules_by_priority(self) -> bool {
        self >= Self::Head
    }

    /// Does orchagent move a loopback without addresses into another VRF?
    // sonic-swss orchagent/intfsorch.cpp: IntfsOrch::doTask, since 4e596dc48 (#4758, 2026-07-21)
    pub fn moves_loopbacks(self) -> bool {
        self >= Self::R202605
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_arguments_of_the_command() {
        let read = Behaviour::from_words("--release r202511 --sai-delay-ms 60").unwrap();
        let expected = Behaviour { release: SonicRelease::R202511, sai_delay_ms: 60, ..Behaviour::default() };
        assert_eq!(read, expected);
        assert_eq!(Behaviour::from_words("").unwrap(), Behaviour::default());
        assert!(Behaviour::from_words("--sai-calls-apart true").unwrap().stops_in_sai_calls());
        assert!(Behaviour::from_words("--release r1999").is_err());
    }
}
