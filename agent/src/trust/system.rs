//! The system's own certificate store: one anchor file beside the administrator's own, and the system's own tool that
//! rebuilds the bundles from all anchors. Nothing of the system's is replaced.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::ledger::{self, Ledger, Record};
use super::tree::{self, Tree};
use super::{CaCertificate, Error, Trusted, certificates};

/// How one family of distributions does it.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) name: &'static str,
    /// The family is known by this folder and its tool.
    marker: &'static str,
    tool: &'static str,
    /// For the tool after an anchor went: Debian's leaves dangling links unless told to begin anew.
    after_removal: &'static [&'static str],
    /// Ours.
    pub(super) anchor: &'static str,
    /// What applications read.
    pub(super) bundle: &'static str,
    /// Everything that the tool changes, beside the anchor's folder.
    watched: &'static str,
}

/// The more particular first: SUSE has a tool of Debian's name, Arch one of Red Hat's.
const STORES: [Store; 4] = [
    Store {
        name: "redhat",
        marker: "/etc/pki/ca-trust/source/anchors",
        tool: "/usr/bin/update-ca-trust",
        after_removal: &[],
        anchor: "/etc/pki/ca-trust/source/anchors/sluice.pem",
        bundle: "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        watched: "/etc/pki/ca-trust/extracted",
    },
    Store {
        name: "suse",
        marker: "/etc/pki/trust/anchors",
        tool: "/usr/sbin/update-ca-certificates",
        after_removal: &[],
        anchor: "/etc/pki/trust/anchors/sluice.pem",
        bundle: "/var/lib/ca-certificates/ca-bundle.pem",
        watched: "/var/lib/ca-certificates",
    },
    Store {
        name: "arch",
        marker: "/etc/ca-certificates/trust-source/anchors",
        tool: "/usr/bin/update-ca-trust",
        after_removal: &[],
        anchor: "/etc/ca-certificates/trust-source/anchors/sluice.pem",
        bundle: "/etc/ca-certificates/extracted/tls-ca-bundle.pem",
        watched: "/etc/ca-certificates/extracted",
    },
    Store {
        name: "debian",
        marker: "/usr/share/ca-certificates",
        tool: "/usr/sbin/update-ca-certificates",
        after_removal: &["--fresh"],
        anchor: "/usr/local/share/ca-certificates/sluice.crt",
        bundle: "/etc/ssl/certs/ca-certificates.crt",
        watched: "/etc/ssl/certs",
    },
];

/// This system's store; `None` if it has none that we know.
pub(super) fn find(host: &Tree) -> Option<&'static Store> {
    STORES.iter().find(|store| host.exists(Path::new(store.marker)) && host.exists(Path::new(store.tool)))
}

/// The store of this name: for removal, also where its tool is gone by now.
pub(super) fn named(name: &str) -> Option<&'static Store> {
    STORES.iter().find(|store| store.name == name)
}

impl Store {
    fn anchor_folder(&self) -> &'static Path {
        Path::new(self.anchor).parent().unwrap_or(Path::new("/"))
    }

    fn watched(&self) -> Vec<PathBuf> {
        vec![self.anchor_folder().to_owned(), PathBuf::from(self.watched)]
    }

    /// Puts the CA in, and the record of it on the ledger.
    pub(super) fn install(
        &self,
        host: &Tree,
        ca: &CaCertificate,
        ledger: &mut Ledger,
        say: &mut dyn FnMut(&str),
    ) -> Result<(), Error> {
        let watched = self.watched();
        ledger::change(host, ledger, self.name, &watched, say, || {
            let folder = host.at(self.anchor_folder());
            fs::create_dir_all(&folder).map_err(|source| Error::Write { path: folder, source })?;
            tree::replace(&host.at(Path::new(self.anchor)), ca.pem().as_bytes(), 0o644)?;
            host.run(Path::new(self.tool), &[], b"").map(drop)
        })
    }

    /// Takes the CA out: byte for byte what no one else changed since, by the system's tool what someone did.
    pub(super) fn remove(
        &self,
        host: &Tree,
        record: &Record,
        ca: &CaCertificate,
        say: &mut dyn FnMut(&str),
    ) -> Result<(), Error> {
        if ledger::undo(host, record, say)? == ledger::Undone::Partly {
            let anchor = host.at(Path::new(self.anchor));
            tree::gone(fs::remove_file(&anchor)).map_err(|source| Error::Write { path: anchor, source })?;
            if host.exists(Path::new(self.tool)) {
                let arguments: Vec<&OsStr> = self.after_removal.iter().map(OsStr::new).collect();
                host.run(Path::new(self.tool), &arguments, b"")?;
                say(&format!("others changed this store since: rebuilt by {}", self.tool));
            }
        }
        if self.holds(host, ca) {
            return Err(Error::Left { path: PathBuf::from(self.bundle) });
        }
        Ok(())
    }

    pub(super) fn status(&self, host: &Tree, ca: Option<&CaCertificate>) -> Trusted {
        let anchor = host.read(Path::new(self.anchor)).map(|pem| certificates(&pem)).unwrap_or_default();
        match ca {
            Some(ca) if self.holds(host, ca) => Trusted::Yes,
            Some(ca) if anchor.iter().any(|der| der != ca.der()) => Trusted::Stale,
            // An anchor that the tool has not taken up yet is not trusted by anyone.
            Some(_) => Trusted::No,
            None if anchor.is_empty() => Trusted::No,
            None => Trusted::Stale,
        }
    }

    fn holds(&self, host: &Tree, ca: &CaCertificate) -> bool {
        let bundle = host.read(Path::new(self.bundle)).unwrap_or_default();
        certificates(&bundle).iter().any(|der| der == ca.der())
    }
}
