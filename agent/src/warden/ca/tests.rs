use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use x509_parser::extensions::{GeneralName, ParsedExtension};

use super::*;

fn ca() -> (tempfile::TempDir, CertificateAuthority) {
    let directory = tempfile::tempdir().expect("directory");
    let ca = CertificateAuthority::open(&directory.path().join("ca")).expect("CA");
    (directory, ca)
}

fn request(name: &str) -> LeafRequest {
    let now = OffsetDateTime::now_utc().unix_timestamp();
    LeafRequest {
        name: name.to_owned(),
        public_key: KeyPair::generate().expect("key").subject_public_key_info(),
        upstream_leaf: [7; 32],
        not_before: now - 86_400 * 10,
        not_after: now + 86_400 * 10,
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("metadata").permissions().mode() & 0o7777
}

#[test]
fn the_ca_is_made_once_and_kept() {
    let (directory, ca) = ca();
    let path = directory.path().join("ca");
    assert_eq!((mode(&path), mode(&path.join(KEY))), (0o700, 0o600));
    let again = CertificateAuthority::open(&path).expect("CA");
    assert_eq!(again.certificate_der(), ca.certificate_der());
    assert_eq!(
        CertificateDer::from_pem_slice(ca.certificate_pem().as_bytes()).expect("PEM"),
        *ca.certificate_der()
    );

    let (_, certificate) = X509Certificate::from_der(ca.certificate_der()).expect("certificate");
    let basic = certificate.basic_constraints().expect("readable").expect("there");
    assert!(basic.critical && basic.value.ca && basic.value.path_len_constraint == Some(0));
    let usage = certificate.key_usage().expect("readable").expect("there");
    assert!(
        usage.critical
            && usage.value.key_cert_sign()
            && usage.value.crl_sign()
            && !usage.value.digital_signature()
    );
    let named = certificate.subject().to_string();
    assert!(named.starts_with("O=Sluice, CN=Sluice CA "), "{named}");
    assert!(
        certificate.subject().iter_common_name().all(|cn| cn.as_str().expect("text").len() <= COMMON_NAME)
    );
}

#[test]
fn an_exposed_or_half_lost_ca_is_not_used() {
    let (directory, ca) = ca();
    let path = directory.path().join("ca");
    let (key, certificate) = (path.join(KEY), path.join(CERTIFICATE));
    let open = || CertificateAuthority::open(&path);
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
    for bad in [0o640, 0o604, 0o660] {
        set(&key, bad);
        assert!(matches!(open(), Err(Error::Exposed { mode, .. }) if mode == bad));
    }
    set(&key, 0o600);
    set(&path, 0o755);
    assert!(matches!(open(), Err(Error::Exposed { .. })), "the directory");
    set(&path, 0o700);

    // A crash between key and certificate, and one within a write.
    fs::remove_file(&certificate).expect("remove");
    fs::write(path.join(".ca.pem.new"), "half").expect("write");
    let renewed = open().expect("the key is still there");
    assert_ne!(renewed.certificate_der(), ca.certificate_der());
    assert_eq!(renewed.issuer.key().der_bytes(), ca.issuer.key().der_bytes());
    assert!(!path.join(".ca.pem.new").exists());

    let kept = fs::read(&key).expect("key");
    fs::remove_file(&key).expect("remove");
    assert!(open().expect_err("no key").to_string().contains("it is missing"));
    fs::write(&key, KeyPair::generate().expect("key").serialize_pem()).expect("write");
    set(&key, 0o600);
    assert!(open().expect_err("another key").to_string().contains("another key"));
    fs::remove_file(&key).expect("remove");
    std::os::unix::fs::symlink("/dev/null", &key).expect("symlink");
    assert!(matches!(open(), Err(Error::Io { .. })), "a link is not followed");
    fs::remove_file(&key).expect("remove");
    fs::write(&key, &kept[..40]).expect("write");
    set(&key, 0o600);
    assert!(matches!(open(), Err(Error::Unusable { .. })), "half a key");
}

#[test]
fn the_profile_of_a_leaf() {
    let (_directory, ca) = ca();
    let (_, issuer) = X509Certificate::from_der(ca.certificate_der()).expect("CA");
    let ski = |certificate: &X509Certificate<'_>| {
        certificate.extensions().iter().find_map(|e| match e.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        })
    };
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let mut serials = std::collections::HashSet::new();
    let long = format!("{}.example.com", "a".repeat(63));
    for name in ["api.example.com", "a_b.example", "192.0.2.7", "2001:db8::7", &long] {
        let der = ca.sign(&request(name)).expect(name);
        let (_, leaf) = X509Certificate::from_der(&der).expect(name);
        assert_eq!(leaf.version().0, 2);
        let serial = leaf.raw_serial();
        assert!(serial.len() == 16 && serial[0] & 0x80 == 0 && serials.insert(serial.to_vec()));
        let usage = leaf.key_usage().expect("readable").expect("there");
        assert!(usage.critical);
        assert_eq!(usage.value.flags, 1, "digitalSignature only");
        let purposes = leaf.extended_key_usage().expect("readable").expect("there").value;
        assert!(purposes.server_auth && !purposes.any && !purposes.client_auth && purposes.other.is_empty());
        assert!(!leaf.is_ca());
        let authority = leaf.extensions().iter().find_map(|e| match e.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|k| k.0.to_vec()),
            _ => None,
        });
        assert!(authority.is_some());
        assert_eq!(authority, ski(&issuer));
        assert!(ski(&leaf).is_some_and(|own| Some(own) != ski(&issuer)));
        let names = leaf.subject_alternative_name().expect("readable").expect("there");
        assert_eq!(names.critical, name.len() > COMMON_NAME, "{name}");
        let text = match names.value.general_names.as_slice() {
            [GeneralName::DNSName(dns)] => (*dns).to_owned(),
            [GeneralName::IPAddress(b)] if b.len() == 4 => {
                IpAddr::from(<[u8; 4]>::try_from(*b).expect("4")).to_string()
            }
            [GeneralName::IPAddress(b)] => IpAddr::from(<[u8; 16]>::try_from(*b).expect("16")).to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(text, name);
        let life = leaf.validity();
        assert!(life.not_before.timestamp() <= now && now - 3700 < life.not_before.timestamp());
        assert!(life.not_after.timestamp() - life.not_before.timestamp() < 86_400);
    }
}

