//! `subscriptions import`: bad files, all or nothing, the same file twice.

use super::rig::Rig;

const GOOD: &str = "account,external_ref,plan,customer_uid,anchor,amount,name,buyer_name,use_card_point\n\
    main,sub-1,monthly,card-1,2026-01-31,,,Kim,\n\
    main,sub-2,own,card-2,2026-02-01,5000,\"Two, weekly\",,true\n\
    second,sub-1,dollars,card-3,2024-02-29,1099,,,\n";

#[tokio::test]
async fn the_same_file_twice_changes_nothing_and_a_changed_row_is_an_update() {
    for rig in Rig::both().await {
        rig.write("s.csv", GOOD);
        let json = rig.json(&["subscriptions", "import", "s.csv", "--dry-run"]);
        assert_eq!((&json["new"], &json["imported"]), (&3.into(), &false.into()));
        let (won, dollars) = (&json["money"][0], &json["money"][1]);
        assert_eq!((&won["currency"], &won["new"], &dollars["new"]), (&"KRW".into(), &14_900.into(), &1_099.into()));
        assert_eq!(rig.json(&["subscriptions", "list"]).as_array().unwrap().len(), 0, "--dry-run writes nothing");

        let json = rig.json(&["subscriptions", "import", "s.csv"]);
        assert_eq!((&json["new"], &json["changed"], &json["unchanged"]), (&3.into(), &0.into(), &0.into()));
        let first = rig.csv(&["subscriptions", "list"]);
        let json = rig.json(&["subscriptions", "import", "s.csv"]);
        assert_eq!((&json["new"], &json["changed"], &json["unchanged"]), (&0.into(), &0.into(), &3.into()));
        assert_eq!(rig.csv(&["subscriptions", "list"]), first);
        assert_eq!(rig.json(&["journal", "list"]).as_array().unwrap().len(), 1, "what changes nothing is not journaled");

        rig.write("s.csv", GOOD.replace("5000", "6000").replace("Kim", "Lee"));
        let text = rig.ok(&["subscriptions", "import", "s.csv", "--dry-run"]);
        assert!(text.contains("main/sub-2: amount 5000 → 6000"), "{text}");
        assert!(text.contains("a period of the changed ones costs 15,900 KRW instead of 14,900 KRW"), "{text}");
        assert!(text.contains("main/sub-1: buyer_name *** → ***"), "personal values are not shown: {text}");
        let json = rig.json(&["subscriptions", "import", "s.csv", "--reason", "prices of spring", "--as", "kim"]);
        assert_eq!((&json["changed"], &json["unchanged"]), (&2.into(), &1.into()));
        assert_eq!(json["changes"][0]["fields"][0]["new"], "***");
        let entry = &rig.json(&["journal", "list"])[0];
        assert_eq!((&entry["reason"], &entry["detail"]["changed"]), (&"prices of spring".into(), &2.into()));
        assert!(entry["who"].as_str().unwrap().starts_with("kim ("), "{entry}");
        assert!(!rig.ok(&["journal", "list"]).contains("Lee"));
        let shown = rig.json(&["subscriptions", "show", "sub-2"]);
        assert_eq!(
            (&shown["amount"], &shown["name"], &shown["use_card_point"]),
            (&6000.into(), &"Two, weekly".into(), &"true".into())
        );
    }
}

#[tokio::test]
async fn a_byte_order_mark_and_windows_line_ends_are_taken() {
    for rig in Rig::both().await {
        rig.write("s.csv", format!("\u{feff}{}", GOOD.replace('\n', "\r\n")));
        assert_eq!(rig.json(&["subscriptions", "import", "s.csv"])["new"], 3);
        assert_eq!(rig.json(&["subscriptions", "import", "s.csv"])["unchanged"], 3);
        let rows = rig.csv(&["subscriptions", "list", "--account", "second"]);
        assert_eq!(rows[1][1..3], ["second", "sub-1"]);
    }
}

#[test]
fn lines_are_counted_as_an_editor_counts_them() {
    let rig = Rig::sqlite();
    rig.ok(&["migrate"]);
    let header = "account,external_ref,plan,customer_uid,anchor,name";
    let rows = [
        header,
        "main,a,monthly,c,2026-01-31,\"two\nlines\"",
        "",
        "main,b,monthly,,2026-01-31,",
        "main,c,monthly,c,2026-13-01,",
        "main,d",
    ];
    for (start, end) in [("", "\n"), ("", "\r\n"), ("\u{feff}", "\r\n")] {
        rig.write("s.csv", format!("{start}{}{end}", rows.join("\n").replace('\n', end)));
        let error = rig.fails(65, &["subscriptions", "import", "s.csv"]);
        for expected in ["s.csv:5: customer_uid: is empty", "s.csv:6: anchor: `2026-13-01`", "s.csv:7: the row has 2 cells"] {
            assert!(error.contains(expected), "{end:?}: {expected} in\n{error}");
        }
    }
}

