//! Figures of one name, before they become text or rows.

use std::fmt::{self, Write as _};

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeMetric, MetricEncoder,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// What tells the series of a family from each other: name and value.
pub type Labels = Vec<(&'static str, String)>;

/// Figures of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// `flowsluice_<stage>_<noun>_<unit>`; `/metrics` puts `_total` behind that of a counter.
    pub name: String,
    /// What it is, one sentence.
    pub help: String,
    /// Whether it only rises.
    pub kind: Kind,
    /// One a set of labels; a family without labels has one.
    pub series: Vec<(Labels, Value)>,
}

/// What a figure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A sum since the start of the collector.
    Counter,
    /// What is so at the moment.
    Gauge,
}

/// A figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A number of things, or of bytes.
    Whole(u64),
    /// Seconds.
    Real(f64),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl Value {
    /// As ClickHouse's `Float64`; exact below 2^53.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Whole(value) => value as f64,
            Self::Real(value) => value,
        }
    }

    /// By how much it rose since it was `before`; negative when it fell.
    #[must_use]
    pub fn since(self, before: Self) -> f64 {
        match (self, before) {
            // Not the difference of two floats, which are rounded when they are large.
            (Self::Whole(now), Self::Whole(before)) if now >= before => (now - before) as f64,
            (Self::Whole(now), Self::Whole(before)) => -((before - now) as f64),
            (now, before) => now.as_f64() - before.as_f64(),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(value) => fmt::Display::fmt(value, f),
            Self::Real(value) => fmt::Display::fmt(value, f),
        }
    }
}

/// Where families go: the text of `/metrics`, or a list.
pub(super) trait Sink {
    /// Takes one; an error when its text finds no room.
    fn take(&mut self, family: Family) -> fmt::Result;
}

impl Sink for Vec<Family> {
    fn take(&mut self, family: Family) -> fmt::Result {
        self.push(family);
        Ok(())
    }
}

impl Sink for DescriptorEncoder<'_> {
    fn take(&mut self, family: Family) -> fmt::Result {
        let Family {
            name,
            help,
            kind,
            series,
        } = family;
        let metric_type = match kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
        };
        let mut encoder = self.encode_descriptor(&name, &help, None, metric_type)?;
        for (labels, value) in series {
            // Labels that are none would be an empty pair of braces.
            if labels.is_empty() {
                return encode(kind, value, encoder);
            }
            encode(kind, value, encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// Prometheus' text format 0.0.4, in which a counter is called like its samples.
#[derive(Debug, Default)]
pub(super) struct Classic(pub(super) String);

impl Sink for Classic {
    fn take(&mut self, family: Family) -> fmt::Result {
        let Family {
            name,
            help,
            kind,
            series,
        } = family;
        let (name, kind) = match kind {
            Kind::Counter => (name + "_total", "counter"),
            Kind::Gauge => (name, "gauge"),
        };
        let text = &mut self.0;
        writeln!(text, "# HELP {name} {help}.\n# TYPE {name} {kind}")?;
        for (labels, value) in series {
            text.push_str(&name);
            let mut before = '{';
            for (label, of) in &labels {
                let of = of.replace('\\', r"\\").replace('"', r#"\""#);
                write!(text, "{before}{label}=\"{}\"", of.replace('\n', r"\n"))?;
                before = ',';
            }
            let end = if labels.is_empty() { "" } else { "}" };
            writeln!(text, "{end} {value}")?;
        }
        Ok(())
    }
}

fn encode(kind: Kind, value: Value, encoder: MetricEncoder<'_>) -> fmt::Result {
    match (kind, value) {
        (Kind::Counter, Value::Whole(value)) => counter(value, encoder),
        (Kind::Counter, Value::Real(value)) => counter(value, encoder),
        (Kind::Gauge, Value::Whole(value)) => gauge(value, encoder),
        (Kind::Gauge, Value::Real(value)) => gauge(value, encoder),
    }
}

fn counter<N: EncodeCounterValue>(value: N, encoder: MetricEncoder<'_>) -> fmt::Result
where
    ConstCounter<N>: EncodeMetric,
{
    ConstCounter::new(value).encode(encoder)
}

fn gauge<N: EncodeGaugeValue>(value: N, encoder: MetricEncoder<'_>) -> fmt::Result
where
    ConstGauge<N>: EncodeMetric,
{
    ConstGauge::new(value).encode(encoder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_format_escapes_values_of_labels() {
        let mut text = Classic::default();
        let family = Family {
            name: "a_bytes".into(),
            help: "What it is".into(),
            kind: Kind::Counter,
            series: vec![(
                vec![("x", "a\\b\"c\nd".into()), ("y", String::new())],
                Value::Real(0.5),
            )],
        };
        text.take(family).unwrap();
        let lines = "# HELP a_bytes_total What it is.\n# TYPE a_bytes_total counter\n\
                     a_bytes_total{x=\"a\\\\b\\\"c\\nd\",y=\"\"} 0.5\n";
        assert_eq!(text.0, lines);
    }

    #[test]
    fn a_difference_of_large_sums_is_exact() {
        let before = Value::Whole((1 << 60) + 1);
        let now = Value::Whole((1 << 60) + 4);
        assert_eq!(now.since(before), 3.0);
        assert_eq!(before.since(now), -3.0);
        assert_eq!(Value::Real(2.5).since(Value::Real(1.0)), 1.5);
    }
}
