//! What is killed comes back; what is shut down is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::{Repository, Server, fetch_afresh, kill_9, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_replica_is_replaced_and_no_read_fails() {
    let server = Server::start(&[]).await;
    let ada = server.user("ada").await;
    let repository = Repository::probe();
    let launcher = ada.launcher("victim", &repository).await;
    let app = Arc::new(ada.activate(&launcher, "running").await);
    let first = app.fetch_json("/").await["born"].clone();

    let done = Arc::new(AtomicBool::new(false));
    let traffic: Vec<_> = (0..4)
        .map(|_| {
            let (app, done) = (Arc::clone(&app), Arc::clone(&done));
            tokio::spawn(async move {
                let mut answered = 0;
                while !done.load(Ordering::Relaxed) {
                    app.fetch_json("/").await;
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    for _ in 0..3 {
        let born = app.fetch_json("/").await["born"].clone();
        kill_9(&server.processes_of(&app.name));
        wait_for("a fresh replica", || async { (app.fetch_json("/").await["born"] != born).then_some(()) })
            .await;
    }
    done.store(true, Ordering::Relaxed);
    for client in traffic {
        assert!(client.await.expect("no request failed") > 0);
    }
    assert_ne!(app.fetch_json("/").await["born"], first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_finds_its_apps_again_with_their_state() {
    let mut server = Server::start(&["--idle-after", "2s"]).await;
    let ada = server.user("ada").await;
    let repository = Repository::probe();
    let launcher = ada.launcher("survivor", &repository).await;
    let app = ada.activate(&launcher, "running").await;
    let other_repository = Repository::probe();
    let other = ada.launcher("sleeper", &other_repository).await;
    let sleeper = ada.activate(&other, "running").await;
    sleeper.wait_for_phase("asleep").await;
    let before = app.fetch_json("/").await;
    let slept = server.processes_of(&sleeper.name);

    server.kill().await;
    server.restart().await;

    let after = app.fetch_json("/").await;
    assert_eq!(after["born"], before["born"], "the same process answers");
    // The new server has asked it, too, whether it is still there.
    assert!(after["count"].as_u64() > before["count"].as_u64(), "nothing is lost");
    assert_eq!(sleeper.view().await["phase"], "asleep");
    assert_eq!(server.processes_of(&sleeper.name), slept);
    assert!(sleeper.fetch_json("/").await["count"].as_u64() >= Some(1));
    app.wait_for_line("probe: ready").await;

    app.shut_down().await;
    sleeper.shut_down().await;
    for app in [&app, &sleeper] {
        wait_for("its processes to end", || async {
            server.processes_of(&app.name).is_empty().then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_shut_down_while_the_server_was_dead_does_not_come_back() {
    let mut server = Server::start(&[]).await;
    let ada = server.user("ada").await;
    let repository = Repository::probe();
    let launcher = ada.launcher("ghost", &repository).await;
    let app = ada.activate(&launcher, "running").await;
    app.shut_down().await;
    server.kill().await;
    server.restart().await;
    wait_for("its processes to end", || async { server.processes_of(&app.name).is_empty().then_some(()) })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutting_down_ends_also_what_hides_from_its_parents() {
    let server = Server::start(&[]).await;
    let ada = server.user("ada").await;
    let repository = Repository::probe();
    let launcher = ada.launcher("hydra", &repository).await;
    let app = ada.activate(&launcher, "running").await;
    app.fetch_json("/daemon").await;
    wait_for("its daemons", || async { (server.processes_of(&app.name).len() > 2).then_some(()) }).await;
    app.shut_down().await;
    wait_for("all of them to end", || async { server.processes_of(&app.name).is_empty().then_some(()) })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_asked_to_stop_answers_what_it_has_and_exits_cleanly() {
    let mut server = Server::start(&["--replicas-on-stop", "stop"]).await;
    let ada = server.user("ada").await;
    let repository = Repository::probe();
    let launcher = ada.launcher("leaver", &repository).await;
    let app = ada.activate(&launcher, "running").await;
    let url = format!("{}/slow", app.url().await);
    let slow = tokio::spawn(ada.client.get(url).send());
    wait_for("the request to be under way", || async {
        (app.view().await["requests"].as_u64() > Some(0)).then_some(())
    })
    .await;
    assert_eq!(server.terminate().await, Some(0));
    assert_eq!(slow.await.expect("no panic").expect("an answer").status(), 200);
    assert_eq!(server.processes_of(&app.name), [0; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_makes_room_for_the_next_one_refuses_nobody() {
    let server = Server::start(&["--stop-timeout", "5s"]).await;
    let ada = server.user("ada").await;
    let repository = Repository::probe();
    let launcher = ada.launcher("lasting", &repository).await;
    let app = ada.activate(&launcher, "running").await;
    let born = app.fetch_json("/").await["born"].clone();

    let (done, url) = (Arc::new(AtomicBool::new(false)), app.url().await);
    let traffic: Vec<_> = (0..4)
        .map(|_| {
            let (url, done, born) = (url.clone(), Arc::clone(&done), born.clone());
            tokio::spawn(async move {
                let mut answered = 0;
                while !done.load(Ordering::Relaxed) {
                    // A connection of its own for each: none may be refused, reset or left without an answer.
                    assert_eq!(fetch_afresh(&url).await["born"], born, "the same replica answers");
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    for next in 1..=3 {
        server.make_room();
        wait_for("the next server", || async { (server.generation() == next).then_some(()) }).await;
        // The next one answers: it listens for signals by then.
        fetch_afresh(&url).await;
    }
    done.store(true, Ordering::Relaxed);
    for client in traffic {
        assert!(client.await.expect("no request failed") > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_takes_its_socket_from_systemd() {
    let activate = "\
import os, socket, sys
listening = socket.create_server(('127.0.0.1', 0))
os.dup2(listening.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[1], sys.argv[1:])";
    let server = Server::started_by(&["python3", "-c", activate]).await;
    assert!(!server.url.ends_with(":1"), "{}", server.url);
    server.anonymous().get("/resource_classes").await;
}
