//! `flowsluice export` writes what ClickHouse has, or says why not and leaves nothing behind.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flowsluice_tests::generator::generate;
use flowsluice_tests::{ClickHouse, Collector, Settings};
use rustix::process::{Pid, Signal, kill_process};

/// What is compared of a table: rows, sums, and a sum over everything that is stored.
fn sums(clickhouse: &ClickHouse, table: &str) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT count(), sum(raw_bytes), sum(raw_packets), sum(cityHash64(*)) FROM {table}"
    );
    let mut rows = clickhouse.rows(&sql)?;
    rows.pop().context("a row of sums")
}

struct Rig {
    collector: Collector,
    binary: PathBuf,
    reader: ClickHouse,
    writer: ClickHouse,
}

impl Rig {
    /// A collector that has stored so many flows; `None` without the engine.
    fn with_flows(flows: &str) -> Result<Option<Self>> {
        let Some(settings) = Settings::embedded() else {
            return Ok(None);
        };
        let collector = Collector::start(&settings)?;
        let rig = Self {
            reader: collector.clickhouse()?,
            writer: collector.clickhouse_as("writer")?,
            collector,
            binary: settings.binary,
        };
        rig.store(flows)?;
        Ok(Some(rig))
    }

    /// Sends so many flows and waits until they are stored.
    fn store(&self, flows: &str) -> Result<()> {
        let before = self.collector.status()?.ledger().datagrams_arrived();
        let arguments = ["--rate", "8000", "--flows", flows];
        let (target, folder) = (self.collector.target(), self.collector.folder());
        let sent = generate(&self.binary, target, &arguments, folder)?;
        self.collector.settle(before + sent.datagrams)?;
        Ok(())
    }

    fn command(&self, output: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("export").arg("--config");
        command.arg(self.collector.config());
        command.arg("-o").arg(output);
        if !arguments.contains(&"--from") {
            command.args(["--from", "-1h"]);
        }
        command.args(arguments);
        command
    }

    fn export(&self, output: &Path, arguments: &[&str]) -> Result<Output> {
        Ok(self.command(output, arguments).output()?)
    }

    /// Exports to a file of this name and returns it.
    fn exported(&self, name: &str, arguments: &[&str]) -> Result<PathBuf> {
        let file = self.collector.folder().join(name);
        let output = self.export(&file, arguments)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{name}: {said}");
        // Nobody looks at standard error: nothing but the outcome.
        let outcome = said.strip_prefix(&format!("{}: ", file.display()));
        let outcome = outcome.with_context(|| format!("no outcome: {said}"))?;
        let units: &[&str] = match name.rsplit('.').next() {
            Some("csv" | "json") => &[" row\n", " rows\n"],
            _ => &[" bytes\n"],
        };
        ensure!(units.iter().any(|unit| outcome.ends_with(unit)), "{said}");
        ensure!(outcome.lines().count() == 1, "{said}");
        Ok(file)
    }

    /// Exports in vain to a file of this name, which must not be there then; what was said.
    fn refused(&self, name: &str, arguments: &[&str]) -> Result<String> {
        let file = self.collector.folder().join(name);
        let output = self.export(&file, arguments)?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(output.status.code() == Some(1), "{arguments:?}: {said}");
        ensure!(!file.exists(), "{name} was left: {said}");
        ensure!(self.partials()?.is_empty(), "{:?}", self.partials()?);
        Ok(said)
    }

