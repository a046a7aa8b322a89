//! Connections that a handler can cut: before the first byte of an answer, in the middle of its body, by FIN or by RST.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// Where the bytes of an answer stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// After that many bytes, head included, as an orderly close.
    Close(u64),
    /// After that many bytes of the body, as an orderly close.
    CloseInBody(u64),
    /// Before the first byte, as a reset.
    Reset,
}

/// The handler's hold on the connection that its request came in on.
#[derive(Debug, Clone, Default)]
pub(super) struct Switch(Arc<Mutex<Option<Cut>>>);

impl Switch {
    /// Whatever is answered from now on goes only as far as `cut`, and the connection ends there.
    pub fn cut(&self, cut: Cut) {
        *self.lock() = Some(cut);
    }

    /// A cut that lies behind the end of its answer must not reach into the next one.
    pub fn reset(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Cut>> {
        self.0.lock().unwrap_or_else(|broken| broken.into_inner())
    }
}

/// A TCP listener whose connections have a [`Switch`].
pub(super) struct Gate(pub TcpListener);

/// One connection.
pub(super) struct Wire {
    stream: TcpStream,
    switch: Switch,
    /// How much of `\r\n\r\n` the end of the bytes written so far is.
    head_end: usize,
}

impl Listener for Gate {
    type Io = Wire;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Wire, SocketAddr) {
        let (stream, peer) = Listener::accept(&mut self.0).await;
        // an answer must not wait for the acknowledgement of the one before
        let _ = stream.set_nodelay(true);
        (Wire { stream, switch: Switch::default(), head_end: 0 }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl Connected<IncomingStream<'_, Gate>> for Switch {
    fn connect_info(incoming: IncomingStream<'_, Gate>) -> Self {
        incoming.io().switch.clone()
    }
}

impl Wire {
    /// How many of these bytes may be written, and where the rest of the cut is.
    fn allowed(&mut self, bytes: &[u8], cut: Cut) -> u64 {
        match cut {
            Cut::Reset => 0,
            Cut::Close(left) => left,
            Cut::CloseInBody(left) => {
                for (index, byte) in bytes.iter().enumerate() {
                    self.head_end = match (self.head_end, byte) {
                        (0 | 2, b'\r') | (1 | 3, b'\n') => self.head_end + 1,
                        (_, b'\r') => 1,
                        _ => 0,
                    };
                    if self.head_end == 4 {
                        self.head_end = 0;
                        let allowed = index as u64 + 1 + left;
                        self.switch.cut(Cut::Close(allowed));
                        return allowed;
                    }
                }
                u64::MAX
            }
        }
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the sandbox ends this connection here")
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let cut = *self.switch.lock();
        let Some(cut) = cut else { return Pin::new(&mut self.stream).poll_write(cx, buf) };
        let allowed = usize::try_from(self.allowed(buf, cut)).unwrap_or(usize::MAX).min(buf.len());
        if allowed == 0 {
            if cut == Cut::Reset {
                let _ = self.stream.set_zero_linger();
            }
            return Poll::Ready(Err(ended()));
        }
        let written = std::task::ready!(Pin::new(&mut self.stream).poll_write(cx, &buf[..allowed]))?;
        let mut left = self.switch.lock();
        if let Some(Cut::Close(bytes)) = &mut *left {
            *bytes = bytes.saturating_sub(written as u64);
        }
        drop(left);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
