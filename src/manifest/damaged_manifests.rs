//! Manifests as they are after accidents: no text makes reading panic, and whatever is said has a place in the file.
//!
//! `PODCTL_MUTATION_SEED=N` tries that one again, `PODCTL_MUTATIONS=N` says how many are tried.

use std::{fs, panic, path::Path};

use super::{Source, load};

/// Values that are often wrong, wherever they stand.
const VALUES: &[&str] = &[
    "",
    "~",
    "{}",
    "[]",
    "[[[]]]",
    "{a: {b: c}}",
    "true",
    "\"true\"",
    "-1",
    "0",
    "1.5",
    "1e999",
    "99999999999999999999",
    "4294967376",
    "0777",
    "0x7fffffffffffffff",
    "999999999999999999E",
    "1e-999999999",
    "1Ki1",
    "\"\\0\"",
    "é",
    "\u{fffd}",
    "*a",
    "&a b",
    "!x y",
    "|",
    ">-",
    "'",
    "\"",
    "@",
    "%",
    "- - -",
    "$(A)$$(B)$(",
    "../../..",
    "/",
    "a/b/c:d@sha256:e",
    "[!a, b]",
    "\"\\",
    "{a, \"b\": [c",
    "? : ? -",
    "%TAG ! x",
    "<<: *a",
    "!<%C3%28> x",
    "|9-",
    "\u{85}\u{2028}",
];

/// Marsaglia's xorshift: the same numbers everywhere.
pub(crate) struct Numbers(u64);

impl Numbers {
    /// Numbers that belong to a seed. Seeds that are near each other begin far apart.
    fn of_seed(seed: u64) -> Numbers {
        Numbers(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Returns a number from 0, below that one; 0 where there is none.
    pub(crate) fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % most.max(1)
    }
}

/// The project's own manifests, good and bad.
fn read_corpus() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dirs = ["examples", "tests/manifests/bad"].map(|dir| root.join(dir));
    let mut files: Vec<_> =
        dirs.iter().flat_map(|dir| fs::read_dir(dir).unwrap()).map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|kind| kind == "yaml"));
    files.sort();
    files.iter().map(|file| fs::read_to_string(file).unwrap()).collect()
}

/// One to four accidents.
fn mutate_text(corpus: &[String], seed: u64) -> String {
    let mut numbers = Numbers::of_seed(seed);
    let text = &corpus[numbers.below(corpus.len())];
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(lines.len());
        let Some(line) = lines.get(at).cloned() else { break };
        let value = VALUES[numbers.below(VALUES.len())];
        match numbers.below(9) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, line),
            2 => lines[at] = format!("  {line}"),
            3 => lines[at] = line.replacen("  ", "", 1),
            4 => lines[at] = line.replacen(' ', "\t", 1),
            5 | 6 => {
                let key = line.split_once(": ").map_or(line.as_str(), |(key, _)| key);
                lines[at] = format!("{key}: {value}");
            }
            7 => {
                let other = &corpus[numbers.below(corpus.len())];
                lines.insert(at, other.lines().nth(numbers.below(40)).unwrap_or(value).to_owned());
            }
            _ => {
                let cut = line.char_indices().map(|(i, _)| i).nth(numbers.below(line.len())).unwrap_or(0);
                lines[at] = format!("{}{value}", &line[..cut]);
            }
        }
    }
    lines.join("\n")
}

/// Returns the seeds that are to be tried: so many, unless the environment says which or how many.
fn choose_seeds(count: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|n| n.parse::<u64>().unwrap());
    match number("PODCTL_MUTATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("PODCTL_MUTATIONS").unwrap_or(count),
    }
}

/// Does something with the numbers of each seed, and tells of which seed they were when it panics.
pub(crate) fn try_seeds(count: u64, attempt: impl Fn(&mut Numbers)) {
    for seed in choose_seeds(count) {
        let tried = panic::catch_unwind(panic::AssertUnwindSafe(|| attempt(&mut Numbers::of_seed(seed))));
        assert!(tried.is_ok(), "PODCTL_MUTATION_SEED={seed} makes this panic");
    }
}

#[test]
fn no_damage_to_a_manifest_makes_reading_it_panic() {
    let corpus = read_corpus();
    for seed in choose_seeds(2000) {
        let text = mutate_text(&corpus, seed);
        let most = text.lines().count() + 1;
        let read = || load(&[Source { name: "f".into(), text: text.clone() }]).err().unwrap_or_default();
        let found = panic::catch_unwind(read)
            .unwrap_or_else(|_| panic!("PODCTL_MUTATION_SEED={seed} makes this panic:\n{text}"));
        let place = |line, column| (1..=most).contains(&line) && column >= 1;
        let lost: Vec<_> =
            found.iter().filter(|d| !place(d.line, d.column) || d.message.is_empty()).collect();
        assert!(lost.is_empty(), "PODCTL_MUTATION_SEED={seed}: {lost:#?}\n{text}");
    }
}
