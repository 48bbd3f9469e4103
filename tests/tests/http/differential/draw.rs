//! Draws requests: mostly right, often odd, some malformed.

use super::heard::Heard;

/// What the paths and queries are made of: nothing in it is refused for itself.
const SEGMENTS: [&str; 26] = [
    "a", "m1", "%6d1", "M1", "v1", "..", ".", "", "%2e%2E", "%2F", "%252f", "x;y=1", "%c3%a9", "%00", "%zz",
    "a+b", "~", "@a", "a:b", "$", "!", "%", "(b)", "a,b", "é", "%5c",
];
const PAIRS: [&str; 20] = [
    "q=1", "q=%31", "q=a+b", "q=2", "q", "=x", "q=%zz", "q=%f0%28", "", "q=a%26b", "q=a=b?c", "Q=1", "%71=1",
    "q=%00", "r=1", "q[]=1", "q=1;q=2", "q='", "q=é", "q=%c3%a9",
];
const METHODS: [&str; 9] =
    ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "PROPFIND", "M-SEARCH"];
const MARKS: [&str; 7] = ["m1", "m1x", "m2", "", "M1", "m 1", "m\u{e9}1"];
const HOSTS: [&str; 4] = ["api.example", "API.Example", "b.example", "192.0.2.9"];
const BODIES: [&str; 16] = [
    r#"{"model":"small"}"#,
    r#"{"model":"big"}"#,
    r#"{ "model" : "sm\u0061ll" }"#,
    r#"{"model":"small","model":"big"}"#,
    r#"{"model":"small","MODEL":"big"}"#,
    r#"{"a":{"model":"big"},"model":"small"}"#,
    r#"{"model":1}"#,
    r#"{"model":null}"#,
    r#"{"other":"small"}"#,
    r#"["small"]"#,
    r#"{"model":"small"} x"#,
    r#"{"model":"small"#,
    r#"{'model':'small'}"#,
    "{\"model\":\"small\"}\r\n",
    "model=small",
    "",
];

/// One request as it is to be sent.
pub struct Asked {
    /// What the upstream must hear of it.
    pub said: Heard,
    /// Whether something is wrong with it, so that it may be refused; then `said` is no promise.
    pub malformed: bool,
    /// HTTP/1: the octets. HTTP/2: the header list, the body and the trailers.
    pub wire: Wire,
}

/// See [`Asked::wire`].
pub enum Wire {
    Octets(Vec<u8>),
    Frames(Vec<(Vec<u8>, Vec<u8>)>),
}

