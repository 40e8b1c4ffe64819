//! The host's side of root's network: a link from the pods' namespace to the host's, its routes, and
//! podctl's own table in the host's packet filter.
//!
//! Nothing that is not podctl's is changed but the forwarding of links (see [`forwarding`]), which is put
//! back. Whoever changes any of it holds the lock of the network namespace, for there may be several networks.
//! The pods' namespace takes the link with it when it goes; a table without its link is left over.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Write},
    net::{Ipv4Addr, Ipv6Addr, UdpSocket},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    net::if_::if_nametoindex,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, setns},
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, connect, recv, socket,
    },
};

use super::{
    address_range::{LINK_GATEWAY, Range},
    forwarding::{self, Switch},
    netlink::Netlink,
    nft::{self, Hook, Part},
};

/// Tells how the host's ends of links, and tables, are called: this and the range's number.
pub const LINK: &str = "podctl";
/// The pods' namespace's end.
pub const INNER: &str = "host";
/// The inner end's address for one link.
const INNER_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
/// The address of nobody (RFC 5737), by which is tried whether the host forwards.
const NOBODY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The time for which a packet may take through the host's packet filter, on a machine that is busy.
const PATIENCE: Duration = Duration::from_millis(500);
/// The time when the neighbour is asked for again, in milliseconds. The kernel's second is too long where
/// the first question was lost because a link was not up altogether.
const ASK_AGAIN: &str = "100";

/// The network's place on the host.
#[derive(Debug)]
pub struct Host {
    /// The link and the table.
    name: String,
    /// Another link of that name is somebody else's.
    index: u32,
    range: Range,
    /// The pods' namespace.
    namespace: OwnedFd,
    /// The place where what there is to sweep is written down; locked as long as this process lives.
    record: (PathBuf, File),
    /// Holds what was noted last: somebody may empty the whole packet filter.
    noted: Mutex<BTreeSet<Switch>>,
    gone: AtomicBool,
}

