//! An old copy of the database comes back.

use crate::processes::{Daemon, until};
use crate::rig::{Rig, SOON};

#[tokio::test]
async fn a_restored_backup_comes_up_on_hold() {
    let mut rig = Rig::new(None);
    let (file, copy) = (rig.home.path("rebilld.db"), rig.home.path("backup.db"));
    let mut daemon = Daemon::start(&rig.home, "daemon");
    rig.insert(2).await;
    rig.until_paid(2).await;
    daemon.terminate();
    assert!(daemon.ended(SOON).await.success());
    std::fs::copy(&file, &copy).expect("a backup");
    let mut daemon = Daemon::start(&rig.home, "daemon");
    rig.insert(3).await;
    rig.until_paid(5).await;
    daemon.terminate();
    assert!(daemon.ended(SOON).await.success());

    // the same three rows are due again as far as the backup knows, and have been paid
    std::fs::copy(&copy, &file).expect("the backup is put back");
    for rest in ["rebilld.db-wal", "rebilld.db-shm"] {
        let _ = std::fs::remove_file(rig.home.path(rest));
    }
    let mut daemon = Daemon::start(&rig.home, "daemon");
    rig.rewind(3);
    rig.insert(3).await;
    until("the rows are opened again", SOON, async || (rig.home.books().await.charges.len() == 5).then_some(())).await;
    let status = rig.status("database");
    assert_eq!(status["state"], "held");
    let why = status["why"].as_str().unwrap_or_default();
    assert!(why.contains("the state directory remembers sends that the database does not"), "{why}");
    let (code, said) = rig.fails(&["hold", "release", "--reason", "I know what I do"]);
    assert_eq!(code, 75, "{said}");
    assert!(said.contains("Q (60 min) has not passed"), "{said}");
    daemon.terminate();
    assert!(daemon.ended(SOON).await.success());
    let ledger = rig.gateway.ledger();
    assert_eq!((ledger.charges().count(), ledger.payments.len()), (5, 5), "nothing was sent twice");
}
