//! Requests that stay below one rule that allows them, however strange they look: a filter that
//! refuses them breaks services.

use super::{Grammar, HOST};
use crate::servers::spelling::{Framing, Kind, Spelling};

const SEGMENTS: [&[u8]; 44] = [
    b"a",
    b"users",
    b"42",
    b"caf%C3%A9",
    b"caf%c3%a9",
    b"%E2%82%AC",
    b"%F0%9F%98%80",
    b"a%2Fb",
    b"a%2fb",
    b"a;v=1",
    b"a;v=1;w=2",
    b"a%3Bb",
    b"a%20b",
    b"a+b",
    b"a:b",
    b"a@b",
    b"a,b",
    b"~a",
    b"a~",
    b"a.b",
    b".well-known",
    b"a..b",
    b"...",
    b"..a",
    b"a.",
    b"a=b",
    b"(a)",
    b"'a'",
    b"a*b",
    b"a&b",
    b"a$b",
    b"a!b",
    b"a%3Fb",
    b"a%23b",
    b"%41%42",
    b"a%25",
    b"100%25",
    b"A",
    b"Admin",
    b"admin",
    b"a_b",
    b"a-b",
    b"health",
    b"%7Ea",
];

const QUERIES: [&[u8]; 8] = [
    b"?x=1",
    b"?next=/admin",
    b"?path=../admin",
    b"?a=%2e%2e/admin",
    b"?q=a%2Fb&r=%5c",
    b"?",
    b"?/../admin",
    b"?u=http://admin.example.com/",
];

const HEADERS: [(&[u8], &[u8]); 8] = [
    (b"x-callers", b"a"),
    (b"x-caller-id", b"a"),
    (b"caller", b"a"),
    (b"x-request-id", b"a"),
    (b"x-called", b"a"),
    (b"m2m-auth", b"a"),
    (b"accept", b"*/*"),
    (b"x-http-methods", b"DELETE"),
];

impl Grammar {
    /// Something that must be allowed.
    pub(super) fn harmless(&mut self) -> Spelling {
        let mut target = match self.below(10) {
            0 => b"/health".to_vec(),
            1 => format!("/items/{}", self.below(1000)).into_bytes(),
            _ => {
                let mut path = b"/public".to_vec();
                for _ in 0..self.pick(&[1, 1, 2, 3]) {
                    path.push(b'/');
                    path.extend_from_slice(self.pick(&SEGMENTS));
                }
                path
            }
        };
        if self.chance(20) {
            target.extend_from_slice(self.pick(&QUERIES));
        }
        let method = self.pick(&[&b"GET"[..], b"GET", b"GET", b"POST", b"PUT", b"OPTIONS"]).to_vec();
        let framing =
            if matches!(method.as_slice(), b"POST" | b"PUT") { self.framing() } else { Framing::None };
        let host = match self.below(10) {
            0 => b"service.example.com:8080".to_vec(),
            1 => b"Service.Example.COM".to_vec(),
            2 => b"127.0.0.1:8080".to_vec(),
            3 => b"[::1]:8080".to_vec(),
            4 => b"localhost".to_vec(),
            _ => HOST.to_vec(),
        };
        let mut headers = Vec::new();
        if self.chance(20) {
            let (name, value) = self.pick(&HEADERS);
            headers.push((name.to_vec(), value.to_vec()));
        }
        Spelling { kind: Kind::Harmless, method, target, hosts: vec![host], headers, framing }
    }
}
