//! HTTP to PortOne: one request, one answer, nothing repeated, nothing followed.
//!
//! reqwest and hyper-util are told not to do anything by themselves: no repeats (`retry::never()`), no redirects, no proxy
//! from the environment, HTTP/1.1 only. What cannot be switched off is hyper-util's second try of a request that a
//! reused connection never began to write; `tests/` shows byte by byte that no POST arrives twice.

use std::error::Error as _;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Method, Url, redirect, retry};
use tokio::time::Instant;

use super::{ConfigError, PortOneConfig};
use crate::ports::gateway::Unavailable;
use crate::ports::metrics::{Call, GatewayTimes};

/// The largest answer to a charge or a token call (docs/protocol.md, What an answer means).
pub(super) const SMALL_ANSWER: usize = 256 * 1024;

/// The largest answer to a look-up: a thousand records of up to 8 KiB.
pub(super) const LARGE_ANSWER: usize = 8 * 1024 * 1024;

/// In flight at once, and so kept ready for the next batch.
const CONNECTIONS: usize = 1024;

/// Servers close idle connections after 5 s or more. A POST that meets such a close is in doubt for an hour (and, very
/// rarely, waits for its whole deadline first: see `tests/cuts.rs`), a new connection costs milliseconds: so connections that
/// were idle for longer than this are not used again.
const IDLE: Duration = Duration::from_secs(4);

/// A complete answer.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Reply {
    /// 429 and 5xx: the gateway has more than it can do, or is down.
    pub fn is_overload(&self) -> bool {
        is_overload(self.status)
    }
}

pub(super) fn is_overload(status: u16) -> bool {
    status == 429 || (500..600).contains(&status)
}

/// Why there is no complete answer. The texts name neither URL nor header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// Name resolution, connect or TLS: no byte of the request has left.
    NotSent(String),
    /// Anything later: the request may have been processed. With the status if the head of an answer arrived.
    Broken { status: Option<u16>, why: String },
    /// The answer is larger than it may be.
    TooLarge { status: u16 },
}

impl From<Failure> for Unavailable {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::TooLarge { .. } => Self::Nonsense("the answer is too large".to_owned()),
            Failure::Broken { status: Some(status), .. } if is_overload(status) => Self::Overload(status),
            Failure::NotSent(why) | Failure::Broken { why, .. } => Self::Unreachable(why),
        }
    }
}

/// A request to be sent once.
pub(super) struct Request<'a> {
    /// What it is measured as.
    pub call: Call,
    pub method: Method,
    pub url: Url,
    pub token: Option<&'a HeaderValue>,
    /// JSON.
    pub body: Option<String>,
    pub timeout: Duration,
    pub limit: usize,
}

#[derive(Debug)]
pub(super) struct Http {
    client: Client,
    base: Url,
    tier: Option<HeaderValue>,
    pub times: GatewayTimes,
}

