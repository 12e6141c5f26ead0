//! What the architecture promises, checked: arrows between crates, files, drivers and lints.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::repository;

/// Lines of one source file at most: what a reader keeps in mind.
const LINES_MAX: usize = 500;

/// Every crate that one of ours depends on, by whatever way, when it is built for use.
fn dependencies(package: &str) -> BTreeSet<String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args([
            "tree",
            "--offline",
            "--edges",
            "normal,no-proc-macro",
            "--prefix",
            "none",
            "--format",
            "{p}",
            "--package",
            package,
        ])
        .current_dir(repository())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("names are text");
    text.lines().skip(1).filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[track_caller]
fn depends_on_none_of(package: &str, forbidden: &[&str]) {
    let found = dependencies(package);
    let wrong: Vec<&&str> = forbidden.iter().filter(|name| found.contains(**name)).collect();
    assert!(wrong.is_empty(), "{package} depends on {wrong:?}");
}

#[test]
fn the_core_depends_on_nothing_that_does_anything() {
    let direct = dependencies("cart-core");
    assert!(direct.contains("rust_decimal"), "the look-up finds dependencies: {direct:?}");
    depends_on_none_of(
        "cart-core",
        &[
            "tokio",
            "serde",
            "serde_json",
            "axum",
            "hyper",
            "reqwest",
            "sqlx",
            "wasmtime",
            "rand",
            "tracing",
            "libc",
            "jiff",
            "uuid",
            "getrandom",
            "region-router",
            "edge-host",
        ],
    );
    let root = fs::read_to_string(repository().join("cart-core/src/lib.rs")).expect("the core has a root");
    assert!(root.lines().any(|line| line == "#![no_std]"), "the compiler refuses sockets and clocks");
}

#[test]
fn arrows_between_crates_point_one_way() {
    depends_on_none_of(
        "region-router",
        &["edge-host", "cart-core", "cart-guest", "sqlx", "wasmtime", "axum", "reqwest"],
    );
    depends_on_none_of("edge-host", &["cart-guest", "system-tests", "wit-bindgen"]);
    for guest in ["standard", "mega-sale", "current-price", "lower-price", "misbehaving", "cart-guest"] {
        depends_on_none_of(
            guest,
            &["edge-host", "region-router", "tokio", "serde_json", "wasmtime", "system-tests"],
        );
        assert!(dependencies(guest).contains("cart-core"), "{guest}");
    }
}

#[test]
fn the_top_level_is_eight_names() {
    // What git knows of, so that a build or an editor cannot break it.
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(repository())
        .output()
        .expect("git runs");
    let text = String::from_utf8(output.stdout).expect("names are text");
    let top: BTreeSet<&str> = text.lines().filter_map(|path| path.split('/').next()).collect();
    let visible: Vec<&str> = top.into_iter().filter(|name| !name.starts_with('.')).collect();
    let expected = [
        "Cargo.lock",
        "Cargo.toml",
        "README.md",
        "cart-core",
        "deploy",
        "edge-host",
        "migrations",
        "region-router",
        "tests",
    ];
    assert_eq!(visible, expected);
}

/// Source files beneath these folders.
fn sources(folders: &[&str]) -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder of ours can be read").flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    folders.iter().for_each(|folder| walk(&repository().join(folder), &mut found));
    assert!(found.len() > 3, "{folders:?} have sources");
    found.sort();
    found
}

fn short(path: &Path) -> String {
    path.strip_prefix(repository()).expect("it is in the repository").display().to_string()
}

#[test]
fn no_source_file_is_longer_than_a_reader_can_follow() {
    let all = sources(&["cart-core", "edge-host", "region-router", "tests"]);
    let lines = |path: &PathBuf| fs::read_to_string(path).expect("a source can be read").lines().count();
    let long: Vec<String> = all
        .iter()
        .map(|path| (path, lines(path)))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| format!("{}: {lines} lines", short(path)))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

/// Whether code, not a comment, names a crate or module.
fn names(source: &str, name: &str) -> bool {
    let word = |before: Option<char>| before.is_none_or(|before| !before.is_alphanumeric() && before != '_');
    source.lines().filter(|line| !line.trim_start().starts_with("//")).any(|line| {
        line.match_indices(name).any(|(at, _)| {
            word(line[..at].chars().next_back()) && word(line[at + name.len()..].chars().next())
        })
    })
}

