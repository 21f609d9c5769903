//! Suggestions for misspelled names.

/// The known name that is most similar to `typed`, if it is similar enough to be a suggestion.
pub(crate) fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', '_'], "");
    let typed = plain(typed);
    known
        .into_iter()
        .filter_map(|name| {
            let candidate = plain(name);
            let distance = strsim::damerau_levenshtein(&typed, &candidate);
            let near = distance <= (candidate.len() / 3).max(1) || (typed.len() >= 4 && candidate.starts_with(&typed));
            near.then_some((distance, name))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// "did you mean ...?", or the list of known names.
pub(crate) fn suggestion<'a>(typed: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(name) = nearest(typed, known.clone()) {
        return format!("did you mean `{name}`?");
    }
    let names: Vec<_> = known.into_iter().map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "none is configured".to_owned() } else { format!("use one of {}", names.join(", ")) }
}
