//! `receive.limit`: a sender that sends too much loses what is beyond, counted; nobody else does.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use anyhow::Result;
use flowsluice_tests::collector::assert_accounted;
use flowsluice_tests::{Collector, Settings, Store, wire};

const BURST: u64 = 40;
const SENT: u32 = 2000;

/// A sender with an address of its own.
fn sender(last: u8) -> Result<UdpSocket> {
    Ok(UdpSocket::bind((Ipv4Addr::new(127, 0, 9, last), 0))?)
}

#[test]
fn a_sender_beyond_its_limit_is_cut_and_counted_and_others_are_not() -> Result<()> {
    let mut settings = Settings::new(Store::Null);
    let limit = format!(
        "limit = {{ rate = 1, burst = {BURST}, exporters = [{{ source = \"127.0.9.2/32\", \
         rate = 0 }}] }}"
    );
    settings.receive = format!("allow = [\"127.0.9.0/24\"]\n{limit}\n");
    let collector = Collector::start(&settings)?;
    let (hot, free, calm) = (sender(1)?, sender(2)?, sender(3)?);
    for sequence in 0..SENT {
        for sender in [&hot, &free] {
            sender.send_to(&wire::netflow5(sequence, 1), collector.target())?;
        }
        if sequence < BURST as u32 {
            calm.send_to(&wire::netflow5(sequence, 1), collector.target())?;
        }
        // Not more at once than the smallest buffer holds.
        if sequence % 100 == 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    // It is not allowed, and that is why it is dropped, however much it sends.
    let stranger = UdpSocket::bind((Ipv4Addr::new(127, 0, 8, 1), 0))?;
    for sequence in 0..2 * BURST as u32 {
        stranger.send_to(&wire::netflow5(sequence, 1), collector.target())?;
    }
    let sent = u64::from(SENT) * 2 + BURST + 2 * BURST;
    let ledger = collector.settle(sent)?;
    assert_accounted(&ledger, sent);
    assert_eq!(ledger.counter("datagrams_dropped_by_kernel"), 0);
    let cut = ledger.dropped("exporter_rate_limited");
    // A datagram a second passes beside the burst; a busy machine may take a while for all of them.
    let most = u64::from(SENT) - BURST;
    assert!((most - 120..=most).contains(&cut), "{cut} of {most}");
    assert_eq!(ledger.dropped("exporter_not_allowed"), 2 * BURST);
    assert_eq!(ledger.counter("flows_decoded"), sent - 2 * BURST - cut);
    let page = collector.page("/metrics")?;
    let reason = "reason=\"exporter_rate_limited\"";
    let mut series = page.lines().filter(|line| line.contains(reason));
    let is_told = series.any(|line| line.ends_with(&format!(" {cut}")));
    assert!(is_told, "/metrics does not tell of it");
    another_limit_is_taken_over(&collector, &limit, sent, [&hot, &free, &calm])
}

/// The other way round: who was limited is not any more, and who was not is.
fn another_limit_is_taken_over(
    collector: &Collector,
    before: &str,
    mut sent: u64,
    [hot, free, calm]: [&UdpSocket; 3],
) -> Result<()> {
    let now = format!(
        "limit = {{ rate = 0, exporters = [{{ source = \"127.0.9.2/32\", rate = 1, \
         burst = {BURST} }}] }}"
    );
    collector.reload(before, &now, "receive.limit is taken over")?;
    let mut cut_of = |sender: &UdpSocket, count: u64| -> Result<u64> {
        let cut = || -> Result<u64> {
            Ok(collector
                .status()?
                .ledger()
                .dropped("exporter_rate_limited"))
        };
        let cut_before: u64 = cut()?;
        for sequence in 0..count as u32 {
            sender.send_to(&wire::netflow5(sequence, 1), collector.target())?;
        }
        sent += count;
        assert_accounted(&collector.settle(sent)?, sent);
        Ok(cut()? - cut_before)
    };
    // The turn that takes this one still has the limits of before.
    cut_of(calm, 1)?;
    assert_eq!(cut_of(hot, 2 * BURST)?, 0);
    let cut = cut_of(free, 2 * BURST)?;
    assert!((BURST / 2..=BURST).contains(&cut), "{cut}");
    let log = collector.tail();
    assert!(!log.contains("restart flowsluice"), "{log}");
    Ok(())
}
