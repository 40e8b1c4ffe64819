//! Control characters of an image or a container, which would command the terminal of whoever looks at a pod.

use crate::{
    common::{Home, stderr, stdout},
    kit::Attack,
};

const ESCAPE: char = '\u{1b}';

#[test]
fn no_text_of_an_image_reaches_the_terminal_raw() {
    let home = Home::new();
    // As JSON has it; the loader writes it into the image's configuration.
    home.load_image("example.com/escape:1", "\\u001b]0;owned\\u0007\\u001b[2J", "mkdir -p etc");
    let file =
        home.file("pod.yaml", &Attack { image: "example.com/escape:1", ..Attack::default() }.manifest());
    for args in [
        vec!["explain-file", file.as_str()],
        vec!["run", "--dry-run", &file],
        vec!["run", "--network", "none", &file],
        vec!["get", "pods", "-o", "wide"],
        vec!["describe", "pod", "p"],
        vec!["events"],
        vec!["images"],
        vec!["timeline", "p"],
    ] {
        let output = home.podctl(&args);
        let said = stdout(&output) + &stderr(&output);
        assert!(!said.contains(ESCAPE), "{args:?}: {said:?}");
    }
    // The control: it is in the image, and what is said of its user tells so in a harmless way.
    let said = home.said(&["explain-file", &file]);
    assert!(said.contains("owned"), "{said}");
}

#[test]
fn a_containers_last_words_reach_the_terminal_as_words() {
    let home = Home::new();
    let script = "printf '\\033[2Jlast\\033]0;x\\007' >/dev/termination-log; exit 3";
    Attack { script, ..Attack::default() }.outcome(&home);
    for args in [
        &["describe", "pod", "p"][..],
        &["get", "pods", "-o", "wide"],
        &["get", "p", "-o", "yaml"],
        &["events"],
    ] {
        let output = home.podctl(args);
        let said = stdout(&output) + &stderr(&output);
        assert!(!said.contains(ESCAPE), "{args:?}: {said:?}");
    }
    let message = home.pod("p")["status"]["containerStatuses"][0]["state"]["terminated"]["message"].clone();
    assert!(message.as_str().is_some_and(|m| m.contains(ESCAPE)), "the control: it was there: {message}");
}
