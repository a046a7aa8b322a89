//! The dashboard as Grafana reads it: what it would show wrongly or not at all, and no metric without a place on it.

use std::collections::BTreeSet;

use rebilld::ports::metrics::list::{Kind, METRICS};
use serde_json::Value;

/// Grafana's grid is so wide.
const COLUMNS: u64 = 24;
const TYPES: [&str; 5] = ["row", "stat", "state-timeline", "table", "timeseries"];
/// Of Grafana's units, those that the panels need.
const UNITS: [&str; 5] = ["short", "s", "locale", "ops", "percentunit"];
/// What every dashboard has without defining it.
const OF_GRAFANA: [&str; 1] = ["__rate_interval"];
/// The only source of data: whoever imports the dashboard chooses it.
const SOURCE: &str = "${datasource}";

/// All panels, those that a folded row hides among them.
pub fn panels(dashboard: &Value) -> Vec<&Value> {
    let all = dashboard["panels"].as_array().into_iter().flatten();
    all.flat_map(|panel| std::iter::once(panel).chain(panel["panels"].as_array().into_iter().flatten())).collect()
}

/// What is wrong with a dashboard.
pub fn faults(json: &str) -> Vec<String> {
    let dashboard: Value = match serde_json::from_str(json) {
        Ok(dashboard) => dashboard,
        Err(why) => return vec![format!("it is no JSON: {why}")],
    };
    let mut wrong = Vec::new();
    let panels = panels(&dashboard);
    let variables: BTreeSet<&str> =
        dashboard["templating"]["list"].as_array().into_iter().flatten().filter_map(|one| one["name"].as_str()).collect();
    for variable in ["datasource", "job", "account"].into_iter().filter(|name| !variables.contains(name)) {
        wrong.push(format!("there is no variable `{variable}`"));
    }
    let (mut ids, mut titles) = (BTreeSet::new(), BTreeSet::new());
    let mut placed: Vec<(&str, Place)> = Vec::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap_or_default();
        let mut say = |what: String| wrong.push(format!("panel \"{title}\": {what}"));
        if title.is_empty() || !titles.insert(title) {
            say("its title is empty, or another one has it too".to_owned());
        }
        if !panel["id"].as_u64().is_some_and(|id| id > 0 && ids.insert(id)) {
            say(format!("its id {} is no number, or another one has it too", panel["id"]));
        }
        match Place::of(&panel["gridPos"]) {
            None => say(format!("it does not fit on the grid: {}", panel["gridPos"])),
            Some(place) => {
                for (other, _) in placed.iter().filter(|(_, other)| other.overlaps(&place)) {
                    say(format!("it lies over \"{other}\""));
                }
                placed.push((title, place));
            }
        }
        let kind = panel["type"].as_str().unwrap_or_default();
        if !TYPES.contains(&kind) {
            say(format!("`{kind}` is none of {TYPES:?}"));
        }
        if kind == "row" {
            if panel["collapsed"].as_bool() != Some(panel["panels"].as_array().is_some_and(|hidden| !hidden.is_empty())) {
                say("a row hides panels if it is folded, and has none otherwise".to_owned());
            }
            continue;
        }
        let unit = panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap_or_default();
        if !UNITS.contains(&unit) {
            say(format!("its unit `{unit}` is none of {UNITS:?}"));
        }
        if panel["description"].as_str().is_none_or(|text| !text.ends_with('.')) {
            say("it does not say what it shows".to_owned());
        }
        if panel["datasource"]["uid"] != SOURCE {
            say(format!("its data come from {}", panel["datasource"]));
        }
        let targets = panel["targets"].as_array().map_or(&[][..], Vec::as_slice);
        if targets.is_empty() {
            say("it asks for nothing".to_owned());
        }
        let mut refs = BTreeSet::new();
        for target in targets {
            if !target["refId"].as_str().is_some_and(|id| !id.is_empty() && refs.insert(id)) {
                say(format!("two of its targets are called {}", target["refId"]));
            }
            if target["datasource"]["uid"] != SOURCE {
                say(format!("the data of a target come from {}", target["datasource"]));
            }
            let (expression, legend) = (text(&target["expr"]), text(&target["legendFormat"]));
            for fault in in_expression(expression, &variables).into_iter().chain(in_legend(legend, expression)) {
                say(fault);
            }
        }
    }
    wrong
}

