//! The oldest kernel: whether the committed objects ask for anything that Linux 5.15 lacks. Tests only, and they need no
//! kernel: what a loader of 5.15 refuses by list (helpers by kind of program, map types, attach points, instructions) is
//! looked up here. What its verifier thinks of a program is not: for that it must be booted.
//!
//! Sources are of v5.15: `*_func_proto` in net/core/filter.c, kernel/bpf/cgroup.c, kernel/bpf/bpf_lsm.c,
//! kernel/trace/bpf_trace.c and kernel/bpf/helpers.c; include/uapi/linux/bpf.h; include/linux/lsm_hook_defs.h. The
//! releases that first had a helper are those of bpf-helpers(7) and docs.ebpf.io.

use aya_obj::generated::bpf_insn;
use aya_obj::{Function, Object, ProgramSection};

use super::Hook;

/// Linux, as major and minor.
type Release = (u32, u32);

const FLOOR: Release = (5, 15);

/// Kinds of programs: each has a list of helpers of its own in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `cg_skb_func_proto`, then `sk_filter_func_proto`, then the base.
    Skb,
    /// `sock_filter_func_proto`, then the base.
    Sock,
    /// `sock_addr_func_proto`, then the base.
    Address,
    /// `sock_ops_func_proto`, then the base.
    Ops,
    /// `cg_sockopt_func_proto`, then the base.
    Options,
    /// `bpf_lsm_func_proto`, then `tracing_prog_func_proto`, then `bpf_tracing_func_proto`.
    Lsm,
}

use Kind::{Address, Lsm, Ops, Options, Skb, Sock};

/// `bpf_base_func_proto` and its match for tracing: all kinds.
const EVERY: &[Kind] = &[Skb, Sock, Address, Ops, Options, Lsm];
/// Kinds that run in a process's own call.
const CALLER: &[Kind] = &[Sock, Address, Lsm];

/// Helpers by number: name, the release that first had it, and the kinds that may call it in 5.15.
const HELPERS: &[(i32, &str, Release, &[Kind])] = &[
    (1, "map_lookup_elem", (3, 19), EVERY),
    (2, "map_update_elem", (3, 19), EVERY),
    (3, "map_delete_elem", (3, 19), EVERY),
    (5, "ktime_get_ns", (4, 1), EVERY),
    (7, "get_prandom_u32", (4, 1), EVERY),
    (8, "get_smp_processor_id", (4, 1), EVERY),
    (14, "get_current_pid_tgid", (4, 2), CALLER),
    (15, "get_current_uid_gid", (4, 2), &[Sock, Address, Options, Lsm]),
    (16, "get_current_comm", (4, 2), CALLER),
    (26, "skb_load_bytes", (4, 5), &[Skb]),
    // With the context as its argument; for LSM programs with a socket, since 5.12.
    (46, "get_socket_cookie", (4, 12), &[Skb, Sock, Address, Ops, Lsm]),
    (59, "sock_ops_cb_flags_set", (4, 16), &[Ops]),
    (79, "skb_cgroup_id", (4, 18), &[Skb]),
    (80, "get_current_cgroup_id", (4, 18), &[Sock, Address, Options, Lsm]),
    (83, "skb_ancestor_cgroup_id", (4, 19), &[Skb]),
    (95, "sk_fullsock", (5, 1), &[Skb]),
    (107, "sk_storage_get", (5, 2), EVERY),
    (108, "sk_storage_delete", (5, 2), &[Skb, Address, Ops, Options, Lsm]),
    (113, "probe_read_kernel", (5, 5), EVERY),
    // For sock_ops only since 5.15 itself.
    (122, "get_netns_cookie", (5, 7), &[Sock, Address, Ops, Options]),
    (123, "get_current_ancestor_cgroup_id", (5, 7), CALLER),
    (125, "ktime_get_boot_ns", (5, 8), EVERY),
    (130, "ringbuf_output", (5, 8), EVERY),
    (131, "ringbuf_reserve", (5, 8), EVERY),
    (132, "ringbuf_submit", (5, 8), EVERY),
    (133, "ringbuf_discard", (5, 8), EVERY),
    (162, "sock_from_file", (5, 11), &[Lsm]),
];

/// Map types by number: name, and the release that first had it.
const MAPS: &[(u32, &str, Release)] = &[
    (1, "hash", (3, 19)),
    (2, "array", (3, 19)),
    (5, "percpu_hash", (4, 6)),
    (6, "percpu_array", (4, 6)),
    (9, "lru_hash", (4, 10)),
    (10, "lru_percpu_hash", (4, 10)),
    (11, "lpm_trie", (4, 11)),
    (24, "sk_storage", (5, 2)),
    (27, "ringbuf", (5, 8)),
];

/// `BPF_PERF_EVENT`: the last `enum bpf_attach_type` of 5.15.
const LAST_ATTACH_TYPE: u32 = 41;

/// Hooks of LSM programs, all in 5.15's lsm_hook_defs.h.
const LSM_HOOKS: [&str; 12] = [
    "socket_post_create",
    "socket_create",
    "socket_connect",
    "socket_listen",
    "socket_accept",
    "socket_sendmsg",
    "socket_recvmsg",
    "file_permission",
    "file_receive",
    "unix_stream_connect",
    "unix_may_send",
    "ptrace_access_check",
];

fn kind(section: &ProgramSection) -> Option<Kind> {
    Some(match section {
        ProgramSection::CgroupSkb { .. } => Skb,
        ProgramSection::CgroupSock { .. } => Sock,
        ProgramSection::CgroupSockAddr { .. } => Address,
        ProgramSection::SockOps => Ops,
        ProgramSection::CgroupSockopt { .. } => Options,
        ProgramSection::Lsm { sleepable: false } => Lsm,
        _ => return None,
    })
}

