//! Tokens as the well-known issuers make them: which `groups_claim` gives what. The claims are those of their documentation,
//! shortened.

use serde_json::{Value, json};

use super::maker::{Maker, NOW, header};
use super::set;
use crate::identity::token::verify;
use crate::types::Issuer;

struct Shape {
    name: &'static str,
    issuer: &'static str,
    audience: &'static str,
    groups_claim: &'static str,
    claims: Value,
    subject: &'static str,
    groups: &'static [&'static str],
}

/// Runners of builds.
fn builders() -> Vec<Shape> {
    vec![
        Shape {
            name: "GitLab id_tokens",
            issuer: "https://gitlab.example.com",
            audience: "sluice",
            groups_claim: "groups_direct",
            claims: json!({ "namespace_path": "ml/train", "project_path": "ml/train/run", "ref": "main", "ref_protected": "true",
                "user_login": "ada", "pipeline_source": "push", "groups_direct": ["ml", "ml/train"] }),
            subject: "project_path:ml/train/run:ref_type:branch:ref:main",
            groups: &["ml", "ml/train"],
        },
        Shape {
            name: "GitLab without groups_direct: the namespace is the group",
            issuer: "https://gitlab.example.com",
            audience: "sluice",
            groups_claim: "namespace_path",
            claims: json!({ "namespace_path": "ml/train", "project_path": "ml/train/run" }),
            subject: "project_path:ml/train/run:ref_type:branch:ref:main",
            groups: &["ml/train"],
        },
        Shape {
            name: "GitHub Actions",
            issuer: "https://token.actions.githubusercontent.com",
            audience: "sluice",
            groups_claim: "repository_owner",
            claims: json!({ "repository": "octo/app", "repository_owner": "octo", "ref": "refs/heads/main",
                "job_workflow_ref": "octo/app/.github/workflows/ci.yml@refs/heads/main", "environment": "prod" }),
            subject: "repo:octo/app:environment:prod",
            groups: &["octo"],
        },
        Shape {
            name: "Buildkite",
            issuer: "https://agent.buildkite.com",
            audience: "https://sluice.example",
            groups_claim: "organization_slug",
            claims: json!({ "organization_slug": "acme", "pipeline_slug": "app", "build_branch": "main", "step_key": "test" }),
            subject: "organization:acme:pipeline:app:ref:refs/heads/main:commit:0123:step:test",
            groups: &["acme"],
        },
        Shape {
            name: "Kubernetes service account (projected token)",
            issuer: "https://kubernetes.default.svc.cluster.local",
            audience: "sluice",
            groups_claim: "kubernetes.io.namespace",
            claims: json!({ "aud": ["sluice"], "kubernetes.io": { "namespace": "ml", "pod": { "name": "p", "uid": "1" },
                "serviceaccount": { "name": "trainer", "uid": "2" } } }),
            subject: "system:serviceaccount:ml:trainer",
            groups: &["ml"],
        },
    ]
}

