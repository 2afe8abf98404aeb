//! The receive queues of an interface: how many, what spreads exporters over them, who serves them.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use flowsluice::host::ethtool::{Channels, Ethtool, HashFields, Rings};
use flowsluice::host::interrupts::{self, Interrupt};
use flowsluice::host::{Interface, Kind, cpus, netdev};

use super::report::{Check, State};
use super::{Wanted, counted};

/// Everything that is about queues, in the order frames pass.
pub fn checks(wanted: &Wanted, interface: &Interface, ethtool: Option<&Ethtool>) -> Vec<Check> {
    let taken = netdev::queues(interface.index).unwrap_or_default();
    let taken: Vec<_> = (taken.iter())
        .filter(|queue| queue.has_socket)
        .map(|queue| queue.id as usize)
        .collect();
    let channels = ethtool.and_then(|ethtool| ethtool.channels().ok());
    let mut checks = vec![count(wanted, interface, channels, &taken)];
    if interface.kind == Kind::Physical {
        if let Some(ethtool) = ethtool {
            checks.extend(spreading(interface, ethtool));
            checks.push(rings(wanted, interface, ethtool.rings()));
        }
        let node = interface.numa_node.and_then(cpus::of_node);
        let places = Places::of(wanted, node, cpus::online());
        let found = interrupts::of(interface);
        checks.push(served(wanted, interface, &found, &places));
        checks.push(numa(wanted, interface, &places));
    }
    if wanted.af_xdp && wanted.config.receive.xdp.busy_poll_us > 0 {
        checks.push(busy_poll(interface));
    }
    checks
}

fn count(
    wanted: &Wanted,
    interface: &Interface,
    channels: Option<Channels>,
    taken: &[usize],
) -> Check {
    let subject = "queues";
    let queues = interface.rx_queues as usize;
    let workers = wanted.workers.len();
    let counts = format!("{queues} for {}", counted(workers as u64, "worker"));
    let sockets = match taken {
        [] => String::new(),
        taken => format!("; AF_XDP sockets are on {} now", cpus::format(taken)),
    };
    if queues >= workers {
        return Check::ok(subject, format!("{counts}{sockets}"));
    }
    let found = format!("{counts}: frames come in by {queues} at once{sockets}");
    let check = Check::new(State::Advice, subject, found);
    let name = &interface.name;
    let combined = channels.filter(|it| it.combined > 0 && it.combined_max as usize >= workers);
    let rx = channels.filter(|it| it.rx > 0 && it.rx_max as usize >= workers);
    match (combined, rx) {
        (Some(_), _) => check.run(format!("ethtool -L {name} combined {workers}")),
        (_, Some(_)) => check.run(format!("ethtool -L {name} rx {workers}")),
        // Sockets of several workers share one queue; an AF_XDP queue has one worker.
        _ if wanted.af_xdp => check.set(format!("workers = {queues} in [receive]")),
        _ => Check::ok(
            subject,
            format!("{counts}; the driver has no more{sockets}"),
        ),
    }
}

/// What chooses a frame's queue.
fn spreading(interface: &Interface, ethtool: &Ethtool) -> Vec<Check> {
    if interface.rx_queues < 2 {
        return vec![Check::ok(
            "spreading",
            "one queue: there is nothing to spread over",
        )];
    }
    let mut checks: Vec<_> = [("hash IPv4", false), ("hash IPv6", true)]
        .map(|(subject, is_ipv6)| hash(interface, subject, &ethtool.udp_hash_fields(is_ipv6)))
        .into();
    checks.push(indirection(interface, ethtool.indirection()));
    checks
}

/// What the card's hash is made of.
fn hash(interface: &Interface, subject: &'static str, fields: &io::Result<HashFields>) -> Check {
    let fields = match fields {
        Ok(fields) => fields,
        Err(error) => return not_told(subject, error),
    };
    let family = if subject.ends_with('6') {
        "udp6"
    } else {
        "udp4"
    };
    let command = format!("ethtool -N {} rx-flow-hash {family} sdfn", interface.name);
    let letters = match fields.letters() {
        none if none.is_empty() => "nothing".into(),
        letters => letters,
    };
    if !fields.source && !fields.source_port {
        let found = format!("{letters}: all exporters come in by the same queue");
        return Check::new(State::Advice, subject, found).run(command);
    }
    if !fields.source_port {
        let found = format!("{letters}: all that one exporter sends comes in by the same queue");
        return Check::new(State::Advice, subject, found).run(command);
    }
    Check::ok(subject, letters)
}

