//! `[credential.source]`: exactly one key says where the secret is found.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{local, quantity};
use crate::config::issuer;
use crate::config::section::{Place, Problems, Section, Sited, nearest};
use crate::types::credential::{
    Algorithm, AwsEndpoint, AwsSecret, AwsSsm, AzureSecret, ClientAuth, CredentialName, Exchange, GcpSecret,
    GithubApp, Jwt, OAuth2, Source, Sts, Vault, VaultLogin,
};

/// RFC 8693 §3.
const JWT_TYPE: &str = "urn:ietf:params:oauth:token-type:jwt";

/// A source, what it needs, and where it sends that.
pub(super) struct Read {
    pub source: Source,
    pub needs: Vec<Sited<CredentialName>>,
    pub urls: Vec<String>,
}

type Reader = fn(&mut Keys<'_, '_, '_>) -> Source;

const TABLES: [(&str, Reader); 10] = [
    ("oauth2", oauth2),
    ("exchange", exchange),
    ("github_app", github_app),
    ("jwt", jwt),
    ("vault", vault),
    ("aws_secret", aws_secret),
    ("aws_ssm", aws_ssm),
    ("sts", sts),
    ("gcp_secret", gcp_secret),
    ("azure_secret", azure_secret),
];

/// Reads the table; whatever is wrong is reported.
pub(super) fn resolve(mut section: Section<'_>, problems: &mut Problems<'_>) -> Option<Read> {
    let place = section.place().clone();
    let before = problems.0.len();
    let mut found: Vec<Read> = local::read(&mut section, problems).into_iter().map(Read::of).collect();
    for (key, read) in TABLES {
        if let Some(table) = section.table(key, problems) {
            let mut keys = Keys { section: table, key, problems, needs: Vec::new(), urls: Vec::new() };
            let source = read(&mut keys);
            let Keys { section, needs, urls, .. } = keys;
            section.finish(problems);
            found.push(Read { source, needs, urls });
        }
    }
    section.finish(problems);
    if found.len() > 1 {
        let keys: Vec<&str> = found.iter().map(|read| read.source.key()).collect();
        let what = format!("[[credential]] has more than one source: {}", keys.join(", "));
        problems.add(&place, what, "keep one");
    } else if found.is_empty() && problems.0.len() == before {
        problems.add(&place, "credential.source names no source", "add source.file or another source");
    }
    found.pop()
}

impl Read {
    /// A source that needs no other.
    pub(super) fn of(source: Source) -> Self {
        Self { source, needs: Vec::new(), urls: Vec::new() }
    }
}

/// A table of one source, read key by key.
struct Keys<'k, 's, 'p> {
    section: Section<'s>,
    key: &'static str,
    problems: &'k mut Problems<'p>,
    needs: Vec<Sited<CredentialName>>,
    urls: Vec<String>,
}

