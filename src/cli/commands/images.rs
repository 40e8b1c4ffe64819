//! `podctl pull`, `images`, `rmi`, `load`: the image store.

use std::path::PathBuf;

use podctl_images::{BuildStep, Image, Reference};

use crate::{
    cli::{
        Error,
        image_store::{
            find_image, for_each_image, open_engine, read_creation_time, read_time, split_reference,
            summarize_image,
        },
        output_formats::print_table,
        pruning, warn,
    },
    engine::{Engine, ImageErrorKind, LoadOptions, PullOptions},
    state::Home,
    view::plain_text::show_controls,
};

#[derive(clap::Args)]
pub(super) struct PullArgs {
    /// References such as `busybox:1.36`.
    #[arg(required = true)]
    images: Vec<String>,
    /// Show no progress.
    #[arg(short, long)]
    quiet: bool,
    /// Take the image for another platform, as in `linux/arm64`.
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// Let files whose owners have no id here belong to root.
    #[arg(long)]
    squash_ids: bool,
}

#[derive(clap::Args)]
pub(super) struct ListArgs {
    /// Only images whose name or reference is this.
    filter: Option<String>,
    /// Print ids only.
    #[arg(short, long)]
    quiet: bool,
    /// As ever: there are no intermediate images to hide.
    #[arg(short, long)]
    all: bool,
    /// Show the manifests' digests, too.
    #[arg(long)]
    digests: bool,
    /// `json`, or the usual table.
    #[arg(short, long, visible_alias = "format", value_parser = ["json", "table"], default_value = "table")]
    output: String,
}

#[derive(clap::Args)]
pub(super) struct RemoveArgs {
    /// References such as `busybox:1.36`, or the beginning of ids.
    #[arg(required_unless_present = "all")]
    images: Vec<String>,
    /// Remove every name of an id; say nothing about images that are not there.
    #[arg(short, long)]
    force: bool,
    /// Remove all images that no pod uses.
    #[arg(short, long, conflicts_with = "images")]
    all: bool,
}

#[derive(clap::Args)]
pub(super) struct LoadArgs {
    /// An archive, also compressed, or an OCI layout directory; `-`, as by default, is standard input.
    #[arg(short, long)]
    input: Vec<PathBuf>,
    /// Show no progress.
    #[arg(short, long)]
    quiet: bool,
    /// Let files whose owners have no id here belong to root.
    #[arg(long)]
    squash_ids: bool,
}

pub(super) fn pull(args: &PullArgs, home: &Home) -> Result<i32, Error> {
    let engine = open_engine(home)?;
    let platform = args.platform.clone();
    let options = PullOptions { platform, progress: !args.quiet, squash_ids: args.squash_ids };
    Ok(for_each_image(&args.images, |image| {
        let image = engine.pull(image, &options)?;
        println!("{}@{}", split_reference(&image).0, image.digest);
        Ok(())
    }))
}

pub(super) fn remove(args: &RemoveArgs, home: &Home) -> Result<i32, Error> {
    let engine = open_engine(home)?;
    let remove = |image: &str, force, passed_over: &[ImageErrorKind]| match engine.remove_image(image, force)
    {
        Ok(gone) => {
            gone.iter().for_each(|image| println!("removed {}", image.reference));
            Ok(())
        }
        Err(e) if passed_over.contains(&e.kind) => Ok(()),
        Err(e) => Err(e),
    };
    if args.all {
        // Another command may remove images as well, or a pod take one.
        let passed_over = [ImageErrorKind::InUse, ImageErrorKind::NotFound];
        return Ok(for_each_image(&engine.images()?, |image| remove(&image.reference, true, &passed_over)));
    }
    let missing: &[_] = if args.force { &[ImageErrorKind::NotFound] } else { &[] };
    Ok(for_each_image(&args.images, |image| remove(image, args.force, missing)))
}

pub(super) fn load(args: &LoadArgs, home: &Home) -> Result<i32, Error> {
    let mut paths = args.input.clone();
    if paths.is_empty() {
        if std::io::IsTerminal::is_terminal(&std::io::stdin()) {
            return Err(Error::missing("name what to load with -i FILE, or give it on standard input"));
        }
        paths.push("-".into());
    }
    let engine = open_engine(home)?;
    Ok(for_each_image(&paths, |path| {
        let options = LoadOptions { progress: !args.quiet, squash_ids: args.squash_ids };
        let loaded = engine.load_image(path, &options)?;
        // One that the archive gave no name is known by its id.
        let id = |image: &Image| match image.reference.starts_with("localhost/loaded:") {
            true => format!(" ({})", image.id),
            false => String::new(),
        };
        loaded.iter().for_each(|image| println!("loaded {}{}", image.reference, id(image)));
        Ok(())
    }))
}

