use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Once};

use tempfile::TempDir;

/// The top of the checkout.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the repository")
}

/// Where cargo builds: this program is at `target/<profile>/deps/it-…` or `target/<profile>/…`.
pub fn target() -> PathBuf {
    profile_dir().parent().expect("a profile's directory has a parent").to_owned()
}

/// An executable of the workspace, built like the tests themselves. Built here, because cargo builds only the
/// libraries that a test depends on.
pub fn executable(name: &str) -> PathBuf {
    static BUILT: LazyLock<()> = LazyLock::new(|| {
        let directory = profile_dir();
        let profile = match directory.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(profile) => profile,
        };
        let status = cargo()
            // The whole workspace, or cargo would build what it depends on anew with fewer features.
            .args(["build", "--quiet", "--profile", profile, "--workspace", "--bins"])
            .arg("--target-dir")
            .arg(target())
            .current_dir(repository())
            .status();
        assert!(status.is_ok_and(|status| status.success()), "the executables do not build");
    });
    LazyLock::force(&BUILT);
    profile_dir().join(name)
}

/// Compiled rules, shared by all tests and by one run and the next: compiling is what takes time.
pub fn rules_cache() -> PathBuf {
    target().join("system-tests").join("rules-cache")
}

/// A directory that goes when it is dropped, or at the next run when this one was killed.
pub fn scratch(name: &str) -> TempDir {
    static SWEPT: Once = Once::new();
    let parent = target().join("system-tests");
    fs::create_dir_all(&parent).expect("target/ can be written to");
    SWEPT.call_once(|| sweep(&parent));
    let prefix = format!("{name}-{}-", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir_in(&parent).expect("a directory can be made in target/")
}

/// The cargo that runs the tests.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    // What it has told the tests about themselves: a build script that looks at it would be run anew, and all that
    // depends on its crate built anew.
    for (name, _) in std::env::vars_os() {
        let of_a_package = ["CARGO_MANIFEST_", "CARGO_PKG_"];
        if name.to_str().is_some_and(|name| of_a_package.iter().any(|begin| name.starts_with(begin))) {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Tests lie in `deps/` of the profile's directory, executables in the directory itself.
fn profile_dir() -> PathBuf {
    let executable = std::env::current_exe().expect("a program knows where it lies");
    let directory = executable.parent().expect("an executable lies in a directory");
    let profile = if directory.ends_with("deps") { directory.parent() } else { Some(directory) };
    profile.expect("deps/ lies in the profile's directory").to_owned()
}

/// A static is never dropped, so the shared fleet's directory is left to the next run.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.split('-').nth_back(1)).map(str::to_owned);
        let Some(process) = process.filter(|text| text.parse::<u32>().is_ok()) else { continue };
        if !Path::new("/proc").join(process).exists() {
            // Another run may be sweeping too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