impl Keys<'_, '_, '_> {
    fn wrong(&mut self, place: &Place, key: &str, value: &str, remedy: &str) {
        self.problems.add(place, format!("credential.source.{}.{key} is {value:?}", self.key), remedy);
    }

    fn missing(&mut self, key: &str) {
        let place = self.section.place().clone();
        let what = format!("credential.source.{} has no {key}", self.key);
        self.problems.add(&place, what, format!("add {key} = \"…\""));
    }

    fn sited(&mut self, key: &'static str) -> Option<Sited<String>> {
        let text = self.section.quantity(key, self.problems)?;
        if text.value.is_empty() || text.value.contains(char::is_control) {
            self.wrong(&text.place, key, &text.value, "write a text without control characters");
        }
        Some(text)
    }

    fn maybe(&mut self, key: &'static str) -> Option<String> {
        self.sited(key).map(|text| text.value)
    }

    fn text(&mut self, key: &'static str) -> String {
        self.maybe(key).unwrap_or_else(|| {
            self.missing(key);
            String::new()
        })
    }

    fn texts(&mut self, key: &'static str) -> Vec<String> {
        let texts = self.section.list([key, key], self.problems).unwrap_or_default();
        texts.into_iter().map(|text| text.value).collect()
    }

    fn maybe_url(&mut self, key: &'static str) -> Option<String> {
        let text = self.sited(key)?;
        if let Some(why) = issuer::bad_url(&text.value) {
            self.wrong(&text.place, key, &text.value, &format!("{why}; write an https:// URL"));
        }
        self.urls.push(text.value.clone());
        Some(text.value)
    }

    fn url(&mut self, key: &'static str) -> String {
        self.maybe_url(key).unwrap_or_else(|| {
            self.missing(key);
            String::new()
        })
    }

    /// A service's own URL, unless another is given.
    fn url_or(&mut self, key: &'static str, own: String) -> Option<String> {
        let given = self.maybe_url(key);
        if given.is_none() {
            self.urls.push(own);
        }
        given
    }

    fn maybe_secret(&mut self, key: &'static str) -> Option<CredentialName> {
        let text = self.sited(key)?;
        match CredentialName::parse(&text.value) {
            Ok(name) => {
                self.needs.push(Sited { value: name.clone(), place: text.place });
                Some(name)
            }
            Err(_) => {
                self.wrong(&text.place, key, &text.value, "write the name of another [[credential]]");
                Some(nobody())
            }
        }
    }

    fn secret(&mut self, key: &'static str) -> CredentialName {
        self.maybe_secret(key).unwrap_or_else(|| {
            self.missing(key);
            nobody()
        })
    }

    fn duration(&mut self, key: &'static str, (min, max, default): (u64, u64, u64)) -> Duration {
        let text = self.section.quantity(key, self.problems);
        let bounds = Duration::from_secs(min)..=Duration::from_secs(max);
        match text.map(|text| (quantity::duration(&text.value).filter(|d| bounds.contains(d)), text)) {
            None => Duration::from_secs(default),
            Some((Some(duration), _)) => duration,
            Some((None, text)) => {
                let remedy = format!("write a duration from {min}s to {max}s");
                self.wrong(&text.place, key, &text.value, &remedy);
                Duration::from_secs(default)
            }
        }
    }

    fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let text = self.sited(key)?;
        let found = words.iter().find(|(word, _)| *word == text.value).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let remedy = match nearest(&text.value, &names) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("write one of {}", names.join(", ")),
            };
            self.wrong(&text.place, key, &text.value, &remedy);
        }
        found
    }

    fn auth(&mut self) -> ClientAuth {
        let words = [("basic", ClientAuth::Basic), ("post", ClientAuth::Post)];
        self.word("auth", &words).unwrap_or_default()
    }

    /// Another table within, read in its place.
    fn within<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let table = self.section.table(key, self.problems)?;
        let outer = std::mem::replace(&mut self.section, table);
        let found = read(self);
        std::mem::replace(&mut self.section, outer).finish(self.problems);
        Some(found)
    }

    fn aws(&mut self, service: &str) -> AwsEndpoint {
        let region = self.text("region");
        let endpoint = self.url_or("endpoint", format!("https://{service}.{region}.amazonaws.com"));
        AwsEndpoint { region, endpoint, keys: self.secret("keys") }
    }
}

/// Stands where a name could not be read: the problem has been told, and no such credential is there.
fn nobody() -> CredentialName {
    CredentialName::parse("unnamed").expect("a good name")
}

fn oauth2(keys: &mut Keys<'_, '_, '_>) -> Source {
    Source::OAuth2(OAuth2 {
        token_url: keys.url("token_url"),
        client_id: keys.text("client_id"),
        secret: keys.secret("secret"),
        auth: keys.auth(),
        scopes: keys.texts("scopes"),
        audience: keys.maybe("audience"),
    })
}

fn exchange(keys: &mut Keys<'_, '_, '_>) -> Source {
    Source::Exchange(Exchange {
        token_url: keys.url("token_url"),
        client_id: keys.maybe("client_id"),
        secret: keys.maybe_secret("secret"),
        auth: keys.auth(),
        scopes: keys.texts("scopes"),
        audience: keys.maybe("audience"),
        resource: keys.maybe("resource"),
        subject_token_type: keys.maybe("subject_token_type").unwrap_or_else(|| JWT_TYPE.to_owned()),
        requested_token_type: keys.maybe("requested_token_type"),
    })
}

fn github_app(keys: &mut Keys<'_, '_, '_>) -> Source {
    let api = "https://api.github.com".to_owned();
    let mut permissions = BTreeMap::new();
    for named in keys.section.lists("permissions", keys.problems) {
        let value = named.values.into_iter().next().map(|value| value.value).unwrap_or_default();
        permissions.insert(named.name.value, value);
    }
    Source::GithubApp(GithubApp {
        app_id: keys.text("app_id"),
        installation_id: keys.text("installation_id"),
        key: keys.secret("key"),
        api_url: keys.url_or("api_url", api.clone()).unwrap_or(api),
        repositories: keys.texts("repositories"),
        permissions,
    })
}

