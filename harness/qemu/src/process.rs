//! The QEMU process: its start, its standard error, its end.
//!
//! QEMU ends with this process, however this process ends:
//!
//! * Dropping a [`Process`] kills and reaps the child, by its own id.
//! * The child asks the kernel for a signal when the thread that started it dies. So one thread,
//!   which lives as long as this process, starts every child. A thread of the caller may end long
//!   before the machine does.
//! * This process may die between the start and that request. So the child then checks that its
//!   parent is still the same, and exits if not. QEMU's own `exit-with-parent` comes later and does
//!   not check: alone, it would leave a QEMU behind if the parent dies in the first milliseconds.
//!   It is passed as well, for a wrapper script that starts QEMU as its child.
//!
//! The child has its own process group. So Ctrl-C on the terminal reaches this process alone, and
//! QEMU still runs while this process writes its report.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Sender, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::error::{Channel, QemuError};
use super::line::LineError;
use super::ram::Mapping;

/// The bytes of its standard error that are kept.
const KEPT: usize = 64 * 1024;

/// Takes a lock, also after a panic of its holder. A panic leaves no structure here half changed:
/// each is a whole value, or records its own failure.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) struct Process {
    path: PathBuf,
    pid: u32,
    child: Mutex<Child>,
    stderr: Arc<Tail>,
}

