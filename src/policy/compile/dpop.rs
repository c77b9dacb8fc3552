//! What a bound token's proof claims, and what does not go together with it.

use super::Compiler;
use crate::config;
use crate::config::path_deserializer::Path;
use crate::http::url;
use crate::http::url::Url;
use crate::policy::DpopTarget;
use std::rc::Rc;

impl Compiler<'_> {
    /// A bound token has one place and one scheme (RFC 9449 section 7.1), and is of no use anywhere without its proof.
    #[inline(never)]
    pub(super) fn dpop_target(
        &mut self,
        path: &Path,
        rule: &config::OutboundRule,
        dpop: bool,
    ) -> Option<DpopTarget> {
        // Of a rule that leaves the choice to the route, `dpop` says that it may choose one that has it.
        let origin = rule.dpop_origin.as_deref();
        if !dpop {
            if origin.is_some() {
                let fault = "the credential has no dpop, expected dpop: true there, or no dpop_origin";
                self.error_unless(vec![path.name("credential")], &path.name("dpop_origin"), fault);
            }
            return None;
        }
        for (member, contrary) in [
            ("header", rule.header.as_ref().is_some_and(|name| !name.eq_ignore_ascii_case("authorization"))),
            ("scheme", rule.scheme.as_ref().is_some_and(|scheme| scheme != "DPoP")),
            ("second_header", rule.second_header.is_some()),
        ] {
            if contrary {
                let fault = "the credential has dpop, expected its token in Authorization: DPoP alone";
                self.error(&path.name(member), fault);
            }
        }
        let parsed = origin.map(|text| origin_of(text).map(Rc::from));
        if parsed == Some(None) {
            let fault = format!(
                "{:?}, expected an origin such as \"https://api.example.com\"",
                origin.unwrap_or_default()
            );
            self.error(&path.name("dpop_origin"), &fault);
        }
        Some(DpopTarget { origin: parsed.flatten() })
    }
}

/// The origin of such a URL, in its one spelling.
#[inline(never)]
pub(super) fn origin_of(text: &str) -> Option<String> {
    let url = Url::parse(text).filter(|url| url.path == "/")?;
    url::origin(url.scheme.as_bytes(), url.authority.as_bytes())
}
