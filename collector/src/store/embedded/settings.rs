//! ClickHouse's own two files: `config.xml` and `users.xml`.
//!
//! ClickHouse's `local` always has a session of the user `default`, without a password, and that
//! user is one for clients too. These locks keep everybody else from being it:
//! 1. The HTTP listener answers nobody who does not name one of our users (`http_handlers`). A
//!    request can do so and still be `default`: basic authentication gives way to `?user=`.
//! 2. It may have one session, which `local` has. Not with a native listener: there the engine
//!    aborts when it refuses a session.
//! 3. Its quota is the two queries that the session runs. Queries without a table are not counted.
//! 4. It is granted nothing but what these two queries need, and known on loopback only.
//!
//! So nobody is `default` by HTTP; with `store.embedded.tcp` a local program can be, and can
//! evaluate constants on one thread, but reads nothing and stops nothing.
//! `?user=` in the URL is not taken: the handlers cannot look at it, and addresses get logged.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::config::{Profile, Secret};

/// What the two files are made of.
pub(super) struct Settings<'a> {
    pub http: SocketAddr,
    /// Whether there is a native listener beside it.
    pub has_tcp: bool,
    /// Bytes.
    pub memory_max: u64,
    /// The disk under the tables.
    pub profile: Profile,
    pub database: &'a str,
    /// Tells our child from another ClickHouse on the same port.
    pub display_name: String,
    /// ClickHouse's log.
    pub log: PathBuf,
    /// The only folder that backups are written to and read from.
    pub backups: PathBuf,
    pub writer: Secret,
    pub reader: Secret,
    pub backup: Secret,
    pub supervisor: Secret,
}

