//! Durations as people write them: `65s`, `3d`, `1h 30m`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Units from the largest to the smallest, in milliseconds.
const UNITS: [(&str, u64); 6] = [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// A duration with its unit in the text. A bare number is refused: nobody knows what `30` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration: write numbers with units (ms, s, m, h, d, w), such as \"65s\", \"60m\" or \"1h 30m\"")]
pub struct NotASpan(String);

impl FromStr for Span {
    type Err = NotASpan;

    fn from_str(text: &str) -> Result<Self, NotASpan> {
        let not_a_span = || NotASpan(text.chars().take(40).collect());
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(not_a_span());
        }
        let mut millis: u64 = 0;
        while !rest.is_empty() {
            let digits = rest.find(|char: char| !char.is_ascii_digit()).ok_or_else(not_a_span)?;
            let (number, tail) = rest.split_at(digits);
            let unit_end = tail.find(|char: char| !char.is_ascii_alphabetic()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_end);
            let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(not_a_span)?;
            let number: u64 = number.parse().map_err(|_| not_a_span())?;
            millis = number.checked_mul(*factor).and_then(|part| millis.checked_add(part)).ok_or_else(not_a_span)?;
            rest = tail.trim_start();
        }
        Ok(Self(Duration::from_millis(millis)))
    }
}

impl fmt::Display for Span {
    /// The largest unit that holds it exactly.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if millis == 0 {
            return f.write_str("0s");
        }
        let (unit, factor) = UNITS.into_iter().find(|(_, factor)| millis % factor == 0).unwrap_or(("ms", 1));
        write!(f, "{}{unit}", millis / factor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_duration_means_the_same_when_it_is_read_again_as_it_is_shown(millis in prop_oneof![0..10_000_000u64, any::<u64>()]) {
            let span = Span(Duration::from_millis(millis));
            prop_assert_eq!(span.to_string().parse(), Ok(span));
        }

        #[test]
        fn parts_add_up_in_any_order_and_too_much_is_refused(parts in prop::collection::vec((any::<u32>(), 0..UNITS.len()), 1..6)) {
            let text: Vec<String> = parts.iter().map(|(number, unit)| format!("{number}{}", UNITS[*unit].0)).collect();
            let sum = parts.iter().map(|(number, unit)| u64::from(*number) * UNITS[*unit].1).sum();
            prop_assert_eq!(text.join(" ").parse(), Ok(Span(Duration::from_millis(sum))));
            let too_much = format!("{}{}w", text.concat(), u64::MAX / 2);
            prop_assert!(too_much.parse::<Span>().is_err());
        }

        #[test]
        fn no_text_is_more_than_refused(text in "[0-9a-zµ٣ .-]{0,12}") {
            if let Ok(span) = text.parse::<Span>() {
                prop_assert_eq!(span.to_string().parse(), Ok(span));
            }
        }
    }

    #[test]
    fn durations_are_read_with_their_units() {
        for (text, seconds) in
            [("65s", 65), ("60m", 3600), ("3d", 259_200), ("1h 30m", 5400), ("1h30m", 5400), (" 2w ", 1_209_600)]
        {
            assert_eq!(text.parse(), Ok(Span(Duration::from_secs(seconds))), "{text}");
        }
        assert_eq!("250ms".parse(), Ok(Span(Duration::from_millis(250))));
    }

    #[test]
    fn what_has_no_unit_or_no_sense_is_refused() {
        for text in ["", "30", "s", "1.5h", "-1s", "10 minutes", "1h30", "99999999999999999999s", "1 0s"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn they_are_written_in_the_largest_exact_unit() {
        for text in ["65s", "1h", "90m", "3d", "250ms", "1w"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        assert_eq!("60m".parse::<Span>().unwrap().to_string(), "1h");
    }
}
