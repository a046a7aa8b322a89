//! What every command starts from: settings, database, who is asking.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::failure::{Code, Failure};
use super::output::Output;
use crate::app::{self, open_options};
use crate::config::{ConfigErrors, DatabasePlans, Environment, Loaded, Sources, Version, load, load_in_spite, revive};
use crate::domain::plan::Catalog;
use crate::store::desk::{Signed, Status};
use crate::store::{Database, OpenError, OpenOptions, PlanRows};

pub struct Context {
    pub sources: Sources,
    pub output: Output,
    pub quiet: bool,
    /// The command adds to the journal.
    pub signs: AtomicBool,
}

/// Who, and why: asked of every command that changes something.
#[derive(Debug, Clone, clap::Args)]
pub struct Why {
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Who, if it is not the user of this machine who runs the command.
    #[arg(long = "as", value_name = "NAME")]
    pub by: Option<String>,
}

/// Settings and database, open.
pub struct Opened {
    /// The plans of the database are among its settings.
    pub loaded: Loaded,
    /// The plans of the database, as they stand there and as they are read.
    pub plans: PlanRows,
    pub of_database: DatabasePlans,
    /// All plans, and what the accounts say about their subscriptions; like the plans empty if opened in spite of errors.
    pub catalog: Catalog,
    pub database: Database,
    /// The database's clock, when it was opened.
    pub now: Timestamp,
}

impl Context {
    pub fn load(&self) -> Result<Loaded, Failure> {
        Ok(load(&self.sources)?)
    }

    /// Opens a database that `rebilld migrate` has prepared.
    pub async fn open(&self) -> Result<Opened, Failure> {
        let mut loaded = self.load()?;
        let database = connect(&loaded, false).await?;
        if !database.pending_migrations().await?.is_empty() {
            return Err(OpenError::NotMigrated.into());
        }
        same_tag(&loaded, database.desk().status().await?.as_ref())?;
        let now = database.desk().clock().await?;
        let plans = database.plan_rows().await?;
        let of_database = loaded.settings.database_plans(&plans.rows);
        loaded.settings = loaded.settings.with(of_database.clone());
        let catalog = loaded.settings.catalog();
        Ok(Opened { loaded, plans, of_database, catalog, database, now })
    }

    /// The same for what is counted and then written down: its catalog is that of the config in force, even if the files here
    /// hold another one. The daemon may have refused them, and dates that they lead to are not those that it charges by.
    ///
    /// # Errors
    /// Running daemons go by different configs, or by one that this release cannot read.
    pub async fn open_in_force(&self) -> Result<Opened, Failure> {
        let mut opened = self.open().await?;
        self.take_catalog_in_force(&mut opened).await?;
        Ok(opened)
    }

    /// The same for changes that hold whatever the config says: what they tell of the next period is that of the config in force,
    /// if it can be known.
    pub async fn open_to_change(&self) -> Result<Opened, Failure> {
        let mut opened = self.open().await?;
        if let Err(why) = self.take_catalog_in_force(&mut opened).await {
            self.note(&format!("what follows is told by the files here: {why}"));
        }
        Ok(opened)
    }

    async fn take_catalog_in_force(&self, opened: &mut Opened) -> Result<(), Failure> {
        let short = |hash: &str| Version::short(hash).to_owned();
        let daemons = opened.database.daemons().await?;
        let running: BTreeMap<&str, i64> = daemons
            .iter()
            .filter(|daemon| daemon.runs(opened.now))
            .map(|daemon| (daemon.hash.as_str(), daemon.version))
            .collect();
        if running.len() > 1 {
            let hashes: Vec<String> = running.keys().map(|hash| short(hash)).collect();
            let text = format!(
                "running daemons go by different configs ({}): see `rebilld config show --running`, and bring them together with \
                 `rebilld config apply`",
                hashes.join(", ")
            );
            return Err(Failure::new(Code::TryLater, text));
        }
        let stored = match running.values().next() {
            Some(version) => opened.database.config_version(*version).await?,
            None => opened.database.config_in_force().await?,
        };
        let ours = opened.loaded.version().hash;
        let Some(stored) = stored.filter(|stored| stored.hash != ours) else { return Ok(()) };
        let (theirs, ours) = (short(&stored.hash), short(&ours));
        let settings = revive(&stored.body).map_err(|why| {
            let text = format!(
                "the config in force ({theirs}) is one of a newer rebilld, and the files here hold another one ({ours}): use that \
                 rebilld, or the files that are in force ({why})"
            );
            Failure::new(Code::Config, text)
        })?;
        opened.catalog = settings.with_rows(&opened.plans.rows).catalog();
        self.note(&format!(
            "by the config that is in force ({theirs}); the files here hold another one ({ours}), see `rebilld config plan`"
        ));
        Ok(())
    }

    /// Tells people something on the side.
    fn note(&self, text: &str) {
        if self.output == Output::Table && !self.quiet {
            eprintln!("note: {text}");
        }
    }

