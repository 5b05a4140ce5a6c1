//! An NVMe controller behind an SMMU: one admin queue, one I/O queue, reads of 4 KiB.
//!
//! Registers, commands and completions are those of the NVM Express Base Specification, revision 2.0.

use core::mem::ManuallyDrop;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use smmu_types::Iova;
use smmu_types::seam::{DmaBlock, DmaError, DmaLayout, DmaMemory, poll};

use super::io_space::{IoSpace, IoSpaceError};
use super::registers::{BarRegisters, NoBar};
use super::{DmaResult, Generator};
use crate::machine::Region;
use crate::page_tables::{Access, PAGE};
use crate::pci::Function;
use crate::timer::GenericTimer;

const CAP: u64 = 0x00;
const CC: u64 = 0x14;
const CSTS: u64 = 0x1c;
const AQA: u64 = 0x24;
const ASQ: u64 = 0x28;
const ACQ: u64 = 0x30;
const DOORBELLS: u64 = 0x1000;
const BYTES: u64 = 0x1040;

const CC_ENABLE: u32 = 1;
/// Entries of 64 bytes and completions of 16 bytes.
const CC_SIZES: u32 = 6 << 16 | 4 << 20;
const CSTS_READY: u32 = 1;
/// The controller has failed.
const CSTS_FATAL: u32 = 2;
/// Entries of each queue: a page holds 64 commands.
const ENTRIES: usize = 16;
const COMMAND_WORDS: usize = 8;

const IDENTIFY: u64 = 0x06;
const CREATE_SUBMISSION: u64 = 0x01;
const CREATE_COMPLETION: u64 = 0x05;
const READ: u64 = 0x02;
const NAMESPACE: u64 = 1;
const CONTIGUOUS: u64 = 1;

const PATIENCE: Duration = Duration::from_secs(2);
const PATTERN_BYTES: usize = PAGE as usize;

