//! Certificates for tests: a root and what it issues.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, SubjectPublicKeyInfo,
};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::{Duration, OffsetDateTime};

use crate::wire::LeafRequest;

/// A root with its key.
pub struct Pki {
    pub root: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A server's certificate, its issuers and its key.
pub struct Server {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: KeyPair,
}

impl Pki {
    pub fn new(common_name: &str) -> Self {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let root = params.self_signed(&key).expect("root").der().clone();
        Self { root: root.clone(), issuer: Issuer::from_ca_cert_der(&root, key).expect("issuer") }
    }

    /// A self-signed server's certificate for `fixed.example.com`, as some hosts have among their roots.
    pub fn not_a_ca(common_name: &str) -> Self {
        let key = KeyPair::generate().expect("key");
        let mut params = good(&["fixed.example.com"]);
        params.use_authority_key_identifier_extension = false;
        params.distinguished_name.push(DnType::CommonName, common_name);
        let root = params.self_signed(&key).expect("root").der().clone();
        Self { root: root.clone(), issuer: Issuer::from_ca_cert_der(&root, key).expect("issuer") }
    }

    /// The root as a server's certificate.
    pub fn itself(&self) -> Server {
        let key = KeyPair::try_from(self.issuer.key().serialize_der()).expect("key");
        Server { chain: vec![self.root.clone()], key }
    }

    pub fn root_pem(&self) -> String {
        pem(&self.root)
    }

    /// A good server's certificate for `names`.
    pub fn server(&self, names: &[&str]) -> Server {
        self.server_with(names, |_| ())
    }

    /// One that `change` spoils.
    pub fn server_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Server {
        let key = KeyPair::generate().expect("key");
        let mut params = good(names);
        change(&mut params);
        let leaf = params.signed_by(&key, &self.issuer).expect("leaf");
        Server { chain: vec![leaf.der().clone()], key }
    }

    /// What the warden would sign.
    pub fn sign_request(&self, request: &LeafRequest) -> Vec<u8> {
        let key = SubjectPublicKeyInfo::from_der(&request.public_key).expect("key");
        let mut params = good(&[&request.name]);
        params.not_after = OffsetDateTime::from_unix_timestamp(request.not_after).expect("time");
        params.signed_by(&key, &self.issuer).expect("leaf").der().to_vec()
    }
}

/// Parameters of a good server's certificate.
pub fn good(names: &[&str]) -> CertificateParams {
    let mut params =
        CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).expect("names");
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::DAY;
    params.not_after = now + Duration::days(30);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "a server");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params
}

/// A wildcard that rcgen's own name check would not let through.
pub fn wildcard(pattern: &str) -> SanType {
    SanType::DnsName(pattern.try_into().expect("pattern"))
}

/// The TLS feature extension that demands a staple.
pub fn must_staple() -> CustomExtension {
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 24], vec![0x30, 3, 2, 1, 5])
}

impl Server {
    /// A self-signed one.
    pub fn self_signed(names: &[&str]) -> Self {
        let key = KeyPair::generate().expect("key");
        let leaf = good(names).self_signed(&key).expect("leaf");
        Self { chain: vec![leaf.der().clone()], key }
    }

    pub fn config(&self, alpn: &[&str]) -> Arc<ServerConfig> {
        Arc::new(self.bare(alpn))
    }

    pub fn bare(&self, alpn: &[&str]) -> ServerConfig {
        let mut config = self
            .builder()
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.secret())
            .expect("cert");
        config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        config
    }

    pub fn builder(&self) -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("versions")
    }

    pub fn secret(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.serialize_der().into())
    }
}

pub fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}
