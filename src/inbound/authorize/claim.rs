//! Conditions on single claims. What is written in them is meant to the letter.

use super::{RequestContext, glob};
use serde_json::{Number, Value};
use std::cmp::Ordering;
use std::rc::Rc;

/// A condition on one claim; a claim that is not there passes no test but `Exists(false)`.
#[derive(Clone, Debug, PartialEq)]
pub enum ClaimTest {
    /// It is this text, number or truth value, of the same type.
    Equals(Value),
    /// It is one of these.
    OneOf(Vec<Value>),
    /// It is an array, and this is in it: as `groups` and `entitlements` (RFC 9068 section 2.2.3.1) are.
    Contains(Value),
    /// It is a text that begins so.
    Prefix(String),
    /// It is a string of this form, in which `*` matches any string.
    Glob(String),
    /// It is there, and not null; or it is not there at all.
    Exists(bool),
    /// It is a number, this or above.
    AtLeast(Number),
    /// It is a number, this or below.
    AtMost(Number),
    /// It is the same as something of the request.
    EqualsAttribute(RequestAttribute),
}

/// Something of the request that a claim can be compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestAttribute {
    /// The value of this header.
    Header(Rc<str>),
    /// What this placeholder of the rule's path captured, decoded.
    Path(Rc<str>),
    /// The host, without its port.
    Host,
}

impl ClaimTest {
    pub(super) fn holds(&self, claim: Option<&Value>, asked: RequestContext<'_>) -> bool {
        let Some(claim) = claim else {
            return *self == Self::Exists(false);
        };
        match self {
            Self::Equals(own) => values_equal(claim, own),
            Self::OneOf(list) => list.iter().any(|own| values_equal(claim, own)),
            Self::Contains(own) => {
                claim.as_array().is_some_and(|list| list.iter().any(|entry| values_equal(entry, own)))
            }
            Self::Prefix(own) => claim.as_str().is_some_and(|text| text.starts_with(own)),
            Self::Glob(own) => claim.as_str().is_some_and(|text| glob::matches(own, text)),
            Self::Exists(exists) => *exists && !claim.is_null(),
            Self::AtLeast(own) => compare_numbers(claim, own).is_some_and(Ordering::is_ge),
            Self::AtMost(own) => compare_numbers(claim, own).is_some_and(Ordering::is_le),
            Self::EqualsAttribute(part) => part.matches(claim, asked),
        }
    }

    /// What was missing. The values that would do are not named: they may be names of other callers.
    #[inline(never)]
    pub(super) fn message(&self, path: &[String]) -> String {
        let path = path.join(".");
        match self {
            Self::Exists(true) => format!("required claim: {path}"),
            Self::Exists(false) => format!("forbidden claim: {path}"),
            Self::EqualsAttribute(RequestAttribute::Header(name)) => {
                format!("required claim: {path}, equal to the header {name}")
            }
            Self::EqualsAttribute(RequestAttribute::Path(name)) => {
                format!("required claim: {path}, equal to {{{name}}} in the path")
            }
            Self::EqualsAttribute(RequestAttribute::Host) => {
                format!("required claim: {path}, equal to the host")
            }
            _ => format!("required claim: {path}, with an allowed value"),
        }
    }
}

impl RequestAttribute {
    fn matches(&self, claim: &Value, asked: RequestContext<'_>) -> bool {
        match self {
            Self::Header(name) => asked.target.header(name).is_some_and(|value| equals_bytes(claim, &value)),
            Self::Path(name) => {
                let value = asked.captures.iter().find(|(own, _)| own == name);
                value.and_then(|(_, value)| value.as_deref()).is_some_and(|value| equals_bytes(claim, value))
            }
            // Hosts are the same in any case (RFC 9110 section 4.2.3), and rules compare them so.
            Self::Host => claim.as_str().is_some_and(|own| {
                !own.is_empty() && asked.target.host_without_port().eq_ignore_ascii_case(own.as_bytes())
            }),
        }
    }
}

/// The claim, as a request can have it: a text that is not empty, or a whole number in its shortest form.
fn equals_bytes(claim: &Value, text: &[u8]) -> bool {
    match claim {
        Value::String(own) => !own.is_empty() && own.as_bytes() == text,
        Value::Number(own) => parse_integer(text).is_some_and(|number| as_integer(own) == Some(number)),
        _ => false,
    }
}

fn parse_integer(text: &[u8]) -> Option<i128> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let shortest = matches!((text, digits), (b"0", _) | (_, [b'1'..=b'9', ..]));
    let number =
        std::str::from_utf8(text).ok().filter(|_| shortest && digits.iter().all(u8::is_ascii_digit))?;
    number.parse::<u64>().map(i128::from).or_else(|_| number.parse::<i64>().map(i128::from)).ok()
}

