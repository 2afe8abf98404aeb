//! What an agent says of its interfaces (RFC 2863) and of itself (RFC 3418).

use std::borrow::Cow;
use std::collections::BTreeMap;

use snmp2::{Oid, Pdu, Value};

use super::error::PollError;
use super::session::{Question, Session};
use crate::enrich::interfaces::{Interface, clean};

/// Interfaces of one exporter that are taken.
pub const ROWS_MAX: usize = 8192;

/// Rows asked for at once. With aliases of 64 bytes, which are the longest allowed, an answer still
/// fits into a datagram that is not cut to pieces.
const REPETITIONS: u32 = 16;

/// Names of objects as they stand in messages (X.690 section 8.19): 1.3 is one byte.
const SYS_NAME: &[u8] = &[0x2b, 6, 1, 2, 1, 1, 5, 0];
const IF_DESCR: &[u8] = &[0x2b, 6, 1, 2, 1, 2, 2, 1, 2];
const IF_SPEED: &[u8] = &[0x2b, 6, 1, 2, 1, 2, 2, 1, 5];
const IF_NAME: &[u8] = &[0x2b, 6, 1, 2, 1, 31, 1, 1, 1, 1];
const IF_HIGH_SPEED: &[u8] = &[0x2b, 6, 1, 2, 1, 31, 1, 1, 1, 15];
const IF_ALIAS: &[u8] = &[0x2b, 6, 1, 2, 1, 31, 1, 1, 1, 18];

/// The unit of ifHighSpeed, bit/s.
const HIGH_SPEED: u64 = 1_000_000;

const TOO_BIG: u32 = snmp2::snmp::ERRSTATUS_TOOBIG;
const NO_SUCH_NAME: u32 = snmp2::snmp::ERRSTATUS_NOSUCHNAME;

/// What a poll brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// sysName.
    pub system_name: Box<str>,
    /// By ifIndex; never 0.
    pub interfaces: BTreeMap<u32, Interface>,
    /// Columns that had more rows than are taken.
    pub columns_cut: u64,
}

/// A value of a column.
#[derive(Debug, PartialEq, Eq)]
enum Cell {
    Text(Box<str>),
    Number(u64),
    Other,
}

impl Cell {
    fn of(value: &Value<'_>) -> Self {
        match value {
            Value::OctetString(bytes) => Self::Text(clean(bytes)),
            Value::Unsigned32(number) | Value::Counter32(number) => {
                Self::Number(u64::from(*number))
            }
            Value::Integer(number) => u64::try_from(*number).map_or(Self::Other, Self::Number),
            Value::Counter64(number) => Self::Number(*number),
            _ => Self::Other,
        }
    }

    fn text(self) -> Box<str> {
        match self {
            Self::Text(text) => text,
            Self::Number(_) | Self::Other => Box::default(),
        }
    }

    fn number(self) -> u64 {
        match self {
            Self::Number(number) => number,
            Self::Text(_) | Self::Other => 0,
        }
    }
}

/// Asks for everything. At most `rows_max` rows of each column are taken.
///
/// # Errors
/// When it does not answer to the end, or shows no interface.
pub async fn poll(session: &mut Session, rows_max: usize) -> Result<Said, PollError> {
    let mut said = Said {
        system_name: system_name(session).await?,
        ..Said::default()
    };
    let walk = Walk { rows_max };
    // The name of an interface in the older table is a description.
    let mut names = walk.column(session, IF_NAME, &mut said.columns_cut).await?;
    if names.is_empty() {
        names = walk
            .column(session, IF_DESCR, &mut said.columns_cut)
            .await?;
    }
    if names.is_empty() {
        return Err(PollError::NoInterfaces);
    }
    let interfaces = names.into_iter().map(|(index, name)| {
        let interface = Interface {
            name: name.text(),
            ..Interface::default()
        };
        (index, interface)
    });
    said.interfaces = interfaces.collect();
    // A row without a name may still have them; there are not more rows for it.
    for (index, alias) in walk
        .column(session, IF_ALIAS, &mut said.columns_cut)
        .await?
    {
        if let Some(interface) = said.interfaces.get_mut(&index) {
            interface.alias = alias.text();
        }
    }
    let mut unit = HIGH_SPEED;
    let mut speeds = walk
        .column(session, IF_HIGH_SPEED, &mut said.columns_cut)
        .await?;
    if speeds.is_empty() {
        unit = 1;
        speeds = walk
            .column(session, IF_SPEED, &mut said.columns_cut)
            .await?;
    }
    for (index, speed) in speeds {
        if let Some(interface) = said.interfaces.get_mut(&index) {
            interface.speed = speed.number().saturating_mul(unit);
        }
    }
    Ok(said)
}

async fn system_name(session: &mut Session) -> Result<Box<str>, PollError> {
    let name = Oid::new(Cow::Borrowed(SYS_NAME));
    let read = |answer: &Pdu<'_>| {
        if answer.error_status != 0 && answer.error_status != NO_SUCH_NAME {
            return Err(PollError::Refused(answer.error_status));
        }
        let value = answer.varbinds.clone().next();
        Ok(value.map_or(Box::default(), |(_, value)| Cell::of(&value).text()))
    };
    session.ask(Question::Get(&name), read).await
}

