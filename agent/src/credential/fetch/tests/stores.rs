//! Secret stores: Vault, AWS, Google, Azure.

use super::*;

#[tokio::test]
async fn google() {
    let source = GcpSecret {
        project: "p".into(),
        secret: "s".into(),
        version: "latest".into(),
        key: name("k"),
        endpoint: None,
    };
    let file = json!({"type": "service_account", "client_email": "me@p.iam.gserviceaccount.com",
        "private_key_id": "id-1", "private_key": rsa(), "token_uri": "https://evil.example/"});
    let rig = rig(Source::GcpSecret(source), &[("k", &file.to_string())]);
    let payload = |data: &str, sum: u32| json!({"payload": {"data": data, "dataCrc32c": sum.to_string()}});
    rig.answers(&[(200, payload(&BASE64_STANDARD.encode("sk-1\n"), crc32c::crc32c(b"sk-1\n")))]);
    assert_eq!(rig.secret().await, "sk-1");
    let seen = rig.seen().remove(0);
    let wanted = "https://secretmanager.googleapis.com/v1/projects/p/secrets/s/versions/latest:access";
    assert_eq!((seen.method.as_str(), seen.url.as_str()), ("GET", wanted));
    let (header, claims) = rsa_claims(seen.header(AUTHORIZATION).strip_prefix("Bearer ").expect("a bearer"));
    assert!(header["kid"] == "id-1" && claims["aud"] == "https://secretmanager.googleapis.com/");
    assert!(claims["iss"] == "me@p.iam.gserviceaccount.com" && claims["sub"] == claims["iss"]);
    let echo = BASE64_STANDARD.encode("echo");
    rig.refuses(&[
        &payload(&echo, 1).to_string(),
        &json!({"payload": {"data": echo}}).to_string(),
        r#"{"payload":{"data":"!","dataCrc32c":"1"}}"#,
        &payload(&BASE64_STANDARD.encode("a\nb"), crc32c::crc32c(b"a\nb")).to_string(),
        "{}",
    ])
    .await;
}

#[tokio::test]
async fn azure() {
    let source = AzureSecret {
        vault_url: "https://v.vault.azure.cn/".into(),
        name: "s".into(),
        version: None,
        tenant: "t".into(),
        client_id: "me".into(),
        secret: name("s"),
        login_url: None,
    };
    let rig = rig(Source::AzureSecret(source), &[("s", "pw")]);
    let token = || (200, json!({"access_token": "at", "expires_in": 3600, "token_type": "Bearer"}));
    rig.answers(&[
        token(),
        (200, json!({"value": "sk-1", "attributes": {"enabled": true, "exp": 32_503_680_000_u64}})),
    ]);
    let fetched = rig.fetched().await.expect("a value");
    assert!(fetched.secret.expose() == "sk-1" && fetched.expires.is_some());
    let seen = rig.seen();
    assert_eq!(seen[0].url, "https://login.microsoftonline.com/t/oauth2/v2.0/token");
    assert_eq!(seen[0].form()["scope"], "https://vault.azure.cn/.default");
    assert_eq!(seen[1].url, "https://v.vault.azure.cn/secrets/s?api-version=7.4");
    assert_eq!(seen[1].header(AUTHORIZATION), "Bearer at");
    for attributes in
        [json!({"enabled": false}), json!({"exp": 1}), json!({"exp": u64::MAX / 4}), json!("echo")]
    {
        rig.answers(&[token(), (200, json!({"value": "echo", "attributes": attributes}))]);
        let fetched = rig.fetched().await;
        assert!(fetched.is_err() || attributes["exp"].as_u64() > Some(1), "{attributes}");
    }
    rig.refuses(&["{}"]).await;
}

fn vault(login: VaultLogin, path: &str, field: &str) -> Rig {
    let (url, namespace) = ("https://v.example:8200/".into(), Some("team/a".into()));
    let source = Vault { url, path: path.into(), field: field.into(), namespace, login };
    rig(Source::Vault(source), &[("s", "secret-1")])
}

fn kv2(data: &Json) -> Json {
    json!({"lease_id": "", "lease_duration": 0, "data": {"data": data, "metadata": {"destroyed": false, "version": 3}}})
}

fn approle() -> VaultLogin {
    VaultLogin::AppRole { mount: "approle".into(), role_id: "r-1".into(), secret: name("s") }
}

