use super::*;

const COLUMNS: [Column; 3] = [required("prefix"), optional("name"), optional("role")];

fn parse(text: impl AsRef<[u8]>) -> Result<Vec<(u64, String)>, FileErrors> {
    let mut rows = Vec::new();
    let path = Path::new("list.csv");
    let read = parse_csv(
        path,
        text.as_ref(),
        &COLUMNS,
        Others::Refused,
        |line, row| {
            let [text, name, role] = row;
            let prefix = prefix("prefix", text)?;
            rows.push((line, format!("{prefix} {name} {role}")));
            Ok(())
        },
    )?;
    assert_eq!(read, rows.len() as u64);
    Ok(rows)
}

fn fault(text: impl AsRef<[u8]>) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn columns_stand_in_any_order_and_may_be_left_out() {
    let rows = parse("Name, PREFIX\n\"a, b\",192.0.2.1\n ,2001:db8::/32\n").unwrap();
    let expected = [
        (2, "192.0.2.1/32 a, b ".into()),
        (3, "2001:db8::/32  ".into()),
    ];
    assert_eq!(rows, expected);
    assert_eq!(parse("prefix\n").unwrap(), []);
}

#[test]
fn lines_are_right_behind_comments_empty_lines_and_either_line_end() {
    let unix = "# ours\n\n#\nprefix,name\n\n# \"open\n192.0.2.0/24,a\n \n,\n192.0.3.0/24,b";
    let lines = |text: &str| -> Vec<u64> {
        parse(text)
            .unwrap()
            .into_iter()
            .map(|(line, _)| line)
            .collect()
    };
    assert_eq!(lines(unix), [7, 10]);
    assert_eq!(lines(&unix.replace('\n', "\r\n")), [7, 10]);
}

#[test]
fn bits_beyond_a_prefix_are_cleared_and_ipv4_in_ipv6_is_ipv4() {
    let parsed = |text: &str| parse_prefix(text).map(|prefix| prefix.to_string());
    assert_eq!(parsed("192.0.2.9/24").as_deref(), Some("192.0.2.0/24"));
    assert_eq!(parsed("::ffff:192.0.2.9").as_deref(), Some("192.0.2.9/32"));
    assert_eq!(
        parsed("::ffff:192.0.2.9/120").as_deref(),
        Some("192.0.2.0/24")
    );
    assert_eq!(parsed("::ffff:0:0/95").as_deref(), Some("::fffe:0:0/95"));
    assert_eq!(parsed("192.0.2.0/33"), None);
    assert_eq!(parsed("192.0.2.256"), None);
    assert_eq!(parsed("eth0"), None);
}

#[test]
fn titles_are_told_when_they_are_unknown_missing_twice_or_not_there() {
    let allowed = "the first line names the columns, of prefix, name, role";
    assert_eq!(
        fault("\nprefix,nmae\n"),
        format!("list.csv:2: unknown column \"nmae\"; {allowed}")
    );
    assert_eq!(
        fault("192.0.2.0/24,office\n"),
        format!("list.csv:1: unknown column \"192.0.2.0/24\"; {allowed}")
    );
    assert_eq!(
        fault("name\na\n"),
        format!("list.csv:1: column 'prefix' is missing; {allowed}")
    );
    assert_eq!(
        fault("prefix,name,Name\n"),
        "list.csv:1: column \"Name\" is there twice; leave one out"
    );
    assert_eq!(
        fault("prefix;name\n192.0.2.0/24;a\n"),
        "list.csv:1: the columns are divided by ';'; divide them by commas"
    );
    assert_eq!(fault(""), format!("list.csv: is empty; {allowed}"));
    assert_eq!(
        fault("# prefix\n"),
        format!("list.csv: is empty; {allowed}")
    );
}

#[test]
fn each_bad_row_is_told_with_its_line() {
    let text = "prefix,name\n192.0.2.0/24\n192.0.2.0/24,a,b\n192.0.2.0/24,ok,,\n,name\n10.0.0,x\n";
    let columns = "write a comma for each title, also where there is no value, and quotes around a \
                   value that has a comma";
    let expected = format!(
        "list.csv:2: 1 values, but 2 titles; {columns}\n\
         list.csv:3: 3 values, but 2 titles; {columns}\n\
         list.csv:5: prefix is empty; each row has one; begin comments with '#'\n\
         list.csv:6: prefix: found \"10.0.0\"; allowed: an address or a prefix, such as \
         192.0.2.1, 192.0.2.0/24 or 2001:db8::/32"
    );
    assert_eq!(fault(text), expected);
}

