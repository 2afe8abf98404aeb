//! Asks the store within limits: whatever readers of the page do, it goes on storing.
//!
//! Of one address one question is under way at a time, of all together [`AT_ONCE`]; an answer is
//! given again for some seconds; a question may take so long, so many rows and so much memory.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clickhouse::{Client, RowOwned, RowRead};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::super::State;
use super::super::StoreKind;
use super::refusal::Refusal;
use crate::store::clickhouse::client;
use crate::store::{Endpoint, InsertError};

/// Questions of all readers together that are under way.
const AT_ONCE: usize = 2;
/// Addresses that are waited for at once: no more than there are connections.
const READERS_MAX: usize = 64;
/// Answers that are kept, of some kilobytes each.
const ANSWERS_MAX: usize = 64;
/// How ClickHouse is kept from working much for one statement. `readonly` is for the user of a
/// server, who may write; that of the embedded ClickHouse may not.
const SETTINGS: [(&str, &str); 9] = [
    ("readonly", "2"),
    ("max_execution_time", "4"),
    ("max_rows_to_read", "30000000"),
    ("max_memory_usage", "268435456"),
    ("max_threads", "2"),
    ("max_result_rows", "20000"),
    ("max_result_bytes", "8388608"),
    ("result_overflow_mode", "throw"),
    ("cancel_http_readonly_queries_on_client_close", "1"),
];

/// How long a reader waits.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// For the questions before its own.
    turn: Duration,
    /// In all; the connection waits for ten seconds.
    answer: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            turn: Duration::from_secs(4),
            answer: Duration::from_secs(9),
        }
    }
}

