//! A table of malformed files: each must be refused with the right fault, which names the place.

use nd_models::checkpoint::Fault;

use super::{assemble, checksum, load, plain_file, plain_layout, sign, take_apart};

/// The name of a fault's variant.
fn variant(fault: &Fault) -> &'static str {
    match fault {
        Fault::TooShort { .. } => "TooShort",
        Fault::HeaderLength { .. } => "HeaderLength",
        Fault::HeaderStart { .. } => "HeaderStart",
        Fault::Header { .. } => "Header",
        Fault::Foreign => "Foreign",
        Fault::Version { .. } => "Version",
        Fault::Metadata { .. } => "Metadata",
        Fault::DataLength { .. } => "DataLength",
        Fault::Offsets { .. } => "Offsets",
        Fault::Dtype { .. } => "Dtype",
        Fault::Shape { .. } => "Shape",
        Fault::Missing { .. } => "Missing",
        Fault::Unexpected { .. } => "Unexpected",
        Fault::Range { .. } => "Range",
        Fault::Checksum { .. } => "Checksum",
        _ => "?",
    }
}

/// The valid file from which malformed ones are made.
struct Valid {
    file: Vec<u8>,
    header: String,
    data: Vec<u8>,
}

impl Valid {
    fn new() -> Self {
        let file = plain_file();
        let (header, data) = take_apart(&file);
        Self { file, header, data }
    }

    /// The header with one text in place of another.
    #[track_caller]
    fn header_with(&self, from: &str, to: &str) -> String {
        assert!(self.header.contains(from), "{from} in {}", self.header);
        self.header.replacen(from, to, 1)
    }

    /// One text of the header replaced, the checksum as it was.
    #[track_caller]
    fn with(&self, from: &str, to: &str) -> Vec<u8> {
        assemble(self.header_with(from, to).as_bytes(), &self.data)
    }

    /// One text of the header replaced, the checksum made right.
    #[track_caller]
    fn signed(&self, from: &str, to: &str) -> Vec<u8> {
        sign(&self.header_with(from, to), &self.data)
    }

    /// The tensor `params.w`, whose fields are replaced, the checksum made right if the header is JSON.
    #[track_caller]
    fn tensor(&self, fields: &str) -> Vec<u8> {
        let header = self.header_with(self.record("params.w"), &format!("\"params.w\":{fields}"));
        if serde_json::from_str::<serde_json::Value>(&header).is_ok() {
            sign(&header, &self.data)
        } else {
            assemble(header.as_bytes(), &self.data)
        }
    }

    /// The name and the record of a tensor as the header has them.
    #[track_caller]
    fn record(&self, name: &str) -> &str {
        let begin = self.header.find(&format!("\"{name}\":")).unwrap();
        let end = begin + self.header[begin..].find('}').unwrap() + 1;
        &self.header[begin..end]
    }

    /// The places of a tensor's bytes.
    fn offsets(&self, name: &str) -> (usize, usize) {
        let value: serde_json::Value = serde_json::from_str(&self.header).unwrap();
        let offset = |i: usize| value[name]["data_offsets"][i].as_u64().unwrap() as usize;
        (offset(0), offset(1))
    }
}

struct Case {
    name: &'static str,
    file: Vec<u8>,
    variant: &'static str,
    /// Parts that the message must hold.
    parts: Vec<String>,
}

struct Table {
    cases: Vec<Case>,
}

impl Table {
    fn add(&mut self, name: &'static str, file: Vec<u8>, variant: &'static str, parts: &[&str]) {
        self.cases.push(Case {
            name,
            file,
            variant,
            parts: parts.iter().map(|&part| part.to_owned()).collect(),
        });
    }

    /// A header alone.
    fn header(&mut self, name: &'static str, header: &[u8], variant: &'static str, parts: &[&str]) {
        self.add(name, assemble(header, b""), variant, parts);
    }

