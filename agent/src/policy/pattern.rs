//! What rules compare with: globs, addresses, ports, hours. Each is read once and cannot fail afterwards.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, Weekday};

/// A text that is no pattern, and what would be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is {what}")]
pub struct NotAPattern {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub what: &'static str,
}

fn wrong(text: &str, what: &'static str) -> NotAPattern {
    NotAPattern { text: text.chars().take(300).collect(), what }
}

/// A text with `*` (anything but a slash, perhaps nothing) and `**` (anything). Letter case counts.
///
/// `/v1/files/*` is one segment below, `/v1/**` all below, also `/v1/`. Matching takes time in the product of both
/// lengths at most, whatever the pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Glob {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// `*`
    Segment,
    /// `**`
    All,
}

/// Longest pattern.
const GLOB_MAX: usize = 1024;

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`NotAPattern`]: empty, longer than 1,024 bytes, or with three stars in a row.
    pub fn parse(text: &str) -> Result<Self, NotAPattern> {
        if text.is_empty() {
            return Err(wrong(text, "an empty pattern; leave the key out, or write \"**\""));
        }
        if text.len() > GLOB_MAX {
            return Err(wrong(text, "longer than 1024 bytes"));
        }
        if text.contains("***") {
            return Err(wrong(text, "a pattern with three stars in a row; write * or **"));
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('*') {
            if at > 0 {
                parts.push(Part::Text(rest[..at].to_owned()));
            }
            let all = rest[at..].starts_with("**");
            parts.push(if all { Part::All } else { Part::Segment });
            rest = &rest[at + if all { 2 } else { 1 }..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// Whether all of `text` is meant.
    pub fn matches(&self, text: &str) -> bool {
        let (mut parts, mut text) = (&self.parts[..], text.as_bytes()); // Most differ where they begin or end.
        if let [Part::Text(first), rest @ ..] = parts {
            let Some(behind) = text.strip_prefix(first.as_bytes()) else { return false };
            (parts, text) = (rest, behind);
        }
        if let [rest @ .., Part::Text(last)] = parts {
            let Some(before) = text.strip_suffix(last.as_bytes()) else { return false };
            (parts, text) = (rest, before);
        }
        match parts {
            [] => return text.is_empty(),
            [Part::All] => return true,
            [Part::Segment] => return !text.contains(&b'/'),
            _ => {}
        }
        // Which positions of the text the parts so far can end at.
        let mut reached = vec![false; text.len() + 1];
        reached[0] = true;
        for part in parts {
            match part {
                Part::Text(literal) => {
                    let literal = literal.as_bytes();
                    for at in (0..=text.len()).rev() {
                        let from = at.checked_sub(literal.len());
                        reached[at] = from.is_some_and(|from| reached[from] && &text[from..at] == literal);
                    }
                }
                Part::Segment | Part::All => {
                    for at in 1..=text.len() {
                        let passes = *part == Part::All || text[at - 1] != b'/';
                        reached[at] |= reached[at - 1] && passes;
                    }
                }
            }
        }
        reached[text.len()]
    }

    /// What every text that is meant begins with.
    pub fn beginning(&self) -> &str {
        if let Some(Part::Text(text)) = self.parts.first() { text } else { "" }
    }

    /// Whether it matches whatever `other` matches; `false` also where that is not certain.
    pub fn covers(&self, other: &Self) -> bool {
        let prefix = match &self.parts[..] {
            [Part::All] => Some(""),
            [Part::Text(prefix), Part::All] => Some(prefix.as_str()),
            _ => None,
        };
        // A letter that no pattern has can be met by a star alone, and whatever a single star stands for meets that, too.
        const ANY: &str = "\u{1}";
        let free = !self.text.contains(ANY) && !other.parts.contains(&Part::All);
        self == other
            || prefix.is_some_and(|prefix| other.text.starts_with(prefix))
            || (free && self.matches(&other.text.replace('*', ANY)))
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl TryFrom<String> for Glob {
    type Error = NotAPattern;
    fn try_from(text: String) -> Result<Self, NotAPattern> {
        Self::parse(&text)
    }
}

impl From<Glob> for String {
    fn from(glob: Glob) -> Self {
        glob.text
    }
}

/// Addresses and networks (`192.0.2.7`, `10.0.0.0/8`, `2001:db8::/32`); none: every address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses(Vec<IpNet>);

impl Addresses {
    /// Adds an address or a network.
    ///
    /// # Errors
    /// [`NotAPattern`]: neither, or a network with bits behind its length.
    pub fn add(&mut self, text: &str) -> Result<(), NotAPattern> {
        let net = match (IpAddr::from_str(text), IpNet::from_str(text)) {
            (Ok(address), _) => IpNet::from(address.to_canonical()),
            (_, Ok(net)) if net.network() == net.addr() => net,
            (_, Ok(_)) => {
                return Err(wrong(text, "a network with bits behind its length, such as 10.1.2.3/8"));
            }
            _ => return Err(wrong(text, "no address and no network, such as 192.0.2.7 or 10.0.0.0/8")),
        };
        self.0.push(net);
        Ok(())
    }

    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether they hold whatever `other` holds.
    pub fn cover(&self, other: &Self) -> bool {
        let held = |net: &IpNet| self.0.iter().any(|wide| wide.contains(net));
        self.is_empty() || (!other.is_empty() && other.0.iter().all(held))
    }

    /// Whether one of them holds `address`.
    pub fn hold(&self, address: IpAddr) -> bool {
        self.0.iter().any(|net| net.contains(&address))
    }
}

/// Ports and ranges of ports (`443`, `8000-8999`); none: every port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports(Vec<(u16, u16)>);

impl Ports {
    /// Adds a port or a range.
    ///
    /// # Errors
    /// [`NotAPattern`]: neither, or a range whose end is before its begin.
    pub fn add(&mut self, text: &str) -> Result<(), NotAPattern> {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        match (from.trim().parse(), to.trim().parse()) {
            (Ok(from), Ok(to)) if from <= to => {
                self.0.push((from, to));
                Ok(())
            }
            _ => Err(wrong(text, "no port and no range, such as 443 or 8000-8999")),
        }
    }

    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether they hold whatever `other` holds.
    pub fn cover(&self, other: &Self) -> bool {
        let held = |(from, to): &(u16, u16)| self.0.iter().any(|(first, last)| first <= from && to <= last);
        self.is_empty() || (!other.is_empty() && other.0.iter().all(held))
    }

    /// Whether `port` is one of them.
    pub fn hold(&self, port: u16) -> bool {
        self.0.iter().any(|(from, to)| (*from..=*to).contains(&port))
    }
}

/// Hours of a week in UTC: `Mon-Fri 08:00-18:00`, `Sat,Sun 00:00-24:00`, `22:00-06:00` (every day, over midnight).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Window {
    text: String,
    /// Monday first.
    days: [bool; 7],
    /// Minutes of the day; `to` may be 1440, and at or before `from` means the next day.
    from: u16,
    to: u16,
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const SHAPE: &str = "no time window, such as \"Mon-Fri 08:00-18:00\" (UTC)";

impl Window {
    /// Reads a window.
    ///
    /// # Errors
    /// [`NotAPattern`]: not days (perhaps none) and two times.
    pub fn parse(text: &str) -> Result<Self, NotAPattern> {
        let no = || wrong(text, SHAPE);
        let mut words = text.split_whitespace();
        let (first, second, rest) = (words.next(), words.next(), words.next());
        let (days, hours) = match (first, second, rest) {
            (Some(hours), None, None) => ([true; 7], hours),
            (Some(days), Some(hours), None) => (days_of(days).ok_or_else(no)?, hours),
            _ => return Err(no()),
        };
        let (from, to) = hours.split_once('-').ok_or_else(no)?;
        let (from, to) = (minutes(from).ok_or_else(no)?, minutes(to).ok_or_else(no)?);
        if from == 24 * 60 || from == to {
            return Err(no());
        }
        Ok(Self { text: text.to_owned(), days, from, to })
    }

    /// Whether `now` is in it.
    pub fn holds(&self, now: OffsetDateTime) -> bool {
        let now = now.to_offset(time::UtcOffset::UTC);
        let minute = u16::from(now.hour()) * 60 + u16::from(now.minute());
        let today = usize::from(Weekday::number_days_from_monday(now.weekday()));
        if self.from < self.to {
            return self.days[today] && (self.from..self.to).contains(&minute);
        }
        // Over midnight: the day that it began on counts.
        (self.days[today] && minute >= self.from) || (self.days[(today + 6) % 7] && minute < self.to)
    }
}

fn days_of(text: &str) -> Option<[bool; 7]> {
    let mut days = [false; 7];
    let day = |word: &str| DAYS.iter().position(|day| word.eq_ignore_ascii_case(day));
    for word in text.split(',') {
        let (from, to) = word.split_once('-').unwrap_or((word, word));
        let (mut at, to) = (day(from)?, day(to)?);
        days[at] = true;
        while at != to {
            at = (at + 1) % 7;
            days[at] = true;
        }
    }
    Some(days)
}

fn minutes(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let two = |text: &str| -> Option<u16> { (text.len() == 2).then(|| text.parse().ok())? };
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    ((hours < 24 && minutes < 60) || (hours, minutes) == (24, 0)).then_some(hours * 60 + minutes)
}

impl TryFrom<String> for Window {
    type Error = NotAPattern;
    fn try_from(text: String) -> Result<Self, NotAPattern> {
        Self::parse(&text)
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        window.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, yes, no) in [
            ("/v1/responses", &["/v1/responses"][..], &["/v1/responses/", "/v1/Responses", ""][..]),
            ("/v1/files/*", &["/v1/files/a", "/v1/files/"], &["/v1/files/a/b", "/v1/files"]),
            ("/v1/**", &["/v1/", "/v1/a/b"], &["/v1", "/v2/a"]),
            ("/*/x/**/y", &["/a/x//y", "/a/x/b/c/y"], &["/a/b/x/c/y", "/a/x/y"]),
            ("**", &["", "/", "a/b"], &[]),
            ("*", &["", "abc"], &["a/b"]),
            ("a*b*c", &["abc", "aXbYc", "abbc"], &["ab", "acb"]),
            ("*.service", &["ci.service"], &["ci.service2", "a/ci.service"]),
        ] {
            let glob = Glob::parse(pattern).expect(pattern);
            yes.iter().for_each(|text| assert!(glob.matches(text), "{pattern} {text}"));
            no.iter().for_each(|text| assert!(!glob.matches(text), "{pattern} {text}"));
        }
        assert!(
            Glob::parse("").is_err()
                && Glob::parse("a***").is_err()
                && Glob::parse(&"a".repeat(2000)).is_err()
        );
        let hostile = Glob::parse(&"*a".repeat(500)).expect("a pattern");
        assert!(!hostile.matches(&"a".repeat(400)), "and that did not take for ever");
    }

    #[test]
    fn addresses_and_ports() {
        let mut addresses = Addresses::default();
        for text in ["192.0.2.7", "10.0.0.0/8", "2001:db8::/32", "::ffff:203.0.113.1"] {
            addresses.add(text).expect(text);
        }
        for (address, held) in [
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("10.255.0.1", true),
            ("2001:db8::1", true),
            ("::1", false),
            ("203.0.113.1", true),
        ] {
            assert_eq!(addresses.hold(address.parse().expect("address")), held, "{address}");
        }
        assert!(
            ["10.1.2.3/8", "10.0.0.0/33", "example.com", ""].iter().all(|text| addresses.add(text).is_err())
        );
        let mut ports = Ports::default();
        ports.add("443").expect("a port");
        ports.add("8000-8999").expect("a range");
        assert!(ports.hold(443) && ports.hold(8000) && ports.hold(8999) && !ports.hold(9000));
        assert!(["9-1", "x", "", "70000"].iter().all(|text| ports.add(text).is_err()));
    }

    #[test]
    fn windows() {
        // 2026-11-22 is a Sunday.
        let at = |day: u8, hour: u8, minute: u8| {
            let date = time::Date::from_calendar_date(2026, time::Month::November, day).expect("date");
            date.with_hms(hour, minute, 0).expect("time").assume_utc()
        };
        let week = Window::parse("Mon-Fri 08:00-18:00").expect("window");
        assert!(week.holds(at(23, 8, 0)) && week.holds(at(27, 17, 59)));
        assert!(!week.holds(at(23, 18, 0)) && !week.holds(at(22, 12, 0)));
        let night = Window::parse("Sun 22:00-06:00").expect("window");
        assert!(night.holds(at(22, 23, 0)) && night.holds(at(23, 5, 59)));
        assert!(!night.holds(at(22, 5, 0)) && !night.holds(at(23, 6, 0)) && !night.holds(at(23, 23, 0)));
        assert!(Window::parse("Sat,Sun 00:00-24:00").expect("window").holds(at(22, 23, 59)));
        for text in [
            "",
            "8-18",
            "Mon",
            "Mon 8:00-18:00",
            "Mon 08:00-08:00",
            "Foo 08:00-09:00",
            "Mon 24:00-01:00",
            "Mon 08:00-18:00 x",
        ] {
            assert!(Window::parse(text).is_err(), "{text}");
        }
    }
}
