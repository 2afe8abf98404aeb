//! Finds `libchdb.so`.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// The library's absolute path. `configured` and FLOWSLUICE_LIBCHDB are taken at their word.
pub(super) fn find(configured: Option<&Path>) -> anyhow::Result<PathBuf> {
    if !cfg!(all(
        target_arch = "x86_64",
        target_os = "linux",
        target_env = "gnu"
    )) {
        bail!(
            "store: the embedded ClickHouse exists only for Linux on x86_64 with glibc; name a \
             server with store.url"
        );
    }
    if let Some(path) = configured {
        return named("store.embedded.library", path);
    }
    if let Some(path) = of_environment() {
        return named(VARIABLE, &path);
    }
    let places = places(std::env::current_exe().ok().as_deref());
    first(&places).with_context(|| not_found(&places))
}

/// What the environment says of it.
pub(super) fn of_environment() -> Option<PathBuf> {
    let path = std::env::var_os(VARIABLE).filter(|value| !value.is_empty());
    path.map(PathBuf::from)
}

fn named(from: &str, path: &Path) -> anyhow::Result<PathBuf> {
    file(path).with_context(|| {
        format!(
            "{from}: {} cannot be used; put {NAME} there, or leave {from} out",
            path.display()
        )
    })
}

/// The absolute path of a file; a folder is none.
fn file(path: &Path) -> io::Result<PathBuf> {
    let path = std::fs::canonicalize(path)?;
    match path.is_file() {
        true => Ok(path),
        false => Err(io::Error::other("it is no file")),
    }
}

/// Where the library may lie, the likeliest first.
fn places(program: Option<&Path>) -> Vec<PathBuf> {
    let mut places = Vec::new();
    if let Some(folder) = program.and_then(Path::parent) {
        places.push(folder.join(NAME));
    }
    places.push(Path::new("/usr/lib/flowsluice").join(NAME));
    places.push(Path::new("/usr/local/lib").join(NAME));
    // A program that cargo built finds what `cargo xtask engine` fetched.
    let target = program.and_then(|program| {
        let mut folders = program.ancestors();
        folders.find(|folder| folder.file_name().is_some_and(|name| name == "target"))
    });
    let target = target.unwrap_or(Path::new("target"));
    places.push(target.join("engine").join(NAME));
    places
}

fn first(places: &[PathBuf]) -> Option<PathBuf> {
    places.iter().find_map(|place| file(place).ok())
}

fn not_found(places: &[PathBuf]) -> String {
    let looked: Vec<_> = places
        .iter()
        .map(|place| place.display().to_string())
        .collect();
    format!(
        "store: the embedded ClickHouse's library {NAME} is in none of {}; fetch it with 'cargo \
         xtask engine', say where it is with store.embedded.library or {VARIABLE}, or name a \
         server with store.url",
        looked.join(", ")
    )
}

const NAME: &str = "libchdb.so";

const VARIABLE: &str = "FLOWSLUICE_LIBCHDB";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_built_by_cargo_looks_in_its_target_folder() {
        let places = places(Some(Path::new("/src/target/debug/deps/flowsluice")));
        let expected = Path::new("/src/target/engine/libchdb.so");
        assert_eq!(places.last().map(PathBuf::as_path), Some(expected));
    }

    #[test]
    fn installed_program_looks_beside_itself_first() {
        let places = places(Some(Path::new("/opt/flowsluice/flowsluice")));
        assert_eq!(places[0], Path::new("/opt/flowsluice/libchdb.so"));
    }

    #[test]
    fn configured_library_that_is_missing_is_named_and_nothing_else_is_tried() {
        let error = find(Some(Path::new("/nowhere/libchdb.so"))).unwrap_err();
        let message = error.to_string();
        assert!(message.starts_with("store.embedded.library: /nowhere/libchdb.so"));
    }

    #[test]
    fn a_folder_is_no_library() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let error = format!("{:#}", find(Some(&path)).unwrap_err());
        assert!(
            error.ends_with("leave store.embedded.library out: it is no file"),
            "{error}"
        );
        assert_eq!(first(&[path]), None);
    }

    #[test]
    fn library_that_is_nowhere_says_where_it_was_looked_for_and_what_to_do() {
        let message = not_found(&places(Some(Path::new("/opt/flowsluice"))));
        for part in [
            "/opt/libchdb.so",
            "/usr/lib/flowsluice/libchdb.so",
            "/usr/local/lib/libchdb.so",
            "cargo xtask engine",
            "store.embedded.library",
            "store.url",
        ] {
            assert!(message.contains(part), "{part} is not in: {message}");
        }
    }
}
