//! A wire between a client and a server that can fall silent, as when a machine is gone: nothing is answered and nothing closed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

// Each test file uses some of this. Naming it here keeps the compiler's unused-code lint on without an exception.
const _: () = {
    let _ = (Wire::falls_silent, Wire::falls_silent_for_good, Wire::connections);
};

/// Carries connections to a server, each of them until it is told to lose their answers.
pub struct Wire {
    pub address: SocketAddr,
    current: Arc<Silence>,
    _carrying: JoinSet<()>,
}

#[derive(Default)]
struct Silence {
    /// Connections before this number are dead.
    dead_below: AtomicUsize,
    made: AtomicUsize,
    /// Requests still arrive, answers do not.
    one_way: AtomicBool,
}

impl Silence {
    fn is_dead(&self, connection: usize) -> bool {
        connection < self.dead_below.load(Ordering::SeqCst)
    }
}

impl Wire {
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let current = Arc::new(Silence::default());
        let mut carrying = JoinSet::new();
        carrying.spawn({
            let current = Arc::clone(&current);
            async move {
                let mut connections = JoinSet::new();
                while let Ok((client, _)) = listener.accept().await {
                    let number = current.made.fetch_add(1, Ordering::SeqCst);
                    connections.spawn(carry(client, server, number, Arc::clone(&current)));
                }
            }
        });
        Self { address, current, _carrying: carrying }
    }

    /// Connections that were made so far are dead from now on; new ones work. With `one_way` the server still hears what is said on
    /// the dead ones.
    pub fn falls_silent(&self, one_way: bool) {
        self.current.one_way.store(one_way, Ordering::SeqCst);
        self.current.dead_below.store(self.current.made.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// The same of those that are still to come.
    pub fn falls_silent_for_good(&self) {
        self.current.one_way.store(false, Ordering::SeqCst);
        self.current.dead_below.store(usize::MAX, Ordering::SeqCst);
    }

    /// How many connections were made so far.
    pub fn connections(&self) -> usize {
        self.current.made.load(Ordering::SeqCst)
    }
}

async fn carry(client: TcpStream, server: SocketAddr, number: usize, current: Arc<Silence>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let asks = async {
        let mut buffer = [0; 8192];
        while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
            let lost = current.is_dead(number) && !current.one_way.load(Ordering::SeqCst);
            if !lost && to_server.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
        let _ = to_server.shutdown().await;
    };
    let answers = async {
        let mut buffer = [0; 8192];
        while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
            if !current.is_dead(number) && to_client.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
        if !current.is_dead(number) {
            let _ = to_client.shutdown().await;
        }
    };
    tokio::join!(asks, answers);
}
