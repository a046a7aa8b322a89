//! Tells the service manager that started this process (systemd's `Type=notify`) what it is at, as sd_notify(3) describes it.
//!
//! A datagram of a few lines is all there is to it: the standard library sends it, so there is no crate for it.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::warn;

use crate::config::Environment;
use crate::engine::Engine;
use crate::engine::pulse::Beat;
use crate::ports::store::{NotBegun, StoreError};

/// A manager that reads nothing for so long does not get the message: the dispatch loop must not wait for it.
const PATIENCE: Duration = Duration::from_millis(100);
/// Between two looks at what is to be said. Each may read the brakes, so an idle daemon does not look more often.
const EVERY: Duration = Duration::from_secs(2);
/// The loop beats at least this often, whatever the watchdog asks for: `/livez` goes by it.
const BEAT: Duration = Duration::from_secs(10);
/// Accounts that a status names; the rest are counted.
const NAMED: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Starting,
    Up,
    Stopping,
}

/// The service manager. Quiet where there is none.
#[derive(Debug, Default)]
pub(super) struct Supervisor {
    line: Option<(UnixDatagram, SocketAddr)>,
    /// It restarts the daemon after so long without a ping.
    watchdog: Option<Duration>,
    /// Held while a change of it is told, so that they are told in their order.
    phase: Mutex<Phase>,
    /// The last config that was read was not taken.
    refused: AtomicBool,
}

impl Supervisor {
    /// As the environment of this process says.
    pub fn of(environment: &Environment) -> Self {
        let Some(address) = environment.get("NOTIFY_SOCKET") else { return Self::default() };
        let line = match connect(address) {
            Ok(line) => Some(line),
            Err(why) => {
                warn!(%address, %why, "the service manager cannot be told anything: $NOTIFY_SOCKET is of no use");
                None
            }
        };
        let ours = environment.get("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let wanted = environment.get("WATCHDOG_USEC").filter(|_| ours).and_then(|micros| micros.parse().ok());
        let watchdog = wanted.filter(|micros| *micros > 0).map(Duration::from_micros);
        Self { line, watchdog, ..Self::default() }
    }

    /// Feeds the watchdog from the dispatch loop itself, at least twice in its time.
    pub fn watch(self: &Arc<Self>, engine: &Engine) {
        if let (Some(within), Some(_)) = (self.watchdog, &self.line) {
            let supervisor = Arc::clone(self);
            // a ping that is lost is followed by another one in time
            let ping: Beat = Box::new(move || drop(supervisor.send("WATCHDOG=1")));
            engine.pulse.feed((within / 2).min(BEAT), Arc::clone(&engine.clock), ping);
        } else {
            // without a watchdog it beats for `/livez` alone
            engine.pulse.feed(BEAT, Arc::clone(&engine.clock), Box::new(|| {}));
        }
    }

    /// What the daemon is at before it is up, for `systemctl status`.
    pub fn starting(&self, at: &str) {
        self.tell(&format!("STATUS={at}"));
    }

    /// Whether there is anybody to tell.
    pub fn is_there(&self) -> bool {
        self.line.is_some()
    }

    /// Says that the daemon is up once its loop has looked, and from then on what it does. Runs until it is dropped.
    pub async fn keep(self: Arc<Self>, engine: Arc<Engine>) {
        engine.pulse.looked().await;
        let mut said = self.status(&engine).await;
        self.turn(Phase::Starting, Phase::Up, &format!("READY=1\nSTATUS={said}"));
        loop {
            tokio::time::sleep(EVERY).await;
            let now = self.status(&engine).await;
            if now != said {
                self.turn(Phase::Up, Phase::Up, &format!("STATUS={now}"));
                said = now;
            }
        }
    }

    /// The config is about to be read again.
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1_000);
        self.turn(Phase::Up, Phase::Up, &format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// It has been read, and taken or not: the daemon works on either way.
    pub fn reloaded(&self) {
        self.turn(Phase::Up, Phase::Up, "READY=1");
    }

    /// Whether the config that was read last is not in force.
    pub fn refused(&self, refused: bool) {
        self.refused.store(refused, Ordering::Relaxed);
    }

    /// What [`Supervisor::refused`] was told last.
    pub fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// From now on nothing but the end is told.
    pub fn stopping(&self) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = Phase::Stopping;
        self.tell("STOPPING=1\nSTATUS=finishing what is in flight");
    }

    async fn status(&self, engine: &Engine) -> String {
        let mut text = describe(&engine.stops().await, &engine.breakers());
        if self.is_refused() {
            text.push_str("; the config that was read last is not taken (`rebilld config show --running`)");
        }
        text
    }

    fn turn(&self, from: Phase, to: Phase, message: &str) {
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        if *phase == from {
            *phase = to;
            self.tell(message);
        }
    }

    /// A few times, because the manager waits for it.
    fn tell(&self, message: &str) {
        let mut sent = Ok(());
        for _ in 0..5 {
            sent = self.send(message);
            if sent.is_ok() {
                return;
            }
        }
        if let Err(why) = sent {
            warn!(%why, "the service manager could not be told `{}`", message.lines().next().unwrap_or_default());
        }
    }

    fn send(&self, message: &str) -> io::Result<()> {
        let Some((socket, address)) = &self.line else { return Ok(()) };
        socket.send_to_addr(message.as_bytes(), address).map(drop)
    }
}

