//! `cargo xtask report`: the tables of README and docs/performance.md, made from the record of a validation.
//!
//! In its simple form: a document holds `<!-- NAME: made by cargo xtask report -->` and `<!-- end of NAME -->`; what stands between is
//! replaced by a table whose every figure comes from a record. `NAME` is a table of `benches/record/validation.json`, `NAME on 16 cores` the
//! same table of the record of that machine. `tidy` makes the tables again and finds the documents that say something else.

use std::path::PathBuf;

use serde_json::Value;

use crate::run::root;
use crate::suites::write;

/// The file of what was measured on one kind of machine.
pub(crate) struct RecordFile {
    /// Cores of the machine.
    cores: u64,
    /// What stands behind the names of its tables in documents.
    suffix: &'static str,
    /// Relative to the workspace.
    pub(crate) path: &'static str,
}

/// The record of two cores is the one that a validation is held against.
pub(crate) const RECORDS: [RecordFile; 2] = [
    RecordFile {
        cores: 2,
        suffix: "",
        path: "benches/record/validation.json",
    },
    RecordFile {
        cores: 16,
        suffix: " on 16 cores",
        path: "benches/record/validation-16-cores.json",
    },
];
/// The version of its schema that this program reads.
const SCHEMA_VERSION: u64 = 1;
/// The documents with tables.
pub(crate) const DOCUMENTS: [&str; 2] = ["README.md", "docs/performance.md"];
/// A record to the lines of a table.
type Table = fn(&Value) -> String;
/// The tables by name.
const TABLES: [(&str, Table); 3] = [
    ("speedups", speedups),
    ("ablation", ablation),
    ("steps", steps),
];

/// Takes a file as the record of its kind of machine, if one is given, and makes every table again; or only says which are not as they
/// should be.
pub(crate) fn report(file: Option<&PathBuf>, check: bool) -> Result<(), String> {
    let mut records = Records::default();
    let given = file.map(read).transpose()?;
    let place = match &given {
        Some((_, value)) => Some(place_of(value)?),
        None => None,
    };
    for (i, (record, value)) in RECORDS.iter().zip(&mut records.0).enumerate() {
        // The one that is replaced may be missing or broken.
        if place != Some(i) {
            *value = read(&root().join(record.path))?.1;
        }
    }
    if let (Some(file), Some((text, value)), Some(place)) = (file, given, place) {
        let RecordFile { cores, path, .. } = RECORDS[place];
        if !check {
            write(&root().join(path), &text)?;
            println!(
                "{path}, the record of {cores} cores: taken from {}",
                file.display()
            );
        }
        records.0[place] = value;
    }
    let mut drifted = Vec::new();
    for document in DOCUMENTS {
        let path = root().join(document);
        let old = std::fs::read_to_string(&path)
            .map_err(|error| format!("{document} cannot be read: {error}"))?;
        let new = made(&old, &records).map_err(|error| format!("{document}: {error}"))?;
        if new == old {
            println!("{document}: as it should be");
        } else if check {
            drifted.push(document);
        } else {
            write(&path, &new)?;
            println!("{document}: tables made again");
        }
    }
    if drifted.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "{} differ from the records in benches/record: cargo xtask report makes their tables again",
            drifted.join(", ")
        ))
    }
}

/// Which of [`RECORDS`] a validation belongs to.
fn place_of(record: &Value) -> Result<usize, String> {
    let cores = &record["machine"]["cores"];
    let known = RECORDS.iter().position(|record| *cores == record.cores);
    known.ok_or_else(|| {
        let known: Vec<_> = RECORDS.iter().map(|r| r.cores.to_string()).collect();
        format!(
            "the report is of a machine with {cores} cores; there are records of {} cores: add one to RECORDS in xtask/src/report.rs",
            known.join(" and ")
        )
    })
}

fn read(path: &PathBuf) -> Result<(String, Value), String> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        format!(
            "{} cannot be read: {error}; cargo xtask validate writes target/validate/report.json, and cargo xtask report FILE \
             takes it as a record",
            path.display()
        )
    })?;
    let value = parse(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok((text, value))
}

/// Reads a record and checks that it is one.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    let value: Value =
        serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
    if value["kind"] != "validation" {
        return Err(format!(
            "it is a report of kind {}, expected \"validation\" (cargo xtask validate writes one)",
            value["kind"]
        ));
    }
    if value["schema_version"].as_u64() != Some(SCHEMA_VERSION) {
        return Err(format!(
            "it has schema version {}, this program reads version {SCHEMA_VERSION}: measure it again with cargo xtask validate",
            value["schema_version"]
        ));
    }
    Ok(value)
}

/// What was recorded, in the order of [`RECORDS`].
#[derive(Default)]
pub(crate) struct Records(pub(crate) [Value; 2]);

impl Records {
    /// The table of a name, and the record that it is made from.
    fn table(&self, name: &str) -> Option<(Table, &Value)> {
        // The longest suffix that fits: every name ends with the empty one.
        let (file, record) = RECORDS
            .iter()
            .zip(&self.0)
            .filter(|(file, _)| name.ends_with(file.suffix))
            .max_by_key(|(file, _)| file.suffix.len())?;
        let name = name.strip_suffix(file.suffix)?;
        let (_, table) = TABLES.iter().find(|(known, _)| *known == name)?;
        Some((*table, record))
    }
}

