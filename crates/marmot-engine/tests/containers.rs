//! Replicas that are containers, by a real Podman and a real Docker: what they are shut in by, how they sleep, end and are
//! found again.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/contained.rs"]
#[macro_use]
mod contained;
#[path = "support/docker.rs"]
mod docker;
#[path = "support/podman.rs"]
mod podman;
mod support;

use std::fs;
use std::time::Duration;

use contained::{Containers, activate, artefact, first_process, get, image, logs_with, machine, shut_down};
use marmot_core::plan::Policy;
use marmot_engine::observed::{FailureReason, Happening};
use marmot_engine::wanted::{Outbound, Program};
use podman::SERVE;
use support::{app, is_alive, policy};

by_each_engine! {
    a_container_is_shut_in_serves_sleeps_wakes_and_leaves_its_log,
    a_container_reaches_nobody_that_it_may_not_and_writes_nowhere_else,
    a_way_out_is_there_before_the_program_begins,
    a_failure_says_what_happened,
    a_user_that_is_asked_for_gets_a_home_and_the_images_own_finds_its_own,
    containers_go_on_while_server_and_engine_are_started_anew,
    what_ended_while_nobody_looked_is_told_and_what_is_not_ours_is_left_alone,
    who_is_switched_off_does_not_wait_for_an_engine_that_hangs,
    without_an_engine_that_answers_starting_fails_in_words,
}

async fn a_container_is_shut_in_serves_sleeps_wakes_and_leaves_its_log<E: Containers>() {
    let Some(engine) = E::start() else { return };
    let machine = machine(&engine).await;
    activate(&machine, &engine, 1, &["/serve"], &policy());
    let replica = machine.until_running().await;
    assert!(get(&replica, "/").await.contains("hello"));
    let env = get(&replica, "/cgi-bin/env").await;
    for expected in [
        "GREETING=hello world",
        "PORT=8000",
        "RENKU_SESSION_IP=0.0.0.0",
        "MARMOT_APP_NAME=iris",
        "HOME=/home/app",
    ] {
        assert!(env.contains(expected), "{expected} in {env}");
    }

    let pid = first_process(&machine, &replica);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap();
        line.split_once(':').unwrap().1.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
    };
    for none in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(u64::from_str_radix(&field(none), 16), Ok(0), "{none}");
    }
    assert_eq!((field("NoNewPrivs").as_str(), field("Seccomp").as_str()), ("1", "2"));
    let uid: u32 = field("Uid").split(' ').next().unwrap().parse().unwrap();
    assert!(uid >= 2_000_000_000, "a user that nobody else is: {uid}");
    let own = |kind: &str| {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        of(&pid.to_string()) != of("self")
    };
    for kind in ["net", "pid", "mnt", "ipc", "uts"] {
        assert!(own(kind), "its own {kind}");
    }

    machine.demand.put_to_rest(machine.clock.now());
    machine.engine.nudge().app(&app());
    let asleep = machine.until_hibernated().await;
    assert_eq!(asleep.id, replica.id);
    machine.demand.touch(machine.clock.now() + Duration::from_millis(1));
    let waiting = machine.demand.hold();
    machine.engine.nudge().app(&app());
    let awake = machine.until_running().await;
    drop(waiting);
    assert_eq!((awake.id, first_process(&machine, &awake)), (replica.id, pid), "it is the same one");
    assert!(get(&awake, "/").await.contains("hello"));

    shut_down(&machine, &engine).await;
    assert!(!is_alive(pid));
    let said = format!("listening on 8000 as {uid}");
    assert_eq!(logs_with(&machine, &said).await, [said]);
}