pub(super) fn list(args: &ListArgs, home: &Home) -> Result<i32, Error> {
    let engine = Engine::over(home);
    let images = engine.images()?;
    for damage in engine.damaged_images()? {
        let name = damage.image.as_deref().unwrap_or_default();
        warn(&format!(
            "image {name} is damaged: {} ({}); `podctl pull {name}` mends it, `podctl doctor --repair` forgets it",
            damage.what,
            damage.path.display()
        ));
    }
    let wanted: Option<Reference> = args.filter.as_deref().map(str::parse).transpose()?;
    let tagged = args
        .filter
        .as_deref()
        .is_some_and(|f| f.contains('@') || f.rsplit('/').next().is_some_and(|n| n.contains(':')));
    let shown = images.iter().filter(|image| {
        wanted.as_ref().is_none_or(|w| match tagged {
            true => image.reference == w.to_string(),
            false => split_reference(image).0 == format!("{}/{}", w.registry(), w.repository()),
        })
    });
    let shown: Vec<_> = shown.collect();
    if args.output == "json" {
        let objects: Vec<_> = shown.iter().map(|image| summarize_image(image)).collect();
        println!("{}", serde_json::to_string_pretty(&objects).expect("plain data"));
        return Ok(0);
    }
    if args.quiet {
        shown.iter().for_each(|image| println!("{}", short_id(image)));
        return Ok(0);
    }
    let now = k8s_openapi::jiff::Timestamp::now().as_second();
    let mut rows = vec![["REPOSITORY", "TAG", "DIGEST", "IMAGE ID", "CREATED", "SIZE"].map(str::to_owned)];
    rows.extend(shown.iter().map(|image| {
        let (name, tag) = split_reference(image);
        let created = read_creation_time(image).map_or("N/A".to_owned(), |at| time_ago(now - at));
        let size = indicatif::DecimalBytes(image.size).to_string();
        [name.to_owned(), tag.to_owned(), image.digest.clone(), short_id(image), created, size]
    }));
    let columns: Vec<usize> = (0..6).filter(|c| *c != 2 || args.digests).collect();
    for row in &rows {
        let width = |c: usize| rows.iter().map(|r| r[c].len()).max().unwrap_or(0);
        let line: String = columns.iter().map(|&c| format!("{:w$}   ", row[c], w = width(c))).collect();
        println!("{}", line.trim_end());
    }
    Ok(0)
}

fn short_id(image: &Image) -> String {
    image.id.trim_start_matches("sha256:").get(..12).unwrap_or(&image.id).to_owned()
}

#[derive(clap::Args)]
pub(super) struct TagArgs {
    /// The image, by name or id.
    image: String,
    /// The name that it is to have as well.
    name: String,
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  podctl save -o app.tar app:1              # podctl load, docker load, skopeo copy oci-archive:app.tar …
  podctl save app:1 | ssh other podctl load")]
pub(super) struct SaveArgs {
    /// The images, by name or id.
    #[arg(required = true)]
    images: Vec<String>,
    /// The file; standard output else.
    #[arg(short, long, default_value = "-")]
    output: PathBuf,
    /// `oci-archive`, which docker reads as well.
    #[arg(long, default_value = "oci-archive", value_parser = ["oci-archive"])]
    format: String,
}

#[derive(clap::Args)]
pub(super) struct HistoryArgs {
    /// The image, by name or id.
    image: String,
    /// Print the layers' digests only.
    #[arg(short, long)]
    quiet: bool,
    /// Print commands, comments and digests whole.
    #[arg(long)]
    no_trunc: bool,
}

/// Images as a group of commands, as docker and podman have it.
#[derive(clap::Subcommand)]
pub(super) enum ImageCommand {
    /// List images.
    #[command(visible_alias = "list")]
    Ls(ListArgs),
    /// Fetch images.
    Pull(PullArgs),
    /// Remove images.
    #[command(visible_alias = "remove")]
    Rm(RemoveArgs),
    /// Remove images without a tag, or with --all those that no pod uses.
    Prune(pruning::PruneArgs),
    /// Load images from an archive.
    Load(LoadArgs),
    /// Write images into an archive.
    Save(SaveArgs),
    /// Give an image one name more.
    Tag(TagArgs),
    /// Show how an image was built: commands and layers.
    History(HistoryArgs),
}

pub(super) fn run(command: &ImageCommand, home: &Home) -> Result<i32, Error> {
    match command {
        ImageCommand::Ls(args) => list(args, home),
        ImageCommand::Pull(args) => pull(args, home),
        ImageCommand::Rm(args) => remove(args, home),
        ImageCommand::Prune(args) => pruning::prune_images(args, home),
        ImageCommand::Load(args) => load(args, home),
        ImageCommand::Save(args) => save_images(args, home),
        ImageCommand::Tag(args) => tag_image(args, home),
        ImageCommand::History(args) => show_history(args, home),
    }
}

pub(super) fn tag_image(args: &TagArgs, home: &Home) -> Result<i32, Error> {
    open_engine(home)?.tag_image(&args.image, &args.name)?;
    Ok(0)
}

pub(super) fn save_images(args: &SaveArgs, home: &Home) -> Result<i32, Error> {
    if args.output.as_os_str() == "-" && std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        return Err(Error::contradiction(
            "an archive is not for a terminal: name a file with -o, or redirect",
        ));
    }
    open_engine(home)?.save_images(&args.images, &args.output)?;
    Ok(0)
}