/// A document with its tables made from the records.
pub(crate) fn made(document: &str, records: &Records) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = document;
    while let Some(at) = rest.find(BEGIN.0) {
        let name_at = at + BEGIN.0.len();
        let Some(name_end) = rest[name_at..].find(BEGIN.1) else {
            // A comment of another kind.
            out += &rest[..name_at];
            rest = &rest[name_at..];
            continue;
        };
        let name = &rest[name_at..name_at + name_end];
        if name.contains('\n') {
            out += &rest[..name_at];
            rest = &rest[name_at..];
            continue;
        }
        let Some((table, record)) = records.table(name) else {
            let names: Vec<_> = TABLES.iter().map(|(name, _)| *name).collect();
            return Err(format!(
                "there is no table {name:?}; there are: {}, with or without {:?} behind them",
                names.join(", "),
                RECORDS[1].suffix
            ));
        };
        let begin = name_at + name_end + BEGIN.1.len();
        let end = format!("<!-- end of {name} -->");
        let Some(length) = rest[begin..].find(&end) else {
            return Err(format!("the table {name} has no line {end:?}"));
        };
        out += &rest[..begin];
        out += "\n\n";
        out += &table(record);
        out += "\n";
        out += &end;
        rest = &rest[begin + length + end.len()..];
    }
    Ok(out + rest)
}

/// What stands before and behind the name of a table.
const BEGIN: (&str, &str) = ("<!-- ", ": made by cargo xtask report -->");

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

/// Three significant digits.
fn number(x: f64) -> String {
    match x.abs() {
        size if size >= 100.0 => format!("{x:.0}"),
        size if size >= 10.0 => format!("{x:.1}"),
        _ => format!("{x:.2}"),
    }
}

/// `71.3x (70.1 to 72.0)`, the range left out where there is none.
fn factor(workload: &Value, name: &str) -> String {
    let found = list(&workload["factors"])
        .iter()
        .find(|f| f["name"] == name);
    let Some(found) = found else {
        return "-".to_owned();
    };
    let of = |key: &str| found["ratio"][key].as_f64().unwrap_or(f64::NAN);
    let mark = if found["same_windows"] == false {
        " a window"
    } else {
        ""
    };
    format!(
        "{}x{mark} ({} to {})",
        number(of("median")),
        number(of("low")),
        number(of("high"))
    )
}

fn side<'a>(workload: &'a Value, name: &str) -> Option<&'a Value> {
    list(&workload["full"]["sides"])
        .iter()
        .find(|side| side["side"] == name)
}

fn ms(workload: &Value, name: &str) -> Option<f64> {
    side(workload, name)?["step"]["median"].as_f64()
}

/// Where and when it was measured, and over how many rounds.
fn caption(record: &Value) -> String {
    let machine = &record["machine"];
    let workloads = list(&record["workloads"]).iter().map(|workload| {
        let rounds = side(workload, "baseline").map_or(0, |side| list(&side["rounds"]).len());
        let load = workload["load"].as_f64();
        let load = load.map_or("unknown".to_owned(), |load| format!("{load:.1}"));
        format!("{} {rounds} (load {load})", text(&workload["name"]))
    });
    // A program that was brought to a machine without a compiler cannot ask for its version.
    let rustc = match text(&machine["rustc"]) {
        "unknown" => String::new(),
        version => format!(", {version}"),
    };
    format!(
        "{}, {} of {} cores, {}{rustc}. Rounds: {}.\n",
        text(&machine["cpu"]),
        machine["threads"],
        machine["cores"],
        text(&machine["isa"]),
        workloads.collect::<Vec<_>>().join(", ")
    )
}

/// (d): NeuralForecast against a side of ours.
fn peer(workload: &Value, fast: &str) -> String {
    let peer = &workload["peer"];
    let theirs = peer["ms"].as_f64();
    match (theirs, ms(workload, fast)) {
        (Some(theirs), Some(ours)) if peer["same_machine"] == true => {
            format!("{}x", number(theirs / ours))
        }
        (Some(theirs), _) => format!("{} ms on {}", number(theirs), text(&peer["cpu"])),
        _ => "not measured".to_owned(),
    }
}

fn speedups(record: &Value) -> String {
    let mut out = "| training step | numbers | textbook loops (a) | i-k-j loops (b) | ndarray (c) | NeuralForecast (d) |\n|---|---|---|---|---|---|\n".to_owned();
    for workload in list(&record["workloads"]) {
        for (numbers, suffix, fast) in [("f32", ":f32", "no-bf16"), ("bf16", "", "all")] {
            out += &format!(
                "| {} | {numbers} | {} | {} | {} | {} |\n",
                text(&workload["name"]),
                factor(workload, &format!("combined{suffix}")),
                factor(workload, &format!("against:b{suffix}")),
                factor(workload, &format!("against:c{suffix}")),
                peer(workload, fast),
            );
        }
    }
    out + "\n" + &caption(record)
}

