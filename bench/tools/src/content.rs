//! Bytes to push: incompressible, different for every seed, and nearly free to make.
//!
//! One MiB of pseudo-random bytes is repeated; the start of every piece carries the seed and the piece's number. So no two
//! blobs, and no two pieces, are equal, and sending costs no more than the copy into the socket.

use sha2::{Digest, Sha256};
use std::io::{self, Write};

/// The size of a piece in bytes.
pub const PIECE: usize = 1 << 20;
/// The size of one frame of a chunked body in bytes: what the common clients write, which copy through a 32 KiB buffer.
const FRAME: usize = 32 << 10;
const FRAME_HEAD: &[u8] = b"8000\r\n";
const FRAMED: usize = FRAME_HEAD.len() + FRAME + 2;
const STAMP: usize = 16;

/// A blob of `size` bytes made from `seed`; at least 16 bytes long for the seed to matter.
pub struct Content {
    seed: u64,
    size: u64,
    piece: Vec<u8>,
    framed: Vec<u8>,
}

impl Content {
    pub fn new(seed: u64, size: u64) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut piece = Vec::with_capacity(PIECE);
        // A small blob needs only as much of the piece as it has bytes: a hundred thousand of them are made when filling.
        while piece.len() < PIECE && (piece.len() as u64) < size {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            piece.extend_from_slice(&state.to_le_bytes());
        }
        Self { seed, size, piece, framed: Vec::new() }
    }

    /// The same bytes under another seed: for many blobs of one size.
    pub fn reseed(&mut self, seed: u64) {
        self.seed = seed;
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// `sha256:<hex>` of the whole.
    pub fn digest(&mut self) -> String {
        let mut hash = Sha256::new();
        let _ = self.each(|piece| {
            hash.update(piece);
            Ok(())
        });
        let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha256:{hex}")
    }

    /// Writes the bytes as they are.
    pub fn write_plain(&mut self, to: &mut impl Write) -> io::Result<()> {
        self.each(|piece| to.write_all(piece))
    }

    /// Writes the bytes as an HTTP/1.1 chunked body, its end included.
    pub fn write_chunked(&mut self, to: &mut impl Write) -> io::Result<()> {
        if self.framed.is_empty() && self.piece.len() == PIECE {
            for frame in self.piece.chunks(FRAME) {
                self.framed.extend_from_slice(FRAME_HEAD);
                self.framed.extend_from_slice(frame);
                self.framed.extend_from_slice(b"\r\n");
            }
        }
        let mut framed = std::mem::take(&mut self.framed);
        let outcome = self.each(|piece| {
            if piece.len() == PIECE {
                // Only the stamp differs from the frames made before.
                framed[FRAME_HEAD.len()..FRAME_HEAD.len() + STAMP].copy_from_slice(&piece[..STAMP]);
                debug_assert_eq!(framed.len(), FRAMED * (PIECE / FRAME));
                return to.write_all(&framed);
            }
            for frame in piece.chunks(FRAME) {
                to.write_all(format!("{:x}\r\n", frame.len()).as_bytes())?;
                to.write_all(frame)?;
                to.write_all(b"\r\n")?;
            }
            Ok(())
        });
        self.framed = framed;
        outcome?;
        to.write_all(b"0\r\n\r\n")
    }

    fn each(&mut self, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut left = self.size;
        let mut number = 0_u64;
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE);
            let stamp = [self.seed.to_le_bytes(), number.to_le_bytes()].concat();
            let stamped = length.min(STAMP);
            self.piece[..stamped].copy_from_slice(&stamp[..stamped]);
            take(&self.piece[..length])?;
            left -= length as u64;
            number += 1;
        }
        Ok(())
    }
}

/// A seed that no other run has had: the time, spread over the high bits so that small numbers can be added.
pub fn fresh_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or_default() << 12
}
