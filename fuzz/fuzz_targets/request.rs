//! Fuzzes the checks of a request's head. No input may cause a panic, no path is relayed that a server could read as
//! another one, no part lies outside of its image, and no header with a name of leafboot's is forwarded.
#![no_main]

use leafboot_core::relay::forwarded;
use leafboot_core::relay::ipxe;
use leafboot_core::relay::ranges::{self, Conditions, Part};
use leafboot_core::relay::validate::{self, Head};
use leafboot_core::relay::validators::Version;
use leafboot_core::relay::{
    kinds::{Kind, Routes},
    pattern::Pattern,
};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // Each line is the value of a header.
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let first_two = [lines.first().copied(), lines.get(1).copied()];
    for (hosts, lengths) in [(first_two, [None; 2]), ([Some(&b"leaf"[..]), None], first_two)] {
        let head = Head { is_1_1: true, hosts, lengths, ..Head::default() };
        if validate::check(&head).is_ok() {
            assert_eq!(lines.len(), 1, "a header that may come once only came twice");
            let _ = validate::check_body(Kind::Api, &head);
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let lines: Vec<&str> = text.split('\n').collect();
    let _ = ipxe::is_ipxe(text);

    let image: Vec<Pattern> = "/**".parse().into_iter().collect();
    let routes = Routes { image, ..Routes::default() };
    if routes.kind(text).is_some() {
        assert!(text.starts_with('/') && !text.contains("//") && !text.contains('%'));
        assert!(text.split('/').all(|segment| segment != "." && segment != ".."));
    }

    // These inputs get a valid beginning, which the fuzzer would rarely find.
    let line = |number: usize| lines.get(number).map(|line| (*line).to_owned());
    let (range, if_range, if_none_match) = (Some(format!("bytes={}", lines[0])), line(1), line(2));
    let conditions = Conditions { range, if_range, if_none_match, if_modified_since: line(3) };
    let version = Version { etag: Some("\"v\"".to_owned()), ..Version::default() };
    for length in [0, 10, u64::MAX] {
        if let Part::Slice { first, last } = ranges::part(&conditions, &version, length) {
            assert!(first <= last && last < length);
        }
    }
    let _ = ranges::starts_late(&conditions);

    for kind in [Kind::Script, Kind::Token, Kind::Image, Kind::Api] {
        let connection = line(1).unwrap_or_default();
        let _ = forwarded::passes(kind, lines[0], &connection);
        assert!(!forwarded::passes(kind, &format!("leafboot-{}", lines[0]), &connection));
    }
});
