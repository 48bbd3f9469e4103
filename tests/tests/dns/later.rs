//! A connection to an address that was looked up bears the name that it was looked up for.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

use sluice::types::HostSource;
use sluice_tests::harness::address;

use crate::rig::Rig;

/// As much of a PostgreSQL server as psql needs to run one statement.
fn postgres(listener: &TcpListener) {
    while let Ok((mut stream, _)) = listener.accept() {
        std::thread::spawn(move || -> std::io::Result<()> {
            let mut length = [0; 4];
            // SSLRequest: no. GSSENCRequest: no. Then the start-up message.
            loop {
                stream.read_exact(&mut length)?;
                let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
                stream.read_exact(&mut body)?;
                if body.len() == 4 {
                    stream.write_all(b"N")?;
                } else {
                    break;
                }
            }
            // AuthenticationOk, ReadyForQuery.
            stream.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I")?;
            let mut kind = [0; 1];
            loop {
                stream.read_exact(&mut kind)?;
                stream.read_exact(&mut length)?;
                let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
                stream.read_exact(&mut body)?;
                match kind {
                    [b'Q'] => stream.write_all(b"C\0\0\0\x0dSELECT 0\0Z\0\0\0\x05I")?,
                    _ => return Ok(()),
                }
            }
        });
    }
}

#[test]
fn a_postgresql_connection_is_recorded_under_the_name_that_was_looked_up() {
    let rig = Rig::with("");
    let at = SocketAddr::new(address("www.example.test"), 5432);
    let listener = rig.world.space().listen(at).expect("a listener");
    listener.set_nonblocking(false).expect("blocking");
    std::thread::spawn(move || postgres(&listener));
    let ended = rig.says("psql", &["host=pg.dns.test user=u dbname=d gssencmode=disable", "-c", "select"]);
    assert!(ended.good(), "{ended:?}");
    let tunnel = rig.world.expect("the tunnel", |s| s.protocol == "tunnel").expect("recorded");
    if let Some(tunnel) = tunnel {
        assert_eq!((tunnel.host.as_str(), tunnel.host_source), ("pg.dns.test", Some(HostSource::Dns)));
        assert_eq!(tunnel.address, at.to_string());
    }
    // The address alone, by another tag: nobody there looked it up.
    let mut other = rig.world.job("other", "psql").expect("a job");
    other.args(["host=203.0.113.10 user=u dbname=d gssencmode=disable", "-c", "select"]);
    let ended = sluice_tests::process::run(&mut other, sluice_tests::process::PATIENCE).expect("psql runs");
    assert!(ended.good(), "{ended:?}");
    let tunnel =
        rig.world.expect("the tunnel", |s| s.protocol == "tunnel" && s.tag == "other").expect("recorded");
    if let Some(tunnel) = tunnel {
        assert_eq!((tunnel.host.as_str(), tunnel.host_source), ("203.0.113.10", Some(HostSource::Address)));
    }
}

#[test]
fn a_refused_connection_bears_the_name_too() {
    let rig = Rig::with("");
    // Nothing listens there.
    let ended = rig.says("curl", &["-sS", "http://gone.dns.test:9/"]);
    assert!(!ended.good());
    let refused = rig.world.expect("the refusal", |s| s.protocol == "tcp").expect("recorded");
    if let Some(refused) = refused {
        assert_eq!((refused.host.as_str(), refused.host_source), ("gone.dns.test", Some(HostSource::Dns)));
        assert_eq!(refused.address, "203.0.113.10:9");
    }
}

#[test]
fn what_the_client_says_itself_counts_more() {
    let rig = Rig::with("");
    let ended = rig.says("curl", &["-sS", "-H", "Host: www.example.test", "http://db.dns.test/"]);
    assert!(ended.good(), "{ended:?}");
    let request = rig.world.expect("the request", |s| s.protocol == "http/1.1").expect("recorded");
    if let Some(request) = request {
        assert_eq!(request.host_source, Some(HostSource::Request));
        assert_eq!(request.host, "www.example.test");
    }
}
