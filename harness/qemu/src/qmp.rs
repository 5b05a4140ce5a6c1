//! The QMP monitor, in the parts that a machine needs.

use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::error::{Channel, QemuError};
use super::line::{LineChannel, LineError, excerpt};
use super::process::{Process, lock};

/// The memory tree of a large machine takes some hundred KiB.
const LONGEST: usize = 16 * 1024 * 1024;
/// The maximum number of event names that are kept during a wait.
const MOST_EVENTS: usize = 64;

/// The client of one machine's monitor. After a failure of its channel, every call fails, as with
/// [`Qtest`](super::Qtest).
pub struct Qmp {
    process: Arc<Process>,
    state: Mutex<QmpState>,
}

struct QmpState {
    channel: LineChannel,
    next_id: u64,
    events: Vec<String>,
    failed: Option<QemuError>,
}

impl Qmp {
    /// Connects within `start`. `timeout` is the limit of later replies.
    pub(super) fn connect(
        stream: UnixStream,
        process: Arc<Process>,
        start: Duration,
        timeout: Duration,
    ) -> Result<Self, QemuError> {
        let bounded = QemuError::system("set the time-out of the QMP channel");
        let channel = LineChannel::new(stream, LONGEST, start).map_err(bounded)?;
        let mut state = QmpState { channel, next_id: 1, events: Vec::new(), failed: None };
        state.greeting(&process)?;
        state.execute(&process, "qmp_capabilities", Value::Null)?;
        let bounded = QemuError::system("set the time-out of the QMP channel");
        state.channel.set_timeout(timeout).map_err(bounded)?;
        Ok(Self { process, state: Mutex::new(state) })
    }

    /// Runs one command. `arguments` is an object, or null for none.
    pub fn execute(&self, command: &str, arguments: Value) -> Result<Value, QemuError> {
        let mut state = lock(&self.state);
        state.events.clear();
        state.execute(&self.process, command, arguments)
    }

    /// Runs one command without arguments, and waits for the event that reports its effect.
    pub(super) fn execute_until(&self, command: &str, event: &str) -> Result<(), QemuError> {
        let mut state = lock(&self.state);
        state.events.clear();
        state.execute(&self.process, command, Value::Null)?;
        state.wait(&self.process, command, event)
    }
}

impl QmpState {
    fn greeting(&mut self, process: &Process) -> Result<(), QemuError> {
        let deadline = Instant::now() + self.channel.timeout();
        match self.read(deadline) {
            Ok(object) if object.contains_key("QMP") => Ok(()),
            Ok(object) => Err(self.fail(process, "start", unexpected(object))),
            Err(error) => Err(self.fail(process, "start", error)),
        }
    }

    fn execute(
        &mut self,
        process: &Process,
        command: &str,
        arguments: Value,
    ) -> Result<Value, QemuError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let id = self.next_id;
        self.next_id += 1;
        let mut request = Map::new();
        request.insert("execute".to_owned(), command.into());
        if !arguments.is_null() {
            request.insert("arguments".to_owned(), arguments);
        }
        request.insert("id".to_owned(), id.into());
        let text = format!("{}\n", Value::Object(request));
        match self.exchange(&text, id) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(QemuError::QmpRefused {
                command: command.to_owned(),
                class: words(&error, "class"),
                text: words(&error, "desc"),
            }),
            Err(error) => Err(self.fail(process, command, error)),
        }
    }

    fn exchange(&mut self, text: &str, id: u64) -> Result<Result<Value, Value>, LineError> {
        self.channel.send(text.as_bytes())?;
        let deadline = Instant::now() + self.channel.timeout();
        loop {
            let mut object = self.read(deadline)?;
            if self.note_event(&object) {
                continue;
            }
            if object.get("id") == Some(&id.into()) {
                if let Some(value) = object.remove("return") {
                    return Ok(Ok(value));
                }
                if let Some(error) = object.remove("error") {
                    return Ok(Err(error));
                }
            }
            return Err(unexpected(object));
        }
    }

    fn wait(&mut self, process: &Process, doing: &str, event: &str) -> Result<(), QemuError> {
        let deadline = Instant::now() + self.channel.timeout();
        while !self.events.iter().any(|name| name == event) {
            match self.read(deadline) {
                Ok(object) if self.note_event(&object) => {}
                Ok(object) => return Err(self.fail(process, doing, unexpected(object))),
                Err(error) => return Err(self.fail(process, doing, error)),
            }
        }
        Ok(())
    }

    fn note_event(&mut self, object: &Map<String, Value>) -> bool {
        let Some(name) = object.get("event") else {
            return false;
        };
        if self.events.len() < MOST_EVENTS {
            self.events.extend(name.as_str().map(str::to_owned));
        }
        true
    }

    fn read(&mut self, deadline: Instant) -> Result<Map<String, Value>, LineError> {
        let line = self.channel.line(deadline)?;
        serde_json::from_str(line).map_err(|_| LineError::Garbage(excerpt(line.as_bytes())))
    }

    fn fail(&mut self, process: &Process, doing: &str, error: LineError) -> QemuError {
        let limit = self.channel.timeout();
        let error = process.explain(Channel::Qmp, doing, limit, error);
        self.failed = Some(error.clone());
        error
    }
}

fn unexpected(object: Map<String, Value>) -> LineError {
    LineError::Garbage(excerpt(Value::Object(object).to_string().as_bytes()))
}

fn words(error: &Value, key: &str) -> String {
    error[key].as_str().unwrap_or("no words").to_owned()
}
