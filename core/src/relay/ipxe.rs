//! iPXE scripts: the retry script, which prints an error and requests the boot script again, and the note in a stale script.
//!
//! Must never: put text into a script that iPXE would interpret as a command, an operator or a variable.

use std::fmt::Write;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::names::PortName;

/// A script begins with one of these, followed by white space (iPXE `script.c: script_probe`).
const MAGICS: [&[u8]; 2] = [b"#!ipxe", b"#!gpxe"];
/// Most characters of a reason on a console.
const LINE_MAX: usize = 240;
/// How often in a row a machine tries to get a boot script: about a minute while leafboot answers.
const TRIES: u32 = 10;
/// The iPXE setting that counts the tries. It survives when one script replaces another.
const COUNTER: &str = "leafboot-tries";

/// Why a boot script is unavailable, for the machine's console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unavailable<'a> {
    /// The leaf's name.
    pub leaf: &'a str,
    /// The port.
    pub port: &'a PortName,
    /// The reason.
    pub reason: &'a str,
    /// The present time, as text.
    pub time: &'a str,
    /// Seconds until the machine tries again, at least 1.
    pub wait: u64,
}

/// Whether a client runs iPXE scripts, by its `User-Agent`.
pub fn is_ipxe(user_agent: &str) -> bool {
    user_agent.starts_with("iPXE/")
}

/// Whether iPXE would run this as a script. With anything else, such as an error page, the machine stops booting.
pub fn is_script(bytes: &[u8]) -> bool {
    MAGICS.iter().any(|magic| {
        let rest = bytes.strip_prefix(*magic);
        rest.and_then(<[u8]>::first).is_some_and(|next| next.is_ascii_whitespace() || *next == b'\x0b')
    })
}

/// The images that a boot script names, by their paths.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptImages {
    kernel: Option<Box<str>>,
    initrds: Vec<Box<str>>,
}

impl ScriptImages {
    /// The most initrds that are stored.
    const INITRDS_MAX: usize = 4;
    /// The longest path that is stored, in bytes.
    const PATH_MAX: usize = 96;

    /// The images of a script's `kernel` and `initrd` commands. A URL with a variable is skipped.
    pub fn of(script: &[u8]) -> Self {
        let mut images = Self::default();
        for line in String::from_utf8_lossy(script).lines() {
            let mut words = line.split_whitespace();
            let command = words.next();
            let url = words.find(|word| !word.starts_with("--"));
            let Some(path) = url.and_then(path_of) else { continue };
            match command {
                Some("kernel") => images.kernel = Some(path.into()),
                Some("initrd" | "module" | "imgfetch") if images.initrds.len() < Self::INITRDS_MAX => {
                    images.initrds.push(path.into());
                }
                _ => {}
            }
        }
        images
    }

    /// Whether a request's path is the kernel's.
    pub fn is_kernel(&self, path: &str) -> bool {
        self.kernel.as_deref() == Some(path)
    }

    /// Whether a request's path is an initrd's.
    pub fn is_initrd(&self, path: &str) -> bool {
        self.initrds.iter().any(|initrd| &**initrd == path)
    }
}

/// The path of a URL, or of a reference that begins with a path.
fn path_of(url: &str) -> Option<&str> {
    let path = match url.split_once("://") {
        Some((_, rest)) => &rest[rest.find('/')?..],
        None => url,
    };
    let path = path.split(['?', '#']).next()?;
    let is_usable = path.starts_with('/') && path.len() <= ScriptImages::PATH_MAX && !path.contains('$');
    is_usable.then_some(path)
}

/// The retry script: it prints the reason, waits, and requests `target` (path and query) again. `--replace` and `--autofree`
/// keep iPXE's stack and memory from growing. If no script comes, it prints the reason again with its time, and has iPXE
/// solicit a Router Advertisement: the port may have another prefix by now, and iPXE takes an advertisement only while
/// `ifconf` runs (`ndp.c: ipv6conf_rx_router_advertisement`). After [`TRIES`] tries in a row the script fails, and the script
/// or firmware that had fetched the first one continues, because a machine may have a second leaf.
pub fn retry(unavailable: &Unavailable, target: &str) -> Vec<u8> {
    let Unavailable { leaf, port, reason, time, wait } = unavailable;
    let (leaf, reason, time) = (printable(leaf), printable(reason), printable(time));
    format!(
        "#!ipxe\n\
         echo\n\
         echo leafboot on {leaf} {port} at {time}: {reason}\n\
         :again\n\
         inc {COUNTER}\n\
         iseq ${{{COUNTER}}} {TRIES} && goto elsewhere ||\n\
         echo asking again in {wait} s\n\
         sleep {wait}\n\
         chain --autofree --replace {} || ifconf -c ipv6 ||\n\
         echo no script from leafboot on {leaf} {port}; at {time} it said: {reason}\n\
         goto again\n\
         :elsewhere\n\
         echo leafboot on {leaf} {port}: {TRIES} times no boot script, so the script before this one goes on\n\
         clear {COUNTER}\n\
         exit 1\n",
        escaped(target),
    )
    .into_bytes()
}

/// A stale script that first prints the reason and its age.
pub(super) fn aged(script: &[u8], unavailable: &Unavailable, age: Duration) -> Vec<u8> {
    let Unavailable { leaf, port, reason, time, .. } = unavailable;
    let note = format!(
        "echo leafboot on {} {port} at {}: {}\necho this boot script is {} s old\n",
        printable(leaf),
        printable(time),
        printable(reason),
        age.as_secs(),
    );
    let first_line = script.iter().position(|byte| *byte == b'\n').map_or(script.len(), |end| end + 1);
    let (magic, commands) = script.split_at(first_line);
    [magic.strip_suffix(b"\n").unwrap_or(magic), b"\n", note.as_bytes(), commands].concat()
}

