use super::*;

#[test]
fn a_verbs_own_entry_goes_before_that_of_all() {
    assert!(matches!(find_treatment("get", "--context"), Some((Treatment::Refused(_), true))));
    assert!(matches!(find_treatment("apply", "--server-side"), Some((Treatment::Fulfilled(_), false))));
    assert!(find_treatment("rollout status", "--revision").is_some());
    assert_eq!(find_treatment("get", "--nothing"), None);
    assert!(explain_command("build").is_some() && explain_command("get").is_none());
}
