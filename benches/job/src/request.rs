//! What the main job is asked to do: the options of `cargo xtask bench`, handed over as JSON.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The options of one run; `cargo xtask help bench` describes each.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// The user's own data; the embedded data sets otherwise.
    pub csv: Option<PathBuf>,
    /// Time steps to forecast.
    pub horizon: Option<usize>,
    /// Names of models; empty for all.
    pub models: Vec<String>,
    /// Past time steps a model sees.
    pub input_size: Option<usize>,
    /// Training steps of each model.
    pub steps: Option<usize>,
    /// The frequency alias; inferred otherwise.
    pub freq: Option<String>,
    /// The column that names the series.
    pub id_column: Option<String>,
    /// The column of time stamps.
    pub ds_column: Option<String>,
    /// The column of values.
    pub y_column: Option<String>,
    /// One column per series.
    pub wide: bool,
    /// What separates the columns: `comma`, `semicolon`, `tab`, `pipe` or the character.
    pub delimiter: Option<String>,
    /// What separates the fraction of a number: `point` or `comma`.
    pub decimal: Option<String>,
    /// How characters are stored: `utf-8` or `latin-1`.
    pub encoding: Option<String>,
    /// What to do about repeated time stamps: `error`, `first`, `last` or `mean`.
    pub duplicates: Option<String>,
    /// What to do about missing time stamps: `mask`, `ffill`, `linear`, `keep` or `error`.
    pub gaps: Option<String>,
    /// What to do about missing values: `mask`, `ffill`, `zero` or `error`.
    pub missing: Option<String>,
    /// Columns to leave out.
    pub ignore: Vec<String>,
    /// Threads of the optimised runs.
    pub threads: Option<usize>,
    /// The SIMD level of the optimised runs.
    pub simd: Option<String>,
    /// The seed of initial weights and sampling.
    pub seed: Option<u64>,
    /// Few steps.
    pub quick: bool,
    /// The folder of the report.
    pub out: Option<PathBuf>,
}

impl Request {
    /// The command line that asks for this.
    #[must_use]
    pub fn command(&self) -> String {
        let mut words = vec!["cargo xtask bench".to_owned()];
        let mut option = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                let plain = |c: char| c.is_alphanumeric() || "_-./:,+@%=".contains(c);
                let quoted = value.is_empty() || !value.chars().all(plain);
                words.push(if quoted {
                    format!("--{name} '{}'", value.replace('\'', "'\\''"))
                } else {
                    format!("--{name} {value}")
                });
            }
        };
        option(
            "csv",
            self.csv.as_ref().map(|path| path.display().to_string()),
        );
        option("horizon", self.horizon.map(|n| n.to_string()));
        for model in &self.models {
            option("model", Some(model.clone()));
        }
        option("input-size", self.input_size.map(|n| n.to_string()));
        option("steps", self.steps.map(|n| n.to_string()));
        option("freq", self.freq.clone());
        option("id-col", self.id_column.clone());
        option("ds-col", self.ds_column.clone());
        option("y-col", self.y_column.clone());
        option("delimiter", self.delimiter.clone());
        option("decimal", self.decimal.clone());
        option("encoding", self.encoding.clone());
        option("duplicates", self.duplicates.clone());
        option("gaps", self.gaps.clone());
        option("missing", self.missing.clone());
        for column in &self.ignore {
            option("ignore", Some(column.clone()));
        }
        option("threads", self.threads.map(|n| n.to_string()));
        option("simd", self.simd.clone());
        option("seed", self.seed.map(|n| n.to_string()));
        for (name, given) in [("--wide", self.wide), ("--quick", self.quick)] {
            if given {
                words.push(name.to_owned());
            }
        }
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_is_absent_and_what_is_unknown_is_refused() {
        let request: Request = serde_json::from_str(r#"{"horizon": 12, "csv": null}"#).unwrap();
        assert_eq!(request.horizon, Some(12));
        assert_eq!(request.csv, None);
        let error = serde_json::from_str::<Request>(r#"{"horizons": 12}"#).unwrap_err();
        assert!(error.to_string().contains("horizons"), "{error}");
    }

    #[test]
    fn the_command_can_be_typed_again() {
        let request = Request {
            csv: Some("my data.csv".into()),
            horizon: Some(24),
            models: vec!["NHITS".into()],
            delimiter: Some(";".into()),
            ignore: vec![String::new(), "it's".into()],
            wide: true,
            ..Request::default()
        };
        assert_eq!(
            request.command(),
            "cargo xtask bench --csv 'my data.csv' --horizon 24 --model NHITS --delimiter ';' --ignore '' \
             --ignore 'it'\\''s' --wide"
        );
        assert_eq!(Request::default().command(), "cargo xtask bench");
    }
}
