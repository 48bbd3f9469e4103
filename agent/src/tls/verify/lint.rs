//! What certificates must be beyond what webpki checks: rules on one certificate at a time, each with its source.
//!
//! Three readers: [`leaf`] for the server's certificate, [`issuer`] for an intermediate, [`root`] for a trusted root.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use x509_parser::der_parser::asn1_rs::{Any, Oid, oid};
use x509_parser::extensions::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, GeneralName, KeyIdentifier, KeyUsage,
    NameConstraints, ParsedExtension, SubjectAlternativeName,
};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::SubjectPublicKeyInfo;

use super::Refusal;
use super::refusal::plain;

/// How the server's own certificate is called in messages.
pub const LEAF: &str = "the upstream's certificate";

/// TLS feature (RFC 7633).
const TLS_FEATURE: Oid<'static> = oid!(1.3.6.1.5.5.7.1.24);
/// The feature status_request: must-staple.
const STATUS_REQUEST: u32 = 5;

/// The extensions that the rules look at, read once.
#[derive(Default)]
struct Extensions<'c> {
    authority: Option<&'c AuthorityKeyIdentifier<'c>>,
    subject_key: Option<&'c KeyIdentifier<'c>>,
    usage: Option<&'c KeyUsage>,
    purposes: Option<&'c ExtendedKeyUsage<'c>>,
    basic: Option<&'c BasicConstraints>,
    names: Option<(bool, &'c SubjectAlternativeName<'c>)>,
    constraints: Option<&'c NameConstraints<'c>>,
    /// policyConstraints that are not critical.
    loose_policy: bool,
    unknown_critical: bool,
}

impl<'c> Extensions<'c> {
    fn read(certificate: &'c X509Certificate<'_>) -> Result<Self, &'static str> {
        let mut seen = Self::default();
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(_) if extension.critical => {
                    return Err("its authorityKeyIdentifier is critical (RFC 5280 §4.2.1.1)");
                }
                ParsedExtension::SubjectKeyIdentifier(_) if extension.critical => {
                    return Err("its subjectKeyIdentifier is critical (RFC 5280 §4.2.1.2)");
                }
                ParsedExtension::AuthorityKeyIdentifier(id) => seen.authority = Some(id),
                ParsedExtension::SubjectKeyIdentifier(id) => seen.subject_key = Some(id),
                ParsedExtension::KeyUsage(usage) => seen.usage = Some(usage),
                ParsedExtension::ExtendedKeyUsage(purposes) => seen.purposes = Some(purposes),
                ParsedExtension::BasicConstraints(basic) => seen.basic = Some(basic),
                ParsedExtension::SubjectAlternativeName(names) => {
                    seen.names = Some((extension.critical, names))
                }
                ParsedExtension::NameConstraints(constraints) => seen.constraints = Some(constraints),
                ParsedExtension::PolicyConstraints(_) => seen.loose_policy = !extension.critical,
                ParsedExtension::ParseError { .. } => {
                    if let Some(what) = unreadable(&extension.oid) {
                        return Err(what);
                    }
                    seen.unknown_critical |= extension.critical;
                }
                ParsedExtension::UnsupportedExtension { .. } | ParsedExtension::Unparsed => {
                    seen.unknown_critical |= extension.critical;
                }
                _ => {}
            }
        }
        if seen.constraints.is_some_and(|c| {
            c.permitted_subtrees.as_ref().is_none_or(Vec::is_empty)
                && c.excluded_subtrees.as_ref().is_none_or(Vec::is_empty)
        }) {
            return Err("its nameConstraints are empty (RFC 5280 §4.2.1.10)");
        }
        Ok(seen)
    }
}

