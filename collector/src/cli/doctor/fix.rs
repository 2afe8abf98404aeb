//! `doctor --fix`: does what the report says, as far as it can be taken back by `--undo`.
//!
//! In: the commands of a report. Out: changes of the kernel's settings, each written to a file with
//! what was before it is made. A second run finds nothing to do, since the report has no command
//! then. No shell is started.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use flowsluice::host::ethtool::Ethtool;
use flowsluice::host::{Interface, kernel};
use serde::{Deserialize, Serialize};

use super::report::{Mend, Report};

/// How often the host is looked at again: other queues have other interrupts.
const ROUNDS_MAX: usize = 3;

/// Something that is done.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    /// A program with its arguments.
    Run(Vec<String>),
    /// A value of a file of /proc or /sys.
    Write { file: PathBuf, value: String },
}

/// A change, and what takes it back.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
struct Step {
    change: Action,
    undo: Action,
}

/// What a report asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    steps: Vec<Step>,
    /// Commands that cannot be taken back, or need somebody to think.
    left: Vec<String>,
}

/// Makes `examine`'s report better; `is_dry` only prints the commands. True when all went well.
pub fn fix(
    examine: impl Fn() -> anyhow::Result<Report>,
    named: &[String],
    undo_file: &Path,
    is_dry: bool,
) -> anyhow::Result<bool> {
    let mut done: Vec<Step> = Vec::new();
    let mut is_well = true;
    for round in 0..ROUNDS_MAX {
        let plan = Plan::of(&examine()?, named, Step::of);
        if round == 0 {
            for command in &plan.left {
                say(&format!("# not done here: {command}"))?;
            }
        }
        let is_new = |step: &&Step| !done.contains(step);
        let steps: Vec<Step> = plan.steps.iter().filter(is_new).cloned().collect();
        if steps.is_empty() || is_dry {
            for step in &steps {
                say(&step.change.to_string())?;
            }
            if steps.is_empty() && done.is_empty() {
                say("# nothing to change")?;
            }
            break;
        }
        for step in steps {
            say(&step.change.to_string())?;
            remember(undo_file, &step)?;
            if let Err(error) = step.change.run() {
                eprintln!("flowsluice: {}: {error:#}", step.change);
                is_well = false;
            }
            done.push(step);
        }
    }
    if !done.is_empty() {
        let shown = undo_file.display();
        say(&format!(
            "# what was before stands in {shown}; 'flowsluice doctor --undo' restores it"
        ))?;
    }
    Ok(is_well)
}

/// Takes back what [`fix`] did, the last first. What cannot be taken back stays in the file.
pub fn undo(undo_file: &Path, is_dry: bool) -> anyhow::Result<bool> {
    let steps = remembered(undo_file)?;
    if steps.is_empty() {
        say("# nothing was changed")?;
    }
    let mut left = Vec::new();
    for step in steps.into_iter().rev() {
        say(&step.undo.to_string())?;
        if is_dry {
            continue;
        }
        if let Err(error) = step.undo.run() {
            eprintln!("flowsluice: {}: {error:#}", step.undo);
            left.insert(0, step);
        }
    }
    if !is_dry && undo_file.exists() {
        match left.is_empty() {
            true => fs::remove_file(undo_file)?,
            false => write(undo_file, &left)?,
        }
    }
    Ok(left.is_empty())
}

