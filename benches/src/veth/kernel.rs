//! Frames that the kernel makes itself.
//!
//! An XDP program of four instructions sends what it is run with out of an interface, and
//! BPF_PROG_TEST_RUN runs it with a frame as often as it is told, each time with a real frame of
//! the driver's kind and no socket buffer. Specs: bpf(2); include/uapi/linux/bpf.h and
//! net/bpf/test_run.c of Linux 6.18.

#![allow(unsafe_code, reason = "bpf(2) takes addresses of what it reads")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// A loaded program that redirects frames to an interface.
#[derive(Debug)]
pub struct Redirect {
    program: OwnedFd,
    /// See [`Redirect::load`]. Closed, it is detached.
    _attached: OwnedFd,
}

impl Redirect {
    /// Loads the program for the interface with index `to` of this thread's network namespace.
    ///
    /// It is attached to that namespace's loopback interface, where nothing must be sent: while a
    /// program is attached nowhere, the kernel changes its dispatcher of XDP programs before and
    /// after each run, and waits for all processors each time.
    ///
    /// # Errors
    /// `EPERM` without CAP_BPF and CAP_NET_ADMIN; `ENOSYS` where the kernel has no bpf(2).
    pub fn load(to: u32) -> io::Result<Self> {
        let to = i32::try_from(to).expect("the kernel keeps interface indexes in an int");
        let instructions = [
            Instruction::new(MOVE, REGISTER_1, to),
            Instruction::new(MOVE, REGISTER_2, 0),
            Instruction::new(CALL, 0, HELPER_REDIRECT),
            Instruction::new(EXIT, 0, 0),
        ];
        let load = ProgramLoad {
            kind: PROGRAM_XDP,
            instruction_count: instructions.len() as u32,
            instructions: instructions.as_ptr().addr() as u64,
            license: LICENSE.as_ptr().addr() as u64,
        };
        let program = descriptor(bpf(PROG_LOAD, &load)?);
        let create = LinkCreate {
            program: program.as_raw_fd() as u32,
            interface: LOOPBACK_INDEX,
            attach_type: ATTACH_XDP,
            flags: XDP_GENERIC,
        };
        let attached = descriptor(bpf(LINK_CREATE, &create)?);
        Ok(Self {
            program,
            _attached: attached,
        })
    }

    /// Sends `frame`, from its Ethernet header on, `times` times. The interface's peer has to take
    /// frames from XDP: a veth does when its peer has GRO on or an XDP program of its own.
    ///
    /// # Errors
    /// `EINVAL` when the frame is shorter than an Ethernet header or longer than a page has room
    /// for, or the kernel is older than 5.18.
    pub fn run(&self, frame: &[u8], times: u32) -> io::Result<()> {
        let run = TestRun {
            program: self.program.as_raw_fd() as u32,
            data_size_in: frame.len() as u32,
            data_in: frame.as_ptr().addr() as u64,
            repeat: times,
            flags: LIVE_FRAMES,
            ..TestRun::default()
        };
        bpf(PROG_TEST_RUN, &run).map(|_| ())
    }
}

/// What bpf(2) may be called with.
///
/// # Safety
/// The layout is that of the member of `union bpf_attr` for the command it is passed with, all its
/// bytes are initialised, and each address in it leads to readable memory of the length that the
/// member says.
unsafe trait Attributes {}

// SAFETY: as in the header, with padding as a field; its makers above take every address from a
// slice or a C string that lives until the call returns.
unsafe impl Attributes for ProgramLoad {}
// SAFETY: as in the header; there are no addresses.
unsafe impl Attributes for LinkCreate {}
// SAFETY: as in the header, with padding as a field; the one address is that of a slice which
// lives until the call returns, the others are zero with lengths of zero.
unsafe impl Attributes for TestRun {}

fn bpf<T: Attributes>(command: libc::c_int, attributes: &T) -> io::Result<RawFd> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes, and what the implementation of `Attributes`
    // vouches for; it writes back only into a test run's results, which nobody reads.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    match RawFd::try_from(outcome) {
        Ok(outcome) if outcome >= 0 => Ok(outcome),
        _ => Err(io::Error::last_os_error()),
    }
}

fn descriptor(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just made it for this process, and nothing else has seen it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// `struct bpf_insn`; the low half of `registers` is the destination.
#[repr(C)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

impl Instruction {
    const fn new(code: u8, destination: u8, immediate: i32) -> Self {
        Self {
            code,
            registers: destination,
            offset: 0,
            immediate,
        }
    }
}

#[repr(C)]
struct ProgramLoad {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

#[derive(Default)]
#[repr(C)]
struct TestRun {
    program: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    padding: u32,
}

/// `BPF_PROG_LOAD`, `BPF_PROG_TEST_RUN` and `BPF_LINK_CREATE` of `enum bpf_cmd`.
const PROG_LOAD: libc::c_int = 5;
const PROG_TEST_RUN: libc::c_int = 10;
const LINK_CREATE: libc::c_int = 28;
/// `BPF_PROG_TYPE_XDP`
const PROGRAM_XDP: u32 = 6;
/// `BPF_XDP` of `enum bpf_attach_type`
const ATTACH_XDP: u32 = 37;
/// `XDP_FLAGS_SKB_MODE`
const XDP_GENERIC: u32 = 1 << 1;
/// `BPF_F_TEST_XDP_LIVE_FRAMES`
const LIVE_FRAMES: u32 = 1 << 1;
/// `BPF_ALU64 | BPF_MOV | BPF_K`, `BPF_JMP | BPF_CALL`, `BPF_JMP | BPF_EXIT`
const MOVE: u8 = 0xb7;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const REGISTER_1: u8 = 1;
const REGISTER_2: u8 = 2;
/// `bpf_redirect(index, flags)`
const HELPER_REDIRECT: i32 = 23;
/// `LOOPBACK_IFINDEX`, the same in every network namespace.
const LOOPBACK_INDEX: u32 = 1;
const LICENSE: &std::ffi::CStr = c"MIT";
