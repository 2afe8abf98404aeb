//! The captures that other projects published are replayed to the last datagram.

use std::path::{Path, PathBuf};

use flowsluice::receive::replay::Capture;
use serde_json::Value;

/// Where the captures are, when they are there: beside the checkout.
fn captures() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/captures");
    if root.join("INDEX.json").exists() {
        return Some(root);
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "no captures in {}",
        root.display()
    );
    eprintln!("skipped: no captures in {}", root.display());
    None
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn every_capture_yields_as_many_datagrams_as_it_holds() {
    let Some(root) = captures() else { return };
    let index = read_json(&root.join("INDEX.json"));
    let mut checked = 0;
    for entry in index.as_array().unwrap() {
        let folder = root.join(entry["dir"].as_str().unwrap());
        let expected = read_json(&folder.join("expected.json"));
        let files = expected["files"].as_array().unwrap();
        let files = files.iter().map(|f| folder.join(f.as_str().unwrap()));
        let mut datagrams = 0;
        let counts = Capture::new(files.collect())
            .for_each(&mut |datagram| {
                assert!(!datagram.payload.is_empty());
                datagrams += 1;
            })
            .unwrap();
        assert_eq!(counts.datagrams, datagrams);
        assert_eq!(
            Some(counts.datagrams),
            expected["packets"].as_u64(),
            "{}: {counts:?}",
            folder.display()
        );
        assert_eq!(
            counts.packets + counts.reassembled,
            counts.datagrams + counts.not_udp + counts.unreadable + counts.fragments
        );
        assert_eq!((counts.unreadable, counts.fragments_unfinished), (0, 0));
        checked += 1;
    }
    assert!(checked >= 99, "only {checked} captures");
}
