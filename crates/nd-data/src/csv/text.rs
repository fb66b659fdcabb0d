//! A byte stream as clean text: one encoding, one line ending, bounded rows.
//!
//! The simple version: pass the bytes on, after checking that they are UTF-8. On the way it drops a byte order mark,
//! turns `\r\n` and `\r` into `\n`, ends the last line, transcodes Latin-1, and counts lines, so that everything behind
//! it can rely on these. It refuses UTF-16 and broken UTF-8 with the exact byte and line, and a row that grows beyond a
//! limit, which is what an unclosed quote does.

use std::io::{self, Read};

use super::options::Encoding;

/// Bytes read at a time. The peak memory of reading is a small multiple of it.
const CHUNK: usize = 32 * 1024;

/// Why the stream ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TextFault {
    /// A byte that is not UTF-8.
    Invalid {
        byte: u64,
        line: u64,
        found: String,
        advice: &'static str,
    },
    /// A row longer than the limit.
    RowTooLong,
}

/// The advice for bytes that look like ISO 8859-1 or Windows-1252.
const LATIN1: &str = "the file looks like Latin-1 or Windows-1252; convert it to UTF-8 \
     (iconv -f WINDOWS-1252 -t UTF-8), or set the encoding option to Latin-1";
const UTF16: &str = "the file is UTF-16; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)";
const UTF32: &str = "the file is UTF-32; convert it to UTF-8 (iconv -f UTF-32 -t UTF-8)";
const BINARY: &str = "the file holds zero bytes, so it is not text, or it is UTF-16 without a byte order mark; \
     export it as CSV in UTF-8";

pub(super) struct TextReader<S> {
    source: S,
    encoding: Encoding,
    /// Bytes read but not yet checked: at most the beginning of a character.
    raw: Vec<u8>,
    /// Clean text, and how much of it was handed out.
    clean: Vec<u8>,
    handed: usize,
    /// Offset in the file of the first byte of `raw`.
    offset: u64,
    /// Lines ended so far in `clean`.
    lines: u64,
    started: bool,
    finished: bool,
    after_return: bool,
    last: u8,
    /// Bytes handed out since the last complete row, and their limit.
    since_row: u64,
    longest_row: u64,
    pub(super) fault: Option<TextFault>,
    /// Whether the end of the text was asked for: a row that needed to had no end of its own.
    pub(super) end_seen: bool,
}

impl<S: Read> TextReader<S> {
    pub(super) fn new(source: S, encoding: Encoding, longest_row: u64) -> Self {
        Self {
            source,
            encoding,
            raw: Vec::with_capacity(CHUNK),
            clean: Vec::with_capacity(CHUNK),
            handed: 0,
            offset: 0,
            lines: 0,
            started: false,
            finished: false,
            after_return: false,
            last: b'\n',
            since_row: 0,
            longest_row,
            fault: None,
            end_seen: false,
        }
    }

    /// Notes that a row is complete.
    pub(super) fn row_done(&mut self) {
        self.since_row = 0;
    }

    fn fail(&mut self, fault: TextFault) -> io::Error {
        self.fault = Some(fault);
        io::Error::new(io::ErrorKind::InvalidData, "not clean text")
    }

    /// Reads, checks and cleans one chunk.
    fn refill(&mut self) -> io::Result<()> {
        self.clean.clear();
        self.handed = 0;
        while self.clean.is_empty() && !self.finished {
            let kept = self.raw.len();
            let read = (&mut self.source)
                .take((CHUNK - kept.min(8)) as u64)
                .read_to_end(&mut self.raw)?;
            let at_end = read == 0;
            if !self.started {
                self.start()?;
            }
            self.check(at_end)?;
            if at_end {
                self.finished = true;
                if self.last != b'\n' {
                    self.clean.push(b'\n');
                }
            }
        }
        Ok(())
    }