fn values_equal(claim: &Value, own: &Value) -> bool {
    match (claim, own) {
        (Value::Number(_), Value::Number(own)) => compare_numbers(claim, own) == Some(Ordering::Equal),
        _ => claim == own,
    }
}

/// How two numbers compare, exactly; none for what is no number, or a fraction that may not be what was written.
fn compare_numbers(claim: &Value, own: &Number) -> Option<Ordering> {
    let Value::Number(claim) = claim else {
        return None;
    };
    match (as_integer(claim), as_integer(own)) {
        (Some(claim), Some(own)) => Some(claim.cmp(&own)),
        // Below the bound, a whole number that is rounded to a double stays on its side of every fraction.
        _ => as_double(claim)?.partial_cmp(&as_double(own)?),
    }
}

fn as_integer(number: &Number) -> Option<i128> {
    number.as_u64().map(i128::from).or_else(|| number.as_i64().map(i128::from))
}

fn as_double(number: &Number) -> Option<f64> {
    let value = number.as_f64()?;
    (as_integer(number).is_some() || value.abs() < SAFE_INTEGER_LIMIT).then_some(value)
}

/// 2^53: doubles below it that hold whole numbers hold exactly these (RFC 8259 section 6).
pub const SAFE_INTEGER_LIMIT: f64 = 9_007_199_254_740_992.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::message::MessageHead;
    use crate::http::route::Target;
    use serde_json::json;

    /// With two lines of the header `x-list`.
    fn holds(test: &ClaimTest, claim: &Value) -> bool {
        let fields = [
            (":path", "/"),
            (":authority", "Blue.example.com:8443"),
            ("x-tenant", "blue"),
            ("x-number", "42"),
            ("x-padded", "042"),
            ("x-largest", "18446744073709551615"),
            ("x-empty", ""),
            ("x-list", "blue"),
            ("x-list", "red"),
        ];
        let head: MessageHead = fields.into_iter().collect();
        test.holds(Some(claim), RequestContext { target: Target::of(&head), captures: &Vec::new() })
    }

    fn equals(own: &Value, claim: &Value) -> bool {
        holds(&ClaimTest::Equals(own.clone()), claim)
    }

    #[test]
    fn a_value_is_compared_to_the_letter_and_by_its_type() {
        assert!(equals(&json!("blue"), &json!("blue")) && equals(&json!("*"), &json!("*")));
        assert!(equals(&json!(true), &json!(true)) && equals(&json!(3), &json!(3)));
        for (own, claim) in [
            (json!("blue"), json!("Blue")),
            (json!("*"), json!("blue")),
            (json!("b.*"), json!("blue")),
            (json!("3"), json!(3)),
            (json!(3), json!("3")),
            (json!("true"), json!(true)),
            (json!(1), json!(true)),
            (json!("blue"), json!(["blue"])),
            (json!("blue"), json!({ "blue": "blue" })),
            (json!(false), json!(null)),
            (json!(0), json!(null)),
        ] {
            assert!(!equals(&own, &claim), "{own} {claim}");
        }
        let one_of = ClaimTest::OneOf(vec![json!("a*"), json!(7), json!(false)]);
        assert!([json!("a*"), json!(7), json!(false)].iter().all(|claim| holds(&one_of, claim)));
        assert!(
            ![json!("ab"), json!("7"), json!(true), json!(["a*"])].iter().any(|claim| holds(&one_of, claim))
        );
    }

    #[test]
    fn an_array_contains_whole_entries_and_a_text_contains_nothing() {
        let blue = ClaimTest::Contains(json!("blue"));
        assert!(
            holds(&blue, &json!(["red", "blue"])) && holds(&ClaimTest::Contains(json!(7)), &json!(["7", 7]))
        );
        for claim in [json!(["blues"]), json!([["blue"]]), json!([]), json!("blue"), json!({ "blue": 1 })] {
            assert!(!holds(&blue, &claim), "{claim}");
        }
    }

    #[test]
    fn prefixes_and_patterns_are_for_texts() {
        let (prefix, glob) = (ClaimTest::Prefix("a*".into()), ClaimTest::Glob("a*".into()));
        assert!(holds(&prefix, &json!("a*b")) && !holds(&prefix, &json!("ab")));
        assert!(holds(&glob, &json!("ab")) && !holds(&glob, &json!("b")));
        for claim in [json!(["ab"]), json!(null), json!(7), json!({ "ab": 1 })] {
            assert!(
                !holds(&ClaimTest::Glob("*".into()), &claim)
                    && !holds(&ClaimTest::Prefix(String::new()), &claim)
            );
        }
    }

    #[test]
    fn a_claim_that_is_null_is_neither_there_nor_absent() {
        assert!(
            holds(&ClaimTest::Exists(true), &json!(false)) && holds(&ClaimTest::Exists(true), &json!(""))
        );
        assert!(
            !holds(&ClaimTest::Exists(true), &json!(null)) && !holds(&ClaimTest::Exists(false), &json!(null))
        );
        let head = MessageHead::from_iter([(":path", "/")]);
        let absent = |test: ClaimTest| {
            test.holds(None, RequestContext { target: Target::of(&head), captures: &Vec::new() })
        };
        assert!(absent(ClaimTest::Exists(false)) && !absent(ClaimTest::Exists(true)));
        let of_header = ClaimTest::EqualsAttribute(RequestAttribute::Header("x-not-there".into()));
        for test in [
            ClaimTest::Equals(json!(null)),
            ClaimTest::Glob("*".into()),
            ClaimTest::Prefix(String::new()),
            of_header,
        ] {
            assert!(!absent(test.clone()), "{test:?}");
        }
    }

    #[test]
    fn numbers_are_compared_exactly() {
        let number = |value: &Value| value.as_number().unwrap().clone();
        for (low, high) in [
            (json!(2), json!(3)),
            (json!(-3), json!(-2)),
            (json!(u64::MAX - 1), json!(u64::MAX)),
            (json!(i64::MIN), json!(i64::MIN + 1)),
            (json!(i64::MIN), json!(u64::MAX)),
            (json!(9_007_199_254_740_992_u64), json!(9_007_199_254_740_993_u64)),
            (json!(1.5), json!(2)),
            (json!(1), json!(1.5)),
            (json!(1.25), json!(1.5)),
            (json!(-1.5), json!(-1)),
        ] {
            let (least, most) = (ClaimTest::AtLeast(number(&high)), ClaimTest::AtMost(number(&low)));
            assert!(!holds(&least, &low) && holds(&least, &high), "{low} {high}");
            assert!(!holds(&most, &high) && holds(&most, &low), "{low} {high}");
            assert!(!equals(&low, &high) && equals(&low, &low), "{high}");
        }
        assert!(
            equals(&json!(3), &json!(3.0)) && equals(&json!(3.0), &json!(3)),
            "one number, written twice"
        );
        // A double that may have been another number when it was written compares with nothing.
        for claim in
            [json!(9_007_199_254_740_992.0), json!(1e300), json!(-1e300), json!("5"), json!([5]), json!(null)]
        {
            let all = [
                ClaimTest::AtLeast(5.into()),
                ClaimTest::AtMost(5.into()),
                ClaimTest::AtMost(u64::MAX.into()),
            ];
            assert!(!all.iter().any(|test| holds(test, &claim)), "{claim}");
        }
    }

    #[test]
    fn a_claim_is_the_same_as_a_header_only_if_that_is_all_the_header_says() {
        let of = |name: &str, claim: Value| {
            holds(&ClaimTest::EqualsAttribute(RequestAttribute::Header(name.into())), &claim)
        };
        assert!(of("x-tenant", json!("blue")) && of("x-list", json!("blue,red")));
        assert!(of("x-number", json!(42)) && of("x-number", json!("42")) && of("x-padded", json!("042")));
        assert!(of("x-largest", json!(u64::MAX)));
        for (name, claim) in [
            ("x-tenant", json!("Blue")),
            ("x-tenant", json!("blu")),
            ("x-tenant", json!("*")),
            ("x-tenant", json!(["blue"])),
            ("x-tenant", json!(null)),
            ("x-list", json!("blue")),
            ("x-list", json!("red")),
            ("x-padded", json!(42)),
            ("x-number", json!(42.5)),
            ("x-empty", json!("")),
            ("x-empty", json!(0)),
            ("x-not-there", json!("")),
            ("x-not-there", json!(null)),
        ] {
            assert!(!of(name, claim.clone()), "{name} {claim}");
        }
    }

    #[test]
    fn a_claim_is_the_same_as_the_host_without_case_and_port() {
        let host = |claim: Value| holds(&ClaimTest::EqualsAttribute(RequestAttribute::Host), &claim);
        assert!(host(json!("blue.example.com")) && host(json!("BLUE.example.com")));
        for claim in [
            json!("blue.example.com:8443"),
            json!("example.com"),
            json!(""),
            json!(null),
            json!(["blue.example.com"]),
        ] {
            assert!(!host(claim.clone()), "{claim}");
        }
    }
}
