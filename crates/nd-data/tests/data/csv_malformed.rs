//! A table of malformed files: each must be refused with the right error, which names the place.

use nd_data::csv::{
    CsvOptions, DecimalMark, Delimiter, Encoding, Layout, OtherColumns, read_csv, read_csv_from,
};
use nd_data::{
    DataError, DuplicatePolicy, Frequency, GapPolicy, MissingPolicy, OrderPolicy, Panel, Repair,
};

/// The name of an error's variant.
fn variant(error: &DataError) -> &'static str {
    match error {
        DataError::Io { .. } => "Io",
        DataError::EmptyFile { .. } => "EmptyFile",
        DataError::NoRows { .. } => "NoRows",
        DataError::MissingHeader { .. } => "MissingHeader",
        DataError::MissingColumn { .. } => "MissingColumn",
        DataError::DuplicateColumn { .. } => "DuplicateColumn",
        DataError::UnnamedColumn { .. } => "UnnamedColumn",
        DataError::WrongDelimiter { .. } => "WrongDelimiter",
        DataError::Encoding { .. } => "Encoding",
        DataError::RaggedRow { .. } => "RaggedRow",
        DataError::RecordTooLong { .. } => "RecordTooLong",
        DataError::BadNumber { .. } => "BadNumber",
        DataError::NotFinite { .. } => "NotFinite",
        DataError::MissingValue { .. } => "MissingValue",
        DataError::BadMask { .. } => "BadMask",
        DataError::BadTime { .. } => "BadTime",
        DataError::EmptySeriesId { .. } => "EmptySeriesId",
        DataError::Duplicate { .. } => "Duplicate",
        DataError::Unsorted { .. } => "Unsorted",
        DataError::Gap { .. } => "Gap",
        DataError::GapTooLarge { .. } => "GapTooLarge",
        DataError::OffCalendar { .. } => "OffCalendar",
        DataError::FrequencyUnknown { .. } => "FrequencyUnknown",
        DataError::UnknownFrequency { .. } => "UnknownFrequency",
        DataError::FrequencyKind { .. } => "FrequencyKind",
        DataError::NoFuture { .. } => "NoFuture",
        DataError::StaticVaries { .. } => "StaticVaries",
        DataError::Length { .. } => "Length",
        DataError::NotFound { .. } => "NotFound",
        DataError::InvalidOption { .. } => "InvalidOption",
        DataError::NoObservedWindows { .. } => "NoObservedWindows",
        DataError::DuplicateSeries { .. } => "DuplicateSeries",
        DataError::NoWindows { .. } => "NoWindows",
        DataError::FutureValues { .. } => "FutureValues",
        _ => "?",
    }
}

struct Case {
    text: Vec<u8>,
    options: CsvOptions,
    variant: &'static str,
    /// Parts that the message must hold.
    parts: &'static [&'static str],
}

fn case(
    text: impl AsRef<[u8]>,
    options: &CsvOptions,
    variant: &'static str,
    parts: &'static [&'static str],
) -> Case {
    Case {
        text: text.as_ref().to_vec(),
        options: options.clone(),
        variant,
        parts,
    }
}

fn repair(repair: Repair) -> CsvOptions {
    CsvOptions::default().with_repair(repair)
}

fn others(what: OtherColumns) -> CsvOptions {
    let mut options = CsvOptions::default();
    if let Layout::Long { others, .. } = &mut options.layout {
        *others = what;
    }
    options
}

