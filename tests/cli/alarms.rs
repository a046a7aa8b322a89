//! `rebilld alarms`: a test that each channel gets, and what stands.

use std::io::{Read, Write};
use std::net::TcpListener;

use super::rig::Rig;

/// Answers every request with a status, and never ends.
fn receiver(status: u16) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hunter2", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut bytes = Vec::new();
            let mut part = [0; 4096];
            while !bytes.ends_with(b"}") {
                let read = stream.read(&mut part).unwrap_or(0);
                if read == 0 {
                    break;
                }
                bytes.extend_from_slice(&part[..read]);
            }
            let _ = stream.write_all(format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n").as_bytes());
        }
    });
    url
}

fn configured(channels: &str) -> Rig {
    let rig = Rig::sqlite();
    let text = format!("{}\n{channels}", super::rig::CONFIG);
    rig.write("rebilld.toml", text);
    rig
}

#[test]
fn a_test_reaches_each_channel_and_says_what_came_back() {
    let (good, bad) = (receiver(204), receiver(500));
    let rig = configured(&format!(
        "[[alarms.channel]]\nname = \"ops\"\nby = \"webhook\"\nurl = \"{good}\"\nallow_private = true\n\
         [[alarms.channel]]\nname = \"chat\"\nby = \"slack\"\nurl_file = \"chat.url\"\nallow_private = true\nkinds = [\"hold\"]\n\
         [[alarms.channel]]\nname = \"pager\"\nby = \"command\"\ncommand = [\"/bin/sh\", \"-c\", \"cat > told.json; env > told.env\"]\n\
         [[alarms.channel]]\nname = \"lost\"\nby = \"command\"\ncommand = [\"/nowhere/page\"]\nseverity = \"critical\"\n"
    ));
    rig.write("chat.url", format!("{bad}\n"));
    rig.mode("chat.url", 0o600);
    let done = rig.run(&["alarms", "test", "--output", "json"]);
    assert_eq!(done.code, 69, "{done:?}");
    let rows: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    let said: Vec<(bool, &str)> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["delivered"].as_bool().unwrap(), row["answer"].as_str().unwrap()))
        .collect();
    assert_eq!(&said[..3], [(true, "HTTP 204"), (false, "HTTP 500"), (true, "exit code 0")]);
    assert!(!said[3].0 && said[3].1.starts_with("the command cannot be run: "), "{said:?}");
    let told: serde_json::Value = serde_json::from_slice(&std::fs::read(rig.path().join("told.json")).unwrap()).unwrap();
    assert_eq!((&told["kind"], &told["turn"]), (&"test".into(), &"raised".into()));
    let environment = std::fs::read_to_string(rig.path().join("told.env")).unwrap();
    assert!(environment.contains("PATH=") && !environment.contains("REBILLD"), "{environment}");

    assert_eq!(rig.csv(&["alarms", "test", "--channel", "ops"])[1], ["ops", "webhook", "true", "HTTP 204"]);
    assert!(rig.fails(65, &["alarms", "test", "--channel", "opps"]).contains("no [[alarms.channel]] called `opps`"));
    assert!(Rig::sqlite().fails(78, &["alarms", "test"]).contains("nobody would hear an alarm"));
}

#[test]
fn a_command_that_hangs_or_fails_is_said_so() {
    let rig = configured(
        "[[alarms.channel]]\nname = \"hangs\"\nby = \"command\"\ncommand = [\"/bin/sleep\", \"60\"]\ntimeout = \"1s\"\n\
         [[alarms.channel]]\nname = \"fails\"\nby = \"command\"\ncommand = [\"/bin/sh\", \"-c\", \"exit 3\"]\n",
    );
    let done = rig.run(&["alarms", "test"]);
    assert_eq!(done.code, 69, "{done:?}");
    assert!(done.out.contains("did not end within 1 s and was killed") && done.out.contains("exit code 3"), "{}", done.out);
    assert!(done.err.contains("2 channels did not take the test"), "{}", done.err);
}

