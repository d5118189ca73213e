//! Parses byte ranges: RFC 9110 section 14, and `Content-Range` as the distribution spec writes it.

use std::str::FromStr;

/// A `Range` header with one range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// `bytes=first-last`, both inclusive; `bytes=first-` has no last.
    From(u64, Option<u64>),
    /// `bytes=-n`: the last n bytes.
    Suffix(u64),
}

impl ByteRange {
    /// Parses a `Range` header. Returns nothing for a header that a server ignores: another unit, several ranges, a
    /// syntax error (RFC 9110 section 14.2 lets a server ignore any `Range`).
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        let set = header.trim().strip_prefix("bytes=")?.trim();
        let (first, last) = set.split_once('-')?;
        match (first.trim(), last.trim()) {
            ("", suffix) => Some(Self::Suffix(number(suffix)?)),
            (first, "") => Some(Self::From(number(first)?, None)),
            (first, last) => Some(Self::From(number(first)?, Some(number(last)?))),
        }
    }

    /// Returns the range of bytes within content of `size` bytes; nothing if no byte is in the range (416).
    #[must_use]
    pub fn within(self, size: u64) -> Option<std::ops::Range<u64>> {
        match self {
            Self::From(first, last) if first < size && last.is_none_or(|last| first <= last) => {
                Some(first..last.map_or(size, |last| last.saturating_add(1).min(size)))
            }
            Self::Suffix(length) if length > 0 && size > 0 => Some(size.saturating_sub(length)..size),
            _ => None,
        }
    }
}

/// The place of an upload's chunk: `first-last`, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// Offset of the chunk's first byte.
    pub first: u64,
    /// Offset of its last byte.
    pub last: u64,
}

impl ContentRange {
    /// Bytes in the chunk.
    #[must_use]
    pub const fn length(self) -> u64 {
        self.last - self.first + 1
    }
}

/// The reason why a text is not a chunk's range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a chunk's Content-Range is written <first>-<last>, both inclusive, the first not above the last")]
pub struct ContentRangeError;

impl FromStr for ContentRange {
    type Err = ContentRangeError;

    /// Parses `^[0-9]+-[0-9]+$`, and the form of RFC 9110, `bytes first-last/total`, since some clients send that.
    fn from_str(text: &str) -> Result<Self, ContentRangeError> {
        let text = text.trim();
        let text = text.strip_prefix("bytes ").or_else(|| text.strip_prefix("bytes=")).unwrap_or(text);
        let text = text.split_once('/').map_or(text, |(range, _)| range);
        let (first, last) = text.split_once('-').ok_or(ContentRangeError)?;
        let (first, last) = (number(first).ok_or(ContentRangeError)?, number(last).ok_or(ContentRangeError)?);
        // the length of 0-u64::MAX does not fit
        if first > last || last == u64::MAX { Err(ContentRangeError) } else { Ok(Self { first, last }) }
    }
}

/// Parses digits alone, since `str::parse` would take a sign.
fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_select_bytes() {
        let of_ten = |text: &str| ByteRange::parse(text).and_then(|range| range.within(10));
        assert_eq!(of_ten("bytes=0-3"), Some(0..4));
        assert_eq!(of_ten("bytes=8-99"), Some(8..10));
        assert_eq!(of_ten("bytes=4-"), Some(4..10));
        assert_eq!(of_ten("bytes=-3"), Some(7..10));
        assert_eq!(of_ten("bytes=-30"), Some(0..10));
        for unsatisfiable in ["bytes=10-", "bytes=-0", "bytes=3-1"] {
            assert!(ByteRange::parse(unsatisfiable).unwrap().within(10).is_none(), "{unsatisfiable}");
        }
        for ignored in ["bytes=", "bytes=-", "bytes=0-1,4-5", "lines=0-1", "bytes=+1-2", "bytes=a-b"] {
            assert_eq!(ByteRange::parse(ignored), None, "{ignored}");
        }
    }

    #[test]
    fn content_ranges_follow_the_specification() {
        assert_eq!("0-9".parse(), Ok(ContentRange { first: 0, last: 9 }));
        assert_eq!("bytes 5-9/*".parse(), Ok(ContentRange { first: 5, last: 9 }));
        for bad in ["", "-", "1", "1-", "-1", "9-0", "a-b", "+1-2", "0-18446744073709551615"] {
            assert!(bad.parse::<ContentRange>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".*", size in any::<u64>()) {
            if let Some(range) = ByteRange::parse(&text).and_then(|range| range.within(size)) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
            let _ = text.parse::<ContentRange>();
        }

        #[test]
        fn a_satisfied_range_lies_within(first in any::<u64>(), last in any::<Option<u64>>(), size in any::<u64>()) {
            if let Some(range) = ByteRange::From(first, last).within(size) {
                prop_assert!(range.start <= range.end && range.end <= size);
            }
        }
    }
}
