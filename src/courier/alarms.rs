//! Ways to a person: alarms by webhook, to what understands Slack's JSON, or by a command; and the ping of a dead man's switch.
//!
//! One call is one try. Nothing here waits longer than its own timeout, and no error names an address: it may be a secret.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Client, RequestBuilder, Url};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::signature::Key;
use super::{ANSWER, EndpointError, address, client, describe};
use crate::domain::alarm::Alarm;
use crate::ports::clock::Clock;
use crate::ports::secret::Secret;

/// Where commands are looked for; nothing else of the daemon's environment reaches them, because it may hold secrets.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Why a try did not get through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct NotTold {
    why: String,
    /// The receiver refuses this message as it stands (HTTP 400, 413, 415, 422): another try would be refused too. Any other
    /// answer may change, an address that is wrong (404) as well: somebody may put it right.
    pub is_of_the_message: bool,
}

impl From<String> for NotTold {
    fn from(why: String) -> Self {
        Self { why, is_of_the_message: false }
    }
}

/// How an alarm gets to somebody.
#[derive(Debug, Clone)]
pub enum Way {
    /// The alarm's JSON; signed as events are if there is a key.
    Webhook { url: Secret, key: Option<Secret> },
    /// `{"text": …}`.
    Slack { url: Secret },
    /// The alarm's JSON on its standard input.
    Command { argv: Vec<String> },
}

/// One `[[alarms.channel]]`.
#[derive(Debug, Clone)]
pub struct ChannelSettings {
    pub name: String,
    pub way: Way,
    /// It may be inside the operator's network, or on this machine.
    pub allow_private: bool,
    /// For the whole of it; a command that takes longer is killed.
    pub timeout: Duration,
}

enum Ready {
    Webhook { url: Url, key: Option<Key>, client: Client },
    Slack { url: Url, client: Client },
    Command { program: String, arguments: Vec<String> },
}

/// A channel that alarms may be told to.
pub struct Channel {
    name: String,
    ready: Ready,
    timeout: Duration,
    clock: Arc<dyn Clock>,
}

impl Channel {
    /// Checks the settings; nothing is sent yet.
    pub fn new(settings: ChannelSettings, clock: Arc<dyn Clock>) -> Result<Self, EndpointError> {
        let ChannelSettings { name, way, allow_private, timeout } = settings;
        let wrong = |why: &str| EndpointError { endpoint: name.clone(), why: why.to_owned() };
        let place = |url: &Secret| address::url(url.reveal(), allow_private).map_err(wrong);
        let client = || client(allow_private).map_err(|why| wrong(&why));
        let ready = match way {
            Way::Webhook { url, key } => {
                let weak = || wrong("its secret is not `whsec_` and base64 of at least 24 bytes");
                let key = key.map(|key| Key::read(&key).ok_or_else(weak)).transpose()?;
                Ready::Webhook { url: place(&url)?, key, client: client()? }
            }
            Way::Slack { url } => Ready::Slack { url: place(&url)?, client: client()? },
            Way::Command { argv } => {
                let mut argv = argv.into_iter();
                let program = argv.next().ok_or_else(|| wrong("it has no command"))?;
                Ready::Command { program, arguments: argv.collect() }
            }
        };
        Ok(Self { name, ready, timeout, clock })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tries once. What it says came back, for people; or what went wrong.
    pub async fn tell(&self, alarm: &Alarm) -> Result<String, NotTold> {
        match &self.ready {
            Ready::Webhook { url, key, client } => {
                let body = alarm.json().to_string();
                let mut request = client.post(url.clone());
                if let Some(key) = key {
                    // the time of this try, not of the alarm: receivers refuse old ones
                    let timestamp = self.clock.now().as_second();
                    let signature = key.sign(&alarm.id, timestamp, body.as_bytes());
                    request = request.header("webhook-timestamp", timestamp).header("webhook-signature", signature);
                }
                self.post(request.header("webhook-id", &alarm.id), body).await
            }
            Ready::Slack { url, client } => self.post(client.post(url.clone()), alarm.slack().to_string()).await,
            Ready::Command { program, arguments } => {
                let ran = tokio::time::timeout(self.timeout, run(program, arguments, &alarm.json())).await;
                let late = || Err(format!("the command did not end within {} s and was killed", self.timeout.as_secs()));
                Ok(ran.unwrap_or_else(|_| late())?)
            }
        }
    }

    async fn post(&self, request: RequestBuilder, body: String) -> Result<String, NotTold> {
        let json = HeaderValue::from_static("application/json");
        exchange(request.header(CONTENT_TYPE, json).body(body).timeout(self.timeout)).await
    }
}

/// `alarms.heartbeat_url`: silence tells somebody else that this daemon is stuck.
pub struct Heartbeat {
    url: Url,
    client: Client,
    timeout: Duration,
}

impl Heartbeat {
    pub fn new(url: &Secret, allow_private: bool, timeout: Duration) -> Result<Self, EndpointError> {
        let wrong = |why: &str| EndpointError { endpoint: "heartbeat".to_owned(), why: why.to_owned() };
        let url = address::url(url.reveal(), allow_private).map_err(wrong)?;
        Ok(Self { url, client: client(allow_private).map_err(|why| wrong(&why))?, timeout })
    }

    /// One GET.
    pub async fn ping(&self) -> Result<(), NotTold> {
        exchange(self.client.get(self.url.clone()).timeout(self.timeout)).await.map(drop)
    }
}

async fn exchange(request: RequestBuilder) -> Result<String, NotTold> {
    let mut response = request.send().await.map_err(describe)?;
    let status = response.status();
    let mut read = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        read += chunk.len();
        if read > ANSWER {
            break;
        }
    }
    let said = format!("HTTP {}", status.as_u16());
    if status.is_success() {
        return Ok(said);
    }
    Err(NotTold { why: said, is_of_the_message: matches!(status.as_u16(), 400 | 413 | 415 | 422) })
}

async fn run(program: &str, arguments: &[String], alarm: &Value) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", PATH).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|why| format!("the command cannot be run: {why}"))?;
    if let Some(mut input) = child.stdin.take() {
        // a command that does not read it may have done its work all the same: its exit code tells
        let _ = input.write_all(format!("{alarm}\n").as_bytes()).await;
    }
    let status = child.wait().await.map_err(|why| format!("the command was lost: {why}"))?;
    match (status.success(), status.code()) {
        (true, _) => Ok("exit code 0".to_owned()),
        (false, Some(code)) => Err(format!("exit code {code}")),
        (false, None) => Err("the command was killed".to_owned()),
    }
}
