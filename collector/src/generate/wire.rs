//! Writes big-endian fields into a datagram that is being built.

/// The datagram under construction.
#[derive(Debug)]
pub struct Wire<'a>(pub &'a mut Vec<u8>);

impl Wire<'_> {
    /// Bytes written so far.
    #[inline]
    pub fn position(&self) -> usize {
        self.0.len()
    }

    /// Appends one byte.
    #[inline]
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    /// Appends two bytes.
    #[inline]
    pub fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    /// Appends four bytes.
    #[inline]
    pub fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    /// Appends eight bytes.
    #[inline]
    pub fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    /// Appends an address: four bytes of IPv4 or sixteen of IPv6.
    #[inline]
    pub fn address(&mut self, family: super::Family, value: u128) {
        match family {
            super::Family::V4 => self.u32(value as u32),
            super::Family::V6 => self.0.extend_from_slice(&value.to_be_bytes()),
        }
    }

    /// Appends bytes as they are.
    #[inline]
    pub fn bytes(&mut self, value: &[u8]) {
        self.0.extend_from_slice(value);
    }

    /// Appends zeros until the length counted from `start` is a multiple of four.
    #[inline]
    pub fn pad4(&mut self, start: usize) {
        while !(self.position() - start).is_multiple_of(4) {
            self.u8(0);
        }
    }

    /// Overwrites two bytes written before at `at`.
    #[inline]
    pub fn patch_u16(&mut self, at: usize, value: u16) {
        self.0[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }

    /// Overwrites four bytes written before at `at`.
    #[inline]
    pub fn patch_u32(&mut self, at: usize, value: u32) {
        self.0[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    /// Begins a set of NetFlow v9 or IPFIX and yields where it starts, for [`Wire::end_set`].
    pub fn begin_set(&mut self, id: u16) -> usize {
        let start = self.position();
        self.u16(id);
        self.u16(0);
        start
    }

    /// Pads the set that began at `start` and writes its length.
    pub fn end_set(&mut self, start: usize) {
        self.pad4(start);
        let length = self.position() - start;
        self.patch_u16(start + 2, length as u16);
    }
}
