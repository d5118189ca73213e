//! TLS for the load: one cipher for every contestant, and a reader that costs little beside the server.

use crate::args::{Args, Failure};
use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::unbuffered::ConnectionState;
use rustls::{ClientConfig, RootCertStore};
use std::io::{self, BufRead, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::sync::Arc;

/// Bytes that are asked of the socket at once; a record has at most 16 KiB and a little (RFC 8446, section 5.2).
const INCOMING: usize = 256 << 10;
const RECORD: usize = 16 << 10;
/// More than the header and tag that a record adds.
const OVERHEAD: usize = 256;

/// What `--tls CA.pem [--cert C.pem --key K.pem]` say; without `--tls`, None. TLS 1.3 with one cipher, so that no contestant
/// is measured with a cheaper one; `resume` keeps the tickets of one connection for the next.
pub fn config(args: &Args, resume: bool) -> Result<Option<Arc<ClientConfig>>, Failure> {
    let Ok(ca) = args.text("tls") else { return Ok(None) };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate)?;
    }
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384];
    let builder = ClientConfig::builder_with_provider(provider.into())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots);
    let mut config = match args.text("cert") {
        Ok(path) => {
            let key = args.text("key")?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|e| format!("--key {key}: {e}"))?;
            builder.with_client_auth_cert(certificates(path)?, key)?
        }
        Err(_) => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if !resume {
        config.resumption = Resumption::disabled();
    }
    Ok(Some(Arc::new(config)))
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    Ok(read.map_err(|e| format!("{path}: {e}"))?)
}

/// The name that a server's certificate must have: the address without its port.
pub fn server_name(addr: &str) -> Result<ServerName<'static>, Failure> {
    let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
    Ok(ServerName::IpAddress(host.parse::<IpAddr>()?.into()))
}

/// One connection. The socket is read by the quarter MiB into a buffer that stays, and what is only counted is not copied
/// out of its records.
pub struct TlsStream {
    socket: TcpStream,
    tls: UnbufferedClientConnection,
    /// Ciphertext: `incoming[start..end]` is still to be decrypted.
    incoming: Vec<u8>,
    start: usize,
    end: usize,
    /// Ciphertext to be sent.
    outgoing: Vec<u8>,
    /// Plaintext of the last record that was read: `plain[at..]` is still to be taken.
    plain: Vec<u8>,
    at: usize,
}

/// What the connection has come to.
enum Step {
    /// A record of so many bytes of plaintext.
    Record(usize),
    /// All that was given to send is encrypted, and nothing is left to read without the socket.
    Idle,
    /// The server said that it sends no more.
    Closed,
}

impl TlsStream {
    /// Shakes hands over `socket`.
    pub fn connect(addr: &str, socket: TcpStream, config: Arc<ClientConfig>) -> Result<Self, Failure> {
        let tls = UnbufferedClientConnection::new(config, server_name(addr)?)?;
        let (incoming, plain) = (vec![0; INCOMING], Vec::with_capacity(RECORD));
        let mut stream = Self { socket, tls, incoming, start: 0, end: 0, outgoing: Vec::new(), plain, at: 0 };
        while let Step::Idle = stream.step(&[], true)? {
            if !stream.tls.is_handshaking() {
                return Ok(stream);
            }
            stream.receive()?;
        }
        Err("the server sent data, or left, before the handshake was over".into())
    }

    /// Reads and throws away up to `most` bytes; how many, 0 at the end.
    pub fn skip(&mut self, most: usize) -> io::Result<usize> {
        if self.at == self.plain.len() {
            let size = self.next_record(false)?;
            if size > most {
                return Err(io::Error::other("more bytes than the answer has"));
            }
            return Ok(size);
        }
        let taken = most.min(self.plain.len() - self.at);
        self.at += taken;
        Ok(taken)
    }

    /// The size of the next record with data, 0 at the end; `keep`: with its bytes in `plain`.
    fn next_record(&mut self, keep: bool) -> io::Result<usize> {
        loop {
            match self.step(&[], keep)? {
                Step::Record(0) => {}
                Step::Record(size) => return Ok(size),
                Step::Closed => return Ok(0),
                Step::Idle if self.receive()? == 0 => return Ok(0),
                Step::Idle => {}
            }
        }
    }

    /// Goes on until there is a record, or nothing more to do with what has come; `data` is encrypted and sent on the way.
    fn step(&mut self, data: &[u8], keep: bool) -> io::Result<Step> {
        loop {
            let status = self.tls.process_tls_records(&mut self.incoming[self.start..self.end]);
            self.start += status.discard;
            match status.state.map_err(io::Error::other)? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    let mut size = 0;
                    self.plain.clear();
                    self.at = 0;
                    while let Some(record) = traffic.next_record() {
                        let payload = record.map_err(io::Error::other)?.payload;
                        size += payload.len();
                        if keep {
                            self.plain.extend_from_slice(payload);
                        }
                    }
                    return Ok(Step::Record(size));
                }
                ConnectionState::EncodeTlsData(mut message) => {
                    let from = self.outgoing.len();
                    self.outgoing.resize(from + RECORD + OVERHEAD, 0);
                    let size = message.encode(&mut self.outgoing[from..]).map_err(io::Error::other)?;
                    self.outgoing.truncate(from + size);
                }
                ConnectionState::TransmitTlsData(message) => {
                    self.socket.write_all(&self.outgoing)?;
                    self.outgoing.clear();
                    message.done();
                }
                ConnectionState::WriteTraffic(mut traffic) => {
                    for part in data.chunks(RECORD) {
                        self.outgoing.resize(RECORD + OVERHEAD, 0);
                        let size = traffic.encrypt(part, &mut self.outgoing).map_err(io::Error::other)?;
                        self.socket.write_all(&self.outgoing[..size])?;
                    }
                    self.outgoing.clear();
                    return Ok(Step::Idle);
                }
                ConnectionState::BlockedHandshake => return Ok(Step::Idle),
                ConnectionState::PeerClosed | ConnectionState::Closed => return Ok(Step::Closed),
                _ => return Err(io::Error::other("the server did what no server does")),
            }
        }
    }

    /// Waits for more ciphertext; 0 where the socket has ended.
    fn receive(&mut self) -> io::Result<usize> {
        // What is left is less than a record, so moving it to the front is cheap.
        self.incoming.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let got = self.socket.read(&mut self.incoming[self.end..])?;
        self.end += got;
        Ok(got)
    }
}

impl Read for TlsStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let got = self.fill_buf()?.read(into)?;
        self.consume(got);
        Ok(got)
    }
}

impl BufRead for TlsStream {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.plain.len() {
            self.next_record(true)?;
        }
        Ok(&self.plain[self.at..])
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount;
    }
}

impl Write for TlsStream {
    /// Encrypts and sends all of it. Data that is still unread is an error: a request is sent when the answer before is over.
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self.step(data, true)? {
            Step::Idle => Ok(data.len()),
            Step::Record(_) => Err(io::Error::other("data before a request was sent")),
            Step::Closed => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