fn jwt(keys: &mut Keys<'_, '_, '_>) -> Source {
    let algorithms = [
        ("RS256", Algorithm::Rs256),
        ("PS256", Algorithm::Ps256),
        ("ES256", Algorithm::Es256),
        ("ES384", Algorithm::Es384),
        ("EdDSA", Algorithm::EdDsa),
        ("HS256", Algorithm::Hs256),
    ];
    Source::Jwt(Jwt {
        key: keys.secret("key"),
        algorithm: keys.word("algorithm", &algorithms).unwrap_or(Algorithm::Rs256),
        key_id: keys.maybe("key_id"),
        issuer: keys.text("issuer"),
        subject: keys.maybe("subject"),
        audience: keys.text("audience"),
        lifetime: keys.duration("lifetime", (10, 3600, 300)),
        token_url: keys.maybe_url("token_url"),
        scopes: keys.texts("scopes"),
    })
}

fn vault(keys: &mut Keys<'_, '_, '_>) -> Source {
    let url = keys.url("url");
    let path = keys.text("path").trim_matches('/').to_owned();
    let (field, namespace) = (keys.text("field"), keys.maybe("namespace"));
    let logins = keys.within("login", |keys| {
        let token = keys.maybe_secret("token").map(VaultLogin::Token);
        let approle = keys.within("approle", |keys| VaultLogin::AppRole {
            mount: keys.maybe("mount").unwrap_or_else(|| "approle".to_owned()),
            role_id: keys.text("role_id"),
            secret: keys.secret("secret"),
        });
        let jwt = keys.within("jwt", |keys| VaultLogin::Jwt {
            mount: keys.maybe("mount").unwrap_or_else(|| "jwt".to_owned()),
            role: keys.text("role"),
            secret: keys.maybe_secret("secret"),
        });
        let cert = keys.within("cert", |keys| VaultLogin::Cert {
            mount: keys.maybe("mount").unwrap_or_else(|| "cert".to_owned()),
            role: keys.maybe("role"),
            secret: keys.secret("secret"),
        });
        [token, approle, jwt, cert].into_iter().flatten().collect::<Vec<_>>()
    });
    let mut logins = logins.unwrap_or_default();
    if logins.len() != 1 {
        let place = keys.section.place().clone();
        let remedy = "write one of login.token, login.approle, login.jwt, login.cert";
        keys.problems.add(&place, "credential.source.vault has no login, or several", remedy);
    }
    let login = logins.pop().unwrap_or_else(|| VaultLogin::Token(nobody()));
    Source::Vault(Vault { url, path, field, namespace, login })
}

fn aws_secret(keys: &mut Keys<'_, '_, '_>) -> Source {
    let aws = keys.aws("secretsmanager");
    Source::AwsSecret(AwsSecret { aws, id: keys.text("id"), field: keys.maybe("field") })
}

fn aws_ssm(keys: &mut Keys<'_, '_, '_>) -> Source {
    Source::AwsSsm(AwsSsm { aws: keys.aws("ssm"), parameter: keys.text("parameter") })
}

fn sts(keys: &mut Keys<'_, '_, '_>) -> Source {
    Source::Sts(Sts {
        aws: keys.aws("sts"),
        role_arn: keys.text("role_arn"),
        external_id: keys.maybe("external_id"),
        duration: keys.duration("duration", (900, 43_200, 3600)),
    })
}

fn gcp_secret(keys: &mut Keys<'_, '_, '_>) -> Source {
    Source::GcpSecret(GcpSecret {
        project: keys.text("project"),
        secret: keys.text("secret"),
        version: keys.maybe("version").unwrap_or_else(|| "latest".to_owned()),
        key: keys.secret("key"),
        endpoint: keys.url_or("endpoint", "https://secretmanager.googleapis.com".to_owned()),
    })
}

fn azure_secret(keys: &mut Keys<'_, '_, '_>) -> Source {
    Source::AzureSecret(AzureSecret {
        vault_url: keys.url("vault_url"),
        name: keys.text("name"),
        version: keys.maybe("version"),
        tenant: keys.text("tenant"),
        client_id: keys.text("client_id"),
        secret: keys.secret("secret"),
        login_url: keys.url_or("login_url", "https://login.microsoftonline.com".to_owned()),
    })
}
