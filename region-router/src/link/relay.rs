//! One connection through a link.

use std::io;
use std::time::Instant;

use super::{Control, Mode, timer};
use crate::topology::Endpoint;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};

/// One read. Larger ones would only make the buffer of a direction larger.
const CHUNK_BYTES_MAX: usize = 16 * 1024;

/// Chunks in flight in one direction, 4 MiB at most: at 50 ms each way that passes 80 MB/s, and 5000
/// small messages a second on one connection, before the link itself slows anybody down.
const CHUNKS_MAX: usize = 256;

/// A part of a stream and when it arrives at the other end. No bytes: the end of the stream.
struct Chunk {
    due: Instant,
    bytes: Bytes,
}

/// Relays until both directions have ended, either has failed, or the link's generation is past `born`.
pub(super) async fn run(
    client: TcpStream,
    target: &Endpoint,
    mut control: watch::Receiver<Control>,
    born: u64,
) {
    let relayed = relay(client, target, control.clone());
    tokio::select! {
        result = relayed => if let Err(error) = result {
            tracing::debug!(link.target = %target, error = %error, "link connection ended");
        },
        _ = control.wait_for(|control| control.generation != born) => {}
    }
}

async fn relay(client: TcpStream, target: &Endpoint, control: watch::Receiver<Control>) -> io::Result<()> {
    // The caller's handshake was with us and took no time; the one it stands for takes a round trip.
    let connected_at = Instant::now() + control.borrow().rtt;
    wait_until_open(&mut control.clone()).await;
    let server = TcpStream::connect(target.as_str()).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    tokio::try_join!(
        pass(client_read, server_write, connected_at, control.clone()),
        pass(server_read, client_write, connected_at, control),
    )?;
    Ok(())
}

/// One direction: stamps chunks as they are read and writes them when they are due.
async fn pass(
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    connected_at: Instant,
    control: watch::Receiver<Control>,
) -> io::Result<()> {
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    tokio::try_join!(read(from, sender, connected_at, control.clone()), write(to, receiver, control))?;
    Ok(())
}

async fn read(
    mut from: OwnedReadHalf,
    chunks: mpsc::Sender<Chunk>,
    connected_at: Instant,
    control: watch::Receiver<Control>,
) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK_BYTES_MAX);
        let count = (&mut from).take(CHUNK_BYTES_MAX as u64).read_buf(&mut buffer).await?;
        let due = Instant::now().max(connected_at) + control.borrow().rtt / 2;
        // The writer is gone when the other side is; its own error says why.
        if chunks.send(Chunk { due, bytes: buffer.split().freeze() }).await.is_err() || count == 0 {
            return Ok(());
        }
    }
}

async fn write(
    mut to: OwnedWriteHalf,
    mut chunks: mpsc::Receiver<Chunk>,
    mut control: watch::Receiver<Control>,
) -> io::Result<()> {
    while let Some(Chunk { due, bytes }) = chunks.recv().await {
        // In order even when the round trip has become shorter meanwhile: a chunk waits for those before.
        timer::sleep_until(due).await;
        wait_until_open(&mut control).await;
        if bytes.is_empty() {
            to.shutdown().await?;
        } else {
            to.write_all(&bytes).await?;
        }
    }
    Ok(())
}

async fn wait_until_open(control: &mut watch::Receiver<Control>) {
    if control.wait_for(|control| control.mode == Mode::Open).await.is_err() {
        // The link is gone, and this connection is about to be.
        std::future::pending::<()>().await;
    }
}
