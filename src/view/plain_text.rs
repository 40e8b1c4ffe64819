//! Text of images, registries and containers, as a person's terminal may have it.

use std::borrow::Cow;

/// Returns the text with every control character but line ends and tabs made visible, as `cat -v` shows them: ESC as `^[`. A
/// terminal would obey it.
pub fn show_controls(text: &str) -> Cow<'_, str> {
    let harmless = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    if text.chars().all(harmless) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            c if harmless(c) => shown.push(c),
            c if c.is_ascii() => shown.extend(['^', (c as u8 ^ 0x40).into()]),
            _ => shown.push(char::REPLACEMENT_CHARACTER),
        }
    }
    shown.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_are_shown_and_all_else_is_as_it_was() {
        assert_eq!(show_controls("a\tb\nü"), "a\tb\nü");
        assert_eq!(show_controls("\u{1b}[2J\u{7}\r\u{7f}"), "^[[2J^G^M^?");
        assert_eq!(show_controls("\u{9b}2J"), "\u{fffd}2J");
    }
}
