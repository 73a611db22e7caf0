//! HTTP/1.1 on a bare socket, so that a response can also be delivered badly.

use std::io;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::fault::Delivery;

/// Longest head of a request.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// Longest body of a request.
const MAX_BODY_BYTES: usize = 512 << 20;
/// Most header fields of a request.
const MAX_FIELDS: usize = 100;

/// A request.
#[derive(Debug, Default)]
pub(super) struct Request {
    pub(super) method: String,
    /// Without the query.
    pub(super) path: String,
    pub(super) query: String,
    /// Names in lower case.
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The key that came with it, in either dialect's header.
    pub(super) fn credential(&self) -> Option<&str> {
        let bearer = self.field("authorization").map(|v| v.strip_prefix("Bearer ").unwrap_or(v));
        bearer.or_else(|| self.field("x-api-key"))
    }
}

/// A response.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) headers: Vec<(&'static str, String)>,
    /// One piece is a whole body; more are sent as a stream.
    pub(super) pieces: Vec<Vec<u8>>,
}

impl Response {
    pub(super) fn new(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Response { status, content_type, headers: Vec::new(), pieces: vec![body.into()] }
    }

    pub(super) fn json(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Response::new(status, "application/json", body)
    }

    pub(super) fn value<T: Serialize>(status: u16, value: &T) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Response::json(status, body),
            Err(error) => Response::json(500, format!("{{\"error\": {:?}}}", error.to_string())),
        }
    }

    /// As bytes on the wire: each piece behind the head.
    fn on_the_wire(&self) -> Vec<Vec<u8>> {
        let mut head =
            format!("HTTP/1.1 {} Mock\r\ncontent-type: {}\r\n", self.status, self.content_type);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let [body] = self.pieces.as_slice() {
            head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
            return vec![[head.as_bytes(), body].concat()];
        }
        head.push_str("transfer-encoding: chunked\r\n\r\n");
        let chunk = |piece: &Vec<u8>| {
            [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()
        };
        let mut out = vec![head.into_bytes()];
        out.extend(self.pieces.iter().filter(|p| !p.is_empty()).map(chunk));
        out.push(b"0\r\n\r\n".to_vec());
        out
    }
}

/// The next request of a connection; `None` at its end. `buffer` keeps what came beyond it.
pub(super) async fn read(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
) -> io::Result<Option<Request>> {
    let bad = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_string());
    let (mut request, head, length) = loop {
        if let Some(head) = parse(buffer)? {
            break head;
        }
        if buffer.len() > MAX_HEAD_BYTES {
            return Err(bad("the head of the request is too long"));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    if length > MAX_BODY_BYTES {
        return Err(bad("the body of the request is too long"));
    }
    while buffer.len() < head + length {
        if stream.read_buf(buffer).await? == 0 {
            return Err(bad("the request breaks off"));
        }
    }
    let rest = buffer.split_off(head + length);
    request.body = std::mem::replace(buffer, rest).split_off(head);
    Ok(Some(request))
}

/// A whole head: the request, the head's length and the body's.
fn parse(buffer: &[u8]) -> io::Result<Option<(Request, usize, usize)>> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut fields);
    let head = match parsed.parse(buffer).map_err(io::Error::other)? {
        httparse::Status::Partial => return Ok(None),
        httparse::Status::Complete(head) => head,
    };
    let (path, query) =
        parsed.path.unwrap_or("/").split_once('?').unwrap_or((parsed.path.unwrap_or("/"), ""));
    let field = |f: &httparse::Header<'_>| {
        (f.name.to_ascii_lowercase(), String::from_utf8_lossy(f.value).into_owned())
    };
    let request = Request {
        method: parsed.method.unwrap_or_default().into(),
        path: path.into(),
        query: query.into(),
        fields: parsed.headers.iter().map(field).collect(),
        body: Vec::new(),
    };
    let length = match request.field("content-length") {
        Some(text) => text.parse().map_err(io::Error::other)?,
        None => 0,
    };
    Ok(Some((request, head, length)))
}

/// Sends a response in the given way. Whether the connection can go on.
pub(super) async fn deliver(
    stream: &mut TcpStream,
    response: &Response,
    delivery: Delivery,
) -> io::Result<bool> {
    let pieces = response.on_the_wire();
    match delivery {
        Delivery::Whole => {
            for piece in &pieces {
                stream.write_all(piece).await?;
            }
            return Ok(true);
        }
        Delivery::Never => gone(stream).await?,
        Delivery::StallAtHalf => {
            stream.write_all(&half(&pieces)).await?;
            gone(stream).await?;
        }
        Delivery::Trickle { ms } => {
            for byte in pieces.concat() {
                stream.write_all(&[byte]).await?;
                tokio::time::sleep(Duration::from_millis(ms)).await;
            }
            return Ok(true);
        }
        Delivery::ResetBefore => stream.set_zero_linger()?,
        Delivery::ResetAtHalf => {
            stream.write_all(&half(&pieces)).await?;
            // What is in flight when a connection is reset may be lost with it.
            tokio::time::sleep(Duration::from_millis(20)).await;
            stream.set_zero_linger()?;
        }
        Delivery::CloseAtHalf => stream.write_all(&half(&pieces)).await?,
        Delivery::NotHttp => stream.write_all(b"\x16\x03\x01 no such protocol\r\n\r\n").await?,
    }
    Ok(false)
}

fn half(pieces: &[Vec<u8>]) -> Vec<u8> {
    let mut all = pieces.concat();
    // Beyond the head, whatever the body's length.
    let head = all.windows(4).position(|w| w == b"\r\n\r\n").map_or(0, |at| at + 4);
    all.truncate(head + (all.len() - head) / 2);
    all
}

/// Waits until the client goes away.
async fn gone(stream: &mut TcpStream) -> io::Result<()> {
    let mut sink = [0; 1024];
    while stream.read(&mut sink).await? > 0 {}
    Ok(())
}
