//! A name server for the zone `dns.test.`: honest by default, and by name as hostile as servers are. It writes down what
//! it was asked.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use sluice_tests::netns::Space;

/// The address that a hostile server would like to be remembered.
pub const EVIL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 66);

/// One question that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// As written, with its letter case and the last dot.
    pub name: String,
    pub kind: RecordType,
    pub tcp: bool,
    /// Who asked.
    pub from: std::net::IpAddr,
    /// Length of the message.
    pub bytes: usize,
}

/// What was asked so far. The threads end with the test's process.
#[derive(Clone, Default)]
pub struct Server(Arc<Mutex<Vec<Asked>>>);

impl Server {
    /// Serves at `address` of the space, over UDP and TCP.
    pub fn start(space: &Space, address: SocketAddr) -> Self {
        let server = Self::default();
        let socket = space.datagrams(address).expect("the server's socket");
        let listener = space.listen(address).expect("the server's listener");
        listener.set_nonblocking(false).expect("blocking");
        let (udp, tcp) = (server.clone(), server.clone());
        std::thread::spawn(move || udp.datagrams(&socket));
        std::thread::spawn(move || tcp.streams(&listener));
        server
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.0.lock().expect("whole").clone()
    }

    /// Names asked for, as written, each once for each question.
    pub fn names(&self) -> Vec<String> {
        self.asked().into_iter().map(|a| a.name).collect()
    }

    fn note(&self, bytes: &[u8], tcp: bool, from: SocketAddr) -> Option<Message> {
        let message = Message::from_vec(bytes).ok()?;
        let query = message.queries.first()?;
        let asked = Asked {
            name: query.name.to_ascii(),
            kind: query.query_type,
            tcp,
            from: from.ip(),
            bytes: bytes.len(),
        };
        self.0.lock().expect("whole").push(asked);
        Some(message)
    }

    fn datagrams(&self, socket: &UdpSocket) {
        let mut buffer = [0; 4096];
        while let Ok((n, from)) = socket.recv_from(&mut buffer) {
            let Some(query) = self.note(&buffer[..n], false, from) else { continue };
            for reply in replies(&query, false) {
                let _ = socket.send_to(&reply, from);
            }
        }
    }

    fn streams(&self, listener: &TcpListener) {
        while let Ok((mut stream, from)) = listener.accept() {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
            let server = self.clone();
            std::thread::spawn(move || {
                let mut length = [0; 2];
                while stream.read_exact(&mut length).is_ok() {
                    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
                    if stream.read_exact(&mut bytes).is_err() {
                        return;
                    }
                    let Some(query) = server.note(&bytes, true, from) else { return };
                    for reply in replies(&query, true) {
                        let length = u16::try_from(reply.len()).expect("fits");
                        let _ = stream.write_all(&[&length.to_be_bytes()[..], &reply].concat());
                    }
                }
            });
        }
    }
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).expect("a name")
}

fn a(owner: &Name, ip: Ipv4Addr) -> Record {
    Record::from_rdata(owner.clone(), 60, RData::A(A(ip)))
}

fn cname(owner: &str, target: &str) -> Record {
    Record::from_rdata(name(owner), 60, RData::CNAME(CNAME(name(target))))
}

/// What is sent for a query, in order: the first label says how honest it is.
fn replies(query: &Message, tcp: bool) -> Vec<Vec<u8>> {
    let asked = query.queries[0].clone();
    let good = Ipv4Addr::new(203, 0, 113, 10);
    let lower = asked.name.to_lowercase().to_ascii();
    let first = lower.split('.').next().unwrap_or_default().to_owned();
    let evil = || bytes(&reply(query, vec![a(&asked.name, EVIL)]));
    let honest = || vec![bytes(&reply(query, records(&asked, good)))];
    match first.as_str() {
        "silent" => vec![],
        "servfail" => vec![bytes(&failure(query, ResponseCode::ServFail))],
        "missing" => vec![bytes(&failure(query, ResponseCode::NXDomain))],
        "wrongid" => {
            let mut forged = evil();
            forged[0] ^= 0xff;
            [vec![forged], honest()].concat()
        }
        "wrongname" => {
            let mut forged = reply(query, vec![a(&name("other.dns.test."), EVIL)]);
            forged.queries[0].name = name("other.dns.test.");
            [vec![bytes(&forged)], honest()].concat()
        }
        "garbage" => [vec![vec![0xc0; 600], evil()[..14].to_vec()], honest()].concat(),
        "oversized" => {
            let mut forged = evil();
            forged.resize(8000, 0);
            [vec![forged], honest()].concat()
        }
        "foreign" => {
            let records = vec![a(&asked.name, good), a(&name("bank.dns.test."), EVIL)];
            vec![bytes(&reply(query, records))]
        }
        "circle" => {
            let records = vec![
                cname("circle.dns.test.", "circle2.dns.test."),
                cname("circle2.dns.test.", "circle.dns.test."),
            ];
            vec![bytes(&reply(query, records))]
        }
        "pointer" => {
            // The answer's name points at itself.
            let mut forged = bytes(&reply(query, vec![]));
            forged[7] = 1;
            let at = u8::try_from(forged.len()).expect("short");
            forged.extend_from_slice(&[0xc0, at, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, 66]);
            vec![forged]
        }
        // Cut over UDP, whole over TCP.
        "many" if !tcp => {
            let mut cut = reply(query, vec![]);
            cut.metadata.truncation = true;
            vec![bytes(&cut)]
        }
        _ => honest(),
    }
}

fn records(asked: &Query, good: Ipv4Addr) -> Vec<Record> {
    let owner = &asked.name;
    let first = owner.to_lowercase().to_ascii();
    let first = first.split('.').next().unwrap_or_default();
    match (first, asked.query_type) {
        ("many", RecordType::A) => (1..=80).map(|n| a(owner, Ipv4Addr::new(198, 51, 100, n))).collect(),
        ("alias", RecordType::A) => {
            vec![cname("alias.dns.test.", "target.dns.test."), a(&name("target.dns.test."), good)]
        }
        ("cloaked", RecordType::A) => {
            vec![cname("cloaked.dns.test.", "host.tracker.test."), a(&name("host.tracker.test."), EVIL)]
        }
        (_, RecordType::A) => vec![a(owner, good)],
        (_, RecordType::TXT) => {
            vec![Record::from_rdata(owner.clone(), 60, RData::TXT(TXT::new(vec!["downstream".to_owned()])))]
        }
        _ => Vec::new(),
    }
}

fn reply(query: &Message, records: Vec<Record>) -> Message {
    let mut message = Message::response(query.metadata.id, OpCode::Query);
    message.metadata.recursion_available = true;
    message.add_queries(query.queries.iter().cloned());
    message.add_answers(records);
    message
}

fn failure(query: &Message, rcode: ResponseCode) -> Message {
    let mut message = reply(query, Vec::new());
    message.metadata.response_code = rcode;
    message
}

fn bytes(message: &Message) -> Vec<u8> {
    message.to_vec().expect("a message")
}
