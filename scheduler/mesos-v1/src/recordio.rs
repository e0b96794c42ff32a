//! `RecordIO`: the framing of Mesos' event streams.
//!
//! A record is its length in decimal digits, a newline, and that many bytes. Mesos splits the
//! stream anywhere, so the decoder keeps what is not complete yet.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

/// More than an agent ever says to an executor. Who reads a master's events takes more: all offers may come in one.
pub const DEFAULT_MAX_RECORD: usize = 64 * 1024 * 1024;

/// The digits of the longest length that is looked at: 20 hold every `u64`.
const MAX_LENGTH_DIGITS: usize = 20;

/// Why a stream is not (or no longer) `RecordIO`.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The bytes where a length belongs are not decimal digits and a newline.
    #[error("record starts with \"{found}\" instead of its length in decimal digits and a newline")]
    MalformedLength {
        /// The offending bytes, escaped.
        found: String,
    },
    /// A record is longer than the decoder takes.
    #[error("record of {length} bytes is longer than the limit of {limit} bytes")]
    TooLong {
        /// The length that the stream announced.
        length: u64,
        /// The decoder's limit.
        limit: usize,
    },
    /// The stream ended inside a record.
    #[error("stream ended inside a record: {got} bytes of it had arrived")]
    Truncated {
        /// Bytes of the unfinished record (or of its length) that had arrived.
        got: usize,
    },
    /// The stream could not be read.
    #[error("cannot read the stream: {0}")]
    Io(#[from] io::Error),
}

/// Decodes records incrementally. After an error the stream cannot be used further.
#[derive(Debug, Clone)]
pub struct RecordDecoder {
    limit: usize,
    /// The length of the record whose bytes are awaited.
    pending: Option<usize>,
}

impl RecordDecoder {
    /// A decoder that refuses records of more than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, pending: None }
    }

    /// Takes a complete length line from the front of `src`.
    fn take_length(&self, src: &mut BytesMut) -> Result<Option<usize>, RecordError> {
        let window = &src[..src.len().min(MAX_LENGTH_DIGITS + 1)];
        let digits = window.iter().take_while(|b| b.is_ascii_digit()).count();
        let malformed = || RecordError::MalformedLength { found: window.escape_ascii().to_string() };
        match window.get(digits) {
            None if digits > MAX_LENGTH_DIGITS => Err(malformed()),
            None => Ok(None),
            Some(b'\n') if digits > 0 => {
                let length = std::str::from_utf8(&window[..digits])
                    .ok()
                    .and_then(|text| text.parse::<u64>().ok())
                    .ok_or_else(malformed)?;
                let fitting = usize::try_from(length).ok().filter(|l| *l <= self.limit);
                let Some(fitting) = fitting else {
                    return Err(RecordError::TooLong { length, limit: self.limit });
                };
                src.advance(digits + 1);
                Ok(Some(fitting))
            }
            Some(_) => Err(malformed()),
        }
    }
}

impl Default for RecordDecoder {
    fn default() -> Self {
        Self::new(DEFAULT_MAX_RECORD)
    }
}

impl Decoder for RecordDecoder {
    type Item = Bytes;
    type Error = RecordError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Bytes>, RecordError> {
        let length = match self.pending {
            Some(length) => length,
            None => match self.take_length(src)? {
                Some(length) => *self.pending.insert(length),
                None => return Ok(None),
            },
        };
        if src.len() < length {
            src.reserve(length - src.len());
            return Ok(None);
        }
        self.pending = None;
        Ok(Some(src.split_to(length).freeze()))
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<Bytes>, RecordError> {
        match self.decode(src)? {
            Some(record) => Ok(Some(record)),
            None if src.is_empty() && self.pending.is_none() => Ok(None),
            None => Err(RecordError::Truncated { got: src.len() }),
        }
    }
}

/// Encodes records.
#[derive(Debug, Clone, Copy, Default)]
pub struct RecordEncoder;

impl<T: AsRef<[u8]>> Encoder<T> for RecordEncoder {
    type Error = RecordError;

