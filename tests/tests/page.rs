//! The built-in page in a real browser: it shows what was sent, filters, speaks two languages, and
//! takes hostile names for what they are.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use flowsluice_tests::generator::generate;
use flowsluice_tests::{Browser, ClickHouse, Collector, Settings, Store, place};
use serde_json::Value;

const WAIT_MAX: Duration = Duration::from_secs(60);
/// What the page has to hold out, each as the name of a host or an interface.
const HOSTILE: [&str; 4] = [
    "<img src=x onerror=\"document.title='taken'\">",
    "\"'><script>document.title='taken'</script>&amp;",
    "{red|\u{202e}moc.elpmaxe\u{202c}}",
    "\u{5e9}\u{5dc}\u{5d5}\u{5dd}.example",
];

/// Sends `flows` flows of now and waits until they are stored.
fn fill(collector: &Collector, settings: &Settings, flows: &str) -> Result<()> {
    let arguments = ["--rate", "4000", "--flows", flows];
    let sent = generate(
        &settings.binary,
        collector.target(),
        &arguments,
        collector.folder(),
    )?;
    let ledger = collector.settle(sent.datagrams)?;
    assert_eq!(ledger.losses(), []);
    Ok(())
}

/// A time around now that all those flows are in.
fn around_now() -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let minute = now / 60 * 60;
    Ok(format!("from={}&to={}", minute - 2400, minute + 1200))
}

fn api(collector: &Collector, question: &str) -> Result<Value> {
    let text = collector.page(&format!("/api/v1/{question}"))?;
    serde_json::from_str(&text).context(text)
}

/// The figures named `keys` of each row of `list`, as text.
fn rows(answer: &Value, list: &str, keys: &[&str]) -> Vec<Vec<String>> {
    let text = |value: &Value| value.as_str().map_or(value.to_string(), str::to_owned);
    let rows = answer[list]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let row = |row: &Value| keys.iter().map(|key| text(&row[*key])).collect();
    rows.iter().map(row).collect()
}

/// An address as the page writes it, of a column of ClickHouse's.
fn plain(column: &str) -> String {
    format!("replaceRegexpOne(toString({column}), '^::ffff:', '')")
}

