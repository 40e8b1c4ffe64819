//! The pods' resolver: answers for names of the network, and asks the host's resolvers for all others.
//!
//! It listens in the network's namespace and asks from the host's, so that a resolver on the host's
//! loopback works as any other. The host's resolv.conf is read for every question that leaves.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::spawn_local,
    time::timeout,
};

use super::{
    address_range::Addresses,
    dns_message::{self, Code, Data, Question, Record, kind},
    keeper::State,
    service_dns::Found,
};

/// The time for which one of the host's resolvers may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// The time for which one may take until the next is asked as well. Stub resolvers wait for five seconds,
/// and three are asked.
const HEAD_START: Duration = Duration::from_secs(1);
/// Names with fewer dots may lack a search domain, as in a cluster.
const DOTS: usize = 5;
/// An alias of an alias is followed so far.
const ALIASES: usize = 8;
/// A TCP connection without a question is closed.
const IDLE: Duration = Duration::from_secs(10);

/// Serves one address.
pub async fn serve(state: Rc<State>, udp: std::net::UdpSocket, tcp: std::net::TcpListener) -> io::Result<()> {
    let (udp, tcp) = (Rc::new(UdpSocket::from_std(udp)?), TcpListener::from_std(tcp)?);
    let streams = spawn_local(serve_tcp(state.clone(), tcp));
    let mut datagram = vec![0; 4096];
    loop {
        let Ok((length, peer)) = udp.recv_from(&mut datagram).await else { continue };
        let (state, udp, query) = (state.clone(), udp.clone(), datagram[..length].to_vec());
        spawn_local(async move {
            if let Some(answer) = answer(&state, &query, peer.ip(), false).await {
                // Whoever asked asks again.
                let _ = udp.send_to(&answer, peer).await;
            }
        });
        if streams.is_finished() {
            return Ok(());
        }
    }
}

async fn serve_tcp(state: Rc<State>, listener: TcpListener) {
    loop {
        let Ok((mut stream, peer)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Some(place) = state.questions.try_take(&peer.ip()) else { continue };
        let state = state.clone();
        spawn_local(async move {
            let _place = place;
            while let Ok(Ok(query)) = timeout(IDLE, read_framed(&mut stream)).await {
                let Some(answer) = answer(&state, &query, peer.ip(), true).await else { return };
                if write_framed(&mut stream, &answer).await.is_err() {
                    return;
                }
            }
        });
    }
}

async fn read_framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; length.into()];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write_framed(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await
}

/// The answer to a question. One that leads outside gets none while its asker has too many on their way, as a busy
/// resolver's would: own names are answered all the same.
async fn answer(state: &State, query: &[u8], asker: IpAddr, stream: bool) -> Option<Vec<u8>> {
    let Some(question) = dns_message::read_question(query) else {
        return dns_message::refusal(query, Code::NotImplemented);
    };
    let longest = if stream { usize::from(u16::MAX) } else { question.longest };
    let reply = |code, answers: &[Record], additional: &[Record]| {
        Some(dns_message::build_response(query, &question, code, answers, additional, longest))
    };
    // Nobody may change the registry while it is looked at: no await before `found` is made.
    let found = {
        let registry = state.registry.borrow();
        match registry.serves_by_name(&question.name, asker).filter(|_| question.kind == kind::SRV) {
            Some(all) => Found::Serves(all),
            None => registry.find(&question.name, asker),
        }
    };
    match found {
        Found::At(all) => reply(Code::Fine, &addresses(&question.name, question.kind, &all), &[]),
        Found::Serves(all) => {
            let asked = matches!(question.kind, kind::SRV | kind::ANY);
            let record = |(port, host, _): &(u16, String, Addresses)| Record {
                name: question.name.clone(),
                data: Data::Serves(*port, host.clone()),
            };
            let answers: Vec<Record> = all.iter().filter(|_| asked).map(record).collect();
            let mut more: Vec<Record> = Vec::new();
            for (_, host, a) in all.iter().filter(|_| asked) {
                if !more.iter().any(|r| r.name == *host) {
                    more.extend(addresses(host, kind::ANY, &[*a]));
                }
            }
            reply(Code::Fine, &answers, &more)
        }
        Found::Alias(name) => {
            let mut answers = vec![Record { name: question.name.clone(), data: Data::Alias(name.clone()) }];
            let mut code = Code::Fine;
            if matches!(question.kind, kind::A | kind::AAAA) {
                let _place = state.questions.try_take(&asker)?;
                let behind = behind_alias(state, &name, &question, asker).await;
                code = behind.code;
                answers.extend(behind.records);
            }
            reply(code, &answers, &[])
        }
        Found::Named(name) => {
            let pointer = Record { name: question.name.clone(), data: Data::Pointer(name) };
            let asked = matches!(question.kind, kind::PTR | kind::ANY);
            reply(Code::Fine, if asked { std::slice::from_ref(&pointer) } else { &[] }, &[])
        }
        Found::Unknown => reply(Code::NoSuchName, &[], &[]),
        Found::Short => {
            let _place = state.questions.try_take(&asker)?;
            match search_answer(&question).await {
                Some(found) => reply(Code::Fine, &found, &[]),
                None => reply(Code::NoSuchName, &[], &[]),
            }
        }
        Found::Elsewhere => {
            let _place = state.questions.try_take(&asker)?;
            let Some(answer) = forward(query, stream).await else {
                return reply(Code::ServerFailure, &[], &[]);
            };
            if dns_message::code(&answer) == Some(Code::NoSuchName)
                && question.name.matches('.').count() < DOTS
                && let Some(found) = search_answer(&question).await
            {
                return reply(Code::Fine, &found, &[]);
            }
            Some(answer)
        }
    }
}