#[tokio::test]
async fn columns_that_the_file_does_not_have_stay_as_they_are() {
    for rig in Rig::both().await {
        rig.write("s.csv", GOOD);
        rig.ok(&["subscriptions", "import", "s.csv", "--quiet"]);
        rig.ok(&["subscriptions", "pause", "sub-2", "--reason", "holiday", "--quiet"]);
        rig.write("cards.csv", "account,external_ref,plan,customer_uid,anchor\nmain,sub-2,own,card-9,2026-02-01\n");
        let json = rig.json(&["subscriptions", "import", "cards.csv"]);
        assert_eq!(json["changed_columns"], serde_json::json!({ "customer_uid": 1 }));
        let shown = rig.json(&["subscriptions", "show", "sub-2"]);
        assert_eq!(
            (&shown["customer_uid"], &shown["amount"], &shown["status"]),
            (&"card-9".into(), &5000.into(), &"paused".into())
        );
        // a new row of that plan needs an amount, and the file has no column for it
        rig.write("new.csv", "account,external_ref,plan,customer_uid,anchor\nmain,sub-8,own,card-9,2026-02-01\n");
        let error = rig.fails(65, &["subscriptions", "import", "new.csv"]);
        assert!(error.contains("new.csv:2: amount: a new subscription needs it"), "{error}");
    }
}

#[test]
fn every_bad_row_is_named_with_line_and_column_and_nothing_is_imported() {
    let rig = Rig::sqlite();
    rig.ok(&["migrate"]);
    let long = "12345678901234567890123456789012345678901";
    let rows = [
        ("main,ok,monthly,c,2026-01-31,9900,,,,,", None),
        ("main,a,monthly,c,2026-01-31,0,,,,,", Some("3: amount: 0 is too little: it has to be above 0")),
        ("main,b,monthly,c,2026-01-31,-9900,,,,,", Some("4: amount: -9900 is too little")),
        ("main,c,monthly,c,2026-01-31,9900.50,,,,,", Some("5: amount: `9900.50` has a fraction")),
        ("main,d,monthly,c,2025-02-29,,,,,,", Some("6: anchor: `2025-02-29` is not in the calendar: that month has 28 days")),
        ("main,e,montly,c,2026-01-31,,,,,,", Some("7: plan: there is no plan `montly`: did you mean `monthly`?")),
        ("mian,f,monthly,c,2026-01-31,,,,,,", Some("8: account: there is no account `mian`: did you mean `main`?")),
        ("main,g,monthly,c,2026-01-31,,,Asia/Soul,,,", Some("9: zone: there is no time zone `Asia/Soul`")),
        ("main,ok,monthly,c,2026-01-31,,,,,,", Some("10: external_ref: `ok` of account `main` is in lines 2 and 10")),
        ("main,h,monthly,,2026-01-31,,,,,,", Some("11: customer_uid: is empty")),
        ("main,i,own,c,2026-01-31,,Name,,,,", Some("12: amount: is empty, and plan `own` has none")),
        ("main,j,monthly,c,01.02.2026,,,,,,", Some("13: anchor: `01.02.2026` is no date: write it as 2026-12-01")),
        ("main,k,monthly,c,2026-01-31,,,,25:00,,", Some("14: charge_time: `25:00` is not a time of day")),
        ("main,l,monthly,c,2026-01-31,\"9,900\",,,,,", Some("15: amount: `9,900` has a comma")),
        ("main,m,monthly,c,2026-01-31,1000,,,,2000,", Some("16: vat_amount: tax_free and vat_amount are 2000 together")),
        ("main,n,monthly,c,2026-01-31,,,,,,stopped", Some("17: status: `stopped` is none of active, paused, cancelled")),
        ("main,o,monthly,c,2026-01-31", Some("18: the row has 5 cells, and the header has 11")),
        (" main,p,monthly,c,2026-01-31,,,,,,", Some("19: account: begins or ends with a space")),
    ];
    let mut file = "account,external_ref,plan,customer_uid,anchor,amount,name,zone,charge_time,vat_amount,status\n".to_owned();
    for (row, _) in &rows {
        file.push_str(&format!("{row}\n"));
    }
    file.push_str(&format!("main,q,monthly,c,2026-01-31,,{long},,,,\n"));
    rig.write("bad.csv", &file);
    let error = rig.fails(65, &["subscriptions", "import", "bad.csv"]);
    for expected in rows.iter().filter_map(|(_, expected)| *expected).chain(["20: name: has 41 characters, and may have 40"]) {
        assert!(error.contains(&format!("bad.csv:{expected}")), "{expected} in\n{error}");
    }
    assert!(error.contains("bad.csv has 18 errors; nothing was imported"), "{error}");
    assert_eq!(rig.json(&["subscriptions", "list"]).as_array().unwrap().len(), 0);
    let done = rig.run(&["subscriptions", "import", "bad.csv", "--output", "json"]);
    let json: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(
        (&json["error_count"], &json["errors"][0]["line"], &json["errors"][0]["column"]),
        (&18.into(), &3.into(), &"amount".into())
    );
}

