//! The files in the runtime directory that the variables of [`super::environment()`] point at: the system's roots and our
//! CA in one, in the forms that runtimes take. All world-readable; none is secret.

use std::path::{Path, PathBuf};

use super::{CaCertificate, Error, Tree, certificates, jks, tree};
use crate::paths;

/// Where distributions keep all trusted roots in one PEM file, the common ones first.
const SYSTEM_BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt", // Debian, Ubuntu, Arch, Alpine, Gentoo
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // RHEL, Fedora
    "/etc/pki/tls/certs/ca-bundle.crt",   // older RHEL
    "/var/lib/ca-certificates/ca-bundle.pem", // SUSE
    "/etc/ssl/ca-bundle.pem",             // older SUSE
    "/etc/ssl/cert.pem",                  // Alpine without ca-certificates
];

/// The merged roots as a Java keystore, below the runtime directory.
pub(super) const TRUSTSTORE: &str = "truststore.jks";
/// Settings for wget, which knows no variable for a bundle but one for a settings file; below the runtime directory.
pub(super) const WGETRC: &str = "wgetrc";

/// What was written, for the caller to report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The system's bundle that was merged; `None` if this system has none: then only our CA is in the bundle.
    pub system: Option<PathBuf>,
    /// Certificates in the bundle, ours included.
    pub certificates: usize,
}

/// Writes `ca.pem`, `bundle.pem`, `truststore.jks` and `wgetrc` into the runtime directory, each as a whole or not at
/// all, mode 0644. Call it at start, when the CA changes, and when [`is_stale`] says so.
pub fn write_bundle(runtime_dir: &Path, ca_pem: &str) -> Result<Written, Error> {
    let ca = CaCertificate::parse(&runtime_dir.join(paths::CA_CERT), ca_pem.as_bytes())?;
    let files = Files::compose(&Tree::new("/"), runtime_dir, &ca)?;
    for (name, content) in &files.contents {
        tree::replace(&runtime_dir.join(name), content, 0o644)?;
    }
    Ok(files.written)
}

/// Whether the files of [`write_bundle`] are not what it would write now: the system's roots changed, or a file is
/// damaged or gone. Reads some 200 KiB; cheap enough for once a minute.
pub fn is_stale(runtime_dir: &Path, ca_pem: &str) -> Result<bool, Error> {
    let ca = CaCertificate::parse(&runtime_dir.join(paths::CA_CERT), ca_pem.as_bytes())?;
    let files = Files::compose(&Tree::new("/"), runtime_dir, &ca)?;
    Ok(files
        .contents
        .iter()
        .any(|(name, content)| tree::read(&runtime_dir.join(name)).map_or(true, |found| found != *content)))
}

struct Files {
    contents: [(&'static str, Vec<u8>); 4],
    written: Written,
}

impl Files {
    fn compose(host: &Tree, runtime_dir: &Path, ca: &CaCertificate) -> Result<Self, Error> {
        let system = SYSTEM_BUNDLES.map(PathBuf::from).into_iter().find(|path| host.exists(path));
        let mut bundle = match &system {
            Some(path) => host.read(path)?,
            None => Vec::new(),
        };
        let mut roots = certificates(&bundle);
        // After `trust install` the system's bundle holds our CA already.
        if !roots.iter().any(|der| der == ca.der()) {
            if !bundle.is_empty() && !bundle.ends_with(b"\n") {
                bundle.push(b'\n');
            }
            bundle.extend_from_slice(ca.pem().as_bytes());
            roots.push(ca.der().to_vec());
        }
        let written = Written { system, certificates: roots.len() };
        let contents = [
            (paths::CA_CERT, ca.pem().as_bytes().to_vec()),
            (paths::BUNDLE, bundle),
            (TRUSTSTORE, jks::truststore(&roots)),
            (WGETRC, wgetrc(host, runtime_dir)),
        ];
        Ok(Self { contents, written })
    }
}

/// The system's own settings for wget, and the bundle. The user's `~/.wgetrc` is read after it and still counts.
fn wgetrc(host: &Tree, runtime_dir: &Path) -> Vec<u8> {
    let mut settings = host.read(Path::new("/etc/wgetrc")).unwrap_or_default();
    if !settings.is_empty() && !settings.ends_with(b"\n") {
        settings.push(b'\n');
    }
    let bundle = runtime_dir.join(paths::BUNDLE);
    settings.extend_from_slice(format!("ca_certificate = {}\n", bundle.display()).as_bytes());
    settings
}

#[cfg(test)]
mod tests {
    use super::super::tests::ca;
    use super::*;

    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    fn host(bundle: Option<&str>) -> (tempfile::TempDir, Tree) {
        let folder = tempfile::tempdir().expect("a folder");
        if let Some(text) = bundle {
            fs::create_dir_all(folder.path().join("etc/ssl/certs")).expect("a folder");
            fs::write(folder.path().join("etc/ssl/certs/ca-certificates.crt"), text).expect("a file");
        }
        let tree = Tree::new(folder.path());
        (folder, tree)
    }

    fn bundle_of(host: &Tree, own: &CaCertificate) -> (String, usize) {
        let files = Files::compose(host, Path::new("/run/x"), own).expect("files");
        let bundle = files.contents.into_iter().find(|(name, _)| *name == paths::BUNDLE).expect("a bundle").1;
        (String::from_utf8(bundle).expect("text"), files.written.certificates)
    }

    #[test]
    fn our_ca_is_appended_once_to_what_the_system_trusts() {
        let (own, other) = (ca("own"), ca("other"));
        let (_folder, one) = host(Some(other.pem().trim_end()));
        assert_eq!(bundle_of(&one, &own), (format!("{}{}", other.pem(), own.pem()), 2));
        let both = format!("{}{}", own.pem(), other.pem());
        let (_folder, installed) = host(Some(&both));
        assert_eq!(bundle_of(&installed, &own), (both, 2));
        let (_folder, bare) = host(None);
        assert_eq!(bundle_of(&bare, &own), (own.pem().to_owned(), 1));
    }

    #[test]
    fn a_bundle_is_stale_as_soon_as_one_byte_differs() {
        let folder = tempfile::tempdir().expect("a folder");
        let own = ca("own");
        assert!(is_stale(folder.path(), own.pem()).expect("known"), "nothing written yet");
        write_bundle(folder.path(), own.pem()).expect("written");
        assert!(!is_stale(folder.path(), own.pem()).expect("known"));
        assert!(is_stale(folder.path(), ca("next").pem()).expect("known"), "another CA");
        for name in [paths::CA_CERT, paths::BUNDLE, TRUSTSTORE, WGETRC] {
            let path = folder.path().join(name);
            let mode = fs::metadata(&path).expect("metadata").permissions().mode();
            assert_eq!(mode & 0o777, 0o644, "{name}");
            let mut content = fs::read(&path).expect("the file");
            content[0] ^= 1;
            fs::write(&path, &content).expect("damaged");
            assert!(is_stale(folder.path(), own.pem()).expect("known"), "{name}");
            write_bundle(folder.path(), own.pem()).expect("written again");
        }
        let left = fs::read_dir(folder.path()).expect("the folder").count();
        assert_eq!(left, 4, "no temporary file stays");
    }
}
