//! From a provider's code and text to a [`Class`]: the operator's rules first, then known codes, then words of the text.
//!
//! PortOne passes the provider's text through and has no taxonomy of its own (its FAQ says so). The split of the KG INICIS
//! codes into classes is this project's judgement: nobody publishes one.

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

use super::decline::Class;

/// Whose words a text is in, by PortOne's `pg_provider`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Provider {
    /// `html5_inicis` (keys from the window) and `inicis` (keys from the API).
    Inicis,
    Kcp,
    /// `tosspayments`, and `uplus` as it was called before.
    Toss,
    Nice,
    Other,
}

impl Provider {
    pub const ALL: [Self; 5] = [Self::Inicis, Self::Kcp, Self::Toss, Self::Nice, Self::Other];

    pub fn of(pg_provider: &str) -> Self {
        let lower = pg_provider.to_ascii_lowercase();
        match lower.as_str() {
            name if name.contains("inicis") => Self::Inicis,
            name if name.starts_with("kcp") => Self::Kcp,
            name if name.starts_with("tosspayments") || name.starts_with("uplus") => Self::Toss,
            name if name.starts_with("nice") => Self::Nice,
            _ => Self::Other,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Inicis => "inicis",
            Self::Kcp => "kcp",
            Self::Toss => "tosspayments",
            Self::Nice => "nice",
            Self::Other => "other",
        }
    }
}

/// A line of `src/domain/inicis-codes.csv`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    pub level: Level,
    /// The issuer's two characters, the provider's three digits, or the whole code.
    pub suffix: &'static str,
    pub class: Class,
    pub text: &'static str,
}

/// Who refused, and so which part of a code tells why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    /// The card company: `12XX` and `1200XX` share the two characters.
    Issuer,
    /// KG INICIS: `500nnn` and `550nnn` (billing) share the three digits.
    Provider,
    /// Four characters that stand for themselves.
    Whole,
}

impl Code {
    /// The codes that it stands for.
    pub fn spellings(&self) -> Vec<String> {
        let suffix = self.suffix;
        match self.level {
            Level::Issuer => vec![format!("12{suffix}"), format!("1200{suffix}")],
            Level::Provider => vec![format!("500{suffix}"), format!("550{suffix}")],
            Level::Whole => vec![suffix.to_owned()],
        }
    }
}

/// KG INICIS result codes. The table is data.
static INICIS: LazyLock<Vec<Code>> = LazyLock::new(|| {
    let line = |line: &'static str| {
        let mut fields = line.splitn(4, ',');
        let level = match fields.next()? {
            "issuer" => Level::Issuer,
            "pg" => Level::Provider,
            _ => Level::Whole,
        };
        let (suffix, class) = (fields.next()?, Class::from_name(fields.next()?)?);
        Some(Code { level, suffix, class, text: fields.next().unwrap_or_default().trim_matches('"') })
    };
    include_str!("inicis-codes.csv").lines().skip(1).filter_map(line).collect()
});

static BY_SPELLING: LazyLock<HashMap<String, &'static Code>> = LazyLock::new(|| {
    // a code that stands for itself wins over a suffix
    let ordered = INICIS.iter().filter(|code| code.level != Level::Whole).chain(whole());
    ordered.flat_map(|code| code.spellings().into_iter().map(move |spelling| (spelling, code))).collect()
});

fn whole() -> impl Iterator<Item = &'static Code> {
    INICIS.iter().filter(|code| code.level == Level::Whole)
}

/// The KG INICIS table.
pub fn codes() -> &'static [Code] {
    &INICIS
}

/// A word of refusal texts. The first that a text contains decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// `None`: whoever says it.
    pub provider: Option<Provider>,
    /// In lower case.
    pub word: &'static str,
    pub class: Class,
}

const fn word(word: &'static str, class: Class) -> Word {
    Word { provider: None, word, class }
}

/// What may have charged somebody comes first, whom to charge nobody for comes next, and what hurts least if it is wrong comes
/// last: a card that is tried once too often costs less than a second payment.
const WORDS: &[Word] = &[
    // the same card charged again on one day
    Word { provider: Some(Provider::Kcp), word: "8128", class: Class::Ambiguous },
    word("중복", Class::Ambiguous),
    // seen to be followed by the approval: a failure of the provider's own says nothing of the card company
    word("결제 장애", Class::Ambiguous),
    word("결제장애", Class::Ambiguous),
    word("internal error", Class::Ambiguous),
    word("timeout", Class::Ambiguous),
    word("타임아웃", Class::Ambiguous),
    word("응답없음", Class::Ambiguous),
    word("응답 없음", Class::Ambiguous),
    word("시간초과", Class::Ambiguous),
    word("시간 초과", Class::Ambiguous),
    word("결제가 이루어진", Class::Ambiguous),
    word("주문이 이루어진", Class::Ambiguous),
    word("이미 처리된", Class::Ambiguous),
    word("이미 승인", Class::Ambiguous),
    word("가맹점", Class::Merchant),
    word("빌링 미사용", Class::Merchant),
    word("상점", Class::Merchant),
    word("mid", Class::Merchant),
    word("유효기간", Class::HardCard),
    word("카드번호", Class::HardCard),
    word("분실", Class::HardCard),
    word("도난", Class::HardCard),
    word("해지", Class::HardCard),
    word("정지", Class::HardCard),
    word("탈회", Class::HardCard),
    word("미등록카드", Class::HardCard),
    word("미등록 카드", Class::HardCard),
    word("빌링 미등록", Class::HardCard),
    word("빌링키가 존재하지", Class::HardCard),
    word("거래불가 카드", Class::HardCard),
    word("잔액", Class::SoftFunds),
    word("한도", Class::SoftFunds),
    word("사용금액", Class::SoftFunds),
    word("사용횟수", Class::SoftFunds),
    word("연체", Class::SoftFunds),
    word("전화요망", Class::SoftContact),
    word("카드사 문의", Class::SoftContact),
    word("카드사에 문의", Class::SoftContact),
    word("카드사로 문의", Class::SoftContact),
    word("통신", Class::Transient),
    word("장애", Class::Transient),
    word("점검", Class::Transient),
    word("잠시", Class::Transient),
];

