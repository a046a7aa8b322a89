//! "Did you mean …?"

/// The candidate nearest to what was written, if one is near enough to be meant.
pub fn closest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_lowercase();
    let bound = (written.chars().count() / 4).max(2);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&written, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= bound)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_near_is_suggested() {
        let names = ["customer_uid", "currency", "anchor"];
        assert_eq!(closest("custmer_uid", names), Some("customer_uid"));
        assert_eq!(closest("Anchor", names), Some("anchor"));
        assert_eq!(closest("ancohr", names), Some("anchor"));
        assert_eq!(closest("price", names), None);
    }
}
