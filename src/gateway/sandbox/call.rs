//! Requests as PortOne V1 reads them: paths, query, JSON and form bodies.

use std::collections::HashMap;

use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, Method, Uri};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The calls that the sandbox knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// `POST /users/getToken`
    GetToken,
    /// `GET /users/pg`
    Pg,
    /// `POST /subscribe/payments/again`: a charge
    Again,
    /// `POST /subscribe/payments/schedule`
    Schedule,
    /// `POST /subscribe/payments/unschedule`
    Unschedule,
    /// `GET /subscribe/customers?customer_uid[]=`
    Customers,
    /// `GET /subscribe/customers/{customer_uid}`
    Customer,
    /// `POST /subscribe/customers/{customer_uid}`
    SaveCustomer,
    /// `DELETE /subscribe/customers/{customer_uid}`
    DeleteCustomer,
    /// `GET /subscribe/customers/{customer_uid}/payments`
    CustomerPayments,
    /// `GET /subscribe/customers/{customer_uid}/schedules`
    CustomerSchedules,
    /// `GET /payments?imp_uid[]=&merchant_uid[]=`
    Payments,
    /// `GET /payments/{imp_uid}`
    Payment,
    /// `GET /payments/find/{merchant_uid}[/{status}]`
    Find,
    /// `GET /payments/findAll/{merchant_uid}[/{status}]`
    FindAll,
    /// `GET /payments/status/{status}`
    List,
    /// `POST /payments/cancel`
    Cancel,
}

impl Endpoint {
    /// As in a fault plan, e.g. `find_all`.
    pub fn name(self) -> &'static str {
        match self {
            Self::GetToken => "get_token",
            Self::Pg => "pg",
            Self::Again => "again",
            Self::Schedule => "schedule",
            Self::Unschedule => "unschedule",
            Self::Customers => "customers",
            Self::Customer => "customer",
            Self::SaveCustomer => "save_customer",
            Self::DeleteCustomer => "delete_customer",
            Self::CustomerPayments => "customer_payments",
            Self::CustomerSchedules => "customer_schedules",
            Self::Payments => "payments",
            Self::Payment => "payment",
            Self::Find => "find",
            Self::FindAll => "find_all",
            Self::List => "list",
            Self::Cancel => "cancel",
        }
    }

    /// Whether the sandbox's ledger has a record of each request.
    pub(super) fn is_post(self) -> bool {
        matches!(self, Self::GetToken | Self::Again | Self::Schedule | Self::Unschedule | Self::SaveCustomer | Self::Cancel)
    }
}

/// One request, read.
#[derive(Debug)]
pub(super) struct Call {
    pub endpoint: Endpoint,
    /// What it is about: the ids in the path or in the query, the merchant_uid of a charge.
    pub ids: Vec<String>,
    /// The last part of the path where it is a status.
    pub status: Option<String>,
    pub query: Vec<(String, String)>,
    pub fields: Fields,
    pub body: Vec<u8>,
    pub form: bool,
    pub token: Option<String>,
    pub tier: Option<String>,
}

