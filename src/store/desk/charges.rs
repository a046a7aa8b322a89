//! Charges: listed, and found by whatever name an operator has for one.

use jiff::Timestamp;
use jiff::civil::Date;

use super::{Desk, sql};
use crate::domain::charge::{ChargeState, Waiting};
use crate::store::codec::Row;
use crate::store::db::Fault;

/// A charge as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChargeRow {
    pub id: i64,
    pub account: String,
    pub external_ref: String,
    pub plan: String,
    /// The subscription's own zone; `None`: the plan's.
    pub zone: Option<String>,
    pub subscription: i64,
    pub period_start: Date,
    pub period_end: Date,
    pub due_at: Timestamp,
    pub amount: i64,
    pub currency: String,
    pub tax_free: Option<i64>,
    pub vat_amount: Option<i64>,
    pub id_mode: String,
    pub state: ChargeState,
    pub waiting: Waiting,
    pub next_at: Option<Timestamp>,
    pub id_number: u8,
    pub attempts: i64,
    pub tries: i64,
    pub first_declined_at: Option<Timestamp>,
    pub doubt_since: Option<Timestamp>,
    pub doubt_looks: i64,
    pub quiet_since: Option<Timestamp>,
    pub quiet_twice: bool,
    pub newest_send_at: Option<Timestamp>,
    pub elsewhere_imp_uid: Option<String>,
    pub imp_uid: Option<String>,
    pub paid_at: Option<Timestamp>,
    pub refunded: bool,
    /// The config that it opened under; `None` for one that is older than such numbers.
    pub config_version: Option<i64>,
}

impl ChargeRow {
    /// Whether it is only opened ahead: not due yet, and never tried.
    pub fn is_ahead(&self, now: Timestamp) -> bool {
        self.state == ChargeState::Due && self.attempts == 0 && self.due_at > now
    }

    pub(super) fn of(row: &Row) -> Result<Self, Fault> {
        Ok(Self {
            id: row.int("id")?,
            account: row.text("account")?,
            external_ref: row.text("external_ref")?,
            plan: row.text("plan")?,
            zone: row.text_opt("zone")?,
            subscription: row.int("subscription_id")?,
            period_start: row.day("period_start")?,
            period_end: row.day("period_end")?,
            due_at: row.at("due_at")?,
            amount: row.int("amount")?,
            currency: row.text("currency")?,
            tax_free: row.int_opt("tax_free")?,
            vat_amount: row.int_opt("vat_amount")?,
            id_mode: row.text("id_mode")?,
            state: row.word("state", ChargeState::from_name)?,
            waiting: row.word("waiting", Waiting::from_name)?,
            next_at: row.at_opt("next_at")?,
            id_number: row.small("id_number")?,
            attempts: row.int("attempts")?,
            tries: row.int("tries")?,
            first_declined_at: row.at_opt("first_declined_at")?,
            doubt_since: row.at_opt("doubt_since")?,
            doubt_looks: row.int("doubt_looks")?,
            quiet_since: row.at_opt("quiet_since")?,
            quiet_twice: row.flag("quiet_twice")?,
            newest_send_at: row.at_opt("newest_send_at")?,
            elsewhere_imp_uid: row.text_opt("elsewhere_imp_uid")?,
            imp_uid: row.text_opt("imp_uid")?,
            paid_at: row.at_opt("paid_at")?,
            refunded: row.flag("refunded")?,
            config_version: row.int_opt("config_version")?,
        })
    }
}

/// Which charges to list.
#[derive(Debug, Clone, Default)]
pub struct ChargeFilter {
    pub state: Option<ChargeState>,
    pub account: Option<String>,
    pub external_ref: Option<String>,
    /// Periods that start on or after it.
    pub from: Option<Date>,
    /// Periods that start before it.
    pub to: Option<Date>,
    pub limit: u32,
}

/// How an operator names a charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    Id(i64),
    MerchantUid(String),
    Period {
        external_ref: String,
        start: Date,
    },
    /// The newest charge of the subscription that has fallen due; one that is only opened ahead if there is none.
    Newest {
        external_ref: String,
    },
}