/// Whether every queue is given something.
fn indirection(interface: &Interface, table: io::Result<Vec<u32>>) -> Check {
    let subject = "spreading";
    let queues = interface.rx_queues;
    let table = match table {
        Ok(table) => table,
        Err(error) => return not_told(subject, &error),
    };
    let idle: Vec<_> = (0..queues).filter(|queue| !table.contains(queue)).collect();
    if table.is_empty() || idle.is_empty() {
        return Check::ok(subject, format!("over all of {}", counted(queues, "queue")));
    }
    let idle: Vec<_> = idle.into_iter().map(|queue| queue as usize).collect();
    let found = format!("nothing comes in by queue {}", cpus::format(&idle));
    Check::new(State::Advice, subject, found)
        .run(format!("ethtool -X {} equal {queues}", interface.name))
}

/// The ring holds what comes in while nobody takes it.
fn rings(wanted: &Wanted, interface: &Interface, rings: io::Result<Rings>) -> Check {
    let subject = "ring";
    let Rings { rx, rx_max } = match rings {
        Ok(rings) => rings,
        Err(error) => return not_told(subject, &error),
    };
    let found = format!("{rx} descriptors of at most {rx_max}");
    // With zero-copy the ring is filled from the socket's frames, and others are being read.
    let frames = wanted.config.receive.xdp.frames;
    if wanted.af_xdp && rx > frames {
        let frames = rx.saturating_mul(2).next_power_of_two();
        let found = format!("{found}, more than receive.xdp.frames");
        return Check::new(State::Advice, subject, found)
            .set(format!("frames = {frames} in [receive.xdp]"));
    }
    let better = if wanted.af_xdp {
        rx_max.min(frames / 2)
    } else {
        rx_max
    };
    if rx.saturating_mul(2) > better {
        return Check::ok(subject, found);
    }
    let found = format!("{found}: a longer burst is lost while its CPU does something else");
    Check::new(State::Advice, subject, found)
        .run(format!("ethtool -G {} rx {better}", interface.name))
}

/// The processors that interrupts and workers may be placed on.
struct Places {
    /// Those that workers are pinned to, in ascending order.
    workers: Vec<usize>,
    /// Those near the card, or all; in ascending order.
    near: Vec<usize>,
    /// Those near the card that no worker is pinned to.
    free: Vec<usize>,
    /// The host has more than one NUMA node and the card's is known.
    has_nodes: bool,
}

impl Places {
    fn of(wanted: &Wanted, node: Option<Vec<usize>>, online: Vec<usize>) -> Self {
        let mut workers: Vec<_> = wanted.workers.iter().copied().flatten().collect();
        workers.sort_unstable();
        let node = node.filter(|node| !node.is_empty() && *node != online);
        let has_nodes = node.is_some();
        let near = node.unwrap_or(online);
        let free = near
            .iter()
            .copied()
            .filter(|cpu| !workers.contains(cpu))
            .collect();
        Self {
            workers,
            near,
            free,
            has_nodes,
        }
    }
}

