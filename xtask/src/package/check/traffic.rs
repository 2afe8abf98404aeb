//! Flows that are sent to the service, and what becomes of them.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use flowsluice_tests::Totals;
use flowsluice_tests::grafana::{Dashboard, Range, expand};
use flowsluice_tests::pcap::{Capture, Transport};

use super::machine::Machine;
use super::saw;

const CONVERSATIONS: u8 = 100;
/// How long a stop may take.
const STOP_MAX: Duration = Duration::from_secs(5);
const TRIES: u32 = 3;
const FED: &str = "/opt/fed.pcap";
/// What is sent before it.
const FLOWS: &str = "60000";
/// Where the collector listens for NetFlow as it is installed.
const TARGET: &str = "127.0.0.1:2055";

/// An exporter of Debian is fed a capture: every flow is a row.
pub fn of_softflowd(machine: &Machine) -> Result<()> {
    let mut capture = Capture::default();
    let server = (IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 53);
    for number in 1..=CONVERSATIONS {
        let client = IpAddr::V4(Ipv4Addr::new(198, 51, 100, number));
        capture.add(Transport::Udp, (client, 20_000), server, 100);
    }
    feed(machine, &capture)?;
    let sums = "SELECT count(), sum(raw_bytes), sum(raw_packets) FROM flows";
    let fed = capture.fed();
    let wanted = format!("{CONVERSATIONS}\t{}\t{}", fed.bytes, fed.packets);
    machine.until_answer(sums, &wanted)?;
    saw(&format!(
        "softflowd: {CONVERSATIONS} flows sent, {CONVERSATIONS} rows, the same bytes"
    ));
    Ok(())
}

/// Has softflowd export what it sees in a capture.
pub fn feed(machine: &Machine, capture: &Capture) -> Result<()> {
    capture.write(&machine.root().path(FED))?;
    let softflowd = ["softflowd", "-d", "-c", "none", "-p", "/run/softflowd.pid"];
    let export = ["-v", "10", "-n", TARGET, "-r", FED];
    machine.run(&[&softflowd[..], &export].concat())?;
    fs::remove_file(machine.root().path(FED))?;
    Ok(())
}

/// Everything that the dashboards ask is answered under the service's confinement.
pub fn is_asked_by_dashboards(machine: &Machine) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mut asked = 0;
    for dashboard in Dashboard::all("en")? {
        let everything = dashboard.everything();
        for panel in dashboard.panels()? {
            for range_s in [1800, 86_400] {
                if panel.sql.is_empty() {
                    continue;
                }
                let range = Range {
                    from_s: now - range_s,
                    to_s: now,
                };
                machine.ask(&expand(&panel.sql, &everything, range)?)?;
                asked += 1;
            }
        }
    }
    ensure!(asked > 200, "only {asked} queries");
    saw(&format!(
        "{asked} queries of all dashboards' panels answered"
    ));
    Ok(())
}

/// Stopped right behind the last datagram: in time, and every flow is there after the next start.
/// A host that is busy with other things has three tries to be in time, none to lose anything.
pub fn outlasts_a_stop(machine: &Machine) -> Result<()> {
    let mut best = Duration::MAX;
    for _ in 0..TRIES {
        best = best.min(stop(machine)?);
        if best < STOP_MAX {
            break;
        }
    }
    ensure!(best < STOP_MAX, "it took {best:?} to stop at best");
    let seconds = best.as_secs_f64();
    saw(&format!(
        "stopped within {seconds:.1} s right behind {FLOWS} flows: none lost"
    ));
    Ok(())
}

/// Sends, stops at once, and starts again; how long the stop took.
fn stop(machine: &Machine) -> Result<Duration> {
    let before: u64 = machine.ask("SELECT count() FROM flows")?.parse()?;
    let said = machine.run(&[
        "flowsluice",
        "generate",
        "--json",
        "--target",
        TARGET,
        "--rate",
        "20000",
        "--flows",
        FLOWS,
    ])?;
    let sent = Totals::last_of(&said)?;
    let start = Instant::now();
    machine.run(&["systemctl", "stop", "flowsluice"])?;
    let took = start.elapsed();
    let result = machine.property("Result")?;
    ensure!(result == "success", "{result}\n{}", machine.journal());
    machine.run(&["systemctl", "start", "flowsluice"])?;
    let wanted = before + sent.flows;
    machine.until_answer("SELECT count() FROM flows", &wanted)?;
    Ok(took)
}
