//! The object as it is committed, run by the kernel on crafted frames (BPF_PROG_TEST_RUN).

use std::net::Ipv6Addr;

use super::*;

/// `XDP_DROP`, `XDP_PASS` and `XDP_REDIRECT` of `enum xdp_action`, `linux/bpf.h`.
const DROP: u32 = 1;
const PASS: u32 = 2;
const REDIRECT: u32 = 4;

const PORT: u16 = 2055;
const HERE_V4: [u8; 4] = [198, 51, 100, 2];
const HERE_V6: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const EXPORTER_V4: [u8; 4] = [192, 0, 2, 1];
const EXPORTER_V6: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
/// Shorter frames are refused by BPF_PROG_TEST_RUN.
const FRAME_MIN: usize = 14;

/// A frame in the making: what stands in it, changed by the tests.
#[derive(Clone)]
struct Frame {
    /// Tags and the EtherType.
    ethernet: Vec<u8>,
    ip: Vec<u8>,
    udp: Vec<u8>,
}

impl Frame {
    fn v4() -> Self {
        let mut ip = vec![0x45, 0, 0, 32, 0, 1, 0x40, 0, 64, 17, 0, 0];
        ip.extend(EXPORTER_V4);
        ip.extend(HERE_V4);
        Self {
            ethernet: vec![0x08, 0x00],
            ip,
            udp: udp(PORT),
        }
    }

    fn v6() -> Self {
        let mut ip = vec![0x60, 0, 0, 0, 0, 12, 17, 64];
        ip.extend(EXPORTER_V6);
        ip.extend(HERE_V6);
        Self {
            ethernet: vec![0x86, 0xdd],
            ip,
            udp: udp(PORT),
        }
    }

    fn tagged(mut self, tag: u16) -> Self {
        let [t0, t1] = tag.to_be_bytes();
        self.ethernet.splice(0..0, [t0, t1, 0x20, 7]);
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// With this IPv6 extension header before UDP.
    fn extended(self, next_header: u8) -> Self {
        self.with(|frame| {
            frame.ip[6] = next_header;
            frame.ip[5] += 8;
            frame.ip.extend([17, 0, 0, 0, 0, 0, 0, 1]);
        })
    }

    fn bytes(&self) -> Vec<u8> {
        let macs = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        [&macs, &self.ethernet[..], &self.ip, &self.udp].concat()
    }
}

fn udp(port: u16) -> Vec<u8> {
    let [p0, p1] = port.to_be_bytes();
    vec![0x13, 0x88, p0, p1, 0, 12, 0, 0, 1, 2, 3, 4]
}

/// `test` of `union bpf_attr`, `linux/bpf.h`, as far as it is needed.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    action: u32,
    frame_bytes: u32,
    out_bytes: u32,
    frame: u64,
    out: u64,
    repeat: u32,
    duration_ns: u32,
}

impl Program {
    /// What the program says of `frame`.
    fn run(&mut self, frame: &[u8]) -> u32 {
        self.run_often(frame, 1).0
    }

    /// Likewise, and the mean of its run time in nanoseconds.
    fn run_often(&mut self, frame: &[u8], repeat: u32) -> (u32, u32) {
        const BPF_PROG_TEST_RUN: libc::c_int = 10;
        let program = xdp(&mut self.ebpf, self.name).fd().unwrap();
        let mut run = TestRun {
            program: program.as_fd().as_raw_fd().cast_unsigned(),
            frame_bytes: frame.len() as u32,
            frame: frame.as_ptr().addr() as u64,
            repeat,
            ..TestRun::default()
        };
        // SAFETY: the kernel reads and writes `run`, which is as long as is said, and reads
        // `frame`, whose address and length are in it; both outlive the call.
        let outcome = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_PROG_TEST_RUN,
                &raw mut run,
                size_of::<TestRun>(),
            )
        };
        assert_eq!(outcome, 0, "{}", io::Error::last_os_error());
        (run.action, run.duration_ns)
    }

    /// What the program says of `frame`, and which counter that moved by how much.
    fn verdict(&mut self, frame: &[u8]) -> (u32, Vec<Verdict>) {
        let before = self.counters().unwrap();
        let action = self.run(frame);
        let after = self.counters().unwrap();
        let moved = Verdict::ALL.into_iter().zip(before.iter().zip(after));
        let verdicts = moved.flat_map(|(verdict, (before, after))| {
            std::iter::repeat_n(verdict, (after - before) as usize)
        });
        (action, verdicts.collect())
    }
}

