//! `flowsluice top`: what a running collector does, in a terminal.

mod equations;
mod frame;
mod reading;
mod text;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::style::{Attribute, Color, Print, SetAttribute, SetForegroundColor};
use crossterm::terminal::{
    self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode,
};
use crossterm::{execute, queue};
use flowsluice::config;

use frame::{Line, Sort, Style, View, lines};
use reading::{Reading, Source};

/// Arguments of `flowsluice top`.
#[derive(clap::Args)]
#[command(
    after_help = "Keys: q ends, s changes the order of exporters, space holds the picture, \
                        up and down move through the exporters."
)]
pub struct Args {
    /// The collector [default: http.listen of the configuration].
    #[arg(long, value_name = "http://HOST:PORT")]
    url: Option<String>,
    /// Configuration that says where it answers, and which token or password it wants; without it
    /// /etc/flowsluice/flowsluice.toml, else the built-in defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How often it is asked; rates are those of this time.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = every)]
    every: Duration,
    /// What exporters are ordered by.
    #[arg(long, value_enum, default_value_t)]
    sort: Sort,
    /// Print one frame of plain text and end.
    #[arg(long)]
    once: bool,
    /// Columns of that frame [default: those of the terminal, else 100].
    #[arg(long, value_name = "COLUMNS", requires = "once")]
    width: Option<usize>,
}

/// How long a key may wait for its effect.
const KEYS_EVERY: Duration = Duration::from_millis(100);
const KEYS: &str = "q quit  s sort  space hold  ↑↓ exporters";

fn every(text: &str) -> Result<Duration, String> {
    let every = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let allowed = Duration::from_millis(200)..=Duration::from_secs(3600);
    match allowed.contains(&every) {
        true => Ok(every),
        false => Err("allowed: 200ms to 1h".into()),
    }
}

pub fn main(args: Args) -> anyhow::Result<()> {
    let (config, _) = config::load_or_default(args.config.as_deref())?;
    let mut source = Source::new(args.url, &config.http)?;
    let first = source.read()?;
    if args.once {
        thread::sleep(args.every);
        let width = args.width.or_else(|| {
            let is_terminal = io::stdout().is_terminal();
            let size = is_terminal.then(terminal::size)?.ok()?;
            Some(size.0.into())
        });
        let view = View {
            width: width.unwrap_or(100),
            height: None,
            sort: args.sort,
            skip: 0,
        };
        let shown = lines(&first, &source.read()?, &view);
        return super::print(shown.into_iter().map(|line| line.text + "\n"));
    }
    anyhow::ensure!(
        io::stdin().is_terminal() && io::stdout().is_terminal(),
        "top: this is no terminal; print one frame with --once"
    );
    let url = source.url().to_owned();
    let (sender, readings) = mpsc::sync_channel(1);
    thread::Builder::new()
        .name("asking".into())
        .spawn(move || ask(source, args.every, &sender))
        .context("no thread can be started")?;
    let mut top = Top {
        url,
        before: first.clone(),
        now: first,
        fault: None,
        sort: args.sort,
        skip: 0,
        is_held: false,
    };
    let _screen = Screen::enter()?;
    top.show(&readings)
}

/// Asks until nobody listens.
fn ask(mut source: Source, every: Duration, sender: &SyncSender<anyhow::Result<Reading>>) {
    loop {
        thread::sleep(every);
        if sender.send(source.read()).is_err() {
            return;
        }
    }
}

/// What is shown.
struct Top {
    url: String,
    before: Reading,
    now: Reading,
    /// Why there is no newer reading.
    fault: Option<String>,
    sort: Sort,
    skip: usize,
    is_held: bool,
}

impl Top {
    fn show(&mut self, readings: &Receiver<anyhow::Result<Reading>>) -> anyhow::Result<()> {
        loop {
            self.draw()?;
            loop {
                if event::poll(Duration::ZERO)? {
                    match event::read()? {
                        Event::Key(key) if !self.take_key(key) => return Ok(()),
                        _ => break,
                    }
                }
                match readings.recv_timeout(KEYS_EVERY) {
                    Ok(reading) => {
                        self.take(reading);
                        break;
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => anyhow::bail!("top: asking has ended"),
                }
            }
        }
    }

    fn take(&mut self, reading: anyhow::Result<Reading>) {
        match reading {
            Ok(_) if self.is_held => {}
            Ok(reading) => {
                self.before = std::mem::replace(&mut self.now, reading);
                self.fault = None;
            }
            Err(error) => self.fault = Some(format!("{error:#}")),
        }
    }

    /// False when it ends the view.
    fn take_key(&mut self, key: KeyEvent) -> bool {
        if key.kind == KeyEventKind::Release {
            return true;
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return false,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
            KeyCode::Char('s') => {
                self.sort = self.sort.next();
                self.skip = 0;
            }
            KeyCode::Char(' ') => self.is_held = !self.is_held,
            KeyCode::Down | KeyCode::Char('j') => {
                let known = self.now.status["exporters"].as_array().map_or(0, Vec::len);
                self.skip = (self.skip + 1).min(known.saturating_sub(1));
            }
            KeyCode::Up | KeyCode::Char('k') => self.skip = self.skip.saturating_sub(1),
            _ => {}
        }
        true
    }

    fn draw(&self) -> io::Result<()> {
        let (width, height) = terminal::size()?;
        let view = View {
            width: width.into(),
            height: Some(usize::from(height).saturating_sub(1)),
            sort: self.sort,
            skip: self.skip,
        };
        let (style, last) = match &self.fault {
            Some(fault) => (Style::Bad, text::harmless(fault)),
            None if self.is_held => (Style::Title, format!("held  {KEYS}")),
            None => (
                Style::Plain,
                format!("{KEYS}  {}", text::harmless(&self.url)),
            ),
        };
        let mut shown = lines(&self.before, &self.now, &view);
        let text = text::cut(&last, view.width);
        shown.resize(
            view.height.unwrap_or(0),
            Line {
                style: Style::Plain,
                text: String::new(),
            },
        );
        shown.push(Line { style, text });
        let mut out = io::stdout().lock();
        for (row, line) in (0..height).zip(&shown) {
            queue!(out, MoveTo(0, row))?;
            match line.style {
                Style::Plain => {}
                Style::Title => queue!(out, SetAttribute(Attribute::Bold))?,
                Style::Bad => queue!(
                    out,
                    SetAttribute(Attribute::Bold),
                    SetForegroundColor(Color::Red)
                )?,
            }
            queue!(
                out,
                Print(&line.text),
                SetAttribute(Attribute::Reset),
                SetForegroundColor(Color::Reset),
                Clear(ClearType::UntilNewLine)
            )?;
        }
        out.flush()
    }
}

/// The terminal while it is ours; given back as it was, however this ends.
struct Screen;

impl Screen {
    fn enter() -> io::Result<Self> {
        enable_raw_mode()?;
        let screen = Self;
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}