/// The complaint about an extension that the rules need and that cannot be read; `None` for one that they do not need.
fn unreadable(oid: &Oid<'_>) -> Option<&'static str> {
    use x509_parser::oid_registry as o;
    Some(match oid {
        _ if *oid == o::OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER => "its authorityKeyIdentifier cannot be read",
        _ if *oid == o::OID_X509_EXT_SUBJECT_KEY_IDENTIFIER => "its subjectKeyIdentifier cannot be read",
        _ if *oid == o::OID_X509_EXT_KEY_USAGE => "its keyUsage cannot be read",
        _ if *oid == o::OID_X509_EXT_EXTENDED_KEY_USAGE => "its extendedKeyUsage cannot be read",
        _ if *oid == o::OID_X509_EXT_BASIC_CONSTRAINTS => "its basicConstraints cannot be read",
        _ if *oid == o::OID_X509_EXT_SUBJECT_ALT_NAME => "its subjectAltName cannot be read",
        _ if *oid == o::OID_X509_EXT_NAME_CONSTRAINTS => "its nameConstraints are empty or cannot be read",
        _ if *oid == o::OID_PKIX_AUTHORITY_INFO_ACCESS => "its authorityInfoAccess cannot be read",
        _ => return None,
    })
}

/// The rules for the server's certificate.
pub fn leaf(certificate: &X509Certificate<'_>) -> Result<(), Refusal> {
    let malformed = |what: &str| Refusal::Malformed { whose: LEAF.to_owned(), what: what.to_owned() };
    let seen = Extensions::read(certificate).map_err(malformed)?;
    serial(certificate, LEAF)?;
    key(certificate.public_key()).map_err(|key| Refusal::WeakKey { whose: LEAF.to_owned(), key })?;
    if seen.basic.is_some_and(|b| b.ca) {
        return Err(Refusal::CaAsLeaf);
    }
    if seen.usage.is_some_and(KeyUsage::key_cert_sign) {
        return Err(Refusal::SigningLeaf);
    }
    if seen.constraints.is_some() {
        return Err(Refusal::ConstrainedLeaf);
    }
    match seen.purposes {
        None => return Err(Refusal::MissingUsage),
        Some(p) if p.any => return Err(Refusal::AnyUsage),
        Some(p) if !p.server_auth => return Err(Refusal::WrongUsage),
        Some(_) => {}
    }
    if empty(certificate.subject().as_raw()) && seen.names.is_some_and(|(critical, _)| !critical) {
        return Err(malformed(
            "its subject is empty and its subjectAltName not critical (RFC 5280 §4.2.1.6)",
        ));
    }
    // Python 3.13 and later (VERIFY_X509_STRICT) refuse these, so a client behind us would: RFC 5280 §4.2.1.1.
    if !self_issued(certificate) && seen.authority.is_none_or(|a| a.key_identifier.is_none()) {
        return Err(malformed(
            "it has no authorityKeyIdentifier (RFC 5280 §4.2.1.1; Python 3.13 refuses it too)",
        ));
    }
    if let Some(name) = odd_address(certificate) {
        return Err(malformed(&format!(
            "its common name {} spells an IP address in an unusual way",
            plain(name)
        )));
    }
    Ok(())
}

/// The rules for an intermediate.
pub fn issuer(certificate: &X509Certificate<'_>) -> Result<(), Refusal> {
    let whose = || format!("the issuer {}", plain(&certificate.subject().to_string()));
    let malformed = |what: &str| Refusal::Malformed { whose: whose(), what: what.to_owned() };
    let seen = Extensions::read(certificate).map_err(malformed)?;
    serial(certificate, &whose())?;
    key(certificate.public_key()).map_err(|key| Refusal::WeakKey { whose: whose(), key })?;
    if empty(certificate.subject().as_raw()) {
        return Err(malformed("a CA with an empty subject (RFC 5280 §4.1.2.6)"));
    }
    if !self_issued(certificate) && seen.authority.is_none_or(|a| a.key_identifier.is_none()) {
        return Err(malformed(
            "it has no authorityKeyIdentifier (RFC 5280 §4.2.1.1; Python 3.13 refuses it too)",
        ));
    }
    // webpki knows no policies and refuses critical ones; RFC 5280 §4.2.1.11 demands that they be critical, so one that
    // is not must not slip through unheeded.
    if seen.loose_policy {
        return Err(malformed("its policyConstraints are not critical (RFC 5280 §4.2.1.11)"));
    }
    if seen.subject_key.is_none() {
        return Err(malformed(
            "a CA without subjectKeyIdentifier (RFC 5280 §4.2.1.2; Python 3.13 refuses it too)",
        ));
    }
    Ok(())
}

/// The rules for a trusted root: what makes it no root at all, in words. Age and oddities that the public roots of
/// Debian show (no subjectKeyIdentifier, basicConstraints not critical) are let through.
pub fn root(certificate: &X509Certificate<'_>) -> Result<(), String> {
    let seen = Extensions::read(certificate)?;
    if empty(certificate.subject().as_raw()) {
        return Err("a CA with an empty subject (RFC 5280 §4.1.2.6)".to_owned());
    }
    if seen.unknown_critical {
        return Err("it has a critical extension that is not known (RFC 5280 §4.2)".to_owned());
    }
    if seen.basic.is_some_and(|b| b.ca) && seen.usage.is_some_and(|u| !u.key_cert_sign()) {
        return Err("a CA whose keyUsage does not let it sign certificates (RFC 5280 §4.2.1.3)".to_owned());
    }
    key(certificate.public_key())?;
    match seen.authority {
        Some(authority)
            if self_issued(certificate) && !names_itself(certificate, authority, seen.subject_key) =>
        {
            Err("it is self-signed, and its authorityKeyIdentifier means another certificate".to_owned())
        }
        _ => Ok(()),
    }
}

/// Whether a root may sign CRLs: its keyUsage says so or is not there (RFC 5280 §4.2.1.3).
pub fn signs_crls(root: &X509Certificate<'_>) -> bool {
    root.key_usage().ok().flatten().is_none_or(|usage| usage.value.crl_sign())
}

/// Whether the certificate demands a stapled OCSP response (RFC 7633).
pub fn must_staple(certificate: &X509Certificate<'_>) -> bool {
    let feature = certificate.extensions().iter().find(|e| e.oid == TLS_FEATURE);
    feature.is_some_and(|extension| {
        let Ok((_, list)) = Any::from_der(extension.value) else { return false };
        let mut rest = list.data;
        while let Ok((after, one)) = Any::from_der(rest) {
            if one.as_u32().is_ok_and(|n| n == STATUS_REQUEST) {
                return true;
            }
            rest = after;
        }
        false
    })
}

fn self_issued(certificate: &X509Certificate<'_>) -> bool {
    certificate.subject().as_raw() == certificate.issuer().as_raw()
}

/// Whether a DER Name has no component.
fn empty(name: &[u8]) -> bool {
    name == [0x30, 0x00]
}

/// Whether each field of a self-signed root's authorityKeyIdentifier that is there is the root's own.
fn names_itself(
    certificate: &X509Certificate<'_>,
    authority: &AuthorityKeyIdentifier<'_>,
    own: Option<&KeyIdentifier<'_>>,
) -> bool {
    let key = match (&authority.key_identifier, own) {
        (Some(named), Some(own)) => named == own,
        (Some(_), None) => true,
        (None, _) => authority.authority_cert_issuer.is_some() && authority.authority_cert_serial.is_some(),
    };
    let issuer = authority.authority_cert_issuer.as_ref().is_none_or(|names| {
        names.iter().any(
            |n| matches!(n, GeneralName::DirectoryName(d) if d.as_raw() == certificate.subject().as_raw()),
        )
    });
    key && issuer && authority.authority_cert_serial.is_none_or(|serial| serial == certificate.raw_serial())
}

fn serial(certificate: &X509Certificate<'_>, whose: &str) -> Result<(), Refusal> {
    let digits = match certificate.raw_serial() {
        [0, rest @ ..] => rest,
        [first, ..] if first & 0x80 != 0 => &[], // negative
        all => all,
    };
    if (1..=20).contains(&digits.len()) { Ok(()) } else { Err(Refusal::Serial { whose: whose.to_owned() }) }
}

/// Whether a key is of a kind and size that is safe; else what it is.
fn key(key: &SubjectPublicKeyInfo<'_>) -> Result<(), String> {
    use x509_parser::oid_registry as o;
    const PSS: Oid<'static> = oid!(1.2.840.113549.1.1.10);
    const ML_DSA: [Oid<'static>; 3] =
        [oid!(2.16.840.1.101.3.4.3.17), oid!(2.16.840.1.101.3.4.3.18), oid!(2.16.840.1.101.3.4.3.19)];
    let kind = &key.algorithm.algorithm;
    if *kind == o::OID_PKCS1_RSAENCRYPTION || *kind == PSS {
        let bits = rsa_bits(key.subject_public_key.as_ref()).ok_or("an RSA key that cannot be read")?;
        return if bits >= 2048 && bits % 8 == 0 { Ok(()) } else { Err(format!("RSA of {bits} bits")) };
    }
    if *kind == o::OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve = key.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok());
        let good = [o::OID_EC_P256, o::OID_NIST_EC_P384, o::OID_NIST_EC_P521];
        return match curve {
            Some(curve) if good.contains(&curve) => Ok(()),
            Some(curve) => Err(format!("an elliptic curve that is not supported ({curve})")),
            None => Err("an elliptic curve of its own".to_owned()),
        };
    }
    if *kind == o::OID_SIG_ED25519 || ML_DSA.contains(kind) {
        return Ok(());
    }
    Err(if *kind == o::OID_KEY_TYPE_DSA {
        "DSA".to_owned()
    } else {
        format!("of an unsupported kind ({kind})")
    })
}

