//! What `create` and `apply` keep, as `get` and `delete` see it: ConfigMaps, Secrets, claims, Services.

use std::time::Duration;

use k8s_openapi::{
    Resource,
    api::core::v1::{ConfigMap, PersistentVolumeClaim, PersistentVolumeClaimStatus, Secret, Service},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    jiff::Timestamp,
};
use serde_json::Value;

use super::{
    Error, Namespace,
    changes::{self, Changes},
    output::Output,
    services,
};
use crate::{
    engine::Engine,
    engine::{refresh, start::find_host_ip, sweep},
    manifest::{self, Manifest, Named, Source},
    pod::ObjectName,
    state::{self, Home, Kept},
    view::{self, age, selectors::Labels, tab_stops, yaml},
};

/// A kind of object that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    ConfigMap,
    Secret,
    Claim,
    Service,
    /// Where a Service leads, which nobody keeps.
    Endpoints,
    EndpointSlice,
}

/// The kinds by the words that people use, in kubectl's spelling.
const WORDS: &[(Kind, &[&str])] = &[
    (Kind::ConfigMap, &["configmap", "configmaps", "cm"]),
    (Kind::Secret, &["secret", "secrets"]),
    (Kind::Claim, &["persistentvolumeclaim", "persistentvolumeclaims", "pvc"]),
    (Kind::Service, &["service", "services", "svc"]),
    (Kind::Endpoints, &["endpoints", "ep"]),
    (Kind::EndpointSlice, &["endpointslice.discovery.k8s.io", "endpointslice", "endpointslices"]),
];

/// The kind that `KIND NAME…` or `KIND/NAME…` asks for, and the names; `None` for pods.
pub(super) fn asked(words: &[String]) -> Option<(Kind, Vec<String>)> {
    let of = |word: &str| WORDS.iter().find(|(_, words)| words.contains(&word)).map(|(kind, _)| *kind);
    let (first, rest) = words.split_first()?;
    if let Some(kind) = of(first) {
        return Some((kind, rest.to_vec()));
    }
    let kind = of(first.split_once('/')?.0)?;
    let plain = |word: &String| word.split_once('/').map_or(word.as_str(), |(_, name)| name).to_owned();
    Some((kind, words.iter().map(plain).collect()))
}

/// How `get` is to show objects.
pub(super) struct Shown<'a> {
    pub(super) output: Option<&'a str>,
    pub(super) template: Option<&'a str>,
    pub(super) headers: bool,
    /// With the kind before each name.
    pub(super) kinds: bool,
    /// Only those with these labels.
    pub(super) selector: Option<&'a str>,
    pub(super) all_namespaces: bool,
    /// In the order of what this JSONPath finds.
    pub(super) sort_by: Option<&'a str>,
    /// As they change, too.
    pub(super) watch: bool,
    pub(super) watch_only: bool,
}

/// How often it is looked whether objects have changed: only pods say so.
const LOOK: Duration = Duration::from_secs(1);

