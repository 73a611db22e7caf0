//! A plain HTTP client over real sockets.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

/// A response, its body whole.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Response {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    /// The data of its server-sent events but `[DONE]`, which must be the last.
    pub(super) fn events(&self) -> Vec<Value> {
        let mut data: Vec<&str> =
            self.body.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        assert_eq!(data.pop(), Some("[DONE]"));
        data.into_iter().map(|text| serde_json::from_str(text).unwrap()).collect()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The field that a refusal names.
    pub(super) fn param(&self) -> String {
        self.json()["error"]["param"].as_str().unwrap_or_default().into()
    }
}

/// Sends a request and leaves the response to be read.
pub(super) fn send(address: SocketAddr, head: &str, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    let head = format!("{head}Connection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    stream
}

pub(super) fn read(stream: TcpStream) -> Response {
    let mut reader = BufReader::new(stream);
    let mut lines = reader.by_ref().lines().map(|line| line.unwrap());
    let status = lines.next().unwrap();
    let status = status.split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<(String, String)> = lines
        .take_while(|line| !line.is_empty())
        .map(|line| line.split_once(": ").map(|(n, v)| (n.into(), v.into())).unwrap())
        .collect();
    let mut response = Response { status, headers, body: String::new() };
    let mut body = Vec::new();
    if response.header("transfer-encoding") == Some("chunked") {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size).unwrap();
            let size = usize::from_str_radix(size.trim(), 16).unwrap();
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).unwrap();
            if size == 0 {
                break;
            }
            body.extend_from_slice(&chunk[..size]);
        }
    } else {
        reader.read_to_end(&mut body).unwrap();
    }
    response.body = String::from_utf8(body).unwrap();
    response
}

/// The head of a request to this server.
pub(super) fn head(method: &str, path: &str, address: SocketAddr) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n")
}

pub(super) fn get(address: SocketAddr, path: &str) -> Response {
    read(send(address, &head("GET", path, address), b""))
}

pub(super) fn post(address: SocketAddr, path: &str, body: &[u8]) -> Response {
    read(send(address, &head("POST", path, address), body))
}
