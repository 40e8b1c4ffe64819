//! Registries that cut connections, stall, lie, are busy or want to know who asks.

mod served;

use std::fs;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use podctl_images::{AuthFile, Error, Options, Reference, pull};
use served::{
    Built, Quiet, Reply, Request, answer_honestly, app_reference, build_image, is_empty, listen, make_store,
};

/// An answer for the `n`th request (from 0) of the layer; everything else is honest.
fn layer_server(
    answer: impl Fn(usize, &Built, &Request) -> Reply + Send + Sync + 'static,
) -> (Reference, Arc<AtomicUsize>) {
    let (built, asked) = (build_image(), Arc::new(AtomicUsize::new(0)));
    let count = asked.clone();
    let port = listen(move |request| match request.path.ends_with(&built.layer) {
        true => answer(count.fetch_add(1, SeqCst), &built, request),
        false => answer_honestly(&built, request),
    });
    (app_reference(port), asked)
}

#[test]
fn a_cut_connection_is_taken_up_where_it_broke_off() {
    let ranges = Arc::new(Mutex::new(Vec::new()));
    let seen = ranges.clone();
    let (reference, _) = layer_server(move |n, built, request| {
        seen.lock().unwrap().push(request.header("range").unwrap_or_default().to_owned());
        Reply { cut: if n < 2 { 30_000 } else { usize::MAX }, ..answer_honestly(built, request) }
    });
    let (_dir, store) = make_store();
    let pulled = pull(&store, &reference, &Options::default(), &Quiet).unwrap();
    assert_eq!(fs::read_to_string(pulled.image.layers[0].join("etc/motd")).unwrap(), "hello");
    assert_eq!(*ranges.lock().unwrap(), ["", "bytes=30000-", "bytes=60000-"]);
}

#[test]
fn a_registry_without_ranges_begins_anew() {
    let (reference, asked) = layer_server(|n, built, _| {
        let cut = if n == 0 { 30_000 } else { usize::MAX };
        Reply { cut, ..Reply::new("200 OK", &built.blobs[&built.layer]) }
    });
    let (_dir, store) = make_store();
    pull(&store, &reference, &Options::default(), &Quiet).unwrap();
    assert_eq!(asked.load(SeqCst), 2);
}

#[test]
fn a_registry_that_always_cuts_is_given_up() {
    let (reference, asked) =
        layer_server(|_, built, request| Reply { cut: 10, ..answer_honestly(built, request) });
    let (dir, store) = make_store();
    let error = pull(&store, &reference, &Options::default(), &Quiet).unwrap_err();
    assert_eq!(asked.load(SeqCst), 4, "{error}");
    assert!(is_empty(&dir, "layers") && is_empty(&dir, "tmp") && is_empty(&dir, "refs"));
}

#[test]
fn a_layer_that_stalls_fails_in_time() {
    let (reference, _) =
        layer_server(|_, built, request| Reply { cut: 100, stall: true, ..answer_honestly(built, request) });
    let (dir, store) = make_store();
    let options = Options { stall: Duration::from_millis(100), ..Options::default() };
    let error = pull(&store, &reference, &options, &Quiet).unwrap_err();
    assert!(error.to_string().contains(&reference.to_string()), "{error}");
    assert!(is_empty(&dir, "layers") && is_empty(&dir, "tmp"));
}

#[test]
fn an_answer_that_comes_drop_by_drop_is_given_up() {
    // Nothing of it stalls: headers, a manifest and preliminary answers that never end.
    for (drop, told) in [
        ("X: y\r\n", "timed out"),
        ("\r\n ", "had not come whole"),
        ("HTTP/1.1 100 Continue\r\n\r\n", "timed out"),
    ] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let reference = served::app_reference(listener.local_addr().unwrap().port());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let start = if drop.starts_with("HTTP") { "" } else { "HTTP/1.1 200 OK\r\n" };
                    let _ = std::io::Read::read(&mut stream, &mut [0; 4096]);
                    let mut sent = stream.write_all(start.as_bytes());
                    while sent.is_ok() {
                        sent = stream.write_all(drop.as_bytes());
                        std::thread::sleep(Duration::from_millis(20));
                    }
                });
            }
        });
        let (dir, store) = make_store();
        let options = Options { stall: Duration::from_millis(100), ..Options::default() };
        let began = Instant::now();
        let error = pull(&store, &reference, &options, &Quiet).unwrap_err();
        assert!(error.to_string().contains(told), "{drop:?}: {error}");
        assert!(began.elapsed() < Duration::from_secs(20), "{drop:?}");
        assert!(is_empty(&dir, "tmp"));
    }
}

#[test]
fn a_busy_registry_is_asked_again() {
    let (reference, asked) = layer_server(|n, built, request| match n {
        0 => Reply::new("429 Too Many Requests", b"").with("Retry-After: 1"),
        _ => answer_honestly(built, request),
    });
    let (_dir, store) = make_store();
    pull(&store, &reference, &Options::default(), &Quiet).unwrap();
    assert_eq!(asked.load(SeqCst), 2);
}