#[tokio::test]
async fn vault_by_every_login() {
    let logged_in =
        || (200, json!({"auth": {"client_token": "t-1", "lease_duration": 3600, "renewable": true}}));
    let read = || (200, kv2(&json!({"key": "sk-1"})));
    let jwt = |secret| VaultLogin::Jwt { mount: "jwt/x".into(), role: "ci".into(), secret };
    for (login, path, body) in [
        (approle(), "auth/approle/login", json!({"role_id": "r-1", "secret_id": "secret-1"})),
        (jwt(Some(name("s"))), "auth/jwt/x/login", json!({"role": "ci", "jwt": "secret-1"})),
        (jwt(None), "auth/jwt/x/login", json!({"role": "ci", "jwt": "aa.bb.cc"})),
        (
            VaultLogin::Cert { mount: "cert".into(), role: Some("ci".into()), secret: name("s") },
            "auth/cert/login",
            json!({"name": "ci"}),
        ),
    ] {
        let mut rig = vault(login, "/secret/data/a b/", "key");
        rig.ask.token = Some(Arc::new(Token::parse("aa.bb.cc").expect("token")));
        rig.answers(&[logged_in(), read(), (204, json!({}))]);
        let fetched = rig.fetched().await.expect("a value");
        assert!(fetched.secret.expose() == "sk-1" && fetched.expires.is_none() && fetched.revoke.is_none());
        let seen = rig.seen();
        let urls: Vec<&str> = seen.iter().map(|seen| seen.url.as_str()).collect();
        let base = "https://v.example:8200/v1/";
        let wanted =
            [path, "secret/data/a%20b", "auth/token/revoke-self"].map(|path| format!("{base}{path}"));
        assert_eq!(urls, wanted);
        assert_eq!(seen[0].json(), body);
        assert!(!seen[0].headers.contains_key("x-vault-token"));
        assert!(seen.iter().all(|seen| seen.header("x-vault-namespace") == "team/a"));
        assert!(seen[1..].iter().all(|seen| seen.header("x-vault-token") == "t-1"));
    }
    let rig = vault(VaultLogin::Token(name("s")), "kv/one", "key");
    rig.answers(&[(
        200,
        json!({"lease_id": "", "lease_duration": 2_764_800, "data": {"key": "sk-1", "data": "x"}}),
    )]);
    let fetched = rig.fetched().await.expect("a value");
    assert!(fetched.secret.expose() == "sk-1" && fetched.expires.is_none());
    let seen = rig.seen();
    assert!(
        seen.len() == 1 && seen[0].header("x-vault-token") == "secret-1",
        "a token that is not ours stays"
    );
}

#[tokio::test]
async fn vault_leases() {
    let logged_in = || (200, json!({"auth": {"client_token": "t-1", "lease_duration": 600}}));
    let leased =
        |data: Json| (200, json!({"lease_id": "db/creds/r/1", "lease_duration": 3600, "data": data}));
    let rig = vault(approle(), "db/creds/r", "username:password");
    rig.answers(&[logged_in(), leased(json!({"username": "u", "password": "p"}))]);
    let fetched = rig.fetched().await.expect("a value");
    assert_eq!(fetched.secret.expose(), "u:p");
    let left = fetched.expires.expect("an end").duration_since(SystemTime::now()).expect("later").as_secs();
    assert!((590..=600).contains(&left), "it ends with the token that read it");
    assert_eq!(rig.seen().len(), 2);
    rig.answers_text(204, "");
    fetched.revoke.expect("it can be given back")().await.expect("given back");
    let seen = rig.seen();
    assert_eq!(seen[0].url, "https://v.example:8200/v1/sys/leases/revoke");
    assert_eq!(seen[0].json(), json!({"lease_id": "db/creds/r/1"}));
    assert!(seen[1].url.ends_with("/auth/token/revoke-self") && seen[1].header("x-vault-token") == "t-1");

    let rig = vault(approle(), "aws/creds/r", "access_key:secret_key:security_token");
    for (token, wanted) in [(json!(null), "A:S"), (json!("T"), "A:S:T")] {
        let data = json!({"access_key": "A", "secret_key": "S", "security_token": token});
        rig.answers(&[logged_in(), leased(data)]);
        assert_eq!(rig.secret().await, wanted);
    }
}

