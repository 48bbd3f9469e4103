//! Hostile clients and hostile servers, byte by byte.

use std::net::IpAddr;

use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{RData, Record};

use super::*;

fn name(text: &str) -> Name {
    Name::from_ascii(text).expect("name")
}

/// A question as a client would send it.
fn asked(text: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name(text), kind));
    message
}

fn question(text: &str, kind: RecordType) -> Question {
    read_question(&asked(text, kind).to_vec().expect("bytes")).expect("a question")
}

fn record(owner: &str, data: RData) -> Record {
    Record::from_rdata(name(owner), 300, data)
}

fn a(owner: &str, last: u8) -> Record {
    record(owner, RData::A(A::new(192, 0, 2, last)))
}

fn cname(owner: &str, target: &str) -> Record {
    record(owner, RData::CNAME(CNAME(name(target))))
}

/// An answer to `question` under id 7 with these records.
fn answered(question: &Question, records: Vec<Record>) -> Vec<u8> {
    let mut message = Message::response(7, OpCode::Query);
    message.add_query(question.query.clone());
    message.add_answers(records);
    message.to_vec().expect("bytes")
}

fn kept(question: &Question, records: Vec<Record>) -> Vec<String> {
    let answer = question.read_answer(7, &answered(question, records), true).expect("an answer");
    answer.lines().collect()
}

fn refused(bytes: &[u8]) -> (Option<u8>, &'static str) {
    match read_question(bytes).expect_err("no question") {
        Unread::Silent(why) => (None, why),
        Unread::Answered(reply, rcode, why) => {
            assert_eq!(reply[..2], bytes[..2], "the id is kept");
            assert_eq!(reply[2] & 0x80, 0x80, "a response");
            assert_eq!(reply[3] & 0xf, rcode.low());
            (Some(rcode.low()), why)
        }
    }
}

#[test]
fn a_question_keeps_its_id_and_letter_case_and_nothing_else_of_the_client() {
    let mut message = asked("wWw.ExAmPlE.com.", RecordType::A);
    let mut edns = options(4096, true);
    edns.options_mut().insert(EdnsOption::Unknown(65001, b"smuggled".to_vec()));
    message.set_edns(edns);
    let bytes = message.to_vec().expect("bytes");
    let question = read_question(&bytes).expect("a question");
    assert_eq!((question.name(), question.kind()), ("www.example.com".to_owned(), "A".to_owned()));
    assert_eq!((question.longest_label(), question.bound()), (7, 4096));

    let upstream = question.ask(99, true).expect("bytes");
    assert!(!upstream.windows(8).any(|w| w == b"smuggled"));
    let sent = Message::from_vec(&upstream).expect("message");
    assert_eq!(sent.metadata.id, 99);
    assert!(sent.queries[0].name.eq_case(&name("wWw.ExAmPlE.com.")), "0x20 case is kept");
    assert!(sent.edns.expect("edns").flags().dnssec_ok);

    let reply = question.error(ResponseCode::NXDomain, Some((BLOCKED, "dns.deny has \"x\"")));
    let reply = Message::from_vec(&reply).expect("message");
    assert_eq!((reply.metadata.id, reply.metadata.response_code), (0x1234, ResponseCode::NXDomain));
    assert!(reply.queries[0].name.eq_case(&name("wWw.ExAmPlE.com.")));
    assert!(reply.metadata.recursion_available && reply.metadata.recursion_desired);
}

