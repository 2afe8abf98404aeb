//! Templates: from the bytes of a template set to a compiled plan.

use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};

use super::Cursor;
use super::naming::Naming;
use super::plan::{FieldSpec, Plan, TEMPLATE_FIELDS_MAX};
use crate::config::memory::{EXTRA_NAMES_BYTES, TEMPLATE_BYTES};

/// Set ids below this one are not templates' (RFC 3954 section 5.2, RFC 7011 section 3.4.3).
pub const TEMPLATE_ID_MIN: u16 = 256;

/// What the records of a template are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Flows.
    Data,
    /// Facts of the exporter.
    Options,
}

/// The two ways to write template sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// RFC 3954: no enterprise bit, lengths of options in bytes.
    Netflow9,
    /// RFC 7011: enterprise bit, withdrawals, counts of options in fields.
    Ipfix,
}

/// A template as it is kept.
#[derive(Debug)]
pub struct Template {
    /// Its number, also the id of its data sets.
    pub id: u16,
    /// What its records are.
    pub kind: Kind,
    /// Its bytes as they came: one that is sent again unchanged is not compiled again.
    definition: Box<[u8]>,
    /// What to do with its records.
    pub plan: Plan,
    /// Of options: what they name.
    pub naming: Option<Naming>,
    /// When it was of use.
    pub life: Life,
}

impl Template {
    /// Its bytes as the exporter wrote them.
    #[must_use]
    pub fn definition(&self) -> &[u8] {
        &self.definition
    }

    /// How many of `decode.templates_max` it counts for: one, unless it is far longer than those
    /// that routers send.
    #[must_use]
    pub fn weight(&self) -> usize {
        // The counters beside a shared value, and its place in two maps that are half empty.
        const AROUND: usize = 16 + 2 * 2 * size_of::<(u16, usize)>();
        let own = size_of::<Self>() + self.definition.len() + self.plan.memory_bytes();
        // What is asked for of each template for `extra` is a sum of its own.
        let extra = self.plan.extra.memory_bytes();
        let more = extra.saturating_sub(EXTRA_NAMES_BYTES as usize);
        (AROUND + own + more).div_ceil(TEMPLATE_BYTES as usize)
    }
}

/// When a template was of use, in seconds since the epoch. All workers share it, so it is written
/// once a second at most.
#[derive(Debug, Default)]
pub struct Life {
    sent_s: AtomicU32,
    used_s: AtomicU32,
}

impl Life {
    /// The exporter sent it, perhaps again.
    pub fn sent(&self, now_s: u32) {
        note(&self.sent_s, now_s);
    }

    /// Records were read with it.
    #[inline]
    pub fn used(&self, now_s: u32) {
        note(&self.used_s, now_s);
    }

    /// When it was sent last.
    #[must_use]
    pub fn sent_s(&self) -> u32 {
        self.sent_s.load(Ordering::Relaxed)
    }

    /// When records were read with it last; 0 is never.
    #[must_use]
    pub fn used_s(&self) -> u32 {
        self.used_s.load(Ordering::Relaxed)
    }

    /// When it was of any use last.
    #[must_use]
    pub fn last_s(&self) -> u32 {
        self.sent_s().max(self.used_s())
    }
}

#[inline]
fn note(time_s: &AtomicU32, now_s: u32) {
    if time_s.load(Ordering::Relaxed) != now_s {
        time_s.store(now_s, Ordering::Relaxed);
    }
}

/// One entry of a template set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A template, not compiled yet.
    Definition(Definition<'a>),
    /// RFC 7011 section 8.1: forget this one.
    Withdraw(u16),
    /// RFC 7011 section 8.1: forget all of this kind.
    WithdrawAll,
    /// Something that is none; the rest of the set makes no sense if `ends_set`.
    Malformed {
        /// The template that the exporter meant to (re)define.
        id: u16,
        /// Where the next entry would begin is unknown.
        ends_set: bool,
    },
}

/// A template's bytes, with what is needed to compile them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition<'a> {
    /// Its number.
    pub id: u16,
    kind: Kind,
    dialect: Dialect,
    /// Fields at the start that are scopes.
    scopes: usize,
    count: usize,
    /// From the template id on.
    bytes: &'a [u8],
    /// The field specifiers in them.
    specs: &'a [u8],
}

