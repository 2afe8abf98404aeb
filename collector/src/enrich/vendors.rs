//! Who made a network interface, by its MAC address.
//!
//! The IEEE's list of large blocks (MA-L, `oui.csv`): <https://standards-oui.ieee.org>. Its columns
//! are Registry, Assignment (the upper 24 bits in hexadecimal), Organization Name and more.

use std::path::Path;

use super::files::{self, Fault, FileErrors, Others, cleaned, quoted, required};
use super::labels::{Labels, LabelsBuilder};

/// Most blocks; the list had some 39,000 in 2025.
pub const BLOCKS_MAX: usize = 1 << 20;

/// Who has blocks only to divide them further: not the maker.
const DIVIDED: &str = "IEEE Registration Authority";

/// Upper 16 bits of an address.
const STARTS: usize = 1 << 16;

const MAC_BITS: u64 = (1 << 48) - 1;

/// Bits of the first octet, in the upper 24 of an address (IEEE 802-2014 section 8.2).
const MULTICAST: u32 = 0x01_0000;
const LOCALLY_ADMINISTERED: u32 = 0x02_0000;

/// Makers by the upper 24 bits of MAC addresses.
#[derive(Debug)]
pub struct Vendors {
    /// Where the blocks of each value of the upper 16 bits begin; those of the next end them.
    starts: Box<[u32]>,
    /// The third octet of each block.
    octets: Vec<u8>,
    /// Its label.
    ids: Vec<u32>,
    labels: Labels,
}

impl Default for Vendors {
    /// Knows nobody.
    fn default() -> Self {
        Self::of(Vec::new(), Labels::default())
    }
}

impl Vendors {
    /// Reads the IEEE's list at `path`. Of a block that is there twice, the first counts.
    ///
    /// # Errors
    /// When it cannot be read, is no such list, or has a row that is none of such a list.
    pub fn load(path: &Path) -> Result<Self, FileErrors> {
        Self::parse(path, &files::read(path)?)
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, FileErrors> {
        let mut labels = LabelsBuilder::default();
        let mut blocks = Vec::new();
        let columns = [required("Assignment"), required("Organization Name")];
        let read = |_, [assignment, name]: [&str; 2]| {
            let block = block(assignment)?;
            if blocks.len() >= BLOCKS_MAX {
                return Err(Fault::new(
                    "too many blocks",
                    format!("at most {BLOCKS_MAX}"),
                ));
            }
            let maker = cleaned(if name == DIVIDED { "" } else { name });
            let id = labels.id(&maker);
            let id = id.ok_or_else(|| Fault::new("too much text", "name the IEEE's list"))?;
            blocks.push((block, id));
            Ok(())
        };
        files::parse_csv(path, bytes, &columns, Others::Ignored, read)?;
        Ok(Self::of(blocks, labels.finish()))
    }

    fn of(mut blocks: Vec<(u32, u32)>, labels: Labels) -> Self {
        // Stable, so the first of equal blocks stays the first.
        blocks.sort_by_key(|(block, _)| *block);
        blocks.dedup_by_key(|(block, _)| *block);
        let mut starts = vec![0; STARTS + 1].into_boxed_slice();
        let mut filled = 0;
        for (upper, start) in starts.iter_mut().enumerate() {
            let of_it = blocks.get(filled..).unwrap_or_default();
            filled += of_it.partition_point(|(block, _)| ((block >> 8) as usize) < upper);
            *start = u32::try_from(filled).expect("BLOCKS_MAX fits");
        }
        Self {
            starts,
            octets: blocks
                .iter()
                .map(|(block, _)| (block & 0xff) as u8)
                .collect(),
            ids: blocks.iter().map(|(_, id)| *id).collect(),
            labels,
        }
    }

    /// The maker of the interface with the MAC address in the low 48 bits of `mac`. Addresses that
    /// nobody bought (locally administered, multicast, all zero) have none.
    #[must_use]
    #[inline]
    pub fn find(&self, mac: u64) -> u32 {
        let block = ((mac & MAC_BITS) >> 24) as u32;
        if mac & MAC_BITS == 0 || block & (MULTICAST | LOCALLY_ADMINISTERED) != 0 {
            return 0;
        }
        let upper = (block >> 8) as usize;
        let [Some(start), Some(end)] = [self.starts.get(upper), self.starts.get(upper + 1)] else {
            return 0;
        };
        let (start, end) = (*start as usize, *end as usize);
        let octets = self.octets.get(start..end).unwrap_or_default();
        let octet = (block & 0xff) as u8;
        let place = octets.iter().position(|other| *other == octet);
        let id = place.and_then(|place| self.ids.get(start + place));
        id.copied().unwrap_or(0)
    }

    /// The name of a maker; '' for 0.
    #[must_use]
    pub fn label(&self, id: u32) -> &str {
        self.labels.get(id)
    }

    /// How many blocks are known.
    #[must_use]
    pub fn count(&self) -> usize {
        self.ids.len()
    }

    /// Bytes that it occupies.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let Self {
            starts,
            octets,
            ids,
            labels,
        } = self;
        size_of_val(&**starts)
            + octets.capacity()
            + size_of::<u32>() * ids.capacity()
            + labels.memory_bytes()
    }
}

