//! What the daemon listens on: whether it answers here, and whether webhooks reach it from outside.

use std::time::Duration;

use serde_json::json;

use super::Report;
use crate::config::Settings;
use crate::courier::knock;
use crate::http::ask::get;
use crate::store::Database;

const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn examine(report: &mut Report, settings: &Settings, database: Option<&Database>) {
    let Some(address) = settings.http.listen else {
        report.warn(
            "listener",
            "",
            "`http.listen` is off: no health, no metrics, no webhooks",
            "name an address, such as 127.0.0.1:9610",
        );
        return;
    };
    let runs = runs_here(database).await;
    match get(address, "/livez").await {
        _ if address.port() == 0 => {
            report.ok("listener", address.to_string(), "it takes any free port: the daemon's log says which")
        }
        Ok((200, _)) => report.ok("listener", address.to_string(), "the daemon answers, and its loop beats"),
        Ok(_) => {
            let remedy = "look at its log; if another program listens there, name another port in `http.listen`";
            report.unavailable("listener", address.to_string(), "something answers, and not as a daemon that is well", remedy);
        }
        _ if runs => {
            let remedy = "look at its log; a firewall of this machine may stand between";
            report.unavailable("listener", address.to_string(), "a daemon runs on this machine, and does not answer", remedy);
        }
        _ => report.ok("listener", address.to_string(), "nobody listens: no daemon runs on this machine"),
    }
    if let (Some(base), Some(database)) = (&settings.http.public_url, database) {
        public(report, base.trim_end_matches('/'), settings, database).await;
    }
}

/// Whether the database knows of a daemon at work on this machine.
async fn runs_here(database: Option<&Database>) -> bool {
    let Some(database) = database else { return false };
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let (Ok(now), Ok(rows)) = (database.desk().clock().await, database.daemons().await) else { return false };
    let here = |instance: &str| instance.rsplit_once(':').is_some_and(|(name, _)| name == host);
    rows.iter().any(|row| row.runs(now) && here(&row.instance))
}

/// A webhook about nothing, as PortOne would send it. It is answered without anything following from it.
async fn public(report: &mut Report, base: &str, settings: &Settings, database: &Database) {
    let tokens = match database.webhook_tokens().await {
        Ok(tokens) => tokens,
        Err(why) => return report.unavailable("webhooks", base, why.to_string(), "see what the database says"),
    };
    for name in settings.accounts.keys() {
        let Some(token) = tokens.iter().find(|row| row.name == *name) else {
            report.warn(
                "webhooks",
                name,
                "it has no address for webhooks yet",
                format!("`rebilld webhooks url --account {name}` makes one"),
            );
            continue;
        };
        let path = crate::http::inbox::path(name, &token.token);
        let body = json!({ "imp_uid": "rebilld-doctor", "merchant_uid": "rebilld-doctor", "status": "ready" }).to_string();
        let asked = knock(&format!("{base}{path}"), body, PATIENCE).await;
        let remedy = "forward POST /webhooks/portone/… from there to `http.listen`, whole and unchanged, and start the daemon";
        match asked {
            Ok(200 | 429) => report.ok("webhooks", name, format!("{base} leads to the daemon")),
            Ok(status) => {
                report.unavailable("webhooks", name, format!("{base} answers HTTP {status}, and not as the daemon does"), remedy)
            }
            Err(why) => report.unavailable("webhooks", name, format!("{base} cannot be reached from here: {why}"), remedy),
        }
    }
}
