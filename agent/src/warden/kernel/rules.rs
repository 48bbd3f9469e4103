//! One tag's rules for datagrams, as the programs look them up.

use std::collections::HashSet;
use std::net::IpAddr;

use agent_ebpf::UdpRule as Entry;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{MapData, MapError};

use super::Error;
use crate::config::UdpRule;

/// The map `UDP_RULES` of one tag.
pub type Table = LpmTrie<MapData, Entry, u32>;

fn failed(source: MapError) -> Error {
    Error::Map { map: "UDP_RULES", source }
}

/// Makes the map say what `rules` say: what is new goes in first, then what is no longer meant goes.
pub fn set(table: &mut Table, rules: &[UdpRule]) -> Result<(), Error> {
    let wanted: HashSet<(u32, Entry)> = rules.iter().map(entry).collect();
    for (bits, entry) in &wanted {
        table.insert(&Key::new(*bits, *entry), 1, 0).map_err(failed)?;
    }
    let known: Vec<_> =
        table.keys().take(agent_ebpf::UDP_RULE_ENTRIES as usize).collect::<Result<_, _>>().map_err(failed)?;
    for key in known {
        if !wanted.contains(&(key.prefix_len(), key.data())) {
            table.remove(&key).map_err(failed)?;
        }
    }
    Ok(())
}

/// How many bits count, and what they are compared with. The kernel ignores the bits behind.
fn entry(rule: &UdpRule) -> (u32, Entry) {
    let prefix = u32::from(rule.prefix);
    let (address, bits) = match rule.address {
        IpAddr::V4(v4) => (v4.to_ipv6_mapped().octets(), 32 + 96 + prefix),
        IpAddr::V6(v6) => (v6.octets(), 32 + prefix),
    };
    (bits, Entry { port: rule.port.unwrap_or(0).to_be(), zero: 0, address })
}