#[test]
fn a_bad_header_or_encoding_is_named() {
    let rig = Rig::sqlite();
    rig.ok(&["migrate"]);
    let cases: [(&[u8], &str); 7] = [
        (b"account,external_ref,plan,custmer_uid,anchor\n", "unknown column `custmer_uid`: did you mean `customer_uid`?"),
        (b"account,external_ref,plan,customer_uid\n", "column anchor missing"),
        (b"account;external_ref;plan;customer_uid;anchor\n", "columns are parted by commas"),
        (b"", "the file is empty"),
        (b"\xff\xfea\0", "the file is UTF-16"),
        (
            b"account,external_ref,plan,customer_uid,anchor,name\nmain,a,monthly,c,2026-01-01,\xc7\xd1\n",
            "bad.csv:2: name: is not UTF-8",
        ),
        (b"account,account,external_ref,plan,customer_uid,anchor\n", "account: this column is there twice"),
    ];
    for (bytes, expected) in cases {
        rig.write("bad.csv", bytes);
        let error = rig.fails(65, &["subscriptions", "import", "bad.csv"]);
        assert!(error.contains(expected), "{expected} in\n{error}");
    }
    assert!(rig.fails(65, &["subscriptions", "import", "gone.csv"]).contains("gone.csv cannot be read"));
}

#[tokio::test]
async fn many_rows_go_in_batches() {
    for rig in Rig::both().await {
        let mut file = "account,external_ref,plan,customer_uid,anchor,starts_on\n".to_owned();
        for number in 0..5001 {
            file.push_str(&format!("main,sub-{number},monthly,card-{number},2026-01-31,2020-01-31\n"));
        }
        rig.write("many.csv", &file);
        // years ago, and all at once: nothing of it is taken before somebody says so
        let json = rig.import("many.csv");
        assert_eq!((&json["new"], &json["held"]), (&0.into(), &5001.into()));
        let hash = json["held_hash"].as_str().unwrap();
        let json = rig.json(&["subscriptions", "import", "many.csv", "--confirm", hash]);
        assert_eq!((&json["new"], &json["starting_in_the_past"]), (&5001.into(), &5001.into()));
        assert_eq!(rig.json(&["imports", "list"]).as_array().unwrap().len(), 0);
        assert_eq!(rig.json(&["subscriptions", "import", "many.csv"])["unchanged"], 5001);
        assert_eq!(rig.csv(&["subscriptions", "list", "--limit", "10000"]).len(), 5002);
    }
}

#[tokio::test]
async fn a_row_written_by_hand_is_listed_beside_imported_ones() {
    for rig in Rig::both().await {
        let sql = "INSERT INTO subscriptions (account, external_ref, plan, customer_uid, anchor) VALUES ('main', 'hand', 'own', 'c', '2026-01-31')";
        rig.sql(sql, sql).await;
        let shown = rig.json(&["subscriptions", "show", "hand"]);
        assert_eq!(
            (&shown["status"], &shown["problem"]),
            (&"active".into(), &"neither the subscription nor its plan `own` has an amount".into())
        );
    }
}

/// The table in docs/csv-and-sql.md is made from the one that checks the files.
#[test]
fn the_columns_in_docs_are_those_of_the_table() {
    use rebilld::store::desk::columns::{COLUMNS, Kind, REQUIRED};
    let mut table = String::new();
    for (place, column) in COLUMNS.iter().enumerate() {
        let kind = match column.kind {
            Kind::Text(least, most) if least == most => format!("{most} characters"),
            Kind::Text(_, most) => format!("text, at most {most} characters"),
            Kind::Int(least, _) => format!("whole number from {least}"),
            Kind::Flag => "true or false".to_owned(),
            Kind::Date => "date, `2026-12-01`".to_owned(),
            Kind::Choice(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        };
        let required = if REQUIRED.contains(&place) { ", required" } else { "" };
        table.push_str(&format!("| `{}` | {kind}{required} | {} |\n", column.name, column.doc));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/csv-and-sql.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (before, rest) = text.split_once("<!-- columns:begin -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- columns:end -->\n").unwrap();
    let current = format!("{before}<!-- columns:begin -->\n{table}<!-- columns:end -->\n{after}");
    if current != text && rebilld::config::Environment::of_process().get("REBILLD_BLESS") == Some("1") {
        return std::fs::write(path, current).unwrap();
    }
    assert!(current == text, "docs/csv-and-sql.md is not current: run `REBILLD_BLESS=1 cargo test --test cli docs`");
}