impl Call {
    /// `None` where PortOne V1 has no such path.
    pub fn read(method: &Method, uri: &Uri, headers: &HeaderMap, body: Vec<u8>) -> Option<Self> {
        let path: Vec<String> = uri.path().trim_matches('/').split('/').map(|part| decode(part, false)).collect();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let (get, post) = (method == Method::GET, method == Method::POST);
        let (endpoint, id, status) = match path[..] {
            ["users", "getToken"] if post => (Endpoint::GetToken, None, None),
            ["users", "pg"] if get => (Endpoint::Pg, None, None),
            ["subscribe", "payments", "again"] if post => (Endpoint::Again, None, None),
            ["subscribe", "payments", "schedule"] if post => (Endpoint::Schedule, None, None),
            ["subscribe", "payments", "unschedule"] if post => (Endpoint::Unschedule, None, None),
            ["subscribe", "customers"] if get => (Endpoint::Customers, None, None),
            ["subscribe", "customers", uid] if get => (Endpoint::Customer, Some(uid), None),
            ["subscribe", "customers", uid] if post => (Endpoint::SaveCustomer, Some(uid), None),
            ["subscribe", "customers", uid] if method == Method::DELETE => (Endpoint::DeleteCustomer, Some(uid), None),
            ["subscribe", "customers", uid, "payments"] if get => (Endpoint::CustomerPayments, Some(uid), None),
            ["subscribe", "customers", uid, "schedules"] if get => (Endpoint::CustomerSchedules, Some(uid), None),
            ["payments"] if get => (Endpoint::Payments, None, None),
            ["payments", "cancel"] if post => (Endpoint::Cancel, None, None),
            ["payments", "find", uid] if get => (Endpoint::Find, Some(uid), None),
            ["payments", "find", uid, status] if get => (Endpoint::Find, Some(uid), Some(status)),
            ["payments", "findAll", uid] if get => (Endpoint::FindAll, Some(uid), None),
            ["payments", "findAll", uid, status] if get => (Endpoint::FindAll, Some(uid), Some(status)),
            ["payments", "status", status] if get => (Endpoint::List, None, Some(status)),
            ["payments", imp_uid] if get => (Endpoint::Payment, Some(imp_uid), None),
            _ => return None,
        };
        let header = |name: &axum::http::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let form = header(&CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
        let mut call = Self {
            endpoint,
            ids: id.map(str::to_owned).into_iter().collect(),
            status: status.map(str::to_owned),
            query: pairs(uri.query().unwrap_or_default().as_bytes()),
            fields: if method == Method::POST { Fields::read(&body, form) } else { Fields::default() },
            body,
            form,
            token: header(&AUTHORIZATION).map(|value| value.strip_prefix("Bearer ").unwrap_or(value).trim().to_owned()),
            tier: headers.get("tier").and_then(|value| value.to_str().ok()).map(str::to_owned),
        };
        call.name_ids();
        Some(call)
    }

    fn name_ids(&mut self) {
        let lists: &[&str] = match self.endpoint {
            Endpoint::Payments => &["imp_uid[]", "merchant_uid[]"],
            Endpoint::Customers => &["customer_uid[]"],
            _ => &[],
        };
        self.ids.extend(self.query.iter().filter(|(name, _)| lists.contains(&name.as_str())).map(|(_, id)| id.clone()));
        let fields: &[&str] = match self.endpoint {
            Endpoint::Again => &["merchant_uid"],
            Endpoint::Schedule | Endpoint::Unschedule => &["customer_uid"],
            Endpoint::Cancel => &["imp_uid", "merchant_uid"],
            _ => &[],
        };
        for name in fields {
            self.ids.extend(self.fields.text(name).ok().flatten());
        }
        if self.endpoint == Endpoint::List {
            self.ids.extend(self.status.clone());
        }
    }

    /// The one id of a path.
    pub fn id(&self) -> &str {
        self.ids.first().map_or("", String::as_str)
    }

    /// The last value of a query parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All values of a query parameter that may be repeated.
    pub fn list(&self, name: &str) -> impl Iterator<Item = &str> {
        self.query.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The fields of a body. JSON keeps the exact text of each value, so that money is never a float.
#[derive(Debug, Default)]
pub(super) enum Fields {
    #[default]
    Unreadable,
    Json(HashMap<String, Box<RawValue>>),
    Form(Vec<(String, String)>),
}

/// The name of the field whose type is wrong.
pub(super) type WrongType = String;

impl Fields {
    pub fn read(body: &[u8], form: bool) -> Self {
        if form {
            return Self::Form(pairs(body));
        }
        serde_json::from_slice(body).map_or(Self::Unreadable, Self::Json)
    }

    /// A text field; absent, `null` and empty are the same.
    pub fn text(&self, name: &str) -> Result<Option<String>, WrongType> {
        let text = match self {
            Self::Unreadable => None,
            Self::Json(fields) => match fields.get(name) {
                Some(value) => serde_json::from_str::<Option<String>>(value.get()).map_err(|_| name.to_owned())?,
                None => None,
            },
            Self::Form(fields) => fields.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone()),
        };
        Ok(text.filter(|text| !text.is_empty()))
    }

    /// A JSON list; absent and `null` are the same, and a form has none.
    pub fn list<T: DeserializeOwned>(&self, name: &str) -> Result<Option<Vec<T>>, WrongType> {
        let Self::Json(fields) = self else { return Ok(None) };
        let Some(value) = fields.get(name) else { return Ok(None) };
        serde_json::from_str(value.get()).map_err(|_| name.to_owned())
    }

    /// The digits of a number field. JSON must have it as a number, not as a string.
    pub fn number(&self, name: &str) -> Result<Option<String>, WrongType> {
        let Self::Json(fields) = self else { return self.text(name) };
        match fields.get(name).map(|value| value.get()) {
            None | Some("null") => Ok(None),
            Some(digits) if digits.starts_with(|first: char| first == '-' || first.is_ascii_digit()) => {
                Ok(Some(digits.to_owned()))
            }
            Some(_) => Err(name.to_owned()),
        }
    }
}

/// `a=1&b=2`, decoded.
fn pairs(text: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(text);
    let parts = text.split('&').filter(|part| !part.is_empty());
    parts.map(|part| part.split_once('=').unwrap_or((part, ""))).map(|(k, v)| (decode(k, true), decode(v, true))).collect()
}

/// Percent decoding; bytes that are no UTF-8 become replacement characters.
fn decode(text: &str, plus_is_space: bool) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                at += 2;
            }
            (b'+', _) if plus_is_space => decoded.push(b' '),
            (byte, _) => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8(decoded).unwrap_or_else(|wrong| String::from_utf8_lossy(wrong.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_and_queries_are_decoded() {
        let read = pairs("merchant_uid%5B%5D=a%2Fb&name=%ED%95%9C+%EA%B8%80&x&bad=%zz".as_bytes());
        let want = [("merchant_uid[]", "a/b"), ("name", "한 글"), ("x", ""), ("bad", "%zz")];
        assert_eq!(read, want.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(decode("a+b%20c", false), "a+b c");
    }

    #[test]
    fn numbers_keep_their_digits_and_are_not_strings() {
        let fields = Fields::read(br#"{"amount": 9900.00, "text": "9900", "none": null}"#, false);
        assert_eq!(fields.number("amount"), Ok(Some("9900.00".to_owned())));
        assert_eq!(fields.number("text"), Err("text".to_owned()));
        assert_eq!(fields.number("none"), Ok(None));
        assert_eq!(fields.text("amount"), Err("amount".to_owned()));
        assert_eq!(Fields::read(b"amount=9900", true).number("amount"), Ok(Some("9900".to_owned())));
    }
}
