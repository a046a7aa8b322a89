//! `rebilld calendar`: exact output, many cases at once, and what is refused.

use serde_json::{Value, json};

use super::rig::Rig;

/// A directory without any config: the command needs none.
fn bare() -> Rig {
    let rig = Rig::sqlite();
    std::fs::remove_file(rig.path().join("rebilld.toml")).unwrap();
    rig
}

/// `calendar` with options in one text, parted by `|`.
fn calendar(options: &str) -> Vec<&str> {
    ["calendar"].into_iter().chain(options.split('|')).collect()
}

/// `START..END DUE` of each period.
fn periods(value: &Value) -> Vec<String> {
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap().to_owned();
    let one = |entry: &Value| format!("{}..{} {}", text(entry, "period_start"), text(entry, "period_end"), text(entry, "due_at"));
    value.as_array().unwrap_or_else(|| panic!("{value}")).iter().map(one).collect()
}

#[test]
fn json_is_exactly_as_documented() {
    let rig = bare();
    let options = "--start|2024-01-31|--every|1 month|--count|3|--output|json";
    assert_eq!(
        rig.ok(&calendar(options)),
        r#"[
  {"n":0,"period_start":"2024-01-31","period_end":"2024-02-29","due_at":"2024-01-31T01:00:00Z"},
  {"n":1,"period_start":"2024-02-29","period_end":"2024-03-31","due_at":"2024-02-29T01:00:00Z"},
  {"n":2,"period_start":"2024-03-31","period_end":"2024-04-30","due_at":"2024-03-31T01:00:00Z"}
]
"#
    );
    assert_eq!(rig.ok(&calendar("--start|2024-01-31|--every|1 month|--count|0|--output|json")), "[]\n");
    let table = rig.ok(&calendar("--start|2024-01-31|--every|1 month|--count|1"));
    assert!(table.contains("2024-02-29") && table.contains("Wed 2024-01-31 10:00:00 KST"), "{table}");
    let csv = rig.ok(&calendar("--start|2024-01-31|--every|1 month|--count|1|--output|csv"));
    assert_eq!(csv, "n,period_start,period_end,due_at\n0,2024-01-31,2024-02-29,2024-01-31T01:00:00Z\n");
}

#[test]
fn every_option_has_its_effect() {
    let rig = bare();
    for (options, expected) in [
        (
            "--every|1 year|--start|2024-02-29|--from|3",
            ["2027-02-28..2028-02-29 2027-02-28T01:00:00Z", "2028-02-29..2029-02-28 2028-02-29T01:00:00Z"],
        ),
        (
            "--every|1 quarter|--start|2024-11-30",
            ["2024-11-30..2025-02-28 2024-11-30T01:00:00Z", "2025-02-28..2025-05-30 2025-02-28T01:00:00Z"],
        ),
        (
            "--every|1 month|--billing-day|10|--start|2024-01-25",
            ["2024-01-25..2024-02-10 2024-01-25T01:00:00Z", "2024-02-10..2024-03-10 2024-02-10T01:00:00Z"],
        ),
        (
            "--every|1 month|--billing-day|last|--start|2024-01-31|--from|2024-02-29",
            ["2024-02-29..2024-03-31 2024-02-29T01:00:00Z", "2024-03-31..2024-04-30 2024-03-31T01:00:00Z"],
        ),
        (
            "--cron|0 0 10 1 * *|--start|2024-01-15",
            ["2024-01-15..2024-02-01 2024-01-15T01:00:00Z", "2024-02-01..2024-03-01 2024-02-01T01:00:00Z"],
        ),
        (
            "--cron|0 30 2 L * *|--at|08:00|--start|2024-01-31",
            ["2024-01-31..2024-02-29 2024-01-30T23:00:00Z", "2024-02-29..2024-03-31 2024-02-28T23:00:00Z"],
        ),
        // 02:30 does not exist on 10 March 2024 in New York, and 01:30 comes twice on 3 November
        (
            "--every|1 week|--at|02:30|--zone|America/New_York|--start|2024-03-03",
            ["2024-03-03..2024-03-10 2024-03-03T07:30:00Z", "2024-03-10..2024-03-17 2024-03-10T07:00:00Z"],
        ),
        (
            "--every|1 week|--at|01:30|--zone|America/New_York|--start|2024-11-03",
            ["2024-11-03..2024-11-10 2024-11-03T05:30:00Z", "2024-11-10..2024-11-17 2024-11-10T06:30:00Z"],
        ),
        (
            "--every|1 month|--trial-days|14|--start|2024-01-17",
            ["2024-01-31..2024-02-29 2024-01-31T01:00:00Z", "2024-02-29..2024-03-31 2024-02-29T01:00:00Z"],
        ),
        (
            "--every|1 month|--banking|next|--start|2025-09-06",
            ["2025-09-06..2025-10-06 2025-09-08T01:00:00Z", "2025-10-06..2025-11-06 2025-10-10T01:00:00Z"],
        ),
        (
            "--every|1 month|--banking|previous|--start|2025-09-06",
            ["2025-09-06..2025-10-06 2025-09-05T01:00:00Z", "2025-10-06..2025-11-06 2025-10-02T01:00:00Z"],
        ),
    ] {
        let arguments = [calendar(options), vec!["--count", "2"]].concat();
        assert_eq!(periods(&rig.json(&arguments)), expected, "{options}");
    }
    let numbers = |options: &str| -> Vec<u64> {
        rig.json(&calendar(options)).as_array().unwrap().iter().map(|entry| entry["n"].as_u64().unwrap()).collect()
    };
    assert_eq!(numbers("--every|1 month|--start|2024-01-31|--from|2025-01-30|--count|2"), [11, 12]);
    assert_eq!(numbers("--every|1 month|--start|2024-01-31").len(), 12);
    // empty means not given, as in a file
    assert_eq!(numbers("--every|1 month|--start|2024-01-31|--billing-day||--zone||--at||--from||--count|").len(), 12);
}

