//! Small databases in MMDB form, for tests of what fetches and reads them.

/// A database of `kind`, built at `epoch_s`, of the addresses from 0.0.0.0 to 127.255.255.255, with
/// `padding` bytes of text in what it says of them.
#[must_use]
pub fn database(kind: &str, epoch_s: u64, padding: usize) -> Vec<u8> {
    // One node: its left record is the first value of the data section, its right one is nothing.
    // MaxMind DB format 2.0: a pointer to data is the number of nodes + 16 + the offset.
    let mut bytes = vec![0, 0, 1 + 16, 0, 0, 1];
    bytes.extend([0; 16]);
    map(&mut bytes, 2);
    text(&mut bytes, "country");
    map(&mut bytes, 1);
    text(&mut bytes, "iso_code");
    text(&mut bytes, "JP");
    text(&mut bytes, "padding");
    text(&mut bytes, &"x".repeat(padding));
    bytes.extend(b"\xab\xcd\xefMaxMind.com");
    map(&mut bytes, 9);
    for (key, control, value) in [
        ("binary_format_major_version", UINT16, 2),
        ("binary_format_minor_version", UINT16, 0),
        ("ip_version", UINT16, 4),
        ("record_size", UINT16, 24),
        ("node_count", UINT32, 1),
    ] {
        text(&mut bytes, key);
        bytes.extend([control | 2, 0, value]);
    }
    text(&mut bytes, "build_epoch");
    // Types above 7 have theirs, less 7, in a second byte.
    bytes.extend([8, 2]);
    bytes.extend(epoch_s.to_be_bytes());
    text(&mut bytes, "database_type");
    text(&mut bytes, kind);
    text(&mut bytes, "languages");
    bytes.extend([1, 4]);
    text(&mut bytes, "en");
    text(&mut bytes, "description");
    map(&mut bytes, 1);
    text(&mut bytes, "en");
    text(&mut bytes, "Made for a test");
    bytes
}

const TEXT: u8 = 2 << 5;
const UINT16: u8 = 5 << 5;
const UINT32: u8 = 6 << 5;
const MAP: u8 = 7 << 5;

fn map(bytes: &mut Vec<u8>, pairs: u8) {
    bytes.push(MAP | pairs);
}

/// Lengths below 29 stand in the control byte, those below 285 in one more, below 65821 in two.
fn text(bytes: &mut Vec<u8>, value: &str) {
    let length = value.len();
    match length {
        0..29 => bytes.push(TEXT | u8::try_from(length).expect("it is below 29")),
        29..285 => bytes.extend([
            TEXT | 29,
            u8::try_from(length - 29).expect("it is below 256"),
        ]),
        _ => {
            let rest = u16::try_from(length - 285).expect("no test has longer ones");
            bytes.push(TEXT | 30);
            bytes.extend(rest.to_be_bytes());
        }
    }
    bytes.extend(value.as_bytes());
}
