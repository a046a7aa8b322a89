//! `rebilld webhooks`.

use super::rig::Rig;

#[tokio::test]
async fn the_url_is_made_once_shown_again_and_rotated_with_a_reason() {
    for rig in Rig::both().await {
        let url = |account: &str| rig.ok(&["webhooks", "url", "--account", account, "--base", "https://billing.example.com/"]);
        let first = url("main");
        let token = first.trim().strip_prefix("https://billing.example.com/webhooks/portone/main/").unwrap();
        assert!(token.len() == 26 && token.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()), "{first}");
        assert_eq!(url("main"), first, "it stays the same");
        assert!(!url("second").contains(token), "each account has its own");
        let base = ["--base", "https://billing.example.com"];
        assert!(rig.fails(64, &["webhooks", "rotate", "--account", "main"]).contains("--reason"));
        let rotate = ["webhooks", "rotate", "--account", "main", "--reason", "it was in a screenshot"];
        let second = rig.ok(&[&rotate[..], &base[..]].concat());
        assert_ne!(second, first);
        assert_eq!(url("main"), second);
        let journal = rig.ok(&["journal", "list", "--output", "json"]);
        assert!(journal.contains("webhooks rotate") && journal.contains("it was in a screenshot"), "{journal}");
        assert!(!journal.contains(token) && !journal.contains(second.trim().rsplit('/').next().unwrap()), "{journal}");
        rig.ok(&["journal", "verify"]);
        let error = rig.fails(65, &["webhooks", "url", "--account", "mian", "--base", "https://x.example.com"]);
        assert!(error.contains("did you mean `main`?"), "{error}");
        assert!(rig.fails(64, &["webhooks", "url", "--account", "main"]).contains("http.public_url"));
        let json = rig.run_with(
            &["webhooks", "url", "--account", "main", "--output", "json"],
            &[("REBILLD_HTTP__PUBLIC_URL", "https://billing.example.com")],
        );
        assert!(json.out.contains(second.trim()), "{json:?}");
    }
}
