//! What deploy/ tells operators: each metric of the dashboard and of the alert rules is one of the product's, with labels that it
//! has; each alert has its page.

use std::collections::BTreeSet;

use rebilld::ports::metrics::list::{Kind, METRICS, Metric};
use serde_json::Value;

pub const DASHBOARD: &str = "deploy/grafana/rebilld.json";
pub const RULES: &str = "deploy/prometheus/rebilld.rules.yml";
/// What each page of docs/runbooks says, in this order.
pub const HEADINGS: [&str; 4] = ["## What it means", "## What to look at", "## What to do", "## What never to do"];

/// Labels that Prometheus gives every sample.
const OF_PROMETHEUS: [&str; 2] = ["job", "instance"];

/// All expressions of a dashboard, with the titles of their panels.
pub fn of_dashboard(json: &str) -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(json).expect("the dashboard is JSON");
    let mut found = Vec::new();
    for panel in super::dashboard::panels(&dashboard) {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let title = panel["title"].as_str().unwrap_or_default();
            found.push((format!("panel \"{title}\""), target["expr"].as_str().unwrap_or_default().to_owned()));
        }
    }
    let variables = dashboard["templating"]["list"].as_array().into_iter().flatten();
    let queries = variables.filter_map(|variable| variable["definition"].as_str());
    // `label_values(METRIC, LABEL)`: the label is asked for, as by a selector
    found.extend(queries.map(|query| ("a variable".to_owned(), query.replace("label_values", "").replace(", ", ") by ("))));
    found
}

/// All expressions of alert rules, with the names of the alerts. Each stands on a line of its own.
pub fn of_rules(yaml: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for line in yaml.lines() {
        let line = line.trim_start();
        if let Some(alert) = line.strip_prefix("- alert: ") {
            found.push((format!("alert {alert}"), String::new()));
        } else if let (Some(expression), Some(alert)) = (line.strip_prefix("expr: "), found.last_mut()) {
            alert.1 = expression.to_owned();
        }
    }
    found
}

/// What an expression names that the product does not have.
pub fn unknown(place: &str, expression: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut labels: BTreeSet<&str> = OF_PROMETHEUS.into();
    let mut named = 0;
    for (at, name) in names(expression) {
        let Some((metric, bucket)) = metric(name) else {
            wrong.push(format!("{place}: there is no metric `{name}`"));
            continue;
        };
        named += 1;
        let of_metric = || metric.labels.iter().chain(&OF_PROMETHEUS).copied().chain(bucket.then_some("le"));
        labels.extend(of_metric());
        let rest = &expression[at + name.len()..];
        let selector = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(selector, _)| selector);
        for label in keys(selector).filter(|label| !of_metric().any(|known| known == *label)) {
            wrong.push(format!("{place}: `{name}` has no label `{label}`"));
        }
    }
    if named == 0 && !expression.contains("up{") {
        wrong.push(format!("{place}: `{expression}` names no metric"));
    }
    for part in expression.split("by (").skip(1) {
        let list = part.split(')').next().unwrap_or_default();
        let grouped = list.split(',').map(str::trim).filter(|label| !labels.contains(label));
        wrong.extend(grouped.map(|label| format!("{place}: no metric of it has the label `{label}`")));
    }
    wrong
}

/// Names that begin as the product's do, with where they stand.
fn names(expression: &str) -> impl Iterator<Item = (usize, &str)> {
    expression.match_indices("rebilld_").map(|(at, _)| {
        let rest = &expression[at..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        (at, &rest[..end])
    })
}

/// The metric that a sample is of, and whether it is one of its buckets.
fn metric(sample: &str) -> Option<(&'static Metric, bool)> {
    METRICS.iter().find_map(|metric| match (metric.kind, sample.strip_prefix(metric.name)?) {
        (Kind::Histogram(_), "_bucket") => Some((*metric, true)),
        (Kind::Histogram(_), "_sum" | "_count") => Some((*metric, false)),
        (Kind::Counter | Kind::Gauge | Kind::Info, "") => Some((*metric, false)),
        _ => None,
    })
}

/// The labels of `a="x",b=~"y"`. Values hold no comma.
fn keys(selector: &str) -> impl Iterator<Item = &str> {
    selector.split(',').filter_map(|part| part.split(['=', '!']).next()).map(str::trim).filter(|label| !label.is_empty())
}

/// What an alert rule says for a label or an annotation, for each alert.
pub fn said<'a>(yaml: &'a str, key: &str) -> Vec<&'a str> {
    let key = format!("{key}: ");
    let found = yaml.lines().filter(|line| !line.trim_start().starts_with('#')).filter_map(|line| {
        let rest = line.split_once(&key)?.1;
        Some(rest.split([',', '}']).next().unwrap_or(rest).trim())
    });
    found.collect()
}

/// What is wrong with a page of docs/runbooks.
pub fn not_a_runbook(path: &str, text: &str) -> Vec<String> {
    let headings: Vec<&str> = text.lines().filter(|line| line.starts_with("## ")).collect();
    let mut wrong = Vec::new();
    if headings != HEADINGS {
        wrong.push(format!("{path}: its headings have to be {HEADINGS:?}, and are {headings:?}"));
    }
    if text.lines().count() > 70 {
        wrong.push(format!("{path}: too long for the person paged at night"));
    }
    if !text.contains("    rebilld ") {
        wrong.push(format!("{path}: no command of rebilld's stands in it"));
    }
    wrong
}

#[test]
fn what_the_product_does_not_have_is_found() {
    for (expression, said) in [
        ("rebilld_due_charge", "no metric `rebilld_due_charge`"),
        ("rate(rebilld_lateness_seconds[5m])", "no metric `rebilld_lateness_seconds`"),
        ("rebilld_hold_bucket", "no metric `rebilld_hold_bucket`"),
        ("rebilld_hold{acount=\"main\"}", "`rebilld_hold` has no label `acount`"),
        ("rebilld_charges_total{account=\"main\",kind!~\"x\"}", "has no label `kind`"),
        ("sum by (le, plan) (rebilld_hold)", "has the label `le`"),
        ("1 > 0", "names no metric"),
        ("(rebilld_outbox_waiting) by (account)", "has the label `account`"),
    ] {
        let wrong = unknown("here", expression);
        assert!(wrong.iter().any(|line| line.contains(said)), "{expression}: {wrong:?}");
    }
    for expression in [
        "histogram_quantile(0.9, sum by (le, call) (rate(rebilld_gateway_seconds_bucket{job=\"x\",account=~\"$account\"}[5m])))",
        "absent(up{job=\"rebilld\"} == 1)",
        "max by (job, account) (rebilld_hold) == 1",
    ] {
        assert_eq!(unknown("here", expression), Vec::<String>::new());
    }
}

#[test]
fn a_page_without_its_parts_is_found() {
    let whole = format!("# x\n{}\n    rebilld hold status\n", HEADINGS.join("\n\n"));
    assert_eq!(not_a_runbook("x.md", &whole), Vec::<String>::new());
    assert_eq!(not_a_runbook("x.md", &whole.replace("## What to do", "## To do")).len(), 1);
    assert_eq!(not_a_runbook("x.md", &whole.replace("rebilld", "systemctl")).len(), 1);
    assert_eq!(not_a_runbook("x.md", &format!("{whole}{}", "\n".repeat(70))).len(), 1);
}
