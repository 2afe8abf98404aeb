//! What `system.tables.engine_full` says of a table.

/// The parts of an engine's text, such as `MergeTree PARTITION BY toDate(x) ORDER BY x TTL x +
/// toIntervalSecond(5) SETTINGS a = 1, b = 2`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Engine<'a> {
    /// The engine alone: `MergeTree`, `Null`, `ReplicatedSummingMergeTree`; '' for a view.
    pub name: &'a str,
    /// The partition key; '' for a table without one.
    pub partition: &'a str,
    /// Column and seconds of the retention, if it has the form of `sql/`.
    pub retention: Option<(&'a str, u64)>,
    settings: &'a str,
}

impl<'a> Engine<'a> {
    /// Of the text as ClickHouse writes it: one line.
    pub fn of(engine_full: &'a str) -> Self {
        let (rest, settings) = engine_full
            .split_once(" SETTINGS ")
            .unwrap_or((engine_full, ""));
        let (rest, rule) = rest.split_once(" TTL ").unwrap_or((rest, ""));
        let partition = rest.split_once(" PARTITION BY ").map_or("", |(_, key)| {
            let ends = [" PRIMARY KEY ", " ORDER BY "].map(|word| key.find(word));
            let end = ends.into_iter().flatten().min();
            &key[..end.unwrap_or(key.len())]
        });
        let end = engine_full.find([' ', '(']).unwrap_or(engine_full.len());
        Self {
            name: &engine_full[..end],
            partition,
            retention: retention(rule),
            settings,
        }
    }

    /// Whether it keeps rows by itself: no view, no `Null`.
    pub fn is_merge_tree(&self) -> bool {
        self.name.ends_with("MergeTree")
    }

    /// Whether it is a replica, for which the windows of tokens are settings of other names.
    pub fn is_replicated(&self) -> bool {
        self.name.starts_with("Replicated")
    }

    /// Whether it asks the tables of all shards.
    pub fn is_distributed(&self) -> bool {
        self.name == "Distributed"
    }

    /// A setting that the table has a number of its own for.
    pub fn setting(&self, name: &str) -> Option<u64> {
        let mut settings = self.settings.split(", ");
        let value = settings.find_map(|one| one.strip_prefix(name)?.strip_prefix(" = "));
        value?.parse().ok()
    }
}

/// Column and seconds of `time_received + toIntervalSecond(2592000)`.
fn retention(rule: &str) -> Option<(&str, u64)> {
    let (column, rest) = rule.split_once(" + toIntervalSecond(")?;
    let seconds = rest.strip_suffix(')')?.parse().ok()?;
    let is_name = column
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then_some((column, seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partition_retention_and_settings_are_read_from_the_engine() {
        let engine = Engine::of(
            "MergeTree PARTITION BY toStartOfInterval(time_received, toIntervalHour(6)) \
             PRIMARY KEY x ORDER BY (x, y) TTL time_received + toIntervalSecond(2592000) \
             SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000, \
             storage_policy = 'a = 7, b', index_granularity = 8192",
        );
        let partition = "toStartOfInterval(time_received, toIntervalHour(6))";
        assert_eq!(engine.name, "MergeTree");
        assert_eq!(engine.partition, partition);
        assert_eq!(engine.retention, Some(("time_received", 2_592_000)));
        let window = engine.setting("non_replicated_deduplication_window");
        assert_eq!(window, Some(1000));
        assert_eq!(engine.setting("index_granularity"), Some(8192));
        assert_eq!(engine.setting("deduplication_window"), None);
        assert_eq!(engine.setting("storage_policy"), None);
    }

    #[test]
    fn what_keeps_no_rows_of_its_own_is_no_merge_tree() {
        let is_one = |engine| Engine::of(engine).is_merge_tree();
        assert!(is_one("SummingMergeTree((a, b)) ORDER BY x"));
        assert!(is_one("ReplicatedMergeTree('/a', '{replica}') ORDER BY x"));
        assert!(Engine::of("ReplicatedMergeTree('/a', '{replica}') ORDER BY x").is_replicated());
        let distributed = Engine::of("Distributed('main', 'flows', 'flows_local', rand())");
        assert!(distributed.is_distributed() && !distributed.is_merge_tree());
        assert!(!is_one("Null") && !is_one("MaterializedView") && !is_one(""));
    }

    #[test]
    fn a_rule_of_somebody_elses_is_none_of_ours() {
        let retention = |rule: &str| {
            let engine = format!("MergeTree ORDER BY x TTL {rule} SETTINGS z = 1");
            Engine::of(&engine).retention.is_some()
        };
        assert!(retention("x + toIntervalSecond(5)"));
        assert!(!retention("x + toIntervalSecond(5) WHERE y"));
        assert!(!retention("x + toIntervalDay(5)"));
        assert!(!retention("toDateTime(x) + toIntervalSecond(5)"));
        assert_eq!(Engine::of(""), Engine::default());
        assert_eq!(Engine::of("MergeTree ORDER BY x").retention, None);
    }
}
