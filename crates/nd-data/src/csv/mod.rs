//! Panels from CSV files.
//!
//! The simple version: read the header, find out what each column is, and append every row to the columns. Then the
//! rows are grouped, sorted, checked and repaired as [`Repair`](crate::Repair) says, and become a
//! [`Panel`](crate::Panel).
//!
//! The tricks: rows are byte records in one reused buffer; numbers are parsed straight from its bytes into columns of
//! the final type; the series of a row is compared with that of the row before it; so nothing is allocated per row, and
//! the memory beside the panel is two chunks of text and eight bytes per row for the time stamps.
//!
//! Known weakness: a number is parsed on one thread, at about 150 MB of text per second.

mod header;
mod options;
mod reader;
mod text;

pub use options::{CsvOptions, DecimalMark, Delimiter, Encoding, Layout, OtherColumns};
pub use reader::{read_csv, read_csv_from};
