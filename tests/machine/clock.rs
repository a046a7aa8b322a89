//! A clock that is set by an hour or a day, forward or back, under a daemon at work.

use std::fs;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::needs::fake_time;
use crate::world::World;

/// Nothing is sent for Q once the jump is seen, neither by this daemon nor by the next one, which finds a clock that is right; then
/// everything settles, each charge once. What a clock that ran ahead took for a doubt of a day is in review.
pub async fn jumps(name: &'static str, seconds: i64) {
    let mut world = World::new(name, None, 60).await;
    let (library, offset) = (fake_time().expect("libfaketime"), world.home.path("offset"));
    fs::write(&offset, "+0").expect("a file can be written");
    let text = |path: &std::path::Path| path.display().to_string();
    // CLOCK_BOOTTIME and CLOCK_MONOTONIC are those of the machine: nobody sets them
    let variables = [
        ("LD_PRELOAD", text(&library)),
        ("FAKETIME_TIMESTAMP_FILE", text(&offset)),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("NO_FAKE_STAT", "1".to_owned()),
    ];
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let daemon = world.start_under(&variables);
    world.more_posts(5).await;
    let told = world.log().len();
    fs::write(&offset, format!("{seconds:+}")).expect("a file can be written");
    world.until_logged("the database clock has jumped: sends and conclusions of", told).await;
    let asked = world.silence().await;
    world.hands.astray.store(true, Ordering::Relaxed);
    world.insert(10).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.tail.charges(), asked, "{name}: nothing is sent while the clock is not trusted");
    daemon.kill();

    // somebody has set it right, and the next daemon knows nothing of it but what was written down
    let told = world.log().len();
    let daemon = world.start();
    world.until_logged("sends and conclusions of \\\"not paid\\\" are still held", told).await;
    world.until_logged("rebilld is up", told).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.tail.charges(), asked, "{name}: the hold outlives the process");
    daemon.kill();
    world.prove().await;
}
