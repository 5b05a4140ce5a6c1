//! Lines over a socket, bounded in length and in time.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Why no line was read.
#[derive(Debug)]
pub(super) enum LineError {
    /// The peer closed the socket.
    Closed,
    /// The deadline has passed.
    Timeout,
    /// The line is too long for a reply, or is not UTF-8.
    Garbage(String),
    /// The system's error.
    Io(io::Error),
}

pub(super) struct LineChannel {
    stream: UnixStream,
    buffer: Vec<u8>,
    /// The bytes of `buffer` before this index are already returned.
    consumed: usize,
    longest: usize,
    timeout: Duration,
    /// Whether the stream's time-out is shortened, for the rest of a late line.
    shortened: bool,
}

impl LineChannel {
    pub(super) fn new(stream: UnixStream, longest: usize, timeout: Duration) -> io::Result<Self> {
        let mut channel = Self {
            stream,
            buffer: Vec::with_capacity(4096),
            consumed: 0,
            longest,
            timeout,
            shortened: false,
        };
        channel.set_timeout(timeout)?;
        Ok(channel)
    }

    pub(super) fn set_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        // Zero would mean no limit to the system.
        let timeout = timeout.max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(timeout))?;
        self.stream.set_write_timeout(Some(timeout))?;
        self.timeout = timeout;
        self.shortened = false;
        Ok(())
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), LineError> {
        self.stream.write_all(bytes).map_err(from_io)
    }

    /// Returns the next line without its end. The line must be complete at `deadline`.
    pub(super) fn line(&mut self, deadline: Instant) -> Result<&str, LineError> {
        let mut searched = self.consumed;
        let mut first = true;
        let end = loop {
            if let Some(i) = self.buffer[searched..].iter().position(|b| *b == b'\n') {
                break searched + i;
            }
            if self.buffer.len() - self.consumed > self.longest {
                return Err(LineError::Garbage(excerpt(&self.buffer[self.consumed..])));
            }
            self.buffer.drain(..self.consumed);
            self.consumed = 0;
            searched = self.buffer.len();
            self.fill(deadline, first)?;
            first = false;
        };
        let line = self.consumed..end;
        self.consumed = end + 1;
        let bytes = &self.buffer[line];
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.trim_end_matches('\r')),
            Err(_) => Err(LineError::Garbage(excerpt(bytes))),
        }
    }

    fn fill(&mut self, deadline: Instant, first: bool) -> Result<(), LineError> {
        // Nearly every reply comes in one read, which the standing time-out covers. A reply in
        // pieces costs one more system call a piece, to hold the deadline.
        if !first {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(LineError::Timeout);
            }
            let left = left.max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left)).map_err(from_io)?;
            self.shortened = true;
        } else if self.shortened {
            let whole = Some(self.timeout);
            self.stream.set_read_timeout(whole).map_err(from_io)?;
            self.shortened = false;
        }
        let mut chunk = [0; 4096];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(LineError::Closed),
                Ok(n) => {
                    self.buffer.extend_from_slice(&chunk[..n]);
                    return Ok(());
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {
                    if Instant::now() >= deadline {
                        return Err(LineError::Timeout);
                    }
                }
                Err(e) => return Err(from_io(e)),
            }
        }
    }
}

fn from_io(error: io::Error) -> LineError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => LineError::Timeout,
        io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted => LineError::Closed,
        _ => LineError::Io(error),
    }
}

/// The start of a reply, for an error.
pub(super) fn excerpt(bytes: &[u8]) -> String {
    const SHOWN: usize = 200;
    let mut text = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN)]).into_owned();
    if bytes.len() > SHOWN {
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(5);

    fn pair(longest: usize, timeout: Duration) -> (LineChannel, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (LineChannel::new(ours, longest, timeout).unwrap(), theirs)
    }

    fn soon() -> Instant {
        Instant::now() + LONG
    }

    #[test]
    fn lines_come_one_by_one() {
        let (mut channel, mut peer) = pair(100, LONG);
        peer.write_all(b"one\r\ntwo\nthr").unwrap();
        assert_eq!(channel.line(soon()).unwrap(), "one");
        assert_eq!(channel.line(soon()).unwrap(), "two");
        peer.write_all(b"ee\n").unwrap();
        assert_eq!(channel.line(soon()).unwrap(), "three");
        drop(peer);
        assert!(matches!(channel.line(soon()), Err(LineError::Closed)));
    }

    #[test]
    fn an_endless_line_is_refused() {
        let (mut channel, mut peer) = pair(100, LONG);
        peer.write_all(&[b'x'; 300]).unwrap();
        assert!(matches!(channel.line(soon()), Err(LineError::Garbage(_))));
    }

    #[test]
    fn no_text_is_refused() {
        let (mut channel, mut peer) = pair(100, LONG);
        peer.write_all(b"\xff\xfe\n").unwrap();
        assert!(matches!(channel.line(soon()), Err(LineError::Garbage(_))));
    }

    #[test]
    fn silence_and_trickling_end_in_time() {
        let limit = Duration::from_millis(60);
        let (mut channel, mut peer) = pair(100, limit);
        let start = Instant::now();
        let silent = channel.line(start + limit);
        assert!(matches!(silent, Err(LineError::Timeout)));
        let trickle = std::thread::spawn(move || {
            while peer.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let trickling = channel.line(Instant::now() + limit);
        assert!(matches!(trickling, Err(LineError::Timeout)));
        assert!(start.elapsed() < Duration::from_secs(3));
        drop(channel);
        trickle.join().unwrap();
    }
}
