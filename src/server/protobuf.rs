//! Bodies that clients send as `application/vnd.kubernetes.protobuf`, into JSON. PURE.
//!
//! Promises: any bytes give a value or an error; depth and memory are bounded by those of the body.
//!
//! Go writes fields that are no pointers even when they are empty, and JSON leaves them out: so empty values are
//! dropped, but for the few pointers whose zero says something.

use k8s_openapi::{ByteString, jiff::Timestamp};
use serde_json::{Map, Value, json};

use crate::engine::fields::{Field, Message, Shape, find_message, message_name};

/// Names what each body begins with.
const MAGIC: &[u8] = b"k8s\0";

/// Number of objects within one another that a body may have.
const DEEPEST: usize = 64;

/// Pointers to numbers and truth values for which zero is not the same as nothing.
const MEANINGFUL_ZEROS: &[&str] = &[
    "gracePeriodSeconds",
    "terminationGracePeriodSeconds",
    "deletionGracePeriodSeconds",
    "activeDeadlineSeconds",
    "tolerationSeconds",
    "runAsUser",
    "runAsGroup",
    "fsGroup",
    "defaultMode",
    "mode",
    "replicas",
    "parallelism",
    "completions",
    "backoffLimit",
    "backoffLimitPerIndex",
    "maxFailedIndexes",
    "ttlSecondsAfterFinished",
    "automountServiceAccountToken",
    "enableServiceLinks",
    "allowPrivilegeEscalation",
    "allocateLoadBalancerNodePorts",
    "hostUsers",
    "storageClassName",
];

/// The reason why a body cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Means that it does not begin as it must.
    #[error("the body does not begin with k8s\\0, as application/vnd.kubernetes.protobuf does")]
    NoMagic,
    /// Means that it ends within a field, or a number is too long.
    #[error("the body is not protobuf: it breaks off, or a number in it is too long")]
    Malformed,
    /// Objects lie too deep within one another.
    #[error("objects in the body lie more than {DEEPEST} deep")]
    TooDeep,
    /// Means that it holds a kind that is not served.
    #[error("no kind {kind:?} of {api_version:?} can be read as protobuf here; send JSON")]
    UnknownKind {
        /// The group and version.
        api_version: String,
        /// The kind.
        kind: String,
    },
}

/// Tells whether a body is protobuf, whatever its Content-Type says.
pub fn is_protobuf(body: &[u8]) -> bool {
    body.starts_with(MAGIC)
}

