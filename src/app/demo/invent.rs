//! An invented book of subscriptions: mixed anchors, prices, good and bad cards. The same seed invents the same book.

use jiff::civil::{Date, date};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::domain::attempt::digest;
use crate::gateway::sandbox::{CardBehaviour, Decline};

/// The plans of the demo, as they stand in its config.
pub const PLANS: &str = r#"
[plans.basic]
every = "1 month"
amount = 9900
title = "Basic 구독"
catch_up = "all"
catch_up_limit = 100

[plans.pro]
every = "1 month"
amount = 29000
title = "Pro 구독"
catch_up = "all"
catch_up_limit = 100
charge_time = "11:30"

[plans.team]
every = "1 month"
amount = 99000
title = "Team 구독"
catch_up = "all"
catch_up_limit = 100
tax_free = 0
vat_amount = 9000
charge_time = "14:00"

[plans.weekly]
every = "1 week"
amount = 4900
title = "Weekly 구독"
catch_up = "all"
catch_up_limit = 100
while_past_due = "continue"

[plans.quarter]
every = "3 months"
amount = 79000
title = "Quarter 구독"
catch_up = "all"
catch_up_limit = 100
charge_time = "09:30"
"#;

const FAMILY: [&str; 8] = ["김", "이", "박", "최", "정", "강", "조", "윤"];
const GIVEN: [&str; 10] = ["민준", "서연", "도윤", "지우", "하준", "서윤", "예준", "하은", "시우", "수아"];

/// One invented subscription and the card behind it.
pub struct Invented {
    pub external_ref: String,
    pub plan: &'static str,
    pub customer_uid: String,
    pub card: CardBehaviour,
    pub anchor: Date,
    pub name: String,
    pub phone: String,
    pub mail: String,
}

/// A random source for one purpose: what one purpose draws never moves another.
pub fn rng(seed: u64, purpose: &str) -> ChaCha8Rng {
    ChaCha8Rng::from_seed(digest(&["demo/1", &seed.to_string(), purpose]))
}

/// Invents `count` subscriptions that begin in the month after `start`.
pub fn subscriptions(seed: u64, count: usize, start: Date) -> Vec<Invented> {
    let mut rng = rng(seed, "book");
    (0..count)
        .map(|n| {
            let plan = match rng.random_range(0..100) {
                0..45 => "basic",
                45..75 => "pro",
                75..85 => "team",
                85..93 => "weekly",
                _ => "quarter",
            };
            let (kind, card) = card(&mut rng);
            let day = rng.random_range(0..31);
            let anchor = start.checked_add(jiff::Span::new().days(day)).unwrap_or(date(2026, 1, 31));
            let name = format!("{}{}", FAMILY[rng.random_range(0..FAMILY.len())], GIVEN[rng.random_range(0..GIVEN.len())]);
            Invented {
                external_ref: format!("sub-{n:04}"),
                plan,
                customer_uid: format!("{kind}-{n:04}"),
                card,
                anchor,
                name,
                phone: format!("010-{:04}-{:04}", rng.random_range(1000..10_000), rng.random_range(0..10_000)),
                mail: format!("payer{n:04}@example.com"),
            }
        })
        .collect()
}

fn card(rng: &mut ChaCha8Rng) -> (&'static str, CardBehaviour) {
    match rng.random_range(0..100) {
        0..80 => ("good", CardBehaviour::Good),
        80..86 => {
            let times = rng.random_range(1..4);
            ("short", CardBehaviour::DeclinesThenPays { times, decline: Decline::Funds })
        }
        86..92 => {
            let seed = rng.random_range(0..u64::MAX);
            ("moody", CardBehaviour::Flaky { per_million: 250_000, seed, decline: Decline::Limit })
        }
        92..95 => ("broke", CardBehaviour::Declines(Decline::Funds)),
        95..97 => ("expired", CardBehaviour::Declines(Decline::Expired)),
        97..98 => ("stolen", CardBehaviour::Declines(Decline::Stolen)),
        98..99 => ("call", CardBehaviour::Declines(Decline::Contact)),
        _ => ("strange", CardBehaviour::Declines(Decline::Text("[9Z9Z][실시간빌링실패|알 수 없는 사유]".to_owned()))),
    }
}

/// The book as the CSV that an operator would import.
pub fn csv(book: &[Invented]) -> String {
    let mut text =
        String::from("account,external_ref,plan,customer_uid,anchor,starts_on,buyer_name,buyer_tel,buyer_email,product_type\n");
    for invented in book {
        let Invented { external_ref, plan, customer_uid, anchor, name, phone, mail, .. } = invented;
        text.push_str(&format!("demo,{external_ref},{plan},{customer_uid},{anchor},{anchor},{name},{phone},{mail},digital\n"));
    }
    text
}
