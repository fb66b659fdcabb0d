//! The files around a checkpoint: temporary ones, links, permissions, and what the system refuses.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nd_core::autograd::Params;
use nd_models::checkpoint::{CheckpointError, Fault, RawCheckpoint, read, save};

use super::{Folder, plain_layout};

fn save_seed(path: &Path, seed: u64) -> Result<(), CheckpointError> {
    save(
        path,
        "{}",
        &Params::<f32>::init(&plain_layout(), seed),
        None,
    )
}

/// The seed of the parameters in a file.
#[track_caller]
fn seed_of(path: &Path) -> u64 {
    let layout = plain_layout();
    let params = read(path).unwrap().params::<f32>(&layout).unwrap();
    (0..100)
        .find(|&seed| Params::<f32>::init(&layout, seed).flat() == params.flat())
        .expect("parameters of one of the seeds")
}

#[test]
fn abandoned_temporary_files_of_the_target_go_and_no_others() {
    let folder = Folder::new("abandoned");
    let path = folder.file("a.nd");
    let kept = [
        "a.nd.1-0.tmp",
        ".a.nd.1.tmp",
        ".a.nd.x-0.tmp",
        ".a.nd.1-0.tmp.bak",
        ".b.nd.1-0.tmp",
        ".a.nd2.1-0.tmp",
    ];
    // The process number of this very process says nothing: it may be one that was used before.
    let gone = [
        ".a.nd.1-0.tmp".to_owned(),
        ".a.nd.4194304-18446744073709551615.tmp".to_owned(),
        format!(".a.nd.{}-999999.tmp", std::process::id()),
    ];
    for name in kept.iter().copied().chain(gone.iter().map(String::as_str)) {
        fs::write(folder.file(name), "half a file").unwrap();
    }
    fs::create_dir(folder.file(".a.nd.2-0.tmp")).unwrap();
    // A living writer holds the lock of its file.
    let living = File::create(folder.file(".a.nd.3-0.tmp")).unwrap();
    living.lock().unwrap();

    save_seed(&path, 1).unwrap();
    let mut expected: Vec<_> = kept.to_vec();
    expected.extend(["a.nd", ".a.nd.2-0.tmp", ".a.nd.3-0.tmp"]);
    expected.sort_unstable();
    assert_eq!(folder.names(), expected);

    // Another test may be starting a process just now, and that holds all locks of this one until it runs its program.
    drop(living);
    let deadline = Instant::now() + Duration::from_secs(20);
    while folder.names().contains(&".a.nd.3-0.tmp".to_owned()) {
        assert!(Instant::now() < deadline, "the file is still there");
        save_seed(&path, 2).unwrap();
    }
    assert_eq!(seed_of(&path), 2);
}

#[test]
fn many_threads_may_save_to_one_path() {
    let folder = Folder::new("threads");
    let path = folder.file("a.nd");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let path = &path;
            scope.spawn(move || {
                for i in 0..20 {
                    save_seed(path, thread * 20 + i).unwrap();
                    seed_of(path);
                }
            });
        }
    });
    assert_eq!(folder.names(), ["a.nd"]);
}

#[test]
fn a_path_without_a_name_is_refused() {
    for path in ["", ".."] {
        let error = save_seed(Path::new(path), 1).unwrap_err();
        assert!(matches!(error, CheckpointError::NotAFile { .. }), "{error}");
    }
}

#[test]
fn a_bare_name_is_saved_in_the_current_folder() {
    // The current folder belongs to the whole process: a copy of this test runs in one of its own.
    const BARE: &str = "ND_CHECKPOINT_BARE_NAME";
    if std::env::var_os(BARE).is_some() {
        save_seed(Path::new("bare.nd"), 5).unwrap();
        return;
    }
    let folder = Folder::new("bare");
    fs::write(folder.file(".bare.nd.1-0.tmp"), "half a file").unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "files::a_bare_name_is_saved_in_the_current_folder",
        ])
        .env(BARE, "1")
        .current_dir(&folder.0)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(folder.names(), ["bare.nd"]);
    assert_eq!(seed_of(&folder.file("bare.nd")), 5);
}

