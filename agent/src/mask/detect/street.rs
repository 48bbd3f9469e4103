//! Street addresses: a number and a street. The kind of street (Road, Straße, rue) is the context that is asked for.

use super::{Begin, Detector, Edge, Shape, Step, Text, step};

pub const ALL: &[Detector] = &[Detector {
    name: "address",
    grammar: "a number of up to five digits, perhaps a letter, one to four words with capitals, a kind of street (Street, \
              Ave., Road …), perhaps a flat (Apt. 12); a number and `rue`, `avenue`, `boulevard` … and a name; a word that ends in \
              straße, str., weg, platz, gasse, allee, straat, laan and a number; `Apt.` or `Suite` and three to five digits",
    source: "USPS Publication 28 appendix C1; the customs of the countries",
    examples: &[
        "lives at «221B Baker Street», London",
        "«12 rue de la Paix», Paris",
        "«Hauptstraße 12a», Berlin",
        "«1600 Pennsylvania Ave. NW»",
        "«580 Parsons Gateway Apt. 215».",
        "at «Suite 4410», Tulsa",
    ],
    shapes: &[
        Shape {
            begin: Begin::DigitBy("[0-9]{1,5}[A-Za-z]{0,2},? [A-Za-z\\x80-\\xff]", number_first),
            edge: Edge::Number,
            check: |_| true,
            near: &[],
        },
        Shape {
            begin: Begin::Digit("(?:Apt[.]?|Apartment|Suite|Ste[.]) #?[0-9]{3,5}[A-Z]?"),
            edge: Edge::Number,
            check: |_| true,
            near: &[],
        },
        Shape {
            begin: Begin::DigitBy("[A-Z\\x80-\\xff][A-Za-z\\x80-\\xff-]{2,39}[.]? [0-9]", name_first),
            edge: Edge::Number,
            check: |_| true,
            near: &[],
        },
    ],
}];

const KINDS: &[&str] = &[
    "alley",
    "anex",
    "annex",
    "arcade",
    "avenue",
    "ave",
    "bayou",
    "beach",
    "bend",
    "bluff",
    "bluffs",
    "bottom",
    "boulevard",
    "blvd",
    "branch",
    "bridge",
    "brook",
    "brooks",
    "burg",
    "burgs",
    "bypass",
    "camp",
    "canyon",
    "cape",
    "causeway",
    "center",
    "centers",
    "circle",
    "cir",
    "circles",
    "cliff",
    "cliffs",
    "club",
    "close",
    "common",
    "commons",
    "corner",
    "corners",
    "course",
    "court",
    "ct",
    "courts",
    "cove",
    "coves",
    "creek",
    "crescent",
    "cres",
    "crest",
    "crossing",
    "crossroad",
    "curve",
    "dale",
    "dam",
    "divide",
    "drive",
    "dr",
    "drives",
    "estate",
    "estates",
    "expressway",
    "extension",
    "extensions",
    "fall",
    "falls",
    "ferry",
    "field",
    "fields",
    "flat",
    "flats",
    "ford",
    "fords",
    "forest",
    "forge",
    "forges",
    "fork",
    "forks",
    "fort",
    "freeway",
    "garden",
    "gardens",
    "gateway",
    "glen",
    "glens",
    "green",
    "greens",
    "grove",
    "groves",
    "harbor",
    "harbors",
    "haven",
    "heights",
    "highway",
    "hwy",
    "hill",
    "hills",
    "hollow",
    "inlet",
    "island",
    "islands",
    "isle",
    "junction",
    "junctions",
    "key",
    "keys",
    "knoll",
    "knolls",
    "lake",
    "lakes",
    "land",
    "landing",
    "lane",
    "ln",
    "light",
    "lights",
    "loaf",
    "lock",
    "locks",
    "lodge",
    "loop",
    "mall",
    "manor",
    "manors",
    "meadow",
    "meadows",
    "mews",
    "mill",
    "mills",
    "mission",
    "motorway",
    "mount",
    "mountain",
    "mountains",
    "neck",
    "orchard",
    "oval",
    "overpass",
    "parade",
    "park",
    "parks",
    "parkway",
    "parkways",
    "pkwy",
    "pass",
    "passage",
    "path",
    "pike",
    "pine",
    "pines",
    "place",
    "pl",
    "plain",
    "plains",
    "plaza",
    "point",
    "points",
    "port",
    "ports",
    "prairie",
    "radial",
    "ramp",
    "ranch",
    "rapid",
    "rapids",
    "rest",
    "ridge",
    "ridges",
    "river",
    "road",
    "rd",
    "roads",
    "route",
    "row",
    "rue",
    "run",
    "shoal",
    "shoals",
    "shore",
    "shores",
    "skyway",
    "spring",
    "springs",
    "spur",
    "spurs",
    "square",
    "sq",
    "squares",
    "station",
    "stravenue",
    "stream",
    "street",
    "st",
    "streets",
    "summit",
    "terrace",
    "ter",
    "throughway",
    "trace",
    "track",
    "trafficway",
    "trail",
    "trailer",
    "tunnel",
    "turnpike",
    "underpass",
    "union",
    "unions",
    "valley",
    "valleys",
    "via",
    "viaduct",
    "view",
    "views",
    "village",
    "villages",
    "ville",
    "vista",
    "walk",
    "walks",
    "wall",
    "way",
    "ways",
    "well",
    "wells",
];
const QUARTERS: &[&str] = &["n", "s", "e", "w", "ne", "nw", "se", "sw", "north", "south", "east", "west"];
const FLATS: &[&str] = &["apt", "apart", "suite", "ste", "unit", "flat", "room", "floor"];
const FRENCH: &[&str] =
    &["rue", "avenue", "boulevard", "bd", "place", "chemin", "allée", "impasse", "quai", "cours", "route"];
