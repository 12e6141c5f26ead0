use harness::{Fleet, FleetOptions, HS256_SECRET, eventually, shared, unique};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::support::assert_json;

/// 2099-01-01.
const FAR: i64 = 4_070_908_800;
const LONG_AGO: i64 = 1_500_000_000;
/// `{"alg":"none","typ":"JWT"}`
const ALG_NONE: &str = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
/// Marks a guest token.
const GUEST_TYPE: &str = "troli-guest+jwt";
/// An Ed25519 private key (PKCS #8) that is only used here: the prefix that all have, and 32 times the byte 7.
const ED25519_PREFIX: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
/// Its public half.
const ED25519_X: &str = "6kpsY-KcUgq-9VB7Ey7F-ZVHdq6-vnuSQh7qaRRG0iw";
/// That of 32 times the byte 8.
const ED25519_X_OF_8: &str = "E5j2LG0aRXxRumpLXz29L2n8qTIWIY3ImX5Ba9F9k8o";

fn hs256(secret: &str) -> EncodingKey {
    EncodingKey::from_secret(secret.as_bytes())
}

#[track_caller]
fn sign(header: &Header, claims: &Value, key: &EncodingKey) -> String {
    jsonwebtoken::encode(header, claims, key).expect("the tests can sign")
}

fn header(algorithm: Algorithm, typ: Option<&str>) -> Header {
    Header { typ: typ.map(str::to_owned), ..Header::new(algorithm) }
}

