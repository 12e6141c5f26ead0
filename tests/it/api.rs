//! The API's description, as public tools read it: linted, compiled into clients, and compared with what the
//! server takes and gives.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use harness::{Caller, Fleet, FleetOptions, number_setting, repository, scratch, shared, target, unique};
use serde_json::{Map, Value, json};
use tokio::process::Command;

/// Runs one of the tools; fails with all that it has said.
async fn tool(command: &str, arguments: &[&str]) {
    let script = repository().join("tests/clients/tools");
    let installed = target().join("api-tools");
    let found =
        Command::new(&script).arg("--find").arg(&installed).status().await.expect("a script can be run");
    assert!(
        found.success(),
        "the tools for the API's description are missing or old: tests/run installs them"
    );
    let output = Command::new(&script)
        .arg(command)
        .arg(&installed)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("a script can be run");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command}: {}\n{}", said(&output.stdout), said(&output.stderr));
}

async fn description(nobody: &Caller, directory: &Path) -> PathBuf {
    let file = directory.join("openapi.json");
    std::fs::write(&file, nobody.get("/openapi.json").await.ok().to_string()).expect("a file can be written");
    file
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of ours are text")
}

#[tokio::test]
async fn the_description_lints_without_a_finding() {
    let directory = scratch("api");
    let file = description(&shared().at("sin"), directory.path()).await;
    tool("lint", &[text(&file)]).await;
}

#[tokio::test]
async fn generated_clients_compile_strictly_and_shop() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "1.00").await;
    let directory = scratch("api");
    let file = description(&fleet.at("jkt"), directory.path()).await;
    tool("clients", &[text(&file), text(directory.path())]).await;
    for trip in ["trip-fetch", "trip-hey"] {
        tool("trip", &[text(directory.path()), trip, &fleet.url("jkt"), &mug]).await;
    }
}

/// More with `TROLI_API_EXAMPLES`, which are the examples of each operation.
#[tokio::test]
async fn schemathesis_finds_nothing() {
    const EXAMPLES: u64 = 10;
    let fleet = Fleet::start(FleetOptions { regions: vec!["sin"], ..FleetOptions::default() }).await;
    // What the examples of the description are about.
    fleet.admin().sell("KAYA-400G", "3.80").await;
    let coupon = json!({ "kind": "percent", "value": "10" });
    fleet.admin().caller().put("/admin/coupons/WELCOME10").json(coupon).await.ok();
    let directory = scratch("api");
    let file = description(&fleet.at("sin"), directory.path()).await;
    let user = fleet.at("sin").user("siti").await;
    let examples = number_setting("TROLI_API_EXAMPLES").unwrap_or(EXAMPLES).to_string();
    let seed = number_setting("TROLI_API_SEED").unwrap_or(7).to_string();
    tool("fuzz", &[text(&file), &fleet.url("sin"), user.token(), &seed, &examples]).await;
}

/// Compares a value with a schema, and lists what the schema does not describe.
fn undescribed(document: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    let schema = match schema["$ref"].as_str() {
        Some(reference) => {
            document.pointer(reference.trim_start_matches('#')).expect("a reference leads somewhere")
        }
        None => schema,
    };
    let choices = schema["oneOf"].as_array().or(schema["anyOf"].as_array());
    if let Some(choices) = choices {
        let fits = |choice: &&Value| {
            let mut wrong = Vec::new();
            undescribed(document, choice, value, at, &mut wrong);
            wrong.is_empty()
        };
        if !choices.iter().any(|choice| fits(&choice)) {
            found.push(format!("{at}: no choice has {value}"));
        }
        return;
    }
    if let Some(elements) = value.as_array() {
        for (n, element) in elements.iter().enumerate() {
            undescribed(document, &schema["items"], element, &format!("{at}/{n}"), found);
        }
    }
    let Some(members) = value.as_object() else {
        let is = |name: &str| {
            schema["type"] == name || schema["type"].as_array().is_some_and(|all| all.contains(&json!(name)))
        };
        if value.is_null() && !is("null") {
            found.push(format!("{at}: null"));
        }
        return;
    };
    let none = Map::new();
    let known = schema["properties"].as_object().unwrap_or(&none);
    for (name, member) in members {
        match (known.get(name), schema.get("additionalProperties")) {
            (Some(schema), _) => undescribed(document, schema, member, &format!("{at}/{name}"), found),
            (None, Some(Value::Bool(true) | Value::Object(_))) => {}
            _ => found.push(format!("{at}/{name}: no such property")),
        }
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !members.contains_key(name) {
            found.push(format!("{at}/{name}: required, and missing"));
        }
    }
}

