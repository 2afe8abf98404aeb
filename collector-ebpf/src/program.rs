//! The XDP program: hands the datagrams that are listened for to AF_XDP sockets.
//!
//! In: each frame that an interface receives. Out: a redirect to the socket of the frame's queue,
//! or the frame passed on to the kernel; of ours, only those from sources that are not allowed are
//! dropped. Whatever is not understood is passed (fail open). Owner: the kernel; user space fills
//! the maps and reads the counters. Built by `cargo xtask build-ebpf` into `flowsluice.bpf.o`.

#![no_std]
#![no_main]
#![allow(
    unsafe_code,
    reason = "frames, maps and the kernel's context are memory that only pointers lead to"
)]
#![allow(
    missing_docs,
    reason = "the attribute `xdp` makes public functions without any"
)]

use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::helpers::generated::bpf_xdp_load_bytes;
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::lpm_trie::{Key, LpmTrie};
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, XskMap};
use aya_ebpf::programs::XdpContext;
use collector_ebpf::{FrameBytes, UdpFrame, Verdict, maps, udp_frame};

#[map]
static XSKS: XskMap = XskMap::with_max_entries(maps::QUEUES_MAX, 0);
#[map]
static PORTS: HashMap<u16, u8> = HashMap::with_max_entries(maps::PORTS_MAX, 0);
#[map]
static DESTINATIONS: HashMap<[u8; 16], u8> = HashMap::with_max_entries(maps::DESTINATIONS_MAX, 0);
#[map]
static ALLOWED: LpmTrie<[u8; 16], u8> = LpmTrie::with_max_entries(maps::ALLOWED_MAX, 0);
#[map]
static SETTINGS: Array<u32> = Array::with_max_entries(1, 0);
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Verdict::COUNT as u32, 0);

/// No helper that the program calls is for GPL programs only.
// SAFETY: the section and the name are those that loaders look for; nothing else has them.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 4] = *b"MIT\0";

/// [`maps::STEER`].
#[xdp]
pub fn steer(context: XdpContext) -> u32 {
    act(&context, &Direct(&context))
}

/// [`maps::STEER_COPYING`].
#[xdp]
pub fn steer_copying(context: XdpContext) -> u32 {
    act(&context, &Copied(&context))
}

#[inline(always)]
fn act<F: FrameBytes>(context: &XdpContext, frame: &F) -> u32 {
    let (verdict, action) = match udp_frame(frame) {
        Ok(frame) => decide(context, &frame),
        Err(pass) => (pass.into(), XDP_PASS),
    };
    count(verdict);
    action
}

#[inline(always)]
fn decide(context: &XdpContext, frame: &UdpFrame) -> (Verdict, u32) {
    if PORTS.get_ptr(&frame.dst_port).is_none() {
        return (Verdict::OtherPort, XDP_PASS);
    }
    if DESTINATIONS.get_ptr(&frame.dst).is_none() {
        return (Verdict::OtherDestination, XDP_PASS);
    }
    let is_list_active = SETTINGS.get(maps::IS_ALLOW_LIST_ACTIVE) == Some(&1);
    if is_list_active && ALLOWED.get(&Key::new(128, frame.src)).is_none() {
        return (Verdict::NotAllowed, XDP_DROP);
    }
    // SAFETY: the kernel passes a valid context, which outlives this call.
    let queue = unsafe { (*context.ctx).rx_queue_index };
    match XSKS.redirect(queue, u64::from(XDP_PASS)) {
        Ok(redirect) => (Verdict::Redirected, redirect),
        // No socket for this queue: what was given above.
        Err(action) => (Verdict::NoSocket, action),
    }
}

#[inline(always)]
fn count(verdict: Verdict) {
    if let Some(counter) = COUNTERS.get_ptr_mut(verdict.index()) {
        // SAFETY: a per-CPU map's value belongs to this processor, on which no other XDP program
        // runs before this one returns; the map aligns values to 8 bytes.
        unsafe { *counter = (*counter).wrapping_add(1) };
    }
}

/// A frame read through pointers.
struct Direct<'a>(&'a XdpContext);

impl FrameBytes for Direct<'_> {
    #[inline(always)]
    fn array<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        // The verifier follows no pointer that an unbounded number was added to.
        if offset > OFFSET_MAX {
            return None;
        }
        let start = self.0.data() + offset;
        if start + N > self.0.data_end() {
            return None;
        }
        // SAFETY: `data..data_end` is the frame's readable memory while the program runs, and
        // `start..start + N` lies in it; an array of bytes needs no alignment and any bytes are one.
        Some(unsafe { *(start as *const [u8; N]) })
    }
}

/// A frame whose headers the kernel copies out.
struct Copied<'a>(&'a XdpContext);

impl FrameBytes for Copied<'_> {
    #[inline(always)]
    fn array<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: the context is the kernel's, and `bytes` has room for the `N` bytes asked for.
        let status = unsafe {
            bpf_xdp_load_bytes(
                self.0.as_ptr().cast(),
                offset as u32,
                bytes.as_mut_ptr().cast(),
                N as u32,
            )
        };
        // SAFETY: 0 means that all `N` bytes were written.
        (status == 0).then(|| unsafe { bytes.assume_init() })
    }
}

/// More than any header begins at: Ethernet, two tags, IPv6.
const OFFSET_MAX: usize = 64;

/// Nothing above panics; the compiler asks for a handler all the same.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