fn say(line: &str) -> io::Result<()> {
    match writeln!(io::stdout().lock(), "{line}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

impl Plan {
    /// Of the host and all interfaces, or of the `named` interfaces alone.
    fn of(report: &Report, named: &[String], step: impl Fn(&str) -> Option<Vec<Step>>) -> Self {
        let mut plan = Self::default();
        let sections = report.sections.iter();
        let chosen = sections.filter(|one| named.is_empty() || named.contains(&one.name));
        for mend in chosen
            .flat_map(|one| &one.checks)
            .flat_map(|check| &check.mend)
        {
            match mend {
                Mend::Run(command) => match step(command) {
                    Some(steps) => plan.steps.extend(steps),
                    None => plan.left.push(command.clone()),
                },
                Mend::Set(line) => plan.left.push(line.clone()),
            }
        }
        plan
    }
}

impl Step {
    /// What a command of the report changes, with what is now; `None` where that is not known.
    fn of(command: &str) -> Option<Vec<Self>> {
        let words: Vec<&str> = command.split_whitespace().collect();
        let one = |change: &[&str], undo: &[&str]| {
            let run = |words: &[&str]| Action::Run(words.iter().map(|&word| word.into()).collect());
            let (change, undo) = (run(change), run(undo));
            (change != undo).then(|| vec![Self { change, undo }])
        };
        match words[..] {
            ["sysctl", "-w", setting] => {
                let (name, value) = setting.split_once('=')?;
                let before = kernel::setting(name).ok()?;
                let file = Path::new("/proc/sys").join(name.replace('.', "/"));
                Some(vec![Self::written(&file, value, &before)])
            }
            ["echo", value, ">", file] => Some(vec![Self::replaced(Path::new(file), value)?]),
            ["for", "irq", "in", ..] => {
                let (numbers, rest) = command
                    .strip_prefix("for irq in ")?
                    .split_once("; do echo ")?;
                let (value, _) = rest.split_once(" > /proc/irq/$irq/smp_affinity_list")?;
                let file = |number| PathBuf::from(format!("/proc/irq/{number}/smp_affinity_list"));
                let steps = numbers
                    .split(' ')
                    .map(|number| Self::replaced(&file(number), value));
                steps.collect()
            }
            ["ethtool", flag @ "-L", name, kind, _] => {
                let channels = Ethtool::of(name).ok()?.channels().ok()?;
                let before = if kind == "rx" {
                    channels.rx
                } else {
                    channels.combined
                };
                one(&words, &["ethtool", flag, name, kind, &before.to_string()])
            }
            ["ethtool", flag @ "-G", name, "rx", _] => {
                let before = Ethtool::of(name).ok()?.rings().ok()?.rx;
                one(&words, &["ethtool", flag, name, "rx", &before.to_string()])
            }
            ["ethtool", flag @ "-N", name, "rx-flow-hash", family, _] => {
                let is_ipv6 = family.ends_with('6');
                let before = Ethtool::of(name).ok()?.udp_hash_fields(is_ipv6).ok()?;
                one(
                    &words,
                    &[
                        "ethtool",
                        flag,
                        name,
                        "rx-flow-hash",
                        family,
                        &before.letters(),
                    ],
                )
            }
            ["ethtool", flag @ "-K", name, feature, "off"] => {
                one(&words, &["ethtool", flag, name, feature, "on"])
            }
            ["ip", "link", "set", "dev", name, "mtu", _] => {
                let before = Interface::of(name).ok()?.mtu.to_string();
                one(&words, &["ip", "link", "set", "dev", name, "mtu", &before])
            }
            ["ip", "link", "set", "dev", name, "up"] => {
                one(&words, &["ip", "link", "set", "dev", name, "down"])
            }
            ["systemctl", "disable", "--now", unit] => {
                one(&words, &["systemctl", "enable", "--now", unit])
            }
            _ => None,
        }
    }

    /// A file of the kernel whose value is read now.
    fn replaced(file: &Path, value: &str) -> Option<Self> {
        let is_known = file.starts_with("/proc/irq") || file.starts_with("/sys");
        let before = fs::read_to_string(file).ok().filter(|_| is_known)?;
        Some(Self::written(file, value, before.trim()))
    }

    fn written(file: &Path, value: &str, before: &str) -> Self {
        let write = |value: &str| Action::Write {
            file: file.to_owned(),
            value: value.to_owned(),
        };
        Self {
            change: write(value),
            undo: write(before),
        }
    }
}

impl Action {
    fn run(&self) -> anyhow::Result<()> {
        let words = match self {
            Self::Write { file, value } => return Ok(fs::write(file, value)?),
            Self::Run(words) => words,
        };
        let (program, arguments) = words.split_first().context("a command has a program")?;
        let output = match Command::new(program).args(arguments).output() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                bail!("{program} is not here; install it")
            }
            output => output?,
        };
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(
            output.status.success(),
            "{}: {}",
            output.status,
            said.trim()
        );
        Ok(())
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(words) => f.write_str(&words.join(" ")),
            Self::Write { file, value } => write!(f, "echo {value} > {}", file.display()),
        }
    }
}

/// Refuses a file that somebody else may write: its commands are run with the rights of this user.
fn is_own(file: &Path) -> anyhow::Result<()> {
    let own = rustix::process::geteuid().as_raw();
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    for path in [folder, file] {
        let Ok(metadata) = fs::symlink_metadata(path) else {
            continue;
        };
        let is_safe = [0, own].contains(&metadata.uid()) && metadata.mode() & OTHERS_WRITE == 0;
        anyhow::ensure!(
            is_safe && !metadata.is_symlink(),
            "{} may be changed by others, and what stands there is run; name another --undo-file",
            path.display()
        );
    }
    Ok(())
}

/// Write permission of the group and of everybody.
const OTHERS_WRITE: u32 = 0o022;

/// The changes of a file, the first first; none where there is no file.
fn remembered(file: &Path) -> anyhow::Result<Vec<Step>> {
    is_own(file)?;
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.with_context(|| format!("{} cannot be read", file.display()))?,
    };
    let read = serde_json::from_str(&text);
    read.with_context(|| {
        let file = file.display();
        format!("{file} is not what --fix writes; undo by hand, then remove it")
    })
}