const PARTICLES: &[&str] = &["de", "la", "le", "les", "du", "des", "d", "l", "et", "bis", "ter", "of", "the"];
const ENDINGS: &[&str] = &[
    "straße", "strasse", "str", "weg", "platz", "gasse", "allee", "damm", "ufer", "ring", "straat", "laan",
    "plein", "gracht", "gata", "gatan", "vägen", "veien", "gade", "vej", "katu",
];

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte > 127 || byte == b'\'' || byte == b'-'
}

fn is_one_of(word: &[u8], list: &[&str]) -> bool {
    list.iter().any(|known| word.eq_ignore_ascii_case(known.as_bytes()))
}

fn number_first(text: Text<'_>, from: usize) -> Step {
    step((|| {
        let digits = text.run(from, 6, |b| b.is_ascii_digit())?;
        if digits == from || digits - from > 5 {
            return Ok(Step::No);
        }
        let mut at = text.run(digits, 2, |b| b.is_ascii_alphabetic())?;
        if at - digits > 1 && !matches!(text.slice(digits, at), b"st" | b"nd" | b"rd" | b"th") {
            return Ok(Step::No);
        }
        if text.at(at)? == Some(b',') {
            at += 1;
        }
        let (mut end, mut words, mut french) = (None, 0, false);
        while words < 6 && text.at(at)? == Some(b' ') {
            let from = at + 1;
            at = text.run(from, 26, is_letter)?;
            let word = text.slice(from, at);
            let capital =
                word.first().is_some_and(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b > 127);
            let is_particle =
                is_one_of(word, PARTICLES) || word.starts_with(b"d'") || word.starts_with(b"l'");
            french |= words == 0 && is_one_of(word, FRENCH);
            if word.len() > 25
                || word.is_empty()
                || !(capital || (words == 0 && french) || (words > 0 && is_particle))
            {
                break;
            }
            words += 1;
            if (words > 1 && is_one_of(word, KINDS))
                || (end.is_some() && is_one_of(word, QUARTERS))
                || (french && words > 1 && capital)
            {
                let dot =
                    text.at(at)? == Some(b'.') && text.at(at + 1)?.is_some_and(|b| b == b' ' || b == b',');
                at += usize::from(dot && word.len() < 5);
                end = Some(at);
            }
        }
        let Some(end) = end else { return Ok(Step::No) };
        Ok(Step::Found(flat(text, end)?.unwrap_or(end)))
    })())
}

/// Where a flat ends that is named behind a street: `, Apt. 12`.
fn flat(text: Text<'_>, end: usize) -> Result<Option<usize>, Step> {
    let comma = usize::from(text.at(end)? == Some(b','));
    if text.at(end + comma)? != Some(b' ') {
        return Ok(None);
    }
    let word = end + comma + 1;
    let mut at = text.run(word, 6, |b| b.is_ascii_alphabetic())?;
    if !is_one_of(text.slice(word, at), FLATS) {
        return Ok(None);
    }
    at += usize::from(text.at(at)? == Some(b'.'));
    at += usize::from(text.at(at)? == Some(b' '));
    let number = text.run(at, 6, |b| b.is_ascii_alphanumeric())?;
    Ok(text.slice(at, number).iter().any(u8::is_ascii_digit).then_some(number))
}

fn name_first(text: Text<'_>, from: usize) -> Step {
    step((|| {
        let end = text.run(from, 41, |b| b.is_ascii_alphabetic() || b > 127 || b == b'-')?;
        let word = text.slice(from, end);
        let ends = |ending: &&str| {
            let ending = ending.as_bytes();
            word.len() > ending.len() + 2 && word[word.len() - ending.len()..].eq_ignore_ascii_case(ending)
        };
        if word.len() > 40
            || !word.first().is_some_and(|b| b.is_ascii_uppercase() || *b > 127)
            || !ENDINGS.iter().any(ends)
        {
            return Ok(Step::No);
        }
        let mut at = end + usize::from(text.at(end)? == Some(b'.'));
        if text.at(at)? != Some(b' ') {
            return Ok(Step::No);
        }
        at += 1;
        let digits = text.run(at, 5, |b| b.is_ascii_digit())?;
        if digits == at || digits - at > 4 {
            return Ok(Step::No);
        }
        let letter = text.at(digits)?.is_some_and(|b| b.is_ascii_alphabetic());
        Ok(Step::Found(digits + usize::from(letter)))
    })())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_with_numbers_is_no_address() {
        for text in ["12 men in a boat", "3 Way Calling", "2024 was a good year", "5 Apples and a Street"] {
            let found = number_first(Text { bytes: text.as_bytes(), last: true }, 0);
            assert!(matches!(found, Step::No), "{text}: {found:?}");
        }
    }
}
