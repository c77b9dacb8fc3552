//! Header maps as the ABI serialises them, written anew from its description, so that the module's
//! own reading and writing are checked against something else than themselves.

/// Name and value, as they came.
pub(crate) type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// A count, the two lengths of each pair, then each name and each value with a zero byte behind it.
pub(crate) fn write(pairs: &Pairs) -> Vec<u8> {
    let word = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
    let mut bytes = word(pairs.len()).to_vec();
    for (name, value) in pairs {
        bytes.extend([word(name.len()), word(value.len())].concat());
    }
    for (name, value) in pairs {
        bytes.extend([name.as_slice(), b"\0", value.as_slice(), b"\0"].concat());
    }
    bytes
}

/// The pairs, if there is nothing but pairs.
pub(crate) fn read(bytes: &[u8]) -> Option<Pairs> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize);
    let count = word(0)?;
    let mut rest = bytes.get(4 + count * 8..)?;
    let mut take = |length: usize| {
        let (text, tail) = rest.split_at_checked(length)?;
        let (zero, tail) = tail.split_first()?;
        rest = tail;
        (*zero == 0).then(|| text.to_vec())
    };
    let mut pairs = Vec::new();
    for index in 0..count {
        pairs.push((take(word(4 + index * 8)?)?, take(word(8 + index * 8)?)?));
    }
    rest.is_empty().then_some(pairs)
}

/// Pairs from literals.
pub(crate) fn of(pairs: &[(&str, &str)]) -> Pairs {
    pairs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

/// The values of one header.
pub(crate) fn values<'a>(pairs: &'a Pairs, name: &str) -> Vec<&'a [u8]> {
    pairs.iter().filter(|(own, _)| own == name.as_bytes()).map(|(_, value)| value.as_slice()).collect()
}

#[test]
fn what_is_written_is_read() {
    let pairs = of(&[("a", ""), ("a", "\u{fc}"), ("", "x")]);
    let bytes = write(&pairs);
    assert_eq!(read(&bytes), Some(pairs));
    assert!((0..bytes.len()).all(|end| read(&bytes[..end]).is_none()));
}