    #[track_caller]
    fn check(self, at_least: usize) {
        let count = self.cases.len();
        assert!(count >= at_least, "{count} cases");
        let layout = plain_layout();
        for Case {
            name,
            file,
            variant: expected,
            parts,
        } in self.cases
        {
            let error = match load(file, &layout) {
                Ok(_) => panic!("{name}: accepted"),
                Err(error) => error,
            };
            let message = error.to_string();
            let fault = error.fault().unwrap_or_else(|| panic!("{name}: {message}"));
            assert_eq!(variant(fault), expected, "{name}: {message}");
            assert!(message.starts_with("the.file: "), "{name}: {message}");
            assert!(message.len() < 700, "{name}: {message}");
            for part in parts {
                assert!(message.contains(&part), "{name}: {part:?} in {message}");
            }
        }
    }
}

#[test]
fn files_whose_frame_is_wrong() {
    let valid = Valid::new();
    let mut t = Table { cases: Vec::new() };
    let Valid { file, header, data } = &valid;
    let with_length = |length: u64| {
        let mut bytes = file.clone();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        bytes
    };
    let (whole, header_len) = (file.len(), header.len());
    t.add(
        "empty",
        Vec::new(),
        "TooShort",
        &["at least 8 bytes, found 0"],
    );
    t.add("one byte", vec![5], "TooShort", &["found 1"]);
    t.add("seven bytes", file[..7].to_vec(), "TooShort", &["found 7"]);
    t.add(
        "length alone",
        file[..8].to_vec(),
        "HeaderLength",
        &["byte 0", "at most 0"],
    );
    t.add(
        "eight zeros",
        vec![0; 8],
        "HeaderStart",
        &["byte 8", "found nothing"],
    );
    t.add(
        "no header",
        with_length(0),
        "HeaderStart",
        &["byte 8", "nothing"],
    );
    t.add(
        "all ones",
        with_length(u64::MAX),
        "HeaderLength",
        &["18446744073709551615"],
    );
    t.add(
        "half of all",
        with_length(1 << 63),
        "HeaderLength",
        &["9223372036854775808"],
    );
    t.add(
        "above the limit",
        with_length(100_000_001),
        "HeaderLength",
        &["100000001"],
    );
    t.add(
        "one above the file",
        with_length(whole as u64 - 7),
        "HeaderLength",
        &["byte 0"],
    );
    t.add(
        "text for a length",
        b"PK\x03\x04 a zip file".to_vec(),
        "HeaderLength",
        &["byte 0"],
    );
    t.add(
        "header too short",
        with_length(header_len as u64 / 2),
        "Header",
        &["malformed: EOF"],
    );
    t.add(
        "header into data",
        with_length(header_len as u64 + 8),
        "Header",
        &["byte"],
    );
    t.add(
        "cut in the header",
        file[..8 + header_len / 2].to_vec(),
        "HeaderLength",
        &["cut short"],
    );
    t.add(
        "cut after the header",
        file[..8 + header_len].to_vec(),
        "DataLength",
        &["found 0"],
    );
    t.add(
        "last byte gone",
        file[..whole - 1].to_vec(),
        "DataLength",
        &["cut short"],
    );
    t.add(
        "half gone",
        file[..whole - data.len() / 2].to_vec(),
        "DataLength",
        &["bytes of tensors"],
    );
    t.add(
        "a byte more",
        [&file[..], b"x"].concat(),
        "DataLength",
        &["something follows"],
    );
    t.add(
        "a page of zeros more",
        [&file[..], &[0; 4096]].concat(),
        "DataLength",
        &["4"],
    );
    t.add(
        "the file twice",
        [&file[..], file].concat(),
        "DataLength",
        &["found"],
    );
    t.add(
        "the first byte gone",
        file[1..].to_vec(),
        "HeaderLength",
        &["byte 0"],
    );
    t.add("zeros", vec![0; 4096], "HeaderStart", &["byte 8"]);

    let start = |first: &str| format!("{first}{header}").into_bytes();
    t.header(
        "a space first",
        &start(" "),
        "HeaderStart",
        &["byte 8", "found ' '"],
    );
    t.header(
        "a line break first",
        &start("\n"),
        "HeaderStart",
        &["'\\n'"],
    );
    t.header(
        "a byte order mark",
        &start("\u{feff}"),
        "HeaderStart",
        &["byte 8"],
    );
    t.header("a bracket first", b"[]", "HeaderStart", &["'['"]);
    t.header("null", b"null", "HeaderStart", &["'n'"]);
    t.header("a NUL", b"\0{}", "HeaderStart", &["'\\0'"]);
    t.header("pickle", b"\x80\x02}q", "HeaderStart", &["'\\u{80}'"]);
    t.check(29);
}

