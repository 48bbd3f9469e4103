use super::*;

/// The definition of RFC 6962 §2.1, word for word.
fn mth(leaves: &[Vec<u8>]) -> Hash {
    match leaves {
        [] => Hash::of(b""),
        [one] => Hash::of(&[&[0], &one[..]].concat()),
        _ => {
            let (left, right) = leaves.split_at(k(leaves.len()));
            Hash::of(&[&[1], &mth(left).0[..], &mth(right).0[..]].concat())
        }
    }
}

fn k(n: usize) -> usize {
    let mut k = 1;
    while k * 2 < n {
        k *= 2;
    }
    k
}

fn path(m: usize, leaves: &[Vec<u8>]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return vec![];
    }
    let k = k(leaves.len());
    let (left, right) = leaves.split_at(k);
    let (mut proof, other) = if m < k { (path(m, left), right) } else { (path(m - k, right), left) };
    proof.push(mth(other));
    proof
}

fn subproof(m: usize, leaves: &[Vec<u8>], whole: bool) -> Vec<Hash> {
    if m == leaves.len() {
        return if whole { vec![] } else { vec![mth(leaves)] };
    }
    let k = k(leaves.len());
    let (left, right) = leaves.split_at(k);
    let (mut proof, other) =
        if m <= k { (subproof(m, left, whole), right) } else { (subproof(m - k, right, false), left) };
    proof.push(mth(other));
    proof
}

fn leaves(n: usize) -> Vec<Vec<u8>> {
    (0..n).map(|i| i.to_string().repeat(i % 5).into_bytes()).collect()
}

/// Perfect subtrees by the definition.
fn subtrees(leaves: &[Vec<u8>]) -> impl FnMut(u8, u64) -> Option<Hash> {
    move |level, index| {
        let (count, at) = (1 << level, (index as usize) << level);
        leaves.get(at..at + count).map(mth)
    }
}

/// As [`subtrees`], quick.
fn kept(leaves: &[Vec<u8>]) -> std::collections::HashMap<(u8, u64), Hash> {
    let (mut frontier, mut all) = (Frontier::default(), std::collections::HashMap::new());
    for data in leaves {
        frontier
            .push_with(leaf(data), |level, index, hash| assert_eq!(all.insert((level, index), hash), None));
    }
    all
}

/// The vectors of the reference implementation (google/certificate-transparency, `merkletree`), also in RFC 6962's
/// successors' test suites: eight leaves and the roots over the first 1 to 8 of them.
#[test]
fn reference_vectors() {
    let leaves: Vec<Vec<u8>> =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
            .map(hex)
            .into();
    let roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    assert_eq!(
        Hash::empty().0[..],
        hex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")[..]
    );
    let mut frontier = Frontier::default();
    assert_eq!(frontier.head(), Head::empty());
    for (data, root) in leaves.iter().zip(roots) {
        frontier.push(leaf(data));
        assert_eq!(frontier.root().0[..], hex(root)[..], "{}", frontier.size());
    }
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hex")).collect()
}

#[test]
fn everything_is_as_defined() {
    let all = leaves(70);
    let mut frontier = Frontier::default();
    for size in 0..=all.len() {
        let part = &all[..size];
        assert_eq!(frontier.root(), mth(part));
        assert_eq!(root(size as u64, subtrees(part)), Some(mth(part)));
        for index in 0..size {
            assert_eq!(inclusion(index as u64, size as u64, subtrees(part)), Some(path(index, part)));
        }
        for old in 1..=size {
            let proof = consistency(old as u64, size as u64, subtrees(part));
            assert_eq!(proof, Some(subproof(old, part, true)));
        }
        if let Some(data) = all.get(size) {
            frontier.push(leaf(data));
        }
    }
    assert_eq!(record(7, b"abc"), leaf(b"\x07abc"));
    assert_eq!(record_at(7, &mut b"....abc...".to_owned(), 4, 3), leaf(b"\x07abc"));
}

