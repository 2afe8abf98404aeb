//! What one value of a column is: its ClickHouse type, its bytes in a Native block, its JSON.

use std::io::{self, Write};

use jiff::Timestamp;

use crate::enrich::Locality;
use crate::flow::{Address, Direction, FlowType, SamplingSource, TunnelType};

/// A value of fixed width.
pub trait Value: Copy {
    /// ClickHouse's name of the type, as ClickHouse itself prints it.
    const SQL_TYPE: &'static str;
    /// Bytes in a Native block.
    const WIDTH: usize = size_of::<Self::Wire>();
    /// `[u8; WIDTH]`.
    type Wire: AsRef<[u8]>;

    /// The bytes in a Native block: little-endian, addresses in network order.
    fn wire(self) -> Self::Wire;

    /// Prints the value as JSON.
    ///
    /// # Errors
    /// Those of `out`.
    fn json(self, out: &mut dyn Write) -> io::Result<()>;
}

macro_rules! integer {
    ($($rust:ty = $sql:literal,)+) => {
        $(impl Value for $rust {
            const SQL_TYPE: &'static str = $sql;
            type Wire = [u8; size_of::<$rust>()];

            #[inline]
            fn wire(self) -> Self::Wire {
                self.to_le_bytes()
            }

            fn json(self, out: &mut dyn Write) -> io::Result<()> {
                write!(out, "{self}")
            }
        })+
    };
}

integer! {
    u8 = "UInt8",
    u16 = "UInt16",
    u32 = "UInt32",
    u64 = "UInt64",
}

impl Value for f32 {
    const SQL_TYPE: &'static str = "Float32";
    type Wire = [u8; 4];

    #[inline]
    fn wire(self) -> Self::Wire {
        self.to_le_bytes()
    }

    fn json(self, out: &mut dyn Write) -> io::Result<()> {
        write!(out, "{self}")
    }
}

impl Value for Address {
    const SQL_TYPE: &'static str = "IPv6";
    type Wire = [u8; 16];

    #[inline]
    fn wire(self) -> Self::Wire {
        self.0
    }

    fn json(self, out: &mut dyn Write) -> io::Result<()> {
        write!(out, "\"{self}\"")
    }
}

/// Seconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds(pub u32);

impl Value for Seconds {
    const SQL_TYPE: &'static str = "DateTime('UTC')";
    type Wire = [u8; 4];

    #[inline]
    fn wire(self) -> Self::Wire {
        self.0.to_le_bytes()
    }

    fn json(self, out: &mut dyn Write) -> io::Result<()> {
        print_time(i64::from(self.0) * 1000, "%Y-%m-%d %H:%M:%S", out)
    }
}

/// Milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Millis(pub u64);

/// The last millisecond of the year 2299: ClickHouse prints nothing later right.
pub const MILLIS_MAX: u64 = 10_413_791_999_999;

impl Value for Millis {
    const SQL_TYPE: &'static str = "DateTime64(3, 'UTC')";
    type Wire = [u8; 8];

    #[inline]
    fn wire(self) -> Self::Wire {
        self.0.min(MILLIS_MAX).to_le_bytes()
    }

    fn json(self, out: &mut dyn Write) -> io::Result<()> {
        let millis = i64::try_from(self.0.min(MILLIS_MAX)).expect("bounded by MILLIS_MAX");
        print_time(millis, "%Y-%m-%d %H:%M:%S%.3f", out)
    }
}

fn print_time(millis: i64, format: &str, out: &mut dyn Write) -> io::Result<()> {
    let time = Timestamp::from_millisecond(millis).expect("a time before the year 9999");
    write!(out, "\"{}\"", time.strftime(format))
}

