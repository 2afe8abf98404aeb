//! AF_XDP receive over a veth pair between two network namespaces: which datagrams come by it,
//! which by the kernel's sockets, and that each is counted once.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use flowsluice_tests::collector::assert_accounted;
use flowsluice_tests::generator::generate;
use flowsluice_tests::namespace::{COLLECTOR, EXPORTER, STRANGER, address_command, ipv4, ipv6};
use flowsluice_tests::packet::{self, Between, SERVICE_VLAN, VLAN};
use flowsluice_tests::process::{Signal, pause, signal_pid};
use flowsluice_tests::wire::{self, Sender};
use flowsluice_tests::{Collector, Ledger, Settings, Status, Store, Veth};
use serde_json::Value;

/// Records of each datagram.
const RECORDS: u16 = 3;
/// Records of a datagram that needs three fragments of 1500 bytes: 3000 bytes.
const FRAGMENTED_RECORDS: u16 = 62;
const FRAGMENTS: u64 = 3;
/// How late the program's counters are seen, and a good deal more.
const SEEN_MAX: Duration = Duration::from_secs(60);

/// A collector of two workers that stores nothing and steers its end of the cable.
fn steered(veth: &Veth, attach: &str) -> Settings {
    Settings {
        receive_mode: "af_xdp",
        workers: 2,
        namespace: Some(veth.collector.name().to_owned()),
        more: format!(
            "\n[receive.xdp]\ninterfaces = [\"{}\"]\nattach = \"{attach}\"\n\
             verify_checksum = false\n",
            Veth::COLLECTOR
        ),
        ..Settings::new(Store::Null)
    }
}

/// Sends from so many sockets, whose ports spread over the queues; each sends `payload` twice.
/// Yields how many datagrams that are.
fn send(veth: &Veth, from: IpAddr, to: SocketAddr, sockets: u64, payload: &[u8]) -> Result<u64> {
    veth.exporter.run(|| {
        for _ in 0..sockets {
            let mut sender = Sender::between(from, to)?;
            sender.send(payload)?;
            sender.send(payload)?;
        }
        Ok(2 * sockets)
    })?
}

/// Sends a datagram from each of 16 ports in frames with such tags.
fn send_tagged(
    veth: &Veth,
    from: IpAddr,
    to: SocketAddr,
    tags: &[(u16, u16)],
    payload: &[u8],
) -> Result<u64> {
    let frame = |port| {
        let from = SocketAddr::new(from, port);
        let packet = packet::udp(from, to, Between::Nothing, payload)?;
        Ok(packet::frame(Veth::COLLECTOR_MAC, tags, &packet))
    };
    let frames = (40_000..40_016).map(frame).collect::<Result<Vec<_>>>()?;
    (veth.exporter).run(|| packet::send_frames(&frames, Veth::EXPORTER))??;
    Ok(frames.len() as u64)
}

/// The addresses of the exporter's host and of the collector, IPv4 and IPv6.
fn pairs(exporter: u8) -> [(IpAddr, IpAddr); 2] {
    let (v4, v6) = (ipv4(exporter), ipv6(exporter));
    [(v4, ipv4(COLLECTOR)), (v6, ipv6(COLLECTOR))]
}

/// Waits until `sent` datagrams have arrived, `redirected` of them by AF_XDP, and all is counted.
fn settled(collector: &Collector, sent: u64, redirected: u64) -> Result<Ledger> {
    let what = format!("{sent} datagrams arrived, {redirected} of them redirected");
    let status = collector.wait_until(&what, SEEN_MAX, |status| {
        let ledger = status.ledger();
        ledger.datagrams_arrived() == sent
            && ledger.frames("redirected") == redirected
            && ledger.flows_under_way() == 0
    });
    let status = match status {
        Ok(status) => status,
        Err(error) => bail!("{error:#}\n{:?}", collector.status()?.at("/ledger/frames")),
    };
    assert_accounted(&status.ledger(), sent);
    Ok(status.ledger())
}

