//! Who is calling: guest tokens that we sign, user tokens that somebody else signs, and the two secrets of
//! the internal listener. A principal comes from a verified token and from nowhere else.

use arc_swap::ArcSwap;
use cart_core::Currency;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use self::verified::VerifiedTokens;
use crate::clock::host_ms;
use crate::config::{GuestSecrets, Issuer, Secret, UserKeys};
use crate::model::{CART_TTL_MS, CurrencyCode, Millis, OwnerKind, Principal};

mod keys;
mod verified;

/// Marks a guest token, so that it is checked by our own key and by no other.
const GUEST_TOKEN_TYPE: &str = "troli-guest+jwt";
/// A token of the local fleet lives so long.
const DEV_TOKEN_TTL_S: i64 = 12 * 3600;
/// Clocks of token issuers may be off by so much.
const LEEWAY_S: u64 = 5;
/// Longer tokens are not looked at.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Of 43 characters of a code (HMAC-SHA256): 96 bits, so that no two principals share one.
const PSEUDONYM_CHARS: usize = 16;
/// Longer user ids cannot be a key in a database.
const USER_ID_BYTES_MAX: usize = 128;

/// Issues and verifies tokens.
pub struct Tokens {
    guest_signing: EncodingKey,
    guest: Verifier,
    /// The secret before, while tokens of it are still about.
    guest_before: Option<Verifier>,
    users: ArcSwap<Vec<UserKey>>,
    dev_signing: Option<EncodingKey>,
    verified: VerifiedTokens,
}

/// What a token proves, and until when, Unix seconds.
struct Verified {
    principal: Principal,
    exp: i64,
}

/// One key that user tokens may be signed by.
struct UserKey {
    kid: Option<String>,
    verifier: Verifier,
}

/// A key, and what a token must say to be accepted by it. The key decides the algorithms, never the token.
struct Verifier {
    key: DecodingKey,
    validation: Validation,
}

/// A guest's new token.
pub struct GuestToken {
    /// The guest.
    pub principal: Principal,
    /// To be sent as `Authorization: Bearer …`.
    pub token: String,
    /// When it ends.
    pub expires_at_ms: Millis,
}

/// Why a token is not accepted. Which check failed is nobody's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token is not valid")]
pub struct InvalidToken;

/// The configured keys are unusable.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Not a JSON Web Key Set.
    #[error("TROLI_JWKS_FILE is not a JSON Web Key Set")]
    NotAKeySet(#[source] serde_json::Error),
    /// None of its keys verifies signatures.
    #[error("TROLI_JWKS_FILE has no RSA, EC (P-256, P-384) or Ed25519 public key for signatures")]
    NoUsableKey,
}

/// What we sign.
#[derive(Serialize)]
struct Claims {
    sub: String,
    exp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<CurrencyCode>,
}

/// What we read, of somebody else's tokens too. `exp` is checked before anybody sees this; a currency that is
/// not ours must not lock its user out.
#[derive(Deserialize)]
struct Proven {
    sub: String,
    /// A number of seconds, which may have a fraction (RFC 7519 §2).
    exp: f64,
    #[serde(default)]
    currency: serde_json::Value,
}

impl Proven {
    fn verified(self, kind: OwnerKind) -> Verified {
        let currency = self.currency.as_str().and_then(Currency::from_code).map(CurrencyCode);
        // Beyond the range of an `i64` it is the end of that range.
        #[expect(clippy::cast_possible_truncation, reason = "a fraction of a second less, and saturating")]
        let exp = self.exp.floor() as i64;
        Verified { principal: Principal { kind, id: self.sub, currency }, exp }
    }
}

impl Tokens {
    /// Tokens by these keys. `dev` allows to make a token of any user.
    pub fn new(guest_secrets: &GuestSecrets, user_keys: &UserKeys, dev: bool) -> Result<Self, KeysError> {
        let jwks = user_keys.jwks.as_ref().map(|file| file.text.as_str());
        let users = keys::user_keys(user_keys, jwks)?;
        let dev_secret = user_keys.hs256_secret.as_ref().filter(|_| dev);
        let dev_signing = dev_secret.map(|secret| EncodingKey::from_secret(secret.expose().as_bytes()));
        let guest = |secret: &Secret| {
            let key = DecodingKey::from_secret(secret.expose().as_bytes());
            Verifier::new(key, vec![Algorithm::HS256], &Issuer::default())
        };
        Ok(Self {
            guest_signing: EncodingKey::from_secret(guest_secrets.current.expose().as_bytes()),
            guest: guest(&guest_secrets.current),
            guest_before: guest_secrets.previous.as_ref().map(guest),
            users: ArcSwap::from_pointee(users),
            dev_signing,
            verified: VerifiedTokens::new(),
        })
    }

