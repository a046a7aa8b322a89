//! The judging of answers without the wire, for whoever plays the gateway: the same classification, from the same bytes.

use jiff::SignedDuration;

use super::classify::{self, Asked};
use super::client::{Failure, Reply};
use super::{lookup, token};
use crate::domain::attempt::MerchantUid;
use crate::domain::classify::Rules;
use crate::domain::money::Money;
use crate::domain::outcome::Record;
use crate::ports::gateway::{Answer, DurableAttempt, Unavailable};

/// What came back of a POST.
#[derive(Debug, Clone, Copy)]
pub enum Wire<'a> {
    /// A whole answer: HTTP status and body.
    Answer(u16, &'a [u8]),
    /// The connection broke after the request may have left.
    Broken(&'a str),
    /// No connection ever stood.
    Unreachable(&'a str),
    /// More than the client reads, with this HTTP status.
    TooLarge(u16),
}

/// What was asked for, as the answer has to repeat it.
#[derive(Debug, Clone, Copy)]
pub struct AskedFor<'a> {
    pub merchant_uid: &'a MerchantUid,
    pub customer_uid: &'a str,
    pub amount: Money,
}

/// Judges what came back of an attempt's POST. `token` is the generation of the token that was used.
pub fn judge(attempt: &DurableAttempt, came: Wire<'_>, token: u64) -> Answer {
    let asked = AskedFor { merchant_uid: attempt.merchant_uid(), customer_uid: attempt.customer_uid(), amount: attempt.amount() };
    judge_answer(asked, came, token)
}

/// The same without an attempt, for whoever has only bytes (fuzzing).
pub fn judge_answer(asked: AskedFor<'_>, came: Wire<'_>, token: u64) -> Answer {
    let AskedFor { merchant_uid, customer_uid, amount } = asked;
    let declines = Rules::default();
    let asked = Asked { merchant_uid, customer_uid, amount, token, declines: &declines };
    let came = match came {
        Wire::Answer(status, body) => Ok(Reply { status, body: body.to_vec(), date: None }),
        Wire::Broken(why) => Err(Failure::Broken { status: None, why: why.to_owned() }),
        Wire::Unreachable(why) => Err(Failure::NotSent(why.to_owned())),
        Wire::TooLarge(status) => Err(Failure::TooLarge { status }),
    };
    classify::answer(&asked, came)
}

/// What was looked up.
#[derive(Debug, Clone, Copy)]
pub enum LookedUp<'a> {
    /// One payment, by the gateway's own id.
    One(&'a str),
    Batch(&'a [MerchantUid]),
    /// The first page of all records of an id.
    All(&'a MerchantUid),
    /// The first page of the list.
    List,
}

/// Judges the answer to a look-up from its bytes (fuzzing).
///
/// # Errors
/// It is not understood completely, so it says nothing.
pub fn judge_look_up(asked: LookedUp<'_>, status: u16, body: &[u8]) -> Result<Vec<Record>, Unavailable> {
    let reply = Reply { status, body: body.to_vec(), date: None };
    if reply.is_overload() {
        return Err(Unavailable::Overload(status));
    }
    match asked {
        LookedUp::One(imp_uid) => Ok(lookup::one(&reply, imp_uid)?.into_iter().collect()),
        LookedUp::Batch(ids) => lookup::batch(&reply, ids),
        LookedUp::All(id) => Ok(lookup::page_of(&reply, id, 1)?.map_or_else(Vec::new, |page| page.records)),
        LookedUp::List => Ok(lookup::listed(&reply, 1)?.records),
    }
}

/// Judges the answer to a call for a token from its bytes (fuzzing): how long the token lives.
///
/// # Errors
/// There is no token in it.
pub fn judge_token(status: u16, body: &[u8]) -> Result<SignedDuration, Unavailable> {
    token::granted(&Reply { status, body: body.to_vec(), date: None }).map(|(_, lifetime)| lifetime)
}