#[tokio::test]
async fn without_a_token_there_is_no_cart() {
    let fleet = shared();
    for region in fleet.ids() {
        let nobody = fleet.at(region);
        for path in ["/v1/cart", "/v1/cart/count", "/v1/cart/items/l_x", "/v1/orders", "/v1/orders/o_x"] {
            let answer = nobody.get(path).await;
            answer.problem(401, "token_missing");
            assert!(answer.header("www-authenticate").starts_with("Bearer"), "{answer}");
        }
        for scheme in ["Basic dTpw", "Bearer", "Bearer ", "Token abc", "bearerabc"] {
            let answer = nobody.get("/v1/cart").header("authorization", scheme).await;
            assert_eq!(answer.status, 401, "{answer}");
            assert!(answer.header("www-authenticate").starts_with("Bearer"), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_user_token_by_the_right_key_is_believed() {
    let nobody = shared().at("jkt");
    let user = unique("user");
    let claims = json!({ "sub": user, "exp": FAR });
    let ours = nobody.with_token(sign(&Header::new(Algorithm::HS256), &claims, &hs256(HS256_SECRET)));
    let cart = ours.cart().await;
    assert_json(&nobody.user(&user).await.cart().await["id"], cart["id"].clone());
    assert_ne!(nobody.user(&unique("user")).await.cart().await["id"], cart["id"]);
    // Whoever issues the tokens may know more currencies than this shop.
    let claims = json!({ "sub": unique("user"), "exp": FAR, "currency": "USD" });
    let dollars = nobody.with_token(sign(&Header::new(Algorithm::HS256), &claims, &hs256(HS256_SECRET)));
    assert_json(&dollars.cart().await["currency"], json!("SGD"));
    // A time may have a fraction (RFC 7519 §2, NumericDate).
    let claims = json!({ "sub": unique("user"), "exp": FAR as f64 + 0.5, "nbf": LONG_AGO as f64 + 0.25 });
    nobody.with_token(sign(&Header::new(Algorithm::HS256), &claims, &hs256(HS256_SECRET))).cart().await;
    // `Bearer` is a word, not a secret: its case does not matter (RFC 9110 §11.1).
    nobody.get("/v1/cart").header("authorization", format!("bearer {}", ours.token())).await.ok();
}

#[tokio::test]
async fn a_token_that_proves_nothing_is_refused() {
    let fleet = shared();
    let nobody = fleet.at("bkk");
    let guest = nobody.guest("SGD").await;
    let right = hs256(HS256_SECRET);
    let claims = json!({ "sub": "somebody", "exp": FAR });
    let hs = |claims: &Value, key: &EncodingKey| sign(&Header::new(Algorithm::HS256), claims, key);
    let good = hs(&claims, &right);
    let (head, rest) = good.split_once('.').expect("a token has three parts");
    let (payload, signature) = rest.split_once('.').expect("a token has three parts");
    let other_payload = hs(&json!({ "sub": "somebody-else", "exp": FAR }), &right);
    let other_payload = other_payload.split('.').nth(1).expect("a payload").to_owned();
    let guest_payload = guest.token().split('.').nth(1).expect("a payload").to_owned();
    let guest_signature = guest.token().split('.').nth(2).expect("a signature").to_owned();
    let guest_type = header(Algorithm::HS256, Some(GUEST_TYPE));
    for (what, token) in [
        ("a user with a control character", hs(&json!({ "sub": "a\u{0}b", "exp": FAR }), &right)),
        ("garbage", "garbage".to_owned()),
        ("dots", "..".to_owned()),
        ("too long", format!("{head}.{}.{signature}", "A".repeat(20_000))),
        ("no signature", format!("{head}.{payload}.")),
        ("no signature at all", format!("{head}.{payload}")),
        ("another payload", format!("{head}.{other_payload}.{signature}")),
        ("a cut signature", good[..good.len() - 2].to_owned()),
        ("alg none", format!("{ALG_NONE}.{payload}.")),
        ("alg none with the old signature", format!("{ALG_NONE}.{payload}.{signature}")),
        ("a guest's payload, alg none", format!("{ALG_NONE}.{guest_payload}.")),
        (
            "a guest's payload and signature under a user's header",
            format!("{head}.{guest_payload}.{guest_signature}"),
        ),
        ("the wrong key", hs(&claims, &hs256("another secret of at least 32 bytes!"))),
        ("an empty key", hs(&claims, &hs256(""))),
        ("another algorithm", sign(&Header::new(Algorithm::HS512), &claims, &right)),
        ("expired", hs(&json!({ "sub": "somebody", "exp": LONG_AGO }), &right)),
        ("no expiry", hs(&json!({ "sub": "somebody" }), &right)),
        ("a text for expiry", hs(&json!({ "sub": "somebody", "exp": "never" }), &right)),
        ("not valid yet", hs(&json!({ "sub": "somebody", "exp": FAR, "nbf": FAR - 10 }), &right)),
        ("no subject", hs(&json!({ "exp": FAR }), &right)),
        ("an empty subject", hs(&json!({ "sub": "", "exp": FAR }), &right)),
        ("a number for subject", hs(&json!({ "sub": 7, "exp": FAR }), &right)),
        ("an endless subject", hs(&json!({ "sub": "x".repeat(5000), "exp": FAR }), &right)),
        ("a guest signed by the users' key", sign(&guest_type, &json!({ "sub": "g_1", "exp": FAR }), &right)),
    ] {
        let answer = nobody.with_token(&token).get("/v1/cart").await;
        assert_eq!(answer.status, 401, "{what}: {answer}");
        answer.problem(401, "token_invalid");
        assert!(answer.header("www-authenticate").contains("invalid_token"), "{what}: {answer}");
    }
    guest.get("/v1/cart").await.ok();
}

#[tokio::test]
async fn a_guest_and_a_user_of_one_name_are_two() {
    let nobody = shared().at("sin");
    let answer = nobody.ask("POST", "/v1/guests").await.is(201);
    let guest = nobody.with_token(answer["token"].as_str().expect("a token"));
    let guest_id = answer["guest_id"].as_str().expect("a name");
    let namesake = nobody.user(guest_id).await;
    assert_ne!(guest.cart().await["id"], namesake.cart().await["id"]);
}

/// Like production: public keys for users, no development tokens, no admin.
async fn production() -> (Fleet, tempfile::NamedTempFile) {
    let keys = tempfile::NamedTempFile::new().expect("a file can be made");
    let key =
        json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "one", "x": ED25519_X });
    std::fs::write(keys.path(), json!({ "keys": [key] }).to_string()).expect("a file can be written");
    let settings = vec![
        ("TROLI_JWKS_FILE", keys.path().display().to_string()),
        ("TROLI_JWT_HS256_SECRET", String::new()),
        ("TROLI_DEV_TOKENS", String::new()),
    ];
    let options = FleetOptions { regions: vec!["sin"], settings, ..FleetOptions::default() };
    (Fleet::start(options).await, keys)
}

#[tokio::test]
async fn public_keys_verify_users_and_are_no_shared_secrets() {
    let (fleet, keys) = production().await;
    let nobody = fleet.at("sin");
    let private = [ED25519_PREFIX.as_slice(), &[7; 32]].concat();
    let private = EncodingKey::from_ed_der(&private);
    let claims = json!({ "sub": "somebody", "exp": FAR });
    let named =
        |algorithm, kid: Option<&str>| Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };

    for kid in [Some("one"), None] {
        let token = sign(&named(Algorithm::EdDSA, kid), &claims, &private);
        nobody.with_token(token).get("/v1/cart").await.ok();
    }
    let public = jsonwebtoken::decode_header(sign(&named(Algorithm::EdDSA, None), &claims, &private));
    assert_eq!(public.map(|header| header.alg).ok(), Some(Algorithm::EdDSA));
    let whole_set = std::fs::read_to_string(keys.path()).expect("the key set can be read");
    for secret in [ED25519_X, whole_set.as_str(), HS256_SECRET, ""] {
        for kid in [Some("one"), None] {
            let token = sign(&named(Algorithm::HS256, kid), &claims, &hs256(secret));
            nobody.with_token(token).get("/v1/cart").await.problem(401, "token_invalid");
        }
    }
    let stranger = [ED25519_PREFIX.as_slice(), &[8; 32]].concat();
    let forged = sign(&named(Algorithm::EdDSA, Some("one")), &claims, &EncodingKey::from_ed_der(&stranger));
    nobody.with_token(forged).get("/v1/cart").await.problem(401, "token_invalid");
    let other_kid = sign(&named(Algorithm::EdDSA, Some("two")), &claims, &private);
    nobody.with_token(other_kid).get("/v1/cart").await.problem(401, "token_invalid");

    let dev = nobody.post("/v1/dev/tokens", json!({ "user_id": "somebody" })).await;
    dev.problem(404, "route_unknown");
    nobody.guest("SGD").await.get("/v1/cart").await.ok();
}

fn ed25519(seed: u8) -> EncodingKey {
    EncodingKey::from_ed_der(&[ED25519_PREFIX.as_slice(), &[seed; 32]].concat())
}

fn key_set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

/// Replaces a file atomically, as a mounted secret is replaced.
fn save(path: &std::path::Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).expect("a file can be written");
    std::fs::rename(&beside, path).expect("a file can be renamed in its directory");
}

