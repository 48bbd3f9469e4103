//! `sluice trust` on a real Debian with a real JRE: in goes the CA, out it comes, and every byte is what it was.

use std::path::PathBuf;

use sluice_tests::tree::{Ran, Tree};

/// Everything that anyone on the host reads roots from, by content, mode, owner and link target.
const FINGERPRINT: &str = r#"
fingerprint() {
    for dir in /etc/ssl /etc/ca-certificates /etc/ca-certificates.conf /usr/local/share /etc/java-17-openjdk /etc/pki /opt; do
        [ -e $dir ] && find $dir \( -type f -printf '%p %m %U %G ' -exec sha256sum {} \; \) -o -printf '%p %y %m %l\n'
    done | sort > /tmp/$1
}
same() { diff /tmp/$1 /tmp/$2 && echo "same $1 $2"; }
trusted() { openssl verify -CAfile /etc/ssl/certs/ca-certificates.crt /tmp/$1/leaf.pem >/dev/null 2>&1 && echo "$1 trusted" || echo "$1 unknown"; }
java_trusted() { keytool -list -rfc -keystore $2 -storepass changeit 2>/dev/null | tr -d '\r\n' | grep -qF "$(sed '/-----/d' /tmp/$1/ca.pem | tr -d '\n')" && echo "$1 in $2" || echo "$1 not in $2"; }
make_ca() {
    mkdir -p /tmp/$1
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /tmp/$1/ca.key -out /tmp/$1/ca.pem -days 9 -subj "/CN=$1" 2>/dev/null
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /tmp/$1/leaf.key -out /tmp/$1/leaf.csr -subj /CN=outside.example 2>/dev/null
    printf 'subjectAltName=DNS:outside.example\n' > /tmp/$1/ext
    openssl x509 -req -in /tmp/$1/leaf.csr -CA /tmp/$1/ca.pem -CAkey /tmp/$1/ca.key -days 5 -extfile /tmp/$1/ext -out /tmp/$1/leaf.pem 2>/dev/null
    cat /tmp/$1/leaf.pem /tmp/$1/leaf.key > /tmp/$1/server.pem
}
mkdir -p /run/sluice
use_ca() { cp /tmp/$1/ca.pem /run/sluice/ca.pem; }
"#;

fn story(script: &str) -> Ran {
    let tree = Tree::debian().expect("a tree");
    let binary = sluice_tests::binary::sluice_binary().expect("the binary");
    let script = format!("{FINGERPRINT}\nmake_ca one\nmake_ca two\nuse_ca one\n{script}");
    tree.boot(&script).with(binary, "/usr/bin/sluice").run().expect("booted").passed().expect("passed")
}

/// That each line is in the output, in this order.
fn in_order(ran: &Ran, lines: &[&str]) {
    let mut rest = ran.output.lines();
    for line in lines {
        assert!(
            rest.any(|found| found.trim() == *line),
            "`{line}` is missing, or not in its place:\n{}",
            ran.output
        );
    }
}

#[test]
fn installed_and_removed_every_byte_is_what_it_was() {
    let ran = story(
        "fingerprint before
        trusted one
        sluice trust status
        sluice trust install
        trusted one
        java_trusted one /etc/ssl/certs/java/cacerts
        sluice trust status
        fingerprint installed
        sluice trust install
        fingerprint again
        same installed again
        sluice trust remove
        trusted one
        java_trusted one /etc/ssl/certs/java/cacerts
        sluice trust status
        fingerprint after
        same before after
        sluice trust remove
        find /var/lib/sluice -mindepth 1",
    );
    in_order(
        &ran,
        &[
            "one unknown",
            "not      debian  /etc/ssl/certs/ca-certificates.crt",
            "debian: added /usr/local/share/ca-certificates/sluice.crt",
            "debian: trusted",
            "java:/etc/ssl/certs/java/cacerts: trusted already",
            "one trusted",
            "one in /etc/ssl/certs/java/cacerts",
            "trusted  debian  /etc/ssl/certs/ca-certificates.crt",
            "trusted  java    /etc/ssl/certs/java/cacerts",
            "debian: trusted already",
            "same installed again",
            "one unknown",
            "one not in /etc/ssl/certs/java/cacerts",
            "not      debian  /etc/ssl/certs/ca-certificates.crt",
            "same before after",
            "nothing is installed",
        ],
    );
    assert!(ran.output.trim_end().ends_with("nothing is installed"), "state is left:\n{}", ran.output);
}