/// Stops the collector: it counted `sent` datagrams to the end and not one twice, and took its
/// program off the interface.
fn assert_stops_with(collector: Collector, veth: &Veth, sent: u64) -> Result<()> {
    let stopped = collector.stop()?;
    assert_eq!(stopped.datagrams_arrived(), sent, "{stopped:?}");
    assert_eq!(stopped.unaccounted, 0, "{stopped:?}");
    assert_eq!(veth.xdp()?, None, "the program is detached");
    Ok(())
}

/// Lays a cable, starts the collector that `settings` wants in its namespace, and has `test` go on
/// there; nothing, where that cannot be done.
fn on_a_cable(
    settings: impl FnOnce(&Veth) -> Settings,
    test: impl FnOnce(&Veth, Collector) -> Result<()>,
) -> Result<()> {
    let Some(veth) = Veth::new_or_skip()? else {
        return Ok(());
    };
    let _inside = veth.collector.enter()?;
    let collector = Collector::start(&settings(&veth))?;
    test(&veth, collector)
}

/// [`on_a_cable`] with the program in the driver.
fn in_the_driver(test: impl FnOnce(&Veth, Collector) -> Result<()>) -> Result<()> {
    on_a_cable(|veth| steered(veth, "native"), test)
}

fn received_by(status: &Status, worker: usize) -> u64 {
    let pointer = format!("/workers/{worker}/counters/datagrams_received");
    status.at(&pointer).and_then(Value::as_u64).unwrap_or(0)
}

#[test]
fn every_kind_of_frame_comes_by_af_xdp_in_the_driver() -> Result<()> {
    every_kind_of_frame("native", "af_xdp_native")
}

#[test]
fn every_kind_of_frame_comes_by_af_xdp_after_the_driver() -> Result<()> {
    every_kind_of_frame("skb", "af_xdp_skb")
}

fn every_kind_of_frame(attach: &str, mode: &str) -> Result<()> {
    on_a_cable(
        |veth| steered(veth, attach),
        |veth, collector| {
            assert!(veth.xdp()?.is_some(), "a program is attached");
            let payload = wire::netflow5(0, RECORDS);
            let mut sent = 0;
            for (from, to) in pairs(EXPORTER) {
                let to = SocketAddr::new(to, collector.port());
                sent += send(veth, from, to, 16, &payload)?;
                settled(&collector, sent, sent).with_context(|| format!("{attach}, {from}"))?;
                for tags in [
                    &[(VLAN, 100)][..],
                    &[(SERVICE_VLAN, 100), (VLAN, 200)],
                    &[(VLAN, 100), (VLAN, 200)],
                ] {
                    sent += send_tagged(veth, from, to, tags, &payload)?;
                    settled(&collector, sent, sent)
                        .with_context(|| format!("{attach}, {from}, tags {tags:04x?}"))?;
                }
                let three = [(SERVICE_VLAN, 1), (VLAN, 2), (VLAN, 3)];
                send_tagged(veth, from, to, &three, &payload)?;
            }
            let status = collector.status()?;
            let interface = status.at("/receive/interfaces/0").context("an interface")?;
            let expected = serde_json::json!({"name": Veth::COLLECTOR, "mode": mode, "queues": 2});
            assert_eq!(*interface, expected);
            // Behind the driver a veth does not tell queues apart: all frames are of the first.
            let queues = if attach == "native" { 2 } else { 1 };
            for worker in 0..queues {
                assert!(
                    received_by(&status, worker) > 0,
                    "worker {worker}, queue {worker}"
                );
            }
            let ledger = status.ledger();
            let flows = sent * u64::from(RECORDS);
            assert_eq!(ledger.counter("flows_decoded"), flows);
            assert_eq!(ledger.losses(), [("store_null".to_owned(), flows)]);
            let exporters = status.at("/exporters").and_then(Value::as_array);
            let seen: BTreeSet<_> = (exporters.into_iter().flatten())
                .map(|exporter| exporter["source"].as_str().unwrap_or_default())
                .collect();
            let sources = [ipv4(EXPORTER), ipv6(EXPORTER)].map(|source| source.to_string());
            assert_eq!(
                seen,
                sources.iter().map(String::as_str).collect(),
                "they are who they are"
            );
            assert_stops_with(collector, veth, sent)
        },
    )
}