impl Settings<'_> {
    /// The server's side: memory, threads, log, and who may speak to it at all.
    pub fn config_xml(&self) -> String {
        let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        // Merges at once are `merges` times `merges_ratio`: on a rotating disk each takes the head
        // away from the others.
        let (merges, merges_ratio) = match self.profile {
            Profile::Ssd => (threads.clamp(2, 8), 2),
            Profile::Hdd => (2, 1),
        };
        let caches = (self.memory_max / 16).clamp(8 << 20, 256 << 20);
        let mut xml = String::from("<clickhouse>\n");
        let settings: &[(&str, &dyn std::fmt::Display)] = &[
            ("users_config", &"users.xml"),
            ("display_name", &escape(&self.display_name)),
            ("timezone", &"UTC"),
            ("max_server_memory_usage", &self.memory_max),
            ("mark_cache_size", &caches),
            ("primary_index_cache_size", &caches),
            ("index_mark_cache_size", &(caches / 4)),
            ("uncompressed_cache_size", &0),
            ("index_uncompressed_cache_size", &0),
            ("query_condition_cache_size", &(8 << 20)),
            ("compiled_expression_cache_size", &(32 << 20)),
            ("background_pool_size", &merges),
            (
                "background_merges_mutations_concurrency_ratio",
                &merges_ratio,
            ),
            // Where processors are short, rows are taken in and questions answered before parts are
            // merged: an insert had waited 15 s behind merges of four million rows.
            ("os_threads_nice_value_merge_mutate", &5),
            ("background_schedule_pool_size", &8),
            ("background_common_pool_size", &2),
            ("background_move_pool_size", &1),
            ("background_fetches_pool_size", &1),
            ("background_buffer_flush_schedule_pool_size", &1),
            ("background_message_broker_schedule_pool_size", &1),
            ("background_distributed_schedule_pool_size", &1),
            ("max_connections", &256),
            ("keep_alive_timeout", &30),
            // Once a second, the default, is most of what an idle engine does.
            ("asynchronous_metrics_update_period_s", &10),
            ("asynchronous_heavy_metrics_update_period_s", &300),
        ];
        for (name, value) in settings {
            element(&mut xml, name, value);
        }
        // System logs (query_log, metric_log, ...) exist only when they are configured: none is,
        // they would cost more merges than the flows of a small site.
        let _ = write!(
            xml,
            "<logger><level>warning</level><log>{}</log><size>10M</size><count>2</count></logger>\n\
             <send_crash_reports><enabled>false</enabled></send_crash_reports>\n",
            escape(&self.log.to_string_lossy())
        );
        let _ = writeln!(
            xml,
            "<backups><allowed_path>{}</allowed_path></backups>",
            escape(&self.backups.to_string_lossy())
        );
        // The defaults suppose a pool of 32 and refuse to make tables with a smaller one.
        xml.push_str("<merge_tree>\n");
        for name in [
            "number_of_free_entries_in_pool_to_execute_mutation",
            "number_of_free_entries_in_pool_to_lower_max_size_of_merge",
            "number_of_free_entries_in_pool_to_execute_optimize_entire_partition",
        ] {
            element(&mut xml, name, &merges);
        }
        xml.push_str("</merge_tree>\n");
        http_handlers(&mut xml);
        xml.push_str("</clickhouse>\n");
        xml
    }

    /// Who there is, with what rights and limits.
    pub fn users_xml(&self) -> String {
        let mut xml = String::from("<clickhouse>\n");
        self.profiles(&mut xml);
        // 2^31 - 1 s is the longest interval there is: it ends in 2038, and begins with the child.
        xml.push_str(
            "<quotas>\n<unlimited/>\n<session_of_local><interval><duration>2147483647</duration>\
             <queries>2</queries></interval></session_of_local>\n</quotas>\n<users>\n",
        );
        let database = quote(self.database);
        let ours = [IpAddr::from([127, 0, 0, 1]), self.http.ip()];
        user(
            &mut xml,
            "default",
            &Secret::new(""),
            ("session_of_local", "session_of_local", &ours[..1]),
            &[
                "GRANT SYSTEM LISTEN ON *.*".into(),
                "GRANT SELECT ON system.numbers".into(),
            ],
        );
        user(
            &mut xml,
            SUPERVISOR,
            &self.supervisor,
            ("unlimited", "supervisor", &ours),
            &[
                "GRANT KILL QUERY, SYSTEM LISTEN ON *.*".into(),
                "GRANT SELECT ON system.processes".into(),
            ],
        );
        // It reads no table and writes none: restoring is the writer's, who may make tables.
        user(
            &mut xml,
            BACKUP,
            &self.backup,
            ("unlimited", "writer", &ours),
            &[format!("GRANT BACKUP ON {database}.*")],
        );
        let anywhere = &[IpAddr::from([0; 16])];
        user(
            &mut xml,
            WRITER,
            &self.writer,
            ("unlimited", "writer", anywhere),
            &writer_grants(&database),
        );
        user(
            &mut xml,
            READER,
            &self.reader,
            ("unlimited", "reader", anywhere),
            &reader_grants(&database),
        );
        xml.push_str("</users>\n</clickhouse>\n");
        xml
    }

    fn profiles(&self, xml: &mut String) {
        let query_bytes_max = self.memory_max / 2;
        let reader_bytes_max = self.memory_max / 4 * 3;
        let sessions = if self.has_tcp { 0 } else { 1 };
        // Holds for merges as well. By default 128 KiB, a millisecond of a rotating disk's time
        // behind ten for the seek.
        let buffer = match self.profile {
            Profile::Ssd => "",
            Profile::Hdd => {
                "<max_read_buffer_size_local_fs>1048576</max_read_buffer_size_local_fs>"
            }
        };
        // `readonly` 2 lets a dashboard's client change settings, and the constraints hold those
        // that guard the collector; 0 would mean no limit, hence the minimum.
        let _ = write!(
            xml,
            "<profiles>\n<default>{buffer}</default>\n<writer/>\n\
             <supervisor><max_threads>1</max_threads>\
             </supervisor>\n\
             <session_of_local><max_threads>1</max_threads>\
             <max_sessions_for_user>{sessions}</max_sessions_for_user>\
             <max_memory_usage>{SESSION_BYTES_MAX}</max_memory_usage><constraints>\
             <max_threads><readonly/></max_threads>\
             <max_memory_usage><readonly/></max_memory_usage>\
             <max_untracked_memory><readonly/></max_untracked_memory>\
             </constraints></session_of_local>\n\
             <reader><readonly>2</readonly>\
             <max_execution_time>{READER_SECONDS_MAX}</max_execution_time>\
             <max_memory_usage>{query_bytes_max}</max_memory_usage>\
             <max_memory_usage_for_user>{reader_bytes_max}</max_memory_usage_for_user>\
             <constraints>\
             <max_execution_time><min>1</min><max>{READER_SECONDS_MAX}</max></max_execution_time>\
             <max_memory_usage><min>1</min><max>{query_bytes_max}</max></max_memory_usage>\
             <max_memory_usage_for_user><readonly/></max_memory_usage_for_user>\
             <max_untracked_memory><readonly/></max_untracked_memory>\
             </constraints></reader>\n</profiles>\n"
        );
    }
}

