//! Incidents: listed, shown, and closed with a reason.

use super::rig::Rig;

async fn opened() -> [Rig; 2] {
    let rigs = Rig::both().await;
    for rig in &rigs {
        rig.write("s.csv", "account,external_ref,plan,customer_uid,anchor\nmain,sub-1,monthly,card-1,2026-01-31\n");
        rig.ok(&["subscriptions", "import", "s.csv", "--quiet"]);
        let insert = |micros: &str| {
            format!(
                "INSERT INTO incidents (account_id, kind, detail, opened_at) SELECT a.id, k.kind, k.detail, {micros} FROM accounts a
                    CROSS JOIN (SELECT 'unknown_payment' AS kind, 'imp_1 under sb1 carries our tag' AS detail
                        UNION ALL SELECT 'missing_payment', 'imp_2 under sb2 is booked') k WHERE a.name = 'main' ORDER BY k.kind DESC"
            )
        };
        rig.sql(&insert("1796086800000000"), &insert("TIMESTAMPTZ '2026-12-01T01:00:00Z'")).await;
    }
    rigs
}

#[tokio::test]
async fn an_incident_is_closed_once_and_its_reason_is_kept() {
    for rig in opened().await {
        let rows = rig.json(&["incidents", "list"]);
        assert_eq!(rows.as_array().unwrap().len(), 2, "the newest first: {rows}");
        let of_kind = rig.json(&["incidents", "list", "--kind", "unknown_payment"]);
        assert_eq!((&of_kind[0]["account"], &of_kind[0]["detail"]), (&"main".into(), &"imp_1 under sb1 carries our tag".into()));
        let id = of_kind[0]["id"].to_string();
        assert!(rig.ok(&["incidents", "show", &id]).contains("Import the subscription that it belongs to"));
        assert!(rig.fails(64, &["incidents", "close", &id]).contains("--reason"));
        assert!(rig.fails(64, &["incidents", "close", &id, "--reason", " "]).contains("--reason is empty"));
        assert!(rig.ok(&["incidents", "close", &id, "--reason", "a test by hand, ticket 7"]).contains("audits know it"));
        let again = rig.fails(65, &["incidents", "close", &id, "--reason", "again"]);
        assert!(again.contains("was closed"), "{again}");
        assert_eq!(rig.csv(&["incidents", "list"]).len(), 2, "a header and the other one");
        assert_eq!(rig.csv(&["incidents", "list", "--all"]).len(), 3);
        let shown = rig.json(&["incidents", "show", &id]);
        assert!(shown["closed_at"].is_string(), "{shown}");
        assert_eq!(shown["journal"][0]["reason"], "a test by hand, ticket 7");
        assert!(rig.ok(&["incidents", "show", &id]).contains("a test by hand, ticket 7"));
        let entry = &rig.json(&["journal", "list", "--about", &format!("incident {id}")])[0];
        assert_eq!((&entry["action"], &entry["detail"]["kind"]), (&"incidents close".into(), &"unknown_payment".into()));
        assert!(rig.fails(65, &["incidents", "show", "99"]).contains("there is no incident 99"));
        assert!(rig.fails(65, &["incidents", "close", "99", "--reason", "x"]).contains("there is no incident 99"));
        assert!(rig.ok(&["incidents", "list", "--account", "second"]).contains("no incident is open"));
    }
}
