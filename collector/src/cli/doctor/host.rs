//! What is the host's as a whole: the kernel, this user's rights and limits, the processors.

use std::io;

use bytesize::ByteSize;

use flowsluice::config::{Config, ReceiveMode, display};
use flowsluice::host::kernel::{self, Version, setting};
use flowsluice::host::limits::{self, Capability, HugePages};
use flowsluice::host::{Interface, Kind, cpus, interrupts, memory_lock};
use flowsluice::receive::affinity::AffinityError;
use flowsluice::receive::{self, sockets::BufferCapped};

use super::report::{Check, Section, State};
use super::{Wanted, counted};

type Workers = Result<Vec<Option<usize>>, AffinityError>;

/// Everything that is not an interface's.
pub fn section(wanted: &Wanted, all: &[Interface], workers: &Workers) -> Section {
    let release = setting("kernel.osrelease").unwrap_or_default();
    let capabilities = limits::capabilities();
    let mut checks = vec![
        interfaces(wanted, all),
        kernel_version(wanted, &release),
        io_uring(&wanted.config, all),
        xdp_sockets(wanted, kernel::xdp_socket()),
        jit(&setting("net.core.bpf_jit_enable")),
        capabilities_check(wanted, capabilities.as_deref()),
        locked_memory(wanted, capabilities.as_deref(), limits::locked_memory_max()),
    ];
    if wanted.config.receive.xdp.huge_pages {
        checks.push(huge_pages(wanted, limits::huge_pages()));
    }
    checks.push(receive_buffer(wanted));
    checks.push(backlog(interrupts::softirqs()));
    checks.push(workers_check(workers, &cpus::online()));
    checks.push(balance(wanted, interrupts::are_balanced()));
    let cpus = counted(cpus::online().len() as u64, "CPU");
    let user = rustix::process::geteuid().as_raw();
    let user = if user == 0 {
        "root".into()
    } else {
        format!("user {user}")
    };
    Section {
        name: "host".into(),
        what: format!("Linux {release}, {cpus}, asked as {user}"),
        interface: None,
        checks,
    }
}

/// Which interfaces there are, and how to name one.
fn interfaces(wanted: &Wanted, all: &[Interface]) -> Check {
    let subject = "interfaces";
    let receive = &wanted.config.receive;
    let named = receive.xdp.interfaces.join(", ");
    if wanted.af_xdp {
        return Check::ok(subject, format!("AF_XDP on {named}"));
    }
    if !named.is_empty() {
        let mode = receive.mode.name();
        return Check::new(
            State::Advice,
            subject,
            format!("receive.mode = \"{mode}\" leaves AF_XDP on {named} off"),
        )
        .set("mode = \"auto\" in [receive]");
    }
    let cards = all.iter().filter(|one| one.kind == Kind::Physical);
    let shown: Vec<_> = cards
        .clone()
        .map(|card| match card.is_up {
            true => card.name.clone(),
            false => format!("{} (down)", card.name),
        })
        .collect();
    if shown.is_empty() {
        return Check::unknown(
            subject,
            "no network card found; name an interface as argument",
        );
    }
    let first = cards
        .clone()
        .find(|card| card.is_up)
        .or(cards.clone().next());
    let first = first.map_or("eth0", |card| &card.name);
    Check::ok(
        subject,
        format!("AF_XDP is off; cards: {}", shown.join(", ")),
    )
    .set(format!(
        "interfaces = [\"{first}\"] in [receive.xdp] to use it"
    ))
}

fn kernel_version(wanted: &Wanted, release: &str) -> Check {
    let subject = "kernel";
    let Some(version) = Version::parse(release) else {
        return Check::unknown(subject, format!("{release:?} is no version"));
    };
    let needed = [
        (Version(5, 9), "bpf_link", wanted.lacking()),
        (Version(5, 18), "bpf_xdp_load_bytes", State::Advice),
        (Version(6, 0), "io_uring multishot", State::Advice),
    ];
    let missing = needed.iter().filter(|(since, ..)| version < *since);
    let name = |(since, what, _): &(Version, &str, State)| format!("{what} ({since})");
    let Some(state) = missing.clone().map(|(.., state)| *state).max() else {
        let has: Vec<_> = needed.iter().map(name).collect();
        return Check::ok(subject, format!("{version} has {}", has.join(", ")));
    };
    let names: Vec<_> = missing.map(name).collect();
    let found = format!(
        "{version} is too old for {}; a newer kernel has it",
        names.join(", ")
    );
    Check::new(state, subject, found)
}

