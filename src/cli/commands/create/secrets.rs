//! Secrets: of keys and values, of a certificate, of a registry's credentials.

use super::{
    Error, Place, create_object,
    keyed_data::{self, append_hash, read_keyed_data, word_reading},
};
use std::fs;

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use crate::{
    cli::{io, output_formats::ChangeArgs},
    pod::ObjectKind,
};

#[derive(clap::Subcommand)]
pub(super) enum Secrets {
    /// From files and literals.
    Generic {
        /// The Secret's name.
        name: String,
        #[command(flatten)]
        from: keyed_data::From,
        /// The Secret's type.
        #[arg(long = "type", default_value = "")]
        type_: String,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// From a certificate and its key.
    Tls {
        /// The Secret's name.
        name: String,
        /// The file with the certificate, in PEM.
        #[arg(long, default_value = "")]
        cert: String,
        /// The file with the private key, in PEM.
        #[arg(long, default_value = "")]
        key: String,
        /// A hash of the content behind the name.
        #[arg(long)]
        append_hash: bool,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// For a pod's imagePullSecrets.
    DockerRegistry(RegistryArgs),
}

#[derive(clap::Args)]
pub(super) struct RegistryArgs {
    /// The Secret's name.
    name: String,
    /// The registry's host.
    #[arg(long, default_value = "https://index.docker.io/v1/")]
    docker_server: String,
    /// Who to be there.
    #[arg(long, default_value = "")]
    docker_username: String,
    /// The password, or a token.
    #[arg(long, default_value = "")]
    docker_password: String,
    /// An address that some registries want.
    #[arg(long, default_value = "")]
    docker_email: String,
    /// A config.json or auth.json to take as it is.
    #[arg(long)]
    from_file: Vec<String>,
    /// A hash of the content behind the name.
    #[arg(long)]
    append_hash: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Key of a Secret with registries' credentials, in a config.json.
const REGISTRIES: &str = ".dockerconfigjson";

pub(super) fn create_secret(secret: &Secrets, place: Place<'_>) -> Result<(), Error> {
    match secret {
        Secrets::Generic { name, from, type_, change } => {
            let mut object = make_secret(name, type_);
            // What is not said is not printed; it is Opaque by default.
            if let Some(fields) = object.as_object_mut().filter(|_| type_.is_empty()) {
                fields.remove("type");
            }
            for (key, bytes) in read_keyed_data(from, (ObjectKind::Secret, name))? {
                object["data"][key] = json!(ByteString(bytes));
            }
            append_hash(&mut object, from.append_hash);
            create_object(change, Some(ObjectKind::Secret), object, place)
        }
        Secrets::Tls { name, cert, key, append_hash: hash, change } => {
            if cert.is_empty() || key.is_empty() {
                return Err(Error::missing("key and cert must be specified"));
            }
            let mut object = make_secret(name, "kubernetes.io/tls");
            for (field, file) in [("tls.crt", cert), ("tls.key", key)] {
                let bytes = fs::read(file).map_err(|e| match e.kind() {
                    std::io::ErrorKind::NotFound => {
                        let why = "no such file or directory";
                        Error::unreadable(format!("Cannot read file {file}, open {file}: {why}"))
                    }
                    _ => io(format!("cannot read {file}"))(e),
                })?;
                if !bytes.windows(11).any(|part| part == b"-----BEGIN ") {
                    let what = if field == "tls.crt" { "certificate" } else { "key" };
                    let why = format!("tls: failed to find any PEM data in {what} input");
                    return Err(Error::unreadable(why));
                }
                object["data"][field] = json!(ByteString(bytes));
            }
            append_hash(&mut object, *hash);
            create_object(change, Some(ObjectKind::Secret), object, place)
        }
        Secrets::DockerRegistry(args) => create_registry_secret(args, place),
    }
}

fn make_secret(name: &str, type_: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": type_})
}

fn create_registry_secret(args: &RegistryArgs, place: Place<'_>) -> Result<(), Error> {
    let mut object = make_secret(&args.name, "kubernetes.io/dockerconfigjson");
    let config = match &args.from_file[..] {
        [] if args.docker_username.is_empty()
            || args.docker_password.is_empty()
            || args.docker_server.is_empty() =>
        {
            let what = "either --from-file or the combination of --docker-username, --docker-password and --docker-server is required";
            return Err(Error::missing(what));
        }
        [] => make_registry_config(args),
        [file] => {
            let path = file.strip_prefix(".dockerconfigjson=").unwrap_or(file);
            fs::read(path).map_err(|e| word_reading(path, e))?
        }
        _ => {
            return Err(Error::contradiction(
                "--from-file can be given once: a Secret holds one config.json",
            ));
        }
    };
    object["data"][REGISTRIES] = json!(ByteString(config));
    append_hash(&mut object, args.append_hash);
    create_object(&args.change, Some(ObjectKind::Secret), object, place)
}

/// Returns a config.json with its fields in kubectl's order.
fn make_registry_config(args: &RegistryArgs) -> Vec<u8> {
    let text = |text: &str| Value::from(text).to_string();
    let auth = json!(ByteString(format!("{}:{}", args.docker_username, args.docker_password).into_bytes()));
    let email = match args.docker_email.is_empty() {
        true => String::new(),
        false => format!("\"email\":{},", text(&args.docker_email)),
    };
    format!(
        "{{\"auths\":{{{}:{{\"username\":{},\"password\":{},{email}\"auth\":{auth}}}}}}}",
        text(&args.docker_server),
        text(&args.docker_username),
        text(&args.docker_password),
    )
    .into_bytes()
}
