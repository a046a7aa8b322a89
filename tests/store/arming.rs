//! A live account is charged only from a database that it was armed in.

use rebilld::ports::store::{NotBegun, Store};
use rebilld::store::desk::Signed;
use rebilld::store::identity::AccountConfig;

use super::deeds::begin_of;
use super::rig::{Engine, World, both, main_account, now};

impl World {
    async fn stop(&self) -> Option<NotBegun> {
        self.db.brakes().await.unwrap().stop(self.account.id, self.account.endpoint)
    }

    async fn arm(&self) -> bool {
        let signed = Signed { who: "kim".to_owned(), reason: "we go live".to_owned() };
        self.db.desk().arm(now(), "main", "https://api.iamport.kr", &signed).await.unwrap()
    }

    async fn point_to(&self, fingerprint: &str, base_url: &str) {
        let (fingerprint, base_url) = (fingerprint.to_owned(), base_url.to_owned());
        let config = AccountConfig { fingerprint, base_url: base_url.clone(), ..main_account() };
        let row = self.db.sync_accounts(&[config], now()).await.unwrap().remove(0);
        if row.fingerprint_changed {
            self.db.confirm_endpoint(row.id, row.configured, &base_url).await.unwrap();
            self.sql("UPDATE accounts SET held = FALSE").await.unwrap();
        }
    }
}

both! {
    async fn a_new_database_charges_no_live_account_before_it_is_armed(world: World) {
        world.sql("UPDATE accounts SET armed_incarnation = NULL").await.unwrap();
        let claimed = world.claimed(2, "t").await;
        let begun = world.db.begin(begin_of(&world, "t", &claimed)).await.unwrap();
        assert!(begun.attempts.iter().all(|begun| begun.as_ref().err() == Some(&NotBegun::Unarmed)), "{begun:?}");
        assert_eq!(world.count("SELECT count(*) AS n FROM attempts").await, 0);
        assert!(world.arm().await);
        assert!(!world.arm().await, "once is enough");
        assert!(world.db.begin(begin_of(&world, "t", &claimed)).await.unwrap().attempts.iter().all(Result::is_ok));
        assert_eq!(world.count("SELECT count(*) AS n FROM journal WHERE action = 'arm' AND subject = 'account main'").await, 1);
    }

    async fn a_new_incarnation_is_armed_anew(world: World) {
        assert_eq!(world.stop().await, None);
        world.db.renew_incarnation("incarnation-2").await.unwrap();
        world.sql("UPDATE accounts SET audited_incarnation = 'incarnation-2'").await.unwrap();
        assert_eq!(world.stop().await, Some(NotBegun::Unarmed));
        assert!(world.arm().await);
        assert_eq!(world.stop().await, None);
        assert_eq!(world.db.disarm_all().await.unwrap(), 1);
        assert_eq!(world.stop().await, Some(NotBegun::Unarmed));
    }

    async fn a_sandbox_needs_no_arming_and_arms_nothing_else(world: World) {
        world.point_to("f2", "http://127.0.0.1:8765").await;
        world.sql("UPDATE accounts SET audited_incarnation = 'incarnation-1'").await.unwrap();
        let endpoint = world.count("SELECT endpoint_id AS n FROM accounts").await;
        let stop = async || world.db.brakes().await.unwrap().stop(world.account.id, endpoint);
        assert_eq!(stop().await, None, "and it is not even armed");
        assert_eq!(world.count("SELECT count(*) AS n FROM accounts WHERE armed_incarnation IS NULL").await, 1);
        assert!(!world.arm().await, "there is nothing to arm");
        world.point_to("f1", "https://api.iamport.kr").await;
        assert_eq!(world.stop().await, Some(NotBegun::Unarmed), "what was a sandbox is armed for nothing");
    }

    async fn a_business_that_is_running_stays_armed_through_the_upgrade(world: World) {
        world.db.desk().add_accounts(&[("idle".to_owned(), "https://api.iamport.kr".to_owned())]).await.unwrap();
        let idle = AccountConfig { name: "idle".to_owned(), ..main_account() };
        world.db.sync_accounts(&[idle], now()).await.unwrap();
        world.one_begun("t").await;
        for step in [
            "DROP TABLE key_bookings",
            "ALTER TABLE accounts DROP COLUMN live",
            "ALTER TABLE accounts DROP COLUMN armed_incarnation",
            "ALTER TABLE accounts DROP COLUMN armed_at",
            "DELETE FROM _sqlx_migrations WHERE version = 11",
        ] {
            world.sql(step).await.unwrap();
        }
        let migrated = world.replica().await;
        // a key that was changed since then points to the same place
        world.sql("INSERT INTO endpoints (account_id, fingerprint, base_url, first_seen_at)
            SELECT account_id, 'f9', base_url, first_seen_at FROM endpoints WHERE id = (SELECT endpoint_id FROM accounts WHERE name = 'main')").await.unwrap();
        world.sql("UPDATE accounts SET endpoint_id = (SELECT max(id) FROM endpoints) WHERE name = 'main'").await.unwrap();
        migrated.migrate().await.unwrap();
        let armed = "SELECT count(*) AS n FROM accounts WHERE armed_incarnation = 'incarnation-1' AND live AND name = ";
        assert_eq!(world.count(&format!("{armed}'main'")).await, 1);
        assert_eq!(world.count(&format!("{armed}'idle'")).await, 0, "what has never sent is not armed by an upgrade");
    }
}