#[test]
fn every_protocol_of_the_generator_is_decoded_from_the_rings() -> Result<()> {
    in_the_driver(|veth, collector| {
        let binary = steered(veth, "native").binary;
        // One exporter a protocol: from one address, two would mix their templates up.
        let arguments = ["--rate", "20000", "--flows", "40000", "--exporters", "4"];
        // The generator's datagrams fill packets of IPv4; by IPv6 they would come in fragments.
        let target = SocketAddr::new(ipv4(COLLECTOR), collector.port());
        let folder = collector.folder();
        let sent = (veth.exporter).run(|| generate(&binary, target, &arguments, folder))??;
        let ledger = settled(&collector, sent.datagrams, sent.datagrams)?;
        assert_eq!(ledger.counter("flows_decoded"), sent.flows);
        assert_eq!(ledger.losses(), [("store_null".to_owned(), sent.flows)]);
        for protocol in ["netflow5", "netflow9", "ipfix", "sflow5"] {
            let datagrams = ledger.counter(&format!("datagrams_{protocol}"));
            assert!(datagrams > 0, "{protocol}");
        }
        assert_stops_with(collector, veth, sent.datagrams)
    })
}

#[test]
fn what_the_program_passes_comes_by_the_kernel_once_or_is_not_ours_in_the_driver() -> Result<()> {
    passed("native")
}

#[test]
fn what_the_program_passes_comes_by_the_kernel_once_or_is_not_ours_after_the_driver() -> Result<()>
{
    passed("skb")
}

fn passed(attach: &str) -> Result<()> {
    on_a_cable(
        |veth| steered(veth, attach),
        |veth, collector| {
            let payload = wire::netflow5(0, RECORDS);
            let (mut plain, mut fragmented, mut with_options) = (0, 0, 0);
            for (from, to) in pairs(EXPORTER) {
                let to = SocketAddr::new(to, collector.port());
                plain += send(veth, from, to, 4, &payload)?;
                fragmented += send(veth, from, to, 2, &wire::netflow5(0, FRAGMENTED_RECORDS))?;
                for port in 40_000..40_005 {
                    let from = SocketAddr::new(from, port);
                    let packet = packet::udp(from, to, Between::Options, &payload)?;
                    veth.exporter.run(|| packet::send(&packet, to.ip()))??;
                    with_options += 1;
                }
            }
            let sent = plain + fragmented + with_options;
            let bystander = UdpSocket::bind((ipv4(COLLECTOR), 0))?;
            bystander.set_read_timeout(Some(SEEN_MAX))?;
            let to = bystander.local_addr()?;
            let foreign = send(veth, ipv4(EXPORTER), to, 3, &payload)?;
            for _ in 0..foreign {
                bystander
                    .recv(&mut [0; 2000])
                    .context("a port that is not ours")?;
            }
            let nobody = SocketAddr::new([10, 9, 9, 9].into(), collector.port());
            let stray = send(veth, ipv4(EXPORTER), nobody, 2, &payload)?;
            let status =
                collector.wait_until("what is not ours is counted", SEEN_MAX, |status| {
                    let ledger = status.ledger();
                    ledger.frames("other_port") >= foreign
                        && ledger.frames("other_destination") >= stray
                })?;
            let ledger = settled(&collector, sent, plain)?;
            assert_eq!(ledger.frames("other_port"), foreign);
            assert_eq!(status.ledger().frames("other_destination"), stray);
            assert_eq!(ledger.frames("fragment"), fragmented * FRAGMENTS);
            // Membership reports of IPv6 multicast have options too, and come when they like.
            assert!(ledger.frames("options") >= with_options, "{ledger:?}");
            for verdict in ["cut", "malformed", "no_socket", "not_allowed"] {
                assert_eq!(ledger.frames(verdict), 0, "{verdict}");
            }
            let records = (plain + with_options) * u64::from(RECORDS);
            let records = records + fragmented * u64::from(FRAGMENTED_RECORDS);
            assert_eq!(ledger.counter("flows_decoded"), records);
            assert_eq!(ledger.losses(), [("store_null".to_owned(), records)]);
            assert_stops_with(collector, veth, sent)
        },
    )
}

