//! One complete HTTP/1 request head: its framing and whether it asks for another protocol, or what is wrong with it.

use std::ops::Range;

use memchr::memchr;

use super::violation::Violation;
use super::{EXPECT_ALTERED, FIELDS_MAX, Framing};

const METHOD_MAX: usize = 32;

/// What the framer needs of a head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) framing: Framing,
    /// CONNECT or Upgrade.
    pub(super) asks: bool,
    /// Where the value `100-continue` stands.
    pub(super) expect: Option<usize>,
}

#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a [u8]>,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
    expect: Option<usize>,
}

/// Reads the head that is `bytes`: all of it, blank line included.
pub(super) fn read_head(bytes: &[u8]) -> Result<Head, Violation> {
    let line_end = memchr(b'\r', bytes).ok_or(Violation::Version)?;
    if bytes.get(line_end + 1) != Some(&b'\n') {
        return Err(Violation::Version);
    }
    let (method, target, minor) = read_request_line(&bytes[..line_end])?;
    let mut fields = Fields::default();
    let base = line_end + 2;
    read_fields(&bytes[base..], |at, name, value| fields.take(base + at.start, name, value, minor))?;
    if fields.chunked && fields.length.is_some() {
        return Err(Violation::TwoLengths);
    }
    check_target(method, target, fields.host, minor)?;
    let framing = match (fields.chunked, fields.length) {
        (true, _) => Framing::Chunked,
        (false, Some(n)) => Framing::Length(n),
        (false, None) => Framing::None,
    };
    let connect = method == b"CONNECT";
    if (connect || method == b"TRACE") && !matches!(framing, Framing::None | Framing::Length(0)) {
        return Err(Violation::BodyOnMethod);
    }
    Ok(Head { framing, asks: connect || (fields.upgrade && minor == 1), expect: fields.expect })
}

fn read_request_line(line: &[u8]) -> Result<(&[u8], &[u8], u8), Violation> {
    let method_end = line.iter().position(|b| !TOKEN[usize::from(*b)]).ok_or(Violation::Method)?;
    if !(1..=METHOD_MAX).contains(&method_end) || line[method_end] != b' ' {
        return Err(Violation::Method);
    }
    let rest = &line[method_end + 1..];
    let target_end = memchr(b' ', rest).ok_or(Violation::Version)?;
    let target = &rest[..target_end];
    let query_at = memchr(b'?', target).unwrap_or(target.len());
    let common = |b: &u8| matches!(b, 0x21..=0x7e | 0x80..) && !matches!(b, b'#' | b'<' | b'>');
    // `"` in a path and `` ` `` in a query are what the URI type below lets in besides.
    let good = target[..query_at].iter().all(|b| common(b) && *b != b'`')
        && target[query_at..].iter().all(|b| common(b) && *b != b'"');
    if target.is_empty() || !good || (!target.is_ascii() && std::str::from_utf8(target).is_err()) {
        return Err(Violation::Target);
    }
    let minor = match &rest[target_end + 1..] {
        b"HTTP/1.1" => 1,
        b"HTTP/1.0" => 0,
        _ => return Err(Violation::Version),
    };
    Ok((&line[..method_end], target, minor))
}

/// Reads field lines up to the blank line that ends `bytes`, each shown as (place of the value, name, value without
/// the white space around it).
pub(super) fn read_fields<'a>(
    bytes: &'a [u8],
    mut field: impl FnMut(Range<usize>, &'a [u8], &'a [u8]) -> Result<(), Violation>,
) -> Result<(), Violation> {
    let mut at = 0;
    let mut count = 0;
    while bytes[at..].len() > 2 {
        if matches!(bytes[at], b' ' | b'\t') {
            return Err(Violation::Folded);
        }
        let name_len =
            bytes[at..].iter().position(|b| !TOKEN[usize::from(*b)]).ok_or(Violation::FieldName)?;
        if name_len == 0 || bytes[at + name_len] != b':' {
            return Err(Violation::FieldName);
        }
        let start = at + name_len + 1;
        let len =
            bytes[start..].iter().position(|b| !VALUE[usize::from(*b)]).ok_or(Violation::ControlInValue)?;
        let end = start + len;
        if bytes.get(end..end + 2) != Some(b"\r\n") {
            return Err(Violation::ControlInValue);
        }
        let value = trim(&bytes[start..end]);
        let value_at = value.as_ptr().addr() - bytes.as_ptr().addr();
        count += 1;
        if count > FIELDS_MAX {
            return Err(Violation::TooManyFields);
        }
        field(value_at..value_at + value.len(), &bytes[at..at + name_len], value)?;
        at = end + 2;
    }
    Ok(())
}

