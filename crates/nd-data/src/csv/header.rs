//! What each column of the header is for.

use super::options::{CsvOptions, Delimiter, Layout, OtherColumns};
use crate::calendar::TimeParser;
use crate::error::{DataError, excerpt};
use crate::panel::{Role, list_names};

/// The columns of a long file by position.
pub(super) struct LongColumns {
    pub(super) unique_id: Option<usize>,
    pub(super) ds: usize,
    pub(super) y: Option<usize>,
    pub(super) mask: Option<usize>,
    pub(super) exogenous: Vec<(usize, Role)>,
}

/// The columns of a wide file by position.
pub(super) struct WideColumns {
    pub(super) ds: usize,
    pub(super) series: Vec<usize>,
}

/// The names of a header line.
pub(super) struct Header<'a> {
    pub(super) file: &'a str,
    pub(super) names: Vec<String>,
}

impl Header<'_> {
    /// Checks what holds for every layout: names exist and differ.
    pub(super) fn check(&self, options: &CsvOptions) -> Result<(), DataError> {
        let file = || self.file.to_string();
        if let [only] = self.names.as_slice() {
            let other = Delimiter::ALL
                .into_iter()
                .find(|d| *d != options.delimiter && only.contains(char::from(d.byte())));
            if let Some(other) = other {
                let (expected, found) = (options.delimiter.name(), other.name());
                return Err(DataError::WrongDelimiter {
                    file: file(),
                    expected,
                    found,
                });
            }
        }
        // Numbers or dates where the time column's name should be: the header line is absent.
        if !self.names.contains(&options.ds) {
            let mut times = TimeParser::default();
            let is_data =
                |name: &String| name.parse::<f64>().is_ok() || times.parse(name.as_bytes()).is_ok();
            let data = self.names.iter().map(is_data).filter(|&d| d).count();
            if data >= 2 || data == self.names.len() {
                let found = excerpt(&self.names.join(","));
                return Err(DataError::MissingHeader {
                    file: file(),
                    found,
                });
            }
        }
        // Where columns that nobody asked for are left out, so is one without a name: an exported index, or a delimiter at the
        // end of every line.
        let leaves_out = matches!(
            &options.layout,
            Layout::Long {
                others: OtherColumns::Ignore,
                ..
            }
        );
        for (i, name) in self.names.iter().enumerate() {
            if options.ignore.contains(name) || name.is_empty() && leaves_out {
                continue;
            }
            if name.is_empty() {
                return Err(DataError::UnnamedColumn {
                    file: file(),
                    position: i + 1,
                });
            }
            if let Some(first) = self.names[..i].iter().position(|earlier| earlier == name) {
                return Err(DataError::DuplicateColumn {
                    file: file(),
                    column: excerpt(name),
                    first: format!("column {}", first + 1),
                    second: format!("column {}", i + 1),
                });
            }
        }
        Ok(())
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|n| n == name)
    }

    fn require(&self, name: &str, role: &'static str, hint: &str) -> Result<usize, DataError> {
        self.position(name).ok_or_else(|| {
            let similar = self.names.iter().find(|n| n.eq_ignore_ascii_case(name));
            let hint = match similar {
                Some(similar) => format!("; did you mean `{}`?", excerpt(similar)),
                None => hint.to_string(),
            };
            DataError::MissingColumn {
                file: self.file.to_string(),
                column: excerpt(name),
                role,
                found: list_names(self.names.iter().map(String::as_str)),
                hint,
            }
        })
    }

    /// The columns of the long layout.
    pub(super) fn long(&self, options: &CsvOptions) -> Result<LongColumns, DataError> {
        let Layout::Long {
            unique_id,
            y,
            available_mask,
            historic,
            future,
            statics,
            others,
        } = &options.layout
        else {
            return Err(wrong_layout());
        };
        let ds = self.require(&options.ds, "time stamps", "; name it with the option `ds`")?;
        let target = match y {
            Some(y) => {
                let hint = "; name it with the option `y`, or read one column per series with the wide layout";
                Some(self.require(y, "the target", hint)?)
            }
            None => None,
        };
        let id = match unique_id {
            Some(name) => Some(self.require(name, "series identifiers", "")?),
            None => match self.position("unique_id") {
                Some(position) => Some(position),
                // `Unique_ID` is a slip, not a file with a single series.
                None if self
                    .names
                    .iter()
                    .any(|n| n.eq_ignore_ascii_case("unique_id")) =>
                {
                    Some(self.require("unique_id", "series identifiers", "")?)
                }
                None => None,
            },
        };
        let mask = self.position(available_mask);
        let mut taken: Vec<(usize, &'static str)> = vec![(ds, "time stamps")];
        taken.extend(target.map(|i| (i, "the target")));
        taken.extend(id.map(|i| (i, "series identifiers")));
        taken.extend(mask.map(|i| (i, "availability flags")));
        if let Some((i, first, second)) = self.clash(&taken) {
            return Err(self.twice(i, first, second));
        }
        let mut named: Vec<(usize, Role)> = Vec::new();
        for (list, role) in [
            (historic, Role::Historic),
            (future, Role::Future),
            (statics, Role::Static),
        ] {
            for name in list {
                let position = self.require(name, role.name(), "")?;
                if let Some((_, first)) = taken.iter().find(|(i, _)| *i == position) {
                    return Err(self.twice(position, first, role.name()));
                }
                taken.push((position, role.name()));
                named.push((position, role));
            }
        }
        let mut exogenous = Vec::new();
        for (i, name) in self.names.iter().enumerate() {
            if let Some(&(_, role)) = named.iter().find(|(position, _)| *position == i) {
                exogenous.push((i, role));
            } else if options.ignore.contains(name) || taken.iter().any(|(t, _)| *t == i) {
                continue;
            } else {
                match others {
                    OtherColumns::Historic => exogenous.push((i, Role::Historic)),
                    OtherColumns::Future => exogenous.push((i, Role::Future)),
                    OtherColumns::Ignore => {}
                    OtherColumns::Error => {
                        let found = "a column that no option names; give it a role or ignore it";
                        return Err(DataError::InvalidOption {
                            option: "others",
                            expected: format!("a role for column `{}`", excerpt(name)),
                            found: found.into(),
                        });
                    }
                }
            }
        }
        Ok(LongColumns {
            unique_id: id,
            ds,
            y: target,
            mask,
            exogenous,
        })
    }

    /// The columns of the wide layout.
    pub(super) fn wide(&self, options: &CsvOptions) -> Result<WideColumns, DataError> {
        let Layout::Wide { series } = &options.layout else {
            return Err(wrong_layout());
        };
        let ds = self.require(&options.ds, "time stamps", "; name it with the option `ds`")?;
        let mut positions = Vec::new();
        if series.is_empty() {
            let wanted = |&(i, name): &(usize, &String)| i != ds && !options.ignore.contains(name);
            positions.extend(self.names.iter().enumerate().filter(wanted).map(|(i, _)| i));
        }
        for name in series {
            let position = self.require(name, "a series", "")?;
            if position == ds || positions.contains(&position) {
                let first = if position == ds {
                    "time stamps"
                } else {
                    "a series"
                };
                return Err(self.twice(position, first, "a series"));
            }
            positions.push(position);
        }
        if positions.is_empty() {
            return Err(DataError::MissingColumn {
                file: self.file.to_string(),
                column: "*".into(),
                role: "a series",
                found: list_names(self.names.iter().map(String::as_str)),
                hint: "; a wide file needs at least one column beside the time stamps".into(),
            });
        }
        Ok(WideColumns {
            ds,
            series: positions,
        })
    }

    fn clash(
        &self,
        taken: &[(usize, &'static str)],
    ) -> Option<(usize, &'static str, &'static str)> {
        taken.iter().enumerate().find_map(|(k, &(i, second))| {
            let (_, first) = taken[..k].iter().find(|(j, _)| *j == i)?;
            Some((i, *first, second))
        })
    }

    fn twice(&self, position: usize, first: &str, second: &str) -> DataError {
        DataError::DuplicateColumn {
            file: self.file.to_string(),
            column: excerpt(&self.names[position]),
            first: format!("as {first}"),
            second: format!("as {second}"),
        }
    }
}

fn wrong_layout() -> DataError {
    DataError::InvalidOption {
        option: "layout",
        expected: "the layout that is being read".into(),
        found: "the other one".into(),
    }
}
