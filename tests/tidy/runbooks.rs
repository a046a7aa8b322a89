//! Each alarm has a page that says what to do, in the same order.

/// What a page has to say.
const HEADINGS: [&str; 4] = ["## What it means", "## What to look at", "## What to do", "## What never to do"];

/// What is missing, a line each. `read` gives the text of a page.
pub fn missing(kinds: &[&str], read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    for kind in kinds {
        let path = format!("docs/runbooks/{kind}.md");
        let Some(text) = read(&path) else {
            wrong.push(format!("{path}: the alarm `{kind}` has no page"));
            continue;
        };
        let found: Vec<&str> = text.lines().filter(|line| HEADINGS.contains(line)).collect();
        if found != HEADINGS {
            wrong.push(format!("{path}: its headings have to be, in this order: {}", HEADINGS.join(", ")));
        }
    }
    wrong
}

#[test]
fn a_page_that_is_missing_or_unfinished_is_found() {
    let whole = HEADINGS.join("\nwords\n");
    let read = |text: String| move |path: &str| (path == "docs/runbooks/hold.md").then(|| text.clone());
    assert_eq!(missing(&["hold"], read(whole.clone())), Vec::<String>::new());
    assert_eq!(missing(&["hold", "fuse"], read(whole.clone())).len(), 1);
    assert_eq!(missing(&["hold"], read(whole.replace("## What to do", "## To do"))).len(), 1);
}
