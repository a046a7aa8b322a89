//! A check of cron expressions with seconds. The scheduler parses them finally; this says early and clearly what is wrong.

const FIELDS: [(&str, u32, u32); 6] =
    [("second", 0, 59), ("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 0, 7)];

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// What is wrong with an expression; `None` if nothing is.
pub fn wrong(text: &str) -> Option<String> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        let names = FIELDS.map(|(name, ..)| name).join(", ");
        return Some(format!("has {} fields; cron with seconds has 6: {names}", fields.len()));
    }
    fields.iter().zip(FIELDS).find_map(|(field, (name, least, most))| {
        let wrong = field.split(',').any(|item| !item_fits(item, name, least, most));
        wrong.then(|| {
            format!("`{}` is no {name} ({least} to {most}, `*`, `a-b`, `*/n`, lists with commas)", super::keys::shown(field))
        })
    })
}

fn item_fits(item: &str, name: &str, least: u32, most: u32) -> bool {
    let (range, step) = match item.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (item, None),
    };
    if let Some(step) = step
        && !step.parse::<u32>().is_ok_and(|step| (1..=most).contains(&step))
    {
        return false;
    }
    if range == "*" || (range == "?" && name.starts_with("day")) {
        return true;
    }
    let number = |text: &str| {
        let names: &[&str] = match name {
            "month" => &MONTHS,
            "day of week" => &DAYS,
            _ => &[],
        };
        let by_name = names.iter().position(|known| text.eq_ignore_ascii_case(known)).and_then(|at| u32::try_from(at).ok());
        let number = by_name.map(|at| at + least).or_else(|| text.parse().ok())?;
        (least..=most).contains(&number).then_some(number)
    };
    match range.split_once('-') {
        Some((from, to)) => matches!((number(from), number(to)), (Some(from), Some(to)) if from <= to),
        None => number(range).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_with_seconds_pass() {
        for text in ["*/10 * * * * *", "0 17 * * * *", "0 0 4 1,15 * ?", "0 0 9-18/2 * JAN-MAR mon-fri"] {
            assert_eq!(wrong(text), None, "{text}");
        }
    }

    #[test]
    fn the_wrong_field_is_named() {
        assert!(wrong("*/10 * * * *").unwrap().contains("has 5 fields"));
        for (text, field) in [
            ("60 * * * * *", "second"),
            ("0 0 24 * * *", "hour"),
            ("0 0 0 0 * *", "day of month"),
            ("0 */0 * * * *", "minute"),
            ("0 0 0 * x *", "month"),
        ] {
            assert!(wrong(text).unwrap().contains(&format!("no {field}")), "{text}");
        }
    }
}
