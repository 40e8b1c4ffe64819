//! The files that `-f`, `-R` and `-k` name: manifests, directories of them, URLs, standard input, kustomizations.
//!
//! Promises: what is read is bounded in size and in time; every error names the file or the address.

use std::{
    fs,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::{
    cli::{Error, Namespace, io},
    manifest::{self, Diagnostic, Manifest, Source, Written, parse_documents, split_list},
    view::{plain_text::show_controls, selectors::Labels},
};

/// The length of the longest file, in bytes, that is read as a manifest: more would be held in memory several times.
const LONGEST_FILE: u64 = 64 << 20;

/// The name of what is read from standard input, where a file's would stand.
pub(super) const STDIN: &str = "<stdin>";

/// The time for which a web server may be silent, and how long the whole of a manifest may take.
const PATIENCE: [Duration; 2] = [Duration::from_secs(15), Duration::from_secs(120)];

/// Directories below directories that `-R` goes down; a link that leads back would be walked for ever.
const DEEPEST: usize = 32;

/// Names what builds kustomizations: programs, and their words before the directory.
const BUILDERS: [(&str, &str); 2] = [("kustomize", "build"), ("kubectl", "kustomize")];

/// Files, as kubectl takes them for every verb.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct FileArgs {
    /// Manifest files, directories of them or URLs; `-` is standard input.
    #[arg(short, long, value_name = "FILE", value_delimiter = ',', value_hint = clap::ValueHint::AnyPath)]
    pub filename: Vec<String>,
    /// With -f DIR: the directories below it as well.
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// A directory with a kustomization; `kustomize` or `kubectl` builds it.
    #[arg(short = 'k', long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub kustomize: Option<String>,
}

/// Files, of whose objects those with certain labels are meant.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct LabeledFileArgs {
    #[command(flatten)]
    pub files: FileArgs,
    /// Objects of the files with these labels only.
    #[arg(short = 'l', long, default_value = "")]
    pub selector: String,
}

impl LabeledFileArgs {
    /// Reads the selector.
    ///
    /// # Errors
    /// One that makes no sense.
    pub(super) fn parse_selector(&self) -> Result<Labels, Error> {
        parse_file_selector(&self.selector)
    }
}

/// Reads the selector of the objects of files.
///
/// # Errors
/// One that makes no sense, in kubectl's words.
pub(super) fn parse_file_selector(text: &str) -> Result<Labels, Error> {
    Labels::parse(text)
        .map_err(|why| Error::bad_value(format!("the provided selector {text:?} is not valid: {why}")))
}

impl FileArgs {
    /// The files that a command has as its words.
    pub(super) fn named(files: &[String]) -> FileArgs {
        FileArgs { filename: files.to_vec(), ..FileArgs::default() }
    }

    /// Tells whether any is named.
    pub(super) fn is_given(&self) -> bool {
        !self.filename.is_empty() || self.kustomize.is_some()
    }

    /// Tells whether they are one file, of which kubectl expects one object.
    pub(super) fn names_one(&self) -> bool {
        let [file] = &self.filename[..] else { return false };
        file != "-" && !Path::new(file).is_dir()
    }

    /// Tells whether standard input is one of them, which can be read once only.
    pub(super) fn reads_stdin(&self) -> bool {
        self.filename.iter().any(|file| file == "-")
    }

    /// Reads them all, those of a directory in the order of their names.
    ///
    /// # Errors
    /// The first that cannot be read, with what to do.
    pub(super) fn read_sources(&self) -> Result<Vec<Source>, Error> {
        let mut all = Vec::new();
        match &self.kustomize {
            Some(_) if !self.filename.is_empty() => {
                return Err(Error::contradiction("only one of -f or -k can be specified"));
            }
            Some(dir) => all.push(build_kustomization(dir)?),
            None => {}
        }
        for file in &self.filename {
            if is_url(file) {
                all.push(fetch_manifest(file)?);
            } else if Path::new(file).is_dir() {
                for path in list_manifest_files(Path::new(file), self.recursive, DEEPEST)? {
                    all.push(read_source(&path.display().to_string())?);
                }
            } else {
                match expand_pattern(file) {
                    found if found.is_empty() => all.push(read_source(file)?),
                    found => {
                        for path in found {
                            all.push(read_source(&path.display().to_string())?);
                        }
                    }
                }
            }
        }
        Ok(all)
    }

    /// Reads the objects that they hold, whatever they are; the items of a List each.
    ///
    /// # Errors
    /// As [`FileArgs::read_sources`]; what is no YAML, or no object.
    pub(super) fn read_objects(&self) -> Result<Vec<Value>, Error> {
        Ok(parse_objects(&self.read_sources()?)?.into_iter().map(|written| written.object).collect())
    }
}

