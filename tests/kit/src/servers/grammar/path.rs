//! Paths: segments, separators, and what leads up and down.

use super::{Grammar, HOST};
use crate::servers::spelling::{Framing, Kind, Spelling};

/// What separates two segments, or is taken for it by some. The first is the usual one.
const SLASHES: [&[u8]; 18] = [
    b"/",
    b"//",
    b"///",
    b"/./",
    b"/;/",
    b"/;x/",
    b"/%2e/",
    b"/.;/",
    b"/.;x/",
    b"%2f",
    b"%2F",
    b"\\",
    b"%5c",
    b"/%5c",
    b"%252f",
    b"%c0%af",
    b"\xc0\xaf",
    b"%ef%bc%8f",
];

/// What leads up, or is taken for it by some.
const UPS: [&[u8]; 22] = [
    b"..",
    b"%2e%2e",
    b".%2e",
    b"%2E.",
    b"%2E%2e",
    b"..;",
    b"..;x",
    b"..;x=1",
    b"..%3b",
    b"..%3Bx",
    b"%2e%2e;",
    b"%2e%2e%3b",
    b"%252e%252e",
    b".%252e",
    b"..%00",
    b"..%20",
    b".. ",
    b"..%09",
    b"%c0%ae%c0%ae",
    b"%u002e%u002e",
    b"\xef\xbc\x8e\xef\xbc\x8e",
    b"...",
];

/// What may follow a word without making it another, for some.
const SUFFIXES: [&[u8]; 33] = [
    b"/",
    b"//",
    b";",
    b";x",
    b";v=1",
    b";/",
    b"%3b",
    b"%3Bx",
    b".",
    b"..",
    b"%2e",
    b"%20",
    b" ",
    b"+",
    b"%00",
    b"%00.html",
    b"%09",
    b"\t",
    b"%0a",
    b"%0d%0a",
    b":",
    b"::$DATA",
    b"~",
    b"*",
    b",",
    b"%",
    b"%2",
    b"%zz",
    b"%c2%a0",
    b"%ef%bb%bf",
    b"%e2%80%8b",
    b".json",
    b"\0",
];

/// Prefixes of a path that some servers ignore.
const PREFIXES: [&[u8]; 17] = [
    b"",
    b"/",
    b"//",
    b"/.",
    b"/%2e",
    b"/;",
    b"/;x",
    b"/.;",
    b"http://service.example.com",
    b"http://x",
    b"HTTP://x",
    b"https://x:443",
    b"http:",
    b"http:/",
    b"//x",
    b"//u@x:80",
    b"\\",
];

impl Grammar {
    /// Something protected by its path, or by its path and its method.
    pub(super) fn path(&mut self) -> Spelling {
        let (goal, method): (&[u8], &[u8]) = match self.below(10) {
            0 | 1 => (b"items", b"DELETE"),
            2 => (b"admin", b"POST"),
            3 => (b"admin", self.pick(&[&b"HEAD"[..], b"OPTIONS", b"PUT", b"DELETE", b"PATCH"])),
            _ => (b"admin", b"GET"),
        };
        self.noise = self.pick(&[0, 0, 1, 1, 2]);
        let mut target = match self.below(10) {
            0 => self.directly(goal),
            1..=3 => self.leaving_allowed(goal),
            4..=6 => self.back_into_allowed(goal),
            7 => self.behind_authority(goal),
            8 => self.around_the_query(goal),
            _ => {
                let path = self.leaving_allowed(goal);
                self.mutated(path)
            }
        };
        if self.chance(self.noise * 8) {
            let prefix = self.pick(&PREFIXES);
            target.splice(0..0, prefix.iter().copied());
        }
        if self.chance(self.noise * 8) {
            target.extend_from_slice(self.pick(&[
                &b"?"[..],
                b"?x=1",
                b"#",
                b"#/../public",
                b"?/../../public/",
                b"%3f",
                b"%23",
                b";?",
            ]));
        }
        if self.chance(self.noise * 3) {
            target = self.mutated(target);
        }
        let framing =
            if matches!(method, b"POST" | b"PUT" | b"DELETE") { self.framing() } else { Framing::None };
        let hosts = vec![HOST.to_vec()];
        Spelling { kind: Kind::Path, method: method.to_vec(), target, hosts, headers: Vec::new(), framing }
    }

