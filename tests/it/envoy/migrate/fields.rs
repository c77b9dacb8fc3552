//! The fields of Envoy's own configuration, as the running binary knows them: its descriptors are
//! in it (`google/protobuf/descriptor.proto`).

use m2m_auth_kit::envoy;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::process::Command;

/// More than the largest of the files that a page has a table for.
const MOST_BYTES: u64 = 64 << 10;

/// `Message.field` for every message of a `.proto` file.
pub(super) fn of(proto: &str) -> BTreeSet<String> {
    let binary = envoy::binary();
    let found = Command::new("grep").args(["-abo", "--", proto]).arg(&binary).output().unwrap();
    let offsets = String::from_utf8(found.stdout).unwrap();
    let length = u8::try_from(proto.len()).unwrap();
    let mut file = File::open(&binary).unwrap();
    for line in offsets.lines() {
        let offset: u64 = line.split(':').next().unwrap().parse().unwrap();
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(offset - 2)).unwrap();
        (&mut file).take(MOST_BYTES).read_to_end(&mut bytes).unwrap();
        // `name` is the first field of the descriptor, `package` the second.
        if bytes.starts_with(&[0x0a, length]) && bytes[2 + proto.len()] == 0x12 {
            let mut fields = BTreeSet::new();
            for (number, value) in members(&bytes) {
                match number {
                    4 => message(value, "", &mut fields),
                    // `syntax` is the last.
                    12 => return fields,
                    _ => (),
                }
            }
        }
    }
    panic!("{proto} is not in {}", binary.display());
}

/// The fields of a `DescriptorProto`, and of the messages in it. A map is a field, its entry is no
/// message.
fn message(bytes: &[u8], outer: &str, fields: &mut BTreeSet<String>) {
    let all = members(bytes);
    let of = |wanted: u64| all.iter().filter(move |(number, _)| *number == wanted).map(|(_, value)| *value);
    let options = of(7).next().unwrap_or_default();
    if members(options).iter().any(|(number, _)| *number == 7) {
        return;
    }
    let name = format!("{outer}{}", string(of(1).next().unwrap()));
    for field in of(2) {
        let own = members(field).into_iter().find(|(number, _)| *number == 1).unwrap().1;
        fields.insert(format!("{name}.{}", string(own)));
    }
    for nested in of(3) {
        message(nested, &format!("{name}."), fields);
    }
}

fn string(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The fields of a protobuf message: their number, and their bytes if they have a length.
fn members(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let skip = match key & 7 {
            0 => {
                varint(&mut bytes);
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut bytes)).unwrap(),
            5 => 4,
            _ => break,
        };
        if skip > bytes.len() {
            break;
        }
        let (value, rest) = bytes.split_at(skip);
        found.push((key >> 3, value));
        bytes = rest;
    }
    found
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    while let Some((first, rest)) = bytes.split_first() {
        *bytes = rest;
        value |= u64::from(first & 0x7f).checked_shl(shift).unwrap_or_default();
        shift += 7;
        if first & 0x80 == 0 {
            break;
        }
    }
    value
}
