//! Money: integer minor units of one currency, with checked arithmetic.

use std::fmt;
use std::str::FromStr;

/// An ISO 4217 currency and how many decimal digits its minor unit has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency {
    code: [u8; 3],
    digits: u8,
}

/// Currencies whose minor unit is not a hundredth (ISO 4217, table A.1).
const OTHER_DIGITS: &[(&str, u8)] = &[
    ("BHD", 3),
    ("BIF", 0),
    ("CLF", 4),
    ("CLP", 0),
    ("DJF", 0),
    ("GNF", 0),
    ("IQD", 3),
    ("ISK", 0),
    ("JOD", 3),
    ("JPY", 0),
    ("KMF", 0),
    ("KRW", 0),
    ("KWD", 3),
    ("LYD", 3),
    ("OMR", 3),
    ("PYG", 0),
    ("RWF", 0),
    ("TND", 3),
    ("UGX", 0),
    ("UYI", 0),
    ("UYW", 4),
    ("VND", 0),
    ("VUV", 0),
    ("XAF", 0),
    ("XOF", 0),
    ("XPF", 0),
];

/// Active ISO 4217 codes with a minor unit of two digits.
const TWO_DIGITS: &str = "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD YER ZAR ZMW ZWG";

impl Currency {
    /// The Korean won. It has no minor unit.
    pub const KRW: Self = Self { code: *b"KRW", digits: 0 };

    /// The three-letter code, e.g. `KRW`.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.code).unwrap_or("???")
    }

    /// Decimal digits of the minor unit: 0 for KRW, 2 for USD.
    pub fn digits(&self) -> u8 {
        self.digits
    }
}

impl FromStr for Currency {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let unknown = || MoneyError::UnknownCurrency(text.chars().take(8).collect());
        let code: [u8; 3] = text.as_bytes().try_into().map_err(|_| unknown())?;
        if let Some((_, digits)) = OTHER_DIGITS.iter().find(|(known, _)| *known == text) {
            return Ok(Self { code, digits: *digits });
        }
        if TWO_DIGITS.split(' ').any(|known| known == text) {
            return Ok(Self { code, digits: 2 });
        }
        Err(unknown())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// An amount in minor units of its currency: `9900` KRW is 9,900 won, `9900` USD is 99 dollars.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Money {
    minor: i64,
    currency: Currency,
}

/// What can be wrong with an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    #[error("`{0}` is not an ISO 4217 currency code that is in use")]
    UnknownCurrency(String),
    #[error("`{0}` is not a decimal number")]
    NotANumber(String),
    #[error("{text} has more decimals than {currency} has ({digits})")]
    TooFine { text: String, currency: Currency, digits: u8 },
    #[error("the amount is too large to hold")]
    TooLarge,
    #[error("{left} and {right} cannot be added")]
    Mixed { left: Currency, right: Currency },
}

impl Money {
    pub const fn new(minor: i64, currency: Currency) -> Self {
        Self { minor, currency }
    }

    /// So many won.
    pub const fn krw(won: i64) -> Self {
        Self::new(won, Currency::KRW)
    }

    /// The amount in minor units.
    pub fn minor(&self) -> i64 {
        self.minor
    }

    pub fn currency(&self) -> Currency {
        self.currency
    }

    pub fn checked_add(self, other: Self) -> Result<Self, MoneyError> {
        if self.currency != other.currency {
            return Err(MoneyError::Mixed { left: self.currency, right: other.currency });
        }
        self.minor.checked_add(other.minor).map(|minor| Self::new(minor, self.currency)).ok_or(MoneyError::TooLarge)
    }

