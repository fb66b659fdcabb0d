//! `cargo xtask peers`: NeuralForecast beside us, where a Python with the pinned requirements is there.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::flags::PeersRequest;
use crate::run::{cargo, output, root, run, target_folder};

/// The exit code where the peer is not installed.
const MISSING: u8 = 3;
/// The models of the training workloads.
const MODELS: [&str; 3] = ["NHITS", "LSTM", "PatchTST"];
const REQUIREMENTS: &str = "benches/peers/neuralforecast/requirements.txt";

/// Finds the Python, builds ours, and runs both in turns.
pub(crate) fn peers(request: &PeersRequest) -> ExitCode {
    let python = match python(request) {
        Ok(python) => python,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::from(MISSING);
        }
    };
    match measure(request, &python) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(crate::FAILED)
        }
    }
}

fn measure(request: &PeersRequest, python: &Path) -> Result<(), String> {
    run(&mut cargo(&[
        "build",
        "--release",
        "--quiet",
        "--package",
        "nd-bench",
        "--bins",
    ]))?;
    let folder = target_folder().join("peers");
    std::fs::create_dir_all(&folder)
        .map_err(|error| format!("{} cannot be made: {error}", folder.display()))?;
    let program = target_folder()
        .join("release")
        .join(format!("etth1{}", std::env::consts::EXE_SUFFIX));
    let file = folder.join("neuralforecast-steps.json");
    let mut command = Command::new(python);
    command
        .current_dir(root())
        .arg("benches/peers/neuralforecast/compare.py");
    if request.models.is_empty() {
        command.args(MODELS);
    } else {
        command.args(&request.models);
    }
    command.args(["--rounds", &request.rounds.unwrap_or(3).to_string()]);
    command.args(["--steps", &request.steps.unwrap_or(20).to_string()]);
    command.arg("--ours").arg(program);
    command.arg("--save").arg(&file);
    if let Some(data) = &request.data {
        command.arg("--data").arg(data);
    }
    run(&mut command)?;
    println!("Written: {}", file.display());
    Ok(())
}

/// A Python that has the pinned NeuralForecast.
fn python(request: &PeersRequest) -> Result<PathBuf, String> {
    let wanted = pinned()?;
    let candidates = match &request.python {
        Some(python) => vec![python.clone()],
        None => vec![root().join(".venv/bin/python"), "python3".into()],
    };
    let mut said = Vec::new();
    for python in candidates {
        match version(&python) {
            Ok(found) if found == wanted => return Ok(python),
            Ok(found) => said.push(format!("{} has neuralforecast {found}", python.display())),
            Err(_) => said.push(format!("{} has none", python.display())),
        }
    }
    Err(format!(
        "the peer is NeuralForecast {wanted} on PyTorch, and it is not there ({}). Install it with\n    python3 -m venv .venv && \
         .venv/bin/pip install -r {REQUIREMENTS}\nor name another Python with --python. Without it, validate takes the recorded \
         figures of benches/record and says so.",
        said.join("; ")
    ))
}

fn version(python: &Path) -> Result<String, String> {
    let code = "from importlib.metadata import version; print(version('neuralforecast'))";
    let text = output(Command::new(python).args(["-c", code]))?;
    Ok(text.trim().to_owned())
}

/// The version that the requirements name.
fn pinned() -> Result<String, String> {
    let text = std::fs::read_to_string(root().join(REQUIREMENTS))
        .map_err(|error| format!("{REQUIREMENTS} cannot be read: {error}"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("neuralforecast=="));
    line.map(|version| version.trim().to_owned())
        .ok_or_else(|| format!("{REQUIREMENTS} pins no neuralforecast"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_python_without_the_peer_is_told_how_to_get_it() {
        assert_eq!(pinned().unwrap(), "3.3.0");
        let request = PeersRequest {
            python: Some("a-python-nobody-has".into()),
            ..PeersRequest::default()
        };
        let error = python(&request).unwrap_err();
        assert!(
            error.contains("pip install") && error.contains("a-python-nobody-has"),
            "{error}"
        );
    }
}
