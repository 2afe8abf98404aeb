//! Why AF_XDP cannot be used, as a sentence with its remedy.

use std::fmt;
use std::io;

/// What was being done when the kernel refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Making the program's maps.
    Maps,
    /// Having the program verified and loaded.
    Load,
    /// Attaching the program to the interface.
    Attach,
    /// Making the AF_XDP socket.
    Socket,
    /// Registering the memory for frames.
    Umem,
    /// Setting a ring's size or mapping it.
    Rings,
    /// Binding the socket to a queue.
    Bind,
    /// Putting the socket into the program's map.
    Steer,
    /// Looking the interface up.
    Interface,
}

/// Why an interface has no AF_XDP socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XdpRefused {
    /// The interface's name.
    pub interface: String,
    /// The queue, where it was about one.
    pub queue: Option<u32>,
    /// What was being done.
    pub step: Step,
    /// The system's error number; 0 where it gave none.
    pub errno: i32,
    /// What the verifier or aya said besides; empty where nothing.
    pub detail: String,
}

impl XdpRefused {
    /// The kernel's refusal of `step` on `interface`.
    #[cold]
    #[must_use]
    pub fn new(interface: &str, queue: Option<u32>, step: Step, error: &io::Error) -> Self {
        Self {
            interface: interface.to_owned(),
            queue,
            step,
            errno: error.raw_os_error().unwrap_or(0),
            detail: String::new(),
        }
    }

    /// Refused by what was found on `interface`, not by the kernel: `detail` is the sentence.
    #[cold]
    #[must_use]
    pub fn because(interface: &str, step: Step, detail: String) -> Self {
        Self {
            interface: interface.to_owned(),
            queue: None,
            step,
            errno: 0,
            detail,
        }
    }
}

impl Step {
    /// What failed, where no sentence knows the error.
    fn phrase(self) -> &'static str {
        match self {
            Self::Maps => "the program's maps cannot be made or filled",
            Self::Load => "the program cannot be loaded",
            Self::Attach => "the program cannot be attached",
            Self::Socket => "an AF_XDP socket cannot be made",
            Self::Umem => "the memory for frames cannot be had",
            Self::Rings => "the rings cannot be had",
            Self::Bind => "the socket cannot be bound to the queue",
            Self::Steer => "the program does not take the queue's socket",
            Self::Interface => "the interface cannot be used",
        }
    }
}

impl fmt::Display for XdpRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { interface, .. } = self;
        write!(f, "receive: AF_XDP cannot be used on {interface}")?;
        if let Some(queue) = self.queue {
            write!(f, ", queue {queue}")?;
        }
        f.write_str(": ")?;
        let sentence =
            of_program(self.step, self.errno).or_else(|| of_socket(self.step, self.errno));
        match (sentence, self.step, self.errno) {
            (Some(sentence), ..) => f.write_str(sentence)?,
            // What is not the kernel's refusal says all of it.
            (None, _, 0) => return f.write_str(&self.detail),
            (None, step, errno) => {
                let error = io::Error::from_raw_os_error(errno);
                write!(f, "{}: {error}", step.phrase())?;
            }
        }
        if !self.detail.is_empty() {
            write!(f, "; {}", self.detail)?;
        }
        Ok(())
    }
}

impl std::error::Error for XdpRefused {}

fn of_program(step: Step, errno: i32) -> Option<&'static str> {
    Some(match (step, errno) {
        (Step::Maps | Step::Load, libc::EPERM) => {
            "maps and programs need CAP_BPF and CAP_NET_ADMIN (EPERM); give the service both \
             (AmbientCapabilities), or run as root"
        }
        (Step::Maps, libc::E2BIG | libc::ENOSPC) => {
            "a map of the program has no room for so many entries; set fewer listeners, \
             receive.xdp.destinations or receive.allow"
        }
        (Step::Load, libc::EACCES) => {
            "the verifier refuses the program (EACCES), as it does without CAP_PERFMON; give \
             the service CAP_PERFMON or set receive.xdp.perfmon = false"
        }
        (Step::Attach, libc::EBUSY | libc::EEXIST) => {
            "another XDP program is attached to it (EBUSY); see which by 'bpftool net' or 'ip \
             link', and detach it"
        }
        (Step::Attach, libc::ERANGE) => {
            "its MTU is too large for native XDP (ERANGE); lower it ('ip link set mtu 1500') \
             or set receive.xdp.attach = \"skb\""
        }
        (Step::Attach, libc::EOPNOTSUPP) => {
            "its driver has no native XDP (EOPNOTSUPP); set receive.xdp.attach = \"skb\""
        }
        (Step::Attach, libc::EINVAL) => {
            "its driver refuses native XDP as it is set up, or the kernel is older than 5.9 \
             (EINVAL); see 'dmesg', or set receive.xdp.attach = \"skb\""
        }
        (Step::Attach, libc::EPERM) => {
            "attaching needs CAP_NET_ADMIN (EPERM); give it to the service"
        }
        _ => return None,
    })
}

fn of_socket(step: Step, errno: i32) -> Option<&'static str> {
    Some(match (step, errno) {
        (Step::Socket, libc::EPERM) => {
            "AF_XDP sockets need CAP_NET_RAW (EPERM); give it to the service"
        }
        (Step::Socket, libc::EAFNOSUPPORT) => {
            "this kernel is built without XDP sockets (EAFNOSUPPORT, CONFIG_XDP_SOCKETS)"
        }
        (Step::Umem, libc::ENOBUFS | libc::ENOMEM) => {
            "the memory for frames may not be locked (ENOBUFS); raise the limit ('ulimit -l', \
             LimitMEMLOCK), give CAP_IPC_LOCK or lower receive.xdp.frames"
        }
        (Step::Bind, libc::EINVAL) => {
            "the interface has no such queue, or its MTU does not fit a frame (EINVAL); see \
             'ethtool -l' and 'ip link'"
        }
        (Step::Bind, libc::EBUSY) => {
            "another AF_XDP socket has this queue (EBUSY); stop the program that holds it"
        }
        (Step::Bind, libc::EOPNOTSUPP | libc::EPROTONOSUPPORT) => {
            "its driver has no zero-copy (EOPNOTSUPP); set receive.xdp.copy = \"auto\""
        }
        (Step::Bind, libc::ENETDOWN) => {
            "the interface is down (ENETDOWN); 'ip link set up' brings it up"
        }
        (Step::Interface, libc::ENODEV) => {
            "there is no such interface (ENODEV); see 'ip link' and change \
             receive.xdp.interfaces"
        }
        _ => return None,
    })
}