    /// A keyed pseudonym of a principal for log lines. It is the same in every region, and cannot be traced back without
    /// the guests' key.
    pub fn pseudonym(&self, principal: &Principal) -> String {
        // No token begins like this, so it is no signature of one.
        let text = format!("troli pseudonym\0{}\0{}", principal.kind.as_str(), principal.id);
        let mac = jsonwebtoken::crypto::sign(text.as_bytes(), &self.guest_signing, Algorithm::HS256);
        mac.map(|mac| mac.chars().take(PSEUDONYM_CHARS).collect()).unwrap_or_default()
    }

    /// A new guest.
    pub fn issue_guest(&self, currency: Option<CurrencyCode>, now_ms: Millis) -> Option<GuestToken> {
        let id = format!("g_{}", Uuid::new_v4().simple());
        self.renew_guest(Principal { kind: OwnerKind::Guest, id, currency }, now_ms)
    }

    /// A fresh token of a guest. The tokens before it stay good until they end.
    pub fn renew_guest(&self, guest: Principal, now_ms: Millis) -> Option<GuestToken> {
        let expires_at_ms = now_ms + CART_TTL_MS;
        let claims = Claims { sub: guest.id.clone(), exp: expires_at_ms / 1000, currency: guest.currency };
        let header = Header { typ: Some(GUEST_TOKEN_TYPE.to_owned()), ..Header::new(Algorithm::HS256) };
        let token = jsonwebtoken::encode(&header, &claims, &self.guest_signing).ok()?;
        Some(GuestToken { principal: guest, token, expires_at_ms })
    }

    /// A token of any user, where the configuration allows it.
    pub fn issue_dev(&self, user_id: &str, currency: Option<CurrencyCode>, now_ms: Millis) -> Option<String> {
        let key = self.dev_signing.as_ref()?;
        let claims = Claims { sub: user_id.to_owned(), exp: now_ms / 1000 + DEV_TOKEN_TTL_S, currency };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, key).ok()
    }

    /// Whether tokens can be had for the asking.
    pub fn dev(&self) -> bool {
        self.dev_signing.is_some()
    }

    /// The principal that a token proves, where that was found out lately. It costs nothing to ask.
    pub fn known(&self, token: &str) -> Option<Principal> {
        self.verified.get(token, host_ms())
    }

    /// The principal that a token proves.
    pub fn verify(&self, token: &str) -> Result<Principal, InvalidToken> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(InvalidToken);
        }
        if let Some(principal) = self.known(token) {
            return Ok(principal);
        }
        let round = self.verified.round();
        let Verified { principal, exp } = self.check(token)?;
        self.verified.put(token, &principal, exp.saturating_mul(1000), round);
        Ok(principal)
    }

    fn check(&self, token: &str) -> Result<Verified, InvalidToken> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| InvalidToken)?;
        // No extension is understood here, so one that must be understood refuses the token (RFC 7515 §4.1.11).
        if header.crit.is_some() {
            return Err(InvalidToken);
        }
        if header.typ.as_deref() == Some(GUEST_TOKEN_TYPE) {
            let before = || self.guest_before.as_ref().ok_or(InvalidToken)?.check(token);
            return Ok(self.guest.check(token).or_else(|_| before())?.verified(OwnerKind::Guest));
        }
        let named = |key: &&UserKey| key.kid.is_none() || header.kid.is_none() || key.kid == header.kid;
        let fits = |key: &&UserKey| key.verifier.validation.algorithms.contains(&header.alg) && named(key);
        for key in self.users.load().iter().filter(fits) {
            if let Ok(proven) = key.verifier.check(token) {
                return Ok(proven.verified(OwnerKind::User));
            }
        }
        Err(InvalidToken)
    }
}

impl Verifier {
    fn new(key: DecodingKey, algorithms: Vec<Algorithm>, issuer: &Issuer) -> Self {
        let mut validation = Validation::new(algorithms[0]);
        validation.algorithms = algorithms;
        validation.leeway = LEEWAY_S;
        validation.validate_nbf = true;
        let mut required = vec!["exp", "sub"];
        validation.validate_aud = issuer.audience.is_some();
        if let Some(audience) = &issuer.audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        if let Some(name) = &issuer.name {
            validation.set_issuer(&[name]);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        Self { key, validation }
    }

    fn check(&self, token: &str) -> Result<Proven, InvalidToken> {
        let decoded = jsonwebtoken::decode(token, &self.key, &self.validation).map_err(|_| InvalidToken)?;
        let proven: Proven = decoded.claims;
        if !is_user_id(&proven.sub) {
            return Err(InvalidToken);
        }
        Ok(proven)
    }
}

/// Whether a text can be the id of a user, in a token of any issuer and of ours: it can be a key in a database, and
/// stands in logs as one word.
pub fn is_user_id(text: &str) -> bool {
    (1..=USER_ID_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Compares a presented secret with the right one, in constant time.
pub fn same_secret(presented: &str, right: &Secret) -> bool {
    // Hashing first makes both sides equally long.
    Sha256::digest(presented).ct_eq(&Sha256::digest(right.expose())).into()
}