#[test]
fn what_others_changed_since_stays_and_ours_goes() {
    let ran = story(
        "sluice trust install >/dev/null
        cp /tmp/two/ca.pem /usr/local/share/ca-certificates/two.crt
        update-ca-certificates >/dev/null 2>&1
        trusted one; trusted two
        sluice trust remove
        trusted one; trusted two
        java_trusted one /etc/ssl/certs/java/cacerts
        java_trusted two /etc/ssl/certs/java/cacerts
        find /etc/ssl /usr/local/share -name '*sluice*' -o -xtype l
        echo end",
    );
    in_order(
        &ran,
        &[
            "one trusted",
            "two trusted",
            "debian: others changed this store since: rebuilt by /usr/sbin/update-ca-certificates",
            "debian: restored",
            "one unknown",
            "two trusted",
            "one not in /etc/ssl/certs/java/cacerts",
            "two in /etc/ssl/certs/java/cacerts",
            "end",
        ],
    );
    let after = ran.output.rsplit("cacerts\n").next().unwrap_or_default();
    assert_eq!(after, "end\n", "a trace or a dangling link is left:\n{}", ran.output);
}

#[test]
fn a_new_ca_takes_the_place_of_the_old() {
    let ran = story(
        "fingerprint before
        sluice trust install >/dev/null
        use_ca two
        sluice trust status
        sluice trust install
        trusted one; trusted two
        sluice trust remove >/dev/null
        fingerprint after
        same before after",
    );
    in_order(
        &ran,
        &[
            "stale    debian  /etc/ssl/certs/ca-certificates.crt",
            "stale    java    /etc/ssl/certs/java/cacerts",
            "the CA has changed: removing the earlier one",
            "debian: trusted",
            "one unknown",
            "two trusted",
            "same before after",
        ],
    );
}

#[test]
fn keystores_of_jres_that_debian_does_not_know_are_changed_by_their_own_keytool() {
    let ran = story(
        "jre=/opt/jre-17
        mkdir -p $jre/lib/security $jre/bin
        ln -s /usr/lib/jvm/java-17-openjdk-amd64/bin/keytool $jre/bin/keytool
        keytool -importkeystore -srckeystore /etc/ssl/certs/java/cacerts -srcstorepass changeit \
            -destkeystore $jre/lib/security/cacerts -deststoretype PKCS12 -deststorepass changeit >/dev/null 2>&1
        mkdir -p /opt/locked/lib/security
        keytool -importkeystore -srckeystore /etc/ssl/certs/java/cacerts -srcstorepass changeit \
            -destkeystore /opt/locked/lib/security/cacerts -deststoretype PKCS12 -deststorepass another1 >/dev/null 2>&1
        fingerprint before
        sluice trust install --only java && echo unexpected || echo failed for one
        java_trusted one $jre/lib/security/cacerts
        java_trusted one /etc/ssl/certs/java/cacerts
        sluice trust status --json 2>/dev/null
        sluice trust remove
        fingerprint after
        same before after
        sluice trust install --only java --java-home $jre >/dev/null 2>&1 || true
        keytool -importcert -noprompt -alias two -file /tmp/two/ca.pem -keystore $jre/lib/security/cacerts -storepass changeit 2>/dev/null
        sluice trust remove
        java_trusted one $jre/lib/security/cacerts
        java_trusted two $jre/lib/security/cacerts",
    );
    in_order(
        &ran,
        &[
            "java:/opt/jre-17/lib/security/cacerts: changed /opt/jre-17/lib/security/cacerts",
            "failed for one",
            "one in /opt/jre-17/lib/security/cacerts",
            "one in /etc/ssl/certs/java/cacerts",
            r#"{"error":null,"path":"/opt/jre-17/lib/security/cacerts","state":"trusted","store":"java:/opt/jre-17/lib/security/cacerts"}"#,
            "same before after",
            "java:/opt/jre-17/lib/security/cacerts: deleted sluice from /opt/jre-17/lib/security/cacerts",
            "one not in /opt/jre-17/lib/security/cacerts",
            "two in /opt/jre-17/lib/security/cacerts",
        ],
    );
    assert!(
        ran.output.contains("sluice: java:/opt/locked/lib/security/cacerts: "),
        "the failure is named:\n{}",
        ran.output
    );
}

