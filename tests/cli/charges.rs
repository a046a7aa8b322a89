//! Charges and reviews, listed and told, over rows as the daemon writes them.

use super::rig::Rig;

/// 2026-12-01T01:00:00Z, 10:00 in Seoul.
const DUE: i64 = 1_796_086_800;

/// SQL in either spelling: `@N` is an instant N seconds after [`DUE`], `{…}` a JSON text.
fn spelled(sql: &str, postgres: bool) -> String {
    let mut text = String::new();
    let mut rest = sql;
    while let Some(at) = rest.find('@') {
        text.push_str(&rest[..at]);
        let digits = rest[at + 1..].find(|char: char| !char.is_ascii_digit()).unwrap_or(rest.len() - at - 1);
        let seconds = DUE + rest[at + 1..at + 1 + digits].parse::<i64>().unwrap();
        text.push_str(&if postgres { format!("to_timestamp({seconds})") } else { format!("{seconds}000000") });
        rest = &rest[at + 1 + digits..];
    }
    text + rest
}

/// A charge that was declined, tried again, and whose second send has no end.
const STORY: &str = r#"
    INSERT INTO endpoints (account_id, fingerprint, base_url, first_seen_at) SELECT id, 'f', 'https://api.iamport.kr', @0 FROM accounts WHERE name = 'main';
    INSERT INTO charges (subscription_id, account_id, period_start, period_end, due_at, amount, currency, id_mode, state, waiting, next_at, attempts, tries, id_number, newest_send_at, doubt_since)
        SELECT s.id, a.id, '2026-12-01', '2027-01-01', @0, 9900, 'KRW', 'per_attempt', 'review', 'operator', @200000, 2, 1, 2, @86400, @86465
        FROM subscriptions s, accounts a WHERE s.external_ref = 'sub-1' AND a.name = 'main';
    INSERT INTO attempts (charge_id, number, id_number, amount, customer_uid, state, imp_uid) VALUES (1, 1, 1, 9900, 'card-1', 'declined', 'imp_1'), (1, 2, 2, 9900, 'card-1', 'live', NULL);
    INSERT INTO sends (attempt_id, endpoint_id, state, begun_at, ended_at, body_hash) VALUES (1, 1, 'answered', @0, @1, 'aa'), (2, 1, 'open', @86400, NULL, 'bb');
    INSERT INTO observations (charge_id, send_id, source, began_at, at, detail, rule) VALUES
        (1, 1, 'answer', @0, @1, '{"status": "failed", "fail_reason": "[1254][잔액부족]"}', 'the answer says failed'),
        (1, 2, 'answer', @86400, @86465, '{"doubt": "transport"}', 'the answer proves nothing'),
        (1, NULL, 'look_up', @90000, @90001, '{"records": []}', NULL);
    INSERT INTO events (id, kind, at, subscription_id, charge_id, data) VALUES ('evt_declined', 'charge.declined', @1, 1, 1, '{"external_ref": "sub-1"}');
    INSERT INTO deliveries (event_seq, endpoint, subscription_id, state, tries, next_at, last_error) VALUES (1, 'crm', 1, 'failed', 9, @1, 'HTTP 500');
    INSERT INTO incidents (account_id, charge_id, kind, detail, opened_at) VALUES (1, 1, 'wrong_payment', 'imp_9 is paid (1 KRW)', @90002);
"#;

async fn told() -> [Rig; 2] {
    let rigs = Rig::both().await;
    for rig in &rigs {
        rig.write(
            "s.csv",
            "account,external_ref,plan,customer_uid,anchor,buyer_name\nmain,sub-1,monthly,card-1,2026-12-01,Kim\n",
        );
        rig.ok(&["subscriptions", "import", "s.csv", "--quiet"]);
        rig.sql(&spelled(STORY, false), &spelled(STORY, true)).await;
        let uid = rig.json(&["charges", "list"])[0]["merchant_uid"].as_str().unwrap().to_owned();
        let sql = format!("INSERT INTO ids (merchant_uid, charge_id) VALUES ('{uid}', 1)");
        rig.sql(&sql, &sql).await;
    }
    rigs
}

