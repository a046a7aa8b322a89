//! Attempts, sends, and the derived `merchant_uid`.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use sha2::{Digest, Sha256};

use super::decline::Class;

/// Characters of base32 (RFC 4648) in lower case: five bits each.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// 130 bits: enough that no two charges of any operator ever share an id.
const HASH_CHARS: usize = 26;

/// Writes the first `chars` x 5 bits of `bytes` in base32.
pub fn base32(bytes: &[u8], chars: usize) -> String {
    let bit = |index: usize| bytes.get(index / 8).is_some_and(|byte| byte >> (7 - index % 8) & 1 == 1);
    (0..chars)
        .map(|char| {
            let value = (0..5).fold(0usize, |value, offset| value << 1 | usize::from(bit(char * 5 + offset)));
            char::from(BASE32[value])
        })
        .collect()
}

/// SHA-256 over length-prefixed parts, so that no two lists of parts hash the same text.
pub fn digest(parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}

/// Two letters or digits that a database is bound to: they tell sandbox ids from live ones.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag([u8; 2]);

impl Tag {
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("??")
    }
}

impl FromStr for Tag {
    type Err = NotATag;

    fn from_str(text: &str) -> Result<Self, NotATag> {
        let bytes: [u8; 2] = text.as_bytes().try_into().map_err(|_| NotATag)?;
        let fits = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if bytes.iter().all(fits) { Ok(Self(bytes)) } else { Err(NotATag) }
    }
}

/// Why a text is no tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a tag is two lower-case letters or digits, such as \"rb\"")]
pub struct NotATag;

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The 28 characters that all ids of one charge share: tag and hash, without the number.
///
/// Derived only from facts that outlive the database, so that a restored or re-imported row derives the same ids and the
/// gateway refuses the duplicate (docs/protocol.md, The id).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdBase(String);

impl IdBase {
    pub fn derive(tag: Tag, account: &str, external_ref: &str, period_start: Date) -> Self {
        let hash = digest(&["charge/1", account, external_ref, &period_start.to_string()]);
        Self(format!("{tag}{}", base32(&hash, HASH_CHARS)))
    }

    /// The `merchant_uid` with number `n`: 1 to 99.
    pub fn number(&self, n: IdNumber) -> MerchantUid {
        MerchantUid(format!("{}{:02}", self.0, n.get()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Which id of this charge `uid` is, if it is one.
    pub fn number_of(&self, uid: &str) -> Option<IdNumber> {
        let digits = uid.strip_prefix(self.0.as_str())?;
        if digits.len() != 2 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        IdNumber::new(digits.parse().ok()?)
    }
}

impl fmt::Debug for IdBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The last two digits of a `merchant_uid`: 01 to 99.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct IdNumber(u8);

impl IdNumber {
    pub const FIRST: Self = Self(1);

    pub fn new(n: u8) -> Option<Self> {
        (1..=99).contains(&n).then_some(Self(n))
    }

    pub fn get(self) -> u8 {
        self.0
    }

    /// The next one; `None` after 99, which is for a person to look at.
    pub fn next(self) -> Option<Self> {
        Self::new(self.0 + 1)
    }

    /// From this one to `last`, both included.
    pub fn up_to(self, last: Self) -> impl Iterator<Item = Self> {
        (self.0..=last.0).map(Self)
    }
}

/// The only handle that PortOne V1 has on a charge: at most 40 characters there, exactly 30 here.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MerchantUid(String);

impl MerchantUid {
    /// Takes an id that was derived before and stored.
    pub fn stored(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `text` has the form of an id made under `tag`.
    pub fn is_ours(text: &str, tag: Tag) -> bool {
        let Some(rest) = text.strip_prefix(tag.as_str()) else { return false };
        rest.len() == HASH_CHARS + 2
            && rest.as_bytes()[..HASH_CHARS].iter().all(|byte| BASE32.contains(byte))
            && rest.as_bytes()[HASH_CHARS..].iter().all(u8::is_ascii_digit)
            && !rest.ends_with("00")
    }
}

impl fmt::Debug for MerchantUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for MerchantUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a database calls a row of ours.
macro_rules! row_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}
pub(crate) use row_id;

row_id!(
    /// An attempt's row.
    AttemptId
);
row_id!(
    /// A send's row.
    SendId
);

/// How far an attempt has come. At most one attempt of a charge is `Live` or `Paid`: the database refuses a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttemptState {
    /// May be sent, or has a send without a proven end.
    Live,
    /// Final.
    Paid,
    /// The card was asked and refused; a failed record exists, or the text says so.
    Declined,
    /// No try of the payer: the billing key is not known, or an outage or the merchant's own trouble refused it (then with a
    /// failed record).
    Refused,
    /// Given up before anything came of it.
    Void,
}

/// How a send ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SendEnd {
    /// Its own answer was conclusive.
    Answered,
    /// Proven never to have left: connection refused, the gate, a 401.
    NotSent,
    /// Proven absent from the gateway's records (R2 and R3).
    Absent,
    /// Ended by what a look-up found.
    Found,
}

/// What the gateway's own answer to the newest send said, when it ended nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hint {
    /// A definite refusal because of the billing key: ask for a new card.
    RefusedKey,
    /// A definite refusal of the request itself.
    RefusedRequest,
    /// Any other non-zero code, or a decline whose text is AMBIGUOUS, with the text's class.
    Text(Class),
}

/// The live attempt of a charge, with its unresolved send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    pub id: AttemptId,
    /// 1, 2, 3 …: counts attempts, not ids.
    pub number: u16,
    pub id_number: IdNumber,
    pub customer_uid: String,
    /// Resends so far (R4: at most two).
    pub resends: u8,
    pub hint: Option<Hint>,
    pub open_send: Option<Send>,
}

/// An unresolved POST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Send {
    pub id: SendId,
    /// When its intent was committed, by the database clock.
    pub begun_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    fn base() -> IdBase {
        IdBase::derive("rb".parse().unwrap(), "main", "sub-0001", date(2026, 12, 1))
    }

    #[test]
    fn base32_is_rfc_4648_in_lower_case() {
        assert_eq!(base32(b"foobar", 10), "mzxw6ytboi");
    }

    /// The expected text was computed apart from this code, with Python's hashlib and base64.
    #[test]
    fn the_id_is_derived_as_the_protocol_says() {
        let uid = base().number(IdNumber::FIRST);
        assert_eq!(uid.as_str(), "rb2kszxgvi2za4qxdk4pph4h33mf01");
        assert_eq!(uid.as_str().len(), 30);
        assert!(MerchantUid::is_ours(uid.as_str(), "rb".parse().unwrap()));
        assert!(!MerchantUid::is_ours(uid.as_str(), "sb".parse().unwrap()));
    }

    #[test]
    fn no_two_lists_of_parts_share_a_hash() {
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
        assert_ne!(digest(&["a", ""]), digest(&["a"]));
    }

    #[test]
    fn an_id_knows_its_number() {
        let base = base();
        let third = base.number(IdNumber::new(3).unwrap());
        assert_eq!(base.number_of(third.as_str()), IdNumber::new(3));
        assert_eq!(base.number_of("rbsomething01"), None);
        assert_eq!(base.number_of(&format!("{}+3", base.as_str())), None);
        assert_eq!(IdNumber::new(99).unwrap().next(), None);
    }
}
