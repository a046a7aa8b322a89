//! `rebilld doctor`: each of its checks made to fail for real.

use std::process::Command;
use std::sync::Arc;

use rebilld::gateway::sandbox::{Sandbox, SandboxAccount, SandboxOptions};
use rebilld::time::SystemClock;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::rig::{Done, Rig};
use crate::support::postgres;

/// A gateway that knows the rig's keys, and a config that points to it and has nothing that is not needed.
struct Patient {
    rig: Rig,
    sandbox: Sandbox,
}

fn config(gateway: &str) -> String {
    format!(
        "tag = \"sb\"\nstate_dir = \"state\"\n[http]\nlisten = \"127.0.0.1:0\"\n[accounts.main]\nbase_url = \"{gateway}\"\n\
         imp_key_file = \"main.key\"\nimp_secret_file = \"main.secret\"\ninclude_sandbox = true\n\
         [plans.monthly]\nevery = \"1 month\"\namount = 9900\ntitle = \"Monthly\"\n"
    )
}

impl Patient {
    async fn on(rig: Rig) -> Self {
        let mut options = SandboxOptions::new(Arc::new(SystemClock::new()));
        options.accounts = vec![SandboxAccount::new("key-hunter2", "secret-hunter2")];
        let sandbox = Sandbox::start(options).await.unwrap();
        rig.write("rebilld.toml", config(&sandbox.url()));
        rig.ok(&["migrate"]);
        Self { rig, sandbox }
    }

    async fn new() -> Self {
        Self::on(Rig::sqlite()).await
    }

    fn examined(&self) -> Examined {
        Examined::of(self.rig.run(&["doctor", "--output", "json"]))
    }
}

struct Examined {
    code: i32,
    rows: Vec<Value>,
}