/// Says why a test does not run. Under CI that is a failure.
fn skip(reason: &str) {
    let is_ci = std::env::var_os("CI").is_some();
    assert!(!is_ci, "cannot run, and under CI it must: {reason}");
    eprintln!("skipped: {reason}");
}

/// Both programs with ports and destinations, or none where this user may not load any.
fn programs() -> Vec<Program> {
    let mut programs = Vec::new();
    for perfmon in [true, false] {
        let mut program = match Program::load("test", perfmon) {
            Ok(program) => program,
            Err(refused) if refused.errno == libc::EPERM => {
                skip(&refused.to_string());
                return Vec::new();
            }
            Err(refused) => panic!("{refused}"),
        };
        program.set_ports(&[PORT, 6343]).unwrap();
        program
            .set_destinations(&[HERE_V4.into(), HERE_V6.into()])
            .unwrap();
        programs.push(program);
    }
    programs
}

fn xdp_socket() -> OwnedFd {
    // SAFETY: makes a descriptor and touches no memory.
    let socket = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    assert!(socket >= 0, "{}", io::Error::last_os_error());
    // SAFETY: the kernel has just made this descriptor for us; nothing else knows its number.
    unsafe { OwnedFd::from_raw_fd(socket) }
}

#[track_caller]
fn assert_verdict(program: &mut Program, frame: &Frame, action: u32, verdict: Verdict) {
    let name = program.name;
    let found = program.verdict(&frame.bytes());
    assert_eq!(
        found,
        (action, vec![verdict]),
        "{name}: {:02x?}",
        frame.bytes()
    );
}

/// Datagrams that are listened for.
fn ours() -> Vec<Frame> {
    [Frame::v4(), Frame::v6()]
        .into_iter()
        .flat_map(|frame| {
            let vlan = frame.clone().tagged(0x8100);
            let qinq = vlan.clone().tagged(0x88a8);
            let old = vlan.clone().tagged(0x9100);
            [frame, vlan, qinq, old]
        })
        .collect()
}

#[test]
fn a_datagram_without_a_socket_is_passed_and_with_one_is_redirected() {
    for mut program in programs() {
        for frame in ours() {
            assert_verdict(&mut program, &frame, PASS, Verdict::NoSocket);
        }
        let socket = xdp_socket();
        program.steer_to(1, socket.as_fd()).unwrap();
        for frame in ours() {
            // Test frames come by queue 0.
            assert_verdict(&mut program, &frame, PASS, Verdict::NoSocket);
        }
        program.steer_to(0, socket.as_fd()).unwrap();
        for frame in ours() {
            assert_verdict(&mut program, &frame, REDIRECT, Verdict::Redirected);
        }
    }
}

