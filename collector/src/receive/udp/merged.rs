//! Datagrams that the kernel has merged (UDP_GRO), taken apart again.
//!
//! All of them are of one length, which a control message tells, but for the last, which may be
//! shorter. Specs: udp(7), cmsg(3); net/ipv4/udp.c, `udp_cmsg_recv`.

/// Room for one control message with an int, aligned like its header.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub(super) struct Control {
    /// Bytes of the message, this header included.
    length: usize,
    level: libc::c_int,
    kind: libc::c_int,
    segment_bytes: libc::c_int,
}

/// How long the merged datagrams are; `None` when the kernel, which wrote `written` bytes into
/// `control`, says nothing about it.
#[inline]
pub(super) fn segment_bytes(control: &Control, written: usize) -> Option<usize> {
    if written < MESSAGE_BYTES {
        return None;
    }
    let is_about_it = (control.level, control.kind) == (libc::SOL_UDP, libc::UDP_GRO)
        && control.length >= MESSAGE_BYTES;
    let bytes = usize::try_from(control.segment_bytes).ok();
    bytes.filter(|bytes| is_about_it && *bytes > 0)
}

/// The datagrams in `payload`: one, even an empty one, unless it is longer than a segment.
#[inline]
pub(super) fn datagrams(
    payload: &[u8],
    segment_bytes: Option<usize>,
) -> impl Iterator<Item = &[u8]> {
    let segment_bytes = segment_bytes.unwrap_or(usize::MAX);
    let mut rest = Some(payload);
    std::iter::from_fn(move || {
        let all = rest?;
        let (datagram, after) = all.split_at(segment_bytes.min(all.len()));
        rest = (!after.is_empty()).then_some(after);
        Some(datagram)
    })
}

/// Without the padding behind it.
const MESSAGE_BYTES: usize =
    std::mem::offset_of!(Control, segment_bytes) + size_of::<libc::c_int>();
// As CMSG_DATA finds the int.
const _: () = assert!(std::mem::offset_of!(Control, segment_bytes) == size_of::<libc::cmsghdr>());

#[cfg(test)]
mod tests {
    use super::*;

    fn control(level: libc::c_int, kind: libc::c_int, segment_bytes: libc::c_int) -> Control {
        Control {
            length: MESSAGE_BYTES,
            level,
            kind,
            segment_bytes,
        }
    }

    #[test]
    fn the_length_is_taken_only_from_its_own_message() {
        let told = control(libc::SOL_UDP, libc::UDP_GRO, 1400);
        assert_eq!(segment_bytes(&told, size_of::<Control>()), Some(1400));
        assert_eq!(segment_bytes(&told, MESSAGE_BYTES), Some(1400));
        assert_eq!(segment_bytes(&told, 0), None, "left from an earlier call");
        for other in [
            control(libc::SOL_SOCKET, libc::UDP_GRO, 1400),
            control(libc::SOL_UDP, libc::UDP_SEGMENT, 1400),
            control(libc::SOL_UDP, libc::UDP_GRO, 0),
            control(libc::SOL_UDP, libc::UDP_GRO, -1),
        ] {
            assert_eq!(segment_bytes(&other, size_of::<Control>()), None);
        }
    }

    #[test]
    fn merged_datagrams_come_apart_and_others_stay_whole() {
        let split = |payload: &'static [u8], segment_bytes| -> Vec<_> {
            datagrams(payload, segment_bytes).collect()
        };
        assert_eq!(split(b"aaabbbc", Some(3)), [&b"aaa"[..], b"bbb", b"c"]);
        assert_eq!(split(b"aaabbb", Some(3)), [&b"aaa"[..], b"bbb"]);
        assert_eq!(split(b"aaa", Some(3)), [b"aaa"]);
        assert_eq!(split(b"aaabbb", None), [b"aaabbb"]);
        assert_eq!(split(b"", Some(3)), [b""]);
        assert_eq!(split(b"", None), [b""]);
    }
}