#[test]
fn headers_that_are_not_json() {
    let valid = Valid::new();
    let mut t = Table { cases: Vec::new() };
    t.header("a brace alone", b"{", "Header", &["byte 8", "EOF"]);
    t.header("spaces after a brace", b"{      ", "Header", &["EOF"]);
    t.header(
        "no quotes",
        b"{a:1}",
        "Header",
        &["byte 9", "key must be a string"],
    );
    t.header("single quotes", b"{'a':1}", "Header", &["byte 9"]);
    t.header("a comment", b"{/*a*/}", "Header", &["byte 9"]);
    t.header(
        "a comma at the end",
        b"{\"__metadata__\":{},}",
        "Header",
        &["byte 27", "trailing comma"],
    );
    t.header(
        "no colon",
        b"{\"a\" 1}",
        "Header",
        &["byte 13", "expected `:`"],
    );
    t.header(
        "two objects",
        b"{}{}",
        "Header",
        &["byte 10", "trailing characters"],
    );
    t.header("text after it", b"{} x", "Header", &["byte 11", "trailing"]);
    t.header("zeros after it", b"{}\0\0", "Header", &["byte 10"]);
    t.header(
        "on the third line",
        b"{\n\n  \"a\":{},\n}",
        "Header",
        &["byte 18", "dtype"],
    );
    t.header(
        "no UTF-8",
        b"{\"\xff\":{}}",
        "Header",
        &["byte 10", "not UTF-8"],
    );
    t.header(
        "cut UTF-8",
        b"{\"\xc3\":{}}",
        "Header",
        &["byte 10", "not UTF-8"],
    );
    t.header(
        "half a surrogate pair",
        b"{\"\\ud800\":{}}",
        "Header",
        &["byte", "hex escape"],
    );
    t.header(
        "a raw line break",
        b"{\"a\nb\":{}}",
        "Header",
        &["control character"],
    );
    t.header(
        "an unknown escape",
        b"{\"\\x41\":{}}",
        "Header",
        &["invalid escape"],
    );
    t.header(
        "an unclosed text",
        b"{\"abc",
        "Header",
        &["EOF while parsing a string"],
    );
    t.header(
        "deep arrays",
        format!("{{\"a\":{}", "[".repeat(5000)).as_bytes(),
        "Header",
        &["tensor \"a\""],
    );
    t.header(
        "deep objects",
        "{\"a\":".repeat(5000).as_bytes(),
        "Header",
        &["tensor \"a\""],
    );
    t.header(
        "a tensor that is null",
        b"{\"a\":null}",
        "Header",
        &["tensor \"a\"", "null"],
    );
    t.header(
        "a tensor that is a text",
        b"{\"a\":\"F32\"}",
        "Header",
        &["tensor \"a\"", "string"],
    );
    t.header(
        "a tensor as a list",
        b"{\"a\":[\"F32\",[],[0,4]]}",
        "Header",
        &["tensor \"a\"", "sequence"],
    );
    t.header(
        "metadata null",
        b"{\"__metadata__\":null}",
        "Header",
        &["metadata"],
    );
    t.header(
        "metadata a list",
        b"{\"__metadata__\":[]}",
        "Header",
        &["metadata"],
    );
    t.header(
        "metadata with a number",
        b"{\"__metadata__\":{\"neuro_divergent\":1}}",
        "Header",
        &["integer `1`", "a string"],
    );
    t.header(
        "metadata with an object",
        b"{\"__metadata__\":{\"config\":{}}}",
        "Header",
        &["map"],
    );
    t.header(
        "no metadata",
        b"{}",
        "Foreign",
        &["neuro_divergent", "no checkpoint"],
    );
    t.header("empty metadata", b"{\"__metadata__\":{}}", "Foreign", &[]);
    t.header(
        "metadata of others",
        b"{\"__metadata__\":{\"format\":\"pt\"}}",
        "Foreign",
        &[],
    );
    let foreign = assemble(
        b"{\"w\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8]}}",
        &[0; 8],
    );
    t.add(
        "a file of others",
        foreign,
        "Foreign",
        &["safetensors format"],
    );

    let texts: Vec<_> = (0..101).map(|i| format!("\"{i}\":\"\"")).collect();
    let many = format!("{{\"__metadata__\":{{{}}}}}", texts.join(","));
    t.header(
        "metadata without end",
        many.as_bytes(),
        "Header",
        &["more than 100"],
    );

    let metadata = "{\"__metadata__\":{";
    let twice = "\"__metadata__\":{\"neuro_divergent\":\"1\"},";
    t.add(
        "metadata twice",
        valid.with("{\"__", &format!("{{{twice}\"__")),
        "Header",
        &["\"__metadata__\" occurs twice"],
    );
    t.add(
        "a metadata key twice",
        valid.with(metadata, &format!("{metadata}\"config\":\"1\",")),
        "Header",
        &["the metadata key \"config\" occurs twice"],
    );
    let record = valid.record("params.w").to_owned();
    let again = format!("{record},{record}");
    t.add(
        "a tensor twice",
        valid.with(&record, &again),
        "Header",
        &["\"params.w\" occurs twice"],
    );
    let escaped = format!("{record},{}", record.replace("params.w", "params.\\u0077"));
    t.add(
        "a tensor twice, once escaped",
        valid.with(&record, &escaped),
        "Header",
        &["\"params.w\" occurs twice"],
    );
    t.check(35);
}

