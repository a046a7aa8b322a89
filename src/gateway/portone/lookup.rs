//! Look-ups. They cannot charge, so they are repeated for a moment; and they decide what was never paid, so an answer that is
//! not understood completely is no answer: never "absent".

use jiff::{SignedDuration, Timestamp};
use reqwest::{Method, Url};

use super::PortOne;
use super::client::{LARGE_ANSWER, Reply, Request};
use super::wire::{self, Channel, Envelope, Nonsense, Page};
use crate::domain::attempt::MerchantUid;
use crate::domain::outcome::Record;
use crate::ports::gateway::{ListPage, Unavailable};
use crate::ports::metrics::Call;

/// PortOne takes so many ids in one call.
const IDS: usize = 100;

/// Records on a page: the most that PortOne gives.
const PAGE: &str = "1000";

/// Nobody has so many records under one id: an answer that leads further goes in circles.
const PAGES: u32 = 20;

/// The longest span of a list.
pub(super) const SPAN: SignedDuration = SignedDuration::from_hours(90 * 24);

const INCLUDE_SANDBOX: (&str, &str) = ("include_sandbox", "true");

pub(super) fn nonsense(why: impl Into<String>) -> Unavailable {
    Unavailable::Nonsense(why.into())
}

impl From<Nonsense> for Unavailable {
    fn from(Nonsense(why): Nonsense) -> Self {
        Self::Nonsense(why)
    }
}

impl PortOne {
    /// One payment by the gateway's own id; `None` if there is none.
    pub async fn find(&self, imp_uid: &str) -> Result<Option<Record>, Unavailable> {
        let reply = self.get(Call::LookUp, self.lookup_url(&["payments", segment(imp_uid)?], &[])).await?;
        one(&reply, imp_uid)
    }

    /// The payment channels of the account: a check at the start that it is the one that the operator means.
    pub async fn channels(&self) -> Result<Vec<Channel>, Unavailable> {
        Ok(self.survey().await?.channels)
    }

    pub(super) async fn look_up_batch(&self, ids: &[MerchantUid]) -> Result<Vec<Record>, Unavailable> {
        let mut records = Vec::new();
        for ids in ids.chunks(IDS) {
            let query: Vec<_> = ids.iter().map(|id| ("merchant_uid[]", id.as_str())).collect();
            let reply = self.get(Call::LookUp, self.lookup_url(&["payments"], &query)).await?;
            records.extend(batch(&reply, ids)?);
        }
        Ok(records)
    }

    pub(super) async fn look_up_all(&self, id: &MerchantUid) -> Result<Vec<Record>, Unavailable> {
        let mut records: Vec<Record> = Vec::new();
        for number in 1..=PAGES {
            let page_number = number.to_string();
            let query = [("page", page_number.as_str()), ("limit", PAGE), ("sorting", "started")];
            let reply = self.get(Call::LookUp, self.lookup_url(&["payments", "findAll", segment(id.as_str())?], &query)).await?;
            let Some(page) = page_of(&reply, id, number)? else { return Ok(records) };
            records.extend(page.records);
            if page.next.is_none() {
                return match u64::try_from(records.len()) {
                    Ok(got) if got >= page.total => Ok(records),
                    _ => Err(nonsense("there are more records than the pages show")),
                };
            }
        }
        Err(nonsense("the pages do not end"))
    }

    pub(super) async fn list_page(&self, from: Timestamp, to: Timestamp, number: u32) -> Result<ListPage, Unavailable> {
        if to.duration_since(from) > SPAN || from > to {
            return Err(nonsense("a list spans at most 90 days"));
        }
        // whole seconds, outwards: a record too many harms nobody
        let last = to.as_second() + i64::from(to.subsec_nanosecond() > 0);
        let (from, to, page) = (from.as_second().to_string(), last.to_string(), number.to_string());
        let query = [("from", &*from), ("to", &*to), ("page", &*page), ("limit", PAGE), ("sorting", "started")];
        let reply = self.get(Call::List, self.lookup_url(&["payments", "status", "all"], &query)).await?;
        listed(&reply, number)
    }

    /// Only the call by imp_uid documents `include_sandbox`. Whether the others hide the payments of a test channel without it is
    /// not known, so they are told too, for a test channel only: a live account sends what is documented.
    fn lookup_url(&self, segments: &[&str], query: &[(&str, &str)]) -> Url {
        let sandbox = self.config.include_sandbox.then_some(INCLUDE_SANDBOX);
        self.http.url(segments, query.iter().copied().chain(sandbox))
    }

