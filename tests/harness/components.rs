use std::path::Path;
use std::sync::LazyLock;

use crate::paths;

/// The rules of this repository, as components.
#[derive(Debug)]
pub struct Components {
    /// The standard rules.
    pub standard: Vec<u8>,
    /// The example of a sale.
    pub mega_sale: Vec<u8>,
    /// The example of a price policy: the catalogue's price of now.
    pub current_price: Vec<u8>,
    /// The smaller of the stored price and the catalogue's.
    pub lower_price: Vec<u8>,
    /// The standard rules of world 1.0, as they were recorded.
    pub standard_1_0: Vec<u8>,
    /// Rules that break every promise on demand.
    pub misbehaving: Vec<u8>,
}

const CRATES: [&str; 5] = ["standard", "mega-sale", "current-price", "lower-price", "misbehaving"];

/// The rules, built from their sources once in a run of the tests.
pub fn components() -> &'static Components {
    static BUILT: LazyLock<Components> = LazyLock::new(build);
    &BUILT
}

fn build() -> Components {
    // A directory of its own: the build of the tests may hold the lock of the usual one.
    let directory = paths::target().join("rules");
    let status = paths::cargo()
        .args(["build", "--quiet", "--profile", "guest", "--target", "wasm32-unknown-unknown"])
        .args(CRATES.iter().flat_map(|name| ["-p", name]))
        .arg("--target-dir")
        .arg(&directory)
        .current_dir(paths::repository())
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "the rules do not build for wasm32-unknown-unknown; is that target installed (tests/run does it)?"
    );
    let built = directory.join("wasm32-unknown-unknown").join("guest");
    Components {
        standard: component(&built.join("standard.wasm")),
        mega_sale: component(&built.join("mega_sale.wasm")),
        current_price: component(&built.join("current_price.wasm")),
        lower_price: component(&built.join("lower_price.wasm")),
        standard_1_0: include_bytes!("../fixtures/rules/standard-1.0.wasm").to_vec(),
        misbehaving: component(&built.join("misbehaving.wasm")),
    }
}

fn component(core_module: &Path) -> Vec<u8> {
    let bytes = std::fs::read(core_module);
    let bytes = bytes.unwrap_or_else(|error| panic!("{} was not built: {error}", core_module.display()));
    edge_host::rules::encode(&bytes)
        .unwrap_or_else(|error| panic!("{} becomes no component: {error}", core_module.display()))
}
