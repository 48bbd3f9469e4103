//! Whose tokens prove an identity, and a token as it travels: a secret that is never printed.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

/// Longest token that is looked at, in bytes. Real ones are below 8 KiB (Entra with 200 groups, Keycloak with many roles).
pub const TOKEN_MAX: usize = 16 * 1024;

/// Somebody whose word on who a caller is counts: what the gate is told of one `[[issuer]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issuer {
    /// `iss` of its tokens, to the letter; the keys are found below it.
    pub url: String,
    /// A token must be meant for one of these (`aud`). Never empty.
    pub audiences: Vec<String>,
    /// The claim with the groups: a claim's name, or a path with dots.
    pub groups_claim: String,
    /// Whether a request may bear the token itself.
    pub accept_bearer: bool,
    /// A JWK set (RFC 7517) in place of the one that the issuer publishes.
    pub jwks: Option<String>,
}

/// A token's text, unverified. Wiped when dropped; `Debug` says its length only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Token(String);

/// A text that cannot be a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAToken {
    /// Too long.
    #[error("it is longer than {TOKEN_MAX} bytes")]
    TooLong,
    /// Other characters than base64url's and dots, or nothing.
    #[error("it is not a JWT in compact form: three parts in base64url with dots between them")]
    Shape,
}

impl Token {
    /// Takes a text, without the white space around it, that has the shape of a JWT (RFC 7519 §3.1, RFC 7515 §7.1).
    ///
    /// # Errors
    /// [`NotAToken`].
    pub fn parse(text: &str) -> Result<Self, NotAToken> {
        let text = text.trim_ascii();
        if text.len() > TOKEN_MAX {
            return Err(NotAToken::TooLong);
        }
        let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let part = |part: &str| !part.is_empty() && part.bytes().all(letter);
        if text.split('.').count() == 3 && text.split('.').all(part) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAToken::Shape)
        }
    }

    /// The text. Never into a log, a record or an error.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Token {
    type Error = NotAToken;

    fn try_from(text: String) -> Result<Self, NotAToken> {
        Self::parse(&text)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({} bytes)", self.0.len())
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_three_parts_and_is_never_printed() {
        let token = Token::parse(" eyJh.eyJz-_.c2ln\n").expect("the shape of one");
        assert_eq!((token.expose(), format!("{token:?}").as_str()), ("eyJh.eyJz-_.c2ln", "Token(16 bytes)"));
        for text in ["", "a.b", "a..c", "a.b.c.d.e", "a.b.c=", "a b.c.d", "a.b.é"] {
            assert_eq!(Token::parse(text), Err(NotAToken::Shape), "{text}");
        }
        assert_eq!(Token::parse(&"a.".repeat(TOKEN_MAX)), Err(NotAToken::TooLong));
        assert!(serde_json::from_str::<Token>("\"x\"").is_err());
    }
}
