//! The steps of a decision, recorded as it takes them, for `m2m-auth explain`.
//!
//! So an explanation is the decision itself, and no second one. In the module nobody listens, and nothing of this is
//! compiled: neither the steps nor their texts.

use std::cell::RefCell;

/// One step of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionStep {
    /// What was looked at.
    pub check: &'static str,
    /// Whether it was as it has to be.
    pub passed: bool,
    /// What was found, and what it was compared with. Never a token.
    pub detail: String,
}

thread_local! {
    static STEPS: RefCell<Option<Vec<DecisionStep>>> = const { RefCell::new(None) };
}

/// A step has been taken.
#[inline]
pub fn record(what: &'static str, holds: bool, detail: impl FnOnce() -> String) {
    if cfg!(not(target_family = "wasm")) {
        STEPS.with_borrow_mut(|steps| {
            if let Some(steps) = steps {
                steps.push(DecisionStep { check: what, passed: holds, detail: detail() });
            }
        });
    }
}

/// Records a failed check; nothing if it holds.
#[inline]
pub fn record_if(fails: bool, what: &'static str, detail: impl FnOnce() -> String) {
    if fails {
        record(what, false, detail);
    }
}

/// Runs something, and returns the steps that it recorded.
pub fn capture<R>(run: impl FnOnce() -> R) -> (R, Vec<DecisionStep>) {
    STEPS.set(Some(Vec::new()));
    let result = run();
    (result, STEPS.take().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_to_whoever_listens_and_cost_nobody_else_a_text() {
        record("path", true, || panic!("nobody listens"));
        let (result, steps) = capture(|| {
            record("path", false, || "/a".to_owned());
            7
        });
        assert_eq!(result, 7);
        assert_eq!(steps, [DecisionStep { check: "path", passed: false, detail: "/a".to_owned() }]);
    }
}
