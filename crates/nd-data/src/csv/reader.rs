//! Rows of a CSV file, one at a time.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

use csv::ByteRecord;
use nd_core::Real;

use super::header::{Header, LongColumns, WideColumns};
use super::options::{CsvOptions, DecimalMark, Layout};
use super::text::{TextFault, TextReader};
use crate::calendar::{TIME_FORMS, TimeFault, TimeKind, TimeParser, Timestamp};
use crate::error::{DataError, Location, excerpt_bytes};
use crate::panel::{Lines, Panel, RawColumn, RawRows, RawTimes, assemble};

const NUMBER_POINT: &str = "digits with `.` before the fraction, such as 12.5 or -3e-4";
const NUMBER_COMMA: &str = "digits with `,` before the fraction, such as 12,5 or -3e-4";

/// Reads a panel from a CSV file.
///
/// ```no_run
/// use nd_data::{Panel, csv::{CsvOptions, read_csv}};
/// let panel: Panel = read_csv("ETTh1.csv", &CsvOptions::wide("date"))?;
/// # Ok::<(), nd_data::DataError>(())
/// ```
///
/// # Errors
/// A [`DataError`] that names the file, the line, the column and the series as far as they are known.
pub fn read_csv<R: Real + FromStr>(
    path: impl AsRef<Path>,
    options: &CsvOptions,
) -> Result<Panel<R>, DataError> {
    let path = path.as_ref();
    let name = path.display().to_string();
    let io = |source| DataError::Io {
        file: name.clone(),
        source,
    };
    let file = File::open(path).map_err(io)?;
    if file.metadata().map_err(io)?.is_dir() {
        return Err(io(std::io::ErrorKind::IsADirectory.into()));
    }
    read_csv_from(file, &name, options)
}

/// Reads a panel from any source of bytes; `name` stands for it in messages.
///
/// # Errors
/// As [`read_csv`].
pub fn read_csv_from<R: Real + FromStr>(
    source: impl Read,
    name: &str,
    options: &CsvOptions,
) -> Result<Panel<R>, DataError> {
    let mut rows = Rows::open(source, name, options)?;
    let raw = match &options.layout {
        Layout::Long { y, .. } => {
            let columns = rows.header.long(options)?;
            read_long(&mut rows, &columns, y.as_deref())?
        }
        Layout::Wide { .. } => {
            let columns = rows.header.wide(options)?;
            read_wide(&mut rows, &columns)?
        }
    };
    // The buffers of the text are not needed while the columns are put in order.
    drop(rows);
    assemble(raw, &options.repair)
}

/// The rows of an open file.
struct Rows<'a, S> {
    csv: csv::Reader<TextReader<S>>,
    record: ByteRecord,
    header: Header<'a>,
    options: &'a CsvOptions,
    /// The line on which the current record begins.
    line: u64,
    times: TimeParser,
    decimal_buffer: Vec<u8>,
}

impl<'a, S: Read> Rows<'a, S> {
    fn open(source: S, file: &'a str, options: &'a CsvOptions) -> Result<Self, DataError> {
        let text = TextReader::new(source, options.encoding, options.longest_row);
        let csv = csv::ReaderBuilder::new()
            .delimiter(options.delimiter.byte())
            .has_headers(false)
            .flexible(true)
            .buffer_capacity(16 * 1024)
            .from_reader(text);
        let mut rows = Self {
            csv,
            record: ByteRecord::new(),
            header: Header {
                file,
                names: Vec::new(),
            },
            options,
            line: 0,
            times: TimeParser::default(),
            decimal_buffer: Vec::new(),
        };
        if !rows.read()? {
            return Err(DataError::EmptyFile {
                file: file.to_string(),
            });
        }
        rows.header.names = rows
            .record
            .iter()
            .map(|name| String::from_utf8_lossy(name.trim_ascii()).into_owned())
            .collect();
        rows.header.check(options)?;
        Ok(rows)
    }

    /// Reads a record whatever its length; `false` at the end.
    fn read(&mut self) -> Result<bool, DataError> {
        let before = self.csv.position().line();
        let more = self.csv.read_byte_record(&mut self.record);
        self.csv.get_mut().row_done();
        match more {
            Ok(more) => {
                // Every line ends with `\n` here, so the reader stands on the line after the record, unless an open
                // quote took the last line end in. Blank lines before the record are skipped.
                let inside = self
                    .record
                    .as_slice()
                    .iter()
                    .filter(|&&b| b == b'\n')
                    .count() as u64;
                let ended = u64::from(!self.csv.get_ref().end_seen);
                self.line = self.csv.position().line().saturating_sub(ended + inside);
                Ok(more)
            }
            Err(error) => Err(self.read_error(error, before)),
        }
    }

    /// Reads a record that must have as many fields as the header.
    fn next(&mut self) -> Result<bool, DataError> {
        if !self.read()? {
            return Ok(false);
        }
        let (expected, found) = (self.header.names.len(), self.record.len());
        if expected != found {
            return Err(DataError::RaggedRow {
                at: self.at(),
                expected,
                found,
            });
        }
        Ok(true)
    }

