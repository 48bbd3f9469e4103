//! Check digits and checksums that detectors ask for. Each is a function of the digits alone; formats are the callers'.

use sha2::{Digest as _, Sha256};

/// The digits of a text as numbers, whatever stands between them.
pub fn digits(text: &[u8]) -> Vec<u8> {
    text.iter().filter(|b| b.is_ascii_digit()).map(|b| b - b'0').collect()
}

/// Letters and digits of a text, letters in capitals.
pub fn plain(text: &[u8]) -> Vec<u8> {
    text.iter().filter(|b| b.is_ascii_alphanumeric()).map(u8::to_ascii_uppercase).collect()
}

/// Digits as one number; what overflows wraps.
pub fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |sum: u64, digit| sum.wrapping_mul(10).wrapping_add(u64::from(*digit)))
}

/// The sum of digits times weights.
pub fn weighted(digits: &[u8], weights: &[u32]) -> u32 {
    digits.iter().zip(weights).map(|(digit, weight)| u32::from(*digit) * weight).sum()
}

/// Luhn (ISO/IEC 7812-1 annex B): payment cards, IMEI, SIN and others.
pub fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = (digits.iter().rev().enumerate())
        .map(|(at, digit)| match (at % 2, u32::from(*digit) * 2) {
            (0, _) => u32::from(*digit),
            (_, twice) => twice / 10 + twice % 10,
        })
        .sum();
    !digits.is_empty() && sum.is_multiple_of(10)
}

/// Remainder by 97 of a text of digits and letters (A is 10), as ISO 7064 MOD 97-10 and IBANs (ISO 13616) take it.
pub fn mod97(text: impl IntoIterator<Item = u8>) -> u32 {
    text.into_iter().fold(0, |sum, byte| match byte {
        b'0'..=b'9' => (sum * 10 + u32::from(byte - b'0')) % 97,
        _ => (sum * 100 + u32::from(byte.to_ascii_uppercase().wrapping_sub(b'A')) + 10) % 97,
    })
}

/// ISO 7064 MOD 11,10 over all digits, the last of them the check: German tax numbers, Croatian OIB.
pub fn mod11_10(digits: &[u8]) -> bool {
    let Some((check, body)) = digits.split_last() else { return false };
    let product = body.iter().fold(10, |product, digit| {
        let sum = (u32::from(*digit) + product) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    (11 - product) % 10 == u32::from(*check)
}

/// Verhoeff's dihedral check over all digits, the last of them the check: Aadhaar.
pub fn verhoeff(digits: &[u8]) -> bool {
    const NEXT: [u8; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    let times = |a: u8, b: u8| match (a < 5, b < 5) {
        (true, true) => (a + b) % 5,
        (true, false) => (a + b - 5) % 5 + 5,
        (false, true) => (a - 5 + 5 - b) % 5 + 5,
        (false, false) => (a + 5 - b) % 5,
    };
    let turned = |digit: u8, times: usize| (0..times % 8).fold(digit, |d, _| NEXT[usize::from(d)]);
    let sum = digits.iter().rev().enumerate().fold(0, |sum, (at, digit)| times(sum, turned(*digit, at)));
    !digits.is_empty() && sum == 0
}

/// Whether a day of that year, month and day can be: years count for the leap day only.
pub fn is_date(year: u64, month: u64, day: u64) -> bool {
    let last = match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => return false,
    };
    (1..=last).contains(&day)
}

/// Base58Check (Bitcoin wiki): the last four bytes are the beginning of SHA-256 of SHA-256 of those before. `alphabet`
/// tells Ripple's order from Bitcoin's.
pub fn base58check(text: &[u8], alphabet: &[u8; 58]) -> Option<Vec<u8>> {
    let mut bytes: Vec<u8> = Vec::with_capacity(text.len());
    for byte in text {
        let mut carry = alphabet.iter().position(|b| b == byte)? as u32;
        for place in &mut bytes {
            carry += u32::from(*place) * 58;
            *place = carry as u8;
            carry >>= 8;
        }
        while carry > 0 {
            bytes.push(carry as u8);
            carry >>= 8;
        }
    }
    bytes.extend(text.iter().take_while(|b| **b == alphabet[0]).map(|_| 0));
    bytes.reverse();
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    (Sha256::digest(Sha256::digest(body))[..4] == *sum).then(|| body.to_vec())
}

/// Bech32 and Bech32m (BIP 173, BIP 350) of a whole address, in one letter case.
pub fn bech32(text: &[u8]) -> bool {
    const LETTERS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    let text = text.to_ascii_lowercase();
    let Some(at) = text.iter().rposition(|b| *b == b'1') else { return false };
    let (prefix, data) = (&text[..at], &text[at + 1..]);
    if data.len() < 6 {
        return false;
    }
    let step = |sum: u32, value: u32| {
        let sums = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
        let next = (sum & 0x01ff_ffff) << 5 ^ value;
        sums.iter().enumerate().filter(|(bit, _)| sum >> 25 >> bit & 1 == 1).fold(next, |sum, (_, g)| sum ^ g)
    };
    let mut sum = prefix.iter().fold(1, |sum, b| step(sum, u32::from(b >> 5)));
    sum = step(sum, 0);
    sum = prefix.iter().fold(sum, |sum, b| step(sum, u32::from(b & 31)));
    for byte in data {
        let Some(value) = LETTERS.iter().position(|b| b == byte) else { return false };
        sum = step(sum, value as u32);
    }
    sum == 1 || sum == 0x2bc8_30a3
}

/// Bits of Shannon entropy a byte: 0 for one letter over and over, about 4 for hexadecimal noise, 6 at most for base 64.
pub fn entropy(text: &[u8]) -> f64 {
    let mut counts = [0u32; 256];
    text.iter().for_each(|b| counts[usize::from(*b)] += 1);
    let share = |count: &u32| f64::from(*count) / text.len() as f64;
    counts.iter().filter(|count| **count > 0).map(|count| -share(count) * share(count).log2()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BITCOIN: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

    #[test]
    fn published_examples_hold_and_their_neighbours_do_not() {
        assert!(luhn(&digits(b"4111 1111 1111 1111")) && !luhn(&digits(b"4111111111111112")));
        assert_eq!(mod97(*b"WEST12345698765432GB82"), 1);
        assert!(mod11_10(&digits(b"86095742719")) && !mod11_10(&digits(b"86095742718")));
        assert!(verhoeff(&[2, 3, 6, 3]) && !verhoeff(&[2, 3, 6, 4]) && !verhoeff(&[3, 2, 6, 3]));
        assert!(base58check(b"1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", BITCOIN).is_some());
        assert!(base58check(b"1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb", BITCOIN).is_none());
        assert!(bech32(b"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"));
        assert!(bech32(b"bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0"));
        assert!(!bech32(b"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5"));
        assert!(is_date(2000, 2, 29) && !is_date(1900, 2, 29) && !is_date(2001, 4, 31) && !is_date(1, 13, 1));
        assert!(entropy(b"aaaa") == 0.0 && (entropy(b"0123456789abcdef") - 4.0).abs() < 1e-9);
    }
}
