use super::*;
use crate::store::Encoder;

/// A server that fails on command and keeps what it was sent.
#[derive(Default)]
struct Scripted {
    /// Answers to the next inserts; then all succeed.
    inserts: Mutex<VecDeque<InsertError>>,
    /// Its tables cannot be used.
    unfit: Mutex<Option<InsertError>>,
    prepared: AtomicU64,
    tokens: Mutex<Vec<String>>,
}

impl Scripted {
    fn fails(&self, times: usize, error: &InsertError) {
        let errors = std::iter::repeat_n(error.clone(), times);
        self.inserts.lock().unwrap().extend(errors);
    }

    fn tokens(&self) -> Vec<String> {
        self.tokens.lock().unwrap().clone()
    }
}

impl Insert for Arc<Scripted> {
    fn prepare(&self) -> Attempt<'_> {
        self.prepared.fetch_add(1, Ordering::Relaxed);
        let unfit = self.unfit.lock().unwrap().clone();
        Box::pin(async { unfit.map_or(Ok(()), Err) })
    }

    fn insert<'a>(&'a self, block: &'a Block) -> Attempt<'a, Taken> {
        let error = self.inserts.lock().unwrap().pop_front();
        if error.is_none() {
            self.tokens.lock().unwrap().push(block.token.clone());
        }
        Box::pin(async { error.map_or(Ok(Taken::Stored), Err) })
    }

    fn insert_side<'a>(&'a self, _: &'a SideBatch) -> Attempt<'a, Taken> {
        Box::pin(async { Ok(Taken::Stored) })
    }
}

struct Rig {
    servers: [Arc<Scripted>; 2],
    endpoints: Endpoints,
}

/// Two servers; the probes come every quarter of the time that a return takes.
fn rig(are_replicas: bool, failback_after: Duration) -> Rig {
    let servers = [Arc::<Scripted>::default(), Arc::default()];
    let members = servers.iter().enumerate().map(|(index, server)| {
        let target: Box<dyn Insert> = Box::new(Arc::clone(server));
        (format!("http://{index}"), target)
    });
    Rig {
        endpoints: Endpoints::of(members.collect(), are_replicas, failback_after),
        servers,
    }
}

impl Rig {
    async fn insert(&self, token: &str) -> Result<Taken, InsertError> {
        let mut block = Encoder::default().finish(token.into());
        block.rows = 10;
        self.endpoints.insert(&block).await
    }

    fn status(&self) -> EndpointsStatus {
        self.endpoints.shared.status()
    }

    fn in_use(&self) -> String {
        let status = self.status();
        let used = status.servers.into_iter().find(|server| server.in_use);
        used.expect("one is").url
    }
}

const LONG: Duration = Duration::from_secs(3600);

fn unsent() -> InsertError {
    InsertError {
        is_unsent: true,
        ..InsertError::outage("connection refused")
    }
}

#[tokio::test]
async fn a_block_that_fails_goes_to_the_next_server_within_the_attempt() {
    let rig = rig(true, LONG);
    rig.endpoints.prepare().await.unwrap();
    rig.insert("a").await.unwrap();
    rig.servers[0].fails(1, &unsent());
    rig.insert("b").await.unwrap();
    rig.insert("c").await.unwrap();
    assert_eq!(rig.servers[0].tokens(), ["a"]);
    assert_eq!(rig.servers[1].tokens(), ["b", "c"], "it stays there");
    let status = rig.status();
    assert_eq!(status.failovers, 1);
    assert_eq!(status.rows_moved_unanswered, 0, "nothing had been sent");
    let [first, second] = &status.servers[..] else {
        panic!("two")
    };
    assert!(!first.up && first.error.as_deref() == Some("connection refused"));
    assert!(second.up && second.in_use && second.error.is_none());
    let prepared = rig
        .servers
        .each_ref()
        .map(|server| server.prepared.load(Ordering::Relaxed));
    assert_eq!(prepared, [1, 1], "each has its tables before it gets rows");
}