#[test]
fn a_wait_that_the_registry_asks_for_is_kept_or_the_pull_ends_at_once() {
    let patience = |seconds: &'static str| {
        let (reference, asked) = layer_server(move |n, built, request| match n {
            0 => Reply::new("429 Too Many Requests", b"").with(&format!("Retry-After: {seconds}")),
            _ => answer_honestly(built, request),
        });
        let (_dir, store) = make_store();
        let began = Instant::now();
        let pulled = pull(&store, &reference, &Options::default(), &Quiet);
        (pulled.map(|_| ()), asked.load(SeqCst), began.elapsed())
    };
    let (pulled, asked, took) = patience("2");
    assert!(pulled.is_ok() && asked == 2 && took >= Duration::from_secs(2), "{took:?}");
    let (pulled, asked, _) = patience("7200");
    let error = pulled.unwrap_err();
    assert!(asked == 1 && !error.is_permanent() && error.to_string().contains("7200 s"), "{error}");
}

#[test]
fn a_manifest_longer_than_any_honest_one_is_not_taken_in() {
    let built = build_image();
    let reference = app_reference(listen(move |request| match request.path.ends_with("/manifests/1") {
        true => Reply::new("200 OK", &vec![b' '; 64 << 20]),
        false => answer_honestly(&built, request),
    }));
    let (_dir, store) = make_store();
    let error = pull(&store, &reference, &Options::default(), &Quiet).unwrap_err().to_string();
    assert!(error.contains("longer than 4194304 bytes"), "{error}");
}

#[test]
fn what_the_registrys_own_protocol_met_is_not_hidden_by_the_other() {
    let (dir, store) = make_store();
    let round = app_reference(listen(|request| {
        Reply::new("307 Temporary Redirect", b"").with(&format!("Location: {}", request.path))
    }));
    let error = pull(&store, &round, &Options::default(), &Quiet).unwrap_err().to_string();
    assert!(error.contains("redirect") && !error.contains("https://"), "{error}");
    let built = build_image();
    let cut = app_reference(listen(move |request| Reply { cut: 50, ..answer_honestly(&built, request) }));
    let error = pull(&store, &cut, &Options::default(), &Quiet).unwrap_err().to_string();
    assert!(!error.contains("https://"), "{error}");
    assert!(is_empty(&dir, "refs") && is_empty(&dir, "tmp"));
}

