//! Tells the program from which commit it is built, where git's files are there to say so, and links the unwinder into it where
//! the compiler has that for linking. Nothing depends on either: a build from an archive, or without them, is as good.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    link_unwinder();
    // What is built again and again while somebody works on it is not built anew for each commit.
    if env::var("PROFILE").as_deref() != Ok("release") {
        return;
    }
    let root = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    if let Some(commit) = read_commit(Path::new(&root)) {
        println!("cargo::rustc-env=PODCTL_COMMIT={}", &commit[..12]);
    }
}

/// Has the unwinder linked in from `libgcc_eh.a`, where it would be loaded from `libgcc_s.so` at every start: that takes 0.14 ms,
/// and podctl starts itself several times for a pod. rustc asks for `gcc_s` by name, so the name leads to the archive.
fn link_unwinder() {
    let is = |what: &str, value: &str| env::var(what).as_deref() == Ok(value);
    let own = env::var("HOST") == env::var("TARGET");
    if !own || !is("CARGO_CFG_TARGET_OS", "linux") || !is("CARGO_CFG_TARGET_ENV", "gnu") {
        return;
    }
    let asked = Command::new("cc").arg("-print-file-name=libgcc_eh.a").output();
    let archive = asked.map(|answer| String::from_utf8_lossy(&answer.stdout).trim().to_owned());
    // A compiler that has none gives the bare name back.
    let Some(archive) = archive.ok().filter(|path| Path::new(path).is_absolute()) else { return };
    let directory = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    if fs::write(directory.join("libgcc_s.so"), format!("INPUT({archive})\n")).is_ok() {
        println!("cargo::rustc-link-search=native={}", directory.display());
    }
}

/// Reads the commit that is checked out in a directory; none where it is no work tree of its own.
fn read_commit(root: &Path) -> Option<String> {
    let git = find_git_directory(root)?;
    let head = read_watched(&git.join("HEAD"))?;
    let commit = match head.strip_prefix("ref: ") {
        None => head,
        Some(name) => {
            // A second work tree has its own HEAD, and its branches in the first one's directory.
            let common = fs::read_to_string(git.join("commondir")).ok();
            let common = common.map_or_else(|| git.clone(), |dir| git.join(dir.trim()));
            read_watched(&common.join(name)).or_else(|| find_packed(&common, name))?
        }
    };
    (commit.len() >= 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(commit)
}

/// Returns the directory of git's that belongs to a work tree: `.git`, or the one that a file of this name tells.
fn find_git_directory(root: &Path) -> Option<PathBuf> {
    let own = root.join(".git");
    if own.is_dir() {
        return Some(own);
    }
    let told = fs::read_to_string(&own).ok()?;
    Some(root.join(told.trim().strip_prefix("gitdir: ")?))
}

/// Reads a file without the white space around, and has the build begin anew when it changes.
fn read_watched(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    println!("cargo::rerun-if-changed={}", path.display());
    Some(text.trim().to_owned())
}

/// Finds a branch among those that git keeps in one file.
fn find_packed(common: &Path, name: &str) -> Option<String> {
    let packed = read_watched(&common.join("packed-refs"))?;
    packed.lines().find_map(|line| line.strip_suffix(name)?.strip_suffix(' ').map(str::to_owned))
}