fn header_cases() -> Vec<Case> {
    let long = CsvOptions::default();
    let wide = CsvOptions::wide("date");
    let air = CsvOptions::single("Month", "#Passengers");
    let id = |name: &str| {
        let mut options = CsvOptions::default();
        if let Layout::Long { unique_id, .. } = &mut options.layout {
            *unique_id = Some(name.into());
        }
        options
    };
    let series = |names: &[&str]| CsvOptions {
        layout: Layout::Wide {
            series: names.iter().map(ToString::to_string).collect(),
        },
        ..CsvOptions::wide("date")
    };
    vec![
        case("", &long, "EmptyFile", &["file.csv", "empty"]),
        case("\n\n\n", &long, "EmptyFile", &["file.csv"]),
        case("\r\n\r\n", &wide, "EmptyFile", &["file.csv"]),
        case(b"\xEF\xBB\xBF", &long, "EmptyFile", &["file.csv"]),
        case("unique_id,ds,y\n", &long, "NoRows", &["file.csv", "no row"]),
        case("unique_id,ds,y", &long, "NoRows", &["file.csv"]),
        case("date,a,b\n", &wide, "NoRows", &["file.csv"]),
        case("date,a,b\n\n\n", &wide, "NoRows", &["file.csv"]),
        case("Month,#Passengers\n", &air, "NoRows", &["file.csv"]),
        case(
            "a,1,2.5\nb,2,3\n",
            &long,
            "MissingHeader",
            &["line 1", "a,1,2.5"],
        ),
        case("1,2.5\n2,3\n", &long, "MissingHeader", &["line 1", "1,2.5"]),
        case(
            "2016-07-01,1.0,2.0\n2016-07-02,1,2\n",
            &wide,
            "MissingHeader",
            &["line 1", "2016-07-01"],
        ),
        case("1949-01,112\n", &air, "MissingHeader", &["line 1"]),
        case("5\n6\n", &long, "MissingHeader", &["line 1"]),
        case(
            "unique_id,y\na,1\n",
            &long,
            "MissingColumn",
            &["line 1", "`ds`", "time stamps", "`unique_id`, `y`"],
        ),
        case(
            "unique_id,ds\na,1\n",
            &long,
            "MissingColumn",
            &["line 1", "`y`", "target"],
        ),
        case(
            "unique_id,DS,y\na,1,2\n",
            &long,
            "MissingColumn",
            &["did you mean `DS`?"],
        ),
        case(
            "unique_id,ds,Y\na,1,2\n",
            &long,
            "MissingColumn",
            &["did you mean `Y`?"],
        ),
        case(
            "Unique_ID,ds,y\na,1,2\n",
            &long,
            "MissingColumn",
            &["`unique_id`", "did you mean `Unique_ID`?"],
        ),
        case(
            "unique_id,ds,y\na,1,2\n",
            &id("series"),
            "MissingColumn",
            &["`series`", "series identifiers"],
        ),
        case("when,a\n1,2\n", &wide, "MissingColumn", &["`date`"]),
        case(
            "Month,Passengers\n1949-01,1\n",
            &air,
            "MissingColumn",
            &["`#Passengers`"],
        ),
        case(
            "unique_id,ds,y\na,1,2\n",
            &long.clone().with_future(&["price"]),
            "MissingColumn",
            &["`price`", "future"],
        ),
        case(
            "unique_id,ds,y\na,1,2\n",
            &long.clone().with_historic(&["load"]),
            "MissingColumn",
            &["`load`", "historic"],
        ),
        case(
            "unique_id,ds,y\na,1,2\n",
            &long.clone().with_static(&["size"]),
            "MissingColumn",
            &["`size`", "static"],
        ),
        case(
            "unique_id,ds,y,x\na,1,2,3\n",
            &long.clone().with_future(&["y"]),
            "DuplicateColumn",
            &["`y`", "as the target", "as future"],
        ),
        case(
            "unique_id,ds,y,x\na,1,2,3\n",
            &long.clone().with_future(&["x"]).with_historic(&["x"]),
            "DuplicateColumn",
            &["`x`"],
        ),
        case(
            "unique_id,ds,y,y\na,1,2,3\n",
            &long,
            "DuplicateColumn",
            &["line 1", "`y`", "column 3", "column 4"],
        ),
        case(
            "date,a,b,a\n1,2,3,4\n",
            &wide,
            "DuplicateColumn",
            &["`a`", "column 2", "column 4"],
        ),
        case(
            "date,date,b\n1,2,3\n",
            &wide,
            "DuplicateColumn",
            &["`date`"],
        ),
        case(
            "unique_id,ds,y, ds \na,1,2,3\n",
            &long,
            "DuplicateColumn",
            &["`ds`"],
        ),
        case(
            ",unique_id,ds,y\n0,a,1,2\n",
            &long,
            "UnnamedColumn",
            &["line 1", "column 1"],
        ),
        case(
            "unique_id,ds,y,\na,1,2,\n",
            &long,
            "UnnamedColumn",
            &["column 4", "ignore"],
        ),
        case(
            "unique_id;ds;y\na;1;2\n",
            &long,
            "WrongDelimiter",
            &["line 1", "`,`", "`;`"],
        ),
        case(
            "unique_id\tds\ty\na\t1\t2\n",
            &long,
            "WrongDelimiter",
            &["tabulators"],
        ),
        case("date|a|b\n1|2|3\n", &wide, "WrongDelimiter", &["`|`"]),
        case(
            "date,a,b\n1,2,3\n",
            &CsvOptions {
                delimiter: Delimiter::Semicolon,
                ..wide.clone()
            },
            "WrongDelimiter",
            &["`;`", "`,`"],
        ),
        case(
            "date,a,b\n1,2,3\n",
            &CsvOptions {
                delimiter: Delimiter::Tab,
                ..wide.clone()
            },
            "WrongDelimiter",
            &["tabulators", "`,`"],
        ),
        case(
            "date\n1\n2\n",
            &wide,
            "MissingColumn",
            &["at least one column"],
        ),
        case(
            "date,a\n1,2\n",
            &series(&["b"]),
            "MissingColumn",
            &["`b`", "a series"],
        ),
        case(
            "date,a\n1,2\n",
            &series(&["a", "a"]),
            "DuplicateColumn",
            &["`a`"],
        ),
        case(
            "date,a\n1,2\n",
            &series(&["date"]),
            "DuplicateColumn",
            &["`date`", "time stamps"],
        ),
        case(
            "unique_id,ds,y,x\na,1,2,3\n",
            &others(OtherColumns::Error),
            "InvalidOption",
            &["`x`"],
        ),
    ]
}

