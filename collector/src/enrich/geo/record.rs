//! What a database says of a network, whichever way it puts it.
//!
//! MaxMind nests (`city.names.en`, `location.latitude`; names in many languages), others write flat
//! fields (`city`, `state1`, `latitude`; one language). Both are read by what a field is called and
//! what kind of value it has; whatever else there is, is skipped without being copied.

use std::fmt::{self, Write as _};
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// What is said of a network; empty and 0 is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Said<'a> {
    country: &'a str,
    region: Names<'a>,
    city: Names<'a>,
    latitude: Option<f64>,
    longitude: Option<f64>,
    /// Number of the autonomous system.
    pub(super) as_number: u32,
    as_name: &'a str,
}

impl Said<'_> {
    /// Writes `country\tregion\tcity\tlatitude\tlongitude` to an empty `label`, with names in
    /// `language`; nothing when nothing is said.
    pub(super) fn write_place(&self, language: &str, label: &mut String) {
        label.push_str(self.country);
        for name in [&self.region, &self.city] {
            label.push('\t');
            push_name(label, name.in_language(language));
        }
        let within = |degrees: Option<f64>, max: f64| degrees.filter(|d| d.abs() <= max);
        let place = within(self.latitude, 90.0).zip(within(self.longitude, 180.0));
        let (latitude, longitude) = place.unzip();
        for degrees in [latitude, longitude] {
            label.push('\t');
            if let Some(degrees) = degrees {
                push_degrees(label, degrees);
            }
        }
        if label.bytes().all(|byte| byte == b'\t') {
            label.clear();
        }
    }

    /// Writes the name of the autonomous system to `label`.
    pub(super) fn write_as_name(&self, label: &mut String) {
        push_name(label, self.as_name);
    }
}

/// Two letters of ISO 3166-1; some databases write ZZ for what is no country's.
fn is_country(code: &str) -> bool {
    code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase()) && code != "ZZ"
}

/// Characters of a name at most; the longest names of places have some 80.
const NAME_MAX: usize = 120;

/// A name without what would break the line or the label that it is shown in.
fn push_name(label: &mut String, name: &str) {
    label.extend(name.chars().filter(|c| !c.is_control()).take(NAME_MAX));
}

/// Four digits after the point at most, which is eleven metres. Made of whole numbers: there are
/// hundreds of thousands in a database, and exact printing takes a microsecond.
fn push_degrees(label: &mut String, degrees: f64) {
    let units = (degrees * 10_000.0).round_ties_even() as i32;
    let sign = if units < 0 { "-" } else { "" };
    let (whole, mut rest) = (units.unsigned_abs() / 10_000, units.unsigned_abs() % 10_000);
    let _ = write!(label, "{sign}{whole}");
    if rest == 0 {
        return;
    }
    let mut digits = 4;
    while rest.is_multiple_of(10) {
        (rest, digits) = (rest / 10, digits - 1);
    }
    let _ = write!(label, ".{rest:0digits$}");
}

impl<'de: 'a, 'a> Deserialize<'de> for Said<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Record(PhantomData))
    }
}