/// One instruction; which register it writes does not matter here.
struct Instruction {
    code: u8,
    source: u8,
    offset: i16,
    immediate: i32,
}

fn instructions(function: &Function) -> impl Iterator<Item = Instruction> {
    let of =
        |i: &bpf_insn| Instruction { code: i.code, source: i.src_reg(), offset: i.off, immediate: i.imm };
    function.instructions.iter().map(of)
}

/// Why 5.15 does not take an instruction (Documentation/bpf/standardization/instruction-set.rst of later releases).
fn too_new(&Instruction { code, source, offset, immediate }: &Instruction, kind: Kind) -> Option<String> {
    let (class, operation) = (code & 0x07, code & 0xf0);
    let is_alu = matches!(class, 0x04 | 0x07);
    let word = match code {
        0x85 => return call(source, immediate, kind),
        0x06 => "a long jump (6.6)",
        0xd7 => "an unconditional byte swap (6.6)",
        0xe5 => "may_goto (6.9)",
        _ if class == 0x01 && code & 0xe0 == 0x80 => "a load with sign extension (6.6)",
        _ if is_alu && operation == 0xb0 && offset != 0 => "a move with sign extension (6.6)",
        _ if is_alu && matches!(operation, 0x30 | 0x90) && offset != 0 => "a signed division (6.6)",
        // BPF_ATOMIC: what 5.12 has is below 0x100.
        _ if class == 0x03 && code & 0xe0 == 0xc0 && immediate >= 0x100 => "an ordered load (6.13)",
        _ => return None,
    };
    Some(word.to_owned())
}

/// The same of a call.
fn call(source: u8, number: i32, kind: Kind) -> Option<String> {
    match source {
        0 => {}
        1 => return None, // A function of the object's own.
        _ => {
            return Some(
                "calls a function of the kernel: none may be called from cgroups or LSM in 5.15".to_owned(),
            );
        }
    }
    match HELPERS.iter().find(|helper| helper.0 == number) {
        None => Some(format!("helper {number} is in no list: look it up in 5.15 and add it to HELPERS")),
        Some((_, name, since, _)) if *since > FLOOR => Some(format!("helper {name} is of {since:?}")),
        Some((_, name, _, kinds)) if !kinds.contains(&kind) => {
            Some(format!("helper {name} is not {kind:?} programs' in 5.15"))
        }
        Some(_) => None,
    }
}

/// All that 5.15 would not take of an object.
fn beyond_the_floor(object: &[u8]) -> Vec<String> {
    let object = Object::parse(object).expect("an object");
    let mut beyond = Vec::new();
    for (name, map) in &object.maps {
        if !MAPS.iter().any(|(number, _, since)| *number == map.map_type() && *since <= FLOOR) {
            beyond.push(format!("map {name}: type {}", map.map_type()));
        }
    }
    let mut kinds = Vec::new();
    for (name, program) in &object.programs {
        let Some(kind) = kind(&program.section) else {
            beyond.push(format!("{name}: {:?} is in no list", program.section));
            continue;
        };
        kinds.push(kind);
        let function = &object.functions[&program.function_key()];
        let wrong = instructions(function).filter_map(|instruction| too_new(&instruction, kind));
        beyond.extend(wrong.map(|why| format!("{name}: {why}")));
    }
    // Functions that programs share must suit each kind in the object.
    let programs: Vec<_> = object.programs.values().map(aya_obj::Program::function_key).collect();
    for (key, function) in object.functions.iter().filter(|(key, _)| !programs.contains(key)) {
        let of = |kind: &Kind| instructions(function).filter_map(|i| too_new(&i, *kind)).collect::<Vec<_>>();
        beyond.extend(kinds.iter().flat_map(of).map(|why| format!("{} at {key:?}: {why}", function.name)));
    }
    beyond.sort();
    beyond.dedup();
    beyond
}

#[test]
fn the_objects_ask_for_nothing_that_5_15_lacks() {
    assert_eq!(beyond_the_floor(super::instance::OBJECT), Vec::<String>::new());
    assert_eq!(beyond_the_floor(super::lsm::OBJECT), Vec::<String>::new());
}

#[test]
fn attach_points_are_in_5_15() {
    assert!(Hook::ALL.into_iter().all(|hook| hook.attach_type() <= LAST_ATTACH_TYPE));
    let hooks = super::LsmHook::ALL.map(super::LsmHook::name);
    assert!(hooks.iter().all(|hook| LSM_HOOKS.contains(hook)), "{hooks:?}");
}

/// The check can fail.
#[test]
fn what_is_newer_is_found() {
    let told = |code, source, offset, immediate| {
        too_new(&Instruction { code, source, offset, immediate }, Skb).unwrap_or_default()
    };
    assert_eq!(told(0x85, 0, 0, 1), "");
    assert_eq!(told(0x85, 1, 0, -1), "");
    assert_eq!(told(0xbf, 2, 0, 0), "");
    assert!(told(0x85, 2, 0, 1).contains("function of the kernel"));
    // bpf_loop() of 5.17.
    assert!(told(0x85, 0, 0, 181).contains("in no list"));
    // Only in 5.15's list of other kinds.
    assert!(told(0x85, 0, 0, 14).contains("not Skb programs'"));
    assert!(told(0x06, 0, 0, 1).contains("long jump"));
    assert!(told(0x81, 1, 0, 0).contains("sign extension"));
    assert!(told(0xbf, 1, 8, 0).contains("sign extension"));
    assert!(told(0x37, 0, 1, 3).contains("signed division"));
}
