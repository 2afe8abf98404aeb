use std::io::Write as _;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use flowsluice_tests::mmdb;
use tempfile::TempDir;

use super::*;

const CITY: &str = "GeoLite2-City";

/// A folder with `city.mmdb` to be, and `origin` that it comes from.
struct Place {
    folder: TempDir,
    update: GeoUpdate,
}

impl Place {
    fn new(origin: &str, contents: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join(origin);
        fs::write(&from, contents).unwrap();
        let update = GeoUpdate {
            file: folder.path().join("geo/city.mmdb"),
            from: from.display().to_string(),
            sha256_from: String::new(),
            user: String::new(),
            password_file: PathBuf::new(),
        };
        Self { folder, update }
    }

    fn offer(&self, contents: &[u8]) {
        fs::write(&self.update.from, contents).unwrap();
    }

    fn run(&self, force: bool) -> Result<Outcome> {
        update(&self.update, force, &mut |_, _| {})
    }

    /// Runs it, and asserts that it fails and leaves everything as it was.
    fn refused(&self) -> String {
        let before = fs::read(&self.update.file).ok();
        let error = format!("{:#}", self.run(false).unwrap_err());
        assert_eq!(fs::read(&self.update.file).ok(), before, "{error}");
        let folder = self.update.file.parent().unwrap();
        let left = fs::read_dir(folder).map_or(0, Iterator::count);
        assert_eq!(
            left,
            usize::from(before.is_some()),
            "nothing stays: {error}"
        );
        error
    }
}

fn gzip(contents: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(contents).unwrap();
    encoder.finish().unwrap()
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, contents) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        header.set_mode(0o600);
        archive.append_data(&mut header, name, *contents).unwrap();
    }
    archive.into_inner().unwrap()
}

fn is_replaced(outcome: &Outcome, built_before: Option<u64>, built: u64) -> bool {
    match outcome {
        Outcome::Replaced { before, after, .. } => {
            before.as_ref().map(|facts| facts.built) == built_before && after.built == built
        }
        Outcome::Unchanged => false,
    }
}

#[test]
fn a_database_is_found_plain_zipped_and_in_an_archive() {
    let database = mmdb::database(CITY, 1_700_000_000, 10);
    let archive = tar(&[
        ("GeoLite2-City_20231114/LICENSE.txt", b"words"),
        ("GeoLite2-City_20231114/GeoLite2-City.mmdb", &database),
    ]);
    for origin in [database.clone(), gzip(&database), gzip(&archive), archive] {
        let place = Place::new("offer", &origin);
        let outcome = place.run(false).unwrap();
        assert!(is_replaced(&outcome, None, 1_700_000_000), "{outcome:?}");
        assert_eq!(fs::read(&place.update.file).unwrap(), database);
        assert!(matches!(place.run(false).unwrap(), Outcome::Unchanged));
    }
}

#[test]
fn a_newer_one_replaces_an_older_one_and_keeps_its_mode() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new("offer", &mmdb::database(CITY, 1000, 10));
    place.run(false).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.update.file), 0o644);
    fs::set_permissions(&place.update.file, fs::Permissions::from_mode(0o640)).unwrap();
    place.offer(&mmdb::database(CITY, 2000, 10));
    assert!(is_replaced(&place.run(false).unwrap(), Some(1000), 2000));
    assert_eq!(mode(&place.update.file), 0o640);
}

#[test]
fn an_older_a_smaller_and_another_one_are_taken_by_force_only() {
    let place = Place::new("offer", &mmdb::database(CITY, 2000, 5000));
    place.run(false).unwrap();
    for (worse, why) in [
        (mmdb::database(CITY, 1000, 5000), "of 1970-01-01"),
        (mmdb::database(CITY, 3000, 10), "bytes"),
        (mmdb::database("GeoLite2-ASN", 3000, 5000), "GeoLite2-ASN"),
    ] {
        place.offer(&worse);
        let error = place.refused();
        assert!(error.contains(why) && error.contains("--force"), "{error}");
    }
    assert!(is_replaced(&place.run(true).unwrap(), Some(2000), 3000));
}

