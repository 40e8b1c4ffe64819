//! Requests and limits in the runtime spec's words, as the kubelet turns them (R-RES-1): for a container, and for the
//! pod around its containers.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use oci_spec::runtime::{
    LinuxCpuBuilder, LinuxHugepageLimitBuilder, LinuxMemoryBuilder, LinuxPidsBuilder, LinuxResources,
    LinuxResourcesBuilder,
};

use super::{Error, container_spec::check_built};
use crate::pod::quantity::quantity_text;
use crate::pod::resources::{
    Amounts, effective_huge_pages, effective_limits, effective_requests, enforced_limits, read_huge_pages,
    read_limits, read_requests,
};

/// Processes and threads of a whole pod: a fork bomb stays inside of it.
pub const PIDS: i64 = 4096;

/// The controller of huge pages.
pub const HUGE_PAGES: &str = "hugetlb";
const HUGE_PAGES_OF_SIZE: &str = "hugepages-";

/// Returns the weight of a request of cpu. A container without one gets next to nothing where others of its pod have requests, as on a
/// cluster. A pod without any keeps the weight of every process: on a cluster all else is accounted for, on one
/// machine it would starve beside whatever its user does.
fn cpu_shares(milli: u64) -> u64 {
    (milli.saturating_mul(1024) / 1000).clamp(2, 262_144)
}

/// Returns a container's requests and limits.
///
/// # Errors
/// [`Error::Config`], which a checked pod never gives.
pub fn of_container(spec: &PodSpec, container: &Container) -> Result<LinuxResources, Error> {
    let resources = container.resources.as_ref();
    let mut own = read_requests(resources);
    if effective_requests(spec).cpu.is_some() {
        own.cpu.get_or_insert(0);
    }
    let huge = read_huge_pages(resources);
    let mut words = words(own, enforced_limits(spec, container), &huge, None)?;
    if words.memory().and_then(|memory| memory.swap()).is_none() {
        // No container has swap, limited or not, as the kubelet has it.
        words.set_unified(Some([("memory.swap.max".to_owned(), "0".to_owned())].into()));
    }
    Ok(words)
}

/// The pod's: what all of its containers may use together.
///
/// # Errors
/// As [`of_container`].
pub fn of_pod(spec: &PodSpec) -> Result<LinuxResources, Error> {
    words(effective_requests(spec), effective_limits(spec), &effective_huge_pages(spec), Some(PIDS))
}

/// Lists what a pod may not use: huge pages of the sizes that it does not ask for.
///
/// # Errors
/// As [`of_container`].
pub fn without_huge_pages_but(spec: &PodSpec) -> Result<LinuxResources, Error> {
    let asked = effective_huge_pages(spec);
    let sizes = list_huge_page_sizes().filter(|bytes| !asked.contains_key(bytes));
    words(Amounts::default(), Amounts::default(), &sizes.map(|bytes| (bytes, 0)).collect(), None)
}

/// The sizes of huge pages of this machine, in bytes: `/sys/kernel/mm/hugepages/hugepages-2048kB` and its like.
fn list_huge_page_sizes() -> impl Iterator<Item = u64> {
    let all = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    all.filter_map(|entry| {
        let name = entry.file_name();
        let kib = name.to_str()?.strip_prefix(HUGE_PAGES_OF_SIZE)?.strip_suffix("kB")?;
        kib.parse::<u64>().ok().map(|kib| kib * 1024)
    })
}

/// The controllers without which the pod's limits are only words.
pub fn controllers(spec: &PodSpec) -> Vec<&'static str> {
    let all = spec.init_containers.iter().flatten().chain(&spec.containers);
    let own = all.map(|c| c.resources.as_ref()).chain([spec.resources.as_ref()]);
    let limits: Vec<Amounts> = own.map(read_limits).collect();
    let cpu = limits.iter().any(|l| l.cpu.is_some()).then_some("cpu");
    let memory = limits.iter().any(|l| l.memory.is_some()).then_some("memory");
    let huge = effective_huge_pages(spec).values().any(|bytes| *bytes > 0).then_some(HUGE_PAGES);
    cpu.into_iter().chain(memory).chain(huge).collect()
}

fn words(
    requests: Amounts,
    limits: Amounts,
    huge: &BTreeMap<u64, u64>,
    pids: Option<i64>,
) -> Result<LinuxResources, Error> {
    let bytes = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
    let mut memory = LinuxMemoryBuilder::default();
    if let Some(limit) = limits.memory.filter(|limit| *limit > 0) {
        // No swap beyond the limit, as the kubelet has it.
        memory = memory.limit(bytes(limit)).swap(bytes(limit));
    }
    if let Some(request) = requests.memory {
        memory = memory.reservation(bytes(request));
    }
    let mut cpu = LinuxCpuBuilder::default();
    if let Some(milli) = requests.cpu {
        cpu = cpu.shares(cpu_shares(milli));
    }
    if let Some(milli) = limits.cpu.filter(|milli| *milli > 0) {
        cpu = cpu.period(100_000u64).quota(bytes(milli.saturating_mul(100)).max(1000));
    }
    let mut resources =
        LinuxResourcesBuilder::default().memory(check_built(memory.build())?).cpu(check_built(cpu.build())?);
    let huge = huge.iter().map(|(page, limit)| {
        let size = quantity_text(*page).replace('i', "B");
        check_built(LinuxHugepageLimitBuilder::default().page_size(size).limit(bytes(*limit)).build())
    });
    resources = resources.hugepage_limits(huge.collect::<Result<Vec<_>, _>>()?);
    if let Some(pids) = pids {
        resources = resources.pids(check_built(LinuxPidsBuilder::default().limit(pids).build())?);
    }
    check_built(resources.build())
}