#[test]
fn datagrams_of_strangers_are_dropped_and_counted_in_the_program_and_behind_the_kernel()
-> Result<()> {
    let allowed = [
        format!("{}/32", ipv4(EXPORTER)),
        format!("{}/128", ipv6(EXPORTER)),
    ];
    let settings = |veth: &Veth| Settings {
        receive: format!("allow = {allowed:?}\n"),
        ..steered(veth, "native")
    };
    on_a_cable(settings, |veth, collector| {
        let (mut welcome, mut by_program, mut by_worker) = (0, 0, 0);
        let (whole, fragmented) = (
            wire::netflow5(0, RECORDS),
            wire::netflow5(0, FRAGMENTED_RECORDS),
        );
        for (from, to) in pairs(EXPORTER) {
            let to = SocketAddr::new(to, collector.port());
            welcome += send(veth, from, to, 4, &whole)?;
        }
        for (from, to) in pairs(STRANGER) {
            let to = SocketAddr::new(to, collector.port());
            by_program += send(veth, from, to, 3, &whole)?;
            by_worker += send(veth, from, to, 2, &fragmented)?;
        }
        let sent = welcome + by_program + by_worker;
        let ledger = settled(&collector, sent, welcome)?;
        assert_eq!(ledger.frames("not_allowed"), by_program);
        assert_eq!(
            ledger.dropped("exporter_not_allowed"),
            by_program + by_worker
        );
        let flows = welcome * u64::from(RECORDS);
        assert_eq!(ledger.counter("flows_decoded"), flows);
        let status = collector.status()?;
        let by_both = received_by(&status, 0) + received_by(&status, 1);
        assert_eq!(by_both, welcome + by_worker, "no worker saw the others");
        assert_stops_with(collector, veth, sent)
    })
}

/// A socket of the exporter whose frames come by each queue, in order. What it takes to find them
/// is added to `sent`.
fn socket_by_queue(veth: &Veth, collector: &Collector, sent: &mut u64) -> Result<[Sender; 2]> {
    let target = SocketAddr::new(ipv4(COLLECTOR), collector.port());
    let mut found = [None, None];
    for _ in 0..64 {
        let source = ipv4(EXPORTER);
        let mut sender = veth.exporter.run(|| Sender::between(source, target))??;
        let before = collector.status()?;
        sender.send(&wire::netflow5(0, RECORDS))?;
        *sent += 1;
        settled(collector, *sent, *sent)?;
        let after = collector.status()?;
        let worker =
            (0..2).find(|worker| received_by(&after, *worker) > received_by(&before, *worker));
        let worker = worker.context("a worker received it")?;
        found[worker].get_or_insert(sender);
        if found.iter().all(Option::is_some) {
            break;
        }
    }
    match found {
        [Some(first), Some(second)] => Ok([first, second]),
        _ => bail!("64 ports all have the same queue"),
    }
}

/// A NetFlow v9 template of addresses and counters.
fn template(id: u16) -> Vec<u8> {
    let mut body = Vec::new();
    for word in [id, 4, 8, 4, 12, 4, 1, 4, 2, 4] {
        body.extend(word.to_be_bytes());
    }
    wire::netflow9(1, &[(0, body)])
}

/// Two records by that template.
fn data(id: u16) -> Vec<u8> {
    let mut record = vec![10, 0, 0, 1, 10, 0, 0, 2];
    record.extend(1500u32.to_be_bytes());
    record.extend(2u32.to_be_bytes());
    wire::netflow9(2, &[(id, record.repeat(2))])
}

#[test]
fn a_template_that_came_by_one_queue_decodes_data_of_the_other() -> Result<()> {
    in_the_driver(|veth, collector| {
        let mut sent = 0;
        let mut sockets = socket_by_queue(veth, &collector, &mut sent)?;
        let probes = sent;
        for (of_template, id) in [(0, 256), (1, 257)] {
            sockets[of_template].send(&template(id))?;
            sent += 1;
            settled(&collector, sent, sent)?;
            // A worker takes over what others learned at its next turn, also when nothing comes.
            std::thread::sleep(Duration::from_millis(500));
            let before = collector.status()?;
            sockets[1 - of_template].send(&data(id))?;
            sent += 1;
            settled(&collector, sent, sent)?;
            let after = collector.status()?;
            let other = 1 - of_template;
            assert_eq!(received_by(&after, other), received_by(&before, other) + 1);
        }
        let ledger = collector.status()?.ledger();
        let flows = probes * u64::from(RECORDS) + 4;
        assert_eq!(ledger.counter("flows_decoded"), flows);
        assert_eq!(ledger.losses(), [("store_null".to_owned(), flows)]);
        assert_stops_with(collector, veth, sent)
    })
}

