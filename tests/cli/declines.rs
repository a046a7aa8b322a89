//! `rebilld declines`: what a refusal is read as, by which rule, and what follows.

use super::rig::Rig;

#[test]
fn a_refusal_is_explained_in_every_spelling() {
    let rig = Rig::sqlite();
    for (text, provider, class, by) in [
        ("[1254][실시간빌링실패|잔액부족]", Some("html5_inicis"), "SOFT_FUNDS", "code"),
        ("500434|빌링 개시일자 확인 오류", Some("inicis"), "MERCHANT", "code"),
        ("[1254][실시간빌링실패|잔액부족]", None, "SOFT_FUNDS", "code"),
        ("8128 신용카드 중복거래 요청 거절", Some("kcp_billing"), "AMBIGUOUS", "text"),
        ("정지된 카드 입니다.", Some("tosspayments"), "HARD_CARD", "text"),
        ("시스템 점검 중", Some("nice_v2"), "TRANSIENT", "text"),
        ("결제가 정상적으로 이루어졌습니다", None, "UNKNOWN", "none"),
        ("", None, "UNKNOWN", "none"),
    ] {
        let mut arguments = vec!["declines", "explain", text];
        arguments.extend(provider.iter().flat_map(|provider| ["--provider", provider]));
        let said = rig.json(&arguments);
        assert_eq!((said["class"].as_str(), said["matched_by"].as_str()), (Some(class), Some(by)), "{text}");
        assert_eq!(said["text"], text);
        for field in ["rule", "next", "caps", "remedy", "payer_ko", "payer_en"] {
            assert!(said[field].as_str().is_some_and(|text| !text.is_empty()), "{field} of {text}");
        }
    }
    let table = rig.ok(&["declines", "explain", "[1254][실시간빌링실패|잔액부족]"]);
    assert!(table.contains("1 d, 3 d, 5 d, 7 d after the first decline, 09:00-18:00"), "{table}");
    assert_eq!(rig.csv(&["declines", "explain", "?"])[1][0], "UNKNOWN");
}

#[test]
fn the_operators_rules_and_ladders_are_the_ones_that_are_told() {
    let rig = Rig::sqlite();
    let config = "[accounts.a]\n[plans.p]\nevery = \"1 month\"\ndunning = \"slow\"\n[dunning.slow]\npreset = \"3-5-7\"\n\
        [[declines.rules]]\ncode = \"1254\"\nclass = \"HARD_CARD\"\n[[declines.rules]]\ncontains = \"마법\"\nclass = \"SOFT_FUNDS\"\n";
    rig.write("other.toml", config);
    let explain = |text: &str, more: &[&str]| {
        let arguments = ["--config", "other.toml", "declines", "explain", text];
        rig.json(&arguments.iter().chain(more).copied().collect::<Vec<_>>())
    };
    assert_eq!(explain("[1254][x]", &[])["rule"], "config: rule 1 of [[declines.rules]]");
    assert_eq!(explain("[1254][x]", &[])["class"], "HARD_CARD");
    let days = |value: &serde_json::Value| {
        value["schedule"].as_array().unwrap().iter().map(|at| at.as_i64().unwrap() / 86_400).collect::<Vec<_>>()
    };
    assert_eq!(days(&explain("마법", &[])), [1, 3, 5, 7]);
    assert_eq!(days(&explain("마법", &["--plan", "p"])), [3, 8, 15]);
    rig.fails(65, &["--config", "other.toml", "declines", "explain", "x", "--plan", "none"]);
    let list = rig.json(&["--config", "other.toml", "declines", "list"]);
    assert_eq!((&list[0]["by"], &list[0]["matches"], &list[0]["class"]), (&"config".into(), &"1254".into(), &"HARD_CARD".into()));
}

#[test]
fn the_list_holds_every_line_of_the_table() {
    let rig = Rig::sqlite();
    let list = rig.csv(&["declines", "list"]);
    let codes: Vec<&Vec<String>> = list.iter().filter(|row| row[0] == "code").collect();
    let table: Vec<&str> = include_str!("../../src/domain/inicis-codes.csv").lines().skip(1).collect();
    assert_eq!((codes.len(), table.len()), (318, 318));
    for (row, line) in codes.iter().zip(table) {
        let fields: Vec<&str> = line.splitn(4, ',').collect();
        assert!(row[2].split(' ').all(|code| code.ends_with(fields[1])), "{line}");
        assert_eq!((row[3].as_str(), row[4].as_str()), (fields[2], fields[3].trim_matches('"')), "{line}");
    }
}