impl Examined {
    fn of(done: Done) -> Self {
        let rows = serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("{error}: {done:?}"));
        Self { code: done.code, rows }
    }

    /// What failed, with how it is and how to right it.
    fn failed(&self) -> Vec<(String, String)> {
        let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
        let failed = self.rows.iter().filter(|row| row["result"] == "fail");
        failed.map(|row| (text(row, "check"), format!("{} -> {}", text(row, "what"), text(row, "remedy")))).collect()
    }

    /// Exactly this check failed, with this code, these words, and a remedy.
    fn is_only(&self, code: i32, check: &str, words: &[&str]) {
        let failed = self.failed();
        assert_eq!((self.code, failed.len()), (code, 1), "{failed:?}");
        assert_eq!(failed[0].0, check, "{failed:?}");
        for word in words {
            assert!(failed[0].1.contains(word), "no `{word}` in {failed:?}");
        }
        assert!(!failed[0].1.ends_with("-> "), "it says how to right it: {failed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_well_without_a_daemon_and_nothing_is_charged_on_either_engine() {
    for rig in [Rig::sqlite(), Rig::postgres().await] {
        let patient = Patient::on(rig).await;
        let examined = patient.examined();
        assert_eq!((examined.code, examined.failed()), (0, Vec::new()));
        for check in [
            "config",
            "secrets",
            "zone data",
            "tls roots",
            "state directory",
            "database",
            "migrations",
            "database rules",
            "clock",
            "identity",
            "brakes",
            "daemons",
            "token",
            "channels",
            "look-up",
            "listener",
        ] {
            assert!(examined.rows.iter().any(|row| row["check"] == check), "{check} is looked at");
        }
        assert_eq!(patient.sandbox.ledger().charges().count(), 0);
        let table = patient.rig.ok(&["doctor"]);
        assert!(table.lines().any(|line| line.starts_with("ok") && line.contains("token")), "{table}");
        let csv = patient.rig.csv(&["doctor"]);
        assert_eq!(csv[0], ["check", "subject", "result", "what", "remedy"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_with_errors_is_named_by_its_line_and_the_rest_is_looked_at_all_the_same() {
    let patient = Patient::new().await;
    patient.rig.write("rebilld.toml", config(&patient.sandbox.url()).replace("include_sandbox", "include_sandbx"));
    let examined = patient.examined();
    assert_eq!(examined.code, 78);
    let failed = examined.failed();
    assert!(failed.iter().any(|(check, what)| check == "config" && what.contains("include_sandbox")), "{failed:?}");
    // and look-ups would not see what that channel charges
    assert!(failed.iter().any(|(check, what)| check == "channels" && what.contains("include_sandbox = true")), "{failed:?}");
    assert!(examined.rows.iter().any(|row| row["check"] == "token" && row["result"] == "ok"));
    patient.rig.write("rebilld.toml", "[accounts.main\n");
    assert_eq!(patient.examined().code, 78);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_and_configs_that_others_can_read_or_write() {
    let patient = Patient::new().await;
    patient.rig.mode("main.secret", 0o644);
    patient.examined().is_only(78, "secrets", &["main.secret", "mode 644", "chmod o="]);
    patient.rig.mode("main.secret", 0o660);
    let examined = patient.examined();
    assert_eq!(examined.code, 0);
    assert!(examined.rows.iter().any(|row| row["result"] == "warn" && row["remedy"].as_str().unwrap().starts_with("chmod go-w")));
    patient.rig.mode("main.secret", 0o600);
    patient.rig.mode("rebilld.toml", 0o666);
    patient.examined().is_only(78, "config", &["everybody on this machine can write it", "chmod o-w rebilld.toml"]);
    patient.rig.mode("rebilld.toml", 0o644);
    patient.rig.write("main.key", "");
    patient.examined().is_only(78, "secrets", &["main.key is empty"]);
}

/// What a start would end at, `doctor` and `config check` say before it, by the line of the config.
#[tokio::test(flavor = "multi_thread")]
async fn receivers_of_events_alarms_and_the_heartbeat_that_could_not_be_told() {
    let patient = Patient::new().await;
    let sound = config(&patient.sandbox.url());
    let rig = &patient.rig;
    for name in ["slack.url", "weak.key"] {
        rig.write(name, "https://hooks.slack.com/services/hunter2");
        rig.mode(name, 0o600);
    }
    let slack = "[[alarms.channel]]\nname = \"ops\"\nby = \"slack\"\nurl_file = \"slack.url\"\n";
    let event = "[[webhooks]]\nname = \"app\"\nurl = \"https://app.example.com/hook\"\nsecret_file = \"weak.key\"\n";
    let wrong = |more: &str, words: &[&str]| {
        rig.write("rebilld.toml", format!("{sound}{more}"));
        patient.examined().is_only(78, "secrets", words);
        let check = rig.fails(78, &["config", "check"]);
        let run = rig.fails(78, &["run"]);
        for word in words.iter().filter(|word| !word.contains("chmod")) {
            assert!(check.contains(word) && run.contains(word), "no `{word}` in\n{check}\n{run}");
        }
        assert!(check.contains("rebilld.toml:"), "the line is named: {check}");
        assert!(!check.contains("hunter2") && !run.contains("hunter2"), "{check}\n{run}");
    };
    wrong(event, &["webhook `app`", "its secret is not `whsec_`"]);
    wrong(&slack.replace("slack.url", "nowhere.url"), &["alarms.channel.0.url", "nowhere.url"]);
    wrong("[alarms]\nheartbeat_url = \"http://127.0.0.1:9/hunter2\"\n", &["heartbeat"]);
    rig.mode("slack.url", 0o644);
    wrong(slack, &["alarms.channel.0.url", "mode 644"]);
    rig.mode("slack.url", 0o620);
    rig.write("rebilld.toml", format!("{sound}{slack}"));
    let examined = patient.examined();
    assert_eq!(examined.code, 0, "{:?}", examined.failed());
    let warned = |row: &&Value| row["result"] == "warn" && row["remedy"] == "chmod go-w slack.url";
    assert_eq!(examined.rows.iter().filter(warned).count(), 1, "{:?}", examined.rows);
    rig.ok(&["config", "check"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_refuses_the_keys_is_down_or_is_none() {
    let patient = Patient::new().await;
    patient.rig.write("main.secret", "another-hunter2");
    patient.rig.mode("main.secret", 0o600);
    patient.examined().is_only(78, "token", &["HTTP 401", "compare imp_key"]);
    patient.rig.write("main.secret", "secret-hunter2");
    patient.rig.mode("main.secret", 0o600);
    assert_eq!(patient.examined().code, 0);
    let Patient { rig, sandbox } = patient;
    sandbox.stop().await;
    Examined::of(rig.run(&["doctor", "--output", "json"])).is_only(
        69,
        "token",
        &["cannot be reached", "open the way to http://127.0.0.1"],
    );
}

/// Answers each request with these bodies in turn, by a clock of long ago.
async fn impostor(bodies: Vec<&'static str>) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        for body in bodies {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let head =
                "HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\ncontent-type: application/json\r\nconnection: close";
            let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    (url, tasks)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_by_another_clock() {
    let token = r#"{"code":0,"message":null,"response":{"access_token":"t","now":1900000000,"expired_at":1900001800}}"#;
    let channels = r#"{"code":0,"message":null,"response":[{"pg_provider":"html5_inicis","pg_id":"shop","sandbox":false}]}"#;
    let nothing = r#"{"code":0,"message":null,"response":[]}"#;
    let (url, _tasks) = impostor(vec![token, channels, nothing]).await;
    let patient = Patient::new().await;
    patient.rig.write("rebilld.toml", config(&url));
    patient.examined().is_only(78, "clock", &["the gateway's is", "s behind the database's", "NTP"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_missing_older_or_somebody_elses() {
    let patient = Patient::new().await;
    let rig = &patient.rig;
    rig.write("rebilld.toml", config(&patient.sandbox.url()).replace("tag = \"sb\"", "tag = \"zz\""));
    patient.examined().is_only(78, "identity", &["belongs to the tag `sb`", "`zz`"]);
    rig.write("rebilld.toml", config(&patient.sandbox.url()));
    rig.sql("DELETE FROM _sqlx_migrations WHERE version = (SELECT max(version) FROM _sqlx_migrations)", "").await;
    patient.examined().is_only(78, "migrations", &["the schema is an older one", "rebilld migrate"]);
    rig.sql("INSERT INTO _sqlx_migrations VALUES (9999, 'contract_future', 0, 1, x'00', 0)", "").await;
    patient.examined().is_only(78, "database", &["by a newer rebilld", "use the release"]);
    std::fs::remove_file(rig.path().join("rebilld.db")).unwrap();
    patient.examined().is_only(69, "database", &["there is no database file", "rebilld migrate"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_somebody_took_out_of_the_database() {
    for rig in [Rig::sqlite(), Rig::postgres().await] {
        let patient = Patient::on(rig).await;
        patient.rig.sql("DROP INDEX attempts_one", "DROP INDEX attempts_one").await;
        patient.examined().is_only(78, "database rules", &["gone or switched off: attempts_one"]);
        patient.rig.sql("DROP TRIGGER sends_end_once", "ALTER TABLE sends DISABLE TRIGGER sends_end_once").await;
        patient.examined().is_only(78, "database rules", &["attempts_one, sends_end_once"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_may_lose_what_it_has_acknowledged() {
    let server = postgres::Server::start(&[("full_page_writes", "off")]);
    let patient = Patient::new().await;
    let done = patient.rig.run(&["doctor", "--output", "json", "--database", &server.url("postgres")]);
    Examined::of(done).is_only(78, "database", &["`full_page_writes` is `off`", "set it as it says"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_directory_of_another_database() {
    let patient = Patient::new().await;
    let (rig, state) = (&patient.rig, patient.rig.path().join("state"));
    rebilld::store::mark::MarkFile::rewrite(&state, "another-incarnation", 7).unwrap();
    patient.examined().is_only(78, "identity", &["belongs to another database", "Backups and restore"]);
    std::fs::remove_dir_all(&state).unwrap();
    rig.write("state", "a file, and no directory");
    assert_eq!(patient.examined().code, 78);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_room() {
    let tried = Command::new("unshare").args(["--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
    if !tried.is_ok_and(|output| output.status.success()) {
        println!("a full disk is not tested here: mounting in a private namespace takes root and `unshare`");
        return;
    }
    let patient = Patient::new().await;
    let script = "mkdir -p state; mount -t tmpfs -o size=8m tmpfs state; exec \"$@\"";
    let rebilld = patient.rig.command(&["doctor", "--output", "json"]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", script, "sh"]).arg(rebilld.get_program()).args(rebilld.get_args());
    let output = command.current_dir(patient.rig.path()).env_remove("REBILLD_DATABASE__URL").output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let done = Done { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) };
    Examined::of(done).is_only(69, "state directory", &["MiB are left", "make room"]);
}

/// Whoever goes by the machine's clock is told that the daemon does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_not_the_databases() {
    let libraries = ["x86_64-linux-gnu", "aarch64-linux-gnu"].map(|arch| format!("/usr/lib/{arch}/faketime/libfaketime.so.1"));
    let Some(library) = libraries.iter().find(|path| std::path::Path::new(path).exists()) else {
        println!("another clock is not tested here: it takes libfaketime");
        return;
    };
    let patient = Patient::on(Rig::postgres().await).await;
    let ahead = patient.rig.run_with(&["doctor", "--output", "json"], &[("LD_PRELOAD", library), ("FAKETIME", "+3600")]);
    let examined = Examined::of(ahead);
    assert_eq!(examined.code, 0, "{:?}", examined.failed());
    let clock = examined.rows.iter().find(|row| row["check"] == "clock" && row["subject"] == "database").unwrap();
    assert_eq!(
        (&clock["result"], &clock["remedy"]),
        (&"warn".into(), &"the daemon goes by the database's: have NTP set both".into())
    );
    let apart = clock["what"].as_str().and_then(|what| what.strip_prefix("it is ")?.strip_suffix(" s behind this machine's"));
    let apart: i64 = apart.and_then(|seconds| seconds.parse().ok()).unwrap_or_else(|| panic!("{clock}"));
    assert!((3500..3700).contains(&apart), "{clock}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_gone_with_a_restart_of_the_machine() {
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let patient = Patient::new().await;
    let url = format!("sqlite:{}", memory.path().join("rebilld.db").display());
    patient.rig.ok(&["migrate", "--database", &url]);
    let examined = Examined::of(patient.rig.run(&["doctor", "--output", "json", "--database", &url]));
    let disk: Vec<&Value> =
        examined.rows.iter().filter(|row| row["check"] == "database disk" && row["result"] == "warn").collect();
    assert_eq!(disk.len(), 1, "{:?}", examined.rows);
    assert!(disk[0]["what"].as_str().unwrap().contains("gone with a restart of this machine"), "{disk:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_authorities_or_with_wrong_zones() {
    let patient = Patient::new().await;
    patient.rig.write("none.pem", "");
    let hook = "[[webhooks]]\nname = \"crm\"\nurl = \"https://crm.example.com\"\nsecret_file = \"hook.secret\"\n";
    patient.rig.write("rebilld.toml", format!("{}{hook}", config(&patient.sandbox.url())));
    let none = patient.rig.path().join("none.pem");
    let run = |variables: &[(&str, &str)]| Examined::of(patient.rig.run_with(&["doctor", "--output", "json"], variables));
    run(&[("SSL_CERT_FILE", none.to_str().unwrap())]).is_only(78, "tls roots", &["there are none", "ca-certificates"]);
    // a zone file that says Seoul and means Greenwich
    let block = |digits: usize| {
        let mut block = b"TZif2".to_vec();
        block.extend([0; 15]);
        for count in [0_u32, 0, 0, 0, 1, 4] {
            block.extend(count.to_be_bytes());
        }
        block.extend([0; 6]);
        block.extend(b"UTC\0");
        if digits == 8 {
            block.extend(b"\nUTC0\n");
        }
        block
    };
    std::fs::create_dir_all(patient.rig.path().join("zones/Asia")).unwrap();
    patient.rig.write("zones/Asia/Seoul", [block(4), block(8)].concat());
    let zones = patient.rig.path().join("zones");
    patient.rig.write("rebilld.toml", config(&patient.sandbox.url()));
    let examined = run(&[("TZDIR", zones.to_str().unwrap())]);
    let failed = examined.failed();
    assert_eq!(examined.code, 78);
    // the others are not in that directory at all
    assert!(
        !failed.is_empty() && failed.iter().all(|(check, what)| check == "zone data" && what.contains("tzdata")),
        "{failed:?}"
    );
    assert!(examined.rows.iter().any(|row| row["subject"] == "Asia/Seoul" && row["result"] == "fail"), "{:?}", examined.rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_that_do_not_get_through() {
    let patient = Patient::new().await;
    let rig = &patient.rig;
    rig.ok(&["webhooks", "url", "--account", "main", "--base", "https://x.example.com"]);
    let outside = |url: &str| config(&patient.sandbox.url()).replace("[http]\n", &format!("[http]\npublic_url = \"{url}\"\n"));
    // something else listens there: the sandbox knows no such path
    rig.write("rebilld.toml", outside(&patient.sandbox.url()));
    patient.examined().is_only(69, "webhooks", &["answers HTTP 404", "forward POST /webhooks/portone/"]);
    rig.write("rebilld.toml", outside("http://127.0.0.1:1"));
    patient.examined().is_only(69, "webhooks", &["cannot be reached from here"]);
    // and a listener that is no daemon's
    let port = patient.sandbox.address();
    rig.write("rebilld.toml", config(&patient.sandbox.url()).replace("127.0.0.1:0", &port.to_string()));
    patient.examined().is_only(69, "listener", &["not as a daemon that is well"]);
}
