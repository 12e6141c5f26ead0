//! What the documents point at is there.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use harness::repository;

/// Every Markdown file that git knows of.
fn documents() -> Vec<PathBuf> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.md"])
        .current_dir(repository())
        .output()
        .expect("git runs");
    let text = String::from_utf8(output.stdout).expect("names are text");
    let found: Vec<PathBuf> = text.lines().map(|path| repository().join(path)).collect();
    assert!(found.contains(&repository().join("README.md")), "{found:?}");
    found
}

/// The targets of the links of a Markdown text.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

#[test]
fn links_between_documents_and_files_lead_somewhere() {
    let mut broken = Vec::new();
    let mut followed = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).expect("a document can be read");
        let folder = document.parent().expect("a file is in a folder");
        for link in links(&text).filter(|link| !link.contains("://") && !link.starts_with('#')) {
            let path = link.split('#').next().expect("a split has a first part");
            followed += 1;
            if !folder.join(path).exists() {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(followed > 10, "links are found: {followed}");
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn each_invariant_of_the_readme_names_a_test_that_there_is() {
    let readme = fs::read_to_string(repository().join("README.md")).expect("there is a README");
    let (_, section) = readme.split_once("## Invariants").expect("the README has invariants");
    let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() >= 9, "{rows:#?}");
    for row in rows {
        let test = row.rsplit('`').nth(1).unwrap_or_else(|| panic!("no test is named: {row}"));
        let (module, function) = test.rsplit_once("::").unwrap_or_else(|| panic!("not a test's name: {row}"));
        let path = repository().join("tests/it").join(module.replace("::", "/")).with_extension("rs");
        let source = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(source.contains(&format!("fn {function}(")) || function.is_empty(), "{test} is not there");
    }
}