pub(super) fn get(
    home: &Home,
    namespace: &Namespace,
    kind: Kind,
    names: &[String],
    shown: &Shown<'_>,
) -> Result<i32, Error> {
    let name = |value: &Value| value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let present = || -> Result<Vec<Value>, Error> {
        let all = all(home, (!shown.all_namespaces).then_some(namespace), kind)?;
        let mut found = match names {
            [] => selected(all, shown.selector)?,
            names => names.iter().filter_map(|n| all.iter().find(|o| name(o) == *n)).cloned().collect(),
        };
        shown.sort_by.map_or(Ok(()), |path| changes::sort(&mut found, path))?;
        Ok(found)
    };
    let found = present()?;
    for wanted in names {
        if !found.iter().any(|o| name(o) == *wanted) {
            return Err(not_found(kind, wanted));
        }
    }
    let output = Output::parse(shown.output, shown.template)?;
    let wide = matches!(output, Output::Table { wide: true });
    let own = |o: &Value| o["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
    let row = |object: &Value| {
        let mut row = row(kind, object, wide);
        if shown.kinds {
            row[0].insert_str(0, &format!("{}/", singular(kind)));
        }
        shown.all_namespaces.then(|| own(object)).into_iter().chain(row).collect::<Vec<String>>()
    };
    let namespaces = shown.all_namespaces.then_some("NAMESPACE").into_iter();
    let head: Vec<String> = namespaces.chain(head(kind, wide).iter().copied()).map(Into::into).collect();
    if shown.watch {
        let key = |o: &Value| (own(o), name(o));
        let mut changes = Changes::new(output, head, &row, shown.headers, true);
        return changes.watch(home, Some(LOOK), found, shown.watch_only, &key, &present);
    }
    match output {
        Output::Name => found.iter().for_each(|o| println!("{}/{}", singular(kind), name(o))),
        Output::Table { .. } if found.is_empty() => match shown.all_namespaces {
            true => eprintln!("No resources found"),
            false => eprintln!("No resources found in {namespace} namespace."),
        },
        Output::Table { .. } => {
            let head = shown.headers.then_some(head).into_iter();
            super::print(&tab_stops::table(&head.chain(found.iter().map(row)).collect::<Vec<_>>()));
        }
        other => super::print(&other.print(&found, names.len() == 1, true, shown.headers)?),
    }
    Ok(0)
}

/// Those with the labels that `-l` asks for.
fn selected(mut all: Vec<Value>, selector: Option<&str>) -> Result<Vec<Value>, Error> {
    let labels = Labels::parse(selector.unwrap_or_default()).map_err(Error::Said)?;
    all.retain(|object| {
        let own = serde_json::from_value(object["metadata"]["labels"].clone()).ok();
        labels.matches(own.as_ref())
    });
    Ok(all)
}

/// The objects of a kind, of one namespace or of all.
/// Whether there is anything of that kind.
pub(super) fn any(home: &Home, namespace: Option<&Namespace>, kind: Kind) -> Result<bool, Error> {
    Ok(!all(home, namespace, kind)?.is_empty())
}

fn all(home: &Home, namespace: Option<&Namespace>, kind: Kind) -> Result<Vec<Value>, Error> {
    let namespaces = namespace.map_or_else(|| home.namespaces(), |n| Ok(vec![n.to_owned()]))?;
    let mut all = Vec::new();
    for namespace in &namespaces {
        match kind {
            Kind::ConfigMap => all.extend(whole::<ConfigMap>(home, namespace)?),
            Kind::Secret => all.extend(whole::<Secret>(home, namespace)?),
            Kind::Claim => all.extend(values(&claims(home, namespace)?)),
            Kind::Service => complain_of_damaged::<Service>(home, namespace)?,
            Kind::Endpoints | Kind::EndpointSlice => {}
        }
    }
    let seen = || services::all(home, namespace);
    let host = find_host_ip().map(|ip| ip.to_string());
    match kind {
        Kind::Service => all.extend(seen()?.iter().map(|s| view::service_table::object(s, host.as_deref()))),
        Kind::Endpoints => all.extend(seen()?.iter().filter_map(view::service_table::endpoints)),
        Kind::EndpointSlice => all.extend(seen()?.iter().flat_map(view::service_table::slices)),
        Kind::ConfigMap | Kind::Secret | Kind::Claim => {}
    }
    Ok(all)
}

/// The objects that can be read; of the others it is told what is wrong with them.
fn whole<T: Kept>(home: &Home, namespace: &Namespace) -> Result<Vec<Value>, Error> {
    complain_of_damaged::<T>(home, namespace)?;
    Ok(values(&home.objects::<T>(namespace)?))
}

fn complain_of_damaged<T: Kept>(home: &Home, namespace: &Namespace) -> Result<(), Error> {
    home.damaged_objects::<T>(namespace)?.into_iter().for_each(|e| super::complain(&e.into()));
    Ok(())
}

/// Prints an object as `json` or `yaml`.
pub(super) fn print(value: &Value, format: &str) -> Result<(), Error> {
    match format {
        "yaml" => super::print(&yaml::document(value)),
        _ => println!("{}", serde_json::to_string_pretty(value).map_err(|e| Error::Said(e.to_string()))?),
    }
    Ok(())
}

pub(super) fn delete(
    home: &Home,
    namespace: &Namespace,
    kind: Kind,
    names: &[String],
    (every, selector): (bool, Option<&str>),
    ignore_not_found: bool,
) -> Result<i32, Error> {
    let mut names = names.to_vec();
    if let (true, Some(selector)) = (names.is_empty(), selector) {
        let found = selected(all(home, Some(namespace), kind)?, Some(selector))?;
        names = found.iter().filter_map(|o| Some(o["metadata"]["name"].as_str()?.to_owned())).collect();
    } else if names.is_empty() && !every {
        let what = "resource(s) were provided, but no name was specified; name them, or use -l or --all";
        return Err(Error::Said(what.into()));
    }
    if every {
        names = match kind {
            Kind::ConfigMap => self::names(home.objects::<ConfigMap>(namespace)?),
            Kind::Secret => self::names(home.objects::<Secret>(namespace)?),
            Kind::Claim => claims(home, namespace)?.into_iter().filter_map(|c| c.metadata.name).collect(),
            Kind::Service => self::names(home.objects::<Service>(namespace)?),
            Kind::Endpoints | Kind::EndpointSlice => Vec::new(),
        };
    }
    let names = names.iter().map(|name| ObjectName::parse(name)).collect::<Result<Vec<_>, _>>()?;
    for name in &names {
        let gone = match kind {
            Kind::ConfigMap => forget_kept::<ConfigMap>(home, namespace, name)?,
            Kind::Secret => forget_kept::<Secret>(home, namespace, name)?,
            Kind::Claim => remove_volume(home, namespace, name)?,
            Kind::Service => services::forget(home, namespace, name)?,
            Kind::Endpoints | Kind::EndpointSlice => {
                let words = "is made from the pods that a Service selects; delete the Service instead";
                return Err(Error::Said(format!("{} \"{name}\" {words}", singular(kind))));
            }
        };
        match gone {
            true => println!("{} \"{name}\" deleted", singular(kind)),
            false if ignore_not_found => {}
            false => return Err(not_found(kind, name)),
        }
    }
    Ok(0)
}

/// Forgets an object, and tells the pods that refer to it; says whether there was one.
fn forget_kept<T: Kept>(home: &Home, namespace: &Namespace, name: &ObjectName) -> Result<bool, Error> {
    let gone = home.forget::<T>(namespace, name)?;
    if gone {
        refresh::tell_pods_of_removal::<T>(home, namespace.as_str(), name.as_str());
    }
    Ok(gone)
}

/// Forgets the ConfigMaps, Secrets and Services among what files name; says how many there were. Claims stay: what is
/// in their volumes is not in the files.
pub(super) fn forget(home: &Home, named: &[Named], dry: bool) -> Result<usize, Error> {
    let mut count = 0;
    for Named { kind, namespace, name } in named {
        let (kind, known) = match kind.as_str() {
            "ConfigMap" => (Kind::ConfigMap, home.object::<ConfigMap>(namespace, name)?.is_some()),
            "Secret" => (Kind::Secret, home.object::<Secret>(namespace, name)?.is_some()),
            "Service" => (Kind::Service, home.object::<Service>(namespace, name)?.is_some()),
            _ => continue,
        };
        if known && !dry {
            match kind {
                Kind::ConfigMap => forget_kept::<ConfigMap>(home, namespace, name)?,
                Kind::Service => services::forget(home, namespace, name)?,
                _ => forget_kept::<Secret>(home, namespace, name)?,
            };
        }
        if known {
            let how = if dry { " (dry run)" } else { "" };
            println!("{} \"{name}\" deleted{how}", singular(kind));
            count += 1;
        }
    }
    Ok(count)
}

/// Takes a local volume away with its files; says whether there was one.
pub(super) fn remove_volume(home: &Home, namespace: &Namespace, name: &ObjectName) -> Result<bool, Error> {
    let volume = home.volume(namespace, name);
    if volume.claim()?.is_none() {
        return Ok(false);
    }
    let _lock = volume.lock(true).map_err(|e| match e {
        state::Error::VolumeInUse { name } => {
            Error::Said(format!("volume {name:?} is in use by a pod; delete the pod first"))
        }
        e => e.into(),
    })?;
    sweep::remove_tree(&volume.path)?;
    Ok(true)
}

/// What pods may refer to beside their own files: the local store, and files that hold nothing else.
pub(super) fn stored(home: &Home, files: &[(Kind, &String)]) -> Result<Manifest, Error> {
    let mut stored = Engine::over(home).kept()?;
    for namespace in home.namespaces()? {
        complain_of_damaged::<ConfigMap>(home, &namespace)?;
        complain_of_damaged::<Secret>(home, &namespace)?;
    }
    for (kind, file) in files {
        let source = super::run::source(file)?;
        let found = manifest::load(&[source]).map_err(|all| super::run::refused(&all, &[(*file).clone()]))?;
        let fits = match kind {
            Kind::ConfigMap => !found.config_maps.is_empty() && found.secrets.is_empty(),
            _ => !found.secrets.is_empty() && found.config_maps.is_empty(),
        };
        if !fits || !found.pods.is_empty() || !found.jobs.is_empty() || !found.claims.is_empty() {
            let wanted = if *kind == Kind::ConfigMap { "ConfigMaps" } else { "Secrets" };
            return Err(Error::Said(format!("{file} must hold {wanted} and nothing else")));
        }
        // The first of a name is taken: what was asked for just now goes before what was kept.
        stored.config_maps.splice(0..0, found.config_maps);
        stored.secrets.splice(0..0, found.secrets);
    }
    Ok(stored)
}

/// Checks an object that a command makes as if it had come from a file of that name.
pub(super) fn check(name: String, object: &Value) -> Result<(), Error> {
    let wrong = |all: Vec<manifest::Diagnostic>| {
        let said: Vec<String> = all.iter().map(|d| format!("{}: {}", d.path, d.message)).collect();
        Error::Said(format!("cannot create {name}: {}", said.join("; ")))
    };
    let source = Source { name: name.clone(), text: object.to_string() };
    manifest::load(&[source]).map(drop).map_err(wrong)
}

fn claims(home: &Home, namespace: &Namespace) -> Result<Vec<PersistentVolumeClaim>, Error> {
    let mut claims = Vec::new();
    for volume in home.volumes()?.iter().filter(|v| v.namespace == *namespace) {
        if let Some(mut claim) = volume.claim()? {
            let spec = claim.spec.as_ref();
            claim.status = Some(PersistentVolumeClaimStatus {
                access_modes: spec.and_then(|s| s.access_modes.clone()),
                capacity: spec.and_then(|s| s.resources.as_ref()?.requests.clone()),
                phase: Some("Bound".into()),
                ..PersistentVolumeClaimStatus::default()
            });
            claims.push(claim);
        }
    }
    Ok(claims)
}

fn values<T: Resource + serde::Serialize>(objects: &[T]) -> Vec<Value> {
    objects.iter().map(|o| serde_json::to_value(o).unwrap_or_default()).collect()
}

fn names<T: Kept>(objects: Vec<T>) -> Vec<String> {
    let meta = |o: &T| -> ObjectMeta { o.metadata().clone() };
    objects.iter().filter_map(|o| meta(o).name).collect()
}

pub(super) fn singular(kind: Kind) -> &'static str {
    WORDS.iter().find(|(k, _)| *k == kind).map_or("", |(_, words)| words[0])
}