    /// A complete answer that is neither 401, 429 nor 5xx.
    pub(super) async fn get(&self, measured_as: Call, url: Url) -> Result<Reply, Unavailable> {
        for _ in 0..2 {
            let token = self.tokens.ensure().await?;
            let call = || async {
                let request = Request {
                    call: measured_as,
                    method: Method::GET,
                    url: url.clone(),
                    token: Some(&token.header),
                    body: None,
                    timeout: self.config.lookup_timeout,
                    limit: LARGE_ANSWER,
                };
                match self.http.exchange(request).await {
                    Ok(reply) if reply.is_overload() => Err(Unavailable::Overload(reply.status)),
                    Ok(reply) => Ok(reply),
                    Err(failure) => Err(failure.into()),
                }
            };
            let again = |why: &Unavailable| match why {
                Unavailable::Unreachable(_) => true,
                Unavailable::Overload(status) => *status != 429,
                Unavailable::Unauthorized | Unavailable::Nonsense(_) => false,
            };
            let seed = self.clock.now().as_microsecond().unsigned_abs();
            let reply = self.config.retry.run(seed, again, call).await?;
            if reply.status != 401 {
                return Ok(reply);
            }
            self.tokens.invalidate(token.generation);
        }
        Err(Unavailable::Unauthorized)
    }
}

/// What an answer says of one payment.
pub(super) fn one(reply: &Reply, imp_uid: &str) -> Result<Option<Record>, Unavailable> {
    let Some(envelope) = found(reply, &[200])? else { return Ok(None) };
    let record = wire::payment(envelope.processed()?)?;
    if record.imp_uid == imp_uid { Ok(Some(record)) } else { Err(nonsense("the answer is about another imp_uid")) }
}

/// What an answer says of up to [`IDS`] ids.
pub(super) fn batch(reply: &Reply, ids: &[MerchantUid]) -> Result<Vec<Record>, Unavailable> {
    // 207: some are absent; 404: all are
    let Some(envelope) = found(reply, &[200, 207])? else { return Ok(Vec::new()) };
    let found = wire::payments(envelope.processed()?)?;
    if found.iter().any(|record| !ids.iter().any(|id| id.as_str() == record.merchant_uid)) {
        return Err(nonsense("a record is about a merchant_uid that was not asked for"));
    }
    Ok(found)
}

/// A page of all records of an id. `None`: it has none.
pub(super) fn page_of(reply: &Reply, id: &MerchantUid, number: u32) -> Result<Option<ListPage>, Unavailable> {
    let page = match found(reply, &[200])? {
        Some(envelope) => wire::page(envelope.processed()?)?,
        None if number == 1 => return Ok(None),
        None => return Err(nonsense("a page has gone while the records were read")),
    };
    if page.records.iter().any(|record| record.merchant_uid != id.as_str()) {
        return Err(nonsense("a record is about a merchant_uid that was not asked for"));
    }
    Ok(Some(ListPage { next: next(&page, number)?, total: page.total, records: page.records }))
}

/// A page of the list.
pub(super) fn listed(reply: &Reply, number: u32) -> Result<ListPage, Unavailable> {
    // This call has no 404. A 400 past the last page means that the list became shorter while it was read: ask again.
    let envelope = found(reply, &[200])?.ok_or_else(|| nonsense("HTTP 404"))?;
    let page = wire::page(envelope.processed()?)?;
    Ok(ListPage { next: next(&page, number)?, total: page.total, records: page.records })
}

/// The envelope of an answer with one of the `good` statuses; `None` for PortOne's own 404.
pub(super) fn found<'a>(reply: &'a Reply, good: &[u16]) -> Result<Option<Envelope<'a>>, Unavailable> {
    let status = reply.status;
    if status != 404 && !good.contains(&status) {
        return Err(nonsense(format!("HTTP {status}")));
    }
    let envelope = Envelope::read(&reply.body)?;
    match status {
        404 if envelope.is_refusal() => Ok(None),
        404 => Err(nonsense("HTTP 404, but not as the gateway says it")),
        _ => Ok(Some(envelope)),
    }
}

/// The number of the next page, which can only be this one's plus 1.
fn next(page: &Page, number: u32) -> Result<Option<u32>, Unavailable> {
    match page.next {
        0 => Ok(None),
        next if Some(next) == number.checked_add(1) => Ok(Some(next)),
        _ => Err(nonsense("the next page is not the next number")),
    }
}

/// An id as one segment of a path. These would be read as something else.
pub(super) fn segment(id: &str) -> Result<&str, Unavailable> {
    if matches!(id, "" | "." | "..") || id.chars().any(char::is_control) { Err(nonsense("this is no id")) } else { Ok(id) }
}
