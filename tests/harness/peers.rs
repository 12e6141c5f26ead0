use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use reqwest::{Certificate, Client, Identity};

use crate::Caller;
use crate::caller::CALLER_PATIENCE;

/// A CA that vouches for regions.
#[derive(Debug)]
pub struct PeerCa {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub struct PeerIdentity {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

/// The CA of all fleets of this process.
pub fn peer_ca() -> &'static PeerCa {
    static CA: LazyLock<PeerCa> = LazyLock::new(PeerCa::new);
    &CA
}

impl PeerCa {
    /// A CA that nobody knows yet.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key can be made");
        Self { issuer: CertifiedIssuer::self_signed(params, key).expect("a CA can sign itself") }
    }

    /// The CA's own certificate, in PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for a region.
    pub fn region(&self, id: &str) -> PeerIdentity {
        self.name(&format!("{id}.troli.internal"))
    }

    /// A certificate for any name.
    pub fn name(&self, name: &str) -> PeerIdentity {
        self.signed(CertificateParams::new([name.to_owned()]).expect("a name of DNS"))
    }

    /// A certificate for a region that ends so soon.
    pub fn region_for(&self, id: &str, good_for: Duration) -> PeerIdentity {
        let mut params = CertificateParams::new([format!("{id}.troli.internal")]).expect("a name of DNS");
        params.not_after = (SystemTime::now() + good_for).into();
        self.signed(params)
    }

    fn signed(&self, mut params: CertificateParams) -> PeerIdentity {
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.issuer).expect("a CA can sign");
        PeerIdentity { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// Writes what a region needs into a directory, and returns the settings that name it.
    pub fn write(&self, id: &str, directory: &Path) -> [(&'static str, String); 3] {
        self.write_identity(id, &self.region(id), directory)
    }

    /// The same with a certificate that was made before.
    pub fn write_identity(
        &self,
        id: &str,
        PeerIdentity { certificate, key }: &PeerIdentity,
        directory: &Path,
    ) -> [(&'static str, String); 3] {
        let file = |name: &str, content: &str| {
            let path = directory.join(format!("peer-{id}{name}.pem"));
            let beside = path.with_extension("saving");
            fs::write(&beside, content).expect("the directory can be written to");
            fs::rename(&beside, &path).expect("a file can be renamed in its directory");
            path.display().to_string()
        };
        [
            ("TROLI_PEER_CERT_FILE", file("", certificate)),
            ("TROLI_PEER_KEY_FILE", file("-key", key)),
            ("TROLI_PEER_CA_FILE", file("-ca", &self.pem())),
        ]
    }
}

impl Default for PeerCa {
    fn default() -> Self {
        Self::new()
    }
}

/// A caller of the peer listener of a region, who believes a CA, with a certificate or none.
pub(crate) fn peer_caller(
    region: &str,
    listener: SocketAddr,
    believes: &PeerCa,
    shows: Option<&PeerIdentity>,
) -> Caller {
    let host = format!("{region}.troli.internal");
    let ca = Certificate::from_pem(believes.pem().as_bytes()).expect("the CA is a certificate");
    edge_host::peers::use_ring();
    let mut client =
        Client::builder().no_proxy().timeout(CALLER_PATIENCE).tls_certs_only([ca]).resolve(&host, listener);
    if let Some(PeerIdentity { certificate, key }) = shows {
        let pem = format!("{certificate}\n{key}");
        client = client.identity(Identity::from_pem(pem.as_bytes()).expect("a certificate and its key"));
    }
    let client = client.build().expect("an HTTP client can be set up");
    Caller::over(client, format!("https://{host}:{}", listener.port()))
}
