//! The configuration: what is taken is written down again to the same, what is refused is told.

use flowsluice::config::{self, display};

/// Reads a file.
///
/// # Panics
/// When a property does not hold.
pub fn config(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    match config::parse("f.toml", text) {
        Ok(config) => {
            // A password is masked, so it does not come back.
            if config.store.password.is_none() {
                let written = display::toml(&config);
                match config::parse("f.toml", &written) {
                    Ok(again) => assert_eq!(again, config, "{written}"),
                    Err(error) => panic!("it does not take what it wrote: {error}\n{written}"),
                }
            }
        }
        Err(error) => {
            assert!(!error.problems.is_empty(), "refused without a reason");
            let lines = text.lines().count().max(1);
            for problem in &error.problems {
                assert!(!problem.text.is_empty());
                // One past the last: where the end of the file is what is wrong.
                assert!(
                    problem
                        .line
                        .is_none_or(|line| (1..=lines + 1).contains(&line))
                );
            }
            let told = error.to_string();
            // What was found is shown as the file has it, and TOML allows tabs.
            let is_odd = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
            assert!(
                !told.contains(is_odd),
                "it would garble a terminal: {told:?}"
            );
        }
    }
}
