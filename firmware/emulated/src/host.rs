//! The machine the emulator runs on, by semihosting: console, files, arguments, and the end.
//!
//! Each call stops the board until the host has done it, and what was written is the host's from then on: it survives
//! the emulator. Source: Arm's specification of semihosting for AArch32.

use core::ffi::CStr;
use core::fmt::{self, Write};
use core::panic::PanicInfo;

use cortex_m_semihosting::{debug, nr};

/// A call of the host, which may change the arguments.
#[expect(unsafe_code, reason = "the host reads and writes where it is told")]
fn call<const N: usize>(number: usize, arguments: &mut [usize; N]) -> isize {
    // SAFETY: what the addresses among the arguments belong to is borrowed by the callers below for as long as the call
    // takes, with the length that they give, and mutably where the host writes.
    unsafe { cortex_m_semihosting::syscall1(number, arguments.as_mut_ptr().expose_provenance()) as isize }
}

/// Where the RAM begins, and the stack ends (`memory.x`).
const STACK: usize = 0x2000_0000;

/// The host's answer was no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed;

/// A file of the host.
pub struct File(usize);

impl File {
    /// Opens a file for reading.
    pub fn reads(path: &CStr) -> Result<Self, Failed> {
        Self::opens(path, nr::open::R_BINARY)
    }

    /// Opens a file for reading and writing, which must be there.
    pub fn updates(path: &CStr) -> Result<Self, Failed> {
        Self::opens(path, nr::open::RW_BINARY)
    }

    /// Opens a new file for reading and writing, and empties one that is there.
    pub fn creates(path: &CStr) -> Result<Self, Failed> {
        Self::opens(path, nr::open::RW_TRUNC_BINARY)
    }

    fn opens(path: &CStr, mode: usize) -> Result<Self, Failed> {
        let handle = call(nr::OPEN, &mut [path.as_ptr().expose_provenance(), mode, path.count_bytes()]);
        usize::try_from(handle).map(File).map_err(|_| Failed)
    }

    /// Bytes of it.
    pub fn len(&self) -> Result<usize, Failed> {
        usize::try_from(call(nr::FLEN, &mut [self.0])).map_err(|_| Failed)
    }

    /// Goes to this byte.
    pub fn seeks(&mut self, at: usize) -> Result<(), Failed> {
        if call(nr::SEEK, &mut [self.0, at]) == 0 { Ok(()) } else { Err(Failed) }
    }

    /// Reads as much as there is and goes in, and says how much.
    pub fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Failed> {
        let missing = call(nr::READ, &mut [self.0, bytes.as_mut_ptr().expose_provenance(), bytes.len()]);
        usize::try_from(missing).ok().and_then(|missing| bytes.len().checked_sub(missing)).ok_or(Failed)
    }

    /// Reads this many bytes.
    pub fn read_exact(&mut self, bytes: &mut [u8]) -> Result<(), Failed> {
        if self.read(bytes)? == bytes.len() { Ok(()) } else { Err(Failed) }
    }

    /// Writes all of it.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Failed> {
        let missing = call(nr::WRITE, &mut [self.0, bytes.as_ptr().expose_provenance(), bytes.len()]);
        if missing == 0 { Ok(()) } else { Err(Failed) }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        call(nr::CLOSE, &mut [self.0]);
    }
}

/// Bytes that nobody can guess: the host's, for the board has no source of its own.
pub fn random(bytes: &mut [u8]) {
    let read = File::reads(c"/dev/urandom").and_then(|mut file| file.read_exact(bytes));
    read.expect("the host must have /dev/urandom: links would not be secret without");
}

/// A number that nobody can guess.
pub fn random_number() -> u32 {
    let mut bytes = [0; 4];
    random(&mut bytes);
    u32::from_le_bytes(bytes)
}

/// What the board was started with: the words behind each `arg=`, with spaces between.
pub fn arguments(buffer: &mut [u8]) -> Result<&str, Failed> {
    let mut block = [buffer.as_mut_ptr().expose_provenance(), buffer.len()];
    if call(nr::GET_CMDLINE, &mut block) != 0 {
        return Err(Failed);
    }
    let text = buffer.get(..block[1]).ok_or(Failed)?;
    core::str::from_utf8(text).map(|text| text.trim_end_matches('\0')).map_err(|_| Failed)
}

/// A line on the console, in one piece: an emulator that is killed has written all of it or nothing.
pub fn say(line: fmt::Arguments<'_>) {
    let mut text = Text { bytes: [0; 160], len: 0 };
    // Of one that is too long the beginning is said.
    let _ = text.write_fmt(line);
    text.bytes[text.len] = b'\n';
    if let Ok(mut console) = File::opens(c":tt", nr::open::W_TRUNC) {
        let _ = console.write(&text.bytes[..=text.len]);
    }
}

/// A line, with room for its end.
struct Text {
    bytes: [u8; 160],
    len: usize,
}

impl Write for Text {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = &mut self.bytes[self.len..159];
        let count = more.len().min(room.len());
        room[..count].copy_from_slice(&more.as_bytes()[..count]);
        self.len += count;
        if count == more.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

/// Ends the emulator, as a success or not.
pub fn ends(success: bool) -> ! {
    debug::exit(if success { debug::EXIT_SUCCESS } else { debug::EXIT_FAILURE });
    // An emulator without semihosting goes on.
    loop {
        cortex_m::asm::wfi();
    }
}

#[panic_handler]
fn panics(info: &PanicInfo<'_>) -> ! {
    say(format_args!("{info}"));
    ends(false)
}

#[expect(unsafe_code, reason = "a handler that may touch no stack")]
mod fault {
    use core::arch::global_asm;

    // The stack may be what is at fault: it begins anew, and where it was goes along. Nothing is gone back to.
    global_asm!(
    ".section .HardFault.user, \"ax\"",
    ".global HardFault",
    ".type HardFault, %function",
    ".thumb_func",
    "HardFault:",
    "mov r0, sp",
    "ldr r1, =_stack_start",
    "mov sp, r1",
    "b {stopped}",
    stopped = sym super::stopped,
    );
}

/// The processor has found something that it cannot do.
extern "C" fn stopped(stack: usize) -> ! {
    if stack < STACK {
        say(format_args!("the stack is too deep: {:#010x}", stack));
    } else {
        say(format_args!("the processor stopped, its stack at {:#010x}", stack));
    }
    ends(false)
}