impl Http {
    pub fn new(config: &PortOneConfig) -> Result<Self, ConfigError> {
        let base = base_url(&config.base_url)?;
        let tier = config.tier.as_deref().map(tier_header).transpose()?;
        // reqwest panics without a provider; whoever came first may have installed it already
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .retry(retry::never())
            .redirect(redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .https_only(base.scheme() == "https")
            .tcp_nodelay(true)
            .pool_max_idle_per_host(CONNECTIONS)
            .pool_idle_timeout(IDLE)
            .connect_timeout(config.connect_timeout)
            .user_agent(&config.user_agent)
            .build()
            .map_err(|error| ConfigError::Http(describe(error)))?;
        Ok(Self { client, base, tier, times: GatewayTimes::default() })
    }

    /// `base/segment/segment?name=value`, everything escaped.
    pub fn url<'a>(&self, segments: &[&str], query: impl IntoIterator<Item = (&'a str, &'a str)>) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        let mut query = query.into_iter().peekable();
        if query.peek().is_some() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// Sends once and reads the whole answer, all within the request's timeout.
    pub async fn exchange(&self, request: Request<'_>) -> Result<Reply, Failure> {
        let (call, began) = (request.call, Instant::now());
        let came = self.exchange_unmeasured(request).await;
        self.times.took(call, began.elapsed());
        came
    }

    async fn exchange_unmeasured(&self, request: Request<'_>) -> Result<Reply, Failure> {
        let mut headers = HeaderMap::new();
        if let Some(token) = request.token {
            headers.insert(AUTHORIZATION, token.clone());
        }
        if let Some(tier) = &self.tier {
            headers.insert("Tier", tier.clone());
        }
        let mut builder = self.client.request(request.method, request.url).timeout(request.timeout);
        if let Some(body) = request.body {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            builder = builder.body(body);
        }
        // A connect error is the only one that proves that no byte has left. A timeout of the whole is none, even if it
        // strikes while connecting: `connect_timeout` is the shorter one.
        let mut response = builder.headers(headers).send().await.map_err(|error| match error.is_connect() {
            true => Failure::NotSent(describe(error)),
            false => Failure::Broken { status: None, why: describe(error) },
        })?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) =
            response.chunk().await.map_err(|error| Failure::Broken { status: Some(status), why: describe(error) })?
        {
            if body.len() + chunk.len() > request.limit {
                return Err(Failure::TooLarge { status });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply { status, body })
    }
}

/// The error and its causes, without the URL.
fn describe(error: reqwest::Error) -> String {
    if error.is_timeout() && !error.is_connect() {
        return "no complete answer in time".to_owned();
    }
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // writing to a string does not fail
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

fn base_url(text: &str) -> Result<Url, ConfigError> {
    let url = Url::parse(text).map_err(|_| ConfigError::BaseUrl("is not a URL"))?;
    let host = url.host_str().ok_or(ConfigError::BaseUrl("has no host"))?;
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(host) => {}
        "http" => return Err(ConfigError::BaseUrl("has to be https, unless it is on this machine")),
        _ => return Err(ConfigError::BaseUrl("has to be https")),
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(ConfigError::BaseUrl("may only have a scheme, a host, a port and a path"));
    }
    Ok(url)
}

fn is_loopback(host: &str) -> bool {
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || literal.is_ok_and(|address| address.is_loopback())
}

fn tier_header(tier: &str) -> Result<HeaderValue, ConfigError> {
    let fits = tier.len() == 3 && tier.bytes().all(|byte| byte.is_ascii_graphic());
    HeaderValue::from_str(tier).ok().filter(|_| fits).ok_or(ConfigError::Tier)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::secret::Secret;

    fn http(base: &str) -> Result<Http, ConfigError> {
        Http::new(&PortOneConfig::new("main", base, Secret::new("key"), Secret::new("secret")))
    }

    #[test]
    fn segments_and_queries_are_escaped() {
        let http = http("https://api.iamport.kr/").unwrap();
        let url = http.url(&["payments", "a/b?c#d e"], [("merchant_uid[]", "x&y=한")]);
        let expected = "https://api.iamport.kr/payments/a%2Fb%3Fc%23d%20e?merchant_uid%5B%5D=x%26y%3D%ED%95%9C";
        assert_eq!(url.as_str(), expected);
        assert_eq!(http.url(&["users", "getToken"], []).as_str(), "https://api.iamport.kr/users/getToken");
    }

    #[test]
    fn a_path_in_front_stays() {
        for base in ["http://127.0.0.1:9/v1", "http://127.0.0.1:9/v1/"] {
            assert_eq!(http(base).unwrap().url(&["payments"], []).path(), "/v1/payments");
        }
    }

    #[test]
    fn plain_http_is_for_this_machine_only() {
        for good in ["https://api.iamport.kr", "http://localhost:8080", "http://127.0.0.9", "http://[::1]:80"] {
            assert!(http(good).is_ok(), "{good}");
        }
        for bad in [
            "http://api.iamport.kr",
            "http://127.0.0.1.example.com",
            "ftp://localhost",
            "api.iamport.kr",
            "https://user@api.iamport.kr",
            "https://api.iamport.kr?a=b",
        ] {
            assert!(matches!(http(bad), Err(ConfigError::BaseUrl(_))), "{bad}");
        }
    }

    #[test]
    fn a_tier_has_three_characters() {
        assert!(tier_header("abc").is_ok());
        for bad in ["", "ab", "abcd", "a c", "가"] {
            assert_eq!(tier_header(bad), Err(ConfigError::Tier), "{bad}");
        }
    }
}