    /// Waits until an export of slow rows is under way and has a file, or until there is none.
    fn await_slow(&self, is_under_way: bool) -> Result<()> {
        let start = Instant::now();
        // The engine has slow rows of its own.
        let sql = "SELECT count() FROM system.processes WHERE query LIKE '%sleepEachRow(0.0029)%' \
                   AND query NOT LIKE '%system.processes%'";
        loop {
            let has_begun = self.writer.value::<u64>(sql)? > 0;
            if has_begun == is_under_way && self.partials()?.is_empty() != is_under_way {
                return Ok(());
            }
            let what = if is_under_way { "begin" } else { "end" };
            ensure!(
                start.elapsed() < Duration::from_secs(20),
                "it does not {what}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a signal to an export that has begun.
    fn signal(&self, child: &Child, signal: Signal) -> Result<()> {
        self.await_slow(true)?;
        let pid = Pid::from_raw(i32::try_from(child.id())?).context("a process id is no zero")?;
        Ok(kill_process(pid, signal)?)
    }

    /// An export that such a signal ends leaves nothing and says so.
    fn interrupted_by(&self, signal: Signal) -> Result<()> {
        let file = self.collector.folder().join("slow.csv");
        // Some seconds for all of them; also where whoever runs this ignores hangups.
        let slow = self.command(&file, &["--where", "sleepEachRow(0.0029) = 0"]);
        let mut command = Command::new("env");
        command.arg("--default-signal=HUP");
        command.arg(slow.get_program()).args(slow.get_args());
        let child = command.stderr(Stdio::piped()).spawn()?;
        self.signal(&child, signal)?;
        let output = child.wait_with_output()?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(output.status.code() == Some(1), "{signal:?}: {said}");
        ensure!(
            said.contains("slow.csv is not written: interrupted"),
            "{signal:?}: {said}"
        );
        let partials = self.partials()?;
        ensure!(partials.is_empty() && !file.exists(), "{partials:?}");
        // ClickHouse may notice later than whoever reads the next rows.
        self.await_slow(false)
    }

    fn partials(&self) -> Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(self.collector.folder())?;
        let paths = entries.map(|entry| Ok(entry?.path()));
        let paths: Vec<PathBuf> = paths.collect::<std::io::Result<_>>()?;
        let is_partial = |path: &PathBuf| path.extension().is_some_and(|end| end == "partial");
        Ok(paths.into_iter().filter(is_partial).collect())
    }
}

#[test]
fn each_format_read_back_has_the_same_rows() -> Result<()> {
    let Some(rig) = Rig::with_flows("20000")? else {
        return Ok(());
    };
    let Rig { reader, writer, .. } = &rig;
    let whole = sums(reader, "flows")?;
    assert_eq!(whole[0], "20000");
    for (name, format) in [
        ("all.parquet", "Parquet"),
        ("all.csv", "CSVWithNames"),
        ("all.json", "JSONEachRow"),
        ("all.native", "Native"),
    ] {
        let file = rig.exported(name, &[])?;
        writer.query("CREATE TABLE copy AS flows")?;
        // What is computed there is no column to insert.
        let insert = format!(
            "INSERT INTO copy SETTINGS input_format_skip_unknown_fields = 1 FORMAT {format}"
        );
        writer.insert(&insert, &std::fs::read(&file)?)?;
        assert_eq!(sums(reader, "copy")?, whole, "{name}");
        writer.query("DROP TABLE copy")?;
    }
    let csv = std::fs::read_to_string(rig.collector.folder().join("all.csv"))?;
    let (names, rows) = csv.split_once('\n').context("a line of names")?;
    assert!(
        names.contains("\"bytes\""),
        "what is computed is there: {names}"
    );
    assert!(rows.contains("\"10.20."), "addresses are readable");
    assert!(!csv.contains("::ffff:"), "addresses are readable");
    rig.collector.stop()?;
    Ok(())
}

#[test]
fn a_selection_is_what_was_asked_for() -> Result<()> {
    let Some(rig) = Rig::with_flows("8000")? else {
        return Ok(());
    };
    // In a second of its own, so that there is a moment with flows before it and after.
    std::thread::sleep(Duration::from_secs(1));
    rig.store("12000")?;
    let lines = |name: &str, arguments: &[&str]| -> Result<u64> {
        let file = rig.exported(name, arguments)?;
        Ok(std::fs::read_to_string(file)?.lines().count() as u64)
    };
    let https: u64 = rig
        .reader
        .value("SELECT countIf(server_port = 443) FROM flows")?;
    assert!(https > 0);
    let filtered = lines(
        "https.json",
        &["--where", "server_port = 443 -- as one knows"],
    )?;
    assert_eq!(filtered, https);
    // Two spans that touch share no row and leave none out.
    let middle: String = rig
        .reader
        .value("SELECT formatDateTime(max(time_received), '%Y-%m-%dT%H:%i:%SZ') FROM flows")?;
    let before = lines("before.json", &["--to", &middle])?;
    let rest = ["--format", "json", "--from", &middle];
    let after = rig.export(Path::new("-"), &rest)?;
    let after = String::from_utf8(after.stdout)?.lines().count() as u64;
    assert!(before > 0 && after > 0);
    for (name, rows) in [("none.csv", 0), ("none.json", 0), ("some.csv", before)] {
        let file = rig.collector.folder().join(name);
        let span: &[&str] = match rows {
            0 => &["--from", "-3h", "--to", "-2h"],
            _ => &["--to", &middle],
        };
        let said = String::from_utf8(rig.export(&file, span)?.stderr)?;
        assert_eq!(said, format!("{}: {rows} rows\n", file.display()));
    }
    assert_eq!(before + after, 20_000);
    let file = rig.exported("two.csv", &["--columns", "dst_port,src_addr"])?;
    let csv = std::fs::read_to_string(file)?;
    assert!(csv.starts_with("\"dst_port\",\"src_addr\"\n"), "{csv:.80}");
    let exporters = || rig.reader.value("SELECT count() FROM exporters FINAL");
    rig.collector
        .wait_until("exporters are told", Duration::from_secs(60), |_| {
            exporters().is_ok_and(|exporters: u64| exporters > 0)
        })?;
    let exporters = exporters()?;
    let told = lines("exporters.json", &["--table", "exporters"])?;
    assert!(
        told >= exporters,
        "each state that was told: {told}, {exporters}"
    );
    rig.collector.stop()?;
    Ok(())
}

#[test]
fn no_filter_leaves_the_span_of_time() -> Result<()> {
    let Some(rig) = Rig::with_flows("1000")? else {
        return Ok(());
    };
    // Before everything that is stored.
    let exported = |filter: &str| {
        let span = ["--from", "-3h", "--to", "-2h", "--format", "json"];
        let arguments = [&span[..], &["--where", filter]].concat();
        rig.export(Path::new("-"), &arguments)
    };
    for filter in [
        "1) OR (1",
        "1)) OR ((1",
        "'a' = ')') OR ('a' = 'a'",
        "1) -- (",
        "1) OR (1 /* ) */",
        "1 /* /* */ ( */ ) OR (1",
        "1; SELECT 2",
        "1 UNION ALL SELECT * FROM flows",
        "1 FORMAT CSV",
        "1 SETTINGS max_threads = 1",
        "1 -- '\n) OR (1 -- '",
        "1 // (\n) OR (1 // )",
        "$a$)$a$ = '') OR ('' = $a$($a$",
        "‘(’ = '') OR ('' = ‘)’",
    ] {
        let output = exported(filter)?;
        let said = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(1), "{filter}: {said}");
        assert!(output.stdout.is_empty(), "{filter}");
        assert!(said.contains("--where: "), "{filter}: {said}");
    }
    for filter in [
        "1 OR 1",
        "'a' != ')'",
        "/* ) */ 1",
        "1 -- )",
        "1 # ) OR (1",
        "(now() - 9000 AS time_received) > 0",
        "(toDateTime(now() - 9000) AS `time_received`) IS NOT NULL",
        "1 // ) OR (1",
        "'it''s' = 'it\\'s' OR 0",
    ] {
        let output = exported(filter)?;
        let said = String::from_utf8(output.stderr)?;
        assert!(output.status.success(), "{filter}: {said}");
        assert!(output.stdout.is_empty(), "{filter} exports what is later");
    }
    rig.collector.stop()?;
    Ok(())
}

#[test]
fn what_goes_wrong_is_told_and_leaves_no_file() -> Result<()> {
    let Some(rig) = Rig::with_flows("40000")? else {
        return Ok(());
    };
    let said = rig.refused("a.csv", &["--where", "src_prt = 1"])?;
    assert!(
        said.contains("--where: ClickHouse at http://127.0.0.1:"),
        "{said}"
    );
    assert!(
        said.contains("src_prt") && said.contains("DESCRIBE TABLE"),
        "{said}"
    );
    let said = rig.refused("a.csv", &["--where", "src_port ="])?;
    assert!(
        said.contains("--where: ") && said.contains("Code: 62"),
        "{said}"
    );
    let said = rig.refused("a.csv", &["--columns", "src_adr"])?;
    assert!(
        said.contains("no column 'src_adr'; it has time_received"),
        "{said}"
    );
    let said = rig.refused("a.csv", &["--table", "flow"])?;
    assert!(
        said.contains("Code: 60") && said.contains("SHOW TABLES"),
        "{said}"
    );
    let said = rig.refused("a.csv", &["--from", "yesterday"])?;
    assert!(said.contains("--from: 'yesterday' is no time"), "{said}");
    let said = rig.refused("a.txt", &[])?;
    assert!(said.contains("--format parquet"), "{said}");
    for filter in ["1) SETTINGS readonly = 0 --", "1)); DROP TABLE flows --"] {
        let said = rig.refused("a.csv", &["--where", filter])?;
        assert!(said.contains("brackets do not match"), "{filter}: {said}");
    }
    // It can only read, whatever the filter says, although it asks as the writer.
    for filter in [
        "1 IN (SELECT 1 FROM executable('id', 'TSV', 'a String'))",
        "1 IN (SELECT 1 FROM file('/etc/passwd', 'LineAsString'))",
        "1; DROP TABLE flows",
    ] {
        let said = rig.refused("a.csv", &["--where", filter])?;
        assert!(said.contains("Code: "), "{filter}: {said}");
    }
    assert_eq!(rig.reader.flows()?, 40_000);
    let existing = rig.collector.folder().join("b.csv");
    std::fs::write(&existing, "another's")?;
    let output = rig.export(&existing, &[])?;
    let said = String::from_utf8(output.stderr)?;
    assert!(
        said.contains("b.csv exists; name another file, or add --force"),
        "{said}"
    );
    assert_eq!(std::fs::read_to_string(&existing)?, "another's");
    rig.exported("b.csv", &["--force"])?;
    assert_ne!(std::fs::read_to_string(&existing)?, "another's");
    rig.collector.stop()?;
    Ok(())
}

#[test]
fn an_answer_that_breaks_in_the_middle_is_no_file() -> Result<()> {
    let Some(rig) = Rig::with_flows("1000")? else {
        return Ok(());
    };
    // Rows in their order, so many of them before it that some are on their way by then.
    rig.writer.query(
        "CREATE VIEW many AS SELECT now('UTC') - 60 AS time_received, number, \
         repeat('x', 40) AS text FROM system.numbers LIMIT 4000000",
    )?;
    let breaks = [
        "--table",
        "many",
        "--where",
        "throwIf(number > 2000000, 'stop here') = 0",
    ];
    for name in ["a.json", "a.csv", "a.parquet", "a.native"] {
        let said = rig.refused(name, &breaks)?;
        assert!(
            said.contains("stop here") && said.contains("Code: 395"),
            "{said}"
        );
        assert!(said.contains(&format!("{name} is not written")), "{said}");
    }
    let to_stdout = [&breaks[..], &["--format", "json"]].concat();
    let output = rig.export(Path::new("-"), &to_stdout)?;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        output.stdout.len() > 1 << 20,
        "it had begun: {}",
        output.stdout.len()
    );
    let said = String::from_utf8(output.stderr)?;
    assert!(said.contains("what was written is not whole"), "{said}");
    rig.collector.stop()?;
    Ok(())
}