fn encoding_cases() -> Vec<Case> {
    let long = CsvOptions::default();
    let wide = CsvOptions::wide("date");
    let utf16 = |text: &str, big: bool| {
        let units = text.encode_utf16().flat_map(|u| {
            if big {
                u.to_be_bytes()
            } else {
                u.to_le_bytes()
            }
        });
        units.collect::<Vec<u8>>()
    };
    let with_mark = |mark: &[u8], text: Vec<u8>| [mark, &text].concat();
    let mut far = b"unique_id,ds,y\n".to_vec();
    for row in 0..5000 {
        far.extend_from_slice(format!("a,{row},1\n").as_bytes());
    }
    far.extend_from_slice(b"\xFFb,1,1\n");
    let unclosed = format!(
        "unique_id,ds,y\na,1,1\n\"a,2,2\n{}",
        "a,3,3\n".repeat(200_000)
    );
    vec![
        case(
            with_mark(b"\xFF\xFE", utf16("unique_id,ds,y\n", false)),
            &long,
            "Encoding",
            &["line 1", "byte 0", "UTF-16", "0xFF 0xFE"],
        ),
        case(
            with_mark(b"\xFE\xFF", utf16("date,a\n", true)),
            &wide,
            "Encoding",
            &["line 1", "UTF-16", "iconv"],
        ),
        case(b"\xFF\xFE\0\0u\0\0\0", &long, "Encoding", &["UTF-32"]),
        case(b"\0\0\xFE\xFF\0\0\0u", &long, "Encoding", &["UTF-32"]),
        case(
            utf16("unique_id,ds,y\n", false),
            &long,
            "Encoding",
            &["line 1", "byte 1", "zero bytes"],
        ),
        case(
            b"unique_id,ds,y\na,1,\0\n",
            &long,
            "Encoding",
            &["line 2", "byte 19"],
        ),
        case(
            b"unique_id,ds,y\nM\xFCnchen,1,2\n",
            &long,
            "Encoding",
            &["line 2", "byte 16", "0xFC", "Latin-1"],
        ),
        case(
            b"date,K\xF6ln\n1,2\n",
            &wide,
            "Encoding",
            &["line 1", "byte 6", "0xF6"],
        ),
        case(
            b"unique_id,ds,y\r\na,1,1\r\nb\xE9,1,2\r\n",
            &long,
            "Encoding",
            &["line 3", "byte 24"],
        ),
        case(
            b"unique_id,ds,y\na,1,2\nb,1,3\xC3",
            &long,
            "Encoding",
            &["line 3", "byte 26", "0xC3"],
        ),
        case(
            b"unique_id,ds,y\na\xF0\x9F\x98,1,2\n",
            &long,
            "Encoding",
            &["line 2", "0xF0 0x9F 0x98"],
        ),
        case(far, &long, "Encoding", &["line 5002", "0xFF"]),
        case(unclosed, &long, "RecordTooLong", &["line 3", "quote"]),
        case(
            "unique_id,ds,y\na,1,1\n\"a,2,2\na,3,3\n",
            &long,
            "RaggedRow",
            &["line 3", "expected 3 fields", "found 1"],
        ),
        case(
            b"\x89PNG\r\n\x1a\n\0\0\0",
            &long,
            "Encoding",
            &["zero bytes"],
        ),
        case(
            b"PK\x03\x04\0\0",
            &CsvOptions {
                encoding: Encoding::Latin1,
                ..long.clone()
            },
            "Encoding",
            &["zero bytes"],
        ),
    ]
}

