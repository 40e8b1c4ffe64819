use serde_json::{Value, json};

use super::Template;

/// The object of Kubernetes' page on JSONPath.
fn documented_object() -> Value {
    json!({
        "kind": "List",
        "items": [
            {"kind": "None", "metadata": {"name": "127.0.0.1", "labels": {"kubernetes.io/hostname": "127.0.0.1"}},
             "status": {"capacity": {"cpu": "4"}, "addresses": [{"type": "LegacyHostIP", "address": "127.0.0.1"}]}},
            {"kind": "None", "metadata": {"name": "127.0.0.2"},
             "status": {"capacity": {"cpu": "8"}, "addresses": [
                {"type": "LegacyHostIP", "address": "127.0.0.2"},
                {"type": "another", "address": "127.0.0.3"}]}}
        ],
        "users": [
            {"name": "myself", "user": {}},
            {"name": "e2e", "user": {"username": "admin", "password": "secret"}}
        ]
    })
}

#[test]
fn the_examples_of_kubernetes_documentation_print_what_it_says() {
    for (template, expected) in [
        ("kind is {.kind}", "kind is List"),
        ("{.kind}", "List"),
        ("{['kind']}", "List"),
        ("{.items[*].metadata.name}", "127.0.0.1 127.0.0.2"),
        ("{.users[0].name}", "myself"),
        ("{..name}", "127.0.0.1 127.0.0.2 myself e2e"),
        ("{.items[*]['metadata.name']}", "127.0.0.1 127.0.0.2"),
        ("{.items[*]['metadata', 'status'].capacity}", r#"{"cpu":"4"} {"cpu":"8"}"#),
        (r#"{.users[?(@.name=="e2e")].user.password}"#, "secret"),
        (
            r#"{range .items[*]}[{.metadata.name}, {.status.capacity}] {end}"#,
            r#"[127.0.0.1, {"cpu":"4"}] [127.0.0.2, {"cpu":"8"}] "#,
        ),
        (r#"{range .items[*]}{.metadata.name}{"\t"}{end}"#, "127.0.0.1\t127.0.0.2\t"),
        (r"{.items[0].metadata.labels.kubernetes\.io/hostname}", "127.0.0.1"),
        (r"{.items[0].metadata.labels['kubernetes\.io/hostname']}", "127.0.0.1"),
    ] {
        let printed = Template::new(template).unwrap().print(&documented_object(), true).unwrap();
        assert_eq!(printed, expected, "{template}");
    }
}

#[test]
fn paths_filters_slices_and_unions_find_what_kubectl_finds() {
    let object = json!({"a": [1, 2, 3, 4], "o": {"x": true, "n": null}, "l": [
        {"n": "a", "v": 1, "s": {"t": [1]}}, {"n": "b", "v": 2.5}, {"n": "c}", "v": 3}]});
    for (template, expected) in [
        ("{$.a}", "[1,2,3,4]"),
        ("{@.a[0]}", "1"),
        ("{@}", &object.to_string()),
        ("{.}", ""),
        ("{.a[0:2]}", "1 2"),
        ("{.a[-1:]}", "4"),
        ("{.a[-1]}", "4"),
        ("{.a[:2]}", "1 2"),
        ("{.a[1:4:2]}", "2 4"),
        ("{.a[::2]}", "1 3"),
        ("{.a[0,2]}", "1 3"),
        ("{.a[1:1]}", ""),
        ("{.a[*]}", "1 2 3 4"),
        ("{.o.*}", "null true"),
        ("{.l[?(@.v>1)].n}", "b c}"),
        ("{.l[?(@.v>=2.5)].n}", "b c}"),
        ("{.l[?(@.v<2)].n}", "a"),
        ("{.l[?(@.v<=2.5)].n}", "a b"),
        ("{.l[?(@.n!='a')].n}", "b c}"),
        ("{.l[?(@.n == \"c}\")].v}", "3"),
        ("{.l[?(@.s)].n}", "a"),
        ("{.l[?(@.s.t[0]==1)].n}", "a"),
        ("{..t[0]}", "1"),
        ("{.o.x}{\"\\n\"}{.o.missing}", "true\n"),
        ("{range .l[*]}{.n}{range .s.t[*]}({@}){end};{end}!", "a(1);b;c};!"),
        (".a", ".a"),
    ] {
        let printed = Template::new(template).unwrap().print(&object, true);
        assert_eq!(printed.as_deref(), Ok(expected), "{template}");
    }
}

#[test]
fn what_cannot_be_read_or_found_is_said() {
    let object = json!({"a": [1], "o": {}});
    for template in ["{.a", "{.a[0}", "{.a[x]}", "{.a[?(@.b]}", "{....a}", "{\"x}"] {
        assert!(Template::new(template).is_err(), "{template}");
    }
    let fails = |template, lenient| Template::new(template).unwrap().print(&object, lenient).unwrap_err();
    assert_eq!(fails("{.b}", false).to_string(), "error executing jsonpath \"{.b}\": b is not found");
    assert!(fails("{.a[3]}", true).to_string().ends_with("array index out of bounds: index 3, length 1"));
    assert!(fails("{.o[0]}", true).to_string().ends_with("map[string]interface {} is not array or slice"));
    assert!(fails("{.o[*]}", true).to_string().ends_with("map[string]interface {} is not array or slice"));
    assert!(fails("{foo}", true).to_string().ends_with("unrecognized identifier foo"));
    assert!(fails("{end}", true).to_string().ends_with("not in range, nothing to end"));
    assert!(fails("{.a[0:1:0]}", true).to_string().ends_with("step must be > 0"));
    assert!(fails("{.a[?(@=1)]}", true).to_string().ends_with("unrecognized filter operator ="));
    let explained = Template::new("{.a[3]}").unwrap().print_explained(&object, true).unwrap_err().to_string();
    assert!(
        explained.ends_with(
            "\t\tmap[string]interface {}{\"a\":[]interface {}{1}, \"o\":map[string]interface {}{}}\n\n"
        ),
        "{explained}"
    );
}

#[test]
fn a_path_may_lack_braces_and_dot() {
    let object = json!({"a": {"b": 1}});
    for path in ["a.b", ".a.b", "{a.b}", "{.a.b}"] {
        assert_eq!(Template::path(path).unwrap().print(&object, false).unwrap(), "1", "{path}");
    }
}
