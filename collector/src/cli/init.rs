//! `flowsluice init`: a configuration to begin with, and the schema that editors check one by.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use flowsluice::config::minimal::{self, Found, Library};
use flowsluice::config::{self, DEFAULT_PATH, Embedded};
use flowsluice::store::embedded;

use super::print;
use super::target::{Named, Target};

/// Arguments of `flowsluice init`.
#[derive(clap::Args)]
pub struct Args {
    /// The file to write, or - for standard output.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    config: PathBuf,
    /// Replace the file if there is one.
    #[arg(long)]
    force: bool,
    /// Print the JSON schema of the configuration, for editors; write nothing.
    #[arg(long, conflicts_with_all = ["config", "force"])]
    json_schema: bool,
}

/// # Errors
/// When the file is there and may not be replaced, or cannot be written.
pub fn main(args: Args) -> anyhow::Result<()> {
    let Args {
        config: path,
        force,
        json_schema,
    } = args;
    if json_schema {
        return print([config::json_schema()]);
    }
    let library = embedded::library(&Embedded::default());
    let text = minimal::text(&Found {
        library: match &library {
            Ok(path) if embedded::is_library_of_environment() => Library::Named(path.clone()),
            Ok(path) => Library::Usual(path.clone()),
            Err(_) => Library::Absent,
        },
        databases: databases(GEO_FOLDERS.map(Path::new)),
    });
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| {
            format!(
                "--config: the folder {} cannot be made; name another file, or run this as a user \
                 who may",
                folder.display()
            )
        })?;
    }
    let mut target = Target::open(Named {
        option: "--config",
        path: &path,
        may_replace: force,
        is_text: true,
        mode: MODE,
    })?;
    let written = target.write(text.as_bytes());
    written.map_err(|error| target.undone(error.into(), 0))?;
    match target.keep()? {
        Some(path) => print([next(&path, library.err().as_ref())]),
        None => Ok(()),
    }
}

/// What to do with the file that was written.
fn next(path: &Path, missing: Option<&anyhow::Error>) -> String {
    let shown = path.display();
    let option = match path == Path::new(DEFAULT_PATH) {
        true => String::new(),
        false => format!(" --config {shown}"),
    };
    let missing = missing.map_or_else(String::new, |error| format!("warning: {error:#}\n"));
    format!(
        "{shown}: written\n{missing}\
         next, after a look into it:\n  \
         flowsluice check{option}\n  \
         flowsluice doctor{option}\n  \
         flowsluice run{option}\n"
    )
}

/// The databases of places and of autonomous systems in the first of these folders that has any.
fn databases<'a>(folders: impl IntoIterator<Item = &'a Path>) -> Vec<PathBuf> {
    let mut found = folders.into_iter().map(in_folder);
    found.find(|files| !files.is_empty()).unwrap_or_default()
}

fn in_folder(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "mmdb")
    });
    files.sort();
    let named = |part: &str| {
        let name = |path: &PathBuf| path.file_name().map(|name| name.display().to_string());
        let has = |name: String| name.to_lowercase().contains(part);
        files.iter().find(|path| name(path).is_some_and(has))
    };
    let places = named("city").or_else(|| named("country"));
    places.into_iter().chain(named("asn")).cloned().collect()
}

/// Everybody reads it, the service under its own user among them. Passwords belong into files of
/// their own.
const MODE: u32 = 0o644;

/// Where `flowsluice geoip update` puts databases, and MaxMind's geoipupdate and distributions.
const GEO_FOLDERS: [&str; 4] = [
    "/var/lib/flowsluice/geoip",
    "/var/lib/GeoIP",
    "/usr/local/share/GeoIP",
    "/usr/share/GeoIP",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_those_of_the_first_folder_that_has_any() {
        let [empty, first, second] = [(); 3].map(|()| tempfile::tempdir().unwrap());
        for name in [
            "GeoLite2-Country.mmdb",
            "dbip-asn-lite.mmdb",
            "Anonymous.mmdb",
        ] {
            fs::write(first.path().join(name), "").unwrap();
        }
        let folders = [
            Path::new("/nowhere"),
            empty.path(),
            first.path(),
            second.path(),
        ];
        let names = || {
            let found = databases(folders).into_iter();
            let names = found.map(|path| path.file_name().unwrap().to_owned());
            names.collect::<Vec<_>>()
        };
        assert_eq!(names(), ["GeoLite2-Country.mmdb", "dbip-asn-lite.mmdb"]);
        fs::write(first.path().join("GeoLite2-City.mmdb"), "").unwrap();
        fs::write(second.path().join("GeoLite2-ASN.mmdb"), "").unwrap();
        assert_eq!(names(), ["GeoLite2-City.mmdb", "dbip-asn-lite.mmdb"]);
        assert!(databases([Path::new("/nowhere")]).is_empty());
    }
}