pub(super) fn not_found(kind: Kind, name: &str) -> Error {
    let plural = match kind {
        Kind::Endpoints => "endpoints".to_owned(),
        _ => format!("{}s", singular(kind)),
    };
    Error::Said(format!("{plural} \"{name}\" not found"))
}

fn head(kind: Kind, wide: bool) -> &'static [&'static str] {
    match kind {
        Kind::ConfigMap => &["NAME", "DATA", "AGE"],
        Kind::Secret => &["NAME", "TYPE", "DATA", "AGE"],
        Kind::Claim => &["NAME", "STATUS", "VOLUME", "CAPACITY", "ACCESS MODES", "STORAGECLASS", "AGE"],
        Kind::Service if wide => &["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE", "SELECTOR"],
        Kind::Service => &["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"],
        Kind::Endpoints => &["NAME", "ENDPOINTS", "AGE"],
        Kind::EndpointSlice => &["NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS", "AGE"],
    }
}

fn row(kind: Kind, object: &Value, wide: bool) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let name = text(&object["metadata"]["name"]);
    let count = |list: &str| object[list].as_object().map_or(0, serde_json::Map::len);
    let data = (count("data") + count("binaryData")).to_string();
    let age = since(&object["metadata"]["creationTimestamp"]);
    match kind {
        Kind::ConfigMap => vec![name, data, age],
        Kind::Secret => vec![name, text(&object["type"]), data, age],
        Kind::Claim => {
            let modes = object["spec"]["accessModes"].as_array().into_iter().flatten();
            let short = modes.map(|m| match m.as_str() {
                Some("ReadWriteOnce") => "RWO",
                Some("ReadOnlyMany") => "ROX",
                Some("ReadWriteMany") => "RWX",
                _ => "RWOP",
            });
            let modes = short.collect::<Vec<_>>().join(",");
            let size = text(&object["spec"]["resources"]["requests"]["storage"]);
            vec![name.clone(), "Bound".into(), name, size, modes, "local".into(), age]
        }
        Kind::Service => view::service_table::row(object, age, wide),
        Kind::Endpoints => view::service_table::endpoints_row(object, age),
        Kind::EndpointSlice => view::service_table::slice_row(object, age),
    }
}

/// The age of something made at that time, as kubectl words it.
pub(super) fn since(time: &Value) -> String {
    let made = time.as_str().and_then(|t| t.parse::<Timestamp>().ok());
    made.map_or_else(|| "<unknown>".into(), |t| age::worded(Timestamp::now().duration_since(t)))
}

/// Prints rows in columns.
pub(super) fn table(rows: &[Vec<String>]) {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |c: usize| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let line: String = row.iter().zip(&widths).map(|(cell, w)| format!("{cell:w$}   ")).collect();
        println!("{}", line.trim_end());
    }
}