#[test]
fn a_server_is_asked_as_the_user_of_the_configuration() -> Result<()> {
    let Some(rig) = Rig::with_flows("1000")? else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    // One who may only read, and change settings; the other may do more.
    for user in [&rig.reader, &rig.writer] {
        let password = folder.path().join("password");
        std::fs::write(&password, &user.password)?;
        let config = folder.path().join("flowsluice.toml");
        let text = format!(
            "[store]\nurl = \"{}\"\nuser = \"{}\"\npassword_file = \"{}\"\n",
            user.url,
            user.user,
            password.display()
        );
        std::fs::write(&config, text)?;
        let output = Command::new(&rig.binary)
            .args([
                "export", "--from", "-1h", "-o", "-", "--format", "json", "--config",
            ])
            .arg(&config)
            .output()?;
        let said = String::from_utf8(output.stderr)?;
        assert!(output.status.success(), "{}: {said}", user.user);
        let lines = String::from_utf8(output.stdout)?.lines().count();
        assert_eq!(lines, 1000, "{}", user.user);
    }
    rig.collector.stop()?;
    Ok(())
}

#[test]
fn an_export_that_is_interrupted_leaves_nothing() -> Result<()> {
    let Some(rig) = Rig::with_flows("1000")? else {
        return Ok(());
    };
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        rig.interrupted_by(signal)?;
    }
    // Whoever begins it with nohup means it to outlast the terminal.
    let file = rig.collector.folder().join("kept.csv");
    let mut command = Command::new("nohup");
    let slow = rig.command(&file, &["--where", "sleepEachRow(0.0029) = 0"]);
    command.arg(slow.get_program()).args(slow.get_args());
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let child = command.stderr(Stdio::piped()).spawn()?;
    rig.signal(&child, Signal::HUP)?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8(output.stderr)?;
    assert!(output.status.success() && file.exists(), "{said}");
    rig.collector.stop()?;
    Ok(())
}

#[test]
fn without_a_clickhouse_it_says_what_to_do() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("flowsluice.toml");
    let data = folder.path().join("data");
    std::fs::write(
        &config,
        format!("[store.embedded]\ndata_dir = \"{}\"\n", data.display()),
    )?;
    let output = Command::new(flowsluice_tests::place::binary()?)
        .args(["export", "--from", "-1h", "-o"])
        .arg(folder.path().join("a.csv"))
        .arg("--config")
        .arg(&config)
        .output()?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("start one with 'flowsluice run'"), "{said}");
    Ok(())
}
