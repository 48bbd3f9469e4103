//! The far end: answers whoever gets there, and dials in when it is told to, line by line on standard input.
//!
//! ```text
//! tcp ADDRESS PORT      dials in and reads          udp ADDRESS PORT     sends a datagram, from port 7000
//! knock ADDRESS P Q     dials ADDRESS:P from port Q, with a SYN that is lost until the other end has sent its own
//! ```

use std::io::{BufRead as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::thread;
use std::time::Duration;

use libc::{AF_INET, AF_INET6, SOCK_SEQPACKET, SOCK_STREAM, SOL_SOCKET};

use crate::job::{Job, tcp, udp};
use crate::sys::{self, Done, sa4, sa6};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
const PORTS: [u16; 5] = [80, 443, 53, 853, 7000];

/// Serves until standard input ends.
pub fn run(job: &Job) -> Done {
    let metadata6 = std::net::Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    for port in PORTS {
        serve(tcp(AF_INET)?, &sa4(AF_INET, job.to4, port))?;
        serve(tcp(AF_INET6)?, &sa6(AF_INET6, job.to6, port, 0))?;
    }
    serve(tcp(AF_INET)?, &sa4(AF_INET, Ipv4Addr::new(169, 254, 169, 254), 80))?;
    serve(tcp(AF_INET6)?, &sa6(AF_INET6, metadata6, 80, 0))?;
    let link = "fe80::1".parse().unwrap_or(job.to6);
    serve(tcp(AF_INET6)?, &sa6(AF_INET6, link, job.port, job.index()?))?;
    // Protocols that this kernel may not have.
    for fd in [sys::socket(AF_INET, SOCK_STREAM, libc::IPPROTO_SCTP), dccp()].into_iter().flatten() {
        serve(fd, &job.v4())?;
    }
    if let Ok(fd) = sys::socket(AF_INET, SOCK_SEQPACKET, libc::IPPROTO_SCTP) {
        sys::bind(&fd, &job.at_port(7001))?;
        sys::listen(&fd)?;
        echo(fd);
    }
    let rds = sys::socket(21, SOCK_SEQPACKET, 0);
    if let Ok(fd) = &rds {
        sys::set(fd, "SO_RDS_TRANSPORT", 276, 8, 2)?;
        sys::bind(fd, &sa4(AF_INET, job.to4, 4000))?;
    }
    for port in [53, 443, 853, job.port] {
        let fd = udp(AF_INET)?;
        sys::bind(&fd, &sa4(AF_INET, job.to4, port))?;
        echo(fd);
    }
    println!("ready");
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        if let Err(stop) = obey(job, &line) {
            eprintln!("far end: {line}: {stop:?}");
        }
        println!("done");
    }
    Ok(())
}

fn dccp() -> Done<OwnedFd> {
    let fd = sys::socket(AF_INET, 6, 33)?;
    sys::set(&fd, "DCCP_SOCKOPT_SERVICE", 269, 2, 0x534c_5543)?;
    Ok(fd)
}

fn serve(listener: OwnedFd, at: &[u8]) -> Done {
    sys::set(&listener, "SO_REUSEADDR", SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    sys::bind(&listener, at)?;
    // Where the protocol has no such thing, nobody will use it.
    let _ = sys::set(&listener, "TCP_FASTOPEN", libc::IPPROTO_TCP, libc::TCP_FASTOPEN, 16);
    sys::listen(&listener)?;
    thread::spawn(move || {
        loop {
            // The listener's own patience ends; that of a client does not matter here.
            let Ok(client) = sys::accept(&listener) else { continue };
            thread::spawn(move || {
                let mut bytes = [0; 4096];
                // A helper's connection may be silent for as long as the suite takes.
                let _ = sys::bounded(&client, Duration::ZERO);
                if sys::recv(&client, &mut bytes).is_ok_and(|n| n > 0) {
                    let _ = sys::send(&client, ANSWER, 0);
                    // Until the client has gone, so that its end is not a reset.
                    while sys::recv(&client, &mut bytes).is_ok_and(|n| n > 0) {}
                }
            });
        }
    });
    Ok(())
}

/// Sends every datagram back; to a DNS question, that there is no such name.
fn echo(fd: OwnedFd) {
    thread::spawn(move || {
        let mut bytes = [0; 8192];
        loop {
            let Ok((n, from)) = sys::recvfrom(&fd, &mut bytes) else { continue };
            if n > 12 && bytes[2] & 0x80 == 0 {
                bytes[2] |= 0x80;
                bytes[3] = 0x83;
            }
            let _ = sys::sendto(&fd, &bytes[..n], 0, Some(&from));
        }
    });
}

fn obey(job: &Job, line: &str) -> Done {
    let words: Vec<&str> = line.split(' ').collect();
    match words.as_slice() {
        ["tcp", address, port] => {
            let to = format!("{address}:{port}");
            thread::spawn(move || dial(&to));
        }
        ["udp", address, port] => {
            let socket = sys::io("bind", UdpSocket::bind((job.to4, 7002)))?;
            sys::io("send", socket.send_to(b"hello", format!("{address}:{port}")))?;
        }
        ["knock", address, to, from] => knock(job, address, to, from)?,
        _ => eprintln!("far end: what is {line:?}?"),
    }
    Ok(())
}

fn dial(to: &str) {
    let Ok(to) = to.parse::<SocketAddr>() else { return };
    if let Ok(mut stream) = TcpStream::connect_timeout(&to, Duration::from_secs(2)) {
        let _ = stream.set_read_timeout(Some(Duration::from_secs(3)));
        let _ = std::io::copy(&mut stream.try_clone().expect("a second handle"), &mut std::io::sink());
        let _ = stream.flush();
    }
}

fn knock(job: &Job, address: &str, to: &str, from: &str) -> Done {
    let neighbour = |words: &[&str]| {
        let ran = Command::new("ip").args(["neigh"]).args(words).args([address, "dev", &job.device]).output();
        sys::io("ip neigh", ran).map(drop)
    };
    // Lost on the way: the link address is nobody's.
    neighbour(&["replace", "lladdr", "02:00:00:00:00:99", "nud", "permanent"])?;
    let fd = tcp(AF_INET)?;
    sys::set(&fd, "SO_REUSEADDR", SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    sys::bind(&fd, &sa4(AF_INET, job.to4, from.parse().unwrap_or(7010)))?;
    let to = sa4(AF_INET, address.parse().unwrap_or(job.own4), to.parse().unwrap_or(0));
    let name = (address.to_owned(), job.device.clone());
    thread::spawn(move || {
        // The other end has half a second to send its own SYN.
        thread::sleep(Duration::from_millis(500));
        let _ = Command::new("ip").args(["neigh", "del", &name.0, "dev", &name.1]).output();
    });
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        let _ = sys::bounded(&fd, Duration::from_secs(4));
        if sys::connect(&fd, &to).is_ok() && sys::recv(&fd, &mut bytes).is_ok() {
            let _ = sys::send(&fd, ANSWER, 0);
        }
    });
    Ok(())
}