    /// Looks at the first bytes.
    fn start(&mut self) -> io::Result<()> {
        self.started = true;
        let mark = |raw: &[u8]| format!("a byte order mark {}", hex(raw));
        let advice = match self.raw.as_slice() {
            [0xFF, 0xFE, 0, 0, ..] | [0, 0, 0xFE, 0xFF, ..] => Some((UTF32, 4)),
            [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => Some((UTF16, 2)),
            _ => None,
        };
        if let Some((advice, length)) = advice {
            let found = mark(&self.raw[..length]);
            return Err(self.fail(TextFault::Invalid {
                byte: 0,
                line: 1,
                found,
                advice,
            }));
        }
        if self.raw.starts_with(&[0xEF, 0xBB, 0xBF]) {
            self.raw.drain(..3);
            self.offset = 3;
        }
        Ok(())
    }

    /// Moves the checked part of `raw` into `clean`.
    fn check(&mut self, at_end: bool) -> io::Result<()> {
        if let Some(position) = self.raw.iter().position(|&b| b == 0) {
            return Err(self.invalid(position, 1, BINARY));
        }
        let valid = match (self.encoding, std::str::from_utf8(&self.raw)) {
            (Encoding::Latin1, _) | (Encoding::Utf8, Ok(_)) => self.raw.len(),
            (Encoding::Utf8, Err(error)) => match error.error_len() {
                // A character cut by the end of the chunk waits for the next one.
                None if !at_end => error.valid_up_to(),
                length => {
                    let left = self.raw.len() - error.valid_up_to();
                    return Err(self.invalid(error.valid_up_to(), length.unwrap_or(left), LATIN1));
                }
            },
        };
        let plain = self.encoding == Encoding::Utf8
            && !self.after_return
            && !self.raw[..valid].contains(&b'\r');
        if plain {
            self.clean.extend_from_slice(&self.raw[..valid]);
        } else {
            for &byte in &self.raw[..valid] {
                let follows_return = std::mem::replace(&mut self.after_return, byte == b'\r');
                match byte {
                    b'\n' if follows_return => {}
                    b'\r' => self.clean.push(b'\n'),
                    0x80.. if self.encoding == Encoding::Latin1 => {
                        self.clean
                            .extend_from_slice(&[0xC0 | byte >> 6, 0x80 | byte & 0x3F]);
                    }
                    _ => self.clean.push(byte),
                }
            }
        }
        self.lines += self.clean.iter().filter(|&&b| b == b'\n').count() as u64;
        self.last = self.clean.last().copied().unwrap_or(self.last);
        self.raw.drain(..valid);
        self.offset += valid as u64;
        Ok(())
    }

    fn invalid(&mut self, position: usize, length: usize, advice: &'static str) -> io::Error {
        let before = &self.raw[..position];
        // `\r\n` counts once, whichever of the two is looked at.
        let lines = before
            .iter()
            .enumerate()
            .filter(|&(i, &b)| {
                let previous = if i == 0 {
                    self.after_return
                } else {
                    before[i - 1] == b'\r'
                };
                b == b'\r' || b == b'\n' && !previous
            })
            .count();
        let bytes = &self.raw[position..(position + length).min(self.raw.len())];
        let fault = TextFault::Invalid {
            byte: self.offset + position as u64,
            line: self.lines + lines as u64 + 1,
            found: format!("found {}", hex(bytes)),
            advice,
        };
        self.fail(fault)
    }
}

fn hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|b| format!("0x{b:02X}")).collect();
    digits.join(" ")
}

impl<S: Read> Read for TextReader<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.handed == self.clean.len() {
            self.refill()?;
        }
        let ready = &self.clean[self.handed..];
        let n = ready.len().min(buffer.len());
        buffer[..n].copy_from_slice(&ready[..n]);
        self.handed += n;
        self.end_seen |= n == 0 && !buffer.is_empty();
        self.since_row += n as u64;
        if self.since_row > self.longest_row.saturating_add(2 * CHUNK as u64) {
            return Err(self.fail(TextFault::RowTooLong));
        }
        Ok(n)
    }
}
