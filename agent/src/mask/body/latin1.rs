//! Windows-1252, of which ISO 8859-1 is a part but for control characters that nobody writes (as WHATWG's encoding standard has it).

/// What the bytes 0x80 to 0x9f stand for; 0 where they stand for the control character.
const UPPER: [u16; 32] = [
    0x20ac, 0, 0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160, 0x2039, 0x0152, 0,
    0x017d, 0, 0, 0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a,
    0x0153, 0, 0x017e, 0x0178,
];

/// The character of a byte.
pub fn char_of(byte: u8) -> char {
    match byte {
        0x80..=0x9f => match UPPER[usize::from(byte - 0x80)] {
            0 => char::from(byte),
            code => char::from_u32(u32::from(code)).unwrap_or('?'),
        },
        _ => char::from(byte),
    }
}

/// The byte of a character, if it has one.
pub fn byte_of(letter: char) -> Option<u8> {
    let code = u32::from(letter);
    if let Some(at) = UPPER.iter().position(|upper| *upper != 0 && u32::from(*upper) == code) {
        return u8::try_from(0x80 + at).ok();
    }
    u8::try_from(code).ok().filter(|byte| char_of(*byte) == letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_there_and_back() {
        assert!((0..=255).all(|byte| byte_of(char_of(byte)) == Some(byte)));
        assert_eq!((char_of(0x80), byte_of('ł')), ('€', None));
    }
}