impl<'a> Fields<'a> {
    /// `at` is where the value stands in the head.
    fn take(&mut self, at: usize, name: &[u8], value: &'a [u8], minor: u8) -> Result<(), Violation> {
        // Told apart by length first: most fields are none of these.
        let is = |text: &[u8]| name.eq_ignore_ascii_case(text);
        match name.len() {
            4 if is(b"host") => match self.host.replace(value) {
                Some(_) => return Err(Violation::HostTwice),
                None if !is_authority(value) => return Err(Violation::Host),
                None => (),
            },
            6 if is(b"expect") => {
                if !value.eq_ignore_ascii_case(b"100-continue") || self.expect.is_some() {
                    return Err(Violation::Expect);
                }
                debug_assert_eq!(value.len(), EXPECT_ALTERED.len());
                self.expect = Some(at);
            }
            7 if is(b"upgrade") => self.upgrade = true,
            10 if is(b"connection") => {
                const KEPT: [&[u8]; 3] = [b"host", b"content-length", b"transfer-encoding"];
                let named = |k: &&[u8]| value.split(|b| *b == b',').any(|t| trim(t).eq_ignore_ascii_case(k));
                if KEPT.iter().any(|k| named(k)) {
                    return Err(Violation::Connection);
                }
            }
            14 if is(b"content-length") => {
                if self.length.replace(read_length(value).ok_or(Violation::ContentLength)?).is_some() {
                    return Err(Violation::ContentLengthTwice);
                }
            }
            17 if is(b"transfer-encoding") => {
                if minor == 0 || self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Violation::TransferEncoding);
                }
                self.chunked = true;
            }
            14 if is(b"content_length") => return Err(Violation::Lookalike),
            17 if is(b"transfer_encoding") => return Err(Violation::Lookalike),
            _ => (),
        }
        Ok(())
    }
}

/// Digits only, no leading zero, at most 18 of them: no reader of numbers of 64 bits sees another value.
fn read_length(value: &[u8]) -> Option<u64> {
    let plain = (1..=18).contains(&value.len())
        && value.iter().all(u8::is_ascii_digit)
        && (value[0] != b'0' || value.len() == 1);
    plain.then(|| value.iter().fold(0, |n, b| n * 10 + u64::from(b - b'0')))
}

fn check_target(method: &[u8], target: &[u8], host: Option<&[u8]>, minor: u8) -> Result<(), Violation> {
    let agrees = |authority: &[u8], host: &[u8]| authority.eq_ignore_ascii_case(host);
    if host.is_none() && minor == 1 {
        return Err(Violation::HostMissing);
    }
    if method == b"CONNECT" {
        let port_at = target.iter().rposition(|b| *b == b':').ok_or(Violation::TargetForm)?;
        if !is_authority(target) || port_at + 1 == target.len() || target.ends_with(b"]") {
            return Err(Violation::TargetForm);
        }
        // Some clients leave the port out of Host.
        return match host {
            Some(host) if !agrees(target, host) && !agrees(&target[..port_at], host) => {
                Err(Violation::HostDisagrees)
            }
            _ => Ok(()),
        };
    }
    match target {
        [b'/', ..] => Ok(()),
        b"*" if method == b"OPTIONS" => Ok(()),
        _ => {
            let after = ["http://", "https://"].iter().find_map(|s| {
                target.get(..s.len()).filter(|t| t.eq_ignore_ascii_case(s.as_bytes())).map(<[u8]>::len)
            });
            let rest = &target[after.ok_or(Violation::TargetForm)?..];
            let end = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
            if !is_authority(&rest[..end]) || rest.get(end) == Some(&b'?') {
                return Err(Violation::TargetForm);
            }
            match host {
                Some(host) if !agrees(&rest[..end], host) => Err(Violation::HostDisagrees),
                _ => Ok(()),
            }
        }
    }
}

/// `host [":" port]`: a name or IPv4 address of unreserved characters, or an IPv6 address in brackets; no user part,
/// no percent signs (nobody resolves them, and two readers decode them differently).
fn is_authority(text: &[u8]) -> bool {
    let (host, port) = match text {
        [b'[', rest @ ..] => {
            let Some(end) = memchr(b']', rest) else { return false };
            let address = std::str::from_utf8(&rest[..end]).unwrap_or_default();
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            match &rest[end + 1..] {
                [] => return true,
                [b':', port @ ..] => (&b"v6"[..], Some(port)),
                _ => return false,
            }
        }
        _ => match memchr(b':', text) {
            Some(i) => (&text[..i], Some(&text[i + 1..])),
            None => (text, None),
        },
    };
    let name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    let port_good = port.is_none_or(|p| {
        p.len() <= 5
            && p.iter().all(u8::is_ascii_digit)
            && std::str::from_utf8(p).is_ok_and(|p| p.is_empty() || p.parse::<u16>().is_ok())
    });
    !host.is_empty() && host.len() <= 255 && host.iter().all(name) && port_good
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// RFC 9110 §5.6.2 tchar.
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0_u8;
    while b < 0x80 {
        table[b as usize] = b.is_ascii_alphanumeric()
            || matches!(b, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.')
            || matches!(b, b'^' | b'_' | b'`' | b'|' | b'~');
        b += 1;
    }
    table
};

/// RFC 9110 §5.5: HTAB, SP, VCHAR, obs-text.
const VALUE: [bool; 256] = {
    let mut table = [true; 256];
    let mut b = 0;
    while b < 0x20 {
        table[b] = b == b'\t' as usize;
        b += 1;
    }
    table[0x7f] = false;
    table
};
