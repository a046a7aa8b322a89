//! What stands still must not hold up the rest.

use super::rig::{Engine, World, both, plan};

both! {
    async fn an_opening_that_fails_keeps_no_event_from_being_delivered(engine) {
        let world = World::new(engine, "2028-01-01T12:00", [plan("monthly", "1 month", 9_900)]).await;
        world.subscribe("s", "monthly", "2028-01-02", &[]).await;
        world.live_until("2028-01-03T00:00").await;
        assert_eq!(world.periods("s").await.len(), 1);
        // an event that is still to be delivered, and a subscription that cannot be opened because the database fails
        world.sql("UPDATE deliveries SET state = 'pending', delivered_at = NULL").await;
        world.subscribe("t", "monthly", "2028-01-03", &[]).await;
        world.sql("ALTER TABLE price_changes RENAME TO gone").await;
        world.live_until("2028-01-03T00:02").await;
        assert_eq!(world.count("SELECT count(*) AS n FROM deliveries WHERE state = 'pending'").await, 0);
        // and once the database is well again, the subscription is charged
        world.sql("ALTER TABLE gone RENAME TO price_changes").await;
        world.live_until("2028-01-04T00:00").await;
        assert_eq!(world.periods("t").await.len(), 1);
    }
}
