//! Catches all logs of a run and looks for what must never be in them (I12).

use std::io::Write;
use std::sync::Mutex;

static LEAKS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// What no log may hold: every payer of the simulation is called this. Nobody here has a secret: tests/daemon/secrets.rs is about those.
const CANARIES: [&str; 1] = ["CANARY-NAME"];

struct Sieve;

impl Write for Sieve {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        if CANARIES.iter().any(|canary| text.contains(canary)) {
            LEAKS.lock().unwrap().push(text.into_owned());
        }
        #[expect(clippy::disallowed_methods, reason = "one seed's log can be shown")]
        if std::env::var("REBILLD_SIM_LOG").is_ok() {
            print!("{}", String::from_utf8_lossy(bytes));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// From now on every log line of every level goes through the sieve.
pub fn capture() {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(|| Sieve)
        .with_ansi(false)
        .without_time()
        .finish();
    // another test of this process may have been first: it catches the same
    let _ = tracing::subscriber::set_global_default(subscriber);
}

pub fn leaks() -> Vec<String> {
    LEAKS.lock().unwrap().clone()
}
