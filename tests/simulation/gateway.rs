//! The wire between one process and the gateway: requests that get lost, answers that come late, wrong or not at all.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rand::RngExt;
use rebilld::domain::attempt::MerchantUid;
use rebilld::domain::outcome::Record;
use rebilld::domain::proof;
use rebilld::gateway::portone::{self, LookedUp, Wire};
use rebilld::ports::gateway::{Answer, ChargeRequest, DurableAttempt, Gateway, InvalidRequest, ListPage, Unavailable};
use rebilld::store::Database;
use serde_json::json;

use crate::faults::{Fault, Swarm, rng};
use crate::ledger::{How, Ledger};
use crate::lookups::{self, SPOILT, Spoilt};
use crate::operations::happens;
use crate::process::Process;
use crate::tally::Tally;
use crate::witness::{AtTheWire, Believed};

/// As long as a process waits for the answer to a charge.
const PATIENCE: SignedDuration = SignedDuration::from_secs(65);

/// One account at the gateway, whoever asks it.
pub struct PortOne {
    pub ledger: Mutex<Ledger>,
    /// `None`: faults have stopped.
    pub swarm: Mutex<Option<Swarm>>,
    pub tally: Arc<Tally>,
    pub at_the_wire: AtTheWire,
    pub believed: Believed,
}

/// The same as one process reaches it.
pub struct SimulatedGateway {
    pub portone: Arc<PortOne>,
    /// What stands in it when a request leaves.
    pub database: Arc<Database>,
    pub process: Arc<Process>,
    /// The access token that it has.
    pub token: AtomicU64,
}

impl PortOne {
    fn swarm(&self) -> Option<Swarm> {
        self.swarm.lock().unwrap().clone()
    }

    fn storms(swarm: &Swarm, since_start: SignedDuration) -> bool {
        let minutes = since_start.as_mins() % (10 * 24 * 60);
        swarm.storm.is_some_and(|(hour, long)| (hour * 60..hour * 60 + long).contains(&minutes))
    }

    fn is_down(swarm: &Swarm, since_start: SignedDuration) -> bool {
        let hours = since_start.as_hours() % (60 * 24);
        swarm.look_up_down.is_some_and(|(from, long)| (from..from + long).contains(&hours))
    }
}

/// A POST on its way: what befalls it, and what of it is left to say.
struct Post {
    fault: Fault,
    post: proof::LedgerPost,
    nth: usize,
    swarm: Swarm,
}

impl Post {
    fn seconds(&self, what: &str, from: i64, to: i64) -> SignedDuration {
        SignedDuration::from_secs(self.swarm.measure(&self.post.merchant_uid, self.nth, what, from, to))
    }

    /// How long no look-up shows what becomes of it: the protocol's bound is 10 minutes. A gateway that shows late at all shows late
    /// behind any answer, the lost ones too.
    fn hidden(&self) -> SignedDuration {
        let lags = self.swarm.kinds.contains(&Fault::Invisible) && self.fault != Fault::None;
        let lag = || self.seconds("lag", 1, 10 * 60);
        match self.fault {
            Fault::Invisible => lag(),
            _ if lags && self.seconds("lags", 0, 2).is_zero() => lag(),
            _ => SignedDuration::ZERO,
        }
    }

    /// What the gateway makes of it when it arrives. `None`: nothing yet, or ever.
    fn arrive(&self, ledger: &mut Ledger, now: Timestamp) -> Option<serde_json::Value> {
        if matches!(self.fault, Fault::LostBefore | Fault::Unreachable) {
            return None;
        }
        let processed = !matches!(self.fault, Fault::OverloadBefore | Fault::Unauthorized);
        ledger.posts.push(proof::LedgerPost { processed, ..self.post.clone() });
        let minutes = |what: &str, most: i64| self.seconds(what, 1, 60 * most);
        let hidden = self.hidden();
        match self.fault {
            _ if !processed => return None,
            // the protocol's bounds: delays to 15 minutes, visibility lag to 10; with a stall below Q
            Fault::Late => {
                ledger.process_later(now + minutes("delay", 15), &self.post, hidden);
                return None;
            }
            Fault::Duplicate => ledger.process_later(now + minutes("delay", 15), &self.post, hidden),
            _ => {}
        }
        let for_good = self.seconds("for good", 0, 4).is_zero();
        let after = match self.fault {
            Fault::Ready => minutes("ready", 40 * 60),
            _ => minutes("approved", 15),
        };
        Some(ledger.process(&self.post, now, How { fault: self.fault, hidden, for_good, after }))
    }

    /// Is processed, and no answer comes.
    fn is_unheard(&self) -> bool {
        matches!(self.fault, Fault::LostAfter | Fault::TooSlow | Fault::Late)
    }

