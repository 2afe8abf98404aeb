//! Options templates that name something: which of their fields are the number, the name and the
//! description. They are rare, so their text has a path of its own beside the plan.

use super::plan::{FieldSpec, Layout, Spans, bytes_at};
use crate::names::{ApplicationId, Subject, Text};

/// Where the fields lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Naming {
    what: What,
    id: Place,
    name: Option<Place>,
    description: Option<Place>,
}

/// What is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Interface,
    Vrf,
    Application,
}

/// Where a field lies in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// Fixed layout: one past the field's last byte. Variable layout: number of the field.
    at: u16,
    /// In the fixed layout, bytes.
    len: u16,
}

/// One record's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// What is named.
    pub subject: Subject,
    /// Its name.
    pub name: Text,
    /// What else is said of it.
    pub description: Text,
}

/// Elements of one kind of table: the numbers that may stand for the subject, best first, the name
/// and the description.
const TABLES: [(What, &[u16], u16, Option<u16>); 3] = [
    (What::Interface, &[10, 14, 252, 253], 82, Some(83)),
    (What::Vrf, &[234, 235], 236, None),
    // RFC 6759 section 4.2 and 6.
    (What::Application, &[95], 96, Some(94)),
];

/// RFC 3954 section 6.1.
const SCOPE_INTERFACE: u16 = 2;

impl Naming {
    /// Looks for a table in `fields`, which lie as `layout` says; `None` when they name nothing.
    #[must_use]
    pub fn of(fields: &[FieldSpec], layout: &Layout) -> Option<Self> {
        let places = layout.places(fields);
        let find = |is_it: &dyn Fn(&FieldSpec) -> bool| {
            let number = fields.iter().position(|f| f.enterprise == 0 && is_it(f))?;
            let (at, len) = (*places.get(number)?, fields.get(number)?.len);
            Some(Place { at, len })
        };
        let element = |id: u16| find(&|field| field.id == id && !field.is_scope);
        TABLES.iter().find_map(|(what, ids, name, description)| {
            let (name, description) = (element(*name), description.and_then(element));
            name.or(description)?;
            let scope = || match what {
                What::Interface => find(&|field| field.is_scope && field.id == SCOPE_INTERFACE),
                What::Vrf | What::Application => None,
            };
            let id = ids.iter().copied().find_map(element).or_else(scope)?;
            Some(Self {
                what: *what,
                id,
                name,
                description,
            })
        })
    }

    /// What the record in `window` tells; `None` when it has no name, or names nothing.
    #[must_use]
    pub fn told(&self, window: &[u8], spans: Option<&Spans>) -> Option<Told> {
        let text = |place: Option<Place>| match place {
            Some(place) => Text::of(place.bytes(window, spans)),
            None => Text::EMPTY,
        };
        let (name, description) = (text(self.name), text(self.description));
        if name.is_empty() && description.is_empty() {
            return None;
        }
        let id = self.id.bytes(window, spans);
        let number = || {
            id.iter()
                .try_fold(0_u32, |n, b| n.checked_mul(256)?.checked_add((*b).into()))
        };
        let subject = match self.what {
            What::Interface => Subject::Interface(number().filter(|n| *n > 0)?),
            What::Vrf => Subject::Vrf(number()?),
            What::Application => Subject::Application(ApplicationId::from_bytes(id)?),
        };
        Some(Told {
            subject,
            name,
            description,
        })
    }
}

impl Place {
    fn bytes<'w>(&self, window: &'w [u8], spans: Option<&Spans>) -> &'w [u8] {
        match spans {
            None => bytes_at(window, (self.at, self.len)),
            Some(spans) => spans.bytes(self.at, window),
        }
    }
}
