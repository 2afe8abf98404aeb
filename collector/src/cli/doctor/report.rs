//! What was found, as text for people and as JSON for programs.

use std::fmt::Write as _;

use serde::Serialize;

use flowsluice::host::Interface;

/// How good what was found is. In the order in which one outdoes the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it should be.
    Ok,
    /// It could not be found out.
    Unknown,
    /// It works, and could be better.
    Advice,
    /// Something that is configured does not work.
    Problem,
}

/// What to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mend {
    /// A command for a root shell.
    Run(String),
    /// A line of a file, and which.
    Set(String),
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// How good it is.
    pub state: State,
    /// What was looked at, a word or two.
    pub subject: &'static str,
    /// What was found, a line.
    pub found: String,
    /// What mends it: everything of it, in order.
    pub mend: Vec<Mend>,
}

/// The host, or one interface.
#[derive(Clone, Debug, Serialize)]
pub struct Section {
    /// `host`, or the interface's name.
    pub name: String,
    /// What it is, for the title.
    pub what: String,
    /// What the kernel tells of the interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<Interface>,
    /// In the order they are read.
    pub checks: Vec<Check>,
}

/// Everything.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The worst of all checks.
    pub state: State,
    /// The configuration's file, or that there is none.
    pub configuration: String,
    /// The host first.
    pub sections: Vec<Section>,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Advice => "advice",
            Self::Problem => "problem",
        }
    }
}

impl Check {
    /// Something in a state that nothing has to be done about, or nothing can.
    pub fn new(state: State, subject: &'static str, found: impl Into<String>) -> Self {
        Self {
            state,
            subject,
            found: found.into(),
            mend: Vec::new(),
        }
    }

    /// Something as it should be.
    pub fn ok(subject: &'static str, found: impl Into<String>) -> Self {
        Self::new(State::Ok, subject, found)
    }

    /// Something that could not be found out.
    pub fn unknown(subject: &'static str, found: impl Into<String>) -> Self {
        Self::new(State::Unknown, subject, found)
    }

    /// With a command that mends it.
    pub fn run(mut self, command: impl Into<String>) -> Self {
        self.mend.push(Mend::Run(command.into()));
        self
    }

    /// With a line of a file that mends it.
    pub fn set(mut self, line: impl Into<String>) -> Self {
        self.mend.push(Mend::Set(line.into()));
        self
    }
}

impl Report {
    /// Of what was found with a configuration.
    pub fn new(configuration: String, sections: Vec<Section>) -> Self {
        let checks = sections.iter().flat_map(|section| &section.checks);
        let state = checks.map(|check| check.state).max();
        Self {
            state: state.unwrap_or(State::Ok),
            configuration,
            sections,
        }
    }

    /// Aligned for people; a line a check, the commands below it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for section in &self.sections {
            let gap = if text.is_empty() { "" } else { "\n" };
            line(
                &mut text,
                &format!("{gap}# --- {}: {}", section.name, section.what),
            );
            for check in &section.checks {
                let state = check.state.name();
                line(
                    &mut text,
                    &format!("{state:<9}{:<15}{}", check.subject, check.found),
                );
                for mend in &check.mend {
                    let (verb, what) = match mend {
                        Mend::Run(command) => ("run", command),
                        Mend::Set(line) => ("set", line),
                    };
                    line(&mut text, &format!("{:<24}{verb}  {what}", ""));
                }
            }
        }
        let counts = [State::Ok, State::Advice, State::Problem, State::Unknown].map(|state| {
            let checks = self.sections.iter().flat_map(|section| &section.checks);
            let count = checks.filter(|check| check.state == state).count();
            format!("{count} {}", state.name())
        });
        line(
            &mut text,
            &format!("\n{}: {}", self.configuration, counts.join(", ")),
        );
        text
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{}", line.trim_end()).expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let check = Check::new(State::Advice, "queues", "1 for 2 workers: one is idle");
        let checks = vec![
            Check::ok("link", "up"),
            check
                .run("ethtool -L eth0 combined 2")
                .set("workers = 1 in [receive]"),
            Check::unknown("zero-copy", "the kernel tells since 6.3"),
        ];
        let section = Section {
            name: "eth0".into(),
            what: "1 RX queue".into(),
            interface: None,
            checks,
        };
        let host = Section {
            name: "host".into(),
            what: "Linux 6.1".into(),
            interface: None,
            checks: vec![Check::ok("kernel", "6.1")],
        };
        Report::new("built-in defaults".into(), vec![host, section])
    }

    #[test]
    fn people_read_aligned_lines_with_the_commands_below() {
        let expected = "\
# --- host: Linux 6.1
ok       kernel         6.1

# --- eth0: 1 RX queue
ok       link           up
advice   queues         1 for 2 workers: one is idle
                        run  ethtool -L eth0 combined 2
                        set  workers = 1 in [receive]
unknown  zero-copy      the kernel tells since 6.3

built-in defaults: 2 ok, 1 advice, 0 problem, 1 unknown
";
        assert_eq!(report().text(), expected);
    }

    #[test]
    fn programs_read_the_same_as_json() {
        let json: serde_json::Value = serde_json::from_str(&report().json().unwrap()).unwrap();
        assert_eq!(json["state"], "advice");
        let queues = &json["sections"][1]["checks"][1];
        assert_eq!(queues["state"], "advice");
        assert_eq!(queues["mend"][0]["run"], "ethtool -L eth0 combined 2");
        assert_eq!(queues["mend"][1]["set"], "workers = 1 in [receive]");
    }

    #[test]
    fn the_worst_check_is_the_state_of_all() {
        let with = |state| {
            let mut sections = report().sections;
            sections[0].checks.push(Check::new(state, "more", ""));
            Report::new(String::new(), sections).state
        };
        assert_eq!(with(State::Problem), State::Problem);
        assert_eq!(with(State::Unknown), State::Advice);
        assert_eq!(Report::new(String::new(), Vec::new()).state, State::Ok);
    }
}