fn row_cases() -> Vec<Case> {
    let long = CsvOptions::default();
    let wide = CsvOptions::wide("date");
    let air = CsvOptions::single("Month", "#Passengers");
    let comma = CsvOptions {
        delimiter: Delimiter::Semicolon,
        decimal: DecimalMark::Comma,
        ..CsvOptions::default()
    };
    let mask = |policy| {
        repair(Repair {
            missing: policy,
            ..Repair::default()
        })
    };
    vec![
        case(
            "unique_id,ds,y\na,1,2\na,2\n",
            &long,
            "RaggedRow",
            &["file.csv", "line 3", "expected 3 fields", "found 2"],
        ),
        case(
            "unique_id,ds,y\na,1,2,\n",
            &long,
            "RaggedRow",
            &["line 2", "found 4"],
        ),
        case(
            "unique_id,ds,y\n\n\na,1,2\n\na,2,3,4\n",
            &long,
            "RaggedRow",
            &["line 6", "found 4"],
        ),
        case(
            "unique_id,ds,y\r\na,1,2\r\na,2\r\n",
            &long,
            "RaggedRow",
            &["line 3"],
        ),
        case(
            "unique_id,ds,y\ra,1,2\ra,2\r",
            &long,
            "RaggedRow",
            &["line 3"],
        ),
        case(
            "unique_id,ds,y\n   \na,1,2\n",
            &long,
            "RaggedRow",
            &["line 2", "found 1"],
        ),
        case(
            "date,a,b\n1,2,3\n2,1,5,3\n",
            &wide,
            "RaggedRow",
            &["line 3", "found 4"],
        ),
        case(
            "unique_id,ds,y\n\"a\nb\",1,2\nc,1\n",
            &long,
            "RaggedRow",
            &["line 4"],
        ),
        case(
            "unique_id,ds,y\na,1,x\n",
            &long,
            "BadNumber",
            &["line 2", "column `y`", "series `a`", "`x`", "12.5"],
        ),
        case(
            "unique_id,ds,y\na,1,1\na,2,1.2.3\n",
            &long,
            "BadNumber",
            &["line 3", "`1.2.3`"],
        ),
        case(
            "unique_id,ds,y\na,1,1 000\n",
            &long,
            "BadNumber",
            &["line 2", "`1 000`"],
        ),
        case(
            "unique_id,ds,y\na,1,\"1,000\"\n",
            &long,
            "BadNumber",
            &["`1,000`"],
        ),
        case("unique_id,ds,y\na,1,$5\n", &long, "BadNumber", &["`$5`"]),
        case("unique_id,ds,y\na,1,5%\n", &long, "BadNumber", &["`5%`"]),
        case(
            "unique_id,ds,y\na,1,0x10\n",
            &long,
            "BadNumber",
            &["`0x10`"],
        ),
        case("unique_id,ds,y\na,1,-\n", &long, "BadNumber", &["`-`"]),
        case("unique_id,ds,y\na,1,.\n", &long, "BadNumber", &["`.`"]),
        case("unique_id,ds,y\na,1,1e\n", &long, "BadNumber", &["`1e`"]),
        case("unique_id,ds,y\na,1,+-1\n", &long, "BadNumber", &["`+-1`"]),
        case(
            "unique_id,ds,y\na,1,1_000\n",
            &long,
            "BadNumber",
            &["`1_000`"],
        ),
        case(
            "unique_id,ds,y\na,1,true\n",
            &long,
            "BadNumber",
            &["`true`"],
        ),
        case(
            "unique_id,ds,y\na,1,１\n",
            &long,
            "BadNumber",
            &["column `y`"],
        ),
        case(
            "unique_id,ds,y\na,1,5\u{a0}\n",
            &long,
            "BadNumber",
            &["line 2"],
        ),
        case(
            "unique_id,ds,y,x\na,1,2,many\n",
            &long,
            "BadNumber",
            &["column `x`", "series `a`", "`many`"],
        ),
        case(
            "date,a,b\n1,2,3\n2,2,z\n",
            &wide,
            "BadNumber",
            &["line 3", "column `b`", "series `b`", "`z`"],
        ),
        case(
            "unique_id;ds;y\na;1;1.5\n",
            &comma,
            "BadNumber",
            &["`1.5`", "12,5"],
        ),
        case(
            "unique_id;ds;y\na;1;1.234,5\n",
            &comma,
            "BadNumber",
            &["`1.234,5`"],
        ),
        case(
            "unique_id;ds;y\na;1;1,2,3\n",
            &comma,
            "BadNumber",
            &["`1,2,3`"],
        ),
        case(
            "unique_id,ds,y\na,1,inf\n",
            &long,
            "NotFinite",
            &["line 2", "column `y`", "series `a`", "`inf`"],
        ),
        case(
            "unique_id,ds,y\na,1,-Infinity\n",
            &long,
            "NotFinite",
            &["`-Infinity`"],
        ),
        case(
            "unique_id,ds,y\na,1,1e999\n",
            &long,
            "NotFinite",
            &["`1e999`"],
        ),
        case(
            "unique_id,ds,y\na,1,3.5e38\n",
            &long,
            "NotFinite",
            &["`3.5e38`"],
        ),
        case(
            "unique_id,ds,y,x\na,1,2,-1e99\n",
            &long,
            "NotFinite",
            &["column `x`"],
        ),
        case("date,a\n1,inf\n", &wide, "NotFinite", &["series `a`"]),
        case(
            "unique_id,ds,y\na,1,\n",
            &long,
            "MissingValue",
            &["line 2", "column `y`", "series `a`", "policy"],
        ),
        case(
            "unique_id,ds,y\na,1,1\nb,1,1\nb,2,NaN\n",
            &long,
            "MissingValue",
            &["line 4", "series `b`"],
        ),
        case(
            "unique_id,ds,y\na,1,NA\n",
            &long,
            "MissingValue",
            &["line 2"],
        ),
        case(
            "unique_id,ds,y\na,1,null\n",
            &long,
            "MissingValue",
            &["line 2"],
        ),
        case(
            "unique_id,ds,y,x\na,1,2,\n",
            &long,
            "MissingValue",
            &["column `x`"],
        ),
        case(
            "date,a,b\n1,2,3\n2,2,\n3,2,4\n",
            &wide,
            "MissingValue",
            &["line 3", "series `b`"],
        ),
        case(
            "unique_id,ds,y\na,1,\na,2,3\n",
            &mask(MissingPolicy::ForwardFill),
            "MissingValue",
            &["line 2", "nothing can be carried"],
        ),
        case(
            "unique_id,ds,y,s\na,1,2,\n",
            &mask(MissingPolicy::Mask).with_static(&["s"]),
            "MissingValue",
            &["column `s`", "static"],
        ),
        case(
            "unique_id,ds,y\n,1,2\n",
            &long,
            "EmptySeriesId",
            &["line 2", "column `unique_id`"],
        ),
        case(
            "unique_id,ds,y\na,1,2\n  ,2,2\n",
            &long,
            "EmptySeriesId",
            &["line 3"],
        ),
        case(
            "unique_id,ds,y,available_mask\na,1,2,yes\n",
            &long,
            "BadMask",
            &["line 2", "`yes`", "series `a`"],
        ),
        case(
            "unique_id,ds,y,available_mask\na,1,2,\n",
            &long,
            "BadMask",
            &["line 2"],
        ),
        case(
            "unique_id,ds,y,available_mask\na,1,2,0.5\n",
            &long,
            "BadMask",
            &["`0.5`"],
        ),
        case(
            "unique_id,ds,y,available_mask\na,1,,1\n",
            &long,
            "MissingValue",
            &["line 2", "column `y`"],
        ),
        case(
            "unique_id,ds,y,s\na,1,2,5\na,2,2,6\n",
            &long.clone().with_static(&["s"]),
            "StaticVaries",
            &["line 3", "column `s`", "series `a`", "6", "5"],
        ),
        case(
            "Month,#Passengers\n1949-01,112\n1949-02,\n",
            &air,
            "MissingValue",
            &["line 3", "column `#Passengers`"],
        ),
    ]
}