/// Where the interrupts of the queues come to.
fn served(wanted: &Wanted, interface: &Interface, found: &[Interrupt], places: &Places) -> Check {
    let subject = "interrupts";
    if found.is_empty() {
        return Check::unknown(subject, "the kernel does not tell those of the queues");
    }
    if wanted.af_xdp && !places.workers.is_empty() {
        return aligned(wanted, found);
    }
    let meets_worker = |one: &&Interrupt| {
        let is_met = one.cpus.iter().any(|cpu| places.workers.contains(cpu));
        is_met && !places.free.is_empty()
    };
    let is_far = |one: &&Interrupt| {
        places.has_nodes && !one.cpus.iter().any(|cpu| places.near.contains(cpu))
    };
    let met: Vec<_> = found.iter().filter(meets_worker).collect();
    let far: Vec<_> = found.iter().filter(is_far).collect();
    let all = cpus_of(found);
    let targets = if places.free.is_empty() {
        &places.near
    } else {
        &places.free
    };
    let is_bunched = interface.rx_queues > 1 && found.len() > 1 && all.len() == 1;
    let (reason, wrong) = if !met.is_empty() {
        ("interrupts a worker that is pinned there", met)
    } else if !far.is_empty() {
        ("is far from the card (NUMA)", far)
    } else if is_bunched && targets.len() > 1 {
        ("serves all queues alone", found.iter().collect())
    } else {
        let count = counted(found.len() as u64, "interrupt");
        return Check::ok(subject, format!("{count} on CPU {}", cpus::format(&all)));
    };
    let shown = match wrong.as_slice() {
        [one] => format!(
            "{} ({}) on CPU {}",
            one.number,
            one.name,
            cpus::format(&one.cpus)
        ),
        several => format!(
            "{} of {} on CPU {}",
            several.len(),
            found.len(),
            cpus::format(&all)
        ),
    };
    let check = Check::new(State::Advice, subject, format!("{shown} {reason}"));
    moved(check, &wrong, targets)
}

/// Whether the interrupt of each queue comes to the CPU of the worker that has its AF_XDP socket:
/// what the kernel wrote into a frame is then in the cache that the worker reads it from, and the
/// two take turns by need_wakeup.
fn aligned(wanted: &Wanted, found: &[Interrupt]) -> Check {
    let subject = "interrupts";
    let worker_of = |(place, one): (usize, &Interrupt)| {
        let queue = one.queue.map_or(place, |queue| queue as usize);
        wanted.workers[queue % wanted.workers.len()]
    };
    let (wrong, targets): (Vec<_>, Vec<_>) = found
        .iter()
        .enumerate()
        .filter_map(|(place, one)| Some((one, worker_of((place, one))?)))
        .filter(|(one, cpu)| one.cpus != [*cpu])
        .unzip();
    let cpus = cpus::format(&cpus_of(found));
    let count = counted(found.len() as u64, "interrupt");
    if wrong.is_empty() {
        return Check::ok(
            subject,
            format!("{count} on CPU {cpus}, where their workers are"),
        );
    }
    let shown = format!(
        "{} of {} on CPU {cpus}, away from the worker of the queue",
        wrong.len(),
        count
    );
    let check = Check::new(State::Advice, subject, shown);
    wrong.iter().zip(targets).fold(check, |check, (one, cpu)| {
        check.run(format!(
            "echo {cpu} > /proc/irq/{}/smp_affinity_list",
            one.number
        ))
    })
}

/// The processors that serve any of `interrupts`, in ascending order.
fn cpus_of(interrupts: &[Interrupt]) -> Vec<usize> {
    let cpus = interrupts.iter().flat_map(|one| one.cpus.iter().copied());
    let cpus: BTreeSet<_> = cpus.collect();
    cpus.into_iter().collect()
}

/// The commands that move interrupts to `targets`, one after the other.
fn moved(check: Check, interrupts: &[&Interrupt], targets: &[usize]) -> Check {
    const SHOWN_MAX: usize = 4;
    if interrupts.len() > SHOWN_MAX {
        let numbers: Vec<_> = interrupts
            .iter()
            .map(|one| one.number.to_string())
            .collect();
        return check.run(format!(
            "for irq in {}; do echo {} > /proc/irq/$irq/smp_affinity_list; done",
            numbers.join(" "),
            cpus::format(targets)
        ));
    }
    let places = targets.iter().cycle();
    interrupts
        .iter()
        .zip(places)
        .fold(check, |check, (one, cpu)| {
            check.run(format!(
                "echo {cpu} > /proc/irq/{}/smp_affinity_list",
                one.number
            ))
        })
}

