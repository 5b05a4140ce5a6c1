//! The Requester ID of a PCIe function.

use core::fmt;

/// Requester ID of a PCIe function: bus in bits 15:8, device in bits 7:3, function in bits 2:0.
///
/// ```
/// use smmu_hw_mmio::firmware::RequestId;
///
/// let id = RequestId::new(8, 2, 1).ok_or("no such function")?;
/// assert_eq!((id, id.to_string().as_str()), (RequestId(0x811), "08:02.1"));
/// # Ok::<(), &str>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u16);

impl RequestId {
    /// The ID of a function, or `None` above device 31 or function 7.
    #[must_use]
    pub const fn new(bus: u8, device: u8, function: u8) -> Option<Self> {
        if device > 31 || function > 7 {
            return None;
        }
        Some(Self((bus as u16) << 8 | (device as u16) << 3 | function as u16))
    }
}

impl From<RequestId> for u32 {
    fn from(id: RequestId) -> u32 {
        id.0.into()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.0 >> 8, self.0 >> 3 & 0x1f, self.0 & 7)
    }
}
