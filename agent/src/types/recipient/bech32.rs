//! Bech32 (BIP-173) as age uses it: a prefix, `1`, 32 bytes in groups of five bits, and a checksum.

use zeroize::Zeroizing;

const DIGITS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const GENERATORS: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
/// Digits of 32 bytes, and of a checksum.
const DATA: usize = 52;
const CHECK: usize = 6;

/// 32 bytes under a prefix of lower-case letters, in lower case.
pub fn encode(prefix: &str, bytes: &[u8; 32]) -> Zeroizing<String> {
    let mut digits = Zeroizing::new(Vec::with_capacity(DATA + CHECK));
    let (mut bits, mut count) = (0_u32, 0);
    for byte in bytes {
        bits = bits << 8 | u32::from(*byte);
        count += 8;
        while count >= 5 {
            count -= 5;
            digits.push((bits >> count & 31) as u8);
        }
    }
    digits.push((bits << (5 - count) & 31) as u8);
    digits.extend_from_slice(&[0; CHECK]);
    let check = checksum(prefix, &digits) ^ 1;
    for (at, digit) in digits[DATA..].iter_mut().enumerate() {
        *digit = (check >> (5 * (CHECK - 1 - at)) & 31) as u8;
    }
    let mut text = Zeroizing::new(String::with_capacity(prefix.len() + 1 + DATA + CHECK));
    text.push_str(prefix);
    text.push('1');
    digits.iter().for_each(|digit| text.push(char::from(DIGITS[usize::from(*digit)])));
    text
}

/// The bytes of a text of this prefix, all in lower case; `None` when it is none.
pub fn decode(prefix: &str, text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let text = text.strip_prefix(prefix)?.strip_prefix('1')?;
    let digit = |byte: u8| DIGITS.iter().position(|digit| *digit == byte).map(|at| at as u8);
    let digits = text.bytes().map(digit).collect::<Option<Vec<u8>>>().map(Zeroizing::new)?;
    if digits.len() != DATA + CHECK || checksum(prefix, &digits) != 1 {
        return None;
    }
    let mut bytes = Zeroizing::new([0; 32]);
    let (mut bits, mut count, mut at) = (0_u32, 0, 0);
    for digit in &digits[..DATA] {
        bits = bits << 5 | u32::from(*digit);
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes[at] = (bits >> count) as u8;
            at += 1;
        }
    }
    // Four bits are left over, which are zero.
    (bits & 15 == 0).then_some(bytes)
}

fn checksum(prefix: &str, digits: &[u8]) -> u32 {
    let high = prefix.bytes().map(|b| b >> 5);
    let low = prefix.bytes().map(|b| b & 31);
    high.chain([0]).chain(low).chain(digits.iter().copied()).fold(1, |check, digit| {
        let top = check >> 25;
        let next = (check & 0x1ff_ffff) << 5 ^ u32::from(digit);
        (0..5).filter(|bit| top >> bit & 1 == 1).fold(next, |check, bit| check ^ GENERATORS[bit])
    })
}
