//! The last steps of a process that is born inside of a container, and the only memory that it takes along. It is a copy of
//! the caller, which knows the pod's secrets; who may trace everything there (CAP_SYS_PTRACE) could read them in it. So what
//! it still needs lies in a mapping of its own, and all other memory is dropped before it is born.

use std::ffi::{CStr, CString};
use std::fs;
use std::io::Read;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;

use nix::errno::Errno;
use nix::unistd::{self, SysconfVar};

use crate::error::Error;
use crate::plan::{Action, Step};
use crate::process;
use crate::sys::{self, Sys};

/// Frames of the child, below those of who makes it, stay.
const CHILDS_STACK: usize = 64 << 10;
/// Bytes of the largest page of a processor that podctl runs on: aarch64's.
const LARGEST_PAGE: i64 = 64 << 10;

/// Returns where of a stack that is in use down to `here` a range may end that is dropped. The kernel drops whole pages, the last one
/// of a range included.
fn find_end_below(here: usize, page: usize) -> usize {
    here.saturating_sub(CHILDS_STACK) / page * page
}

/// The one of the steps that a process can do in there.
#[derive(Clone, Copy)]
enum Last {
    NewSession,
    ClaimTerminal,
    DieWithParent,
    NoNewPrivileges,
    Seccomp,
    Execute,
}

/// Holds what the steps need; all pointers lead into the mapping.
#[derive(Clone, Copy)]
struct Needs {
    steps: *const Last,
    count: usize,
    candidates: *const *const libc::c_char,
    args: *const *const libc::c_char,
    env: *const *const libc::c_char,
    filter: *const libc::sock_filter,
    filter_length: usize,
    filter_flags: u64,
    forget: *const Range<usize>,
    forget_count: usize,
}

/// The steps after the birth, in memory of their own.
#[derive(Debug)]
pub(crate) struct Arrival {
    base: *mut u8,
    size: usize,
    used: usize,
    needs: *const Needs,
    /// The index of the first step in its plan.
    first: u32,
    /// The two ends of the pipe that holds the process until the caller can know of it. Here, for what the plan owns is
    /// forgotten with all other memory.
    pub(crate) held: RawFd,
    pub(crate) gate: RawFd,
}

impl Arrival {
    /// Of the steps of a plan after the birth, if there is one in it.
    pub(crate) fn of(steps: &[Step]) -> Result<Option<Arrival>, Error> {
        let birth = steps.iter().enumerate().find_map(|(at, step)| match &step.action {
            Action::ForkInside([held, gate]) => Some((at + 1, held.as_raw_fd(), gate.as_raw_fd())),
            _ => None,
        });
        let Some((first, held, gate)) = birth else { return Ok(None) };
        let last = &steps[first..];
        let strings = |all: &[CString]| all.iter().map(|s| s.as_bytes_with_nul().len() + 32).sum::<usize>();
        let size = last.iter().map(|step| match &step.action {
            Action::Execute { candidates, args, env } => strings(candidates) + strings(args) + strings(env),
            Action::Seccomp { filter, .. } => size_of_val(filter.as_slice()),
            _ => 0,
        });
        // What is counted in none of these: the list of what to forget, and the ends of lists.
        let size = size.sum::<usize>() + (64 << 10);
        let failed = |errno| Error::from_errno("make memory for a process inside", errno);
        let base = sys::map_memory(size).map_err(failed)?;
        let mut arrival =
            Arrival { base, size, used: 0, needs: ptr::null(), first: first as u32, held, gate };
        let (mut kinds, mut needs) = (Vec::new(), Needs::none());
        for step in last {
            kinds.push(match &step.action {
                Action::NewSession => Last::NewSession,
                Action::ClaimTerminal => Last::ClaimTerminal,
                Action::DieWithParent => Last::DieWithParent,
                Action::NoNewPrivileges => Last::NoNewPrivileges,
                Action::Seccomp { filter, flags } => {
                    needs.filter = arrival.put(filter);
                    (needs.filter_length, needs.filter_flags) = (filter.len(), *flags);
                    Last::Seccomp
                }
                Action::Execute { candidates, args, env } => {
                    needs.candidates = arrival.put_strings(candidates);
                    needs.args = arrival.put_strings(args);
                    needs.env = arrival.put_strings(env);
                    Last::Execute
                }
                other => unreachable!("{other:?} is done before the birth"),
            });
        }
        (needs.steps, needs.count) = (arrival.put(&kinds), kinds.len());
        let forget = arrival.forgettable_ranges()?;
        (needs.forget, needs.forget_count) = (arrival.put(&forget), forget.len());
        arrival.needs = arrival.put(&[needs]);
        Ok(Some(arrival))
    }

    fn put<T: Clone>(&mut self, values: &[T]) -> *const T {
        let at = self.used.next_multiple_of(16);
        self.used = at + size_of_val(values);
        assert!(self.used <= self.size, "the size was counted too small");
        // SAFETY: the range lies in the mapping, which is ours, aligned and not in use yet; no value has a destructor.
        unsafe {
            let place = self.base.add(at).cast::<T>();
            ptr::copy_nonoverlapping(values.as_ptr(), place, values.len());
            place
        }
    }