/// Shows how an image was built, the last step first: the commands, and the layers that they made.
pub(super) fn show_history(args: &HistoryArgs, home: &Home) -> Result<i32, Error> {
    let engine = Engine::over(home);
    let missing =
        || Error::absent(format!("image {:?} is not here: `podctl images` lists those that are", args.image));
    let image = find_image(&engine, &args.image)?.ok_or_else(missing)?;
    let now = k8s_openapi::jiff::Timestamp::now().as_second();
    let mut rows = vec![["LAYER", "CREATED", "CREATED BY", "COMMENT"].map(str::to_owned).to_vec()];
    for step in list_steps(&image).iter().rev() {
        let layer = step.layer.as_deref().unwrap_or("<none>");
        if args.quiet {
            println!("{layer}");
            continue;
        }
        let shown = match args.no_trunc {
            true => layer,
            false => layer.strip_prefix("sha256:").and_then(|hex| hex.get(..12)).unwrap_or(layer),
        };
        let created = step.created.as_deref().and_then(read_time).or_else(|| read_creation_time(&image));
        let age = created.map_or("N/A".to_owned(), |at| time_ago(now - at));
        let words = |text: &str, most: usize| match args.no_trunc {
            true => join_lines(text),
            false => shorten_text(&join_lines(text), most),
        };
        rows.push(vec![shown.to_owned(), age, words(&step.created_by, 60), words(&step.comment, 40)]);
    }
    if !args.quiet {
        print_table(&rows);
    }
    Ok(0)
}

/// The steps of an image's build; of one that was fetched without them, its layers.
fn list_steps(image: &Image) -> Vec<BuildStep> {
    if !image.build_steps.is_empty() {
        return image.build_steps.clone();
    }
    let name = |path: &PathBuf| format!("sha256:{}", path.file_name().unwrap_or_default().to_string_lossy());
    let step = |path| BuildStep { layer: Some(name(path)), ..BuildStep::default() };
    image.layers.iter().map(step).collect()
}

/// Returns a text of a builder's as one line of a table, without what a terminal would take for its own.
fn join_lines(text: &str) -> String {
    show_controls(&text.split_whitespace().collect::<Vec<_>>().join(" ")).into_owned()
}

/// Cuts a text that is longer than so many characters, as docker does.
fn shorten_text(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some(_) => text.chars().take(most - 1).chain(['…']).collect(),
        None => text.to_owned(),
    }
}

/// In Docker's words.
fn time_ago(seconds: i64) -> String {
    const UNITS: [(i64, &str); 6] = [
        (31_536_000, "year"),
        (2_592_000, "month"),
        (604_800, "week"),
        (86_400, "day"),
        (3600, "hour"),
        (60, "minute"),
    ];
    match UNITS.iter().find(|(length, _)| seconds >= *length) {
        Some((length, unit)) => {
            let n = seconds / length;
            format!("{n} {unit}{} ago", if n == 1 { "" } else { "s" })
        }
        None => "less than a minute ago".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_builders_words_are_one_line_that_is_cut() {
        assert_eq!(join_lines("RUN a \\\n\t && b\u{1b}[2J"), "RUN a \\ && b^[[2J");
        assert_eq!(shorten_text("abcdef", 6), "abcdef");
        assert_eq!(shorten_text("äbcdefg", 6), "äbcde…");
    }

    #[test]
    fn ages_are_in_dockers_words() {
        for (seconds, words) in
            [(5, "less than a minute ago"), (60, "1 minute ago"), (1_209_600, "2 weeks ago")]
        {
            assert_eq!(time_ago(seconds), words);
        }
    }
}
