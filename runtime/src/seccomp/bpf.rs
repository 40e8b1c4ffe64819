//! OCI profile → BPF. For each architecture the syscall numbers become ranges that share what happens to them, and the
//! program searches them by halves; only calls with conditions on arguments look at arguments.

use std::collections::HashMap;

use libc::sock_filter;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator,
};

use crate::error::Error;

/// The compiled profile.
#[derive(Clone, Debug)]
pub struct Program {
    pub(crate) filter: Vec<sock_filter>,
    pub(crate) flags: u64,
}

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const IMMEDIATE: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_IMM) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const JEQ: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JGT: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const JGE: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;
/// Longest program the kernel takes (`BPF_MAXINSNS`).
const LONGEST: usize = 4096;
pub(super) const ENOSYS: u32 = 0x0005_0000 | libc::ENOSYS as u32;

/// Arguments that the kernel takes as an `int`, by their index: what a caller puts into the upper half of such a register
/// does not count, for the kernel nor for a filter.
const INTEGERS: [(&str, &[usize]); 14] = [
    ("arch_prctl", &[0]),
    ("bpf", &[0]),
    ("fcntl", &[0, 1]),
    ("futex", &[1]),
    ("getsockopt", &[0, 1, 2]),
    ("ioctl", &[0, 1]),
    ("ipc", &[0]),
    ("keyctl", &[0]),
    ("personality", &[0]),
    ("prctl", &[0]),
    ("setns", &[0, 1]),
    ("setsockopt", &[0, 1, 2]),
    ("socket", &[0, 1, 2]),
    ("socketpair", &[0, 1, 2]),
];

/// The condition on an argument of a syscall.
#[derive(Clone, PartialEq)]
pub(super) struct Condition {
    pub(super) arg: LinuxSeccompArg,
    /// Only the lower half of the argument is looked at.
    pub(super) narrow: bool,
}

impl Condition {
    /// The condition as it has to be for that syscall.
    pub(super) fn for_call(name: &str, arg: LinuxSeccompArg) -> Condition {
        let narrow = INTEGERS.iter().any(|(call, all)| *call == name && all.contains(&arg.index()));
        Condition { arg, narrow }
    }
}

/// Holds what happens to a syscall: the first rule whose conditions hold, else the default.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Verdict {
    pub(super) rules: Vec<(Vec<Condition>, u32)>,
    pub(super) otherwise: u32,
}

impl Verdict {
    /// The same whatever the arguments are.
    pub(super) fn plain(otherwise: u32) -> Verdict {
        Verdict { rules: Vec::new(), otherwise }
    }
}

/// Compiles a profile for its architectures and this machine's own. Calls newer than this compiler get `ENOSYS`, as
/// programs expect who probe for them; calls of an architecture that is not listed end the process.
pub fn compile(profile: &LinuxSeccomp) -> Result<Program, Error> {
    let mut arches = vec![native()];
    for arch in profile.architectures().iter().flatten() {
        // x32 calls come as x86_64 ones with numbers beyond all others: they get ENOSYS.
        if !matches!(arch, Arch::ScmpArchNative | Arch::ScmpArchX32) && !arches.contains(arch) {
            arches.push(*arch);
        }
    }
    let default = profile.default_action().as_u32(profile.default_errno_ret());
    let plain = Verdict::plain(default);
    // Names of other architectures or of newer kernels are no error: the profile is written for all.
    let mut verdicts: HashMap<&str, Verdict> = HashMap::new();
    for call in profile.syscalls().iter().flatten() {
        if call.action() == LinuxSeccompAction::ScmpActNotify {
            return Err(invalid("SCMP_ACT_NOTIFY is not supported".to_owned()));
        }
        let action = call.action().as_u32(call.errno_ret());
        let args = call.args().clone().unwrap_or_default();
        for name in call.names() {
            let verdict = verdicts.entry(name).or_insert_with(|| plain.clone());
            if args.is_empty() {
                // Decides whatever the conditional rules before it leave open.
                verdict.otherwise = action;
            } else {
                let conditions = args.iter().map(|arg| Condition::for_call(name, *arg));
                verdict.rules.push((conditions.collect(), action));
            }
        }
    }
    let denies = profile.default_action() == LinuxSeccompAction::ScmpActErrno;
    let newer = if denies { Verdict::plain(ENOSYS) } else { plain.clone() };
    let filter = assemble_filter(&arches, &plain, &newer, |name| verdicts.get(name).cloned())?;
    let flags = profile.flags().iter().flatten().map(|flag| match flag {
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        // One thread there is; nobody listens.
        _ => 0,
    });
    Ok(Program { filter, flags: flags.fold(0, |all, flag| all | flag) })
}

