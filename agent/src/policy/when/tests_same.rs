//! Random conditions, judged here and by the crate's own interpreter: where both answer, the answers are the same.

use std::sync::Arc;

use super::tests::Sample;
use super::*;
use crate::types::action::Body;

const DATA: &str = r#"{"i": 3, "z": 0, "f": 1.5, "s": "abc", "e": "", "l": [1, 2, 3], "t": ["a", "abc"], "m": {"k": "v", "i": 3}, "b": true, "n": null,
    "o": [{"type": "x"}, {"kind": "y"}, {"type": "z", "n": 7}]}"#;

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % n as u64).expect("small")
    }

    fn of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[self.below(texts.len())]
    }

    fn value(&mut self, depth: usize) -> String {
        let leaf = [
            "1",
            "3",
            "-2",
            "0",
            "\"abc\"",
            "\"a\"",
            "\"type\"",
            "true",
            "null",
            "request.json.i",
            "request.json.z",
            "request.json.s",
            "request.json.e",
            "request.json.l",
            "request.json.t",
            "request.json.m",
            "request.json.m.k",
            "request.json.b",
            "request.json.n",
            "request.json.gone",
            "request.json.o[0].type",
            "request.json.l[1]",
            "request.json.l[9]",
            "request.json.m[\"i\"]",
            "[1, 2, 3]",
            "[\"abc\"]",
            "{\"k\": \"v\"}",
            "9223372036854775807",
        ];
        if depth == 0 || self.below(3) == 0 {
            return self.of(&leaf).to_owned();
        }
        let (a, b) = (self.value(depth - 1), self.value(depth - 1));
        match self.below(6) {
            0..3 => format!("({a} {} {b})", self.of(&["+", "-", "*", "/", "%"])),
            3 => format!("size({a})"),
            4 => format!("({} ? {a} : {b})", self.test(depth - 1)),
            _ => format!("({a}).map(v, {b})"),
        }
    }

    fn test(&mut self, depth: usize) -> String {
        let (a, b) = (self.value(depth.min(1)), self.value(depth.min(1)));
        if depth == 0 {
            // Sums of whole numbers and fractions are ours alone; both are compared.
            let b =
                if self.below(4) == 0 { self.of(&["1.5", "3.0", "request.json.f"]).to_owned() } else { b };
            return format!("{a} {} {b}", self.of(&["==", "!=", "<", "<=", ">", ">=", "in"]));
        }
        let (p, q) = (self.test(depth - 1), self.test(depth - 1));
        match self.below(10) {
            0..2 => format!("({p} && {q})"),
            2..4 => format!("({p} || {q})"),
            4 => format!("!({p})"),
            5 => format!("({p} ? {q} : {p})"),
            6 => format!("({a}).{}({b})", self.of(&["contains", "startsWith", "endsWith"])),
            7 => {
                let entry = self.of(&[
                    "v == 1",
                    "v > 2",
                    "v == \"a\"",
                    "v.type == \"z\"",
                    "has(v.type)",
                    "v in request.json.l",
                    "v + 1 > 2",
                ]);
                format!("({a}).{}(v, {entry})", self.of(&["all", "exists", "exists_one"]))
            }
            8 => format!("has(request.json.{})", self.of(&["i", "gone", "n", "m.k", "m.gone"])),
            _ => format!("{a} {} {b}", self.of(&["==", "!=", "<", ">=", "in"])),
        }
    }
}

#[test]
fn conditions_mean_what_the_crates_interpreter_says() {
    let run = || {
        let env = Arc::new(cel::Env::stdlib());
        let mut context = cel::Context::with_env(Arc::clone(&env));
        let json = env.compile(&DATA.replace('\n', " ")).expect("data").execute(&context).expect("data");
        let request = std::collections::HashMap::from([("json".to_owned(), json)]);
        context.add_variable_from_value("request", request);
        let (sample, mut random) = (Sample::new(), Random(42));
        let (mut held, mut not, mut failed, mut unfit) = (0, 0, 0, 0);
        for _ in 0..20_000 {
            let text = random.test(2);
            let Ok(when) = compile(&text) else {
                unfit += 1;
                continue;
            };
            let asked = sample.asked(Body::Whole(DATA.as_bytes()));
            let ours = when.holds(&Facts::new(&asked), 1 << 20, false);
            // The crate adds a map's entries to a list; the language has no such sum.
            if matches!(&ours, Known::Cannot(why) if why == "a list and a map cannot be added") {
                continue;
            }
            match env.compile(&text).expect(&text).execute(&context) {
                Ok(cel::Value::Bool(true)) => {
                    held += 1;
                    assert_eq!(ours, Known::Yes, "{text}");
                }
                Ok(cel::Value::Bool(false)) => {
                    not += 1;
                    // What cannot be told of a list's entries is no answer here, and a no there.
                    assert!(matches!(ours, Known::No | Known::Cannot(_)), "{text}: {ours:?}");
                }
                _ => {
                    failed += 1;
                    assert!(matches!(ours, Known::No | Known::Cannot(_)), "{text}: {ours:?}");
                }
            }
        }
        println!("{held} held, {not} did not, {failed} failed, {unfit} were refused when read");
        assert!(held > 200 && not > 200 && failed > 200);
    };
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(run).expect("a thread");
    thread.join().expect("the same answers");
}
