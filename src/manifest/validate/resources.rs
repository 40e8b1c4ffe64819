//! Requests and limits: what the API server refuses, and what podctl cannot hand out (R-RES-1).

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, PodSpec, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};

use super::super::{Report, typed::entry};
use crate::pod::{
    quantity::{quantity_bytes, quantity_millis, quantity_text},
    resources::{HUGE_PAGES, container_requests},
};

/// Checks a container's requests and limits.
pub(super) fn container(container: &Container, path: &str, report: &mut Report<'_>) {
    let Some(resources) = &container.resources else { return };
    let path = format!("{path}.resources");
    for (at, name, quantity) in amounts(resources, &path) {
        match name {
            "cpu" | "memory" | "ephemeral-storage" => check_amount(name, quantity, &at, report),
            name if name.starts_with(HUGE_PAGES) => check_huge_pages(name, quantity, &at, report),
            name if name.contains('/') => {
                report.add_error(&at, format!("is not supported: this machine offers no resource {name:?}"));
            }
            name => report.add_error(
                &at,
                format!("Invalid value: {name:?}: must be a standard resource type or fully qualified (cpu, memory, ephemeral-storage)"),
            ),
        }
    }
    requests_within_limits(resources, &path, report);
    check_huge_pages_of(resources, &path, report);
}

/// The pod's own (`spec.resources`), which stand above those of its containers.
pub(super) fn pod(spec: &PodSpec, path: &str, report: &mut Report<'_>) {
    let Some(resources) = &spec.resources else { return };
    let own = format!("{path}.resources");
    for (at, name, quantity) in amounts(resources, &own) {
        match name {
            "cpu" | "memory" => check_amount(name, quantity, &at, report),
            name if name.starts_with(HUGE_PAGES) => check_huge_pages(name, quantity, &at, report),
            name => report.add_error(
                &at,
                format!("Unsupported value: {name:?}: supported values: \"cpu\", \"hugepages-\", \"memory\""),
            ),
        }
    }
    requests_within_limits(resources, &own, report);
    let asked = container_requests(spec);
    let least = [
        ("cpu", asked.cpu, asked.cpu.map(|milli| format!("{milli}m"))),
        ("memory", asked.memory, asked.memory.map(quantity_text)),
    ];
    for (name, least, text) in least {
        if let (Some(request), Some(least), Some(text)) = (value(&resources.requests, name), least, text)
            && request < least
        {
            let message = format!("must be greater than or equal to aggregate container requests of {text}");
            wrong(&resources.requests, name, &format!("{own}.requests"), &message, report);
        }
    }
    let init = spec.init_containers.iter().flatten().enumerate();
    let init = init.map(|(i, c)| (format!("{path}.initContainers[{i}]"), c));
    let apps = spec.containers.iter().enumerate().map(|(i, c)| (format!("{path}.containers[{i}]"), c));
    for (at, container) in init.chain(apps) {
        let Some(of_container) = container.resources.as_ref().map(|r| &r.limits) else { continue };
        for name in ["cpu", "memory"] {
            if let (Some(limit), Some(most)) = (value(of_container, name), value(&resources.limits, name))
                && limit > most
            {
                let pods = resources.limits.as_ref().map(|l| l[name].0.as_str()).unwrap_or_default();
                let message = format!("must be less than or equal to pod limits of {pods}");
                wrong(of_container, name, &format!("{at}.resources.limits"), &message, report);
            }
        }
    }
}

type List = Option<BTreeMap<String, Quantity>>;

/// Each limit and request; but not a request that is its limit, as one that is not written is.
fn amounts<'a>(
    resources: &'a ResourceRequirements,
    path: &str,
) -> impl Iterator<Item = (String, &'a str, &'a Quantity)> {
    let same = |name: &String, request: &Quantity| {
        resources.limits.as_ref().and_then(|limits| limits.get(name)) == Some(request)
    };
    let requests = resources.requests.iter().flatten().filter(move |(name, request)| !same(name, request));
    let (of_limits, of_requests) = (format!("{path}.limits"), format!("{path}.requests"));
    let limits = resources.limits.iter().flatten();
    let limits = limits.map(move |(name, quantity)| (entry(&of_limits, name), name.as_str(), quantity));
    limits.chain(requests.map(move |(name, quantity)| (entry(&of_requests, name), name.as_str(), quantity)))
}

fn check_amount(name: &str, quantity: &Quantity, path: &str, report: &mut Report<'_>) {
    if let Err(e) = quantity_bytes(&quantity.0) {
        report.add_error(path, format!("Invalid value: {:?}: {e}", quantity.0));
    } else if name != "cpu" && quantity_millis(&quantity.0).is_ok_and(|milli| milli % 1000 != 0) {
        // `128m` is not what it looks like; the API server says no more than that, too.
        report.warn(path, format!("fractional byte value {:?} is invalid, must be an integer", quantity.0));
    }
}

