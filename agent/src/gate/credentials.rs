//! Where the gate's keeper of credentials gets its values: the warden, and errands over the network.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use tokio::time::timeout;

use super::{Services, Warden, dns, errand};
use crate::control::Tested;
use crate::credential::{Ask, Errand, Failed, Fetch, Fetched, Fetching, Keeper, Reply, Run, fetch};
use crate::policy::InForce;
use crate::policy::credential::Credential;
use crate::tls::{Tls, Verified};
use crate::types::credential::Scope;
use crate::types::{CredentialName, HostName, SessionId, TagName};
use crate::wire::ToWarden;

/// One host's part of a test.
const HOST_WITHIN: Duration = Duration::from_secs(8);
/// Hosts of one credential that a test tries.
const HOSTS: usize = 8;

/// The keeper of the process.
pub(super) fn keeper(
    policy: InForce,
    tls: &Arc<Tls>,
    dns: &Arc<dns::Resolver>,
    warden: &Warden,
) -> Arc<Keeper> {
    let local: Fetch = {
        let warden = warden.clone();
        Arc::new(move |fetching: Fetching| -> BoxFuture<'static, Result<Fetched, Failed>> {
            let warden = warden.clone();
            Box::pin(async move {
                let Credential { name, source, .. } = &*fetching.credential;
                let secret = warden.secret(name.clone(), source.clone()).await.map_err(Failed)?;
                Ok(Fetched::lasting(secret))
            })
        })
    };
    let network: Fetch = Arc::new(fetch::network);
    let run: Run = {
        let (tls, dns, warden) = (Arc::clone(tls), Arc::clone(dns), warden.clone());
        Arc::new(move |asked: Errand| -> BoxFuture<'static, Result<Reply, String>> {
            let (tls, dns, warden) = (Arc::clone(&tls), Arc::clone(&dns), warden.clone());
            Box::pin(async move { errand::run(asked, &tls, &dns, &warden).await })
        })
    };
    let tell = {
        let warden = warden.clone();
        Arc::new(move |credential: &Credential, outcome: Result<Option<SystemTime>, &Failed>| {
            // The warden knows of its own.
            if !credential.source.is_local() {
                let outcome = outcome.map(|expires| expires.map(seconds)).map_err(ToString::to_string);
                warden.tell(ToWarden::Fetched { credential: credential.name.clone(), outcome });
            }
        })
    };
    Keeper::new(policy, local, network, run, tell)
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Fetches a credential, and shakes hands with the hosts that it is bound to: nothing of it is sent.
pub(super) async fn test(services: &Services, name: &CredentialName) -> Result<Tested, String> {
    let credential = services.policy.borrow().credentials().get(name).cloned();
    let credential = credential.ok_or("the gate's rules have no such credential")?;
    if credential.source.scope() == Scope::Identity {
        return Err("it is made of a caller's own token: there is none to test it with".to_owned());
    }
    let tag = TagName::parse("sluice-test").map_err(|error| error.to_string())?;
    let veil = services.credentials.veil(&tag);
    let ask = Ask { tag, session: SessionId(ulid::Ulid::generate()), identity: None, token: None, veil };
    let value = services.credentials.value(&credential, &ask).await.map_err(|Failed(why)| why);
    services.credentials.session_over(ask.session);
    let value = value?;
    let mut hosts = Vec::new();
    let names = credential.binding.hosts.iter().filter_map(|host| HostName::parse(host.as_str()).ok());
    let ports: Vec<u16> = match credential.binding.ports.is_empty() {
        true => vec![443],
        false => (1..=u16::MAX).filter(|port| credential.binding.ports.hold(*port)).take(2).collect(),
    };
    for host in names.take(HOSTS) {
        for port in &ports {
            let shaken = timeout(HOST_WITHIN, shake(&host, *port, services)).await;
            let late = || Err(format!("no handshake within {} s", HOST_WITHIN.as_secs()));
            hosts.push((format!("{host}:{port}"), shaken.unwrap_or_else(|_| late()).err()));
        }
    }
    Ok(Tested { fetched: seconds(value.fetched()), expires: value.expires().map(seconds), hosts })
}

/// TLS to a host, verified as an upstream's.
async fn shake(host: &HostName, port: u16, services: &Services) -> Result<(), String> {
    let addresses: Vec<IpAddr> = services.dns.own_addresses(host, &services.warden).await?;
    let addresses: Vec<SocketAddr> = addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
    let stream = errand::dial(&addresses).await?;
    services.tls.errand(&Verified::Name(host.clone()), None, Box::new(stream)).await.map(drop)
}
