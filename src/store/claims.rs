//! Finding, claiming and loading charges.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Database;
use super::codec::{Param, Row};
use super::db::Fault;
use super::rows;
use super::sql::charges;
use crate::domain::charge::{AccountId, Charge, ChargeId};
use crate::ports::store::{Booked, Claim, ClaimToken, Claimed, Lane, NextDue, PastAttempt};

pub(super) fn ids(charges: &[ChargeId]) -> Vec<i64> {
    charges.iter().map(|charge| charge.0).collect()
}

/// What both claiming statements are asked with.
pub(super) fn claim_params(claim: &Claim) -> [Param; 6] {
    [
        claim.account.0.into(),
        claim.now.into(),
        claim.due_until.into(),
        claim.limit.into(),
        claim.token.0.as_str().into(),
        claim.claim_until.into(),
    ]
}

impl Database {
    pub(super) async fn claim_charges(&self, claim: &Claim) -> Result<Vec<Claimed>, Fault> {
        let tag = self.tag().await?;
        let statement = match claim.lane {
            Lane::Send => &charges::CLAIM_TO_SEND,
            Lane::LookUp => &charges::CLAIM_TO_LOOK_UP,
        };
        let mut tx = self.db.begin().await?;
        let claimed = tx.query(statement, &claim_params(claim)).await?;
        let claimed = claimed.iter().map(|row| row.int("id")).collect::<Result<Vec<i64>, _>>()?;
        if claimed.is_empty() {
            return Ok(Vec::new());
        }
        // a statement of its own, so that it sees what was committed while this one waited for rows
        let found = tx.query(&charges::LOAD_CLAIMED, &[claimed.into()]).await?;
        tx.commit().await?;
        let mut loaded = Vec::with_capacity(found.len());
        for row in &found {
            match rows::claimed(row, tag) {
                Ok(one) => loaded.push(one),
                // its neighbours are not concerned; it stays claimed for a while, and past due for `missed`
                Err(fault) => {
                    let charge = row.int("id").unwrap_or_default();
                    tracing::error!(charge.id = charge, error = %fault, "a claimed charge cannot be read back and is left alone");
                }
            }
        }
        Ok(loaded)
    }

    pub(super) async fn claim_this(
        &self,
        charge: ChargeId,
        token: &ClaimToken,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<Claimed>, Fault> {
        let tag = self.tag().await?;
        let mut tx = self.db.begin().await?;
        let params = [charge.0.into(), token.0.as_str().into(), now.into(), until.into()];
        if tx.query(&charges::CLAIM_ONE, &params).await?.is_empty() {
            return Ok(None);
        }
        let found = tx.query(&charges::LOAD_CLAIMED, &[vec![charge.0].into()]).await?;
        tx.commit().await?;
        found.first().map(|row| rows::claimed(row, tag)).transpose()
    }

    pub(super) async fn release_claims(&self, token: &ClaimToken, charges: &[ChargeId]) -> Result<(), Fault> {
        if !charges.is_empty() {
            self.db.write(&charges::RELEASE, &[token.0.as_str().into(), ids(charges).into()]).await?;
        }
        Ok(())
    }

    pub(super) async fn load_charges(&self, charges: &[ChargeId]) -> Result<Vec<Charge>, Fault> {
        let tag = self.tag().await?;
        let found = self.db.read(&charges::LOAD, &[ids(charges).into()]).await?;
        let mut loaded = Vec::with_capacity(found.len());
        for row in &found {
            match rows::charge(row, tag) {
                Ok(charge) => loaded.push(charge),
                // its neighbours are not concerned
                Err(fault) => {
                    let charge = row.int("id").unwrap_or_default();
                    tracing::error!(charge.id = charge, error = %fault, "a charge cannot be read back and is left alone");
                }
            }
        }
        Ok(loaded)
    }

    pub(super) async fn past_attempts(&self, charges: &[ChargeId]) -> Result<Vec<PastAttempt>, Fault> {
        let found = self.db.read(&charges::ATTEMPTS_OF, &[ids(charges).into()]).await?;
        let past = |row: &Row| {
            Ok(PastAttempt {
                charge: ChargeId(row.int("charge_id")?),
                id_number: rows::id_number(row, "id_number")?,
                state: row.word("state", rows::attempt_state)?,
                customer_uid: row.text("customer_uid")?,
                imp_uid: row.text_opt("imp_uid")?,
            })
        };
        found.iter().map(past).collect()
    }

    pub(super) async fn first_due(&self, now: Timestamp) -> Result<NextDue, Fault> {
        let found = self.db.read(&charges::NEXT_DUE, &[now.into()]).await?;
        let Some(row) = found.first() else { return Ok(NextDue::default()) };
        let mut due = NextDue {
            schedule: row.at_opt("schedule")?,
            schedule_later: row.at_opt("schedule_later")?,
            send: row.at_opt("send")?,
            send_later: row.at_opt("send_later")?,
            look_up: row.at_opt("look_up")?,
            look_up_later: row.at_opt("look_up_later")?,
            delivery: row.at_opt("delivery")?,
            state: row.at_opt("state")?,
            claim_end: None,
        };
        if due.first().is_some_and(|first| first <= now) {
            return Ok(due);
        }
        // nothing is due but what is claimed: wake when a claim ends, in case its worker has died
        let bound = |free: Option<Timestamp>| free.unwrap_or(END_OF_TIME);
        let params = [now.into(), bound(due.send).into(), bound(due.look_up).into()];
        let ends = self.db.read(&charges::NEXT_CLAIM_END, &params).await?;
        if let Some(row) = ends.first() {
            due.claim_end = [row.at_opt("send")?, row.at_opt("look_up")?].into_iter().flatten().min();
        }
        Ok(due)
    }

    pub(super) async fn interrupted(&self, now: Timestamp, limit: u32) -> Result<Vec<ChargeId>, Fault> {
        let found = self.db.read(&charges::INTERRUPTED, &[now.into(), limit.into()]).await?;
        found.iter().map(|row| row.int("id").map(ChargeId)).collect()
    }

    pub(super) async fn charges_of_uids(&self, uids: &[String]) -> Result<BTreeMap<String, ChargeId>, Fault> {
        let found = self.db.read(&charges::CHARGES_OF, &[uids.to_vec().into()]).await?;
        found.iter().map(|row| Ok((row.text("merchant_uid")?, ChargeId(row.int("charge_id")?)))).collect()
    }

    pub(super) async fn booked_payments(
        &self,
        account: AccountId,
        from: Timestamp,
        to: Timestamp,
        after: ChargeId,
        limit: u32,
    ) -> Result<Vec<Booked>, Fault> {
        let tag = self.tag().await?;
        let params = [account.0.into(), from.into(), to.into(), after.0.into(), limit.into()];
        let found = self.db.read(&charges::BOOKED, &params).await?;
        let booked = |row: &Row| {
            let base = crate::domain::attempt::IdBase::derive(
                tag,
                &row.text("account")?,
                &row.text("external_ref")?,
                row.day("period_start")?,
            );
            Ok(Booked {
                charge: ChargeId(row.int("id")?),
                imp_uid: row.text("imp_uid")?,
                merchant_uid: base.number(rows::id_number(row, "id_number")?).as_str().to_owned(),
                amount: rows::money(row)?,
                state: row.word("state", crate::domain::charge::ChargeState::from_name)?,
                refunded: row.flag("refunded")?,
            })
        };
        found.iter().map(booked).collect()
    }
}

/// 9999-01-01, which every engine can store.
const END_OF_TIME: Timestamp = Timestamp::constant(253_370_764_800, 0);