/// The program for these architectures: for a call that this compiler knows what is said of its name, else `plain`; for
/// one that it does not know, `newer`.
pub(super) fn assemble_filter(
    arches: &[Arch],
    plain: &Verdict,
    newer: &Verdict,
    verdict: impl Fn(&str) -> Option<Verdict>,
) -> Result<Vec<sock_filter>, Error> {
    let mut filter = vec![make_statement(LOAD, ARCHITECTURE)];
    for &arch in arches {
        let Some(calls) = table(arch) else { continue };
        let mut block = vec![make_statement(LOAD, NUMBER)];
        block.extend(search_ranges(&verdict_ranges(&calls, plain, newer, &verdict))?);
        filter.push(make_branch(JEQ, arch as u32, 1, 0));
        filter.push(make_statement(JUMP, block.len() as u32));
        filter.extend(block);
    }
    filter.push(make_statement(RETURN, LinuxSeccompAction::ScmpActKillProcess.as_u32(None)));
    if filter.len() > LONGEST {
        return Err(invalid(format!(
            "compiles to {} instructions, the kernel takes {LONGEST}",
            filter.len()
        )));
    }
    Ok(filter)
}

fn invalid(reason: String) -> Error {
    Error::Seccomp { reason }
}

fn native() -> Arch {
    if cfg!(target_arch = "aarch64") { Arch::ScmpArchAarch64 } else { Arch::ScmpArchX86_64 }
}

/// The syscalls of an architecture, by number.
fn table(arch: Arch) -> Option<Vec<(u32, &'static str)>> {
    macro_rules! of {
        ($module:ident) => {
            syscalls::$module::Sysno::iter().map(|call| (call.id() as u32, call.name())).collect()
        };
    }
    let mut calls: Vec<_> = match arch {
        Arch::ScmpArchX86_64 => of!(x86_64),
        Arch::ScmpArchX86 => of!(x86),
        Arch::ScmpArchAarch64 => of!(aarch64),
        Arch::ScmpArchArm => of!(arm),
        _ => return None,
    };
    calls.sort_unstable();
    Some(calls)
}

/// Ranges of numbers, each with its first number; they cover everything from 0 on.
fn verdict_ranges(
    calls: &[(u32, &str)],
    plain: &Verdict,
    newer: &Verdict,
    verdict: impl Fn(&str) -> Option<Verdict>,
) -> Vec<(u32, Verdict)> {
    let mut ranges: Vec<(u32, Verdict)> = Vec::new();
    let mut push = |start: u32, verdict: Verdict| {
        if ranges.last().is_none_or(|(_, last)| *last != verdict) {
            ranges.push((start, verdict));
        }
    };
    let mut next = 0;
    for &(number, name) in calls {
        if number > next {
            push(next, plain.clone());
        }
        push(number, verdict(name).unwrap_or_else(|| plain.clone()));
        next = number + 1;
    }
    push(next, newer.clone());
    ranges
}

/// Returns a binary search for the range of the loaded number, ending in what happens to it.
fn search_ranges(ranges: &[(u32, Verdict)]) -> Result<Vec<sock_filter>, Error> {
    let mut program = Backwards::default();
    let first = program.tree(ranges)?;
    if first + 1 < program.code.len() {
        program.jump_to(first);
    }
    program.code.reverse();
    Ok(program.code)
}

/// The program from its end on, for jumps lead forward only: whatever is led to is there already, and its place, counted
/// from the end, stays what it is. What happens to calls is there once, however many ranges of them end in it.
#[derive(Default)]
struct Backwards {
    code: Vec<sock_filter>,
    /// The place where each begins.
    verdicts: Vec<(Verdict, usize)>,
}

impl Backwards {
    /// Gives the place where the search among these ranges begins.
    fn tree(&mut self, ranges: &[(u32, Verdict)]) -> Result<usize, Error> {
        if let [(_, verdict)] = ranges {
            return self.verdict(verdict);
        }
        let (low, high) = ranges.split_at(ranges.len() / 2);
        let (mut no, mut yes) = (self.tree(low)?, self.tree(high)?);
        // A branch reaches 255 instructions far; both ways are looked at from where the second jump may still come between.
        for way in [&mut no, &mut yes] {
            if self.code.len() - *way > 254 {
                *way = self.jump_to(*way);
            }
        }
        let skip = |way: usize| (self.code.len() - way - 1) as u8;
        let test = make_branch(JGE, high[0].0, skip(yes), skip(no));
        self.code.push(test);
        Ok(self.code.len() - 1)
    }