#[test]
fn whatever_is_not_ours_or_not_plain_is_passed_and_counted() {
    let v4 = Frame::v4;
    let cases = [
        (v4().with(|f| f.udp = udp(53)), Verdict::OtherPort),
        (v4().with(|f| f.ip[19] = 3), Verdict::OtherDestination),
        (
            Frame::v6().with(|f| f.ip[39] = 3),
            Verdict::OtherDestination,
        ),
        (v4().with(|f| f.ip[6] = 0x20), Verdict::Fragment),
        (v4().with(|f| f.ip[7] = 1), Verdict::Fragment),
        (Frame::v6().extended(44), Verdict::Fragment),
        (
            v4().with(|f| {
                f.ip[0] = 0x46;
                f.ip.extend([1, 1, 1, 0]);
            }),
            Verdict::Options,
        ),
        (Frame::v6().extended(0), Verdict::Options),
        (Frame::v6().extended(43), Verdict::Options),
        (Frame::v6().extended(60), Verdict::Options),
        (v4().with(|f| f.ip[9] = 6), Verdict::NotUdp),
        (Frame::v6().with(|f| f.ip[6] = 58), Verdict::NotUdp),
        (v4().with(|f| f.ethernet = vec![0x08, 0x06]), Verdict::NotIp),
        (
            v4().tagged(0x8100).tagged(0x8100).tagged(0x8100),
            Verdict::NotIp,
        ),
        (v4().with(|f| f.ip[0] = 0x44), Verdict::Malformed),
        (v4().with(|f| f.ip[0] = 0x65), Verdict::Malformed),
        (v4().with(|f| f.udp[5] = 7), Verdict::Malformed),
        (v4().with(|f| f.udp[5] = 13), Verdict::Malformed),
        (Frame::v6().with(|f| f.ip[5] = 11), Verdict::Malformed),
    ];
    for mut program in programs() {
        let socket = xdp_socket();
        program.steer_to(0, socket.as_fd()).unwrap();
        for (frame, verdict) in &cases {
            assert_verdict(&mut program, frame, PASS, *verdict);
        }
    }
}

#[test]
fn a_frame_cut_anywhere_in_its_headers_is_passed() {
    for mut program in programs() {
        let socket = xdp_socket();
        program.steer_to(0, socket.as_fd()).unwrap();
        for frame in ours() {
            let bytes = frame.bytes();
            let payload_bytes = 4;
            for length in FRAME_MIN..bytes.len() - payload_bytes {
                let found = program.verdict(&bytes[..length]);
                assert_eq!(
                    found,
                    (PASS, vec![Verdict::Cut]),
                    "{length} of {bytes:02x?}"
                );
            }
        }
    }
}

#[test]
fn with_an_allow_list_only_its_sources_come_through() {
    let nets =
        |texts: &[&str]| -> Vec<IpNet> { texts.iter().map(|t| t.parse().unwrap()).collect() };
    for mut program in programs() {
        let (v4, v6) = (Frame::v4(), Frame::v6());
        program
            .set_allowed(&nets(&["192.0.2.0/31", "2001:db8::/64"]))
            .unwrap();
        assert_verdict(&mut program, &v4, PASS, Verdict::NoSocket);
        assert_verdict(&mut program, &v6, PASS, Verdict::NoSocket);
        let stranger = v4.clone().with(|f| f.ip[15] = 2);
        assert_verdict(&mut program, &stranger, DROP, Verdict::NotAllowed);
        let stranger = v6.clone().with(|f| f.ip[15] = 1);
        assert_verdict(&mut program, &stranger, DROP, Verdict::NotAllowed);
        // What is not ours is not judged.
        let other = v4.clone().with(|f| {
            f.ip[15] = 2;
            f.udp = udp(53);
        });
        assert_verdict(&mut program, &other, PASS, Verdict::OtherPort);

        program.set_allowed(&nets(&["192.0.2.1/32"])).unwrap();
        assert_verdict(&mut program, &v4, PASS, Verdict::NoSocket);
        assert_verdict(&mut program, &v6, DROP, Verdict::NotAllowed);
        // As the list on the sockets' path has it: IPv4 lies within IPv6.
        program
            .set_allowed(&nets(&["::ffff:192.0.2.0/120"]))
            .unwrap();
        assert_verdict(&mut program, &v4, PASS, Verdict::NoSocket);
        program.set_allowed(&nets(&["::/0"])).unwrap();
        assert_verdict(&mut program, &v4, PASS, Verdict::NoSocket);
        program.set_allowed(&[]).unwrap();
        assert_verdict(&mut program, &v6, PASS, Verdict::NoSocket);
    }
}

