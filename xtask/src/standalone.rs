//! `cargo xtask standalone`: each crate is worth depending on alone.
//!
//! In its simple form: package every crate that is published, unpack the packages, and for each of them make a project outside
//! the workspace that depends on it and on nothing else, and run the example of its README there. So what is tested is what a user
//! of the crate would get, not what happens to lie in the checkout.
//!
//! Our crates find each other through `[patch.crates-io]`, because they are not on crates.io yet. Versions of others' crates are those of
//! the workspace's lock file, so nothing is fetched that is not there already.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use crate::run::{cargo, list, output, packages, root, run, target_folder, text};

/// What cargo says about a crate of ours.
#[derive(Clone, Debug, Default)]
struct Package {
    name: String,
    version: String,
    description: Option<String>,
    license: Option<String>,
    readme: Option<PathBuf>,
    repository: Option<String>,
    keywords: Vec<String>,
    categories: Vec<String>,
    /// Whether it may go to a registry.
    is_published: bool,
}

/// The most keywords that crates.io takes.
const MOST_KEYWORDS: usize = 5;

impl Package {
    /// Understands what `cargo metadata` says of a package.
    fn of(value: &Value) -> Self {
        let words = |key| {
            let words = list(value, key).iter().filter_map(Value::as_str);
            words.map(str::to_owned).collect()
        };
        let optional = |key: &str| value[key].as_str().map(str::to_owned);
        Self {
            name: text(value, "name").to_owned(),
            version: text(value, "version").to_owned(),
            description: optional("description"),
            license: optional("license"),
            readme: optional("readme").map(PathBuf::from),
            repository: optional("repository"),
            keywords: words("keywords"),
            categories: words("categories"),
            // Nothing for any registry, an empty list for none.
            is_published: value["publish"].as_array().is_none_or(|to| !to.is_empty()),
        }
    }

    fn folder(&self) -> String {
        format!("{}-{}", self.name, self.version)
    }

    /// What is missing in its manifest.
    fn missing(&self) -> Vec<String> {
        let mut out = Vec::new();
        for (what, there) in [
            ("description", self.description.is_some()),
            ("license", self.license.is_some()),
            ("README.md", self.readme.is_some()),
            ("repository", self.repository.is_some()),
            ("keywords", !self.keywords.is_empty()),
            ("categories", !self.categories.is_empty()),
        ] {
            if !there {
                out.push(format!("{} has no {what}", self.name));
            }
        }
        if self.keywords.len() > MOST_KEYWORDS {
            out.push(format!(
                "{} has more than {MOST_KEYWORDS} keywords",
                self.name
            ));
        }
        out
    }
}