    fn verdict(&mut self, verdict: &Verdict) -> Result<usize, Error> {
        if let Some((_, place)) = self.verdicts.iter().find(|(known, _)| known == verdict) {
            return Ok(*place);
        }
        self.code.extend(return_verdict(verdict)?.into_iter().rev());
        let place = self.code.len() - 1;
        self.verdicts.push((verdict.clone(), place));
        Ok(place)
    }

    fn jump_to(&mut self, to: usize) -> usize {
        self.code.push(make_statement(JUMP, (self.code.len() - to - 1) as u32));
        self.code.len() - 1
    }
}

fn return_verdict(verdict: &Verdict) -> Result<Vec<sock_filter>, Error> {
    let mut code = Vec::new();
    for (args, action) in &verdict.rules {
        let mut rule = vec![make_statement(RETURN, *action)];
        for arg in args.iter().rev() {
            let mut test = condition(arg, rule.len())?;
            test.append(&mut rule);
            rule = test;
        }
        code.extend(rule);
    }
    code.push(make_statement(RETURN, verdict.otherwise));
    Ok(code)
}

/// Tells where a test goes on: to its next instruction, to what it guards, or past that.
#[derive(Clone, Copy)]
enum To {
    Next,
    Pass,
    Fail,
}

/// Returns a test of one 64-bit argument, its halves apart; `guarded` is the length of the code it guards.
fn condition(Condition { arg, narrow }: &Condition, guarded: usize) -> Result<Vec<sock_filter>, Error> {
    use LinuxSeccompOperator as Op;
    use To::{Fail, Next, Pass};
    if arg.index() > 5 {
        return Err(invalid(format!("argument {} of a syscall does not exist", arg.index())));
    }
    let low = ARGUMENTS + 8 * arg.index() as u32;
    let (mask, value) = match arg.op() {
        Op::ScmpCmpMaskedEq => (Some(arg.value()), arg.value_two().unwrap_or(0)),
        _ => (None, arg.value()),
    };
    let (high_value, low_value) = ((value >> 32) as u32, value as u32);
    let masked = |shift: u32| mask.map(|mask| (AND, (mask >> shift) as u32, Next, Next));
    let (high_value, upper) = if *narrow { (0, (IMMEDIATE, 0)) } else { (high_value, (LOAD, low + 4)) };
    let mut code = vec![(upper.0, upper.1, Next, Next)];
    code.extend(masked(32));
    let (yes, no) = match arg.op() {
        Op::ScmpCmpNe | Op::ScmpCmpLt | Op::ScmpCmpLe => (Fail, Pass),
        _ => (Pass, Fail),
    };
    let last = match arg.op() {
        Op::ScmpCmpGt | Op::ScmpCmpLe => JGT,
        Op::ScmpCmpGe | Op::ScmpCmpLt => JGE,
        _ => JEQ,
    };
    if last != JEQ {
        code.push((JGT, high_value, yes, Next));
    }
    code.extend([(JEQ, high_value, Next, no), (LOAD, low, Next, Next)]);
    code.extend(masked(0));
    code.push((last, low_value, yes, no));
    let length = code.len();
    let resolve = |index: usize, to: To| {
        let rest = length - index - 1;
        let distance = match to {
            Next => 0,
            Pass => rest,
            Fail => rest + guarded,
        };
        u8::try_from(distance).map_err(|_| invalid("too many conditions on one syscall".to_owned()))
    };
    let place = |(index, (code, k, yes, no)): (usize, (u16, u32, To, To))| {
        Ok(make_branch(code, k, resolve(index, yes)?, resolve(index, no)?))
    };
    code.into_iter().enumerate().map(place).collect()
}

fn make_statement(code: u16, k: u32) -> sock_filter {
    make_branch(code, k, 0, 0)
}

