use super::checks::http_url;
use super::*;

fn path(text: &str) -> Vec<String> {
    text.split('.').map(str::to_owned).collect()
}

#[test]
fn every_default_is_a_value_of_its_kind() {
    for key in KEYS {
        if let Default::Is(toml) = key.default {
            assert_eq!(key.kind.is_text(), toml.starts_with('"'), "{}", key.path);
            assert_eq!(key.kind.wrong(toml.trim_matches('"')), None, "{}", key.path);
        }
    }
}

#[test]
fn keys_are_found_by_their_paths() {
    let found = |text| Key::of(&path(text)).map(|key| key.path);
    assert_eq!(found("accounts.main.budget.sum"), Some("accounts.*.budget.sum"));
    assert_eq!(found("webhooks.0.url"), Some("webhooks[].url"));
    assert_eq!(found("plans.월간.every"), Some("plans.*.every"));
    for unknown in ["accounts.main", "databse.url", "webhooks.x.url", "plans.a b.every", "tag.x"] {
        assert_eq!(found(unknown), None, "{unknown}");
    }
}

#[test]
fn secrets_go_over_tls_or_stay_on_this_machine() {
    for fine in ["https://api.iamport.kr", "http://127.0.0.1:8765", "http://[::1]:80/x", "http://localhost"] {
        assert_eq!(http_url(fine), None, "{fine}");
    }
    for wrong in ["http://api.iamport.kr", "ftp://x", "https://", "https://u:p@x", "https://a b", "http://127.0.0.1.evil.kr"] {
        assert!(http_url(wrong).is_some(), "{wrong}");
    }
}

#[test]
fn a_zone_that_does_not_exist_is_suggested() {
    assert!(Kind::Zone.wrong("Asia/Soul").unwrap().contains("\"Asia/Seoul\""));
}
