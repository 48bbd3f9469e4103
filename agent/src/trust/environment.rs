//! The variables by which runtimes with roots of their own are told of ours. They reach the processes of one tag only.
//!
//! A variable that the caller has set to another bundle is overridden: the gate verifies the upstream, and what the job
//! must trust is our CA. The bundle holds the system's roots too, for connections that are tunnelled untouched.
//! `SSL_CERT_DIR` stays as it is: what it adds does no harm.

use std::path::Path;

use super::bundle::{TRUSTSTORE, WGETRC};
use crate::paths;

/// Options for every JVM that starts (JVM Tool Interface, "JAVA_TOOL_OPTIONS").
pub const JAVA_OPTIONS: &str = "JAVA_TOOL_OPTIONS";

/// Variables whose value is the merged bundle, and who reads each.
const BUNDLE_VARIABLES: [&str; 18] = [
    "SSL_CERT_FILE", // OpenSSL and so Ruby, PHP, Perl; Go; rustls-native-certs; Python ssl and httpx; uv
    "CURL_CA_BUNDLE", // curl, libcurl's wrappers that ask for it, R
    "REQUESTS_CA_BUNDLE", // Python requests and all that stands on it (Azure CLI, Poetry, conda)
    "PIP_CERT",      // pip
    "HTTPLIB2_CA_CERTS", // Python httplib2
    "AWS_CA_BUNDLE", // AWS CLI and SDKs
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE", // gcloud
    "GIT_SSL_CAINFO", // git
    "npm_config_cafile", // npm
    "YARN_HTTPS_CA_FILE_PATH", // yarn 2 and later
    "CARGO_HTTP_CAINFO", // cargo
    "DENO_CERT",     // Deno
    "BUNDLE_SSL_CA_CERT", // Ruby's bundler
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", // gRPC core: C++, Python, Ruby, PHP
    "PERL_LWP_SSL_CA_FILE", // Perl's LWP
    "HEX_CACERTS_PATH", // Elixir's hex
    "JULIA_SSL_CA_ROOTS_PATH", // Julia
    "NIX_SSL_CERT_FILE", // programs from Nix
];

/// The variables for a process that has none of them. Order is stable.
///
/// Java reads its options from a variable too, and says so: each JVM prints one line `Picked up JAVA_TOOL_OPTIONS: …` on
/// its standard error. A job that works and says one line more is better than one that fails.
pub fn environment(runtime_dir: &Path) -> Vec<(String, String)> {
    let file = |name: &str| runtime_dir.join(name).display().to_string();
    let mut variables: Vec<(String, String)> =
        BUNDLE_VARIABLES.iter().map(|name| ((*name).to_owned(), file(paths::BUNDLE))).collect();
    // Node adds this to its own roots; a bundle here would be read twice.
    variables.push(("NODE_EXTRA_CA_CERTS".to_owned(), file(paths::CA_CERT)));
    // wget has no variable for a bundle. This one stands for /etc/wgetrc, which our file repeats.
    variables.push(("SYSTEM_WGETRC".to_owned(), file(WGETRC)));
    variables.push((JAVA_OPTIONS.to_owned(), java_options(runtime_dir)));
    variables
}

/// Our value of [`JAVA_OPTIONS`] for a process that has one already: its options are kept, and come last, so that they
/// win. Every other variable holds one value, and ours takes its place.
pub fn keep_java_options(ours: &str, inherited: &str) -> String {
    match inherited.trim() {
        "" => ours.to_owned(),
        both if both.contains(ours) => both.to_owned(),
        theirs => format!("{ours} {theirs}"),
    }
}

/// A drop-in for a unit whose connections are taken: `systemctl edit UNIT`, or a file below `/etc/systemd/system/UNIT.d`.
pub fn systemd_drop_in(runtime_dir: &Path) -> String {
    let mut text = String::from(
        "# From `sluice trust env --systemd`: runtimes with roots of their own trust Sluice's CA in this unit only.\n\
         # A setting here replaces the unit's own of the same name; append the unit's own JAVA_TOOL_OPTIONS by hand.\n\
         [Service]\n",
    );
    for (name, value) in environment(runtime_dir) {
        // Quoting of systemd.syntax(7), and % is a specifier there.
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
        text.push_str(&format!("Environment=\"{name}={value}\"\n"));
    }
    text
}

fn java_options(runtime_dir: &Path) -> String {
    let store = runtime_dir.join(TRUSTSTORE).display().to_string();
    // The JVM takes quotes around an option that has spaces in it.
    let quote = if store.contains(char::is_whitespace) { "\"" } else { "" };
    format!("{quote}-Djavax.net.ssl.trustStore={store}{quote} -Djavax.net.ssl.trustStoreType=JKS")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value<'a>(variables: &'a [(String, String)], name: &str) -> &'a str {
        let mut found = variables.iter().filter(|(one, _)| one == name);
        let value = found.next().unwrap_or_else(|| panic!("{name} is set"));
        assert!(found.next().is_none(), "{name} once");
        &value.1
    }

    #[test]
    fn every_variable_points_into_the_runtime_directory() {
        let variables = environment(Path::new("/run/x"));
        assert_eq!(value(&variables, "SSL_CERT_FILE"), "/run/x/bundle.pem");
        assert_eq!(value(&variables, "NODE_EXTRA_CA_CERTS"), "/run/x/ca.pem");
        assert!(variables.iter().all(|(name, value)| value.contains("/run/x/") && name != "SSL_CERT_DIR"));
    }

    #[test]
    fn java_options_of_the_caller_are_kept_and_ours_added_once() {
        let ours = java_options(Path::new("/run/x"));
        let both = keep_java_options(&ours, " -Xmx1g ");
        assert_eq!(both, format!("{ours} -Xmx1g"));
        assert_eq!(keep_java_options(&ours, &both), both);
        assert_eq!(keep_java_options(&ours, " "), ours);
    }

    #[test]
    fn a_drop_in_is_quoted_for_systemd() {
        let text = systemd_drop_in(Path::new("/run/a \"b\" 100%"));
        assert!(
            text.contains("\n[Service]\nEnvironment=\"SSL_CERT_FILE=/run/a \\\"b\\\" 100%%/bundle.pem\"\n"),
            "{text}"
        );
    }
}
