//! What a question is about: a time and typed fields, each bound as a parameter of ClickHouse's.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use super::refusal::Refusal;
use crate::units::UnixNanos;

/// A question as it came. An empty field is as good as none.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Asked {
    pub last: String,
    pub from: String,
    pub to: String,
    pub limit: String,
    pub exporter: String,
    pub address: String,
    pub port: String,
    pub protocol: String,
    #[serde(rename = "as")]
    pub autonomous_system: String,
    pub interface: String,
}

/// Which flows. All fields that are there must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Filter {
    /// The exporter's own address.
    pub exporter: Option<Ipv6Addr>,
    /// First and last address of a prefix that either end is in.
    pub addresses: Option<(Ipv6Addr, Ipv6Addr)>,
    /// The server's port.
    pub port: Option<u16>,
    /// IP protocol.
    pub protocol: Option<u8>,
    /// Of either end.
    pub autonomous_system: Option<u32>,
    /// Number of the interface that they came in by or went out by.
    pub interface: Option<u32>,
}

/// From the first second to before the second, since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Range {
    pub from: u64,
    pub to: u64,
    /// When it was asked: what lies behind is not there yet.
    pub now: u64,
}

/// Longest time that can be asked about: what the rollups by hour answer at once.
const RANGE_MAX: Duration = Duration::from_secs(31 * 24 * 3600);
const LIMIT_MAX: u32 = 100;
const LIMIT_DEFAULT: u32 = 10;

impl Asked {
    /// How many rows of a list.
    pub fn limit(&self) -> Result<u32, Refusal> {
        let limit = number(&self.limit, "limit", "1 to 100")?;
        match limit.unwrap_or(LIMIT_DEFAULT) {
            limit @ 1..=LIMIT_MAX => Ok(limit),
            _ => Err(refused("limit", "1 to 100")),
        }
    }

    /// The time, `now` being the end of `last`.
    pub fn range(&self, now: UnixNanos) -> Result<Range, Refusal> {
        const ALLOWED: &str = "seconds since 1970; from before to, 31 days at most";
        const LAST: &str = "60 to 2678400 seconds, without from and to";
        let from = number::<u64>(&self.from, "from", ALLOWED)?;
        let to = number::<u64>(&self.to, "to", ALLOWED)?;
        let last = number::<u64>(&self.last, "last", LAST)?;
        let now = u64::from(now.seconds());
        match (from, to, last) {
            (None, None, last) => {
                let length = last.unwrap_or(900);
                if !(60..=RANGE_MAX.as_secs()).contains(&length) {
                    return Err(refused("last", LAST));
                }
                // So that several who look at the same time ask the same.
                let to = now.next_multiple_of(if length > 3600 { 60 } else { 5 });
                let from = to.saturating_sub(length);
                Ok(Range { from, to, now })
            }
            (Some(from), Some(to), None)
                if from < to
                    && to - from <= RANGE_MAX.as_secs()
                    && to <= u64::from(u32::MAX) - 7200 =>
            {
                Ok(Range { from, to, now })
            }
            (_, _, None) => Err(refused("from", ALLOWED)),
            _ => Err(refused("last", LAST)),
        }
    }

    /// Which flows.
    pub fn filter(&self) -> Result<Filter, Refusal> {
        let exporter = given(&self.exporter).map(|text| {
            let address = text.parse().map(mapped);
            address.map_err(|_| refused("exporter", "an IPv4 or IPv6 address"))
        });
        let addresses = given(&self.address).map(|text| {
            let allowed = "an address or a prefix, such as 192.0.2.0/24";
            let net = text.parse::<IpNet>().ok();
            let net = net.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
            let net = net.ok_or_else(|| refused("address", allowed))?;
            Ok::<_, Refusal>((mapped(net.network()), mapped(net.broadcast())))
        });
        Ok(Filter {
            exporter: exporter.transpose()?,
            addresses: addresses.transpose()?,
            port: number(&self.port, "port", "0 to 65535")?,
            protocol: protocol(&self.protocol)?,
            autonomous_system: number(&self.autonomous_system, "as", "0 to 4294967295")?,
            interface: number(&self.interface, "interface", "0 to 4294967295")?,
        })
    }
}

impl Range {
    pub fn seconds(&self) -> u64 {
        self.to - self.from
    }

    /// How much of it has passed: what rates are the mean of.
    pub fn seconds_passed(&self) -> u64 {
        self.to.min(self.now).saturating_sub(self.from).max(1)
    }

    /// The same in whole hours.
    pub fn in_hours(self) -> Self {
        Self {
            from: self.from / 3600 * 3600,
            to: self.to.next_multiple_of(3600),
            ..self
        }
    }

    /// The same in whole minutes.
    pub fn in_minutes(self) -> Self {
        Self {
            from: self.from / 60 * 60,
            to: self.to.next_multiple_of(60),
            ..self
        }
    }
}