/// Folder of the pictures that the tests leave to be looked at.
fn pictures() -> Result<PathBuf> {
    let folder = place::target().join("page");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// The texts of the first column of a list.
fn listed(browser: &mut Browser, topic: &str) -> Result<String> {
    browser.text(&format!(
        "[...document.querySelectorAll('[data-topic={topic}] tbody td:first-child')]\
         .map(cell => cell.textContent).join('\\n')"
    ))
}

/// Waits until a whole round of questions has been answered and shown.
fn settle(browser: &mut Browser) -> Result<()> {
    browser.wait("Number(document.body.dataset.round) >= 1", WAIT_MAX)
}

/// Asks for `what` by the keyboard alone, and waits for the answer.
fn filter_by(browser: &mut Browser, field: &str, what: &str) -> Result<()> {
    let before = browser.value("Number(document.body.dataset.round)")?;
    browser.value(&format!("document.querySelector('[name={field}]').focus()"))?;
    browser.type_text(what)?;
    browser.type_text("\r")?;
    browser.wait(
        &format!("Number(document.body.dataset.round) > {before}"),
        WAIT_MAX,
    )
}

#[test]
fn every_list_says_what_the_flows_say() -> Result<()> {
    let Some(settings) = Settings::embedded() else {
        return Ok(());
    };
    let collector = Collector::start(&settings)?;
    fill(&collector, &settings, "8000")?;
    let clickhouse = collector.clickhouse()?;
    let time = around_now()?;
    let port = clickhouse.value::<u16>(
        "SELECT server_port FROM flows GROUP BY server_port ORDER BY sum(bytes) DESC LIMIT 1",
    )?;
    let by_port = (format!("&port={port}"), format!("server_port = {port}"));
    let by_prefix = (
        "&address=10.0.0.0/8&protocol=tcp".to_owned(),
        "protocol = 6 AND (startsWith(toString(src_addr), '::ffff:10.') \
         OR startsWith(toString(dst_addr), '::ffff:10.'))"
            .to_owned(),
    );
    for (filter, condition) in [(String::new(), "1".to_owned()), by_port, by_prefix] {
        assert_same(
            &collector,
            &clickhouse,
            &format!("{time}{filter}"),
            &condition,
        )?;
    }
    // What long times are answered from has the same sums.
    let sum = |answer: &Value| -> u64 {
        let series = answer["series"].as_array().into_iter().flatten();
        let numbers = series.filter_map(|one| one["bytes"].as_array()).flatten();
        numbers.filter_map(Value::as_u64).sum()
    };
    let bytes: u64 = clickhouse.value("SELECT sum(bytes) FROM flows")?;
    for (question, rows_of) in [(time.as_str(), "minute"), ("last=86400", "hour")] {
        let answer = api(&collector, &format!("traffic?{question}"))?;
        assert_eq!(answer["rows_of"], rows_of);
        // A step that has not begun has no number yet.
        ensure!(
            sum(&answer) <= bytes && sum(&answer) > bytes / 2,
            "{answer}"
        );
    }
    collector.stop()?;
    Ok(())
}

/// Holds the lists against sums over `flows` itself.
fn assert_same(
    collector: &Collector,
    clickhouse: &ClickHouse,
    question: &str,
    condition: &str,
) -> Result<()> {
    let keys = ["service", "bytes", "packets", "flows"];
    let answer = api(collector, &format!("services?{question}&limit=20"))?;
    let expected = clickhouse.rows(&format!(
        "SELECT service, sum(bytes) AS octets, sum(packets), count() FROM flows \
         WHERE {condition} GROUP BY service ORDER BY octets DESC, service LIMIT 20"
    ))?;
    assert!(!expected.is_empty(), "{condition}");
    assert_eq!(rows(&answer, "services", &keys), expected, "{question}");

    let keys = ["address", "bytes_sent", "bytes_received", "flows"];
    let answer = api(collector, &format!("talkers?{question}&limit=20"))?;
    let expected = clickhouse.rows(&format!(
        "SELECT {}, sumIf(bytes, side = 1) AS sent, sumIf(bytes, side = 2) AS received, count() \
         FROM flows ARRAY JOIN [src_addr, dst_addr] AS addr, [1, 2] AS side \
         WHERE {condition} GROUP BY addr ORDER BY sent + received DESC, toString(addr) LIMIT 20",
        plain("addr")
    ))?;
    assert_eq!(rows(&answer, "talkers", &keys), expected, "{question}");

    let keys = ["client", "server", "service", "bytes", "packets", "flows"];
    let answer = api(collector, &format!("conversations?{question}&limit=20"))?;
    let expected = clickhouse.rows(&format!(
        "SELECT {}, {}, service, sum(bytes) AS octets, sum(packets), count() FROM flows \
         WHERE {condition} GROUP BY client_addr, server_addr, service \
         ORDER BY octets DESC, toString(client_addr), toString(server_addr), service LIMIT 20",
        plain("client_addr"),
        plain("server_addr")
    ))?;
    assert_eq!(
        rows(&answer, "conversations", &keys),
        expected,
        "{question}"
    );

    let keys = ["exporter", "interface", "bytes_in", "bytes_out"];
    let answer = api(collector, &format!("interfaces?{question}&limit=20"))?;
    let expected = clickhouse.rows(&format!(
        "SELECT {}, interface, sumIf(bytes, way = 1) AS came, sumIf(bytes, way = 2) AS went \
         FROM flows ARRAY JOIN [in_if, out_if] AS interface, [1, 2] AS way \
         WHERE interface != 0 AND {condition} GROUP BY exporter_addr, interface \
         ORDER BY came + went DESC, toString(exporter_addr), interface LIMIT 20",
        plain("exporter_addr")
    ))?;
    assert_eq!(rows(&answer, "interfaces", &keys), expected, "{question}");
    Ok(())
}

#[test]
fn the_page_shows_what_was_sent_in_two_languages_and_filters_by_the_keyboard() -> Result<()> {
    let Some(settings) = Settings::embedded() else {
        return Ok(());
    };
    let collector = Collector::start(&settings)?;
    let Some(mut browser) = Browser::start("ja,en")? else {
        return Ok(());
    };
    fill(&collector, &settings, "8000")?;
    let clickhouse = collector.clickhouse()?;
    let url = format!("{}/?{}", collector.url(), around_now()?);
    browser.open(&url)?;
    settle(&mut browser)?;
    assert_eq!(browser.text("document.documentElement.lang")?, "ja");
    assert_eq!(
        browser.text("document.querySelector('#now-title').textContent")?,
        "現在の状況"
    );
    let talkers = listed(&mut browser, "talkers")?;
    let expected = clickhouse.rows(&format!(
        "SELECT {} FROM flows ARRAY JOIN [src_addr, dst_addr] AS addr GROUP BY addr \
         ORDER BY sum(bytes) DESC, toString(addr) LIMIT 10",
        plain("addr")
    ))?;
    assert_eq!(talkers, expected.concat().join("\n"));
    browser.screenshot(1400, &pictures()?.join("ja.png"))?;

    // A click on a language holds over a new start of the page.
    browser.value("document.querySelector('[data-language=en]').click()")?;
    browser.wait(
        "document.querySelector('#now-title').textContent === 'Now'",
        WAIT_MAX,
    )?;
    browser.open(&url)?;
    settle(&mut browser)?;
    assert_eq!(browser.text("document.documentElement.lang")?, "en");
    browser.screenshot(1400, &pictures()?.join("en.png"))?;

    filter_by(&mut browser, "port", "53")?;
    assert_eq!(listed(&mut browser, "services")?, "domain");
    assert!(browser.text("location.search")?.contains("port=53"));
    filter_by(&mut browser, "as", "x")?;
    let fault = "document.querySelector('#fault').textContent";
    assert!(
        browser
            .text(fault)?
            .starts_with("AS number is not understood")
    );
    let marked = "document.querySelector('[aria-invalid]').name";
    assert_eq!(browser.text(marked)?, "as");
    // The browser's own word for the refusal, and nothing else.
    let errors = browser.errors();
    assert!(
        errors
            .iter()
            .all(|error| error.contains("400 (Bad Request)")),
        "{errors:?}"
    );
    collector.stop()?;
    Ok(())
}

/// Names an exporter twice: the operator's own name goes before that of a name server.
fn operator_names(collector: &Collector, writer: &ClickHouse, exporter: &str) -> Result<()> {
    for named in [
        format!("INSERT INTO hosts VALUES (toIPv6('{exporter}'), 'by-dns.example', now())"),
        format!("INSERT INTO exporter_names VALUES (toIPv6('{exporter}'), 'edge <b>1</b>', now())"),
    ] {
        writer.query(&named)?;
    }
    let answer = api(collector, "interfaces?last=3598")?;
    let named = rows(&answer, "interfaces", &["exporter", "exporter_name"]);
    let is_named = |row: &&Vec<String>| row[0] == exporter;
    let of_exporter: Vec<_> = named.iter().filter(is_named).collect();
    assert!(!of_exporter.is_empty());
    assert!(
        of_exporter.iter().all(|row| row[1] == "edge <b>1</b>"),
        "{named:?}"
    );
    Ok(())
}

#[test]
fn hostile_names_are_text_wherever_they_are_shown() -> Result<()> {
    let Some(settings) = Settings::embedded() else {
        return Ok(());
    };
    let collector = Collector::start(&settings)?;
    let Some(mut browser) = Browser::start("en")? else {
        return Ok(());
    };
    fill(&collector, &settings, "4000")?;
    let writer = collector.clickhouse_as("writer")?;
    let long = "long-".repeat(400) + ".example";
    let names: Vec<&str> = HOSTILE.into_iter().chain([long.as_str()]).collect();
    let talkers = rows(
        &api(&collector, "talkers?last=3600")?,
        "talkers",
        &["address"],
    );
    let seen = ["exporter", "interface"];
    let interfaces = rows(
        &api(&collector, "interfaces?last=3600")?,
        "interfaces",
        &seen,
    );
    for (index, name) in names.iter().enumerate() {
        let text = name.replace('\\', "\\\\").replace('\'', "\\'");
        let (address, interface) = (&talkers[index][0], &interfaces[index]);
        writer.query(&format!(
            "INSERT INTO hosts VALUES (toIPv6('{address}'), '{text}', now())"
        ))?;
        writer.query(&format!(
            "INSERT INTO interfaces (exporter_addr, if_index, name, description, source, \
             last_seen) VALUES (toIPv6('{}'), {}, '{text}', '{text}', 'snmp', now())",
            interface[0], interface[1]
        ))?;
    }
    operator_names(&collector, &writer, &interfaces[0][0])?;
    // What was asked above is answered again for some seconds, without names.
    browser.open(&format!("{}/?last=3599", collector.url()))?;
    settle(&mut browser)?;
    filter_by(&mut browser, "protocol", "tcp")?;
    for topic in ["talkers", "interfaces"] {
        let titles = browser.value(&format!(
            "[...document.querySelectorAll('[data-topic={topic}] bdi')].map(name => name.title)"
        ))?;
        let titles = titles.as_array().context("titles")?;
        for name in &names {
            let shown = name
                .replace('\u{202e}', "⟨U+202E⟩")
                .replace('\u{202c}', "⟨U+202C⟩");
            assert!(
                titles.contains(&Value::from(shown)),
                "{topic}: {name}: {titles:?}"
            );
        }
    }
    let made = "document.querySelectorAll('main img, main script, main svg').length";
    assert_eq!(browser.value(made)?, 0);
    assert_eq!(browser.text("document.title")?, "Flowsluice");
    // Nothing is wider than the page, however long or narrow.
    for width in [1400, 360] {
        browser.resize(width, 1000)?;
        let overflow =
            "document.documentElement.scrollWidth - document.documentElement.clientWidth";
        assert_eq!(browser.value(overflow)?, 0, "{width} pixels");
    }
    browser.screenshot(1400, &pictures()?.join("hostile.png"))?;
    browser.screenshot(360, &pictures()?.join("narrow.png"))?;
    browser.dark(true)?;
    browser.screenshot(1400, &pictures()?.join("dark.png"))?;
    assert_eq!(browser.errors(), [""; 0]);
    collector.stop()?;
    Ok(())
}

#[test]
fn without_a_store_the_page_says_so_and_shows_the_moment() -> Result<()> {
    let Some(mut browser) = Browser::start("en")? else {
        return Ok(());
    };
    let settings = Settings::new(Store::Null);
    let collector = Collector::start(&settings)?;
    let arguments = ["--rate", "2000", "--flows", "2000"];
    let (binary, target) = (&settings.binary, collector.target());
    generate(binary, target, &arguments, collector.folder())?;
    browser.open(&collector.url())?;
    browser.wait("!document.querySelector('#notice').hidden", WAIT_MAX)?;
    let notice = browser.text("document.querySelector('#notice').textContent")?;
    assert!(
        notice.starts_with("Nothing is stored: store.kind is null"),
        "{notice}"
    );
    assert_eq!(
        browser.value("document.querySelector('#stored').hidden")?,
        true
    );
    browser.wait(
        "document.querySelector('#drops').textContent.includes('store_null')",
        WAIT_MAX,
    )?;
    let exporters = "document.querySelectorAll('#exporters tbody tr').length";
    browser.wait(&format!("{exporters} > 3"), WAIT_MAX)?;
    assert_eq!(browser.errors(), [""; 0]);
    collector.terminate()?;
    Ok(())
}

#[test]
fn a_page_with_a_password_reads_the_server_that_is_in_use() -> Result<()> {
    let Some(embedded) = Settings::embedded() else {
        return Ok(());
    };
    let host = Collector::start(&embedded)?;
    let Some(mut browser) = Browser::start("en")? else {
        return Ok(());
    };
    let writer = host.clickhouse_as("writer")?;
    let dead = ClickHouse {
        url: "http://127.0.0.1:9".into(),
        ..writer.clone()
    };
    let folder = tempfile::tempdir()?;
    let password = folder.path().join("page.password");
    std::fs::write(&password, "correct horse battery\n")?;
    let mut settings = Settings::new(Store::Servers(vec![dead, writer]));
    settings.http = format!("password_file = \"{}\"\n", password.display());
    let collector = Collector::start(&settings)?;
    fill(&collector, &settings, "3000")?;
    // 401 without a word of what is stored.
    assert!(collector.page("/api/v1/talkers").is_err());
    let refused = browser.open(&collector.url()).unwrap_err().to_string();
    assert!(
        refused.contains("ERR_INVALID_AUTH_CREDENTIALS"),
        "{refused}"
    );
    let user = "flowsluice:correct%20horse%20battery";
    let url = collector
        .url()
        .replace("http://", &format!("http://{user}@"));
    browser.open(&format!("{url}/?last=3600"))?;
    settle(&mut browser)?;
    assert_eq!(listed(&mut browser, "talkers")?.lines().count(), 10);
    // That of the refusal, which comes when the browser likes.
    let mut errors = browser.errors();
    errors.retain(|error| !error.contains("chrome-error://"));
    assert_eq!(errors, [""; 0]);
    collector.stop()?;
    host.stop()?;
    Ok(())
}
