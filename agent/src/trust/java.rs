//! The keystores of the JREs on the host, changed by the JRE's own `keytool`: it knows every format and keeps it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::ledger::{self, Ledger, Record};
use super::tree::Tree;
use super::{CaCertificate, Error, Trusted, certificates};

/// Folders whose members are Java homes: Debian and Red Hat, Oracle's packages, by hand, container images.
const HOMES: [&str; 5] = ["/usr/lib/jvm", "/usr/java", "/opt", "/opt/java", "/usr/local"];
/// Below a home: since Java 9, and before.
const KEYSTORES: [&str; 2] = ["lib/security/cacerts", "jre/lib/security/cacerts"];
const KEYTOOLS: [&str; 2] = ["bin/keytool", "jre/bin/keytool"];
/// Ours, and the one that Debian's ca-certificates-java gives to our anchor.
const ALIASES: [&str; 2] = ["sluice", "debian:sluice.pem"];
/// What every JRE ships with; it guards nothing.
const PASSWORD: &str = "changeit";
const JKS_MAGIC: &[u8] = &[0xFE, 0xED, 0xFE, 0xED];

/// One keystore; several JREs may share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Keystore {
    /// Without symbolic links.
    pub(super) path: PathBuf,
    keytool: Option<PathBuf>,
}

/// The keystores on the host, and those of the named homes, each once.
pub(super) fn find(host: &Tree, more_homes: &[PathBuf]) -> Vec<Keystore> {
    let known = HOMES.iter().flat_map(|folder| host.names(Path::new(folder)));
    let homes: Vec<PathBuf> = known.chain(more_homes.iter().cloned()).collect();
    let keytool_of = |home: &PathBuf| {
        KEYTOOLS.iter().map(|name| home.join(name)).find_map(|tool| host.resolve(&tool).map(|_| tool))
    };
    let any_keytool = homes.iter().find_map(keytool_of);
    let mut found: Vec<Keystore> = Vec::new();
    for home in &homes {
        for path in KEYSTORES.iter().filter_map(|name| host.resolve(&home.join(name))) {
            if found.iter().all(|keystore| keystore.path != path) {
                found.push(Keystore { path, keytool: keytool_of(home).or_else(|| any_keytool.clone()) });
            }
        }
    }
    found
}