#[test]
fn a_wrong_option_is_a_usage_error_that_names_it() {
    let rig = bare();
    for (options, says) in [
        ("--start|2023-02-29|--every|1 month", "--start: `2023-02-29` is not a date"),
        ("--start|20240131|--every|1 month", "--start: `20240131` is not a date"),
        ("--start|2024-01-31|--every|0 months", "--every: `0 months` is not a billing interval"),
        ("--start|2024-01-31|--every|1 month|--billing-day|32", "--billing-day: `32` is not a billing day"),
        ("--start|2024-01-31|--every|2 weeks|--billing-day|last", "--billing-day: a billing day needs an interval of months"),
        ("--start|2024-01-31|--cron|0 10 1 * *", "--cron: `0 10 1 * *` is not a schedule: it has 5 fields, and needs 6"),
        ("--start|2024-01-31|--cron|0 0 10,14 1 * *", "it comes 2 times a day"),
        ("--start|2024-01-31|--every|1 month|--at|24:00", "--at: `24:00` is not a time of day"),
        ("--start|2024-01-31|--every|1 month|--zone|Asia/Soul", "did you mean \"Asia/Seoul\"?"),
        ("--start|2024-01-31|--every|1 month|--trial-days|x", "--trial-days: `x` is not a whole number"),
        ("--start|2024-01-31|--every|1 month|--trial-days|4294967295", "--trial-days: the trial ends after the year 9999"),
        ("--start|2024-01-31|--every|1 month|--banking|following", "--banking: `following` has to be none, next, previous"),
        ("--start|2024-01-31|--every|1 month|--from|soon", "--from: `soon` is neither a date such as 2024-01-31 nor a number"),
        ("--start|2024-01-31|--every|1 month|--count|-1", "--count: `-1` is not a whole number from 0"),
        ("--start|2024-01-31|--every|1 month|--cron|0 0 10 1 * *", "cannot be used with"),
        ("--start|2024-01-31|--cron|0 0 10 1 * *|--billing-day|3", "cannot be used with"),
        ("--start|2024-01-31", "--every"),
        ("--every|1 month", "--start"),
        ("--start|2024-01-31|--every|", "--every: is missing"),
        ("--input|cases.csv|--start|2024-01-31", "cannot be used with"),
        ("--input|cases.csv|--output|csv", "only as JSON"),
    ] {
        let error = rig.fails(64, &calendar(options));
        assert!(error.contains(says), "{options}: {error}");
    }
    let error = rig.fails(65, &calendar("--start|2024-01-31|--every|1 month|--count|4294967295"));
    assert!(error.contains("the calendar ends with the year 9999"), "{error}");
}

#[test]
fn many_cases_are_answered_in_their_order_and_a_bad_row_stands_alone() {
    let rig = bare();
    // a byte order mark, Windows line ends, columns in another order, an empty line
    let input = "\u{feff}count,start,every,billing_day,cron,at,zone,trial_days,banking,from\r\n\
        2,2024-01-31,1 month,,,,,,,\r\n\
        2,2024-02-30,1 month,,,,,,,\r\n\
        \r\n\
        1,2024-01-15,,,\"0 0 9 1,15 * *\",,Europe/London,,,2024-07-01\r\n\
        1,2024-01-31\r\n\
        1,2024-01-31,1 month,,0 0 10 1 * *,,,,,\r\n\
        1,2024-01-31,,,,,,,,\r\n\
        4000000000,2024-01-31,1 month,,,,,,,\r\n\
        0,2024-01-31,1 month,,,,,,,\r\n\
        1,2024-01-10,1 month,last,,18:00,,7,next,1\r\n";
    rig.write("cases.csv", input);
    let from_file = rig.run(&["calendar", "--input", "cases.csv"]);
    let from_stdin = rig.run_with_input(&["calendar", "--input", "-", "--output", "json"], input.as_bytes());
    assert_eq!((from_file.code, &from_file.err, &from_file.out), (0, &String::new(), &from_stdin.out), "{from_file:?}");
    let answers: Vec<Value> = serde_json::from_str(&from_file.out).unwrap();
    assert_eq!(answers.len(), 9);
    assert_eq!(
        answers[0],
        json!([
            { "n": 0, "period_start": "2024-01-31", "period_end": "2024-02-29", "due_at": "2024-01-31T01:00:00Z" },
            { "n": 1, "period_start": "2024-02-29", "period_end": "2024-03-31", "due_at": "2024-02-29T01:00:00Z" },
        ])
    );
    assert_eq!(periods(&answers[2]), ["2024-07-01..2024-07-15 2024-07-01T08:00:00Z"]);
    assert_eq!(answers[2][0]["n"], 11);
    assert_eq!(answers[7], json!([]));
    // the trial ends on the 17th; the last of January is a banking day
    assert_eq!(periods(&answers[8]), ["2024-01-31..2024-02-29 2024-01-31T09:00:00Z"]);
    for (index, says) in [
        (1, "row 2: start: `2024-02-30` is not a date"),
        (3, "row 4: it has 2 cells, and the header has 10"),
        (4, "row 5: cron: `every` and `cron` are both given: keep one"),
        (5, "row 6: every: is missing"),
        (6, "row 7: the calendar ends with the year 9999"),
    ] {
        let error = answers[index]["error"].as_str().unwrap_or_else(|| panic!("{}", answers[index]));
        assert!(error.starts_with(says), "{error}");
        assert_eq!(answers[index].as_object().unwrap().len(), 1);
    }
}

