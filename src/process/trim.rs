//! Gives back the memory that only the start needed: pages of the program's code, which the kernel maps by the dozen.

use std::fs;

use nix::sys::mman::{MmapAdvise, madvise};

/// Unmaps the program's code and constants from this process; what is executed again comes back from the page cache.
pub fn trim_heap() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (start, length) in maps.lines().filter_map(unchanged) {
        // SAFETY: mappings of a file that have never been written to read the same when they are mapped again.
        let _ = unsafe { madvise(start, length, MmapAdvise::MADV_DONTNEED) };
    }
}

/// Has all threads of this process take memory from one place, so that what one has freed another takes; to be called before
/// there are any. Only glibc does otherwise.
pub fn share_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets a number of the allocator's own.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives back to the kernel the freed memory that the allocator keeps for later, and the program's code.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it touches what is free alone.
    unsafe {
        libc::malloc_trim(0);
    }
    trim_heap();
}

/// Code, and constants at a file's begin: elsewhere read-only pages may have been written to by the dynamic linker.
fn unchanged(line: &str) -> Option<(std::ptr::NonNull<std::ffi::c_void>, usize)> {
    let mut words = line.split_whitespace();
    let (range, rights, offset) = (words.next()?, words.next()?, words.next()?);
    let of_file = words.nth(1)? != "0";
    let fit = rights == "r-xp" || rights == "r--p" && offset.bytes().all(|b| b == b'0');
    let (start, end) = range.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    let start_pointer = std::ptr::NonNull::new(std::ptr::with_exposed_provenance_mut(start))?;
    (fit && of_file).then_some((start_pointer, end - start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_that_nobody_has_written_to_are_given_up() {
        let given = |line| unchanged(line).map(|(_, length)| length);
        assert_eq!(given("1000-3000 r-xp 00001000 fe:00 12 /"), Some(0x2000));
        assert_eq!(given("1000-3000 r--p 00000000 fe:00 12 /"), Some(0x2000));
        for kept in [
            "1000-3000 r--p 00005000 fe:00 12 /",
            "1000-3000 rw-p 00000000 fe:00 12 /",
            "1000-3000 r-xp 00000000 00:00 0 [vdso]",
            "1000-3000 r--p 00000000 00:00 0 [vvar]",
        ] {
            assert_eq!(given(kept), None, "{kept}");
        }
        // And the process goes on.
        trim_heap();
    }
}
