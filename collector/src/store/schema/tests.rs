use super::*;
use crate::batch::schema::{COLUMNS, Source};
use crate::config::{self, Partition};

#[test]
fn sql_declares_the_columns_that_the_batch_fills() {
    let declared = declared("flows");
    let names = |all: &[(String, String)]| -> Vec<String> {
        all.iter().map(|(name, _)| name.clone()).collect()
    };
    let wanted: Vec<_> = COLUMNS.iter().map(|c| c.name.to_owned()).collect();
    assert_eq!(names(&declared), wanted);
    for (column, (name, rest)) in COLUMNS.iter().zip(&declared) {
        let sql_type = column.sql_type;
        let rest = rest
            .strip_prefix(sql_type)
            .unwrap_or_else(|| panic!("{name} {rest}: the batch sends {sql_type}"))
            .trim();
        match column.source {
            Source::Alias(expression) => {
                assert_eq!(rest, format!("ALIAS {expression}"), "{name}");
            }
            _ => assert!(
                rest.is_empty()
                    || rest.starts_with("CODEC(")
                    // Said in every block, so that nobody takes zeros for left out.
                    || (name == "client_is_src" && rest.starts_with("DEFAULT true CODEC(")),
                "{name} {rest}"
            ),
        }
    }
}

/// What people say of exporters, in a table: not dropped with age, the same on every node.
const SWITCH: &str = "ingress_only";

#[test]
fn a_cluster_has_each_migration_and_tables_by_the_names_of_one_server() {
    assert_eq!(cluster::MIGRATIONS.len(), MIGRATIONS.len());
    let tables_of = |sql: &str| -> Vec<String> {
        let tables = statements(sql).filter_map(|statement| match effect(&statement) {
            Effect::Table(name) => Some(name.to_owned()),
            _ => None,
        });
        tables.collect()
    };
    for migration in MIGRATIONS {
        let mut wanted = Vec::new();
        for table in tables_of(migration.sql) {
            // These are one table on all nodes, or hold nothing.
            let is_alike = [MIGRATIONS_TABLE, SWITCH, "flows_spread"].contains(&table.as_str());
            if !is_alike {
                wanted.push(cluster::written(&table, Some("main")));
            }
            wanted.push(table);
        }
        // A view is asked through a distributed table.
        let create = "CREATE VIEW IF NOT EXISTS {database}.";
        let is_view = |table: &String| migration.sql.contains(&format!("{create}{table} AS"));
        let mut made = tables_of(migration.sql_for(Some("main")));
        made.retain(|table| !is_view(table));
        assert_eq!(made, wanted, "{}", migration.name);
    }
}

#[test]
fn migrations_are_numbered_without_gaps() {
    for (i, migration) in MIGRATIONS.iter().enumerate() {
        assert_eq!(migration.version as usize, i + 1, "{}", migration.name);
    }
}

#[test]
fn every_table_of_ours_keeps_its_rows_as_long_as_is_configured_and_none_twice() {
    let tables = made(MIGRATIONS, None);
    assert_eq!(tables[..3], [MIGRATIONS_TABLE, "flows", "exporter_gaps"]);
    for table in &tables[1..] {
        let engine = declaration(table, None);
        let found = Engine::of(&engine);
        if found.is_merge_tree() {
            let is_kept_for_good = table == SWITCH;
            assert!(
                engine.contains(" TTL ") != is_kept_for_good,
                "{table}: {engine}"
            );
            assert!(found.setting(WINDOW).is_some(), "{table}: {engine}");
        }
    }
    let kept = kept(&Wanted::new(&config::Store::default()));
    for table in ["flows", "exporters", "hosts", "interface_counters"] {
        assert!(kept.iter().any(|name| name == table), "{table}: {kept:?}");
    }
    assert!(!kept.contains(&MIGRATIONS_TABLE.to_owned()));
}

#[test]
fn what_a_migration_drops_is_not_missed() {
    let of = |sql| Migration {
        version: 1,
        name: "x",
        sql,
    };
    let migrations = [
        of("CREATE TABLE IF NOT EXISTS {database}.a (x UInt8);\n\
            CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.v TO {database}.a AS SELECT 1;\n"),
        of("DROP VIEW IF EXISTS {database}.v;\n\
            CREATE OR REPLACE VIEW {database}.w AS SELECT 1;\n"),
    ];
    assert_eq!(made(&migrations[..1], None), ["a", "v"]);
    assert_eq!(made(&migrations, None), ["a", "w"]);
}