#[tokio::test]
async fn new_keys_of_users_are_taken_without_a_restart_and_old_ones_end() {
    let (fleet, keys) = production().await;
    let nobody = fleet.at("sin");
    let claims = json!({ "sub": "somebody", "exp": FAR });
    let token = |seed| nobody.with_token(sign(&Header::new(Algorithm::EdDSA), &claims, &ed25519(seed)));
    let (first, second) = (token(7), token(8));
    first.get("/v1/cart").await.ok();
    second.get("/v1/cart").await.problem(401, "token_invalid");

    // What is no key set changes nothing, and what is not understood in one does not matter.
    save(keys.path(), "no JSON");
    let other = json!({ "kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA", "kid": "later" });
    let new = json!({ "kty": "OKP", "crv": "Ed25519", "x": ED25519_X_OF_8, "kid": "two" });
    save(keys.path(), &key_set(&[other, new]));
    eventually("the new key is used", async || second.get("/v1/cart").await.status == 200).await;
    // It was believed a moment ago, and remembered.
    first.get("/v1/cart").await.problem(401, "token_invalid");
}

#[tokio::test]
async fn an_extension_that_must_be_understood_refuses_a_token() {
    let nobody = shared().at("sin");
    let claims = json!({ "sub": "somebody", "exp": FAR });
    let header = Header { crit: Some(vec!["b64".to_owned()]), ..Header::new(Algorithm::HS256) };
    let token = sign(&header, &claims, &hs256(HS256_SECRET));
    nobody.with_token(token).get("/v1/cart").await.problem(401, "token_invalid");
}

#[tokio::test]
async fn guests_keep_their_carts_when_the_secret_is_changed() {
    let directory = harness::scratch("secrets");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("a file can be written");
        path.display().to_string()
    };
    let (old, new) = (
        file("old", "an old secret of at least thirty-two bytes"),
        file("new", "a new secret of at least thirty-two bytes"),
    );
    let options = FleetOptions {
        regions: vec!["sin"],
        settings: vec![("TROLI_GUEST_SECRET_FILE", old.clone())],
        ..FleetOptions::default()
    };
    let fleet = Fleet::start(options).await;
    let guest = fleet.at("sin").guest("SGD").await;
    let cart_id = guest.cart().await["id"].clone();
    let restart = async |settings: &[(&'static str, String)]| {
        fleet.stop_region("sin").await;
        fleet.start_region_with("sin", settings).await;
    };
    let both = [("TROLI_GUEST_SECRET_FILE", new.clone()), ("TROLI_GUEST_SECRET_PREVIOUS_FILE", old)];
    restart(&both).await;
    assert_json(&guest.cart().await["id"], cart_id);
    let newer = fleet.at("sin").guest("SGD").await;
    restart(&[("TROLI_GUEST_SECRET_FILE", new)]).await;
    newer.get("/v1/cart").await.ok();
    guest.get("/v1/cart").await.problem(401, "token_invalid");
}