/// Parses the objects that files hold, whatever they are; the items of a List each.
///
/// # Errors
/// What is no YAML, or no object.
pub(super) fn parse_objects(sources: &[Source]) -> Result<Vec<Written>, Error> {
    let mut all = Vec::new();
    for source in sources {
        for document in parse_documents(source)? {
            match document["kind"].as_str() {
                None => {
                    let why = explain_other_file(source)
                        .unwrap_or_else(|| format!("Object 'Kind' is missing in '{document}'"));
                    return Err(Error::unreadable(format!("unable to decode {:?}: {why}", source.name)));
                }
                Some(_) => {
                    let written = |object| Written { file: source.name.clone(), object };
                    all.extend(split_list(document).into_iter().map(written));
                }
            }
        }
    }
    Ok(all)
}

/// Returns the files that a pattern means which no shell has expanded, in the order of their names; none for what is a
/// file's name itself, or means none.
fn expand_pattern(pattern: &str) -> Vec<PathBuf> {
    if !pattern.contains(['*', '?']) || Path::new(pattern).exists() {
        return Vec::new();
    }
    let mut found = vec![PathBuf::from(if pattern.starts_with('/') { "/" } else { "" })];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        if !part.contains(['*', '?']) {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        }
        let list = |dir: &PathBuf| {
            let shown = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
            let names = fs::read_dir(shown).into_iter().flatten().flatten().map(|entry| entry.file_name());
            let mut names: Vec<_> =
                names.filter(|name| fits_pattern(part.as_bytes(), name.as_encoded_bytes())).collect();
            names.sort();
            names.into_iter().map(|name| dir.join(name)).collect::<Vec<_>>()
        };
        found = found.iter().flat_map(list).collect();
    }
    found.retain(|path| path.is_file());
    found
}

