//! `deploy/up` as a developer runs it: the real executables, on the ports of the contract.

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use harness::{Caller, GroupedChild, eventually, executable, marked_processes, repository, scratch, unique};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{ChildStdout, Command};
use tokio::sync::Mutex;

use crate::support::assert_json;

/// What leaves its processes to be seen.
mod observed;

const READY: &str = "ready: http://127.0.0.1:8080";
const FRONT_DOOR: &str = "http://127.0.0.1:8080";
/// The front door and GeoDNS, and the public and internal ports of sin, jkt and bkk, and those for other regions.
const PORTS: [u16; 12] = [8080, 9080, 8053, 8101, 8103, 8104, 9101, 9103, 9104, 10_101, 10_103, 10_104];
/// Everything is built before, so this is for starting alone, on the slowest machine.
const START_DEADLINE: Duration = Duration::from_secs(120);
/// The contract's own promise.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// Marks the processes of one start. Not a setting: those are not passed on.
const MARK: &str = "LOCAL_FLEET_TEST";
/// The ports are the contract's, so one fleet runs at a time.
static ONE_FLEET: Mutex<()> = Mutex::const_new(());

fn command(state: &Path, arguments: &[&str], mark: &str) -> Command {
    let mut command = Command::new(repository().join("deploy/up"));
    command.args(arguments).env("TROLI_STATE", state).env(MARK, mark).current_dir("/");
    command
}

struct Running {
    up: GroupedChild,
    lines: Lines<BufReader<ChildStdout>>,
    mark: String,
}

async fn start(state: &Path, arguments: &[&str]) -> Running {
    start_with(state, arguments, &[]).await
}

async fn start_with(state: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Running {
    let mark = format!("{}-{}", std::process::id(), unique("mark"));
    let mut command = command(state, arguments, &mark);
    command.envs(variables.iter().copied());
    let mut up = GroupedChild::start(command).expect("deploy/up can be run");
    let mut stderr = up.child().stderr.take().expect("it was piped");
    let mut lines = BufReader::new(up.child().stdout.take().expect("it was piped")).lines();
    let line = tokio::time::timeout(START_DEADLINE, lines.next_line()).await;
    let line = line.expect("deploy/up says something in time").expect("it says words");
    if line.as_deref() != Some(READY) {
        let mut complaint = String::new();
        // What it said is for the message alone.
        let _ = stderr.read_to_string(&mut complaint).await;
        panic!("deploy/up said {line:?} and: {complaint}");
    }
    Running { up, lines, mark }
}

impl Running {
    async fn stop(mut self) {
        assert!(!marked_processes(MARK, &self.mark).is_empty(), "the processes can be told from others");
        self.up.terminate().expect("a signal can be sent");
        let ended = tokio::time::timeout(STOP_DEADLINE, self.up.child().wait()).await;
        let status = ended.expect("everything ends in time").expect("it can be waited for");
        assert!(status.success(), "stopped when asked to: {status}");
        // What was killed last takes a moment to go.
        eventually("nothing is left behind", async || marked_processes(MARK, &self.mark).is_empty()).await;
        for port in PORTS {
            assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "{port} is still listened on");
        }
        let rest = self.lines.next_line().await.expect("words");
        assert_eq!(rest, None, "--quiet prints one line and no more");
    }
}

