//! Doubles for the seams, for the tests of anything built on them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

use crate::seam::{CommandSink, EncodedBatch, Notice, Observer, Registers, SinkError};
use crate::{Command, IdRegisters, PhysAddr, SmmuId, SyncProof};

pub use crate::pool::{HeapWindow, Pool, PoolBlock};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// ID registers of a usual SMMU, the values of QEMU's.
///
/// Both stages, 16-bit ASIDs, VMIDs and StreamIDs, two-level stream tables, all granules, range
/// commands; coherent, and faults terminate.
pub const ID_REGISTERS: IdRegisters = IdRegisters {
    idr0: 0x0d44_101b,
    idr1: 0x0273_0010,
    idr2: 0,
    idr3: 0x1414,
    idr4: 0,
    idr5: 0x74,
    idr6: 0,
    iidr: 0,
    aidr: 1,
};

/// DMA memory on the heap: `bytes` at 0x4000_0000.
#[must_use]
pub fn heap_pool(bytes: usize) -> Pool<HeapWindow> {
    Pool::new(HeapWindow::new(PhysAddr(0x4000_0000), bytes))
}

/// What [`FakeRegisters`] calls on each write: the registers, the offset, the value.
pub type WriteHook = dyn Fn(&FakeRegisters, u32, u64) + Send + Sync;

/// Registers that keep every written value, with a hook that plays the device.
#[derive(Default)]
pub struct FakeRegisters {
    values: Mutex<BTreeMap<u32, u64>>,
    writes: Mutex<Vec<(u32, u64)>>,
    hook: Option<std::boxed::Box<WriteHook>>,
}

impl std::fmt::Debug for FakeRegisters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FakeRegisters").field("values", &self.values).finish_non_exhaustive()
    }
}

impl FakeRegisters {
    /// All registers read as zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers that call `hook` on each write, after they have stored the value.
    pub fn with_hook(hook: impl Fn(&FakeRegisters, u32, u64) + Send + Sync + 'static) -> Self {
        FakeRegisters { hook: Some(std::boxed::Box::new(hook)), ..Self::default() }
    }

    /// Sets a register, as the device does.
    pub fn set(&self, offset: u32, value: u64) {
        lock(&self.values).insert(offset, value);
    }

    /// The current value of a register.
    #[must_use]
    pub fn get(&self, offset: u32) -> u64 {
        lock(&self.values).get(&offset).copied().unwrap_or(0)
    }

    /// Takes all writes so far, in order.
    pub fn take_writes(&self) -> Vec<(u32, u64)> {
        std::mem::take(&mut *lock(&self.writes))
    }

    fn store(&self, offset: u32, value: u64) {
        self.set(offset, value);
        lock(&self.writes).push((offset, value));
        if let Some(hook) = &self.hook {
            hook(self, offset, value);
        }
    }
}

impl Registers for FakeRegisters {
    fn read32(&self, offset: u32) -> u32 {
        self.get(offset) as u32
    }
    fn write32(&self, offset: u32, value: u32) {
        self.store(offset, value.into());
    }
    fn read64(&self, offset: u32) -> u64 {
        self.get(offset)
    }
    fn write64(&self, offset: u32, value: u64) {
        self.store(offset, value);
    }
}

/// One call that a [`RecordingSink`] saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkCall {
    /// Commands without a `CMD_SYNC`.
    Push(SmmuId, Vec<Command>),
    /// Commands and a `CMD_SYNC`. The `CMD_SYNC` also covers what was pushed since the last one.
    Issue(SmmuId, Vec<Command>),
    /// A wait for the `CMD_SYNC` of an SMMU.
    Wait(SmmuId),
}

/// Decides whether a call fails. It sees each call before the sink records it.
pub type FailHook = dyn Fn(&SinkCall) -> Option<SinkError> + Send + Sync;

/// A sink that records every call and carries out no command.
///
/// Each wait returns a proof, unless a hook lets it fail.
#[derive(Default)]
pub struct RecordingSink {
    calls: Mutex<Vec<SinkCall>>,
    fail: Option<std::boxed::Box<FailHook>>,
}