/// Takes a range and the link that stands for it, from the host's namespace.
///
/// # Errors
/// The kernel's: mostly that this is not for ordinary users.
pub fn claim(host: &Netlink, ranges: impl Iterator<Item = Range>, pods: &OwnedFd) -> io::Result<Range> {
    for range in ranges {
        match host.add_veth(&name(range), INNER, pods.as_fd()) {
            Err(e) if e.raw_os_error() == Some(libc::EEXIST) => {}
            done => return done.map(|()| range),
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

fn name(range: Range) -> String {
    format!("{LINK}{}", range.number())
}

/// Sets up the pods' end, from the pods' namespace.
///
/// # Errors
/// The kernel's.
pub fn set_up_inside(range: Range) -> io::Result<()> {
    let route = Netlink::open(SockProtocol::NetlinkRoute)?;
    let link = if_nametoindex(INNER)?;
    let [gateway, own] = range.uplink_addresses();
    // A second more until an absent pod is noticed, where it cannot be set.
    let _ = std::fs::write(format!("/proc/sys/net/ipv4/neigh/{INNER}/retrans_time_ms"), ASK_AGAIN);
    route.up(link)?;
    route.address(link, own.into())?;
    route.route((gateway.into(), 32), None, link)?;
    route.route((Ipv4Addr::UNSPECIFIED.into(), 0), Some(gateway.into()), link)?;
    // What is for a pod that is not there must not go out and come back.
    let [pods, pods_v6] = range.whole();
    route.add_unreachable(pods)?;
    if route.address(link, INNER_LINK_LOCAL.into()).is_ok() {
        // Where the kernel has no IPv6 there is none to keep in or to let out.
        let _ = route.add_unreachable(pods_v6);
        let _ = route.route((range.host_v6(), 128), Some(LINK_GATEWAY.into()), link);
    }
    Ok(())
}

impl Host {
    /// The place that was claimed for the range, if it still is there; asked in the host's namespace.
    pub fn found(range: Range, namespace: OwnedFd, record: PathBuf) -> Option<Host> {
        let name = name(range);
        let index = if_nametoindex(name.as_str()).ok()?;
        let mut file = File::options().create(true).truncate(true).write(true).open(&record).ok()?;
        file.write_all(format!("{name} {index}").as_bytes()).ok()?;
        file.lock().ok()?;
        let record = (record, file);
        Some(Host {
            name,
            index,
            range,
            namespace,
            record,
            noted: Mutex::default(),
            gone: AtomicBool::new(false),
        })
    }

    /// Sets up the host's end and tries whether packets pass. `v6` says whether the pods have IPv6. Gives what does
    /// not work all the same.
    ///
    /// # Errors
    /// Why pods do not reach the outside this way.
    pub fn set_up(&self, v6: bool) -> Result<Option<String>, String> {
        let route = Netlink::open(SockProtocol::NetlinkRoute).map_err(words("netlink"))?;
        let v6 = v6 && self.links(&route, v6).map_err(words("the link to the host"))?;
        self.refresh(v6, true)?;
        let missing = v6 && !forwarding::can_v6();
        if v6 && !missing {
            self.v6_inside().map_err(words("the route for IPv6"))?;
        }
        let outside = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))
            .is_ok_and(|s| s.connect((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9)).is_ok());
        Ok((missing && outside).then(|| {
            "pods reach the outside over IPv4 alone: this kernel forwards IPv6 only when it does so for all links; `sudo sysctl net.ipv6.conf.all.forwarding=1` allows it".into()
        }))
    }

    /// Gives whether the host's end has IPv6.
    fn links(&self, route: &Netlink, v6: bool) -> io::Result<bool> {
        let [own, inner] = self.range.uplink_addresses();
        let [whole, whole_v6] = self.range.whole();
        route.up(self.index)?;
        ignore_existing(route.address(self.index, own.into()))?;
        ignore_existing(route.route((inner.into(), 32), None, self.index))?;
        ignore_existing(route.route(whole, Some(inner.into()), self.index))?;
        if !v6 || ignore_existing(route.address(self.index, LINK_GATEWAY.into())).is_err() {
            return Ok(false);
        }
        // Else what the host says of a packet for nowhere would have no sender.
        ignore_existing(route.address(self.index, self.range.host_v6()))?;
        ignore_existing(route.route(whole_v6, Some(INNER_LINK_LOCAL.into()), self.index))?;
        Ok(true)
    }

    fn v6_inside(&self) -> io::Result<()> {
        self.run_inside(|| {
            let route = Netlink::open(SockProtocol::NetlinkRoute)?;
            let link = if_nametoindex(INNER)?;
            ignore_existing(route.route((Ipv6Addr::UNSPECIFIED.into(), 0), Some(LINK_GATEWAY.into()), link))
        })
    }

    /// Runs something short in the pods' namespace.
    fn run_inside<T: Send>(&self, job: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let entered = || setns(&self.namespace, CloneFlags::CLONE_NEWNET).map_err(io::Error::from);
        thread::scope(|scope| {
            let thread = thread::Builder::new().spawn_scoped(scope, || entered().and_then(|()| job()))?;
            thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread has panicked")))
        })
    }

    /// Makes the table and the forwarding what they should be now, and tries whether packets pass. `anew` is for a
    /// table that somebody else may have made.
    ///
    /// # Errors
    /// Why pods do not reach the outside this way.
    fn refresh(&self, v6: bool, anew: bool) -> Result<(), String> {
        let filter = Netlink::open(SockProtocol::NetlinkNetFilter).map_err(words("netlink"))?;
        {
            let _lock = lock().map_err(words("the lock of the host's network"))?;
            if self.gone.load(Ordering::Relaxed) || if_nametoindex(self.name.as_str()) != Ok(self.index) {
                return Err("the link to the host is gone".into());
            }
            let tables = Tables::of_podctl(&filter).map_err(words("nftables"))?;
            for table in tables.left().filter(|table| *table != self.name) {
                filter.send(&nft::remove(table)).map_err(words("nftables"))?;
            }
            let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
            let known = &tables.noted | &*noted;
            let switches =
                forwarding::wanted(v6 && forwarding::can_v6(), &known).map_err(words("the host's links"))?;
            noted.clone_from(&switches);
            if anew || !tables.has(&self.name, &switches) {
                let notes: Vec<String> = switches.iter().map(Switch::note).collect();
                let rules = rules(&self.name, self.range, &switches);
                filter.send(&nft::replace(&self.name, &notes, &rules)).map_err(words("nftables"))?;
            }
            let own = [false, true].map(|v6| Switch { link: self.name.clone(), v6 });
            let own = own.iter().filter(|s| !s.v6 || (v6 && forwarding::can_v6()));
            for switch in own.chain(&switches) {
                let link = switch.link.as_str();
                switch.turn_on().map_err(|e| format!("forwarding of {link} cannot be turned on: {e}"))?;
            }
        }
        self.passes(&filter)
    }

    /// Sends a packet that the table lets go no further than to its end, behind everybody else's rules.
    fn passes(&self, filter: &Netlink) -> Result<(), String> {
        let reaches = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|s| s.connect((NOBODY, 9)));
        if reaches.is_err() {
            // Without a route there is nothing to be tried; there may be one later.
            return Ok(());
        }
        let counted = || {
            let rules = filter.list(nft::list_rules(&self.name, Hook::Exit)).map_err(words("nftables"))?;
            Ok::<u64, String>(rules.iter().filter_map(|rule| nft::read_counter(rule)).sum())
        };
        let before = counted()?;
        self.run_inside(ask_neighbour).map_err(words("the pods' namespace"))?;
        let began = Instant::now();
        while counted()? == before {
            if began.elapsed() > PATIENCE {
                return Err(format!(
                    "the host's firewall drops what it should forward for pods; `sudo iptables -I FORWARD -i {LINK}+ -j ACCEPT` and `-o {LINK}+` (with Docker, in its chain DOCKER-USER) allow it"
                ));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Follows the host's addresses, rules and forwarding. Returns when pods do not reach the outside this way any more.
    pub fn watch(&self, v6: bool, changes: &Changes) -> String {
        loop {
            changes.wait();
            if let Err(why) = self.refresh(v6, false) {
                return why;
            }
        }
    }

    /// Takes everything away.
    pub fn leave(&self) {
        let Ok(_lock) = lock() else { return };
        self.gone.store(true, Ordering::Relaxed);
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        // What stays is in the record, for the next sweep; a record that stays tells of what is gone.
        if remove(&self.name, Some(self.index), &noted).is_ok() {
            let _ = std::fs::remove_file(&self.record.0);
        }
    }
}

/// Hears of changes on the host.
#[derive(Debug)]
pub struct Changes([OwnedFd; 2]);

impl Changes {
    /// Begins now.
    ///
    /// # Errors
    /// Those of socket(2).
    pub fn listen() -> io::Result<Changes> {
        const ADDRESSES: u32 = (libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR) as u32;
        /// Switches of links that were turned by others: `RTNLGRP_IPV4_NETCONF`, `RTNLGRP_IPV6_NETCONF`.
        const SWITCHES: u32 = 1 << 23 | 1 << 24;
        /// `NFNLGRP_NFTABLES`.
        const TABLES: u32 = 1 << 6;
        let links = Netlink::listen(SockProtocol::NetlinkRoute, ADDRESSES | SWITCHES)?;
        Ok(Changes([links, Netlink::listen(SockProtocol::NetlinkNetFilter, TABLES)?]))
    }

    fn wait(&self) {
        let mut fds = self.0.each_ref().map(|s| PollFd::new(s.as_fd(), PollFlags::POLLIN));
        // Interrupted or not, what changed is looked at.
        let _ = poll(&mut fds, PollTimeout::NONE);
        // Changes come in swarms.
        thread::sleep(Duration::from_millis(50));
        self.0.iter().for_each(drain);
    }
}

/// Takes away what the network of that record has left, if there is one.
pub fn sweep(record: &Path) {
    if let Ok(text) = std::fs::read_to_string(record)
        && let Ok(_lock) = lock()
    {
        let found = text.split_once(' ');
        let removed =
            found.map_or(Ok(()), |(name, index)| remove(name, index.parse().ok(), &BTreeSet::new()));
        // What could not be removed now is for the next sweep; a record that stays tells of what is gone.
        if removed.is_ok() {
            let _ = std::fs::remove_file(record);
        }
    }
}

/// Removes a link, unless it is another one, and its table; with the last table, forwarding is as it was. What its
/// notes say is `noted` as well.
fn remove(name: &str, index: Option<u32>, noted: &BTreeSet<Switch>) -> io::Result<()> {
    let there = if_nametoindex(name).ok();
    if there.is_some() && there != index {
        return Ok(());
    }
    if let Some(index) = there {
        Netlink::open(SockProtocol::NetlinkRoute)?.delete(index)?;
    }
    let filter = Netlink::open(SockProtocol::NetlinkNetFilter)?;
    let tables = Tables::of_podctl(&filter)?;
    if tables.all.iter().all(|(other, _)| other == name) {
        (&tables.noted | noted).iter().for_each(Switch::turn_off);
    }
    if tables.all.iter().any(|(other, _)| other == name) {
        filter.send(&nft::remove(name))?;
    }
    Ok(())
}

/// The tables of podctl's in the host's packet filter.
#[derive(Debug, Default)]
struct Tables {
    /// Each with its chains.
    all: std::collections::BTreeMap<String, BTreeSet<String>>,
    /// All their notes.
    noted: BTreeSet<Switch>,
}

impl Tables {
    fn of_podctl(filter: &Netlink) -> io::Result<Tables> {
        let mut tables = Tables::default();
        for (table, chain) in filter.list(nft::list_chains())?.iter().filter_map(|answer| nft::chain(answer))
        {
            if table.strip_prefix(LINK).is_some_and(|n| n.parse::<u8>().is_ok()) {
                tables.noted.extend(Switch::of_note(&chain));
                tables.all.entry(table).or_default().insert(chain);
            }
        }
        Ok(tables)
    }

    /// Those whose link is gone: their networks were killed with their directories.
    fn left(&self) -> impl Iterator<Item = &str> {
        self.all.keys().map(String::as_str).filter(|name| if_nametoindex(*name).is_err())
    }

    /// Tells whether the table is there, with these notes and no others.
    fn has(&self, table: &str, switches: &BTreeSet<Switch>) -> bool {
        self.all.get(table).is_some_and(|chains| {
            let noted: BTreeSet<Switch> = chains.iter().filter_map(|c| Switch::of_note(c)).collect();
            noted == *switches
        })
    }
}

/// The rules on the host. Packets of pods go everywhere; to pods go answers, and what was redirected there.
fn rules(link: &str, range: Range, switches: &BTreeSet<Switch>) -> Vec<(Hook, Vec<Part>)> {
    let from_pods = || Part::In(link.to_owned());
    let to_pods = || Part::Out(link.to_owned());
    let [_, own] = range.uplink_addresses();
    let mut rules = vec![
        (Hook::Exit, vec![Part::From(own.into()), Part::To(NOBODY.into()), Part::Count, Part::Drop]),
        (Hook::Forward, vec![from_pods(), Part::Clamp]),
        (Hook::Forward, vec![to_pods(), Part::Known, Part::Accept]),
        (Hook::Forward, vec![to_pods(), Part::Redirected, Part::Accept]),
        (Hook::Forward, vec![to_pods(), Part::Drop]),
    ];
    for (base, prefix) in range.whole() {
        let length = usize::from(prefix) / 8;
        if base.is_ipv4() {
            rules.push((Hook::Entry, vec![from_pods(), Part::FromElsewhere(base, length), Part::Drop]));
        }
        rules.push((
            Hook::Postrouting,
            vec![Part::FromRange(base, length), Part::OutByNone(LINK), Part::Masquerade],
        ));
    }
    for switch in switches {
        let family = if switch.v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let parts =
            vec![Part::In(switch.link.clone()), Part::Like(family), Part::OutByNone(LINK), Part::Drop];
        rules.push((Hook::Forward, parts));
    }
    rules
}

/// Opens a connection to nobody and gives it up.
fn ask_neighbour() -> io::Result<()> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    use std::os::fd::AsRawFd;
    let to = SockaddrIn::from(std::net::SocketAddrV4::new(NOBODY, 443));
    match connect(fd.as_raw_fd(), &to) {
        // A firewall may say so at once.
        Ok(()) | Err(Errno::EINPROGRESS | Errno::ECONNREFUSED | Errno::EHOSTUNREACH | Errno::ENETUNREACH) => {
            Ok(())
        }
        Err(e) => Err(e.into()),
    }
}

fn drain(socket: &OwnedFd) {
    use std::os::fd::AsRawFd;
    let mut part = [0; 8192];
    loop {
        match recv(socket.as_raw_fd(), &mut part, MsgFlags::MSG_DONTWAIT) {
            Ok(_) | Err(Errno::ENOBUFS | Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// Whoever changes the host's network for pods holds this; it is one a network namespace.
fn lock() -> io::Result<File> {
    let namespace = File::open("/proc/thread-self/ns/net")?;
    namespace.lock()?;
    Ok(namespace)
}

/// Takes what is there already for made.
fn ignore_existing(done: io::Result<()>) -> io::Result<()> {
    done.or_else(|e| if e.raw_os_error() == Some(libc::EEXIST) { Ok(()) } else { Err(e) })
}

fn words<E: std::fmt::Display>(step: &'static str) -> impl FnOnce(E) -> String {
    move |e| format!("{step}: {e}")
}