#[tokio::test]
async fn a_block_whose_answer_was_lost_is_counted_when_another_server_takes_it() {
    let rig = rig(false, LONG);
    let lost = InsertError::outage("no answer in time");
    rig.servers[0].fails(1, &lost);
    rig.servers[1].fails(1, &unsent());
    // Neither takes it in the first attempt; in the second one the other server does.
    assert_eq!(rig.insert("a").await, Err(unsent()));
    rig.servers[0].fails(1, &unsent());
    rig.insert("a").await.unwrap();
    assert_eq!(rig.servers[1].tokens(), ["a"]);
    let status = rig.status();
    assert_eq!(
        (status.blocks_moved_unanswered, status.rows_moved_unanswered),
        (1, 10)
    );
    // The same server that did not answer takes the next one: nothing moved.
    rig.servers[1].fails(1, &lost);
    rig.servers[0].fails(1, &unsent());
    assert!(rig.insert("b").await.is_err());
    rig.servers[0].fails(1, &unsent());
    rig.insert("b").await.unwrap();
    assert_eq!(rig.servers[1].tokens(), ["a", "b"]);
    assert_eq!(rig.status().rows_moved_unanswered, 10);
}

#[tokio::test]
async fn a_verdict_on_a_block_moves_nothing() {
    let rig = rig(true, LONG);
    let refused = InsertError::exception("Code: 16. DB::Exception: No such column");
    rig.servers[0].fails(1, &refused);
    assert_eq!(rig.insert("a").await, Err(refused));
    assert_eq!(rig.in_use(), "http://0");
    assert_eq!(rig.status().failovers, 0);
}

#[tokio::test]
async fn a_server_with_tables_of_a_newer_version_is_no_verdict_on_the_block() {
    let rig = rig(true, LONG);
    let newer = InsertError::refused("the schema is newer");
    *rig.servers[0].unfit.lock().unwrap() = Some(newer.clone());
    rig.insert("a").await.unwrap();
    assert_eq!(rig.servers[1].tokens(), ["a"]);
    *rig.servers[1].unfit.lock().unwrap() = Some(newer.clone());
    // The tables are looked at again; now none can be used, and that is told as it is.
    assert_eq!(rig.endpoints.prepare().await, Err(newer));
    rig.servers[1].fails(1, &unsent());
    let error = rig.insert("b").await.unwrap_err();
    assert_eq!(error.failure, Failure::Outage, "the block is tried again");
}

#[tokio::test]
async fn the_preferred_server_is_returned_to_when_it_has_answered_for_a_while() {
    let after = Duration::from_millis(200);
    let rig = rig(true, after);
    rig.servers[0].fails(1, &unsent());
    let failed = Instant::now();
    rig.insert("a").await.unwrap();
    assert_eq!(rig.in_use(), "http://1");
    while rig.in_use() != "http://0" {
        assert!(
            failed.elapsed() < Duration::from_secs(10),
            "it is never returned to"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(failed.elapsed() >= after, "{:?}", failed.elapsed());
    rig.insert("b").await.unwrap();
    assert_eq!(rig.servers[0].tokens(), ["b"]);
}

#[test]
fn servers_of_an_endpoint_differ_by_their_address_only() {
    let config = config::parse(
        "f.toml",
        "[store]\nurls = [\"http://a:1\", \"http://b:2\"]\ncluster = \"main\"\npassword = \"p\"\n",
    )
    .unwrap();
    let endpoint = endpoint(&config.store).unwrap();
    let each: Vec<_> = endpoint.each().map(|one| (one.url, one.cluster)).collect();
    let cluster = Some("main".to_owned());
    assert_eq!(
        each,
        [
            ("http://a:1".into(), cluster.clone()),
            ("http://b:2".into(), cluster)
        ]
    );
    assert!(endpoint.tls.is_none(), "no address is https://");
}

#[test]
fn a_command_asks_the_first_server_that_takes_connections() {
    let open = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url =
        |listener: &std::net::TcpListener| format!("http://{}", listener.local_addr().unwrap());
    let (open_url, gone_url) = (url(&open), url(&gone));
    drop(gone);
    let store = config::Store {
        urls: vec![gone_url.clone(), open_url.clone()],
        ..config::Store::default()
    };
    assert_eq!(endpoint(&store).unwrap().reachable().url, open_url);
    drop(open);
    assert_eq!(endpoint(&store).unwrap().reachable().url, gone_url);
}
