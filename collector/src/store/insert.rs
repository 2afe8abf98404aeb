//! One insert: what it asks of ClickHouse, and what a failure means.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use hyper_util::client::legacy::Error as ClientError;

use super::block::Block;
use super::side::SideBatch;
use super::tls;

/// The answer to come.
pub type Attempt<'a, T = ()> = Pin<Box<dyn Future<Output = Result<T, InsertError>> + Send + 'a>>;

/// What became of a block that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Its rows are in ClickHouse.
    Stored,
    /// Its rows were dropped on purpose.
    Discarded,
}

/// What `asked` yields, or an outage where that takes longer than `limit`.
pub(super) async fn in_time<T>(
    limit: Duration,
    asked: impl Future<Output = Result<T, InsertError>>,
) -> Result<T, InsertError> {
    let answer = tokio::time::timeout(limit, asked).await;
    answer.unwrap_or_else(|_| Err(InsertError::outage("no answer in time")))
}

/// Where blocks go: ClickHouse, nowhere, or in tests a store that fails on command.
pub trait Insert: Send + Sync {
    /// Sees to it that the other side answers and that its tables are as this version wants them.
    fn prepare(&self) -> Attempt<'_>;

    /// Sends one block and waits for the acknowledgement.
    fn insert<'a>(&'a self, block: &'a Block) -> Attempt<'a, Taken>;

    /// Sends rows of a table beside `flows` and waits for the acknowledgement.
    fn insert_side<'a>(&'a self, batch: &'a SideBatch) -> Attempt<'a, Taken>;

    /// Asks for a sign of life that says that inserts would be taken.
    fn answers(&self) -> Attempt<'_> {
        Box::pin(async { Ok(()) })
    }
}

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// ClickHouse is away, busy or not allowed to work: try again for ever.
    Outage,
    /// ClickHouse answered with something that is in no list: try again, not for ever.
    Unclear,
    /// This block will never be taken by these tables.
    Refused,
}

/// Why an insert was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InsertError {
    /// What to do about it.
    pub failure: Failure,
    /// ClickHouse's exception code, if it came so far.
    pub code: Option<u32>,
    /// There was no connection to send anything by.
    pub is_unsent: bool,
    /// The first line of what was said.
    pub message: String,
}

impl InsertError {
    /// Nothing was answered in time, or at all.
    #[cold]
    #[must_use]
    pub fn outage(message: impl Into<String>) -> Self {
        Self {
            failure: Failure::Outage,
            code: None,
            is_unsent: false,
            message: message.into(),
        }
    }

    /// This version cannot work with those tables; trying again changes nothing by itself.
    #[cold]
    #[must_use]
    pub fn refused(message: impl Into<String>) -> Self {
        Self {
            failure: Failure::Refused,
            code: None,
            is_unsent: false,
            message: message.into(),
        }
    }

    /// From the text of an exception, `Code: 60. DB::Exception: ...`.
    #[cold]
    #[must_use]
    pub fn exception(text: &str) -> Self {
        let message = short(text);
        let code = exception_code(text);
        let failure = match code {
            Some(code) => failure_of(code, &message),
            // Something between us and ClickHouse spoke: that is no verdict on the block.
            None => Failure::Outage,
        };
        Self {
            failure,
            code,
            is_unsent: false,
            message,
        }
    }

    /// True when the rows may be in ClickHouse although it did not say so: there was no answer, or
    /// one that says that it does not know.
    #[must_use]
    pub fn may_be_stored(&self) -> bool {
        match self.code {
            None => self.failure == Failure::Outage && !self.is_unsent,
            // Time was up, on its side or on the way to another server, or a replica's answer
            // was lost.
            Some(code) => matches!(code, 159 | 209 | 210 | 319),
        }
    }

    /// What an operator does about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self.code {
            None if self.failure == Failure::Refused => "do what the error says",
            None => tls::remedy(&self.message)
                .unwrap_or("see that ClickHouse runs and that store.url or store.urls is right"),
            Some(60 | 81) => "the table is missing: it is made again at the next try",
            Some(159 | 209 | 210) => {
                "ClickHouse is slow: look at its load and at store.insert_timeout"
            }
            Some(164 | 242) => "the user or the table is read-only; let store.user write",
            Some(192 | 193 | 194 | 516) => "correct store.user and its password",
            Some(202 | 252) => "ClickHouse cannot keep up; raise batch.rows_max or batch.age_max",
            Some(241) => "ClickHouse is out of memory; raise its limit or lower batch.rows_max",
            Some(243) => "free space on ClickHouse's disk, or shorten store.retention",
            Some(497) => "grant store.user what the message names",
            Some(115) => "this ClickHouse lacks a setting that inserts need: use a newer one",
            Some(472) => "let store.user change the setting that the message names",
            Some(_) => "compare the table with sql/ and look into ClickHouse's log",
        }
    }
}

impl From<clickhouse::error::Error> for InsertError {
    #[cold]
    fn from(error: clickhouse::error::Error) -> Self {
        use clickhouse::error::Error;
        match error {
            Error::BadResponse(text) => Self::exception(&text),
            Error::TimedOut => Self::outage("no answer in time"),
            Error::Network(cause) => {
                let client = cause.downcast_ref::<ClientError>();
                Self {
                    is_unsent: client.is_some_and(ClientError::is_connect),
                    ..Self::outage(chain(cause.as_ref()))
                }
            }
            other => Self::outage(chain(&other)),
        }
    }
}

