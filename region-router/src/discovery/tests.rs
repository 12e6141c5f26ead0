use super::*;

#[tokio::test]
async fn plain_addresses_are_there_at_once_and_cost_nothing() {
    let targets: Targets = "127.0.0.1:8101,[::1]:8101,127.0.0.1:8101".parse().expect("targets");
    let discovery = Discovery::start(&targets, &Dns::system());
    let expected: Vec<SocketAddr> =
        ["127.0.0.1:8101", "[::1]:8101"].map(|text| text.parse().expect("an address")).into();
    assert_eq!(*discovery.addresses(), *expected);
    assert_eq!(*discovery.found().await, *expected);
    assert!(discovery.task.is_none());
}

#[test]
fn name_servers_are_addresses_with_or_without_a_port() {
    let debug = |text: &str| text.parse::<Dns>().map(|dns| format!("{dns:?}"));
    assert_eq!(debug(""), Ok("system".to_owned()));
    assert_eq!(debug("127.0.0.1:8053, ::1"), Ok("[127.0.0.1:8053, [::1]:53]".to_owned()));
    let wrong = debug("127.0.0.1:8053,dns.example").expect_err("a name cannot be asked for itself");
    let expected = "`dns.example` is not the address of a DNS server, for example 127.0.0.1:8053";
    assert_eq!(wrong.to_string(), expected);
}
