//! What exporters say in elements without a column, in ClickHouse.

use std::net::SocketAddr;

use anyhow::Result;
use flowsluice_tests::records::{Field, Length, Value, Version, message};
use flowsluice_tests::wire::Sender;
use flowsluice_tests::{Collector, Settings};

fn fields(text: &str, number: u64) -> Vec<Field> {
    let field = |enterprise, id, length, value| Field {
        enterprise,
        id,
        length,
        value,
    };
    let len = u16::try_from(text.len()).expect("a short text");
    vec![
        field(0, 1, Length::Fixed(4), Value::Unsigned(number)),
        field(9, 12_235, Length::Short(len), Value::Text(text.into())),
        field(4_000_000, 7, Length::Fixed(2), Value::Octets(vec![1, 0xff])),
    ]
}

#[test]
fn elements_without_a_column_are_stored_by_name_where_they_are_asked_for() -> Result<()> {
    let Some(settings) = Settings::embedded() else {
        return Ok(());
    };
    let settings = Settings {
        decode: "extra = [\"9.*\", \"4000000.7\"]\n".into(),
        ..settings
    };
    let collector = Collector::start(&settings)?;
    let target: SocketAddr = collector.target();
    let mut sender = Sender::new(target)?;
    for (text, number) in [("example.org", 1), ("it's \"\u{e4}\"", 2)] {
        sender.send(&message(Version::Ipfix, &fields(text, number)))?;
    }
    // And one who has nothing to say.
    let plain = &fields("", 3)[..1];
    sender.send(&message(Version::Ipfix, plain))?;
    collector.settle(sender.sent)?;
    let clickhouse = collector.clickhouse()?;
    let said = clickhouse.query(
        "SELECT raw_bytes, extra['9.applicationHTTPHost'], extra['4000000.7'], length(extra) \
         FROM flows ORDER BY raw_bytes FORMAT TSVRaw",
    )?;
    assert_eq!(
        said,
        "1\texample.org\t01ff\t2\n2\tit's \"\u{e4}\"\t01ff\t2\n3\t\t\t0\n"
    );
    let kind = clickhouse.query("SELECT toTypeName(extra) FROM flows LIMIT 1 FORMAT TSVRaw")?;
    assert_eq!(kind.trim(), "Map(LowCardinality(String), String)");
    assert_eq!(collector.stop()?.unaccounted, 0);
    Ok(())
}
