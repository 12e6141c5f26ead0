use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::time::timeout;

use crate::{eventually, repository};

/// How long one look at a server that starts may take.
const LOOK_PATIENCE: Duration = Duration::from_secs(1);

/// Whether a server at an address can be asked.
pub(crate) type Ready = fn(SocketAddr) -> BoxFuture<'static, bool>;

/// A server of its own, started by its script in `deploy/servers/`, at one address for as long as this is there.
/// Killed when this is dropped, and when this process is.
#[derive(Debug)]
pub struct Server {
    script: PathBuf,
    directory: PathBuf,
    address: SocketAddr,
    options: Vec<String>,
    ready: Ready,
    child: Mutex<Option<Child>>,
}

impl Server {
    /// A server that does not run yet, with everything it keeps in a directory, and options of its own.
    pub(crate) fn new(script: &str, directory: &Path, port: u16, options: Vec<String>, ready: Ready) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            script: script_path(script),
            directory: directory.to_owned(),
            address,
            options,
            ready,
            child: Mutex::new(None),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts it, and waits until it is ready.
    pub(crate) async fn start(&self) {
        let mut command = kept_command(&self.script);
        command.arg(&self.directory).arg(self.address.port().to_string()).args(&self.options);
        let log = File::create(self.log()).expect("the server's directory can be written to");
        command.stderr(log.try_clone().expect("a file can be shared")).stdout(log);
        let child =
            spawn(command).unwrap_or_else(|error| panic!("{} does not run: {error}", self.script.display()));
        assert!(self.child().replace(child).is_none(), "it does not run twice");
        eventually(&format!("{} is ready", self.script.display()), async || {
            if let Some(status) = self.ended() {
                self.complain(status);
            }
            // One that took the connection before it was ready may never say a word on it.
            timeout(LOOK_PATIENCE, (self.ready)(self.address)).await.unwrap_or(false)
        })
        .await;
    }

    /// Starts it at its old address on what it has stored, after ending it when it runs, and waits until it is
    /// ready.
    pub async fn restart(&self) {
        if self.child().is_some() {
            self.stop().await;
        }
        self.start().await;
    }

    /// Ends it as an administrator would, and waits until it has.
    pub async fn stop(&self) {
        self.signal(Signal::TERM);
        eventually(&format!("{} has ended", self.script.display()), async || self.ended().is_some()).await;
        self.reap();
    }

    /// Ends it as a power cut would.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
        self.reap();
    }

    /// From now on it does nothing, with all its connections open.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after a pause.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let group = self.group().expect("the server runs");
        kill_process_group(group, signal).expect("a server of this user can be signalled");
    }

    fn group(&self) -> Option<Pid> {
        let id = self.child().as_ref().map(Child::id)?;
        i32::try_from(id).ok().and_then(Pid::from_raw)
    }

    fn ended(&self) -> Option<ExitStatus> {
        self.child().as_mut().and_then(|child| child.try_wait().expect("a child can be waited for"))
    }

    fn reap(&self) {
        if let Some(mut child) = self.child().take() {
            child.wait().expect("a child can be waited for");
        }
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        // A test that panics while it holds this still has a server to end.
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> PathBuf {
        // Members of a group share a directory.
        self.directory.join(format!("log-{}", self.address.port()))
    }

    fn complain(&self, status: ExitStatus) -> ! {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        panic!(
            "{} has ended with {status}; tests/run installs the servers that are missing. It said:\n{log}",
            self.script.display()
        );
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(group) = self.group() {
            // Mostly it is still there; a test may have ended it.
            let _ = kill_process_group(group, Signal::KILL);
        }
        self.reap();
    }
}

/// Runs a server's script to its end, such as for what a server begins with.
pub(crate) async fn run_script(script: &str, arguments: &[&Path]) {
    let mut command = kept_command(&script_path(script));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = tokio::task::spawn_blocking(move || spawn(command).and_then(Child::wait_with_output));
    let output = output.await.expect("waiting does not panic").expect("the script can be run");
    assert!(
        output.status.success(),
        "{script} has failed with {}; tests/run installs the servers that are missing. It said:\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

fn script_path(script: &str) -> PathBuf {
    repository().join("deploy/servers").join(script)
}

/// A command in a process group of its own, that is killed when the thread that starts it ends.
fn kept_command(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).stdin(Stdio::null()).process_group(0);
    command
}

/// Starts a command from a thread that lives as long as this process. Linux kills a child when the very thread
/// that started it is gone, and that of a test is gone before the server that many tests share.
fn spawn(command: Command) -> io::Result<Child> {
    type Order = (Command, Sender<io::Result<Child>>);
    static STARTER: LazyLock<Mutex<Sender<Order>>> = LazyLock::new(|| {
        let (orders, taken) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in taken {
                // Whoever asked waits.
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let (answer, child) = channel();
    STARTER.lock().expect("sending does not panic").send((command, answer)).expect("the thread lives");
    child.recv().expect("the thread answers")
}
