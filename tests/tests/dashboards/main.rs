//! Grafana's dashboards: every query on real ClickHouse as the reading user, every figure of
//! Overview against the flows, both editions against each other, all of it against Grafana's types.

mod alerts;
mod editions;
mod host;
mod overview;
mod provisioning;
mod queries;
mod types;

use anyhow::Result;
use host::Host;

#[test]
fn every_query_answers_what_its_panel_needs_and_overview_is_what_the_flows_say() -> Result<()> {
    let Some(host) = Host::start()? else {
        return Ok(());
    };
    host.fill()?;
    overview::is_what_the_flows_say(&host)?;
    overview::follows_each_filter(&host)?;
    overview::records_follow_each_filter(&host)?;
    host.wait_for_stats()?;
    queries::panels_answer(&host)?;
    queries::variables_list_values(&host)?;
    overview::losses_are_those_of_the_ledger(&host)?;
    alerts::answer_and_fire(&host)
}

#[test]
fn flows_of_an_exporter_switched_to_ingress_count_once() -> Result<()> {
    let Some(host) = Host::start()? else {
        return Ok(());
    };
    queries::the_switch_counts_once(&host)
}
