use std::fs;
use std::io;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};

/// A child in a process group of its own. Whatever is left of the group is killed when this is dropped.
#[derive(Debug)]
pub struct GroupedChild {
    child: Child,
    group: Pid,
}

impl GroupedChild {
    /// Starts a command; its output can be taken from [`child`](Self::child).
    pub fn start(mut command: Command) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self::start_group(command)
    }

    /// Starts a command; its input and output can be taken from [`child`](Self::child).
    pub fn start_dialogue(mut command: Command) -> io::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Self::start_group(command)
    }

    fn start_group(mut command: Command) -> io::Result<Self> {
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let group = id.ok_or_else(|| io::Error::other("the child was gone before it began"))?;
        Ok(Self { child, group })
    }

    /// The child itself.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Asks the child, and nobody else in its group, to end.
    pub fn terminate(&self) -> io::Result<()> {
        Ok(kill_process(self.group, Signal::TERM)?)
    }
}

impl Drop for GroupedChild {
    fn drop(&mut self) {
        // Mostly there is nobody left to kill.
        let _ = kill_process_group(self.group, Signal::KILL);
    }
}

/// The command lines of living processes that have this variable, given to one child and inherited by whatever
/// it started, in their environment.
pub fn marked_processes(name: &str, value: &str) -> Vec<String> {
    let mark = format!("{name}={value}");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()) {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found.push(String::from_utf8_lossy(&line).replace('\0', " "));
        }
    }
    found
}
