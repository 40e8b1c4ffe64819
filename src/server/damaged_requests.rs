//! Requests as no good client sends them: no bytes make a decoder panic, go on for ever, or give more than was sent.
//!
//! `PODCTL_MUTATION_SEED=N` tries that one again, `PODCTL_MUTATIONS=N` says how many are tried.

use serde_json::{Map, Value, json};
use tokio::io::AsyncWriteExt;

use super::{
    body, channels,
    delete::DeleteOptions,
    handle,
    http::Asked,
    kinds::{all_kinds, find_kind},
    list_options::ListOptions,
    protobuf::decode_body,
    read::parse_continuation,
    route::{Query, Target, choose_form, parse_path},
    spdy::{Decoder, Encoder},
    streams::open_server_socket,
    write::prepare_object,
};
use crate::{
    engine::{
        managed_fields::{Applier, apply_config, note_apply, note_update},
        patch::{PatchType, apply_patch},
    },
    manifest::damaged_manifests::{Numbers, try_seeds},
    view::{field_selector::FieldSelector, selectors::Labels},
};

/// Bytes that any answer may have beside those that are sent for it.
const SLACK: usize = 4096;

/// Names of fields, and of what patches say beside them.
const KEYS: &[&str] = &[
    "metadata",
    "name",
    "labels",
    "annotations",
    "finalizers",
    "managedFields",
    "ownerReferences",
    "spec",
    "containers",
    "initContainers",
    "ephemeralContainers",
    "ports",
    "containerPort",
    "protocol",
    "env",
    "image",
    "volumes",
    "volumeMounts",
    "mountPath",
    "tolerations",
    "hostAliases",
    "ip",
    "topologySpreadConstraints",
    "status",
    "conditions",
    "type",
    "data",
    "manager",
    "operation",
    "fieldsV1",
    "f:metadata",
    "f:spec",
    "k:{\"name\":\"a\"}",
    "k:{",
    "v:1",
    ".",
    "$patch",
    "$retainKeys",
    "$setElementOrder/containers",
    "$setElementOrder/ports",
    "$deleteFromPrimitiveList/finalizers",
    "$",
    "",
];

/// Texts that mean something somewhere.
const TEXTS: &[&str] = &[
    "",
    "a",
    "b",
    "replace",
    "delete",
    "merge",
    "TCP",
    "Apply",
    "FieldsV1",
    "/",
    "/spec/containers/0",
    "/spec/containers/-",
    "/metadata/labels/a~1b",
    "~2",
    "add",
    "remove",
    "copy",
    "move",
    "test",
    "99999999999999999999",
    "é\u{2028}",
    "\u{0}",
];

fn choose<'a>(numbers: &mut Numbers, all: &[&'a str]) -> &'a str {
    all[numbers.below(all.len())]
}

fn make_value(numbers: &mut Numbers, depth: usize) -> Value {
    match numbers.below(if depth == 0 { 5 } else { 9 }) {
        0 => Value::Null,
        1 => (numbers.below(3) == 0).into(),
        2 => json!([-1, 0, 1, 80, i64::MIN, i64::MAX][numbers.below(6)]),
        3 | 4 => choose(numbers, TEXTS).into(),
        5 => (0..numbers.below(4)).map(|_| make_value(numbers, depth - 1)).collect::<Vec<_>>().into(),
        _ => make_object(numbers, depth).into(),
    }
}

fn make_object(numbers: &mut Numbers, depth: usize) -> Map<String, Value> {
    let count = numbers.below(5);
    (0..count)
        .map(|_| (choose(numbers, KEYS).to_owned(), make_value(numbers, depth.saturating_sub(1))))
        .collect()
}

/// Returns a pod as it is kept.
fn keep_pod() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "labels": {"a": "b"}, "finalizers": ["f"], "managedFields": [
            {"manager": "m", "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {".": {}}}}}}]},
        "spec": {"containers": [{"name": "a", "image": "i", "ports": [{"containerPort": 80, "protocol": "TCP"}]}, {"name": "b"}],
            "volumes": [{"name": "v", "emptyDir": {}}]}})
}

