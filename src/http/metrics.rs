//! `/metrics` as text: OpenMetrics for whoever asks for it, Prometheus' own format otherwise. And the reference of all metrics.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::ports::metrics::list::{Kind, METRICS, Metric, SECONDS};
use crate::ports::metrics::{Histogram, Seen};

/// How a page is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    OpenMetrics,
    Prometheus,
}

impl Format {
    /// What a scraper that accepts this gets.
    pub fn for_accept(header: &str) -> Self {
        if header.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Prometheus }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    fn family(self, metric: &Metric) -> &'static str {
        if self == Self::OpenMetrics { metric.family() } else { metric.name }
    }

    fn kind(self, kind: Kind) -> &'static str {
        match kind {
            Kind::Info if self == Self::Prometheus => "gauge",
            kind => kind.name(),
        }
    }
}

/// A value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    Whole(i64),
    /// Told in seconds.
    Micros(i64),
}

impl Number {
    pub fn flag(on: bool) -> Self {
        Self::Whole(i64::from(on))
    }

    /// Counters wrap around nowhere: beyond 2^63 they stand still.
    pub fn count(count: u64) -> Self {
        Self::Whole(i64::try_from(count).unwrap_or(i64::MAX))
    }

    pub fn time(time: std::time::Duration) -> Self {
        Self::Micros(i64::try_from(time.as_micros()).unwrap_or(i64::MAX))
    }

    fn text(self) -> String {
        match self {
            Self::Whole(number) => number.to_string(),
            Self::Micros(micros) => {
                let (sign, micros) = (if micros < 0 { "-" } else { "" }, micros.unsigned_abs());
                let part = format!("{:06}", micros % 1_000_000);
                let part = part.trim_end_matches('0');
                let part = if part.is_empty() { "0" } else { part };
                format!("{sign}{}.{part}", micros / 1_000_000)
            }
        }
    }
}

