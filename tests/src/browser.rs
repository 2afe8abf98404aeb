//! A real browser without a window: Debian's Chromium, told what to do by the DevTools protocol.
//!
//! Messages go over two pipes, each ended by a zero byte, so that nothing listens on a port.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::place;

/// How long one message may take: a machine that is busy draws slowly.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// How long it may take to end.
const END_MAX: Duration = Duration::from_secs(10);
/// Nothing but what stands here is asked for over the network, and no address but loopback.
const ARGUMENTS: [&str; 12] = [
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];

/// A browser with one page. Dropped, it ends.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    input: Option<ChildStdin>,
    messages: Receiver<Value>,
    /// Events that came while something else was waited for.
    events: Vec<Value>,
    session: Option<String>,
    last_id: u64,
    folder: TempDir,
}

impl Browser {
    /// Starts one whose languages are these, the best liked first; `None`, with the reason printed,
    /// where Chromium is missing.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(languages: &str) -> Result<Option<Self>> {
        let Some(program) = place::program_or_skip("chromium", "chromium") else {
            return Ok(None);
        };
        let folder = tempfile::tempdir()?;
        let log = File::create(folder.path().join("log"))?;
        // Chromium takes messages at descriptor 3 and sends them at 4.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >&2"])
            .arg(program)
            .args(ARGUMENTS)
            .arg(format!("--accept-lang={languages}"))
            .arg(format!("--user-data-dir={}", folder.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0)
            .spawn()
            .context("start chromium")?;
        let output = child.stdout.take().context("its output is a pipe")?;
        let mut browser = Self {
            input: child.stdin.take(),
            child,
            messages: read(output),
            events: Vec::new(),
            session: None,
            last_id: 0,
            folder,
        };
        browser.attach().with_context(|| browser.log())?;
        Ok(Some(browser))
    }

