//! Which devices the processes of a cgroup may open and make: the device list of an OCI spec as an eBPF program of the
//! kernel's, since cgroups of version 2 have no files for it. Documentation: kernel `admin-guide/cgroup-v2`, "Device
//! controller"; `bpf(2)`; the layout of the program's only argument is `struct bpf_cgroup_dev_ctx` of linux/bpf.h.

use std::cell::OnceCell;
use std::os::fd::{AsRawFd, OwnedFd};

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use crate::sys::{self, Instruction, Sys};

/// `BPF_DEVCG_ACC_*`.
const MKNOD: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;

/// The list of devices, for any number of cgroups: the kernel checks and compiles its program once, at the first.
#[derive(Debug)]
pub struct DeviceFilter {
    pub(crate) rules: Vec<LinuxDeviceCgroup>,
    program: OnceCell<OwnedFd>,
}

impl DeviceFilter {
    /// The filter of that list, whose last rule that fits decides.
    pub fn new(rules: &[LinuxDeviceCgroup]) -> DeviceFilter {
        DeviceFilter { rules: rules.to_vec(), program: OnceCell::new() }
    }

    /// Tells whether it is that list's.
    pub fn is_of(&self, rules: &[LinuxDeviceCgroup]) -> bool {
        self.rules == rules
    }

    /// Makes the program decide for a cgroup. Those of cgroups above stay in force: a device has to be allowed by all.
    pub fn attach(&self, cgroup: &OwnedFd) -> Sys<()> {
        let program = match self.program.get() {
            Some(program) => program,
            None => {
                let loaded = sys::load_device_program(&compile(&self.rules))?;
                self.program.get_or_init(|| loaded)
            }
        };
        sys::attach_device_program(cgroup.as_raw_fd(), program.as_raw_fd())
    }
}

/// Tells whether the kernel takes such programs from this process.
pub(crate) fn is_possible() -> bool {
    sys::load_device_program(&compile(&[])).is_ok()
}

