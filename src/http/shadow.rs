//! What `run --shadow` answers: that it lives, whether the days that are over could be compared, and what they came to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;

use super::health::{COMMIT, Readiness, VERSION, version};
use super::metrics::{Format, Number, Page};
use crate::engine::shadow::Verdict;
use crate::ports::metrics::list;

/// What a process in shadow mode has come to.
#[derive(Clone, Default)]
pub struct Beside(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    /// Whether the last look at the days that are over came to its end; `None`: there was none yet.
    succeeded: Option<bool>,
    /// When one did.
    at: Option<Timestamp>,
    /// Of the days that were compared last, by account: charges of each verdict.
    counts: BTreeMap<String, [u64; Verdict::ALL.len()]>,
}

impl Beside {
    /// Days of an account were compared: how many charges have each of [`Verdict::ALL`].
    pub fn compared(&self, account: &str, counts: [u64; Verdict::ALL.len()]) {
        self.seen().counts.insert(account.to_owned(), counts);
    }

    /// All days that are over have been compared.
    pub fn looked(&self, at: Timestamp) {
        let mut seen = self.seen();
        (seen.succeeded, seen.at) = (Some(true), Some(at));
    }

    /// They could not be.
    pub fn failed(&self) {
        self.seen().succeeded = Some(false);
    }

    pub fn routes(&self) -> Router {
        Router::new()
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .route("/version", get(version))
            .route("/metrics", get(metrics))
            .with_state(self.clone())
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn page(&self) -> Page {
        let (mut page, seen) = (Page::default(), self.seen());
        page.put(&list::BUILD, &[VERSION, COMMIT.unwrap_or("unknown")], Number::Whole(1));
        for (account, counts) in &seen.counts {
            for (verdict, count) in Verdict::ALL.into_iter().zip(counts) {
                page.put(&list::SHADOW, &[account, verdict.name()], Number::count(*count));
            }
        }
        if let Some(at) = seen.at {
            page.put(&list::SHADOW_COMPARED, &[], Number::Micros(at.as_microsecond()));
        }
        page
    }
}

async fn readyz(State(beside): State<Beside>) -> (StatusCode, Json<Readiness>) {
    let (ready, state) = match beside.seen().succeeded {
        Some(true) => (true, "shadow: nothing is charged"),
        Some(false) => (false, "shadow: the days that are over could not be compared"),
        None => (false, "starting"),
    };
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, state: state.to_owned(), database: None, accounts: BTreeMap::new() }))
}

async fn metrics(State(beside): State<Beside>, headers: HeaderMap) -> impl IntoResponse {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let format = Format::for_accept(accept);
    ([(CONTENT_TYPE, format.content_type())], beside.page().render(format))
}