/// A name in a statement, and what ClickHouse puts there.
pub(super) type Parameter = (&'static str, serde_json::Value);

/// A statement with its parameters.
#[derive(Clone, Debug, Default)]
pub(super) struct Statement {
    pub sql: String,
    pub parameters: Vec<Parameter>,
}

/// Whoever asks for the readers.
pub(super) struct Asker {
    /// The read-only user of the embedded ClickHouse, or that of the configuration; none for the
    /// null store.
    endpoint: Option<Endpoint>,
    patience: Patience,
    all: Arc<Semaphore>,
    readers: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
    answers: Mutex<HashMap<String, Answer>>,
    client: Mutex<Option<(String, Client)>>,
}

#[derive(Clone)]
struct Answer {
    until: Instant,
    body: Bytes,
}

/// What lets one question through.
struct Turn {
    _reader: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Asker {
    pub fn new(endpoint: Option<Endpoint>) -> Self {
        Self {
            endpoint,
            patience: Patience::default(),
            all: Arc::new(Semaphore::new(AT_ONCE)),
            readers: Mutex::default(),
            answers: Mutex::default(),
            client: Mutex::default(),
        }
    }

    /// The answer that is kept for `key`, else what `work` makes with a client, kept for `fresh`.
    pub async fn answer<F>(
        &self,
        state: &State,
        reader: IpAddr,
        (key, fresh): (String, Duration),
        work: impl FnOnce(Client) -> F,
    ) -> Result<Bytes, Refusal>
    where
        F: Future<Output = Result<Bytes, Refusal>>,
    {
        if let Some(body) = self.kept(&key) {
            return Ok(body);
        }
        let all = async {
            let _turn = self.turn(reader).await?;
            // Somebody else may have asked meanwhile.
            if let Some(body) = self.kept(&key) {
                return Ok(body);
            }
            let body = work(self.client(state)?).await?;
            self.keep(key, fresh, &body);
            Ok(body)
        };
        let answered = timeout(self.patience.answer, all).await;
        answered.unwrap_or(Err(Refusal::TooMuch))
    }

    async fn turn(&self, reader: IpAddr) -> Result<Turn, Refusal> {
        let own = {
            let mut readers = lock(&self.readers);
            // Whoever waits or asks holds its own.
            readers.retain(|_, own| Arc::strong_count(own) > 1);
            if readers.len() >= READERS_MAX && !readers.contains_key(&reader) {
                return Err(Refusal::Busy);
            }
            let own = readers.entry(reader);
            Arc::clone(own.or_insert_with(|| Arc::new(Semaphore::new(1))))
        };
        let waited = timeout(self.patience.turn, async {
            let reader = own.acquire_owned().await;
            let all = Arc::clone(&self.all).acquire_owned().await;
            Turn {
                _reader: reader.expect("nobody closes the semaphore"),
                _all: all.expect("nobody closes the semaphore"),
            }
        });
        waited.await.map_err(|_| Refusal::Busy)
    }

    /// A client of the ClickHouse that rows go to now.
    fn client(&self, state: &State) -> Result<Client, Refusal> {
        let facts = (state.store)();
        let endpoint = self.endpoint.as_ref();
        let endpoint = endpoint.filter(|_| facts.kind != StoreKind::Null);
        let endpoint = endpoint.ok_or(Refusal::NullStore)?;
        let at = facts.asked_at.filter(|_| facts.ready);
        let url = at.ok_or(Refusal::NotReady)?.url;
        let mut known = lock(&self.client);
        match &*known {
            Some((at, client)) if *at == url => Ok(client.clone()),
            _ => {
                let client = limited(&Endpoint {
                    url: url.clone(),
                    ..endpoint.clone()
                });
                *known = Some((url, client.clone()));
                Ok(client)
            }
        }
    }

    fn kept(&self, key: &str) -> Option<Bytes> {
        let answers = lock(&self.answers);
        let answer = answers.get(key)?;
        (answer.until > Instant::now()).then(|| answer.body.clone())
    }

    fn keep(&self, key: String, fresh: Duration, body: &Bytes) {
        let now = Instant::now();
        let mut answers = lock(&self.answers);
        answers.retain(|_, answer| answer.until > now);
        if answers.len() < ANSWERS_MAX {
            let answer = Answer {
                until: now + fresh,
                body: body.clone(),
            };
            answers.insert(key, answer);
        }
    }
}

/// A client with [`SETTINGS`], in the database.
fn limited(endpoint: &Endpoint) -> Client {
    let client = client(endpoint).with_database(&endpoint.database);
    let set = |client: Client, (name, value): &(&str, &str)| client.with_setting(*name, *value);
    SETTINGS.iter().fold(client, set)
}

/// The rows of `statement`.
pub(super) async fn rows<T>(client: &Client, statement: &Statement) -> Result<Vec<T>, Refusal>
where
    T: RowOwned + RowRead,
{
    let query = client.query(&statement.sql);
    let parameters = statement.parameters.iter();
    let query = parameters.fold(query, |query, (name, value)| query.param(name, value));
    let rows = query.fetch_all().await;
    rows.map_err(|error| InsertError::from(error).into())
}

/// Whatever panicked while it held it: what is in there is replaced whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::http::tests::collector;

    const READER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    const THIRD: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));
    const FRESH: Duration = Duration::from_secs(5);

    fn endpoint() -> Endpoint {
        Endpoint::at("http://127.0.0.1:1")
    }

    fn impatient() -> Asker {
        let mut asker = Asker::new(Some(endpoint()));
        asker.patience = Patience {
            turn: Duration::from_millis(50),
            answer: Duration::from_millis(200),
        };
        asker
    }

    #[test]
    fn every_statement_may_only_read_and_has_limits() {
        let client = limited(&endpoint());
        for (name, value) in SETTINGS {
            assert_eq!(client.get_setting(name), Some(value));
        }
        assert_eq!(client.get_setting("readonly"), Some("2"));
    }

    #[tokio::test]
    async fn one_question_of_a_reader_is_under_way_and_two_of_all() {
        let asker = impatient();
        let first = asker.turn(READER).await.unwrap();
        assert_eq!(asker.turn(READER).await.err(), Some(Refusal::Busy));
        let second = asker.turn(OTHER).await.unwrap();
        assert_eq!(asker.turn(THIRD).await.err(), Some(Refusal::Busy));
        drop(second);
        let third = asker.turn(THIRD).await.unwrap();
        drop((first, third));
        assert!(asker.turn(READER).await.is_ok());
        assert_eq!(
            lock(&asker.readers).len(),
            1,
            "who asks no more is forgotten"
        );
    }

    #[tokio::test]
    async fn an_answer_is_given_again_and_one_that_takes_too_long_is_given_up() {
        let (collector, asker) = (collector(&[]), impatient());
        let state = &collector.state;
        let key = || ("key".to_owned(), FRESH);
        let never = |_| std::future::pending();
        let late = asker.answer(state, READER, key(), never).await;
        assert_eq!(late, Err(Refusal::NotReady));
        collector.make_ready();
        let late = asker.answer(state, READER, key(), never).await;
        assert_eq!(late, Err(Refusal::TooMuch));
        let work = |_| async { Ok(Bytes::from_static(b"answer")) };
        let answer = asker.answer(state, READER, key(), work).await.unwrap();
        assert_eq!(answer, "answer");
        let again = asker.answer(state, READER, key(), never).await.unwrap();
        assert_eq!(again, "answer");
    }

    #[tokio::test]
    async fn a_null_store_has_nothing_to_ask() {
        let (collector, asker) = (collector(&[]), Asker::new(None));
        let key = ("key".to_owned(), FRESH);
        let never = |_| std::future::pending();
        let answer = asker.answer(&collector.state, READER, key, never).await;
        assert_eq!(answer, Err(Refusal::NullStore));
    }
}