/// Reads [`Said`].
struct Record<'a>(PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for Record<'a> {
    type Value = Said<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of what is said of a network")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Said<'a>, A::Error> {
        let mut said = Said::default();
        while let Some(key) = map.next_key::<&str>()? {
            match key {
                "country_code" | "country" => said.take_country(&map.next_value()?),
                "subdivisions" | "state1" | "region" => said.region.or(&map.next_value()?),
                "city" => said.city.or(&map.next_value()?),
                "location" => {
                    let value: Value<'_> = map.next_value()?;
                    said.latitude = said.latitude.or(value.latitude);
                    said.longitude = said.longitude.or(value.longitude);
                }
                "latitude" => {
                    said.latitude = said.latitude.or(map.next_value::<Scalar<'_>>()?.degrees());
                }
                "longitude" => {
                    said.longitude = said.longitude.or(map.next_value::<Scalar<'_>>()?.degrees());
                }
                "traits" => {
                    let value: Value<'_> = map.next_value()?;
                    said.take_system(value.as_number, value.as_name);
                }
                "autonomous_system_number" | "as_number" | "asn" => {
                    said.take_system(map.next_value::<Scalar<'_>>()?.as_number(), "");
                }
                "autonomous_system_organization" | "as_organization" | "as_name" => {
                    said.take_system(0, map.next_value::<Scalar<'_>>()?.text);
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(said)
    }
}

// Of what is said twice the first counts.
impl<'a> Said<'a> {
    /// A flat `country` may be a name beside `country_code`.
    fn take_country(&mut self, value: &Value<'a>) {
        let codes = [self.country, value.code, value.plain.text];
        self.country = codes
            .into_iter()
            .find(|code| is_country(code))
            .unwrap_or("");
    }

    fn take_system(&mut self, number: u32, name: &'a str) {
        if self.as_number == 0 {
            self.as_number = number;
        }
        if self.as_name.is_empty() {
            self.as_name = name;
        }
    }
}

/// Names of a place.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Names<'a> {
    /// Language and name; the databases have eight.
    by_language: [(&'a str, &'a str); LANGUAGES_MAX],
    len: usize,
    /// The only name, or a code instead of names.
    plain: &'a str,
}

const LANGUAGES_MAX: usize = 16;

impl<'a> Names<'a> {
    /// In this language, else in English, else the only one there is.
    fn in_language(&self, language: &str) -> &'a str {
        let names = self.by_language.iter().take(self.len);
        let in_language = |wanted: &str| {
            let found = names.clone().find(|&&(language, _)| language == wanted);
            found.map_or("", |&(_, name)| name)
        };
        let names = [in_language(language), in_language("en"), self.plain];
        names
            .into_iter()
            .find(|name| !name.is_empty())
            .unwrap_or("")
    }

    fn or(&mut self, value: &Value<'a>) {
        if self.len > 0 || !self.plain.is_empty() {
            return;
        }
        let plains = [value.plain.text, value.code];
        let plain = plains.into_iter().find(|text| !text.is_empty());
        *self = Names {
            plain: plain.unwrap_or(""),
            ..value.names
        };
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Names<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(NamesVisitor(PhantomData))
    }
}

struct NamesVisitor<'a>(PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for NamesVisitor<'a> {
    type Value = Names<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of names by language")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names<'a>, A::Error> {
        let mut names = Names::default();
        while let Some((language, name)) = map.next_entry::<&str, Scalar<'_>>()? {
            if let Some(entry) = names.by_language.get_mut(names.len) {
                *entry = (language, name.text);
                names.len += 1;
            }
        }
        Ok(names)
    }
}

/// A text or a number; of what is neither, nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Scalar<'a> {
    text: &'a str,
    number: Option<f64>,
}

impl Scalar<'_> {
    fn degrees(&self) -> Option<f64> {
        self.number.or_else(|| self.text.parse().ok())
    }

    /// `13335`, or as text `13335` or `AS13335`; 0 is none.
    fn as_number(&self) -> u32 {
        let text = self.text.strip_prefix("AS").unwrap_or(self.text);
        let number = self.number.filter(|&number| number <= f64::from(u32::MAX));
        number.map_or_else(|| text.parse().unwrap_or(0), |number| number as u32)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = deserializer.deserialize_any(ValueVisitor {
            nesting: Nesting::Skipped,
            of: PhantomData,
        })?;
        Ok(value.plain)
    }
}

/// The value of a field: itself, or those of its parts that mean something.
#[derive(Clone, Copy, Debug, Default)]
struct Value<'a> {
    plain: Scalar<'a>,
    /// `iso_code`
    code: &'a str,
    names: Names<'a>,
    latitude: Option<f64>,
    longitude: Option<f64>,
    as_number: u32,
    as_name: &'a str,
}

impl<'de: 'a, 'a> Deserialize<'de> for Value<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor {
            nesting: Nesting::Read,
            of: PhantomData,
        })
    }
}