/// As the tables have addresses: IPv4 is mapped.
fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// A number of IANA's list, or the name of one that is common.
fn protocol(text: &str) -> Result<Option<u8>, Refusal> {
    const NAMES: [(&str, u8); 8] = [
        ("icmp", 1),
        ("tcp", 6),
        ("udp", 17),
        ("gre", 47),
        ("esp", 50),
        ("icmpv6", 58),
        ("ospf", 89),
        ("sctp", 132),
    ];
    let lower = text.trim().to_ascii_lowercase();
    match NAMES.iter().find(|(name, _)| *name == lower) {
        Some((_, number)) => Ok(Some(*number)),
        None => number(
            text,
            "protocol",
            "0 to 255, tcp, udp, icmp, icmpv6, gre, esp, ospf, sctp",
        ),
    }
}

fn number<T: std::str::FromStr>(
    text: &str,
    name: &str,
    allowed: &'static str,
) -> Result<Option<T>, Refusal> {
    let parsed = given(text).map(str::parse).transpose();
    parsed.map_err(|_| refused(name, allowed))
}

fn given(text: &str) -> Option<&str> {
    Some(text.trim()).filter(|text| !text.is_empty())
}

fn refused(name: &str, allowed: &'static str) -> Refusal {
    Refusal::Field {
        name: name.to_owned(),
        allowed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixNanos = UnixNanos(1_767_323_047_000_000_000);

    #[test]
    fn fields_are_what_they_are_called_or_refused_with_what_is_allowed() {
        let asked = Asked {
            exporter: " 10.0.0.1 ".into(),
            address: "192.0.2.77/24".into(),
            port: "443".into(),
            protocol: "TCP".into(),
            autonomous_system: "64500".into(),
            interface: "7".into(),
            ..Asked::default()
        };
        let filter = asked.filter().unwrap();
        let v6 = |text: &str| text.parse::<Ipv6Addr>().unwrap();
        assert_eq!(filter.exporter, Some(v6("::ffff:10.0.0.1")));
        let addresses = (v6("::ffff:192.0.2.0"), v6("::ffff:192.0.2.255"));
        assert_eq!(filter.addresses, Some(addresses));
        assert_eq!((filter.port, filter.protocol), (Some(443), Some(6)));
        assert_eq!(
            (filter.autonomous_system, filter.interface),
            (Some(64500), Some(7))
        );
        assert_eq!(Asked::default().filter().unwrap(), Filter::default());
        let told = |asked: Asked| match asked.filter().unwrap_err() {
            Refusal::Field { name, .. } => name,
            other => panic!("{other:?}"),
        };
        let hostile = "1' OR 1=1 --";
        let bad = |set: fn(&mut Asked, String)| {
            let mut asked = Asked::default();
            set(&mut asked, hostile.into());
            told(asked)
        };
        assert_eq!(bad(|asked, text| asked.exporter = text), "exporter");
        assert_eq!(bad(|asked, text| asked.address = text), "address");
        assert_eq!(bad(|asked, text| asked.port = text), "port");
        assert_eq!(bad(|asked, text| asked.protocol = text), "protocol");
        assert_eq!(bad(|asked, text| asked.autonomous_system = text), "as");
        assert_eq!(bad(|asked, text| asked.interface = text), "interface");
        let prefix = Asked {
            address: "2001:db8::/32".into(),
            ..Asked::default()
        };
        let last = prefix.filter().unwrap().addresses.unwrap().1;
        assert_eq!(last, v6("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"));
    }

    #[test]
    fn a_time_is_the_last_seconds_or_from_and_to() {
        let range = |last: &str, from: &str, to: &str| {
            let asked = Asked {
                last: last.into(),
                from: from.into(),
                to: to.into(),
                ..Asked::default()
            };
            asked.range(NOW)
        };
        let last = range("300", "", "").unwrap();
        assert_eq!((last.to % 5, last.seconds()), (0, 300));
        assert!(last.to >= last.now && last.to < last.now + 5);
        assert!(last.seconds_passed() > 290);
        assert_eq!(range("", "", "").unwrap().seconds(), 900);
        let fixed = range("", "1767322800", "1767323400").unwrap();
        assert_eq!((fixed.from, fixed.to), (1_767_322_800, 1_767_323_400));
        assert_eq!(fixed.seconds_passed(), 247);
        assert_eq!(fixed.in_hours().from, 1_767_322_800);
        assert_eq!(fixed.in_hours().to, 1_767_326_400);
        for (last, from, to) in [
            ("59", "", ""),
            ("2678401", "", ""),
            ("-5", "", ""),
            ("300", "1", "2"),
            ("", "5", ""),
            ("", "", "5"),
            ("", "5", "5"),
            ("", "0", "2678401"),
            ("", "18446744073709551000", "18446744073709551615"),
        ] {
            assert!(range(last, from, to).is_err(), "{last} {from} {to}");
        }
    }

    #[test]
    fn a_list_has_one_to_a_hundred_rows() {
        let limit = |text: &str| {
            let asked = Asked {
                limit: text.into(),
                ..Asked::default()
            };
            asked.limit().ok()
        };
        assert_eq!((limit(""), limit("100")), (Some(10), Some(100)));
        assert_eq!((limit("0"), limit("101"), limit("1e2")), (None, None, None));
    }
}