/// Metrics that a dashboard shows nowhere.
pub fn not_shown(json: &str) -> Vec<String> {
    let missing = METRICS.iter().filter(|metric| {
        let mut found = json.match_indices(metric.name).map(|(at, name)| &json[at + name.len()..]);
        !found.any(|rest| !rest.starts_with(|c: char| c.is_ascii_lowercase()) && of_the_whole_name(metric.kind, rest))
    });
    missing.map(|metric| format!("no panel shows `{}`", metric.name)).collect()
}

/// Whether what stands behind a metric's name makes it the name of one of its samples.
fn of_the_whole_name(kind: Kind, rest: &str) -> bool {
    match kind {
        Kind::Histogram(_) => ["_bucket", "_sum", "_count"].iter().any(|suffix| rest.starts_with(suffix)),
        Kind::Counter | Kind::Gauge | Kind::Info => !rest.starts_with('_'),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Columns and lines that a panel takes, the ends not among them.
struct Place {
    columns: (u64, u64),
    lines: (u64, u64),
}

impl Place {
    /// `None`: it is no place on the grid.
    fn of(grid: &Value) -> Option<Self> {
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| grid[side].as_u64());
        let (x, y, w, h) = (x?, y?, w?, h?);
        (w > 0 && h > 0 && x + w <= COLUMNS).then_some(Self { columns: (x, x + w), lines: (y, y + h) })
    }

    fn overlaps(&self, other: &Self) -> bool {
        let meet = |one: (u64, u64), two: (u64, u64)| one.0 < two.1 && two.0 < one.1;
        meet(self.columns, other.columns) && meet(self.lines, other.lines)
    }
}

fn in_expression(expression: &str, variables: &BTreeSet<&str>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (open, close) in [('(', ')'), ('{', '}'), ('[', ']')] {
        if expression.matches(open).count() != expression.matches(close).count() {
            wrong.push(format!("`{expression}` has a `{open}` too many or too few"));
        }
    }
    for used in expression.split('$').skip(1) {
        let name = used.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().unwrap_or_default();
        if !variables.contains(name) && !OF_GRAFANA.contains(&name) {
            wrong.push(format!("there is no variable `{name}`"));
        }
    }
    for metric in METRICS {
        for (at, _) in expression.match_indices(metric.name) {
            let (before, rest) = (&expression[..at], &expression[at + metric.name.len()..]);
            let Some((sample, selector)) = rest.split_once('{').filter(|_| of_the_whole_name(metric.kind, rest)) else {
                continue;
            };
            let selector = selector.split('}').next().unwrap_or_default();
            if !selector.contains("job=\"$job\"") {
                wrong.push(format!("`{}{sample}` is not of the job that was chosen", metric.name));
            }
            if metric.labels.contains(&"account") && !selector.contains("account=~\"$account\"") {
                wrong.push(format!("`{}{sample}` is not of the accounts that were chosen", metric.name));
            }
            let grows = matches!(metric.kind, Kind::Counter | Kind::Histogram(_));
            if grows != (before.ends_with("rate(") || before.ends_with("increase(")) {
                wrong.push(format!("`{}{sample}` is a {}, and shown as something else", metric.name, metric.kind.name()));
            }
        }
    }
    wrong
}

/// A legend names labels that the expression keeps.
fn in_legend(legend: &str, expression: &str) -> Vec<String> {
    let kept = expression.split_once("by (").and_then(|(_, rest)| rest.split_once(')')).map(|(list, _)| list);
    let labels: Vec<&str> = kept.unwrap_or("instance").split(", ").collect();
    let named = legend.split("{{").skip(1).filter_map(|part| part.split_once("}}")).map(|(label, _)| label);
    named.filter(|label| !labels.contains(label)).map(|label| format!("its legend names `{label}`, and there is none")).collect()
}

/// A dashboard with one panel, and with its variables.
#[cfg(test)]
fn small() -> Value {
    serde_json::json!({
        "templating": { "list": [{ "name": "datasource" }, { "name": "job" }, { "name": "account" }] },
        "panels": [
            { "id": 1, "type": "row", "title": "A row", "collapsed": false, "panels": [], "gridPos": { "x": 0, "y": 0, "w": 24, "h": 1 } },
            {
                "id": 2, "type": "timeseries", "title": "Sent", "description": "What was sent.",
                "datasource": { "uid": SOURCE }, "gridPos": { "x": 0, "y": 1, "w": 12, "h": 8 },
                "fieldConfig": { "defaults": { "unit": "ops" } },
                "targets": [{
                    "datasource": { "uid": SOURCE }, "refId": "A", "legendFormat": "{{account}}: sent",
                    "expr": "sum by (account) (rate(rebilld_sends_total{job=\"$job\",account=~\"$account\"}[$__rate_interval]))",
                }],
            },
        ],
    })
}

#[test]
fn what_grafana_would_show_wrongly_is_found() {
    assert_eq!(faults(&small().to_string()), Vec::<String>::new());
    assert_eq!(faults("{").len(), 1);
    let target = "/panels/1/targets/0";
    let expression = |text: &str| (format!("{target}/expr"), Value::from(text));
    for ((place, value), said) in [
        (("/panels/1/id".to_owned(), 1.into()), "its id 1"),
        (("/panels/1/title".to_owned(), "A row".into()), "its title"),
        (("/panels/1/type".to_owned(), "graph".into()), "`graph` is none of"),
        (("/panels/1/gridPos/y".to_owned(), 0.into()), "it lies over \"A row\""),
        (("/panels/1/gridPos/x".to_owned(), 13.into()), "does not fit on the grid"),
        (("/panels/1/gridPos/w".to_owned(), 0.into()), "does not fit on the grid"),
        (("/panels/0/collapsed".to_owned(), true.into()), "a row hides panels"),
        (("/panels/1/fieldConfig/defaults/unit".to_owned(), "seconds".into()), "its unit `seconds`"),
        (("/panels/1/description".to_owned(), "".into()), "does not say what it shows"),
        (("/panels/1/datasource/uid".to_owned(), "mine".into()), "its data come from"),
        (("/panels/1/targets".to_owned(), Value::Array(Vec::new())), "it asks for nothing"),
        ((format!("{target}/refId"), "".into()), "are called"),
        ((format!("{target}/datasource/uid"), "mine".into()), "the data of a target"),
        ((format!("{target}/legendFormat"), "{{plan}}".into()), "its legend names `plan`"),
        (("/templating/list/2/name".to_owned(), "accounts".into()), "there is no variable `account`"),
        (expression("rebilld_hold{job=\"$job\",account=~\"$account\""), "has a `{` too many"),
        (expression("rebilld_hold{job=\"$jobs\",account=~\"$account\"}"), "no variable `jobs`"),
        (expression("rebilld_hold{account=~\"$account\"}"), "not of the job"),
        (expression("rebilld_hold{job=\"$job\"}"), "not of the accounts"),
        (expression("rate(rebilld_hold{job=\"$job\",account=~\"$account\"}[5m])"), "is a gauge"),
        (expression("rebilld_sends_total{job=\"$job\",account=~\"$account\"}"), "is a counter"),
        (expression("rebilld_lateness_seconds_bucket{job=\"$job\",account=~\"$account\"}"), "is a histogram"),
    ] {
        let mut dashboard = small();
        *dashboard.pointer_mut(&place).unwrap_or_else(|| panic!("{place} is there")) = value.clone();
        let wrong = faults(&dashboard.to_string());
        assert!(wrong.iter().any(|line| line.contains(said)), "{place}: {value}: {wrong:?}");
    }
}

#[test]
fn a_metric_without_a_panel_is_found() {
    let all: Vec<String> = METRICS
        .iter()
        .map(|metric| format!("{}{}{{}}", metric.name, if matches!(metric.kind, Kind::Histogram(_)) { "_bucket" } else { "" }))
        .collect();
    assert_eq!(not_shown(&all.join(" ")), Vec::<String>::new());
    for (at, metric) in METRICS.iter().enumerate() {
        let mut others = all.clone();
        others.remove(at);
        assert_eq!(not_shown(&others.join(" ")), [format!("no panel shows `{}`", metric.name)]);
    }
}
