//! The keys of users: a JSON Web Key Set (RFC 7517) that is followed, and a shared secret.

use std::path::Path;
use std::time::Duration;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use tracing::{info, warn};

use super::{KeysError, Tokens, UserKey, Verifier};
use crate::config::{Issuer, UserKeys};

/// How often the key file is looked at, as certificates are.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A larger file is not a key set: some hundred keys fit.
const KEY_SET_BYTES_MAX: u64 = 1024 * 1024;
/// Every algorithm of an RSA key.
const OF_RSA: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// A key set, whose keys are looked at one by one: those that are not understood are left out (RFC 7517 §5).
#[derive(Deserialize)]
struct KeySet {
    keys: Vec<serde_json::Value>,
}

/// Every key that user tokens may be signed by.
pub(super) fn user_keys(of: &UserKeys, jwks: Option<&str>) -> Result<Vec<UserKey>, KeysError> {
    let mut users = jwks.map_or_else(|| Ok(Vec::new()), |jwks| public_keys(jwks, &of.issuer))?;
    if let Some(secret) = &of.hs256_secret {
        let key = DecodingKey::from_secret(secret.expose().as_bytes());
        users.push(UserKey { kid: None, verifier: Verifier::new(key, vec![Algorithm::HS256], &of.issuer) });
    }
    Ok(users)
}

fn public_keys(jwks: &str, issuer: &Issuer) -> Result<Vec<UserKey>, KeysError> {
    let set: KeySet = serde_json::from_str(jwks).map_err(KeysError::NotAKeySet)?;
    let mut keys = Vec::new();
    for value in set.keys {
        let kid = value["kid"].as_str().map(ToOwned::to_owned);
        match public_key(value) {
            Ok((key, algorithms)) => {
                keys.push(UserKey { kid, verifier: Verifier::new(key, algorithms, issuer) });
            }
            Err(why) => info!(key.id = kid, reason = why, "a key of TROLI_JWKS_FILE is not used"),
        }
    }
    if keys.is_empty() { Err(KeysError::NoUsableKey) } else { Ok(keys) }
}

/// A key that verifies signatures, and by which algorithms; otherwise, why it does not.
fn public_key(value: serde_json::Value) -> Result<(DecodingKey, Vec<Algorithm>), &'static str> {
    let alg = value.get("alg").map(|alg| alg.as_str().unwrap_or_default().to_owned());
    let jwk: Jwk = serde_json::from_value(value).map_err(|_| "it is not understood")?;
    let of_kind = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => OF_RSA.to_vec(),
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => vec![Algorithm::ES256],
            EllipticCurve::P384 => vec![Algorithm::ES384],
            _ => return Err("its curve is not known"),
        },
        AlgorithmParameters::OctetKeyPair(key) => match key.curve {
            EllipticCurve::Ed25519 => vec![Algorithm::EdDSA],
            _ => return Err("its curve is not known"),
        },
        AlgorithmParameters::OctetKey(_) => return Err("it is a secret, not a public key"),
        _ => return Err("its kind is not known"),
    };
    if jwk.common.public_key_use.as_ref().is_some_and(|of| *of != PublicKeyUse::Signature) {
        return Err("its use is not to sign");
    }
    let operations = jwk.common.key_operations.as_ref();
    if operations.is_some_and(|operations| !operations.contains(&KeyOperations::Verify)) {
        return Err("its operations are not to verify");
    }
    // A key that says its algorithm is for no other.
    let algorithms: Vec<Algorithm> = match alg {
        Some(alg) => of_kind.into_iter().filter(|of| format!("{of:?}") == alg).collect(),
        None => of_kind,
    };
    if algorithms.is_empty() {
        return Err("its algorithm is not one of its kind");
    }
    let key = DecodingKey::from_jwk(&jwk).map_err(|_| "its numbers are not those of a key")?;
    Ok((key, algorithms))
}

