//! Where members lie in the running kernel's structs, from its own type information (BTF,
//! Documentation/bpf/btf.rst). aya reads it too, but shows no members.
//!
//! What is read is the kernel's word; still every access is checked, so that a strange kernel is an error, not a panic.

use std::path::Path;

/// The kernel's own types.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
/// `struct btf_type`: name, info, size or type.
const TYPE: usize = 12;
/// `struct btf_member`: name, type, offset.
const MEMBER: usize = 12;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
/// Unnamed structs within unnamed unions within …
const NESTED: usize = 8;
/// Typedefs and qualifiers in a row.
const MODIFIERS: usize = 16;

/// The type information of a kernel.
pub struct Btf {
    data: Vec<u8>,
    strings: usize,
    /// Offset of each type in `data`, by its id; 0 is void.
    types: Vec<usize>,
}

/// Why it cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file.
    #[error("cannot read {VMLINUX}")]
    Read(#[source] std::io::Error),
    /// Its content.
    #[error("{VMLINUX} is not type information as we know it")]
    Strange,
}

impl Btf {
    /// Reads the running kernel's.
    ///
    /// # Errors
    /// There is none, or it is of another kind.
    pub fn of_kernel() -> Result<Self, BtfError> {
        Self::parse(std::fs::read(Path::new(VMLINUX)).map_err(BtfError::Read)?).ok_or(BtfError::Strange)
    }

    fn parse(data: Vec<u8>) -> Option<Self> {
        if u16::from_ne_bytes(data.get(..2)?.try_into().ok()?) != MAGIC {
            return None;
        }
        let header = word(&data, 4)? as usize;
        let section = |at| header.checked_add(word(&data, at)? as usize);
        let (start, strings) = (section(8)?, section(16)?);
        let end = start.checked_add(word(&data, 12)? as usize)?;
        let mut types = vec![0];
        let mut at = start;
        while at < end {
            types.push(at);
            let (_, kind, count, _) = info(&data, at)?;
            at += TYPE + extra(kind, count)?;
        }
        Some(Self { data, strings, types })
    }

    /// Where `member` lies in `struct name`, in octets; unnamed structs and unions within are looked through.
    pub fn member(&self, name: &str, member: &str) -> Option<u32> {
        let bits = self.structs(name).find_map(|at| self.find(at, member, NESTED))?;
        (bits % 8 == 0).then_some(bits / 8)
    }

    /// The structs of that name: there may be several, private to some source file.
    fn structs<'a>(&'a self, name: &'a str) -> impl Iterator<Item = usize> + 'a {
        self.types.iter().skip(1).copied().filter(move |at| {
            info(&self.data, *at).is_some_and(|(named, kind, ..)| {
                kind == STRUCT && self.string(named) == Some(name.as_bytes())
            })
        })
    }

    fn find(&self, at: usize, member: &str, depth: usize) -> Option<u32> {
        let (_, kind, count, _) = info(&self.data, at)?;
        if kind != STRUCT && kind != UNION || depth == 0 {
            return None;
        }
        let bitfields = word(&self.data, at + 4)? >> 31 == 1;
        for number in 0..count {
            let place = at + TYPE + number * MEMBER;
            let (name, of, offset) =
                (word(&self.data, place)?, word(&self.data, place + 4)?, word(&self.data, place + 8)?);
            let offset = if bitfields { offset & 0x00ff_ffff } else { offset };
            if name == 0 {
                let inner = self.bare(of).and_then(|inner| self.find(inner, member, depth - 1));
                if let Some(inner) = inner {
                    return offset.checked_add(inner);
                }
            } else if self.string(name)? == member.as_bytes() {
                return Some(offset);
            }
        }
        None
    }

    /// A type without typedefs and qualifiers.
    fn bare(&self, id: u32) -> Option<usize> {
        let mut at = *self.types.get(id as usize)?;
        for _ in 0..MODIFIERS {
            let (_, kind, _, of) = info(&self.data, at)?;
            // Typedef, volatile, const, restrict, type tag.
            if !matches!(kind, 8..=11 | 18) {
                return Some(at);
            }
            at = *self.types.get(of as usize)?;
        }
        None
    }

    fn string(&self, at: u32) -> Option<&[u8]> {
        let text = self.data.get(self.strings.checked_add(at as usize)?..)?;
        text.split(|octet| *octet == 0).next()
    }
}

fn word(data: &[u8], at: usize) -> Option<u32> {
    let octets = data.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(octets.try_into().ok()?))
}

/// Name, kind, number of members, and size or other type.
fn info(data: &[u8], at: usize) -> Option<(u32, u32, usize, u32)> {
    let info = word(data, at + 4)?;
    Some((word(data, at)?, info >> 24 & 0x1f, (info & 0xffff) as usize, word(data, at + 8)?))
}

/// Octets that follow a type of this kind.
fn extra(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        2 | 7..=12 | 16 | 18 => 0, // pointer, forward, typedef and qualifiers, function, float, tag
        1 | 14 | 17 => 4,          // integer, variable, declaration tag
        3 => 12,                   // array
        STRUCT | UNION | 15 | 19 => 12 * count, // with members; data section; 64 bit enumeration
        6 | 13 => 8 * count,       // enumeration, prototype
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct a { int; union { struct { int x; int y; }; }; int *z:…; }`, by hand.
    fn sample() -> Vec<u8> {
        let strings = b"\0a\0x\0y\0z\0";
        let mut types = Vec::new();
        let mut put = |words: &[u32]| types.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        put(&[0, 1 << 24, 4, 32]); // 1: int
        put(&[0, STRUCT << 24 | 2, 8, 3, 1, 0, 5, 1, 32]); // 2: unnamed struct { x; y }
        put(&[0, UNION << 24 | 1, 8, 0, 2, 0]); // 3: unnamed union { 2 }
        put(&[0, 10 << 24, 3]); // 4: const 3
        put(&[1, STRUCT << 24 | 2, 16, 0, 4, 64, 7, 1, 128]); // 5: struct a { 4 at 8; z at 16 }
        put(&[1, 1 << 31 | STRUCT << 24, 0]); // 6: another struct a, empty
        let mut data = Vec::new();
        data.extend(MAGIC.to_ne_bytes());
        data.extend([1, 0]);
        for word in [24, 0, types.len() as u32, types.len() as u32, strings.len() as u32] {
            data.extend(word.to_ne_bytes());
        }
        data.extend(&types);
        data.extend(strings);
        data
    }

    #[test]
    fn members_are_found_through_unnamed_structs() {
        let btf = Btf::parse(sample()).expect("type information");
        assert_eq!(btf.member("a", "x"), Some(8));
        assert_eq!(btf.member("a", "y"), Some(12));
        assert_eq!(btf.member("a", "z"), Some(16));
        assert_eq!(btf.member("a", "q"), None);
        assert_eq!(btf.member("b", "x"), None);
    }

    #[test]
    fn cut_off_information_is_an_error() {
        let whole = sample();
        for length in 0..whole.len() - 10 {
            if let Some(btf) = Btf::parse(whole[..length].to_vec()) {
                assert_eq!(btf.member("a", "z"), None, "{length}");
            }
        }
    }
}