    /// Reads a decimal number in major units, as JSON or a person writes it: `9900`, `99.5`, `9.9e3`.
    ///
    /// The digits are read as they stand and never pass through a float. Zeros beyond the minor unit are
    /// accepted (`9900.00` KRW), any other digit there is [`MoneyError::TooFine`].
    pub fn parse(text: &str, currency: Currency) -> Result<Self, MoneyError> {
        let not_a_number = || MoneyError::NotANumber(text.chars().take(40).collect());
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
            Some(at) => {
                let exponent = unsigned[at + 1..].parse::<i32>().map_err(|_| not_a_number())?;
                (&unsigned[..at], exponent)
            }
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let has_point = mantissa.contains('.');
        if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) || (has_point && fraction.is_empty()) {
            return Err(not_a_number());
        }
        if !(-400..=400).contains(&exponent) {
            return Err(MoneyError::TooLarge);
        }
        // digits x 10^scale is the value in minor units
        let digits = format!("{whole}{fraction}");
        let fraction_len = i32::try_from(fraction.len()).map_err(|_| MoneyError::TooLarge)?;
        let scale = exponent - fraction_len + i32::from(currency.digits);
        let significant = digits.trim_start_matches('0');
        let (kept, zeros) = if scale >= 0 {
            (significant, if significant.is_empty() { 0 } else { scale })
        } else {
            let dropped = usize::try_from(-scale).map_err(|_| MoneyError::TooLarge)?;
            let (kept, rest) = significant.split_at(significant.len().saturating_sub(dropped));
            if rest.bytes().any(|byte| byte != b'0') {
                return Err(MoneyError::TooFine { text: text.chars().take(40).collect(), currency, digits: currency.digits });
            }
            (kept, 0)
        };
        let mut minor: i64 = if kept.is_empty() { 0 } else { kept.parse().map_err(|_| MoneyError::TooLarge)? };
        for _ in 0..zeros {
            minor = minor.checked_mul(10).ok_or(MoneyError::TooLarge)?;
        }
        Ok(Self::new(if negative { -minor } else { minor }, currency))
    }

    /// The amount in major units, as PortOne wants it in a JSON number: `9900`, `99.50`.
    pub fn decimal(&self) -> String {
        let digits = usize::from(self.currency.digits);
        if digits == 0 {
            return self.minor.to_string();
        }
        let sign = if self.minor < 0 { "-" } else { "" };
        let padded = format!("{:0>width$}", self.minor.unsigned_abs(), width = digits + 1);
        let (whole, fraction) = padded.split_at(padded.len() - digits);
        format!("{sign}{whole}.{fraction}")
    }
}

impl fmt::Display for Money {
    /// `9,900 KRW`: for people. Machines take [`Money::minor`] and [`Money::currency`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimal = self.decimal();
        let (whole, fraction) = match decimal.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (decimal.as_str(), None),
        };
        let (sign, whole) = match whole.strip_prefix('-') {
            Some(rest) => ("-", rest),
            None => ("", whole),
        };
        f.write_str(sign)?;
        for (index, digit) in whole.chars().enumerate() {
            if index > 0 && (whole.len() - index) % 3 == 0 {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        if let Some(fraction) = fraction {
            write!(f, ".{fraction}")?;
        }
        write!(f, " {}", self.currency)
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn usd() -> Currency {
        "USD".parse().unwrap()
    }

    #[test]
    fn json_numbers_are_read_digit_by_digit() {
        for (text, won) in
            [("9900", 9900), ("9900.00", 9900), ("9.9e3", 9900), ("990000E-2", 9900), ("0", 0), ("-5", -5), ("0.0", 0)]
        {
            assert_eq!(Money::parse(text, Currency::KRW), Ok(Money::krw(won)), "{text}");
        }
        assert_eq!(Money::parse("99.5", usd()), Ok(Money::new(9950, usd())));
        assert_eq!(Money::parse("0.07", usd()), Ok(Money::new(7, usd())));
    }

    #[test]
    fn a_fraction_of_a_won_does_not_exist() {
        assert!(matches!(Money::parse("9900.5", Currency::KRW), Err(MoneyError::TooFine { .. })));
        assert!(matches!(Money::parse("1e-1", Currency::KRW), Err(MoneyError::TooFine { .. })));
    }

    #[test]
    fn what_is_not_a_number_is_named() {
        for text in ["", "-", "1.", ".5", "1,000", "0x10", "NaN", "1e", "９", "1 ", "+1"] {
            assert!(matches!(Money::parse(text, Currency::KRW), Err(MoneyError::NotANumber(_))), "{text}");
        }
        for text in ["99999999999999999999", "1e30", "1e999999"] {
            assert_eq!(Money::parse(text, Currency::KRW), Err(MoneyError::TooLarge), "{text}");
        }
    }

    #[test]
    fn currencies_are_iso_4217() {
        assert_eq!("KRW".parse::<Currency>().unwrap().digits(), 0);
        assert_eq!("KWD".parse::<Currency>().unwrap().digits(), 3);
        assert!("krw".parse::<Currency>().is_err());
        assert!("WON".parse::<Currency>().is_err());
        assert_eq!(format!("{:?} {}", Currency::KRW, usd()), "KRW USD");
    }

    #[test]
    fn people_see_thousands() {
        assert_eq!(Money::krw(1_234_567).to_string(), "1,234,567 KRW");
        assert_eq!(Money::krw(-900).to_string(), "-900 KRW");
        assert_eq!(Money::new(123_456, usd()).to_string(), "1,234.56 USD");
        assert_eq!(format!("{:?}", Money::new(-7, usd())), "-0.07 USD");
        assert_eq!(Money::new(0, usd()).to_string(), "0.00 USD");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(minor in any::<i32>(), code in prop::sample::select(vec!["KRW", "USD", "KWD", "CLF"])) {
            let money = Money::new(i64::from(minor), code.parse().unwrap());
            prop_assert_eq!(Money::parse(&money.decimal(), money.currency()), Ok(money));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,24}") {
            let _ = Money::parse(&text, Currency::KRW);
        }
    }
}