#[test]
fn a_second_collector_is_refused_or_falls_back_and_the_first_goes_on() -> Result<()> {
    in_the_driver(|veth, first| {
        let program = veth.xdp()?;
        for attach in ["native", "skb", "auto"] {
            let refused = Collector::start(&steered(veth, attach));
            let said = format!("{:#}", refused.err().context("a second one started")?);
            assert!(said.contains("another XDP program is attached"), "{said}");
        }
        let settings = Settings {
            receive_mode: "auto",
            ..steered(veth, "auto")
        };
        let second = Collector::start(&settings)?;
        let status = second.status()?;
        assert_eq!(status.text("/receive/interfaces/0/mode")?, "sockets");
        let why = status.text("/receive/interfaces/0/why")?;
        for text in [why, &second.tail()] {
            assert!(text.contains("another XDP program is attached"), "{text}");
        }
        let payload = wire::netflow5(0, RECORDS);
        let [(from, to), _] = pairs(EXPORTER);
        let to_first = send(veth, from, SocketAddr::new(to, first.port()), 4, &payload)?;
        let to_second = send(veth, from, SocketAddr::new(to, second.port()), 6, &payload)?;
        settled(&second, to_second, 0)?;
        let ledger = settled(&first, to_first, to_first)?;
        assert_eq!(ledger.frames("other_port"), to_second);
        assert_eq!(second.stop()?.datagrams_arrived(), to_second);
        assert_eq!(veth.xdp()?, program, "the first's program is still there");
        let again = send(veth, from, SocketAddr::new(to, first.port()), 4, &payload)?;
        settled(&first, to_first + again, to_first + again)?;
        assert_stops_with(first, veth, to_first + again)
    })
}

#[test]
fn a_frame_with_a_wrong_checksum_is_dropped_as_the_kernel_would() -> Result<()> {
    let settings = |veth: &Veth| {
        let unverified = steered(veth, "native");
        let more = &unverified.more;
        Settings {
            more: more.replace("verify_checksum = false", "verify_checksum = true"),
            ..unverified
        }
    };
    on_a_cable(settings, |veth, collector| {
        let (mut sent, mut wrong) = (0, 0);
        for (from, to) in pairs(EXPORTER) {
            let (from, to) = (
                SocketAddr::new(from, 40_000),
                SocketAddr::new(to, collector.port()),
            );
            let right = packet::udp(from, to, Between::Nothing, &wire::netflow5(0, RECORDS))?;
            let mut flipped = right.clone();
            *flipped.last_mut().context("it has a payload")? ^= 1;
            let mut without = right.clone();
            let checksum_at = if from.is_ipv4() { 26 } else { 46 };
            without[checksum_at..][..2].fill(0);
            for packet in [&right, &flipped, &without] {
                veth.exporter.run(|| packet::send(packet, to.ip()))??;
                sent += 1;
            }
            // IPv4 allows none (RFC 768), IPv6 does not (RFC 8200 section 8.1).
            wrong += if from.is_ipv4() { 1 } else { 2 };
        }
        let ledger = settled(&collector, sent, sent)?;
        assert_eq!(ledger.dropped("frame_malformed"), wrong);
        let flows = (sent - wrong) * u64::from(RECORDS);
        assert_eq!(ledger.counter("flows_decoded"), flows);
        assert_stops_with(collector, veth, sent)
    })
}

#[test]
fn sigterm_detaches_and_everything_in_the_rings_is_counted() -> Result<()> {
    in_the_driver(|veth, collector| {
        let target = SocketAddr::new(ipv4(COLLECTOR), collector.port());
        // It does not run while they arrive, and finds the signal before them when it goes on.
        pause(collector.pid())?;
        let payload = wire::netflow5(0, RECORDS);
        let sent = send(veth, ipv4(EXPORTER), target, 1000, &payload)?;
        signal_pid(collector.pid(), Signal::TERM)?;
        signal_pid(collector.pid(), Signal::CONT)?;
        let stopped = collector.terminate()?;
        assert_eq!(stopped.datagrams_received, sent, "{stopped:?}");
        assert_eq!(stopped.datagrams_dropped_by_kernel, 0, "{stopped:?}");
        assert_eq!(stopped.flows_decoded, sent * u64::from(RECORDS));
        assert_eq!(stopped.unaccounted, 0);
        assert_eq!(veth.xdp()?, None, "the program is detached");
        Ok(())
    })
}

