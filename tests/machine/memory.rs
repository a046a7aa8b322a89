//! Less memory than a daemon would like.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::needs::is_large;
use crate::processes::{Daemon, until};
use crate::world::{PATIENCE, World};

const CONTROLLER: &str = "/sys/fs/cgroup/memory";
/// In which a daemon of the tests' own build, which is not optimised, has to get along.
const ENOUGH: u64 = 96 << 20;
/// In which none can even start.
const TOO_LITTLE: u64 = 2 << 20;

/// A memory group of this process's own, which goes with the value.
pub struct Group {
    path: PathBuf,
}

impl Group {
    /// `None`: this machine lets nobody make one.
    pub fn new(name: &str) -> Option<Self> {
        let path = PathBuf::from(CONTROLLER).join(format!("rebilld-{}-{name}", std::process::id()));
        fs::create_dir(&path).ok()?;
        let group = Self { path };
        group.path.join("memory.limit_in_bytes").exists().then_some(group)
    }

    fn bound(&self, bytes: u64) {
        fs::write(self.path.join("memory.limit_in_bytes"), bytes.to_string()).expect("a bound can be set");
    }

    /// The most that was in use so far.
    fn most(&self) -> u64 {
        let text = fs::read_to_string(self.path.join("memory.max_usage_in_bytes")).expect("it is counted");
        text.trim().parse().expect("a number")
    }

    /// A daemon inside it, which goes in before it begins.
    fn daemon(&self, world: &mut World) -> Daemon {
        let script = format!("echo $$ >{}/cgroup.procs; exec \"$@\"", self.path.display());
        world.start_wrapped(&script)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // the last process in it has just gone
        for _ in 0..100 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Due at once. The large size is the 10,000.
fn charges() -> usize {
    if is_large() { 10_000 } else { 500 }
}

/// Many due charges within a bound; then a daemon that is killed for want of memory in mid-flight; then one that cannot start.
pub async fn is_bounded() {
    let count = charges();
    let mut world = World::new("a bound on memory", None, 0).await;
    world.home.layer("fast", "[accounts.main]\nrate = 100000\nin_flight = 64\n[worker]\nbatch = 256\n");
    world.insert_plain(count).await;
    let group = Group::new("test").expect("there was one a moment ago");
    group.bound(ENOUGH);
    let daemon = group.daemon(&mut world);
    let paid = "SELECT count(*) AS n FROM charges WHERE state IN ('paid', 'doubt')";
    let patience = PATIENCE * 10;
    until("all are charged", patience, async || {
        tokio::time::sleep(Duration::from_millis(500)).await;
        (world.home.sql(paid).await[0].small::<usize>("n").expect("a count") >= count).then_some(())
    })
    .await;
    let most = group.most();
    println!(
        "a bound on memory: {count} due charges within {} MiB, {} MiB at most with the cache of files",
        ENOUGH >> 20,
        most >> 20
    );
    daemon.kill();

    // a greedy neighbour in the same group, and the kernel takes the daemon while charges are under way
    world.insert_plain(200).await;
    let mut daemon = group.daemon(&mut world);
    world.more_posts(20).await;
    fs::write(format!("/proc/{}/oom_score_adj", daemon.pid()), "1000").expect("root may choose the victim");
    let greedy = format!("echo $$ >{}/cgroup.procs; exec tail /dev/zero", group.path.display());
    let mut greedy = Command::new("sh").args(["-ec", &greedy]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("sh");
    assert_eq!(daemon.ended(PATIENCE).await.signal(), Some(9), "it is killed");
    drop(daemon);
    let _ = greedy.kill();
    greedy.wait().expect("it ends");

    // and where none can live, it dies whenever its supervisor starts it
    group.bound(TOO_LITTLE);
    let mut daemon = group.daemon(&mut world);
    assert_eq!(daemon.ended(PATIENCE).await.signal(), Some(9), "it is killed");
    drop((daemon, group));
    println!("a bound on memory: killed by the kernel twice, in mid-flight and at a start");
    world.prove().await;
}
