//! `flowsluice import elastiflow`: what is written is a configuration that `check` accepts.

use std::path::Path;

use anyhow::Result;
use flowsluice_tests::program::{run_in, said};

/// The settings that the guide for ElastiFlow has its readers edit.
const FILES: [(&str, &str); 6] = [
    (
        "logstash.service.d/elastiflow.conf",
        "[Service]\nEnvironment=\"ELASTIFLOW_NETFLOW_IPV4_PORT=9995\"\n\
         Environment=\"ELASTIFLOW_RESOLVE_IP2HOST=true\"\n\
         Environment=\"ELASTIFLOW_NAMESERVER=127.0.0.1\"\n\
         Environment=\"ELASTIFLOW_ES_HOST=127.0.0.1:9200\"\n\
         Environment=\"ELASTIFLOW_GEOIP_LOOKUP=false\"\n\
         Environment=\"ELASTIFLOW_ASN_LOOKUP=false\"\n",
    ),
    (
        "elastiflow/dictionaries/app_id.srctype.yml",
        "\"192.0.2.1\": \"cisco_nbar2\"\n\"192.0.2.2\": \"fortinet\"\n",
    ),
    (
        "elastiflow/user_settings/sampling_interval.yml",
        "\"192.0.2.1\": 1024\n",
    ),
    (
        "elastiflow/user_settings/ifName.yml",
        "\"192.0.2.1::ifName.0\": \"eth0\"\n\"192.0.2.1::ifName.3\": \"eth3\"\n",
    ),
    (
        "elastiflow/user_settings/applications.yml",
        "\"192.0.2.1:5601\": \"kibana\"\n",
    ),
    (
        "elastiflow/user_settings/ip_rep_whitelist.yml",
        "\"1.1.1.1\": \"true\"\n",
    ),
];

fn lay(folder: &Path) -> Result<()> {
    for (name, contents) in FILES {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("it has a folder"))?;
        std::fs::write(path, contents)?;
    }
    Ok(())
}

#[test]
fn settings_are_taken_over_told_and_accepted_by_check() -> Result<()> {
    let folder = tempfile::tempdir()?;
    lay(&folder.path().join("old"))?;
    let output = run_in(folder.path(), &["import", "elastiflow", "old"])?;
    let told = said(&output);
    assert!(output.status.success(), "{told}");
    for part in [
        "elastiflow.conf:2: ELASTIFLOW_NETFLOW_IPV4_PORT=9995 -> receive.listeners: 0.0.0.0:9995",
        "elastiflow.conf:3: ELASTIFLOW_RESOLVE_IP2HOST=true -> enrich.dns.names = \"both\"",
        "elastiflow.conf:5: ELASTIFLOW_ES_HOST: not needed",
        "sampling_interval.yml:1: 192.0.2.1: 1024",
        "ifName.yml:1: to line 2: 2 of 2 entries -> interfaces.csv",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let made = folder.path().join("flowsluice-import");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&made)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let expected = [
        "applications.csv",
        "flowsluice.toml",
        "interfaces.csv",
        "threats_whitelist.txt",
    ];
    assert_eq!(names, expected);
    let file = made.join("flowsluice.toml").display().to_string();
    let output = run_in(folder.path(), &["check", "--config", &file])?;
    let told = said(&output);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("sampling_rate = 1024"), "{told}");
    assert!(
        told.contains(&made.join("interfaces.csv").display().to_string()),
        "{told}"
    );
    Ok(())
}

#[test]
fn nothing_is_written_over_without_force() -> Result<()> {
    let folder = tempfile::tempdir()?;
    lay(&folder.path().join("old"))?;
    let csv = folder.path().join("new/applications.csv");
    std::fs::create_dir(folder.path().join("new"))?;
    std::fs::write(&csv, "mine")?;
    let arguments = [
        "import",
        "elastiflow",
        "old",
        "--output",
        "new/flowsluice.toml",
    ];
    let output = run_in(folder.path(), &arguments)?;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains("applications.csv is there; --force"),
        "{}",
        said(&output)
    );
    assert_eq!(std::fs::read_to_string(&csv)?, "mine");
    assert!(
        !folder.path().join("new/flowsluice.toml").exists(),
        "all or nothing"
    );
    let more = ["--force", "--install-dir", "/etc/flowsluice"];
    let output = run_in(folder.path(), &[&arguments[..], &more].concat())?;
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output).contains("copy them from"),
        "{}",
        said(&output)
    );
    assert!(std::fs::read_to_string(&csv)?.contains("kibana"));
    let text = std::fs::read_to_string(folder.path().join("new/flowsluice.toml"))?;
    assert!(text.contains("/etc/flowsluice/applications.csv"), "{text}");
    Ok(())
}

#[test]
fn a_setting_that_cannot_be_read_fails_and_the_others_are_written() -> Result<()> {
    let folder = tempfile::tempdir()?;
    lay(&folder.path().join("old"))?;
    let bad = folder
        .path()
        .join("old/elastiflow/user_settings/sampling_interval.yml");
    std::fs::write(bad, "\"router\": 1024\n\"192.0.2.1\": 2048\n")?;
    let output = run_in(folder.path(), &["import", "elastiflow", "old"])?;
    let told = said(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains("sampling_interval.yml:1: \"router\" is no address"),
        "{told}"
    );
    assert!(
        told.contains("import: 1 settings could not be read"),
        "{told}"
    );
    let text = std::fs::read_to_string(folder.path().join("flowsluice-import/flowsluice.toml"))?;
    assert!(text.contains("sampling_rate = 2048"), "{text}");
    Ok(())
}

#[test]
fn a_folder_that_is_none_is_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let output = run_in(folder.path(), &["import", "elastiflow", "nowhere"])?;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains("nowhere cannot be read"),
        "{}",
        said(&output)
    );
    Ok(())
}
