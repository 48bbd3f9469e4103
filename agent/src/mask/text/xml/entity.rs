//! Character references of XML and HTML.

/// Longest reference that is read, in bytes; of what is longer, the sign stands for itself.
const LONGEST: usize = 32;

/// Names of what values are made of: those of XML, and those of HTML for ASCII signs and for what stands between.
const NAMES: &[(&str, &str)] = &[
    ("amp", "&"),
    ("lt", "<"),
    ("gt", ">"),
    ("quot", "\""),
    ("apos", "'"),
    ("nbsp", "\u{a0}"),
    ("ensp", "\u{2002}"),
    ("emsp", "\u{2003}"),
    ("numsp", "\u{2007}"),
    ("puncsp", "\u{2008}"),
    ("thinsp", "\u{2009}"),
    ("hairsp", "\u{200a}"),
    ("ndash", "\u{2013}"),
    ("mdash", "\u{2014}"),
    ("minus", "\u{2212}"),
    ("shy", "\u{ad}"),
    ("zwnj", "\u{200c}"),
    ("zwj", "\u{200d}"),
    ("NoBreak", "\u{2060}"),
    ("commat", "@"),
    ("period", "."),
    ("num", "#"),
    ("plus", "+"),
    ("lpar", "("),
    ("rpar", ")"),
    ("lsqb", "["),
    ("lbrack", "["),
    ("rsqb", "]"),
    ("rbrack", "]"),
    ("lcub", "{"),
    ("lbrace", "{"),
    ("rcub", "}"),
    ("rbrace", "}"),
    ("colon", ":"),
    ("semi", ";"),
    ("comma", ","),
    ("excl", "!"),
    ("quest", "?"),
    ("equals", "="),
    ("sol", "/"),
    ("bsol", "\\"),
    ("lowbar", "_"),
    ("UnderBar", "_"),
    ("hyphen", "\u{2010}"),
    ("dash", "\u{2010}"),
    ("ast", "*"),
    ("midast", "*"),
    ("percnt", "%"),
    ("dollar", "$"),
    ("grave", "`"),
    ("Hat", "^"),
    ("verbar", "|"),
    ("vert", "|"),
    ("Tab", "\t"),
    ("NewLine", "\n"),
    ("auml", "ä"),
    ("ouml", "ö"),
    ("uuml", "ü"),
    ("Auml", "Ä"),
    ("Ouml", "Ö"),
    ("Uuml", "Ü"),
    ("szlig", "ß"),
    ("eacute", "é"),
    ("egrave", "è"),
    ("ntilde", "ñ"),
    ("ccedil", "ç"),
];

/// What the reference says that begins there, and how long it is; `Ok(None)`: more must come. What is none says its sign.
pub fn entity(text: &[u8], last: bool) -> Option<(usize, String)> {
    let sign = Some((1, "&".to_owned()));
    let body = &text[1..text.len().min(LONGEST)];
    let is_part = |b: &u8| b.is_ascii_alphanumeric() || *b == b'#';
    let length = body.iter().take_while(|b| is_part(b)).count();
    if length == body.len() {
        // At the end of what has come more may follow; a long one is none.
        return if last || body.len() >= LONGEST - 1 { numeric(body, length).or(sign) } else { None };
    }
    let ended = body[length] == b';';
    if body.first() == Some(&b'#') {
        return numeric(body, length + usize::from(ended)).or(sign);
    }
    let named = NAMES.iter().find(|(name, _)| name.as_bytes() == &body[..length]).filter(|_| ended);
    named.map(|(_, says)| (length + 2, (*says).to_owned())).or(sign)
}

/// A number needs no semicolon in HTML.
fn numeric(body: &[u8], length: usize) -> Option<(usize, String)> {
    let rest = body.strip_prefix(b"#")?;
    let (radix, digits) = match rest {
        [b'x' | b'X', digits @ ..] => (16, digits),
        digits => (10, digits),
    };
    let count = digits.iter().take_while(|b| char::from(**b).is_digit(radix)).count();
    let value = u32::from_str_radix(str::from_utf8(&digits[..count]).ok()?, radix).ok()?;
    let ended = usize::from(digits.get(count) == Some(&b';'));
    let raw = 2 + usize::from(radix == 16) + count + ended;
    let letter = char::from_u32(value).filter(|letter| *letter != '\0').unwrap_or('\u{fffd}');
    (raw <= length + 1).then(|| (raw, letter.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let says = |text: &str, last| entity(text.as_bytes(), last);
        assert_eq!(says("&#64;x", false), Some((5, "@".into())));
        assert_eq!(says("&#x40;x", false), Some((6, "@".into())));
        assert_eq!(says("&#64 x", false), Some((4, "@".into())));
        assert_eq!(says("&#64ex", false), None);
        assert_eq!(says("&#64ex", true), Some((4, "@".into())));
        assert_eq!(says("&#64ex ", false), Some((4, "@".into())));
        assert_eq!(says("&commat;x", false), Some((8, "@".into())));
        assert_eq!(says("& x", false), Some((1, "&".into())));
        assert_eq!(says("&unknown;", false), Some((1, "&".into())));
        assert_eq!((says("&am", false), says("&", false)), (None, None));
        assert_eq!((says("&am", true), says("&", true)), (Some((1, "&".into())), Some((1, "&".into()))));
        assert_eq!(says(&format!("&{}", "a".repeat(40)), false), Some((1, "&".into())));
        assert_eq!(says(&format!("&#{}64;", "0".repeat(26)), false), Some((31, "@".into())));
    }
}
