//! Processors by their numbers, in the kernel's list format, and the NUMA node each belongs to.
//!
//! Format: <https://www.kernel.org/doc/html/latest/admin-guide/kernel-parameters.html> ("cpu lists").

/// The processors of a list such as `0-3,8`, in ascending order. `None` when it is no such list.
#[must_use]
pub fn parse(list: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in list.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last > CPU_MAX {
            return None;
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Some(cpus)
}

/// The list of processors that are given in ascending order: `0-3,8`; `none` of no processor.
#[must_use]
pub fn format(cpus: &[usize]) -> String {
    let runs = cpus.chunk_by(|a, b| a + 1 == *b);
    let runs: Vec<_> = runs
        .map(|run| match *run {
            [only] => only.to_string(),
            [first, .., last] => format!("{first}-{last}"),
            [] => String::new(),
        })
        .collect();
    if runs.is_empty() {
        return "none".into();
    }
    runs.join(",")
}

/// The processors of a NUMA node; `None` when the kernel does not tell.
#[must_use]
pub fn of_node(node: u32) -> Option<Vec<usize>> {
    let path = format!("/sys/devices/system/node/node{node}/cpulist");
    parse(&std::fs::read_to_string(path).ok()?)
}

/// The processors that are switched on; empty when the kernel does not tell.
#[must_use]
pub fn online() -> Vec<usize> {
    let list = std::fs::read_to_string("/sys/devices/system/cpu/online");
    list.ok().and_then(|list| parse(&list)).unwrap_or_default()
}

/// No kernel numbers processors higher (`NR_CPUS` of all architectures).
const CPU_MAX: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written_the_same() {
        for list in ["0", "0-3", "0-3,8", "1,3,5-6", "0-127,256-383"] {
            let cpus = parse(&format!("{list}\n")).unwrap();
            assert_eq!(format(&cpus), list);
        }
        assert_eq!(parse("8,0-1,1"), Some(vec![0, 1, 8]));
    }

    #[test]
    fn an_empty_list_is_none_and_nonsense_is_refused() {
        assert_eq!(parse("\n"), Some(vec![]));
        assert_eq!(format(&[]), "none");
        for wrong in ["x", "3-1", "1-", "0-99999999"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