#[tokio::test]
async fn a_vault_s_lease_is_renewed_with_its_token() {
    let token =
        |seconds: u64| json!({"auth": {"client_token": "t-1", "lease_duration": seconds, "renewable": true}});
    let lease = |seconds: u64, renewable: bool| json!({"lease_id": "db/creds/r/1", "lease_duration": seconds, "renewable": renewable, "data": {"key": "sk"}});
    let left = |end: Option<SystemTime>| {
        end.expect("an end").duration_since(SystemTime::now()).expect("later").as_secs()
    };
    let rig = vault(approle(), "db/creds/r", "key");
    rig.answers(&[(200, token(900)), (200, lease(600, true))]);
    let renew = rig.fetched().await.expect("a value").renew.expect("it is renewable");
    rig.seen();
    rig.answers(&[(200, token(300)), (200, lease(600, true))]);
    let end = left(renew().await.expect("renewed"));
    assert!((290..=300).contains(&end), "no longer than its token: {end}");
    let seen = rig.seen();
    assert_eq!(seen[0].url, "https://v.example:8200/v1/auth/token/renew-self");
    assert_eq!(seen[1].url, "https://v.example:8200/v1/sys/leases/renew");
    assert_eq!(seen[1].json(), json!({"lease_id": "db/creds/r/1", "increment": 600}));
    assert!(seen.iter().all(|seen| seen.header("x-vault-token") == "t-1"));
    for (status, answer) in [(400, json!({"errors": ["lease not found"]})), (200, lease(0, true))] {
        rig.answers(&[(200, token(300)), (status, answer)]);
        renew().await.expect_err("not renewed");
    }

    rig.answers(&[(200, token(900)), (200, lease(600, false))]);
    assert!(rig.fetched().await.expect("a value").renew.is_none());
    let rig = vault(VaultLogin::Token(name("s")), "db/creds/r", "key");
    rig.answers(&[(200, lease(600, true))]);
    let renew = rig.fetched().await.expect("a value").renew.expect("it is renewable");
    rig.seen();
    assert!((590..=600).contains(&left(renew().await.expect("renewed"))));
    assert_eq!(rig.seen().len(), 1, "a token that is not ours stays as it is");
}

#[tokio::test]
async fn vault_answers_that_are_none() {
    let rig = vault(VaultLogin::Token(name("s")), "secret/data/x", "key");
    rig.refuses(&[
        "{}",
        r#"{"data":null}"#,
        &kv2(&json!({"other": "echo"})).to_string(),
        &kv2(&json!({"key": 7})).to_string(),
        &kv2(&json!({"key": "echo\nline"})).to_string(),
        r#"{"data":{"data":null,"metadata":{"deletion_time":"echo"}}}"#,
        r#"{"data":{"data":{"key":"echo"},"metadata":{"destroyed":true}}}"#,
        r#"{"lease_id":"l","lease_duration":0,"data":{"key":"echo"}}"#,
    ])
    .await;
    let rig = vault(approle(), "secret/data/x", "key");
    rig.refuses(&[
        r#"{"auth":null}"#,
        r#"{"auth":{"client_token":""}}"#,
        r#"{"auth":{"client_token":"echo\n"}}"#,
    ])
    .await;
}

fn aws(endpoint: Option<&str>) -> AwsEndpoint {
    AwsEndpoint { region: "eu-west-1".into(), endpoint: endpoint.map(Into::into), keys: name("s") }
}

const PAIR: &[(&str, &str)] = &[("s", "AKIDEXAMPLE:wJalr/secret:session//token")];

