//! Who is answered by HTTP beyond loopback: who shows the token, and by TLS alone.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use flowsluice_tests::place;
use flowsluice_tests::process::{Process, Signal};
use flowsluice_tests::tls::Authority;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

const TOKEN: &str = "a token that nobody guesses";
const PATHS: [&str; 6] = [
    "/metrics",
    "/status",
    "/healthz",
    "/readyz",
    "/api/v1/now",
    "/page/page.js",
];

/// Starts a collector that stores nothing, with these lines in `[http]` and this environment.
fn start(folder: &Path, http: &str, variable: Option<(&str, &str)>) -> Result<Process> {
    let config = folder.join("flowsluice.toml");
    let text = format!(
        "[receive]\nworkers = 1\npin = false\n[[receive.listeners]]\nport = {}\n\
         [decode]\nstate_dir = \"\"\n[store]\nkind = \"null\"\n[http]\n{http}",
        place::free_udp_port()?
    );
    std::fs::write(&config, text)?;
    let mut command = Command::new(place::binary()?);
    command
        .arg("run")
        .arg("--config")
        .arg(&config)
        .envs(variable);
    Process::spawn("the collector", &mut command, &folder.join("log"))
}

/// Asks; believes no CA but that of `authority`.
fn agent(authority: Option<&Authority>) -> Result<ureq::Agent> {
    let mut config = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(20)))
        .http_status_as_error(false);
    if let Some(authority) = authority {
        let pem = std::fs::read(authority.cert())?;
        let roots = vec![Certificate::from_pem(&pem)?.to_owned()];
        let roots = RootCerts::Specific(Arc::new(roots));
        config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
    }
    Ok(config.build().into())
}

/// The status of an answer.
fn status(agent: &ureq::Agent, url: &str, shown: Option<&str>) -> Result<u16> {
    let mut request = agent.get(url);
    if let Some(shown) = shown {
        request = request.header("Authorization", shown);
    }
    let answer = request.call().with_context(|| format!("get {url}"))?;
    Ok(answer.status().as_u16())
}

/// Asks until the answer is this one.
fn wait_for(process: &mut Process, expected: u16, ask: impl Fn() -> Result<u16>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let found = ask();
        if matches!(&found, Ok(status) if *status == expected) {
            return Ok(());
        }
        if let Some(status) = process.poll()? {
            bail!("the collector ended with {status}\n{}", process.tail(20));
        }
        ensure!(Instant::now() < deadline, "{found:?}\n{}", process.tail(20));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn beyond_loopback_a_token_is_asked_for_and_tls_alone_is_spoken() -> Result<()> {
    if place::program_or_skip("openssl", "openssl").is_none() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let authority = Authority::make("authority", folder)?;
    let other = Authority::make("other", folder)?;
    let shown = authority.sign("collector", "DNS:localhost", 30)?;
    let token = folder.join("token");
    std::fs::write(&token, format!("{TOKEN}\n"))?;
    let port = place::free_tcp_port(0)?;
    let http = format!(
        "listen = \"0.0.0.0:{port}\"\ntoken_file = {token:?}\n\
         [http.tls]\ncert = {:?}\nkey = {:?}\n",
        shown.cert, shown.key
    );
    let mut process = start(folder, &http, None)?;
    let url = |path: &str| format!("https://localhost:{port}{path}");
    let right = format!("Bearer {TOKEN}");
    let trusting = agent(Some(&authority))?;
    wait_for(&mut process, 200, || {
        status(&trusting, &url("/readyz"), Some(&right))
    })?;
    for path in PATHS {
        let asked = |shown| status(&trusting, &url(path), shown);
        assert_eq!(asked(None)?, 401, "{path} without a token");
        assert_eq!(asked(Some(&right))?, 200, "{path} with it");
    }
    for wrong in ["Bearer another token", "Bearer", "Basic YTpi", "Digest x"] {
        assert_eq!(
            status(&trusting, &url("/status"), Some(wrong))?,
            401,
            "{wrong}"
        );
    }
    // On the host itself the configuration is all that is needed.
    let top = Command::new(place::binary()?)
        .args(["top", "--once", "--every", "200ms", "--config"])
        .arg(folder.join("flowsluice.toml"))
        .output()?;
    let said = String::from_utf8_lossy(&[&top.stdout[..], &top.stderr].concat()).into_owned();
    ensure!(top.status.success() && !said.contains(TOKEN), "{said}");
    let plain = format!("http://localhost:{port}/healthz");
    let in_clear = status(&agent(None)?, &plain, Some(&right));
    ensure!(in_clear.is_err(), "answered in clear: {in_clear:?}");
    let strange = agent(Some(&other))?;
    let believed = status(&strange, &url("/healthz"), Some(&right));
    ensure!(
        believed.is_err(),
        "this is another CA's certificate: {believed:?}"
    );
    // The key first: between the two files what was there before is shown.
    let renewed = other.sign("renewed", "DNS:localhost", 30)?;
    std::fs::copy(&renewed.key, &shown.key)?;
    std::fs::copy(&renewed.cert, &shown.cert)?;
    wait_for(&mut process, 200, || {
        status(&strange, &url("/healthz"), Some(&right))
    })?;
    a_token_is_renewed(&mut process, &token, |shown| {
        let shown = format!("Bearer {shown}");
        status(&strange, &url("/status"), Some(&shown))
    })?;
    let log = process.output();
    ensure!(!log.contains(TOKEN), "the log shows the token: {log}");
    Ok(())
}

/// SIGHUP has the file read again; one that cannot be a token changes nothing.
fn a_token_is_renewed(
    process: &mut Process,
    file: &Path,
    ask: impl Fn(&str) -> Result<u16>,
) -> Result<()> {
    let next = "the token after it";
    std::fs::write(file, format!("{next}\n"))?;
    process.signal(Signal::HUP)?;
    wait_for(process, 401, || ask(TOKEN))?;
    assert_eq!(ask(next)?, 200);
    std::fs::write(file, "short\n")?;
    process.signal(Signal::HUP)?;
    let told = || {
        process
            .output()
            .contains("stays as it was: http.token_file")
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while !told() {
        ensure!(Instant::now() < deadline, "{}", process.tail(20));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(ask(next)?, 200);
    ensure!(!process.output().contains(next), "the log shows the token");
    Ok(())
}

#[test]
fn a_token_of_the_environment_guards_loopback_too_and_is_a_browsers_password() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let port = place::free_tcp_port(0)?;
    let http = format!("listen = \"127.0.0.1:{port}\"\n");
    let mut process = start(folder.path(), &http, Some(("FLOWSLUICE_HTTP_TOKEN", TOKEN)))?;
    let agent = agent(None)?;
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    let right = format!("Bearer {TOKEN}");
    wait_for(&mut process, 200, || {
        status(&agent, &url("/readyz"), Some(&right))
    })?;
    use base64::Engine as _;
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("flowsluice:{TOKEN}"));
    for path in PATHS {
        assert_eq!(status(&agent, &url(path), None)?, 401, "{path}");
        let browser = format!("Basic {pair}");
        assert_eq!(status(&agent, &url(path), Some(&browser))?, 200, "{path}");
    }
    Ok(())
}