impl Asked {
    pub fn text(&self) -> String {
        match &self.wire {
            Wire::Octets(octets) => octets.escape_ascii().to_string(),
            Wire::Frames(list) => {
                let line =
                    |(n, v): &(Vec<u8>, Vec<u8>)| format!("{}: {}", n.escape_ascii(), v.escape_ascii());
                list.iter().map(line).collect::<Vec<_>>().join(" | ")
            }
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers everywhere.
pub struct Draw(u64);

impl Draw {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % (n as u64)).expect("less than n")
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }

    fn path(&mut self) -> String {
        if self.one_in(3) {
            // The plain ones are those in which one octet off is one octet off.
            return format!("/{}/{}", self.of(&["a", "v1", "m1"]), self.of(&["b", "m1", "c-d", "e.f"]));
        }
        (0..=self.below(4)).map(|_| format!("/{}", self.of(&SEGMENTS))).collect()
    }

    fn query(&mut self) -> Option<String> {
        let some = self.below(4);
        let pairs: Vec<&str> = (0..some).map(|_| self.of(&PAIRS)).collect();
        (some > 0 || self.one_in(6)).then(|| pairs.join("&"))
    }

    /// A text, one in some with one octet other than it was.
    fn perhaps_wrong(&mut self, text: &[u8]) -> Vec<u8> {
        let mut text = text.to_vec();
        if !text.is_empty() && self.one_in(14) {
            let at = self.below(text.len());
            text[at] = if text[at] == b'x' { b'y' } else { b'x' };
        }
        text
    }

    /// A request; `plain`: its host is not verified by anybody.
    pub fn request(&mut self, http2: bool, plain: bool) -> Asked {
        let method = self.of(&METHODS).to_owned();
        let star = method == "OPTIONS" && self.one_in(3);
        let path = if star { "*".to_owned() } else { self.path() };
        let query = if star { None } else { self.query() };
        let mut authority = if plain { self.of(&HOSTS).to_owned() } else { self.of(&HOSTS[..2]).to_owned() };
        if self.one_in(4) {
            authority.push_str(if plain { ":8080" } else { ":443" });
        }
        let mut said = Heard { method, path: path.into_bytes(), query, authority, ..Heard::default() };
        self.believes(&mut said);
        let with_body = !matches!(said.method.as_str(), "GET" | "HEAD") || self.one_in(5);
        if with_body {
            said.body = self.of(&BODIES).as_bytes().to_vec();
            if self.one_in(20) {
                said.body.resize(said.body.len() + self.below(9000), b' ');
            }
            let model = self.of(&["small", "small", "big"]);
            said.add("x-model", model.as_bytes());
        }
        let malformed = self.one_in(40);
        let wire = if http2 {
            self.frames(&mut said, malformed)
        } else {
            self.octets(&mut said, malformed, with_body)
        };
        Asked { said, malformed, wire }
    }

    /// Fields in which the request says what it is.
    fn believes(&mut self, said: &mut Heard) {
        let method = said.method.clone().into_bytes();
        let wrong = self.perhaps_wrong(&method);
        said.add("x-method", &wrong);
        let path = said.path.clone();
        let wrong = self.perhaps_wrong(&path);
        said.add("x-path", &wrong);
        let host = said.host().into_bytes();
        let wrong = self.perhaps_wrong(&host);
        said.add("x-host", &wrong);
        let values = said.parameters("q");
        for value in values {
            let wrong = self.perhaps_wrong(value.as_bytes());
            let bare = |b: Option<&u8>| b.is_none_or(|b| !matches!(b, b' ' | b'\t'));
            let fits =
                bare(wrong.first()) && bare(wrong.last()) && wrong.iter().all(|b| *b >= 0x20 && *b != 0x7f);
            said.add("x-q", if fits { &wrong } else { b"?" });
        }
        for _ in 0..self.below(3) {
            let mark = self.of(&MARKS).as_bytes();
            said.add("x-mark", mark);
        }
        if self.one_in(8) {
            said.add("cookie", b"a=1");
            said.add("cookie", b"b=2");
        }
        if self.one_in(8) {
            said.add("te", b"trailers");
        }
        if self.one_in(10) {
            let long = vec![b'l'; self.below(3000)];
            said.add("x-long", &long);
        }
    }

    fn octets(&mut self, said: &mut Heard, malformed: bool, with_body: bool) -> Wire {
        let target = String::from_utf8(said.target()).expect("text");
        let absolute = target.starts_with('/') && self.one_in(12);
        let target = if absolute { format!("http://{}{target}", said.authority) } else { target };
        let chunked = with_body && self.one_in(2);
        let host = said.authority.clone().into_bytes();
        said.add("host", &host);
        if chunked {
            said.add("transfer-encoding", b"chunked");
            if self.one_in(3) {
                said.add("trailer", b"x-sum");
                said.trailers.push(("x-sum".to_owned(), b"7".to_vec()));
            }
        } else if with_body {
            said.add("content-length", said.body.len().to_string().as_bytes());
        }
        if with_body && !said.body.is_empty() && self.one_in(10) {
            said.add("expect", b"100-continue");
        }
        // Fields of one name stay in order; which name comes first says nothing.
        let mut octets = format!("{} {target} HTTP/1.1\r\n", said.method).into_bytes();
        for (name, value) in &said.headers {
            let name = match self.below(4) {
                0 => name.to_ascii_uppercase(),
                1 => name
                    .split('-')
                    .map(|w| w[..1].to_ascii_uppercase() + &w[1..])
                    .collect::<Vec<_>>()
                    .join("-"),
                _ => name.clone(),
            };
            let (before, after) = (self.of(&[" ", "", "\t ", "  "]), self.of(&["", "", " ", "\t"]));
            octets.extend(
                [name.as_bytes(), b":", before.as_bytes(), value, after.as_bytes(), b"\r\n"].concat(),
            );
        }
        octets.extend(b"\r\n");
        let head = octets.len();
        if chunked {
            let mut rest = &said.body[..];
            while !rest.is_empty() {
                let n = (1 + self.below(rest.len().min(700))).min(rest.len());
                let zeros = "0".repeat(self.below(3));
                octets.extend(format!("{zeros}{n:x}\r\n").into_bytes());
                octets.extend([&rest[..n], b"\r\n"].concat());
                rest = &rest[n..];
            }
            octets.extend(b"0\r\n");
            for (name, value) in &said.trailers {
                octets.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
            }
            octets.extend(b"\r\n");
        } else {
            octets.extend(&said.body);
        }
        if malformed {
            self.spoil(&mut octets, head);
        }
        Wire::Octets(octets)
    }

    /// Changes, adds or takes away one octet of the head.
    fn spoil(&mut self, octets: &mut Vec<u8>, head: usize) {
        const ODD: [u8; 14] =
            [0, b' ', b'\t', b'\r', b'\n', b':', b',', b';', b'/', b'?', b'#', b'%', 0x7f, 0xff];
        let at = self.below(head - 4);
        let odd = ODD[self.below(ODD.len())];
        match self.below(3) {
            0 => octets[at] = odd,
            1 => octets.insert(at, odd),
            _ => drop(octets.remove(at)),
        }
        // Whoever then waits for more of a body gets it.
        octets.extend([b' '; 64]);
    }

    fn frames(&mut self, said: &mut Heard, malformed: bool) -> Wire {
        if self.one_in(4) {
            said.add("content-length", said.body.len().to_string().as_bytes());
        }
        if self.one_in(6) && !said.body.is_empty() {
            said.trailers.push(("x-sum".to_owned(), b"7".to_vec()));
        }
        let target = said.target();
        let mut list: Vec<(Vec<u8>, Vec<u8>)> = vec![
            (b":method".to_vec(), said.method.clone().into_bytes()),
            (b":scheme".to_vec(), b"https".to_vec()),
            (b":authority".to_vec(), said.authority.clone().into_bytes()),
            (b":path".to_vec(), target),
        ];
        list.extend(said.headers.iter().map(|(n, v)| (n.clone().into_bytes(), v.clone())));
        if malformed {
            self.spoil_list(&mut list);
        }
        Wire::Frames(list)
    }

    fn spoil_list(&mut self, list: &mut Vec<(Vec<u8>, Vec<u8>)>) {
        let field = |n: &str, v: &str| (n.as_bytes().to_vec(), v.as_bytes().to_vec());
        let odd = [
            field(":path", "/other"),
            field(":method", "DELETE"),
            field(":authority", "other.example"),
            field(":scheme", "http"),
            field(":status", "200"),
            field(":protocol", "websocket"),
            field("host", "other.example"),
            field("X-Upper", "a"),
            field("x y", "a"),
            field("x:y", "a"),
            field("", "a"),
            field("connection", "close"),
            field("transfer-encoding", "chunked"),
            field("upgrade", "h2c"),
            field("content-length", "1"),
            field("content-length", "99"),
            field("x-value", "a\r\nx-mark: m1"),
            field("x-value", "a\0b"),
            field("te", "gzip"),
        ];
        match self.below(4) {
            0 => drop(list.remove(self.below(4))),
            1 => {
                let at = self.below(list.len());
                let value = &mut list[at].1;
                value.insert(value.len() / 2, [0, b'\r', b'\n', b' ', b'#', b'\t'][self.below(6)]);
            }
            _ => {
                let at = self.below(list.len() + 1);
                list.insert(at, odd[self.below(odd.len())].clone());
            }
        }
    }
}
