//! The steps of a decision, recorded during the decision, for `m2m-auth explain`.
//!
//! So an explanation is the decision itself, and not a second implementation. None of this is
//! compiled into the module: neither the steps nor their strings.

use std::cell::RefCell;

/// One step of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionStep {
    /// What was checked.
    pub check: &'static str,
    /// Whether the check passed.
    pub passed: bool,
    /// What was found, and what it was compared with. Never a token.
    pub detail: String,
}

thread_local! {
    static STEPS: RefCell<Option<Vec<DecisionStep>>> = const { RefCell::new(None) };
}

/// Records a step.
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

/// Records a failed check; nothing if it passed.
#[inline]
pub fn record_if(fails: bool, what: &'static str, detail: impl FnOnce() -> String) {
    if fails {
        record(what, false, detail);
    }
}

/// Runs a function, and returns its result and the recorded steps.
pub fn capture<R>(run: impl FnOnce() -> R) -> (R, Vec<DecisionStep>) {
    STEPS.set(Some(Vec::new()));
    let result = run();
    (result, STEPS.take().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_recorded_only_within_capture_and_cost_nothing_otherwise() {
        record("path", true, || panic!("not captured"));
        let (result, steps) = capture(|| {
            record("path", false, || "/a".to_owned());
            7
        });
        assert_eq!(result, 7);
        assert_eq!(steps, [DecisionStep { check: "path", passed: false, detail: "/a".to_owned() }]);
    }
}
