//! Where a thread's output goes: to the user at once, or into a buffer that is shown in one piece.
//!
//! Two lanes of steps run beside each other. The output of one lane goes to the user as it comes,
//! that of the other when a step has ended, so that no line stands between those of another program.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

thread_local! {
    static OUTPUT: RefCell<Output> = RefCell::default();
}

/// Where output goes. A clone goes to the same place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output {
    /// `None`: to stderr.
    kept: Option<Arc<Mutex<Vec<u8>>>>,
}

impl Output {
    /// Into a buffer.
    pub(crate) fn kept() -> Self {
        Output { kept: Some(Arc::default()) }
    }

    /// Where the output of this thread goes. A thread that it starts takes it over by
    /// [`during`](Self::during).
    pub(crate) fn current() -> Self {
        OUTPUT.with_borrow(Clone::clone)
    }

    /// Runs `work` with this thread's output going here.
    pub(crate) fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        /// Puts the old place back, also after a panic.
        struct Back(Output);
        impl Drop for Back {
            fn drop(&mut self) {
                OUTPUT.set(std::mem::take(&mut self.0));
            }
        }

        let _back = Back(OUTPUT.replace(self.clone()));
        work()
    }

    /// Writes whole lines.
    pub(crate) fn write(&self, text: &[u8]) {
        match &self.kept {
            // Bytes are whole whatever a thread did that panicked.
            Some(kept) => kept.lock().unwrap_or_else(PoisonError::into_inner).extend(text),
            // A closed stderr is no reason to stop.
            None => drop(io::stderr().lock().write_all(text)),
        }
    }

    /// Shows the user what is in the buffer, and empties it.
    pub(crate) fn show(&self) {
        if let Some(kept) = &self.kept {
            let text = std::mem::take(&mut *kept.lock().unwrap_or_else(PoisonError::into_inner));
            Output::default().write(&text);
        }
    }

    /// Runs a program whose output goes here.
    pub(crate) fn run(&self, command: &mut Command) -> io::Result<ExitStatus> {
        command.stdin(Stdio::null());
        if self.kept.is_none() {
            return command.status();
        }
        let (mut reader, writer) = io::pipe()?;
        command.stdout(writer.try_clone()?).stderr(writer);
        let child = command.spawn();
        // The command holds the end that is written to; while it does, the reader sees no end.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = child?;
        let mut part = [0; 4096];
        loop {
            match reader.read(&mut part) {
                Ok(0) => break,
                Ok(count) => self.write(&part[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The program's end is what counts.
                Err(_) => break,
            }
        }
        child.wait()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(output: &Output) -> String {
        let kept = output.kept.as_ref().unwrap().lock().unwrap();
        String::from_utf8(kept.clone()).unwrap()
    }

    #[test]
    fn what_a_program_prints_is_kept_whole() {
        let output = Output::kept();
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        assert_eq!(output.run(&mut command).unwrap().code(), Some(3));
        assert_eq!(content(&output), "out\nerr\n");
        // A second run of the same command is kept too.
        output.run(&mut command).unwrap();
        assert_eq!(content(&output), "out\nerr\nout\nerr\n");
        output.show();
        assert_eq!(content(&output), "");
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let mut command = Command::new("/no/such/program");
        assert!(Output::kept().run(&mut command).is_err());
    }

    #[test]
    fn a_thread_keeps_its_output_until_the_work_ends() {
        let output = Output::kept();
        output.during(|| {
            crate::process::say("outer");
            let other = Output::kept();
            other.during(|| crate::process::say("inner"));
            assert_eq!(content(&other), "inner\n");
            let current = Output::current();
            std::thread::scope(|scope| {
                scope.spawn(move || current.during(|| crate::process::say("thread")));
            });
            crate::process::say("outer again");
        });
        assert_eq!(content(&output), "outer\nthread\nouter again\n");
        let unwound = std::panic::catch_unwind(|| output.during(|| panic!("work")));
        assert!(unwound.is_err());
        assert!(Output::current().kept.is_none());
    }
}
