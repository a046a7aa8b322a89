//! Look-ups: asking the gateway which records it has under which ids, and telling known ones from unknown ones.

use std::collections::{BTreeMap, HashMap};

use futures::future::join_all;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AccountRuntime, Engine};
use crate::domain::attempt::{IdNumber, MerchantUid};
use crate::domain::charge::{Charge, ChargeId};
use crate::domain::outcome::{Findings, Found, Record};
use crate::ports::crash;
use crate::ports::gateway::{Gateway, Unavailable};
use crate::ports::guard::{self, Guard};
use crate::ports::store::PastAttempt;

/// Ids a call of the bulk look-up.
const IDS_A_CALL: usize = 100;
/// Later ids of a charge that are asked for beyond the last one that shows a record.
const MOST_IDS: u8 = 99;

/// What bulk look-ups came to, by `merchant_uid`. An id whose call failed stands under `failed`.
#[derive(Debug, Default)]
pub(crate) struct Bulk {
    pub newest: HashMap<String, Vec<Record>>,
    pub failed: HashMap<String, Unavailable>,
}

impl Engine {
    /// Asks for many ids, 100 a call, the calls side by side.
    pub(crate) async fn bulk(&self, account: &AccountRuntime, ids: &[MerchantUid]) -> Bulk {
        let calls = ids.chunks(IDS_A_CALL).map(|chunk| async move { (chunk, account.account.gateway.look_up(chunk).await) });
        let mut bulk = Bulk::default();
        let answers = join_all(calls).await;
        crash::point("after ", "look-up");
        for (chunk, answer) in answers {
            self.stats.look_ups.add(1);
            match answer {
                Ok(records) => {
                    for record in records {
                        bulk.newest.entry(record.merchant_uid.clone()).or_default().push(record);
                    }
                }
                // one record that makes no sense must not keep its neighbours from being judged
                Err(Unavailable::Nonsense(_)) if chunk.len() > 1 => self.one_by_one(account, chunk, &mut bulk).await,
                Err(why) => {
                    bulk.failed.extend(chunk.iter().map(|id| (id.as_str().to_owned(), why.clone())));
                }
            }
        }
        bulk
    }

    async fn one_by_one(&self, account: &AccountRuntime, ids: &[MerchantUid], bulk: &mut Bulk) {
        for id in ids {
            self.stats.look_ups.add(1);
            match account.account.gateway.look_up(std::slice::from_ref(id)).await {
                Ok(records) if records.is_empty() => {}
                Ok(records) => {
                    bulk.newest.insert(id.as_str().to_owned(), records);
                }
                Err(why) => {
                    bulk.failed.insert(id.as_str().to_owned(), why);
                }
            }
        }
    }

    /// Every record under the given ids of a charge, and under every later id that shows one if `and_later`.
    pub(crate) async fn records_under(
        &self,
        gateway: &dyn Gateway,
        charge: &Charge,
        ids: &[IdNumber],
        and_later: bool,
    ) -> Result<Vec<(IdNumber, Record)>, Unavailable> {
        let mut records = Vec::new();
        let mut last_used = IdNumber::FIRST;
        for id in ids {
            last_used = last_used.max(*id);
            self.stats.look_ups.add(1);
            let found = gateway.find_all(&charge.base.number(*id)).await?;
            crash::point("after ", "look-up of one");
            records.extend(found.into_iter().map(|record| (*id, record)));
        }
        let mut next = last_used.next().filter(|_| and_later);
        while let Some(id) = next.filter(|id| id.get() <= MOST_IDS) {
            self.stats.look_ups.add(1);
            let found = gateway.find_all(&charge.base.number(id)).await?;
            if found.is_empty() {
                break;
            }
            records.extend(found.into_iter().map(|record| (id, record)));
            next = id.next();
        }
        Ok(records)
    }
}

/// What the attempts of some charges say about records.
#[derive(Debug, Default)]
pub(crate) struct History(BTreeMap<ChargeId, Vec<PastAttempt>>);

impl History {
    pub fn new(attempts: Vec<PastAttempt>) -> Self {
        let mut by_charge: BTreeMap<ChargeId, Vec<PastAttempt>> = BTreeMap::new();
        for attempt in attempts {
            by_charge.entry(attempt.charge).or_default().push(attempt);
        }
        Self(by_charge)
    }

    fn of(&self, charge: ChargeId) -> &[PastAttempt] {
        self.0.get(&charge).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether an attempt of the charge carries this record.
    pub fn knows(&self, charge: ChargeId, imp_uid: &str) -> bool {
        self.of(charge).iter().any(|attempt| attempt.imp_uid.as_deref() == Some(imp_uid))
    }

    /// The ids under which the charge has ever been sent, with the one that it would send under next.
    pub fn ids(&self, charge: &Charge) -> Vec<IdNumber> {
        let mut ids: Vec<_> = self.of(charge.id).iter().map(|attempt| attempt.id_number).collect();
        ids.push(charge.live_id());
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The same for a look-up that is in no hurry. Of a charge that will not be sent again by itself, one id more: a restored database
    /// may not know of the last ones that were tried, and nothing else would ask for them.
    pub fn ids_and_next(&self, charge: &Charge) -> Vec<IdNumber> {
        let mut ids = self.ids(charge);
        if charge.state.rests() {
            ids.extend(ids.last().and_then(|last| last.next()).filter(|next| next.get() <= MOST_IDS));
        }
        ids
    }

    /// Judges each record: known or not, and in what it differs from what was asked under its id.
    pub fn findings(
        &self,
        charge: &Charge,
        began_at: Timestamp,
        payer: Option<&str>,
        records: Vec<(IdNumber, Record)>,
    ) -> Findings {
        let records = records
            .into_iter()
            .map(|(id_number, record)| {
                let under = |attempt: &&PastAttempt| attempt.id_number == id_number && !attempt.customer_uid.is_empty();
                let mut customers: Vec<&str> =
                    self.of(charge.id).iter().filter(under).map(|attempt| attempt.customer_uid.as_str()).collect();
                if customers.is_empty() {
                    // never sent under that id as far as we know: then it has to be the card on file
                    customers.extend(payer);
                }
                Found {
                    id_number,
                    known: self.knows(charge.id, &record.imp_uid),
                    mismatch: record.mismatch(charge.amount, &customers).filter(|_| guard::stands(Guard::Identity)),
                    record,
                }
            })
            .collect();
        Findings { began_at, records }
    }
}

/// What is kept of a look-up.
pub(crate) fn kept(findings: &Findings) -> Value {
    let records: Vec<Value> = findings
        .records
        .iter()
        .map(|found| {
            let record = &found.record;
            json!({
                "imp_uid": record.imp_uid,
                "merchant_uid": record.merchant_uid,
                "status": record.status,
                "amount": record.amount.map(|amount| amount.decimal()),
                "currency": record.amount.map(|amount| amount.currency().code().to_owned()),
                "fail_reason": record.fail_reason,
                "at": record.at,
                "known": found.known,
                "mismatch": found.mismatch.map(|mismatch| mismatch.name()),
            })
        })
        .collect();
    json!({ "records": records })
}
