//! The interrupts of a device, the processors that serve them, and what the softirqs lost.
//!
//! Spec: <https://www.kernel.org/doc/html/latest/core-api/irq/irq-affinity.html>, proc(5).

use std::path::PathBuf;

use serde::Serialize;

use super::interface::{Device, Interface};
use super::{cpus, netdev};

/// One interrupt of an interface's device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Interrupt {
    /// Its number in /proc/irq.
    pub number: u32,
    /// What the driver calls it.
    pub name: String,
    /// How often it came since the host started.
    pub count: u64,
    /// The processors that it comes to now.
    pub cpus: Vec<usize>,
    /// The receive queue that it is of, where the driver tells the kernel.
    pub queue: Option<u32>,
}

/// The interrupts of an interface's receive queues: as the driver tells the kernel, else those of
/// its device that ever came. Empty where there are none, or /proc does not tell.
#[must_use]
pub fn of(interface: &Interface) -> Vec<Interrupt> {
    let lines = std::fs::read_to_string("/proc/interrupts").unwrap_or_default();
    let lines = parse(&lines);
    let queues = netdev::queues(interface.index).unwrap_or_default();
    let told: Vec<_> = (queues.iter())
        .filter_map(|queue| Some((queue.interrupt?, queue.id)))
        .collect();
    if !told.is_empty() {
        let of_queue = |line: &Line| {
            let (_, queue) = told.iter().find(|(number, _)| *number == line.number)?;
            Some(line.interrupt(Some(*queue)))
        };
        return lines.iter().filter_map(of_queue).collect();
    }
    let numbers = (interface.device.as_ref()).map_or_else(Vec::new, numbers_of);
    let of_device = lines.iter().filter(|line| numbers.contains(&line.number));
    of_device
        .filter(|line| line.count > 0)
        .map(|line| line.interrupt(None))
        .collect()
}

/// Whether irqbalance runs, which moves interrupts from one processor to another.
#[must_use]
pub fn are_balanced() -> bool {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let name = |path: PathBuf| std::fs::read_to_string(path.join("comm")).ok();
    entries
        .filter_map(|entry| name(entry.path()))
        .any(|name| name.trim() == "irqbalance")
}

/// What the receive softirqs of all processors did since the host started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Softirqs {
    /// Packets taken from the cards.
    pub packets: u64,
    /// Packets dropped because a processor's backlog was full (net.core.netdev_max_backlog).
    pub dropped: u64,
    /// Times that one ended with packets left (net.core.netdev_budget).
    pub squeezed: u64,
}

/// Reads /proc/net/softnet_stat; `None` where there is none.
#[must_use]
pub fn softirqs() -> Option<Softirqs> {
    let text = std::fs::read_to_string("/proc/net/softnet_stat").ok()?;
    Some(parse_softirqs(&text))
}

/// One numbered line of /proc/interrupts.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    number: u32,
    count: u64,
    name: String,
}

impl Line {
    fn interrupt(&self, queue: Option<u32>) -> Interrupt {
        let list = |file| std::fs::read_to_string(format!("/proc/irq/{}/{file}", self.number)).ok();
        let effective = list("effective_affinity_list").filter(|list| !list.trim().is_empty());
        let list = effective.or_else(|| list("smp_affinity_list"));
        Interrupt {
            number: self.number,
            name: self.name.clone(),
            count: self.count,
            cpus: list.and_then(|list| cpus::parse(&list)).unwrap_or_default(),
            queue,
        }
    }
}

/// A line is `NUMBER: COUNT... CHIP HARDWARE-NUMBER[-TRIGGER] [TRIGGER] NAME`, with a count for
/// each processor of the first line.
fn parse(text: &str) -> Vec<Line> {
    let mut lines = text.lines();
    let cpus = lines.next().unwrap_or_default().split_whitespace().count();
    let parse = |line: &str| {
        let (number, rest) = line.split_once(':')?;
        let number = number.trim().parse().ok()?;
        let mut words = rest.split_whitespace();
        let counts = words.by_ref().take(cpus);
        let count = counts.filter_map(|count| count.parse::<u64>().ok()).sum();
        let is_trigger = |word: &&str| {
            word.starts_with(|c: char| c.is_ascii_digit()) || ["Edge", "Level"].contains(word)
        };
        let name: Vec<_> = words.skip(1).skip_while(is_trigger).collect();
        Some(Line {
            number,
            count,
            name: name.join(" "),
        })
    };
    lines.filter_map(parse).collect()
}

/// The numbers of a device's interrupts: those of the nearest device that has message-signalled
/// ones, since a virtio device hangs on the PCI device that interrupts.
fn numbers_of(device: &Device) -> Vec<u32> {
    let signalled = |folder: PathBuf| {
        let entries = std::fs::read_dir(folder.join("msi_irqs")).ok()?;
        let names = entries.flatten().map(|entry| entry.file_name());
        Some(
            names
                .filter_map(|name| name.to_str()?.parse().ok())
                .collect(),
        )
    };
    let mut folders = device.folders().into_iter();
    folders.find_map(signalled).unwrap_or_default()
}

/// A line a processor, hexadecimal: packets, dropped, squeezed (`softnet_seq_show`).
fn parse_softirqs(text: &str) -> Softirqs {
    let mut sum = Softirqs::default();
    for line in text.lines() {
        let mut columns = line
            .split_whitespace()
            .map(|word| u64::from_str_radix(word, 16));
        let mut next = || columns.next().and_then(Result::ok).unwrap_or(0);
        sum.packets += next();
        sum.dropped += next();
        sum.squeezed += next();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: u32, count: u64, name: &str) -> Line {
        Line {
            number,
            count,
            name: name.into(),
        }
    }

    #[test]
    fn interrupts_of_x86_are_read() {
        let text = "           CPU0       CPU1       \n \
            26:          0         13  IO-APIC   4-edge      ttyS0\n \
            38:          5       7212 PCI-MSIX-0000:00:03.0   1-edge      virtio2-input.0\n\
            NMI:          0          0   Non-maskable interrupts\n\
            ERR:          0\n";
        let read = parse(text);
        assert_eq!(
            read,
            [line(26, 13, "ttyS0"), line(38, 7217, "virtio2-input.0")]
        );
    }

    #[test]
    fn interrupts_of_arm_are_read() {
        let text = "           CPU0\n \
            11:       9035     GICv3  27 Level     arch_timer\n\
            100:        712   ITS-PCI-MSIX-0000:01:00.0   1 Edge      eth0-rx 0, eth0-tx 0\n\
            IPI0:        18       Rescheduling interrupts\n";
        let read = parse(text);
        let expected = [
            line(11, 9035, "arch_timer"),
            line(100, 712, "eth0-rx 0, eth0-tx 0"),
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn softirqs_of_all_processors_are_added() {
        let text = "0000abcd 00000001 00000002 00000000\n00000010 00000000 0000000f 00000000\n";
        let sum = Softirqs {
            packets: 0xabcd + 0x10,
            dropped: 1,
            squeezed: 17,
        };
        assert_eq!(parse_softirqs(text), sum);
        assert_eq!(parse_softirqs("\n"), Softirqs::default());
    }
}
