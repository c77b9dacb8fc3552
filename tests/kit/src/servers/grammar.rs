//! Makes requests that want something protected and say so in a strange way, from a grammar, the
//! same for the same seed.
//!
//! What is protected: the path `/admin` and what is below it, the host `admin.example.com`,
//! `DELETE` below `/items`, and the headers `x-caller` and `m2m-auth-decision`. What is not:
//! `/health`, what is below `/public`, other methods below `/items`.

mod harmless;
mod path;

use super::spelling::{FORGED, Framing, Kind, Spelling};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use std::collections::HashSet;

/// The grammar and its dice.
pub struct Grammar {
    dice: StdRng,
    /// How much of a path is strange beside what makes it dangerous: nothing, something, much.
    noise: u32,
}

/// So many distinct requests, made from that seed: of 20, 13 have strange paths, 1 a strange
/// method, 2 a strange host, 2 a strange header name, and 2 are harmless.
pub fn spellings(seed: u64, count: usize) -> Vec<Spelling> {
    let mut grammar = Grammar { dice: StdRng::seed_from_u64(seed), noise: 0 };
    let mut known = HashSet::new();
    let mut all = Vec::with_capacity(count);
    for turn in 0.. {
        if all.len() == count {
            break;
        }
        assert!(turn < count * 50 + 1000, "the grammar has no {count} spellings, only {}", all.len());
        let spelling = match turn % 20 {
            0 | 10 => grammar.harmless(),
            1 => grammar.method(),
            2 | 12 => grammar.host(),
            3 | 13 => grammar.header(),
            _ => grammar.path(),
        };
        // A line break in a request line would be another request.
        let breaks = |bytes: &[u8]| bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n'));
        if !breaks(&spelling.target) && known.insert(spelling.clone()) {
            all.push(spelling);
        }
    }
    all
}

/// Any host that is not protected.
const HOST: &[u8] = b"service.example.com";

impl Grammar {
    fn chance(&mut self, of_hundred: u32) -> bool {
        self.dice.gen_range(0..100) < of_hundred
    }

    fn below(&mut self, end: usize) -> usize {
        self.dice.gen_range(0..end)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        *from.choose(&mut self.dice).expect("something to pick from")
    }

    fn framing(&mut self) -> Framing {
        self.pick(&[Framing::None, Framing::None, Framing::Length, Framing::Chunked])
    }

    /// Each letter in upper or in lower case.
    fn any_case(&mut self, text: &[u8]) -> Vec<u8> {
        let swap = |byte: &u8| {
            if byte.is_ascii_lowercase() { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() }
        };
        text.iter().map(|byte| if self.chance(50) { swap(byte) } else { *byte }).collect()
    }

    /// `DELETE` below `/items`, by a method that some take for it.
    fn method(&mut self) -> Spelling {
        const OVERRIDES: [&[u8]; 5] = [
            b"x-http-method-override",
            b"x-http-method",
            b"x-method-override",
            b"X-HTTP-Method-Override",
            b"x_http_method_override",
        ];
        let mut headers = Vec::new();
        let framing;
        let mut target = format!("/items/{}", self.below(1000)).into_bytes();
        let method = if self.chance(60) {
            framing = self.framing();
            let spelt = match self.below(3) {
                0 => b"DELETE".to_vec(),
                1 => b"delete".to_vec(),
                _ => self.any_case(b"DELETE"),
            };
            let before: &[u8] =
                self.pick(&[b"", b"", b"", b"", b" ", b"\t", b"X", b"GET,", b"\xef\xbb\xbf", b"%"]);
            let after: &[u8] = self.pick(&[
                b"",
                b"",
                b"",
                b"",
                b"",
                b" ",
                b"\t",
                b"\0",
                b",GET",
                b"/",
                b";",
                b":",
                b"\x0b",
                b"S",
                b"\xc2\xa0",
                b"%20",
            ]);
            [before, &spelt, after].concat()
        } else {
            framing = Framing::Length;
            for _ in 0..self.pick(&[1, 1, 1, 2]) {
                let name = self.pick(&OVERRIDES).to_vec();
                let spelt = if self.chance(50) { b"DELETE".to_vec() } else { self.any_case(b"DELETE") };
                let around: (&[u8], &[u8]) = self.pick(&[
                    (b"", b""),
                    (b"", b""),
                    (b"", b""),
                    (b" ", b""),
                    (b"", b" "),
                    (b"GET, ", b""),
                    (b"", b", GET"),
                    (b"\t", b""),
                    (b"\"", b"\""),
                ]);
                headers.push((name, [around.0, &spelt, around.1].concat()));
            }
            self.pick(&[&b"POST"[..], b"POST", b"POST", b"GET", b"PUT", b"post"]).to_vec()
        };
        if self.chance(10) {
            target.extend_from_slice(b"?_method=DELETE");
        }
        Spelling { kind: Kind::Method, method, target, hosts: vec![HOST.to_vec()], headers, framing }
    }

