//! Simulated time for everything that lives in one seed: it moves to the next timer when nobody can go on without.
//!
//! One seed is one thread with a runtime of its own. When that has nothing left to run, it is about to park its thread: that is the
//! moment at which time may move, and one sleeper is woken. Databases work on threads of their own, and at their own pace: so a
//! call to one is waited for on the spot ([`at_once`]), and the order of things depends on the seed alone.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use jiff::{SignedDuration, Timestamp};
use tokio::runtime::{Builder, Runtime};

/// At one instant: a wave of the largest book takes a few thousand.
const MOST_STEPS: u64 = 50_000;

/// The stage of one seed. Instants are those of true time, which no clock jump moves.
#[derive(Debug)]
pub struct Stage {
    pub start: Timestamp,
    /// A bit for each number of jumps after which somebody asked for the database's clock before the next one.
    pub clock_asked: AtomicU64,
    time: Mutex<Time>,
}

#[derive(Debug)]
struct Time {
    now: Timestamp,
    next: u64,
    /// Steps that were made at this instant.
    steps: u64,
    order: Dice,
    /// By instant; those of one instant in the order that the seed throws.
    sleepers: BTreeMap<(Timestamp, u64, u64), Waker>,
    /// Of what the whole seed waits for.
    root: Option<Waker>,
}

impl Stage {
    pub fn new(start: Timestamp, seed: u64) -> Arc<Self> {
        let time = Time { now: start, next: 0, steps: 0, order: Dice::new(seed, 0), sleepers: BTreeMap::new(), root: None };
        Arc::new(Self { start, clock_asked: AtomicU64::new(0), time: Mutex::new(time) })
    }

    pub fn now(&self) -> Timestamp {
        self.time.lock().unwrap_or_else(PoisonError::into_inner).now
    }

    /// Somebody does something: without end at one instant is a loop that a real clock would hide.
    pub fn step(&self) {
        let mut time = self.time.lock().unwrap_or_else(PoisonError::into_inner);
        time.steps += 1;
        assert!(time.steps < MOST_STEPS, "{MOST_STEPS} steps were made at {}: somebody turns round without end", time.now);
    }

    pub async fn sleep_until(&self, at: Timestamp) {
        Sleep { stage: self, at, key: None }.await;
    }

    pub async fn sleep(&self, length: SignedDuration) {
        self.sleep_until(self.now() + length).await;
    }

    /// Nobody can go on: time moves to the first sleeper, who wakes.
    fn advance(&self) {
        let mut time = self.time.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(((at, ..), waker)) = time.sleepers.pop_first() else { return };
        if at > time.now {
            (time.now, time.steps) = (at, 0);
        }
        let root = time.root.clone();
        drop(time);
        waker.wake();
        // one of many futures of a task that was woken before and has not been looked at since wakes nobody: the next park must come
        if let Some(root) = root {
            root.wake();
        }
    }

    /// Runs everything of a seed, on this thread.
    pub fn run<T>(self: &Arc<Self>, what: impl Future<Output = T>) -> T {
        let stage = Arc::clone(self);
        let runtime = Builder::new_current_thread().enable_all().on_thread_park(move || stage.advance()).build().unwrap();
        let mut what = pin!(what);
        runtime.block_on(poll_fn(|context| {
            self.time.lock().unwrap_or_else(PoisonError::into_inner).root = Some(context.waker().clone());
            what.as_mut().poll(context)
        }))
    }
}

struct Sleep<'a> {
    stage: &'a Stage,
    at: Timestamp,
    key: Option<(Timestamp, u64, u64)>,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut time = self.stage.time.lock().unwrap_or_else(PoisonError::into_inner);
        if time.now >= self.at {
            return Poll::Ready(());
        }
        let key = self.key.unwrap_or_else(|| {
            time.next += 1;
            (self.at, time.order.next(), time.next)
        });
        time.sleepers.insert(key, context.waker().clone());
        drop(time);
        self.key = Some(key);
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.stage.time.lock().unwrap_or_else(PoisonError::into_inner).sleepers.remove(&key);
        }
    }
}

/// Throws that only have to be quick and to repeat (splitmix64).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64, what: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ what.wrapping_mul(0xd1b5_4a32_d192_ed03))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is above 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Of so many.
    pub fn hits(&mut self, rate: u32, of: u64) -> bool {
        rate > 0 && self.below(of) < u64::from(rate)
    }
}

/// Where the databases of all seeds have their timers, and finish what was dropped halfway.
fn beside() -> &'static Runtime {
    static BESIDE: OnceLock<Runtime> = OnceLock::new();
    BESIDE.get_or_init(|| Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap())
}

/// Before the first seed, by a thread that may run anywhere: threads stay where the one that made them may be.
pub fn begin_beside() {
    beside();
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits on the spot, with everything else of this seed standing still.
pub fn at_once<T>(work: impl Future<Output = T>) -> T {
    let _beside = beside().enter();
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    // the budget of the task that waits is not the database's
    let mut work = pin!(tokio::task::unconstrained(work));
    loop {
        match work.as_mut().poll(&mut context) {
            Poll::Ready(done) => return done,
            Poll::Pending => std::thread::park(),
        }
    }
}
