//! What a card company's refusal means: its class, what follows from it, what an operator does, what a payer may read.
//!
//! Which class a text has is found by [`super::classify`].

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
    pub const ALL: [Self; 8] = [
        Self::HardCard,
        Self::SoftFunds,
        Self::SoftContact,
        Self::Transient,
        Self::Ambiguous,
        Self::Merchant,
        Self::Request,
        Self::Unknown,
    ];

    /// As the operator's rules write them.
    pub const NAMES: [&'static str; 8] =
        ["HARD_CARD", "SOFT_FUNDS", "SOFT_CONTACT", "TRANSIENT", "AMBIGUOUS", "MERCHANT", "REQUEST", "UNKNOWN"];

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
        Self::ALL.into_iter().find(|class| class.name() == name)
    }

    /// Whether the text is about the card or the money on it: then a refusal without any record counts as a decline.
    pub fn is_card_or_funds(self) -> bool {
        matches!(self, Self::HardCard | Self::SoftFunds | Self::SoftContact)
    }

    /// Whether a refusal counts as a declined try: an outage, a contract or a request of ours is not the card's doing.
    pub fn uses_up_a_try(self) -> bool {
        !matches!(self, Self::Transient | Self::Merchant)
    }

    /// What happens next, by itself.
    pub fn next_step(self) -> &'static str {
        match self {
            Self::HardCard => "nothing is sent; a new card is asked for, until the charge is given up",
            Self::SoftFunds => "tried again on the ladder's days",
            Self::SoftContact => "tried once or twice more, on the ladder's days",
            Self::Transient => "tried again within minutes to hours, then on the ladder's days",
            Self::Ambiguous => "looked up; once only failed records are proven, tried once more",
            Self::Merchant => "the account is paused and nobody is charged until an operator releases it",
            Self::Request => "this charge goes to review: the same request is never repeated by itself",
            Self::Unknown => "tried once more, on the ladder's first day; the raw text is kept",
        }
    }

    /// What a person has to do, if anything.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::HardCard => {
                "ask the payer for another card, register it at PortOne, then `rebilld subscriptions set REF --customer-uid NEW`"
            }
            Self::SoftFunds => "none; tell the payer when the next try comes",
            Self::SoftContact => "ask the payer to call the card company; the next try comes by itself",
            Self::Transient => "none, unless it lasts: look at the provider's notices",
            Self::Ambiguous => "none while it is looked up; `rebilld review list` if it is not resolved within a day",
            Self::Merchant => "settle contract, MID or limits with the provider, then `rebilld hold release --account NAME`",
            Self::Request => "correct the subscription or the config, then `rebilld charges retry CHARGE`",
            Self::Unknown => "add a rule to [[declines.rules]] if you know what the text means",
        }
    }

    /// What the payer may be told, in Korean and English: no card detail, no bank detail. `again`: another try follows by itself.
    pub fn payer_message(self, again: bool) -> (&'static str, &'static str) {
        match (self, again) {
            (Self::SoftFunds, false) => (
                "카드의 잔액 또는 한도가 부족하여 결제되지 않았습니다. 결제 수단을 확인해 주세요.",
                "The payment failed because of the balance or limit of your card. Please check your payment method.",
            ),
            (Self::HardCard, _) => (
                "등록하신 카드로 결제할 수 없습니다. 다른 카드를 등록해 주세요.",
                "Your card cannot be charged. Please register another card.",
            ),
            (Self::SoftFunds, true) => (
                "카드의 잔액 또는 한도가 부족하여 결제되지 않았습니다. 며칠 안에 다시 결제를 시도합니다.",
                "The payment failed because of the balance or limit of your card. We will try again in a few days.",
            ),
            (Self::SoftContact, _) => (
                "카드사에서 결제를 승인하지 않았습니다. 카드사에 문의해 주세요.",
                "Your card company did not approve the payment. Please contact it.",
            ),
            (Self::Transient, true) => (
                "카드사 또는 은행의 일시적인 장애로 결제되지 않았습니다. 잠시 후 다시 결제를 시도합니다.",
                "The payment failed because of a temporary outage. We will try again shortly.",
            ),
            (Self::Ambiguous, true) => (
                "결제 결과를 확인하고 있습니다. 결제되지 않은 경우 다시 시도합니다.",
                "We are checking the result of the payment and will try again if it was not made.",
            ),
            (Self::Merchant | Self::Request, true) => (
                "서비스 제공자의 사정으로 결제가 지연되고 있습니다. 카드에는 문제가 없습니다.",
                "The payment is delayed for a reason on our side. There is nothing wrong with your card.",
            ),
            (Self::Merchant | Self::Request, false) => (
                "서비스 제공자의 사정으로 결제가 완료되지 않았습니다. 고객센터로 문의해 주세요.",
                "The payment was not completed for a reason on our side. Please contact our support.",
            ),
            (Self::Unknown, true) => {
                ("결제가 완료되지 않았습니다. 다시 시도하겠습니다.", "The payment was not completed. We will try again.")
            }
            (Self::Transient | Self::Ambiguous | Self::Unknown, false) => (
                "결제가 완료되지 않았습니다. 결제 수단을 확인해 주세요.",
                "The payment was not completed. Please check your payment method.",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for class in Class::ALL {
            assert_eq!(Class::from_name(class.name()), Some(class));
        }
        assert_eq!(Class::from_name("PAID"), None);
    }

    #[test]
    fn payers_are_told_something_in_both_languages_and_nothing_of_their_card() {
        for class in Class::ALL {
            for again in [true, false] {
                let (korean, english) = class.payer_message(again);
                assert!(korean.chars().any(|char| ('가'..='힣').contains(&char)) && english.is_ascii(), "{class:?}");
                assert!(!korean.chars().chain(english.chars()).any(|char| char.is_ascii_digit()), "{class:?}");
                let promises = english.contains("again");
                assert!(again || !promises, "{class:?} promises a try that does not come");
            }
            assert!(!class.next_step().is_empty() && !class.remedy().is_empty());
        }
    }
}
