//! A real pgbouncer in transaction mode, before any server of the tests.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use rustix::process::{Pid, Signal, kill_process};

// Each test file uses some of this. Naming all of it here keeps the compiler's unused-code lint on without an exception.
const _: () = {
    let _ = (Bouncer::before, Bouncer::url, Bouncer::kill9, Bouncer::start_again, Bouncer::point_at);
};

/// Runs it as the user that may not be root, and ends it with whoever holds the standard input. The first line says its pid.
const SUPERVISE: &str = r#"
    as=(); [[ $(id -u) -ne 0 ]] || as=(setpriv --reuid=postgres --regid="$(id -g postgres)" --clear-groups)
    trap '' INT TERM HUP
    "${as[@]}" "$1" -q "$2" </dev/null >>"$3" 2>&1 & child=$!
    echo $child
    cat >/dev/null
    kill -KILL $child 2>/dev/null || true
"#;

/// A pgbouncer that gives each transaction any session of a server. It ends when this is dropped, and when the process dies.
pub struct Bouncer {
    directory: tempfile::TempDir,
    port: u16,
    /// The server's.
    behind: u16,
    running: Option<(Child, Pid)>,
}

impl Bouncer {
    /// Starts one before the server on this port of 127.0.0.1.
    pub fn before(server: u16) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).expect("its mode can be set");
        let mut bouncer = Self { directory, port: free_port(), behind: server, running: None };
        bouncer.configure();
        bouncer.start_again();
        bouncer
    }

    /// Where a database of the server is, past here.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// SIGKILL: its clients' connections break.
    pub fn kill9(&mut self) {
        if let Some((mut supervisor, pid)) = self.running.take() {
            let _ = kill_process(pid, Signal::KILL);
            drop(supervisor.stdin.take());
            supervisor.wait().expect("its supervisor ends");
        }
    }

    /// From now on new transactions go to another server.
    pub fn point_at(&mut self, server: u16) {
        self.behind = server;
        self.configure();
        if let Some((_, pid)) = &self.running {
            kill_process(*pid, Signal::HUP).expect("pgbouncer reads its settings again");
        }
    }

    pub fn start_again(&mut self) {
        let file = |name: &str| self.directory.path().join(name);
        let mut command = Command::new("bash");
        command.args(["-c", SUPERVISE, "bash"]).arg(binary()).args([file("settings.ini"), file("log")]);
        let mut supervisor = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("bash can be run");
        let mut line = String::new();
        let output = supervisor.stdout.take().expect("its output is a pipe");
        BufReader::new(output).read_line(&mut line).expect("it says its pid");
        let pid = line.trim().parse().ok().and_then(Pid::from_raw).expect("a pid");
        self.running = Some((supervisor, pid));
        for _ in 0..500 {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let log = std::fs::read_to_string(file("log")).unwrap_or_default();
        panic!("pgbouncer takes no connections: {log}");
    }

    fn configure(&self) {
        // few sessions, so that strangers share them; and those that idle are soon gone, as a server has only so many
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = transaction\ndefault_pool_size = 8\nmax_client_conn = 500\n\
             server_idle_timeout = 2\nserver_login_retry = 1\nserver_connect_timeout = 5\nlog_connections = 0\nlog_disconnections = 0\n",
            self.behind, self.port
        );
        let file = self.directory.path().join("settings.ini");
        std::fs::write(&file, settings).expect("a settings file");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).expect("its mode can be set");
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        self.kill9();
    }
}

fn binary() -> PathBuf {
    let places = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"].map(PathBuf::from);
    let found = places.into_iter().find(|path| path.exists());
    found.expect("no pgbouncer here: install it (Debian: apt-get install pgbouncer), or run scripts/test")
}

/// Below 32768, where outgoing connections take their ports from: it has to stay free while nothing listens on it. No two
/// poolers of a process get the same: it is free for both until the first of them listens.
fn free_port() -> u16 {
    static PORTS: LazyLock<Mutex<ChaCha8Rng>> =
        LazyLock::new(|| Mutex::new(ChaCha8Rng::seed_from_u64(u64::from(std::process::id()))));
    let mut ports = PORTS.lock().expect("nobody has panicked while it drew a port");
    loop {
        let candidate = ports.random_range(10_000..32_000);
        if TcpListener::bind(("127.0.0.1", candidate)).is_ok() {
            return candidate;
        }
    }
}
