//! The report of the run before: which of its workloads stay, and which get more rounds.

use std::path::Path;

use super::schema::{KIND, SCHEMA_VERSION, Validation, WorkloadSteps};
use super::steps;
use crate::workloads::training::TrainingWorkload;

/// The workloads of the last report in a folder that were measured whole (a quick run's say nothing beside them); none where
/// there is no report.
pub(super) fn previous(file: &Path) -> Result<Vec<WorkloadSteps>, String> {
    match read(file) {
        Ok(report) => Ok(report.workloads.into_iter().filter(is_whole).collect()),
        Err(_) if !file.exists() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn is_whole(steps: &WorkloadSteps) -> bool {
    let workload = TrainingWorkload::find(&steps.name);
    workload.is_ok_and(|workload| workload.windows == steps.full.windows)
}

/// Reads a validation's report.
///
/// # Errors
/// The file cannot be read, is no report, or one of another kind or version of the schema.
pub fn read(file: &Path) -> Result<Validation, String> {
    let name = file.display();
    let text =
        std::fs::read_to_string(file).map_err(|error| format!("{name} cannot be read: {error}"))?;
    let value: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| format!("{name} is not JSON: {error}"))?;
    let kind = value["kind"].as_str().unwrap_or("of the main job");
    if kind != KIND {
        return Err(format!("{name} is a report {kind}, expected a {KIND}"));
    }
    let version = &value["schema_version"];
    if version.as_u64() != Some(u64::from(SCHEMA_VERSION)) {
        return Err(format!(
            "{name} has schema version {version}, this program reads version {SCHEMA_VERSION}: measure it again"
        ));
    }
    serde_json::from_value(value).map_err(|error| format!("{name} cannot be understood: {error}"))
}

/// Puts a workload's section in its place, or adds its rounds.
pub(super) fn keep(
    workloads: &mut Vec<WorkloadSteps>,
    steps: WorkloadSteps,
    add: bool,
) -> Result<(), String> {
    let Some(old) = workloads.iter_mut().find(|old| old.name == steps.name) else {
        workloads.push(steps);
        return Ok(());
    };
    if !add {
        *old = steps;
        return Ok(());
    }
    if old.commit != steps.commit || old.full.windows != steps.full.windows {
        return Err(format!(
            "--add: the report has rounds of {} on commit {} with {} windows, these are on {} with {}: measure all of them again",
            old.name, old.commit, old.full.windows, steps.commit, steps.full.windows
        ));
    }
    steps::add_rounds(old, &steps);
    old.date = steps.date;
    old.load = steps.load;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::schema::Group;
    use super::*;

    #[test]
    fn reports_of_other_kinds_and_versions_are_refused() {
        let folder = std::env::temp_dir().join(format!("nd-validation-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("report.json");
        let error = |text: &str| {
            std::fs::write(&file, text).unwrap();
            read(&file).unwrap_err()
        };
        assert!(error("{").contains("not JSON"));
        assert!(error("{\"schema_version\": 1}").contains("main job"));
        let other = error("{\"kind\": \"validation\", \"schema_version\": 99}");
        assert!(
            other.contains("99") && other.contains("version 1"),
            "{other}"
        );
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(previous(&file), Ok(Vec::new()));
    }

    #[test]
    fn what_a_quick_run_measured_is_no_evidence_later() {
        let nhits = TrainingWorkload::find("NHITS").unwrap();
        let steps = |windows| WorkloadSteps {
            name: nhits.name.to_owned(),
            full: Group {
                windows,
                sides: Vec::new(),
            },
            ..WorkloadSteps::default()
        };
        assert!(is_whole(&steps(nhits.windows)));
        assert!(!is_whole(&steps(nhits.windows / 16)));
    }
}