#[test]
fn metadata_that_are_wrong() {
    let valid = Valid::new();
    let mut t = Table { cases: Vec::new() };
    let version = "\"neuro_divergent\":\"1\"";
    for (name, other) in [
        ("version 2", "2"),
        ("version 0", "0"),
        ("version 1.0", "1.0"),
        ("version with a space", " 1"),
        ("version without a number", ""),
    ] {
        let text = format!("\"neuro_divergent\":\"{other}\"");
        let found = format!("format version {other}, ");
        t.add(
            name,
            valid.signed(version, &text),
            "Version",
            &[&found, "reads version 1"],
        );
    }
    let long = format!("\"neuro_divergent\":\"{}\"", "9".repeat(5000));
    t.add(
        "a long version",
        valid.signed(version, &long),
        "Version",
        &["999..."],
    );
    t.add(
        "no version",
        valid.with(&format!("{version},"), ""),
        "Foreign",
        &[],
    );

    let value = |key: &str| {
        let json: serde_json::Value = serde_json::from_str(&valid.header).unwrap();
        let text = serde_json::to_string(&json["__metadata__"][key]).unwrap();
        format!("\"{key}\":{text}")
    };
    let (config, length, sum, state) = (
        value("config"),
        value("data_bytes"),
        value("checksum"),
        value("state"),
    );
    let without = |entry: &str| valid.header_with(&format!("{entry},"), "");
    let key = |key: &str| format!("metadata \"{key}\"");
    t.add(
        "no config",
        sign(&without(&config), &valid.data),
        "Metadata",
        &[&key("config"), "no such key"],
    );
    t.add(
        "no length",
        sign(&without(&length), &valid.data),
        "Metadata",
        &[&key("data_bytes"), "no such key"],
    );
    t.add(
        "no checksum",
        assemble(without(&sum).as_bytes(), &valid.data),
        "Metadata",
        &[&key("checksum"), "no such key"],
    );
    t.add(
        "an unknown key",
        valid.signed(&length, &format!("{length},\"extra\":\"x\"")),
        "Metadata",
        &[&key("extra"), "one of the keys"],
    );
    for (name, text) in [
        ("config empty", ""),
        ("config cut", "{\\\"a\\\":"),
        ("config no JSON", "nonsense"),
        ("config of two values", "1 2"),
        ("config with NaN", "{\\\"a\\\":NaN}"),
    ] {
        let bytes = valid.signed(&config, &format!("\"config\":\"{text}\""));
        t.add(name, bytes, "Metadata", &[&key("config"), "JSON"]);
    }
    for (name, text) in [
        ("length a word", "many"),
        ("length negative", "-1"),
        ("length with a sign", "+1"),
        ("length with a space", " 1"),
        ("length a float", "1e3"),
        ("length empty", ""),
        ("length beyond 64 bits", "18446744073709551616"),
    ] {
        let bytes = valid.signed(&length, &format!("\"data_bytes\":\"{text}\""));
        t.add(
            name,
            bytes,
            "Metadata",
            &[&key("data_bytes"), "decimal", &format!("\"{text}\"")],
        );
    }
    let one_more = format!("\"data_bytes\":\"{}\"", valid.data.len() + 1);
    t.add(
        "length one off",
        valid.signed(&length, &one_more),
        "DataLength",
        &["byte"],
    );
    let largest = "\"data_bytes\":\"18446744073709551615\"";
    t.add(
        "length the largest",
        valid.signed(&length, largest),
        "DataLength",
        &["18446744073709551615"],
    );
    for (name, text) in [
        ("checksum empty", ""),
        ("checksum short", "0123456789abcde"),
        ("checksum long", "0123456789abcdef0"),
        ("checksum in capitals", "0123456789ABCDEF"),
        ("checksum with a prefix", "0x23456789abcdef"),
        ("checksum with a sign", "+123456789abcdef"),
        ("checksum of other characters", "0123456789abcdeü"),
    ] {
        let bytes = valid.with(&sum, &format!("\"checksum\":\"{text}\""));
        t.add(
            name,
            bytes,
            "Metadata",
            &[&key("checksum"), "16 hexadecimal digits"],
        );
    }
    let other = "\"checksum\":\"0123456789abcdef\"";
    t.add(
        "another checksum",
        valid.with(&sum, other),
        "Checksum",
        &["0123456789abcdef"],
    );

    let changed = |from: &str, to: &str| {
        let escape = |text: &str| text.replace('"', "\\\"");
        let (from, to) = (escape(from), escape(to));
        assert!(state.contains(&from), "{from} in {state}");
        valid.signed(&state, &state.replacen(&from, &to, 1))
    };
    let state_key = key("state");
    for (name, from, to, part) in [
        (
            "no step",
            "\"step\":12345",
            "\"stop\":12345",
            "unknown field `stop`",
        ),
        (
            "a step too many",
            "\"step\":12345",
            "\"step\":12345,\"step\":1",
            "duplicate field `step`",
        ),
        (
            "a negative step",
            "\"step\":12345",
            "\"step\":-1",
            "invalid value",
        ),
        (
            "half a step",
            "\"step\":12345",
            "\"step\":0.5",
            "floating point",
        ),
        (
            "a step beyond 64 bits",
            "\"step\":12345",
            "\"step\":18446744073709551616",
            "u64",
        ),
        (
            "a step in quotes",
            "\"step\":12345",
            "\"step\":\"12345\"",
            "string",
        ),
        (
            "no seed",
            ",\"seed\":18446744073709551614",
            "",
            "missing field `seed`",
        ),
        ("a key beyond 32 bits", "4294967294", "4294967296", "u32"),
        (
            "a scale as a number",
            "\"3fb999999999999a\"",
            "0.1",
            "string",
        ),
        (
            "a scale cut",
            "3fb999999999999a",
            "3fb999999999999",
            "16 hexadecimal",
        ),
        (
            "a scale with a sign",
            "3fb999999999999a",
            "+fb999999999999a",
            "16 hexadecimal",
        ),
        (
            "moments without end",
            "\"moments\":2",
            "\"moments\":1000000000000000000",
            "at most 8",
        ),
        (
            "nine moments",
            "\"moments\":2",
            "\"moments\":9",
            "at most 8 moments, found 9",
        ),
        (
            "moments below none",
            "\"moments\":2",
            "\"moments\":-1",
            "invalid value",
        ),
        ("the end gone", "12345}", "12345", "EOF"),
        ("something after the end", "12345}", "12345}}", "trailing"),
    ] {
        t.add(name, changed(from, to), "Metadata", &[&state_key, part]);
    }
    for (name, text) in [
        ("state empty", ""),
        ("state null", "null"),
        ("state a list", "[]"),
        ("state a number", "1"),
    ] {
        let bytes = valid.signed(&state, &format!("\"state\":\"{text}\""));
        t.add(name, bytes, "Metadata", &[&state_key, "training state"]);
    }
    t.add(
        "one moment fewer",
        changed("\"moments\":2", "\"moments\":1"),
        "Unexpected",
        &["moments.1.w"],
    );
    t.add(
        "one moment more",
        changed("\"moments\":2", "\"moments\":3"),
        "Missing",
        &["moments.2.w", "[2, 3]"],
    );
    let best = "\"best\":{\"loss\":\"3fd5555555555555\",\"step\":12000}";
    t.add(
        "no best any more",
        changed(best, "\"best\":null"),
        "Unexpected",
        &["best."],
    );
    t.add(
        "no state any more",
        valid.signed(&format!(",{state}"), ""),
        "Unexpected",
        &["best."],
    );
    t.check(54);
}