/// Samples, to be written in the order of the list.
#[derive(Debug, Default)]
pub struct Page(BTreeMap<&'static str, Vec<Sample>>);

#[derive(Debug)]
struct Sample {
    suffix: &'static str,
    labels: Vec<(&'static str, String)>,
    value: Number,
}

impl Page {
    /// One sample. `labels`: values, in the order of the metric's labels.
    pub fn put(&mut self, metric: &'static Metric, labels: &[&str], value: Number) {
        self.add(metric, "", labels, None, value);
    }

    /// All samples of a histogram.
    pub fn put_times(&mut self, metric: &'static Metric, labels: &[&str], histogram: &Histogram) {
        let Seen { up_to, count, sum } = histogram.seen();
        for (bound, count) in up_to {
            let bound = Number::Micros(i64::try_from(bound).unwrap_or(i64::MAX)).text();
            self.add(metric, "_bucket", labels, Some(bound), Number::count(count));
        }
        self.add(metric, "_bucket", labels, Some("+Inf".to_owned()), Number::count(count));
        self.add(metric, "_count", labels, None, Number::count(count));
        self.add(metric, "_sum", labels, None, Number::Micros(i64::try_from(sum).unwrap_or(i64::MAX)));
    }

    fn add(&mut self, metric: &'static Metric, suffix: &'static str, values: &[&str], le: Option<String>, value: Number) {
        let named = metric.labels.iter().copied().zip(values.iter().map(|value| (*value).to_owned()));
        let labels = named.chain(le.map(|bound| ("le", bound))).collect();
        self.0.entry(metric.name).or_default().push(Sample { suffix, labels, value });
    }

    /// The text. A metric without a sample is left out.
    pub fn render(&self, format: Format) -> String {
        let mut text = String::new();
        for metric in METRICS {
            let Some(samples) = self.0.get(metric.name) else { continue };
            let family = format.family(metric);
            let _ = writeln!(text, "# HELP {family} {}", escaped(metric.help));
            let _ = writeln!(text, "# TYPE {family} {}", format.kind(metric.kind));
            if metric.unit == SECONDS {
                let _ = writeln!(text, "# UNIT {family} {SECONDS}");
            }
            for Sample { suffix, labels, value } in samples {
                let _ = write!(text, "{}{suffix}", metric.name);
                for (n, (label, value)) in labels.iter().enumerate() {
                    let _ = write!(text, "{}{label}=\"{}\"", if n == 0 { '{' } else { ',' }, escaped(value));
                }
                let _ = writeln!(text, "{} {}", if labels.is_empty() { "" } else { "}" }, value.text());
            }
        }
        if format == Format::OpenMetrics {
            text.push_str("# EOF\n");
        }
        text
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Every metric with its type, unit, labels and meaning, in Markdown: `rebilld metrics reference`, docs/metrics.md.
pub fn reference() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         Generated by `rebilld metrics reference`, from the list that `/metrics` is written from.\n\n\
         The daemon tells them at `GET /metrics` of its listener (`http.listen`), as OpenMetrics or in Prometheus' text format. Those\n\
         that come from the database are read when somebody scrapes, at most every 15 s; while it does not answer they are left\n\
         out, and `rebilld_database_up` is 0. Counters begin anew with each start. Several daemons on one database each tell what\n\
         they did, and all of them what waits in it: add the counters up, and take the `max` of the others.\n\n\
         Labels are bounded: `account` is a name of the config, `plan` one of at most 50 names for each account and process,\n\
         everything else a word of a fixed list.\n\n\
         | metric | type | unit | labels | meaning |\n|---|---|---|---|---|\n",
    );
    for metric in METRICS {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, kind, unit, help) = (metric.name, metric.kind.name(), metric.unit, metric.help);
        let _ = writeln!(text, "| `{name}` | {kind} | {unit} | {} | {help} |", labels.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;
    use crate::ports::metrics::list;

    static TIMES: Histogram = Histogram::new(list::LATENESS_BOUNDS);

    fn page() -> Page {
        let mut page = Page::default();
        page.put(&list::SENDS, &["ma\"in\\\n"], Number::count(3));
        page.put(&list::BUILD, &["1.0", "abc"], Number::Whole(1));
        page.put(&list::CLOCK_OFFSET, &[], Number::Micros(-1_500_000));
        page
    }

    #[test]
    fn openmetrics_names_families_without_their_suffix_and_ends_with_its_mark() {
        let text = page().render(Format::OpenMetrics);
        let of_sends = "# TYPE rebilld_sends counter\nrebilld_sends_total{account=\"ma\\\"in\\\\\\n\"} 3\n";
        assert!(text.contains(of_sends), "{text}");
        assert!(text.contains("# TYPE rebilld_build info\nrebilld_build_info{version=\"1.0\",commit=\"abc\"} 1\n"), "{text}");
        let of_clock = "# TYPE rebilld_clock_offset_seconds gauge\n# UNIT rebilld_clock_offset_seconds seconds\nrebilld_clock_offset_seconds -1.5\n";
        assert!(text.contains(of_clock), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn the_older_format_names_them_as_their_samples() {
        let text = page().render(Format::Prometheus);
        assert!(text.contains("# TYPE rebilld_sends_total counter\n"), "{text}");
        assert!(text.contains("# TYPE rebilld_build_info gauge\n"), "{text}");
        assert!(!text.contains("# EOF"));
        assert_eq!(Format::for_accept("text/plain"), Format::Prometheus);
        assert_eq!(Format::for_accept("application/openmetrics-text;version=1.0.0,text/plain;q=0.5"), Format::OpenMetrics);
    }

    #[test]
    fn a_histogram_is_cumulative_and_ends_with_infinity() {
        TIMES.observe(std::time::Duration::from_millis(70));
        TIMES.observe(std::time::Duration::from_secs(100_000));
        let mut page = Page::default();
        page.put_times(&list::LATENESS, &["main"], &TIMES);
        let text = page.render(Format::OpenMetrics);
        for line in [
            "rebilld_lateness_seconds_bucket{account=\"main\",le=\"0.05\"} 0",
            "rebilld_lateness_seconds_bucket{account=\"main\",le=\"0.1\"} 1",
            "rebilld_lateness_seconds_bucket{account=\"main\",le=\"7200.0\"} 1",
            "rebilld_lateness_seconds_bucket{account=\"main\",le=\"+Inf\"} 2",
            "rebilld_lateness_seconds_count{account=\"main\"} 2",
            "rebilld_lateness_seconds_sum{account=\"main\"} 100000.07",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn the_reference_of_metrics_in_docs_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        let current = std::fs::read_to_string(path).unwrap_or_default();
        if current != reference() && Environment::of_process().get("REBILLD_BLESS") == Some("1") {
            std::fs::write(path, reference()).unwrap();
            return;
        }
        assert!(current == reference(), "docs/metrics.md is not current: run `REBILLD_BLESS=1 cargo test --lib reference`");
    }
}