    fn put_strings(&mut self, strings: &[CString]) -> *const *const libc::c_char {
        let mut all: Vec<*const libc::c_char> =
            strings.iter().map(|s| self.put(s.as_bytes_with_nul()).cast()).collect();
        all.push(ptr::null());
        self.put(&all)
    }

    /// The memory of this process that is nobody's but its own: all but its program's and libraries' files, this mapping,
    /// the stack in use, and what the C library keeps for the thread.
    fn forgettable_ranges(&self) -> Result<Vec<Range<usize>>, Error> {
        let here = ptr::from_ref(&self) as usize;
        // SAFETY: gives the address of the calling thread's errno.
        let thread = unsafe { libc::__errno_location() } as usize;
        let page = unistd::sysconf(SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(LARGEST_PAGE) as usize;
        // Room for all of it at once: the kernel does not say how long it is.
        let mut text = String::with_capacity(32 << 10);
        fs::File::open("/proc/self/maps")
            .and_then(|mut maps| maps.read_to_string(&mut text))
            .map_err(|error| Error::file("read", "/proc/self/maps", error))?;
        let ranges = text.lines().filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [range, mode, _, _, inode, name @ ..] = words.as_slice() else { return None };
            let (start, end) = range.split_once('-')?;
            let mut range = usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?;
            if name.first() == Some(&"[stack]") {
                range.end = find_end_below(here, page);
            }
            let kept = range.contains(&thread) || range.contains(&(self.base as usize)) || range.is_empty();
            (mode.starts_with("rw-p") && *inode == "0" && !kept).then_some(range)
        });
        // Never more than there is room for; it would take thousands of mappings.
        Ok(ranges.take(1024).collect())
    }

    /// Drops all other memory of this process. Only this value's own functions may be called from then on.
    pub(crate) fn forget_others(&self) {
        let needs = self.needs();
        for at in 0..needs.forget_count {
            // SAFETY: the list lies in the mapping and has so many entries; nothing in these ranges is used any more.
            unsafe {
                let range = &*needs.forget.add(at);
                libc::madvise(range.start as *mut libc::c_void, range.len(), libc::MADV_DONTNEED);
            }
        }
    }

    /// Does the steps; returns only the index of the one that failed.
    pub(crate) fn carry_out(&self, report: RawFd) -> (u32, Errno) {
        let needs = self.needs();
        for at in 0..needs.count {
            // SAFETY: the list lies in the mapping and has so many entries.
            let step = unsafe { *needs.steps.add(at) };
            if let Err(errno) = run(step, &needs, report) {
                return (self.first + at as u32, errno);
            }
        }
        (self.first, Errno::EINVAL)
    }

    fn needs(&self) -> Needs {
        // SAFETY: set by `of` to a value in the mapping.
        unsafe { *self.needs }
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        sys::unmap_memory(self.base, self.size);
    }
}

impl Needs {
    fn none() -> Needs {
        Needs {
            steps: ptr::null(),
            count: 0,
            candidates: ptr::null(),
            args: ptr::null(),
            env: ptr::null(),
            filter: ptr::null(),
            filter_length: 0,
            filter_flags: 0,
            forget: ptr::null(),
            forget_count: 0,
        }
    }
}

fn run(step: Last, needs: &Needs, report: RawFd) -> Sys<()> {
    match step {
        Last::NewSession => sys::setsid(),
        Last::ClaimTerminal => sys::ioctl(0, libc::TIOCSCTTY, 0).map(drop),
        Last::DieWithParent => process::die_with_parent(report),
        Last::NoNewPrivileges => sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0),
        // SAFETY: the filter lies in the mapping and has so many instructions.
        Last::Seccomp => unsafe {
            let filter = std::slice::from_raw_parts(needs.filter, needs.filter_length);
            sys::seccomp_filter(filter, needs.filter_flags)
        },
        Last::Execute => {
            sys::reset_signals();
            let mut found = Errno::ENOENT;
            let mut candidate = needs.candidates;
            // SAFETY: the list ends with null; every other entry is a string in the mapping.
            while let Some(path) = unsafe { (*candidate).as_ref() } {
                // SAFETY: as above.
                let path = unsafe { CStr::from_ptr(path) };
                match sys::execute(path, needs.args, needs.env) {
                    Errno::ENOENT | Errno::ENOTDIR => {}
                    Errno::EACCES => found = Errno::EACCES,
                    errno => return Err(errno),
                }
                candidate = candidate.wrapping_add(1);
            }
            Err(found)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_in_use_is_kept_whole_whatever_the_page() {
        for page in [4 << 10, 16 << 10, LARGEST_PAGE as usize] {
            for here in [0x7fff_ffff_e000_usize, 0x7fff_ffff_1234, 0x1_0010] {
                let end = find_end_below(here, page);
                assert!(end.is_multiple_of(page) && end + CHILDS_STACK <= here, "{here:#x} {page:#x}");
            }
        }
    }
}