#[test]
fn what_is_no_question_is_answered_so_or_not_at_all() {
    let good = asked("a.test.", RecordType::A).to_vec().expect("bytes");
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        refused(&bytes).0
    };
    assert_eq!(refused(&good[..11]).0, None, "no header");
    assert_eq!(with(&|b| b[2] |= 0x80), None, "a response");
    assert_eq!(with(&|b| b[2] |= 0x28), Some(4), "UPDATE is not implemented");
    assert_eq!(with(&|b| b[5] = 2), Some(1), "two questions");
    assert_eq!(with(&|b| b[5] = 0), Some(1), "none");
    assert_eq!(with(&|b| b[4] = 0xff), Some(1), "65,281 questions");
    assert_eq!(with(&|b| b[7] = 1), Some(1), "an answer in a question");
    assert_eq!(with(&|b| b[10] = 0xff), Some(1), "65,280 additional records");
    assert_eq!(with(&|b| b.truncate(20)), Some(1), "cut");
    assert_eq!(with(&|b| b.extend_from_slice(b"smuggled")), Some(1), "bytes after it");
    assert_eq!(with(&|b| b.resize(MAX_QUESTION + 1, 0)), Some(1), "too long");
    // A name that points at itself.
    assert_eq!(with(&|b| b.splice(12..20, [0xc0, 12]).for_each(drop)), Some(1), "compression loop");
    let class = good.len() - 1;
    assert_eq!(with(&|b| b[class] = 3), Some(5), "class CHAOS");
    assert_eq!(refused(&asked("a.test.", RecordType::AXFR).to_vec().expect("bytes")).0, Some(5));
    let mut other = asked("a.test.", RecordType::A);
    other.add_additional(a("a.test.", 1));
    assert_eq!(refused(&other.to_vec().expect("bytes")).0, Some(1), "a record that is not OPT");
    let mut future = asked("a.test.", RecordType::A);
    let mut edns = options(1232, false);
    edns.set_version(1);
    future.set_edns(edns);
    let reply = match read_question(&future.to_vec().expect("bytes")).expect_err("EDNS 1") {
        Unread::Answered(reply, ..) => Message::from_vec(&reply).expect("message"),
        Unread::Silent(why) => panic!("{why}"),
    };
    assert_eq!(u16::from(reply.metadata.response_code), 16, "BADVERS");
}

#[test]
fn only_what_answers_the_question_is_kept() {
    let q = question("www.example.com.", RecordType::A);
    let records = vec![
        a("www.example.com.", 1),
        a("bank.example.", 66),
        record("www.example.com.", RData::AAAA(AAAA::new(0, 0, 0, 0, 0, 0, 0, 1))),
    ];
    assert_eq!(kept(&q, records), ["www.example.com. 300 IN A 192.0.2.1"]);
    // Behind an alias, in any order; what hangs on no alias of the question goes.
    let records = vec![
        a("host.cdn.test.", 2),
        cname("other.test.", "evil.test."),
        cname("www.example.com.", "host.cdn.test."),
        a("evil.test.", 66),
    ];
    let bytes = answered(&q, records);
    let answer = q.read_answer(7, &bytes, true).expect("an answer");
    assert_eq!(answer.aliases().collect::<Vec<_>>(), ["host.cdn.test"]);
    assert_eq!(answer.addresses(), [(IpAddr::from([192, 0, 2, 2]), 300)]);
    assert_eq!(answer.lines().count(), 2);
}

#[test]
fn what_servers_add_does_not_travel() {
    let q = question("www.example.com.", RecordType::A);
    let mut message = Message::response(7, OpCode::Query);
    message.add_query(q.query.clone());
    message.add_answer(a("www.example.com.", 1));
    message.add_additional(a("ns.evil.test.", 66));
    message.add_authority(a("www.example.com.", 67));
    let answer = q.read_answer(7, &message.to_vec().expect("bytes"), true).expect("an answer");
    let reply = Message::from_vec(&q.reply(&answer, 512)).expect("message");
    assert_eq!((reply.answers.len(), reply.authorities.len(), reply.additionals.len()), (1, 0, 0));
    assert!(!reply.metadata.authoritative);
}

