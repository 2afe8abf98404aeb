//! What the tables take of ClickHouse's disks, asked once a minute.
//!
//! In: ClickHouse's own tables of its parts and disks. Out: figures of `/metrics` and
//! `collector_stats`. Nothing else depends on them: who may not ask goes without.

use std::time::Duration;

use tracing::{info, warn};

use super::insert::{InsertError, in_time};
use super::{Endpoint, clickhouse};

/// What one table takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableOccupancy {
    /// Its name.
    pub table: String,
    /// Parts that queries read.
    pub parts: u64,
    /// Rows in them.
    pub rows: u64,
    /// Bytes of them on disk.
    pub bytes: u64,
}

/// A disk of ClickHouse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskOccupancy {
    /// ClickHouse's name of it.
    pub disk: String,
    /// Bytes that are free.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

/// All of it at one moment; nothing where it is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// The tables of the database, the largest first.
    pub tables: Vec<TableOccupancy>,
    /// The disks.
    pub disks: Vec<DiskOccupancy>,
}

/// Asks the ClickHouse at one endpoint.
#[derive(Debug)]
pub struct Asker {
    endpoint: Endpoint,
    /// That it does not tell was logged, and lasts.
    is_told: bool,
}

/// Longest wait for the answer of one server.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Tables and disks that are told at most.
const LINES_MAX: usize = 100;

impl Asker {
    /// One that has not asked yet.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            is_told: false,
        }
    }

    /// What it is now; nothing when ClickHouse is away or does not tell. Logs when it begins to
    /// refuse and when it tells again: that it is away is told by whoever inserts.
    pub async fn ask(&mut self) -> Occupancy {
        let asked = occupancy_of_any(&self.endpoint).await;
        match &asked {
            Ok(_) if self.is_told => {
                self.is_told = false;
                info!("ClickHouse tells again what its tables take");
            }
            Err(error) if !self.is_told && error.code.is_some() => {
                self.is_told = true;
                warn!(
                    %error,
                    remedy = "let store.user SELECT system.parts and system.disks",
                    "ClickHouse does not tell what its tables take: collector_stats goes without"
                );
            }
            _ => {}
        }
        asked.unwrap_or_default()
    }
}

/// That of the first server that answers.
async fn occupancy_of_any(endpoint: &Endpoint) -> Result<Occupancy, InsertError> {
    let mut asked = Err(InsertError::outage("no server is named"));
    for one in endpoint.each() {
        asked = in_time(ANSWER_MAX, occupancy(&one)).await;
        if asked.is_ok() {
            break;
        }
    }
    asked
}

async fn occupancy(endpoint: &Endpoint) -> Result<Occupancy, InsertError> {
    let client = clickhouse::client(endpoint);
    let tables = format!(
        "SELECT table, count(), sum(rows), sum(bytes_on_disk) FROM system.parts \
         WHERE active AND database = ? GROUP BY table ORDER BY 4 DESC LIMIT {LINES_MAX}"
    );
    let tables = client.query(&tables).bind(&endpoint.database);
    let tables = tables.fetch_all::<(String, u64, u64, u64)>().await?;
    let disks = format!(
        "SELECT name, free_space, total_space FROM system.disks ORDER BY name LIMIT {LINES_MAX}"
    );
    let disks = client
        .query(&disks)
        .fetch_all::<(String, u64, u64)>()
        .await?;
    Ok(Occupancy {
        tables: tables
            .into_iter()
            .map(|(table, parts, rows, bytes)| TableOccupancy {
                table,
                parts,
                rows,
                bytes,
            })
            .collect(),
        disks: disks
            .into_iter()
            .map(|(disk, free_bytes, total_bytes)| DiskOccupancy {
                disk,
                free_bytes,
                total_bytes,
            })
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    fn asker(listener: &TcpListener) -> Asker {
        let address = listener.local_addr().unwrap();
        Asker::new(Endpoint::at(format!("http://{address}")))
    }

    #[tokio::test]
    async fn a_server_that_refuses_is_told_and_one_that_is_away_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut asker_of_none = asker(&listener);
        let mut asker_of_one = asker(&listener);
        let answers = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            let said = "Code: 497. DB::Exception: no";
            let head = "HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: ";
            write!(stream, "{head}{}\r\n\r\n{said}", said.len()).unwrap();
        });
        assert_eq!(asker_of_one.ask().await, Occupancy::default());
        assert!(asker_of_one.is_told);
        answers.join().unwrap();
        assert_eq!(asker_of_none.ask().await, Occupancy::default());
        assert!(!asker_of_none.is_told);
    }
}
