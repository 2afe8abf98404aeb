//! The schema takes what the collector takes, and is the one that is committed.

use super::*;
use crate::config::documented::DOCUMENTED;
use crate::config::parse;
use crate::config::tests::uncommented;

const COMMITTED: &str = include_str!("../../../../deploy/flowsluice.schema.json");

/// What a schema has against a value, of the words that this schema uses.
fn faults(schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (word, rule) in schema.as_object().expect("a schema is an object") {
        let fits = match word.as_str() {
            "$schema" | "title" | "description" => rule.is_string(),
            "default" => self::faults(&without_default(schema), rule, at).is_empty(),
            "type" => rule == kind_of(value),
            "minimum" => value.as_u64() >= rule.as_u64(),
            "maximum" => value.as_u64() <= rule.as_u64(),
            "enum" => rule.as_array().unwrap().contains(value),
            "pattern" => {
                let pattern = regex::Regex::new(rule.as_str().unwrap()).unwrap();
                value.as_str().is_some_and(|text| pattern.is_match(text))
            }
            "required" => {
                let mut names = rule.as_array().unwrap().iter().filter_map(Value::as_str);
                names.all(|name| value.get(name).is_some())
            }
            "items" => {
                for (index, one) in value.as_array().into_iter().flatten().enumerate() {
                    faults.extend(self::faults(rule, one, &format!("{at}[{index}]")));
                }
                true
            }
            "properties" => {
                for (name, one) in value.as_object().into_iter().flatten() {
                    let at = format!("{at}.{name}");
                    match rule.get(name) {
                        Some(rule) => faults.extend(self::faults(rule, one, &at)),
                        None => faults.push(format!("{at}: unknown")),
                    }
                }
                true
            }
            // Then `properties` are all that there may be.
            "additionalProperties" => rule == false && schema.get("properties").is_some(),
            other => panic!("{at}: this test does not know '{other}'"),
        };
        if !fits {
            faults.push(format!("{at}: {word}: {rule} does not fit {value}"));
        }
    }
    faults
}

fn without_default(schema: &Value) -> Value {
    let mut schema = schema.clone();
    schema.as_object_mut().unwrap().remove("default");
    schema
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// What the schema has against a file.
fn told(text: &str) -> Vec<String> {
    let schema: Value = serde_json::from_str(&json_schema()).unwrap();
    let file: toml::Table = text.parse().unwrap();
    faults(&schema, &serde_json::to_value(file).unwrap(), "")
}

#[test]
fn the_committed_schema_is_current() {
    assert!(
        json_schema() == COMMITTED,
        "run 'flowsluice init --json-schema > deploy/flowsluice.schema.json'"
    );
}

#[test]
fn the_documented_file_fits_as_it_is_with_its_defaults_and_with_its_examples() {
    for text in [
        DOCUMENTED.to_owned(),
        uncommented(DOCUMENTED, false),
        uncommented(DOCUMENTED, true),
    ] {
        assert_eq!(told(&text), [""; 0]);
    }
}

#[test]
fn every_key_has_a_type_and_a_description() {
    let schema: Value = serde_json::from_str(&json_schema()).unwrap();
    for key in keys::all() {
        let mut place = &schema;
        for step in key.path.split('.') {
            place = &place["properties"][step.trim_end_matches("[]")];
            if step.ends_with("[]") {
                place = &place["items"];
            }
        }
        assert!(place["type"].is_string(), "{}", key.path);
        assert!(place["description"].is_string(), "{}", key.path);
    }
    let burst = &schema["properties"]["receive"]["properties"]["burst"];
    assert_eq!(burst["type"], "integer");
    assert_eq!(burst["default"], 256);
}

/// Whether the collector takes the types of a file; it may find fault with their meaning.
fn is_taken(text: &str) -> bool {
    let allowed = keys::all().map(|key| format!("; allowed: {}", key.kind.allowed()));
    let allowed: Vec<_> = allowed.collect();
    let problems = parse("f.toml", text).map_or_else(|error| error.problems, |_| Vec::new());
    let mut texts = problems.iter().map(|problem| &problem.text);
    !texts.any(|text| {
        let is_type = allowed.iter().any(|end| text.ends_with(end));
        is_type || text.starts_with("unknown key") || text.starts_with("missing")
    })
}

#[test]
fn the_schema_refuses_what_the_collector_refuses_and_nothing_else() {
    let mut refused = 0;
    let files = FILES.map(str::to_owned).into_iter();
    let times = TIMES.map(|time| format!("[batch]\nage_max = \"{time}\"\n"));
    let sizes = SIZES.map(|size| format!("[store]\nqueue_max = \"{size}\"\n"));
    for text in files.chain(times).chain(sizes) {
        let (told, is_taken) = (told(&text), is_taken(&text));
        assert_eq!(told.is_empty(), is_taken, "{text}{told:?}");
        refused += usize::from(!is_taken);
    }
    assert!(refused > 20, "only {refused} were refused");
}

const TIMES: [&str; 15] = [
    "1s", "0", "0s", "1h 30min", "1h30min", "1.5 s", " 2 days", "10 M", "7µs", "1d ", "", "1", "s",
    "1 parsec", "-1s",
];

const SIZES: [&str; 14] = [
    "64MiB", "64 mib", "1.5GB", ".5g", "1.kB", "7", "9B", "2Ki", "", "MiB", "1 XB", "1ib", "-1B",
    "1.5",
];

/// One or two keys each.
const FILES: [&str; 32] = [
    "",
    "[receive]\nworkers = 4\n",
    "[receive]\nworkers = -1\n",
    "[receive]\nworkers = \"4\"\n",
    "[receive]\nworkers = 1.5\n",
    "[receive]\nworkerz = 4\n",
    "[recieve]\n",
    "receive = 3\n",
    "[receive]\npin = 1\n",
    "[receive]\ncpus = [1, 2]\n",
    "[receive]\ncpus = [\"1\"]\n",
    "[receive]\nlisteners = 5\n",
    "[[receive.listeners]]\nport = 2055\nprotocols = [\"ipfix\"]\n",
    "[[receive.listeners]]\nport = 65536\n",
    "[[receive.listeners]]\naddress = \"::\"\n",
    "[[receive.listeners]]\nport = 2055\naddress = \"here\"\n",
    "[[receive.listeners]]\nport = 2055\nname = \"x\"\n",
    "[receive]\nallow = [\"192.0.2.0/24\", \"2001:db8::/32\"]\n",
    "[receive]\nallow = [\"192.0.2.1\"]\n",
    "[receive.xdp]\nframes = 4294967296\n",
    "[receive.xdp]\ndestinations = [\"192.0.2.1\", \"2001:db8::1\"]\n",
    "[receive.xdp]\nattach = \"driver\"\n",
    "[decode]\nprotocols = [\"ipfix\", \"sflow5\"]\n",
    "[decode]\nprotocols = [\"ipfix\", \"sflow4\"]\n",
    "[decode]\nextra = [\"9.*\"]\n",
    "[store]\nurls = [\"http://a:8123\"]\nspool.mode = \"overflow\"\n",
    "[store]\nurl = [\"http://a:8123\"]\n",
    "[store.embedded]\nhttp = \"[::1]:8123\"\ntcp = \"127.0.0.1:9000\"\n",
    "[store.embedded]\nhttp = \"127.0.0.1\"\n",
    "[store.budget]\nmax_bytes = 500\n",
    "[[enrich.threats]]\nfile = \"/x\"\n",
    "[http]\nlisten = \"127.0.0.1:9190\"\nport = 1\n",
];
