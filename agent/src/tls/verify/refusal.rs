//! Why an upstream is refused: one sentence for the record, one remedy, one TLS alert for the client.
//!
//! Words from the other side (names, issuers) come from a stranger: they are escaped and cut before they are kept.

use rustls::AlertDescription;

/// Most names of a certificate that a message repeats.
const NAMES: usize = 8;
/// Longest piece of a stranger's text that a message repeats, in characters.
const TEXT: usize = 120;

/// Why the upstream's certificate is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Validity ended (RFC 5280 §4.1.2.5), in the leaf or in an issuer.
    #[error("the upstream's certificate, or one of its issuers, expired at {not_after}")]
    Expired {
        /// RFC 3339, UTC.
        not_after: String,
    },
    /// Validity has not begun.
    #[error("the upstream's certificate, or one of its issuers, is not valid before {not_before}")]
    NotYetValid {
        /// RFC 3339, UTC.
        not_before: String,
    },
    /// Issued by its own key and not trusted.
    #[error("the upstream's certificate is self-signed ({subject}) and not among the trusted roots")]
    SelfSigned {
        /// Distinguished name.
        subject: String,
    },
    /// No chain to a root.
    #[error("no trusted root issued the upstream's certificate (its issuer: {issuer})")]
    UnknownIssuer {
        /// Distinguished name.
        issuer: String,
    },
    /// The chain would end in this agent's own CA.
    #[error("the upstream's certificate comes from this host's own Sluice CA")]
    OwnCa,
    /// Valid for other names only (RFC 9525).
    #[error("the upstream's certificate is not valid for {wanted}; it is for {}", .names.join(", "))]
    WrongName {
        /// Name or address that was asked for.
        wanted: String,
        /// What the certificate has.
        names: Vec<String>,
    },
    /// The only match is a wildcard over all of a registry's customers.
    #[error(
        "the upstream's certificate matches {wanted} only by the wildcard *.{suffix}, which covers a whole registry"
    )]
    WildcardOverSuffix {
        /// Name that was asked for.
        wanted: String,
        /// The public suffix.
        suffix: String,
    },
    /// Revoked by its issuer.
    #[error("the upstream's certificate was revoked by its issuer ({by})")]
    Revoked {
        /// `stapled OCSP response` or `CRL`.
        by: &'static str,
    },
    /// A list of revoked certificates that is configured cannot be used for a certificate that it is about.
    #[error("whether the upstream's certificate is revoked cannot be told: {why}")]
    RevocationUnknown {
        /// What is wrong with the list.
        why: String,
    },
    /// The certificate demands a stapled OCSP response (RFC 7633) and none that is good came.
    #[error("the upstream's certificate demands a stapled OCSP response, and {why}")]
    StapleMissing {
        /// What came instead.
        why: String,
    },
    /// A key that can be broken, or of a kind that nobody should use.
    #[error("{whose} has a key that is too weak: {key}")]
    WeakKey {
        /// `the upstream's certificate` or the issuer's name.
        whose: String,
        /// Kind and size.
        key: String,
    },
    /// No extended key usage at all.
    #[error("the upstream's certificate does not say what it is for (no extendedKeyUsage)")]
    MissingUsage,
    /// anyExtendedKeyUsage.
    #[error("the upstream's certificate is for any use at all (anyExtendedKeyUsage)")]
    AnyUsage,
    /// For something else than servers.
    #[error("the upstream's certificate is not for TLS servers (no serverAuth in its extendedKeyUsage)")]
    WrongUsage,
    /// A CA's certificate where a server's belongs.
    #[error("the upstream presents a CA certificate (CA:TRUE) as its own")]
    CaAsLeaf,
    /// A server's certificate that may sign others.
    #[error("the upstream's certificate may sign other certificates (keyCertSign)")]
    SigningLeaf,
    /// RFC 5280 §4.2.1.10 allows name constraints in CA certificates only.
    #[error("the upstream's certificate has name constraints, which only a CA may have")]
    ConstrainedLeaf,
    /// RFC 5280 §4.1.2.2: positive and at most 20 octets.
    #[error("{whose} has a serial number that is zero, negative or longer than 20 octets")]
    Serial {
        /// `the upstream's certificate` or the issuer's name.
        whose: String,
    },
    /// Against the grammar of certificates.
    #[error("{whose} is malformed: {what}")]
    Malformed {
        /// `the upstream's certificate` or the issuer's name.
        whose: String,
        /// What is wrong.
        what: String,
    },
    /// Any other fault in the chain, in the words of the verifier.
    #[error("the upstream's certificate chain is not valid: {what}")]
    Chain {
        /// What is wrong.
        what: String,
    },
}