/// Checks an amount of huge pages: whole pages.
fn check_huge_pages(name: &str, quantity: &Quantity, path: &str, report: &mut Report<'_>) {
    let page =
        name.strip_prefix(HUGE_PAGES).and_then(|size| quantity_bytes(size).ok()).filter(|size| *size > 0);
    let Some(page) = page else {
        return report.add_error(
            path,
            format!("Invalid value: {name:?}: must name the size of a page, such as {HUGE_PAGES}2Mi"),
        );
    };
    match quantity_bytes(&quantity.0) {
        Ok(bytes) if bytes.is_multiple_of(page) => {}
        Ok(_) => report.add_error(
            path,
            format!("Invalid value: {:?}: must be a multiple of the page's size", quantity.0),
        ),
        Err(e) => report.add_error(path, format!("Invalid value: {:?}: {e}", quantity.0)),
    }
}

/// Checks that huge pages are not asked for beyond what is allowed, nor without memory or cpu, as the API server has it.
fn check_huge_pages_of(resources: &ResourceRequirements, path: &str, report: &mut Report<'_>) {
    let names = |list: &List| list.iter().flatten().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let (limits, requests) = (names(&resources.limits), names(&resources.requests));
    for name in requests.iter().filter(|name| name.starts_with(HUGE_PAGES)) {
        if !limits.contains(name) {
            report.add_error(
                &format!("{path}.limits"),
                format!("Required value: a limit of {name} must be set as well"),
            );
        } else if value(&resources.requests, name) != value(&resources.limits, name) {
            let limit = resources.limits.as_ref().map(|l| l[name].0.as_str()).unwrap_or_default();
            let message = format!("must be equal to {name} limit of {limit}");
            wrong(&resources.requests, name, &format!("{path}.requests"), &message, report);
        }
    }
    let mut all = limits.iter().chain(&requests);
    let huge = all.clone().any(|name| name.starts_with(HUGE_PAGES));
    if huge && !all.any(|name| name == "cpu" || name == "memory") {
        report.add_error(path, "Forbidden: HugePages require cpu or memory");
    }
}

fn requests_within_limits(resources: &ResourceRequirements, path: &str, report: &mut Report<'_>) {
    for name in resources.requests.iter().flat_map(|requests| requests.keys()) {
        if let (Some(asked), Some(most)) = (value(&resources.requests, name), value(&resources.limits, name))
            && asked > most
            && !name.starts_with(HUGE_PAGES)
        {
            let limit = resources.limits.as_ref().map(|l| l[name].0.as_str()).unwrap_or_default();
            let message = format!("must be less than or equal to {name} limit of {limit}");
            wrong(&resources.requests, name, &format!("{path}.requests"), &message, report);
        }
    }
}

fn wrong(list: &List, name: &str, path: &str, message: &str, report: &mut Report<'_>) {
    let text = list.as_ref().and_then(|l| l.get(name)).map(|q| q.0.as_str()).unwrap_or_default();
    report.add_error(&entry(path, name), format!("Invalid value: {text:?}: {message}"));
}

/// Thousandths of a CPU, or bytes.
fn value(list: &List, name: &str) -> Option<u64> {
    let text = &list.as_ref()?.get(name)?.0;
    match name {
        "cpu" => quantity_millis(text).ok(),
        _ => quantity_bytes(text).ok(),
    }
}

#[cfg(test)]
mod tests {
    use crate::manifest::{Source, load};

    fn said(spec: &str) -> String {
        let text = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {spec}\n");
        let found = match load(&[Source { name: "f".into(), text }]) {
            Ok(manifest) => manifest.warnings,
            Err(errors) => errors,
        };
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn r_res_1_what_cannot_be_handed_out_is_refused() {
        for (limits, words) in [
            ("hugepages-2Mi: 1Gi", "HugePages require cpu or memory"),
            ("memory: 1Gi, hugepages-2Mi: 3Mi", "must be a multiple of the page's size"),
            ("nvidia.com/gpu: 1", "offers no resource"),
            ("memory: 128m", "warning: spec.containers[0].resources.limits.memory: fractional byte value"),
        ] {
            let said = said(&format!(
                "{{containers: [{{name: a, image: b, resources: {{limits: {{{limits}}}}}}}]}}"
            ));
            assert!(said.contains(words), "{said}");
        }
        let fine = "{containers: [{name: a, image: b, resources: {limits: {ephemeral-storage: 1Gi}}}]}";
        assert_eq!(said(fine), "");
        let fine =
            "{containers: [{name: a, image: b, resources: {limits: {hugepages-2Mi: 0, memory: 1Gi}}}]}";
        assert_eq!(said(fine), "");
    }
}