impl std::fmt::Debug for RecordingSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordingSink").field("calls", &self.calls).finish_non_exhaustive()
    }
}

impl RecordingSink {
    /// A sink that never fails.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A sink whose calls fail when `fail` returns an error. It records failed calls too.
    pub fn failing(fail: impl Fn(&SinkCall) -> Option<SinkError> + Send + Sync + 'static) -> Self {
        RecordingSink { fail: Some(std::boxed::Box::new(fail)), ..Self::default() }
    }

    /// Takes all calls so far, in order.
    pub fn take(&self) -> Vec<SinkCall> {
        std::mem::take(&mut *lock(&self.calls))
    }

    fn record(&self, call: SinkCall) -> Result<(), SinkError> {
        let failed = self.fail.as_ref().and_then(|fail| fail(&call));
        lock(&self.calls).push(call);
        failed.map_or(Ok(()), Err)
    }
}

impl CommandSink for RecordingSink {
    type Ticket = SmmuId;
    type Pushed = SmmuId;

    fn issue(&self, smmu: SmmuId, commands: &[Command]) -> Result<SmmuId, SinkError> {
        self.record(SinkCall::Issue(smmu, commands.to_vec()))?;
        Ok(smmu)
    }

    fn push(
        &self,
        smmu: SmmuId,
        _: Option<SmmuId>,
        commands: &[Command],
    ) -> Result<SmmuId, SinkError> {
        self.record(SinkCall::Push(smmu, commands.to_vec()))?;
        Ok(smmu)
    }

    fn prove(&self, pushed: SmmuId, commands: &[Command]) -> Result<SmmuId, SinkError> {
        self.issue(pushed, commands)
    }

    fn wait(&self, ticket: SmmuId) -> Result<SyncProof, SinkError> {
        self.record(SinkCall::Wait(ticket))?;
        Ok(SyncProof::vouch(ticket))
    }
}

/// A sink that confirms every command at once and records nothing, so that a test can count
/// allocations or time. It does not allocate.
#[derive(Clone, Copy, Debug, Default)]
pub struct InstantSink;

impl CommandSink for InstantSink {
    type Ticket = SmmuId;
    type Pushed = SmmuId;

    #[inline]
    fn issue(&self, smmu: SmmuId, _: &[Command]) -> Result<SmmuId, SinkError> {
        Ok(smmu)
    }

    #[inline]
    fn push(&self, smmu: SmmuId, _: Option<SmmuId>, _: &[Command]) -> Result<SmmuId, SinkError> {
        Ok(smmu)
    }

    #[inline]
    fn prove(&self, pushed: SmmuId, _: &[Command]) -> Result<SmmuId, SinkError> {
        Ok(pushed)
    }

    #[inline]
    fn wait(&self, ticket: SmmuId) -> Result<SyncProof, SinkError> {
        Ok(SyncProof::vouch(ticket))
    }

    #[inline]
    fn issue_encoded(&self, smmu: SmmuId, _: EncodedBatch<'_>) -> Result<SmmuId, SinkError> {
        Ok(smmu)
    }

    #[inline]
    fn push_encoded(
        &self,
        smmu: SmmuId,
        _: Option<SmmuId>,
        _: EncodedBatch<'_>,
    ) -> Result<SmmuId, SinkError> {
        Ok(smmu)
    }

    #[inline]
    fn prove_encoded(&self, pushed: SmmuId, _: EncodedBatch<'_>) -> Result<SmmuId, SinkError> {
        Ok(pushed)
    }
}

/// An observer that records every notice.
#[derive(Debug, Default)]
pub struct RecordingObserver {
    notices: Mutex<Vec<Notice>>,
}

impl RecordingObserver {
    /// An observer without notices.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes all notices so far, in order.
    pub fn take(&self) -> Vec<Notice> {
        std::mem::take(&mut *lock(&self.notices))
    }
}

impl Observer for RecordingObserver {
    fn notice(&self, notice: Notice) {
        lock(&self.notices).push(notice);
    }
}