/// A path, or `@` and a name in the kernel's own space of names.
fn connect(address: &str) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match address.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None if address.starts_with('/') => SocketAddr::from_pathname(address)?,
        None => return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is neither a path from / nor a name after @")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok((socket, address))
}

/// One line for people: what the daemon does at the moment.
fn describe(stops: &Result<Vec<(String, Option<NotBegun>)>, StoreError>, breakers: &[(String, &str)]) -> String {
    let stops = match stops {
        Ok(stops) => stops,
        Err(StoreError::Unavailable(_)) => return "waiting: the database does not answer".to_owned(),
        Err(StoreError::Corrupt(_)) => return "waiting: the database holds what cannot be read (see the log)".to_owned(),
    };
    let count = stops.len();
    let s = if count == 1 { "" } else { "s" };
    let mut stopped: Vec<(&str, &str)> =
        stops.iter().filter_map(|(name, stop)| Some((name.as_str(), word(stop.as_ref()?)))).collect();
    let all = stopped.first().map(|(_, word)| *word).filter(|word| stopped.iter().all(|(_, other)| other == word));
    if let Some(word) = all.filter(|_| stopped.len() == count) {
        return format!("{word}; {count} account{s}, nothing is sent");
    }
    for (name, word) in breakers {
        if !stopped.iter().any(|(stopped, _)| stopped == name) {
            stopped.push((name, word));
        }
    }
    let mut text = format!("charging; {count} account{s}");
    for (name, word) in stopped.iter().take(NAMED) {
        text.push_str(&format!("; {name}: {word}"));
    }
    if let Some(more) = stopped.len().checked_sub(NAMED).filter(|more| *more > 0) {
        text.push_str(&format!("; and {more} more (`rebilld hold status`)"));
    }
    text
}

fn word(stop: &NotBegun) -> &'static str {
    match stop {
        NotBegun::Killed => "kill switch on",
        NotBegun::Held => "on hold",
        NotBegun::Paused => "paused",
        NotBegun::Unarmed => "not armed",
        NotBegun::Fuse { .. } => "fuse blown",
        _ => "waiting",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stops(of: &[Option<NotBegun>]) -> Result<Vec<(String, Option<NotBegun>)>, StoreError> {
        Ok(of.iter().enumerate().map(|(n, stop)| (format!("shop-{n}"), *stop)).collect())
    }

    #[test]
    fn a_status_says_in_one_line_what_stops_whom() {
        let (held, killed) = (Some(NotBegun::Held), Some(NotBegun::Killed));
        assert_eq!(describe(&stops(&[None, None, None]), &[]), "charging; 3 accounts");
        assert_eq!(describe(&stops(&[held]), &[]), "on hold; 1 account, nothing is sent");
        assert_eq!(describe(&stops(&[held, None]), &[]), "charging; 2 accounts; shop-0: on hold");
        let breakers = [("shop-0".to_owned(), "breaker open"), ("shop-1".to_owned(), "breaker open")];
        let text = describe(&stops(&[killed, None]), &breakers);
        assert_eq!(text, "charging; 2 accounts; shop-0: kill switch on; shop-1: breaker open");
        let text = describe(&stops(&[held, held, held, held, held, killed, killed]), &[]);
        assert!(text.ends_with("shop-4: on hold; and 2 more (`rebilld hold status`)"), "{text}");
        let text = describe(&Err(StoreError::Unavailable("gone".into())), &[]);
        assert_eq!(text, "waiting: the database does not answer");
        let text = describe(&Err(StoreError::Corrupt("a fuse is `half`".into())), &[]);
        assert_eq!(text, "waiting: the database holds what cannot be read (see the log)", "and not what the row says");
    }

    #[test]
    fn without_a_manager_nothing_is_sent_and_a_bad_address_is_no_failure() {
        Supervisor::of(&Environment::default()).stopping();
        Supervisor::of(&Environment::of([("NOTIFY_SOCKET", "vsock:2:1234")])).stopping();
    }

    #[test]
    fn only_the_process_that_is_watched_heeds_the_watchdog() {
        let of = |pid: &str| {
            let variables = [("NOTIFY_SOCKET", "@nobody"), ("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", pid)];
            Supervisor::of(&Environment::of(variables)).watchdog
        };
        assert_eq!(of("1"), None);
        assert_eq!(of(&std::process::id().to_string()), Some(Duration::from_secs(30)));
    }

    #[test]
    fn a_name_in_the_kernels_own_space_is_reached_and_the_end_is_told_last() {
        let name = format!("rebilld-notify-{}", std::process::id());
        let heard = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        heard.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let next = || {
            let mut bytes = [0; 512];
            heard.recv(&mut bytes).map(|length| String::from_utf8_lossy(&bytes[..length]).into_owned()).ok()
        };
        let supervisor = Supervisor::of(&Environment::of([("NOTIFY_SOCKET", &format!("@{name}"))]));
        supervisor.reloading();
        assert_eq!(next(), None, "a daemon that is not up yet does not reload");
        supervisor.turn(Phase::Starting, Phase::Up, "READY=1");
        assert_eq!(next().as_deref(), Some("READY=1"));
        supervisor.reloading();
        assert!(next().is_some_and(|text| text.starts_with("RELOADING=1\nMONOTONIC_USEC=")));
        supervisor.reloaded();
        assert_eq!(next().as_deref(), Some("READY=1"));
        supervisor.stopping();
        assert!(next().is_some_and(|text| text.starts_with("STOPPING=1\n")));
        supervisor.reloaded();
        assert_eq!(next(), None, "nothing is ready any more");
    }
}
