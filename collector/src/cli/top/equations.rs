//! The ledger's equations in words.

use serde_json::{Map, Value};

use super::frame::{number, text};

/// Where flows wait on their way into ClickHouse.
pub const WAITING: [(&str, &str); 3] = [
    ("open", "/ledger/counters/flows_open"),
    ("in flight", "/ledger/store/flows_in_flight"),
    ("on disk", "/ledger/store/flows_spooled"),
];

/// The words of one equation.
struct Words {
    /// As the status calls it.
    of: &'static str,
    name: &'static str,
    left: &'static str,
    /// The parts that its right side is the sum of.
    right: &'static [(&'static str, &'static str)],
    /// What those leave over; `None` where that is nothing.
    rest: Option<&'static str>,
}

const WORDS: [Words; 6] = [
    Words {
        of: "datagrams",
        name: "datagrams",
        left: "received",
        right: &[("decoded", "/ledger/counters/datagrams_decoded")],
        rest: Some("dropped"),
    },
    Words {
        of: "records",
        name: "records",
        left: "received",
        right: &[("decoded", "/ledger/counters/records_decoded")],
        rest: Some("dropped"),
    },
    Words {
        of: "records_as_flows",
        name: "flows",
        left: "in records",
        right: &[("decoded", "/ledger/counters/flows_decoded")],
        rest: None,
    },
    Words {
        of: "flows",
        name: "flows",
        left: "decoded",
        right: &[("kept", "/ledger/counters/flows_batched")],
        rest: Some("dropped"),
    },
    Words {
        of: "rows",
        name: "rows",
        left: "kept",
        right: &[
            ("stored", "/ledger/store/flows_stored"),
            WAITING[0],
            WAITING[1],
            WAITING[2],
        ],
        rest: Some("lost"),
    },
    Words {
        of: "side_rows",
        name: "rows beside flows",
        left: "offered",
        right: &[
            ("stored", "/ledger/side/*/rows_stored"),
            ("waiting", "/ledger/side/*/rows_waiting"),
        ],
        rest: Some("dropped"),
    },
];

/// What an equation of `status` says, without parts that are 0 in its middle; an error where its
/// sides differ.
pub fn equation(status: &Value, one: &Value) -> Result<String, String> {
    let name = text(one, "/name");
    let (left, right) = (number(one, "/left"), number(one, "/right"));
    let sign = if left == right { "=" } else { "≠" };
    let said = match WORDS.iter().find(|words| words.of == name) {
        Some(words) => words.say(status, &format!("{left} {sign}"), right),
        None => format!("{name}: {left} {sign} {right}"),
    };
    if left == right { Ok(said) } else { Err(said) }
}

impl Words {
    fn say(&self, status: &Value, left: &str, right: u64) -> String {
        let mut said = format!("{}: {} {left}", self.name, self.left);
        let mut rest = right;
        for (at, (part, pointer)) in self.right.iter().enumerate() {
            let value = sum(status, pointer);
            rest = rest.saturating_sub(value);
            match at {
                0 => said += &format!(" {part} {value}"),
                _ if value > 0 => said += &format!(" + {part} {value}"),
                _ => {}
            }
        }
        if let Some(name) = self.rest {
            said += &format!(" + {name} {rest}");
        }
        said
    }
}

/// The number at `pointer`; `*` in it is every key, all together.
fn sum(status: &Value, pointer: &str) -> u64 {
    let Some((above, below)) = pointer.split_once("/*") else {
        return number(status, pointer);
    };
    let keys = status.pointer(above).and_then(Value::as_object);
    let values = keys.into_iter().flat_map(Map::values);
    values.map(|value| number(value, below)).sum()
}
