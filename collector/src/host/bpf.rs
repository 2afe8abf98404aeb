//! The BPF programs that are loaded now, and what holds them.

use aya::programs::{loaded_links, loaded_programs};

/// What is known of a loaded program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Its name, cut to 15 letters by the kernel; `None` without CAP_SYS_ADMIN, or when it is gone.
    pub name: Option<String>,
    /// The number of a link that attaches it; `None` when it is attached without one, and without
    /// CAP_SYS_ADMIN.
    pub link: Option<u32>,
}

/// The program with this number.
#[must_use]
pub fn loaded(program: u32) -> Loaded {
    let mut programs = loaded_programs().filter_map(Result::ok);
    let mut links = loaded_links().filter_map(Result::ok);
    Loaded {
        name: programs
            .find(|info| info.id() == program)
            .and_then(|info| info.name_as_str().map(str::to_owned)),
        link: links
            .find(|link| link.program_id() == program)
            .map(|link| link.id()),
    }
}