#[test]
fn tensors_that_are_wrong() {
    let valid = Valid::new();
    let mut t = Table { cases: Vec::new() };
    let (begin, end) = valid.offsets("params.w");
    let place = format!("\"data_offsets\":[{begin},{end}]");
    let tensor = "tensor \"params.w\"";

    t.add(
        "no fields",
        valid.tensor("{}"),
        "Header",
        &[tensor, "\"dtype\" is missing"],
    );
    t.add(
        "no shape",
        valid.tensor(&format!("{{\"dtype\":\"F32\",{place}}}")),
        "Header",
        &[tensor, "\"shape\" is missing"],
    );
    t.add(
        "no offsets",
        valid.tensor("{\"dtype\":\"F32\",\"shape\":[2,3]}"),
        "Header",
        &[tensor, "\"data_offsets\" is missing"],
    );
    let fields = format!("\"dtype\":\"F32\",\"shape\":[2,3],{place}");
    for (name, further) in [
        ("dtype twice", "\"dtype\":\"F32\""),
        ("shape twice", "\"shape\":[2,3]"),
        ("data_offsets twice", place.as_str()),
    ] {
        let field = further.split('"').nth(1).unwrap();
        let bytes = valid.tensor(&format!("{{{fields},{further}}}"));
        t.add(
            name,
            bytes,
            "Header",
            &[tensor, &format!("\"{field}\" occurs twice")],
        );
    }
    t.add(
        "a fourth field",
        valid.tensor(&format!("{{{fields},\"stride\":[1]}}")),
        "Header",
        &[tensor, "\"stride\" is unknown"],
    );

    let of_type =
        |dtype: &str| valid.tensor(&format!("{{\"dtype\":{dtype},\"shape\":[2,3],{place}}}"));
    for (name, dtype) in [
        ("type I64", "I64"),
        ("type BOOL", "BOOL"),
        ("type F8_E4M3", "F8_E4M3"),
        ("type F4", "F4"),
        ("type in small letters", "f32"),
        ("type empty", ""),
        ("type with a space", "F32 "),
    ] {
        t.add(
            name,
            of_type(&format!("\"{dtype}\"")),
            "Dtype",
            &[tensor, &format!("found {dtype}")],
        );
    }
    t.add(
        "type a number",
        of_type("32"),
        "Header",
        &[tensor, "integer"],
    );
    t.add("type null", of_type("null"), "Header", &[tensor, "null"]);
    t.add(
        "whole numbers for a parameter",
        of_type("\"U32\""),
        "Dtype",
        &[tensor, "found U32"],
    );
    t.add(
        "type too wide",
        of_type("\"F64\""),
        "Offsets",
        &[tensor, "48 bytes", "found 24"],
    );
    t.add(
        "type too narrow",
        of_type("\"BF16\""),
        "Offsets",
        &[tensor, "12 bytes", "found 24"],
    );

    let of_shape =
        |shape: &str| valid.tensor(&format!("{{\"dtype\":\"F32\",\"shape\":{shape},{place}}}"));
    for (name, shape, part) in [
        ("a negative dimension", "[-2,3]", "invalid value"),
        ("half a dimension", "[2.5,3]", "floating point"),
        (
            "a dimension beyond 64 bits",
            "[18446744073709551616]",
            "u64",
        ),
        ("a dimension in quotes", "[\"2\",3]", "string"),
        ("a shape that is a number", "6", "at most 6 dimensions"),
        ("a shape that is null", "null", "at most 6 dimensions"),
        ("an object for a shape", "{}", "at most 6 dimensions"),
        ("nested dimensions", "[[2,3]]", "sequence"),
        (
            "seven dimensions",
            "[1,1,1,1,1,2,3]",
            "at most 6 dimensions",
        ),
    ] {
        t.add(name, of_shape(shape), "Header", &[tensor, part]);
    }
    for (name, shape) in [
        ("elements beyond 64 bits", "[4294967296, 4294967296]"),
        ("bytes beyond 64 bits", "[9223372036854775807]"),
        (
            "an overflow behind a zero",
            "[0, 9223372036854775808, 9223372036854775808]",
        ),
        (
            "an overflow before a zero",
            "[9223372036854775808, 9223372036854775808, 0]",
        ),
        ("the largest dimension", "[18446744073709551615]"),
    ] {
        t.add(name, of_shape(shape), "Shape", &[tensor, shape, "counted"]);
    }
    for (name, shape, part) in [
        ("a shape too large", "[2, 4]", "32 bytes"),
        ("a shape too small", "[2, 2]", "16 bytes"),
        ("an empty shape", "[]", "4 bytes"),
        ("no elements", "[2, 0]", "0 bytes"),
        ("a terabyte", "[1000000000000]", "4000000000000 bytes"),
    ] {
        t.add(
            name,
            of_shape(shape),
            "Offsets",
            &[tensor, part, "found 24"],
        );
    }
    t.add(
        "another shape of equal size",
        of_shape("[3,2]"),
        "Shape",
        &[tensor, "expected shape [2, 3], found shape [3, 2]"],
    );

    let at = |offsets: &str| {
        valid.tensor(&format!(
            "{{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":{offsets}}}"
        ))
    };
    let total = valid.data.len();
    for (name, offsets) in [
        ("offsets reversed", format!("[{end},{begin}]")),
        (
            "offsets beyond the data",
            format!("[{total},{}]", total + 24),
        ),
        ("the largest offsets", format!("[{0},{0}]", u64::MAX)),
        ("an offset that wraps", format!("[{},{}]", u64::MAX - 23, 0)),
    ] {
        t.add(name, at(&offsets), "Offsets", &[tensor, "found ["]);
    }
    for (name, offsets) in [
        ("three offsets", format!("[{begin},{end},0]")),
        ("one offset", format!("[{begin}]")),
        ("no offsets", "[]".to_owned()),
        ("a negative offset", format!("[-1,{end}]")),
        ("half an offset", format!("[{begin}.5,{end}]")),
        (
            "offsets beyond 64 bits",
            "[18446744073709551616,0]".to_owned(),
        ),
        ("offsets null", "null".to_owned()),
        ("offsets in an object", "{}".to_owned()),
    ] {
        t.add(name, at(&offsets), "Header", &[tensor]);
    }
    let aligned = at(&format!("[{},{}]", begin - 4, end - 4));
    t.add(
        "overlap with the one before",
        aligned,
        "Offsets",
        &["params.", "overlap"],
    );
    t.add(
        "the bytes of another",
        at("[0,24]"),
        "Offsets",
        &["overlap"],
    );

    let record = valid.record("params.w").to_owned();
    let gone = |record: &str| valid.header_with(&format!("{record},"), "");
    t.add(
        "a gap where a tensor was",
        sign(&gone(&record), &valid.data),
        "Offsets",
        &["gap"],
    );
    let first = valid.record("best.b").to_owned();
    t.add(
        "a gap at the start",
        sign(&gone(&first), &valid.data),
        "Offsets",
        &["bytes at 0,"],
    );
    let epoch = valid.record("sampler.epoch").to_owned();
    let without_epoch = valid.header_with(&format!(",{epoch}"), "");
    t.add(
        "a gap at the end",
        sign(&without_epoch, &valid.data),
        "DataLength",
        &["byte"],
    );

    // An empty tensor needs no place, so the rest stays as it is.
    let add = |name: &str, dtype: &str| {
        let new = format!(
            "{record},\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":[0],\"data_offsets\":[0,0]}}"
        );
        valid.signed(&record, &new)
    };
    for (name, tensor) in [
        ("a tensor without a role", "weights"),
        ("a tensor without a name", ""),
        ("a prefix without its dot", "params"),
        ("a moment without a number", "moments.w"),
        ("a moment with a padded number", "moments.01.w"),
        ("a moment beyond the number", "moments.2.w"),
        ("a sampler's other tensor", "sampler.other"),
        ("a parameter that the network lacks", "params.v"),
        ("a parameter without a name", "params."),
        ("a moment that the network lacks", "moments.1.b"),
        ("a best that the network lacks", "best.v"),
    ] {
        t.add(
            name,
            add(tensor, "F32"),
            "Unexpected",
            &[&format!("tensor \"{tensor}\""), "[0]"],
        );
    }
    let long = "params.".to_owned() + &"y".repeat(10_000);
    t.add("a long name", add(&long, "F32"), "Unexpected", &["yyy..."]);

    let epoch_is = |from: &str, to: &str| valid.signed(&epoch, &epoch.replace(from, to));
    t.add(
        "an epoch of reals",
        epoch_is("U32", "F32"),
        "Dtype",
        &["sampler.epoch", "expected numbers of type U32"],
    );
    t.add(
        "an epoch in two dimensions",
        epoch_is("[5]", "[5,1]"),
        "Shape",
        &["sampler.epoch", "[5, 1]"],
    );
    t.add(
        "an epoch without dimensions",
        {
            let shorter = epoch.replace("[5]", "[]");
            valid.signed(&epoch, &shorter)
        },
        "Offsets",
        &["sampler.epoch", "4 bytes"],
    );
    let renamed = epoch.replace("sampler.epoch", "params.z");
    t.add(
        "no epoch",
        sign(&valid.header_with(&epoch, &renamed), &valid.data),
        "Missing",
        &["sampler.epoch"],
    );
    for (name, from, to) in [
        ("a parameter gone", "params.w", "params.x"),
        ("a moment gone", "moments.0.w", "moments.0.x"),
        ("a best gone", "best.b", "best.x"),
    ] {
        let bytes = valid.signed(&format!("\"{from}\""), &format!("\"{to}\""));
        t.add(name, bytes, "Missing", &[from, &format!("but \"{to}\"")]);
    }
    t.check(63);
}