    /// The path itself.
    fn directly(&mut self, goal: &[u8]) -> Vec<u8> {
        let (slash, word) = (self.slash(), self.word(goal));
        let tail = self.tail();
        [slash, word, tail].concat()
    }

    /// Something allowed, out of it, and to the protected.
    fn leaving_allowed(&mut self, goal: &[u8]) -> Vec<u8> {
        let start = self.allowed();
        let depth = start.split(|byte| *byte == b'/').skip(1).count();
        let mut path = start;
        for _ in 0..self.pick(&[depth, depth, depth, depth + 1, 1]) {
            path.extend(self.slash());
            path.extend(self.up());
        }
        path.extend(self.slash());
        path.extend(self.word(goal));
        path.extend(self.tail());
        path
    }

    /// The protected path, out of it, and to an allowed one: a server that resolves that first sees
    /// the allowed path.
    fn back_into_allowed(&mut self, goal: &[u8]) -> Vec<u8> {
        let mut path = self.slash();
        path.extend(self.word(goal));
        let deeper = self.chance(30);
        if deeper {
            path.extend(self.slash());
            path.extend_from_slice(b"users");
        }
        for _ in 0..=usize::from(deeper) {
            path.extend(self.slash());
            path.extend(self.up());
        }
        let allowed = self.allowed();
        let slash = self.slash();
        path.extend(slash);
        path.extend_from_slice(&allowed[1..]);
        path
    }

    /// A target of which a reader of URLs takes a part for the host.
    fn behind_authority(&mut self, goal: &[u8]) -> Vec<u8> {
        const AUTHORITIES: [&[u8]; 12] = [
            b"public",
            b"health",
            b"items",
            b"public:80",
            b"public:x",
            b"u@public",
            b"public@x",
            b"",
            b"x",
            b"x:80",
            b"public%40x",
            b"[::1]",
        ];
        let start: &[u8] = self.pick(&[
            b"//",
            b"///",
            b"/\\",
            b"\\\\",
            b"/%2f",
            b"http://",
            b"http:/",
            b"/http://",
            b"//\t",
            b"/\t/",
            b"/./",
            b"//;",
        ]);
        let (start, authority) = if self.noise == 0 {
            (self.pick(&[&b"//"[..], b"//", start]), self.pick(&AUTHORITIES[..4]))
        } else {
            (start, self.pick(&AUTHORITIES))
        };
        let (slash, word, tail) = (self.slash(), self.word(goal), self.tail());
        [start, authority, &slash, &word, &tail].concat()
    }

    /// A target in which the path may be thought to end earlier or later than it does.
    fn around_the_query(&mut self, goal: &[u8]) -> Vec<u8> {
        let mark: &[u8] = self
            .pick(&[b"?", b"#", b"%3f", b"%3F", b"%23", b";", b"%3b", b"??", b"?#", b"&", b"%26", b"\\?"]);
        let (allowed, slash, up) = (self.allowed(), self.slash(), self.up());
        let word = self.word(goal);
        match self.below(4) {
            0 => [&allowed, mark, &slash, &up, b"/", &word].concat(),
            1 => [&allowed, mark, b"/", &up, b"/", &up, b"/", &word].concat(),
            2 => [&b"/"[..], &word, mark, &slash, &up, &allowed].concat(),
            _ => [mark, &slash, &word].concat(),
        }
    }

