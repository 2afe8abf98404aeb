//! The dashboards against the types that Grafana publishes, by TypeScript's own compiler.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use flowsluice_tests::grafana::{Dashboard, Panel};
use flowsluice_tests::place;
use serde_json::Value;

/// Folders in which `@grafana/schema` has the types of a panel, where that is another name.
const FOLDERS: [(&str, &str); 2] = [
    ("state-timeline", "statetimeline"),
    ("status-history", "statushistory"),
];
/// Panels that Grafana has not.
const FOREIGN: [&str; 1] = ["netsage-sankey-panel"];

#[test]
fn dashboards_are_of_the_types_that_grafana_publishes() -> Result<()> {
    let installed = place::target().join("grafana-types");
    if !installed.join("node_modules/typescript").is_dir() {
        place::skip("@grafana/schema is not here; run 'cargo xtask test'");
        return Ok(());
    }
    let Some(node) = place::program_or_skip("node", "npm") else {
        return Ok(());
    };
    let folder = tempfile::tempdir_in(&installed)?;
    let plain = place::root().join("tests/grafana-types/plain.ts");
    fs::copy(plain, folder.path().join("plain.ts"))?;
    for language in ["en", "ja"] {
        for dashboard in Dashboard::all(language)? {
            let file = format!("{language}-{}.ts", dashboard.name);
            fs::write(folder.path().join(file), typed(&dashboard, &installed)?)?;
        }
    }
    let (success, said) = compile(&node, &installed, folder.path())?;
    ensure!(success, "{said}");
    // What the compiler would let pass, it would let pass above as well.
    let wrong = [
        ("unknown-key", "panels: [{ type: 'stat', titel: 'x' }]"),
        (
            "wrong-type",
            "panels: [{ type: 'stat', gridPos: { x: '0', y: 0, w: 1, h: 1 } }]",
        ),
        (
            "wrong-word",
            "templating: { list: [{ name: 'x', type: 'querry' }] }",
        ),
    ];
    for (name, line) in wrong {
        let text =
            format!("{HEAD}const d: Plain<Dashboard> = {{ schemaVersion: 41, {line} }};\n{TAIL}");
        fs::write(folder.path().join(format!("{name}.ts")), text)?;
    }
    let (success, said) = compile(&node, &installed, folder.path())?;
    ensure!(!success, "wrong dashboards pass");
    for (name, _) in wrong {
        ensure!(said.contains(name), "{name} passes:\n{said}");
    }
    Ok(())
}

const HEAD: &str = "import type { Dashboard } from '@grafana/schema';\n\
                    import type { Given, Plain } from './plain';\n";
const TAIL: &str = "export default d;\n";

/// A dashboard as a constant of its type, and the options of each panel as constants of theirs.
fn typed(dashboard: &Dashboard, installed: &Path) -> Result<String> {
    let mut text = HEAD.to_owned();
    let _ = write!(
        text,
        "const d: Plain<Dashboard> = {};\n{TAIL}",
        dashboard.json
    );
    for (at, panel) in dashboard.panels()?.iter().enumerate() {
        let Panel {
            kind, json, title, ..
        } = panel;
        if kind == "row" || FOREIGN.contains(&kind.as_str()) {
            continue;
        }
        let folder = FOLDERS
            .iter()
            .find(|(name, _)| name == kind)
            .map_or(kind.as_str(), |f| f.1);
        let types = format!(
            "node_modules/@grafana/schema/dist/types/raw/composable/{folder}/panelcfg/x/types.gen"
        );
        let declared = fs::read_to_string(installed.join(format!("{types}.d.ts")));
        let declared = declared.with_context(|| format!("{title}: Grafana has no panel {kind}"))?;
        let _ = writeln!(text, "import type * as p{at} from '../{types}';");
        let _ = writeln!(
            text,
            "export const o{at}: Given<Plain<p{at}.Options>> = {};",
            json["options"]
        );
        let custom = &json["fieldConfig"]["defaults"]["custom"];
        if declared.contains("export interface FieldConfig ") && *custom != Value::Null {
            let _ = writeln!(
                text,
                "export const c{at}: Given<Plain<p{at}.FieldConfig>> = {custom};"
            );
        }
    }
    Ok(text)
}

fn compile(node: &Path, installed: &Path, folder: &Path) -> Result<(bool, String)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        files.push(entry?.path());
    }
    let output = Command::new(node)
        .arg(installed.join("node_modules/typescript/bin/tsc"))
        .args(["--noEmit", "--strict", "--skipLibCheck"])
        .args([
            "--module",
            "esnext",
            "--moduleResolution",
            "bundler",
            "--target",
            "es2022",
        ])
        .args(&files)
        .current_dir(installed)
        .output()
        .context("run tsc")?;
    Ok((
        output.status.success(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
    ))
}
