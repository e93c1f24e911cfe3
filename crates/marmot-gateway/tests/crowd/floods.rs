//! Floods over HTTP/2: frames that cost their sender nothing. Memory stays bounded, and whoever comes is served.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::server::{Server, allow_descriptors, fresh_client, sockets};

const MIB: usize = 1 << 20;
/// A client that is on a busy machine may be this slow. Floods end because the gateway takes no more, not by this.
const PATIENCE: Duration = Duration::from_secs(20);
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `GET /large`: literals, no table.
fn request() -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in
        [(":method", "GET"), (":scheme", "http"), (":authority", "iris.localhost"), (":path", "/large")]
    {
        for text in ["\0", name, value] {
            if text != "\0" {
                block.push(u8::try_from(text.len()).unwrap());
            }
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// A large field in the table, and then thousands of times one byte that stands for it.
fn bomb() -> Vec<u8> {
    let mut block = request();
    block.extend([0x40, 1, b'x', 0x7f, 0xa1, 0x1e]);
    block.extend([b'a'; 4000]);
    block.extend([0xbe; 12_000]);
    block
}

/// What comes first on the connection, and then the `number`th piece of the flood.
type Flood = (&'static str, Vec<u8>, fn(u32) -> Vec<u8>);

fn floods() -> [Flood; 12] {
    let open = frame(HEADERS, END_HEADERS, 1, &request());
    [
        ("rapid reset", Vec::new(), |number| {
            let stream = number * 2 + 1;
            [frame(HEADERS, END_HEADERS | END_STREAM, stream, &request()), frame(3, 0, stream, &[0, 0, 0, 8])]
                .concat()
        }),
        ("made you reset", Vec::new(), |number| {
            let stream = number * 2 + 1;
            [frame(HEADERS, END_HEADERS | END_STREAM, stream, &request()), frame(8, 0, stream, &[0; 4])]
                .concat()
        }),
        ("continuations", frame(HEADERS, 0, 1, &request()), |_| frame(9, 0, 1, &[0x88; 1000])),
        ("empty continuations", frame(HEADERS, 0, 1, &request()), |_| frame(9, 0, 1, &[])),
        ("settings", Vec::new(), |_| frame(4, 0, 0, &[0, 3, 0, 0, 0, 100])),
        ("pings", Vec::new(), |_| frame(6, 0, 0, &[7; 8])),
        ("empty data", open.clone(), |_| frame(0, 0, 1, &[])),
        ("priorities", Vec::new(), |number| frame(2, 0, number * 2 + 1, &[0, 0, 0, 0, 9])),
        ("window updates", Vec::new(), |_| frame(8, 0, 0, &[0, 0, 0, 1])),
        ("bombs", Vec::new(), |number| frame(HEADERS, END_HEADERS | END_STREAM, number * 2 + 1, &bomb())),
        ("unknown frames", Vec::new(), |_| frame(0xee, 0xff, 0, &[1; 1000])),
        // Nothing may be sent to whoever asks: what they ask for must not pile up.
        ("no window", frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]), |number| {
            frame(HEADERS, END_HEADERS | END_STREAM, number * 2 + 1, &request())
        }),
    ]
}

/// Pours it out, reading nothing, until the gateway closes the connection or takes no more. How many pieces it took, and
/// the most memory that it had meanwhile.
async fn pour(server: &Server, (_, first, piece): &Flood) -> (u32, usize) {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let begin = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &*frame(4, 0, 0, &[]), first].concat();
    stream.write_all(&begin).await.unwrap();
    let (mut most, mut taken) = (0, 0);
    let count = u32::try_from(sockets(20_000)).unwrap();
    for number in (0..count).step_by(200) {
        let pieces: Vec<u8> = (number..number + 200).flat_map(piece).collect();
        let written = tokio::time::timeout(Duration::from_millis(500), stream.write_all(&pieces)).await;
        most = most.max(server.resident());
        if !matches!(written, Ok(Ok(()))) {
            break;
        }
        taken = number + 200;
        if number % 2000 == 0 {
            fresh_client(server.address).await;
        }
    }
    fresh_client(server.address).await;
    drop(stream);
    (taken, most.max(server.resident()))
}

#[tokio::test]
async fn floods_over_http2_take_no_memory_and_nobodys_turn() {
    allow_descriptors();
    // Each before a gateway of its own, whose memory is told by nobody else.
    // All of them first: starting one takes this thread for as long as the process takes, and clients that have connected
    // meanwhile, and cannot go on, would be cut.
    let servers = floods().map(|flood| (flood, Server::start(Some(PATIENCE))));
    let poured = servers.into_iter().map(|(flood, server)| async move {
        for _ in 0..20 {
            fresh_client(server.address).await;
        }
        let before = server.resident();
        let (taken, most) = pour(&server, &flood).await;
        let more = most.saturating_sub(before);
        println!("{}: {} KiB after {taken} pieces", flood.0, more / 1024);
        assert!(more < 16 * MIB, "{}: {} KiB more", flood.0, more / 1024);
        fresh_client(server.address).await;
    });
    futures_util::future::join_all(poured).await;
}