/// The value of a field in a list: no list again.
struct Element<'a>(Value<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for Element<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let visitor = ValueVisitor {
            nesting: Nesting::Map,
            of: PhantomData,
        };
        deserializer.deserialize_any(visitor).map(Self)
    }
}

/// Which nested values are read. It only ever grows less, so that a hostile file cannot nest us
/// deeper than a list, a map in it, and the names in that.
#[derive(Clone, Copy, PartialEq)]
enum Nesting {
    Read,
    Map,
    Skipped,
}

struct ValueVisitor<'a> {
    nesting: Nesting,
    of: PhantomData<&'a ()>,
}

impl<'a> ValueVisitor<'a> {
    fn plain<E>(text: &'a str, number: Option<f64>) -> Result<Value<'a>, E> {
        Ok(Value {
            plain: Scalar { text, number },
            ..Value::default()
        })
    }
}

impl<'de: 'a, 'a> Visitor<'de> for ValueVisitor<'a> {
    type Value = Value<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Value<'a>, E> {
        Self::plain(text, None)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value<'a>, E> {
        Self::plain("", Some(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value<'a>, E> {
        Self::plain("", Some(number as f64))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value<'a>, E> {
        Self::plain("", Some(number as f64))
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<Value<'a>, E> {
        Ok(Value::default())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Value<'a>, E> {
        Ok(Value::default())
    }

    fn visit_bytes<E: Error>(self, _: &[u8]) -> Result<Value<'a>, E> {
        Ok(Value::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value<'a>, A::Error> {
        let mut first = None;
        if self.nesting == Nesting::Read {
            // The largest subdivision is the first.
            first = list.next_element::<Element<'_>>()?;
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(first.map(|Element(value)| value).unwrap_or_default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'a>, A::Error> {
        let mut value = Value::default();
        while let Some(key) = map.next_key::<&str>()? {
            if self.nesting == Nesting::Skipped {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let mut scalar = || map.next_value::<Scalar<'_>>();
            match key {
                "names" => value.names = map.next_value()?,
                "iso_code" => value.code = scalar()?.text,
                "latitude" => value.latitude = scalar()?.number,
                "longitude" => value.longitude = scalar()?.number,
                "autonomous_system_number" => value.as_number = scalar()?.as_number(),
                "autonomous_system_organization" => value.as_name = scalar()?.text,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn degrees_have_four_digits_at_most() {
        let shown = |degrees| {
            let mut label = "0".to_owned();
            push_degrees(&mut label, degrees);
            label[1..].to_owned()
        };
        for (degrees, text) in [
            (0.0, "0"),
            (-0.000_01, "0"),
            (-0.5, "-0.5"),
            (100.0, "100"),
            (f64::from(-27.4767_f32), "-27.4767"),
            (35.676_24, "35.6762"),
        ] {
            assert_eq!(shown(degrees), text);
        }
    }

    #[test]
    fn names_lose_what_breaks_a_label_and_what_is_too_long() {
        let name = |name| {
            let mut label = String::new();
            push_name(&mut label, name);
            label
        };
        assert_eq!(name("a\tb\nc\u{0}d\u{7f}e\u{85}f é"), "abcdef é");
        assert_eq!(name(&"ü".repeat(1000)), "ü".repeat(NAME_MAX));
    }

    #[test]
    fn a_place_outside_of_the_globe_is_none() {
        let said = |latitude, longitude| Said {
            country: "JP",
            latitude,
            longitude,
            ..Said::default()
        };
        let label = |said: Said<'_>| {
            let mut label = String::new();
            said.write_place("en", &mut label);
            label
        };
        assert_eq!(label(said(Some(35.5), Some(139.0))), "JP\t\t\t35.5\t139");
        for place in [
            (Some(90.1), Some(0.0)),
            (Some(0.0), Some(-180.1)),
            (Some(f64::NAN), Some(0.0)),
            (Some(1.0), None),
        ] {
            assert_eq!(label(said(place.0, place.1)), "JP\t\t\t\t");
        }
        assert_eq!(label(Said::default()), "");
    }
}