fn io_uring(config: &Config, all: &[Interface]) -> Check {
    let subject = "io_uring";
    let mut receive = config.receive.clone();
    let configured = receive.mode;
    if configured == ReceiveMode::Recvmmsg {
        return Check::ok(subject, "not used: receive.mode = \"recvmmsg\"");
    }
    // So that a refusal is told instead of fallen back from.
    receive.mode = ReceiveMode::IoUring;
    let refused = match receive::choose(&receive) {
        Ok(_) => return Check::ok(subject, "a ring for multishot recvmsg could be made"),
        Err(refused) => refused.to_string(),
    };
    let check = match configured {
        ReceiveMode::IoUring => {
            Check::new(State::Problem, subject, refused).set("mode = \"auto\" in [receive]")
        }
        _ => Check::new(State::Advice, subject, refused),
    };
    // It is tried out on the loopback.
    let loopback = all.iter().find(|one| one.kind == Kind::Loopback);
    match loopback.filter(|lo| !lo.is_up) {
        Some(lo) => check.run(format!("ip link set dev {} up", lo.name)),
        None => check,
    }
}

fn xdp_sockets(wanted: &Wanted, made: io::Result<()>) -> Check {
    let subject = "AF_XDP";
    let Err(error) = made else {
        return Check::ok(subject, "a socket could be made");
    };
    match error.raw_os_error() {
        Some(libc::EAFNOSUPPORT) => Check::new(
            wanted.lacking(),
            subject,
            "this kernel is built without XDP sockets (CONFIG_XDP_SOCKETS)",
        ),
        Some(libc::EPERM) => Check::unknown(subject, "run as root, or with CAP_NET_RAW"),
        _ => Check::unknown(subject, format!("no socket could be made: {error}")),
    }
}