    fn encode(&mut self, record: T, dst: &mut BytesMut) -> Result<(), RecordError> {
        let record = record.as_ref();
        dst.put_slice(record.len().to_string().as_bytes());
        dst.put_u8(b'\n');
        dst.put_slice(record);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode_all(decoder: &mut RecordDecoder, src: &mut BytesMut) -> Vec<Bytes> {
        std::iter::from_fn(|| decoder.decode(src).expect("valid stream")).collect()
    }

    fn error(stream: &[u8]) -> String {
        RecordDecoder::new(100)
            .decode_eof(&mut BytesMut::from(stream))
            .expect_err("an invalid stream")
            .to_string()
    }

    #[test]
    fn records_come_out_as_they_went_in() {
        let mut src = BytesMut::from(&b"5\nhello0\n6\nworld\n"[..]);
        let records = decode_all(&mut RecordDecoder::default(), &mut src);
        assert_eq!(records, ["hello", "", "world\n"]);
        assert!(src.is_empty());
    }

    #[test]
    fn a_length_may_arrive_digit_by_digit() {
        let mut decoder = RecordDecoder::default();
        let mut src = BytesMut::new();
        for byte in b"12\nhello, worl" {
            src.put_u8(*byte);
            assert!(decoder.decode(&mut src).unwrap().is_none());
        }
        src.put_u8(b'd');
        assert_eq!(decoder.decode(&mut src).unwrap().unwrap(), "hello, world");
    }

    #[test]
    fn malformed_lengths_are_named() {
        for (stream, found) in [
            (&b"<html>"[..], "<html>"),
            (b"\nabc", r"\nabc"),
            (b"-1\n", r"-1\n"),
            (b"5\r\nhello", r"5\r\nhello"),
            (b"+5\n", r"+5\n"),
            (b"123456789012345678901\n", "123456789012345678901"),
            (b"99999999999999999999\n", r"99999999999999999999\n"),
        ] {
            let message = error(stream);
            assert!(message.contains(&format!("\"{found}\"")), "{message}");
        }
    }

    #[test]
    fn a_record_over_the_limit_is_refused_before_it_is_buffered() {
        let message = error(b"101\n");
        assert_eq!(message, "record of 101 bytes is longer than the limit of 100 bytes");
    }

    #[test]
    fn a_stream_that_ends_early_is_an_error() {
        assert!(error(b"5\nhel").contains("3 bytes"));
        assert!(error(b"5").contains("1 bytes"));
        assert!(error(b"5\n").contains("0 bytes"));
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_records(
            records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
            cuts in prop::collection::vec(1_usize..40, 1..20),
        ) {
            let mut stream = BytesMut::new();
            for record in &records {
                RecordEncoder.encode(record, &mut stream).unwrap();
            }
            let mut decoder = RecordDecoder::default();
            let mut src = BytesMut::new();
            let mut decoded = Vec::new();
            let mut cuts = cuts.into_iter().cycle();
            while !stream.is_empty() {
                let cut = cuts.next().unwrap_or(1).min(stream.len());
                src.extend_from_slice(&stream.split_to(cut));
                decoded.append(&mut decode_all(&mut decoder, &mut src));
            }
            prop_assert!(decoder.decode_eof(&mut src).unwrap().is_none());
            prop_assert_eq!(decoded, records);
        }

        /// Bits flipped, bytes cut out, lengths that are huge, an end in between: records, until an error says what it is.
        #[test]
        fn damage_to_a_stream_is_named(
            records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..6),
            edits in prop::collection::vec((any::<prop::sample::Index>(), 0..4_u8, any::<u8>()), 1..4),
        ) {
            let mut stream = BytesMut::new();
            for record in &records {
                RecordEncoder.encode(record, &mut stream).unwrap();
            }
            let mut stream = stream.to_vec();
            for (at, what, byte) in edits {
                let at = at.index(stream.len().max(1)).min(stream.len());
                match what {
                    0 => stream.truncate(at),
                    1 => drop(stream.drain(at..stream.len().min(at + usize::from(byte % 16)))),
                    2 => drop(stream.splice(at..at, b"99999999999999999999".iter().copied().take(1 + usize::from(byte % 20)))),
                    _ => if let Some(there) = stream.get_mut(at) { *there ^= byte },
                }
            }
            let (mut src, mut decoder) = (BytesMut::from(&stream[..]), RecordDecoder::new(100));
            let mut bytes = 0;
            let error = loop {
                match decoder.decode_eof(&mut src) {
                    Ok(Some(record)) => bytes += record.len(),
                    Ok(None) => break None,
                    Err(error) => break Some(error.to_string()),
                }
            };
            prop_assert!(bytes <= stream.len());
            if let Some(error) = error {
                let named = ["record starts with \"", "record of ", "stream ended inside a record: "];
                prop_assert!(named.iter().any(|begin| error.starts_with(begin)), "{error}");
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(stream in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut src = BytesMut::from(&stream[..]);
            let mut decoder = RecordDecoder::new(64);
            while let Ok(Some(_)) = decoder.decode_eof(&mut src) {}
        }
    }
}
