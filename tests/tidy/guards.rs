//! The list of guards that `scripts/prove-guards` takes out: it must not grow old.

/// What is wrong with the list, a line each. `read` gives a file's text, `tests` all tests' source.
pub fn stale(list: &str, read: impl Fn(&str) -> Option<String>, tests: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for line in list.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [guard, file, text, without, target, test] = fields[..] else {
            wrong.push(format!("guards.tsv: `{line}` has {} fields and not 6", fields.len()));
            continue;
        };
        match read(file).map(|source| source.matches(text).count()) {
            None => wrong.push(format!("guards.tsv, {guard}: there is no file {file}")),
            Some(1) if text != without => {}
            Some(times) => wrong.push(format!("guards.tsv, {guard}: `{text}` is {times} times in {file}, and not once")),
        }
        let known = tests.contains(&format!("fn {test}")) && !target.is_empty();
        if !known {
            wrong.push(format!("guards.tsv, {guard}: no test begins with {test}"));
        }
    }
    wrong
}

#[test]
fn a_guard_that_moved_and_a_test_that_is_gone_are_found() {
    let list = "guard\tfile\ttext\twithout\ttarget\ttest\na\tf.rs\tif x\tif false\tlib\tis_so\n";
    let read = |text: &'static str| move |file: &str| (file == "f.rs").then(|| text.to_owned());
    assert_eq!(stale(list, read("if x {}"), "fn is_so() {}"), Vec::<String>::new());
    assert_eq!(stale(list, read("if x {} if x {}"), "fn is_so() {}").len(), 1);
    assert_eq!(stale(list, read("if y {}"), "fn was_so() {}").len(), 2);
    assert_eq!(stale("guard\na\tf.rs", read("if x {}"), "").len(), 1);
}
