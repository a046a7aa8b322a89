//! `[[webhooks]]`: where events go.

use std::collections::BTreeSet;

use super::raw::RawWebhook;
use super::settings::{Webhook, Wrong, span};

pub(super) fn webhooks_of(raw: &[RawWebhook], wrong: &mut Wrong<'_>) -> Vec<Webhook> {
    let mut names = BTreeSet::new();
    let mut webhooks = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        if !raw.name.is_empty() && !names.insert(raw.name.as_str()) {
            let key = format!("webhooks.{index}.name");
            wrong.say(&key, format!("two [[webhooks]] are called \"{}\": deliveries are kept by name", raw.name));
        }
        webhooks.push(Webhook {
            name: raw.name.clone(),
            url: raw.url.clone(),
            secret: wrong.source(
                &format!("webhooks.{index}.secret"),
                raw.secret_file.as_ref(),
                raw.secret_credential.as_ref(),
                format!("webhook-{}", raw.name),
            ),
            allow_private: raw.allow_private,
            timeout: span(&raw.timeout),
        });
    }
    webhooks
}
