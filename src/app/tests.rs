use super::guard::{Memory, suspicion};
use super::run::exposed;
use crate::store::identity::Identity;
use crate::store::mark::Mark;

fn identity(high_water: i64) -> Identity {
    Identity {
        tag: "rb".parse().unwrap(),
        incarnation: "one".into(),
        system_identifier: Some("7".into()),
        system_identifier_now: Some("7".into()),
        high_water,
    }
}

fn mark(incarnation: &str, mark: i64) -> Memory {
    Memory { mark: Some(Mark { incarnation: incarnation.into(), mark, newest: None }), deed: None }
}

#[test]
fn a_database_behind_its_mark_is_suspicious() {
    assert!(suspicion(&identity(4), &mark("one", 5)).unwrap().text.contains("backup"));
    assert_eq!(suspicion(&identity(5), &mark("one", 5)), None, "as it was left");
    assert_eq!(suspicion(&identity(6), &mark("one", 5)), None, "killed between commit and mark");
}

#[test]
fn another_database_or_another_cluster_is_suspicious() {
    assert!(suspicion(&identity(9), &mark("two", 1)).is_some());
    let moved = Identity { system_identifier_now: Some("8".into()), ..identity(9) };
    assert!(suspicion(&moved, &Memory::default()).unwrap().text.contains("cluster"));
}

#[test]
fn a_new_state_directory_is_not_suspicious_but_audited_first() {
    assert_eq!(suspicion(&identity(9), &Memory::default()), None);
}

#[test]
fn a_listener_that_others_reach_is_told_of() {
    for address in ["0.0.0.0:9610", "[::]:9610", "10.0.0.7:9610", "192.168.1.2:80", "[fe80::1]:9610", "[::ffff:10.0.0.7]:1"] {
        assert!(exposed(address.parse().unwrap()).is_some_and(|told| told.contains("no password")), "{address}");
    }
    for address in ["127.0.0.1:9610", "127.9.9.9:0", "[::1]:9610", "[::ffff:127.0.0.1]:9610"] {
        assert_eq!(exposed(address.parse().unwrap()), None, "{address}");
    }
}
