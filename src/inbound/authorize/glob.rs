//! Patterns in which `*` matches any string, also the empty one, and everything else matches itself.

/// Whether the whole of `text` is as `pattern` says. What stands between two stars is taken where it comes first, which
/// is right whenever anything is, and so the time is that of a few searches: nothing is ever tried twice.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    let inner = text.strip_prefix(start).and_then(|text| text.strip_suffix(end));
    inner.and_then(|inner| middle.split('*').try_fold(inner, after)).is_some()
}

/// What follows `part` where it comes first.
fn after<'t>(text: &'t str, part: &str) -> Option<&'t str> {
    text.split_once(part).map(|(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text_and_everything_else_is_itself() {
        for (pattern, yes, no) in [
            ("a", vec!["a"], vec!["", "A", "aa", "ab"]),
            ("*", vec!["", "a", "a*b", "\n"], vec![]),
            ("**", vec!["", "a"], vec![]),
            ("a*", vec!["a", "ab", "a*"], vec!["", "ba", "A"]),
            ("*a", vec!["a", "ba"], vec!["", "ab"]),
            ("a*a", vec!["aa", "aba"], vec!["a", "aab"]),
            ("ab*ba", vec!["abba", "abxba"], vec!["aba", "ab"]),
            ("a*b*c", vec!["abc", "axbxc", "abbcc", "abcbc"], vec!["ac", "acb", "abcx"]),
            ("*a*a*", vec!["aa", "xaxax"], vec!["a", "xax"]),
            ("a.*", vec!["a.", "a.b"], vec!["ab", "a"]),
            ("a?[b-c]\\*", vec!["a?[b-c]\\", "a?[b-c]\\x"], vec!["ax", "abb"]),
            ("ü*ü", vec!["üü", "üaü"], vec!["ü"]),
        ] {
            assert!(yes.iter().all(|text| matches(pattern, text)), "{pattern}: {yes:?}");
            assert!(!no.iter().any(|text| matches(pattern, text)), "{pattern}: {no:?}");
        }
    }

    #[test]
    fn a_pattern_that_takes_others_longer_than_anybody_lives_is_answered() {
        let (pattern, text) = ("a*".repeat(2000) + "b*", "a".repeat(16_000));
        assert!(!matches(&pattern, &text));
        assert!(matches(&pattern, &(text + "b")));
    }
}
