//! Lines over a UART, bounded in length and in time.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

/// The longest line that a target prints: the report of a long scenario.
const LONGEST: usize = 4 << 20;
/// A line is complete within so many silences, so that bytes that trickle in end too.
const SILENCES: u32 = 10;
/// What an error shows of a wrong line.
const SHOWN: usize = 200;

/// Why there is no line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LinkError {
    /// The other end is closed.
    Closed,
    /// No byte came in time.
    Silent,
    /// The line is endless, or is no text.
    NoLine(String),
    /// The system's error.
    System(String),
}

type Chunk = io::Result<Vec<u8>>;

/// What an empty read means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EmptyRead {
    Closed,
    NoDataYet,
}

/// A UART. A thread reads it, so that a wait for a line is bounded.
pub(super) struct Link {
    out: Box<dyn Write + Send>,
    chunks: Receiver<Chunk>,
    buffer: Vec<u8>,
    // Bytes of the buffer without a line end.
    searched: usize,
    dropped: Arc<AtomicBool>,
    socket: Option<UnixStream>,
}

impl Link {
    /// The UART of a program in a process.
    pub(super) fn socket(socket: UnixStream) -> io::Result<Self> {
        // A target that does not read would block a write for ever.
        socket.set_write_timeout(Some(Duration::from_secs(10)))?;
        let (input, out) = (socket.try_clone()?, socket.try_clone()?);
        let mut link = Self::start(input, Box::new(out), EmptyRead::Closed)?;
        link.socket = Some(socket);
        Ok(link)
    }

    /// A serial device.
    pub(super) fn device(device: File) -> io::Result<Self> {
        let input = device.try_clone()?;
        Self::start(input, Box::new(device), EmptyRead::NoDataYet)
    }

    fn start(
        input: impl Read + Send + 'static,
        out: Box<dyn Write + Send>,
        empty: EmptyRead,
    ) -> io::Result<Self> {
        let (sender, chunks) = sync_channel(64);
        let dropped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&dropped);
        thread::Builder::new()
            .name("uart".to_owned())
            .spawn(move || follow(input, &sender, empty, &stop))?;
        Ok(Link { out, chunks, buffer: Vec::new(), searched: 0, dropped, socket: None })
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        let sent = self.out.write_all(bytes).and_then(|()| self.out.flush());
        sent.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => LinkError::Closed,
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => LinkError::Silent,
            _ => LinkError::System(error.to_string()),
        })
    }

    /// The next line, without its end. `silence` is the longest time without a byte.
    pub(super) fn line(&mut self, silence: Duration) -> Result<String, LinkError> {
        let deadline = std::time::Instant::now() + silence * SILENCES;
        loop {
            let rest = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=self.searched + at).collect();
                self.searched = 0;
                let text = String::from_utf8(line).map_err(|e| no_line(e.as_bytes()))?;
                return Ok(text.trim_end().to_owned());
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > LONGEST {
                let error = no_line(&self.buffer);
                self.buffer.clear();
                self.searched = 0;
                return Err(error);
            }
            if std::time::Instant::now() > deadline {
                return Err(LinkError::Silent);
            }
            match self.chunks.recv_timeout(silence) {
                Ok(Ok(chunk)) => self.buffer.extend_from_slice(&chunk),
                Ok(Err(error)) => return Err(LinkError::System(error.to_string())),
                Err(RecvTimeoutError::Timeout) => return Err(LinkError::Silent),
                Err(RecvTimeoutError::Disconnected) => return Err(LinkError::Closed),
            }
        }
    }

    /// What has come of a line that is not complete.
    pub(super) fn rest(&self) -> Option<String> {
        (!self.buffer.is_empty()).then(|| excerpt(&self.buffer))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::Relaxed);
        if let Some(socket) = &self.socket {
            // Ends the thread's read.
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn follow(mut input: impl Read, chunks: &SyncSender<Chunk>, empty: EmptyRead, stop: &AtomicBool) {
    let mut chunk = vec![0; 4096];
    while !stop.load(Ordering::Relaxed) {
        let sent = match input.read(&mut chunk) {
            Ok(0) if empty == EmptyRead::NoDataYet => continue,
            Ok(0) => return,
            Ok(n) => chunks.send(Ok(chunk.get(..n).unwrap_or_default().to_vec())),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // As a program that ended leaves its socket.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return,
            Err(error) => {
                let _ = chunks.send(Err(error));
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

fn no_line(bytes: &[u8]) -> LinkError {
    LinkError::NoLine(excerpt(bytes))
}

/// The start of what came, for an error.
pub(super) fn excerpt(bytes: &[u8]) -> String {
    let shown = bytes.get(..SHOWN).unwrap_or(bytes);
    let more = if bytes.len() > SHOWN { "..." } else { "" };
    format!("{}{more}", String::from_utf8_lossy(shown).escape_debug())
}