#[test]
fn ports_and_destinations_are_replaced() {
    for mut program in programs() {
        let (v4, v6) = (Frame::v4(), Frame::v6());
        let elsewhere = IpAddr::from([198, 51, 100, 3]);
        program
            .set_destinations(&[HERE_V6.into(), elsewhere])
            .unwrap();
        assert_verdict(&mut program, &v4, PASS, Verdict::OtherDestination);
        assert_verdict(&mut program, &v6, PASS, Verdict::NoSocket);
        let moved = v4.clone().with(|f| f.ip[19] = 3);
        assert_verdict(&mut program, &moved, PASS, Verdict::NoSocket);
        // An IPv4 address may be written either way.
        program
            .set_destinations(&[Ipv6Addr::from(Address::from_v4(HERE_V4).0).into()])
            .unwrap();
        assert_verdict(&mut program, &v4, PASS, Verdict::NoSocket);
        program.set_ports(&[6343]).unwrap();
        assert_verdict(&mut program, &v4, PASS, Verdict::OtherPort);
        program.set_ports(&[]).unwrap();
        program.set_destinations(&[]).unwrap();
        let sflow = v4.clone().with(|f| f.udp = udp(6343));
        assert_verdict(&mut program, &sflow, PASS, Verdict::OtherPort);
    }
}

#[test]
fn more_ports_than_the_map_holds_are_refused_and_the_rest_still_works() {
    for mut program in programs() {
        let many: Vec<u16> = (1..=maps::PORTS_MAX as u16 + 1).collect();
        let refused = program.set_ports(&many).unwrap_err();
        assert_eq!((refused.step, refused.errno), (Step::Maps, libc::E2BIG));
        program.set_ports(&[PORT]).unwrap();
        assert_verdict(&mut program, &Frame::v4(), PASS, Verdict::NoSocket);
    }
}

#[test]
fn what_is_no_xdp_socket_is_not_steered_to() {
    for mut program in programs() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let refused = program.steer_to(0, socket.as_fd()).unwrap_err();
        assert_eq!((refused.step, refused.queue), (Step::Steer, Some(0)));
        assert_ne!(refused.errno, 0);
        let socket = xdp_socket();
        let refused = program
            .steer_to(maps::QUEUES_MAX, socket.as_fd())
            .unwrap_err();
        assert_eq!((refused.step, refused.errno), (Step::Steer, 0));
        assert!(refused.detail.contains("1024"), "{refused}");
    }
}

#[test]
fn another_program_is_left_alone_and_detaching_makes_room() {
    let Ok([mut first, mut second]) = <[Program; 2]>::try_from(programs()) else {
        return;
    };
    // SAFETY: gives this thread a network of its own; it touches no memory.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return skip(&format!(
            "no network of its own: {}",
            io::Error::last_os_error()
        ));
    }
    // The loopback interface of that network; it has no native XDP.
    let lo = 1;
    let native = first.attach(lo, config::XdpAttach::Native).unwrap_err();
    assert_eq!(
        (native.step, native.errno),
        (Step::Attach, libc::EOPNOTSUPP)
    );
    assert_eq!(first.attach(lo, config::XdpAttach::Auto), Ok(Attached::Skb));
    for attach in [config::XdpAttach::Skb, config::XdpAttach::Auto] {
        let refused = second.attach(lo, attach).unwrap_err();
        assert_eq!(refused.step, Step::Attach);
        assert!(
            matches!(refused.errno, libc::EBUSY | libc::EEXIST),
            "{refused}"
        );
    }
    first.detach();
    assert_eq!(second.attach(lo, config::XdpAttach::Skb), Ok(Attached::Skb));
    drop(second);
    assert_eq!(first.attach(lo, config::XdpAttach::Skb), Ok(Attached::Skb));
    let nowhere = first.attach(9999, config::XdpAttach::Skb).unwrap_err();
    assert_eq!((nowhere.step, nowhere.errno), (Step::Attach, libc::EINVAL));
}

#[test]
fn the_verifiers_last_words_are_told_without_its_statistics() {
    let log = "0: R1=ctx()\n12: (0f) r3 += r2\nR3 pointer arithmetic with it prohibited for \
               !root\nverification time 80 usec\nprocessed 12 insns (limit 1000000)\n";
    assert_eq!(
        last_lines(log),
        "0: R1=ctx() | 12: (0f) r3 += r2 | R3 pointer arithmetic with it prohibited for !root"
    );
    assert_eq!(last_lines(""), "");
}