#[test]
fn errors_of_the_system_name_the_path_and_what_to_do() {
    let folder = Folder::new("refused");
    let path = folder.file("no/such/folder/a.nd");
    for error in [save_seed(&path, 1).unwrap_err(), read(&path).unwrap_err()] {
        assert!(matches!(error, CheckpointError::Io { .. }), "{error}");
        let message = error.to_string();
        for part in ["no/such/folder/a.nd", "os error 2", "folder must exist"] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
    for error in [
        save_seed(&folder.0, 1).unwrap_err(),
        read(&folder.0).unwrap_err(),
    ] {
        assert!(matches!(error, CheckpointError::NotAFile { .. }), "{error}");
        assert!(error.to_string().contains("found a folder"), "{error}");
    }
    let long = folder.file(&"x".repeat(250));
    let message = save_seed(&long, 1).unwrap_err().to_string();
    assert!(message.contains("shorter name"), "{message}");
    assert_eq!(folder.names(), [] as [&str; 0]);
}

#[test]
fn a_configuration_that_is_no_json_is_refused_before_anything_is_written() {
    let folder = Folder::new("config");
    let path = folder.file("a.nd");
    let params = Params::<f32>::init(&plain_layout(), 1);
    for config in ["", "{", "{'a': 1}", "{} {}", "nonsense"] {
        let error = save(&path, config, &params, None).unwrap_err();
        assert!(
            matches!(error.fault(), Some(Fault::Metadata { key, .. }) if key == "config"),
            "{error}"
        );
    }
    assert_eq!(folder.names(), [] as [&str; 0]);
}

#[test]
fn messages_of_parse_name_the_path_given() {
    let error = RawCheckpoint::parse(Vec::new(), Path::new("over/there")).unwrap_err();
    assert!(error.to_string().starts_with("over/there: "), "{error}");
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn permissions_carry_over() {
        let folder = Folder::new("permissions");
        let path = folder.file("a.nd");
        save_seed(&path, 1).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        // What any new file gets here.
        fs::write(folder.file("plain"), "").unwrap();
        assert_eq!(mode(&path), mode(&folder.file("plain")));
        for wanted in [0o600, 0o640, 0o666] {
            fs::set_permissions(&path, fs::Permissions::from_mode(wanted)).unwrap();
            save_seed(&path, 2).unwrap();
            assert_eq!(mode(&path), wanted);
        }
    }

    #[test]
    fn a_read_only_file_is_not_replaced() {
        let folder = Folder::new("read-only");
        let path = folder.file("a.nd");
        save_seed(&path, 1).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
        let error = save_seed(&path, 2).unwrap_err();
        assert!(matches!(error, CheckpointError::ReadOnly { .. }), "{error}");
        assert_eq!(seed_of(&path), 1);
        assert_eq!(folder.names(), ["a.nd"]);
    }

    #[test]
    fn a_symbolic_link_stays_and_its_file_is_replaced() {
        let folder = Folder::new("link");
        fs::create_dir(folder.file("real")).unwrap();
        let (real, link) = (folder.file("real/a.nd"), folder.file("link.nd"));
        save_seed(&real, 1).unwrap();
        symlink("real/a.nd", &link).unwrap();
        save_seed(&link, 2).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!((seed_of(&real), seed_of(&link)), (2, 2));

        symlink("nowhere", folder.file("broken.nd")).unwrap();
        let error = save_seed(&folder.file("broken.nd"), 1).unwrap_err();
        assert!(error.to_string().contains("symbolic link"), "{error}");
    }

    #[test]
    fn a_pipe_is_neither_waited_for_nor_replaced() {
        let folder = Folder::new("pipe");
        let path = folder.file("pipe.nd");
        if !Command::new("mkfifo")
            .arg(&path)
            .status()
            .is_ok_and(|status| status.success())
        {
            eprintln!("mkfifo is not to be had here: nothing was tested");
            return;
        }
        for error in [save_seed(&path, 1).unwrap_err(), read(&path).unwrap_err()] {
            assert!(matches!(error, CheckpointError::NotAFile { .. }), "{error}");
        }
        assert!(fs::symlink_metadata(&path).unwrap().file_type().is_fifo());
        let error = read(Path::new("/dev/zero")).unwrap_err();
        assert!(matches!(error, CheckpointError::NotAFile { .. }), "{error}");
    }

    #[test]
    fn a_full_disk_leaves_the_old_file_and_no_temporary_one() {
        // A limit on the size of files stands in for a full disk; the shell sets it for a copy of this test.
        const PATH: &str = "ND_CHECKPOINT_FULL_DISK";
        if let Some(path) = std::env::var_os(PATH) {
            let mut b = nd_core::autograd::ParamsBuilder::new();
            let init = nd_core::autograd::Init::Constant(1.0);
            b.trainable("large", [1 << 20], init);
            let large = Params::<f32>::init(&b.build(), 1);
            let error = save(Path::new(&path), "{}", &large, None).unwrap_err();
            let message = error.to_string();
            assert!(
                message.contains("writing failed") && message.contains("os error"),
                "{message}"
            );
            return;
        }
        let folder = Folder::new("full");
        let path = folder.file("a.nd");
        save_seed(&path, 7).unwrap();
        // The signal that comes with the limit is ignored, so that the write itself fails.
        let status = Command::new("sh")
            .args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\""])
            .arg(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "files::unix::a_full_disk_leaves_the_old_file_and_no_temporary_one",
            ])
            .env(PATH, &path)
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "the copy of this test: {status}");
        assert_eq!(seed_of(&path), 7);
        assert_eq!(folder.names(), ["a.nd"]);
    }
}
