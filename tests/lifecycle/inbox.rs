//! Webhooks that come in by real HTTP: an honest one ends a doubt early, forged ones change nothing and cost little.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use rebilld::domain::charge::ChargeState;
use rebilld::http::inbox::{Answer, Inbox, Parts, router};
use rebilld::ports::clock::Clock;
use rebilld::ports::metrics::Metrics;
use rebilld::ports::secret::Secret;
use rebilld::ports::wake::Wake;
use rebilld::store::identity::AccountConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::rig::{Engine, Of, Outage, World, at, both, plan};

const TOKEN: &str = "abcdefghijklmnopqrstuvwxyz";
const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// A daemon's inbox on a socket.
struct Door {
    inbox: Arc<Inbox>,
    metrics: Arc<Metrics>,
    wake: Wake,
    address: SocketAddr,
    _server: JoinSet<()>,
}

impl Door {
    async fn open(world: &World, per_second: u32) -> Self {
        let tokens = [("main".to_owned(), Secret::new(TOKEN))];
        world.db.add_webhook_tokens(&tokens, world.clock.now()).await.unwrap();
        let (metrics, wake) = (Arc::new(Metrics::default()), Wake::default());
        let inbox = Inbox::new(Parts {
            database: Arc::clone(&world.db),
            clock: Arc::clone(&world.clock) as _,
            wake: wake.clone(),
            metrics: Arc::clone(&metrics),
            tag: "sb".parse().unwrap(),
            per_second,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = JoinSet::new();
        let router = router(Arc::clone(&inbox));
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { inbox, metrics, wake, address, _server: server }
    }

    /// The whole answer, as it came.
    async fn answer(&self, path: &str, kind: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n", body.len());
        // it may be refused before it is read
        let _ = stream.write_all(format!("{head}connection: close\r\n\r\n{body}").as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        // the second in which it was given is the only thing that may differ
        answer.split_inclusive("\r\n").filter(|line| !line.starts_with("date:")).collect()
    }

    async fn status(&self, path: &str, kind: &str, body: &str) -> u16 {
        let answer = self.answer(path, kind, body).await;
        answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("`{answer}`"))
    }

    async fn tell(&self, merchant_uid: &str) -> u16 {
        self.status(&path("main", TOKEN), JSON, &message(merchant_uid)).await
    }

    fn received(&self, answer: Answer) -> u64 {
        self.metrics.webhooks().into_iter().filter(|([_, given], _)| given == answer.name()).map(|(_, count)| count).sum()
    }
}

fn path(account: &str, token: &str) -> String {
    format!("/webhooks/portone/{account}/{token}")
}

fn message(merchant_uid: &str) -> String {
    format!(r#"{{"imp_uid":"imps_1","merchant_uid":"{merchant_uid}","status":"paid"}}"#)
}

async fn states(world: &World) -> Vec<ChargeState> {
    let rows = world.sql("SELECT state FROM charges ORDER BY id").await;
    rows.iter().map(|row| row.word("state", ChargeState::from_name).unwrap()).collect()
}

async fn ids(world: &World) -> Vec<String> {
    let rows = world.sql("SELECT merchant_uid FROM ids ORDER BY charge_id, merchant_uid").await;
    rows.iter().map(|row| row.text("merchant_uid").unwrap()).collect()
}

/// When each charge is looked up next, in seconds from now.
async fn next_looks(world: &World) -> Vec<Option<i64>> {
    let rows = world.sql("SELECT next_at FROM charges ORDER BY id").await;
    let now = world.clock.now();
    rows.iter().map(|row| row.at_opt("next_at").unwrap().map(|next| next.duration_since(now).as_secs())).collect()
}

fn look_ups(world: &World) -> usize {
    world.till.calls.lock().unwrap().iter().filter(|(_, charge)| !charge).count()
}

/// Charges that were lost on their way at 10:00, and are in doubt since: it is 10:12, and the next look-up is at 10:20.
async fn in_doubt(engine: Engine, count: usize) -> World {
    let world = World::new(engine, "2027-03-01T09:00", [plan("monthly", "1 month", 9900)]).await;
    for number in 0..count {
        world.subscribe(&format!("s{number}"), "monthly", "2027-03-01", &[]).await;
    }
    let (from, to) = (at("2027-03-01T10:00"), at("2027-03-01T10:11"));
    *world.till.outage.lock().unwrap() = Some(Outage { from, to, of: Of::Charges });
    world.live_until("2027-03-01T10:12").await;
    assert_eq!(states(&world).await, vec![ChargeState::Doubt; count]);
    world
}

/// The gateway has charged after all what was lost.
fn approve(world: &World, merchant_uid: &str, external_ref: &str) {
    let body = serde_json::json!({ "amount": 9900, "customer_uid": format!("card-{external_ref}") });
    let (merchant_uid, at) = (merchant_uid.to_owned(), world.clock.now());
    world.till.posts.lock().unwrap().push(super::rig::Post { merchant_uid, at, body, refused: None });
}

both! {
    async fn an_honest_webhook_ends_a_doubt_minutes_early(engine) {
        for (kind, form) in [(JSON, false), (FORM, true)] {
            let world = in_doubt(engine, 1).await;
            let door = Door::open(&world, 50).await;
            let uid = ids(&world).await.remove(0);
            approve(&world, &uid, "s0");
            world.live_until("2027-03-01T10:13").await;
            assert_eq!(states(&world).await, [ChargeState::Doubt], "nobody has looked yet");
            let body = if form { format!("imp_uid=imps_1&merchant_uid={uid}&status=paid") } else { message(&uid) };
            assert_eq!(door.status(&path("main", TOKEN), kind, &body).await, 200);
            assert_eq!(door.inbox.take_up().await.unwrap(), 1);
            world.live_until("2027-03-01T10:13:05").await;
            assert_eq!(states(&world).await, [ChargeState::Paid]);
            assert_eq!(world.posts().len(), 1, "it was looked up, and not charged");
        }
    }

    async fn a_webhook_that_lies_concludes_nothing_sooner_than_the_rules(engine) {
        let world = in_doubt(engine, 1).await;
        let door = Door::open(&world, 50).await;
        let uid = ids(&world).await.remove(0);
        // every minute, for the hour that Q takes and for what comes after it
        let mut resent = None;
        for minute in 13..80 {
            assert_eq!(door.tell(&uid).await, 200);
            door.inbox.take_up().await.unwrap();
            world.live_until(&format!("2027-03-01T{:02}:{:02}:30", 10 + minute / 60, minute % 60)).await;
            if resent.is_none() && !world.posts().is_empty() {
                resent = Some(minute);
            }
            world.sleep_until(&format!("2027-03-01T{:02}:{:02}", 10 + (minute + 1) / 60, (minute + 1) % 60));
        }
        // sent at 10:00: not believed before 11:00, and not concluded before a second look-up five minutes later (R2, R3)
        assert_eq!(resent, Some(65), "the same as without any webhook, to the minute");
        assert_eq!(states(&world).await, [ChargeState::Paid]);
        assert_eq!(world.posts()[0].merchant_uid, uid, "the same id again (R4)");
    }

    async fn ten_thousand_forged_ones_change_nothing_and_cost_a_bounded_number_of_look_ups(engine) {
        let world = in_doubt(engine, 3).await;
        let door = Arc::new(Door::open(&world, 50).await);
        let known = ids(&world).await;
        let before = (next_looks(&world).await, look_ups(&world));
        let mut flood = JoinSet::new();
        for sender in 0..10 {
            let (door, known) = (Arc::clone(&door), known.clone());
            flood.spawn(async move {
                for number in 0..1000_usize {
                    // by a guessed address, about what does not exist, and about what does
                    let (token, uid) = match number % 4 {
                        0 => ("zzzzzzzzzzzzzzzzzzzzzzzzzz", known[number % 3].clone()),
                        1 => (TOKEN, known[(number / 4) % 3].clone()),
                        _ => (TOKEN, format!("sb{:a>26}01", format!("{}{}", ["b", "c", "d"][number % 3], "e".repeat(sender)))),
                    };
                    let status = door.status(&path("main", token), JSON, &message(&uid)).await;
                    assert!(if token == TOKEN { status == 200 || status == 429 } else { status == 404 }, "{status}");
                }
            });
        }
        while let Some(done) = flood.join_next().await {
            done.unwrap();
        }
        let (taken, limited) = (door.received(Answer::Accepted), door.received(Answer::Limited));
        assert_eq!((taken + limited, door.received(Answer::Unknown)), (7500, 2500));
        // the clock of this world stands still: all of them came in one second
        assert!(taken <= 50, "{taken} were taken in, of 50 a second");
        let mut moved = 0;
        for _ in 0..20 {
            moved += door.inbox.take_up().await.unwrap();
        }
        assert!(moved <= 3, "{moved} look-ups were moved, of three charges");
        world.live_until("2027-03-01T10:12:30").await;
        let asked = look_ups(&world) - before.1;
        assert!(asked <= 1, "{asked} calls: those of one account are asked about together");
        assert_eq!(states(&world).await, [ChargeState::Doubt; 3]);
        assert_eq!(next_looks(&world).await, before.0.iter().map(|next| next.map(|next| next - 30)).collect::<Vec<_>>(),
            "the ladder of doubt goes on as before (R5)");
        assert!(world.posts().is_empty(), "nothing was sent");
    }

    async fn nothing_is_learnt_from_the_answer(engine) {
        let world = in_doubt(engine, 1).await;
        let door = Door::open(&world, 50).await;
        let (known, unknown) = (ids(&world).await.remove(0), format!("sb{}01", "a".repeat(26)));
        let right = path("main", TOKEN);
        let answer = door.answer(&right, JSON, &message(&known)).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
        for other in [unknown.as_str(), "order-17", "", "sb00"] {
            assert_eq!(door.answer(&right, JSON, &message(other)).await, answer, "{other}");
        }
        let wrong = door.answer(&path("main", "zzzzzzzzzzzzzzzzzzzzzzzzzz"), JSON, &message(&known)).await;
        assert!(wrong.starts_with("HTTP/1.1 404 "), "{wrong}");
        for path in [
            path("main", &TOKEN[..25]),
            path("main", &format!("{TOKEN}a")),
            path("main", "%ff"),
            path("nobody", TOKEN),
            path("", TOKEN),
            format!("/webhooks/portone/main/{TOKEN}/more"),
            "/webhooks/portone/main".to_owned(),
        ] {
            for body in [message(&known), "nonsense".to_owned(), "x".repeat(100_000)] {
                assert_eq!(door.answer(&path, JSON, &body).await, wrong, "{path}");
            }
        }
    }

    async fn a_body_that_is_huge_or_makes_no_sense_is_refused(engine) {
        let world = in_doubt(engine, 1).await;
        let door = Door::open(&world, 1000).await;
        let right = path("main", TOKEN);
        for wrong in ["", "{", "[]", "null", r#"{"merchant_uid":7}"#, r#"{"imp_uid":"imps_1"}"#, "\u{0}\u{1}"] {
            assert_eq!(door.status(&right, JSON, wrong).await, 400, "{wrong}");
            assert_eq!(door.status(&right, FORM, wrong).await, 400, "{wrong}");
        }
        let huge = format!(r#"{{"merchant_uid":"{}"}}"#, "x".repeat(1_000_000));
        assert_eq!(door.status(&right, JSON, &huge).await, 413);
        // one that does not say how large it is
        let mut stream = TcpStream::connect(door.address).await.unwrap();
        let head = format!("POST {right} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..40 {
            let _ = stream.write_all(format!("400\r\n{}\r\n", "x".repeat(1024)).as_bytes()).await;
        }
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 413");
        assert_eq!((door.received(Answer::Malformed), door.received(Answer::TooLarge)), (14, 2));
        assert_eq!(door.inbox.take_up().await.unwrap(), 0);
    }

    async fn an_account_has_no_say_about_charges_of_another(engine) {
        let world = in_doubt(engine, 1).await;
        let door = Door::open(&world, 50).await;
        let other = AccountConfig {
            name: "other".to_owned(),
            fingerprint: "g".to_owned(),
            base_url: "http://127.0.0.1".to_owned(),
            tier: None,
        };
        world.db.sync_accounts(&[other], world.clock.now()).await.unwrap();
        let theirs = "bbbbbbbbbbbbbbbbbbbbbbbbbb";
        world.db.add_webhook_tokens(&[("other".to_owned(), Secret::new(theirs))], world.clock.now()).await.unwrap();
        let uid = ids(&world).await.remove(0);
        assert_eq!(door.status(&path("other", theirs), JSON, &message(&uid)).await, 200);
        assert_eq!(door.status(&path("other", TOKEN), JSON, &message(&uid)).await, 404, "nor has another's token");
        assert_eq!(door.inbox.take_up().await.unwrap(), 0);
        assert_eq!(door.tell(&uid).await, 200);
        assert_eq!(door.inbox.take_up().await.unwrap(), 1);
    }

    async fn a_closed_charge_that_is_paid_late_is_found_long_after_its_last_sweep(engine) {
        let world = World::new(engine, "2027-03-01T09:00", [plan("monthly", "1 month", 9900)]).await;
        world.subscribe("s0", "monthly", "2027-03-01", &[("ends_on", "'2027-04-01'")]).await;
        world.refuse("card-s0", Some("[1195][실시간빌링실패|빌링 미등록 거래]"));
        world.live_until("2027-06-20T10:00").await;
        assert_eq!(states(&world).await, [ChargeState::Unpaid]);
        assert_eq!(next_looks(&world).await, [None], "it is swept no more");
        let door = Door::open(&world, 50).await;
        world.till.approve(0);
        assert_eq!(door.tell(&ids(&world).await.remove(0)).await, 200);
        assert_eq!(door.inbox.take_up().await.unwrap(), 1);
        world.live_until("2027-06-20T10:01").await;
        assert_eq!(states(&world).await, [ChargeState::Paid]);
        // and one that lies leaves it as it is
        assert_eq!(door.tell(&ids(&world).await.remove(0)).await, 200);
        assert_eq!(door.inbox.take_up().await.unwrap(), 0, "paid is final");
    }

    async fn a_charge_in_the_workers_hands_is_left_to_it_and_looked_up_again_afterwards(engine) {
        let world = in_doubt(engine, 1).await;
        let door = Door::open(&world, 50).await;
        let until = world.clock.now().as_second() + 30;
        let claimed = match world.db.is_postgres() {
            true => format!("to_timestamp({until})"),
            false => format!("{until}000000"),
        };
        world.sql(&format!("UPDATE charges SET claim_token = 'someone', claim_until = {claimed}, version = 7")).await;
        let before = next_looks(&world).await;
        assert_eq!(door.tell(&ids(&world).await.remove(0)).await, 200);
        assert_eq!((door.inbox.take_up().await.unwrap(), next_looks(&world).await), (0, before));
        world.sleep_until("2027-03-01T10:12:31");
        assert_eq!(door.inbox.take_up().await.unwrap(), 1);
        assert_eq!(world.count("SELECT version AS n FROM charges").await, 7, "whoever judged it may still write what he found");
    }

    async fn a_token_that_was_rotated_is_refused_within_ten_seconds(engine) {
        use rebilld::store::desk::Signed;
        let world = in_doubt(engine, 1).await;
        let door = Door::open(&world, 50).await;
        let uid = ids(&world).await.remove(0);
        assert_eq!(door.tell(&uid).await, 200);
        let signed = Signed { who: "kim".to_owned(), reason: "it was in a screenshot".to_owned() };
        let new = "cccccccccccccccccccccccccc";
        let rotated = world.db.desk().rotate_webhook_token(world.clock.now(), "main", &Secret::new(new), &signed).await;
        assert!(rotated.unwrap());
        world.sleep_until("2027-03-01T10:12:10");
        assert_eq!(door.tell(&uid).await, 404);
        assert_eq!(door.status(&path("main", new), JSON, &message(&uid)).await, 200);
        let journal = world.db.desk().journal(None, 10).await.unwrap();
        assert_eq!((journal[0].entry.action.as_str(), journal[0].entry.subject.as_str()), ("webhooks rotate", "account main"));
        assert!(!format!("{journal:?}").contains(new), "the journal does not say it");
        assert!(!world.db.desk().rotate_webhook_token(world.clock.now(), "nobody", &Secret::new(new), &signed).await.unwrap());
    }
}

#[tokio::test]
async fn webhooks_wait_for_a_database_that_does_not_answer() {
    let world = in_doubt(Engine::Sqlite, 1).await;
    let door = Door::open(&world, 50).await;
    let uid = ids(&world).await.remove(0);
    assert_eq!(door.tell(&uid).await, 200);
    world.sql("ALTER TABLE ids RENAME TO gone").await;
    assert!(door.inbox.take_up().await.is_err());
    assert_eq!(door.tell(&uid).await, 200, "and more are taken in");
    world.sql("ALTER TABLE gone RENAME TO ids").await;
    assert_eq!(door.inbox.take_up().await.unwrap(), 1);
}

#[tokio::test]
async fn the_worker_is_rung_once_the_look_up_is_due() {
    let world = in_doubt(Engine::Sqlite, 1).await;
    let door = Door::open(&world, 50).await;
    let uid = ids(&world).await.remove(0);
    assert!(door.wake.heard().now_or_never().is_none(), "nobody rings while nothing comes");
    let mut keeping = JoinSet::new();
    keeping.spawn(Arc::clone(&door.inbox).keep());
    assert_eq!(door.tell(&uid).await, 200);
    let moved = async {
        while next_looks(&world).await != [Some(0)] {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), moved).await.expect("it is taken up by itself");
    tokio::time::timeout(Duration::from_secs(20), door.wake.heard()).await.expect("the worker is rung");
}