#[test]
fn a_channel_that_cannot_work_is_refused_with_its_line() {
    let channel = |text: &str| format!("[[alarms.channel]]\nname = \"ops\"\n{text}\n");
    for (text, words) in [
        ("by = \"pigeon\"", "\"webhook\" or \"slack\" or \"command\""),
        ("by = \"command\"", "needs `command = [\"/whole/path\", …]`"),
        ("by = \"command\"\ncommand = [\"page\"]", "needs `command = [\"/whole/path\", …]`"),
        ("by = \"command\"\ncommand = [\"/bin/true\"]\nurl = \"https://x.example/\"", "is a command and has no URL"),
        ("by = \"slack\"\nurl = \"https://x.example/\"\ncommand = [\"/bin/true\"]", "is no command"),
        ("by = \"slack\"\nurl = \"https://x.example/\"\nurl_file = \"x\"", "is given twice"),
        ("by = \"slack\"\nurl = \"http://x.example/\"", "`http://` is for loopback only"),
        ("by = \"slack\"\nkinds = [\"holds\"]", "\"double-charge\" or"),
        ("by = \"slack\"\nseverity = \"mild\"", "\"warning\" or \"critical\""),
    ] {
        let rig = configured(&channel(text));
        let said = rig.fails(78, &["config", "check"]);
        assert!(said.contains(words) && said.contains("rebilld.toml:"), "{text}: {said}");
    }
    let twice = channel("by = \"slack\"\nurl = \"https://x.example/\"").repeat(2);
    assert!(configured(&twice).fails(78, &["config", "check"]).contains("two [[alarms.channel]] are called \"ops\""));
    for (text, words) in [
        ("by = \"slack\"", "`alarms.channel.0.url`: nothing says where it is"),
        ("by = \"slack\"\nurl = \"https://127.0.0.1/\"", "its address is not public; set allow_private"),
        ("by = \"webhook\"\nurl = \"https://x.example/\"\nsecret_file = \"main.key\"", "its secret is not `whsec_`"),
    ] {
        let said = configured(&channel(text)).fails(78, &["alarms", "test"]);
        assert!(said.contains(words), "{text}: {said}");
    }
}

#[test]
fn what_is_secret_of_alarms_is_not_shown() {
    let rig = configured(
        "[alarms]\nheartbeat_url = \"https://hc.example/ping/hunter2\"\n[[alarms.channel]]\nname = \"chat\"\nby = \"slack\"\n\
         url = \"https://hooks.example/services/hunter2\"\n",
    );
    let shown = rig.ok(&["config", "show"]);
    assert!(shown.contains("https://hc.example/***") && shown.contains("https://hooks.example/***"), "{shown}");
    // the rig looks for the secret in all that is printed
    rig.ok(&["config", "show", "--output", "json"]);
}

#[tokio::test]
async fn alarms_that_last_are_listed_and_those_that_are_over_on_request() {
    for rig in Rig::both().await {
        assert!(rig.ok(&["alarms", "list"]).contains("no alarm stands"));
        let insert = |at: &str| {
            format!(
                "INSERT INTO alarms (kind, account, subject, what, next_step, concerns, since, turn, told_at, owed) VALUES
                    ('hold', '', '', 'Everything is on hold', 'rebilld hold status', '{{}}', {at}, 'repeated', {at}, '|chat|'),
                    ('fuse', 'main', '', 'It has blown', 'rebilld wave show', '{{}}', {at}, 'resolved', {at}, '|')"
            )
        };
        rig.sql(&insert("1796086800000000"), &insert("TIMESTAMPTZ '2026-12-01T01:00:00Z'")).await;
        let listed = rig.json(&["alarms", "list"]);
        assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
        assert_eq!((&listed[0]["kind"], &listed[0]["severity"]), (&"hold".into(), &"critical".into()));
        assert_eq!((&listed[0]["runbook"], &listed[0]["owed"][0]), (&"docs/runbooks/hold.md".into(), &"chat".into()));
        let table = rig.ok(&["alarms", "list"]);
        assert!(table.contains("Everything is on hold") && table.contains("rebilld hold status"), "{table}");
        assert_eq!(rig.csv(&["alarms", "list", "--all"]).len(), 3, "a header and both");
    }
}
