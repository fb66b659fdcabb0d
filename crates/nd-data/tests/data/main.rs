//! What becomes of users' data, in one program, which is linked once for all files.
//!
//! `cargo test -p nd-data --test data panel::` runs the tests of one file.

mod calendar;
mod csv_fuzz;
mod csv_malformed;
mod golden;
mod panel;
mod shared_files;
mod windows;