fn make_branch(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::docker_default;

    const ALLOW: u32 = 0x7fff_0000;
    const EPERM: u32 = 0x0005_0001;

    /// Returns what the filter answers: a BPF machine of the few instructions used here.
    fn answer(program: &Program, number: u32, args: [u64; 6]) -> u32 {
        let mut words = vec![number, native() as u32, 0, 0];
        words.extend(args.iter().flat_map(|arg| [*arg as u32, (*arg >> 32) as u32]));
        let (mut a, mut at) = (0u32, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program.filter[at];
            at += 1;
            let mut jump = |holds| at += usize::from(if holds { jt } else { jf });
            match code {
                LOAD => a = words[k as usize / 4],
                IMMEDIATE => a = k,
                AND => a &= k,
                JUMP => at += k as usize,
                JEQ => jump(a == k),
                JGT => jump(a > k),
                JGE => jump(a >= k),
                _ => return k,
            }
        }
    }

    fn number(name: &str) -> u32 {
        table(native()).unwrap().iter().find(|(_, known)| *known == name).unwrap().0
    }

    #[test]
    fn the_default_profile_allows_what_programs_need_and_denies_what_breaks_out() {
        let program = docker_default(&Default::default()).unwrap();
        for name in ["read", "execve", "openat2", "futex", "ptrace", "close_range", "faccessat2", "rseq"] {
            assert_eq!(answer(&program, number(name), [0; 6]), ALLOW, "{name}");
        }
        for name in
            ["mount", "keyctl", "bpf", "setns", "unshare", "kexec_load", "io_uring_setup", "init_module"]
        {
            assert_eq!(answer(&program, number(name), [0; 6]), EPERM, "{name}");
        }
        assert_eq!(answer(&program, number("clone3"), [0; 6]), ENOSYS, "so that libc falls back to clone");
        assert_eq!(answer(&program, number("clone"), [libc::CLONE_NEWUSER as u64, 0, 0, 0, 0, 0]), EPERM);
        assert_eq!(answer(&program, number("clone"), [libc::CLONE_VM as u64, 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(answer(&program, number("socket"), [libc::AF_VSOCK as u64, 0, 0, 0, 0, 0]), EPERM);
        assert_eq!(answer(&program, number("socket"), [libc::AF_INET as u64, 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(answer(&program, 0x4000_0000, [0; 6]), ENOSYS, "x32");
        for family in [libc::AF_VSOCK, libc::AF_ALG] {
            let hidden = 7 << 32 | family as u64;
            assert_eq!(answer(&program, number("socket"), [hidden, 0, 0, 0, 0, 0]), EPERM, "{family}");
        }
        assert!(program.filter.len() < 500, "{}", program.filter.len());
    }

    #[test]
    fn every_number_meets_the_verdict_of_its_range_however_many_there_are() {
        for count in [1, 2, 3, 100, 1000] {
            // Many verdicts, so that jumps have to go far; each is there more than once.
            let verdict = |at: u32| Verdict::plain(at % 300);
            let ranges: Vec<_> = (0..count).map(|at| (at * 3, verdict(at))).collect();
            let mut filter = vec![make_statement(LOAD, NUMBER)];
            filter.extend(search_ranges(&ranges).unwrap());
            let program = Program { filter, flags: 0 };
            for number in (0..count * 3).chain([u32::MAX]) {
                let range = (number / 3).min(count - 1);
                assert_eq!(answer(&program, number, [0; 6]), range % 300, "{number} of {count} ranges");
            }
        }
    }

    #[test]
    fn conditions_compare_all_64_bits() {
        use LinuxSeccompOperator as Op;
        let values = [0, 1, 5, 6, 1 << 32, (1 << 32) + 5, u64::MAX];
        for limit in values {
            for value in values {
                let table = [
                    (Op::ScmpCmpEq, value == limit),
                    (Op::ScmpCmpNe, value != limit),
                    (Op::ScmpCmpLt, value < limit),
                    (Op::ScmpCmpLe, value <= limit),
                    (Op::ScmpCmpGt, value > limit),
                    (Op::ScmpCmpGe, value >= limit),
                    (Op::ScmpCmpMaskedEq, value & limit == 0),
                ];
                for (op, holds) in table {
                    let arg = crate::seccomp::default_profile::compare(2, op, limit, Some(0));
                    let of = |narrow| {
                        let condition = Condition { arg, narrow };
                        let verdict = Verdict { rules: vec![(vec![condition], 1)], otherwise: 2 };
                        let program = Program { filter: return_verdict(&verdict).unwrap(), flags: 0 };
                        answer(&program, 0, [9, 9, value, 9, 9, 9]) == 1
                    };
                    assert_eq!(of(false), holds, "{value} {op:?} {limit}");
                    if value >> 32 == 0 && limit >> 32 == 0 {
                        assert_eq!(of(true), holds, "{value} {op:?} {limit}, of an int");
                    }
                }
            }
        }
    }
}
