//! The two text formats of metrics, and which of them a scraper wants.
//!
//! - OpenMetrics 1.0, which `prometheus-client` writes.
//! - Prometheus' own text format 0.0.4, "classic" here. It has no `# UNIT` and no `# EOF`, and a counter's `# TYPE` has the
//!   counter's whole name.
//!
//! Must never: change a sample.

/// A text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4.
    Classic,
}

/// A format's media type, its subtype, and the version that leafboot writes.
type Media = (&'static str, &'static str, &'static str);

const OPEN_METRICS: Media = ("application", "openmetrics-text", "1.0.0");
const CLASSIC: Media = ("text", "plain", "0.0.4");

impl Format {
    /// The format for these values of `Accept` (RFC 9110 12.5.1). A client without a preference gets the classic format, which
    /// every tool reads.
    pub fn accepted<'a>(accept: impl IntoIterator<Item = &'a str>) -> Self {
        let ranges: Vec<Range> =
            accept.into_iter().flat_map(|value| value.split(',')).filter_map(Range::parse).collect();
        let weight = |media| {
            let matching = ranges.iter().filter(|range| range.has(media));
            // The most specific range counts, whatever its weight.
            let key = |range: &&Range| (range.is_exact(), range.kind != "*", range.weight);
            matching.max_by_key(key).map_or((false, 0), |range| (range.is_exact(), range.weight))
        };
        let ((is_named, open_metrics), (_, classic)) = (weight(OPEN_METRICS), weight(CLASSIC));
        let is_wanted = open_metrics > classic || (is_named && open_metrics == classic && classic > 0);
        if is_wanted { Self::OpenMetrics } else { Self::Classic }
    }

    /// The value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// One range of `Accept`, such as `text/plain;version=0.0.4;q=0.5`.
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    version: Option<&'a str>,
    /// `q` in thousandths.
    weight: u16,
}

impl<'a> Range<'a> {
    /// None: it is not a range.
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let mut range = Self { kind, subtype, version: None, weight: 1000 };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            if name.eq_ignore_ascii_case("q") {
                range.weight = weight(value)?;
            } else if name.eq_ignore_ascii_case("version") {
                range.version = Some(value.trim_matches('"'));
            }
        }
        Some(range)
    }

    fn has(&self, (kind, subtype, version): Media) -> bool {
        let is = |range: &str, own: &str| range == "*" || range.eq_ignore_ascii_case(own);
        is(self.kind, kind)
            && is(self.subtype, subtype)
            && self.version.is_none_or(|wanted| wanted == version)
    }

    fn is_exact(&self) -> bool {
        self.subtype != "*"
    }
}

/// A weight from `0` to `1` with at most three decimals (RFC 9110 12.4.2), in thousandths.
fn weight(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if !decimals.bytes().all(|byte| byte.is_ascii_digit()) || decimals.len() > 3 {
        return None;
    }
    let thousandths: u16 = format!("{decimals:0<3}").parse().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

/// OpenMetrics' text in the classic format.
pub fn classic(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    // A counter's help has the name that its type line has, and comes before that.
    let mut help = None;
    for line in open_metrics.lines() {
        if line.starts_with("# HELP ") {
            help = Some(line);
        } else if let Some(metric) = line.strip_prefix("# TYPE ") {
            let suffix = if metric.ends_with(" counter") { "_total" } else { "" };
            for line in help.take().into_iter().chain([line]) {
                push_described(&mut text, line, suffix);
            }
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// Appends a line such as `# HELP name text`, with `suffix` after the name.
fn push_described(text: &mut String, line: &str, suffix: &str) {
    let mut words = line.splitn(4, ' ');
    for word in words.by_ref().take(2) {
        text.push_str(word);
        text.push(' ');
    }
    text.push_str(words.next().unwrap_or_default());
    text.push_str(suffix);
    text.push(' ');
    text.push_str(words.next().unwrap_or_default());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Prometheus 2.42 and 3 send.
    const PROMETHEUS_2: &str = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    const PROMETHEUS_3: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,/;q=0.1";

    #[test]
    fn a_scraper_gets_the_format_that_it_prefers() {
        use Format::{Classic, OpenMetrics};
        for (accept, format) in [
            ("", Classic),
            ("*/*", Classic),
            ("text/plain", Classic),
            ("text/html, */*;q=0.8", Classic),
            ("application/json", Classic),
            ("application/openmetrics-text", OpenMetrics),
            ("Application/OpenMetrics-Text; version=\"1.0.0\"; charset=utf-8", OpenMetrics),
            ("application/openmetrics-text;version=0.0.1", Classic),
            ("application/openmetrics-text;q=0", Classic),
            ("application/openmetrics-text;q=0.5,text/plain", Classic),
            ("application/openmetrics-text;q=0.5,text/*;q=0.4", OpenMetrics),
            ("application/openmetrics-text, */*", OpenMetrics),
            ("application/*", OpenMetrics),
            ("application/openmetrics-text;q=2,text/plain;q=0.1", Classic),
            (PROMETHEUS_2, OpenMetrics),
            (PROMETHEUS_3, OpenMetrics),
        ] {
            assert_eq!(Format::accepted([accept]), format, "{accept}");
        }
        assert_eq!(Format::accepted([]), Classic);
        assert_eq!(Format::accepted(["text/plain;q=0.1", "application/openmetrics-text"]), OpenMetrics);
    }

    #[test]
    fn the_classic_format_names_counters_whole_and_has_no_units() {
        let open_metrics = "# HELP a_bytes Bytes.\n# TYPE a_bytes counter\n# UNIT a_bytes bytes\n\
                            a_bytes_total{port=\"x\"} 7\n# HELP b Two words.\n# TYPE b gauge\nb 1\n# EOF\n";
        let expected = "# HELP a_bytes_total Bytes.\n# TYPE a_bytes_total counter\na_bytes_total{port=\"x\"} 7\n\
                        # HELP b Two words.\n# TYPE b gauge\nb 1\n";
        assert_eq!(classic(open_metrics), expected);
    }
}
