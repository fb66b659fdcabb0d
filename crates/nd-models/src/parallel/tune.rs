//! The settings of a forecaster by their names.
//!
//! In its simple form: the configuration as a tree of names, as it stands in a checkpoint; a point of a grid replaces some leaves.
//! A name is the last part of a path (`learning_rate`) or as much of it as makes it unique (`train.batch_size`).

use nd_parallel::{BoxError, ParamPoint, ParamValue, Tune};
use serde_json::Value;

use crate::forecaster::{Forecaster, ForecasterConfig};

impl Tune<ForecasterConfig> for Forecaster {
    fn tune(&self, point: &ForecasterConfig) -> Result<Self, BoxError> {
        let mut tuned = self.clone();
        *tuned.config_mut() = point.clone();
        // Everything is checked here, so that a point that cannot be fails before it is trained.
        tuned.parameter_count()?;
        Ok(tuned)
    }
}

/// Settings by name: `learning_rate`, `max_steps`, `input_size`, `hidden_size`, `train.seed`, ...
impl Tune<ParamPoint> for Forecaster {
    fn tune(&self, point: &ParamPoint) -> Result<Self, BoxError> {
        let mut tree = serde_json::to_value(self.config())?;
        for (name, value) in &point.values {
            let mut paths = Vec::new();
            leaves(&tree, "", &mut paths);
            let matching: Vec<&String> = paths
                .iter()
                .filter(|path| *path == name || path.ends_with(&format!(".{name}")))
                .collect();
            let path = match matching[..] {
                [path] => path,
                [] => {
                    return Err(format!(
                        "there is no setting {name:?}; there are {}",
                        paths.join(", ")
                    )
                    .into());
                }
                _ => {
                    let found: Vec<&str> = matching.iter().map(|path| path.as_str()).collect();
                    return Err(format!(
                        "{name:?} may be {}: write one of these",
                        found.join(" or ")
                    )
                    .into());
                }
            };
            let leaf = path
                .split('.')
                .try_fold(&mut tree, |tree, key| tree.get_mut(key));
            *leaf.ok_or("a path leads to its leaf")? = json(value);
        }
        let config: ForecasterConfig = serde_json::from_value(tree)
            .map_err(|error| format!("the settings {point} cannot be: {error}"))?;
        self.tune(&config)
    }
}

fn json(value: &ParamValue) -> Value {
    match value {
        ParamValue::Integer(value) => (*value).into(),
        ParamValue::Number(value) => (*value).into(),
        ParamValue::Flag(value) => (*value).into(),
        other => other.to_string().into(),
    }
}

/// The path of every setting, lists included.
fn leaves(tree: &Value, path: &str, found: &mut Vec<String>) {
    match tree {
        Value::Object(fields) => {
            for (key, value) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                leaves(value, &format!("{path}{dot}{key}"), found);
            }
        }
        _ => found.push(path.to_owned()),
    }
}
