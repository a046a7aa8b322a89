//! `rebilld healthcheck`: asks the daemon of this config, for Docker's HEALTHCHECK and for scripts.

use serde_json::json;

use super::context::Context;
use super::failure::{Code, Failure};
use super::output::{Output, print_json, say};
use crate::http::ask;

#[derive(Debug, clap::Args)]
pub struct Healthcheck {
    /// Asks whether it can do its work (/readyz), and not only whether it lives (/livez)
    #[arg(long)]
    ready: bool,
}

impl Healthcheck {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let listen = context.load()?.settings.http.listen;
        let Some(address) = listen.filter(|address| address.port() != 0) else {
            return Err(Failure::new(
                Code::Config,
                "`http.listen` is \"off\" or has no port of its own: name an ADDRESS:PORT to ask the daemon at",
            ));
        };
        let path = if self.ready { "/readyz" } else { "/livez" };
        let (status, body) = ask::get(address, path)
            .await
            .map_err(|why| Failure::new(Code::Unavailable, format!("no daemon answers at {address} (`http.listen`): {why}")))?;
        let body = body.trim();
        if status != 200 {
            return Err(Failure::new(Code::Unavailable, format!("{path} says {status}: {body}")));
        }
        match context.output {
            Output::Json => print_json(&json!({ "ok": true, "asked": path, "answer": body })),
            _ if context.quiet => Ok(()),
            _ => say(body),
        }
    }
}
