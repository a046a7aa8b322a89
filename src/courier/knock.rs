//! Whether an address of ours can be reached, as a stranger would reach it.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderValue};

use super::{client, describe};

/// POSTs a JSON body, once. Returns the status of the answer.
///
/// # Errors
/// Why there is none, without the URL: its path may be a secret.
pub async fn knock(url: &str, body: String, patience: Duration) -> Result<u16, String> {
    let request = client(true)?.post(url).timeout(patience).body(body);
    let request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    request.send().await.map(|answer| answer.status().as_u16()).map_err(describe)
}
