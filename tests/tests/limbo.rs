//! Every case of x509-limbo (9,780, of which BetterTLS's 9,572) through the verifier object that the gate uses, with the
//! case's time, roots, CRLs and name. BetterTLS must be right throughout; of the others each difference is argued in
//! `tests/limbo-known.toml`, and one more or one less than argued fails.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use serde_json::Value;
use sluice::tls::roots::{Candidate, Roots};
use sluice::tls::verify::{Staple, UpstreamVerifier};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// 2026-11-21T02:27:29Z: for cases without a time of their own, which are good for centuries.
const WHEN: i64 = 1_795_228_049;

type Differences = BTreeMap<String, String>;

#[test]
fn every_case_is_right_or_argued() {
    let data = data();
    let known: BTreeMap<String, Differences> =
        toml::from_str(include_str!("../limbo-known.toml")).expect("limbo-known.toml");
    let mut found: BTreeMap<String, Differences> = BTreeMap::new();
    let (mut right, mut bettertls) = (0, 0);
    for case in data["testcases"].as_array().expect("testcases") {
        let id = text(case, "id");
        let Some(answer) = run(case) else {
            found.entry("skipped".to_owned()).or_default().insert(id.to_owned(), String::new());
            continue;
        };
        let kind = match (answer, case["expected_result"] == "SUCCESS") {
            (Ok(()), false) => "accepted",
            (Err(why), true) => {
                println!("refused {id}: {why}");
                "refused"
            }
            _ => {
                right += 1;
                bettertls += usize::from(id.starts_with("bettertls::"));
                continue;
            }
        };
        found.entry(kind.to_owned()).or_default().insert(id.to_owned(), String::new());
    }
    for kind in ["accepted", "refused", "skipped"] {
        let ids = |map: &BTreeMap<String, Differences>| -> Vec<String> {
            map.get(kind).into_iter().flat_map(BTreeMap::keys).cloned().collect()
        };
        assert_eq!(ids(&found), ids(&known), "{kind}: found (left) against argued (right)");
    }
    println!(
        "{right} right ({bettertls} of BetterTLS), {} accepted and {} refused against the file, {} not applicable",
        found["accepted"].len(),
        found["refused"].len(),
        found["skipped"].len()
    );
    assert_eq!(bettertls, 9_572);
    assert!(known.values().flat_map(BTreeMap::values).all(|reason| reason.len() > 30), "each with a reason");
    assert!(right - bettertls >= 147 && found["accepted"].len() <= 14 && found["refused"].len() <= 5);
}

/// `None` when the case cannot be put to a TLS client's verifier.
fn run(case: &Value) -> Option<Result<(), String>> {
    let name = case["expected_peer_name"]["value"].as_str()?;
    if case["validation_kind"] != "SERVER" || text(case, "id").starts_with("pathlen::max-chain-depth") {
        return None;
    }
    let seconds = case["validation_time"]
        .as_str()
        .map_or(WHEN, |time| OffsetDateTime::parse(time, &Rfc3339).expect("a time").unix_timestamp());
    let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds.try_into().expect("after 1970")));
    let roots = certificates(case, "trusted_certs")
        .into_iter()
        .map(|certificate| Candidate { source: "limbo".to_owned(), certificate });
    let (roots, _omitted) = Roots::new(roots, None, now);
    let mut verifier = UpstreamVerifier::new(roots);
    for crl in pems(case, "crls") {
        let crl = CertificateRevocationListDer::from_pem_slice(crl.as_bytes()).expect("PEM");
        if let Err(bad) = verifier.add_crl(&crl) {
            return Some(Err(bad.to_string()));
        }
    }
    let Ok(name) = ServerName::try_from(name) else { return Some(Err(format!("{name:?} is no name"))) };
    let leaf = CertificateDer::from_pem_slice(text(case, "peer_certificate").as_bytes()).expect("PEM");
    let intermediates = certificates(case, "untrusted_intermediates");
    Some(
        verifier
            .verify(&leaf, &intermediates, &name, Staple::Response(&[]), now)
            .map_err(|refusal| refusal.to_string()),
    )
}

fn certificates(case: &Value, key: &str) -> Vec<CertificateDer<'static>> {
    pems(case, key).map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM")).collect()
}

fn pems<'c>(case: &'c Value, key: &str) -> impl Iterator<Item = &'c str> {
    case[key].as_array().expect("a list").iter().map(|pem| pem.as_str().expect("PEM"))
}

fn text<'c>(case: &'c Value, key: &str) -> &'c str {
    case[key].as_str().expect("a text")
}

/// `shared/data/limbo.json.xz` beside the checkout or above it, unpacked by xz(1).
fn data() -> Value {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut places = here.ancestors().map(|directory| directory.join("shared/data/limbo.json.xz"));
    let file = places.find(|path| path.is_file()).expect("shared/data/limbo.json.xz above the checkout");
    let mut xz = Command::new("xz")
        .arg("-dc")
        .arg(file)
        .stdout(Stdio::piped())
        .spawn()
        .expect("xz (package xz-utils)");
    let data = serde_json::from_reader(BufReader::new(xz.stdout.take().expect("a pipe"))).expect("JSON");
    assert!(xz.wait().expect("xz").success());
    data
}