impl Refusal {
    /// What somebody can do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Expired { .. } | Self::NotYetValid { .. } => {
                "renew the server's certificate, or set this host's clock right"
            }
            Self::SelfSigned { .. } | Self::UnknownIssuer { .. } => {
                "if the server is yours, add the CA that issued its certificate to this host's trust store or to Sluice's \
                 extra roots, and let the server send its intermediates"
            }
            Self::OwnCa => {
                "the connection loops through Sluice, or its CA's key was copied: see where the destination leads"
            }
            Self::WrongName { .. } => {
                "connect by a name that the certificate has, or issue one with this name in subjectAltName"
            }
            Self::WildcardOverSuffix { .. } => "issue a certificate for the name itself",
            Self::Revoked { .. } => "replace the server's certificate and key",
            Self::RevocationUnknown { .. } => "bring the configured CRL up to date",
            Self::StapleMissing { .. } => {
                "turn on OCSP stapling at the server, or issue a certificate without must-staple"
            }
            Self::WeakKey { .. } => {
                "issue it anew with RSA of 2048 bits or more, or with P-256, P-384 or Ed25519"
            }
            Self::MissingUsage | Self::AnyUsage | Self::WrongUsage => {
                "issue the certificate with extendedKeyUsage=serverAuth"
            }
            Self::CaAsLeaf => "issue the server a certificate of its own with basicConstraints=CA:FALSE",
            Self::SigningLeaf => "issue the certificate with keyUsage=digitalSignature",
            Self::ConstrainedLeaf => "issue the certificate without nameConstraints",
            Self::Serial { .. } => "issue it anew with a positive serial number of at most 20 octets",
            Self::Malformed { .. } | Self::Chain { .. } => {
                "issue the certificate anew with a current CA tool"
            }
        }
    }

    /// The alert that says it to the client (RFC 8446 §6.2).
    pub fn alert(&self) -> AlertDescription {
        match self {
            Self::Expired { .. } | Self::NotYetValid { .. } => AlertDescription::CertificateExpired,
            Self::SelfSigned { .. } | Self::UnknownIssuer { .. } | Self::OwnCa => AlertDescription::UnknownCA,
            Self::Revoked { .. } => AlertDescription::CertificateRevoked,
            Self::RevocationUnknown { .. } => AlertDescription::CertificateUnknown,
            Self::StapleMissing { .. } => AlertDescription::BadCertificateStatusResponse,
            Self::WeakKey { .. } => AlertDescription::InsufficientSecurity,
            Self::MissingUsage | Self::AnyUsage | Self::WrongUsage => {
                AlertDescription::UnsupportedCertificate
            }
            Self::WrongName { .. }
            | Self::WildcardOverSuffix { .. }
            | Self::CaAsLeaf
            | Self::SigningLeaf
            | Self::ConstrainedLeaf
            | Self::Serial { .. }
            | Self::Malformed { .. }
            | Self::Chain { .. } => AlertDescription::BadCertificate,
        }
    }
}

/// A stranger's text, fit for a message: control characters escaped, cut at a length.
pub(super) fn plain(text: &str) -> String {
    let mut out: String = text.chars().take(TEXT).flat_map(char::escape_debug).collect();
    if text.chars().nth(TEXT).is_some() {
        out.push('…');
    }
    out
}

/// A stranger's list of names, fit for a message.
pub(super) fn plain_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut names = names.into_iter();
    let mut out: Vec<String> = names.by_ref().take(NAMES).map(plain).collect();
    let more = names.count();
    if more > 0 {
        out.push(format!("{more} more"));
    }
    if out.is_empty() {
        out.push("no name at all".to_owned());
    }
    out
}
