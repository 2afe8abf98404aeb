//! The query, and answers that break off.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::config::Secret;

fn selection(format: Format) -> Selection {
    Selection {
        table: "flows".into(),
        columns: Vec::new(),
        from_s: 100,
        to_s: 200,
        filter: None,
        format,
    }
}

fn endpoint(url: &str) -> Endpoint {
    Endpoint {
        database: "flow`s".into(),
        user: "reader".into(),
        password: Secret::new("secret"),
        ..Endpoint::at(url)
    }
}

fn sql(selection: &Selection) -> anyhow::Result<String> {
    let column = |name: &str, sql_type: &str, default_type: &str| Column {
        name: name.into(),
        sql_type: sql_type.into(),
        default_type: default_type.into(),
    };
    let columns = [
        column("flow_start", "DateTime64(3, 'UTC')", "ALIAS"),
        column("time_received", "DateTime('UTC')", ""),
        column("src_addr", "IPv6", ""),
        column("client_is_src", "Bool", "DEFAULT"),
    ];
    let endpoint = endpoint("http://127.0.0.1:1");
    let source = Source {
        endpoint: &endpoint,
        selection,
        client: server::client(&endpoint),
    };
    source.sql(&columns)
}

#[test]
fn native_has_what_is_stored_and_text_has_addresses_as_text() {
    let span = "AS rows_of WHERE rows_of.`time_received` >= toDateTime(100) \
                AND rows_of.`time_received` < toDateTime(200)";
    assert_eq!(
        sql(&selection(Format::Native)).unwrap(),
        format!(
            "SELECT * FROM (SELECT `time_received`, `src_addr`, `client_is_src` \
             FROM `flow\\`s`.`flows` {span})"
        )
    );
    let csv = sql(&selection(Format::Csv)).unwrap();
    let replaced = r"replaceRegexpOne(toString(`src_addr`), '^::ffff:([0-9]+[.])', '\\1')";
    let begin = format!("SELECT * REPLACE ({replaced} AS `src_addr`) FROM (SELECT `flow_start`, ");
    assert!(csv.starts_with(&begin), "{csv}");
}

#[test]
fn a_filter_is_closed_in_whatever_it_ends_with() {
    let selection = Selection {
        columns: vec!["src_addr".into()],
        filter: Some("src_port = 1 -- the old one".into()),
        ..selection(Format::Parquet)
    };
    let sql = sql(&selection).unwrap();
    let end = " AND (\nsrc_port = 1 -- the old one\n))";
    assert!(sql.starts_with("SELECT * FROM (SELECT `src_addr` FROM "));
    assert!(sql.ends_with(end), "{sql}");
}

#[test]
fn a_filter_that_leaves_the_span_of_time_is_refused() {
    let selection = Selection {
        filter: Some("1) OR (1".into()),
        ..selection(Format::Csv)
    };
    let error = sql(&selection).unwrap_err().to_string();
    assert!(
        error.starts_with("--where: brackets do not match"),
        "{error}"
    );
}

#[test]
fn a_column_that_is_not_there_is_told_with_those_that_are() {
    let selection = Selection {
        columns: vec!["src_adr".into()],
        ..selection(Format::Csv)
    };
    assert_eq!(
        sql(&selection).unwrap_err().to_string(),
        "--columns: table flows has no column 'src_adr'; it has flow_start, time_received, \
         src_addr, client_is_src"
    );
}

/// Answers what an export asks before it begins, then with `last`, byte for byte, and hangs up.
async fn clickhouse(last: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let whole = |body: &str| {
            let length = body.len();
            format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
            )
        };
        let columns = r#"{"name":"time","type":"DateTime('UTC')","default_type":""}"#;
        for answer in [whole("0\n").into_bytes(), whole(columns).into_bytes(), last] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await.unwrap();
            stream.write_all(&answer).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    address
}

async fn exported(format: Format, last: &str) -> anyhow::Result<Vec<u8>> {
    let address = clickhouse(last.as_bytes().to_vec()).await;
    let endpoint = endpoint(&format!("http://{address}"));
    let selection = selection(format);
    let mut got = Vec::new();
    let exported = export(&endpoint, &selection, |bytes| {
        got.extend_from_slice(bytes);
        Ok(())
    });
    exported.await?;
    Ok(got)
}

const HEAD: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n";

#[tokio::test]
async fn an_answer_that_is_whole_is_handed_out() {
    let answer = format!("{HEAD}\r\n5\r\n1\n2\n3\r\n1\r\n\n\r\n0\r\n\r\n");
    assert_eq!(exported(Format::Csv, &answer).await.unwrap(), b"1\n2\n3\n");
}

#[tokio::test]
async fn an_answer_without_its_end_is_an_error() {
    let answer = format!("{HEAD}\r\n5\r\n1\n2\n3\r\n");
    let error = exported(Format::Csv, &answer).await.unwrap_err();
    let text = format!("{error:#}");
    assert!(
        text.starts_with("ClickHouse at http://127.0.0.1:"),
        "{text}"
    );
}

#[tokio::test]
async fn an_exception_behind_the_rows_is_an_error_however_it_comes() {
    let said = "Code: 241. DB::Exception: Memory limit exceeded. (MEMORY_LIMIT_EXCEEDED) \
                (version 26.7.2.1)";
    let marked = format!(
        "\r\n__exception__\r\ntag\r\n{said}\n{} tag\r\n__exception__\r\n",
        said.len() + 1
    );
    let (begin, _) = marked.split_at(80);
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let end = "0\r\n\r\n";
    let answers = [
        // In one piece, and the connection cut.
        format!(
            "{HEAD}X-ClickHouse-Exception-Tag: tag\r\n\r\n{}",
            chunk(&marked)
        ),
        // Cut within.
        format!(
            "{HEAD}X-ClickHouse-Exception-Tag: tag\r\n\r\n{}",
            chunk(begin)
        ),
        // Of an old server, and the connection ended as if all were well.
        format!("{HEAD}\r\n{}{end}", chunk(&format!("1\n2\n{said}\n"))),
        // Of a proxy that drops the header.
        format!("{HEAD}\r\n{}{end}", chunk(&format!("1\n2\n{marked}"))),
        // As a row.
        format!(
            "{HEAD}\r\n{}{end}",
            chunk(&format!("{{\"exception\": \"{said}\"}}\n"))
        ),
    ];
    for answer in answers {
        let error = exported(Format::Json, &answer).await.unwrap_err();
        let text = format!("{error:#}");
        assert!(
            text.contains("Code: 241. DB::Exception: Mem"),
            "{text}\n{answer}"
        );
        assert!(text.contains("ask for less"), "{text}");
    }
}

#[tokio::test]
async fn an_exception_in_two_pieces_is_an_error() {
    let (one, two) = (
        "1\n\r\n__exception__\r\ntag\r\nCode: 24",
        "1\n9 tag\r\n__exception__\r\n",
    );
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let answer = format!(
        "{HEAD}X-ClickHouse-Exception-Tag: tag\r\n\r\n{}{}",
        chunk(one),
        chunk(two)
    );
    let error = exported(Format::Csv, &answer).await.unwrap_err();
    assert!(error.to_string().starts_with("ClickHouse at "), "{error}");
}

#[tokio::test]
async fn parquet_without_its_last_bytes_is_an_error() {
    let answer = |body: &str| format!("{HEAD}\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let whole = exported(Format::Parquet, &answer("PAR1 rows PAR1")).await;
    assert_eq!(whole.unwrap(), b"PAR1 rows PAR1");
    let error = exported(Format::Parquet, &answer("PAR1 rows"))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("ended before its end"),
        "{error}"
    );
}