fn time_cases() -> Vec<Case> {
    let long = CsvOptions::default();
    let wide = CsvOptions::wide("date");
    let bad = |ds: &str, parts| {
        case(
            format!("unique_id,ds,y\na,2020-01-01,1\na,{ds},2\n"),
            &CsvOptions::default(),
            "BadTime",
            parts,
        )
    };
    vec![
        bad(
            "",
            &["line 3", "column `ds`", "series `a`", "the field is empty"],
        ),
        bad("yesterday", &["line 3", "`yesterday`", "2016-07-01"]),
        bad("2020-13-01", &["no such month"]),
        bad("2020-00-01", &["no such month"]),
        bad("2020-02-30", &["no such day"]),
        bad("2019-02-29", &["no such day"]),
        bad("1900-02-29", &["no such day"]),
        bad("2020-01-00", &["no such day"]),
        bad("2020-01-02 24:00:00", &["no such hour"]),
        bad("2020-01-02 23:60:00", &["no such minute"]),
        bad("2020-01-02 23:59:60", &["no such second"]),
        bad("2020-01-02 23", &["not in a known form"]),
        bad("2020-01-02 23:5", &["not in a known form"]),
        bad("2020-01-02x23:05", &["not in a known form"]),
        bad("2020-01-02 23:05:01.", &["not in a known form"]),
        bad("2020-01-02 23:05:01.1234567", &["finer than a microsecond"]),
        bad("2020-01-02T00:00:00+25:00", &["no such offset"]),
        bad("2020-01-02T00:00:00+1", &["not in a known form"]),
        bad("2020-01/02", &["not in a known form"]),
        bad("02/01/2020", &["not in a known form"]),
        bad("1.2.2020", &["not in a known form"]),
        bad("20-01-02", &["not in a known form"]),
        bad("2020-1-2", &["not in a known form"]),
        bad("2020-W01", &["not in a known form"]),
        bad("2020Q1", &["not in a known form"]),
        bad("-2020-01-02", &["not in a known form"]),
        bad("2020-01-02 10:00 AM", &["not in a known form"]),
        bad("5", &["line 3", "rows before it hold dates"]),
        case(
            "unique_id,ds,y\na,1,1\na,2020-01-01,2\n",
            &long,
            "BadTime",
            &["line 3", "rows before it hold whole numbers"],
        ),
        case("unique_id,ds,y\na,1.5,1\n", &long, "BadTime", &["`1.5`"]),
        case(
            "unique_id,ds,y\na,99999999999999999999,1\n",
            &long,
            "BadTime",
            &["more than 64 bits"],
        ),
        case(
            "unique_id,ds,y\na,2020-01-01 00:00:00+01:00,1\na,2020-01-01 01:00:00,1\n",
            &long,
            "BadTime",
            &["line 3", "offset"],
        ),
        case(
            "date,a\n2020-01-01,1\nlast,2\n",
            &wide,
            "BadTime",
            &["line 3", "column `date`"],
        ),
        case(
            "unique_id,ds,y\na,1,1\na,1,2\n",
            &long,
            "Duplicate",
            &["line 3", "series `a`", "first in line 2", "policy"],
        ),
        case(
            "unique_id,ds,y\na,1,1\nb,1,1\na,2,1\nb,2,1\na,2,9\n",
            &long,
            "Duplicate",
            &["line 6", "series `a`", "first in line 4"],
        ),
        case(
            "date,a\n2020-01-01,1\n2020-01-01,2\n",
            &wide,
            "Duplicate",
            &["line 3", "2020-01-01", "first in line 2"],
        ),
        case(
            "unique_id,ds,y\na,2,1\na,1,2\n",
            &long,
            "Unsorted",
            &["line 3", "series `a`", "1 comes after 2", "sort"],
        ),
        case(
            "date,a,b\n2020-01-02,1,1\n2020-01-03,1,1\n2020-01-01,2,2\n",
            &wide,
            "Unsorted",
            &["line 4", "2020-01-01 comes after 2020-01-03"],
        ),
        case(
            "unique_id,ds,y\na,1,1\na,2,1\na,4,1\na,5,1\n",
            &long,
            "Gap",
            &["line 4", "series `a`", "1 time stamps", "2 and 4"],
        ),
        case(
            "date,a\n2020-01-01,1\n2020-01-02,1\n2020-01-05,2\n2020-01-06,2\n",
            &wide,
            "Gap",
            &[
                "line 4",
                "2 time stamps",
                "2020-01-02",
                "2020-01-05",
                "frequency D",
            ],
        ),
        case(
            "unique_id,ds,y\na,2020-01,1\na,2020-02,1\na,2020-04,1\n",
            &long,
            "Gap",
            &["line 4", "frequency MS"],
        ),
        case(
            "unique_id,ds,y\na,1,1\na,5,1\na,6,1\na,9,1\n",
            &long,
            "Gap",
            &["line 3", "3 time stamps"],
        ),
        case(
            "unique_id,ds,y\na,20200130,1\na,20200131,1\na,20200201,1\na,20200202,1\na,20200301,3\n",
            &long,
            "Gap",
            &["line 4", "69 time stamps"],
        ),
        case(
            "unique_id,ds,y\na,2020-01-01,1\na,2020-01-04,1\na,2020-01-09,1\n",
            &long,
            "FrequencyUnknown",
            &[
                "file.csv: ",
                "3 days (1 times)",
                "5 days (1 times)",
                "name it",
            ],
        ),
        case(
            "unique_id,ds,y\na,2020-01-01,1\n",
            &long,
            "FrequencyUnknown",
            &["no series has two time stamps"],
        ),
        case(
            "unique_id,ds,y\na,0,1\na,3,1\na,7,1\na,9,1\n",
            &long,
            "FrequencyUnknown",
            &["distances between neighbouring"],
        ),
        case(
            "unique_id,ds,y\na,2020-01-01 00:00,1\na,2020-01-01 01:00,1\na,2020-01-01 02:00,1\na,2020-01-01 03:00,1\na,2020-01-01 04:00,1\nb,2020-01-01,1\nb,2020-01-02,1\nb,2020-01-03,1\n",
            &long,
            "FrequencyUnknown",
            &[
                "file.csv: ",
                "series `b`",
                "looks like `D`",
                "looks like `h`",
            ],
        ),
        case(
            "unique_id,ds,y\na,0,1\na,10,1\na,20,1\na,30,1\na,40,1\na,47,1\na,60,1\na,70,2\na,80,1\n",
            &long,
            "OffCalendar",
            &["line 7", "series `a`", "47", "after 40", "frequency 10"],
        ),
        case(
            "unique_id,ds,y\na,2020-01-01,1\na,2020-01-02,1\n",
            &repair(Repair {
                frequency: Some(Frequency::integer(1)),
                ..Repair::default()
            }),
            "FrequencyKind",
            &["dates", "`h` or `D`"],
        ),
        case(
            "unique_id,ds,y\na,1,1\na,2,1\n",
            &repair(Repair {
                frequency: Some(Frequency::HOUR),
                ..Repair::default()
            }),
            "FrequencyKind",
            &["whole numbers"],
        ),
        case(
            "unique_id,ds,y\na,2020-01-02,1\na,2020-02-01,1\n",
            &repair(Repair {
                frequency: Some(Frequency::MONTH_START),
                ..Repair::default()
            }),
            "OffCalendar",
            &["line 2", "2020-01-02", "frequency MS"],
        ),
        case(
            "unique_id,ds,y\na,2020-01-04,1\n",
            &repair(Repair {
                frequency: Some(Frequency::BUSINESS_DAY),
                ..Repair::default()
            }),
            "OffCalendar",
            &["line 2", "frequency B"],
        ),
        case(
            "unique_id,ds,y\na,1,1\na,2,1\na,9000000000000000000,1\na,9000000000000000001,3\n",
            &repair(Repair {
                gaps: GapPolicy::Mask,
                ..Repair::default()
            }),
            "GapTooLarge",
            &["line 4", "series `a`", "mistyped"],
        ),
        case(
            "unique_id,ds,y\na,2020-01-01 00:00,1\na,2020-01-01 00:01,1\na,2120-01-01 00:02,1\na,2120-01-01 00:03,1\n",
            &repair(Repair {
                gaps: GapPolicy::Linear,
                ..Repair::default()
            }),
            "GapTooLarge",
            &["line 4", "frequency min"],
        ),
        case(
            "unique_id,ds,y\na,3,1\na,1,1\na,1,1\n",
            &repair(Repair {
                order: OrderPolicy::Sort,
                ..Repair::default()
            }),
            "Duplicate",
            &["line 4", "first in line 3"],
        ),
        case(
            "unique_id,ds,y\na,3,1\na,1,1\na,2,\n",
            &repair(Repair {
                order: OrderPolicy::Sort,
                ..Repair::default()
            }),
            "MissingValue",
            &["line 4", "series `a`"],
        ),
        case(
            "unique_id,ds,y\na,1,1\na,1,\na,3,4\na,4,5\n",
            &repair(Repair {
                duplicates: DuplicatePolicy::KeepLast,
                ..Repair::default()
            }),
            "MissingValue",
            &["line 3"],
        ),
        case(
            "unique_id,ds,y\na,1,1\na,1,2\na,2,3\na,4,4\na,5,5\n",
            &repair(Repair {
                duplicates: DuplicatePolicy::Mean,
                ..Repair::default()
            }),
            "Gap",
            &["line 5"],
        ),
    ]
}

