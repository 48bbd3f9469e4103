//! Addresses of crypto wallets.

use super::sums::{base58check, bech32};
use super::{Detector, Edge, Shape};

const BITCOIN: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const RIPPLE: &[u8; 58] = b"rpshnaf39wBUDNEGHJKLM4PQRST7VWXYZ2bcdeCg65jkm8oFqi1tuvAxyz";

pub const ALL: &[Detector] = &[Detector {
    name: "crypto-wallet",
    grammar: "Base58Check with the version of Bitcoin (1…, 3…), Litecoin (L…, M…), Dogecoin (D…), Dash (X…), Tron (T…) or Ripple \
              (r…); Bech32 or Bech32m of bc, tb, ltc or addr; 0x and 40 hexadecimal digits (no check: mixed case is not \
              verified); Monero's 95 letters (no check)",
    source: "Bitcoin wiki (Base58Check), BIP 173, BIP 350, CIP-19, EIP-55, XRPL base58 encodings, Monero standard address",
    examples: &[
        "to «1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa»",
        "«bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4»",
        "«0x52908400098527886E0F7030069857D2E4169EE7»",
    ],
    shapes: &[
        Shape::digit("[13LMDXT][1-9A-HJ-NP-Za-km-z]{25,34}", is_base58).edge(Edge::Word),
        Shape::digit("r[1-9A-HJ-NP-Za-km-z]{24,34}", is_ripple).edge(Edge::Word),
        Shape::digit("(?:bc|tb|ltc|addr)1[0-9ac-hj-np-z]{11,100}|(?:BC|TB)1[0-9AC-HJ-NP-Z]{11,71}", bech32)
            .edge(Edge::Word),
        Shape::digit("0x[0-9a-fA-F]{40}", |text| text[2..].iter().any(|b| *b != text[2])).edge(Edge::Word),
        Shape::digit("4[0-9AB][1-9A-HJ-NP-Za-km-z]{93}", |_| true).edge(Edge::Word),
    ],
}];

fn is_base58(text: &[u8]) -> bool {
    base58check(text, BITCOIN)
        .is_some_and(|body| body.len() == 21 && [0, 5, 48, 50, 30, 76, 65].contains(&body[0]))
}

fn is_ripple(text: &[u8]) -> bool {
    base58check(text, RIPPLE).is_some_and(|body| body.len() == 21 && body[0] == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums() {
        assert!(
            is_base58(b"3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy")
                && is_base58(b"TJRabPrwbZy45sbavfcjinPJC18kjpRTv8")
        );
        assert!(!is_base58(b"3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLz"));
        assert!(is_ripple(b"rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh"));
    }
}