impl Process {
    /// Starts `command`. The child inherits the file descriptor of `ram`, if there is one, under the
    /// same number.
    pub(super) fn spawn(
        mut command: Command,
        path: &Path,
        ram: Option<Arc<Mapping>>,
    ) -> Result<Self, QemuError> {
        command.stderr(Stdio::piped()).process_group(0);
        let parent = Pid::from_raw(std::process::id().cast_signed());
        let prepare = move || -> io::Result<()> {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            if rustix::process::getppid() != parent {
                return Err(rustix::io::Errno::SRCH.into());
            }
            // Only in this child: no other child of this process inherits the descriptor.
            if let Some(ram) = &ram {
                rustix::io::fcntl_setfd(ram.fd(), rustix::io::FdFlags::empty())?;
            }
            Ok(())
        };
        // SAFETY: between fork and exec only async-signal-safe work is allowed. The closure
        // makes three system calls by rustix, which neither allocate nor lock, and
        // builds errors that hold a bare number. What it captures was made before the
        // fork; the file is kept open by the share of the mapping it owns, and nothing
        // of the mapping itself is touched.
        unsafe { command.pre_exec(prepare) };
        let mut child = start(command).and_then(|child| child).map_err(|source| {
            QemuError::Spawn { path: path.to_owned(), source: Arc::new(source) }
        })?;
        let stderr = Arc::new(Tail::default());
        let pipe = child.stderr.take();
        let process = Self {
            path: path.to_owned(),
            pid: child.id(),
            child: Mutex::new(child),
            stderr: Arc::clone(&stderr),
        };
        match pipe {
            Some(pipe) => thread::Builder::new()
                .name("qemu-stderr".to_owned())
                .spawn(move || stderr.follow(pipe))
                .map(|_| process)
                .map_err(QemuError::system("start a thread for QEMU's messages")),
            None => {
                stderr.close();
                Ok(process)
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// The exit status as text, if the process has ended.
    fn ended(&self) -> Option<String> {
        match lock(&self.child).try_wait() {
            Ok(status) => status.map(|status| status.to_string()),
            // If this process ignores `SIGCHLD`, the kernel reaps the child and keeps no status.
            Err(error) => Some(format!("its status is lost: {error}")),
        }
    }

    /// Fails if the process has ended.
    pub(super) fn check(&self, doing: &str) -> Result<(), QemuError> {
        match self.ended() {
            None => Ok(()),
            Some(status) => Err(self.obituary(doing, status)),
        }
    }

    /// Turns the failure of a channel into an error with its cause.
    pub(super) fn explain(
        &self,
        channel: Channel,
        doing: &str,
        limit: Duration,
        error: LineError,
    ) -> QemuError {
        let doing = doing.to_owned();
        let (source, ending) = match error {
            LineError::Timeout => {
                // A dead child looks silent too, if another process holds its socket.
                if let Some(status) = self.ended() {
                    return self.obituary(&doing, status);
                }
                return QemuError::Timeout { channel, doing, limit, stderr: self.stderr.text() };
            }
            LineError::Garbage(line) => {
                return QemuError::Protocol { channel, doing, line };
            }
            LineError::Closed => (io::ErrorKind::UnexpectedEof.into(), true),
            LineError::Io(source) => (source, false),
        };
        if ending && let Some(status) = self.wait(Duration::from_secs(2)) {
            return self.obituary(&doing, status);
        }
        QemuError::Channel { channel, doing, source: Arc::new(source), stderr: self.stderr.text() }
    }

    fn obituary(&self, doing: &str, status: String) -> QemuError {
        self.stderr.wait_closed(Duration::from_millis(500));
        QemuError::Exited { doing: doing.to_owned(), status, stderr: self.stderr.text() }
    }

    /// How the process ended, with its last words, if it ends within `limit`.
    pub(super) fn ending(&self, limit: Duration) -> Option<(String, String)> {
        let status = self.wait(limit)?;
        self.stderr.wait_closed(Duration::from_millis(500));
        Some((status, self.stderr.text()))
    }

    fn wait(&self, limit: Duration) -> Option<String> {
        let deadline = Instant::now() + limit;
        let mut pause = Duration::from_micros(100);
        loop {
            let status = self.ended();
            if status.is_some() || Instant::now() >= deadline {
                return status;
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }

    pub(super) fn kill(&self) {
        if self.ended().is_some() {
            return;
        }
        // Kill the group, because a wrapper script may have QEMU as its child. The child is not
        // reaped yet, so the number still belongs to it.
        if let Some(group) = Pid::from_raw(self.pid.cast_signed()) {
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
        let _ = lock(&self.child).kill();
        // The kernel may be unable to end the process, if a device holds it. Then leave it to the
        // kernel: a wait here would hang.
        self.wait(Duration::from_secs(5));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The end of a process's standard error. A thread of its own fills it.
#[derive(Default)]
struct Tail {
    state: Mutex<TailState>,
    closed: Condvar,
}

#[derive(Default)]
struct TailState {
    bytes: VecDeque<u8>,
    closed: bool,
}

impl Tail {
    fn follow(&self, mut pipe: impl Read) {
        let mut chunk = [0; 4096];
        loop {
            match pipe.read(&mut chunk) {
                Ok(0) => break,
                Ok(n) => {
                    let mut state = lock(&self.state);
                    state.bytes.extend(&chunk[..n]);
                    let excess = state.bytes.len().saturating_sub(KEPT);
                    state.bytes.drain(..excess);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        self.close();
    }

    fn close(&self) {
        lock(&self.state).closed = true;
        self.closed.notify_all();
    }

    fn wait_closed(&self, limit: Duration) {
        let state = lock(&self.state);
        let _ = self.closed.wait_timeout_while(state, limit, |s| !s.closed);
    }

    fn text(&self) -> String {
        let state = lock(&self.state);
        let (a, b) = state.bytes.as_slices();
        String::from_utf8_lossy(&[a, b].concat()).into_owned()
    }
}

struct Job {
    command: Command,
    done: SyncSender<io::Result<Child>>,
}

/// Starts a process from the thread that lives as long as this process.
fn start(command: Command) -> io::Result<io::Result<Child>> {
    static STARTER: Mutex<Option<Sender<Job>>> = Mutex::new(None);
    let gone = |_| io::Error::other("the thread that starts processes is gone");
    let (done, answer) = mpsc::sync_channel(1);
    let mut starter = lock(&STARTER);
    let jobs = match &*starter {
        Some(jobs) => jobs.clone(),
        None => {
            let (jobs, inbox) = mpsc::channel::<Job>();
            thread::Builder::new().name("qemu-starter".to_owned()).spawn(move || {
                for mut job in inbox {
                    let child = job.command.spawn();
                    // Closes this process's copies of the child's ends before a read.
                    drop(job.command);
                    let _ = job.done.send(child);
                }
            })?;
            starter.insert(jobs).clone()
        }
    };
    drop(starter);
    jobs.send(Job { command, done })
        .map_err(|_| io::Error::other("the thread that starts processes is gone"))?;
    answer.recv().map_err(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_words_are_kept() {
        let tail = Tail::default();
        let mut text = vec![b'a'; 3 * KEPT];
        text.extend_from_slice(b"the end");
        tail.follow(&text[..]);
        assert_eq!(tail.text().len(), KEPT);
        assert!(tail.text().ends_with("the end"));
        tail.wait_closed(Duration::from_secs(5));
    }
}