/// The same, some of its parts put out of shape.
fn make_pod(numbers: &mut Numbers) -> Value {
    let mut pod = keep_pod();
    for _ in 0..numbers.below(3) {
        let field = choose(
            numbers,
            &["/metadata", "/spec", "/spec/containers", "/spec/containers/0", "/metadata/managedFields"],
        );
        let value = make_value(numbers, 3);
        if let Some(part) = pod.pointer_mut(field) {
            *part = value;
        }
    }
    pod
}

/// Some damage to bytes that were sound.
fn damage_bytes(numbers: &mut Numbers, bytes: &mut Vec<u8>) {
    for _ in 0..numbers.below(5) {
        let at = numbers.below(bytes.len() + 1).min(bytes.len());
        match numbers.below(4) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, numbers.below(256) as u8),
            2 => bytes.splice(at..at, [0xff; 4]).for_each(drop),
            _ if at < bytes.len() => bytes[at] ^= 1 << numbers.below(8),
            _ => {}
        }
    }
}

/// Returns a message of protobuf: fields of any numbers, and messages in them.
fn make_message(numbers: &mut Numbers, depth: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..numbers.below(6) {
        let tag = (1 + numbers.below(15)) as u8;
        let inner = match numbers.below(3) {
            0 => choose(numbers, TEXTS).as_bytes().to_vec(),
            _ if depth > 0 => make_message(numbers, depth - 1),
            _ => vec![numbers.below(256) as u8; numbers.below(20)],
        };
        match numbers.below(5) {
            0 => out.extend([tag << 3, numbers.below(128) as u8]),
            1 => out.extend([tag << 3 | 1, 0, 0, 0, 0, 0, 0, 0, 0x40]),
            _ => {
                out.push(tag << 3 | 2);
                if inner.len() > 127 {
                    out.push((inner.len() & 0x7f) as u8 | 0x80);
                }
                out.push((if inner.len() > 127 { inner.len() >> 7 } else { inner.len() }) as u8);
                out.extend(inner);
            }
        }
    }
    out
}

#[test]
fn no_protobuf_body_makes_reading_it_panic_or_grow() {
    try_seeds(2000, |numbers| {
        let kind = &all_kinds()[numbers.below(all_kinds().len())];
        let (version, name) = (kind.api_version(), kind.kind);
        let mut body = b"k8s\0\x0a".to_vec();
        body.push((version.len() + name.len() + 4) as u8);
        for (tag, text) in [(0x0a, version.as_str()), (0x12, name)] {
            body.extend([tag, text.len() as u8]);
            body.extend(text.bytes());
        }
        let object = make_message(numbers, 5);
        body.extend([0x12, (object.len() & 0x7f) as u8 | 0x80, (object.len() >> 7 & 0x7f) as u8]);
        body.extend(object);
        damage_bytes(numbers, &mut body);
        if let Ok(value) = decode_body(&body) {
            assert!(
                value.to_string().len() <= 64 * body.len() + SLACK,
                "{} bytes become {value}",
                body.len()
            );
        }
    });
}