#[test]
fn a_row_that_is_not_utf8_is_an_error_in_its_place() {
    let rig = bare();
    let done =
        rig.run_with_input(&["calendar", "--input", "-"], b"start,every,count\n2024-01-31,1 m\xffnth,1\n2024-01-31,1 month,1\n");
    let answers: Vec<Value> = serde_json::from_str(&done.out).unwrap();
    assert_eq!(answers[0], json!({ "error": "row 1: every: it is not UTF-8" }));
    assert_eq!(periods(&answers[1]), ["2024-01-31..2024-02-29 2024-01-31T01:00:00Z"]);
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_with_its_place() {
    let rig = bare();
    for (text, says) in [
        ("", "cases.csv:1: the header is missing"),
        ("start,evry\n2024-01-31,1 month\n", "cases.csv:1: column 2: `evry` is unknown"),
        ("start,start\n", "cases.csv:1: column 2: `start` is there twice"),
        ("every,count\n", "cases.csv:1: the column `start` is missing"),
    ] {
        rig.write("cases.csv", text);
        let error = rig.fails(65, &["calendar", "--input", "cases.csv"]);
        assert!(error.contains(says), "{error}");
    }
    assert!(rig.fails(65, &["calendar", "--input", "gone.csv"]).contains("gone.csv cannot be read"));
    assert_eq!(rig.run_with_input(&["calendar", "--input", "-"], b"start,every\n").out, "[]\n");
}

#[test]
fn holidays_of_the_config_count() {
    let rig = Rig::sqlite();
    let with = "[holidays]\nextra = [\"2024-02-01\"]\nremove = [\"2024-03-01\"]\n";
    rig.write("rebilld.toml", with);
    let arguments = calendar("--start|2024-02-01|--every|1 month|--banking|next|--count|2");
    let due: Vec<String> = periods(&rig.json(&arguments));
    assert_eq!(due, ["2024-02-01..2024-03-01 2024-02-02T01:00:00Z", "2024-03-01..2024-04-01 2024-03-01T01:00:00Z"]);
    // a wrong config matters only to who asks for its holidays
    rig.write("rebilld.toml", "[holidays]\nextra = [\"2024-02-30\"]\n");
    assert!(rig.fails(78, &arguments).contains("rebilld.toml:2: `holidays.extra.0`"));
    rig.ok(&calendar("--start|2024-02-01|--every|1 month"));
    rig.write("rebilld.toml", with);
    let shown = rig.run_with(&["config", "show"], &[("REBILLD_HOLIDAYS__EXTRA__0", "2031-01-01")]);
    assert!(shown.out.contains("extra = [\"2031-01-01\"]"), "{shown:?}");
    let shown = rig.ok(&["config", "show"]);
    assert!(shown.contains("extra = [\"2024-02-01\"]") && shown.contains("# rebilld.toml:2"), "{shown}");
}

/// Arguments of a line as a shell takes them, as far as the examples go: spaces part them, double quotes hold them together.
fn arguments(line: &str) -> Vec<String> {
    let parts = line.split('"').enumerate();
    parts
        .flat_map(|(index, part)| match index % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        })
        .collect()
}

#[test]
fn the_examples_in_the_documents_are_what_the_command_prints() {
    let rig = bare();
    let text = include_str!("../../docs/dates.md");
    let blocks: Vec<&str> = text.split("```console\n$ rebilld ").skip(1).collect();
    assert!(blocks.len() > 10);
    for block in blocks {
        let (example, _) = block.split_once("```").unwrap();
        let (line, expected) = example.split_once('\n').unwrap();
        let arguments = arguments(line);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        assert_eq!(rig.ok(&arguments), expected, "{line}");
    }
}
