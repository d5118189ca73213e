//! A blocking connection, plain or TLS.

use crate::args::Failure;
use crate::tls::TlsStream;
use rustls::ClientConfig;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

/// Silence of this length is a server that hangs, not a slow one.
const SILENCE: Duration = Duration::from_secs(120);
const DISCARD: usize = 256 << 10;

pub enum Stream {
    /// With the buffer that bytes are read into to be thrown away.
    Plain(BufReader<TcpStream>, Vec<u8>),
    Tls(Box<TlsStream>),
}

impl Stream {
    /// Connects, and shakes hands where there is a configuration for it.
    pub fn connect(addr: &str, tls: Option<&Arc<ClientConfig>>) -> Result<Self, Failure> {
        let socket = TcpStream::connect(addr).map_err(|e| format!("connect to {addr}: {e}"))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(SILENCE))?;
        socket.set_write_timeout(Some(SILENCE))?;
        Ok(match tls {
            Some(config) => {
                let stream = TlsStream::connect(addr, socket, Arc::clone(config));
                Self::Tls(Box::new(stream.map_err(|e| format!("TLS with {addr}: {e}"))?))
            }
            None => Self::Plain(BufReader::with_capacity(16 << 10, socket), vec![0; DISCARD]),
        })
    }

    /// Reads and throws away up to `most` bytes; how many, 0 at the end.
    pub fn skip(&mut self, most: u64) -> io::Result<usize> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        match self {
            Self::Plain(stream, discard) => stream.read(&mut discard[..most.min(DISCARD)]),
            Self::Tls(stream) => stream.skip(most),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream, _) => stream.read(into),
            Self::Tls(stream) => stream.read(into),
        }
    }
}

impl BufRead for Stream {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self {
            Self::Plain(stream, _) => stream.fill_buf(),
            Self::Tls(stream) => stream.fill_buf(),
        }
    }

    fn consume(&mut self, amount: usize) {
        match self {
            Self::Plain(stream, _) => stream.consume(amount),
            Self::Tls(stream) => stream.consume(amount),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream, _) => stream.get_mut().write(data),
            Self::Tls(stream) => stream.write(data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