/// People's identity providers.
fn people() -> Vec<Shape> {
    vec![
        Shape {
            name: "Okta",
            issuer: "https://acme.okta.com/oauth2/default",
            audience: "0oa1",
            groups_claim: "groups",
            claims: json!({ "ver": 1, "jti": "ID.x", "amr": ["pwd"], "idp": "00o1", "auth_time": NOW,
                "groups": ["Everyone", "ml-team"] }),
            subject: "00u1",
            groups: &["Everyone", "ml-team"],
        },
        Shape {
            name: "Entra, groups as object ids",
            issuer: "https://login.microsoftonline.com/72f988bf-0000-0000-0000-000000000000/v2.0",
            audience: "6e74172b-0000-0000-0000-000000000000",
            groups_claim: "groups",
            claims: json!({ "ver": "2.0", "tid": "72f988bf-0000-0000-0000-000000000000", "oid": "o",
                "groups": ["a1b2c3d4-0000-0000-0000-000000000000"], "uti": "x" }),
            subject: "AAAAAAAA",
            groups: &["a1b2c3d4-0000-0000-0000-000000000000"],
        },
        Shape {
            name: "Entra, app roles",
            issuer: "https://login.microsoftonline.com/72f988bf-0000-0000-0000-000000000000/v2.0",
            audience: "6e74172b-0000-0000-0000-000000000000",
            groups_claim: "roles",
            claims: json!({ "roles": ["Sluice.User"] }),
            subject: "AAAAAAAA",
            groups: &["Sluice.User"],
        },
        Shape {
            name: "Entra, more groups than fit: none",
            issuer: "https://login.microsoftonline.com/72f988bf-0000-0000-0000-000000000000/v2.0",
            audience: "6e74172b-0000-0000-0000-000000000000",
            groups_claim: "groups",
            claims: json!({ "_claim_names": { "groups": "src1" }, "_claim_sources": { "src1": { "endpoint": "https://x" } } }),
            subject: "AAAAAAAA",
            groups: &[],
        },
        Shape {
            name: "Google: the hosted domain is the group",
            issuer: "https://accounts.google.com",
            audience: "https://sluice.example",
            groups_claim: "hd",
            claims: json!({ "azp": "1234567890", "email": "ada@example.com", "email_verified": true, "hd": "example.com" }),
            subject: "1234567890",
            groups: &["example.com"],
        },
    ]
}

/// And more of them.
fn more_people() -> Vec<Shape> {
    vec![
        Shape {
            name: "Keycloak, realm roles",
            issuer: "https://id.example.com/realms/main",
            audience: "sluice",
            groups_claim: "realm_access.roles",
            claims: json!({ "typ": "Bearer", "azp": "app", "realm_access": { "roles": ["ml", "offline_access"] },
                "resource_access": { "sluice": { "roles": ["user"] } }, "scope": "openid" }),
            subject: "f:1:ada",
            groups: &["ml", "offline_access"],
        },
        Shape {
            name: "Keycloak, client roles",
            issuer: "https://id.example.com/realms/main",
            audience: "sluice",
            groups_claim: "resource_access.sluice.roles",
            claims: json!({ "resource_access": { "sluice": { "roles": ["user"] } } }),
            subject: "f:1:ada",
            groups: &["user"],
        },
        Shape {
            name: "Auth0, a claim whose name is an URL",
            issuer: "https://acme.eu.auth0.com/",
            audience: "sluice",
            groups_claim: "https://sluice.example/groups",
            claims: json!({ "https://sluice.example/groups": ["ml"], "scope": "openid" }),
            subject: "auth0|1",
            groups: &["ml"],
        },
        Shape {
            name: "what is no text is no group",
            issuer: "https://id.example.com",
            audience: "sluice",
            groups_claim: "groups",
            claims: json!({ "groups": ["a", 1, { "b": "c" }, ["d"], null] }),
            subject: "x",
            groups: &["a"],
        },
    ]
}

#[test]
fn tokens_of_well_known_issuers() {
    let maker = Maker::rsa();
    let keys = set(&[maker.jwk("k")]);
    for mut shape in builders().into_iter().chain(people()).chain(more_people()) {
        let claims = shape.claims.as_object_mut().expect("an object");
        for (name, value) in [
            ("iss", json!(shape.issuer)),
            ("sub", json!(shape.subject)),
            ("aud", json!(shape.audience)),
            ("exp", json!(NOW + 600)),
            ("iat", json!(NOW)),
            ("nbf", json!(NOW - 5)),
        ] {
            claims.entry(name).or_insert(value);
        }
        let issuer = Issuer {
            url: shape.issuer.to_owned(),
            audiences: vec![shape.audience.to_owned()],
            groups_claim: shape.groups_claim.to_owned(),
            accept_bearer: false,
            jwks: None,
        };
        let token = maker.sign(&header("RS256", Some("k")), &shape.claims);
        let identity =
            verify(&token, &issuer, &keys, NOW).unwrap_or_else(|why| panic!("{}: {why}", shape.name));
        assert_eq!(identity.subject, shape.subject, "{}", shape.name);
        assert_eq!(identity.groups, shape.groups, "{}", shape.name);
    }
}
