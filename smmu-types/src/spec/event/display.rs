//! Event records in words.

use core::fmt;

use super::{EventClass, EventKind, EventRecord};

impl EventRecord {
    fn fmt_access(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        let access = if self.is_read() { "read" } else { "write" };
        write!(f, " {access} iova={}", self.address())?;
        if kind.has_class() {
            let class = match self.class() {
                EventClass::Cd => "CD",
                EventClass::Tt => "TT",
                EventClass::In => "IN",
                EventClass::Reserved => "reserved",
            };
            write!(f, " class={class}")?;
        }
        if kind.has_stage() {
            match self.is_stage2() {
                // F_WALK_EABT has its fetch address where the others have the IPA.
                true if kind == EventKind::F_WALK_EABT => f.write_str(" stage=2")?,
                true => write!(f, " stage=2 ipa={}", self.ipa())?,
                false => f.write_str(" stage=1")?,
            }
        }
        Ok(())
    }

    /// Prints what few transactions have, only where it is set.
    fn fmt_rest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        if kind.has_access() && kind != EventKind::F_TRANSL_FORBIDDEN {
            if self.is_privileged() {
                f.write_str(" pnu=1")?;
            }
            if self.is_instruction() {
                f.write_str(" ind=1")?;
            }
        }
        if self.is_non_secure_ipa() {
            f.write_str(" nsipa=1")?;
        }
        match self.is_table_read() {
            Some(true) => f.write_str(" ttrnw=read")?,
            Some(false) => f.write_str(" ttrnw=write")?,
            None => {}
        }
        if self.is_stalled() {
            write!(f, " stall stag={:#x}", self.stall_tag())?;
        }
        if let Some(address) = self.fetch_address() {
            write!(f, " fetch={address}")?;
        }
        if self.is_granule_protection_fault() {
            f.write_str(" gpcf=1")?;
        }
        if let Some(reason @ 1..) = self.reason() {
            write!(f, " reason={reason:#x}")?;
        }
        if let Some(added @ 1..) = self.implementation_defined() {
            write!(f, " impdef={added:#x}")?;
        }
        Ok(())
    }
}

impl fmt::Display for EventRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sid={}", self.kind(), self.stream())?;
        if let Some(substream) = self.substream() {
            write!(f, " ssid={substream}")?;
        }
        if self.kind().has_access() {
            self.fmt_access(f)?;
        }
        if let Some(request) = self.ats_request() {
            write!(f, " iova={} span={} access={}", request.address, request.span, request.access)?;
            if request.privileged {
                f.write_str(" priv=1")?;
            }
        }
        if let Some(hint) = self.page_hint() {
            write!(f, " iova={} span={}", hint.address, hint.span)?;
            write!(f, " unprivileged={} privileged={}", hint.unprivileged, hint.privileged)?;
        }
        self.fmt_rest(f)
    }
}