#[tokio::test]
async fn the_story_of_a_charge_is_told_in_order() {
    let [sqlite, postgres] = told().await;
    let story = sqlite.ok(&["charges", "show", "sub-1"]);
    let mut from = 0;
    for part in [
        "main/sub-1  9,900 KRW  IN REVIEW",
        "period   2026-12-01 to 2027-01-01 (plan monthly)",
        "2026-12-01\n",
        "10:00:00  due       the charge for 2026-12-01 falls due",
        "10:00:00  send      attempt 1: asked for 9,900 KRW",
        "10:00:01  answer    the gateway answered (1000 ms): fail_reason [1254][잔액부족], status failed",
        "decided: the answer says failed",
        "10:00:01  event     charge.declined (evt_declined)",
        "given up for crm after 9 tries: HTTP 500",
        "2026-12-02\n",
        "10:00:00  send      attempt 2: asked for 9,900 KRW",
        "10:01:05  answer    the gateway answered (65000 ms): doubt transport",
        "decided: the answer proves nothing",
        "11:00:01  look-up   looked up (1000 ms): records nothing",
        "11:00:02  incident  wrong_payment: imp_9 is paid (1 KRW)",
        "the send has no proven end yet",
        "What happens next",
        "A person decides: `rebilld review rule 1 paid|unpaid|resend|void`",
    ] {
        let at = story[from..].find(part).unwrap_or_else(|| panic!("{part} after {} in\n{story}", &story[..from]));
        from += at;
    }
    assert!(!story.contains('\x1b'), "no colours without a terminal");
    assert!(!story.contains("Kim"), "nothing personal");
    assert_eq!(postgres.ok(&["charges", "show", "sub-1"]), story, "both engines tell the same story");
}

#[tokio::test]
async fn a_charge_is_found_by_any_of_its_names() {
    for rig in told().await {
        let charge = &rig.json(&["charges", "list"])[0];
        let uid = charge["merchant_uid"].as_str().unwrap().to_owned();
        assert!(uid.starts_with("sb") && uid.ends_with("02") && uid.len() == 30, "{uid}");
        for name in ["1", "sub-1", "sub-1:2026-12-01", uid.as_str()] {
            let json = rig.json(&["charges", "show", name]);
            assert_eq!((&json["id"], &json["attempts"][1]["sends"][0]["state"]), (&1.into(), &"open".into()), "{name}");
        }
        for name in ["2", "sub-2", "sub-1:2026-12-02", "sub-1:2026-13-01"] {
            assert!(rig.fails(65, &["charges", "show", name]).contains(&format!("there is no charge `{name}`")));
        }
    }
}

#[tokio::test]
async fn a_reference_alone_means_the_newest_charge_that_has_fallen_due() {
    for rig in told().await {
        rig.write("s.csv", "account,external_ref,plan,customer_uid,anchor\nmain,none,monthly,card-1,2040-01-31\nsecond,sub-1,monthly,card-1,2026-01-31\n");
        rig.ok(&["subscriptions", "import", "s.csv", "--quiet"]);
        let insert = |of: &str, start: &str, micros: &str| {
            format!(
                "INSERT INTO charges (subscription_id, account_id, period_start, period_end, due_at, amount, currency, id_mode, state, waiting, next_at)
                    SELECT s.id, a.id, {start}, {micros}, 9900, 'KRW', 'per_attempt', 'due', 'turn', NULL
                    FROM subscriptions s JOIN accounts a ON a.name = s.account WHERE s.account = '{of}' AND s.external_ref = 'sub-1'"
            )
        };
        // opened ahead: it is not due before 2040
        let (sqlite, postgres) = ("'2040-01-01', '2040-02-01'", "DATE '2040-01-01', DATE '2040-02-01'");
        let (micros, instant) = ("2208992400000000", "TIMESTAMPTZ '2040-01-01T01:00:00Z'");
        rig.sql(&insert("main", sqlite, micros), &insert("main", postgres, instant)).await;
        assert_eq!(rig.json(&["charges", "show", "sub-1"])["period_start"], "2026-12-01");
        let ahead = rig.ok(&["charges", "show", "sub-1:2040-01-01"]);
        assert!(ahead.contains("NOT YET DUE") && ahead.contains("the charge for 2040-01-01 will fall due"), "{ahead}");
        // a period of both accounts: one of them has to be named
        rig.sql(&insert("second", sqlite, micros), &insert("second", postgres, instant)).await;
        assert!(rig.fails(65, &["charges", "show", "sub-1"]).contains("add --account NAME"));
        assert_eq!(rig.json(&["charges", "show", "sub-1", "--account", "main"])["period_start"], "2026-12-01");
        let none = rig.fails(65, &["charges", "show", "none"]);
        assert!(none.contains("subscription `none` has no charge yet"), "{none}");
    }
}

