//! What is looked at before a port is opened or a file is made: whether a configuration that is
//! valid by itself can work on this host, and whether its secrets are any.
//!
//! In: the configuration and its file. Out: messages that begin with their key, one a fault.
//! `check` and `run` ask the same questions, so that what one refuses the other does not begin.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use flowsluice::config::{self, Config, ConfigError, ReceiveMode, StoreTarget};
use flowsluice::http::{Access, Encryption};
use flowsluice::receive::{self, affinity};
use flowsluice::store::embedded;
use flowsluice::store::tls::Tls;

/// Ends a start that would come to nothing.
///
/// # Errors
/// Everything that a collector with this configuration would fail at, as far as it can be known.
pub fn refuse(config: &Config, file: Option<&Path>) -> Result<(), ConfigError> {
    let mut told = refusals(config, file);
    let is_embedded = config.store.target() == StoreTarget::Embedded;
    // `check` may have another environment, so it only warns.
    if is_embedded && config.store.embedded.library.is_none() {
        let library = embedded::library(&config.store.embedded);
        told.extend(library.err().map(|error| format!("{error:#}")));
    }
    on_host(file, told).map_or(Ok(()), Err)
}

/// The error that `told` is, with the lines of `file`; none when nothing is told.
pub fn on_host(file: Option<&Path>, told: Vec<String>) -> Option<ConfigError> {
    if told.is_empty() {
        return None;
    }
    Some(ConfigError {
        file: file.map_or("built-in defaults".into(), |file| {
            file.display().to_string()
        }),
        problems: config::locate(file.unwrap_or(Path::new("")), told),
        understood: None,
    })
}

/// What a start with this configuration fails at, or what would make it unsafe.
pub fn refusals(config: &Config, file: Option<&Path>) -> Vec<String> {
    let mut told = Vec::new();
    let mut fails = |outcome: Result<(), String>| told.extend(outcome.err());
    let plan = affinity::plan(&config.receive, &affinity::available());
    fails(plan.map(drop).map_err(|error| error.to_string()));
    if config.receive.mode == ReceiveMode::IoUring {
        let choice = receive::choose(&config.receive);
        fails(choice.map(drop).map_err(|error| error.to_string()));
    }
    let access = Access::of(&config.http);
    fails(access.map(drop).map_err(|error| error.to_string()));
    let encryption = Encryption::of(&config.http);
    fails(encryption.map(drop).map_err(|error| error.to_string()));
    let store = &config.store;
    match store.target() {
        StoreTarget::Server(_) => {
            let password = store.server_password();
            fails(password.map(drop).map_err(|error| error.to_string()));
            if store.servers().any(|url| url.starts_with("https://")) {
                fails(Tls::load(&store.tls).map(drop).map_err(|e| e.to_string()));
            }
        }
        StoreTarget::Embedded if store.embedded.library.is_some() => {
            let library = embedded::library(&store.embedded);
            fails(library.map(drop).map_err(|error| format!("{error:#}")));
        }
        StoreTarget::Embedded | StoreTarget::Null => {}
    }
    for (key, folder) in folders(config) {
        fails(usable(key, &folder));
    }
    let files = secrets(config, file);
    let files = files.iter().map(|(key, path)| (key.as_str(), path));
    let own = file.map(|file| ("", file.to_owned()));
    for (key, path) in files.chain(own.as_ref().map(|(key, path)| (*key, path))) {
        fails(unwritable(key, path));
    }
    told.dedup();
    told
}

/// Secrets that are none on this host.
pub fn warnings(config: &Config, file: Option<&Path>) -> Vec<String> {
    let is_open = |path: &Path| has_mode(path, OTHERS_READ);
    let open = secrets(config, file);
    let open = open.iter().filter(|(_, path)| is_open(path));
    open.map(|(key, path)| {
        let path = path.display();
        format!("{key}: {path} may be read by everybody on this host; run 'chmod o= {path}'")
    })
    .collect()
}

/// Folders of somebody else, which a start by the wrong user would fill with its own files.
pub fn strangers(config: &Config) -> Vec<String> {
    let own = rustix::process::geteuid().as_raw();
    let foreign = |(key, folder): (&str, PathBuf)| {
        let owner = std::fs::metadata(&folder).ok()?.uid();
        (owner != own).then(|| {
            format!(
                "{key}: {path} belongs to the user with the id {owner}, and this is {own}: files \
                 of both would lie in it; start as that user, or run 'chown -R {own} {path}'",
                path = folder.display()
            )
        })
    };
    folders(config).into_iter().filter_map(foreign).collect()
}

/// What there is of a path.
pub fn existing(path: &Path) -> &Path {
    let mut ancestors = path.ancestors();
    ancestors.find(|path| path.exists()).unwrap_or(path)
}

/// The folders that a run writes to.
fn folders(config: &Config) -> Vec<(&'static str, PathBuf)> {
    let store = &config.store;
    let mut folders = Vec::new();
    if !config.decode.state_dir.as_os_str().is_empty() {
        folders.push(("decode.state_dir", config.decode.state_dir.clone()));
    }
    if store.target() == StoreTarget::Embedded {
        folders.push(("store.embedded.data_dir", store.embedded.data_dir.clone()));
    }
    if store.target() != StoreTarget::Null {
        // Within a folder that is named already it is as good as that one.
        let is_new = |spool: &PathBuf| !folders.iter().any(|(_, folder)| spool.starts_with(folder));
        let spool = store.spool_dir().filter(is_new);
        folders.extend(spool.map(|folder| ("store.spool.dir", folder)));
    }
    folders
}