/// An error with its causes: "client error (Connect)" alone says little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Longest message that is kept of an exception.
const MESSAGE_MAX: usize = 300;

/// The first line without ClickHouse's version, cut to [`MESSAGE_MAX`]; the title of a page.
fn short(text: &str) -> String {
    let title = text.split_once("<title>").map(|(_, rest)| rest);
    let title = title.and_then(|rest| rest.split_once("</title>"));
    let text = title.map_or(text, |(title, _)| title);
    let line = text.lines().next().unwrap_or_default();
    let line = line.split(" (version ").next().unwrap_or(line);
    line.chars().take(MESSAGE_MAX).collect()
}

/// The code in `Code: 60. DB::Exception: ...`.
#[must_use]
pub fn exception_code(text: &str) -> Option<u32> {
    let digits = text.split("Code: ").nth(1)?;
    let end = digits.find(|c: char| !c.is_ascii_digit());
    digits[..end.unwrap_or(digits.len())].parse().ok()
}

/// Codes of <https://github.com/ClickHouse/ClickHouse/blob/master/src/Common/ErrorCodes.cpp>.
///
/// What is refused is given up after a second try behind a look at the schema, so only what says
/// that these bytes do not fit these tables belongs there. What concerns every block (rights,
/// settings, disk, load) is an outage: blocks wait for whoever mends it.
fn failure_of(code: u32, message: &str) -> Failure {
    match code {
        // The same code means too many parts (wait for merges) and a block that spans too many
        // partitions (never).
        252 if message.contains("partitions") => Failure::Refused,
        // Parsing and checksums, columns and types, missing table or database, constraints.
        6 | 10 | 16 | 20 | 26 | 27 | 33 | 38 | 40 | 41 | 43 | 44 | 47 | 50 | 53 | 60 | 62 | 69
        | 70 | 72 | 73 | 81 | 117 | 128 | 130 | 131 | 190 | 271 | 321 | 349 | 432 | 469 => {
            Failure::Refused
        }
        // Time, network, load, connections, cancelled queries.
        3 | 74 | 75 | 76 | 95 | 96 | 159 | 160 | 198 | 201 | 202 | 203 | 209 | 210 | 236 | 279
        | 290 | 297 | 341 | 364 | 373 | 394 | 425 | 439 | 473 | 499 | 516 | 573 | 649 | 650
        | 677 | 696 | 734 | 735 | 745 | 749 | 762 | 1000 | 1002 => Failure::Outage,
        // Memory, disk, merges that lag behind, tables that are being dropped or loaded.
        173 | 204 | 218 | 231 | 241 | 243 | 252 | 305 | 777 | 778 => Failure::Outage,
        // Users, rights, settings that the server lacks or does not allow.
        115 | 164 | 192 | 193 | 194 | 242 | 472 | 495 | 497 | 720 | 774 => Failure::Outage,
        // Replicas, Keeper, shards.
        225 | 244 | 285 | 286 | 289 | 319 | 335 | 519 | 571 | 574 | 904 | 999 => Failure::Outage,
        _ => Failure::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_is_classed_by_its_code() {
        let class = |text: &str| InsertError::exception(text).failure;
        let too_many_parts = "Code: 252. DB::Exception: Too many parts (3000). Merges are \
                              processing significantly slower than inserts. (TOO_MANY_PARTS)";
        let partitions = "Code: 252. DB::Exception: Too many partitions for single INSERT block \
                          (more than 100). (TOO_MANY_PARTS)";
        assert_eq!(class(too_many_parts), Failure::Outage);
        assert_eq!(class(partitions), Failure::Refused);
        assert_eq!(
            class("Code: 16. DB::Exception: No such column"),
            Failure::Refused
        );
        assert_eq!(
            class("Code: 241. DB::Exception: Memory limit"),
            Failure::Outage
        );
        assert_eq!(
            class("Code: 497. DB::Exception: Not enough privileges"),
            Failure::Outage
        );
        assert_eq!(
            class("Code: 9999. DB::Exception: of tomorrow"),
            Failure::Unclear
        );
    }

    #[test]
    fn what_concerns_every_block_waits_for_whoever_mends_it() {
        // Settings, rights, a disk or a server that is full: giving blocks up would lose them all.
        for code in [115, 164, 204, 218, 243, 472, 495, 497, 745, 774, 778] {
            let error = InsertError::exception(&format!("Code: {code}. DB::Exception: no"));
            assert_eq!(error.failure, Failure::Outage, "{code}");
        }
        // A view that throws may be mended, or not.
        let view = InsertError::exception("Code: 395. DB::Exception: Value passed to throwIf");
        assert_eq!(view.failure, Failure::Unclear);
    }

    #[test]
    fn an_answer_that_is_not_clickhouses_is_an_outage_and_told_without_its_markup() {
        let page = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n\
                    <center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n";
        let error = InsertError::exception(page);
        assert_eq!(error.failure, Failure::Outage);
        assert_eq!(error.to_string(), "502 Bad Gateway");
        assert_eq!(InsertError::exception("").failure, Failure::Outage);
    }

    #[test]
    fn a_message_is_one_line_without_the_version() {
        let error = InsertError::exception(
            "Code: 60. DB::Exception: Table x does not exist. (UNKNOWN_TABLE) (version 26.7.2.1 \
             (official build))\nStack trace:",
        );
        let short = "Code: 60. DB::Exception: Table x does not exist. (UNKNOWN_TABLE)";
        assert_eq!(error.to_string(), short);
        assert_eq!(error.code, Some(60));
    }
}
