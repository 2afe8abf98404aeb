//! Which fields of a template go to `extra`, and where they lie.

use std::ops::Range;

use super::{EXTRA_ENTRIES_MAX, ExtraBuffer, ExtraWriter, Wanted};
use crate::decode::elements::{self, DataType};
use crate::decode::plan::{FieldSpec, Spans};
use crate::decode::window::WINDOW_LEAD;
use crate::ledger::WorkerCounts;

/// paddingOctets: zeros that say nothing.
const PADDING: (u32, u16) = (0, 210);

/// The fields of a template that go to `extra`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtraPlan {
    fields: Box<[ExtraField]>,
    /// Fields beyond [`EXTRA_ENTRIES_MAX`].
    left_out: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ExtraField {
    data_type: DataType,
    /// The key in the column, with its length before it.
    name: Box<[u8]>,
    /// Fixed layout: one past the field's last byte. Variable layout: number of the field.
    at: u16,
    /// In a fixed layout.
    len: u16,
}

impl ExtraPlan {
    /// Bytes that it takes beside its own size.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let names = self.fields.iter().map(|field| field.name.len());
        size_of_val(&*self.fields) + names.sum::<usize>()
    }

    /// Those of `fields`, each with its place, that are wanted and that nothing else `uses`. Of an
    /// element that is repeated, the first (RFC 7011 section 8: the outermost).
    #[must_use]
    pub fn compile(
        fields: &[FieldSpec],
        places: &[u16],
        wanted: &Wanted,
        uses: impl Fn(u16) -> bool,
    ) -> Self {
        let mut extra = Vec::<ExtraField>::new();
        let mut left_out = 0;
        if wanted.is_nothing() {
            return Self::default();
        }
        for (field, at) in fields.iter().zip(places) {
            let FieldSpec {
                enterprise,
                id,
                len,
                is_scope,
            } = *field;
            let says_nothing = len == 0 || is_scope || (enterprise, id) == PADDING;
            if says_nothing || uses(*at) || !wanted.has(enterprise, id) {
                continue;
            }
            let info = elements::info(enterprise, id);
            let name = key(enterprise, id, info.map(|info| info.name));
            if extra.iter().any(|earlier| earlier.name == name) {
                continue;
            }
            if extra.len() == EXTRA_ENTRIES_MAX {
                left_out += 1;
                continue;
            }
            extra.push(ExtraField {
                data_type: info.map_or(DataType::OctetArray, |info| info.data_type),
                name,
                at: *at,
                len,
            });
        }
        Self {
            fields: extra.into(),
            left_out,
        }
    }

    /// What records of `len` bytes say, the flows with these numbers of the burst. As for
    /// [`crate::decode::plan::Plan::fill_fixed`], `windows` begins before the first record.
    #[inline]
    pub fn fixed(
        &self,
        windows: &[u8],
        len: usize,
        room: (&mut ExtraBuffer, Range<usize>),
        counts: &mut WorkerCounts,
    ) {
        if !self.fields.is_empty() {
            self.fixed_records(windows, len, room, counts);
        }
    }

    #[inline(never)]
    fn fixed_records(
        &self,
        windows: &[u8],
        len: usize,
        (buffer, numbers): (&mut ExtraBuffer, Range<usize>),
        counts: &mut WorkerCounts,
    ) {
        let records = windows.get(WINDOW_LEAD..).unwrap_or_default();
        for (record, number) in records.chunks_exact(len).zip(numbers) {
            self.tell(buffer.begin(number), counts, |field| {
                let end = usize::from(field.at);
                let bytes = record.get(end - usize::from(field.len)..end);
                bytes.unwrap_or_default()
            });
        }
    }

    /// What a record says whose fields lie at `spans`, the flow with this number of the burst.
    #[inline]
    pub fn variable(
        &self,
        window: &[u8],
        spans: &Spans,
        (buffer, numbers): (&mut ExtraBuffer, Range<usize>),
        counts: &mut WorkerCounts,
    ) {
        if !self.fields.is_empty() {
            let writer = buffer.begin(numbers.start);
            self.tell(writer, counts, |field| spans.bytes(field.at, window));
        }
    }

    /// What the fields of a record say.
    fn tell<'r>(
        &self,
        mut writer: ExtraWriter<'_>,
        counts: &mut WorkerCounts,
        bytes: impl Fn(&ExtraField) -> &'r [u8],
    ) {
        for field in &self.fields {
            writer.put(&field.name, field.data_type, bytes(field));
        }
        counts.extra_cut += writer.cut + self.left_out;
    }
}

/// `PEN.name` or `PEN.id`, with its length before it.
fn key(enterprise: u32, id: u16, name: Option<&str>) -> Box<[u8]> {
    let key = match name {
        Some(name) => format!("{enterprise}.{name}"),
        None => format!("{enterprise}.{id}"),
    };
    // Ten digits, a point and a name of the table, which a test holds below 100.
    let len = u8::try_from(key.len()).ok().filter(|len| *len < 0x80);
    let len = len.expect("the tables have no long names");
    let mut bytes = vec![len];
    bytes.extend_from_slice(key.as_bytes());
    bytes.into()
}