impl Tokens {
    /// Takes new keys whenever the file of the key set changes; one that cannot be used leaves the old keys. For ever.
    pub async fn follow_user_keys(&self, of: &UserKeys) {
        let Some(file) = &of.jwks else {
            return std::future::pending().await;
        };
        let mut seen = file.text.clone();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            // A file that is being replaced may be gone for a moment.
            let Some(text) = read(&file.path) else { continue };
            if text == seen {
                continue;
            }
            match self.replace_user_keys(of, &text) {
                Ok(count) => info!(keys = count, "new keys of users"),
                Err(error) => warn!(error = %error, "keys of users not taken, the old ones stay"),
            }
            seen = text;
        }
    }

    /// Verifies by these keys from now on. Tokens that the old keys have verified are verified again.
    fn replace_user_keys(&self, of: &UserKeys, jwks: &str) -> Result<usize, KeysError> {
        let users = user_keys(of, Some(jwks))?;
        let count = users.len();
        self.users.store(users.into());
        self.verified.forget();
        Ok(count)
    }
}

fn read(path: &Path) -> Option<String> {
    let size = std::fs::metadata(path).ok()?.len();
    if size > KEY_SET_BYTES_MAX { None } else { std::fs::read_to_string(path).ok() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A random Ed25519 public key, for tests.
    const X: &str = "6kpsY-KcUgq-9VB7Ey7F-ZVHdq6-vnuSQh7qaRRG0iw";

    fn ed25519(more: &[(&str, Value)]) -> Value {
        let mut key = json!({ "kty": "OKP", "crv": "Ed25519", "x": X });
        for (name, value) in more {
            key[*name] = value.clone();
        }
        key
    }

    fn keys(keys: &[Value]) -> Result<usize, KeysError> {
        let set = json!({ "keys": keys, "of": "somebody" }).to_string();
        public_keys(&set, &Issuer::default()).map(|keys| keys.len())
    }

    #[test]
    fn a_key_is_used_when_it_is_for_verifying_signatures() {
        for more in [
            vec![],
            vec![("use", json!("sig"))],
            vec![("key_ops", json!(["verify"]))],
            vec![("key_ops", json!(["sign", "verify"]))],
            vec![("alg", json!("EdDSA"))],
            vec![("unheard", json!({ "of": 1 }))],
        ] {
            assert_eq!(keys(&[ed25519(&more)]).ok(), Some(1), "{more:?}");
        }
    }

    #[test]
    fn what_is_not_understood_or_not_for_this_is_left_out() {
        let good = ed25519(&[]);
        for other in [
            ed25519(&[("use", json!("enc"))]),
            ed25519(&[("use", json!("unheard-of"))]),
            ed25519(&[("key_ops", json!(["sign"]))]),
            ed25519(&[("key_ops", json!([]))]),
            ed25519(&[("alg", json!("ES256"))]),
            ed25519(&[("alg", json!("unheard-of"))]),
            ed25519(&[("alg", json!(7))]),
            ed25519(&[("crv", json!("X25519"))]),
            ed25519(&[("x", json!("short"))]),
            json!({ "kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA" }),
            json!({ "kty": "RSA" }),
            json!({ "kty": "EC", "crv": "P-521", "x": "AA", "y": "AA" }),
            json!({ "kty": "oct", "k": "c2VjcmV0LW9mLWF0LWxlYXN0LTMyLWJ5dGVzLWxvbmc" }),
            json!({}),
            json!("key"),
        ] {
            assert_eq!(keys(&[other.clone(), good.clone()]).ok(), Some(1), "{other}");
            assert!(matches!(keys(std::slice::from_ref(&other)), Err(KeysError::NoUsableKey)), "{other}");
        }
        assert!(matches!(public_keys("{}", &Issuer::default()), Err(KeysError::NotAKeySet(_))));
    }

    #[test]
    fn a_key_that_says_its_algorithm_is_for_no_other() {
        let n = "AQAB".repeat(86);
        let of = |alg: Option<&str>| {
            let mut key = json!({ "kty": "RSA", "n": n, "e": "AQAB" });
            if let Some(alg) = alg {
                key["alg"] = json!(alg);
            }
            public_key(key).map(|(_, algorithms)| algorithms)
        };
        assert_eq!(of(None), Ok(OF_RSA.to_vec()));
        assert_eq!(of(Some("PS256")), Ok(vec![Algorithm::PS256]));
        assert!(of(Some("RSA-OAEP")).is_err());
    }
}