/// Tells whether a name is as a pattern has it: `*` stands for any bytes, `?` for one.
fn fits_pattern(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut star) = ((0, 0), None);
    while at.1 < name.len() {
        match pattern.get(at.0) {
            Some(b'*') => {
                star = Some(at);
                at.0 += 1;
            }
            Some(own) if *own == b'?' || *own == name[at.1] => at = (at.0 + 1, at.1 + 1),
            _ => match &mut star {
                Some((before, taken)) => {
                    *taken += 1;
                    at = (*before + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[at.0..].iter().all(|own| *own == b'*')
}

fn is_url(file: &str) -> bool {
    file.starts_with("https://") || file.starts_with("http://")
}

/// Returns the manifests of a directory (`*.yaml`, `*.yml`, `*.json`) in the order of their names.
///
/// # Errors
/// A directory that cannot be read, or has no manifests.
fn list_manifest_files(dir: &Path, recursive: bool, depth: usize) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    collect_manifest_files(dir, recursive, depth, &mut found)?;
    if found.is_empty() {
        return Err(Error::unreadable(format!(
            "error reading [{}]: recognized file extensions are [.json .yaml .yml]{}",
            dir.display(),
            explain_directory(dir).map(|hint| format!("; {hint}")).unwrap_or_default()
        )));
    }
    found.sort();
    Ok(found)
}

fn collect_manifest_files(
    dir: &Path,
    recursive: bool,
    depth: usize,
    found: &mut Vec<PathBuf>,
) -> Result<(), Error> {
    let entries = fs::read_dir(dir).map_err(io(format!("cannot read directory {}", dir.display())))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        let is_manifest =
            path.extension().is_some_and(|kind| ["yaml", "yml", "json"].iter().any(|known| kind == *known));
        if path.is_dir() && recursive && depth > 0 {
            collect_manifest_files(&path, recursive, depth - 1, found)?;
        } else if is_manifest && path.is_file() {
            found.push(path);
        }
    }
    Ok(())
}

/// Reads a file's name and text; `-` is standard input.
///
/// # Errors
/// Why it cannot be read, and what to do where it is no manifest's name.
pub(super) fn read_source(file: &str) -> Result<Source, Error> {
    let mut text = String::new();
    let mut read = |from: &mut dyn Read| from.take(LONGEST_FILE + 1).read_to_string(&mut text).map(drop);
    let (name, done) = match file {
        "-" => (STDIN, read(&mut std::io::stdin())),
        path => (path, fs::File::open(path).and_then(|mut file| read(&mut file))),
    };
    check_length(name, text.len())?;
    done.map_err(|e| match e.kind() {
        ErrorKind::InvalidData => Error::unreadable(format!(
            "cannot read {name}: it is not text in UTF-8; save it in that encoding"
        )),
        ErrorKind::NotFound => Error::unreadable(explain_missing_file(name)),
        _ => io(format!("cannot read {name}"))(e),
    })?;
    Ok(Source { name: name.to_owned(), text })
}

fn check_length(name: &str, length: usize) -> Result<(), Error> {
    match length as u64 > LONGEST_FILE {
        true => {
            let most = LONGEST_FILE >> 20;
            Err(Error::unreadable(format!("{name} is longer than {most} MiB: no manifest is")))
        }
        false => Ok(()),
    }
}

/// Fetches a manifest from the web.
fn fetch_manifest(url: &str) -> Result<Source, Error> {
    let failed = |e: reqwest::Error| {
        let mut why: &dyn std::error::Error = &e;
        while let Some(source) = why.source() {
            why = source;
        }
        let cause = why.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        if let (Some(ErrorKind::ConnectionRefused), Some(url)) = (cause, e.url()) {
            let host = url.host_str().unwrap_or_default();
            let port = url.port_or_known_default().unwrap_or_default();
            return Error::Unreached(format!(
                "The connection to the server {host}:{port} was refused - did you specify the right host or port?"
            ));
        }
        Error::unreadable(format!("unable to read URL {url:?}: {why}"))
    };
    podctl_images::choose_tls_provider();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let fetched = runtime.map_err(io("cannot start the client for the web"))?.block_on(async {
        let client = reqwest::Client::builder()
            .connect_timeout(PATIENCE[0])
            .read_timeout(PATIENCE[0])
            .timeout(PATIENCE[1])
            .dns_resolver(podctl_images::HostNames)
            .user_agent(concat!("podctl/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(failed)?;
        let mut response = client.get(url).send().await.map_err(failed)?;
        let status = response.status();
        if !status.is_success() {
            return Err(Error::unreadable(format!(
                "unable to read URL {url:?}, server reported {status}, status code={}",
                status.as_u16()
            )));
        }
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(failed)? {
            body.extend_from_slice(&part);
            check_length(url, body.len())?;
        }
        Ok(body)
    })?;
    let text = String::from_utf8(fetched)
        .map_err(|_| Error::unreadable(format!("cannot read {url}: it is not text in UTF-8")))?;
    Ok(Source { name: url.to_owned(), text })
}

/// Has a kustomization built by a program that can, and reads what it prints.
///
/// # Errors
/// There is no such program, or it fails.
pub(super) fn build_kustomization(dir: &str) -> Result<Source, Error> {
    for (program, word) in BUILDERS {
        let mut builder = Command::new(program);
        builder.args([word, dir]).stdin(Stdio::null()).stdout(Stdio::piped());
        let started = match builder.spawn() {
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            started => started,
        };
        let output = started.and_then(podctl_runtime::collect_output);
        let output = output.map_err(io(format!("cannot run {program}")))?;
        if !output.status.success() {
            return Err(Error::unreadable(format!(
                "`{program} {word} {dir}` could not build the kustomization"
            )));
        }
        check_length(dir, output.stdout.len())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        return Ok(Source { name: dir.to_owned(), text });
    }
    Err(Error::unmet(format!(
        "{dir}: podctl builds no kustomizations itself, and neither kustomize nor kubectl is on PATH; install one of them, or give its output: `kustomize build {dir} | podctl … -f -`"
    )))
}

/// Returns what to do where a manifest's file was wanted and something else was named: an image, a typing error.
fn explain_missing_file(name: &str) -> String {
    let is_file_name = name.contains('/') || [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end));
    match name.parse::<podctl_images::Reference>() {
        Ok(_) if !is_file_name => {
            let own = name.rsplit('/').next().unwrap_or(name).split([':', '@']).next().unwrap_or(name);
            format!(
                "cannot read {name}: No such file. A manifest's name is wanted; an image is run by \
                 `podctl run {own} --image={name}`, and `--dry-run=client -o yaml` prints its manifest"
            )
        }
        _ => format!("the path {name:?} does not exist"),
    }
}

/// Returns what a directory is that holds no manifests, and what to do with it.
fn explain_directory(dir: &Path) -> Option<String> {
    let has = |name: &str| dir.join(name).is_file();
    let shown = dir.display();
    if has("Chart.yaml") {
        return Some(format!(
            "it is a Helm chart: `helm template {shown} | podctl run -` runs what it renders"
        ));
    }
    let dockerfile = ["Dockerfile", "Containerfile"].into_iter().find(|name| has(name))?;
    Some(explain_dockerfile(dockerfile, &shown.to_string()))
}

fn explain_dockerfile(name: &str, dir: &str) -> String {
    format!(
        "{name} is for a builder, and podctl builds no images: `buildah bud -t app oci-archive:app.tar {dir} && podctl load -i app.tar` (or `docker build` and `docker save`), then `podctl run app --image=app`"
    )
}

/// Returns what a file is that is read as a manifest and is none, and what to do with it: a compose file, a Helm chart, a
/// Dockerfile.
pub(super) fn explain_other_file(source: &Source) -> Option<String> {
    let path = Path::new(&source.name);
    let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let begins = |word: &str| {
        source.text.lines().any(|line| line.strip_prefix(word).is_some_and(|l| l.starts_with(':')))
    };
    if begins("kind") {
        return None;
    }
    if file == "Chart.yaml" || path.parent().is_some_and(|dir| dir.ends_with("templates")) {
        let chart = if file == "Chart.yaml" { dir } else { dir.parent().unwrap_or(dir) };
        let chart = chart.display();
        return Some(format!(
            "{file} belongs to a Helm chart: `helm template {chart} | podctl run -` runs what it renders"
        ));
    }
    if begins("services") {
        return Some(format!(
            "{} is a compose file, and podctl runs Kubernetes manifests: `kompose convert -f {0} --stdout | podctl run -` makes one of it",
            source.name
        ));
    }
    let is_dockerfile = |name: &str| name.starts_with("Dockerfile") || name.starts_with("Containerfile");
    let from =
        source.text.lines().map(str::trim_start).find(|line| !line.is_empty() && !line.starts_with('#'));
    if is_dockerfile(file) || from.is_some_and(|line| line.starts_with("FROM ") || line.starts_with("ARG ")) {
        return Some(explain_dockerfile(file, &dir.display().to_string()));
    }
    None
}

/// Reads files into checked pods and objects, beside what is stored; warnings are shown.
///
/// # Errors
/// All that is wrong with them, shown; the error says how much it is.
pub(super) fn read_manifest(
    sources: &[Source],
    stored: &Manifest,
    namespace: &Namespace,
) -> Result<Manifest, Error> {
    let manifest =
        manifest::load_beside(sources, stored, namespace).map_err(|all| refuse_files(&all, sources))?;
    for warning in &manifest.warnings {
        eprintln!("{}", show_controls(&warning.to_string()));
    }
    Ok(manifest)
}

/// Shows what is wrong with the files; gives the error that says so.
pub(super) fn refuse_files(all: &[Diagnostic], sources: &[Source]) -> Error {
    // What is no manifest has one thing wrong with it, and not each of its lines.
    for source in sources {
        if let Some(hint) = explain_other_file(source) {
            return Error::unreadable(hint);
        }
    }
    for diagnostic in all {
        eprintln!("{}", show_controls(&diagnostic.to_string()));
    }
    let (errors, files) = (all.len(), list_names(sources));
    Error::Refused { files, errors }
}

pub(super) fn list_names(sources: &[Source]) -> String {
    sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(name: &str, text: &str) -> String {
        explain_other_file(&Source { name: name.into(), text: text.into() }).unwrap_or_default()
    }

    #[test]
    fn files_of_other_tools_lead_on() {
        let compose = explained("app/compose.yaml", "services:\n  web:\n    image: nginx\n");
        assert!(compose.contains("kompose convert -f app/compose.yaml"), "{compose}");
        assert!(explained("c/Chart.yaml", "apiVersion: v2\nname: c\n").contains("helm template c |"));
        assert!(explained("c/templates/a.yaml", "{{- if .Values.x }}\n").contains("helm template c |"));
        assert!(explained("Dockerfile", "# x\nFROM busybox\n").contains("podctl load"));
        assert_eq!(explained("pod.yaml", "apiVersion: v1\nkind: Pod\nservices: x\n"), "");
        assert_eq!(explained("bad.yaml", "metadata: {}\n"), "");
    }

    #[test]
    fn patterns_stand_for_names() {
        for (pattern, name, fits) in [
            ("*.yaml", "a.yaml", true),
            ("f?.yaml", "f1.yaml", true),
            ("f?.yaml", "f12.yaml", false),
            ("*a*b", "xaybzb", true),
            ("*a*b", "xaybz", false),
            ("*", "", true),
            ("?", "", false),
        ] {
            assert_eq!(fits_pattern(pattern.as_bytes(), name.as_bytes()), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn an_image_in_a_files_place_leads_on() {
        assert!(explain_missing_file("nginx").contains("podctl run nginx --image=nginx"));
        assert_eq!(explain_missing_file("a.yaml"), "the path \"a.yaml\" does not exist");
    }
}