fn jit(value: &io::Result<String>) -> Check {
    let subject = "BPF JIT";
    match value.as_deref() {
        Ok("0") => Check::new(State::Advice, subject, "off: XDP programs are interpreted")
            .run("sysctl -w net.core.bpf_jit_enable=1"),
        Ok(_) => Check::ok(subject, "on"),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Check::unknown(
            subject,
            "run as root, who alone reads net.core.bpf_jit_enable",
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Check::unknown(
            subject,
            "run in the host's network namespace, which alone has net.core.bpf_jit_enable",
        ),
        Err(error) => Check::unknown(subject, format!("net.core.bpf_jit_enable: {error}")),
    }
}

fn capabilities_check(wanted: &Wanted, effective: Option<&[Capability]>) -> Check {
    let subject = "capabilities";
    let Some(effective) = effective else {
        return Check::unknown(subject, "/proc/self/status does not tell");
    };
    let names = |of: &[Capability]| {
        let names: Vec<_> = of.iter().map(|one| one.name()).collect();
        names.join(" ")
    };
    // CAP_IPC_LOCK is one way to have memory locked; that has a check of its own.
    let needed = Capability::ALL.into_iter().filter(|one| match one {
        Capability::IpcLock => false,
        Capability::Perfmon => wanted.config.receive.xdp.perfmon,
        _ => true,
    });
    let missing: Vec<_> = needed.filter(|one| !effective.contains(one)).collect();
    if missing.is_empty() {
        return Check::ok(subject, names(effective));
    }
    let all = names(&Capability::ALL);
    let binary =
        std::env::current_exe().map_or("flowsluice".into(), |path| path.display().to_string());
    let list = all.to_lowercase().replace(' ', ",");
    let found = format!("this user lacks {} for AF_XDP", names(&missing));
    Check::new(wanted.lacking(), subject, found)
        .run(format!("setcap {list}+ep {binary}"))
        .set(format!(
            "AmbientCapabilities={all} in the service's unit, instead"
        ))
}

/// Memory of the sockets' frames: it is locked, and counted against a limit.
fn locked_memory(wanted: &Wanted, effective: Option<&[Capability]>, limit: Option<u64>) -> Check {
    let subject = "locked memory";
    let (need, how) = frames_bytes(wanted);
    let may_exceed = effective.is_some_and(|have| have.contains(&Capability::IpcLock));
    if let Some(limit) = limit.filter(|limit| *limit < need && !may_exceed) {
        let kib = need.div_ceil(1024);
        let found = format!("{} for {how}, but the limit is {}", iec(need), iec(limit));
        return Check::new(wanted.lacking(), subject, found)
            .run(format!("ulimit -l {kib}"))
            .set(format!("LimitMEMLOCK={kib}K in the service's unit"));
    }
    let allowed = match limit {
        _ if may_exceed => "CAP_IPC_LOCK lifts the limit".to_owned(),
        None => "there is no limit".to_owned(),
        Some(limit) => format!("the limit is {}", iec(limit)),
    };
    if need > LOCK_TRIED_MAX {
        return Check::ok(
            subject,
            format!("{} for {how}; {allowed}; not tried", iec(need)),
        );
    }
    match memory_lock::try_lock(usize::try_from(need).unwrap_or(usize::MAX)) {
        Ok(()) => Check::ok(
            subject,
            format!("{} for {how} was locked; {allowed}", iec(need)),
        ),
        Err(error) => {
            let found = format!(
                "{allowed}, but locking {} for {how} failed: {error}",
                iec(need)
            );
            Check::new(wanted.lacking(), subject, found)
                .set("lower frames in [receive.xdp], or give the host more memory")
        }
    }
}

/// Bytes that the frames of all queues take at most, and how that comes.
fn frames_bytes(wanted: &Wanted) -> (u64, String) {
    let frames = u64::from(wanted.config.receive.xdp.frames);
    let queues = wanted.queues.max(1);
    let how = format!("{} of {frames} frames", counted(queues, "queue"));
    let a_queue = receive::xdp::frames_bytes(&wanted.config.receive.xdp) as u64;
    (queues * a_queue, how)
}

fn huge_pages(wanted: &Wanted, pages: Option<HugePages>) -> Check {
    let subject = "huge pages";
    let Some(pages) = pages else {
        return Check::new(wanted.lacking(), subject, "this kernel has none")
            .set("huge_pages = false in [receive.xdp]");
    };
    // Each queue's memory begins on a page of its own.
    let queues = wanted.queues.max(1);
    let (bytes, how) = frames_bytes(wanted);
    let need = queues * (bytes / queues).div_ceil(pages.page_bytes);
    let size = iec(pages.page_bytes);
    let found = format!(
        "{need} of {size} for {how}; {} of {} free",
        pages.free, pages.total
    );
    if pages.free >= need {
        return Check::ok(subject, found);
    }
    let total = pages.total + need - pages.free;
    Check::new(wanted.lacking(), subject, found).run(format!("sysctl -w vm.nr_hugepages={total}"))
}

fn receive_buffer(wanted: &Wanted) -> Check {
    let subject = "socket buffer";
    let bytes = display::bytes(wanted.config.receive.socket_buffer);
    match BufferCapped::probe(&wanted.config.receive) {
        Ok(None) => {
            let max = setting("net.core.rmem_max").and_then(|max| {
                let max = max.parse::<u64>();
                max.map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
            });
            let asked = wanted.config.receive.socket_buffer.as_u64();
            let note = match max {
                Ok(max) if max < asked => format!(
                    " by CAP_NET_ADMIN; without it net.core.rmem_max caps it at {}",
                    iec(max)
                ),
                _ => String::new(),
            };
            Check::ok(subject, format!("{bytes} granted{note}"))
        }
        Ok(Some(capped)) => {
            let granted = iec(capped.granted_bytes as u64);
            let requested = capped.requested_bytes;
            let found = format!("{bytes} asked for (receive.socket_buffer), {granted} granted");
            Check::new(State::Advice, subject, found)
                .run(format!("sysctl -w net.core.rmem_max={requested}"))
        }
        Err(error) => Check::unknown(subject, format!("no socket could be made: {error}")),
    }
}

fn backlog(softirqs: Option<interrupts::Softirqs>) -> Check {
    let subject = "backlog";
    let Some(softirqs) = softirqs else {
        return Check::unknown(subject, "/proc/net/softnet_stat does not tell");
    };
    let dropped = softirqs.dropped;
    if dropped == 0 {
        return Check::ok(
            subject,
            "no packet dropped before the sockets since the host started",
        );
    }
    let found = format!(
        "{} dropped before the sockets since the host started, as a processor's \
                         backlog was full",
        counted(dropped, "packet")
    );
    let check = Check::new(State::Advice, subject, found);
    let now = setting("net.core.netdev_max_backlog").ok();
    match now.and_then(|now| now.parse::<u64>().ok()) {
        Some(now) => check.run(format!("sysctl -w net.core.netdev_max_backlog={}", now * 2)),
        None => check,
    }
}

fn workers_check(workers: &Workers, online: &[usize]) -> Check {
    let subject = "workers";
    let plan = match workers {
        Ok(plan) => plan,
        Err(error) => return Check::new(State::Problem, subject, error.to_string()),
    };
    let count = counted(plan.len() as u64, "worker");
    let mut pinned: Vec<_> = plan.iter().copied().flatten().collect();
    if pinned.is_empty() {
        return Check::ok(
            subject,
            format!("{count}, not pinned (receive.pin = false)"),
        );
    }
    pinned.sort_unstable();
    let others: Vec<_> = online
        .iter()
        .copied()
        .filter(|cpu| !pinned.contains(cpu))
        .collect();
    let found = format!(
        "{count} on CPU {}; left for everything else: {}",
        cpus::format(&pinned),
        cpus::format(&others)
    );
    if others.is_empty() && online.len() > 1 {
        return Check::new(State::Advice, subject, found)
            .set(format!("workers = {} in [receive]", plan.len() - 1));
    }
    Check::ok(subject, found)
}

fn balance(wanted: &Wanted, is_running: bool) -> Check {
    let subject = "irqbalance";
    let is_any_pinned = wanted.workers.iter().any(Option::is_some);
    match (is_running, is_any_pinned) {
        (false, _) => Check::ok(subject, "does not run: interrupts stay where they are"),
        (true, false) => Check::ok(subject, "runs, and workers are not pinned"),
        (true, true) => Check::new(
            State::Advice,
            subject,
            "runs, and moves interrupts to the workers' CPUs and away again",
        )
        .run("systemctl disable --now irqbalance"),
    }
}

fn iec(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

/// More than this is not locked for the sake of an answer: it could push others out of memory.
const LOCK_TRIED_MAX: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use super::super::report::Mend;
    use super::super::tests::{card, wanted};
    use super::*;

    fn run(command: &str) -> Vec<Mend> {
        vec![Mend::Run(command.into())]
    }

    #[test]
    fn an_old_kernel_is_a_problem_only_for_what_is_wanted() {
        let state = |release, af_xdp| kernel_version(&wanted(af_xdp, &[1]), release).state;
        assert_eq!(state("6.1.0-18-amd64", true), State::Ok);
        assert_eq!(state("5.15.0-91-generic", true), State::Advice);
        assert_eq!(state("5.4.0", true), State::Problem);
        assert_eq!(state("5.4.0", false), State::Advice);
        assert_eq!(state("", true), State::Unknown);
        let found = kernel_version(&wanted(true, &[1]), "5.15.0-91-generic").found;
        assert_eq!(
            found,
            "5.15 is too old for bpf_xdp_load_bytes (5.18), io_uring multishot (6.0); a newer \
             kernel has it"
        );
    }

    #[test]
    fn missing_capabilities_are_named_with_the_command() {
        let check = capabilities_check(&wanted(true, &[1]), Some(&[Capability::NetAdmin]));
        assert_eq!(check.state, State::Problem);
        assert_eq!(
            check.found,
            "this user lacks CAP_BPF CAP_NET_RAW CAP_PERFMON for AF_XDP"
        );
        let Mend::Run(command) = &check.mend[0] else {
            panic!("{check:?}")
        };
        let capabilities = "cap_bpf,cap_net_admin,cap_net_raw,cap_perfmon,cap_ipc_lock+ep";
        assert!(
            command.starts_with(&format!("setcap {capabilities} /")),
            "{command}"
        );
        let mut without = wanted(true, &[1]);
        without.config.receive.xdp.perfmon = false;
        let three = [Capability::Bpf, Capability::NetAdmin, Capability::NetRaw];
        assert_eq!(capabilities_check(&without, Some(&three)).state, State::Ok);
        assert_eq!(capabilities_check(&without, None).state, State::Unknown);
    }

    #[test]
    fn a_limit_below_the_frames_memory_is_told_with_what_is_needed() {
        // 2 queues, 4096 frames of 4 KiB.
        let wanted = wanted(true, &[1]);
        let check = locked_memory(&wanted, Some(&[]), Some(8 << 20));
        assert_eq!(check.state, State::Problem);
        assert_eq!(
            check.found,
            "32.0 MiB for 2 queues of 4096 frames, but the limit is 8.0 MiB"
        );
        assert_eq!(check.mend[0], Mend::Run("ulimit -l 32768".into()));
    }

    #[test]
    fn sockets_of_xdp_that_cannot_be_made_say_why() {
        let check = |errno| {
            let error = Err(io::Error::from_raw_os_error(errno));
            xdp_sockets(&wanted(true, &[1]), error)
        };
        assert_eq!(check(libc::EAFNOSUPPORT).state, State::Problem);
        assert_eq!(check(libc::EPERM).found, "run as root, or with CAP_NET_RAW");
        assert_eq!(check(libc::EPERM).state, State::Unknown);
        assert_eq!(xdp_sockets(&wanted(true, &[1]), Ok(())).state, State::Ok);
    }

    #[test]
    fn the_jit_is_switched_on_or_unknown() {
        assert_eq!(jit(&Ok("1".into())).state, State::Ok);
        assert_eq!(
            jit(&Ok("0".into())).mend,
            run("sysctl -w net.core.bpf_jit_enable=1")
        );
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let check = jit(&Err(denied));
        assert_eq!(check.state, State::Unknown);
        assert!(check.found.contains("run as root"), "{}", check.found);
        let elsewhere = jit(&Err(io::Error::from(io::ErrorKind::NotFound)));
        assert!(elsewhere.found.contains("namespace"), "{}", elsewhere.found);
    }

    #[test]
    fn huge_pages_that_are_missing_are_added_to_those_in_use() {
        let mut wanted = wanted(true, &[1]);
        wanted.config.receive.xdp.huge_pages = true;
        let pages = |total, free| HugePages {
            total,
            free,
            page_bytes: 2 << 20,
        };
        let check = huge_pages(&wanted, Some(pages(20, 4)));
        assert_eq!(check.state, State::Problem);
        assert_eq!(check.mend, run("sysctl -w vm.nr_hugepages=32"));
        assert_eq!(huge_pages(&wanted, Some(pages(32, 16))).state, State::Ok);
        assert_eq!(huge_pages(&wanted, None).state, State::Problem);
    }

    #[test]
    fn drops_of_the_backlog_are_told() {
        let softirqs = |dropped| interrupts::Softirqs {
            packets: 10,
            dropped,
            squeezed: 0,
        };
        assert_eq!(backlog(Some(softirqs(0))).state, State::Ok);
        let check = backlog(Some(softirqs(3)));
        assert_eq!(check.state, State::Advice);
        assert!(
            check.found.starts_with("3 packets dropped"),
            "{}",
            check.found
        );
        assert_eq!(backlog(None).state, State::Unknown);
    }

    #[test]
    fn workers_on_every_cpu_leave_none_for_the_rest() {
        let check = workers_check(&Ok(vec![Some(0), Some(1)]), &[0, 1]);
        assert_eq!(check.state, State::Advice);
        assert_eq!(check.mend, [Mend::Set("workers = 1 in [receive]".into())]);
        let check = workers_check(&Ok(vec![Some(3), Some(2)]), &[0, 1, 2, 3]);
        assert_eq!(
            check.found,
            "2 workers on CPU 2-3; left for everything else: 0-1"
        );
        assert_eq!(workers_check(&Ok(vec![None]), &[0]).state, State::Ok);
        let error = Err(AffinityError::UnknownCpu(7));
        assert_eq!(workers_check(&error, &[0]).state, State::Problem);
    }

    #[test]
    fn irqbalance_matters_to_pinned_workers() {
        assert_eq!(balance(&wanted(true, &[1]), false).state, State::Ok);
        assert_eq!(balance(&wanted(true, &[]), true).state, State::Ok);
        assert_eq!(balance(&wanted(true, &[1]), true).state, State::Advice);
    }

    #[test]
    fn without_a_configured_interface_the_line_to_add_is_shown() {
        let check = interfaces(&wanted(false, &[1]), &[card()]);
        assert_eq!(check.state, State::Ok);
        let line = "interfaces = [\"eth0\"] in [receive.xdp] to use it";
        assert_eq!(check.mend, [Mend::Set(line.into())]);
        assert_eq!(interfaces(&wanted(false, &[1]), &[]).state, State::Unknown);
    }
}
