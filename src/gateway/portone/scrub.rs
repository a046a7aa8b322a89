//! Texts of others, made fit to be kept: what looks like a card number, a phone number or a mail address is taken out.

/// Longest text that is kept, in characters.
const LONGEST: usize = 300;

/// So many digits (or stars of a masked number) in a row, separators aside, are a number of a card, a phone or an account.
const DIGITS: usize = 9;

const REMOVED: &str = "[removed]";

/// `text` without what looks personal. Result codes such as `[1254]` and `500619|` stay.
pub(super) fn scrub(text: &str) -> String {
    let short: String = text.trim().chars().take(LONGEST).map(|char| if char.is_control() { ' ' } else { char }).collect();
    without_numbers(&without_addresses(&short))
}

fn without_addresses(text: &str) -> String {
    let ends = |char: char| char.is_whitespace() || "<>[](){}|,;:\"'".contains(char);
    text.split_inclusive(ends)
        .map(|piece| {
            let word = piece.trim_end_matches(ends);
            if word.contains(['@', '＠']) { format!("{REMOVED}{}", &piece[word.len()..]) } else { piece.to_owned() }
        })
        .collect()
}

fn without_numbers(text: &str) -> String {
    let is_digit = |char: char| char.is_numeric() || char == '*';
    let is_separator = |char: char| matches!(char, '-' | ' ' | '.' | '_' | '/' | '‐' | '–');
    let chars: Vec<char> = text.chars().collect();
    let mut kept = String::new();
    let mut at = 0;
    while at < chars.len() {
        if !is_digit(chars[at]) {
            kept.push(chars[at]);
            at += 1;
            continue;
        }
        let run = chars[at..].iter().take_while(|char| is_digit(**char) || is_separator(**char)).count();
        // a separator at the end belongs to what follows
        let end = at + chars[at..at + run].iter().rposition(|char| is_digit(*char)).map_or(run, |last| last + 1);
        let digits = chars[at..end].iter().filter(|char| is_digit(**char)).count();
        if digits >= DIGITS {
            kept.push_str(REMOVED);
        } else {
            kept.extend(&chars[at..end]);
        }
        at = end;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_and_addresses_are_taken_out() {
        for (text, expected) in [
            ("카드번호 4330-1234-5678-9012 오류", "카드번호 [removed] 오류"),
            ("433012******1234", "[removed]"),
            ("연락처: 010-1234-5678.", "연락처: [removed]."),
            ("hong@example.com님", "[removed]"),
            ("a <hong@example.com> b", "a <[removed]> b"),
            ("mail:hong@example.com", "mail:[removed]"),
            ("４３３０１２３４５６７８９０１２", "[removed]"),
        ] {
            assert_eq!(scrub(text), expected);
        }
    }

    #[test]
    fn codes_and_amounts_stay() {
        for text in ["[1254][실시간빌링실패|잔액부족]", "500619|중복", "[120054][x]", "1588-1234로 문의", "9,900원"]
        {
            assert_eq!(scrub(text), text);
        }
    }

    #[test]
    fn long_texts_are_cut_and_lines_joined() {
        assert_eq!(scrub(&"가".repeat(1000)).chars().count(), LONGEST);
        assert_eq!(scrub("a\nb\0c"), "a b c");
    }

    proptest! {
        #[test]
        fn no_long_number_survives(before in "\\PC{0,10}", number in "[0-9]{9,20}", after in "\\PC{0,10}") {
            let text = format!("{before} {number} {after}");
            prop_assert!(!scrub(&text).contains(&number));
        }
    }
}
