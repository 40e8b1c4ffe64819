//! `podctl login` and `logout`: who to be at a registry, in the file that podman and skopeo read as well.

use crate::cli::{Error, io, user_files::replace_file};
use std::{
    fs,
    io::{IsTerminal, Read, Write},
    path::{Path, PathBuf},
};

use k8s_openapi::ByteString;
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use serde_json::{Value, json};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  podctl login ghcr.io -u me --password-stdin <token
  podctl logout ghcr.io")]
pub(super) struct LoginArgs {
    /// The registry's host; docker.io else.
    #[arg(default_value = "docker.io")]
    registry: String,
    /// Who to be there; it is asked for else.
    #[arg(short, long)]
    username: Option<String>,
    /// The password or token; it is better given by --password-stdin, out of the sight of `ps`.
    #[arg(short, long, conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Read the password from standard input.
    #[arg(long)]
    password_stdin: bool,
    /// The file to write; $REGISTRY_AUTH_FILE or containers/auth.json of the user else.
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(super) struct LogoutArgs {
    /// The registry's host; docker.io else.
    #[arg(default_value = "docker.io")]
    registry: String,
    /// Forget every registry.
    #[arg(short, long)]
    all: bool,
    /// The file to change; $REGISTRY_AUTH_FILE or containers/auth.json of the user else.
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
}

pub(super) fn log_in(args: &LoginArgs) -> Result<i32, Error> {
    let registry = host_of(&args.registry);
    let path = find_auth_file(args.authfile.as_ref())?;
    let user = match &args.username {
        Some(user) => user.clone(),
        None => ask("Username: ", true)?,
    };
    let password = match (&args.password, args.password_stdin) {
        (Some(password), _) => password.clone(),
        (None, true) => {
            let mut text = String::new();
            std::io::stdin()
                .take(1 << 20)
                .read_to_string(&mut text)
                .map_err(io("cannot read the password"))?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
        (None, false) => ask("Password: ", false)?,
    };
    if user.is_empty() || password.is_empty() {
        return Err(Error::missing("a username and a password are needed: -u NAME --password-stdin"));
    }
    podctl_images::check_login(&registry, &user, &password)?;
    let mut file = read_auth_file(&path)?;
    let auth = json!(ByteString(format!("{user}:{password}").into_bytes()));
    file["auths"][&registry] = json!({ "auth": auth });
    write_auth_file(&path, &file)?;
    println!("Login Succeeded!");
    Ok(0)
}

pub(super) fn log_out(args: &LogoutArgs) -> Result<i32, Error> {
    let registry = host_of(&args.registry);
    let path = find_auth_file(args.authfile.as_ref())?;
    let mut file = read_auth_file(&path)?;
    let known = file["auths"].as_object_mut();
    if args.all {
        file["auths"] = json!({});
        write_auth_file(&path, &file)?;
        println!("Removed login credentials for all registries");
        return Ok(0);
    }
    if known.and_then(|all| all.remove(&registry)).is_none() {
        return Err(Error::absent(format!(
            "not logged into {registry}: {} does not know it",
            path.display()
        )));
    }
    write_auth_file(&path, &file)?;
    println!("Removed login credentials for {registry}");
    Ok(0)
}

/// The host of what a user calls a registry.
fn host_of(registry: &str) -> String {
    let bare = registry.trim_start_matches("https://").trim_start_matches("http://");
    let host = bare.split('/').next().unwrap_or(bare);
    if matches!(host, "index.docker.io" | "registry-1.docker.io" | "") {
        "docker.io".into()
    } else {
        host.into()
    }
}

fn find_auth_file(named: Option<&PathBuf>) -> Result<PathBuf, Error> {
    let own = || {
        podctl_images::auth_file().ok_or_else(|| {
            Error::unmet(
                "neither XDG_RUNTIME_DIR nor HOME is set, so there is no file; name one with --authfile",
            )
        })
    };
    named.cloned().map_or_else(own, Ok)
}

fn read_auth_file(path: &Path) -> Result<Value, Error> {
    match fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => Ok(json!({})),
        Ok(text) => serde_json::from_str(&text).ok().filter(Value::is_object).ok_or_else(|| {
            Error::unreadable(format!("{} is no JSON object, and is left as it is", path.display()))
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(json!({})),
        Err(e) => Err(io(format!("cannot read {}", path.display()))(e)),
    }
}

fn write_auth_file(path: &Path, file: &Value) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(file).unwrap_or_default() + "\n";
    replace_file(path, &text).map_err(io(format!("cannot write {}", path.display())))
}

/// Asks on the terminal; a password is not shown while it is typed.
fn ask(what: &str, shown: bool) -> Result<String, Error> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err(Error::unmet("there is no terminal to ask on: -u NAME --password-stdin"));
    }
    eprint_now(what);
    let before = (!shown).then(|| tcgetattr(&input)).transpose().map_err(|e| io("cannot ask")(e.into()))?;
    if let Some(before) = &before {
        let mut hidden = before.clone();
        hidden.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(&input, SetArg::TCSANOW, &hidden).map_err(|e| io("cannot hide the password")(e.into()))?;
    }
    let mut line = String::new();
    let read = input.read_line(&mut line);
    if let Some(before) = &before {
        // Should it fail, the user sees a terminal without echo, and `stty sane` mends it.
        let _ = tcsetattr(&input, SetArg::TCSANOW, before);
        eprintln!("");
    }
    read.map_err(io("cannot read the answer"))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn eprint_now(text: &str) {
    // Nobody may read it; the answer is waited for all the same.
    let _ = std::io::stderr().write_all(text.as_bytes());
}