#[tokio::test]
async fn no_answer_has_a_field_that_is_not_described() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "1.00").await;
    let caller = fleet.at("bkk");
    let guest = caller.guest("SGD").await;
    let document = caller.get("/openapi.json").await.ok();
    let add = json!({ "item_id": mug, "quantity": 2, "variant": { "size": "M" } });
    let cart = guest.post("/v1/cart/items", add).await.ok();
    let line_id = cart["lines"][0]["line_id"].as_str().expect("a line").to_owned();
    let answers = [
        ("Cart", cart),
        ("Line", guest.get(format!("/v1/cart/items/{line_id}")).await.ok()),
        ("Count", guest.get("/v1/cart/count").await.ok()),
        ("Order", guest.checkout().await.is(201)),
        ("Orders", guest.get("/v1/orders").await.ok()),
        ("Item", caller.get(format!("/v1/items/{mug}")).await.ok()),
        ("Items", caller.get("/v1/items?limit=3").await.ok()),
        ("Regions", caller.get("/v1/regions").await.ok()),
        ("Guest", caller.ask("POST", "/v1/guests").await.is(201)),
        ("DevToken", caller.post("/v1/dev/tokens", json!({ "user_id": "u" })).await.is(201)),
        ("Problem", guest.add("NOPE", 1).await.is(404)),
        ("Problem", guest.post("/v1/cart/items", json!({ "quantity": "2", "foo": 1 })).await.is(400)),
        ("Cart", guest.cart().await),
    ];
    for (schema, value) in answers {
        let mut found = Vec::new();
        undescribed(&document, &document["components"]["schemas"][schema], &value, "#", &mut found);
        assert!(found.is_empty(), "{schema}: {found:#?} in {value:#}");
    }
}

#[tokio::test]
async fn a_problem_says_what_to_do_and_where() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "1.00").await;
    let guest = fleet.at("jkt").guest("SGD").await;
    let unknown = guest.add("NOPE", 1).await.problem(404, "item_unknown");
    assert_eq!(unknown["errors"][0]["pointer"], "#/item_id");
    assert_eq!(unknown["params"], json!({ "item_id": "NOPE" }));
    assert_eq!(unknown["retry"], "never");
    let batch = json!({ "commands": [
        { "op": "add", "item_id": mug, "quantity": 1 }, { "op": "apply_coupon", "code": "NOPE" },
    ] });
    let refused = guest.post("/v1/cart/commands", batch).await.problem(422, "coupon_unknown");
    assert_eq!(refused["errors"][0]["pointer"], "#/commands/1");
    let no_body = guest.delete("/v1/cart/items/l_none").await.problem(404, "line_unknown");
    assert!(no_body.get("errors").is_none(), "{no_body:#}");
    assert_eq!(no_body["retry"], "reread");
    let all = guest
        .post("/v1/cart/items", json!({ "quantity": "2", "foo": 1 }))
        .await
        .problem(400, "invalid_input");
    let pointers: Vec<&Value> =
        all["errors"].as_array().expect("errors").iter().map(|one| &one["pointer"]).collect();
    assert_eq!(pointers, ["#/quantity", "#/foo", "#"], "{all:#}");
}
