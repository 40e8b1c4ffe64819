//! kr8s' own test-suite, which expects a cluster that kind has made, and finds `podctl serve`.

use super::{client, clients, common::Home};

/// What the suite comes to: tests that pass; one that is for trying by hand, and one that is a matter of luck; and those that are
/// expected to fail, one of them by the suite itself.
const RESULT: &str = "152 passed, 2 skipped, 15 xfailed";

#[test]
fn kr8s_own_suite_finds_a_cluster_but_for_what_is_listed() {
    let home = Home::new();
    for (name, text) in [
        ("pytest_kind/__init__.py", include_str!("kr8s/pytest_kind/__init__.py")),
        ("pytest_kind/cluster.py", include_str!("kr8s/pytest_kind/cluster.py")),
        ("missed.txt", include_str!("kr8s/missed.txt")),
    ] {
        std::fs::create_dir_all(home.path("pytest_kind")).unwrap();
        home.file(name, text);
    }
    // A cluster has pods in its own namespace, and the suite counts on one of them.
    let resident = include_str!("kr8s/resident.yaml").replace("NAMESPACE", "kube-system");
    home.said(&["apply", "-f", &home.file("resident.yaml", &resident)]);

    let place = clients("kr8s");
    let mut pytest = client(&home, &place.join("bin/python").display().to_string());
    let path = format!("{}:{}", place.join("bin").display(), std::env::var("PATH").unwrap());
    pytest.env("PATH", path).env("PYTHONPATH", home.path("")).env("PYTHONDONTWRITEBYTECODE", "1");
    pytest.env("PODCTL_TEST_KUBECONFIG", home.path("kubeconfig"));
    pytest.env("PODCTL_TEST_MISSED", home.path("missed.txt"));
    pytest.args([
        "-m",
        "pytest",
        "-o",
        "addopts=",
        "-p",
        "no:cacheprovider",
        "-p",
        "pytest_kind",
        "--keep-cluster",
    ]);
    // Most of them wait most of the time. Its authors have a failed one tried three times more: one of them, say, asks that
    // no answer comes within ten microseconds.
    pytest.args([
        "-q",
        "-n",
        "4",
        "--timeout",
        "60",
        "--reruns",
        "3",
        "kr8s/tests/test_api.py",
        "kr8s/tests/test_objects.py",
    ]);
    let output = pytest.current_dir(place.join("suite")).output().unwrap();
    home.said(&["delete", "pods", "--all", "--all-namespaces", "--force"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains(RESULT),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