#[test]
fn a_driver_is_named_in_its_own_adapter_only() {
    let all = sources(&["edge-host/src"]);
    for (driver, homes) in [
        ("sqlx", &["edge-host/src/store/mysql", "edge-host/src/store/sql"] as &[&str]),
        // The one look-up that many wait for is the service's own, and the one page that many follow the feed's.
        (
            "moka",
            &[
                "edge-host/src/store/memory.rs",
                "edge-host/src/service.rs",
                "edge-host/src/feed.rs",
                "edge-host/src/confirmed.rs",
            ],
        ),
        ("quick_cache", &["edge-host/src/store/redis/near.rs"]),
        // Others name the adapter, which is called after it.
        (
            "redis",
            &[
                "edge-host/src/store/redis",
                "edge-host/src/store.rs",
                "edge-host/src/config.rs",
                "edge-host/src/app.rs",
            ],
        ),
        ("axum", &["edge-host/src/http", "edge-host/src/serve.rs", "edge-host/src/telemetry.rs"]),
        ("wasmtime", &["edge-host/src/rules/"]),
        ("wit_component", &["edge-host/src/rules/"]),
        ("jsonwebtoken", &["edge-host/src/auth"]),
        ("governor", &["edge-host/src/http/limits.rs"]),
        ("notify", &["edge-host/src/rules_source.rs"]),
        ("reqwest", &["edge-host/src/import.rs"]),
        // What other regions are asked by, and what they are let in by.
        // Bodies are passed on by its traits.
        ("hyper", &["edge-host/src/home/", "edge-host/src/http/admission.rs", "edge-host/src/serve.rs"]),
        ("rustls", &["edge-host/src/peers.rs"]),
        ("tokio_rustls", &["edge-host/src/home/edges.rs", "edge-host/src/serve.rs"]),
        ("clap", &["edge-host/src/main.rs", "edge-host/src/import.rs", "edge-host/src/failover.rs"]),
        // Status codes of our own answers are chosen in one place, those of other regions read in another.
        ("StatusCode", &["edge-host/src/http", "edge-host/src/home/remote", "edge-host/src/home/edges.rs"]),
        ("MemoryCache", &["edge-host/src/store/memory.rs", "edge-host/src/app.rs"]),
        ("RedisCache", &["edge-host/src/store/redis", "edge-host/src/app.rs"]),
        ("SqliteStore", &["edge-host/src/store/sqlite", "edge-host/src/app.rs"]),
        ("LocalHome", &["edge-host/src/home/local.rs", "edge-host/src/app.rs"]),
        ("RemoteHome", &["edge-host/src/home/remote.rs", "edge-host/src/app.rs"]),
    ] {
        let naming: Vec<String> = all
            .iter()
            .filter(|path| names(&fs::read_to_string(path).expect("a source can be read"), driver))
            .map(|path| short(path))
            .collect();
        assert!(!naming.is_empty(), "nobody names {driver} any more: take it off this list");
        let strangers: Vec<&String> =
            naming.iter().filter(|path| !homes.iter().any(|home| path.starts_with(home))).collect();
        assert!(strangers.is_empty(), "{driver} is named in {strangers:?}");
    }
}

#[test]
fn domain_types_know_of_no_wire() {
    for path in sources(&["cart-core/src"]) {
        let source = fs::read_to_string(&path).expect("a source can be read");
        for stranger in ["serde", "std", "tokio", "f32", "f64"] {
            let tests = path.components().any(|part| part.as_os_str().to_string_lossy().starts_with("tests"));
            assert!(tests || !names(&source, stranger), "{} names {stranger}", short(&path));
        }
    }
}

#[test]
fn every_crate_but_the_guests_keeps_the_workspaces_lints() {
    let root = fs::read_to_string(repository().join("Cargo.toml")).expect("the workspace has a manifest");
    let members = root.split("members = [").nth(1).and_then(|rest| rest.split(']').next()).expect("members");
    let members: Vec<&str> = members.split('"').skip(1).step_by(2).collect();
    assert!(members.len() >= 8, "{members:?}");
    for member in members {
        let path = repository().join(member).join("Cargo.toml");
        let manifest = fs::read_to_string(&path).expect("a member has a manifest");
        let keeps = manifest.contains("[lints]\nworkspace = true");
        // A guest exports functions, which needs `unsafe`.
        assert_eq!(keeps, !member.contains("guests/"), "{member}");
        assert!(manifest.contains("publish.workspace = true"), "{member}");
    }
}

#[test]
fn migrations_are_one_statement_a_file_in_the_order_of_their_names() {
    let folder = repository().join("migrations/sqlite");
    let mut stamps = BTreeSet::new();
    for entry in fs::read_dir(&folder).expect("there are migrations").flatten() {
        let name = entry.file_name().into_string().expect("names are text");
        let (stamp, rest) = name.split_once('_').expect("a time and what changes");
        assert!(stamp.len() == 14 && stamp.bytes().all(|byte| byte.is_ascii_digit()), "{name}");
        assert!(stamps.insert(stamp.to_owned()), "{name}: two of one time have no order");
        let what = rest.strip_suffix(".sql").unwrap_or_default();
        assert!(
            what.contains('_') && what.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
            "{name}"
        );
        let text = fs::read_to_string(entry.path()).expect("a migration can be read");
        let code = text.lines().filter(|line| !line.trim_start().starts_with("--"));
        let statements = code.collect::<String>().matches(';').count();
        assert_eq!(statements, 1, "{name}");
    }
    assert!(stamps.len() > 10, "{stamps:?}");
}