    /// How long the answer takes.
    fn takes(&self) -> SignedDuration {
        match self.fault {
            Fault::Slow => self.seconds("slow", 2, 60),
            Fault::TooSlow | Fault::Late => PATIENCE,
            _ => SignedDuration::from_millis(self.swarm.measure(&self.post.merchant_uid, self.nth, "usual", 50, 900)),
        }
    }

    fn overload(&self) -> u16 {
        [429, 500, 502, 503][self.swarm.measure(&self.post.merchant_uid, self.nth, "status", 0, 4) as usize]
    }

    /// What the caller is told.
    fn answer(&self, attempt: &DurableAttempt, body: Option<serde_json::Value>, others: Option<&str>, token: u64) -> Answer {
        let mut body = body.unwrap_or(serde_json::Value::Null);
        let response = &mut body["response"];
        let is_record = response.is_object();
        match self.fault {
            Fault::Foreign if is_record => response["merchant_uid"] = json!("rbaaaaaaaaaaaaaaaaaaaaaaaaaa01"),
            Fault::WrongAmount if is_record => response["amount"] = json!(self.post.amount + 1),
            Fault::WrongCurrency if is_record => response["currency"] = json!("USD"),
            Fault::WrongCustomer if is_record => response["customer_uid"] = json!("somebody"),
            Fault::WrongImpUid if is_record => {
                if let Some(other) = others {
                    response["imp_uid"] = json!(other);
                }
            }
            _ => {}
        }
        let text = body.to_string();
        let status = [301, 400, 404, 418][self.swarm.measure(&self.post.merchant_uid, self.nth, "status", 0, 4) as usize];
        let wire = match self.fault {
            Fault::LostBefore | Fault::LostAfter => Wire::Broken("reset"),
            Fault::Late | Fault::TooSlow => Wire::Broken("timeout"),
            Fault::Unreachable => Wire::Unreachable("refused"),
            Fault::OverloadBefore | Fault::OverloadAfter => Wire::Answer(self.overload(), b"oops"),
            Fault::OddStatus => Wire::Answer(status, text.as_bytes()),
            Fault::Unauthorized => Wire::Answer(401, b"{}"),
            Fault::Malformed => Wire::Answer(200, b"<html>busy</html>"),
            Fault::CutOff => Wire::Answer(200, &text.as_bytes()[..40.min(text.len())]),
            Fault::TooLarge => Wire::TooLarge(200),
            _ => Wire::Answer(200, text.as_bytes()),
        };
        portone::judge(attempt, wire, token)
    }
}

impl SimulatedGateway {
    fn since_start(&self) -> SignedDuration {
        self.process.stage.now().duration_since(self.process.stage.start)
    }

    fn now(&self) -> Timestamp {
        self.process.stage.now()
    }

    /// What becomes of the answer to a call that cannot charge, as the seed says.
    async fn look(&self, what: &str) -> Result<Option<Spoilt>, Unavailable> {
        self.process.point().await;
        let Some(swarm) = self.portone.swarm() else { return Ok(None) };
        let (since, now) = (self.since_start(), self.now().to_string());
        let unlucky = swarm.look_up_rate > 0 && rng(swarm.seed, &["look", what, &now]).random_range(0..1000) < swarm.look_up_rate;
        let befalls = |why: &str| happens(|| format!("look-up of {what} at {now} {why}"));
        if PortOne::storms(&swarm, since) && befalls("meets a storm") {
            self.portone.tally.count("fault: a look-up in a storm");
            return Err(Unavailable::Overload(503));
        }
        if PortOne::is_down(&swarm, since) && befalls("finds it down") {
            self.portone.tally.count("fault: a look-up while they are down");
            return Ok(Some(Spoilt::Page(404)));
        }
        if unlucky && befalls("is spoilt") {
            self.portone.tally.count("fault: a look-up failed");
            let spoilt = SPOILT[rng(swarm.seed, &["spoilt", what, &now]).random_range(0..SPOILT.len())];
            self.portone.tally.count(spoilt.name());
            return Ok(Some(spoilt));
        }
        Ok(None)
    }

    /// The answer, as the client reads it.
    fn answered(
        &self,
        ledger: &Ledger,
        asked: LookedUp<'_>,
        records: &[Record],
        more: bool,
        spoilt: Option<Spoilt>,
    ) -> Result<Vec<Record>, Unavailable> {
        let asked_for = |record: &Record| match asked {
            LookedUp::Batch(ids) => ids.iter().any(|id| id.as_str() == record.merchant_uid),
            LookedUp::All(id) => id.as_str() == record.merchant_uid,
            LookedUp::One(_) | LookedUp::List => true,
        };
        let other = ledger.newest().filter(|record| !asked_for(record));
        // what is about nobody else says nothing false
        let spoilt = spoilt.map(|spoilt| if spoilt == Spoilt::Foreign && other.is_none() { Spoilt::Page(200) } else { spoilt });
        let read = lookups::answered(asked, records, more, spoilt.map(|spoilt| (spoilt, other)));
        match spoilt {
            Some(spoilt) => self.portone.believed.judged(&format!("{asked:?}"), &spoilt, &read),
            None => assert_eq!(read.as_deref().map(<[Record]>::len), Ok(records.len()), "{asked:?}: {records:?}"),
        }
        read
    }
}