    /// The same for what has to work while something else is wrong: the plans of the database are not read, and a config with
    /// errors is used as far as it can be read. It says so.
    pub async fn open_in_spite(&self) -> Result<Opened, Failure> {
        let (loaded, problems) = load_in_spite(&self.sources)?;
        let database = connect(&loaded, false).await?;
        if !database.pending_migrations().await?.is_empty() {
            return Err(OpenError::NotMigrated.into());
        }
        match ConfigErrors::unless_none(problems) {
            Ok(()) => same_tag(&loaded, database.desk().status().await?.as_ref())?,
            Err(errors) => {
                let Failure { text, .. } = errors.into();
                eprintln!("warning: {}", text.replacen(":\n", ", and is used as far as it can be read:\n", 1));
            }
        }
        let now = database.desk().clock().await?;
        let (plans, of_database, catalog) = Default::default();
        Ok(Opened { loaded, plans, of_database, catalog, database, now })
    }

    pub fn signed(&self, why: &Why) -> Result<Signed, Failure> {
        let reason = why.reason.trim();
        if reason.is_empty() {
            return Err(Failure::new(Code::Usage, "--reason is empty: say why, for whoever reads the journal"));
        }
        let user = user(&self.sources.environment);
        let who = match &why.by {
            Some(name) => format!("{} ({user})", name.trim()),
            None => user,
        };
        self.signs.store(true, Ordering::Relaxed);
        Ok(Signed { who, reason: reason.to_owned() })
    }

    /// After a command that may have added to the journal: the state directory of this machine remembers it, so that a restored database
    /// that has forgotten it does not go on as if nothing had been said. A daemon does that too; none need be running.
    pub async fn remember(&self, done: &Result<(), Failure>) {
        // a database that is named for once may be a copy, and the directory is another's
        let for_once = !self.sources.options.is_empty();
        let is_down = matches!(done, Err(failure) if failure.code == Code::Unavailable);
        if !self.signs.load(Ordering::Relaxed) || for_once || is_down {
            return;
        }
        let unkept = |why: &dyn std::fmt::Display| {
            eprintln!("warning: {why}: if no daemon runs, a copy of the database that is restored now could forget this");
        };
        // what is wrong with the config the command has told
        let Ok((loaded, _)) = load_in_spite(&self.sources) else { return };
        let database = match connect(&loaded, false).await {
            Ok(database) => database,
            Err(why) => return unkept(&why),
        };
        match app::remember(&loaded.settings, &database).await {
            Ok(None) => {}
            Ok(Some(why)) => eprintln!("warning: {why} Nothing is sent: `rebilld hold status` shows the way out"),
            Err(why) => {
                let (daemons, now) = (database.daemons().await.unwrap_or_default(), database.desk().clock().await);
                if !now.is_ok_and(|now| daemons.iter().any(|daemon| daemon.runs(now))) {
                    unkept(&why);
                }
            }
        }
        database.close().await;
    }
}

impl Opened {
    /// The zone in which to show an account's instants.
    pub fn zone(&self, account: &str) -> TimeZone {
        zone_of(&self.loaded, account)
    }
}

pub fn zone_of(loaded: &Loaded, account: &str) -> TimeZone {
    let account = loaded.settings.accounts.get(account);
    account.map(|account| account.timezone.clone()).unwrap_or_else(|| TimeZone::get("Asia/Seoul").unwrap_or(TimeZone::UTC))
}

/// Refuses a database that is bound to another tag than the config's.
fn same_tag(loaded: &Loaded, status: Option<&Status>) -> Result<(), OpenError> {
    match status {
        Some(status) if status.tag != loaded.settings.tag.as_str() => {
            Err(OpenError::WrongTag { database: status.tag.clone(), config: loaded.settings.tag.to_string() })
        }
        _ => Ok(()),
    }
}

/// The database alone, of a config that may be wrong otherwise.
pub async fn open_in_spite(context: &Context) -> Result<Database, Failure> {
    let (loaded, _) = load_in_spite(&context.sources)?;
    let database = connect(&loaded, false).await?;
    if !database.pending_migrations().await?.is_empty() {
        return Err(OpenError::NotMigrated.into());
    }
    Ok(database)
}

/// Opens the database of the config.
pub async fn connect(loaded: &Loaded, create: bool) -> Result<Database, Failure> {
    let settings = &loaded.settings;
    // a command asks one thing at a time
    let max_connections = settings.database.max_connections.min(2);
    let options = OpenOptions { max_connections, ..open_options(settings, create)? };
    Ok(Database::open(&settings.database_url()?, options).await?)
}

/// The unix user who runs this, and who stands behind sudo.
fn user(environment: &Environment) -> String {
    let uid = rustix::process::getuid().as_raw();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut parts = line.split(':');
        let name = parts.next()?;
        (parts.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    let name = name.unwrap_or_else(|| format!("uid {uid}"));
    match environment.get("SUDO_USER") {
        Some(person) if *person != name => format!("{name} by sudo of {person}"),
        _ => name,
    }
}