impl Keystore {
    /// A keystore whose JRE is gone, or was named by hand.
    pub(super) fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), keytool: None }
    }

    /// The name under which it stands on the ledger and in the status.
    pub(super) fn store(&self) -> String {
        format!("java:{}", self.path.display())
    }

    /// Puts the CA in, and the record of it on the ledger.
    pub(super) fn install(
        &self,
        host: &Tree,
        ca: &CaCertificate,
        ledger: &mut Ledger,
        say: &mut dyn FnMut(&str),
    ) -> Result<(), Error> {
        let watched = std::slice::from_ref(&self.path);
        ledger::change(host, ledger, &self.store(), watched, say, || {
            let import = ["-importcert", "-noprompt", "-trustcacerts", "-alias", ALIASES[0]];
            self.keytool(host, &import, ca.pem().as_bytes()).map(drop)
        })
    }

    /// Takes the CA out: byte for byte if no one changed the keystore since, else only our entries.
    pub(super) fn remove(
        &self,
        host: &Tree,
        record: Option<&Record>,
        ca: &CaCertificate,
        say: &mut dyn FnMut(&str),
    ) -> Result<(), Error> {
        if let Some(record) = record {
            ledger::undo(host, record, say)?;
        }
        for alias in ALIASES {
            if host.exists(&self.path) && self.holds(host, ca)? {
                // Fails where there is no such alias; whether it is gone is asked below.
                if self.keytool(host, &["-delete", "-alias", alias], b"").is_ok() {
                    say(&format!("deleted {alias} from {}", self.path.display()));
                }
            }
        }
        if host.exists(&self.path) && self.holds(host, ca)? {
            return Err(Error::Left { path: self.path.clone() });
        }
        Ok(())
    }

    /// `earlier` is the CA on the ledger.
    pub(super) fn status(
        &self,
        host: &Tree,
        ca: Option<&CaCertificate>,
        earlier: Option<&CaCertificate>,
    ) -> Result<Trusted, Error> {
        let holds = |ca: Option<&CaCertificate>| ca.map_or(Ok(false), |ca| self.holds(host, ca));
        Ok(match (holds(ca)?, holds(earlier)?) {
            (true, _) => Trusted::Yes,
            (false, true) => Trusted::Stale,
            (false, false) => Trusted::No,
        })
    }

    /// Whether this very certificate is in it, under whatever alias.
    pub(super) fn holds(&self, host: &Tree, ca: &CaCertificate) -> Result<bool, Error> {
        let content = host.read(&self.path)?;
        // JKS and the PKCS #12 without a password that newer JREs ship hold certificates as they are.
        if content.windows(ca.der().len()).any(|window| window == ca.der()) {
            return Ok(true);
        }
        if content.starts_with(JKS_MAGIC) {
            return Ok(false);
        }
        let listed = self.keytool(host, &["-list", "-rfc"], b"")?;
        Ok(certificates(listed.as_bytes()).iter().any(|der| der == ca.der()))
    }

    fn keytool(&self, host: &Tree, arguments: &[&str], input: &[u8]) -> Result<String, Error> {
        let keytool = self.keytool.as_deref().unwrap_or(Path::new("/usr/bin/keytool"));
        let mut all: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
        all.extend(["-storepass", PASSWORD, "-keystore"].map(OsStr::new));
        all.push(self.path.as_os_str());
        host.run(keytool, &all, input)
    }
}

#[cfg(test)]
mod tests {
    use super::super::jks;
    use super::super::tests::ca;
    use super::*;

    use std::fs;

    fn host_with(homes: &[&str]) -> (tempfile::TempDir, Tree) {
        let folder = tempfile::tempdir().expect("a folder");
        for home in homes {
            let at = folder.path().join(home.trim_start_matches('/'));
            fs::create_dir_all(at.join("lib/security")).expect("a folder");
            fs::write(at.join("lib/security/cacerts"), jks::truststore(&[])).expect("a keystore");
        }
        let tree = Tree::new(folder.path());
        (folder, tree)
    }

    #[test]
    fn a_keystore_that_jres_share_is_found_once() {
        let (folder, host) = host_with(&["/usr/lib/jvm/java-17", "/opt/mine"]);
        std::os::unix::fs::symlink("java-17", folder.path().join("usr/lib/jvm/default")).expect("a link");
        let found = find(&host, &[PathBuf::from("/nowhere")]);
        let paths: Vec<&Path> = found.iter().map(|keystore| keystore.path.as_path()).collect();
        let expected = ["/usr/lib/jvm/java-17/lib/security/cacerts", "/opt/mine/lib/security/cacerts"];
        assert_eq!(paths, expected.map(Path::new));
    }

    #[test]
    fn a_certificate_in_a_jks_is_seen_without_a_jre() {
        let (folder, host) = host_with(&["/opt/mine"]);
        let (own, other) = (ca("own"), ca("other"));
        let keystore = find(&host, &[]).remove(0);
        assert_eq!(keystore.status(&host, Some(&own), Some(&other)).expect("known"), Trusted::No);
        let path = folder.path().join("opt/mine/lib/security/cacerts");
        fs::write(path, jks::truststore(&[other.der().to_vec(), own.der().to_vec()])).expect("a keystore");
        assert_eq!(keystore.status(&host, Some(&own), Some(&other)).expect("known"), Trusted::Yes);
        assert_eq!(keystore.status(&host, Some(&ca("next")), Some(&own)).expect("known"), Trusted::Stale);
        assert_eq!(keystore.status(&host, None, Some(&own)).expect("known"), Trusted::Stale);
    }
}