async fn a_container_reaches_nobody_that_it_may_not_and_writes_nowhere_else<E: Containers>() {
    let Some(engine) = E::start() else { return };
    let mut machine = machine(&engine).await;
    machine.outbound = Outbound::None;
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let tries: String = support::own_addresses()
        .iter()
        .map(ToString::to_string)
        .chain(["127.0.0.1".to_owned(), "169.254.169.254".to_owned()])
        .map(|host| format!("nc -w 1 {host} {port} < /dev/null && echo reached {host}; "))
        .collect();
    let script = format!(
        "{tries} cat /proc/net/dev | grep -c : ; touch /x /etc/x && echo wrote; touch /tmp/x /var/tmp/x $HOME/x && echo places; \
         grep -c . /proc/sys/kernel/core_pattern > /dev/null; echo x > /proc/sys/kernel/core_pattern && echo kernel; \
         ls /dev | grep -c -E 'vda|sda|kmsg|mem'; exec /serve"
    );
    activate(&machine, &engine, 1, &["/bin/sh", "-c", &script], &policy());
    machine.until_running().await;
    let lines = logs_with(&machine, "0").await;
    assert!(lines.iter().all(|line| !line.starts_with("reached")), "{lines:#?}");
    assert!(!lines.contains(&"wrote".to_owned()) && !lines.contains(&"kernel".to_owned()), "{lines:#?}");
    assert!(lines.contains(&"places".to_owned()), "{lines:#?}");
    let numbers: Vec<&String> = lines.iter().filter(|line| line.parse::<u32>().is_ok()).collect();
    assert_eq!(numbers, ["1", "0"], "the loopback interface alone, and no disks: {lines:#?}");
    shut_down(&machine, &engine).await;
}

async fn a_way_out_is_there_before_the_program_begins<E: Containers>() {
    let Some(engine) = E::start() else { return };
    let machine = machine(&engine).await;
    if !machine.engine.capabilities().outbound {
        eprintln!("skipped: {:?}", machine.engine.capabilities().sentences);
        return;
    }
    // Docker cannot hold a program back until it is there.
    let waits =
        if E::NAME == "Docker" { "until grep -q eth0 /proc/net/dev; do sleep 0.1; done; " } else { "" };
    let script = &format!("{waits}grep -o eth0 /proc/net/dev; cat /etc/resolv.conf; exec /serve");
    activate(&machine, &engine, 1, &["/bin/sh", "-c", script], &policy());
    machine.until_running().await;
    assert_eq!(
        logs_with(&machine, "nameserver 198.19.255.253").await[..2],
        ["eth0".to_owned(), "nameserver 198.19.255.253".to_owned()]
    );
    shut_down(&machine, &engine).await;
}

async fn a_failure_says_what_happened<E: Containers>() {
    let Some(engine) = E::start() else { return };
    let mut machine = machine(&engine).await;
    let could_not = |words: &str| FailureReason::CouldNotStart(words.into());
    let eats = "x=aaaaaaaa; while true; do x=$x$x; done";
    let limit = 512 << 20;
    let cases: [(&[&str], FailureReason); 5] = [
        (&["/bin/sh", "-c", "echo bye; exit 7"], FailureReason::Exited(7)),
        (&["nonesuch"], could_not("there is no program `nonesuch` in the image")),
        (
            &["/etc/passwd"],
            could_not("`/etc/passwd` in the image may not be executed by the user it runs as"),
        ),
        (&["/bin/sh", "-c", "kill -9 $$"], FailureReason::Killed(9)),
        (&["/bin/sh", "-c", eats], FailureReason::OutOfMemory { used: None, limit }),
    ];
    for (build, (command, expected)) in (1..).zip(cases) {
        activate(&machine, &engine, build, command, &policy());
        let failed = |what: &Happening| matches!(what, Happening::Failed(_));
        let Happening::Failed(failure) = machine.until_event(failed).await else { unreachable!() };
        assert_eq!(failure.reason.to_string(), expected.to_string(), "{command:?}: {:?}", failure.last_lines);
        if build == 1 {
            assert_eq!(failure.last_lines, ["bye"]);
        }
        shut_down(&machine, &engine).await;
        while machine.events.try_recv().is_ok() {}
    }

    let as_root = Program::Image {
        build: 1.into(),
        port: None,
        command: None,
        args: None,
        uid: Some(0),
        gid: None,
        working_directory: None,
    };
    machine.activate_program(1.into(), as_root, &policy(), &[]);
    let FailureReason::CouldNotStart(why) = machine.until_failed().await.reason.clone() else { panic!() };
    assert!(why.contains("root of this machine's kernel"), "{why}");
    shut_down(&machine, &engine).await;

    // Nothing to start at all, and a user that may not write its home.
    let id = engine.image("localhost/empty:1", &[], &["EXPOSE 8000"]);
    artefact(&machine, 7, &id);
    machine.activate_program(7.into(), image(7), &policy(), &[]);
    let FailureReason::CouldNotStart(why) = machine.until_failed().await.reason.clone() else { panic!() };
    assert_eq!(why, "the image does not say what to start: give the launcher a command");
    shut_down(&machine, &engine).await;
    let id = engine.image(
        "localhost/homeless:1",
        &[("home/me/.keep", ""), ("serve", SERVE)],
        &["EXPOSE 8000", "USER app", "CMD [\"/serve\"]"],
    );
    artefact(&machine, 8, &id);
    machine.activate_program(8.into(), image(8), &policy(), &[]);
    let failure = machine.until_failed().await;
    let told = failure.last_lines.join("\n");
    assert_eq!(failure.reason, FailureReason::Exited(9), "{told}");
    assert!(told.contains("/home/me/www") && told.contains("Permission denied"), "{told}");
    shut_down(&machine, &engine).await;

    let silent = Policy { start_timeout: Duration::from_secs(5), ..policy() };
    activate(&machine, &engine, 9, &["/bin/sh", "-c", "exec httpd -f -p 9999"], &silent);
    let FailureReason::NeverListened { expected, found, .. } = machine.until_failed().await.reason.clone()
    else {
        panic!()
    };
    assert_eq!((expected, found), (8000, vec![9999]));
    shut_down(&machine, &engine).await;
}

