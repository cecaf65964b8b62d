//! Registers of what is on a chip.

/// A register of 32 bits.
pub struct Register(usize);

#[expect(unsafe_code, reason = "registers are memory that the compiler knows nothing of")]
impl Register {
    /// The one at this address.
    ///
    /// # Safety
    /// There must be one, for as long as the board runs, and what is written to it must change no memory.
    pub const unsafe fn at(address: usize) -> Self {
        Register(address)
    }

    /// What it holds.
    pub fn read(&self) -> u32 {
        // SAFETY: `at` was promised that it is there.
        unsafe { (self.0 as *const u32).read_volatile() }
    }

    /// Sets it.
    pub fn write(&self, value: u32) {
        // SAFETY: `at` was promised that it is there, and that this changes nothing of the program's.
        unsafe { (self.0 as *mut u32).write_volatile(value) }
    }

    /// Sets these bits of it, and takes these back. An interrupt that does so too must not come between.
    pub fn change(&self, set: u32, clear: u32) {
        critical_section::with(|_| self.write(self.read() & !clear | set));
    }
}
