//! The book's pages, run as they stand: each `console` block's commands in order, each `yaml file=NAME` block a file beside them.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::common::Home;

/// A command of a page, and the lines that the page shows of what it prints.
struct Step {
    command: String,
    shown: Vec<String>,
}

/// Reads a page: its files, by name, and its commands.
fn read_page(text: &str) -> (Vec<(String, String)>, Vec<Step>) {
    let (mut files, mut steps) = (Vec::new(), Vec::<Step>::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```").filter(|kind| !kind.is_empty()) else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        if let Some(name) = kind.strip_prefix("yaml file=") {
            files.push((name.to_owned(), block.join("\n") + "\n"));
        }
        for line in block.into_iter().filter(|_| kind == "console") {
            match line.strip_prefix("$ ") {
                Some(command) => steps.push(Step { command: command.to_owned(), shown: Vec::new() }),
                None => steps.last_mut().expect("a command comes first").shown.push(line.to_owned()),
            }
        }
    }
    (files, steps)
}

/// The words of a line, for columns are as wide as what stands in them.
fn squeeze(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Runs a page's commands, each of which succeeds and prints what the page shows.
fn run_page(name: &str, page: &str) {
    let home = Home::new();
    let (bin, dir) = (home.path("bin"), home.path("page"));
    [&bin, &dir].iter().for_each(|path| fs::create_dir(path).unwrap());
    let podctl = home.command(&[]);
    symlink(podctl.get_program(), bin.join("podctl")).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let (files, steps) = read_page(page);
    files.iter().for_each(|(file, text)| fs::write(dir.join(file), text).unwrap());
    assert!(!steps.is_empty(), "{name} has no commands");
    for Step { command, shown } in steps {
        let began = Instant::now();
        loop {
            let mut bash = Command::new("timeout");
            bash.args(["120", "bash", "-c", &format!("{{ {command}\n}} 2>&1")]);
            bash.envs(podctl.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("PATH", &path);
            let output = bash.current_dir(&dir).stdin(Stdio::null()).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{name}: $ {command}\n{:?}\n{said}", output.status);
            let squeezed: Vec<String> = said.lines().map(squeeze).collect();
            let mut shown = shown.iter().map(|line| squeeze(line));
            let Some(line) = shown.find(|line| !squeezed.iter().any(|said| said.contains(line))) else {
                break;
            };
            // A container that runs may write a little later than somebody who reads the page would ask for it.
            let may_come = command.starts_with("podctl logs ") && began.elapsed() < Duration::from_secs(60);
            assert!(may_come, "{name}: $ {command}\nlacks {line:?}:\n{said}");
        }
    }
}

/// A test a page, so that they run side by side.
macro_rules! pages {
    ($($test:ident $page:literal)*) => {
        $(#[test] fn $test() { run_page($page, include_str!(concat!("../../docs/", $page))) })*

        #[test]
        fn every_page_with_commands_is_run() {
            let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
            let run = [$($page),*];
            // Another user's checkout may not be this one's to read.
            for entry in fs::read_dir(docs).into_iter().flatten() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                let text = fs::read_to_string(&path).unwrap_or_default();
                let elsewhere = ["kubernetes-api.md"].contains(&name.as_str()); // tests/clients
                let commands = name.ends_with(".md") && text.contains("```console");
                assert_eq!(run.contains(&name.as_str()), commands && !elsewhere, "{name}");
            }
        }
    };
}

pages! {
    install "install.md"
    first_pod "first-pod.md"
    init_and_sidecars "init-and-sidecars.md"
    debugging "debugging.md"
    networking "networking.md"
    volumes "volumes.md"
    continuous_integration "ci.md"
    from_compose "from-compose.md"
    from_podman "from-podman.md"
    troubleshooting "troubleshooting.md"
}