#[track_caller]
fn assert_private(file: &Path) {
    let metadata = std::fs::metadata(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{} is its owner's", file.display());
}

/// An item that the local fleet sells in Singapore.
async fn something_for_sale(door: &Caller) -> String {
    let items = door.get("/v1/items?limit=100").await.ok();
    let sold = |item: &&Value| {
        let prices = item["prices"].as_array().into_iter().flatten();
        item["available"] == true && prices.into_iter().any(|price| price["currency"] == "SGD")
    };
    let item = items["items"].as_array().into_iter().flatten().find(sold);
    item.and_then(|item| item["item_id"].as_str()).expect("the catalogue has something").to_owned()
}

#[tokio::test]
async fn the_local_fleet_starts_serves_stops_and_remembers() {
    let _turn = ONE_FLEET.lock().await;
    // Building has no deadline; starting has.
    executable("edge-host");
    let state = scratch("deploy-up");
    let running = start(state.path(), &["--fresh", "--quiet"]).await;

    let door = Caller::new(FRONT_DOOR);
    let item = something_for_sale(&door).await;
    let guest = door.guest("SGD").await.following();
    let written = guest.add(&item, 2).header("troli-region", "jkt").await;
    written.ok();
    assert_eq!(written.header("cart-region"), "jkt");
    let read = guest.get("/v1/cart?region=bkk").await;
    assert_json(&read.ok(), written.ok());
    guest.checkout().await.is(201);
    let kept = guest.add(&item, 1).await.ok();
    let user = door.user(&unique("user")).await;
    assert_json(&user.cart().await["lines"], json!([]));
    assert_private(&state.path().join("admin-token"));
    for key in ["ca-key.pem", "sin-key.pem", "jkt-key.pem"] {
        assert_private(&state.path().join("peers").join(key));
    }

    // Saving rules over the active ones swaps them in everywhere.
    let rules = state.path().join("rules");
    std::fs::copy(rules.join("mega-sale.wasm"), rules.join("active.wasm")).expect("rules can be saved");
    for region in ["sin", "jkt", "bkk"] {
        eventually(&format!("{region} runs the new rules"), async || {
            guest.get(format!("/v1/cart?region={region}")).await.ok()["rules"]["name"] == "mega-sale"
        })
        .await;
    }

    let second = command(state.path(), &["--quiet"], "second").output().await.expect("deploy/up can be run");
    assert_eq!(second.status.code(), Some(64), "{second:?}");
    assert_eq!(String::from_utf8_lossy(&second.stderr).lines().count(), 1, "{second:?}");
    assert!(second.stdout.is_empty(), "{second:?}");
    guest.get("/v1/cart").await.ok();
    running.stop().await;

    let again = start(state.path(), &["--quiet", "--rtt", "none"]).await;
    let found = guest.get("/v1/cart").await.ok();
    // The line's share of the discount is that of the other rules.
    for field in ["line_id", "quantity", "added_price", "added_at"] {
        assert_json(&found["lines"][0][field], kept["lines"][0][field].clone());
    }
    assert_json(&found["version"], kept["version"].clone());
    assert_json(&found["rules"]["name"], json!("mega-sale"));
    assert_eq!(guest.get("/v1/orders").await.ok()["orders"].as_array().map(Vec::len), Some(1));
    again.stop().await;
}

#[tokio::test]
async fn the_local_fleet_on_servers_serves_stops_and_remembers() {
    let _turn = ONE_FLEET.lock().await;
    executable("edge-host");
    let state = scratch("deploy-up");
    let running = start(state.path(), &["--stack", "servers", "--fresh", "--quiet"]).await;

    let passwords = [
        "sin/mysql/password",
        "sin/mysql/root-password",
        "sin/mysql/replication-password",
        "jkt/mysql-replica/password",
        "sin/redis/password",
        "jkt/redis/password",
    ];
    let processes = marked_processes(MARK, &running.mark).join("\n");
    for file in passwords.map(|name| state.path().join(name)) {
        assert_private(&file);
        let password = std::fs::read_to_string(&file).expect("a password can be read");
        assert!(password.len() >= 32 && !processes.contains(&password), "a command line is no place for it");
    }
    let servers = processes.lines().filter(|line| line.contains("--datadir=")).count();
    assert_eq!(servers, 3, "the primary, and a replica for every other region: {processes}");
    assert_eq!(processes.matches("redis-server").count(), 3, "one for every region: {processes}");
    assert!(!state.path().join("sin/primary.db").exists(), "there is one primary");

    let door = Caller::new(FRONT_DOOR);
    let item = something_for_sale(&door).await;
    let guest = door.guest("SGD").await.following();
    let kept = guest.add(&item, 2).header("troli-region", "jkt").await.ok();
    assert_json(&guest.get("/v1/cart?region=bkk").await.ok(), kept.clone());
    running.stop().await;

    let again = start(state.path(), &["--stack", "servers", "--quiet", "--rtt", "none"]).await;
    let found = guest.get("/v1/cart?region=jkt").await.ok();
    assert_json(&found["lines"], kept["lines"].clone());
    assert_json(&found["version"], kept["version"].clone());
    guest.checkout().await.is(201);
    again.stop().await;
}

#[tokio::test]
async fn the_local_fleet_on_a_group_serves_stops_and_remembers() {
    let _turn = ONE_FLEET.lock().await;
    executable("edge-host");
    let state = scratch("deploy-up");
    let arguments = ["--stack", "servers", "--primary", "group", "--regions", "sin,jkt", "--quiet"];
    let running = start(state.path(), &arguments).await;
    let door = Caller::new(FRONT_DOOR);
    let item = something_for_sale(&door).await;
    let guest = door.guest("SGD").await.following();
    let kept = guest.add(&item, 2).header("troli-region", "jkt").await.ok();
    running.stop().await;

    let again = start(state.path(), &arguments).await;
    let found = guest.get("/v1/cart?region=jkt").await.ok();
    assert_json(&found["lines"], kept["lines"].clone());
    guest.add(&item, 1).await.ok();
    again.stop().await;
}

#[tokio::test]
async fn wrong_arguments_are_told_in_one_line() {
    let state = scratch("deploy-up");
    for arguments in [
        &["--nonsense"] as &[&str],
        &["--regions", "mars"],
        &["--regions", "jkt"],
        &["--rtt", "soon"],
        &["--stack", "paper"],
        &["--primary", "group"],
        &["--stack", "servers", "--primary", "several"],
    ] {
        let output = command(state.path(), arguments, "wrong").output().await.expect("deploy/up can be run");
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1, "{output:?}");
    }
    let help = command(state.path(), &["--help"], "help").output().await.expect("deploy/up can be run");
    assert!(help.status.success() && !help.stdout.is_empty(), "{help:?}");
}