async fn a_user_that_is_asked_for_gets_a_home_and_the_images_own_finds_its_own<E: Containers>() {
    let Some(engine) = E::start() else { return };
    let machine = machine(&engine).await;
    let script = "id -u; echo $HOME; touch $HOME/x && echo home; exec httpd -f -p $PORT";
    let command = serde_json::to_string(&["/bin/sh", "-c", script]).unwrap();
    let files = [("home/me/.keep", ""), ("serve", SERVE)];
    let id =
        engine.image("localhost/test:1", &files, &["EXPOSE 8000", "USER app", &format!("CMD {command}")]);
    artefact(&machine, 1, &id);
    let run_as = |uid: Option<u32>| Program::Image {
        build: 1.into(),
        port: Some(8123),
        command: None,
        args: None,
        uid,
        gid: Some(100).filter(|_| uid.is_some()),
        working_directory: Some("/tmp".to_owned()),
    };
    machine.activate_program(1.into(), run_as(Some(4321)), &policy(), &[]);
    machine.until_running().await;
    assert_eq!(logs_with(&machine, "home").await, ["4321", "/home/app", "home"]);
    shut_down(&machine, &engine).await;

    machine.activate_program(2.into(), run_as(None), &policy(), &[]);
    machine.until_running().await;
    let lines = logs_with(&machine, "touch: /home/me/x: Permission denied").await;
    for expected in ["1234", "/home/me"] {
        assert!(lines.iter().any(|line| line == expected), "{expected} in {lines:#?}");
    }
    shut_down(&machine, &engine).await;
}

async fn containers_go_on_while_server_and_engine_are_started_anew<E: Containers>() {
    let Some(mut engine) = E::start() else { return };
    let machine = machine(&engine).await;
    let script = "(n=0; while [ $n -lt 40 ]; do echo line $n; n=$((n+1)); sleep 0.05; done) & exec /serve";
    activate(&machine, &engine, 1, &["/bin/sh", "-c", script], &policy());
    let replica = machine.until_running().await;
    let pid = first_process(&machine, &replica);

    let mut machine = machine.crash().await;
    machine.until_event(|what| matches!(what, Happening::Adopted)).await;
    let again = machine.until_running().await;
    assert_eq!((again.id, first_process(&machine, &again)), (replica.id, pid));
    assert!(get(&again, "/").await.contains("hello"));

    // While its engine hangs it serves, sleeps and wakes.
    engine.hang();
    assert!(get(&again, "/").await.contains("hello"));
    machine
        .want(|wanted| wanted.apps.get_mut(&app()).unwrap().policy.idle_after = Duration::from_millis(100));
    machine.until_hibernated().await;
    let waiting = machine.demand.hold();
    machine.engine.nudge().app(&app());
    let awake = machine.until_running().await;
    assert!(get(&awake, "/").await.contains("hello"));
    machine.want(|wanted| wanted.apps.get_mut(&app()).unwrap().policy.idle_after = Duration::from_secs(600));
    drop(waiting);
    engine.resume();

    // A server that starts while the engine is away finds it as well.
    let machine = machine.crash_and(async || engine.end()).await;
    let again = machine.until_running().await;
    assert!(get(&again, "/").await.contains("hello"));
    engine.begin();
    let lines = logs_with(&machine, "line 39").await;
    let told: Vec<&String> = lines.iter().filter(|line| line.starts_with("line ")).collect();
    let expected: Vec<String> = (0..40).map(|number| format!("line {number}")).collect();
    assert_eq!(told, expected.iter().collect::<Vec<_>>(), "each once, in order");
    shut_down(&machine, &engine).await;
    assert!(!is_alive(pid));
}

