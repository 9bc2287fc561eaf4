//! Who is who in a cluster of a test: an authority, and certificates by it.

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};

/// A certificate with its key, in PEM.
#[derive(Debug)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

/// What signs all certificates of a cluster.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    /// A new one, with a key of its own.
    ///
    /// # Errors
    ///
    /// Fails if no key can be made.
    pub fn new() -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut wanted = CertificateParams::default();
        wanted.distinguished_name = named("cluster of a test", None);
        wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        wanted.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let certificate = wanted.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(wanted, key), certificate })
    }

    /// Its own certificate, in PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// For a server of these host names and addresses.
    ///
    /// # Errors
    ///
    /// Fails if a name is not valid.
    pub fn server(&self, names: &[&str]) -> Result<Identity> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut wanted = CertificateParams::new(names)?;
        wanted.distinguished_name = named("server", None);
        self.sign(wanted, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// For a user of the API, who may belong to a group.
    ///
    /// # Errors
    ///
    /// Fails if no key can be made.
    pub fn user(&self, name: &str, group: Option<&str>) -> Result<Identity> {
        let mut wanted = CertificateParams::default();
        wanted.distinguished_name = named(name, group);
        self.sign(wanted, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(&self, mut it: CertificateParams, usage: ExtendedKeyUsagePurpose) -> Result<Identity> {
        it.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        it.extended_key_usages = vec![usage];
        it.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = it.signed_by(&key, &self.issuer)?.pem();
        Ok(Identity { certificate, key: key.serialize_pem() })
    }
}

/// A private key and its public one, in PEM.
///
/// # Errors
///
/// Fails if no key can be made.
pub fn keys() -> Result<[String; 2]> {
    let pair = KeyPair::generate()?;
    Ok([pair.serialize_pem(), pair.public_key_pem()])
}

fn named(name: &str, group: Option<&str>) -> DistinguishedName {
    let mut all = DistinguishedName::new();
    all.push(DnType::CommonName, name);
    if let Some(group) = group {
        all.push(DnType::OrganizationName, group);
    }
    all
}
