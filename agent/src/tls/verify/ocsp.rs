//! Stapled OCSP responses (RFC 6960, RFC 6066 §8): what they prove of one certificate.
//!
//! A response that cannot be read, is not about this certificate, is stale or not signed by the issuer proves nothing:
//! it counts as none, since a server with something to hide would staple none either. `revoked` with a good signature
//! counts even when the response is old: revocation does not heal.

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, RawPublicKeyEntity};
use x509_parser::der_parser::asn1_rs::{Any, GeneralizedTime, Oid, Tag, oid};
use x509_parser::prelude::{FromDer, X509Certificate};

/// id-pkix-ocsp-basic.
const BASIC: Oid<'static> = oid!(1.3.6.1.5.5.7.48.1.1);
/// id-kp-OCSPSigning, the content octets of the OID.
const OCSP_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x09];
/// Hash algorithms of a CertID.
const SHA1: Oid<'static> = oid!(1.3.14.3.2.26);
const SHA256: Oid<'static> = oid!(2.16.840.1.101.3.4.2.1);
/// How far clocks may differ, in seconds.
const SKEW: i64 = 300;
/// Longest response that is read: real ones are below 3 KiB.
const LONGEST: usize = 64 * 1024;
/// Most answers and certificates that are looked at in one response.
const MOST: usize = 32;

/// What a staple says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Current, signed by the issuer: not revoked.
    Good,
    /// Signed by the issuer: revoked.
    Revoked,
    /// Proves nothing, and why.
    Nothing(&'static str),
}

/// The issuer of the certificate in question, as the verified path has it.
pub struct Issuer<'a> {
    /// DER Name with its header.
    pub name: &'a [u8],
    /// DER SubjectPublicKeyInfo with its header.
    pub key: &'a [u8],
}

/// Reads `response` (DER OCSPResponse) about `certificate`, which `issuer` issued.
pub fn read(
    response: &[u8],
    certificate: &X509Certificate<'_>,
    issuer: &Issuer<'_>,
    algorithms: &WebPkiSupportedAlgorithms,
    now: UnixTime,
) -> Status {
    match check(response, certificate, issuer, algorithms, now) {
        Ok(status) => status,
        Err(why) => Status::Nothing(why),
    }
}

type Read<T> = Result<T, &'static str>;
const MALFORMED: &str = "it is malformed";

fn check(
    response: &[u8],
    certificate: &X509Certificate<'_>,
    issuer: &Issuer<'_>,
    algorithms: &WebPkiSupportedAlgorithms,
    now: UnixTime,
) -> Read<Status> {
    if response.is_empty() {
        return Err("none came");
    }
    if response.len() > LONGEST {
        return Err("it is too long");
    }
    let basic = unwrap(response)?;
    let (rest, data) = next(basic)?;
    let signed = &basic[..basic.len() - rest.len()];
    let (rest, algorithm) = next(rest)?;
    let (rest, signature) = next(rest)?;
    let signature = match signature.data {
        [0, bits @ ..] if signature.tag() == Tag::BitString => bits,
        _ => return Err(MALFORMED),
    };
    let answer = find(data.data, certificate, issuer)?.ok_or("it is not about this certificate")?;
    let signer = Signer { issuer, algorithms, now };
    if !signer.signed(signed, algorithm.data, signature, rest) {
        return Err("its signature is not the issuer's");
    }
    match answer.status {
        1 => Ok(Status::Revoked),
        0 if answer.current(now.as_secs().cast_signed()) => Ok(Status::Good),
        0 => Err("it is out of date"),
        _ => Err("it does not know the certificate"),
    }
}

/// One SingleResponse.
struct Answer {
    /// Context tag of certStatus: 0 good, 1 revoked, 2 unknown.
    status: u32,
    this_update: i64,
    next_update: Option<i64>,
}

impl Answer {
    fn current(&self, now: i64) -> bool {
        // Without nextUpdate newer information is always to be had (RFC 6960 §2.4): a day old is as old as it may be.
        let end = self.next_update.unwrap_or(self.this_update + 86_400);
        self.this_update - SKEW <= now && now <= end + SKEW
    }
}

/// From OCSPResponse to the content of BasicOCSPResponse.
fn unwrap(response: &[u8]) -> Read<&[u8]> {
    let (rest, outer) = next(response)?;
    if !rest.is_empty() {
        return Err(MALFORMED);
    }
    let (rest, status) = next(outer.data)?;
    if status.data != [0] {
        return Err("the responder answered with an error");
    }
    let (_, tagged) = next(rest)?;
    let (_, bytes) = next(tagged.data)?;
    let (rest, kind) = next(bytes.data)?;
    if kind.oid().ok() != Some(BASIC) {
        return Err("it is of an unknown kind");
    }
    let (_, octets) = next(rest)?;
    let (_, basic) = next(octets.data)?;
    Ok(basic.data)
}