/// The rules that a request must pass before ClickHouse looks at its credentials.
fn http_handlers(xml: &mut String) {
    const QUERY: &str = "<handler><type>dynamic_query_handler</type>\
                         <query_param_name>query</query_param_name></handler>";
    let users = [WRITER, READER, SUPERVISOR, BACKUP];
    let _ = write!(
        xml,
        "<http_handlers>\n\
         <rule><url>/ping</url><handler><type>ping</type></handler></rule>\n\
         <rule><headers><X-ClickHouse-User>regex:({})</X-ClickHouse-User></headers>{QUERY}</rule>\n\
         <rule><headers><Authorization>regex:(?i:Basic) ({})[A-Za-z0-9+/=]*</Authorization>\
         </headers>{QUERY}</rule>\n\
         <rule><handler><type>static</type><status>401</status>\
         <http_response_headers><WWW-Authenticate>Basic realm=\"flowsluice\"</WWW-Authenticate>\
         </http_response_headers><content_type>text/plain; charset=UTF-8</content_type>\
         <response_content>{REFUSAL}</response_content></handler></rule>\n</http_handlers>\n",
        users.join("|"),
        [WRITER, READER].map(basic_prefix).join("|"),
    );
}

/// How the base64 of `user:anything` begins, as a regular expression.
///
/// Three bytes make four digits, so a name of whole triples has digits of its own; the colon is
/// the six bits of `O` and two that begin a digit from `g` to `v`.
fn basic_prefix(user: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (triples, rest) = user.as_bytes().as_chunks::<3>();
    assert!(rest.is_empty(), "the names below are whole triples");
    let mut prefix = String::new();
    for [a, b, c] in triples {
        let bits = u32::from_be_bytes([0, *a, *b, *c]);
        for shift in [18, 12, 6, 0] {
            let digit = usize::try_from(bits >> shift & 63).expect("six bits");
            prefix.push(char::from(DIGITS[digit]));
        }
    }
    prefix + "O[g-v]"
}

type Membership<'a> = (&'a str, &'a str, &'a [IpAddr]);

/// One user. Explicit grants replace everything that ClickHouse would allow by default: without
/// them even a read-only user reads the host's files through `file()`.
fn user(
    xml: &mut String,
    name: &str,
    password: &Secret,
    (quota, profile, networks): Membership<'_>,
    grants: &[String],
) {
    let _ = write!(xml, "<{name}>");
    element(xml, "password", &escape(password.reveal()));
    xml.push_str("<networks>");
    for address in networks {
        let anywhere = if address.is_unspecified() { "/0" } else { "" };
        let _ = write!(xml, "<ip>{address}{anywhere}</ip>");
    }
    xml.push_str("</networks>\n");
    element(xml, "profile", &profile);
    element(xml, "quota", &quota);
    xml.push_str("<grants>\n");
    for grant in grants {
        element(xml, "query", &escape(grant));
    }
    let _ = writeln!(xml, "</grants></{name}>");
}

/// What migrations and inserts need: everything inside the one database, nothing outside of it.
fn writer_grants(database: &str) -> Vec<String> {
    let inside = "SELECT, INSERT, ALTER, CREATE, DROP, TRUNCATE, OPTIMIZE, SHOW, dictGet, \
                  SYSTEM MERGES, SYSTEM TTL MERGES, SYSTEM VIEWS";
    let mut grants = vec![
        format!("GRANT {inside} ON {database}.*"),
        "GRANT SELECT ON system.*".into(),
        "GRANT SYSTEM RELOAD DICTIONARY ON *.*".into(),
        // A view is made to run as its maker.
        format!("GRANT SET DEFINER ON {WRITER}"),
    ];
    grants.extend(TABLE_ENGINES.map(|engine| format!("GRANT TABLE ENGINE ON {engine}")));
    grants
}

/// What dashboards and people need.
fn reader_grants(database: &str) -> Vec<String> {
    let mut grants = vec![format!("GRANT SELECT, SHOW, dictGet ON {database}.*")];
    grants.extend(SYSTEM_TABLES.map(|table| format!("GRANT SELECT ON system.{table}")));
    grants
}

