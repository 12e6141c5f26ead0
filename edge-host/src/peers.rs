//! Who the regions are to each other: certificates of a private CA, and the TLS that is made of them.
//!
//! A region's certificate names it as `<region>.troli.internal`, and proves an edge both to those it asks and to
//! those who ask it. Nobody but this one CA is believed, and nothing older than TLS 1.3 is spoken.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use region_router::topology::{RegionId, Topology};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tracing::{error, info, warn};

/// What regions speak with each other: HTTP/2, and nothing else.
const ALPN: &[u8] = b"h2";
/// New certificates are in use so long after their files were written: they are made days before the old ones
/// end, and three small files cost nothing to look at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A certificate that ends so soon is a warning. `deploy/certificates` renews a week before the end, and is called daily.
const ENDS_SOON: Duration = Duration::from_secs(6 * 24 * 3600);
/// The log repeats that a certificate ends, or has ended, this often.
const SAY_EVERY: Duration = Duration::from_secs(24 * 3600);
/// No certificate is good for longer: a century.
const GOOD_FOR_MAX_S: u64 = 100 * 365 * 24 * 3600;

/// Makes the one implementation of cryptography here the default of this process. Some libraries ask for one, even
/// where they speak no TLS.
pub fn use_ring() {
    // Fails where there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The name that a region's certificate has.
pub fn name_of(region: RegionId) -> ServerName<'static> {
    ServerName::try_from(format!("{region}.troli.internal")).expect("a region id is a DNS label")
}

/// Which region has sent a request, by its certificate.
#[derive(Clone, Copy, Debug)]
pub struct AskedBy(pub RegionId);

/// The region that a certificate is of. One that would do for several, such as with `*.troli.internal`, says
/// nothing.
pub fn region_of(certificate: &CertificateDer<'_>, topology: &Topology) -> Option<RegionId> {
    let certificate = ParsedCertificate::try_from(certificate).ok()?;
    let names =
        |region: &RegionId| rustls::client::verify_server_name(&certificate, &name_of(*region)).is_ok();
    let mut named = topology.regions().iter().map(|region| region.id).filter(names);
    named.next().filter(|_| named.next().is_none())
}

/// Where the certificates of a region are, all in PEM.
#[derive(Clone, Debug)]
pub struct PeerFiles {
    /// The region's certificate, and those between it and the CA.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
    /// The CA; several, while one takes over from another.
    pub ca: PathBuf,
}

/// One of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the files")]
pub enum PeerFile {
    Certificate,
    Key,
    Ca,
}

/// What is wrong with a file. Nothing of what is in it is repeated.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{why}")]
pub struct PeerFileError {
    /// The file.
    pub file: PeerFile,
    why: String,
}

/// The TLS of a region, both as the one who asks and as the one who is asked. It follows its files.
pub struct PeerTls {
    region: RegionId,
    files: PeerFiles,
    current: ArcSwap<Sides>,
}

struct Sides {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    /// The last second of the certificate and of those that it depends on, since 1970.
    last_s: u64,
}

/// How long a certificate is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Validity {
    /// For long.
    Good,
    /// Not for long; in words.
    EndsSoon(String),
    /// It has ended: other regions refuse new connections. In words.
    Ended(String),
}

impl PeerTls {
    /// Reads the files. They have to fit together, and to be this region's.
    ///
    /// # Errors
    /// Every mistake that can be told at once.
    pub fn load(region: RegionId, files: PeerFiles) -> Result<Self, Vec<PeerFileError>> {
        let sides = Pems::read(&files).and_then(|pems| pems.sides(region))?;
        Ok(Self { region, files, current: ArcSwap::from_pointee(sides) })
    }