#[test]
fn an_identity_token_is_exchanged_where_the_registry_says() {
    let built = build_image();
    let tokens = listen(|request| match request.path.as_str() {
        "/token" => Reply::new("200 OK", br#"{"access_token":"t0k3n"}"#),
        _ => Reply::new("404 Not Found", b""),
    });
    let challenge = format!("Bearer realm=\"http://127.0.0.1:{tokens}/token\",service=\"s\"");
    let reference =
        app_reference(listen(move |request| answer_guarded(&built, request, &challenge, "Bearer t0k3n")));
    let known = format!(r#"{{"auths":{{"{}":{{"identitytoken":"r3fr3sh"}}}}}}"#, reference.registry());
    let (_dir, store) = make_store();
    let options = Options { secrets: vec![AuthFile::new(&known)], ..Options::default() };
    pull(&store, &reference, &options, &Quiet).unwrap();
}

#[test]
fn what_a_broken_registry_says_is_in_the_error() {
    let (reference, asked) =
        layer_server(|_, _, _| Reply::new("503 Service Unavailable", b"closed for repairs"));
    let (_dir, store) = make_store();
    let error = pull(&store, &reference, &Options::default(), &Quiet).unwrap_err().to_string();
    assert!(error.contains("503") && error.contains("closed for repairs"), "{error}");
    assert_eq!(asked.load(SeqCst), 4);
}

#[test]
fn a_layer_longer_than_promised_is_refused() {
    let (reference, _) = layer_server(|_, built, _| {
        let mut blob = built.blobs[&built.layer].clone();
        blob.extend([0; 100]);
        Reply::new("206 Partial Content", &blob)
    });
    let (dir, store) = make_store();
    let error = pull(&store, &reference, &Options::default(), &Quiet).unwrap_err();
    assert!(matches!(error, Error::Size { .. }), "{error}");
    assert!(is_empty(&dir, "layers") && is_empty(&dir, "tmp"));
}

/// user:password
const BASIC: &str = "Basic dXNlcjpwYXNzd29yZA==";

/// A registry that lets only that Authorization in.
fn answer_guarded(built: &Built, request: &Request, challenge: &str, authorization: &str) -> Reply {
    match request.header("authorization") == Some(authorization) {
        true => answer_honestly(built, request),
        false => Reply::new(
            "401 Unauthorized",
            br#"{"errors":[{"code":"UNAUTHORIZED","message":"who are you?"}]}"#,
        )
        .with(&format!("WWW-Authenticate: {challenge}")),
    }
}

fn secret(host: &str, auth: &str) -> AuthFile {
    AuthFile::new(&format!(r#"{{"auths":{{"{host}":{{"auth":"{auth}"}}}}}}"#))
}

#[test]
fn r_img_1_pull_secrets_are_tried_until_one_is_let_in() {
    let built = build_image();
    let reference =
        app_reference(listen(move |request| answer_guarded(&built, request, "Basic realm=x", BASIC)));
    let host = reference.registry();
    let (_dir, store) = make_store();
    let error = pull(&store, &reference, &Options::default(), &Quiet).unwrap_err().to_string();
    assert!(error.contains("unauthorized"), "{error}");
    let secrets = vec![secret(host, "dXNlcjp3cm9uZw=="), secret(host, &BASIC[6..])];
    pull(&store, &reference, &Options { secrets, ..Options::default() }, &Quiet).unwrap();
}

#[test]
fn r_img_1_a_token_is_fetched_where_the_registry_says() {
    let built = build_image();
    let tokens = listen(|request| match request.header("authorization") {
        Some(BASIC) => Reply::new("200 OK", br#"{"token":"t0k3n"}"#),
        _ => Reply::new("403 Forbidden", b"no"),
    });
    let challenge = format!("Bearer realm=\"http://127.0.0.1:{tokens}/token\",service=\"s\"");
    let reference =
        app_reference(listen(move |request| answer_guarded(&built, request, &challenge, "Bearer t0k3n")));
    let secrets = vec![secret(reference.registry(), &BASIC[6..])];
    let (_dir, store) = make_store();
    pull(&store, &reference, &Options { secrets, ..Options::default() }, &Quiet).unwrap();
}

#[test]
fn credentials_do_not_follow_a_redirect_to_another_host() {
    let leaked = Arc::new(AtomicUsize::new(0));
    let (storage, count) = (build_image(), leaked.clone());
    let elsewhere = listen(move |request| {
        count.fetch_add(usize::from(request.header("authorization").is_some()), SeqCst);
        answer_honestly(&storage, request)
    });
    let built = build_image();
    let reference = app_reference(listen(move |request| match request.path.ends_with(&built.layer) {
        true => Reply::new("307 Temporary Redirect", b"")
            .with(&format!("Location: http://127.0.0.1:{elsewhere}{}", request.path)),
        false => answer_guarded(&built, request, "Basic realm=x", BASIC),
    }));
    let secrets = vec![secret(reference.registry(), &BASIC[6..])];
    let (_dir, store) = make_store();
    pull(&store, &reference, &Options { secrets, ..Options::default() }, &Quiet).unwrap();
    assert_eq!(leaked.load(SeqCst), 0);
}

#[test]
fn a_second_pull_is_one_request_and_a_pinned_one_none() {
    let (built, asked) = (build_image(), Arc::new(AtomicUsize::new(0)));
    let count = asked.clone();
    let digest = served::sha256(&built.manifest);
    let path = format!("/v2/app/manifests/{digest}");
    let reference = app_reference(listen(move |request| {
        count.fetch_add(1, SeqCst);
        match request.path == path {
            true => Reply::new("200 OK", &built.manifest),
            false => answer_honestly(&built, request),
        }
    }));
    let (_dir, store) = make_store();
    let counted = |reference: &Reference| {
        let before = asked.load(SeqCst);
        pull(&store, reference, &Options::default(), &Quiet).unwrap();
        asked.load(SeqCst) - before
    };
    counted(&reference);
    let second = counted(&reference);
    // The library asks who it may be, then for the manifest.
    assert!(second <= 2, "{second} requests");
    let pinned: Reference =
        format!("{}@{digest}", reference.to_string().trim_end_matches(":1")).parse().unwrap();
    counted(&pinned);
    assert_eq!(counted(&pinned), 0);
}

#[test]
fn a_layer_nested_deeper_than_descriptors_go_can_be_removed() {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |kind, name: &str, link: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        match link {
            "" => tar.append_data(&mut header, name, std::io::empty()).unwrap(),
            link => tar.append_link(&mut header, name, link).unwrap(),
        }
    };
    // Each link begins where the last one's directories end.
    let deep = "d/".repeat(1000);
    for n in 0..4 {
        let under = if n == 0 { String::new() } else { format!("l{}/", n - 1) };
        add(tar::EntryType::Directory, &format!("{under}{deep}"), "");
        add(tar::EntryType::Symlink, &format!("l{n}"), &format!("{under}{deep}"));
    }
    let reference = served::serve(served::built_of(tar.into_inner().unwrap()));
    let (dir, store) = make_store();
    pull(&store, &reference, &Options::default(), &Quiet).unwrap();
    store.remove(&reference).unwrap();
    assert!(is_empty(&dir, "layers") && is_empty(&dir, "tmp"));
}