#[test]
fn ten_errors_are_kept_and_the_rest_is_counted() {
    let mut text = String::from("prefix\n");
    text.push_str(&"rubbish\n".repeat(1000));
    let errors = parse(&text).unwrap_err();
    assert_eq!((errors.count(), errors.first().len()), (1000, 10));
    assert!(errors.to_string().ends_with("\nand 990 more"));
    let mut both = errors.clone();
    both.append(errors);
    assert_eq!((both.count(), both.first().len()), (2000, 10));
}

#[test]
fn values_that_would_spoil_a_label_are_refused() {
    let told = fault("prefix,name\n192.0.2.1,\"a\tb\"\n192.0.2.2,a\x1b[2J\n");
    assert!(
        told.contains("list.csv:2: name: \"a\\tb\" has control characters"),
        "{told}"
    );
    assert!(
        told.contains("list.csv:3: name: \"a\\u{1b}[2J\" has control"),
        "{told}"
    );
    let long = "\u{e9}".repeat(FIELD_CHARS_MAX);
    assert!(parse(format!("prefix,name\n192.0.2.1,{long}\n")).is_ok());
    let told = fault(format!("prefix,name\n192.0.2.1,{long}x\n"));
    assert!(told.contains("has 101 characters; at most 100"), "{told}");
}

#[test]
fn texts_of_others_are_made_harmless() {
    let text = format!(" a\tb\x1b[2J{}\n", "\u{e9}".repeat(200));
    let clean = cleaned(&text);
    assert!(clean.starts_with("ab[2J\u{e9}"), "{clean}");
    assert_eq!(clean.chars().count(), FIELD_CHARS_MAX);
    let mut taken = Vec::new();
    let theirs = "id,prefix,text\n7,192.0.2.1,\"a\tb\"\n";
    let columns = [required("prefix"), optional("text")];
    let read = parse_csv(
        Path::new("theirs.csv"),
        theirs.as_bytes(),
        &columns,
        Others::Ignored,
        |_, row| {
            taken.push(row.map(String::from));
            Ok(())
        },
    );
    assert_eq!(
        (read, taken),
        (Ok(1), vec![["192.0.2.1".into(), "a\tb".into()]])
    );
}

#[test]
fn a_quote_that_is_not_closed_is_told_where_it_begins() {
    let told = fault("prefix,name\n192.0.2.1,\"a\n192.0.2.2,b\n192.0.2.3,c\n");
    assert!(told.starts_with("list.csv:2: name: "), "{told}");
    assert!(told.contains("a quote that is not closed"), "{told}");
}

#[test]
fn text_in_another_encoding_is_told_with_its_line() {
    assert_eq!(
        fault(b"prefix,name\n192.0.2.1,Z\xfcrich\n"),
        "list.csv:2: a character is no UTF-8; save the file as UTF-8"
    );
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_title() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list.csv");
    std::fs::write(&path, "\u{feff}prefix\n192.0.2.1\n").unwrap();
    let rows = read_csv(&path, &COLUMNS, Others::Refused, |_, _| Ok(()));
    assert_eq!(rows, Ok(1));
}

#[test]
fn what_is_no_ordinary_file_is_refused_without_being_opened() {
    let folder = tempfile::tempdir().unwrap();
    let told = |path: &Path| read(path).unwrap_err().to_string();
    assert!(told(folder.path()).ends_with(": is no ordinary file; name a file"));
    assert!(told(Path::new("/dev/zero")).ends_with(": is no ordinary file; name a file"));
    let missing = told(&folder.path().join("missing.csv"));
    assert!(
        missing.contains("cannot be read (No such file"),
        "{missing}"
    );
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo")
        .arg(&pipe)
        .status()
        .unwrap();
    assert!(made.success());
    assert!(told(&pipe).ends_with(": is no ordinary file; name a file"));
}

#[test]
fn a_file_beyond_the_bound_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list.csv");
    let of = |bytes: u64| {
        let file = File::create(&path).unwrap();
        file.set_len(bytes).unwrap();
        read_at_most(&path, 2 << 20)
    };
    assert_eq!(of(2 << 20).unwrap().len(), 2 << 20);
    let told = of((2 << 20) + 1).unwrap_err().to_string();
    assert!(told.contains("is larger than 2 MiB"), "{told}");
}
