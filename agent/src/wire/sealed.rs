//! A secret on its way between the processes: the one form of it that can be written down.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::types::Secret;
use crate::types::credential::Shape;

/// A secret in a message. Wiped when dropped, as the buffers are that it travels in; `Debug` says that there is one.
pub struct Sealed(Secret);

impl Sealed {
    /// Puts one into a message.
    pub fn new(secret: Secret) -> Self {
        Self(secret)
    }

    /// Takes it out.
    pub fn open(self) -> Secret {
        self.0
    }
}

impl Clone for Sealed {
    fn clone(&self) -> Self {
        Self(self.0.copied())
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed(…)")
    }
}

impl Serialize for Sealed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose())
    }
}

impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Secret::clean(text.into_bytes(), Shape::Text).map(Self).map_err(D::Error::custom)
    }
}
