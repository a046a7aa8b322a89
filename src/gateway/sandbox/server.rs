//! The sandbox on a socket: what the client sees of an answer and of a fault.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri};
use serde::Deserialize;
use tokio::sync::watch;

use super::call::Call;
use super::cards::CardBehaviour;
use super::connection::{Cut, Gate, Switch};
use super::faults::{Fault, FaultPlan};
use super::gateway::{Gateway, Received};
use super::wire::{self, Answer};

/// What all connections share.
pub(super) struct Shared {
    pub gateway: Mutex<Gateway>,
    /// Becomes true, or loses its sender, when the sandbox stops.
    pub stop: watch::Receiver<bool>,
}

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, Gateway> {
        self.gateway.lock().unwrap_or_else(|broken| broken.into_inner())
    }

    async fn stopped(&self) {
        // an error means that the sandbox was dropped, which stops it as well
        let _ = self.stop.clone().wait_for(|stop| *stop).await;
    }

    fn has_stopped(&self) -> bool {
        *self.stop.borrow() || self.stop.has_changed().is_err()
    }
}

/// Answers until the sandbox stops.
pub(super) async fn run(gate: Gate, shared: Arc<Shared>) {
    let stop = Arc::clone(&shared);
    let router = Router::new().fallback(handle).with_state(shared);
    let service = router.into_make_service_with_connect_info::<Switch>();
    let serve = axum::serve(gate, service).with_graceful_shutdown(async move { stop.stopped().await });
    if let Err(error) = serve.await {
        tracing::error!(%error, "the sandbox's listener failed");
    }
}

async fn handle(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(switch): ConnectInfo<Switch>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    switch.reset();
    if shared.has_stopped() {
        return cut(&switch, Cut::Close(0));
    }
    if uri.path().starts_with("/_sandbox/") {
        return control(&shared, &method, uri.path(), &body);
    }
    let Some(call) = Call::read(&method, &uri, &headers, body.to_vec()) else {
        return json(404, Answer::refusal(404, -1, "Not Found").body);
    };
    let received = shared.lock().receive(call);
    tokio::select! {
        biased;
        () = shared.stopped() => cut(&switch, Cut::Close(0)),
        response = carry_out(&shared, &switch, &uri, received) => response,
    }
}

/// Ends the connection at `cut`; nothing of the answer matters.
fn cut(switch: &Switch, cut: Cut) -> Response<Body> {
    switch.cut(cut);
    Response::new(Body::empty())
}

fn json(status: u16, body: Vec<u8>) -> Response<Body> {
    response(status, "application/json", body)
}

fn response(status: u16, content_type: &'static str, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, axum::http::HeaderValue::from_static(content_type));
    response
}

/// A status that a fault asks for; a redirect points back at the same path.
fn fault_status(status: u16, uri: &Uri) -> Response<Body> {
    let (content_type, body) = wire::status_body(status);
    let mut response = response(status, content_type, body);
    if let (300..400, Ok(location)) = (status, uri.path().parse()) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

async fn carry_out(shared: &Arc<Shared>, switch: &Switch, uri: &Uri, mut received: Received) -> Response<Body> {
    let faults = received.faults.clone();
    let endpoint = received.call.endpoint;
    for fault in &faults {
        match fault {
            Fault::DropRequest => return cut(switch, Cut::Close(0)),
            Fault::StatusBefore { status } => return fault_status(*status, uri),
            Fault::Late { .. } if shared.lock().put_off(&mut received) => return cut(switch, Cut::Close(0)),
            _ => {}
        }
    }
    let waits = received.check_then_act_millis.is_some() || faults.iter().any(|f| matches!(f, Fault::DelayBefore { .. }));
    let answer = if waits {
        // the gateway goes on when its client hangs up, so the work is not this connection's
        let work = tokio::spawn(process_later(Arc::clone(shared), received));
        work.await.ok().flatten()
    } else {
        Some(shared.lock().process(&received))
    };
    let Some(answer) = answer else { return cut(switch, Cut::Close(0)) };
    for fault in &faults {
        if let Fault::DelayAfter { millis } = fault {
            tokio::time::sleep(Duration::from_millis(*millis)).await;
        }
    }
    let mut body = answer.body;
    for fault in &faults {
        match fault {
            Fault::DropResponse => return cut(switch, Cut::Close(0)),
            Fault::ResetResponse => return cut(switch, Cut::Reset),
            Fault::StatusAfter { status } => return fault_status(*status, uri),
            Fault::Malformed(shape) => {
                let (content_type, body) = wire::malformed(*shape);
                return response(200, content_type, body);
            }
            Fault::Truncated => switch.cut(Cut::CloseInBody(body.len() as u64 / 2)),
            Fault::CutAfter { bytes } => switch.cut(Cut::Close(*bytes)),
            Fault::Foreign => {
                body = wire::foreign(endpoint, &body);
                return json(200, body);
            }
            Fault::WrongAmount => body = wire::wrong_amount(&body),
            _ => {}
        }
    }
    json(answer.http_status, body)
}

/// `None` if the sandbox stops first.
async fn process_later(shared: Arc<Shared>, mut received: Received) -> Option<Answer> {
    let work = async {
        for fault in &received.faults {
            if let Fault::DelayBefore { millis } = fault {
                tokio::time::sleep(Duration::from_millis(*millis)).await;
            }
        }
        if let Some(millis) = received.check_then_act_millis {
            shared.lock().look(&mut received);
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
        shared.lock().process(&received)
    };
    tokio::select! {
        biased;
        () = shared.stopped() => None,
        answer = work => Some(answer),
    }
}

/// `POST /_sandbox/customers`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewCustomer {
    customer_uid: String,
    #[serde(default)]
    behaviour: CardBehaviour,
    #[serde(default)]
    imp_key: Option<String>,
    #[serde(default)]
    tier: Option<String>,
}

/// The sandbox's own calls. They need no token.
fn control(shared: &Shared, method: &Method, path: &str, body: &[u8]) -> Response<Body> {
    let refuse = |status: u16, why: String| response(status, "text/plain; charset=utf-8", why.into_bytes());
    match (method.as_str(), path) {
        ("GET", "/_sandbox/ledger") => {
            let snapshot = shared.lock().snapshot();
            json(200, serde_json::to_vec(&snapshot).unwrap_or_default())
        }
        ("GET", "/_sandbox/faults") => {
            let plan = shared.lock().plan.clone();
            json(200, serde_json::to_vec(&plan).unwrap_or_default())
        }
        ("POST", "/_sandbox/faults") => match serde_json::from_slice::<FaultPlan>(body) {
            Ok(plan) => {
                shared.lock().plan = plan.clone();
                json(200, serde_json::to_vec(&plan).unwrap_or_default())
            }
            Err(error) => refuse(400, format!("this is no fault plan: {error}\n")),
        },
        ("POST", "/_sandbox/customers") => match serde_json::from_slice::<NewCustomer>(body) {
            Ok(new) => {
                let mut gateway = shared.lock();
                let now = gateway.now();
                let Some(scope) = gateway.scope_by_key(new.imp_key.as_deref(), new.tier.as_deref()) else {
                    return refuse(400, "there is no account of that imp_key\n".to_owned());
                };
                gateway.put_customer(scope, &new.customer_uid, new.behaviour, now);
                gateway.journal.write();
                refuse(200, "registered\n".to_owned())
            }
            Err(error) => refuse(400, format!("this is no customer: {error}\n")),
        },
        _ => refuse(404, "the sandbox has /_sandbox/ledger, /_sandbox/faults and /_sandbox/customers\n".to_owned()),
    }
}
