//! Paths with placeholders, such as `/orders/{id}/items`: whether a path matches, and the value of
//! a placeholder.
//!
//! It matches one reading of a path at a time. Nothing is allocated.

use super::Case;
use std::rc::Rc;

/// A path with placeholders, segment by segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    segments: Vec<TemplateSegment>,
}

/// One segment of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateSegment {
    /// Exactly these bytes.
    Literal(Vec<u8>),
    /// Any non-empty segment; `{name}`, or `*` without a name.
    One(Option<Rc<str>>),
    /// Any number of segments, including none; `{name=**}`, or `**` without a name.
    Rest(Option<Rc<str>>),
}

impl Template {
    /// A path of these segments; segments after [`TemplateSegment::Rest`] are ignored.
    pub fn new(segments: Vec<TemplateSegment>) -> Self {
        Self { segments }
    }

    /// Whether a path matches. A trailing slash is ignored.
    pub fn holds(&self, path: &[u8], case: Case) -> bool {
        let mut rest = path;
        for expected in &self.segments {
            if matches!(expected, TemplateSegment::Rest(_)) {
                return true;
            }
            let Some((segment, behind)) = first(rest) else {
                return false;
            };
            if matches!(expected, TemplateSegment::Literal(text) if !case.same(text, segment)) {
                return false;
            }
            rest = behind;
        }
        matches!(rest, [] | [b'/'])
    }

    /// The part of a matching path that the placeholder of that name matches.
    pub fn captured<'p>(&self, path: &'p [u8], name: &str) -> Option<&'p [u8]> {
        let mut rest = path;
        for expected in &self.segments {
            let is_it = |placeholder: &Option<Rc<str>>| placeholder.as_deref() == Some(name);
            if let TemplateSegment::Rest(placeholder) = expected {
                let rest = rest.strip_prefix(b"/").unwrap_or(rest);
                return is_it(placeholder).then(|| rest.strip_suffix(b"/").unwrap_or(rest));
            }
            let (segment, behind) = first(rest)?;
            if matches!(expected, TemplateSegment::One(placeholder) if is_it(placeholder)) {
                return Some(segment);
            }
            rest = behind;
        }
        None
    }

    /// The names of its placeholders.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            TemplateSegment::Literal(_) => None,
            TemplateSegment::One(name) | TemplateSegment::Rest(name) => name.as_deref(),
        })
    }
}

/// The first segment of a path, if it is not empty, and the rest of the path.
fn first(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let path = path.strip_prefix(b"/").filter(|path| !matches!(path, [] | [b'/', ..]))?;
    Some(path.split_at(path.iter().position(|byte| *byte == b'/').unwrap_or(path.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> TemplateSegment {
        TemplateSegment::Literal(text.into())
    }

    fn one(name: &str) -> TemplateSegment {
        TemplateSegment::One(Some(name.into()))
    }

    /// `/orders/{id}/items/*`
    fn items() -> Template {
        Template::new(vec![literal("orders"), one("id"), literal("items"), TemplateSegment::One(None)])
    }

    /// `/tenants/{tenant}/{rest=**}`
    fn tenants() -> Template {
        Template::new(vec![literal("tenants"), one("tenant"), TemplateSegment::Rest(Some("rest".into()))])
    }

    #[test]
    fn a_placeholder_is_one_segment_and_never_an_empty_one() {
        for path in ["/orders/42/items/7", "/orders/42/items/7/", "/orders/*/items/{x}", "/orders/é/items/."]
        {
            assert!(items().holds(path.as_bytes(), Case::Exact), "{path}");
        }
        for path in [
            "",
            "/",
            "/orders",
            "/orders/42",
            "/orders/42/items",
            "/orders/42/items/",
            "/orders//items/7",
            "/orders/42/43/items/7",
            "/orders/42/items/7/8",
            "/orders/42/items/7//",
            "/orders/42/itemsx/7",
            "/orders/42/Items/7",
            "/ordersx/42/items/7",
            "/x/orders/42/items/7",
            "orders/42/items/7",
        ] {
            assert!(!items().holds(path.as_bytes(), Case::Exact), "{path}");
        }
        assert!(
            Template::new(Vec::new()).holds(b"/", Case::Exact)
                && !Template::new(Vec::new()).holds(b"/x", Case::Exact)
        );
    }

    #[test]
    fn the_rest_is_any_number_of_segments() {
        for path in ["/tenants/a", "/tenants/a/", "/tenants/a/b", "/tenants/a/b/c/"] {
            assert!(tenants().holds(path.as_bytes(), Case::Exact), "{path}");
        }
        for path in ["/tenants", "/tenants/", "/tenantsx/a/b", "/"] {
            assert!(!tenants().holds(path.as_bytes(), Case::Exact), "{path}");
        }
        assert!(Template::new(vec![TemplateSegment::Rest(None)]).holds(b"/", Case::Exact));
    }

    #[test]
    fn a_placeholder_has_its_value_by_name() {
        assert_eq!(items().names().collect::<Vec<_>>(), ["id"]);
        assert_eq!(tenants().names().collect::<Vec<_>>(), ["tenant", "rest"]);
        assert_eq!(items().captured(b"/orders/42/items/7", "id"), Some(&b"42"[..]));
        for (name, value) in [("orders", None), ("", None), ("*", None)] {
            assert_eq!(items().captured(b"/orders/42/items/7", name), value, "{name}");
        }
        for (path, rest) in [("", ""), ("/", ""), ("/b", "b"), ("/b/c", "b/c"), ("/b/c/", "b/c")] {
            let path = format!("/tenants/a{path}");
            assert_eq!(tenants().captured(path.as_bytes(), "tenant"), Some(&b"a"[..]), "{path}");
            assert_eq!(tenants().captured(path.as_bytes(), "rest"), Some(rest.as_bytes()), "{path}");
        }
    }
}