/// Decodes a body: the object with its apiVersion and kind.
///
/// # Errors
/// [`Error`]
pub fn decode_body(body: &[u8]) -> Result<Value, Error> {
    let unknown = body.strip_prefix(MAGIC).ok_or(Error::NoMagic)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for part in Parts(unknown) {
        match part? {
            (1, Wire::Bytes(meta)) => {
                for part in Parts(meta) {
                    match part? {
                        (1, Wire::Bytes(text)) => api_version = read_text(text)?,
                        (2, Wire::Bytes(text)) => kind = read_text(text)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let name = message_name(&api_version, &kind);
    let Some(message) = find_message(&name) else { return Err(Error::UnknownKind { api_version, kind }) };
    let mut object = Map::new();
    object.insert("apiVersion".into(), api_version.into());
    object.insert("kind".into(), kind.into());
    decode_into(&mut object, message, raw, 0)?;
    Ok(object.into())
}

/// The value as it is on the wire.
enum Wire<'a> {
    Number(u64),
    Fixed64([u8; 8]),
    Fixed32,
    Bytes(&'a [u8]),
}

/// The fields of a message as they come.
struct Parts<'a>(&'a [u8]);

impl<'a> Iterator for Parts<'a> {
    type Item = Result<(u32, Wire<'a>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let part = self.read_part().ok_or(Error::Malformed);
        if part.is_err() {
            self.0 = &[];
        }
        Some(part)
    }
}

impl<'a> Parts<'a> {
    fn read_part(&mut self) -> Option<(u32, Wire<'a>)> {
        let tag = self.read_number()?;
        let wire = match tag & 7 {
            0 => Wire::Number(self.read_number()?),
            1 => Wire::Fixed64(self.take(8)?.try_into().ok()?),
            2 => {
                let length = self.read_number()?;
                Wire::Bytes(self.take(usize::try_from(length).ok()?)?)
            }
            5 => {
                self.take(4)?;
                Wire::Fixed32
            }
            _ => return None,
        };
        Some((u32::try_from(tag >> 3).ok()?, wire))
    }

    fn read_number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

fn decode_into(
    object: &mut Map<String, Value>,
    message: &Message,
    bytes: &[u8],
    depth: usize,
) -> Result<(), Error> {
    if depth > DEEPEST {
        return Err(Error::TooDeep);
    }
    for part in Parts(bytes) {
        let (number, wire) = part?;
        let Some(field) = message.fields.iter().find(|f| f.number == number) else { continue };
        if let (Field::EMBEDDED, Wire::Bytes(bytes), Some(inner)) =
            (field.name, &wire, find_message(field.type_))
        {
            decode_into(object, inner, bytes, depth + 1)?;
            continue;
        }
        match field.shape {
            Shape::Map => {
                let Wire::Bytes(entry) = wire else { return Err(Error::Malformed) };
                let (key, value) = decode_entry(field, entry, depth)?;
                let map = object.entry(field.name).or_insert_with(|| json!({}));
                if let Value::Object(map) = map {
                    map.insert(key, value);
                }
            }
            Shape::List => {
                let value = decode_value(field.type_, wire, depth)?;
                let list = object.entry(field.name).or_insert_with(|| json!([]));
                if let Value::Array(list) = list {
                    list.push(value);
                }
            }
            Shape::Single => {
                let value = decode_value(field.type_, wire, depth)?;
                if !is_empty(&value) || MEANINGFUL_ZEROS.contains(&field.name) && !value.is_null() {
                    object.insert(field.name.into(), value);
                }
            }
        }
    }
    Ok(())
}

/// A map's entry is a message of key and value.
fn decode_entry(field: &Field, entry: &[u8], depth: usize) -> Result<(String, Value), Error> {
    let (mut key, mut value) = (String::new(), None);
    for part in Parts(entry) {
        match part? {
            (1, Wire::Bytes(text)) => key = read_text(text)?,
            (2, wire) => value = Some(decode_value(field.type_, wire, depth)?),
            _ => {}
        }
    }
    let absent = || decode_value(field.type_, Wire::Bytes(&[]), depth);
    Ok((key, value.map_or_else(absent, Ok)?))
}

fn decode_value(type_: &str, wire: Wire<'_>, depth: usize) -> Result<Value, Error> {
    Ok(match (type_, wire) {
        ("string", Wire::Bytes(text)) => read_text(text)?.into(),
        ("bytes", Wire::Bytes(bytes)) => encode_bytes(bytes),
        ("bool", Wire::Number(number)) => (number != 0).into(),
        // Both are written with the sign of 64 bits.
        ("int32" | "int64", Wire::Number(number)) => (number as i64).into(),
        ("double", Wire::Fixed64(bytes)) => json!(f64::from_le_bytes(bytes)),
        (name, Wire::Bytes(bytes)) => decode_message(name, bytes, depth)?,
        _ => return Err(Error::Malformed),
    })
}

fn decode_message(name: &str, bytes: &[u8], depth: usize) -> Result<Value, Error> {
    let Some(message) = find_message(name) else { return Ok(Value::Null) };
    let mut object = Map::new();
    decode_into(&mut object, message, bytes, depth + 1)?;
    let take = |object: &mut Map<String, Value>, field: &str| object.remove(field).unwrap_or(Value::Null);
    Ok(match name {
        "api.resource.Quantity" => take(&mut object, "string"),
        "meta.v1.Time" => written_time(&object, 0),
        "meta.v1.MicroTime" => written_time(&object, 6),
        // 0 is a number, 1 a text.
        "util.intstr.IntOrString" if object.get("type").is_some() => {
            object.remove("strVal").unwrap_or_else(|| "".into())
        }
        "util.intstr.IntOrString" => take(&mut object, "intVal"),
        "runtime.RawExtension" | "meta.v1.FieldsV1" => {
            let raw: Option<ByteString> = serde_json::from_value(take(&mut object, "raw")).ok();
            raw.and_then(|raw| serde_json::from_slice(&raw.0).ok()).unwrap_or(Value::Null)
        }
        "authentication.v1.ExtraValue" => object.remove("items").unwrap_or_else(|| json!([])),
        _ => object.into(),
    })
}

/// Returns a time as JSON has it; without seconds there is none.
fn written_time(object: &Map<String, Value>, digits: usize) -> Value {
    let number = |name: &str| object.get(name).and_then(Value::as_i64);
    let nanos = number("nanos").and_then(|n| i32::try_from(n).ok()).unwrap_or(0);
    let time = number("seconds").and_then(|seconds| Timestamp::new(seconds, nanos).ok());
    time.map_or(Value::Null, |time| match digits {
        0 => format!("{:.0}", time).into(),
        _ => format!("{:.6}", time).into(),
    })
}

fn read_text(bytes: &[u8]) -> Result<String, Error> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Error::Malformed)
}

fn encode_bytes(bytes: &[u8]) -> Value {
    serde_json::to_value(ByteString(bytes.to_vec())).unwrap_or_default()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        let mut length = bytes.len();
        while length > 127 {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend(bytes);
        out
    }

    fn encode_body(api_version: &str, kind: &str, object: &[u8]) -> Vec<u8> {
        let meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), field(1, &meta), field(2, object), field(3, b""), field(4, b"")].concat()
    }

    #[test]
    fn a_secret_comes_out_as_json_has_it() {
        let meta = [
            field(1, b"s"),
            field(2, b""),
            field(8, b""),
            field(11, &[field(1, b"a"), field(2, b"b")].concat()),
        ];
        let entry = [field(1, b"key"), field(2, b"value")].concat();
        let object = [field(1, &meta.concat()), field(2, &entry), field(3, b"Opaque")].concat();
        assert_eq!(
            decode_body(&encode_body("v1", "Secret", &object)).unwrap(),
            json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": {"key": "dmFsdWU="},
                "metadata": {"name": "s", "labels": {"a": "b"}}})
        );
    }

    #[test]
    fn embedded_parts_quantities_ports_and_zeros_come_out_as_json_has_them() {
        let volume = [field(1, b"v"), field(2, &field(2, b""))].concat();
        let limits = [field(1, b"memory"), field(2, &field(1, b"64Mi"))].concat();
        let port = |text: &[u8]| field(2, &[vec![8, 1, 16, 0], field(3, text)].concat());
        let probe = field(1, &field(2, &[field(1, b"/"), port(b"http"), field(4, b"")].concat()));
        let container =
            [field(1, b"c"), field(8, &field(1, &limits)), field(10, &probe), vec![0x80, 1, 0]].concat();
        let spec = [field(1, &volume), field(2, &container), vec![4 << 3, 0]].concat();
        let pod = decode_body(&encode_body("v1", "Pod", &field(2, &spec))).unwrap();
        assert_eq!(
            pod["spec"],
            json!({"volumes": [{"name": "v", "emptyDir": {}}], "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "c", "resources": {"limits": {"memory": "64Mi"}},
                    "livenessProbe": {"httpGet": {"path": "/", "port": "http"}}}]})
        );
    }

    #[test]
    fn times_are_written_and_absent_ones_are_not() {
        let meta = [field(1, b"p"), field(8, &[8, 0x80, 0xc6, 0x8a, 0xc1, 6])].concat();
        let pod = decode_body(&encode_body("v1", "Pod", &field(1, &meta))).unwrap();
        assert_eq!(pod["metadata"], json!({"name": "p", "creationTimestamp": "2025-05-13T01:40:16Z"}));
    }

    #[test]
    fn damaged_bodies_are_refused() {
        assert_eq!(decode_body(b"{}"), Err(Error::NoMagic));
        assert_eq!(decode_body(b"k8s\0\x0a\xff"), Err(Error::Malformed));
        let unknown = encode_body("apps/v1", "Deployment", b"");
        assert!(matches!(decode_body(&unknown), Err(Error::UnknownKind { .. })));
    }

    /// Every damage that one byte can do gives an answer.
    #[test]
    fn any_bytes_are_answered() {
        let entry = [field(1, b"key"), field(2, b"value")].concat();
        let whole = encode_body("v1", "Secret", &[field(1, &field(1, b"s")), field(2, &entry)].concat());
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                let _ = decode_body(&bytes);
                let _ = decode_body(&bytes[..at]);
            }
        }
    }
}