    fn attach(&mut self) -> Result<()> {
        let targets = self.call("Target.getTargets", &json!({}))?;
        let targets = targets["targetInfos"].as_array().context("targets")?;
        let page = targets.iter().find(|target| target["type"] == "page");
        let id = page.context("no page")?["targetId"].clone();
        let attached = json!({"targetId": id, "flatten": true});
        let attached = self.call("Target.attachToTarget", &attached)?;
        self.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            self.call(&format!("{domain}.enable"), &json!({}))?;
        }
        self.resize(1400, 1000)
    }

    /// What it printed, for a message.
    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.folder.path().join("log"));
        log.unwrap_or_default()
    }

    /// Calls one method and waits for its result.
    ///
    /// # Errors
    /// When the browser does not answer, or with an error.
    pub fn call(&mut self, method: &str, parameters: &Value) -> Result<Value> {
        self.last_id += 1;
        let id = self.last_id;
        let mut message = json!({"id": id, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let input = self.input.as_mut().context("the browser has ended")?;
        input.write_all(format!("{message}\0").as_bytes())?;
        input.flush()?;
        let deadline = Instant::now() + ANSWER_MAX;
        loop {
            let message = self.next(deadline).with_context(|| method.to_owned())?;
            if message["id"] != id {
                self.events.push(message);
                continue;
            }
            if let Some(error) = message.get("error") {
                bail!("{method}: {error}");
            }
            return Ok(message["result"].clone());
        }
    }

    fn next(&mut self, deadline: Instant) -> Result<Value> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.messages.recv_timeout(left) {
            Ok(message) => Ok(message),
            Err(RecvTimeoutError::Timeout) => bail!("the browser does not answer"),
            Err(RecvTimeoutError::Disconnected) => bail!("the browser ended\n{}", self.log()),
        }
    }

    /// Opens `url` and waits until all that it names is loaded.
    ///
    /// # Errors
    /// When that does not come to pass.
    pub fn open(&mut self, url: &str) -> Result<()> {
        self.events
            .retain(|event| event["method"] != "Page.loadEventFired");
        let opened = self.call("Page.navigate", &json!({"url": url}))?;
        ensure!(opened.get("errorText").is_none(), "{url}: {opened}");
        let deadline = Instant::now() + ANSWER_MAX;
        let is_loaded = |event: &Value| event["method"] == "Page.loadEventFired";
        while !self.events.iter().any(is_loaded) {
            let event = self.next(deadline).with_context(|| url.to_owned())?;
            self.events.push(event);
        }
        Ok(())
    }

    /// The value of an expression of JavaScript.
    ///
    /// # Errors
    /// When it throws.
    pub fn value(&mut self, expression: &str) -> Result<Value> {
        let parameters = json!({
            "expression": expression, "returnByValue": true, "awaitPromise": true,
        });
        let answer = self.call("Runtime.evaluate", &parameters)?;
        if let Some(thrown) = answer.get("exceptionDetails") {
            bail!("{expression}: {thrown}");
        }
        Ok(answer["result"]["value"].clone())
    }

    /// The same as text.
    ///
    /// # Errors
    /// As [`Self::value`], and when it is none.
    pub fn text(&mut self, expression: &str) -> Result<String> {
        let value = self.value(expression)?;
        let text = value.as_str().map(str::to_owned);
        text.with_context(|| format!("{expression} is no text: {value}"))
    }

    /// Waits until an expression is true.
    ///
    /// # Errors
    /// When it is not within `limit`; with what the page shows then.
    pub fn wait(&mut self, expression: &str, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while self.value(&format!("Boolean({expression})"))? != true {
            if Instant::now() >= deadline {
                let shown = self.text("document.body.innerText")?;
                let errors = self.errors();
                bail!("not so within {limit:?}: {expression}\n{errors:?}\n{shown}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Types into what has the focus, as a keyboard would; `\r` is the key Enter, `\t` Tab.
    ///
    /// # Errors
    /// When the browser does not take it.
    pub fn type_text(&mut self, text: &str) -> Result<()> {
        for letter in text.chars() {
            let (key, code) = match letter {
                '\r' => ("Enter", 13),
                '\t' => ("Tab", 9),
                _ => ("", 0),
            };
            let letter = letter.to_string();
            for kind in ["keyDown", "keyUp"] {
                let mut event = json!({"type": kind});
                if !key.is_empty() {
                    event["key"] = key.into();
                    event["windowsVirtualKeyCode"] = code.into();
                }
                if kind == "keyDown" && key != "Tab" {
                    event["text"] = letter.as_str().into();
                }
                self.call("Input.dispatchKeyEvent", &event)?;
            }
        }
        Ok(())
    }

    /// Sets the size of the page in pixels.
    ///
    /// # Errors
    /// When the browser refuses.
    pub fn resize(&mut self, width: u32, height: u32) -> Result<()> {
        let size = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false,
        });
        self.call("Emulation.setDeviceMetricsOverride", &size)
            .map(drop)
    }

    /// Lets the page think that the reader wants it dark, or not.
    ///
    /// # Errors
    /// When the browser refuses.
    pub fn dark(&mut self, is_dark: bool) -> Result<()> {
        let value = if is_dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": value}]);
        self.call("Emulation.setEmulatedMedia", &json!({"features": features}))
            .map(drop)
    }

    /// Writes what the whole page looks like at this width to a PNG file; returns its bytes.
    ///
    /// # Errors
    /// When the browser or the disk refuses.
    pub fn screenshot(&mut self, width: u32, file: &Path) -> Result<Vec<u8>> {
        self.resize(width, 1000)?;
        let height = self.value("document.documentElement.scrollHeight")?;
        let height = height.as_u64().context("the page has a height")?;
        self.resize(width, u32::try_from(height)?)?;
        // Two frames, so that the charts have their new size.
        let frame = "new Promise(requestAnimationFrame)";
        self.value(&format!(
            "{frame}.then(() => {frame}).then(() => {frame}).then(() => 1)"
        ))?;
        let image = self.call("Page.captureScreenshot", &json!({"format": "png"}))?;
        let image = image["data"].as_str().context("the image")?;
        let image = STANDARD.decode(image)?;
        std::fs::write(file, &image)?;
        Ok(image)
    }

    /// All that went wrong on the page so far: exceptions, and what the console has as an error or
    /// a warning. Forgotten when told.
    pub fn errors(&mut self) -> Vec<String> {
        let mut errors = Vec::new();
        for event in std::mem::take(&mut self.events) {
            let parameters = &event["params"];
            let is_error = match event["method"].as_str() {
                Some("Runtime.exceptionThrown") => true,
                Some("Runtime.consoleAPICalled") => ["error", "warning", "assert"]
                    .contains(&parameters["type"].as_str().unwrap_or("")),
                Some("Log.entryAdded") => ["error", "warning"]
                    .contains(&parameters["entry"]["level"].as_str().unwrap_or("")),
                _ => false,
            };
            if is_error {
                errors.push(parameters.to_string());
            }
        }
        errors
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.session = None;
        let _ = self.call("Browser.close", &json!({}));
        // Without its pipe it ends in any case.
        self.input = None;
        let deadline = Instant::now() + END_MAX;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The messages that come, until the browser ends.
fn read(output: ChildStdout) -> Receiver<Value> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut bytes = Vec::new();
        while output
            .read_until(0, &mut bytes)
            .is_ok_and(|count| count > 0)
        {
            let message = serde_json::from_slice(bytes.strip_suffix(b"\0").unwrap_or(&bytes));
            let is_wanted = message.is_ok_and(|message| sender.send(message).is_ok());
            if !is_wanted {
                break;
            }
            bytes.clear();
        }
    });
    receiver
}
