use harness::{executable, scratch, shared, unique};
use serde_json::json;
use tokio::process::Command;

use crate::support::{assert_json, sgd};

/// Imports these rows with a title and a price, and with a stock where it is said.
async fn import(columns: &str, row: &str) {
    let (fleet, directory) = (shared(), scratch("import"));
    let (file, token) = (directory.path().join("items.csv"), directory.path().join("token"));
    std::fs::write(&file, format!("item_id,title,price_SGD{columns}\n{row}\n"))
        .expect("a file can be written");
    std::fs::write(&token, fleet.admin().caller().token()).expect("a file can be written");
    let mut command = Command::new(executable("edge-host"));
    command.args(["items", "import"]).arg(&file).arg("--token-file").arg(&token);
    command.args(["--admin", &format!("http://{}", fleet.internal_address("sin"))]);
    let output = command.kill_on_drop(true).output().await.expect("the executable runs");
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn an_import_sets_a_stock_only_where_the_file_has_one() {
    let (merchant, soap) = (shared().admin(), unique("soap"));
    let path = format!("/admin/items/{soap}");
    import("", &format!("{soap},Soap,2.00")).await;
    assert_json(&merchant.get(&path).await.ok()["stock"], json!(1_000_000));
    merchant.caller().post(format!("{path}/stock"), json!({ "set": 7 })).await.ok();
    import("", &format!("{soap},Fine soap,2.50")).await;
    let item = merchant.get(&path).await.ok();
    assert_json(&item["stock"], json!(7));
    assert_json(&item["title"], json!("Fine soap"));
    assert_json(&item["prices"], json!([sgd("2.50")]));
    import(",stock", &format!("{soap},Fine soap,2.50,30")).await;
    assert_json(&merchant.get(&path).await.ok()["stock"], json!(30));
}
