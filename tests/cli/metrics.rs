//! `rebilld metrics reference`.

use rebilld::ports::metrics::list::METRICS;

use super::rig::Rig;

#[test]
fn the_reference_of_metrics_is_a_table_a_listing_and_the_page_in_docs() {
    let rig = Rig::sqlite();
    let page = rig.ok(&["metrics", "reference", "--markdown"]);
    assert_eq!(page.trim_end(), include_str!("../../docs/metrics.md").trim_end());
    let listed = rig.json(&["metrics", "reference"]);
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), METRICS.len());
    assert_eq!((&listed[0]["metric"], &listed[0]["type"]), (&"rebilld_build_info".into(), &"info".into()));
    assert_eq!(rig.csv(&["metrics", "reference"]).len(), METRICS.len() + 1);
    assert!(rig.ok(&["metrics", "reference"]).contains("rebilld_oldest_due_age_seconds"));
}