#[test]
fn every_pair_up_to_300_is_proven_and_nothing_else() {
    let all = leaves(300);
    let subtrees = kept(&all);
    let find = |level, index| subtrees.get(&(level, index)).copied();
    let mut heads = vec![Head::empty()];
    let mut frontier = Frontier::default();
    for data in &all {
        frontier.push(leaf(data));
        heads.push(frontier.head());
    }
    for new in &heads {
        for old in &heads[..=new.size as usize] {
            let proof = consistency(old.size, new.size, find).expect("it grew");
            assert_eq!(verify_consistency(old, new, &proof), Ok(()));
            let other = Head { size: old.size, root: leaf(b"x") };
            assert!(verify_consistency(&other, new, &proof).is_err());
            let other = Head { size: new.size, root: leaf(b"x") };
            let same = old.size == 0 && new.size > 0;
            // From nothing, everything grows: that is not for this proof to say.
            assert_eq!(verify_consistency(old, &other, &proof).is_err(), !same);
            let longer = [&proof[..], &[leaf(b"")]].concat();
            assert_eq!(verify_consistency(old, new, &longer), Err(Unproven::Length));
            if !proof.is_empty() {
                assert!(verify_consistency(old, new, &proof[1..]).is_err());
                assert!(verify_consistency(old, new, &proof[..proof.len() - 1]).is_err());
            }
        }
        for index in 0..new.size {
            let proof = inclusion(index, new.size, find).expect("it is there");
            let leaf = find(0, index).expect("leaf");
            assert_eq!(verify_inclusion(index, leaf, new, &proof), Ok(()));
            for wrong in [index ^ 1, index + 1, index + new.size, new.size] {
                let there = wrong < new.size && find(0, wrong) == Some(leaf);
                assert!(there || verify_inclusion(wrong, leaf, new, &proof).is_err(), "{wrong} for {index}");
            }
        }
        assert_eq!(inclusion(new.size, new.size, find), None);
        assert_eq!(consistency(new.size + 1, new.size, find), None);
    }
}

#[test]
fn every_flipped_bit_of_a_proof_is_refused() {
    let all = leaves(77);
    let subtrees = kept(&all);
    let find = |level, index| subtrees.get(&(level, index)).copied();
    let head = |size| Head { size, root: root(size, find).expect("root") };
    let flips = |proof: &[Hash]| {
        let mut all = Vec::new();
        for bit in 0..proof.len() * 256 {
            let mut bad = proof.to_vec();
            bad[bit / 256].0[bit / 8 % 32] ^= 1 << (bit % 8);
            all.push(bad);
        }
        all
    };
    for (old, new) in [(1, 77), (2, 5), (64, 77), (63, 64), (76, 77), (40, 70)] {
        let (old, new) = (head(old), head(new));
        let proof = consistency(old.size, new.size, find).expect("proof");
        for bad in flips(&proof) {
            assert_eq!(verify_consistency(&old, &new, &bad), Err(Unproven::Root));
        }
    }
    for (index, size) in [(0, 77), (76, 77), (64, 77), (5, 6), (31, 32)] {
        let (tree, leaf) = (head(size), find(0, index).expect("leaf"));
        let proof = inclusion(index, size, find).expect("proof");
        for bad in flips(&proof) {
            assert_eq!(verify_inclusion(index, leaf, &tree, &bad), Err(Unproven::Root));
        }
        for bad in flips(&[leaf]) {
            assert_eq!(verify_inclusion(index, bad[0], &tree, &proof), Err(Unproven::Root));
        }
    }
}

#[test]
fn sizes_at_the_end_of_the_numbers_do_no_harm() {
    let huge = Head { size: u64::MAX, root: leaf(b"") };
    assert_eq!(verify_inclusion(u64::MAX - 1, leaf(b""), &huge, &[]), Err(Unproven::Length));
    assert!(verify_inclusion(0, leaf(b""), &huge, &vec![leaf(b""); 70]).is_err());
    assert!(verify_consistency(&Head { size: 3, ..huge }, &huge, &vec![leaf(b""); 70]).is_err());
    assert_eq!(inclusion(u64::MAX - 1, u64::MAX, |_, _| Some(leaf(b""))).map(|p| p.len()), Some(63));
    assert_eq!(consistency(1 << 63, u64::MAX, |_, _| Some(leaf(b""))).map(|p| p.len()), Some(1));
    assert_eq!("x".parse::<Hash>(), Err(NoHash));
    assert_eq!(leaf(b"").to_string().parse::<Hash>(), Ok(leaf(b"")));
}
