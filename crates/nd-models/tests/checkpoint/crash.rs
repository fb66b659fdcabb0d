//! Processes killed while they save: the file is there afterwards, whole, and nothing else for long.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nd_core::Buffer;
use nd_core::autograd::{Init, ParamLayout, Params, ParamsBuilder};
use nd_core::rng::{Key, Stream};
use nd_core::train_state::{Best, TrainState};
use nd_models::checkpoint::{read, save};

use super::Folder;

/// The file for the process that saves; set in that process alone.
const TARGET: &str = "ND_CHECKPOINT_CRASH_TARGET";
/// What the saving process says when it begins.
const READY: &str = "saving begins";
/// Milliseconds after that word in which the process is killed.
const LATEST_KILL: u32 = 25;

fn layout() -> Arc<ParamLayout> {
    let mut b = ParamsBuilder::new();
    b.trainable("first", [100, 500], Init::Constant(0.0));
    b.trainable("second", [7], Init::Constant(0.0));
    b.build()
}

/// Parameters and state that belong together: every number follows from the generation.
fn generation(layout: &Arc<ParamLayout>, n: u64) -> (Params<f32>, TrainState<f32>) {
    let mut params = Params::zeros(layout);
    for id in layout.ids() {
        for (i, slot) in params.get_mut(id).iter_mut().enumerate() {
            *slot = (n % 1000) as f32 + i as f32 / 65_536.0;
        }
    }
    let mut state = TrainState::new(layout, n, 2);
    state.step = n;
    state.sampler.epoch = vec![n as u32; n as usize % 50];
    for moments in &mut state.moments {
        *moments = Buffer::from_slice(params.flat());
    }
    state.early_stopping.best = Some(Best {
        loss: n as f64 / 3.0,
        step: n,
        flat: Buffer::from_slice(params.flat()),
    });
    (params, state)
}

/// The generation in a file; every number must belong to it.
fn generation_in(path: &Path, layout: &Arc<ParamLayout>) -> u64 {
    let raw = read(path).expect("the file is whole");
    let params = raw.params::<f32>(layout).expect("all parameters");
    let state = raw.state::<f32>(layout).expect("a state").expect("a state");
    let n = state.step;
    let (expected, expected_state) = generation(layout, n);
    assert_eq!(raw.config(), format!("{{\"generation\":{n}}}"));
    assert!(
        params.flat() == expected.flat(),
        "parameters of generation {n}"
    );
    super::assert_same_state(&state, &expected_state);
    n
}

fn save_generation(path: &Path, layout: &Arc<ParamLayout>, n: u64) {
    let (params, state) = generation(layout, n);
    let config = format!("{{\"generation\":{n}}}");
    save(path, &config, &params, Some(&state)).expect("a save");
}

/// Saves one generation after the other until the process is killed.
fn save_until_killed(path: &Path) -> ! {
    let layout = layout();
    let mut n = generation_in(path, &layout);
    println!("\n{READY}");
    std::io::stdout().flush().expect("somebody listens");
    loop {
        n += 1;
        save_generation(path, &layout, n);
    }
}

/// Kills a saving copy of the test called `name`, `trials` times; the file must be whole after each, and after the
/// next save the only one.
fn kill_repeatedly(name: &str, trials: u64) {
    if let Some(target) = std::env::var_os(TARGET) {
        save_until_killed(Path::new(&target));
    }
    let layout = layout();
    let folder = Folder::new("crash");
    let path = folder.file("model.nd");
    save_generation(&path, &layout, 1);
    let mut delays = Stream::new(Key::new(trials));
    let (mut last, mut interrupted) = (1, 0);
    for trial in 0..trials {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", name, "--nocapture", "--include-ignored"])
            .env(TARGET, &path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("a copy of this program");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        assert!(
            lines.any(|line| line.is_ok_and(|line| line == READY)),
            "trial {trial}: the copy ended before it saved"
        );
        let micros = delays.next_u32() % (1000 * LATEST_KILL);
        std::thread::sleep(Duration::from_micros(micros.into()));
        child.kill().expect("a kill");
        child.wait().expect("an end");

        let found = generation_in(&path, &layout);
        assert!(found >= last, "trial {trial}: {found} came after {last}");
        let names = folder.names();
        assert!(names.len() <= 2, "trial {trial}: {names:?}");
        interrupted += names.len() - 1;
        last = found + 1;
        save_generation(&path, &layout, last);
        assert_eq!(folder.names(), ["model.nd"], "trial {trial}");
    }
    eprintln!(
        "{trials} processes killed after {last} saves, {interrupted} in the middle of one: every file whole, no temporary file left"
    );
    assert!(
        interrupted > 0,
        "no kill hit a save: the test has shown nothing"
    );
}

#[test]
fn a_killed_process_leaves_a_whole_file() {
    kill_repeatedly("crash::a_killed_process_leaves_a_whole_file", 30);
}

#[test]
#[ignore = "takes some ten seconds, a minute on a slow disk; run by hand"]
fn two_hundred_killed_processes_leave_whole_files() {
    kill_repeatedly("crash::two_hundred_killed_processes_leave_whole_files", 200);
}