/// The last rule that fits decides, as in an OCI spec; what none fits is denied.
fn compile(rules: &[LinuxDeviceCgroup]) -> Vec<Instruction> {
    let load = |register, offset| Instruction { offset, ..plain(LOAD, register | 1 << 4, 0) };
    let mut program = vec![
        load(TYPE, 0),
        plain(AND, TYPE, 0xffff),
        load(ACCESS, 0),
        plain(SHIFT_RIGHT, ACCESS, 16),
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    for rule in rules.iter().rev() {
        let tests = tests(rule);
        let length = tests.len() as i16 + ANSWER;
        // A test that fails skips what is left of its rule.
        program.extend(tests.into_iter().zip(1..).map(|(test, at)| match test.code {
            JUMP_IF | JUMP_UNLESS | JUMP_UNLESS_SAME => Instruction { offset: length - at, ..test },
            _ => test,
        }));
        program.extend(answer(rule.allow()));
        if length == ANSWER {
            // It fits everything: the kernel refuses a program with more behind.
            return program;
        }
    }
    program.extend(answer(false));
    program
}

/// Registers: `SCRATCH` has the argument's address at first.
const SCRATCH: u8 = 1;
const TYPE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// Operations, from linux/bpf.h: a word of memory, 32-bit arithmetic, jumps that compare with a constant or a register.
const LOAD: u8 = 0x61;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const COPY: u8 = 0xbc;
const SET: u8 = 0xb7;
const JUMP_IF: u8 = 0x15;
const JUMP_UNLESS: u8 = 0x55;
const JUMP_UNLESS_SAME: u8 = 0x5d;
const EXIT: u8 = 0x95;

/// Number of instructions that [`answer`] has.
const ANSWER: i16 = 2;

fn plain(code: u8, registers: u8, value: i32) -> Instruction {
    Instruction { code, registers, offset: 0, value }
}

fn answer(allowed: bool) -> [Instruction; ANSWER as usize] {
    [plain(SET, 0, allowed.into()), plain(EXIT, 0, 0)]
}

fn tests(rule: &LinuxDeviceCgroup) -> Vec<Instruction> {
    let mut tests = Vec::new();
    match rule.typ() {
        Some(LinuxDeviceType::B) => tests.push(plain(JUMP_UNLESS, TYPE, 1)),
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => tests.push(plain(JUMP_UNLESS, TYPE, 2)),
        _ => {}
    }
    let letters = rule.access().as_deref().unwrap_or("rwm");
    let bit = |letter, bit| if letters.contains(letter) { bit } else { 0 };
    let access = bit('m', MKNOD) | bit('r', READ) | bit('w', WRITE);
    if access != MKNOD | READ | WRITE {
        tests.push(plain(COPY, SCRATCH | ACCESS << 4, 0));
        tests.push(plain(AND, SCRATCH, access));
        // A rule that allows has to cover all of what is wanted, one that denies fits a part of it.
        tests.push(match rule.allow() {
            true => plain(JUMP_UNLESS_SAME, SCRATCH | ACCESS << 4, 0),
            false => plain(JUMP_IF, SCRATCH, 0),
        });
    }
    let number = |n: Option<i64>| n.filter(|n| *n >= 0).map(|n| n as i32);
    tests.extend(number(rule.major()).map(|major| plain(JUMP_UNLESS, MAJOR, major)));
    tests.extend(number(rule.minor()).map(|minor| plain(JUMP_UNLESS, MINOR, minor)));
    tests
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tells what the program answers: a machine of the few instructions used here.
    fn does_allow(program: &[Instruction], kind: u32, access: i32, major: u32, minor: u32) -> bool {
        let argument = [kind | (access as u32) << 16, major, minor];
        let (mut registers, mut at) = ([0u32; 16], 0);
        loop {
            let Instruction { code, registers: both, offset, value } = program[at];
            let (to, from) = (usize::from(both & 15), usize::from(both >> 4));
            at += 1;
            let mut jump = |holds| at += if holds { offset as usize } else { 0 };
            match code {
                LOAD => registers[to] = argument[offset as usize / 4],
                AND => registers[to] &= value as u32,
                SHIFT_RIGHT => registers[to] >>= value,
                COPY => registers[to] = registers[from],
                SET => registers[to] = value as u32,
                JUMP_IF => jump(registers[to] == value as u32),
                JUMP_UNLESS => jump(registers[to] != value as u32),
                JUMP_UNLESS_SAME => jump(registers[to] != registers[from]),
                _ => return registers[0] == 1,
            }
        }
    }

    fn rules(json: serde_json::Value) -> Vec<LinuxDeviceCgroup> {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn what_is_not_on_the_list_is_denied_and_an_access_has_to_be_covered_whole() {
        let program = compile(&rules(serde_json::json!([
            {"allow": false},
            {"allow": true, "type": "b", "access": "m"},
            {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
            {"allow": true, "type": "c", "major": 136, "access": "rw"},
        ])));
        let (block, char) = (1, 2);
        assert!(does_allow(&program, char, READ | WRITE, 1, 3));
        assert!(!does_allow(&program, char, READ, 1, 1), "another minor");
        assert!(!does_allow(&program, block, READ, 1, 3), "another type");
        assert!(does_allow(&program, block, MKNOD, 8, 0) && !does_allow(&program, block, READ, 8, 0));
        assert!(
            does_allow(&program, char, READ, 136, 77) && !does_allow(&program, char, READ | MKNOD, 136, 77)
        );
        assert!(!does_allow(&compile(&[]), char, READ, 1, 3));
    }

    #[test]
    fn the_kernel_takes_every_list() {
        if !is_possible() {
            return eprintln!("not tried: no eBPF for this user");
        }
        for list in [
            serde_json::json!([]),
            serde_json::json!([{"allow": true}]),
            serde_json::json!([{"allow": false}, {"allow": true, "type": "c", "major": 1, "access": "r"}]),
            serde_json::json!([{"allow": true}, {"allow": false, "type": "b", "access": "w"}]),
        ] {
            sys::load_device_program(&compile(&rules(list.clone())))
                .unwrap_or_else(|e| panic!("{list}: {e}"));
        }
    }

    #[test]
    fn a_later_rule_stands_above_an_earlier_one() {
        let program = compile(&rules(serde_json::json!([
            {"allow": true},
            {"allow": false, "type": "c", "major": 1, "minor": 1, "access": "w"},
        ])));
        assert!(does_allow(&program, 2, READ, 1, 1) && does_allow(&program, 1, READ | WRITE | MKNOD, 8, 0));
        assert!(!does_allow(&program, 2, WRITE, 1, 1) && !does_allow(&program, 2, READ | WRITE, 1, 1));
    }
}