/// Whether the workers run near the card.
fn numa(wanted: &Wanted, interface: &Interface, places: &Places) -> Check {
    let subject = "NUMA";
    let near = cpus::format(&places.near);
    let Some(node) = interface.numa_node.filter(|_| places.has_nodes) else {
        return Check::ok(subject, "one node, or the card's is not known");
    };
    let is_far = |cpu: &usize| !places.near.contains(cpu);
    let far: Vec<_> = places.workers.iter().copied().filter(is_far).collect();
    if far.is_empty() && !places.workers.is_empty() {
        return Check::ok(
            subject,
            format!("node {node} (CPU {near}), and the workers too"),
        );
    }
    let found = match far.is_empty() {
        true => format!("node {node} (CPU {near}), and the workers anywhere"),
        false => format!(
            "node {node} (CPU {near}), but workers on CPU {}",
            cpus::format(&far)
        ),
    };
    let count = wanted.workers.len().min(places.near.len());
    let last: Vec<_> = places.near[places.near.len() - count..]
        .iter()
        .map(usize::to_string)
        .collect();
    Check::new(State::Advice, subject, found)
        .set(format!("cpus = [{}] in [receive]", last.join(", ")))
}

/// A worker can poll the card only while that does not interrupt.
fn busy_poll(interface: &Interface) -> Check {
    let subject = "busy polling";
    let folder = Path::new("/sys/class/net").join(&interface.name);
    let wanted = [
        ("napi_defer_hard_irqs", "2"),
        ("gro_flush_timeout", "200000"),
    ];
    let mut check = Check::new(
        State::Advice,
        subject,
        "receive.xdp.busy_poll_us is set, but the card interrupts at once",
    );
    for (file, value) in wanted {
        let path = folder.join(file);
        match std::fs::read_to_string(&path).as_deref().map(str::trim) {
            Ok("0") => check = check.run(format!("echo {value} > {}", path.display())),
            Ok(_) => {}
            Err(error) => return not_told(subject, error),
        }
    }
    if check.mend.is_empty() {
        return Check::ok(subject, "interrupts are deferred");
    }
    check
}

