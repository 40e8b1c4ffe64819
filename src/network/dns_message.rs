//! DNS messages as bytes (RFC 1035, 2782, 3596): one question in, records out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Record types.
pub mod kind {
    #![allow(missing_docs)]
    pub const A: u16 = 1;
    pub const CNAME: u16 = 5;
    pub const PTR: u16 = 12;
    pub const AAAA: u16 = 28;
    pub const SRV: u16 = 33;
    pub const ANY: u16 = 255;
}

/// Tells how a query went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The name is there, whether or not it has such records.
    Fine = 0,
    /// Nobody knows at the moment.
    ServerFailure = 2,
    /// There is no such name.
    NoSuchName = 3,
    /// Not a query that is answered here.
    NotImplemented = 4,
}

/// Holds what is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Holds it in lower case, without the dot at its end.
    pub name: String,
    /// The record type.
    pub kind: u16,
    /// The place where the question ends in the message.
    end: usize,
    /// The longest answer that fits into a datagram.
    pub longest: usize,
    /// Tells that it came with EDNS (RFC 6891), and the answer has to as well.
    extended: bool,
}

/// The record of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Names whose it is.
    pub name: String,
    /// Holds what it says.
    pub data: Data,
}

/// Names what a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Addresses: A or AAAA.
    Address(IpAddr),
    /// CNAME.
    Alias(String),
    /// PTR.
    Pointer(String),
    /// SRV: port and host.
    Serves(u16, String),
}

const HEADER: usize = 12;
const OPT: u16 = 41;
/// Longest datagram without EDNS.
const PLAIN: usize = 512;
/// Longest datagram that every path carries whole.
const CARRIED: usize = 1232;

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// Reads a query; `None` when it is none, or none with one plain question.
pub fn read_question(message: &[u8]) -> Option<Question> {
    let flags = number(message, 2)?;
    let (response, operation) = (flags >> 15, flags >> 11 & 15);
    if response != 0 || operation != 0 || number(message, 4)? != 1 {
        return None;
    }
    let mut at = HEADER;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        match length {
            0 => break,
            64.. => return None,
            _ => labels.push(String::from_utf8_lossy(message.get(at..at + length)?).to_lowercase()),
        }
        at += length;
        if at - HEADER > 255 {
            return None;
        }
    }
    let kind = number(message, at)?;
    let end = at + 4;
    let extended = message.get(end) == Some(&0) && number(message, end + 1) == Some(OPT);
    // With EDNS what the asker takes and every path carries, without it what RFC 1035 allows.
    let offered = if extended { usize::from(number(message, end + 3)?) } else { 0 };
    let longest = offered.clamp(PLAIN, CARRIED);
    Some(Question { name: labels.join("."), kind, end, longest, extended }).filter(|q| q.end <= message.len())
}

/// Returns a query for one name.
pub fn build_query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut message = Vec::from(id.to_be_bytes());
    const RECURSION_DESIRED: u16 = 0x0100;
    for part in [RECURSION_DESIRED, 1, 0, 0, 0] {
        message.extend(part.to_be_bytes());
    }
    put_name(&mut message, name);
    message.extend([kind.to_be_bytes(), [0, 1]].concat());
    message
}

/// The answer to `query`. What is `additional` is left out where it is too long, and if it is so still, the last answers
/// are, which is marked: the asker comes again over TCP, or like musl before 1.2.4 takes those that are there.
pub fn build_response(
    query: &[u8],
    question: &Question,
    code: Code,
    answers: &[Record],
    additional: &[Record],
    longest: usize,
) -> Vec<u8> {
    const RESPONSE: u16 = 0x8000;
    const AUTHORITATIVE: u16 = 0x0400;
    const CUT: u16 = 0x0200;
    const RECURSION_AVAILABLE: u16 = 0x0080;
    let flags = RESPONSE | AUTHORITATIVE | RECURSION_AVAILABLE | (number(query, 2).unwrap_or(0) & 0x0100);
    let message = |cut: u16, answers: &[Record], additional: &[Record]| {
        let mut message = query[..2].to_vec();
        let more = additional.len() + usize::from(question.extended);
        for part in [flags | cut | code as u16, 1, answers.len() as u16, 0, more as u16] {
            message.extend(part.to_be_bytes());
        }
        message.extend(&query[HEADER..question.end]);
        for record in answers.iter().chain(additional) {
            put_record(&mut message, record, &question.name);
        }
        if question.extended {
            message.push(0);
            for part in [OPT, CARRIED as u16, 0, 0, 0] {
                message.extend(part.to_be_bytes());
            }
        }
        message
    };
    let mut fits = [additional, &[]].into_iter().map(|more| message(0, answers, more));
    fits.find(|m| m.len() <= longest).unwrap_or_else(|| {
        let fewer = (0..answers.len()).rev().map(|count| message(CUT, &answers[..count], &[]));
        fewer.into_iter().find(|m| m.len() <= longest).unwrap_or_else(|| message(CUT, &[], &[]))
    })
}

/// The answer to something that is no plain question.
pub fn refusal(query: &[u8], code: Code) -> Option<Vec<u8>> {
    let flags = number(query, 2)?;
    if flags >> 15 != 0 || query.len() < HEADER {
        return None;
    }
    let mut message = query[..2].to_vec();
    for part in [0x8000 | (flags & 0x7900) | code as u16, 0, 0, 0, 0] {
        message.extend(part.to_be_bytes());
    }
    Some(message)
}

fn put_name(message: &mut Vec<u8>, name: &str) {
    for label in name.split('.').filter(|l| !l.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(63)];
        message.push(label.len() as u8);
        message.extend(label);
    }
    message.push(0);
}