#[tokio::test]
async fn charges_are_listed_by_state_reference_and_period() {
    for rig in told().await {
        let count = |arguments: &[&str]| rig.json(&[&["charges", "list"], arguments].concat()).as_array().unwrap().len();
        assert_eq!(count(&["--state", "review", "--account", "main", "--ref", "sub-1"]), 1);
        assert_eq!(count(&["--from", "2026-12-01", "--to", "2026-12-02"]), 1);
        for arguments in [
            &["--state", "paid"][..],
            &["--account", "second"],
            &["--ref", "sub-2"],
            &["--from", "2026-12-02"],
            &["--to", "2026-12-01"],
        ] {
            assert_eq!(count(arguments), 0, "{arguments:?}");
        }
        let rows = rig.csv(&["charges", "list"]);
        let amount = rows[0].iter().position(|name| name == "amount").unwrap();
        assert_eq!(rows[1][amount], "9900", "machines get minor units");
        assert!(rig.ok(&["charges", "list"]).contains("9,900 KRW"));
    }
}

#[tokio::test]
async fn reviews_are_listed_with_what_led_there() {
    for rig in told().await {
        let row = &rig.json(&["review", "list"])[0];
        assert_eq!((&row["id"], &row["because"]), (&1.into(), &"the answer proves nothing".into()));
        assert!(rig.fails(64, &["review", "rule", "1", "paid", "--reason", "x"]).contains("IMP_UID"));
        assert!(rig.fails(64, &["review", "rule", "1", "unpaid"]).contains("--reason"));
        assert!(rig.fails(65, &["review", "rule", "77", "void", "--reason", "x"]).contains("there is no charge `77`"));
    }
}

#[tokio::test]
async fn a_daemon_looks_again_at_what_its_config_had_wrong() {
    use rebilld::store::sql::Statement;
    use rebilld::store::{Database, OpenOptions};
    let rig = Rig::sqlite();
    let (config, _) = super::rig::CONFIG.split_once("[accounts.second]").unwrap();
    let plan = "[plans.monthly]\nevery = \"1 month\"\namount = 9900\n[http]\nlisten = \"off\"\n";
    rig.write("rebilld.toml", format!("state_dir = \"state\"\n{config}{plan}"));
    let url = format!("sqlite:{}", rig.path().join("problem.db").display());
    let rig = Rig { database: Some(url.clone()), ..rig };
    rig.ok(&["migrate"]);
    let database = Database::open(&url, OpenOptions::default()).await.unwrap();
    let write = async |statement: &Statement| {
        let mut tx = database.begin_write().await.unwrap();
        let rows = tx.query(statement, &[]).await.unwrap();
        tx.commit().await.unwrap();
        rows
    };
    write(&Statement::same("account", "INSERT INTO accounts (name) VALUES ('main') ON CONFLICT DO NOTHING")).await;
    let row = "INSERT INTO subscriptions (account, external_ref, plan, customer_uid, anchor)
        VALUES ('main', 's-1', 'monthly', 'card-1', '2026-01-01')";
    write(&Statement::same("row", row)).await;
    write(&Statement::same("park", "UPDATE schedules SET parked = 'problem', problem = 'no plan', next_look_at = NULL")).await;
    let mut child = rig.command(&["run"]).stderr(std::process::Stdio::null()).spawn().unwrap();
    let mut looked_at = false;
    for _ in 0..200 {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let parked = write(&Statement::same("parked", "SELECT count(*) AS n FROM schedules WHERE parked IS NOT NULL")).await;
        looked_at = parked[0].int("n").unwrap() == 0;
        if looked_at {
            break;
        }
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
    child.wait().unwrap();
    assert!(looked_at, "it would never be billed again");
}

#[test]
fn the_sandbox_serves_on_a_free_port_and_stops_when_told() {
    use std::io::{BufRead, BufReader};
    let rig = Rig::sqlite();
    let mut child = rig
        .command(&[
            "sandbox",
            "--listen",
            "127.0.0.1:0",
            "--output",
            "json",
            "--drop-response",
            "1000",
            "--ledger",
            "ledger.jsonl",
        ])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = serde_json::from_str::<serde_json::Value>(&line).unwrap()["url"].as_str().unwrap().to_owned();
    assert!(std::net::TcpStream::connect(url.strip_prefix("http://").unwrap()).is_ok());
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(rig.path().join("ledger.jsonl").exists());
}
