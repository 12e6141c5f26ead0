//! `deploy/certificates`, as an operator runs it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use harness::{repository, scratch};

fn make(arguments: &[&str]) -> Output {
    let script = repository().join("deploy/certificates");
    Command::new(script).args(arguments).output().expect("the script runs")
}

fn read(directory: &Path, name: &str) -> String {
    fs::read_to_string(directory.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn another_ca_is_made_only_when_that_is_asked_for() {
    let scratch = scratch("certificates");
    let directory = scratch.path();
    let place = directory.display().to_string();
    assert!(make(&[&place, "sin", "jkt"]).status.success(), "an empty directory gets a CA");
    let (ca, sin) = (read(directory, "ca.pem"), read(directory, "sin.pem"));
    assert!(make(&[&place, "sin", "jkt", "bkk"]).status.success(), "a region is added");
    assert_eq!((read(directory, "ca.pem"), read(directory, "sin.pem")), (ca.clone(), sin));

    // Whatever is wrong with the CA, nothing is written over it.
    let key = read(directory, "ca-key.pem");
    for (file, content, says) in [
        ("ca-key.pem", None, "ca-key.pem is missing"),
        ("ca-key.pem", Some(read(directory, "sin-key.pem")), "is not the key of ca.pem"),
        ("ca.pem", Some("nonsense".to_owned()), "ca.pem is not good"),
        ("ca.pem", None, "ca.pem is missing"),
    ] {
        match content {
            Some(content) => fs::write(directory.join(file), content),
            None => fs::remove_file(directory.join(file)),
        }
        .expect("the directory can be written to");
        let before = fs::read(directory.join(file)).ok();
        let refused = make(&[&place, "sin", "kul"]);
        assert_eq!(refused.status.code(), Some(1), "{says}: {}", complaint(&refused));
        assert!(complaint(&refused).contains(says), "{says}: {}", complaint(&refused));
        assert_eq!(fs::read(directory.join(file)).ok(), before, "{says}");
        assert!(!directory.join("kul.pem").exists());
        fs::write(directory.join("ca.pem"), &ca).expect("the directory can be written to");
        fs::write(directory.join("ca-key.pem"), &key).expect("the directory can be written to");
    }

    assert!(make(&["--new-ca", &place, "sin", "jkt"]).status.success());
    assert_ne!(read(directory, "ca.pem"), ca);
    assert_eq!(read(directory, "ca.pem.old"), ca, "what is used elsewhere is not lost");
    assert_eq!(make(&["--new-ca"]).status.code(), Some(64));
}