    fn read_error(&self, error: csv::Error, line: u64) -> DataError {
        let file = self.header.file.to_string();
        let place = |line| {
            Box::new(Location {
                file: Some(file.clone()),
                line: Some(line),
                ..Location::default()
            })
        };
        match &self.csv.get_ref().fault {
            Some(TextFault::Invalid {
                byte,
                line,
                found,
                advice,
            }) => DataError::Encoding {
                at: place(*line),
                byte: *byte,
                found: found.clone(),
                advice,
            },
            Some(TextFault::RowTooLong) => DataError::RecordTooLong {
                at: place(line),
                limit: self.options.longest_row,
            },
            None => {
                let source = match error.into_kind() {
                    csv::ErrorKind::Io(source) => source,
                    other => std::io::Error::other(format!("{other:?}")),
                };
                DataError::Io { file, source }
            }
        }
    }

    fn at(&self) -> Box<Location> {
        Box::new(Location {
            file: Some(self.header.file.to_string()),
            line: Some(self.line),
            ..Location::default()
        })
    }

    /// The place of a field of the current record.
    fn at_field(&self, column: usize, series: Option<&str>) -> Box<Location> {
        let at = self.at().column(&self.header.names[column]);
        match series {
            Some(series) => at.series(series),
            None => at,
        }
    }

    fn field(&self, column: usize) -> &[u8] {
        self.record.get(column).unwrap_or(&[]).trim_ascii()
    }

    fn time(&mut self, column: usize, series: Option<&str>) -> Result<Timestamp, DataError> {
        let text = self.record.get(column).unwrap_or(&[]).trim_ascii();
        self.times.parse(text).map_err(|fault| {
            let reason = match fault {
                TimeFault::Syntax if text.is_empty() => "the field is empty".into(),
                TimeFault::Syntax => "not in a known form".into(),
                TimeFault::Range(part) => format!("there is no such {part}"),
                TimeFault::Mixed(TimeKind::Integer) => {
                    "the rows before it hold whole numbers".into()
                }
                TimeFault::Mixed(_) => "the rows before it hold dates".into(),
                TimeFault::OffsetMixed => {
                    "some stamps carry an offset from UTC and others do not".into()
                }
            };
            DataError::BadTime {
                at: self.at_field(column, series),
                found: excerpt_bytes(text),
                reason,
                expected: TIME_FORMS,
            }
        })
    }

    /// A number of the current record; NaN if it is missing.
    fn number<R: Real + FromStr>(
        &mut self,
        column: usize,
        series: Option<&str>,
    ) -> Result<R, DataError> {
        let text = self.record.get(column).unwrap_or(&[]).trim_ascii();
        let nan = || R::from_f64(f64::NAN);
        if text.is_empty() {
            return Ok(nan());
        }
        let mut digits = text;
        if self.options.decimal == DecimalMark::Comma {
            self.decimal_buffer.clear();
            // A point is no part of a number with a decimal comma: `1.234,5` must not become 1.2345.
            let swapped = text.iter().map(|&b| match b {
                b',' => b'.',
                b'.' => b'?',
                other => other,
            });
            self.decimal_buffer.extend(swapped);
            digits = &self.decimal_buffer;
        }
        // Only what begins like a number is one: this keeps out `inf`, `nan` and `infinity`, which std would read.
        let begins = matches!(digits, [b'0'..=b'9' | b'-' | b'+' | b'.', ..])
            && !digits
                .iter()
                .any(|b| matches!(b, b'i' | b'I' | b'n' | b'N'));
        let value = begins
            .then(|| std::str::from_utf8(digits).ok())
            .flatten()
            .and_then(|digits| digits.parse::<R>().ok());
        match value {
            Some(value) if value.is_finite() => Ok(value),
            Some(_) => Err(self.not_finite(column, series)),
            None if self.is_missing(text) => Ok(nan()),
            None if spells_infinity(text) => Err(self.not_finite(column, series)),
            None => Err(DataError::BadNumber {
                at: self.at_field(column, series),
                found: excerpt_bytes(text),
                expected: match self.options.decimal {
                    DecimalMark::Point => NUMBER_POINT,
                    DecimalMark::Comma => NUMBER_COMMA,
                },
            }),
        }
    }

    fn is_missing(&self, text: &[u8]) -> bool {
        self.options
            .missing_texts
            .iter()
            .any(|missing| missing.as_bytes() == text)
    }

    fn not_finite(&self, column: usize, series: Option<&str>) -> DataError {
        DataError::NotFinite {
            at: self.at_field(column, series),
            found: excerpt_bytes(self.field(column)),
        }
    }

    /// An availability flag: `0`, `1` or their spellings with a fraction or as words.
    fn flag(&self, column: usize, series: Option<&str>) -> Result<bool, DataError> {
        match self.field(column) {
            b"1" | b"1.0" | b"true" | b"True" | b"TRUE" => Ok(true),
            b"0" | b"0.0" | b"false" | b"False" | b"FALSE" => Ok(false),
            other => Err(DataError::BadMask {
                at: self.at_field(column, series),
                found: excerpt_bytes(other),
            }),
        }
    }
}

