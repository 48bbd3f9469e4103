//! Reading an upstream's answer: only what answers the question is kept.

use std::net::IpAddr;

use hickory_proto::op::{Message, MessageType, OpCode};
use hickory_proto::rr::rdata::svcb::{SVCB, SvcParamValue};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use super::{HEADER, Question, Rcode, kind, plain};

/// Names that one answer may lead through by aliases.
const ALIASES: usize = 16;
/// Records of one answer that are kept; more is no answer that a stub could use.
const RECORDS: usize = 2048;

/// What an upstream answered, as far as it answers the question.
#[derive(Clone, Debug)]
pub struct Answer {
    pub(super) rcode: Rcode,
    pub(super) authentic_data: bool,
    pub(super) records: Vec<Record>,
    pub(super) authorities: Vec<Record>,
    aliases: Vec<Name>,
}

/// Why bytes are not taken for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bogus {
    /// Not a reply to this question: another may still come.
    #[error("an answer to another question")]
    Foreign,
    /// Cut: it is to be asked for over TCP.
    #[error("the answer was cut")]
    Truncated,
    /// A reply to this question that nobody can use.
    #[error("a malformed answer")]
    Malformed,
    /// Its aliases lead in a circle, or too far.
    #[error("aliases that lead in a circle, or through more than {ALIASES} names")]
    Aliases,
}

impl Question {
    /// Reads what came back for [`Question::ask`] under `id`. `cut_counts`: over UDP a cut answer is to be asked for again;
    /// over TCP there is no more to be had.
    ///
    /// # Errors
    /// [`Bogus`].
    pub fn read_answer(&self, id: u16, bytes: &[u8], cut_counts: bool) -> Result<Answer, Bogus> {
        // The id is looked at before anything is parsed; the counts bound what the parser makes room for.
        if bytes.len() < HEADER || bytes[..2] != id.to_be_bytes() || bytes[4..6] != [0, 1] {
            return Err(Bogus::Foreign);
        }
        let mut decoder = BinDecoder::new(bytes);
        let message = Message::read(&mut decoder).map_err(|_| Bogus::Malformed)?;
        if !decoder.is_empty() {
            return Err(Bogus::Malformed);
        }
        let meta = &message.metadata;
        let same = |query: &hickory_proto::op::Query| {
            query.name == self.query.name
                && query.query_type == self.query.query_type
                && query.query_class == DNSClass::IN
        };
        if meta.message_type != MessageType::Response
            || meta.op_code != OpCode::Query
            || !message.queries.first().is_some_and(same)
        {
            return Err(Bogus::Foreign);
        }
        if meta.truncation && cut_counts {
            return Err(Bogus::Truncated);
        }
        self.filter(message)
    }

    fn filter(&self, message: Message) -> Result<Answer, Bogus> {
        if message.answers.len() + message.authorities.len() > RECORDS {
            return Err(Bogus::Malformed);
        }
        let wanted = self.query.query_type;
        let signed = self.dnssec_ok();
        let mut names = vec![self.query.name.clone()];
        let mut records = Vec::new();
        loop {
            let current = names[names.len() - 1].clone();
            let of = |r: &&Record| r.dns_class == DNSClass::IN && r.name == current;
            let here: Vec<&Record> = message.answers.iter().filter(of).collect();
            let direct = |r: &&&Record| wanted == RecordType::ANY || r.record_type() == wanted;
            let signature = |r: &&&Record| signed && r.record_type() == RecordType::RRSIG;
            let found = here.iter().any(|r| direct(&r));
            let alias = here.iter().find_map(|r| match &r.data {
                RData::CNAME(target) if !found => Some((*r, target.0.clone())),
                _ => None,
            });
            if found {
                let keep = |r: &&&Record| direct(r) || signature(r);
                records.extend(here.iter().filter(keep).map(|r| (**r).clone()));
            }
            let Some((record, target)) = alias else { break };
            records.extend(redirections(&message, &current).cloned());
            records.push(record.clone());
            records.extend(here.iter().filter(signature).map(|r| (**r).clone()));
            if names.contains(&target) || names.len() > ALIASES {
                return Err(Bogus::Aliases);
            }
            names.push(target);
        }
        let last = names[names.len() - 1].clone();
        let proof = |r: &Record| {
            let kind = r.record_type();
            let kept = kind == RecordType::SOA || (signed && kind.is_dnssec());
            // The hashed names of NSEC3 stand beside the name that they speak of.
            let owner = if kind == RecordType::SOA { r.name.clone() } else { r.name.base_name() };
            kept && r.dns_class == DNSClass::IN && (r.name.zone_of(&last) || owner.zone_of(&last))
        };
        Ok(Answer {
            rcode: message.metadata.response_code,
            authentic_data: message.metadata.authentic_data,
            records,
            authorities: message.authorities.iter().filter(|r| proof(r)).cloned().collect(),
            aliases: names.split_off(1),
        })
    }
}

/// DNAME records that stand above `name`.
fn redirections<'m>(message: &'m Message, name: &'m Name) -> impl Iterator<Item = &'m Record> {
    message.answers.iter().filter(move |r| {
        r.record_type() == RecordType::DNAME
            && r.dns_class == DNSClass::IN
            && r.name.zone_of(name)
            && r.name != *name
    })
}

impl Answer {
    /// The response code.
    pub fn rcode(&self) -> Rcode {
        self.rcode
    }

    /// The names that the question's name is an alias of, in order, lower case.
    pub fn aliases(&self) -> impl Iterator<Item = String> + '_ {
        self.aliases.iter().map(plain)
    }

    /// The addresses that were answered, each with its time to live in seconds (the least of the aliases before it).
    /// v4-mapped ones are IPv4. Address hints of HTTPS and SVCB records count: clients connect to them.
    pub fn addresses(&self) -> Vec<(IpAddr, u32)> {
        let alias = |r: &&Record| matches!(r.data, RData::CNAME(_));
        let least = self.records.iter().filter(alias).map(|r| r.ttl).min().unwrap_or(u32::MAX);
        let mut all = Vec::new();
        for record in &self.records {
            let ttl = record.ttl.min(least);
            match &record.data {
                RData::A(a) => all.push((IpAddr::V4(a.0), ttl)),
                RData::AAAA(a) => all.push((IpAddr::V6(a.0).to_canonical(), ttl)),
                RData::HTTPS(https) => all.extend(hints(&https.0).map(|ip| (ip, ttl))),
                RData::SVCB(svcb) => all.extend(hints(svcb).map(|ip| (ip, ttl))),
                _ => {}
            }
        }
        all
    }

    /// The records as text, one each, for the record: `www.example.com. 300 IN A 192.0.2.7`.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.records.iter().map(|r| format!("{} {} IN {} {}", r.name, r.ttl, kind(r.record_type()), r.data))
    }
}

fn hints(svcb: &SVCB) -> impl Iterator<Item = IpAddr> + '_ {
    svcb.svc_params.iter().flat_map(|(_, value)| -> Vec<IpAddr> {
        match value {
            SvcParamValue::Ipv4Hint(hint) => hint.0.iter().map(|a| IpAddr::V4(a.0)).collect(),
            SvcParamValue::Ipv6Hint(hint) => hint.0.iter().map(|a| IpAddr::V6(a.0).to_canonical()).collect(),
            _ => Vec::new(),
        }
    })
}
