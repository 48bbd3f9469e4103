//! Makes tokens, as an issuer does.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::types::Issuer;

pub const ISSUER: &str = "https://issuer.example";
pub const AUDIENCE: &str = "sluice";
pub const NOW: i64 = 1_800_000_000;

pub fn issuer() -> Issuer {
    Issuer {
        url: ISSUER.to_owned(),
        audiences: vec![AUDIENCE.to_owned()],
        groups_claim: "groups".to_owned(),
        accept_bearer: true,
        jwks: None,
    }
}

pub fn claims() -> Value {
    claims_at(NOW)
}

pub fn claims_at(now: i64) -> Value {
    json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": "me", "exp": now + 300, "iat": now, "groups": ["ml-team", "dev"] })
}

pub fn header(algorithm: &str, kid: Option<&str>) -> Value {
    let mut header = json!({ "alg": algorithm, "typ": "JWT" });
    if let Some(kid) = kid {
        header["kid"] = json!(kid);
    }
    header
}

pub fn base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub fn raw(part: &Value) -> String {
    base64(part.to_string().as_bytes())
}

/// A key pair.
pub enum Maker {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair, &'static str),
    Ed(Ed25519KeyPair),
}

/// One of each kind.
pub fn key_pairs() -> [Maker; 4] {
    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).expect("key");
    [
        Maker::rsa(),
        Maker::es256(),
        Maker::Ec(p384, "P-384"),
        Maker::Ed(Ed25519KeyPair::generate().expect("key")),
    ]
}

impl Maker {
    pub fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).expect("key"))
    }

    pub fn es256() -> Self {
        Self::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("key"), "P-256")
    }

    pub fn algorithms(&self) -> &'static [&'static str] {
        match self {
            Self::Rsa(_) => &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"],
            Self::Ec(_, "P-256") => &["ES256"],
            Self::Ec(..) => &["ES384"],
            Self::Ed(_) => &["EdDSA", "Ed25519"],
        }
    }

    /// The public key as its owner would publish it (SubjectPublicKeyInfo).
    pub fn public(&self) -> Vec<u8> {
        match self {
            Self::Rsa(pair) => pair.public_key().as_der().expect("DER").as_ref().to_vec(),
            Self::Ec(pair, _) => pair.public_key().as_ref().to_vec(),
            Self::Ed(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    pub fn jwk(&self, kid: &str) -> Value {
        match self {
            Self::Rsa(pair) => {
                // RSAPublicKey (RFC 8017 §A.1.1) of 2048 bits: 9 octets of headers, the modulus, then 65537.
                let der = pair.public_key().as_ref();
                let n = base64(&der[9..265]);
                json!({ "kty": "RSA", "kid": kid, "use": "sig", "n": n, "e": "AQAB" })
            }
            Self::Ec(pair, curve) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                json!({ "kty": "EC", "kid": kid, "crv": curve, "x": base64(x), "y": base64(y) })
            }
            Self::Ed(pair) => {
                json!({ "kty": "OKP", "kid": kid, "crv": "Ed25519", "x": base64(pair.public_key().as_ref()) })
            }
        }
    }

    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let algorithm = header["alg"].as_str().unwrap_or("ES256").to_owned();
        self.sign_text(&header.to_string(), &claims.to_string(), &algorithm)
    }

    pub fn sign_text(&self, header: &str, claims: &str, algorithm: &str) -> String {
        let signed = format!("{}.{}", base64(header.as_bytes()), base64(claims.as_bytes()));
        let random = SystemRandom::new();
        let signature = match self {
            Self::Rsa(pair) => {
                let encoding: &'static dyn aws_lc_rs::signature::RsaEncoding = match algorithm {
                    "RS384" => &RSA_PKCS1_SHA384,
                    "RS512" => &RSA_PKCS1_SHA512,
                    "PS256" => &RSA_PSS_SHA256,
                    "PS384" => &RSA_PSS_SHA384,
                    "PS512" => &RSA_PSS_SHA512,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, signed.as_bytes(), &mut signature).expect("signed");
                signature
            }
            Self::Ec(pair, _) => pair.sign(&random, signed.as_bytes()).expect("signed").as_ref().to_vec(),
            Self::Ed(pair) => pair.sign(signed.as_bytes()).as_ref().to_vec(),
        };
        format!("{signed}.{}", base64(&signature))
    }
}