#[test]
fn validity_stays_within_the_upstreams_and_the_cas() {
    let (_directory, ca) = ca();
    let now = OffsetDateTime::now_utc();
    let at = now.unix_timestamp();
    let life = |change: fn(&mut LeafRequest, i64), when: OffsetDateTime| {
        let mut request = request("api.example.com");
        change(&mut request, at);
        let der = ca.sign_at(&request, when)?;
        let (_, leaf) = X509Certificate::from_der(&der).expect("leaf");
        Ok((leaf.validity().not_before.timestamp() - at, leaf.validity().not_after.timestamp() - at))
    };
    assert_eq!(life(|_, _| (), now), Ok((-3600, 22 * 3600)));
    assert_eq!(life(|r, at| r.not_before = at - 60, now), Ok((-60, 22 * 3600)));
    assert_eq!(life(|r, at| r.not_after = at + 60, now), Ok((-3600, 60)));
    assert_eq!(life(|r, at| r.not_after = at, now), Err(Refused::Ended));
    assert_eq!(life(|r, at| r.not_before = at + 60, now), Err(Refused::NotBegun));
    assert_eq!(life(|r, _| r.not_before = i64::MAX, now), Err(Refused::NotBegun));
    assert_eq!(life(|r, _| r.not_after = i64::MAX, now), Ok((-3600, 22 * 3600)));
    assert_eq!(life(|r, _| r.not_after = i64::MAX, ca.not_after() + Duration::HOUR), Err(Refused::CaEnded));
    let (_, end) = life(|r, _| r.not_after = i64::MAX, ca.not_after() - Duration::HOUR).expect("signed");
    assert_eq!(end + at, ca.not_after().unix_timestamp());
}

#[test]
fn what_is_never_signed() {
    let (_directory, ca) = ca();
    for name in [
        "*.example.com",
        "",
        "example..com",
        "exa mple.com",
        "a\0.example.com",
        "bücher.example",
        "1.2.3.4.5",
        "a@b.c",
    ] {
        assert!(matches!(ca.sign(&request(name)), Err(Refused::Name(_))), "{name:?}");
    }
    let mut off_curve = request("a.example").public_key;
    *off_curve.last_mut().expect("bytes") ^= 1;
    let mut trailing = request("a.example").public_key;
    trailing.push(0);
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).expect("key").subject_public_key_info();
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("key").subject_public_key_info();
    let own = ca.issuer.key().subject_public_key_info();
    for key in [vec![], vec![0; 91], off_curve, trailing, p384, ed25519, own] {
        let refused = ca.sign(&LeafRequest { public_key: key.clone(), ..request("a.example") });
        assert!(matches!(refused, Err(Refused::Key(_))), "{key:02x?}");
    }
}

#[test]
fn openssl_takes_the_chain_at_its_strictest() {
    let (directory, ca) = ca();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).expect("write");
        path
    };
    let root = file("root.pem", ca.certificate_pem());
    for name in ["api.example.com", "192.0.2.7", &format!("{}.example.com", "a".repeat(63))] {
        let leaf = file("leaf.pem", &pem(&ca.sign(&request(name)).expect(name)));
        let check = if name.starts_with('1') { "-verify_ip" } else { "-verify_hostname" };
        let verify = Command::new("openssl")
            .args(["verify", "-x509_strict", "-purpose", "sslserver", check, name, "-CAfile"])
            .args([&root, &leaf])
            .env_remove("SSL_CERT_FILE")
            .env_remove("SSL_CERT_DIR")
            .output()
            .expect("openssl");
        assert!(verify.status.success(), "{}", String::from_utf8_lossy(&verify.stderr));
    }
}
