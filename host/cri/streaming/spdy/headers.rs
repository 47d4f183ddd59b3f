//! SPDY/3's header blocks: pairs of names and values in one zlib stream per direction and
//! connection, with the dictionary of the specification (draft-mbelshe-httpbis-spdy-00, 2.6.10).

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::Fault;

/// Bytes of one unpacked block; what Kubernetes sends has about a hundred.
const LARGEST: usize = 16 << 10;

/// Pairs in one block.
const MOST_PAIRS: usize = 128;

/// The dictionary's first part: each word with its length in front (u32, big endian).
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding \
     accept-language accept-ranges age allow authorization cache-control connection \
     content-base content-encoding content-language content-length content-location content-md5 \
     content-range content-type date etag expect expires from host if-match if-modified-since \
     if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
     proxy-authenticate proxy-authorization range referer retry-after server te trailer \
     transfer-encoding upgrade user-agent vary via warning www-authenticate method get status \
     200_OK version HTTP/1.1 url public set-cookie keep-alive origin";

/// Its second part, as it is.
const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415\
     416417502504505203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad \
     Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not \
     Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec \
     00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, \
     GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,\
     text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=\
     iso-8859-1,utf-,*,enq=0.";

fn dictionary() -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in WORDS.split(' ') {
        // The one word that is two.
        put(&mut bytes, word.replace('_', " ").as_bytes());
    }
    bytes.extend_from_slice(TAIL.as_bytes());
    bytes
}

/// A stream's headers, in their order; names in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    pub fn new(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
    }

    /// The first value of `name`, given in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Unpacks the blocks that come.
pub struct Unpacker(Decompress);

/// Packs the blocks that go.
pub struct Packer(Compress);

impl Unpacker {
    pub fn new() -> Self {
        Self(Decompress::new(true))
    }

    /// A fault ends the connection: the blocks after it cannot be read.
    pub fn unpack(&mut self, block: &[u8]) -> Result<Headers, Fault> {
        let mut plain = Vec::with_capacity(1024);
        let mut rest = block;
        loop {
            let before = (self.0.total_in(), plain.len());
            let status = self.0.decompress_vec(rest, &mut plain, FlushDecompress::Sync);
            let taken = usize::try_from(self.0.total_in() - before.0).unwrap_or(usize::MAX);
            rest = rest.get(taken..).unwrap_or_default();
            match status {
                Ok(Status::StreamEnd) => return Err(Fault("a header block ends its zlib stream")),
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0
                        .set_dictionary(&dictionary())
                        .map_err(|_| Fault("a header block of another dictionary"))?;
                    continue;
                }
                Err(_) => return Err(Fault("a header block that is no zlib")),
            }
            if plain.len() >= LARGEST {
                return Err(Fault("a header block that unpacks to more than 16 KiB"));
            }
            if rest.is_empty() && plain.len() < plain.capacity() {
                return parse(&plain);
            }
            if taken == 0 && plain.len() == before.1 && plain.len() < plain.capacity() {
                return Err(Fault("a header block that is cut short"));
            }
            plain.reserve(1024);
        }
    }
}

impl Packer {
    pub fn new() -> Self {
        let mut zlib = Compress::new(Compression::fast(), true);
        // It takes any dictionary before its first byte.
        let _ = zlib.set_dictionary(&dictionary());
        Self(zlib)
    }

    pub fn pack(&mut self, headers: &Headers) -> Vec<u8> {
        let mut plain = Vec::new();
        plain.extend_from_slice(&count(headers.0.len()));
        for (name, value) in &headers.0 {
            put(&mut plain, name.as_bytes());
            put(&mut plain, value.as_bytes());
        }
        let mut block = Vec::with_capacity(plain.len() + 64);
        let mut rest = plain.as_slice();
        loop {
            let before = self.0.total_in();
            // Packing what is in memory into memory does not fail.
            let _ = self.0.compress_vec(rest, &mut block, FlushCompress::Sync);
            let taken = usize::try_from(self.0.total_in() - before).unwrap_or(usize::MAX);
            rest = rest.get(taken..).unwrap_or_default();
            if rest.is_empty() && block.len() < block.capacity() {
                return block;
            }
            block.reserve(256);
        }
    }
}

fn count(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes()
}

fn put(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.extend_from_slice(&count(text.len()));
    bytes.extend_from_slice(text);
}

fn parse(mut plain: &[u8]) -> Result<Headers, Fault> {
    let cut = Fault("a header block whose lengths do not fit");
    let pairs = take_count(&mut plain).ok_or(cut)?;
    if pairs > MOST_PAIRS {
        return Err(Fault("a header block of more than 128 headers"));
    }
    let mut headers = Headers::default();
    for _ in 0..pairs {
        let name = take(&mut plain).ok_or(cut)?.to_ascii_lowercase();
        let value = take(&mut plain).ok_or(cut)?;
        headers.0.push((text(&name), text(value)));
    }
    Ok(headers)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn take_count(bytes: &mut &[u8]) -> Option<usize> {
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    *bytes = rest;
    usize::try_from(u32::from_be_bytes(*head)).ok()
}

fn take<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take_count(bytes)?;
    let (head, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_is_the_specifications() {
        let dictionary = dictionary();
        let sum = Compress::new(Compression::fast(), true).set_dictionary(&dictionary).unwrap();
        assert_eq!((dictionary.len(), sum), (1423, 0xe3c6_a7c2));
    }

    #[test]
    fn blocks_of_one_connection_unpack_in_their_order() {
        let (mut packer, mut unpacker) = (Packer::new(), Unpacker::new());
        let long = "x".repeat(5000);
        for headers in [
            Headers::new(&[("streamtype", "data"), ("port", "80"), ("requestid", "0")]),
            Headers::default(),
            Headers::new(&[("streamtype", &long)]),
            Headers::new(&[("streamtype", "error")]),
        ] {
            let block = packer.pack(&headers);
            assert_eq!(unpacker.unpack(&block).unwrap(), headers);
        }
    }

    #[test]
    fn a_block_that_unpacks_without_end_is_refused() {
        let bomb = Headers::new(&[("a", &"0".repeat(4 << 20))]);
        let block = Packer::new().pack(&bomb);
        assert!(block.len() < 64 << 10);
        let error = Unpacker::new().unpack(&block).unwrap_err();
        assert!(error.to_string().contains("16 KiB"), "{error}");
    }

    #[test]
    fn names_are_told_in_lower_case() {
        let block = Packer::new().pack(&Headers::new(&[("StreamType", "Data")]));
        let headers = Unpacker::new().unpack(&block).unwrap();
        assert_eq!(headers.get("streamtype"), Some("Data"));
    }
}
