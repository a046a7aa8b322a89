//! Reads `/metrics` as strictly as its formats are written down.

use std::collections::{BTreeMap, BTreeSet};

use rebilld::ports::metrics::list::{Kind, METRICS, Metric, SECONDS};

/// A scrape: the value of each sample, by its name and labels as written.
#[derive(Debug, Clone, Default)]
pub struct Exposition {
    pub samples: BTreeMap<String, f64>,
    pub families: BTreeSet<String>,
}

impl Exposition {
    /// The value of one sample, such as `rebilld_hold{account="main"}`.
    pub fn value(&self, sample: &str) -> f64 {
        self.get(sample).unwrap_or_else(|| panic!("no {sample} in {:#?}", self.samples))
    }

    pub fn get(&self, sample: &str) -> Option<f64> {
        self.samples.get(sample).copied()
    }

    /// The sum over all samples of a name that carry these labels.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let fits = |sample: &str| {
            sample.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'))
                && labels.iter().all(|label| sample.contains(label))
        };
        self.samples.iter().filter(|(sample, _)| fits(sample)).map(|(_, value)| value).sum()
    }
}

/// What is told of a family before its samples.
#[derive(Debug, Default)]
struct Head<'a> {
    name: &'a str,
    help: Option<&'a str>,
    kind: Option<&'a str>,
    unit: Option<&'a str>,
}

/// Reads a page, and panics at whatever breaks a rule of its format or differs from the list.
pub fn read(text: &str, is_openmetrics: bool) -> Exposition {
    let mut read = Exposition::default();
    let mut head = Head::default();
    let lines: Vec<&str> = text.strip_suffix('\n').expect("it ends with a line").split('\n').collect();
    let lines = match lines.split_last() {
        Some((&"# EOF", lines)) if is_openmetrics => lines,
        _ => {
            assert!(!is_openmetrics, "OpenMetrics ends with its mark");
            &lines
        }
    };
    for line in lines {
        if let Some(said) = line.strip_prefix("# ") {
            let (word, rest) = said.split_once(' ').unwrap_or_else(|| panic!("{line}"));
            let (name, text) = rest.split_once(' ').unwrap_or_else(|| panic!("{line}"));
            if name != head.name {
                assert!(read.families.insert(name.to_owned()), "{name} is told of twice");
                head = Head { name, ..Head::default() };
            }
            let place = match word {
                "HELP" => &mut head.help,
                "TYPE" => &mut head.kind,
                "UNIT" => &mut head.unit,
                other => panic!("{other} is none of a page's words: {line}"),
            };
            assert!(place.replace(text).is_none(), "said twice: {line}");
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        let (name, labels) = labels_of(sample);
        let metric = check(&head, name, is_openmetrics);
        let expected: Vec<&str> = metric.labels.iter().copied().chain(name.ends_with("_bucket").then_some("le")).collect();
        let given: Vec<&str> = labels.iter().map(|(label, _)| label.as_str()).collect();
        assert_eq!(given, expected, "{line}");
        assert!(metric.kind == Kind::Gauge || value >= 0.0, "{line}");
        assert!(read.samples.insert(sample.to_owned(), value).is_none(), "told twice: {line}");
    }
    histograms(&read);
    read
}

/// The metric of a sample, under the head that stands before it.
fn check<'a>(head: &Head<'_>, sample: &str, is_openmetrics: bool) -> &'a Metric {
    let of_sample = |metric: &&&Metric| {
        metric.name == sample
            || matches!(metric.kind, Kind::Histogram(_))
                && ["_bucket", "_sum", "_count"].iter().any(|suffix| sample.strip_suffix(suffix) == Some(metric.name))
    };
    let metric = METRICS.iter().find(of_sample).unwrap_or_else(|| panic!("{sample} is not in the list"));
    let (family, kind) = match (is_openmetrics, metric.kind) {
        (true, kind) => (metric.family(), kind.name()),
        (false, Kind::Info) => (metric.name, "gauge"),
        (false, kind) => (metric.name, kind.name()),
    };
    assert_eq!(head.name, family, "{sample} stands below its own family");
    assert_eq!(head.help, Some(metric.help), "{sample}");
    assert_eq!(head.kind, Some(kind), "{sample}");
    assert_eq!(head.unit, (metric.unit == SECONDS).then_some(SECONDS), "{sample}");
    metric
}

/// Names and values, in the order in which they are written.
type Labels = Vec<(String, String)>;

/// The name and the labels of a sample.
fn labels_of(sample: &str) -> (&str, Labels) {
    let Some((name, rest)) = sample.split_once('{') else { return (sample, Vec::new()) };
    let mut rest = rest.strip_suffix('}').unwrap_or_else(|| panic!("{sample}"));
    let mut labels = Vec::new();
    while let Some((label, after)) = rest.split_once("=\"") {
        let mut end = None;
        let mut escaped = false;
        for (place, char) in after.char_indices() {
            match char {
                '"' if !escaped => {
                    end = Some(place);
                    break;
                }
                '\\' => escaped = !escaped,
                _ => escaped = false,
            }
        }
        let end = end.unwrap_or_else(|| panic!("{sample}"));
        labels.push((label.to_owned(), after[..end].to_owned()));
        rest = after[end + 1..].strip_prefix(',').unwrap_or(&after[end + 1..]);
    }
    assert!(rest.is_empty(), "{sample}");
    (name, labels)
}

/// Buckets grow, and the last one is the count.
fn histograms(read: &Exposition) {
    let mut series: BTreeMap<(String, Labels), Vec<(f64, f64)>> = BTreeMap::new();
    for (sample, value) in read.samples.iter().filter(|(sample, _)| sample.contains("_bucket{")) {
        let (name, mut labels) = labels_of(sample);
        let (_, bound) = labels.pop().expect("le comes last");
        let name = name.strip_suffix("_bucket").expect("a bucket").to_owned();
        series.entry((name, labels)).or_default().push((bound.parse().expect("a bound"), *value));
    }
    // the watcher of another system measures no times
    let is_histogram = |kind: Kind| matches!(kind, Kind::Histogram(_));
    let declared = METRICS.iter().any(|metric| is_histogram(metric.kind) && read.families.contains(metric.name));
    assert_eq!(declared, !series.is_empty());
    for ((name, labels), mut buckets) in series {
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        assert!(buckets.is_sorted_by(|one, other| one.1 <= other.1), "{name} {labels:?}");
        let (bound, last) = *buckets.last().expect("a bucket");
        assert!(bound.is_infinite(), "{name} {labels:?}");
        let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        assert_eq!(read.value(&format!("{name}_count{{{}}}", labels.join(","))), last);
        assert!(read.get(&format!("{name}_sum{{{}}}", labels.join(","))).is_some());
    }
}

#[test]
#[should_panic(expected = "stands below its own family")]
fn a_sample_below_another_family_is_found() {
    read("# HELP rebilld_hold x\n# TYPE rebilld_hold gauge\nrebilld_killed{account=\"main\"} 1\n", false);
}

#[test]
#[should_panic(expected = "told of twice")]
fn a_family_that_is_told_in_two_places_is_found() {
    let (hold, killed) = ("# HELP rebilld_hold x\n", "# HELP rebilld_killed x\n");
    read(&format!("{hold}{killed}{hold}"), false);
}
