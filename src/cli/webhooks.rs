//! `rebilld webhooks`: the address that PortOne's webhooks come in by.

use clap::Subcommand;
use serde_json::json;

use super::arm::base_url;
use super::context::{Context, Opened, Why};
use super::failure::{Code, Failure};
use super::output::{Output, print_json, say};
use crate::app::random;
use crate::http::inbox::path;
use crate::ports::secret::Secret;

#[derive(Debug, Subcommand)]
pub enum Webhooks {
    /// Prints the URL to enter in PortOne's console: whoever knows it may ask for look-ups, and for nothing else
    Url {
        /// The account
        #[arg(long, value_name = "NAME")]
        account: String,
        /// Where the listener can be reached from outside [default: `http.public_url`]
        #[arg(long, value_name = "URL")]
        base: Option<String>,
    },
    /// Makes a new URL; the old one is refused within ten seconds
    Rotate {
        /// The account
        #[arg(long, value_name = "NAME")]
        account: String,
        /// Where the listener can be reached from outside [default: `http.public_url`]
        #[arg(long, value_name = "URL")]
        base: Option<String>,
        #[command(flatten)]
        why: Why,
    },
}

impl Webhooks {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Url { account, base } => {
                let opened = context.open().await?;
                let base = base_of(&opened, &account, base)?;
                let mut token = token_of(&opened, &account).await?;
                if token.is_none() {
                    // the daemon makes them when it starts: the database may be newer than that
                    opened.database.add_webhook_tokens(&[(account.clone(), Secret::new(random()))], opened.now).await?;
                    token = token_of(&opened, &account).await?;
                }
                let token = token.ok_or_else(|| unknown(&account))?;
                print(context, &account, &base, &token)
            }
            Self::Rotate { account, base, why } => {
                let signed = context.signed(&why)?;
                let opened = context.open().await?;
                let base = base_of(&opened, &account, base)?;
                let token = Secret::new(random());
                if !opened.database.desk().rotate_webhook_token(opened.now, &account, &token, &signed).await? {
                    return Err(unknown(&account));
                }
                print(context, &account, &base, &token)
            }
        }
    }
}

async fn token_of(opened: &Opened, account: &str) -> Result<Option<Secret>, Failure> {
    let tokens = opened.database.webhook_tokens().await?;
    Ok(tokens.into_iter().find(|row| row.name == account).map(|row| row.token))
}

fn unknown(account: &str) -> Failure {
    Failure::new(Code::Config, format!("the database does not know account `{account}` yet: run `rebilld migrate`"))
}

/// What the URL begins with; the account has to be one of the config.
fn base_of(opened: &Opened, account: &str, given: Option<String>) -> Result<String, Failure> {
    base_url(opened, account)?;
    let base = given.or_else(|| opened.loaded.settings.http.public_url.clone());
    let Some(base) = base else {
        let text = "nothing says where the listener can be reached from outside: set `http.public_url`, or add --base https://…";
        return Err(Failure::new(Code::Usage, text));
    };
    let base = base.trim_end_matches('/').to_owned();
    let sound = (base.starts_with("https://") || base.starts_with("http://")) && base.bytes().all(|byte| byte.is_ascii_graphic());
    if sound { Ok(base) } else { Err(Failure::new(Code::Usage, format!("`{base}` is no URL: write https://…"))) }
}

fn print(context: &Context, account: &str, base: &str, token: &Secret) -> Result<(), Failure> {
    let url = format!("{base}{}", path(account, token));
    match context.output {
        Output::Json => print_json(&json!({ "account": account, "url": url })),
        _ => say(&url),
    }
}
