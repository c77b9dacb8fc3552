//! Compiles the target of `DPoP` proofs, and rejects settings that conflict with it.

use super::Compiler;
use crate::config;
use crate::config::path_deserializer::Path;
use crate::http::url;
use crate::http::url::Url;
use crate::policy::DpopTarget;
use std::rc::Rc;

impl Compiler<'_> {
    /// A bound token has one location and one scheme (RFC 9449 section 7.1), and is useless without
    /// its proof.
    #[inline(never)]
    pub(super) fn dpop_target(
        &mut self,
        path: &Path,
        rule: &config::OutboundRule,
        dpop: bool,
    ) -> Option<DpopTarget> {
        // For a rule with `route_metadata`, `dpop` means that the route may name a credential with
        // it.
        let origin = rule.dpop_origin.as_deref();
        if !dpop {
            if origin.is_some() {
                let message = "the credential has no dpop, expected dpop: true there, or no dpop_origin";
                self.error_unless(vec![path.name("credential")], &path.name("dpop_origin"), message);
            }
            return None;
        }
        for (member, conflicts) in [
            ("header", rule.header.as_ref().is_some_and(|name| !name.eq_ignore_ascii_case("authorization"))),
            ("scheme", rule.scheme.as_ref().is_some_and(|scheme| scheme != "DPoP")),
            ("second_header", rule.second_header.is_some()),
        ] {
            if conflicts {
                let message = "the credential has dpop, expected its token only in Authorization: DPoP";
                self.error(&path.name(member), message);
            }
        }
        let parsed = origin.map(|text| origin_of(text).map(Rc::from));
        if parsed == Some(None) {
            let message = format!(
                "{:?}, expected an origin such as \"https://api.example.com\"",
                origin.unwrap_or_default()
            );
            self.error(&path.name("dpop_origin"), &message);
        }
        Some(DpopTarget { origin: parsed.flatten() })
    }
}

/// The origin of a URL without a path, in normal form.
#[inline(never)]
pub(super) fn origin_of(text: &str) -> Option<String> {
    let url = Url::parse(text).filter(|url| url.path == "/")?;
    url::origin(url.scheme.as_bytes(), url.authority.as_bytes())
}