#[test]
fn contents_that_changed_since_they_were_written() {
    let valid = Valid::new();
    let mut t = Table { cases: Vec::new() };
    let flip = |at: usize| {
        let mut data = valid.data.clone();
        data[at] ^= 1;
        assemble(valid.header.as_bytes(), &data)
    };
    t.add("the first byte", flip(0), "Checksum", &["damaged"]);
    t.add(
        "the last byte",
        flip(valid.data.len() - 1),
        "Checksum",
        &["damaged"],
    );
    t.add(
        "zeros for data",
        assemble(valid.header.as_bytes(), &vec![0; valid.data.len()]),
        "Checksum",
        &[],
    );
    t.add(
        "a letter of the config",
        valid.with("mlp", "mlq"),
        "Checksum",
        &[],
    );
    t.add(
        "a digit of the state",
        valid.with("12345", "12346"),
        "Checksum",
        &[],
    );
    t.add(
        "a digit of the loss",
        valid.with("3fd5555555555555", "3fd5555555555554"),
        "Checksum",
        &[],
    );
    t.add(
        "a letter of a name",
        valid.with("params.w", "params.v"),
        "Checksum",
        &[],
    );
    t.add(
        "a shape of equal size",
        valid.with("[2,3]", "[3,2]"),
        "Checksum",
        &[],
    );
    t.add(
        "a type of equal size",
        valid.with("F32", "U32"),
        "Checksum",
        &[],
    );
    let (w, b) = (valid.record("moments.0.w"), valid.record("moments.1.w"));
    let swapped = valid
        .header
        .replace(w, "@")
        .replace(b, &w.replace(".0.", ".1."));
    let swapped = swapped.replace('@', &b.replace(".1.", ".0."));
    t.add(
        "the moments swapped",
        assemble(swapped.as_bytes(), &valid.data),
        "Checksum",
        &[],
    );
    let (header, data) = (&valid.header, &valid.data);
    let value = serde_json::from_str(header).unwrap();
    // What the table rests on: an unchanged file has the checksum that these tests compute, and is read.
    assert!(header.contains(&format!("{:016x}", checksum(&value, data))));
    assert!(load(sign(header, data), &plain_layout()).is_ok());
    t.check(10);
}