fn addresses(name: &str, asked: u16, all: &[Addresses]) -> Vec<Record> {
    all.iter()
        .flat_map(Addresses::all)
        .filter(|a| asked == kind::ANY || asked == if a.is_ipv4() { kind::A } else { kind::AAAA })
        .map(|a| Record { name: name.to_owned(), data: Data::Address(a) })
        .collect()
}

/// Holds what somebody says of a name.
struct Told {
    code: Code,
    records: Vec<Record>,
}

/// Stub resolvers want to see where an alias ends, also one of an alias.
async fn behind_alias(state: &State, name: &str, question: &Question, asker: IpAddr) -> Told {
    let mut name = name.to_lowercase();
    let mut told = Told { code: Code::Fine, records: Vec::new() };
    while told.records.len() < ALIASES {
        let found = state.registry.borrow().find(&name, asker);
        match found {
            Found::At(all) => told.records.extend(addresses(&name, question.kind, &all)),
            Found::Elsewhere => {
                let there = outside(&name, question.kind, &name).await;
                told.code = there.code;
                told.records.extend(there.records);
            }
            Found::Alias(next) => {
                told.records.push(Record { name: name.clone(), data: Data::Alias(next.clone()) });
                name = next.to_lowercase();
                continue;
            }
            _ => told.code = Code::NoSuchName,
        }
        break;
    }
    told
}

/// Returns a name's addresses in the first of the host's search domains that has it; none where it has only other
/// records.
async fn search_answer(question: &Question) -> Option<Vec<Record>> {
    if !matches!(question.kind, kind::A | kind::AAAA) {
        return None;
    }
    let search = async {
        for domain in search_domains(&resolv_conf()) {
            let name = format!("{}.{domain}", question.name);
            let told = outside(&name, question.kind, &question.name).await;
            if told.code == Code::Fine {
                return Some(told.records);
            }
        }
        None
    };
    // Whoever asks gives up soon, and would ask the same again.
    timeout(PATIENCE, search).await.ok().flatten()
}

/// The addresses of a name of the outside, as records of the name `of`.
async fn outside(name: &str, asked: u16, of: &str) -> Told {
    let query = dns_message::build_query(uuid::Uuid::new_v4().as_u128() as u16, name, asked);
    let mut answer = forward(&query, false).await;
    if answer.as_deref().is_some_and(dns_message::is_cut) {
        answer = forward(&query, true).await;
    }
    let code = answer.as_deref().and_then(dns_message::code).unwrap_or(Code::ServerFailure);
    let found = answer.and_then(|a| dns_message::addresses(&a)).unwrap_or_default();
    let record = |a| Record { name: of.to_owned(), data: Data::Address(a) };
    Told { code, records: found.into_iter().map(record).collect() }
}

/// The first answer of the host's resolvers. One that cannot tell is taken at its word if nobody can.
async fn forward(query: &[u8], stream: bool) -> Option<Vec<u8>> {
    let mut servers = list_nameservers(&resolv_conf()).into_iter();
    let mut asked = FuturesUnordered::new();
    let mut cannot = None;
    loop {
        match servers.next() {
            Some(server) => asked.push(ask(query, stream, SocketAddr::new(server, 53))),
            None if asked.is_empty() => return cannot,
            None => {}
        }
        match timeout(HEAD_START, asked.next()).await {
            Ok(Some(Some(answer))) if dns_message::code(&answer).is_some() => return Some(answer),
            Ok(Some(Some(answer))) => cannot = Some(answer),
            _ => {}
        }
    }
}

async fn ask(query: &[u8], stream: bool, to: SocketAddr) -> Option<Vec<u8>> {
    let asked = async { if stream { ask_tcp(query, to).await } else { ask_udp(query, to).await } };
    timeout(PATIENCE, asked).await.ok()?.ok()
}

async fn ask_udp(query: &[u8], to: SocketAddr) -> io::Result<Vec<u8>> {
    // A socket of its own for each question: its port is as hard to guess as the question's number.
    let any: SocketAddr = if to.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(to).await?;
    socket.send(query).await?;
    // As long as whoever asks may have said that it takes.
    let mut answer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut answer).await?;
        if length >= 12 && answer[..2] == query[..2] {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn ask_tcp(query: &[u8], to: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(to).await?;
    write_framed(&mut stream, query).await?;
    read_framed(&mut stream).await
}

fn resolv_conf() -> String {
    std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()
}

/// The domains of a resolv.conf's last `search` or `domain` line, at most six.
fn search_domains(text: &str) -> Vec<&str> {
    let says = |l: &&str| matches!(l.split_whitespace().next(), Some("search" | "domain"));
    let last = text.lines().rfind(says).unwrap_or_default();
    last.split_whitespace()
        .skip(1)
        .map(|d| d.trim_end_matches('.'))
        .filter(|d| !d.is_empty())
        .take(6)
        .collect()
}

/// The nameservers of a resolv.conf, at most three as its page says. A zone of a link-local address is left out.
fn list_nameservers(text: &str) -> Vec<IpAddr> {
    let servers = text.lines().filter_map(|l| l.trim().strip_prefix("nameserver")?.split_whitespace().next());
    servers.filter_map(|s| s.split('%').next()?.parse().ok()).take(3).collect()
}