#[test]
fn every_jre_reads_the_truststore_that_we_write_without_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let own =
        rcgen::generate_simple_self_signed(["own.example".to_owned()]).expect("a certificate").cert.pem();
    let written = sluice::trust::write_bundle(folder.path(), &own).expect("written");
    let store = folder.path().join("truststore.jks");
    let homes = std::fs::read_dir("/usr/lib/jvm").expect("a JRE is installed by setup");
    let keytools: Vec<PathBuf> = homes
        .filter_map(|home| Some(home.ok()?.path().join("bin/keytool")))
        .filter(|tool| tool.exists())
        .collect();
    assert!(!keytools.is_empty(), "no keytool below /usr/lib/jvm");
    for keytool in keytools {
        let mut list = std::process::Command::new(&keytool);
        list.args(["-list", "-rfc", "-storepass", "changeit", "-keystore"]).arg(&store);
        let listed = list.output().expect("keytool runs");
        let text = String::from_utf8_lossy(&listed.stdout);
        let found = text.matches("BEGIN CERTIFICATE").count();
        assert!(listed.status.success() && found == written.certificates, "{}: {text}", keytool.display());
        let flat = |pem: &str| pem.replace(['\r', '\n'], "");
        assert!(flat(&text).contains(&flat(&own)), "{}: ours is missing", keytool.display());
    }
}

/// Red Hat's layout, with a stand-in for its tool that rebuilds the bundle from all anchors, as the real one does.
#[test]
fn red_hats_store_is_appended_to_and_restored() {
    let ran = story(
        "pki=/etc/pki/ca-trust
        mkdir -p $pki/source/anchors $pki/extracted/pem
        cat > /usr/bin/update-ca-trust <<'TOOL'
#!/bin/sh
[ -e /etc/pki/broken ] && { echo half > /etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem; echo broken >&2; exit 1; }
cat /etc/ssl/certs/ca-certificates.crt /etc/pki/ca-trust/source/anchors/* > /etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem 2>/dev/null || true
TOOL
        chmod +x /usr/bin/update-ca-trust
        update-ca-trust
        fingerprint before
        sluice trust install --only system
        grep -c . $pki/source/anchors/sluice.pem >/dev/null && echo anchored
        sluice trust remove
        fingerprint after
        same before after
        touch /etc/pki/broken; fingerprint before
        sluice trust install --only system || echo failed
        fingerprint after
        same before after
        rm /etc/pki/broken
        sluice trust install --only system >/dev/null
        cp /tmp/two/ca.pem $pki/source/anchors/two.pem; update-ca-trust
        sluice trust remove
        ls $pki/source/anchors
        grep -qF \"$(sed -n 2p /tmp/one/ca.pem)\" $pki/extracted/pem/tls-ca-bundle.pem || echo one gone
        grep -qF \"$(sed -n 2p /tmp/two/ca.pem)\" $pki/extracted/pem/tls-ca-bundle.pem && echo two stays",
    );
    in_order(
        &ran,
        &[
            "redhat: added /etc/pki/ca-trust/source/anchors/sluice.pem",
            "redhat: trusted",
            "anchored",
            "same before after",
            "failed",
            "same before after",
            "redhat: others changed this store since: rebuilt by /usr/bin/update-ca-trust",
            "two.pem",
            "one gone",
            "two stays",
        ],
    );
    assert!(
        ran.output.contains("update-ca-trust: exit status: 1: broken"),
        "the tool's reason:\n{}",
        ran.output
    );
}
