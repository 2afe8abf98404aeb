//! The BPF programs that are loaded now.

use aya::programs::loaded_programs;

/// The name of the program with this number, cut to 15 letters by the kernel; `None` without
/// CAP_SYS_ADMIN, or when it is gone.
#[must_use]
pub fn program_name(id: u32) -> Option<String> {
    let mut programs = loaded_programs().filter_map(Result::ok);
    let program = programs.find(|program| program.id() == id)?;
    program.name_as_str().map(str::to_owned)
}
