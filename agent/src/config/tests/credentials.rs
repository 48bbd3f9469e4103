//! Credentials as users write them.

use std::time::Duration;

use super::*;
use crate::types::credential::{Inject, Source, VaultLogin};

const GOOD: &str = r#"
[[credential]]
name = "openai"
hosts = ["api.openai.com", "*.openai.azure.com"]
ports = [443, 8443]
paths = "/v1/**"
methods = "POST"
tags = "ci"
identities = "alice"
insecure = true
ttl = "10m"
source.file = "/etc/sluice/credentials/openai"
inject.bearer = true
[[credential]]
name = "registry"
host = "registry.example.com"
source.command = ["/usr/bin/pass", "registry"]
inject.basic = "robot"
[[credential]]
name = "pair"
host = "h.example.com"
source.env = "PAIR"
inject.basic = true
[[credential]]
name = "gitlab"
host = "h.example.com"
source.systemd = "gitlab"
inject.header = "Private-Token"
inject.prefix = "token "
[[credential]]
name = "client"
source.file = "/etc/sluice/credentials/client"
hosts = ["login.example.com"]
[[credential]]
name = "oauth"
host = "h.example.com"
source.oauth2 = { token_url = "https://login.example.com/token", client_id = "me", secret = "client", scopes = ["a"], auth = "post" }
inject.cookie = "session"
[[credential]]
name = "vault"
host = "h.example.com"
source.vault = { url = "https://login.example.com", path = "/secret/data/x/", field = "key", login.approle = { role_id = "r", secret = "client" } }
inject.query = "key"
[[credential]]
name = "role"
host = "*.amazonaws.com"
source.sts = { region = "eu-central-1", keys = "keys", role_arn = "arn:aws:iam::1:role/r" }
inject.sigv4 = { region = "eu-central-1" }
[[credential]]
name = "keys"
source.file = "/etc/sluice/credentials/keys"
[[credential]]
name = "spare"
host = "h.example.com"
source.file = "/etc/sluice/credentials/spare"
inject.tls = true
[[rule]]
name = "r"
hosts = ["api.openai.com"]
verdict = "allow"
credential = "openai"
"#;

#[test]
fn every_key_of_a_credential() {
    let rules: String = ["registry", "pair", "gitlab", "oauth", "vault", "role"]
        .map(|name| format!("[[rule]]\nname = \"{name}\"\npath = \"/{name}\"\nverdict = \"allow\"\ncredential = \"{name}\"\n"))
        .concat();
    let dir = directory(&[(MAIN_FILE, GOOD), ("policy.d/r.toml", &rules)]);
    let config = load(dir.path()).expect("good");
    let credentials = &config.policy.credentials;
    let by_name =
        |name: &str| credentials.iter().find(|c| c.name.as_str() == name).unwrap_or_else(|| panic!("{name}"));
    let openai = by_name("openai");
    assert_eq!(openai.source, Source::File("/etc/sluice/credentials/openai".into()));
    assert_eq!((openai.inject.clone(), openai.ttl), (Some(Inject::Bearer), Duration::from_secs(600)));
    let binding = &openai.binding;
    assert!(binding.insecure && binding.ports.hold(8443) && !binding.ports.hold(80));
    assert_eq!((binding.hosts.len(), &binding.methods[..]), (2, &["POST".to_owned()][..]));
    assert_eq!((binding.paths.len(), binding.tags.len(), binding.identities.len()), (1, 1, 1));
    assert_eq!(by_name("registry").inject, Some(Inject::Basic { user: Some("robot".into()) }));
    assert_eq!(by_name("pair").inject, Some(Inject::Basic { user: None }));
    let header = Inject::Header { name: "private-token".into(), prefix: "token ".into() };
    assert_eq!(by_name("gitlab").inject, Some(header));
    assert_eq!(by_name("client").inject, None);
    let Source::Vault(vault) = &by_name("vault").source else { panic!("a vault") };
    assert_eq!(vault.path, "secret/data/x");
    assert!(matches!(&vault.login, VaultLogin::AppRole { mount, .. } if mount == "approle"));
    assert!(matches!(&by_name("role").inject, Some(Inject::Sigv4 { region: Some(_), service: None })));
    let warnings: Vec<&str> = config.warnings.iter().map(|w| &*w.what).collect();
    assert_eq!(warnings, ["[[credential]] spare: no rule uses it"]);
    assert_eq!(config.policy.rules[0].credential.as_ref().map(|name| name.as_str()), Some("openai"));
}