/// Why an NVMe controller cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NvmeError {
    /// Its registers are not where they should be.
    #[error("{0}")]
    Bar(#[from] NoBar),
    /// No memory for its queues.
    #[error("{0}")]
    Memory(#[from] DmaError),
    /// Its queues cannot be mapped.
    #[error("{0}")]
    IoSpace(#[from] IoSpaceError),
    /// `CSTS.RDY` does not become what `CC.EN` asks for.
    #[error("NVMe: CSTS = {csts:#x}, and CC.EN = {enable} was set; the controller hangs")]
    NotReady {
        /// The last value of `CSTS`.
        csts: u32,
        /// `CC.EN`.
        enable: u32,
    },
    /// A command failed.
    #[error("NVMe: opcode {opcode:#x}: {result}")]
    Command {
        /// The opcode.
        opcode: u64,
        /// What the controller said.
        result: DmaResult,
    },
    /// The namespace's blocks are larger than 4 KiB, or the identify data makes no sense.
    #[error("NVMe: namespace 1 has blocks of 2^{log2} bytes; 512 to 4096 bytes can be used")]
    BlockSize {
        /// log2 of the block size.
        log2: u64,
    },
}

/// One queue pair.
struct Queue<B> {
    number: u64,
    // Kept for ever, as their mappings are.
    submissions: ManuallyDrop<B>,
    completions: ManuallyDrop<B>,
    tail: usize,
    head: usize,
    phase: u64,
}

/// An NVMe controller with its queues in memory `B`.
pub struct Nvme<B> {
    registers: BarRegisters,
    stride: u64,
    admin: Queue<B>,
    io: Queue<B>,
    /// The IOVAs of the four rings.
    rings: Rings,
    log2_block: u64,
    /// How many blocks a write has.
    blocks: u64,
    /// Whether it must be brought up before the next command.
    is_off: bool,
    pattern: [u8; PATTERN_BYTES],
}

/// IOVAs: submissions and completions of the admin queue, then those of the I/O queue.
type Rings = [Iova; 4];

impl<B: DmaBlock> Queue<B> {
    fn new<D: DmaMemory<Block = B>>(memory: &D, number: u64) -> Result<Self, DmaError> {
        let (submissions, completions) = (page(memory)?, page(memory)?);
        let (submissions, completions) =
            (ManuallyDrop::new(submissions), ManuallyDrop::new(completions));
        Ok(Queue { number, submissions, completions, tail: 0, head: 0, phase: 1 })
    }

    /// Empty, as after a reset.
    fn reset(&mut self) {
        let words = self.completions.words();
        words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        self.completions.publish(0..words.len());
        (self.tail, self.head, self.phase) = (0, 0, 1);
    }
}

fn page<D: DmaMemory>(memory: &D) -> Result<D::Block, DmaError> {
    let refused = DmaError { bytes: PAGE, align: PAGE };
    memory.allocate(DmaLayout::new(PAGE, PAGE).ok_or(refused)?)
}

fn share<B: DmaBlock>(block: &B, space: &dyn IoSpace) -> Result<Iova, IoSpaceError> {
    space.share(Region { base: block.address().0, bytes: PAGE }, Access::ReadWrite)
}

impl<B: DmaBlock> Nvme<B> {
    /// Class, subclass and programming interface.
    pub const CLASS: [u8; 3] = [0x01, 0x08, 0x02];

    /// Resets the controller, gives it queues that `space` maps for ever, and reads the first
    /// 4 KiB of namespace 1.
    ///
    /// # Safety
    ///
    /// The BARs of the function are mapped as Device memory for ever, and only this value uses
    /// them. The stream of the function is attached to the domain of `space`.
    ///
    /// # Errors
    ///
    /// The controller does not come up, or has no namespace 1 with blocks of 4 KiB at most.
    pub unsafe fn new<D: DmaMemory<Block = B>>(
        function: &Function,
        memory: &D,
        space: &dyn IoSpace,
    ) -> Result<Self, NvmeError> {
        // SAFETY: as the caller promises.
        let registers = unsafe { BarRegisters::new(function, 0, BYTES)? };
        let stride = 4 << (registers.read64(CAP) >> 32 & 0xf);
        let (admin, io) = (Queue::new(memory, 0)?, Queue::new(memory, 1)?);
        let pattern = [0; PATTERN_BYTES];
        let rings = [
            share(&*admin.submissions, space)?,
            share(&*admin.completions, space)?,
            share(&*io.submissions, space)?,
            share(&*io.completions, space)?,
        ];
        let (log2_block, blocks, is_off) = (0, 0, true);
        let mut this =
            Nvme { registers, stride, admin, io, rings, log2_block, blocks, is_off, pattern };
        this.bring_up()?;

        // Kept for ever if an error comes before its IOVA is unmapped.
        let data = ManuallyDrop::new(page(memory)?);
        let at = share(&*data, space)?;
        this.run_admin(IDENTIFY, NAMESPACE, at, 0, 0)?;
        data.observe(0..data.words().len());
        // FLBAS names the format; each format has 4 bytes, of which the third is log2 of the size.
        let byte = |n: usize| {
            data.words()
                .get(n / 8)
                .map_or(0, |word| word.load(Ordering::Relaxed) >> (n % 8 * 8) & 0xff)
        };
        let log2 = byte(128 + 4 * (byte(26) & 0xf) as usize + 2);
        if !(9..=12).contains(&log2) {
            return Err(NvmeError::BlockSize { log2 });
        }
        this.log2_block = log2;
        this.blocks = PAGE >> log2;
        match this.write(at) {
            DmaResult::Silent => {}
            result => return Err(NvmeError::Command { opcode: READ, result }),
        }
        data.observe(0..data.words().len());
        let (chunks, _) = this.pattern.as_chunks_mut::<8>();
        for (to, word) in chunks.iter_mut().zip(data.words()) {
            *to = word.load(Ordering::Relaxed).to_le_bytes();
        }
        space.unshare(at, PAGE)?;
        drop(ManuallyDrop::into_inner(data));
        Ok(this)
    }

    /// Writes one logical block from now on, not 4 KiB: it may lie at any multiple of 4 bytes that
    /// leaves it in its page.
    #[must_use]
    pub fn of_one_block(mut self) -> Self {
        self.blocks = 1;
        self
    }

    /// Resets the controller, and gives it its queues.
    fn bring_up(&mut self) -> Result<(), NvmeError> {
        let [admin_submissions, admin_completions, submissions, completions] = self.rings;
        self.enable(0)?;
        self.admin.reset();
        self.io.reset();
        let last = ENTRIES as u32 - 1;
        self.registers.write32(AQA, last << 16 | last);
        self.registers.write64(ASQ, admin_submissions.0);
        self.registers.write64(ACQ, admin_completions.0);
        self.enable(CC_ENABLE)?;
        let size = (ENTRIES as u64 - 1) << 16 | self.io.number;
        self.run_admin(CREATE_COMPLETION, 0, completions, size, CONTIGUOUS)?;
        let of_queue = self.io.number << 16 | CONTIGUOUS;
        self.run_admin(CREATE_SUBMISSION, 0, submissions, size, of_queue)?;
        self.is_off = false;
        Ok(())
    }

    fn enable(&self, enable: u32) -> Result<(), NvmeError> {
        self.registers.write32(CC, if enable == 0 { 0 } else { CC_SIZES | enable });
        let mut csts = 0;
        let ready = || {
            csts = self.registers.read32(CSTS);
            (csts & CSTS_READY == enable).then_some(())
        };
        let waited = poll(&GenericTimer, PATIENCE, ready);
        waited.map_err(|_| NvmeError::NotReady { csts, enable })
    }

    fn run_admin(
        &mut self,
        opcode: u64,
        namespace: u64,
        data: Iova,
        word10: u64,
        word11: u64,
    ) -> Result<(), NvmeError> {
        let command = [opcode, namespace, data.0, word10, word11];
        match run(&self.registers, self.stride, &mut self.admin, command, 0) {
            DmaResult::Done => Ok(()),
            result => Err(NvmeError::Command { opcode, result }),
        }
    }
}

/// Sends one command, given as opcode, namespace, address of the data, and words 10 to 12, and
/// waits for its completion.
fn run<B: DmaBlock>(
    registers: &BarRegisters,
    stride: u64,
    queue: &mut Queue<B>,
    [opcode, namespace, data, word10, word11]: [u64; 5],
    word12: u64,
) -> DmaResult {
    let put = |word: usize, value: u64| {
        let at = queue.tail * COMMAND_WORDS + word;
        if let Some(word) = queue.submissions.words().get(at) {
            word.store(value, Ordering::Relaxed);
        }
    };
    put(0, opcode | namespace << 32);
    put(1, 0);
    put(2, 0);
    put(3, data);
    put(4, 0);
    put(5, word10 | word11 << 32);
    put(6, word12);
    put(7, 0);
    let first = queue.tail * COMMAND_WORDS;
    queue.submissions.publish(first..first + COMMAND_WORDS);
    queue.tail = (queue.tail + 1) % ENTRIES;
    let doorbell = DOORBELLS + 2 * queue.number * stride;
    registers.write32(doorbell, queue.tail as u32);

    // Bit 48 of the second word is the phase: it changes with each round of the queue.
    let word = queue.head * 2 + 1;
    let look = || {
        queue.completions.observe(word..word + 1);
        let value = queue
            .completions
            .words()
            .get(word)
            .map(|word: &AtomicU64| word.load(Ordering::Relaxed))?;
        if value >> 48 & 1 == queue.phase {
            return Some(Some(value));
        }
        // A controller that cannot read a ring says so here, and does not answer.
        (registers.read32(CSTS) & CSTS_FATAL != 0).then_some(None)
    };
    let Ok(Some(completion)) = poll(&GenericTimer, PATIENCE, look) else {
        return DmaResult::TimedOut;
    };
    queue.head = (queue.head + 1) % ENTRIES;
    if queue.head == 0 {
        queue.phase ^= 1;
    }
    registers.write32(doorbell + stride, queue.head as u32);
    match (completion >> 49) as u32 {
        0 => DmaResult::Done,
        status => DmaResult::Refused(status),
    }
}

impl<B> Drop for Nvme<B> {
    fn drop(&mut self) {
        self.registers.write32(CC, 0);
    }
}

impl<B: DmaBlock> Generator for Nvme<B> {
    fn name(&self) -> &'static str {
        "nvme"
    }

    fn pattern(&self) -> &[u8] {
        self.pattern.get(..(self.blocks << self.log2_block) as usize).unwrap_or(&self.pattern)
    }

    fn write(&mut self, iova: Iova) -> DmaResult {
        // Its rings may be out of reach still.
        if self.is_off && self.bring_up().is_err() {
            let _ = self.enable(0);
            return DmaResult::TimedOut;
        }
        let command = [READ, NAMESPACE, iova.0, 0, 0];
        let blocks = self.blocks.max(1);
        let result = run(&self.registers, self.stride, &mut self.io, command, blocks - 1);
        if result == DmaResult::TimedOut {
            // A controller that is off does no DMA. The next write brings it up again.
            self.is_off = true;
            let _ = self.enable(0);
        }
        // Not every controller tells that its data went nowhere.
        if result == DmaResult::Done { DmaResult::Silent } else { result }
    }
}
