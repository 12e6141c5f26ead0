//! Secrets, and the keys of users.

use std::path::{Path, PathBuf};

use super::{
    DEV_TOKENS, GUEST_SECRET_FILE, GUEST_SECRET_PREVIOUS_FILE, JWKS_FILE, JWT_AUDIENCE, JWT_HS256_SECRET,
    JWT_HS256_SECRET_FILE, JWT_ISSUER, Reader,
};

/// The keys that user tokens are verified by; none means that there are no users.
#[derive(Clone, Debug, Default)]
pub struct UserKeys {
    /// A JSON Web Key Set.
    pub jwks: Option<KeySetFile>,
    /// A shared secret.
    pub hs256_secret: Option<Secret>,
    /// What else a token must say of itself.
    pub issuer: Issuer,
}

/// The file of a key set, and what was in it at the start.
#[derive(Clone, Debug)]
pub struct KeySetFile {
    /// Where it is.
    pub path: PathBuf,
    /// What was in it.
    pub text: String,
}

/// The secrets of guest tokens.
#[derive(Clone, Debug)]
pub struct GuestSecrets {
    /// Signs and verifies.
    pub current: Secret,
    /// Verifies only: signed before the other one did.
    pub previous: Option<Secret>,
}

/// The issuer (`iss`) and audience (`aud`) that a user token must name.
#[derive(Clone, Debug, Default)]
pub struct Issuer {
    /// `iss`.
    pub name: Option<String>,
    /// `aud`.
    pub audience: Option<String>,
}

/// A secret: it does not show itself in logs.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Shorter secrets can be guessed by trying.
const SECRET_BYTES_MIN: usize = 32;

impl Reader<'_> {
    pub(super) fn user_keys(&mut self) -> UserKeys {
        let jwks = self.text(JWKS_FILE).map(PathBuf::from).and_then(|path| {
            let text = self.file(JWKS_FILE, &path)?;
            Some(KeySetFile { path, text })
        });
        let hs256_secret = self.hs256_secret();
        let issuer = Issuer { name: self.text(JWT_ISSUER), audience: self.text(JWT_AUDIENCE) };
        if self.text(DEV_TOKENS).as_deref() == Some("on")
            && (issuer.name.is_some() || issuer.audience.is_some())
        {
            self.errors.push(format!("{DEV_TOKENS}: its tokens have no issuer and no audience"));
        }
        UserKeys { jwks, hs256_secret, issuer }
    }

    fn hs256_secret(&mut self) -> Option<Secret> {
        let text = self.text_or_file(JWT_HS256_SECRET, JWT_HS256_SECRET_FILE)?;
        self.secret(JWT_HS256_SECRET, text)
    }

    /// What has a secret in it, by itself or in a file: an environment is shown to more people and programs.
    pub(super) fn text_or_file(&mut self, name: &str, in_file: &str) -> Option<String> {
        let Some(path) = self.text(in_file) else {
            return self.text(name);
        };
        if self.is_set(name) {
            return self.wrong(in_file, &format!("not together with {name}"));
        }
        self.file(in_file, Path::new(&path)).map(|text| text.trim().to_owned())
    }

    fn is_set(&self, name: &str) -> bool {
        (self.lookup)(name).is_some_and(|text| !text.trim().is_empty())
    }

    pub(super) fn guest_secrets(&mut self) -> Option<GuestSecrets> {
        let current = self.secret_file(GUEST_SECRET_FILE, true);
        let previous = self.secret_file(GUEST_SECRET_PREVIOUS_FILE, false);
        Some(GuestSecrets { current: current?, previous })
    }

    pub(super) fn secret_file(&mut self, name: &str, required: bool) -> Option<Secret> {
        let path = if required { self.required(name)? } else { self.text(name)? };
        let text = self.file(name, Path::new(&path))?;
        self.secret(name, text.trim().to_owned())
    }

    fn secret(&mut self, name: &str, text: String) -> Option<Secret> {
        if text.len() < SECRET_BYTES_MIN {
            return self.wrong(name, &format!("at least {SECRET_BYTES_MIN} bytes are needed"));
        }
        Some(Secret(text))
    }
}
