//! The sockets of the name server: datagrams, and connections that are few and short.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_server::net::xfer::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Config;
use super::answer::Answers;
use super::message::{respond, without_records};
use super::rate::{Rates, Verdict};
use crate::admission::Shares;

/// Connections at once; more wait to be accepted. Only long answers come by TCP, and there are few.
const CONNECTIONS_MAX: usize = 128;

/// Connections of one address at once: a resolver needs one, and some are opened before others have closed.
const CONNECTIONS_PER_ADDRESS_MAX: usize = 8;

/// For a question to arrive on a connection, for its answer to be taken, and so the longest that it is idle.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(5);

/// The largest question by datagram: as large as answers may be; questions are far smaller.
const QUESTION_BYTES_MAX: usize = 4096;

/// After a socket failed, most likely for want of file descriptors or memory: long enough to free some.
const FAILURE_PAUSE: Duration = Duration::from_millis(50);

/// The two sockets of one address.
#[derive(Debug)]
pub struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Sockets {
    /// Binds both, at the same port.
    ///
    /// # Errors
    /// When one cannot be bound.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let tcp = TcpListener::bind(address).await?;
        let udp = UdpSocket::bind(tcp.local_addr()?).await?;
        Ok(Self { udp, tcp })
    }

    /// Where they listen.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// Answers until `shutdown` completes.
pub async fn run(sockets: Sockets, config: Config, shutdown: impl Future<Output = ()>) {
    let own = sockets.addr().ok().map(|own| own.ip()).filter(|own: &IpAddr| !own.is_unspecified());
    let answers = Arc::new(Answers::new(&config, own));
    tokio::select! {
        () = serve_datagrams(&sockets.udp, &answers) => {}
        () = serve_connections(&sockets.tcp, &answers) => {}
        () = shutdown => {}
    }
}

/// One after the other: an answer takes some microseconds and waits for nothing.
async fn serve_datagrams(socket: &UdpSocket, answers: &Answers) {
    let mut buffer = vec![0; QUESTION_BYTES_MAX];
    let mut rates = Rates::new();
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((len, from)) => {
                let answer = respond(answers, &buffer[..len], from, Protocol::Udp);
                let answer = answer.and_then(|answer| match rates.count(from.ip(), Instant::now()) {
                    Verdict::Send => Some(answer),
                    Verdict::Slip => without_records(&answer),
                    Verdict::Drop => None,
                });
                if let Some(answer) = answer {
                    // Nobody waits for it at an address that cannot be sent to.
                    let _ = socket.send_to(&answer, from).await;
                }
            }
            Err(error) => {
                tracing::debug!(error = %error, "could not receive a datagram");
                tokio::time::sleep(FAILURE_PAUSE).await;
            }
        }
    }
}

async fn serve_connections(listener: &TcpListener, answers: &Arc<Answers>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let shares = Shares::new(CONNECTIONS_PER_ADDRESS_MAX);
    let mut connections = JoinSet::new();
    loop {
        let slot = slots.clone().acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, from)) => {
                // An address that has its share is not waited for.
                let Some(share) = shares.take(from.ip()) else { continue };
                let answers = answers.clone();
                connections.spawn(async move {
                    let ended = serve_connection(stream, from, &answers).await;
                    tracing::trace!(client.address = %from, ended = ?ended, "connection ended");
                    drop((slot, share));
                });
            }
            Err(error) => {
                tracing::warn!(error = %error, "could not accept a connection");
                tokio::time::sleep(FAILURE_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Question after question, each with its length before it (RFC 1035 §4.2.2), until one is late or is none.
async fn serve_connection(mut stream: TcpStream, from: SocketAddr, answers: &Answers) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let question = tokio::time::timeout(CONNECTION_DEADLINE, read_message(&mut stream)).await??;
        let Some(answer) = respond(answers, &question, from, Protocol::Tcp) else {
            return Ok(());
        };
        let len = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let framed = [&len.to_be_bytes()[..], &answer].concat();
        tokio::time::timeout(CONNECTION_DEADLINE, stream.write_all(&framed)).await??;
    }
}

async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let len = stream.read_u16().await?;
    let mut message = vec![0; len.into()];
    stream.read_exact(&mut message).await?;
    Ok(message)
}