    /// For connections from other regions.
    pub fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.load().server)
    }

    /// For connections to other regions.
    pub fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.current.load().client)
    }

    /// How long the certificate is good for, by the clock of this host.
    pub fn validity(&self) -> Validity {
        let (last_s, now_s) = (self.current.load().last_s, UnixTime::now().as_secs());
        match last_s.checked_sub(now_s) {
            None => {
                Validity::Ended(format!("the certificate between regions has ended {} s ago", now_s - last_s))
            }
            Some(left_s) if left_s < ENDS_SOON.as_secs() => {
                Validity::EndsSoon(format!("the certificate between regions ends in {left_s} s"))
            }
            Some(_) => Validity::Good,
        }
    }

    /// Takes new files for new connections; those that are open stay. Says when the certificate ends. For ever.
    pub async fn follow(&self) {
        let mut seen = None;
        let mut said = None;
        loop {
            said = self.say_validity(said);
            let pems = Pems::read(&self.files);
            // Files that are being replaced do not fit together for a moment.
            if let Ok(pems) = pems
                && seen.as_ref() != Some(&pems)
            {
                match pems.sides(self.region) {
                    Ok(sides) => {
                        self.current.store(Arc::new(sides));
                        if seen.is_some() {
                            info!("new certificates between regions");
                        }
                    }
                    Err(mistakes) => {
                        for mistake in mistakes {
                            warn!(file = ?mistake.file, error = %mistake, "certificate not taken, the old ones stay");
                        }
                    }
                }
                seen = Some(pems);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl PeerTls {
    /// Logs a certificate that ends, when that is news and once a day; returns what was said and when.
    fn say_validity(&self, said: Option<(bool, Instant)>) -> Option<(bool, Instant)> {
        let validity = self.validity();
        let ended = matches!(validity, Validity::Ended(_));
        if said.is_some_and(|(said_ended, at)| said_ended == ended && at.elapsed() < SAY_EVERY) {
            return said.filter(|_| validity != Validity::Good);
        }
        match validity {
            Validity::Good => return None,
            Validity::EndsSoon(what) => {
                warn!(certificate = what, "make a new certificate: see deploy/certificates")
            }
            Validity::Ended(what) => {
                error!(certificate = what, "other regions refuse this one: see deploy/certificates")
            }
        }
        Some((ended, Instant::now()))
    }
}

impl fmt::Debug for PeerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerTls")
            .field("region", &self.region)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

/// What is in the files.
#[derive(PartialEq, Eq)]
struct Pems {
    certificate: Vec<u8>,
    key: Vec<u8>,
    ca: Vec<u8>,
}

impl Pems {
    fn read(files: &PeerFiles) -> Result<Self, Vec<PeerFileError>> {
        let mut mistakes = Vec::new();
        let mut read = |file: PeerFile, path: &Path| {
            let cannot = |error| wrong(file, format!("cannot read {}: {error}", path.display()));
            std::fs::read(path).map_err(cannot).map_err(|mistake| mistakes.push(mistake)).ok()
        };
        let certificate = read(PeerFile::Certificate, &files.certificate);
        let key = read(PeerFile::Key, &files.key);
        let ca = read(PeerFile::Ca, &files.ca);
        match (certificate, key, ca) {
            (Some(certificate), Some(key), Some(ca)) => Ok(Self { certificate, key, ca }),
            _ => Err(mistakes),
        }
    }

    fn sides(&self, region: RegionId) -> Result<Sides, Vec<PeerFileError>> {
        let parts = (
            certificates(PeerFile::Certificate, &self.certificate),
            PrivateKeyDer::from_pem_slice(&self.key)
                .map_err(|_| wrong(PeerFile::Key, "no private key can be read from it")),
            certificates(PeerFile::Ca, &self.ca).and_then(roots),
        );
        match parts {
            (Ok(chain), Ok(key), Ok(roots)) => {
                sides(region, chain, key, &Arc::new(roots)).map_err(|mistake| vec![mistake])
            }
            (chain, key, roots) => Err([chain.err(), key.err(), roots.err()].into_iter().flatten().collect()),
        }
    }
}

fn certificates(file: PeerFile, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PeerFileError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.unwrap_or_default();
    if read.is_empty() { Err(wrong(file, "no certificate can be read from it")) } else { Ok(read) }
}

fn roots(certificates: Vec<CertificateDer<'static>>) -> Result<RootCertStore, PeerFileError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(|error| wrong(PeerFile::Ca, error.to_string()))?;
    }
    Ok(roots)
}

fn sides(
    region: RegionId,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: &Arc<RootCertStore>,
) -> Result<Sides, PeerFileError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let of_ca = |error: rustls::server::VerifierBuilderError| wrong(PeerFile::Ca, error.to_string());
    let callers = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(&provider));
    let callers = callers.build().map_err(of_ca)?;
    let called = WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(&provider));
    let called = called.build().map_err(of_ca)?;

    // What the others would find out only when they are asked, and say only in their own logs.
    let now = UnixTime::now();
    let [own, between @ ..] = chain.as_slice() else {
        return Err(wrong(PeerFile::Certificate, "no certificate can be read from it"));
    };
    let verified = |at| {
        let called = called.verify_server_cert(own, between, &name_of(region), &[], at).map(|_| ());
        called.and_then(|()| callers.verify_client_cert(own, between, at).map(|_| ()))
    };
    verified(now)
        .map_err(|error| wrong(PeerFile::Certificate, format!("other regions would refuse it: {error}")))?;
    let last_s = last_good(now.as_secs(), |at_s| {
        verified(UnixTime::since_unix_epoch(Duration::from_secs(at_s))).is_ok()
    });
    let identity = identity(chain, key, &provider)?;

    let versions = [&rustls::version::TLS13];
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .expect("the provider speaks TLS 1.3")
        .with_client_cert_verifier(callers)
        .with_cert_resolver(Arc::clone(&identity) as _);
    server.alpn_protocols = vec![ALPN.to_vec()];
    // A connection is kept for hours, so a shorter handshake gains nothing; and nobody comes in by an old proof.
    server.send_tls13_tickets = 0;
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .expect("the provider speaks TLS 1.3")
        .with_webpki_verifier(called)
        .with_client_cert_resolver(identity);
    client.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Sides { server: Arc::new(server), client: Arc::new(client), last_s })
}

/// The last second at which something holds that holds now and ends once. The verifier says only whether a certificate is
/// good at a time, which takes into account all that it depends on.
fn last_good(now_s: u64, is_good: impl Fn(u64) -> bool) -> u64 {
    let (mut good, mut past) = (now_s, now_s + GOOD_FOR_MAX_S);
    while past - good > 1 {
        let between = good + (past - good) / 2;
        if is_good(between) { good = between } else { past = between }
    }
    good
}

fn identity(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<Arc<SingleCertAndKey>, PeerFileError> {
    let certified = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => wrong(PeerFile::Key, "is not the key of the certificate"),
        _ => wrong(PeerFile::Key, "is not a key that can be used"),
    })?;
    Ok(Arc::new(SingleCertAndKey::from(certified)))
}

fn wrong(file: PeerFile, why: impl Into<String>) -> PeerFileError {
    PeerFileError { file, why: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_good_second_is_found() {
        for last in [1_000, 1_001, 1_000_000, 1_000 + GOOD_FOR_MAX_S - 1] {
            assert_eq!(last_good(1_000, |at| at <= last), last);
        }
    }
}
