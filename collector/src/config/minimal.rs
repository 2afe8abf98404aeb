//! A file to begin with, as `flowsluice init` writes it: the few keys that every host decides.

use std::path::PathBuf;

use toml::Value;

use super::{Config, display};

/// What a host has that the file should tell of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The library of the embedded ClickHouse.
    pub library: Library,
    /// Databases of places and autonomous systems.
    pub databases: Vec<PathBuf>,
}

/// Where the library of the embedded ClickHouse is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Library {
    /// Nowhere, so a server is the way to begin.
    Absent,
    /// Where every start finds it.
    Usual(PathBuf),
    /// Where only this environment says that it is; the file has to say so.
    Named(PathBuf),
}

/// The file. It amounts to the defaults, but for [`Library::Named`].
#[must_use]
pub fn text(found: &Found) -> String {
    let defaults = Config::default();
    let embedded = &defaults.store.embedded;
    let listeners = defaults.receive.listeners.iter();
    let listeners = listeners.map(|one| format!("#[[receive.listeners]]\n#port = {}\n", one.port));
    let listeners: String = listeners.collect();
    let retention = Value::String(display::duration(defaults.store.retention));
    let data_dir = Value::String(embedded.data_dir.display().to_string());
    let (server, library) = store(&found.library);
    let (told, databases) = databases(&found.databases);
    format!(
        r#"# Flowsluice: configuration
#
# These are the keys that most hosts decide. All of them are optional: a line that begins with '#'
# and a key shows the default, one that begins with '##' an example or what this host has. Take the
# '#' away to set a key. deploy/flowsluice.toml in the sources documents these and all other keys.
# 'flowsluice check' tells what is wrong with this file and what it amounts to; for editors,
# 'flowsluice init --json-schema' prints a schema.

# Where exporters send to, by UDP: any port takes NetFlow, IPFIX and sFlow. Naming one listener
# replaces all of these.
{listeners}
[store]
# How long flows are kept; 'flowsluice size' tells what that takes of the disk.
#retention = {retention}

# {server}
##url = "https://clickhouse.example:8443"
##user = "flowsluice"
##password_file = "/etc/flowsluice/store.password"

[store.embedded]
# Not together with store.url. Tables and what waits for them: give it the disk that the flows
# shall fill.
#data_dir = {data_dir}

{library}
[enrich.geo]
# Databases in MMDB form: City or Country, and ASN. {told}
##databases = {databases}
"#
    )
}

/// What is said of servers, and the lines of `store.embedded.library`.
fn store(library: &Library) -> (&'static str, String) {
    let line = |path: &PathBuf| format!("library = {}", Value::String(path.display().to_string()));
    match library {
        Library::Absent => (
            "A ClickHouse server. This host has no embedded one (libchdb.so), so name a server, \
             or fetch\n# that with 'cargo xtask engine'.",
            format!(
                "# The embedded ClickHouse.\n##{}\n",
                line(&"/usr/lib/flowsluice/libchdb.so".into())
            ),
        ),
        Library::Usual(path) => (
            "A ClickHouse server, instead of the embedded one that this host has.",
            format!(
                "# The embedded ClickHouse; the collector finds it by itself.\n##{}\n",
                line(path)
            ),
        ),
        Library::Named(path) => (
            "A ClickHouse server, instead of the embedded one that this host has: remove 'library' \
             below.",
            format!(
                "# The embedded ClickHouse, where FLOWSLUICE_LIBCHDB has it. A service has another \
                 environment.\n{}\n",
                line(path)
            ),
        ),
    }
}

/// What is said of databases, and which they are.
fn databases(found: &[PathBuf]) -> (&'static str, Value) {
    let of = |paths: Vec<String>| Value::Array(paths.into_iter().map(Value::String).collect());
    match found {
        [] => (
            "None was found on this\n# host; [[enrich.geo.updates]] says where \
             'flowsluice geoip update' gets them from.",
            of(["city", "asn"]
                .map(|name| format!("/var/lib/flowsluice/geoip/{name}.mmdb"))
                .into()),
        ),
        _ => (
            "Those of this host:",
            of(found
                .iter()
                .map(|path| path.display().to_string())
                .collect()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use crate::config::tests::uncommented;

    fn with(library: Library, databases: &[&str]) -> String {
        text(&Found {
            library,
            databases: databases.iter().map(PathBuf::from).collect(),
        })
    }

    #[test]
    fn it_amounts_to_the_defaults_and_shows_them() {
        for library in [Library::Absent, Library::Usual("/x/libchdb.so".into())] {
            let text = with(library, &["/x/city.mmdb"]);
            assert_eq!(parse("f.toml", &text).unwrap(), Config::default(), "{text}");
            let shown = uncommented(&text, false);
            for key in [
                "\nport = 9995\n",
                "\nretention = \"30days\"\n",
                "\ndata_dir = ",
            ] {
                assert!(shown.contains(key), "{key} is not in {shown}");
            }
            assert_eq!(
                parse("f.toml", &shown).unwrap(),
                Config::default(),
                "{shown}"
            );
        }
    }

    #[test]
    fn its_examples_are_taken() {
        let text = with(Library::Absent, &[]);
        let text = uncommented(&text, true);
        let text = text.replace("library = ", "#library = ");
        let config = parse("f.toml", &text).unwrap();
        let url = config.store.url.as_deref();
        assert_eq!(url, Some("https://clickhouse.example:8443"));
        assert_eq!(config.enrich.geo.databases.len(), 2);
    }

    #[test]
    fn what_the_host_has_is_told_as_it_is_called() {
        let odd = "/x/a \"b\"/city.mmdb";
        let text = with(Library::Usual("/x/libchdb.so".into()), &[odd]);
        let shown = uncommented(&text, true);
        let without_server = shown.replace("url = ", "#").replace("user = ", "#");
        let without_server = without_server.replace("password_file = ", "#");
        let config = parse("f.toml", &without_server).unwrap();
        assert_eq!(config.enrich.geo.databases, [PathBuf::from(odd)]);
        let library = config.store.embedded.library;
        assert_eq!(library, Some("/x/libchdb.so".into()));
    }

    #[test]
    fn a_library_that_only_this_environment_names_is_set() {
        let text = with(Library::Named("/x/libchdb.so".into()), &[]);
        let library = parse("f.toml", &text).unwrap().store.embedded.library;
        assert_eq!(library, Some("/x/libchdb.so".into()));
    }

    #[test]
    fn no_line_is_wider_than_a_terminal_of_100() {
        let path = PathBuf::from("/x");
        for library in [
            Library::Absent,
            Library::Usual(path.clone()),
            Library::Named(path),
        ] {
            let text = with(library, &[]);
            let widest = text.lines().max_by_key(|line| line.chars().count());
            assert!(
                widest.is_some_and(|line| line.chars().count() <= 100),
                "{widest:?}"
            );
        }
    }
}