fn ablation(record: &Value) -> String {
    let mut out = "| training step | optimization | alone | what leaving it out costs | as a stage after those above |\n|---|---|---|---|---|\n".to_owned();
    for workload in list(&record["workloads"]) {
        for (title, name) in [
            ("SIMD", "simd"),
            ("tiled attention", "flash"),
            ("threads", "parallel"),
            ("bf16", "bf16"),
        ] {
            let of = |kind: &str| factor(workload, &format!("{kind}:{name}"));
            out += &format!(
                "| {} | {title} | {} | {} | {} |\n",
                text(&workload["name"]),
                of("alone"),
                of("without"),
                of("stage")
            );
        }
    }
    out
}

fn steps(record: &Value) -> String {
    let mut out = "| training step | windows | side | ms, median | fastest | windows/s | peak MiB |\n|---|---|---|---|---|---|---|\n".to_owned();
    for workload in list(&record["workloads"]) {
        let windows = workload["full"]["windows"].as_f64().unwrap_or(f64::NAN);
        for side in list(&workload["full"]["sides"]) {
            let of = |key: &str| side["step"][key].as_f64().unwrap_or(f64::NAN);
            let memory = list(&workload["memory"])
                .iter()
                .find(|m| m["side"] == side["side"]);
            let memory = memory.and_then(|m| m["value"]["median"].as_f64());
            out += &format!(
                "| {} | {windows} | {} | {} | {} | {} | {} |\n",
                text(&workload["name"]),
                text(&side["side"]),
                number(of("median")),
                number(of("min")),
                number(windows / of("median") * 1e3),
                memory.map_or("-".to_owned(), number),
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The record of a machine, and the same in which everything took twice as long.
    fn records() -> Records {
        let mut larger = record();
        larger["machine"]["cores"] = json!(16);
        larger["machine"]["rustc"] = json!("unknown");
        larger["workloads"][0]["factors"][0]["ratio"]["median"] = json!(160.0);
        Records([record(), larger])
    }

    fn record() -> Value {
        json!({
            "kind": "validation", "schema_version": 1,
            "machine": {"cpu": "X", "threads": 2, "cores": 2, "isa": "avx2", "rustc": "rustc 1"},
            "workloads": [{
                "name": "NHITS", "load": 0.5,
                "full": {"windows": 1024, "sides": [
                    {"side": "baseline", "rounds": [8000.0], "step": {"median": 8000.0, "min": 8000.0}},
                    {"side": "all", "rounds": [100.0], "step": {"median": 100.0, "min": 99.0}}]},
                "memory": [{"side": "all", "value": {"median": 94.0}}],
                "peer": {"ms": 300.0, "same_machine": true, "cpu": "X"},
                "factors": [{"name": "combined", "ratio": {"median": 80.0, "low": 79.0, "high": 81.0}, "same_windows": true}]
            }]
        })
    }

    #[test]
    fn tables_stand_between_their_marks() {
        let document = "a\n<!-- speedups: made by cargo xtask report -->\nold\n<!-- end of speedups -->\nb <!-- c -->\n";
        let new = made(document, &records()).unwrap();
        assert!(
            new.starts_with("a\n<!-- speedups") && new.ends_with("b <!-- c -->\n"),
            "{new}"
        );
        assert!(
            new.contains("80.0x (79.0 to 81.0)") && new.contains("3.00x"),
            "{new}"
        );
        assert!(
            !new.contains("old") && new.contains("2 of 2 cores, avx2, rustc 1. Rounds"),
            "{new}"
        );
        let larger = document.replace("speedups", "speedups on 16 cores");
        let larger = made(&larger, &records()).unwrap();
        assert!(
            larger.contains("160x (79.0 to 81.0)")
                && larger.contains("2 of 16 cores, avx2. Rounds"),
            "{larger}"
        );
        assert_eq!(
            made(&new, &records()).unwrap(),
            new,
            "it is as it should be"
        );
        let unknown = made("<!-- speeds: made by cargo xtask report -->", &records()).unwrap_err();
        assert!(
            unknown.contains("speeds") && unknown.contains("ablation"),
            "{unknown}"
        );
        let open = made("<!-- steps: made by cargo xtask report -->", &records()).unwrap_err();
        assert!(open.contains("end of steps"), "{open}");
    }

    #[test]
    fn a_report_belongs_to_the_record_of_its_cores() {
        let of = |cores: u64| place_of(&json!({"machine": {"cores": cores}}));
        assert_eq!((of(2), of(16)), (Ok(0), Ok(1)));
        let error = of(8).unwrap_err();
        assert!(
            error.contains("8 cores") && error.contains("2 and 16"),
            "{error}"
        );
    }

    #[test]
    fn other_kinds_and_versions_are_refused() {
        assert!(parse("{").unwrap_err().contains("not JSON"));
        assert!(parse("{}").unwrap_err().contains("validation"));
        let error = parse(r#"{"kind": "validation", "schema_version": 9}"#).unwrap_err();
        assert!(
            error.contains('9') && error.contains("version 1"),
            "{error}"
        );
    }
}
