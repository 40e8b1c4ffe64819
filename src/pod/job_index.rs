//! Which of a Job's pods one is, and completion indexes as a Job writes them.

use std::collections::BTreeSet;

/// A pod of a job: which place it fills, and how many have filled it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The completion index; of a job without indexes, a number that is free.
    pub index: u32,
    /// 0 for the first pod of that index.
    pub attempt: u32,
}

/// Reads `0,2-4` as numbers, each below the number of completions.
///
/// # Errors
/// What is wrong with it.
pub fn parse_indexes(text: &str, completions: u32) -> Result<BTreeSet<u32>, String> {
    let mut all = BTreeSet::new();
    if text.is_empty() {
        return Ok(all);
    }
    let number = |text: &str| -> Result<u32, String> {
        let number = text.parse().map_err(|_| format!("{text:?} is no index"))?;
        match number < completions {
            true => Ok(number),
            false => Err(format!("index {number} is not below {completions}, the number of completions")),
        }
    };
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if part.contains('-') && first >= last || all.last().is_some_and(|known| *known >= first) {
            return Err(format!("{part:?}: indexes must be in ascending order"));
        }
        all.extend(first..=last);
    }
    Ok(all)
}