    /// A path that everybody may have.
    fn allowed(&mut self) -> Vec<u8> {
        let path: &[u8] = self.pick(&[b"/health", b"/public", b"/public/a", b"/public/a/b", b"/items/1"]);
        let mut path = path.to_vec();
        if self.chance(self.noise * 10) {
            path.extend_from_slice(self.pick(&SUFFIXES));
        }
        path
    }

    fn slash(&mut self) -> Vec<u8> {
        if self.chance(96 - 14 * self.noise) { SLASHES[0].to_vec() } else { self.pick(&SLASHES).to_vec() }
    }

    fn up(&mut self) -> Vec<u8> {
        if self.chance(35) { UPS[0].to_vec() } else { self.pick(&UPS).to_vec() }
    }

    /// What follows the protected word.
    fn tail(&mut self) -> Vec<u8> {
        let tail: &[u8] = match self.below(10) {
            0..=3 => b"",
            4 => self.pick(&SUFFIXES),
            5..=7 => b"/users",
            8 => b"/",
            _ => b"/a%2f..%2fb",
        };
        // There is no handler for `/items` alone.
        tail.to_vec()
    }

    fn word(&mut self, word: &[u8]) -> Vec<u8> {
        let mut spelt = match self.below(10) {
            0..=5 => word.to_vec(),
            _ if self.noise == 0 && self.chance(50) => word.to_vec(),
            6 => self.any_case(word),
            _ => self.respelled(word),
        };
        if self.chance(self.noise * 12) {
            spelt.extend_from_slice(self.pick(&SUFFIXES));
        }
        if word == b"items" {
            spelt.extend(self.slash());
            spelt.extend_from_slice(b"1");
        }
        spelt
    }

    /// Some of its characters in an encoding that some undo.
    pub(super) fn respelled(&mut self, word: &[u8]) -> Vec<u8> {
        let often = self.pick(&[15, 30, 100]);
        let how = self.below(10);
        let mixed = self.chance(25);
        let mut spelt = Vec::new();
        for byte in word {
            if !self.chance(often) {
                spelt.push(*byte);
                continue;
            }
            let (high, low) = (0xc0 | byte >> 6, 0x80 | byte & 0x3f);
            let wide = char::from_u32(0xff00 + u32::from(*byte) - 0x20).map(String::from).unwrap_or_default();
            let percent =
                |bytes: &[u8]| bytes.iter().map(|byte| format!("%{byte:02x}")).collect::<Vec<_>>().concat();
            let how = if mixed { self.below(10) } else { how };
            match how {
                0 | 1 => spelt.extend_from_slice(format!("%{byte:02x}").as_bytes()),
                2 => spelt.extend_from_slice(format!("%{byte:02X}").as_bytes()),
                3 => spelt.extend_from_slice(format!("%25{byte:02x}").as_bytes()),
                4 => spelt.extend_from_slice(format!("%u00{byte:02x}").as_bytes()),
                5 => spelt.extend_from_slice(percent(&[high, low]).as_bytes()),
                6 => spelt.extend_from_slice(&[high, low]),
                7 => spelt.extend_from_slice(wide.as_bytes()),
                8 => spelt.extend_from_slice(percent(wide.as_bytes()).as_bytes()),
                _ => spelt.push(byte.to_ascii_uppercase()),
            }
        }
        spelt
    }

    /// One byte or two more, less, or others.
    fn mutated(&mut self, mut path: Vec<u8>) -> Vec<u8> {
        const BYTES: &[u8] = b"/\\.;%?#:@&=+* \t\0\x7f\xc0\xaf\xff25eEfFcCuU0aA";
        for _ in 0..self.pick(&[1, 1, 2]) {
            let at = self.below(path.len() + 1);
            let byte = self.pick(BYTES);
            match self.below(3) {
                0 if at < path.len() => drop(path.remove(at)),
                1 if at < path.len() => path[at] = byte,
                _ => path.insert(at, byte),
            }
        }
        path
    }
}