/// The words, in the order in which they are tried.
pub fn words() -> &'static [Word] {
    WORDS
}

/// An operator's rule, from `[[declines.rules]]`: all that it names has to fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// PortOne's `pg_provider`, exactly; `None`: whoever.
    pub provider: Option<String>,
    /// The code at the start of the text, exactly.
    pub code: Option<String>,
    /// A part of the text, in any case.
    pub contains: Option<String>,
    pub class: Class,
}

impl Rule {
    fn fits(&self, provider: Option<&str>, code: Option<&str>, lower: &str) -> bool {
        let named = |wanted: &Option<String>, given: Option<&str>| wanted.as_deref().is_none_or(|wanted| Some(wanted) == given);
        // a rule that names neither would catch everything
        (self.code.is_some() || self.contains.is_some())
            && named(&self.provider, provider)
            && named(&self.code, code)
            && self.contains.as_ref().is_none_or(|part| lower.contains(&part.to_lowercase()))
    }
}

/// The operator's rules, in their order; ours stand behind them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules(pub Vec<Rule>);

/// What a text is read as, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading<'a> {
    pub class: Class,
    /// The code at the start of the text, known or not.
    pub code: Option<&'a str>,
    pub by: By,
}

/// Which rule decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// The operator's rule of this number, from 1.
    Operator { number: usize },
    /// A line of the KG INICIS table.
    Code(&'static Code),
    /// A word of the text.
    Text(&'static Word),
    /// Nobody knows this text.
    Nothing,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator { number } => write!(f, "config: rule {number} of [[declines.rules]]"),
            Self::Code(code) => {
                write!(f, "code: KG INICIS {}", code.spellings().join(", "))?;
                if code.text.is_empty() { Ok(()) } else { write!(f, " ({})", code.text) }
            }
            Self::Text(Word { provider: Some(provider), word, .. }) => {
                write!(f, "text: contains \"{word}\" ({})", provider.name())
            }
            Self::Text(Word { provider: None, word, .. }) => write!(f, "text: contains \"{word}\""),
            Self::Nothing => f.write_str("none: nobody knows this text"),
        }
    }
}

impl Rules {
    /// Reads a refusal. Any text has a class; what nobody knows is [`Class::Unknown`].
    ///
    /// Both shapes of KG INICIS are read: `[1254][실시간빌링실패|잔액부족]` and `500503|text`.
    pub fn read<'a>(&self, provider: Option<&str>, text: &'a str) -> Reading<'a> {
        let code = code(text);
        let lower = text.to_lowercase();
        let reading = |class, by| Reading { class, code, by };
        if let Some(at) = self.0.iter().position(|rule| rule.fits(provider, code, &lower)) {
            let wanted = reading(self.0[at].class, By::Operator { number: at + 1 });
            let ours = Self::default().read(provider, text);
            // what may have charged somebody is not tried again within minutes, whoever says that it was an outage
            let in_vain = wanted.class == Class::Transient && ours.class == Class::Ambiguous;
            return if in_vain { ours } else { wanted };
        }
        let family = provider.map(Provider::of);
        // an unnamed provider is read as INICIS: only a code of that table can match
        if family.is_none_or(|family| family == Provider::Inicis)
            && let Some(known) = code.and_then(|code| BY_SPELLING.get(code))
        {
            return reading(known.class, By::Code(known));
        }
        let says = |word: &&Word| word.provider.is_none_or(|of| Some(of) == family) && contains(&lower, word.word);
        match WORDS.iter().find(says) {
            Some(word) => reading(word.class, By::Text(word)),
            None => reading(Class::Unknown, By::Nothing),
        }
    }

    pub fn classify(&self, provider: Option<&str>, text: &str) -> Class {
        self.read(provider, text).class
    }
}

/// Whether a text contains a word. Latin words stand alone or begin a longer code: `mid` is not in `timid`.
fn contains(lower: &str, word: &str) -> bool {
    if !word.is_ascii() {
        return lower.contains(word);
    }
    lower.match_indices(word).any(|(at, _)| {
        let latin = |char: char| char.is_ascii_alphanumeric();
        let before = lower[..at].chars().next_back().is_some_and(latin);
        let after = lower[at + word.len()..].chars().next().is_some_and(latin);
        !before && !after
    })
}

/// The provider's code at the start of a text: four to six capitals and digits, in brackets or before a bar.
fn code(text: &str) -> Option<&str> {
    let text = text.trim_start();
    let code = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => text.split_once('|')?.0,
    };
    let fits = (4..=6).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    fits.then_some(code)
}

#[cfg(test)]
mod tests;
