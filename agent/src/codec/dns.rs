//! DNS messages, read strictly and written anew: a job's question, the one that goes upstream in its place, and the
//! reply. Nothing that a client or a server wrote is passed on as bytes: what is not understood does not travel.
//!
//! Not here: sockets, time, policy. Reading an upstream's answer is in [`answer`].

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{DNSClass, Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

mod answer;
#[cfg(test)]
mod tests;

pub use answer::{Answer, Bogus};
pub use hickory_proto::op::ResponseCode as Rcode;

/// Size of a header (RFC 1035 §4.1.1).
const HEADER: usize = 12;
/// Largest question that is read: a name of 255 octets and an OPT record with room for options.
pub const MAX_QUESTION: usize = 2048;
/// What we tell upstreams that we take over UDP (the size that does not fragment, as of DNS flag day 2020).
pub const UPSTREAM_PAYLOAD: u16 = 1232;
/// Largest reply over UDP: asker and resolver are on one host, so nothing fragments.
const MAX_REPLY: u16 = 4096;
/// What a client takes over UDP that does not say (RFC 1035 §2.3.4).
const CLASSIC_PAYLOAD: u16 = 512;
/// Extended DNS error (RFC 8914): option code.
const EXTENDED_ERROR: u16 = 15;
/// RFC 8914 §4.16: blocked by a policy of the resolver's operator.
pub const BLOCKED: u16 = 15;
/// RFC 8914 §4.1: other.
pub const OTHER: u16 = 0;
/// Bytes of an extended error's text.
const LONGEST_TEXT: usize = 200;

/// One question, as a job asked it.
#[derive(Clone, Debug)]
pub struct Question {
    id: u16,
    query: Query,
    recursion_desired: bool,
    checking_disabled: bool,
    authentic_data: bool,
    edns: Option<ClientEdns>,
}

#[derive(Clone, Copy, Debug)]
struct ClientEdns {
    payload: u16,
    dnssec_ok: bool,
}

/// Why bytes are no question that is taken.
#[derive(Debug)]
pub enum Unread {
    /// No reply is due: too short for a header, or no query at all.
    Silent(&'static str),
    /// The reply to send, and why.
    Answered(Vec<u8>, Rcode, &'static str),
}

/// Reads a question.
///
/// # Errors
/// [`Unread`]: anything but one question of class IN in a standard query, with at most an OPT record beside it and nothing
/// after it.
pub fn read_question(bytes: &[u8]) -> Result<Question, Unread> {
    if bytes.len() < HEADER {
        return Err(Unread::Silent("shorter than a header"));
    }
    let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let (id, flags) = (word(0), word(2));
    if flags & 0x8000 != 0 {
        return Err(Unread::Silent("a response, not a query"));
    }
    let bare = |rcode, why| Err(Unread::Answered(bare_error(id, flags, rcode), rcode, why));
    if (flags >> 11) & 0xf != 0 {
        return bare(ResponseCode::NotImp, "not a standard query");
    }
    // Before the parser makes room for what the header promises.
    if word(4) != 1 || word(6) != 0 || word(8) != 0 || word(10) > 1 {
        return bare(ResponseCode::FormErr, "not one question alone");
    }
    if bytes.len() > MAX_QUESTION {
        return bare(ResponseCode::FormErr, "longer than a question can be");
    }
    let mut decoder = BinDecoder::new(bytes);
    let Ok(mut message) = Message::read(&mut decoder) else {
        return bare(ResponseCode::FormErr, "malformed");
    };
    if !decoder.is_empty() || !message.additionals.is_empty() {
        return bare(ResponseCode::FormErr, "something stands after the question");
    }
    let Some(mut query) = message.queries.pop() else {
        return bare(ResponseCode::FormErr, "no question");
    };
    query.name.set_fqdn(true);
    let edns = message.edns.as_ref().map(|edns| ClientEdns {
        payload: edns.max_payload().max(CLASSIC_PAYLOAD),
        dnssec_ok: edns.flags().dnssec_ok,
    });
    let question = Question {
        id,
        recursion_desired: message.metadata.recursion_desired,
        checking_disabled: message.metadata.checking_disabled,
        authentic_data: message.metadata.authentic_data,
        edns,
        query,
    };
    let refused = |rcode, why| Err(Unread::Answered(question.error(rcode, None), rcode, why));
    if message.edns.is_some_and(|edns| edns.version() != 0) {
        return refused(ResponseCode::BADVERS, "an unknown version of EDNS");
    }
    if question.query.query_class != DNSClass::IN {
        return refused(ResponseCode::Refused, "not class IN");
    }
    if matches!(question.query.query_type, RecordType::AXFR | RecordType::IXFR | RecordType::OPT) {
        return refused(ResponseCode::Refused, "a zone transfer, or no type that can be asked for");
    }
    Ok(question)
}

/// The types of address records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// IPv4.
    A,
    /// IPv6.
    Aaaa,
}

impl Address {
    /// Both, IPv4 first.
    pub const BOTH: [Self; 2] = [Self::A, Self::Aaaa];
}

impl Question {
    /// A question of our own for a name's addresses. `None`: no name.
    pub fn for_address(name: &str, address: Address) -> Option<Self> {
        let mut name = Name::from_ascii(name).ok()?;
        name.set_fqdn(true);
        let kind = match address {
            Address::A => RecordType::A,
            Address::Aaaa => RecordType::AAAA,
        };
        Some(Self {
            id: 0,
            query: Query::query(name, kind),
            recursion_desired: true,
            checking_disabled: false,
            authentic_data: false,
            edns: None,
        })
    }

    /// The name in lower case without its last dot, odd octets escaped; empty for the root.
    pub fn name(&self) -> String {
        plain(&self.query.name)
    }

    /// Octets of its longest label.
    pub fn longest_label(&self) -> usize {
        self.query.name.iter().map(<[u8]>::len).max().unwrap_or(0)
    }

    /// The type: `A`, `TYPE65`.
    pub fn kind(&self) -> String {
        kind(self.query.query_type)
    }

    /// The client's id, to tell a question from its repetition.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// The query that goes upstream in its place, under another id. Of what the client said, only the name (letter case
    /// kept), the type and the flags RD, AD, CD and DO are in it.
    pub fn ask(&self, id: u16, edns: bool) -> Option<Vec<u8>> {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = self.recursion_desired;
        message.metadata.checking_disabled = self.checking_disabled;
        message.metadata.authentic_data = self.authentic_data;
        message.add_query(self.query.clone());
        if edns {
            message.set_edns(options(UPSTREAM_PAYLOAD, self.dnssec_ok()));
        }
        message.to_vec().ok()
    }

    /// The reply, at most `bound` bytes; longer ones are cut to the truncation flag, and the client asks over TCP.
    pub fn reply(&self, answer: &Answer, bound: usize) -> Vec<u8> {
        let mut message = self.response(answer.rcode);
        message.metadata.authentic_data = answer.authentic_data && (self.authentic_data || self.dnssec_ok());
        message.answers.clone_from(&answer.records);
        message.authorities.clone_from(&answer.authorities);
        match message.to_vec() {
            Ok(bytes) if bytes.len() <= bound => bytes,
            Ok(_) => message.truncate().to_vec().unwrap_or_default(),
            Err(_) => self.error(ResponseCode::ServFail, None),
        }
    }

    /// A reply without records; `why` is told as an extended error (RFC 8914) to who speaks EDNS.
    pub fn error(&self, rcode: Rcode, why: Option<(u16, &str)>) -> Vec<u8> {
        let mut message = self.response(rcode);
        if let (Some((code, text)), Some(edns)) = (why, &mut message.edns) {
            let mut data = code.to_be_bytes().to_vec();
            let end = (0..=LONGEST_TEXT.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
            data.extend_from_slice(&text.as_bytes()[..end.unwrap_or(0)]);
            edns.options_mut().insert(EdnsOption::Unknown(EXTENDED_ERROR, data));
        }
        message.to_vec().unwrap_or_default()
    }

    /// How long a reply over UDP may be.
    pub fn bound(&self) -> usize {
        usize::from(self.edns.map_or(CLASSIC_PAYLOAD, |edns| edns.payload.min(MAX_REPLY)))
    }

    fn response(&self, rcode: Rcode) -> Message {
        let mut message = Message::response(self.id, OpCode::Query);
        message.metadata.recursion_desired = self.recursion_desired;
        message.metadata.recursion_available = true;
        message.metadata.checking_disabled = self.checking_disabled;
        message.metadata.response_code = rcode;
        message.add_query(self.query.clone());
        if self.edns.is_some() {
            message.set_edns(options(MAX_REPLY, self.dnssec_ok()));
        }
        message
    }

    fn dnssec_ok(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec_ok)
    }
}

/// A code's number and its name in the record: `0` is `NOERROR`.
pub fn rcode_word(code: u16) -> &'static str {
    const WORDS: [&str; 6] = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"];
    WORDS.get(usize::from(code)).copied().unwrap_or("error")
}

fn options(payload: u16, dnssec_ok: bool) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(payload).set_version(0).set_dnssec_ok(dnssec_ok);
    edns
}

/// A reply to what has no question that could be repeated.
fn bare_error(id: u16, flags: u16, rcode: Rcode) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    // QR and RA; the opcode and RD are the client's.
    let flags = 0x8080 | (flags & 0x7900) | u16::from(rcode.low());
    bytes.extend_from_slice(&flags.to_be_bytes());
    bytes.resize(HEADER, 0);
    bytes
}

/// A name in lower case without its last dot.
fn plain(name: &Name) -> String {
    let mut text = name.to_ascii();
    text.make_ascii_lowercase();
    if text.ends_with('.') {
        text.pop();
    }
    text
}

fn kind(of: RecordType) -> String {
    match of {
        RecordType::Unknown(number) => format!("TYPE{number}"),
        known => known.to_string(),
    }
}
