//! An enhanced command queue (ECMDQ): its registers as they are stored, and its feed.

use smmu_types::fields::{ecmdq_cons, ecmdq_prod};

use crate::queue::feed::CommandFeed;

const EN: u32 = ecmdq_prod::EN.mask() as u32;
const ENACK: u32 = ecmdq_cons::ENACK.mask() as u32;
const ERR: u32 = ecmdq_cons::ERR.mask() as u32;
/// The place of `ERR_REASON`.
const REASON: u32 = ecmdq_cons::ERR_REASON.mask().trailing_zeros();
// One difference of two registers tells a change, and one an error.
const _: () = assert!(EN == ENACK && ERR == ecmdq_prod::ERRACK.mask() as u32);

/// The stored values. All are 0 at power-on.
#[derive(Debug, Default)]
pub(crate) struct EnhancedQueue {
    pub(crate) base: u64,
    pub(crate) prod: u32,
    pub(crate) cons: u32,
    pub(crate) feed: CommandFeed,
}

impl EnhancedQueue {
    /// `EN` or `ENACK`: the registers of the queue's set-up must not be written.
    pub(crate) fn is_used(&self) -> bool {
        (self.prod | self.cons) & EN != 0
    }

    /// A change of `EN` is not acknowledged yet.
    pub(crate) fn is_changing(&self) -> bool {
        (self.prod ^ self.cons) & EN != 0
    }

    pub(crate) fn has_error(&self) -> bool {
        (self.prod ^ self.cons) & ERR != 0
    }

    /// The SMMU consumes until it has acknowledged `EN` = 0 (3.5.6.2).
    pub(crate) fn runs(&self) -> bool {
        self.cons & ENACK != 0 && !self.has_error()
    }

    /// A change of `EN` takes effect.
    pub(crate) fn acknowledge(&mut self) {
        self.cons = self.cons & !ENACK | self.prod & EN;
    }

    /// Stop at the command at `at`. Call it only while no error is active: `ERR` toggles (3.5.6.3).
    pub(crate) fn raise_error(&mut self, code: u8, at: u32) {
        let stays = (self.cons ^ ERR) & (ENACK | ERR);
        self.cons = stays | u32::from(code) << REASON | at;
    }

    /// What the write of `ECMDQ_PROD` changes of `EN`.
    pub(crate) fn turns_on(&self, prod: u32) -> bool {
        prod & EN != 0 && self.cons & ENACK == 0
    }
}