impl Definition<'_> {
    /// True when `template` was compiled from these very bytes.
    #[must_use]
    pub fn is(&self, template: &Template) -> bool {
        template.kind == self.kind && *template.definition == *self.bytes
    }

    /// Its fields, as the exporter wrote them.
    #[must_use]
    pub fn fields(&self) -> Option<Vec<FieldSpec>> {
        let mut cursor = Cursor::new(self.specs);
        let mut fields = Vec::with_capacity(self.count);
        for number in 0..self.count {
            let mut field = field_spec(&mut cursor, self.dialect)?;
            field.is_scope = number < self.scopes && self.dialect == Dialect::Netflow9;
            fields.push(field);
        }
        Some(fields)
    }

    /// Compiles, with those of the `wanted` elements that fill no column; `None` when its records
    /// would have no bytes.
    #[must_use]
    pub fn compile(&self, wanted: &super::Wanted) -> Option<Template> {
        let wanted = match self.kind {
            Kind::Data => wanted,
            Kind::Options => super::Wanted::NOTHING,
        };
        let fields = self.fields()?;
        let plan = Plan::compile(&fields, wanted)?;
        let naming = match self.kind {
            Kind::Options => Naming::of(&fields, plan.layout()),
            Kind::Data => None,
        };
        Some(Template {
            id: self.id,
            kind: self.kind,
            definition: self.bytes.into(),
            plan,
            naming,
            life: Life::default(),
        })
    }
}

/// Walks the entries of a template set.
#[derive(Clone, Copy, Debug)]
pub struct Entries<'a> {
    cursor: Cursor<'a>,
    kind: Kind,
    dialect: Dialect,
}

impl<'a> Entries<'a> {
    /// `body` is the set without its header.
    #[must_use]
    pub const fn new(body: &'a [u8], kind: Kind, dialect: Dialect) -> Self {
        Self {
            cursor: Cursor::new(body),
            kind,
            dialect,
        }
    }

    fn entry(&mut self) -> Option<Entry<'a>> {
        let rest = self.cursor.rest();
        // Up to three bytes, or zeros, are padding: no template has the id 0.
        let id = self.cursor.u16()?;
        let count = self.cursor.u16()?;
        if id == 0 && count == 0 {
            return None;
        }
        if count == 0 && self.dialect == Dialect::Ipfix {
            return Some(self.withdrawal(id));
        }
        let cut = Entry::Malformed { id, ends_set: true };
        let Some((scopes, count)) = self.counts(usize::from(count)) else {
            return Some(cut);
        };
        let specs = self.cursor.rest();
        for _ in 0..count {
            if field_spec(&mut self.cursor, self.dialect).is_none() {
                return Some(cut);
            }
        }
        if id < TEMPLATE_ID_MIN || count == 0 || count > TEMPLATE_FIELDS_MAX {
            let ends_set = false;
            return Some(Entry::Malformed { id, ends_set });
        }
        let left = self.cursor.remaining();
        Some(Entry::Definition(Definition {
            id,
            kind: self.kind,
            dialect: self.dialect,
            scopes,
            count,
            bytes: rest.get(..rest.len() - left)?,
            specs: specs.get(..specs.len() - left)?,
        }))
    }

    fn withdrawal(&mut self, id: u16) -> Entry<'a> {
        match (id, self.kind) {
            (TEMPLATE_ID_MIN.., _) => Entry::Withdraw(id),
            (2, Kind::Data) | (3, Kind::Options) => Entry::WithdrawAll,
            _ => Entry::Malformed {
                id,
                ends_set: false,
            },
        }
    }

    /// Scopes and all fields; `None` when they contradict each other or are cut off.
    fn counts(&mut self, first: usize) -> Option<(usize, usize)> {
        if self.kind == Kind::Data {
            return Some((0, first));
        }
        let second = usize::from(self.cursor.u16()?);
        match self.dialect {
            // RFC 3954 section 6.1: lengths in bytes, four to a field.
            Dialect::Netflow9 => {
                let whole = first.is_multiple_of(4) && second.is_multiple_of(4);
                whole.then_some((first / 4, (first + second) / 4))
            }
            // RFC 7011 section 3.4.2.2: all fields, then how many of them are scopes.
            Dialect::Ipfix => (second <= first).then_some((second, first)),
        }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let entry = self.entry();
        if matches!(entry, None | Some(Entry::Malformed { ends_set: true, .. })) {
            self.cursor = Cursor::new(&[]);
        }
        entry
    }
}

/// RFC 3954 section 5.2 and RFC 7011 section 3.2.
fn field_spec(cursor: &mut Cursor<'_>, dialect: Dialect) -> Option<FieldSpec> {
    const ENTERPRISE_BIT: u16 = 0x8000;
    let id = cursor.u16()?;
    let len = cursor.u16()?;
    let is_scope = false;
    if dialect == Dialect::Netflow9 || id & ENTERPRISE_BIT == 0 {
        return Some(FieldSpec {
            enterprise: 0,
            id,
            len,
            is_scope,
        });
    }
    Some(FieldSpec {
        enterprise: cursor.u32()?,
        id: id & !ENTERPRISE_BIT,
        len,
        is_scope,
    })
}
