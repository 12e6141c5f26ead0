//! The listening side of a link.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::{Control, Mode, SetMode, relay};
use crate::topology::Endpoint;

/// Connections at once. Edges keep pools of some dozens; each holds up to two full buffers.
const CONNECTIONS_MAX: usize = 1024;

/// Connections that wait to be accepted: what the kernel's default allows.
const BACKLOG: u32 = 1024;

/// After accepting failed, most likely for want of file descriptors: long enough to free some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub(super) struct Acceptor {
    addr: SocketAddr,
    target: Endpoint,
    control: watch::Sender<Control>,
    listener: Option<TcpListener>,
    /// Bound and never listening: keeps the port ours while the link is cut, when connecting has to be
    /// refused and the listener has to be gone.
    _reservation: TcpSocket,
}

impl Acceptor {
    pub(super) fn bind(
        listen: SocketAddr,
        target: Endpoint,
        control: watch::Sender<Control>,
    ) -> io::Result<Self> {
        if listen.port() != 0 {
            // Sockets that share a port would also share it with another process; refuse that first.
            let exclusive = socket(listen)?;
            exclusive.set_reuseaddr(true)?;
            exclusive.bind(listen)?;
            drop(exclusive.listen(1)?);
        }
        let reservation = shared_socket(listen)?;
        let addr = reservation.local_addr()?;
        let listener = Some(listener(addr)?);
        Ok(Self { addr, target, control, listener, _reservation: reservation })
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Runs until its link is dropped. Connections end with it: they are children of this task.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<SetMode>) {
        let mut connections = JoinSet::new();
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            tokio::select! {
                command = commands.recv() => {
                    let Some(SetMode { mode, done }) = command else { return };
                    // Nobody waits for the answer when the caller was cancelled.
                    let _ = done.send(self.set_mode(mode));
                }
                stream = accept(self.listener.as_ref(), &permits) => {
                    let (stream, permit) = stream;
                    let (target, control) = (self.target.clone(), self.control.subscribe());
                    // Read here: the task may first run when the next generation has already begun.
                    let born = control.borrow().generation;
                    connections.spawn(async move {
                        relay::run(stream, &target, control, born).await;
                        drop(permit);
                    });
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }

    fn set_mode(&mut self, mode: Mode) -> io::Result<()> {
        match mode {
            Mode::Cut => self.listener = None,
            Mode::Open | Mode::Paused if self.listener.is_none() => {
                self.listener = Some(listener(self.addr)?);
            }
            Mode::Open | Mode::Paused => {}
        }
        self.control.send_modify(|control| control.mode = mode);
        Ok(())
    }
}

/// The next connection; never, while there is no listener.
async fn accept(
    listener: Option<&TcpListener>,
    permits: &Arc<Semaphore>,
) -> (TcpStream, tokio::sync::OwnedSemaphorePermit) {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    let permit = permits.clone().acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            Err(error) => {
                tracing::debug!(error = %error, "link could not accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn listener(addr: SocketAddr) -> io::Result<TcpListener> {
    shared_socket(addr)?.listen(BACKLOG)
}

fn shared_socket(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = socket(addr)?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

fn socket(addr: SocketAddr) -> io::Result<TcpSocket> {
    if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }
}