struct Walk {
    rows_max: usize,
}

/// Rows out of one answer, in order.
#[derive(Debug, Default)]
struct Page {
    rows: Vec<(u32, Cell)>,
    is_last: bool,
}

impl Walk {
    /// All rows of one column, except that of index 0.
    async fn column(
        &self,
        session: &mut Session,
        column: &[u8],
        columns_cut: &mut u64,
    ) -> Result<Vec<(u32, Cell)>, PollError> {
        let mut rows = Vec::new();
        let mut repetitions = REPETITIONS;
        let mut last = None;
        loop {
            let from = name_of(column, last);
            let question = Question::Bulk(&from, repetitions);
            let read = |answer: &Pdu<'_>| Page::of(answer, column, last);
            let page = match session.ask(question, read).await {
                Err(PollError::Refused(TOO_BIG)) if repetitions > 1 => {
                    repetitions /= 2;
                    continue;
                }
                outcome => outcome?,
            };
            last = page.rows.last().map(|(index, _)| *index).or(last);
            rows.extend(page.rows.into_iter().filter(|(index, _)| *index != 0));
            if rows.len() > self.rows_max {
                rows.truncate(self.rows_max);
                *columns_cut += 1;
                return Ok(rows);
            }
            if page.is_last {
                return Ok(rows);
            }
        }
    }
}

impl Page {
    /// The rows of `column` in `answer`, which has to go on behind `last`.
    fn of(answer: &Pdu<'_>, column: &[u8], mut last: Option<u32>) -> Result<Self, PollError> {
        let mut page = Self::default();
        match answer.error_status {
            0 => {}
            // What agents of version 1 say at the end, with a proxy before them.
            NO_SUCH_NAME => page.is_last = true,
            status => return Err(PollError::Refused(status)),
        }
        if page.is_last {
            return Ok(page);
        }
        for (name, value) in answer.varbinds.clone() {
            let index = name.as_bytes().strip_prefix(column);
            let is_end = matches!(value, Value::EndOfMibView);
            let Some(index) = index.filter(|_| !is_end) else {
                page.is_last = true;
                return Ok(page);
            };
            let index = index_of(index).ok_or(PollError::Odd(snmp2::Error::ValueOutOfRange))?;
            // RFC 3416 section 4.2.3: each is the lexicographic successor of the one before.
            if last.is_some_and(|last| index <= last) {
                return Err(PollError::NotIncreasing);
            }
            last = Some(index);
            page.rows.push((index, Cell::of(&value)));
        }
        if page.rows.is_empty() {
            return Err(PollError::Odd(snmp2::Error::AsnEof));
        }
        Ok(page)
    }
}

/// The name of a row, of the whole column without one.
fn name_of(column: &[u8], index: Option<u32>) -> Oid<'static> {
    let mut name = column.to_vec();
    if let Some(index) = index {
        let digits = [28, 21, 14, 7, 0].map(|shift| (index >> shift) as u8 & 0x7f);
        let skipped = digits.iter().take(4).take_while(|digit| **digit == 0);
        let skipped = skipped.count();
        let more = digits.iter().skip(skipped).take(4 - skipped);
        name.extend(more.map(|digit| digit | 0x80));
        name.push(digits[4]);
    }
    Oid::new(Cow::Owned(name))
}

/// The index in what follows the name of a column; `None` when that is not one number of 32 bits.
fn index_of(rest: &[u8]) -> Option<u32> {
    let (last, more) = rest.split_last()?;
    if more.len() > 4 || *last >= 0x80 || more.iter().any(|byte| *byte < 0x80) {
        return None;
    }
    let number = |number: u64, byte: &u8| number << 7 | u64::from(byte & 0x7f);
    u32::try_from(rest.iter().fold(0, number)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_rows_are_read_as_they_are_written() {
        for index in [1, 127, 128, 300, 16_383, 16_384, 1_000_000, u32::MAX] {
            let name = name_of(IF_NAME, Some(index));
            let text = format!("1.3.6.1.2.1.31.1.1.1.1.{index}");
            assert_eq!(name.to_id_string(), text);
            let rest = name.as_bytes().strip_prefix(IF_NAME).unwrap();
            assert_eq!(index_of(rest), Some(index));
        }
        assert_eq!(name_of(SYS_NAME, None).to_id_string(), "1.3.6.1.2.1.1.5.0");
        let column = |name| name_of(name, None).to_id_string();
        assert_eq!(column(IF_DESCR), "1.3.6.1.2.1.2.2.1.2");
        assert_eq!(column(IF_SPEED), "1.3.6.1.2.1.2.2.1.5");
        assert_eq!(column(IF_HIGH_SPEED), "1.3.6.1.2.1.31.1.1.1.15");
        assert_eq!(column(IF_ALIAS), "1.3.6.1.2.1.31.1.1.1.18");
    }

    #[test]
    fn what_is_not_one_number_of_32_bits_is_no_index() {
        for rest in [
            &[][..],
            &[0x80],
            &[1, 1],
            &[0x81, 0x82],
            &[0x90, 0x80, 0x80, 0x80, 0],
            &[0x80; 20],
        ] {
            assert_eq!(index_of(rest), None, "{rest:?}");
        }
        assert_eq!(index_of(&[0]), Some(0));
    }
}