async fn what_ended_while_nobody_looked_is_told_and_what_is_not_ours_is_left_alone<E: Containers>() {
    let Some(engine) = E::start() else { return };
    let mut machine = machine(&engine).await;
    let script = "(while [ ! -e $HOME/end ]; do sleep 0.05; done; echo bye; kill -TERM 1) & exec /serve";
    activate(&machine, &engine, 1, &["/bin/sh", "-c", script], &policy());
    let replica = machine.until_running().await;
    let pid = first_process(&machine, &replica);
    engine.run(&[
        "run",
        "--detach",
        "--network=none",
        "--name=foreign",
        "localhost/test:1",
        "/bin/sleep",
        "1000",
    ]);
    let label = format!("marmot.data={}", machine.layout().tag());
    engine.run(&["create", "--network=none", "--name=left", "--label", &label, "localhost/test:1"]);

    let home = machine.layout().replica(&app(), replica.id).join("home");
    machine = machine
        .crash_and(async || {
            fs::write(home.join("end"), "").unwrap();
            support::until(|| !is_alive(pid)).await;
        })
        .await;
    let failed = |what: &Happening| matches!(what, Happening::Failed(_));
    let Happening::Failed(failure) = machine.until_event(failed).await else { unreachable!() };
    assert_eq!(failure.last_lines.last().map(String::as_str), Some("bye"), "{failure:?}");
    assert!(matches!(failure.reason, FailureReason::Killed(15) | FailureReason::Exited(_)), "{failure:?}");
    machine.shut_down();
    machine.until_gone().await;
    support::until(|| engine.containers() == ["foreign"]).await;
    engine.remove("foreign");
}

async fn who_is_switched_off_does_not_wait_for_an_engine_that_hangs<E: Containers>() {
    let Some(engine) = E::start() else { return };
    let machine = machine(&engine).await;
    let id = engine.image("localhost/test:1", &[("serve", SERVE)], &["EXPOSE 8000", "CMD [\"/serve\"]"]);
    artefact(&machine, 1, &id);
    engine.hang();
    machine.activate_program(1.into(), image(1), &policy(), &[]);
    machine.until("starting", |app| !app.replicas.is_empty()).await;
    machine.shut_down();
    machine.until_gone().await;
    engine.resume();
    assert_eq!(machine.leftovers(), Vec::<String>::new());
    support::until(|| engine.containers().is_empty()).await;
}

async fn without_an_engine_that_answers_starting_fails_in_words<E: Containers>() {
    let Some(mut engine) = E::start() else { return };
    let mut machine = machine(&engine).await;
    let id = engine.image("localhost/test:1", &[("serve", SERVE)], &["EXPOSE 8000", "CMD [\"/serve\"]"]);
    artefact(&machine, 1, &id);
    engine.end();
    machine.activate_program(1.into(), image(1), &policy(), &[]);
    let FailureReason::EngineAway(why) = machine.until_failed().await.reason.clone() else { panic!() };
    assert!(why.contains("does not answer") && why.contains("ask the operator"), "{why}");
    // It never gives up: that would be for longer than the engine is away.
    for _ in 0..3 {
        machine.until_event(|what| matches!(what, Happening::Failed(_))).await;
    }
    assert_eq!(machine.until_failed_app().await.gave_up, None);
    engine.begin();
    // It is tried again by itself.
    machine.until_running().await;
    shut_down(&machine, &engine).await;
}

#[tokio::test]
async fn where_there_is_no_engine_an_image_says_so() {
    let machine = support::Machine::new().await;
    artefact(&machine, 1, "0123");
    machine.activate_program(1.into(), image(1), &policy(), &[]);
    let FailureReason::CouldNotStart(why) = machine.until_failed().await.reason.clone() else { panic!() };
    assert!(why.contains("this installation has no container engine"), "{why}");
}
