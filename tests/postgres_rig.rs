//! The PostgreSQL rig itself: what the other tests rely on.

#[path = "support/bouncer.rs"]
mod bouncer;
mod support;

use std::fs;
use std::path::Path;
use std::sync::Barrier;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, Executor, PgConnection, Row};

use bouncer::Bouncer;
use support::postgres::{Server, database};

async fn one(connection: &mut PgConnection, statement: &'static str) -> String {
    connection.fetch_one(statement).await.unwrap().get(0)
}

#[tokio::test]
async fn two_databases_share_a_server_and_nothing_else() {
    let (first, second) = (database().await, database().await);
    assert_ne!(first.url, second.url);
    let (mut one_side, mut other_side) = (first.connect().await, second.connect().await);
    one_side.execute("CREATE TABLE only_here (id BIGINT)").await.unwrap();
    assert!(other_side.execute("SELECT id FROM only_here").await.is_err());
    let server = "SELECT system_identifier::text FROM pg_control_system()";
    assert_eq!(one(&mut one_side, server).await, one(&mut other_side, server).await);
}

#[tokio::test]
async fn durability_is_the_default_one() {
    let mut connection = database().await.connect().await;
    for setting in ["SHOW fsync", "SHOW full_page_writes", "SHOW synchronous_commit"] {
        assert_eq!(one(&mut connection, setting).await, "on", "{setting}");
    }
    assert_eq!(one(&mut connection, "SHOW max_connections").await, "200");
}

#[tokio::test]
async fn poolers_that_start_at_once_each_stand_before_their_own_server() {
    let servers = [Server::start(&[]), Server::start(&[])];
    let identifier = "SELECT system_identifier::text FROM pg_control_system()";
    let all_at_once = Barrier::new(servers.len());
    let poolers: Vec<Bouncer> = std::thread::scope(|scope| {
        let started = servers.each_ref().map(|server| {
            scope.spawn(|| {
                all_at_once.wait();
                Bouncer::before(server.port())
            })
        });
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (server, pooler) in servers.iter().zip(&poolers) {
        let mut direct = PgConnection::connect(&server.url("postgres")).await.unwrap();
        // a pooler refuses what it cannot promise of a shared session
        let options = pooler.url("postgres").parse::<PgConnectOptions>().unwrap().extra_float_digits(None);
        let mut pooled = PgConnection::connect_with(&options).await.unwrap();
        assert_eq!(one(&mut direct, identifier).await, one(&mut pooled, identifier).await);
    }
}

#[tokio::test]
async fn a_removed_database_is_gone_even_while_in_use() {
    let database = database().await;
    let url = database.url.clone();
    let _user = database.connect().await;
    database.remove().await;
    assert!(PgConnection::connect(&url).await.is_err());
}

#[tokio::test]
async fn a_killed_server_comes_back_with_its_data() {
    let mut server = Server::start(&[("work_mem", "5MB")]);
    let url = server.database().await.url;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    assert_eq!(one(&mut connection, "SHOW work_mem").await, "5MB");
    connection.execute("CREATE TABLE kept (word TEXT)").await.unwrap();
    connection.execute("INSERT INTO kept VALUES ('committed')").await.unwrap();
    let before = server.pid();

    server.kill9();
    assert!(PgConnection::connect(&url).await.is_err(), "a killed server takes no connections");
    server.restart();

    assert_ne!(server.pid(), before);
    let mut connection = PgConnection::connect(&url).await.unwrap();
    assert_eq!(one(&mut connection, "SELECT word FROM kept").await, "committed");

    server.restart();
    let mut connection = PgConnection::connect(&server.url("postgres")).await.unwrap();
    assert_eq!(one(&mut connection, "SELECT 'up'").await, "up");
}

/// Who is left over holds on to the server's shared memory, and no server can start again on the same data until it goes: never, if
/// it waits for a lock of one that was killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_killed_server_leaves_no_process_though_clients_come_in_all_the_time() {
    let mut server = Server::start(&[]);
    let url = server.url("postgres");
    let data = one(&mut PgConnection::connect(&url).await.unwrap(), "SHOW data_directory").await;
    let data = fs::canonicalize(data).unwrap();
    for kill in 1..=5 {
        let clients: Vec<_> = (0..8).map(|_| tokio::spawn(come_and_go(url.clone()))).collect();
        let coming = "SELECT (count(*) > 2)::text FROM pg_stat_activity WHERE backend_type = 'client backend'";
        let mut witness = PgConnection::connect(&url).await.unwrap();
        let come = async { while one(&mut witness, coming).await != "true" {} };
        tokio::time::timeout(Duration::from_secs(60), come).await.expect("clients come in");
        assert!(!processes_in(&data).is_empty(), "they can be seen");
        server.kill9();
        assert_eq!(processes_in(&data), Vec::<String>::new(), "after kill {kill}");
        clients.iter().for_each(tokio::task::JoinHandle::abort);
        server.restart();
    }
}

/// One connection after the other, for as long as the server takes any.
async fn come_and_go(url: String) {
    while let Ok(connection) = PgConnection::connect(&url).await {
        drop(connection);
    }
}

/// The processes that work in this directory, by what they call themselves.
fn processes_in(directory: &Path) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let mine = processes.filter(|process| fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == directory));
    mine.map(|process| fs::read_to_string(process.join("cmdline")).unwrap_or_default().replace('\0', " ")).collect()
}

#[tokio::test]
async fn a_dropped_server_leaves_no_process() {
    let server = Server::start(&[]);
    let process = format!("/proc/{}", server.pid());
    assert!(Path::new(&process).exists());
    drop(server);
    tokio::time::timeout(Duration::from_secs(10), async {
        while Path::new(&process).exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the postmaster is gone");
}
