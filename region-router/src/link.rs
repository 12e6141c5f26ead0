//! A TCP relay that is as slow as the network between two regions, and breaks on request.
//!
//! Every byte is held for half the round trip in each direction. Bytes are stamped when they are read and
//! released when their time has come, so a link costs delay and not throughput, and the order of a stream
//! stays. A new connection costs one round trip more, for the handshake that a real one would take.
//!
//! The local fleet puts its regions apart with it; tests cut it.

mod acceptor;
mod relay;
#[cfg(test)]
mod tests;
mod timer;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use crate::topology::Endpoint;

/// What the link does with bytes and with new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Passes them.
    Open,
    /// Takes them and passes nothing.
    Paused,
    /// Refuses new connections; there are no others.
    Cut,
}

/// What a connection has to know of its link.
#[derive(Clone, Copy, Debug)]
struct Control {
    mode: Mode,
    rtt: Duration,
    /// Connections of an earlier generation have to end.
    generation: u64,
}

/// A command to the task that owns the listening socket, answered when it has taken effect.
struct SetMode {
    mode: Mode,
    done: oneshot::Sender<io::Result<()>>,
}

/// A running relay; it ends, with all its connections, when this is dropped.
#[derive(Debug)]
pub struct Link {
    addr: SocketAddr,
    control: watch::Sender<Control>,
    modes: mpsc::Sender<SetMode>,
    task: AbortHandle,
}

impl Link {
    /// Listens on `listen` (port 0 takes any) and relays to `target`, which has to answer only once
    /// somebody connects. `rtt` is the round trip that a caller sees.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(listen: SocketAddr, target: impl Into<Endpoint>, rtt: Duration) -> io::Result<Self> {
        let (control, _) = watch::channel(Control { mode: Mode::Open, rtt, generation: 0 });
        // One command at a time: each waits for its answer.
        let (modes, commands) = mpsc::channel(1);
        let acceptor = acceptor::Acceptor::bind(listen, target.into(), control.clone())?;
        let addr = acceptor.addr();
        let task = tokio::spawn(acceptor.run(commands)).abort_handle();
        Ok(Self { addr, control, modes, task })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Changes the round trip, for bytes that arrive from now on.
    pub fn set_rtt(&self, rtt: Duration) {
        self.control.send_modify(|control| control.rtt = rtt);
    }

    /// Drops every connection, with the bytes in flight, and refuses new ones: the peer is gone.
    /// In force when it returns.
    pub async fn cut(&self) {
        self.set_mode(Mode::Cut).await.expect("only listening can fail, and cutting does not");
        self.close_connections();
    }

    /// Holds every byte and takes new connections without an answer: the peer is silent.
    /// In force when it returns.
    ///
    /// # Errors
    /// When the link was cut and its address cannot be listened on again.
    pub async fn pause(&self) -> io::Result<()> {
        self.set_mode(Mode::Paused).await
    }

    /// Passes bytes again; what a pause has held is delivered. In force when it returns.
    ///
    /// # Errors
    /// When the link was cut and its address cannot be listened on again.
    pub async fn restore(&self) -> io::Result<()> {
        self.set_mode(Mode::Open).await
    }

    /// Drops every connection, with the bytes in flight; new ones are welcome.
    pub fn close_connections(&self) {
        self.control.send_modify(|control| control.generation += 1);
    }

    async fn set_mode(&self, mode: Mode) -> io::Result<()> {
        let (done, answer) = oneshot::channel();
        let gone = || io::Error::other("the link's runtime has ended");
        self.modes.send(SetMode { mode, done }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}