fn put_record(message: &mut Vec<u8>, record: &Record, asked: &str) {
    if record.name == asked {
        // The question has the name, in the asker's own spelling.
        message.extend([0xc0, HEADER as u8]);
    } else {
        put_name(message, &record.name);
    }
    let (kind, data) = match &record.data {
        Data::Address(IpAddr::V4(v4)) => (kind::A, v4.octets().to_vec()),
        Data::Address(IpAddr::V6(v6)) => (kind::AAAA, v6.octets().to_vec()),
        Data::Alias(name) => (kind::CNAME, encode_name(name)),
        Data::Pointer(name) => (kind::PTR, encode_name(name)),
        Data::Serves(port, host) => {
            let [high, low] = port.to_be_bytes();
            (kind::SRV, [&[0, 0, 0, 100, high, low], encode_name(host).as_slice()].concat())
        }
    };
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    // Nobody is to remember it: who is ready changes at any moment.
    message.extend([0; 4]);
    message.extend((data.len() as u16).to_be_bytes());
    message.extend(data);
}

fn encode_name(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_name(&mut bytes, name);
    bytes
}

/// The addresses in somebody else's answer.
pub fn addresses(message: &[u8]) -> Option<Vec<IpAddr>> {
    let mut at = HEADER;
    for _ in 0..number(message, 4)? {
        at = after_name(message, at)? + 4;
    }
    let mut found = Vec::new();
    for _ in 0..number(message, 6)? {
        at = after_name(message, at)?;
        let length = usize::from(number(message, at + 8)?);
        let data = message.get(at + 10..at + 10 + length)?;
        match number(message, at)? {
            kind::A => found.push(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).into()),
            kind::AAAA => found.push(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).into()),
            _ => {}
        }
        at += 10 + length;
    }
    Some(found)
}

/// Returns what an answer says of the name; none when whoever gave it cannot tell.
pub fn code(message: &[u8]) -> Option<Code> {
    match message.get(3)? & 15 {
        0 => Some(Code::Fine),
        3 => Some(Code::NoSuchName),
        _ => None,
    }
}

/// Tells whether an answer did not fit and is to be asked for over TCP.
pub fn is_cut(message: &[u8]) -> bool {
    message.get(2).is_some_and(|flags| flags & 2 != 0)
}

fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match usize::from(*message.get(at)?) {
            0 => return Some(at + 1),
            0xc0.. => return Some(at + 2),
            length => at += 1 + length,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_as_it_was_written() {
        let asked = build_query(7, "Web.default", kind::A);
        let question = read_question(&asked).unwrap();
        assert_eq!((question.name.as_str(), question.kind), ("web.default", kind::A));
        let address = IpAddr::from([10, 213, 0, 2]);
        let records = [
            Record { name: "web.default".into(), data: Data::Alias("a.b".into()) },
            Record { name: "a.b".into(), data: Data::Address(address) },
        ];
        let answer = build_response(&asked, &question, Code::Fine, &records, &[], 512);
        assert_eq!(addresses(&answer), Some(vec![address]));
        let cut = build_response(&asked, &question, Code::Fine, &records, &[], 40);
        assert!(is_cut(&cut));
        let many = vec![records[1].clone(); 99];
        let cut = build_response(&asked, &question, Code::Fine, &many, &[], 512);
        let kept = addresses(&cut).unwrap().len();
        assert!(is_cut(&cut) && (15..99).contains(&kept), "{kept} are kept");
        let rest = build_response(&asked, &question, Code::Fine, &records[..1], &records[1..], 50);
        assert_eq!((rest[2] & 2, rest[7], rest[11]), (0, 1, 0), "what is additional goes first");
    }

    #[test]
    fn an_extended_question_is_answered_so_and_says_what_fits() {
        let mut asked = build_query(7, "web", kind::A);
        asked[11] = 1;
        asked.extend([0, 0, 41, 0x02, 0x58, 0, 0, 0, 0, 0, 0]);
        let question = read_question(&asked).unwrap();
        assert_eq!(question.longest, 600);
        let answer = build_response(&asked, &question, Code::NoSuchName, &[], &[], 600);
        assert_eq!((answer[11], &answer[answer.len() - 11..][..3]), (1, &[0, 0, 41][..]));
    }

    #[test]
    fn nonsense_is_no_question() {
        let good = build_query(7, "a.b", kind::A);
        for length in 0..good.len() {
            assert_eq!(read_question(&good[..length]), None);
        }
        let mut pointing = good;
        pointing[HEADER] = 0xc0;
        assert_eq!(read_question(&pointing), None);
        assert_eq!(addresses(&[0; 5]), None);
    }

    #[test]
    fn hostile_messages_are_survived() {
        // xorshift64: the same bytes each time.
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for round in 0..200_000 {
            let mut message = match round % 3 {
                0 => build_query(7, "Web.default.svc.cluster.local", kind::SRV),
                _ => (0..random() % 64).map(|_| random() as u8).collect(),
            };
            for _ in 0..random() % 4 {
                let length = message.len().max(1) as u64;
                if let Some(byte) = message.get_mut((random() % length) as usize) {
                    *byte = random() as u8;
                }
            }
            if let Some(question) = read_question(&message) {
                let record = Record { name: question.name.clone(), data: Data::Alias(question.name.clone()) };
                let answer =
                    build_response(&message, &question, Code::Fine, &[record], &[], question.longest);
                let _ = addresses(&answer);
            }
            let _ = (refusal(&message, Code::NotImplemented), addresses(&message));
        }
    }
}
