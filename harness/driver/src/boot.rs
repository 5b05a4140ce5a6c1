//! An SMMU just before it translates: what firmware left running gets its devices and domains here.
//!
//! Firmware may reserve memory for a device that runs already: a frame buffer, a debug port
//! ([`smmu_hw_mmio::firmware`] finds it in a device tree or in ACPI's IORT). Such a device must not
//! fault when translation begins. [`Setup::start_with`](crate::Setup::start_with) goes through these
//! steps for each SMMU:
//!
//! 1. Command queue, event queue and interrupts are on; the caches are invalidated. `SMMUEN` is 0, so
//!    `GBPA` decides about the device: it passes, as firmware left it.
//! 2. The caller makes a domain. [`Boot::attach_reserved`] lets the caller map each reserved window in
//!    its tables, adds the device, and attaches it. The SMMU confirms the entries.
//! 3. `SMMUEN` = 1. From its acknowledgement on the device reaches its windows through the domain, and
//!    nothing else. Every other stream is blocked.
//!
//! An SMMU that translates already keeps its windows by [`Setup::adopt`](crate::Setup::adopt).

use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

use smmu_attach::{DeviceConfig, TranslationTable as _};
use smmu_hw_mmio::firmware::ReservedWindow;
use smmu_types::{DomainId, SmmuId, StreamId};

use crate::error::DriverError;
use crate::platform::{Device, Domain, Env, Platform, Smmu};
use crate::windows::{MemoryRange, ReservedError, Window, Windows};

/// An SMMU that takes commands and does not translate yet.
pub struct Boot<'a, P: Platform> {
    pub(crate) smmu: &'a Smmu<P>,
    pub(crate) env: &'a Env<P>,
    pub(crate) domains: &'a AtomicU32,
}

impl<P: Platform> Boot<'_, P> {
    /// Its number.
    #[must_use]
    pub fn smmu(&self) -> SmmuId {
        self.smmu.id()
    }

    /// The DMA memory, for page tables.
    #[must_use]
    pub fn dma(&self) -> &P::Dma {
        self.env.dma()
    }

    /// As [`Driver::add_device_with`](crate::Driver::add_device_with), on this SMMU. The driver keeps
    /// the device; [`Driver::device_of`](crate::Driver::device_of) finds it again.
    ///
    /// # Errors
    ///
    /// As of [`Driver::add_device`](crate::Driver::add_device).
    pub fn add_device(
        &self,
        streams: &[StreamId],
        config: DeviceConfig,
    ) -> Result<Device<P>, DriverError> {
        Ok(self.smmu.add_device_with(streams, config)?)
    }

    /// As [`Driver::domain`](crate::Driver::domain): the domain has a number of the driver.
    ///
    /// # Errors
    ///
    /// As of [`Driver::domain`](crate::Driver::domain).
    pub fn domain(&self, tables: P::Tables) -> Result<Domain<P>, DriverError> {
        numbered(self.domains, self.env, tables)
    }
}

impl<P: Platform> Boot<'_, P> {
    /// Attaches a device that firmware left running to `domain`, with its reserved memory mapped.
    ///
    /// 1. `windows` are those of each stream, from a firmware table: [`Windows`] checks them against
    ///    the domain's tables and against `in_use`, makes whole pages, and joins those that meet.
    /// 2. `map` maps each for reads and writes, as a leaf that was not there. A page that is there
    ///    already, for another device of the domain, stays if it leads to the same memory.
    /// 3. The device is added and attached, and the SMMU confirms its entries.
    ///
    /// Returns the device, which the driver keeps as well, and its windows: an allocator of IOVAs leaves
    /// them out.
    ///
    /// ```
    /// use smmu_driver::smmu_attach::DeviceConfig;
    /// use smmu_driver::smmu_hw_mmio::firmware::ReservedWindow;
    /// use smmu_driver::smmu_types::StreamId;
    /// use smmu_driver::windows::{MemoryRange, ReservedError, Window};
    /// use smmu_driver::{Boot, Platform};
    ///
    /// // `windows` are `iort.windows_of(stream)`, or those of a device tree.
    /// fn seed<P: Platform, E, M>(
    ///     boot: &Boot<'_, P>,
    ///     stream: StreamId,
    ///     windows: impl Iterator<Item = Result<ReservedWindow, E>>,
    ///     kernel: MemoryRange,
    ///     tables: P::Tables,
    ///     map: impl FnMut(&P::Tables, &Window) -> Result<(), M>,
    /// ) -> Result<(), ReservedError<E, M>> {
    ///     let domain = boot.domain(tables)?;
    ///     let config = DeviceConfig::default();
    ///     boot.attach_reserved(&[stream], config, &domain, windows, &[kernel], map)?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// A window is unsafe or cannot be read, the tables refuse one, or the device is not attached.
    /// Let [`Setup::start_with`](crate::Setup::start_with) fail with it: then no SMMU translates, and
    /// the device goes on as firmware left it. A caller that goes on leaves the device blocked.
    pub fn attach_reserved<E, M>(
        &self,
        streams: &[StreamId],
        config: DeviceConfig,
        domain: &Domain<P>,
        windows: impl IntoIterator<Item = Result<ReservedWindow, E>>,
        in_use: &[MemoryRange],
        mut map: impl FnMut(&P::Tables, &Window) -> Result<(), M>,
    ) -> Result<(Device<P>, Windows), ReservedError<E, M>> {
        let tables = domain.tables();
        let windows = Windows::new(&tables.describe(), windows, in_use)?;
        windows
            .mapped()
            .iter()
            .try_for_each(|window| map(tables, window))
            .map_err(ReservedError::Map)?;
        let device = self.add_device(streams, config)?;
        let outcome = device.attach(domain).map_err(DriverError::from)?;
        let unconfirmed = |error| DriverError::Unconfirmed { smmu: self.smmu(), error };
        outcome.settled().map_err(unconfirmed)?;
        Ok((device, windows))
    }
}

impl<P: Platform> fmt::Debug for Boot<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Boot").field("smmu", &self.smmu()).finish_non_exhaustive()
    }
}

/// A domain with the next number.
pub(crate) fn numbered<P: Platform>(
    domains: &AtomicU32,
    env: &Env<P>,
    tables: P::Tables,
) -> Result<Domain<P>, DriverError> {
    let next = |id: u32| id.checked_add(1);
    let id = domains.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    let id = id.map_err(|_| DriverError::TooManyDomains)?;
    Ok(Domain::<P>::new(env, DomainId(id), tables)?)
}