#[test]
fn what_is_no_database_leaves_the_former_one() {
    let database = mmdb::database(CITY, 1000, 300);
    let place = Place::new("offer", &database);
    place.run(false).unwrap();
    let mut broken = database.clone();
    // The left record leads beyond the data.
    broken[..3].copy_from_slice(&[0xff, 0xff, 0xff]);
    let mut cut = gzip(&database);
    cut.truncate(cut.len() / 2);
    let archive = |files: &[(&str, &[u8])]| gzip(&tar(files));
    for (offer, why) in [
        (b"<html>".to_vec(), "no database"),
        (Vec::new(), "no database"),
        (database[..database.len() - 200].to_vec(), "no database"),
        (broken, "broken"),
        (cut, "cannot be taken"),
        (archive(&[("a.txt", b"x")]), "no .mmdb"),
        (
            archive(&[("a.mmdb", &database), ("b.mmdb", &database)]),
            "more than one",
        ),
    ] {
        place.offer(&offer);
        let error = place.refused();
        assert!(error.contains(why), "{why}: {error}");
    }
}

#[test]
fn a_checksum_that_does_not_fit_leaves_the_former_one() {
    let mut place = Place::new("offer.gz", &gzip(&mmdb::database(CITY, 1000, 10)));
    let sum = place.folder.path().join("sum");
    place.update.sha256_from = sum.display().to_string();
    fs::write(&sum, format!("{}  offer.gz\n", "0".repeat(64))).unwrap();
    let error = place.refused();
    assert!(error.contains("SHA-256 is"), "{error}");
    fs::write(&sum, "<html>").unwrap();
    let error = place.refused();
    assert!(error.contains("64 hex digits"), "{error}");
    let of = Sha256::digest(fs::read(&place.update.from).unwrap());
    let of: String = of.iter().map(|byte| format!("{byte:02X}")).collect();
    fs::write(&sum, format!("{of}  offer.gz\n")).unwrap();
    assert!(is_replaced(&place.run(false).unwrap(), None, 1000));
}

#[test]
fn of_a_folder_the_newest_file_of_that_name_is_taken() {
    let mut place = Place::new("other.txt", b"");
    let folder = place.folder.path().join("offers");
    fs::create_dir(&folder).unwrap();
    place.update.from = folder.display().to_string();
    let error = place.refused();
    assert!(error.contains("begins with \"city\""), "{error}");
    let offers = [
        ("City_1.mmdb", 1000, 30),
        ("city_2.mmdb.gz", 2000, 40),
        ("city_3.mmdb.part", 9000, 50),
        ("asn.mmdb", 9000, 60),
    ];
    for (name, built, second) in offers {
        let path = folder.join(name);
        let mut contents = mmdb::database(CITY, built, 10);
        if name.ends_with(".gz") {
            contents = gzip(&contents);
        }
        fs::write(&path, contents).unwrap();
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(second);
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(time).unwrap();
    }
    assert!(is_replaced(&place.run(false).unwrap(), None, 2000));
}

#[test]
fn two_updates_of_one_file_do_not_meet() {
    let place = Place::new("offer", &mmdb::database(CITY, 1000, 10));
    let mut other = Beside::create(&place.update.file).unwrap();
    let error = format!("{:#}", place.run(false).unwrap_err());
    assert!(error.contains("another process"), "{error}");
    io::Write::write_all(other.file(), b"x").unwrap();
    drop(other);
    assert!(is_replaced(&place.run(false).unwrap(), None, 1000));
}

#[test]
fn what_is_no_database_is_replaced_however_new_it_is() {
    let place = Place::new("offer", &mmdb::database(CITY, 1000, 10));
    fs::create_dir(place.update.file.parent().unwrap()).unwrap();
    fs::write(
        &place.update.file,
        "rubbish that is longer than the database".repeat(100),
    )
    .unwrap();
    assert!(is_replaced(&place.run(false).unwrap(), None, 1000));
}
