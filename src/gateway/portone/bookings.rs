//! PortOne's own schedule: what it is going to charge to a billing key, and taking that away.

use jiff::Timestamp;
use reqwest::Method;
use serde_json::json;

use super::PortOne;
use super::client::{Failure, Request, SMALL_ANSWER};
use super::lookup::{SPAN, found, nonsense, segment};
use super::wire::{self, Envelope};
use crate::ports::gateway::{Booking, Unavailable};
use crate::ports::metrics::Call;

impl PortOne {
    /// `GET /subscribe/customers/{uid}/schedules`, of bookings that are still to come. A key that PortOne does not know has none.
    pub(super) async fn booked(&self, customer_uid: &str, from: Timestamp, to: Timestamp) -> Result<Vec<Booking>, Unavailable> {
        if to.duration_since(from) > SPAN || from > to {
            return Err(nonsense("a list of bookings spans at most 90 days"));
        }
        let (from, to) = (from.as_second().to_string(), to.as_second().to_string());
        let query = [("from", &*from), ("to", &*to), ("schedule-status", "scheduled")];
        let url = self.http.url(&["subscribe", "customers", segment(customer_uid)?, "schedules"], query);
        let reply = self.get(Call::Other, url).await?;
        let Some(envelope) = found(&reply, &[200])? else { return Ok(Vec::new()) };
        Ok(wire::bookings(envelope.processed()?, customer_uid)?)
    }

    /// `POST /subscribe/payments/unschedule` of all that a key has. It can be asked again: what is gone stays gone.
    pub(super) async fn revoke(&self, customer_uid: &str) -> Result<u64, Unavailable> {
        let token = self.tokens.ensure().await?;
        let request = Request {
            call: Call::Other,
            method: Method::POST,
            url: self.http.url(&["subscribe", "payments", "unschedule"], []),
            token: Some(&token.header),
            body: Some(json!({ "customer_uid": customer_uid }).to_string()),
            timeout: self.config.lookup_timeout,
            limit: SMALL_ANSWER,
        };
        let reply = match self.http.exchange(request).await {
            Ok(reply) if reply.is_overload() => return Err(Unavailable::Overload(reply.status)),
            Ok(reply) if reply.status == 401 => {
                self.tokens.invalidate(token.generation);
                return Err(Unavailable::Unauthorized);
            }
            Ok(reply) if reply.status == 200 => reply,
            Ok(reply) => return Err(nonsense(format!("HTTP {}", reply.status))),
            // so many were taken away that the answer is too large to read: the next look tells
            Err(Failure::TooLarge { .. }) => return Ok(0),
            Err(failure) => return Err(failure.into()),
        };
        let envelope = Envelope::read(&reply.body)?;
        if envelope.is_refusal() {
            // there is nothing to take away, or there is no such key; the next look tells
            return Ok(0);
        }
        Ok(wire::count_bookings(envelope.processed()?)?)
    }
}
