//! Messages to the server leave at once.
//!
//! The driver leaves Nagle's algorithm on (sqlx 0.9.0, mended upstream in #4336 and not released), and has no way to
//! reach its socket. The last part of every message that is not sent in one piece, such as the statements of several
//! writes, then waits for the server to acknowledge the first, which the server puts off by 40 ms, since it waits for
//! the last part. With the next release of the driver this file goes.

use std::fs;
use std::io;
use std::net::SocketAddr;

use rustix::net::{getpeername, sockopt};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// Turns Nagle's algorithm off for every connection of this process to such a port. Connections are few and last, so
/// that looking through all open files for them, when there is a new one, costs little.
pub(super) fn send_at_once(port: u16) -> io::Result<()> {
    let this_process = pidfd_open(getpid(), PidfdFlags::empty())?;
    for file in fs::read_dir("/proc/self/fd")? {
        let file = file?;
        let is_socket =
            fs::read_link(file.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"));
        let Some(number) = file.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if !is_socket {
            continue;
        }
        // A second name for the same socket. It may be closed, or another one, by now: then it is not for us.
        let Ok(socket) = pidfd_getfd(&this_process, number, PidfdGetfdFlags::empty()) else { continue };
        let peer = getpeername(&socket).ok().flatten().and_then(|peer| SocketAddr::try_from(peer).ok());
        if peer.is_some_and(|peer| peer.port() == port) {
            sockopt::set_tcp_nodelay(&socket, true)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn connections_to_the_port_send_at_once_and_others_do_not() {
        let listeners: Vec<TcpListener> =
            (0..2).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let [ours, other] = [0, 1].map(|at: usize| {
            TcpStream::connect(listeners[at].local_addr().expect("an address")).expect("a connection")
        });
        send_at_once(ours.peer_addr().expect("a peer").port()).expect("this system has what it takes");
        assert!(ours.nodelay().expect("an answer"));
        assert!(!other.nodelay().expect("an answer"));
    }
}