impl Reference {
    /// Reads `12`, `rb2ksz…01`, `REF:2026-12-01` or `REF`.
    pub fn read(text: &str) -> Self {
        if let Some((external_ref, date)) = text.rsplit_once(':')
            && let Ok(start) = date.parse()
        {
            return Self::Period { external_ref: external_ref.to_owned(), start };
        }
        if let Ok(id) = text.parse() {
            return Self::Id(id);
        }
        let like_an_id = text.len() == 30 && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if like_an_id { Self::MerchantUid(text.to_owned()) } else { Self::Newest { external_ref: text.to_owned() } }
    }
}

impl Desk<'_> {
    pub async fn charges(&self, filter: &ChargeFilter) -> Result<Vec<ChargeRow>, Fault> {
        let mut params = vec![
            filter.state.map(|state| state.name()).into(),
            filter.account.as_deref().into(),
            filter.from.into(),
            filter.to.into(),
            filter.limit.into(),
        ];
        let rows = match &filter.external_ref {
            None => self.database.read(&sql::CHARGES, &params).await?,
            Some(external_ref) => {
                params.push(self.ids_of(filter.account.as_deref(), external_ref).await?.into());
                self.database.read(&sql::CHARGES_OF, &params).await?
            }
        };
        rows.iter().map(ChargeRow::of).collect()
    }

    /// The charges that a reference may mean: none, one, or several if accounts share an `external_ref`.
    pub async fn find_charges(&self, account: Option<&str>, reference: &Reference) -> Result<Vec<ChargeRow>, Fault> {
        let ids = match reference {
            Reference::Id(id) => vec![*id],
            Reference::MerchantUid(uid) => {
                let rows = self.database.read(&sql::CHARGE_OF_UID, &[uid.as_str().into()]).await?;
                rows.iter().map(|row| row.int("charge_id")).collect::<Result<_, _>>()?
            }
            Reference::Period { external_ref, start } => {
                let subscriptions = self.ids_of(account, external_ref).await?;
                let rows = self.database.read(&sql::CHARGE_OF_PERIOD, &[subscriptions.into(), (*start).into()]).await?;
                rows.iter().map(|row| row.int("id")).collect::<Result<_, _>>()?
            }
            Reference::Newest { external_ref } => {
                let mut newest = Vec::new();
                for subscription in self.ids_of(account, external_ref).await? {
                    newest.extend(self.newest_charge(subscription).await?);
                }
                return Ok(newest);
            }
        };
        let rows = self.database.read(&sql::CHARGES_BY_ID, &[ids.into()]).await?;
        let charges = rows.iter().map(ChargeRow::of).collect::<Result<Vec<_>, _>>()?;
        Ok(charges.into_iter().filter(|charge| account.is_none_or(|account| charge.account == account)).collect())
    }

    async fn newest_charge(&self, subscription: i64) -> Result<Option<ChargeRow>, Fault> {
        let now = self.clock().await?;
        let none = None::<&str>;
        let day = None::<Date>;
        // a period opens ahead by a minute or so: never two of them
        let params = [none.into(), none.into(), day.into(), day.into(), 2i64.into(), vec![subscription].into()];
        let rows = self.database.read(&sql::CHARGES_OF, &params).await?;
        let mut charges = rows.iter().map(ChargeRow::of).collect::<Result<Vec<_>, _>>()?;
        let due = charges.iter().position(|charge| !charge.is_ahead(now)).unwrap_or(0);
        Ok((due < charges.len()).then(|| charges.swap_remove(due)))
    }

    /// The rule that last decided on a charge.
    pub async fn last_rule(&self, charge: i64) -> Result<Option<String>, Fault> {
        let rows = self.database.read(&sql::LAST_RULE, &[charge.into()]).await?;
        rows.first().map_or(Ok(None), |row| row.text_opt("rule"))
    }

    async fn ids_of(&self, account: Option<&str>, external_ref: &str) -> Result<Vec<i64>, Fault> {
        Ok(self.find_subscriptions(account, external_ref).await?.iter().map(|row| row.id).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_may_be_named_in_four_ways() {
        assert_eq!(Reference::read("12"), Reference::Id(12));
        assert_eq!(
            Reference::read("sub:1:2026-12-01"),
            Reference::Period { external_ref: "sub:1".into(), start: jiff::civil::date(2026, 12, 1) }
        );
        let uid = "rb2kszxgvi2za4qxdk4pph4h33mf01";
        assert_eq!(Reference::read(uid), Reference::MerchantUid(uid.into()));
        assert_eq!(Reference::read("sub-0001"), Reference::Newest { external_ref: "sub-0001".into() });
    }
}
