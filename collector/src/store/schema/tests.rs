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
            assert!(found.setting(wanted::WINDOW).is_some(), "{table}: {engine}");
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
        }
    }
}