macro_rules! named {
    ($rust:ident = $sql:literal { $($variant:ident = $name:literal,)+ }) => {
        impl $rust {
            /// Its name in ClickHouse.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }

        impl serde::Serialize for $rust {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl Value for $rust {
            const SQL_TYPE: &'static str = $sql;
            type Wire = [u8; 1];

            #[inline]
            fn wire(self) -> Self::Wire {
                (self as i8).to_le_bytes()
            }

            fn json(self, out: &mut dyn Write) -> io::Result<()> {
                write!(out, "\"{}\"", self.name())
            }
        }

        #[cfg(test)]
        impl Named for $rust {
            fn all() -> Vec<(i8, &'static str)> {
                vec![$((Self::$variant as i8, $name),)+]
            }
        }
    };
}

// `unknown` is what a new column holds in old rows; no decoder stores it as `flow_type`.
named! { FlowType = "Enum8('unknown' = 0, 'netflow1' = 1, 'netflow5' = 5, 'netflow7' = 7, \
'netflow9' = 9, 'ipfix' = 10, 'sflow5' = 15)" {
    Unknown = "unknown",
    Netflow1 = "netflow1",
    Netflow5 = "netflow5",
    Netflow7 = "netflow7",
    Netflow9 = "netflow9",
    Ipfix = "ipfix",
    Sflow5 = "sflow5",
}}

named! { SamplingSource = "Enum8('unknown' = 0, 'header' = 1, 'record' = 2, 'options' = 3, \
'static' = 4, 'default' = 5)" {
    Unknown = "unknown",
    Header = "header",
    Record = "record",
    Options = "options",
    Static = "static",
    Default = "default",
}}

named! { Direction = "Enum8('undefined' = 0, 'ingress' = 1, 'egress' = 2)" {
    Undefined = "undefined",
    Ingress = "ingress",
    Egress = "egress",
}}

named! { TunnelType = "Enum8('none' = 0, 'gre' = 1, 'vxlan' = 2, 'ipip' = 3, 'ipv6' = 4, \
'gtpu' = 5)" {
    None = "none",
    Gre = "gre",
    Vxlan = "vxlan",
    Ipip = "ipip",
    Ipv6 = "ipv6",
    Gtpu = "gtpu",
}}

named! { Locality = "Enum8('unknown' = 0, 'private' = 1, 'public' = 2)" {
    Unknown = "unknown",
    Private = "private",
    Public = "public",
}}

#[cfg(test)]
trait Named: Value {
    fn all() -> Vec<(i8, &'static str)>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value: impl Value) -> String {
        let mut out = Vec::new();
        value.json(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn declared<T: Named>() -> String {
        let values: Vec<_> = T::all()
            .iter()
            .map(|(number, name)| format!("'{name}' = {number}"))
            .collect();
        format!("Enum8({})", values.join(", "))
    }

    #[test]
    fn every_variant_has_the_number_and_name_that_clickhouse_is_told() {
        assert_eq!(FlowType::SQL_TYPE, declared::<FlowType>());
        assert_eq!(SamplingSource::SQL_TYPE, declared::<SamplingSource>());
        assert_eq!(Direction::SQL_TYPE, declared::<Direction>());
        assert_eq!(TunnelType::SQL_TYPE, declared::<TunnelType>());
        assert_eq!(Locality::SQL_TYPE, declared::<Locality>());
    }

    #[test]
    fn times_are_printed_in_utc_as_clickhouse_prints_them() {
        assert_eq!(json(Seconds(1_767_323_045)), "\"2026-01-02 03:04:05\"");
        assert_eq!(
            json(Millis(1_767_323_045_678)),
            "\"2026-01-02 03:04:05.678\""
        );
        assert_eq!(json(Millis(0)), "\"1970-01-01 00:00:00.000\"");
        assert_eq!(json(Millis(u64::MAX)), "\"2299-12-31 23:59:59.999\"");
    }

    #[test]
    fn an_ipv4_address_is_printed_as_ipv4() {
        assert_eq!(json(Address::from_v4([192, 0, 2, 1])), "\"192.0.2.1\"");
        assert_eq!(json(Address::UNKNOWN), "\"::\"");
    }
}
