//! ClickHouse over HTTP, as anybody would ask it.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// An address, a user and a database of ClickHouse.
#[derive(Clone, Debug)]
pub struct ClickHouse {
    /// `http://host:port`.
    pub url: String,
    /// The user who asks.
    pub user: String,
    /// The user's password; may be empty.
    pub password: String,
    /// The database of names without one.
    pub database: String,
}

impl ClickHouse {
    /// Runs one statement; the answer is tab-separated, a row a line.
    ///
    /// # Errors
    /// When ClickHouse does not answer, or answers with an error.
    pub fn query(&self, sql: &str) -> Result<String> {
        self.post(&[], sql, sql.as_bytes())
    }

    /// Runs an `INSERT ... FORMAT` with these bytes as its data.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub fn insert(&self, sql: &str, data: &[u8]) -> Result<()> {
        self.post(&[("query", sql)], sql, data).map(|_| ())
    }

    fn post(&self, parameters: &[(&str, &str)], sql: &str, body: &[u8]) -> Result<String> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(60)))
            .build()
            .into();
        let mut answer = agent
            .post(&self.url)
            .query_pairs(parameters.iter().copied())
            .header("X-ClickHouse-User", &self.user)
            .header("X-ClickHouse-Key", &self.password)
            .header("X-ClickHouse-Database", &self.database)
            .send(body)
            .with_context(|| format!("ask ClickHouse at {}", self.url))?;
        let status = answer.status();
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        let text = body.read_to_string()?;
        if !status.is_success() {
            bail!("ClickHouse at {}: {sql}: {}", self.url, text.trim());
        }
        Ok(text)
    }

    /// The rows of a statement, each its columns.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub fn rows(&self, sql: &str) -> Result<Vec<Vec<String>>> {
        let text = self.query(sql)?;
        let columns = |line: &str| line.split('\t').map(str::to_owned).collect();
        Ok(text.lines().map(columns).collect())
    }

    /// The only value of a statement.
    ///
    /// # Errors
    /// As [`Self::query`], and when the answer is not one such value.
    pub fn value<T: FromStr>(&self, sql: &str) -> Result<T> {
        let text = self.query(sql)?;
        let value = text.trim().parse().ok();
        value.with_context(|| format!("{sql}: {text:?} is not one value of the kind asked for"))
    }

    /// Rows in the table `flows`.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub fn flows(&self) -> Result<u64> {
        self.value("SELECT count() FROM flows")
    }

    /// Flows, bytes and packets of the rows that `condition` selects, as they were reported.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub fn raw_sums(&self, condition: &str) -> Result<[u64; 3]> {
        let sql = format!(
            "SELECT count(), sum(raw_bytes), sum(raw_packets) FROM flows WHERE {condition}"
        );
        self.three(&sql)
    }

    /// Flows, bytes and packets of the rows that `condition` selects, scaled by the sampling rate.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub fn scaled_sums(&self, condition: &str) -> Result<[u64; 3]> {
        let sql = format!("SELECT count(), sum(bytes), sum(packets) FROM flows WHERE {condition}");
        self.three(&sql)
    }

    /// The only row of a statement, of three numbers.
    ///
    /// # Errors
    /// As [`Self::query`], and when the answer is something else.
    pub fn three(&self, sql: &str) -> Result<[u64; 3]> {
        let rows = self.rows(sql)?;
        ensure!(rows.len() == 1, "{sql}: not one row: {rows:?}");
        let numbers: Vec<u64> = (rows[0].iter())
            .map(|text| text.parse().with_context(|| format!("{sql}: {text:?}")))
            .collect::<Result<_>>()?;
        let numbers: Result<[u64; 3], _> = numbers.try_into();
        numbers
            .ok()
            .with_context(|| format!("{sql}: not three columns: {rows:?}"))
    }
}

/// The longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 256 << 20;