#[async_trait]
impl Gateway for SimulatedGateway {
    fn compose(&self, request: &ChargeRequest<'_>) -> Result<String, InvalidRequest> {
        portone::compose(request)
    }

    async fn ready(&self) -> Result<(), Unavailable> {
        self.process.point().await;
        let Some(swarm) = self.portone.swarm() else { return Ok(()) };
        let fails = PortOne::storms(&swarm, self.since_start());
        if fails && happens(|| format!("a token at {} meets a storm", self.now())) {
            Err(Unavailable::Overload(503))
        } else {
            Ok(())
        }
    }

    async fn charge(&self, attempt: DurableAttempt) -> Answer {
        let leaves = proof::LedgerPost {
            merchant_uid: attempt.merchant_uid().as_str().to_owned(),
            customer_uid: attempt.customer_uid().to_owned(),
            amount: attempt.amount().minor(),
            at: self.now(),
            processed: true,
        };
        let clock = self.process.is_steady().then(|| self.process.database_clock());
        self.portone.at_the_wire.leaves(&self.database, &leaves, clock);
        self.process.point().await;
        let now = self.now();
        let post = proof::LedgerPost { at: now, ..leaves };
        let (post, body, others) = {
            let mut ledger = self.portone.ledger.lock().unwrap();
            ledger.settle(now);
            let nth = ledger.arrive(&post.merchant_uid);
            let swarm = self.portone.swarm().unwrap_or_default();
            let fault = match swarm.fault(&post.merchant_uid, nth) {
                _ if !PortOne::storms(&swarm, self.since_start()) => swarm.fault(&post.merchant_uid, nth),
                _ if nth.is_multiple_of(2) => Fault::OverloadAfter,
                _ => Fault::OverloadBefore,
            };
            let befalls = fault == Fault::None || happens(|| format!("POST {nth} of {} is {fault:?}", post.merchant_uid));
            let fault = if befalls { fault } else { Fault::None };
            self.portone.tally.count(fault.name());
            let others = ledger.somebodys(now).map(str::to_owned);
            let post = Post { fault, post, nth, swarm };
            if post.is_unheard() && !post.hidden().is_zero() {
                self.portone.tally.count("POST: invisible at first, and its answer lost");
            }
            let body = post.arrive(&mut ledger, now);
            (post, body, others)
        };
        self.process.stage.sleep(post.takes()).await;
        self.process.point().await;
        let token = self.token.load(Ordering::SeqCst);
        let answer = post.answer(&attempt, body, others.as_deref(), token);
        if post.fault == Fault::Unauthorized {
            self.token.store(token + 1, Ordering::SeqCst);
        }
        self.portone.tally.answered(post.fault, &answer);
        answer
    }

    async fn look_up(&self, ids: &[MerchantUid]) -> Result<Vec<Record>, Unavailable> {
        let spoilt = self.look(ids.first().map(MerchantUid::as_str).unwrap_or_default()).await?;
        let mut ledger = self.portone.ledger.lock().unwrap();
        let records: Vec<Record> =
            ids.iter().filter_map(|id| ledger.visible(id.as_str(), self.now()).into_iter().next()).collect();
        self.answered(&ledger, LookedUp::Batch(ids), &records, false, spoilt)
    }

    async fn find_all(&self, id: &MerchantUid) -> Result<Vec<Record>, Unavailable> {
        let spoilt = self.look(id.as_str()).await?;
        let mut ledger = self.portone.ledger.lock().unwrap();
        let records = ledger.visible(id.as_str(), self.now());
        self.answered(&ledger, LookedUp::All(id), &records, false, spoilt)
    }

    async fn list(&self, from: Timestamp, to: Timestamp, page: u32) -> Result<ListPage, Unavailable> {
        let spoilt = self.look(&page.to_string()).await?;
        // a list is about everybody: it is a page of nothing then
        let spoilt = spoilt.map(|spoilt| if spoilt == Spoilt::Foreign { Spoilt::Page(200) } else { spoilt });
        let mut ledger = self.portone.ledger.lock().unwrap();
        let records = ledger.listed(self.now(), from, to);
        let total = records.len() as u64;
        let size = 100;
        let skip = (page as usize - 1) * size;
        let next = (records.len() > skip + size).then_some(page + 1);
        let shown: Vec<Record> = records.into_iter().skip(skip).take(size).collect();
        let records = self.answered(&ledger, LookedUp::List, &shown, next.is_some(), spoilt)?;
        Ok(ListPage { records, next, total })
    }
}
