//! Which of a Job's pods one is, and completion indexes as a Job writes them.

use std::collections::BTreeSet;

/// The pod of a job: which place it fills, and how many have filled it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The completion index; of a job without indexes, a number that is free.
    pub index: u32,
    /// 0 for the first pod of that index.
    pub attempt: u32,
}

/// Writes indexes as a Job's status has them: `0,2-4`, and two that follow one another as `2,3`.
pub fn write_indexes(indexes: &BTreeSet<u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for index in indexes {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => runs.push((*index, *index)),
        }
    }
    let write = |(first, last): &(u32, u32)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    };
    runs.iter().map(write).collect::<Vec<_>>().join(",")
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