fn element(xml: &mut String, name: &str, value: &dyn std::fmt::Display) {
    let _ = writeln!(xml, "<{name}>{value}</{name}>");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// A database's name inside SQL.
fn quote(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

/// Migrates and inserts.
pub(super) const WRITER: &str = "writer";

/// Reads.
pub(super) const READER: &str = "reader";

/// Copies the database into the folder of backups, for the administrator: the collector itself has
/// no use for it.
pub(super) const BACKUP: &str = "backup";

/// Probes and stops; may read nothing.
pub(super) const SUPERVISOR: &str = "supervisor";

/// Longest query of the reader, in seconds.
const READER_SECONDS_MAX: u32 = 60;

/// Memory of the session that does nothing.
const SESSION_BYTES_MAX: u64 = 64 << 20;

const TABLE_ENGINES: [&str; 6] = [
    "MergeTree",
    "SummingMergeTree",
    "AggregatingMergeTree",
    "ReplacingMergeTree",
    "Null",
    "Memory",
];

/// What clients ask to complete names, and what the health dashboard shows.
const SYSTEM_TABLES: [&str; 24] = [
    "aggregate_function_combinators",
    "asynchronous_metrics",
    "build_options",
    "columns",
    "contributors",
    "data_type_families",
    "databases",
    "dictionaries",
    "disks",
    "events",
    "formats",
    "functions",
    "keywords",
    "merges",
    "metrics",
    "mutations",
    "numbers",
    "one",
    "parts",
    "parts_columns",
    "processes",
    "settings",
    "table_engines",
    "tables",
];

const REFUSAL: &str = "Name one of this server's users with X-ClickHouse-User and \
                       X-ClickHouse-Key, or by HTTP basic authentication.\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings<'static> {
        Settings {
            http: SocketAddr::from(([127, 0, 0, 1], 8123)),
            has_tcp: false,
            memory_max: 2 << 30,
            profile: Profile::Ssd,
            database: "flow`s",
            display_name: "name".into(),
            log: "/data/<x>&/clickhouse.log".into(),
            backups: "/data/<x>&/backups".into(),
            writer: Secret::new("w&w"),
            reader: Secret::new("r<r"),
            backup: Secret::new("b&b"),
            supervisor: Secret::new("s"),
        }
    }

    #[test]
    fn names_and_passwords_cannot_break_out_of_the_xml() {
        let config = settings().config_xml();
        assert!(config.contains("<log>/data/&lt;x&gt;&amp;/clickhouse.log</log>"));
        assert!(config.contains("<allowed_path>/data/&lt;x&gt;&amp;/backups</allowed_path>"));
        let users = settings().users_xml();
        assert!(users.contains("<password>w&amp;w</password>"));
        assert!(users.contains("<password>r&lt;r</password>"));
        assert!(users.contains("<password>b&amp;b</password>"));
    }

    #[test]
    fn database_name_cannot_break_out_of_the_grants() {
        assert!(settings().users_xml().contains("ON `flow\\`s`.*"));
    }

    #[test]
    fn basic_authentication_is_known_by_the_digits_of_user_and_colon() {
        // base64("reader:") is cmVhZGVyOg==, base64("reader:\xff") is cmVhZGVyOv8=.
        assert_eq!(basic_prefix("reader"), "cmVhZGVyO[g-v]");
        assert_eq!(basic_prefix("writer"), "d3JpdGVyO[g-v]");
    }

    #[test]
    fn only_the_user_for_backups_may_make_one_and_nothing_else() {
        let users = settings().users_xml();
        assert_eq!(users.matches("BACKUP").count(), 1);
        let (_, own) = users.split_once("<backup>").unwrap();
        let (own, _) = own.split_once("</backup>").unwrap();
        assert_eq!(own.matches("GRANT ").count(), 1);
        assert!(own.contains("GRANT BACKUP ON `flow\\`s`.*"), "{own}");
        assert!(
            !own.contains("::/0"),
            "it is known on this host only: {own}"
        );
    }

    #[test]
    fn no_user_is_granted_files_urls_or_other_users() {
        let users = settings().users_xml();
        for word in [
            "READ",
            "WRITE",
            "FILE",
            "URL",
            "S3",
            "ALL",
            "access_management",
        ] {
            assert!(!users.contains(&format!("GRANT {word}")), "{word}");
            assert!(!users.contains(&format!(", {word}")), "{word}");
        }
    }
}