#[test]
fn foreign_answers_are_not_taken() {
    let q = question("www.example.com.", RecordType::A);
    let good = answered(&q, vec![a("www.example.com.", 1)]);
    assert_eq!(q.read_answer(8, &good, true).expect_err("another id"), Bogus::Foreign);
    let other = question("www.example.org.", RecordType::A);
    let foreign = answered(&other, vec![a("www.example.com.", 66)]);
    assert_eq!(q.read_answer(7, &foreign, true).expect_err("another name"), Bogus::Foreign);
    let aaaa = question("www.example.com.", RecordType::AAAA);
    assert_eq!(aaaa.read_answer(7, &good, true).expect_err("another type"), Bogus::Foreign);
    let mut query = good.clone();
    query[2] &= 0x7f;
    assert_eq!(q.read_answer(7, &query, true).expect_err("a query"), Bogus::Foreign);
    let mut none = good.clone();
    none[5] = 0;
    assert_eq!(q.read_answer(7, &none, true).expect_err("no question"), Bogus::Foreign);
    assert_eq!(q.read_answer(7, &good[..good.len() - 2], true).expect_err("cut"), Bogus::Malformed);
    assert_eq!(q.read_answer(7, &[], true).expect_err("nothing"), Bogus::Foreign);
    let mut cut = good.clone();
    cut[2] |= 2;
    assert_eq!(q.read_answer(7, &cut, true).expect_err("truncated"), Bogus::Truncated);
    q.read_answer(7, &cut, false).expect("over TCP there is no more");
}

#[test]
fn aliases_that_lead_nowhere_are_bogus() {
    let q = question("a.test.", RecordType::A);
    let circle = answered(&q, vec![cname("a.test.", "b.test."), cname("b.test.", "A.test.")]);
    assert_eq!(q.read_answer(7, &circle, true).expect_err("a circle"), Bogus::Aliases);
    let own = answered(&q, vec![cname("a.test.", "a.test.")]);
    assert_eq!(q.read_answer(7, &own, true).expect_err("itself"), Bogus::Aliases);
    let mut long = vec![cname("a.test.", "n0.test.")];
    long.extend((0..20).map(|n| cname(&format!("n{n}.test."), &format!("n{}.test.", n + 1))));
    let long = answered(&q, long);
    assert_eq!(q.read_answer(7, &long, true).expect_err("too long"), Bogus::Aliases);
}

#[test]
fn a_reply_that_does_not_fit_says_so() {
    let q = question("many.test.", RecordType::A);
    let records = (0..100).map(|n| a("many.test.", n)).collect();
    let answer = q.read_answer(7, &answered(&q, records), true).expect("an answer");
    let cut = q.reply(&answer, q.bound());
    assert!(cut.len() <= 512);
    let message = Message::from_vec(&cut).expect("message");
    assert!(message.metadata.truncation && message.answers.is_empty());
    let whole = Message::from_vec(&q.reply(&answer, 65535)).expect("message");
    assert!(!whole.metadata.truncation && whole.answers.len() == 100);
}

#[test]
fn mapped_addresses_and_the_least_time_to_live() {
    let q = question("six.test.", RecordType::AAAA);
    let mapped = RData::AAAA(AAAA("::ffff:192.0.2.9".parse().expect("address")));
    let mut alias = cname("six.test.", "x.test.");
    alias.ttl = 5;
    let answer =
        q.read_answer(7, &answered(&q, vec![alias, record("x.test.", mapped)]), true).expect("answer");
    assert_eq!(answer.addresses(), [(IpAddr::from([192, 0, 2, 9]), 5)]);
}

/// Every cut and every flipped byte of a question and of an answer: none panics, and none passes as another's.
#[test]
fn no_mutation_panics() {
    let q = question("www.example.com.", RecordType::A);
    let mut ask = asked("www.example.com.", RecordType::A);
    ask.set_edns(options(1232, true));
    let ask = ask.to_vec().expect("bytes");
    let records = vec![cname("www.example.com.", "h.cdn.test."), a("h.cdn.test.", 2), a("x.test.", 3)];
    let answer = answered(&q, records);
    for whole in [&ask, &answer] {
        for at in 0..whole.len() {
            for flip in [1, 0x3f, 0x80, 0xc0, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= flip;
                let _ = read_question(&bytes);
                let _ = read_question(&bytes[..at]);
                if let Ok(answer) = q.read_answer(7, &bytes, true) {
                    q.reply(&answer, 512);
                    answer.lines().for_each(drop);
                }
                let _ = q.read_answer(7, &bytes[..at], true);
            }
        }
    }
}

#[test]
fn odd_octets_are_escaped() {
    let odd = Name::from_labels([&b"a.b"[..], &b"\x00\xff"[..], &b"test"[..]]).expect("name");
    assert_eq!(plain(&odd), "a\\.b.\\000\\377.test");
    assert_eq!(plain(&Name::root()), "");
}