#[test]
fn every_malformed_file_is_refused_with_its_place() {
    let mut cases = header_cases();
    cases.extend(encoding_cases());
    cases.extend(row_cases());
    cases.extend(time_cases());
    assert!(cases.len() >= 150, "{} cases", cases.len());
    let failures: Vec<String> = cases
        .iter()
        .enumerate()
        .filter_map(|(number, case)| Some(format!("case {number}: {}", fault(case)?)))
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// What is wrong with the outcome of a case.
fn fault(case: &Case) -> Option<String> {
    let shown = String::from_utf8_lossy(&case.text[..case.text.len().min(300)]).into_owned();
    let result: Result<Panel<f32>, _> = read_csv_from(&case.text[..], "file.csv", &case.options);
    let error = match result {
        Err(error) => error,
        Ok(panel) => return Some(format!("was read as {panel:?}\n{shown}")),
    };
    let message = error.to_string();
    if variant(&error) != case.variant {
        let (got, want) = (variant(&error), case.variant);
        return Some(format!("{got} instead of {want}: {message}\n{shown}"));
    }
    if let Some(part) = case.parts.iter().find(|part| !message.contains(*part)) {
        return Some(format!("no {part:?} in: {message}\n{shown}"));
    }
    let tidy = !message.contains('\n') && message.len() < 600;
    (!tidy).then(|| format!("a message of {} bytes: {message}", message.len()))
}

#[test]
fn files_that_cannot_be_read_are_named() {
    for path in ["/nonexistent/file.csv", env!("CARGO_MANIFEST_DIR")] {
        let error = read_csv::<f32>(path, &CsvOptions::default()).unwrap_err();
        assert!(matches!(error, DataError::Io { .. }), "{error}");
        assert!(error.to_string().contains(path), "{error}");
    }
}

/// A source that fails in the middle.
struct Failing(usize);

impl std::io::Read for Failing {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.0 == 0 {
            return Err(std::io::Error::other("the disk is gone"));
        }
        self.0 -= 1;
        let text = b"unique_id,ds,y\n";
        buffer[..text.len()].copy_from_slice(text);
        Ok(text.len())
    }
}

#[test]
fn a_source_that_fails_is_an_error() {
    let error = read_csv_from::<f32>(Failing(1), "file.csv", &CsvOptions::default()).unwrap_err();
    assert!(matches!(error, DataError::Io { .. }), "{error}");
    assert!(error.to_string().contains("the disk is gone"), "{error}");
}
