//! What is past due and waits for nothing that is shown.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Database;
use super::db::Fault;
use super::sql::missed;
use crate::domain::charge::{AccountId, ChargeId, SubscriptionId};
use crate::ports::missed::PUT_OFF;
use crate::ports::store::{Fresh, Missed, Unscheduled};

impl Database {
    pub(super) async fn count_missed(&self, now: Timestamp, due_before: Timestamp) -> Result<Missed, Fault> {
        let epoch = Timestamp::UNIX_EPOCH;
        let params = [now.into(), due_before.into(), epoch.into()];
        let mut missed = Missed::default();
        if let Some(row) = self.db.patient().read(&missed::MISSED, &params).await?.first() {
            missed.sends = row.small("sends")?;
            missed.look_ups = row.small("look_ups")?;
            missed.schedules = row.small("schedules")?;
            missed.braked = row.small("braked")?;
            missed.imports = row.small("imports")?;
        }
        let put_off = now.saturating_sub(PUT_OFF).unwrap_or(Timestamp::MIN);
        if let Some(row) =
            self.db.patient().read(&missed::RESTING, &[now.into(), due_before.into(), put_off.into()]).await?.first()
        {
            missed.booked = row.small("booked")?;
            missed.bounded = row.small("bounded")?;
        }
        for row in &self.db.patient().read(&missed::FRESH, &[now.into(), epoch.into()]).await? {
            let Some(id) = row.int_opt("id")? else { continue };
            missed.fresh.push(match row.text("lane")?.as_str() {
                "schedule" => Fresh::Schedule(SubscriptionId(id)),
                _ => Fresh::Charge(ChargeId(id)),
            });
        }
        Ok(missed)
    }

    pub(super) async fn whose_are_missed(
        &self,
        now: Timestamp,
        due_before: Timestamp,
    ) -> Result<BTreeMap<AccountId, u64>, Fault> {
        let rows = self
            .db
            .patient()
            .read(&missed::MISSED_BY_ACCOUNT, &[now.into(), due_before.into(), Timestamp::UNIX_EPOCH.into()])
            .await?;
        rows.iter().map(|row| Ok((AccountId(row.int("account_id")?), row.small("missed")?))).collect()
    }

    pub(super) async fn unscheduled_page(&self, after: SubscriptionId, limit: u32) -> Result<Unscheduled, Fault> {
        let rows = self.db.patient().read(&missed::UNSCHEDULED, &[after.0.into(), limit.into()]).await?;
        let Some(row) = rows.first() else { return Ok(Unscheduled::default()) };
        Ok(Unscheduled { found: row.small("found")?, last: row.int_opt("last")?.map(SubscriptionId) })
    }
}