/// Packages, unpacks, and runs the examples.
pub(crate) fn standalone() -> Result<(), String> {
    let (published, ours): (Vec<Package>, Vec<Package>) = packages()?
        .iter()
        .map(Package::of)
        .partition(|package| package.is_published);
    let missing: Vec<String> = published.iter().flat_map(Package::missing).collect();
    if !missing.is_empty() {
        return Err(missing.join("; "));
    }
    package(&ours)?;
    let base = target_folder().join("standalone");
    let unpacked = base.join("packages");
    for package in &published {
        unpack(package, &unpacked)?;
    }
    let mut failed = Vec::new();
    for package in &published {
        let start = Instant::now();
        match example(package, &published, &unpacked, &base) {
            Ok(()) => println!(
                "{}: packaged, and the examples of its README run outside the workspace ({:.0} s)",
                package.name,
                start.elapsed().as_secs_f64()
            ),
            Err(message) => failed.push(format!("{}: {message}", package.name)),
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(failed.join("; "))
    }
}

/// Packages everything but `except`. What is packaged is compiled below, so cargo need not.
fn package(except: &[Package]) -> Result<(), String> {
    let mut command = cargo(&[
        "package",
        "--offline",
        "--quiet",
        "--workspace",
        "--no-verify",
        "--allow-dirty",
    ]);
    for package in except {
        command.args(["--exclude", &package.name]);
    }
    run(&mut command)
}

fn unpack(package: &Package, to: &Path) -> Result<(), String> {
    let folder = to.join(package.folder());
    if folder.exists() {
        std::fs::remove_dir_all(&folder)
            .map_err(|error| format!("{} cannot be removed: {error}", folder.display()))?;
    }
    create(to)?;
    let file = target_folder()
        .join("package")
        .join(package.folder() + ".crate");
    run(Command::new("tar").arg("-xzf").arg(&file).arg("-C").arg(to))
}

/// Makes a project that depends on the package and runs the code of the package's README in it.
fn example(package: &Package, all: &[Package], unpacked: &Path, base: &Path) -> Result<(), String> {
    let folder = base.join("projects").join(&package.name);
    create(&folder.join("src"))?;
    let readme = unpacked.join(package.folder()).join("README.md");
    write(
        &folder.join("Cargo.toml"),
        &manifest(package, all, unpacked),
    )?;
    write(
        &folder.join("src/lib.rs"),
        &format!(
            "#![doc = include_str!({:?})]\n",
            readme.display().to_string()
        ),
    )?;
    let lock = std::fs::read(root().join("Cargo.lock"))
        .map_err(|error| format!("Cargo.lock cannot be read: {error}"))?;
    std::fs::write(folder.join("Cargo.lock"), lock)
        .map_err(|error| format!("Cargo.lock cannot be written: {error}"))?;
    let mut command = cargo(&["test", "--offline", "--quiet", "--doc"]);
    command
        .current_dir(&folder)
        .env("CARGO_TARGET_DIR", base.join("build"))
        .env("CARGO_INCREMENTAL", "0");
    let said = output(&mut command)?;
    match passed(&said) {
        0 => Err("its README has no example that runs".to_owned()),
        _ => Ok(()),
    }
}

/// The manifest of a project that depends on one crate.
fn manifest(package: &Package, all: &[Package], unpacked: &Path) -> String {
    let mut out = format!(
        "[package]\nname = \"outside\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n[dependencies]\n{} = \"={}\"\n\n\
         [profile.dev]\ndebug = false\n\n[patch.crates-io]\n",
        package.name, package.version
    );
    for other in all {
        let path = unpacked.join(other.folder());
        out += &format!(
            "{} = {{ path = {:?} }}\n",
            other.name,
            path.display().to_string()
        );
    }
    out
}

/// Examples that passed, in what `cargo test` printed.
fn passed(said: &str) -> u64 {
    said.lines()
        .filter_map(|line| line.strip_prefix("test result: ok. "))
        .filter_map(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .sum()
}

fn create(folder: &Path) -> Result<(), String> {
    std::fs::create_dir_all(folder)
        .map_err(|error| format!("{} cannot be made: {error}", folder.display()))
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    std::fs::write(file, text)
        .map_err(|error| format!("{} cannot be written: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(name: &str) -> Package {
        Package {
            name: name.to_owned(),
            version: "1.2.3".to_owned(),
            ..Package::default()
        }
    }

    #[test]
    fn what_a_manifest_lacks_is_named() {
        let missing = sample("a").missing();
        assert_eq!(missing.len(), 6);
        assert!(missing.contains(&"a has no README.md".to_owned()));
    }

    #[test]
    fn only_what_is_published_counts() {
        let published = |list: Value| {
            let value = serde_json::json!({ "name": "a", "keywords": ["k"], "publish": list });
            let package = Package::of(&value);
            assert_eq!((package.name.as_str(), package.keywords.len()), ("a", 1));
            package.is_published
        };
        assert!(published(Value::Null) && published(serde_json::json!(["somewhere"])));
        assert!(!published(serde_json::json!([])));
    }

    #[test]
    fn a_project_depends_on_one_crate_and_finds_the_others() {
        let all = [sample("a"), sample("b")];
        let text = manifest(&all[0], &all, Path::new("there"));
        let (dependencies, patches) = text.split_once("[patch.crates-io]").unwrap();
        assert!(dependencies.contains("a = \"=1.2.3\"") && !dependencies.contains("b ="));
        assert!(patches.contains("b = { path = \"there/b-1.2.3\" }"));
    }

    #[test]
    fn examples_are_counted() {
        assert_eq!(passed("x\ntest result: ok. 2 passed; 0 failed\n"), 2);
        assert_eq!(passed("test result: FAILED. 1 passed\n"), 0);
    }
}
