//! Why a card company refused, and what follows from it.
//!
//! PortOne passes the provider's text through and has no taxonomy of its own (its FAQ says so), so the class is read from
//! the provider's code where one is known and from the Korean text otherwise. The split of the KG INICIS codes into
//! classes is this project's judgement: nobody publishes one.

use std::collections::HashMap;
use std::sync::LazyLock;

/// What a refusal means for the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// This card will never work: ask for another one.
    HardCard,
    /// Not enough money or limit today: try on later days.
    SoftFunds,
    /// The payer has to call the card company.
    SoftContact,
    /// An outage refused it: try again soon.
    Transient,
    /// The text does not say whether the card was charged: look it up first.
    Ambiguous,
    /// The operator's contract or MID is the trouble, not the card.
    Merchant,
    /// We sent something wrong: never repeat it unchanged.
    Request,
    /// Nobody knows this text: the shortest ladder, and the raw text is kept.
    Unknown,
}

impl Class {
    /// As it stands in the database, in events and in `src/domain/inicis-codes.csv`.
    pub fn name(self) -> &'static str {
        match self {
            Self::HardCard => "HARD_CARD",
            Self::SoftFunds => "SOFT_FUNDS",
            Self::SoftContact => "SOFT_CONTACT",
            Self::Transient => "TRANSIENT",
            Self::Ambiguous => "AMBIGUOUS",
            Self::Merchant => "MERCHANT",
            Self::Request => "REQUEST",
            Self::Unknown => "UNKNOWN",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "HARD_CARD" => Self::HardCard,
            "SOFT_FUNDS" => Self::SoftFunds,
            "SOFT_CONTACT" => Self::SoftContact,
            "TRANSIENT" => Self::Transient,
            "AMBIGUOUS" => Self::Ambiguous,
            "MERCHANT" => Self::Merchant,
            "REQUEST" => Self::Request,
            "UNKNOWN" => Self::Unknown,
            _ => return None,
        })
    }

    /// Whether the text is about the card or the money on it: then a refusal without any record counts as a decline.
    pub fn is_card_or_funds(self) -> bool {
        matches!(self, Self::HardCard | Self::SoftFunds | Self::SoftContact)
    }

    /// What the payer may be told, in Korean and English: no card detail, no bank detail. `again`: another try follows.
    pub fn payer_message(self, again: bool) -> (&'static str, &'static str) {
        match self {
            Self::SoftFunds if !again => (
                "카드의 잔액 또는 한도가 부족하여 결제되지 않았습니다. 결제 수단을 확인해 주세요.",
                "The payment failed because of the balance or limit of your card. Please check your payment method.",
            ),
            Self::HardCard => (
                "등록하신 카드로 결제할 수 없습니다. 다른 카드를 등록해 주세요.",
                "Your card cannot be charged. Please register another card.",
            ),
            Self::SoftFunds => (
                "카드의 잔액 또는 한도가 부족하여 결제되지 않았습니다. 며칠 안에 다시 결제를 시도합니다.",
                "The payment failed because of the balance or limit of your card. We will try again in a few days.",
            ),
            Self::SoftContact => (
                "카드사에서 결제를 승인하지 않았습니다. 카드사에 문의해 주세요.",
                "Your card company did not approve the payment. Please contact it.",
            ),
            _ => ("결제가 완료되지 않았습니다. 다시 시도하겠습니다.", "The payment was not completed. We will try again."),
        }
    }
}

/// KG INICIS result codes, by level and suffix. The table is data: `src/domain/inicis-codes.csv`.
static INICIS: LazyLock<HashMap<(&str, &str), Class>> = LazyLock::new(|| {
    include_str!("inicis-codes.csv")
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.splitn(4, ',');
            let (level, suffix, class) = (fields.next()?, fields.next()?, fields.next()?);
            Some(((level, suffix), Class::from_name(class)?))
        })
        .collect()
});