/// What is said of one credential's text, with a rule that names it.
fn said(credential: &str, rule: &str) -> Vec<String> {
    let rule = format!("[[rule]]\nname = \"r\"\n{rule}\n");
    let rule = if rule.contains("verdict") { rule } else { format!("{rule}verdict = \"allow\"\n") };
    all_complaints(&[
        (MAIN_FILE, &format!("[[credential]]\nname = \"c\"\n{credential}\n")),
        ("policy.d/r.toml", &rule),
    ])
}

const SOURCE: &str = "source.env = \"C\"\n";
const SOUND: &str = "source.env = \"C\"\nhost = \"a.example.com\"\ninject.bearer = true\n";
const NAMED: &str = "credential = \"c\"";

/// A credential, a rule, and what is said of them.
const MISTAKES: [(&str, &str, &str); 30] = [
    ("", NAMED, "sluice.toml:1:1: [[credential]] c has no source"),
    (SOURCE, NAMED, "c has no inject: it serves other credentials only"),
    ("source.env = \"C\"\ninject.bearer = true", NAMED, "[[credential]] c has no hosts"),
    (
        "source.env = \"C\"\nhost = \"*\"\ninject.bearer = true",
        NAMED,
        "sluice.toml:4:8: host \"*\": that is no binding",
    ),
    (
        "source.env = \"C\"\nhost = \"*.co.uk\"\ninject.bearer = true",
        NAMED,
        "anybody can register a name below it",
    ),
    ("source.env = \"C\"\nhost = \"1.2.3.4\"\ninject.bearer = true", NAMED, "is an address"),
    (
        "source.env = \"C\"\nhost = \"a.example.com\"\ninject.beaerer = true",
        NAMED,
        "did you mean credential.inject.bearer?",
    ),
    ("source.env = \"C\"\nhost = \"a.example.com\"\ninject.bearer = false", NAMED, "bearer is false"),
    (
        "source.env = \"C\"\nhost = \"a.example.com\"\ninject.bearer = true\ninject.query = \"k\"",
        NAMED,
        "more than one way: bearer, query",
    ),
    (
        "source.env = \"C\"\nhost = \"a.example.com\"\ninject.header = \"Host\"",
        NAMED,
        "inject.header is \"Host\"",
    ),
    (
        "source.env = \"C\"\nhost = \"a.example.com\"\ninject.header = \"a b\"",
        NAMED,
        "inject.header is \"a b\"",
    ),
    (
        "source.env = \"C\"\nhost = \"a.example.com\"\ninject.basic = \"a:b\"",
        NAMED,
        "inject.basic is \"a:b\"",
    ),
    (
        "source.env = \"C\"\nsource.file = \"/x\"\nhost = \"a.example.com\"\ninject.bearer = true",
        NAMED,
        "more than one source: file, env",
    ),
    ("source.file = \"x\"\nhost = \"a.example.com\"\ninject.bearer = true", NAMED, "source.file is \"x\""),
    (
        "source.file = \"/a/../x\"\nhost = \"a.example.com\"\ninject.bearer = true",
        NAMED,
        "source.file is \"/a/../x\"",
    ),
    (
        "source.command = [\"pass\"]\nhost = \"a.example.com\"\ninject.bearer = true",
        NAMED,
        "source.command is no command",
    ),
    (
        "source.systemd = \"../x\"\nhost = \"a.example.com\"\ninject.bearer = true",
        NAMED,
        "source.systemd is \"../x\"",
    ),
    (
        "source.oauth2 = { token_url = \"http://x/\", secret = \"d\" }\nhost = \"a.example.com\"\ninject.bearer = true",
        NAMED,
        "oauth2 has no client_id",
    ),
    (
        "source.oauth2 = { token_url = \"http://x/\", client_id = \"i\", secret = \"d\" }\nhost = \"a.example.com\"\ninject.bearer = true",
        NAMED,
        "token_url is \"http://x/\"",
    ),
    (
        "source.oauth2 = { token_url = \"https://x/\", client_id = \"i\", secret = \"d\" }\nhost = \"a.example.com\"\ninject.bearer = true",
        NAMED,
        "there is no credential \"d\"",
    ),
    (
        "source.oauth2 = { token_url = \"https://x/\", client_id = \"i\", secret = \"c\" }\nhost = \"a.example.com\"\ninject.bearer = true",
        NAMED,
        "c needs c, which needs c",
    ),
    (
        SOUND,
        "credential = \"d\"",
        "policy.d/r.toml:3:14: [[rule]] r: there is no credential \"d\" (did you mean \"c\"?)",
    ),
    (SOUND, "credential = \"c\"\nverdict = \"deny\"", "it refuses, and names a credential"),
    (SOUND, "credential = \"c\"\nhost = \"b.example.com\"", "bound to none of its hosts"),
    (SOUND, "credential = \"c\"\nport = 80", "bound to none of its ports"),
    (SOUND, "credential = \"c\"\nport = 80", "plain HTTP takes insecure = true"),
    (SOUND, "credential = \"c\"\nprotocol = \"tunnel\"", "nothing can be put into a tunnel"),
    (
        "source.env = \"C\"\nhost = \"a.example.com\"\ninject.bearer = true\nmethod = \"GET\"",
        "credential = \"c\"\nmethod = \"POST\"",
        "bound to none of its methods",
    ),
    (
        "source.env = \"C\"\nhost = \"a.example.com\"\ninject.bearer = true\nttl = \"5\"",
        NAMED,
        "credential.ttl is \"5\"",
    ),
    ("source.env = \"C\"\nsecret = \"sk-1\"", NAMED, "unknown key credential.secret"),
];

