use super::guard::{Memory, suspicion};
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
    assert!(suspicion(&identity(4), &mark("one", 5)).unwrap().contains("backup"));
    assert_eq!(suspicion(&identity(5), &mark("one", 5)), None, "as it was left");
    assert_eq!(suspicion(&identity(6), &mark("one", 5)), None, "killed between commit and mark");
}

#[test]
fn another_database_or_another_cluster_is_suspicious() {
    assert!(suspicion(&identity(9), &mark("two", 1)).is_some());
    let moved = Identity { system_identifier_now: Some("8".into()), ..identity(9) };
    assert!(suspicion(&moved, &Memory::default()).unwrap().contains("cluster"));
}

#[test]
fn a_new_state_directory_is_not_suspicious_but_audited_first() {
    assert_eq!(suspicion(&identity(9), &Memory::default()), None);
}