#[test]
fn no_patch_makes_applying_it_panic() {
    let types = [
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
    ];
    try_seeds(4000, |numbers| {
        let pod = make_pod(numbers);
        let type_ = PatchType::of_content_type(choose(numbers, &types)).unwrap();
        let operation = |numbers: &mut Numbers| {
            json!({"op": choose(numbers, TEXTS), "path": choose(numbers, TEXTS), "from": choose(numbers, TEXTS),
                "value": make_value(numbers, 3)})
        };
        let patch = match numbers.below(3) {
            0 => (0..numbers.below(5)).map(|_| operation(numbers)).collect::<Vec<_>>().into(),
            _ => Value::from(make_object(numbers, 6)),
        };
        let mut bytes = patch.to_string().into_bytes();
        if numbers.below(4) == 0 {
            damage_bytes(numbers, &mut bytes);
        }
        let size = pod.to_string().len() + bytes.len();
        if let Ok(patched) = apply_patch(type_, &pod, &bytes) {
            assert!(patched.to_string().len() <= 64 * size, "{patched}");
        }
        let applier = Applier { name: "m".into(), force: numbers.below(2) == 0 };
        let kind = find_kind("", "v1", "pods").unwrap();
        let own = |text: &str| Some(text.to_owned());
        let target = Target { kind, namespace: own("default"), name: own("p"), subresource: None };
        let Ok(config) = prepare_object(patch, &target, false) else { return };
        // What is kept has the shape of a pod; only what is said of its fields' managers can be anything.
        let mut known = keep_pod();
        known["metadata"]["managedFields"][0]["fieldsV1"] = make_value(numbers, 5);
        let (mut merged, _) = apply_config(&known, &config, &applier);
        note_update(Some(&known), &mut merged, "m");
        note_apply(&mut config.clone(), &config, &applier);
    });
}

#[test]
fn no_frames_of_spdy_make_reading_them_panic_or_wait_for_ever() {
    try_seeds(1000, |numbers| {
        let mut encoder = Encoder::new();
        let mut bytes = Vec::new();
        for _ in 0..numbers.below(6) {
            let stream = numbers.below(8) as u32;
            bytes.extend(match numbers.below(4) {
                // A reply has the shape of what opens a stream.
                0 => encoder.encode_reply(stream).unwrap(),
                1 => Encoder::encode_data(stream, choose(numbers, TEXTS).as_bytes(), numbers.below(2) == 0),
                2 => Encoder::encode_ping(stream),
                _ => Encoder::encode_reset(stream),
            });
            if let (Some(kind), 0) = (bytes.get_mut(3), numbers.below(3)) {
                *kind = numbers.below(10) as u8;
            }
        }
        damage_bytes(numbers, &mut bytes);
        let mut decoder = Decoder::new();
        let mut frames = 0;
        'all: for piece in bytes.chunks(1 + numbers.below(40)) {
            decoder.add_bytes(piece);
            loop {
                match decoder.next_frame() {
                    Ok(Some(_)) => frames += 1,
                    Ok(None) => break,
                    Err(_) => break 'all,
                }
                assert!(frames <= bytes.len(), "more frames than bytes");
            }
        }
    });
}

#[test]
fn no_frames_of_a_websocket_make_reading_them_panic_or_wait_for_ever() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    try_seeds(1000, |numbers| {
        let mut bytes = Vec::new();
        for _ in 0..numbers.below(5) {
            let payload = match numbers.below(3) {
                0 => format!("\u{4}{}", make_value(numbers, 2)).into_bytes(),
                1 => vec![numbers.below(256) as u8; numbers.below(100)],
                _ => vec![channels::CLOSE, numbers.below(5) as u8],
            };
            let opcode = [0, 1, 2, 8, 9, 10, 3, 15][numbers.below(8)];
            // A client masks what it sends.
            bytes.extend([
                if numbers.below(8) == 0 { opcode } else { 0x80 | opcode },
                0x80 | payload.len().min(125) as u8,
            ]);
            bytes.extend([0; 4]);
            bytes.extend(payload);
        }
        damage_bytes(numbers, &mut bytes);
        runtime.block_on(async {
            let (mut client, server) = tokio::io::duplex(1 << 16);
            client.write_all(&bytes).await.unwrap();
            client.shutdown().await.unwrap();
            let mut socket = open_server_socket(server).await;
            // At its end, or at the first that is damaged, it is over.
            while let Some(Ok(message)) = futures_util::StreamExt::next(&mut socket).await {
                channels::read_message(&message.into_data());
            }
        });
    });
}