/// Adds a change that is about to be made.
fn remember(file: &Path, step: &Step) -> anyhow::Result<()> {
    let mut steps = remembered(file)?;
    steps.push(step.clone());
    write(file, &steps)
}

fn write(file: &Path, steps: &[Step]) -> anyhow::Result<()> {
    let shown = file.display();
    let partial = file.with_extension("partial");
    let written = fs::File::create(&partial).and_then(|mut out| {
        out.write_all(format!("{:#}\n", serde_json::json!(steps)).as_bytes())?;
        out.sync_all()
    });
    let placed = written.and_then(|()| fs::rename(&partial, file));
    placed.with_context(|| {
        format!("{shown} cannot be written, so nothing is changed; name another --undo-file")
    })
}

#[cfg(test)]
mod tests {
    use super::super::report::{Check, Section, State};
    use super::*;

    fn report(commands: &[&str]) -> Report {
        let advice = Check::new(State::Advice, "queues", "few");
        let check = commands
            .iter()
            .fold(advice, |check, command| check.run(*command));
        let section = |name: &str| Section {
            name: name.into(),
            what: String::new(),
            interface: None,
            checks: vec![check.clone()],
        };
        Report::new("none".into(), vec![section("host"), section("eth0")])
    }

    fn step(change: &str, undo: &str) -> Step {
        let run = |text: &str| Action::Run(text.split(' ').map(str::to_owned).collect());
        Step {
            change: run(change),
            undo: run(undo),
        }
    }

    #[test]
    fn what_cannot_be_taken_back_is_left_and_named_interfaces_are_all_that_changes() {
        let known = |command: &str| {
            command
                .starts_with("ethtool")
                .then(|| vec![step(command, "ethtool before")])
        };
        let report = report(&["ethtool -L eth0 combined 2", "setcap all /x"]);
        let plan = Plan::of(&report, &["eth0".into()], known);
        assert_eq!(
            plan.steps,
            [step("ethtool -L eth0 combined 2", "ethtool before")]
        );
        assert_eq!(plan.left, ["setcap all /x"]);
        assert_eq!(Plan::of(&report, &[], known).steps.len(), 2);
    }

    #[test]
    fn a_setting_of_the_kernel_is_written_with_what_was_before() {
        let name = "kernel.pid_max";
        let before = kernel::setting(name).unwrap();
        let steps = Step::of(&format!("sysctl -w {name}=4194304")).unwrap();
        let file = PathBuf::from("/proc/sys/kernel/pid_max");
        let expected = Action::Write {
            file,
            value: before,
        };
        assert_eq!(steps[0].undo, expected);
    }

    #[test]
    fn commands_that_would_touch_other_files_are_not_known() {
        for command in [
            "echo 1 > /etc/passwd",
            "rm -rf /",
            "ip -brief link",
            "sysctl -w net.no.such=1",
            "ethtool -X eth0 equal 4",
        ] {
            assert_eq!(Step::of(command), None, "{command}");
        }
        let offload = Step::of("ethtool -K eth0 lro off").unwrap();
        assert_eq!(
            offload,
            [step("ethtool -K eth0 lro off", "ethtool -K eth0 lro on")]
        );
    }

    #[test]
    fn changes_are_undone_the_last_first_and_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let (file, value) = (folder.path().join("undo.json"), folder.path().join("value"));
        fs::write(&value, "before").unwrap();
        for number in ["1", "2"] {
            let before = fs::read_to_string(&value).unwrap();
            let step = Step::written(&value, number, &before);
            remember(&file, &step).unwrap();
            step.change.run().unwrap();
        }
        assert_eq!(fs::read_to_string(&value).unwrap(), "2");
        assert!(undo(&file, true).unwrap());
        assert_eq!(
            fs::read_to_string(&value).unwrap(),
            "2",
            "a dry run changes nothing"
        );
        assert!(undo(&file, false).unwrap());
        assert_eq!(fs::read_to_string(&value).unwrap(), "before");
        assert!(!file.exists());
    }

    #[test]
    fn commands_that_somebody_else_may_have_written_are_not_run() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("undo.json");
        let set = |path: &Path, mode| {
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        };
        write(&file, &[step("ethtool a", "ethtool b")]).unwrap();
        assert_eq!(remembered(&file).unwrap().len(), 1);
        for (path, mode) in [(folder.path(), 0o770), (&*file, 0o646)] {
            set(path, mode);
            let told = remembered(&file).unwrap_err().to_string();
            assert!(told.contains("--undo-file"), "{told}");
            set(path, 0o700);
        }
        let link = folder.path().join("link.json");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(remembered(&link).is_err());
        assert!(undo(&link, false).is_err());
    }
}