fn block(assignment: &str) -> Result<u32, Fault> {
    let is_block = assignment.len() == 6 && assignment.bytes().all(|c| c.is_ascii_hexdigit());
    let parsed = u32::from_str_radix(assignment, 16)
        .ok()
        .filter(|_| is_block);
    parsed.ok_or_else(|| {
        let what = format!("Assignment: found {}", quoted(assignment));
        let remedy = "allowed: six hexadecimal digits; name the IEEE's list of MA-L, oui.csv";
        Fault::new(what, remedy)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vendors, FileErrors> {
        Vendors::parse(Path::new("oui.csv"), text.as_bytes())
    }

    const LIST: &str = "Registry,Assignment,Organization Name,Organization Address\r\n\
        MA-L,00005E,\"ICANN, IANA Department\",\"INTERNET ASS'NED NOS.AUTHORITY\nLos Angeles\"\r\n\
        MA-L,080030,First  Owner\t,Somewhere\r\n\
        MA-L,080030,Second Owner,Elsewhere\r\n\
        MA-L,0800FF,Last Octet,\r\n\
        MA-L,70B3D5,IEEE Registration Authority,445 Hoes Lane\r\n\
        MA-L,0200AA,Old Local,\r\n\
        MA-L,fcffff,Last Block,\r\n\
        MA-L,000000,\"First Block\",x\r\n";

    #[test]
    fn the_upper_half_of_an_address_tells_its_maker() {
        let vendors = parse(LIST).unwrap();
        let maker = |mac: u64| vendors.label(vendors.find(mac));
        assert_eq!(maker(0x0000_5e00_5301), "ICANN, IANA Department");
        assert_eq!(maker(0x0800_3012_3456), "First  Owner");
        assert_eq!(maker(0x0800_3112_3456), "");
        assert_eq!(maker(0x0800_ff12_3456), "Last Octet");
        assert_eq!(maker(0x0801_0012_3456), "");
        assert_eq!(maker(0xfcff_ffff_ffff), "Last Block");
        assert_eq!(maker(0x0000_0000_0001), "First Block");
        assert_eq!(maker(0xffff_0000_5e00_5301), "ICANN, IANA Department");
        assert_eq!(vendors.count(), 7);
    }

    #[test]
    fn addresses_that_nobody_bought_have_no_maker() {
        let vendors = parse(LIST).unwrap();
        let unknown = [
            0x0200_aa00_0001,
            0x0100_5e00_0001,
            0xffff_ffff_ffff,
            0,
            0x70b3_d500_0001,
        ];
        assert_eq!(unknown.map(|mac| vendors.find(mac)), [0; 5]);
        assert_eq!(Vendors::default().find(0x0000_5e00_5301), 0);
    }

    #[test]
    fn another_list_is_refused() {
        let told = |text: &str| parse(text).unwrap_err().to_string();
        let smaller = told("Registry,Assignment,Organization Name\nMA-M,70B3D50,Somebody\n");
        assert_eq!(
            smaller,
            "oui.csv:2: Assignment: found \"70B3D50\"; allowed: six hexadecimal digits; name the \
             IEEE's list of MA-L, oui.csv"
        );
        assert!(told("OUI/MA-L   Organization\n").contains("column 'Assignment' is missing"));
        assert!(told("Assignment,Organization Name\n+00001,x\n").contains("found \"+00001\""));
    }

    #[test]
    fn every_block_is_found_and_its_neighbours_are_not() {
        let mut text = String::from("Assignment,Organization Name\n");
        let blocks: Vec<u32> = (0..0x0100_0000).step_by(2 * 4099).collect();
        let bought = |block: u32| block & (MULTICAST | LOCALLY_ADMINISTERED) == 0;
        for block in &blocks {
            text += &format!("{block:06X},maker {block:06X}\n");
        }
        let vendors = parse(&text).unwrap();
        let maker = |block: u32| {
            vendors
                .label(vendors.find(u64::from(block) << 24 | 1))
                .to_owned()
        };
        for block in blocks.into_iter().filter(|block| bought(*block)) {
            assert_eq!(maker(block), format!("maker {block:06X}"));
            assert_eq!(maker(block + 1), "");
        }
    }
}