/// Text for iPXE's `echo`: without variables (`${…}`), operators and control characters, at most [`LINE_MAX`] characters.
fn printable(text: &str) -> String {
    let plain = |c: char| match c {
        '$' | '`' | '|' | '&' | '#' => '.',
        c if c.is_ascii_graphic() || c == ' ' => c,
        c if c.is_whitespace() => ' ',
        _ => '?',
    };
    text.chars().take(LINE_MAX).map(plain).collect()
}

/// A request's target as one word of a script.
fn escaped(target: &str) -> String {
    let mut word = String::new();
    for byte in target.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => word.push(char::from(byte)),
            b'/' | b'?' | b'&' | b'=' | b':' | b'.' | b'-' | b'_' | b'~' | b'+' | b',' | b'%' | b'@' => {
                word.push(char::from(byte));
            }
            _ => {
                let _ = write!(word, "%{byte:02X}");
            }
        }
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unavailable<'a>(port: &'a PortName, reason: &'a str) -> Unavailable<'a> {
        Unavailable { leaf: "leaf01", port, reason, time: "2026-11-22T14:00:00Z", wait: 5 }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_machine_is_told_what_is_wrong_and_asks_again() {
        let port = "Ethernet0".parse().unwrap();
        let script = retry(&unavailable(&port, "no route to host"), "/boot.ipxe?mac=52-54");
        assert_eq!(
            String::from_utf8(script).unwrap(),
            "#!ipxe\necho\n\
             echo leafboot on leaf01 Ethernet0 at 2026-11-22T14:00:00Z: no route to host\n\
             :again\ninc leafboot-tries\niseq ${leafboot-tries} 10 && goto elsewhere ||\n\
             echo asking again in 5 s\nsleep 5\n\
             chain --autofree --replace /boot.ipxe?mac=52-54 || ifconf -c ipv6 ||\n\
             echo no script from leafboot on leaf01 Ethernet0; at 2026-11-22T14:00:00Z it said: no route to host\n\
             goto again\n\
             :elsewhere\n\
             echo leafboot on leaf01 Ethernet0: 10 times no boot script, so the script before this one goes on\n\
             clear leafboot-tries\nexit 1\n"
        );
    }

    #[test]
    fn what_ipxe_would_run_is_a_script() {
        for script in [&b"#!ipxe\n"[..], b"#!ipxe\r\nboot\r\n", b"#!ipxe # comment\n", b"#!gpxe\nboot"] {
            assert!(is_script(script), "{script:?}");
        }
        for other in
            [&b""[..], b"#!ipxe", b"#!ipxes\n", b" #!ipxe\n", b"\xef\xbb\xbf#!ipxe\n", b"<html>", b"{}"]
        {
            assert!(!is_script(other), "{other:?}");
        }
    }

    #[test]
    fn a_script_names_its_images() {
        let script = b"#!ipxe\nkernel --name k http://[2001:db8::90]:80/metal-stack/kernel?x ip=dhcp\n\
            initrd /metal-hammer/initrd.img.lz4\ninitrd ${base}/x\nboot\n";
        let images = ScriptImages::of(script);
        assert!(!images.is_kernel("k") && !images.is_initrd("/x"));
        assert!(images.is_initrd("/metal-hammer/initrd.img.lz4"));
        let script = b"#!ipxe\nkernel http://cache/metal-stack/kernel console=ttyS0\n";
        assert!(ScriptImages::of(script).is_kernel("/metal-stack/kernel"));
        assert_eq!(ScriptImages::of(&[0xff; 100]), ScriptImages::default());
    }

    #[test]
    fn a_note_comes_after_the_first_line_whatever_its_end() {
        let port = "Ethernet0".parse().unwrap();
        for (script, first, last) in [
            (&b"#!ipxe\r\nboot\r\n"[..], "#!ipxe\r\necho ", " s old\nboot\r\n"),
            (b"#!ipxe # comment\nboot", "#!ipxe # comment\necho ", " s old\nboot"),
            (b"#!ipxe ", "#!ipxe \necho ", " s old\n"),
        ] {
            let noted = String::from_utf8(aged(script, &unavailable(&port, "away"), seconds(1))).unwrap();
            assert!(noted.starts_with(first) && noted.ends_with(last), "{noted:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_breaks_out_of_its_line(reason in "\\PC{0,300}|[\\x00-\\x7f]{0,300}", target in "/[\\x21-\\x7e]{0,80}") {
            let port = "Ethernet0".parse().unwrap();
            let script = String::from_utf8(retry(&unavailable(&port, &reason), &target)).unwrap();
            prop_assert!(script.is_ascii());
            // What a reason and a target may change is words within their own lines.
            let plain = String::from_utf8(retry(&unavailable(&port, "reason"), "/target")).unwrap();
            prop_assert_eq!(script.lines().count(), plain.lines().count());
            // iPXE takes them for operators as words of their own only, and for a setting where there is a dollar.
            let special = |line: &str| {
                let operators = line.split_whitespace().filter(|word| matches!(*word, "||" | "&&"));
                (operators.count(), line.matches('$').count())
            };
            for (line, plain) in script.lines().zip(plain.lines()) {
                prop_assert_eq!(special(line), special(plain));
                match plain.find("reason").or(plain.find("/target")) {
                    Some(begin) => prop_assert!(line.starts_with(&plain[..begin])),
                    None => prop_assert_eq!(line, plain),
                }
                if !plain.starts_with("echo") {
                    prop_assert_eq!(line.split(' ').count(), plain.split(' ').count());
                }
            }
        }
    }
}
