use clap::{CommandFactory, Parser};

use super::{Cli, Command, Mistakes, unknown_variables};

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/topology.toml");

fn serve_mistakes(args: &[&str]) -> Vec<String> {
    let cli = Cli::try_parse_from(["region-router", "serve"].iter().chain(args)).expect("known options");
    let Command::Serve(args) = cli.command else { panic!("not serve") };
    match args.parse() {
        Ok(_) => Vec::new(),
        Err(Mistakes(mistakes)) => mistakes,
    }
}

fn link_mistakes(args: &[&str]) -> Vec<String> {
    let cli = Cli::try_parse_from(["region-router", "link"].iter().chain(args)).expect("known options");
    let Command::Link(args) = cli.command else { panic!("not link") };
    match args.parse() {
        Ok(_) => Vec::new(),
        Err(Mistakes(mistakes)) => mistakes,
    }
}

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn every_option_tells_its_variable_and_an_example() {
    for command in Cli::command().get_subcommands().filter(|command| command.get_name() != "help") {
        for option in command.get_arguments().filter(|option| option.get_id() != "help") {
            let variable = option.get_env().and_then(|name| name.to_str()).unwrap_or_default();
            assert!(variable.starts_with("TROLI_"), "{} of {}", option.get_id(), command.get_name());
            let help = option.get_long_help().unwrap_or_default().to_string();
            assert!(help.contains("Example: "), "{} of {}", option.get_id(), command.get_name());
        }
    }
}

#[test]
fn the_shipped_topology_and_a_restriction_are_accepted() {
    let none: [String; 0] = [];
    assert_eq!(serve_mistakes(&["--topology", SHIPPED]), none);
    let chosen =
        ["--topology", SHIPPED, "--regions", "sin,jkt,bkk", "--trusted-proxies", "10.0.0.0/8,::1/128"];
    assert_eq!(serve_mistakes(&chosen), none);
    let named =
        ["--topology", SHIPPED, "--redirect", "--dns-listen", "127.0.0.1:8053", "--dns-zone", "cart.example"];
    assert_eq!(serve_mistakes(&named), none);
    let settings = ["--topology", SHIPPED, "--redirect", "on", "--dns-servers", "127.0.0.1:53,::1"];
    assert_eq!(serve_mistakes(&settings), none);
}

#[test]
fn an_empty_value_is_as_good_as_none() {
    let none: [String; 0] = [];
    let empty = ["--topology", SHIPPED, "--regions", "", "--trusted-proxies", "", "--mmdb", ""];
    assert_eq!(serve_mistakes(&empty), none);
}

#[test]
fn every_mistake_of_serve_is_told_at_once() {
    let mistakes = serve_mistakes(&[
        "--listen",
        "8080",
        "--topology",
        SHIPPED,
        "--regions",
        "jkt,nrt",
        "--trusted-proxies",
        "10.0.0.0/8,10.0.0.1",
        "--mmdb",
        SHIPPED,
        "--dns-servers",
        "dns.example",
        "--redirect",
        "perhaps",
        "--dns-listen",
        "8053",
        "--dns-zone",
        "a..b",
        "--log-format",
        "xml",
        "--log",
        "=,=",
    ]);
    let starts = [
        "--listen: `8080` is not address:port",
        "--regions: region nrt is unknown",
        "--regions: region sin is home",
        "--trusted-proxies: `10.0.0.1`",
        "--mmdb: ",
        "--dns-servers: `dns.example` is not",
        "--log-format: `xml`",
        "--log: `=,=`",
        "--redirect: `perhaps` is neither",
        "--dns-listen: `8053` is not address:port",
        "--dns-zone: `a..b` is not",
    ];
    assert_eq!(mistakes.len(), starts.len(), "{mistakes:#?}");
    for (mistake, start) in mistakes.iter().zip(starts) {
        assert!(mistake.starts_with(start), "{mistake} does not start with {start}");
    }
    let unreadable =
        serve_mistakes(&["--topology", "/nowhere/topology.toml", "--mmdb", "/nowhere/country.mmdb"]);
    assert_eq!(unreadable.len(), 2, "{unreadable:#?}");
}

#[test]
fn relays_are_listen_target_and_round_trip() {
    let none: [String; 0] = [];
    let good = ["--relay", "127.0.0.1:9501=127.0.0.1:9101@13", "--relay", "[::1]:0=edge.example:80@0"];
    assert_eq!(link_mistakes(&good), none);

    let mistakes = link_mistakes(&["--relay", "9501", "--relay", "9501=9101@x"]);
    assert_eq!(
        mistakes,
        [
            "--relay: `9501` is not LISTEN=TARGET@RTT_MS",
            "--relay: `9501` is not address:port, for example 127.0.0.1:8080",
            "--relay: `9101` is not host:port, for example 127.0.0.1:8101",
            "--relay: `x` is not a number of milliseconds from 0 to 1000",
        ]
    );
    assert!(Cli::try_parse_from(["region-router", "link"]).is_err());
}

#[test]
fn variables_that_nothing_reads_are_named() {
    let names =
        ["TROLI_TOPOLOGY", "TROLI_LOG", "TROLI_LINK_RELAYS", "TROLI_MYSQL_BUFFER_POOL", "PATH", "TROLI_MMBD"];
    let unknown = unknown_variables(names.iter().map(ToString::to_string));
    assert_eq!(unknown, ["TROLI_MMBD: there is no such setting"]);
}

#[test]
fn a_log_filter_is_made_of_levels() {
    let none: [String; 0] = [];
    assert_eq!(serve_mistakes(&["--topology", SHIPPED, "--log", "info,region_router=debug"]), none);
    for wrong in ["inf", "region_router"] {
        let mistakes = serve_mistakes(&["--topology", SHIPPED, "--log", wrong]);
        assert!(mistakes.len() == 1 && mistakes[0].starts_with(&format!("--log: `{wrong}`")), "{mistakes:?}");
    }
}