    /// The protected host, as the host of something that everybody may have elsewhere.
    fn host(&mut self) -> Spelling {
        const PROTECTED: &[u8] = b"admin.example.com";
        const AFTER: [&[u8]; 30] = [
            b"",
            b"",
            b".",
            b"..",
            b":",
            b":80",
            b":8080",
            b":x",
            b":+1",
            b":-1",
            b":80.",
            b":080",
            b":0",
            b":65536",
            b":99999999999",
            b": 80",
            b":80:80",
            b":80 ",
            b".:80",
            b"/",
            b"/x",
            b"#x",
            b"?x",
            b"\\",
            b",x",
            b" ",
            b"\t",
            b"%20",
            b"%00",
            b":80,x",
        ];
        const BEFORE: [&[u8]; 10] = [b"", b"", b"", b"", b"", b"u@", b"u:p@", b"x@", b"//", b"http://"];
        let spelt = match self.below(8) {
            0 | 1 => self.any_case(PROTECTED),
            2 => self.respelled(PROTECTED),
            3 => {
                let dot: &[u8] =
                    self.pick(&[b"%2e", b"\xe3\x80\x82", b"\xef\xbc\x8e", b"%e3%80%82", b"\xc2\xad."]);
                [b"admin", dot, b"example", dot, b"com"].concat()
            }
            _ => PROTECTED.to_vec(),
        };
        let host = [self.pick(&BEFORE), &spelt, self.pick(&AFTER)].concat();
        let target: &[u8] = self.pick(&[b"/health", b"/health?x", b"/public/a", b"/items/1", b"/public/"]);
        let (mut target, other) = (target.to_vec(), HOST.to_vec());
        let hosts = match self.below(12) {
            0 => vec![other, host],
            1 => vec![host, other],
            2 => {
                target = [b"http://", host.as_slice(), &target].concat();
                vec![other]
            }
            3 => {
                target = [b"http://", HOST, &target].concat();
                vec![host]
            }
            _ => vec![host],
        };
        let method = self.pick(&[&b"GET"[..], b"GET", b"POST"]).to_vec();
        let framing = if method == b"POST" { self.framing() } else { Framing::None };
        Spelling { kind: Kind::Host, method, target, hosts, headers: Vec::new(), framing }
    }

    /// A header that only the filter may set, under a name that some take for the same.
    fn header(&mut self) -> Spelling {
        const DASHES: &[u8] = b"---____..!~#$%&'*+^`|  \t/:@\0\xad";
        let name: &[u8] = self.pick(&[b"x-caller", b"x-caller", b"m2m-auth-decision"]);
        let spelt: Vec<u8> = match self.below(3) {
            0 => name.to_vec(),
            1 => self.any_case(name),
            _ => name.to_ascii_uppercase(),
        };
        let same = self.chance(60).then(|| self.pick(DASHES));
        let mut spelt: Vec<u8> = spelt
            .into_iter()
            .map(|byte| if byte == b'-' { same.unwrap_or_else(|| self.pick(DASHES)) } else { byte })
            .collect();
        if self.chance(10) {
            spelt.extend_from_slice(self.pick(&[&b" "[..], b"\t", b"\0", b"-", b"_", b"."]));
        }
        let mut headers = vec![(spelt, FORGED.as_bytes().to_vec())];
        if self.chance(10) {
            headers.insert(self.below(2), (name.to_vec(), FORGED.as_bytes().to_vec()));
        }
        let target: &[u8] = self.pick(&[b"/health", b"/public/a", b"/items/1", b"/else"]);
        let method = self.pick(&[&b"GET"[..], b"GET", b"POST"]).to_vec();
        let framing = if method == b"POST" { Framing::Length } else { Framing::None };
        Spelling {
            kind: Kind::Header,
            method,
            target: target.to_vec(),
            hosts: vec![HOST.to_vec()],
            headers,
            framing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_distinct_requests_each_time_and_another_makes_others() {
        let all = spellings(1, 6000);
        assert_eq!(all, spellings(1, 6000));
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 6000);
        let others: HashSet<_> = spellings(2, 6000).into_iter().collect();
        let shared = all.iter().filter(|spelling| others.contains(spelling)).count();
        assert!(shared < 2500, "{shared}");
        for kind in [Kind::Path, Kind::Method, Kind::Host, Kind::Header, Kind::Harmless] {
            let count = all.iter().filter(|spelling| spelling.kind == kind).count();
            assert!(count >= 200, "{kind:?}: {count}");
        }
    }

    #[test]
    fn a_request_is_one_request() {
        for spelling in spellings(3, 2000) {
            let bytes = spelling.http1(None);
            let lines = bytes.windows(2).filter(|pair| pair == b"\r\n").count();
            let chunked = if spelling.framing == Framing::Chunked { 2 } else { 0 };
            let length = usize::from(spelling.framing != Framing::None);
            assert_eq!(
                lines,
                2 + spelling.hosts.len() + spelling.headers.len() + length + chunked,
                "{spelling:?}"
            );
            assert!(!spelling.target.contains(&b'\n'), "{spelling:?}");
        }
    }
}