/// The answer about `certificate` among those in ResponseData's content.
fn find(data: &[u8], certificate: &X509Certificate<'_>, issuer: &Issuer<'_>) -> Read<Option<Answer>> {
    let (mut rest, mut field) = next(data)?;
    if field.tag().0 == 0 && field.class() == x509_parser::der_parser::asn1_rs::Class::ContextSpecific {
        (rest, field) = next(rest)?; // version
    }
    let _responder = field;
    let (rest, _produced_at) = next(rest)?;
    let (_, answers) = next(rest)?;
    let mut rest = answers.data;
    for _ in 0..MOST {
        if rest.is_empty() {
            break;
        }
        let (after, single) = next(rest)?;
        rest = after;
        let (fields, id) = next(single.data)?;
        if !matches(id.data, certificate, issuer)? {
            continue;
        }
        let (fields, status) = next(fields)?;
        let (fields, this_update) = next(fields)?;
        let next_update = match next(fields) {
            Ok((_, tagged)) if tagged.tag().0 == 0 => Some(time(&next(tagged.data)?.1)?),
            _ => None,
        };
        return Ok(Some(Answer { status: status.tag().0, this_update: time(&this_update)?, next_update }));
    }
    Ok(None)
}

/// Whether a CertID's content means `certificate`.
fn matches(id: &[u8], certificate: &X509Certificate<'_>, issuer: &Issuer<'_>) -> Read<bool> {
    let (rest, algorithm) = next(id)?;
    let (rest, name_hash) = next(rest)?;
    let (rest, key_hash) = next(rest)?;
    let (_, serial) = next(rest)?;
    if serial.data != certificate.raw_serial() {
        return Ok(false);
    }
    let (_, algorithm) = next(algorithm.data)?;
    let algorithm = match algorithm.oid() {
        Ok(oid) if oid == SHA1 => &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY,
        Ok(oid) if oid == SHA256 => &aws_lc_rs::digest::SHA256,
        _ => return Ok(false),
    };
    let (_, key) = next(issuer.key)?;
    let (key, _) = next(key.data)?;
    let (_, bits) = next(key)?;
    let bits = bits.data.get(1..).ok_or(MALFORMED)?;
    let hash = |bytes: &[u8]| aws_lc_rs::digest::digest(algorithm, bytes);
    Ok(hash(issuer.name).as_ref() == name_hash.data && hash(bits).as_ref() == key_hash.data)
}

/// Who may sign: the issuer, or a responder to whom the issuer gave a certificate for it (RFC 6960 §4.2.2.2).
struct Signer<'a> {
    issuer: &'a Issuer<'a>,
    algorithms: &'a WebPkiSupportedAlgorithms,
    now: UnixTime,
}

impl Signer<'_> {
    /// `algorithm` is the content of the AlgorithmIdentifier; `rest` what follows the signature.
    fn signed(&self, message: &[u8], algorithm: &[u8], signature: &[u8], rest: &[u8]) -> bool {
        let key = SubjectPublicKeyInfoDer::from(self.issuer.key);
        let fitting = || self.algorithms.all.iter().filter(|a| a.signature_alg_id().as_ref() == algorithm);
        let direct = RawPublicKeyEntity::try_from(&key)
            .is_ok_and(|issuer| fitting().any(|a| issuer.verify_signature(*a, message, signature).is_ok()));
        direct
            || self.responders(rest).iter().any(|der| {
                let Ok(responder) = EndEntityCert::try_from(der) else { return false };
                fitting().any(|a| responder.verify_signature(*a, message, signature).is_ok())
                    && self.delegated(&responder)
            })
    }

    fn responders(&self, rest: &[u8]) -> Vec<CertificateDer<'static>> {
        let mut found = Vec::new();
        let Ok((_, tagged)) = next(rest) else { return found };
        let Ok((_, list)) = next(tagged.data) else { return found };
        let mut rest = list.data;
        while let (Ok((after, _)), true) = (next(rest), found.len() < MOST) {
            found.push(CertificateDer::from(rest[..rest.len() - after.len()].to_vec()));
            rest = after;
        }
        found
    }

    fn delegated(&self, responder: &EndEntityCert<'_>) -> bool {
        let (Ok((_, name)), Ok((_, key))) = (next(self.issuer.name), next(self.issuer.key)) else {
            return false;
        };
        let anchor = [TrustAnchor {
            subject: name.data.into(),
            subject_public_key_info: key.data.into(),
            name_constraints: None,
        }];
        responder
            .verify_for_usage(
                self.algorithms.all,
                &anchor,
                &[],
                self.now,
                KeyUsage::required(OCSP_SIGNING),
                None,
                None,
            )
            .is_ok()
    }
}

/// One DER value and what follows it.
fn next(der: &[u8]) -> Read<(&[u8], Any<'_>)> {
    Any::from_der(der).map_err(|_| MALFORMED)
}

fn time(value: &Any<'_>) -> Read<i64> {
    let time = GeneralizedTime::try_from(value.clone()).map_err(|_| MALFORMED)?;
    Ok(time.utc_datetime().map_err(|_| MALFORMED)?.unix_timestamp())
}
