//! Silent connections, unreachable addresses, busy ports.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::net::{AddressFamily, SocketType};

use crate::proxy::{Proxy, Relay};
use crate::setup::{SOON, Setup, login, supplied_token};
use crate::testbed::{free_port, skip_test};

#[tokio::test]
async fn silent_http2_connection_is_replaced() -> Result<()> {
    Setup::own_tls("silent", async |setup| {
        let vault = setup.servers.vault.address().trim_start_matches("https://").parse()?;
        let relay = Relay::start(vault).await?;
        let document = format!(
            "vault: {{address: \"https://localhost:{}\", timeout: 3s}}\n\
             sources: {{webapp: {{path: {}, refresh: 1s, maxStale: 10s}}}}\n",
            relay.port(),
            setup.case.secret_path()
        );
        let mut agent = setup.agent_with(&["run"], &document)?;
        setup.file_is(&mut agent, "password", "Losungwort").await?;
        let before = relay.connections();
        relay.silence();
        setup.case.put(&login("Nutzername", "auf-neuer-Verbindung")).await?;
        let since = Instant::now();
        setup.file_is(&mut agent, "password", "auf-neuer-Verbindung").await?;
        let recovered = since.elapsed();
        println!("recovered after {recovered:?}, connections {before} -> {}", relay.connections());
        assert!(recovered < Duration::from_secs(10), "{recovered:?}");
        setup.condition_is(&mut agent, "SecretsFresh", "True", "Fresh").await?;
        assert!(before <= 2 && relay.connections() <= before + 3, "{before} -> {}", relay.connections());
        agent.terminate(SOON).await?;

        // A common error: `http://` to the https port, with a valid token.
        let http = setup.servers.vault.address().replace("https://", "http://");
        let changes = supplied_token(&http, setup.servers.vault.root_token());
        let mut once = setup.agent(&["once", "--timeout", "5s"], &changes)?;
        let code = once.wait(SOON).await?.code();
        let report = once.report();
        println!("http:// to the https port: exit code {code:?}: {:?}", once.log().last());
        assert!(report.contains("https://") && !report.contains("does not recognize"), "{report}");
        assert_eq!(code, Some(64), "{report}");
        Ok(())
    })
    .await
}

/// A port on 127.0.0.1 that drops packets, because the queue of its listener stays full.
async fn packet_dropping_port(port: u16) -> Result<Box<dyn std::any::Any + Send>> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    rustix::net::listen(&socket, 0)?;
    let mut queued = Vec::new();
    loop {
        let connect = tokio::net::TcpStream::connect(("127.0.0.1", port));
        match tokio::time::timeout(Duration::from_millis(300), connect).await {
            Ok(stream) => queued.push(stream?),
            Err(_) => return Ok(Box::new((socket, queued))),
        }
    }
}

#[tokio::test]
async fn second_address_is_tried_when_first_drops_packets() -> Result<()> {
    const HOSTS: &str = "mount --bind \"$1\" /etc/hosts && shift && exec \"$@\"";
    const NAMESPACE: [&str; 4] = ["unshare", "--user", "--map-root-user", "--mount"];
    let tried = std::process::Command::new(NAMESPACE[0]).args(&NAMESPACE[1..]).arg("true").output();
    if !tried.as_ref().is_ok_and(|tried| tried.status.success()) {
        let why = format!("{} does not work here: {tried:?}", NAMESPACE.join(" "));
        skip_test("second_address_is_tried_when_first_drops_packets", &why);
        return Ok(());
    }
    Setup::shared("addresses", async |setup| {
        let port = free_port()?;
        let _listener = packet_dropping_port(port).await?;
        let proxy = Proxy::at(&format!("127.0.0.2:{port}"), setup.servers.vault.address(), |_, _, _| {}).await?;
        let hosts = setup.case.jwt_file.with_file_name("hosts");
        std::fs::write(&hosts, "127.0.0.1 localhost vault.test\n127.0.0.2 vault.test\n")?;
        let url = format!("http://vault.test:{}", proxy.port());
        let wrapper = [&NAMESPACE[..], &["sh", "-c", HOSTS, "sh", hosts.to_str().context("a plain name")?]].concat();
        let started = Instant::now();
        let mut once = setup.agent_with_wrapper(&wrapper, &["once", "--timeout", "30s"], &[("VAULT_ADDR", &url)])?;
        assert_eq!(once.wait(Duration::from_secs(40)).await?.code(), Some(0), "{}", once.report());
        println!("done after {:?}: {} requests", started.elapsed(), proxy.seen().len());
        assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
        assert!(started.elapsed() > Duration::from_secs(1), "the first address was not tried: {:?}", started.elapsed());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn failed_once_logs_cause_in_one_error_line() -> Result<()> {
    Setup::shared("onceerror", async |setup| {
        // Accepts connections and never responds.
        let silent = TcpListener::bind("127.0.0.1:0")?;
        let silent = &*format!("http://{}", silent.local_addr()?);
        let missing = &*format!("{}/absent", setup.case.kv_mount);
        let table = [
            ("no response", "2s", vec![("VAULT_ADDR", silent)], 69),
            ("a very short timeout", "1ms", vec![("VAULT_ADDR", silent)], 69),
            ("a role that does not exist", "10s", vec![("KEYFERRY_ROLE", "unknown-role")], 77),
            ("a path that is denied", "10s", vec![("KEYFERRY_SECRETS", missing)], 77),
        ];
        for (what, timeout, mut changes, code) in table {
            changes.extend([("KEYFERRY_LOG", "error"), ("KEYFERRY_MIRROR", "")]);
            let started = Instant::now();
            let mut once = setup.agent(&["once", "--timeout", timeout], &changes)?;
            assert_eq!(once.wait(SOON).await?.code(), Some(code), "{what}: {}", once.report());
            let log = once.log();
            println!("{what}: {:?} {log:?}", started.elapsed());
            assert_eq!(log.len(), 1, "{what}: {log:#?}");
            assert!(log[0].contains("gave up") && log[0].contains(&format!("exit code {code}")), "{what}: {log:#?}");
            if what == "no response" {
                // The login in flight gets half of `drain` to complete, because otherwise its token would not be revoked.
                assert!(log[0].contains(&format!("gave up after 2s: no answer from {silent}")), "{log:#?}");
                assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn busy_listen_port_is_configuration_error() -> Result<()> {
    Setup::shared("busyport", async |setup| {
        let busy = TcpListener::bind("127.0.0.1:0")?;
        let address = busy.local_addr()?.to_string();
        let mut agent = setup.agent(&["run"], &[("KEYFERRY_LISTEN", &address)])?;
        assert_eq!(agent.wait(SOON).await?.code(), Some(64), "{}", agent.report());
        println!("{:?}", agent.log().last());
        assert!(agent.report().contains("ListenFailed") && agent.report().contains(&address), "{}", agent.report());
        Ok(())
    })
    .await
}