fn not_told(subject: &'static str, error: &io::Error) -> Check {
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => Check::unknown(subject, "the driver does not tell"),
        Some(libc::EPERM | libc::EACCES) => Check::unknown(subject, "run as root"),
        _ => Check::unknown(subject, format!("the kernel does not tell: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Mend;
    use super::super::tests::{card, wanted};
    use super::*;

    fn run(command: &str) -> Vec<Mend> {
        vec![Mend::Run(command.into())]
    }

    fn interrupt(number: u32, cpus: &[usize]) -> Interrupt {
        Interrupt {
            number,
            name: format!("eth0-rx-{number}"),
            count: 1,
            cpus: cpus.into(),
            queue: None,
        }
    }

    #[test]
    fn fewer_queues_than_workers_are_raised_where_the_driver_can() {
        let one = Interface {
            rx_queues: 1,
            ..card()
        };
        let channels = |combined_max| {
            Some(Channels {
                rx: 0,
                rx_max: 0,
                combined: 1,
                combined_max,
            })
        };
        let wanted = |af_xdp| wanted(af_xdp, &[2, 3]);
        let check = count(&wanted(true), &one, channels(4), &[]);
        assert_eq!(check.state, State::Advice);
        assert_eq!(check.mend, run("ethtool -L eth0 combined 2"));
        let check = count(&wanted(true), &one, channels(1), &[]);
        assert_eq!(check.mend, [Mend::Set("workers = 1 in [receive]".into())]);
        assert_eq!(count(&wanted(false), &one, None, &[]).state, State::Ok);
        let check = count(&wanted(true), &card(), None, &[0, 1]);
        assert_eq!(
            check.found,
            "2 for 2 workers; AF_XDP sockets are on 0-1 now"
        );
    }

    #[test]
    fn a_hash_without_ports_or_source_is_made_of_all_four() {
        let fields = |source, source_port| {
            Ok(HashFields {
                source,
                destination: true,
                source_port,
                destination_port: source_port,
            })
        };
        let check = |fields| hash(&card(), "hash IPv6", &fields);
        assert_eq!(check(fields(true, true)).state, State::Ok);
        assert_eq!(check(fields(true, true)).found, "sdfn");
        let command = run("ethtool -N eth0 rx-flow-hash udp6 sdfn");
        assert_eq!(check(fields(true, false)).mend, command);
        assert_eq!(check(fields(false, false)).mend, command);
        let silent = Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        assert_eq!(check(silent).state, State::Unknown);
    }

    #[test]
    fn a_queue_that_the_table_leaves_out_is_told() {
        let check = indirection(&card(), Ok(vec![0, 0, 0, 0]));
        assert_eq!(check.found, "nothing comes in by queue 1");
        assert_eq!(check.mend, run("ethtool -X eth0 equal 2"));
        assert_eq!(indirection(&card(), Ok(vec![0, 1, 0, 1])).state, State::Ok);
    }

    #[test]
    fn a_short_ring_is_made_longer_within_what_the_frames_allow() {
        let rings = |rx, rx_max| rings(&wanted(true, &[1]), &card(), Ok(Rings { rx, rx_max }));
        assert_eq!(rings(256, 4096).mend, run("ethtool -G eth0 rx 2048"));
        assert_eq!(rings(256, 256).state, State::Ok);
        let frames = Mend::Set("frames = 16384 in [receive.xdp]".into());
        assert_eq!(rings(8192, 8192).mend, [frames]);
    }

    #[test]
    fn interrupts_of_queues_with_a_socket_come_to_their_worker() {
        let wanted = wanted(true, &[2, 3]);
        let places = Places::of(&wanted, None, vec![0, 1, 2, 3]);
        let check = |found: &[Interrupt]| served(&wanted, &card(), found, &places);
        let met = check(&[interrupt(40, &[2]), interrupt(41, &[3])]);
        assert_eq!(
            met.found,
            "2 interrupts on CPU 2-3, where their workers are"
        );
        let told = |number, queue| Interrupt {
            queue: Some(queue),
            ..interrupt(number, &[2])
        };
        let apart = check(&[told(40, 1), told(41, 0)]);
        assert_eq!(
            apart.found,
            "1 of 2 interrupts on CPU 2, away from the worker of the queue"
        );
        assert_eq!(apart.mend, run("echo 3 > /proc/irq/40/smp_affinity_list"));
    }

    #[test]
    fn interrupts_leave_the_workers_alone_while_there_are_others() {
        let wanted = wanted(false, &[2, 3]);
        let places = Places::of(&wanted, None, vec![0, 1, 2, 3]);
        let check = |found: &[Interrupt]| served(&wanted, &card(), found, &places);
        let apart = check(&[interrupt(40, &[0]), interrupt(41, &[1])]);
        assert_eq!(apart.found, "2 interrupts on CPU 0-1");
        let met = check(&[interrupt(40, &[0]), interrupt(41, &[3])]);
        assert_eq!(
            met.found,
            "41 (eth0-rx-41) on CPU 3 interrupts a worker that is pinned there"
        );
        assert_eq!(met.mend, run("echo 0 > /proc/irq/41/smp_affinity_list"));
        let bunched = check(&[interrupt(40, &[0]), interrupt(41, &[0])]);
        assert_eq!(bunched.mend.len(), 2);
        assert_eq!(check(&[]).state, State::Unknown);
    }

    #[test]
    fn many_interrupts_are_moved_by_one_command() {
        let wanted = wanted(false, &[2, 3]);
        let places = Places::of(&wanted, None, vec![0, 1, 2, 3]);
        let found: Vec<_> = (40..46).map(|number| interrupt(number, &[2])).collect();
        let check = served(&wanted, &card(), &found, &places);
        let command = "for irq in 40 41 42 43 44 45; do echo 0-1 > \
                       /proc/irq/$irq/smp_affinity_list; done";
        assert_eq!(check.mend, run(command));
    }

    #[test]
    fn workers_far_from_the_card_are_moved_near() {
        let far = wanted(true, &[0, 1]);
        let card = Interface {
            numa_node: Some(1),
            ..card()
        };
        let places = |wanted| Places::of(wanted, Some(vec![2, 3]), vec![0, 1, 2, 3]);
        let check = numa(&far, &card, &places(&far));
        assert_eq!(check.mend, [Mend::Set("cpus = [2, 3] in [receive]".into())]);
        let near = wanted(false, &[3]);
        assert_eq!(numa(&near, &card, &places(&near)).state, State::Ok);
        let interrupts = [interrupt(40, &[0])];
        let check = served(&near, &card, &interrupts, &places(&near));
        assert_eq!(check.mend, run("echo 2 > /proc/irq/40/smp_affinity_list"));
    }
}
