//! `rebilld migrate`.

use rand::TryRng;
use rand::rngs::SysRng;
use serde_json::json;

use super::context::{Context, connect};
use super::failure::{Code, Failure};
use super::output::{Listing, Output, field, print_json, say};

/// Brings the schema up to date, binds a new database to the config's tag, and makes the config's accounts known to it.
#[derive(Debug, clap::Args)]
pub struct Migrate {
    /// Only says what is missing
    #[arg(long)]
    status: bool,
}

impl Migrate {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let loaded = context.load()?;
        let database = connect(&loaded, !self.status).await?;
        let pending = database.pending_migrations().await?;
        if self.status {
            let rows = pending.iter().map(|(version, name)| vec![field("version", *version), field("name", name.as_str())]);
            return Listing { rows: rows.collect(), none: "the database is up to date" }.print(context.output);
        }
        database.migrate().await?;
        let now = database.desk().clock().await?;
        database.bind_identity(loaded.settings.tag, &random_text()?, now).await?;
        let place = |account: &crate::config::Account| (account.name.clone(), account.base_url.clone());
        let accounts: Vec<(String, String)> = loaded.settings.accounts.values().map(place).collect();
        database.desk().add_accounts(&accounts).await?;
        if context.output == Output::Json {
            let applied: Vec<_> = pending.iter().map(|(version, name)| json!({ "version": version, "name": name })).collect();
            return print_json(&json!({ "applied": applied, "database": loaded.settings.database.url.to_string() }));
        }
        if context.quiet {
            return Ok(());
        }
        for (version, name) in &pending {
            say(&format!("{version:04} {name}: done"))?;
        }
        say(&format!("the database is up to date: {}", loaded.settings.database.url))
    }
}

/// 128 random bits, for the incarnation of a new database.
fn random_text() -> Result<String, Failure> {
    let mut bytes = [0u8; 16];
    let filled = SysRng.try_fill_bytes(&mut bytes);
    filled.map_err(|error| Failure::new(Code::Internal, format!("the system gives no random numbers: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