#[test]
fn no_body_and_no_options_make_reading_them_panic() {
    const QUERIES: &[&str] = &[
        "",
        "dryRun=All",
        "dryRun=",
        "gracePeriodSeconds=-1",
        "gracePeriodSeconds=18446744073709551615",
        "propagationPolicy=Orphan",
        "watch=1&timeoutSeconds=18446744073709551615",
        "resourceVersion=9&resourceVersionMatch=Exact&continue=a",
        "sendInitialEvents=%74",
    ];
    const BODIES: &[&str] = &[
        "{\"gracePeriodSeconds\": -1, \"preconditions\": [], \"dryRun\": \"All\"}",
        "{\"propagationPolicy\": 5, \"dryRun\": [[]]}",
        "metadata: &a {name: *a, labels: {<<: *a}}",
        "a: !!binary x\n---\nb: |2\n   c",
        "k8s\u{0}",
        "[[[[[[[[[[[[",
    ];
    const TYPES: &[&str] =
        &["", "application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "text/x; a=\""];
    try_seeds(2000, |numbers| {
        let mut bytes = match numbers.below(3) {
            0 => choose(numbers, BODIES).as_bytes().to_vec(),
            1 => make_pod(numbers).to_string().into_bytes(),
            _ => Value::from(make_object(numbers, 6)).to_string().into_bytes(),
        };
        damage_bytes(numbers, &mut bytes);
        let mut headers = http::HeaderMap::new();
        headers.insert("content-type", choose(numbers, TYPES).parse().unwrap());
        let query = Query::parse(&format!("{}&{}", choose(numbers, QUERIES), choose(numbers, QUERIES)));
        let (method, path) = (http::Method::DELETE, String::new());
        let asked = Asked { method, path, query, headers, body: bytes.into(), upgrade: None };
        // Whatever they say: it is enough that they come back.
        let _ = (DeleteOptions::parse(&asked), ListOptions::parse(&asked.query, numbers.below(2) == 0));
        let _ = body::parse_text(&asked.body);
        if let Ok(object) = body::read_object(&asked) {
            let kind = &all_kinds()[numbers.below(all_kinds().len())];
            let _ = body::drop_unknown_fields(kind, object);
        }
    });
}

#[test]
fn no_selector_path_query_or_key_makes_reading_it_panic() {
    const PIECES: &[&str] = &[
        "a",
        "app",
        "=",
        "==",
        "!=",
        "!",
        ",",
        " in ",
        " notin ",
        "(",
        ")",
        "()",
        "metadata.name",
        "status.phase",
        ".",
        "%",
        "%2",
        "%2f",
        "%00",
        "%ff",
        "+",
        "&",
        "?",
        "/",
        "//",
        "api",
        "apis",
        "v1",
        "namespaces",
        "pods",
        "log",
        "..",
        "é",
        "\u{0}",
        "616",
        "2f",
        "zz",
        "limit",
        "watch",
        "application/json",
        ";as=Table",
        ";g=meta.k8s.io",
        "*/*",
        ";",
        "x/y z",
    ];
    try_seeds(4000, |numbers| {
        let count = numbers.below(12);
        let text: String = (0..count).map(|_| choose(numbers, PIECES)).collect();
        if let Ok(labels) = Labels::parse(&text) {
            labels.matches(Some(&[("app".to_owned(), "a".to_owned())].into()));
        }
        for kind in all_kinds() {
            if let Ok(fields) = FieldSelector::parse(&kind.qualified_kind(), &text) {
                fields.matches(&make_value(numbers, 3));
            }
        }
        let query = Query::parse(&text);
        // Whatever they say: it is enough that they come back.
        let _ = (query.number("limit"), query.is_true("watch"), parse_path(&text), choose_form(Some(&text)));
        let _ = parse_continuation(&text);
        handle::review_access(make_object(numbers, 3).into(), &text);
    });
}
