//! What nothing uses any more, said before it is removed: for `image prune`, `volume prune` and `system prune`.

use crate::{
    cli::{Error, io, print, print_error},
    engine::{Engine, ImageErrorKind, PodHandle},
    pod::ObjectKind,
    state::{Home, Liveness, PodDir, VolumeDir},
};

/// Tells how much is asked before something is removed.
#[derive(clap::Args)]
pub(super) struct PruneArgs {
    /// Images that no pod uses as well, and not only those without a tag.
    #[arg(short, long)]
    all: bool,
    /// Do not ask.
    #[arg(short, long)]
    force: bool,
    /// Say what would be freed, and remove nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Holds what would be removed.
#[derive(Default)]
struct Plan {
    pods: Vec<PodDir>,
    images: Vec<podctl_images::Image>,
    volumes: Vec<VolumeDir>,
}

pub(super) fn prune_images(args: &PruneArgs, home: &Home) -> Result<i32, Error> {
    let engine = Engine::over(home);
    let plan = Plan { images: find_images(&engine, args.all)?, ..Plan::default() };
    carry_out(&plan, args, &engine, home)
}

/// Removes pods that have ended, images, and volumes where those are meant.
///
/// # Errors
/// What cannot be listed or read; what cannot be removed is shown, and is an exit code of 1.
pub(super) fn prune_all(home: &Home, args: &PruneArgs, with_volumes: bool) -> Result<i32, Error> {
    let engine = Engine::over(home);
    let pods = home.pods()?.into_iter().filter(|dir| dir.read_liveness() == Liveness::Ended).collect();
    let volumes = match with_volumes {
        true => home.volumes()?.into_iter().filter(|volume| volume.lock(true).is_ok()).collect(),
        false => Vec::new(),
    };
    carry_out(&Plan { pods, images: find_images(&engine, args.all)?, volumes }, args, &engine, home)
}

/// Removes volumes that no pod uses, of one namespace.
pub(super) fn prune_volumes(home: &Home, namespace: &str, force: bool, dry_run: bool) -> Result<i32, Error> {
    let engine = Engine::over(home);
    let own = home.volumes()?.into_iter().filter(|volume| volume.namespace.as_str() == namespace);
    let volumes = own.filter(|volume| volume.lock(true).is_ok()).collect();
    let args = PruneArgs { all: false, force, dry_run };
    carry_out(&Plan { volumes, ..Plan::default() }, &args, &engine, home)
}

/// Images that may go: those without a tag, or all. Those that a pod uses stay; their removal is refused.
fn find_images(engine: &Engine, all: bool) -> Result<Vec<podctl_images::Image>, Error> {
    let mut images = engine.images()?;
    let has_tag = |image: &podctl_images::Image| {
        let name = image.reference.split('@').next().unwrap_or_default();
        let tagged = name.rsplit('/').next().is_some_and(|last| last.contains(':'));
        tagged && !name.starts_with("localhost/loaded:")
    };
    images.retain(|image| all || !has_tag(image));
    Ok(images)
}

fn carry_out(plan: &Plan, args: &PruneArgs, engine: &Engine, home: &Home) -> Result<i32, Error> {
    let count = plan.pods.len() + plan.images.len() + plan.volumes.len();
    if count == 0 {
        println!("there is nothing to remove");
        return Ok(0);
    }
    println!("{}:", if args.dry_run { "these would be removed" } else { "these will be removed" });
    plan.pods.iter().for_each(|dir| println!("  pod {}/{}, which has ended", dir.namespace, dir.name));
    for image in &plan.images {
        println!(
            "  image {} ({}), unless a pod uses it",
            image.reference,
            indicatif::DecimalBytes(image.size)
        );
    }
    for volume in &plan.volumes {
        println!("  volume {}/{} with the files in it", volume.namespace, volume.name);
    }
    if args.dry_run {
        return Ok(0);
    }
    if !args.force {
        print("Do you want to continue? (y/N): ");
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).map_err(io("cannot read the answer"))?;
        if !answer.trim().eq_ignore_ascii_case("y") {
            println!("nothing was removed");
            return Ok(0);
        }
    }
    let (mut code, mut freed) = (0, 0);
    for dir in &plan.pods {
        match PodHandle::of(home, dir).delete(None) {
            Ok(()) => println!("removed pod {}/{}", dir.namespace, dir.name),
            Err(e) => {
                print_error(&e.into());
                code = 1;
            }
        }
    }
    for volume in &plan.volumes {
        match engine.delete_volume(&volume.namespace, &volume.name) {
            Ok(_) => println!(
                "removed {} {}/{}",
                ObjectKind::PersistentVolumeClaim.singular(),
                volume.namespace,
                volume.name
            ),
            Err(e) => {
                print_error(&e.into());
                code = 1;
            }
        }
    }
    for image in &plan.images {
        match engine.remove_image(&image.reference, true) {
            Ok(gone) => {
                freed += gone.iter().map(|image| image.size).sum::<u64>();
                gone.iter().for_each(|image| println!("removed image {}", image.reference));
            }
            Err(e) if e.kind == ImageErrorKind::InUse || e.kind == ImageErrorKind::NotFound => {}
            Err(e) => {
                print_error(&e.into());
                code = 1;
            }
        }
    }
    println!("Total reclaimed space of images: {}", indicatif::DecimalBytes(freed));
    Ok(code)
}