#[test]
fn each_mistake_is_told_with_its_place() {
    for (credential, rule, wanted) in MISTAKES {
        let all = said(credential, rule);
        assert!(all.iter().any(|one| one.contains(wanted)), "{credential}\n{rule}\n{wanted}\n{all:#?}");
    }
}

#[test]
fn a_secret_is_sent_to_no_endpoint_that_it_is_not_bound_to() {
    let text = "source.oauth2 = { token_url = \"https://x.example.com/\", client_id = \"i\", secret = \"d\" }\n\
                host = \"a.example.com\"\ninject.bearer = true\n\
                [[credential]]\nname = \"d\"\nsource.env = \"D\"\nhost = \"y.example.com\"\n";
    let all = said(text, "credential = \"c\"");
    assert_eq!(all.len(), 1, "{all:#?}");
    assert!(all[0].contains("sends d to x.example.com, which it is not bound to"), "{all:#?}");
}

#[test]
fn what_serves_others_serves_whom_it_is_bound_to() {
    let with = |of: &str, client: &str| {
        let text = format!(
            "source.oauth2 = {{ token_url = \"https://{of}\n\
             host = \"a.example.com\"\ninject.bearer = true\n\
             [[credential]]\nname = \"d\"\nsource.env = \"D\"\n{client}\n"
        );
        said(&text, "credential = \"c\"")
    };
    let oauth = |host: &str| format!("{host}/\", client_id = \"i\", secret = \"d\" }}");
    let bound = |host: &str, of: &str| format!("{}\n{of}", oauth(host));
    for (of, client) in [
        (oauth("x.example.com"), "host = \"x.example.com\""),
        (oauth("192.0.2.1:8200"), ""),
        (oauth("x.example.com:8443"), "ports = 8443"),
        (bound("x.example.com", "tags = [\"ci\", \"ci-*\"]"), "tags = [\"c*\", \"ci-*\"]"),
        (bound("x.example.com", "identities = \"a\""), "identities = \"*\""),
    ] {
        assert_eq!(with(&of, client), Vec::<String>::new(), "{of} {client}");
    }
    for (of, client, wanted) in [
        (oauth("192.0.2.1"), "host = \"x.example.com\"", "sends d to 192.0.2.1, which it is not bound to"),
        (oauth("[2001:db8::1]"), "host = \"x.example.com\"", "sends d to [2001:db8::1], which"),
        (oauth("x.example.com"), "ports = 8443", "sends d to port 443 of x.example.com, which"),
        (oauth("x.example.com"), "tags = \"ci\"", "c is made of d, which is bound to tags"),
        (bound("x.example.com", "tags = \"c*\""), "tags = \"ci\"", "c is made of d, which is bound to tags"),
        (oauth("x.example.com"), "identities = \"alice\"", "which is bound to identities"),
    ] {
        let all = with(&of, client);
        assert!(all.len() == 1 && all[0].contains(wanted), "{of} {client} {all:#?}");
    }
}

#[test]
fn names_are_unique() {
    let text = "source.env = \"C\"\n[[credential]]\nname = \"c\"\nsource.env = \"D\"\n";
    assert!(said(text, "").iter().any(|one| one.contains("its name is taken already at")));
}

#[test]
fn what_is_for_everyone_is_made_of_nobodys_own() {
    let text = r#"
[[credential]]
name = "own"
hosts = ["vault.example.com", "idp.example.com"]
source.exchange = { token_url = "https://idp.example.com/token" }
[[credential]]
name = "shared"
hosts = ["api.example.com"]
source.vault = { url = "https://vault.example.com:8200", path = "secret/data/x", field = "key", login.token = "own" }
inject.bearer = true
[[rule]]
name = "r"
hosts = ["api.example.com"]
verdict = "allow"
credential = "shared"
"#;
    let said = complaints(&[(MAIN_FILE, text)]);
    assert!(said.len() == 1 && said[0].contains("is made for all callers alike, and needs own"), "{said:?}");
}
