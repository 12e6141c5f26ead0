//! The two executables from outside: their help, and what they say of a wrong configuration.

use std::process::{Command, Output};

use edge_host::config::SETTINGS;
use harness::{executable, free_port, repository, scratch};

/// `EX_USAGE` of BSD's `sysexits.h`.
const EXIT_USAGE: i32 = 64;

fn run(name: &str, arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    let mut command = Command::new(executable(name));
    command.args(arguments).env_clear().envs(settings.iter().copied()).current_dir(repository());
    command.output().expect("the executable runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("words are text")
}

#[test]
fn the_help_of_the_edge_names_every_setting() {
    for arguments in [&["serve", "--help"] as &[&str]] {
        let output = run("edge-host", arguments, &[]);
        assert!(output.status.success());
        let help = text(&output.stdout);
        for setting in SETTINGS {
            assert!(help.contains(setting.name), "{} is not in the help", setting.name);
            assert!(setting.default.is_none_or(|default| help.contains(default)), "{}", setting.name);
        }
    }
    for name in ["edge-host", "region-router"] {
        let output = run(name, &["--help"], &[]);
        assert!(output.status.success(), "{name}");
        assert!(text(&output.stdout).contains("serve"), "{name}");
        assert!(run(name, &["--version"], &[]).status.success(), "{name}");
        assert_eq!(run(name, &["--nonsense"], &[]).status.code(), Some(EXIT_USAGE), "{name}");
        assert_eq!(run(name, &["dance"], &[]).status.code(), Some(EXIT_USAGE), "{name}");
    }
}

#[test]
fn every_mistake_of_a_configuration_is_told_at_once_and_nothing_is_bound() {
    let directory = scratch("config");
    let short = directory.path().join("short");
    std::fs::write(&short, "too short").expect("a file can be written");
    let short = short.display().to_string();
    let listen = format!("127.0.0.1:{}", free_port());
    let settings = [
        ("TROLI_REGION", "sin"),
        ("TROLI_LISTEN", listen.as_str()),
        ("TROLI_INTERNAL_LISTEN", "nowhere"),
        ("TROLI_HOME_PEERS", "127.0.0.1:1"),
        ("TROLI_PEER_LISTEN", "everywhere"),
        ("TROLI_PEER_CERT_FILE", "no/such/certificate"),
        ("TROLI_PEER_KEY_FILE", "no/such/key"),
        ("TROLI_PEER_CA_FILE", "no/such/ca"),
        ("TROLI_DNS_SERVERS", "somebody"),
        ("TROLI_CACHE_URL", "paper:"),
        ("TROLI_GUEST_SECRET_FILE", short.as_str()),
        ("TROLI_ADMIN_TOKEN_FILE", "no/such/file"),
        ("TROLI_DEV_TOKENS", "perhaps"),
        ("TROLI_JWT_HS256_SECRET", "short"),
        ("TROLI_TRUSTED_PROXIES", "127.0.0.1/32,everybody"),
        ("TROLI_CORS_ORIGINS", "*"),
        ("TROLI_RATE_LIMIT_PER_S", "0"),
        ("TROLI_RATE_LIMIT_GUESTS_PER_S", "many"),
        ("TROLI_RATE_LIMIT_ADDRESS_PER_S", "-1"),
        ("TROLI_RATE_LIMIT_CATALOGUE_PER_S", "0"),
        ("TROLI_LOG", "inf"),
        ("TROLI_CACHE_ULR", "memory:"),
    ];
    let output = run("edge-host", &["serve"], &settings);
    assert_eq!(output.status.code(), Some(EXIT_USAGE));
    let told = text(&output.stderr);
    let wrong = settings
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| !matches!(*name, "TROLI_REGION" | "TROLI_LISTEN"));
    for name in wrong.chain(["TROLI_DATABASE_URL"]) {
        assert!(told.lines().any(|line| line.contains(name)), "{name} is not told:\n{told}");
    }
    assert!(!told.contains("too short") && !told.contains("\"short\""), "a secret is not repeated:\n{told}");
    std::net::TcpListener::bind(&listen).expect("nothing was bound");
}

#[test]
fn every_mistake_about_the_servers_of_a_failover_is_told_at_once() {
    let settings = [("TROLI_OLD_PRIMARY_URL", "the old one"), ("TROLI_DNS_SERVERS", "somebody")];
    let output = run("edge-host", &["failover", "status"], &settings);
    assert_eq!(output.status.code(), Some(EXIT_USAGE));
    let told = text(&output.stderr);
    for name in ["TROLI_PROMOTE_URL: required", "TROLI_OLD_PRIMARY_URL", "TROLI_DNS_SERVERS"] {
        assert!(told.lines().any(|line| line.contains(name)), "{name} is not told:\n{told}");
    }
}

#[test]
fn an_edge_that_is_not_home_has_no_primary() {
    let directory = scratch("config");
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "a secret of at least thirty-two bytes").expect("a file can be written");
    let secret = secret.display().to_string();
    let settings = [
        ("TROLI_REGION", "jkt"),
        ("TROLI_DATABASE_URL", "sqlite:primary.sqlite"),
        ("TROLI_GUEST_SECRET_FILE", secret.as_str()),
    ];
    let output = run("edge-host", &["serve"], &settings);
    assert_eq!(output.status.code(), Some(EXIT_USAGE));
    let told = text(&output.stderr);
    assert!(told.contains("TROLI_DATABASE_URL: only the home region has a primary"), "{told}");
    assert!(!repository().join("primary.sqlite").exists());
}

#[test]
fn secrets_may_be_in_files() {
    let directory = scratch("secret-files");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("a file can be written");
        path.display().to_string()
    };
    let url = format!("sqlite:{}", directory.path().join("primary.sqlite").display());
    let in_file = file("url", &format!("{url}\n"));
    let output = run("edge-host", &["migrate"], &[("TROLI_DATABASE_URL_FILE", &in_file)]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let both = [("TROLI_DATABASE_URL", url.as_str()), ("TROLI_DATABASE_URL_FILE", in_file.as_str())];
    let output = run("edge-host", &["migrate"], &both);
    assert_eq!(output.status.code(), Some(EXIT_USAGE));
    assert!(text(&output.stderr).contains("TROLI_DATABASE_URL_FILE: not together with"));
    let settings = ["DATABASE_URL", "REPLICA_URL", "CACHE_URL", "JWT_HS256_SECRET"];
    let settings = settings.map(|name| (format!("TROLI_{name}_FILE"), "no/such/file"));
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let region = [("TROLI_REGION", "sin")];
    let output = run("edge-host", &["serve"], &[&region[..], &settings].concat());
    let told = text(&output.stderr);
    for (name, _) in settings {
        assert!(told.lines().any(|line| line.contains(name)), "{name} is not told:\n{told}");
    }
}

#[test]
fn compiled_rules_are_kept_where_nobody_else_can_write() {
    use std::os::unix::fs::PermissionsExt;
    let directory = scratch("compiled");
    let open = directory.path().join("open");
    std::fs::create_dir(&open).expect("a directory can be made");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).expect("its mode can be set");
    let options = |directory: &std::path::Path| edge_host::rules::RulesOptions {
        cache_dir: Some(directory.to_owned()),
        limits: edge_host::rules::RulesLimits::default(),
    };
    let refused = edge_host::rules::RulesEngine::new(&options(&open)).err().expect("others can write to it");
    assert!(refused.to_string().contains("others can write"), "{refused}");
    let made = directory.path().join("made/compiled");
    edge_host::rules::RulesEngine::new(&options(&made)).expect("it is made");
    let mode = std::fs::metadata(&made).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}
