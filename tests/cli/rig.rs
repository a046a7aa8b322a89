//! A directory with a config, secrets and a database, and the binary run in it.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::support;

pub const CONFIG: &str = r#"
tag = "sb"
[accounts.main]
base_url = "http://127.0.0.1:8765"
imp_key_file = "main.key"
imp_secret_file = "main.secret"
[accounts.second]
imp_key_file = "main.key"
imp_secret_file = "main.secret"
[plans.monthly]
every = "1 month"
amount = 9900
title = "Monthly"
[plans.own]
every = "2 weeks"
[plans.dollars]
every = "1 year"
currency = "USD"
title = "Yearly"
[[webhooks]]
name = "crm"
url = "https://crm.example.com/hook?token=hunter2"
secret_file = "hook.secret"
[http]
listen = "off"
"#;

pub struct Rig {
    pub directory: TempDir,
    /// `None`: the SQLite file of the config.
    pub database: Option<String>,
}

/// What a command came to.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Rig {
    pub fn sqlite() -> Self {
        let rig = Self { directory: TempDir::new().unwrap(), database: None };
        rig.write("rebilld.toml", CONFIG);
        for (name, secret) in [
            ("main.key", "key-hunter2"),
            ("main.secret", "secret-hunter2"),
            ("hook.secret", "whsec_aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMg=="),
        ] {
            rig.write(name, secret);
            rig.mode(name, 0o600);
        }
        rig
    }

    pub async fn postgres() -> Self {
        let database = support::postgres::database().await;
        Self { database: Some(database.url), ..Self::sqlite() }
    }

    /// Both engines, each with a database that `migrate` has prepared.
    pub async fn both() -> [Self; 2] {
        let rigs = [Self::sqlite(), Self::postgres().await];
        for rig in &rigs {
            rig.ok(&["migrate"]);
        }
        rigs
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    pub fn mode(&self, name: &str, mode: u32) {
        std::fs::set_permissions(self.path().join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rebilld"));
        command.args(arguments).current_dir(self.path()).env_clear().stdin(Stdio::null());
        if let Some(url) = &self.database {
            command.env("REBILLD_DATABASE__URL", url);
        }
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Done {
        done(self.command(arguments).output().unwrap())
    }

    pub fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Done {
        done(self.command(arguments).envs(variables.iter().copied()).output().unwrap())
    }

    pub fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Done {
        let mut child =
            self.command(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        done(child.wait_with_output().unwrap())
    }

    /// Runs what has to succeed, and gives its output.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let done = self.run(arguments);
        assert_eq!(done.code, 0, "{arguments:?}: {done:?}");
        assert_eq!(done.err, "", "{arguments:?}");
        done.out
    }

    /// Runs what has to fail with this code, and gives its error.
    pub fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let done = self.run(arguments);
        assert_eq!(done.code, code, "{arguments:?}: {done:?}");
        assert!(!done.err.is_empty(), "{arguments:?} says why");
        done.err
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        let text = self.ok(&[arguments, &["--output", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error} in {text}"))
    }

    /// Imports a file. If rows of it are held, it ends with 75, and says so in one line.
    pub fn import(&self, file: &str) -> Value {
        let done = self.run(&["subscriptions", "import", file, "--output", "json"]);
        let told: Value = serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("{file}: {error} in {done:?}"));
        let wanted = if told["held"] == 0 { (0, 0) } else { (75, 1) };
        assert_eq!((done.code, done.err.lines().count()), wanted, "{file}: {done:?}");
        told
    }

    pub fn csv(&self, arguments: &[&str]) -> Vec<Vec<String>> {
        let text = self.ok(&[arguments, &["--output", "csv"]].concat());
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
        reader.records().map(|record| record.unwrap().iter().map(str::to_owned).collect()).collect()
    }

    /// Runs SQL as an operator would, in the database itself.
    pub async fn sql(&self, sqlite: &str, postgres: &str) {
        use sqlx::{AssertSqlSafe, Connection, Executor};
        match &self.database {
            None => {
                let url = format!("sqlite:{}", self.path().join("rebilld.db").display());
                let mut connection = sqlx::sqlite::SqliteConnection::connect(&url).await.unwrap();
                connection.execute(AssertSqlSafe(sqlite.to_owned())).await.unwrap();
                connection.close().await.unwrap();
            }
            Some(url) => {
                let mut connection = sqlx::postgres::PgConnection::connect(url).await.unwrap();
                connection.execute(AssertSqlSafe(postgres.to_owned())).await.unwrap();
                connection.close().await.unwrap();
            }
        }
    }
}

fn done(output: Output) -> Done {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let done = Done { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) };
    // I12: whatever is printed, no secret is in it
    assert!(!done.out.contains("hunter2") && !done.err.contains("hunter2"), "{done:?}");
    done
}
