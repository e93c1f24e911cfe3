//! G8: who says to the platform that it is somebody else is not believed.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::Server;

async fn ask(port: &str, head: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(format!("127.0.0.1:{port}")).await.expect("connects");
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_not_ours_is_refused_and_no_link_leads_where_a_request_says() {
    let server = Server::start(&[]).await;
    server.user("ada").await;
    let port = server.url.rsplit(':').next().expect("a port").to_owned();
    let refused = [
        "evil.example",
        "evil.example:80",
        "localhost.evil.example",
        "evil.example#localhost",
        "localhost@evil.example",
        "evil.example@localhost",
        "localhost:80@evil.example",
        "localhost:evil",
        "localhost:-1",
        "localhost:99999",
        "localhost:80:80",
        "localhost,evil.example",
        "localhost evil.example",
        "localhost/evil",
        "localhost\\evil",
        "localhost?evil",
        "http://localhost",
        "//localhost",
        "",
        ".",
        "..",
        ".localhost.",
        "a.b.localhost",
        "[::1",
        "[evil.example]",
        "0x7f000001.evil.example",
        "localhost%00.evil.example",
        "xn--evil\"><script>.example",
        "l\u{f6}calhost",
    ];
    assert_eq!(refused.len(), 29);
    for host in refused {
        for path in ["/sign-in", "/api/data/projects"] {
            let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            let answer = ask(&port, &head).await;
            let status = answer.split(' ').nth(1).unwrap_or_default();
            assert!(["400", "421"].contains(&status), "{host:?}: {answer}");
            assert!(
                !answer.to_lowercase().contains("location: ") && !answer.contains("<script>"),
                "{host:?}: {answer}"
            );
        }
    }
    // Two of them, or none, are refused as well.
    for hosts in
        ["Host: localhost\r\nHost: evil.example\r\n", "Host: evil.example\r\nHost: localhost\r\n", ""]
    {
        let answer = ask(&port, &format!("GET / HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{hosts:?}: {answer}");
    }
    // What is said beside the right host makes no difference, where nobody is trusted to say it.
    let forged = "X-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: https\r\nForwarded: host=evil.example;proto=https\r\n\
                  X-Host: evil.example\r\nX-Original-URL: /admin/users\r\nX-Rewrite-URL: /admin/users\r\nX-Forwarded-Server: evil.example\r\n";
    for path in
        ["/", "/sign-in", "/settings", "/admin/users", "/api/data/spec.json", "/.well-known/jwks.json"]
    {
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\n{forged}Connection: close\r\n\r\n");
        let answer = ask(&port, &head).await;
        assert!(!answer.contains("evil.example"), "{path}: {answer}");
    }
    let link = server.admin(&["password-link", "ada"], "");
    assert!(link.starts_with("http://localhost:"), "{link}");
}