fn spells_infinity(text: &[u8]) -> bool {
    let word = text
        .strip_prefix(b"-")
        .or(text.strip_prefix(b"+"))
        .unwrap_or(text);
    word.eq_ignore_ascii_case(b"inf") || word.eq_ignore_ascii_case(b"infinity")
}

fn read_long<R: Real + FromStr, S: Read>(
    rows: &mut Rows<'_, S>,
    columns: &LongColumns,
    target_name: Option<&str>,
) -> Result<RawRows<R>, DataError> {
    let mut raw = RawRows {
        file: Some(rows.header.file.to_string()),
        ids: Vec::new(),
        runs: Vec::new(),
        n_rows: 0,
        times: RawTimes::PerRow(Vec::new()),
        style: rows.times.style(),
        target_name: target_name.unwrap_or("y").into(),
        target: columns.y.map(|_| Vec::new()),
        mask: columns.mask.map(|_| Vec::new()),
        columns: columns
            .exogenous
            .iter()
            .map(|&(i, role)| RawColumn {
                name: rows.header.names[i].as_str().into(),
                role,
                values: Vec::new(),
            })
            .collect(),
        lines: None,
    };
    let mut lines = Lines::default();
    let mut stamps = Vec::new();
    let mut known: HashMap<Box<str>, usize> = HashMap::new();
    let mut current: Option<usize> = None;
    if columns.unique_id.is_none() {
        raw.ids.push(target_name.unwrap_or("series").into());
    }
    while rows.next()? {
        let row = raw.n_rows;
        lines.push(row, rows.line);
        let series = match columns.unique_id {
            None => 0,
            Some(column) => {
                let id = rows.field(column);
                match current {
                    Some(series) if raw.ids[series].as_bytes() == id => series,
                    _ => {
                        if id.is_empty() {
                            let at = rows.at_field(column, None);
                            return Err(DataError::EmptySeriesId { at });
                        }
                        let id = String::from_utf8_lossy(id);
                        match known.get(&*id) {
                            Some(&series) => series,
                            None => {
                                raw.ids.push((*id).into());
                                known.insert((*id).into(), raw.ids.len() - 1);
                                raw.ids.len() - 1
                            }
                        }
                    }
                }
            }
        };
        if current != Some(series) {
            raw.runs.push((series, row));
            current = Some(series);
        }
        let id = Some(&*raw.ids[series]);
        stamps.push(rows.time(columns.ds, id)?);
        if let (Some(column), Some(target)) = (columns.y, &mut raw.target) {
            target.push(rows.number(column, id)?);
        }
        if let (Some(column), Some(mask)) = (columns.mask, &mut raw.mask) {
            mask.push(rows.flag(column, id)?);
        }
        for (&(column, _), values) in columns.exogenous.iter().zip(&mut raw.columns) {
            values.values.push(rows.number(column, id)?);
        }
        raw.n_rows += 1;
    }
    raw.times = RawTimes::PerRow(stamps);
    raw.style = rows.times.style();
    raw.lines = Some(lines);
    Ok(raw)
}

fn read_wide<R: Real + FromStr, S: Read>(
    rows: &mut Rows<'_, S>,
    columns: &WideColumns,
) -> Result<RawRows<R>, DataError> {
    let names: Vec<Box<str>> = columns
        .series
        .iter()
        .map(|&i| rows.header.names[i].as_str().into())
        .collect();
    let mut values: Vec<Vec<R>> = vec![Vec::new(); names.len()];
    let mut stamps: Vec<Timestamp> = Vec::new();
    let mut lines = Lines::default();
    while rows.next()? {
        lines.push(stamps.len(), rows.line);
        stamps.push(rows.time(columns.ds, None)?);
        for ((&column, name), values) in columns.series.iter().zip(&names).zip(&mut values) {
            values.push(rows.number(column, Some(name))?);
        }
    }
    lines.period = Some(stamps.len());
    let n = stamps.len();
    let mut target = Vec::with_capacity(n * names.len());
    for column in values {
        // Each column is freed as soon as it is in its place.
        target.extend_from_slice(&column);
    }
    Ok(RawRows {
        file: Some(rows.header.file.to_string()),
        runs: (0..names.len())
            .map(|series| (series, series * n))
            .collect(),
        ids: names,
        n_rows: target.len(),
        times: RawTimes::Shared(stamps.into()),
        style: rows.times.style(),
        target_name: "y".into(),
        target: Some(target),
        mask: None,
        columns: Vec::new(),
        lines: Some(lines),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infinity_is_recognised_however_it_is_spelled() {
        for text in ["inf", "-inf", "+Inf", "INFINITY", "-Infinity"] {
            assert!(spells_infinity(text.as_bytes()), "{text}");
        }
        assert!(!spells_infinity(b"info"));
    }
}