/// The files that hold secrets, by the keys that say so.
fn secrets(config: &Config, file: Option<&Path>) -> Vec<(String, PathBuf)> {
    let store = &config.store;
    let mut found: Vec<(String, PathBuf)> = Vec::new();
    let mut add = |key: &str, path: Option<&Path>| {
        let path = path.filter(|path| !path.as_os_str().is_empty());
        found.extend(path.map(|path| (key.to_owned(), path.to_owned())));
    };
    add("store.password", store.password.as_ref().and(file));
    add("store.password_file", store.password_file.as_deref());
    add("store.tls.key", store.tls.key.as_deref());
    let http = &config.http;
    add("http.password_file", http.password_file.as_deref());
    add("http.token_file", http.token_file.as_deref());
    add("http.tls.key", http.tls.key.as_deref());
    for (index, target) in config.enrich.snmp.targets.iter().enumerate() {
        let key = |name: &str| format!("enrich.snmp.targets[{index}].{name}");
        let community = target.community.as_ref().and(file);
        add(&key("community"), community);
        for (name, path) in [
            ("community_file", &target.community_file),
            ("auth_password_file", &target.auth_password_file),
            ("privacy_password_file", &target.privacy_password_file),
        ] {
            add(&key(name), Some(path));
        }
    }
    for (index, update) in config.enrich.geo.updates.iter().enumerate() {
        let key = format!("enrich.geo.updates[{index}].password_file");
        add(&key, Some(&update.password_file));
    }
    found
}

/// Whether a folder is one, and not everybody's.
fn usable(key: &str, folder: &Path) -> Result<(), String> {
    let (shown, existing) = (folder.display(), existing(folder));
    if existing.exists() && !existing.is_dir() {
        let file = existing.display();
        return Err(format!(
            "{key}: {shown} cannot be a folder, as {file} is a file; choose another"
        ));
    }
    unwritable(key, folder)
}

/// Whether others than its owner and group cannot change it.
fn unwritable(key: &str, path: &Path) -> Result<(), String> {
    let gap = if key.is_empty() { "" } else { ": " };
    if has_mode(path, OTHERS_WRITE) {
        let path = path.display();
        return Err(format!(
            "{key}{gap}{path} may be changed by everybody on this host; run 'chmod o-w {path}'"
        ));
    }
    Ok(())
}

fn has_mode(path: &Path, bits: u32) -> bool {
    let has_bits = |metadata: Metadata| metadata.mode() & bits != 0;
    std::fs::metadata(path).is_ok_and(has_bits)
}

const OTHERS_READ: u32 = 0o004;
const OTHERS_WRITE: u32 = 0o002;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_password_that_everybody_may_read_is_warned_of_and_one_that_they_may_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "secret\n").unwrap();
        let text = format!("[store]\nurl = \"http://localhost\"\npassword_file = {path:?}\n");
        let config = config::parse("f.toml", &text).unwrap();
        for (mode, warned, refused) in [(0o644, 1, 0), (0o640, 0, 0), (0o642, 0, 1)] {
            set_mode(&path, mode);
            assert_eq!(warnings(&config, None).len(), warned, "{mode:o}");
            assert_eq!(refusals(&config, None).len(), refused, "{mode:o}");
        }
        let told = refusals(&config, None).concat();
        assert!(told.starts_with("store.password_file: "), "{told}");
        assert!(told.contains("chmod o-w"), "{told}");
    }

    #[test]
    fn a_configuration_with_a_secret_in_it_is_one_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flowsluice.toml");
        let text = "[[enrich.snmp.targets]]\nsource = \"192.0.2.0/24\"\ncommunity = \"s\"\n";
        std::fs::write(&path, text).unwrap();
        set_mode(&path, 0o644);
        let config = config::parse("f.toml", text).unwrap();
        let told = warnings(&config, Some(&path)).concat();
        assert!(
            told.starts_with("enrich.snmp.targets[0].community: "),
            "{told}"
        );
        set_mode(&path, 0o666);
        let told = refusals(&config, Some(&path)).concat();
        assert!(told.contains("may be changed by everybody"), "{told}");
    }

    #[test]
    fn a_folder_of_everybody_is_refused_and_one_of_somebody_else_is_warned_of() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        std::fs::create_dir(&state).unwrap();
        let text = format!("[decode]\nstate_dir = {state:?}\n[store]\nkind = \"null\"\n");
        let config = config::parse("f.toml", &text).unwrap();
        set_mode(&state, 0o777);
        let told = refusals(&config, None).concat();
        assert!(told.starts_with("decode.state_dir: "), "{told}");
        set_mode(&state, 0o750);
        assert_eq!(refusals(&config, None), [""; 0]);
        assert_eq!(strangers(&config), [""; 0]);
        // Only root may give a folder away.
        if std::os::unix::fs::chown(&state, Some(65_534), None).is_ok() {
            let told = strangers(&config).concat();
            assert!(
                told.contains("belongs to the user with the id 65534"),
                "{told}"
            );
        }
    }
}