#[test]
fn what_does_not_fit_the_rings_is_counted_as_dropped_by_the_kernel() -> Result<()> {
    let settings = |veth: &Veth| {
        let small = steered(veth, "native");
        Settings {
            more: small.more + "frames = 256\n",
            ..small
        }
    };
    on_a_cable(settings, |veth, collector| {
        let target = SocketAddr::new(ipv4(COLLECTOR), collector.port());
        pause(collector.pid())?;
        let payload = wire::netflow5(0, RECORDS);
        let sent = send(veth, ipv4(EXPORTER), target, 1000, &payload)?;
        signal_pid(collector.pid(), Signal::CONT)?;
        let ledger = settled(&collector, sent, sent)?;
        let dropped = ledger.counter("datagrams_dropped_by_kernel");
        assert!(
            dropped >= sent - 2 * 256,
            "{dropped} of {sent}: two rings of 256"
        );
        assert_stops_with(collector, veth, sent)
    })
}

#[test]
fn receiving_goes_on_when_the_interface_was_down() -> Result<()> {
    in_the_driver(|veth, collector| {
        let payload = wire::netflow5(0, RECORDS);
        let [(from, to), (from6, to6)] = pairs(EXPORTER);
        let mut sent = send(
            veth,
            from,
            SocketAddr::new(to, collector.port()),
            4,
            &payload,
        )?;
        settled(&collector, sent, sent)?;
        let device = Veth::COLLECTOR;
        veth.collector.ip(&format!("link set {device} down\n"))?;
        wait_for_line(&collector, "down: nothing arrives by it")?;
        // The kernel takes IPv6 addresses off an interface that goes down.
        let address = address_command("add", to6, device);
        veth.collector
            .ip(&format!("link set {device} up\n{address}"))?;
        wait_for_line(&collector, "up again")?;
        for (from, to) in [(from, to), (from6, to6)] {
            sent += send(
                veth,
                from,
                SocketAddr::new(to, collector.port()),
                8,
                &payload,
            )?;
            settled(&collector, sent, sent)?;
        }
        assert_stops_with(collector, veth, sent)
    })
}

fn wait_for_line(collector: &Collector, line: &str) -> Result<()> {
    collector.wait_until(line, SEEN_MAX, |_| collector.tail().contains(line))?;
    Ok(())
}

#[test]
fn an_address_is_steered_within_a_second_of_its_coming_and_no_longer_when_it_goes() -> Result<()> {
    const NEW: u8 = 77;
    in_the_driver(|veth, collector| {
        let payload = wire::netflow5(0, RECORDS);
        let ways = [
            (ipv4(EXPORTER), SocketAddr::new(ipv4(NEW), collector.port())),
            (ipv6(EXPORTER), SocketAddr::new(ipv6(NEW), collector.port())),
        ];
        let change = |what| {
            let commands = ways.map(|(_, to)| address_command(what, to.ip(), Veth::COLLECTOR));
            veth.collector.ip(&commands.concat())?;
            std::thread::sleep(Duration::from_secs(1));
            anyhow::Ok(())
        };
        change("add")?;
        let mut sent = 0;
        for (from, to) in ways {
            sent += send(veth, from, to, 4, &payload)?;
            settled(&collector, sent, sent).with_context(|| format!("to {to}"))?;
        }
        change("del")?;
        let mut gone = 0;
        for (from, to) in ways {
            gone += send(veth, from, to, 1, &payload)?;
        }
        collector.wait_until(
            "what is sent to no address is counted",
            SEEN_MAX,
            |status| status.ledger().frames("other_destination") == gone,
        )?;
        settled(&collector, sent, sent)?;
        assert_stops_with(collector, veth, sent)
    })
}