/// Bits of the modulus of a PKCS #1 RSAPublicKey.
fn rsa_bits(der: &[u8]) -> Option<usize> {
    let (_, pair) = Any::from_der(der).ok()?;
    let (_, modulus) = Any::from_der(pair.data).ok()?;
    let start = modulus.data.iter().position(|b| *b != 0)?;
    let digits = &modulus.data[start..];
    Some(digits.len() * 8 - digits[0].leading_zeros() as usize)
}

/// A common name that is an IP address in a spelling that readers differ on: hexadecimal or zero-padded IPv4, IPv6 not
/// as RFC 5952 writes it. Who still reads common names could take it for another host's address.
fn odd_address<'c>(certificate: &'c X509Certificate<'_>) -> Option<&'c str> {
    certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok()).find(|text| {
        let v6 = text.parse::<Ipv6Addr>().ok().map(|a| IpAddr::V6(a).to_string());
        let v4 = loose_v4(text).map(|a| a.to_string());
        v6.or(v4).is_some_and(|canonical| canonical != *text)
    })
}

/// Four dotted numbers, or one hexadecimal, as inet_aton(3) reads them. One decimal number is no address here: it is how
/// devices number themselves.
fn loose_v4(text: &str) -> Option<Ipv4Addr> {
    let whole = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    if let Some(number) = whole.and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
        return Some(number.into());
    }
    let mut octets = [0u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        let hex = part.strip_prefix("0x").or_else(|| part.strip_prefix("0X"));
        *octet = match hex {
            Some(digits) => u8::from_str_radix(digits, 16).ok()?,
            None => part.parse().ok()?,
        };
    }
    parts.next().is_none().then(|| octets.into())
}
