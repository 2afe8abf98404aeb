//! `flowsluice engine`: the child process that is the embedded ClickHouse.
//!
//! Loads `libchdb.so` and hands the process over to ClickHouse's own `local` entry point. It is
//! not meant for people: `store::embedded` starts it and tells it on standard input, a pipe that
//! only the parent holds, how long it may live.
#![allow(unsafe_code)] // dlopen, calling C, and leaving by `_exit`

use std::ffi::{CStr, CString, OsString, c_char, c_int, c_void};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

use anyhow::Context;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

/// Arguments of `flowsluice engine`.
#[derive(clap::Args)]
pub struct Args {
    /// The engine: `libchdb.so`.
    #[arg(long)]
    library: PathBuf,
    /// What ClickHouse's `local` is given as its command line.
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

/// Runs ClickHouse until its query ends; returns only when it cannot begin.
pub fn main(args: Args) -> anyhow::Result<()> {
    let Args { library, arguments } = args;
    follow_parent().context("engine: cannot watch the parent")?;
    // When memory runs out, rather this process than the one that receives. Raising is allowed to
    // everybody; where /proc is missing the kernel chooses.
    let _ = std::fs::write("/proc/self/oom_score_adj", "300");
    let entry = Entry::load(&library)?;
    let arguments: Vec<CString> = [OsString::from("clickhouse")]
        .into_iter()
        .chain(arguments)
        .map(|argument| CString::new(argument.into_vec()))
        .collect::<Result<_, _>>()
        .context("engine: an argument holds a NUL byte")?;
    let failure = entry.run(&arguments);
    if let Some(message) = &failure {
        let mut stderr = std::io::stderr().lock();
        // Nobody is left to tell when standard error is closed.
        let _ = writeln!(stderr, "{message}");
    }
    // SAFETY: `_exit` takes any status and does not return. The destructors of a library of this
    // size take a second and have nothing to save: ClickHouse has closed its tables by now.
    unsafe { libc::_exit(i32::from(failure.is_some())) }
}

/// Ends the process when the parent's end of the pipe on standard input closes.
///
/// PR_SET_PDEATHSIG alone is lost when the binary carries file capabilities.
fn follow_parent() -> std::io::Result<()> {
    let pipe: OwnedFd = std::io::stdin().as_fd().try_clone_to_owned()?;
    let null = File::open("/dev/null")?;
    // ClickHouse must find an empty standard input: it would take the pipe for a table.
    // SAFETY: both descriptors are open; dup2 replaces descriptor 0, which nothing here owns.
    if unsafe { libc::dup2(null.as_raw_fd(), libc::STDIN_FILENO) } < 0 {
        return Err(std::io::Error::last_os_error());
    }
    std::thread::Builder::new()
        .name("parent".into())
        .spawn(move || {
            let mut pipe = File::from(pipe);
            let mut byte = [0];
            // The parent never writes; the read ends when it is gone.
            while matches!(pipe.read(&mut byte), Ok(1..)) {}
            // SAFETY: as in `main`. Whatever was acknowledged is on its way to disk already, and
            // parts that are half written are thrown away at the next start.
            unsafe { libc::_exit(PARENT_GONE) }
        })?;
    Ok(())
}

/// The two functions of the library that are called.
struct Entry {
    run: unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut c_void,
    error: unsafe extern "C" fn(*mut c_void) -> *const c_char,
    /// Keeps the code mapped.
    _library: Library,
}

impl Entry {
    fn load(path: &Path) -> anyhow::Result<Self> {
        // SAFETY: loading runs the library's initialisers, which is what the operator asked for by
        // naming it; no other thread of this process does anything that they could disturb.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }
            .with_context(|| format!("engine: cannot load {}", path.display()))?;
        // SAFETY: the types are those of chdb.h: `chdb_result *chdb_query_cmdline(int, char **)`
        // and `const char *chdb_result_error(chdb_result *)`; a result is only passed on.
        let (run, error) = unsafe {
            (
                *library.get(c"chdb_query_cmdline").context(NOT_CHDB)?,
                *library.get(c"chdb_result_error").context(NOT_CHDB)?,
            )
        };
        Ok(Self {
            run,
            error,
            _library: library,
        })
    }

    /// What ClickHouse says when it fails; `None` when it ended as it was told to.
    fn run(&self, arguments: &[CString]) -> Option<String> {
        let count = c_int::try_from(arguments.len()).expect("a handful of arguments");
        let mut pointers: Vec<*mut c_char> = arguments
            .iter()
            .map(|argument| argument.as_ptr().cast_mut())
            .chain([std::ptr::null_mut()])
            .collect();
        // SAFETY: `pointers` is a C argument vector: `count` NUL-terminated strings that outlive
        // the call, then a null pointer. The library copies what it keeps.
        let result = unsafe { (self.run)(count, pointers.as_mut_ptr()) };
        let Some(result) = NonNull::new(result) else {
            return Some("the engine returned nothing".into());
        };
        // SAFETY: `result` came from `run` just now and was not freed.
        let message = NonNull::new(unsafe { (self.error)(result.as_ptr()) }.cast_mut())?;
        // SAFETY: a message is a NUL-terminated string owned by `result`, which is never freed.
        let message = unsafe { CStr::from_ptr(message.as_ptr()) };
        Some(message.to_string_lossy().into_owned()).filter(|text| !text.is_empty())
    }
}

/// Exit status when the parent went away.
const PARENT_GONE: c_int = 3;

const NOT_CHDB: &str = "engine: this library is not libchdb";