#[test]
fn flows_is_partitioned_where_the_length_can_be_filled_in() {
    let partition = |partition| {
        let store = config::Store {
            partition,
            ..config::Store::default()
        };
        let all = sql("db", &Wanted::new(&store));
        let made = all
            .iter()
            .find(|sql| sql.contains("`db`.flows\n("))
            .unwrap();
        let (_, engine) = made.split_once("\nENGINE = ").unwrap();
        let engine = engine.split_whitespace().collect::<Vec<_>>().join(" ");
        Engine::of(&engine).partition.to_owned()
    };
    for length in Partition::LENGTHS {
        assert_eq!(partition(length), wanted::key_of(length));
    }
    assert_eq!(partition(Partition::Auto), "toDate(time_received)");
}

#[test]
fn every_statement_may_run_again() {
    for migration in MIGRATIONS {
        for statement in statements(migration.sql) {
            let guards = [
                "IF NOT EXISTS",
                "IF EXISTS",
                "CREATE OR REPLACE VIEW",
                "MODIFY SETTING",
                "MODIFY QUERY",
            ];
            let is_guarded = guards.iter().any(|guard| statement.contains(guard));
            assert!(is_guarded, "{statement}");
            if let Effect::Alters(_) = effect(&statement) {
                assert_eq!(unguarded(&statement), Vec::<&str>::new());
            }
        }
    }
}

/// The commands of an `ALTER TABLE` that fail or do something else when they run again.
fn unguarded(alter: &str) -> Vec<&str> {
    let lines = alter.lines().map(str::trim);
    let commands = lines.filter(|line| {
        let verb = line.split(' ').next();
        ["ADD", "DROP", "MODIFY", "RENAME"].contains(&verb.unwrap_or_default())
    });
    let guards = [
        "ADD COLUMN IF NOT EXISTS ",
        "DROP COLUMN IF EXISTS ",
        "MODIFY COLUMN IF EXISTS ",
        "MODIFY SETTING ",
        "MODIFY QUERY ",
    ];
    let is_guarded = |command: &&str| guards.iter().any(|guard| command.starts_with(guard));
    commands.filter(|command| !is_guarded(command)).collect()
}

#[test]
fn each_command_of_an_alter_has_its_own_guard() {
    let alter = "ALTER TABLE {database}.x\n    ADD COLUMN IF NOT EXISTS a UInt8,\n    \
                 ADD COLUMN b UInt8,\n    DROP COLUMN c,\n    MODIFY COLUMN d UInt16";
    let found = unguarded(alter);
    assert_eq!(
        found,
        [
            "ADD COLUMN b UInt8,",
            "DROP COLUMN c,",
            "MODIFY COLUMN d UInt16"
        ]
    );
}

#[test]
fn a_table_that_was_made_with_a_cluster_is_not_taken_for_one_without() {
    let distributed = "Distributed('main', 'flowsluice', 'flows_local', rand())";
    let here = "MergeTree ORDER BY x";
    let found = |table, engine, cluster| made_otherwise(table, Engine::of(engine), cluster);
    let main = Some("main");
    assert_eq!(found("flows", distributed, main), None);
    assert_eq!(found("flows", here, None), None);
    assert_eq!(found("flows", distributed, None), Some("with"));
    assert_eq!(found("flows", here, main), Some("without"));
    // Rows are there, replicated or, without Keeper, not.
    assert_eq!(found("flows_local", here, main), None);
    assert_eq!(found("conversations_by_hour", "", None), None);
    assert_eq!(found("conversations_by_hour", distributed, main), None);
    assert_eq!(found("conversations_by_hour", "", main), Some("without"));
    assert_eq!(found("flows_spread", "Null", main), None);
}

#[test]
fn settings_of_a_replica_follow_the_profile_and_its_window_of_tokens_is_left() {
    let store = config::Store {
        url: Some("http://db:8123".into()),
        cluster: Some("main".into()),
        profile: config::Profile::Hdd,
        ..config::Store::default()
    };
    let declared = declaration("flows_local", Some("main"));
    let declared = declared.replace("{retention_seconds}", "2592000");
    let mut plan = Plan::default();
    let wanted = Wanted::new(&store);
    follow(
        "flows_local",
        Engine::of(&declared),
        "db",
        &wanted,
        &mut plan,
    );
    let statements: Vec<_> = plan.steps.iter().map(|step| &*step.statement).collect();
    let alter = "ALTER TABLE `db`.flows_local ON CLUSTER 'main' MODIFY SETTING";
    assert_eq!(
        statements,
        [
            format!("{alter} min_bytes_for_wide_part = 536870912"),
            format!("{alter} max_bytes_to_merge_at_max_space_in_pool = 34359738368"),
        ]
    );
}
