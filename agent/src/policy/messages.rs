//! Which messages on WebSockets rules ask for.

use super::Policy;
use super::judge::Compiled;

/// Whose messages on the WebSocket that an exchange opens are judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hears {
    /// They pass.
    #[default]
    Nobody,
    /// The caller's.
    Client,
    /// The upstream's, too.
    Both,
}

impl Compiled {
    /// Whose messages on a WebSocket it may ask for.
    pub fn hears(&self) -> Hears {
        match (self.asks_message(), self.asks_speaker()) {
            (false, _) => Hears::Nobody,
            (true, false) => Hears::Client,
            (true, true) => Hears::Both,
        }
    }
}

impl Policy {
    /// How much of a message on a WebSocket any rule looks at.
    pub fn message_max(&self) -> usize {
        let asking = self.rules.iter().filter(|compiled| compiled.asks_message());
        let most = asking.map(|compiled| compiled.rule.body_max).max().unwrap_or_default();
        usize::try_from(most).unwrap_or(usize::MAX)
    }
}
