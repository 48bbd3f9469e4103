//! IP and MAC addresses.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Begin, Detector, Edge, Shape, Step, Text, step};

pub const ALL: &[Detector] = &[
    Detector {
        name: "ip",
        grammar: "four numbers of 0 to 255 between dots; not 0.0.0.0, 127.0.0.1, 255.255.255.255 or a netmask. IPv6 as RFC 4291 writes \
                  it, with a digit, two groups and two colons at least; not ::1",
        source: "RFC 791, RFC 4291 section 2.2, RFC 5952",
        examples: &["from «203.0.113.7»:443", "\"«2001:db8::8a2e:370:7334»\"", "[«fe80::1»]"],
        shapes: &[
            Shape::digit("[0-9]{1,3}[.][0-9]{1,3}[.][0-9]{1,3}[.][0-9]{1,3}", is_v4),
            Shape {
                begin: Begin::DigitBy("[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:]", v6),
                edge: Edge::None,
                check: |_| true,
                near: &[],
            },
        ],
    },
    Detector {
        name: "mac",
        grammar: "six pairs of hexadecimal digits between colons or hyphens, or three groups of four between dots; not all equal",
        source: "IEEE 802-2014 section 8.1; Cisco's dotted form",
        examples: &["«00:1B:44:11:3A:B7»", "«00-1b-44-11-3a-b7»", "«001b.4411.3ab7»"],
        shapes: &[
            Shape {
                begin: Begin::DigitBy(
                    "[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}|[0-9A-Fa-f]{2}(?:-[0-9A-Fa-f]{2}){5}",
                    mac,
                ),
                edge: Edge::Word,
                check: is_mac,
                near: &[],
            },
            Shape::digit("[0-9A-Fa-f]{4}[.][0-9A-Fa-f]{4}[.][0-9A-Fa-f]{4}", is_mac),
        ],
    },
];

fn is_v4(text: &[u8]) -> bool {
    let address = str::from_utf8(text).ok().and_then(|text| text.parse::<Ipv4Addr>().ok());
    address.is_some_and(|address| {
        let mask = u32::from(address);
        let is_mask = mask.leading_ones() >= 8 && mask.leading_ones() + mask.trailing_zeros() >= 32;
        !is_mask && !address.is_unspecified() && address != Ipv4Addr::LOCALHOST
    })
}

fn v6(text: Text<'_>, from: usize) -> Step {
    let class = |b: u8| b.is_ascii_hexdigit() || b == b':';
    if text.before(from).is_some_and(|b| b.is_ascii_alphanumeric() || b == b':' || b == b'.') {
        return Step::No;
    }
    step((|| {
        let mut end = text.run(from, 40, class)?;
        let colons = text.slice(from, end).iter().filter(|b| **b == b':').count();
        if colons < 2 || end - from > 39 {
            return Ok(Step::No);
        }
        if text.at(end)? == Some(b'.') {
            end = text.run(end, 16, |b| b.is_ascii_digit() || b == b'.')?;
        }
        while text.before(end) == Some(b'.')
            || (text.before(end) == Some(b':') && text.before(end - 1) != Some(b':'))
        {
            end -= 1;
        }
        if text.at(end)?.is_some_and(|b| b.is_ascii_alphanumeric()) {
            return Ok(Step::No);
        }
        let value = text.slice(from, end);
        let address = str::from_utf8(value).ok().and_then(|text| text.parse::<Ipv6Addr>().ok());
        let is = address.is_some_and(|address| !address.is_loopback() && !address.is_unspecified());
        let groups = value.split(|b| *b == b':').filter(|group| !group.is_empty()).count();
        Ok(if is && groups > 1 && value.iter().any(u8::is_ascii_digit) { Step::Found(end) } else { Step::No })
    })())
}

/// Six pairs that are no part of a fingerprint.
fn mac(text: Text<'_>, from: usize) -> Step {
    let end = from + 17;
    let goes_on = |sign: Option<u8>, digit: Option<u8>| {
        sign.is_some_and(|b| b == b':' || b == b'-') && digit.is_some_and(|b| b.is_ascii_hexdigit())
    };
    if from > 1 && goes_on(text.before(from), text.before(from - 1)) {
        return Step::No;
    }
    step((|| {
        let sign = text.at(end)?;
        let digit = if sign.is_some() { text.at(end + 1)? } else { None };
        Ok(if goes_on(sign, digit) { Step::No } else { Step::Found(end) })
    })())
}

fn is_mac(text: &[u8]) -> bool {
    let digits = text.iter().filter(|b| b.is_ascii_hexdigit());
    digits.clone().any(|b| *b != text[0]) && digits.clone().any(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_masks_are_no_addresses() {
        let v6 = |text: &str| v6(Text { bytes: text.as_bytes(), last: true }, 0);
        assert_eq!(v6("12:34:56"), Step::No);
        assert_eq!(v6("::1"), Step::No);
        assert_eq!(v6("16::__X"), Step::No);
        let key = "a4:b4:53:c5:e2:3a:87:4d";
        assert!([0, 3, 6].iter().all(|at| mac(Text { bytes: key.as_bytes(), last: true }, *at) == Step::No));
        assert_eq!(v6("2001:db8::1, "), Step::Found(11));
        assert_eq!(v6("2001:db8::1: no route"), Step::Found(11));
        assert_eq!(v6("::ffff:192.0.2.1."), Step::Found(16));
        assert!(
            !is_v4(b"255.255.255.0") && !is_v4(b"127.0.0.1") && !is_v4(b"1.2.3.256") && is_v4(b"10.0.0.1")
        );
    }
}