/// Words of refusal texts, in the order in which they are tried; the first hit decides.
const WORDS: &[(&str, Class)] = &[
    ("중복", Class::Ambiguous),
    ("timeout", Class::Ambiguous),
    ("타임아웃", Class::Ambiguous),
    ("응답없음", Class::Ambiguous),
    ("결제가 이루어진", Class::Ambiguous),
    ("주문이 이루어진", Class::Ambiguous),
    ("가맹점", Class::Merchant),
    ("빌링 미사용", Class::Merchant),
    ("상점", Class::Merchant),
    ("유효기간", Class::HardCard),
    ("카드번호", Class::HardCard),
    ("분실", Class::HardCard),
    ("도난", Class::HardCard),
    ("해지", Class::HardCard),
    ("정지", Class::HardCard),
    ("탈회", Class::HardCard),
    ("미등록카드", Class::HardCard),
    ("미등록 카드", Class::HardCard),
    ("빌링 미등록", Class::HardCard),
    ("잔액", Class::SoftFunds),
    ("한도", Class::SoftFunds),
    ("사용금액", Class::SoftFunds),
    ("연체", Class::SoftFunds),
    ("전화요망", Class::SoftContact),
    ("카드사 문의", Class::SoftContact),
    ("카드사에 문의", Class::SoftContact),
    ("통신", Class::Transient),
    ("장애", Class::Transient),
    ("점검", Class::Transient),
    ("잠시", Class::Transient),
];

/// Reads the class of a refusal from the provider's code and text.
///
/// Both shapes of KG INICIS are read: `[1254][실시간빌링실패|잔액부족]` and `500503|text`.
pub fn classify(provider: Option<&str>, text: &str) -> Class {
    // an unnamed provider is read as INICIS: only a code of that table can match
    if provider.is_none_or(|provider| provider.contains("inicis"))
        && let Some(class) = code(text).and_then(inicis)
    {
        return class;
    }
    let lower = text.to_lowercase();
    WORDS.iter().find(|(word, _)| lower.contains(word)).map_or(Class::Unknown, |(_, class)| *class)
}

/// The provider's code at the start of a text.
fn code(text: &str) -> Option<&str> {
    let text = text.trim_start();
    let code = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => text.split_once('|')?.0,
    };
    let fits = (4..=6).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    fits.then_some(code)
}

/// The class of a KG INICIS code: `12XX` and `1200XX` share the issuer's suffix, `500nnn` and `550nnn` the provider's.
fn inicis(code: &str) -> Option<Class> {
    let key = |level, suffix| INICIS.get(&(level, suffix)).copied();
    match code.len() {
        4 => key("other", code).or_else(|| code.strip_prefix("12").and_then(|suffix| key("issuer", suffix))),
        6 => code
            .strip_prefix("1200")
            .and_then(|suffix| key("issuer", suffix))
            .or_else(|| code.strip_prefix("500").or_else(|| code.strip_prefix("550")).and_then(|suffix| key("pg", suffix))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INICIS_PROVIDER: Option<&str> = Some("html5_inicis");

    #[test]
    fn every_line_of_the_table_is_read() {
        assert_eq!(INICIS.len(), 318);
    }

    #[test]
    fn both_shapes_of_inicis_are_read() {
        assert_eq!(classify(INICIS_PROVIDER, "[1254][실시간빌링실패|잔액부족]"), Class::SoftFunds);
        assert_eq!(classify(INICIS_PROVIDER, "[120054][실시간빌링실패|무엇이든]"), Class::SoftFunds);
        assert_eq!(classify(INICIS_PROVIDER, "[1204][실시간빌링실패|유효기간 만료]"), Class::HardCard);
        assert_eq!(classify(INICIS_PROVIDER, "[1236][실시간빌링실패|중복거래]"), Class::Ambiguous);
        assert_eq!(classify(INICIS_PROVIDER, "[1270][실시간빌링실패|전화요망]"), Class::SoftContact);
    }

    #[test]
    fn without_a_code_the_text_decides() {
        assert_eq!(classify(Some("kcp_billing"), "[CC61][한도초과]"), Class::SoftFunds);
        assert_eq!(classify(None, "분실된 카드입니다"), Class::HardCard);
        assert_eq!(classify(None, "현재 시스템 점검중입니다"), Class::Transient);
        assert_eq!(classify(None, "신용카드 중복거래 요청 거절"), Class::Ambiguous);
        assert_eq!(classify(None, "something new"), Class::Unknown);
        assert_eq!(classify(None, ""), Class::Unknown);
    }

    #[test]
    fn names_are_read_back() {
        for class in [
            Class::HardCard,
            Class::SoftFunds,
            Class::SoftContact,
            Class::Transient,
            Class::Ambiguous,
            Class::Merchant,
            Class::Request,
            Class::Unknown,
        ] {
            assert_eq!(Class::from_name(class.name()), Some(class));
            assert!([true, false].iter().all(|again| !class.payer_message(*again).0.is_empty()));
        }
    }

    proptest! {
        #[test]
        fn any_text_has_a_class(text in "\\PC{0,60}") {
            classify(INICIS_PROVIDER, &text);
        }
    }
}