fn is_signed(seen: &Seen, service: &str) {
    let value = seen.header(AUTHORIZATION);
    assert!(value.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"), "{value}");
    assert!(value.contains(&format!("/eu-west-1/{service}/aws4_request, SignedHeaders=")), "{value}");
    assert!(!value.contains("wJalr") && seen.header("x-amz-security-token") == "session//token");
}

#[tokio::test]
async fn aws_secrets_manager_and_parameters() {
    let source = |field: Option<&str>| {
        Source::AwsSecret(AwsSecret { aws: aws(None), id: "prod/key".into(), field: field.map(Into::into) })
    };
    let rig = rig(source(None), PAIR);
    rig.answers(&[(200, json!({"SecretString": "sk-1", "VersionId": "v"}))]);
    assert_eq!(rig.secret().await, "sk-1");
    let seen = rig.seen().remove(0);
    assert_eq!(seen.url, "https://secretsmanager.eu-west-1.amazonaws.com/");
    assert_eq!(seen.header("x-amz-target"), "secretsmanager.GetSecretValue");
    assert_eq!(seen.json(), json!({"SecretId": "prod/key"}));
    is_signed(&seen, "secretsmanager");
    rig.refuses(&["{}", r#"{"SecretBinary":"ZWNobw=="}"#, r#"{"SecretString":7}"#]).await;
    let rig = super::rig(source(Some("key")), PAIR);
    rig.answers(&[(200, json!({"SecretString": r#"{"key":"sk-2","other":"x"}"#}))]);
    assert_eq!(rig.secret().await, "sk-2");
    rig.refuses(&[r#"{"SecretString":"echo"}"#, r#"{"SecretString":"{\"other\":\"echo\"}"}"#]).await;

    let ssm = AwsSsm { aws: aws(Some("https://ssm.internal.example/")), parameter: "/prod/key".into() };
    let rig = super::rig(Source::AwsSsm(ssm), PAIR);
    rig.answers(&[(
        200,
        json!({"Parameter": {"Name": "/prod/key", "Type": "SecureString", "Value": "sk-3"}}),
    )]);
    assert_eq!(rig.secret().await, "sk-3");
    let seen = rig.seen().remove(0);
    assert_eq!(
        (seen.url.as_str(), seen.header("x-amz-target")),
        ("https://ssm.internal.example/", "AmazonSSM.GetParameter")
    );
    assert_eq!(seen.json(), json!({"Name": "/prod/key", "WithDecryption": true}));
    is_signed(&seen, "ssm");
    rig.refuses(&["{}", r#"{"Parameter":{"Type":"StringList","Value":"echo"}}"#]).await;
}

fn assumed(id: &str, secret: &str, token: &str, end: &str) -> String {
    format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
         <AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{token}</SessionToken>\
         <Expiration>{end}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
    )
}

#[tokio::test]
async fn aws_roles_are_assumed_in_the_callers_name() {
    let source = Sts {
        aws: aws(None),
        role_arn: "arn:aws:iam::1:role/r".into(),
        external_id: Some("x".into()),
        duration: Duration::from_secs(900),
    };
    let mut rig = rig(Source::Sts(source), PAIR);
    let identity = Identity {
        issuer: "https://id.example".into(),
        subject: "repo:me/app:ref:refs/heads/\u{e9}&Action=x".into(),
        groups: vec![],
        claims: json!({}),
        expires: i64::MAX,
    };
    rig.ask.identity = Some(Arc::new(identity));
    let end = "2999-01-01T00:00:00Z";
    rig.answers_text(200, &assumed("ASIAX", "abc/def+", "tok/en==", end));
    let fetched = rig.fetched().await.expect("keys");
    assert_eq!(fetched.secret.expose(), "ASIAX:abc/def+:tok/en==");
    assert!(fetched.expires.is_some());
    let seen = rig.seen().remove(0);
    assert_eq!(seen.url, "https://sts.eu-west-1.amazonaws.com/");
    let form = seen.form();
    assert_eq!((form["Action"].as_str(), form["DurationSeconds"].as_str()), ("AssumeRole", "900"));
    let session = &form["RoleSessionName"];
    assert!(
        session.starts_with("repo-me-app-ref-refs-heads---Action=x-") && session.len() <= 64,
        "{session}"
    );
    assert!(session.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b)));
    is_signed(&seen, "sts");
    let good = assumed("ASIAX", "echo", "tok", end);
    rig.refuses(&[
        "",
        "{}",
        &assumed("ASIAX", "echo", "tok", "2001-01-01T00:00:00Z"),
        &assumed("ASIAX", "echo", "tok", "echo"),
        &assumed("ASIAX", "echo:more", "tok", end),
        &assumed("ASIAX", "<SecretAccessKey>echo</SecretAccessKey>", "tok", end),
        &assumed("", "echo", "tok", end),
        &good.repeat(2),
        &good.replace("</Credentials>", ""),
        &format!("<!DOCTYPE x>{good}"),
    ])
    .await;
}
