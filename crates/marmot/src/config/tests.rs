//! Settings from flags, variables and files, and what is said of wrong ones.

use std::path::Path;

use super::*;
use crate::model::Gpus;

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn with_file(text: &str) -> Result<Settings, ConfigError> {
    Settings::resolve(&Sources::new().file_text(Path::new("marmot.toml"), text)?)
}

fn refusal(text: &str) -> String {
    with_file(text).unwrap_err().to_string()
}

#[test]
fn without_anything_the_defaults_hold() {
    let settings = Settings::resolve(&Sources::new()).unwrap();
    assert_eq!(settings.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(settings.idle_after, Duration::from_secs(120));
    assert_eq!(settings.public_url(settings.listen).to_string(), "http://localhost:8080");
    let options = settings.options(settings.listen);
    assert_eq!(options.app_url(&"iris".parse().unwrap()), "http://iris.localhost:8080");
    assert_eq!(settings.warnings(&Sources::new()), [""; 0]);
}

#[test]
fn flags_win_over_variables_over_the_file_over_the_defaults() {
    let path = Path::new("marmot.toml");
    let sources = || {
        Sources::new()
            .file_text(
                path,
                "idle_after = '1m'\nstop_after = '1h'\nstart_timeout = '1m'\nallow_local_repositories = true",
            )
            .unwrap()
    };
    let variables = [pair("MARMOT_IDLE_AFTER", "2s"), pair("MARMOT_STOP_AFTER", "2h"), pair("HOME", "/root")];
    let sources = sources().variables(variables).flags([pair("idle_after", "3s")]);
    let settings = Settings::resolve(&sources).unwrap();
    let seconds =
        [settings.idle_after, settings.stop_after, settings.start_timeout].map(|time| time.as_secs());
    assert_eq!(seconds, [3, 7200, 60]);
    assert!(settings.allow_local_repositories);
}

#[test]
fn a_wrong_value_is_refused_with_its_name_its_place_and_what_is_allowed() {
    insta::assert_snapshot!(refusal("\n# comment\nidle_after = 5"), @"setting `idle_after` (from marmot.toml:3) is `5`: it must be a duration like `500ms`, `90s`, `2m`, `12h` or `1h30m`, more than zero");
    let variable = Sources::new().variables([pair("MARMOT_LISTEN", "8080")]);
    insta::assert_snapshot!(Settings::resolve(&variable).unwrap_err().to_string(), @"setting `listen` (from the variable `MARMOT_LISTEN`) is `8080`: it must be an IP address and a port, like `127.0.0.1:8080` or `[::]:8080`");
    let flag = Sources::new().flags([pair("memory_budget", "lots")]);
    insta::assert_snapshot!(Settings::resolve(&flag).unwrap_err().to_string(), @"setting `memory_budget` (from the flag `--memory-budget`) is `lots`: it must be a size in bytes, or like `512M` or `4G` (K, M, G and T are powers of 1024)");
}

#[test]
fn a_password_in_the_address_of_the_database_is_not_repeated() {
    let refusal = refusal("database_url = 'mysql://marmot:hunter2@db/marmot'");
    assert!(!refusal.contains("hunter2"), "{refusal}");
    let settings = with_file("database_url = 'postgres://marmot:hunter2@db/marmot'").unwrap();
    assert!(!format!("{settings:?}").contains("hunter2"));
}

#[test]
fn a_file_with_an_unknown_key_is_refused_with_the_nearest_known_one() {
    insta::assert_snapshot!(refusal("listen = '127.0.0.1:1'\nidle_afer = '5s'"), @"`idle_afer` (from marmot.toml:2) is no setting: did you mean `idle_after`?");
    insta::assert_snapshot!(refusal("data-dir = '/srv'"), @"`data-dir` (from marmot.toml:1) is no setting: did you mean `data_dir`?");
    insta::assert_snapshot!(refusal("xyzzy = 1"), @"`xyzzy` (from marmot.toml:1) is no setting");
}

#[test]
fn a_file_that_is_no_toml_is_refused_with_the_line() {
    let refusal = refusal("listen = '127.0.0.1:1'\nidle_after 5s");
    assert!(refusal.contains("marmot.toml:2"), "{refusal}");
    assert!(with_file("idle_after = ['5s']").unwrap_err().to_string().contains("must be one value"));
}

#[test]
fn resource_classes_come_from_the_file() {
    let class = "[[resource_classes]]\nid = 7\nname = 'tiny'\ncpu_millis = 250\nmemory_mib = 256\n";
    let settings = with_file(class).unwrap();
    assert_eq!(settings.resource_classes.iter().map(|class| class.id).collect::<Vec<_>>(), [7]);
    assert!(refusal(&format!("{class}{class}")).contains("the id 7 is given twice"));
    assert!(refusal("resource_classes = []").contains("one at least"));
    let with_gpus = |gpus: &str| with_file(&format!("{class}gpus = {gpus}\n"));
    assert_eq!(with_gpus("2").unwrap().resource_classes[0].gpus.as_ref().map(Gpus::count), Some(2));
    assert_eq!(
        with_gpus("['amd.com/gpu=0']").unwrap().resource_classes[0].gpus.as_ref().map(Gpus::count),
        Some(1)
    );
    for (gpus, why) in [("0", "1 to 64"), ("[]", "leave `gpus` out"), ("['/dev/dri']", "must be like")] {
        let refused = with_gpus(gpus).unwrap_err().to_string();
        assert!(refused.contains(why), "{gpus}: {refused}");
    }
    assert!(refusal(&format!("{class}gpu = 1\n")).contains("unknown field `gpu`"));
}

#[test]
fn apps_below_the_platforms_own_domain_are_warned_about() {
    let warnings = |text| with_file(text).unwrap().warnings(&Sources::new()).len();
    assert_eq!(warnings("domain = 'marmot.example.org'"), 1);
    assert_eq!(warnings("domain = 'marmot.example.org'\napps_domain = 'apps.marmot.example.org'"), 1);
    assert_eq!(warnings("domain = 'marmot.example.org'\napps_domain = 'marmot-apps.example'"), 0);
}

#[test]
fn tls_needs_both_of_its_files_and_makes_addresses_secure() {
    let both = "tls_certificate = 'a.pem'\ntls_key = 'b.pem'\n";
    let url = |text: &str| {
        let settings = with_file(&format!("{both}domain = 'marmot.example'\n{text}")).unwrap();
        settings.public_url(settings.listen).to_string()
    };
    assert_eq!(url("listen = '[::]:443'"), "https://marmot.example");
    assert_eq!(url("listen = '[::]:8443'"), "https://marmot.example:8443");
    assert_eq!(url("public_url = 'https://other.example'"), "https://other.example");
    insta::assert_snapshot!(refusal("tls_certificate = 'a.pem'"), @"`tls_certificate` is set, but not `tls_key`: name the file with its private key");
    insta::assert_snapshot!(refusal("tls_key = 'b.pem'"), @"`tls_key` is set, but not `tls_certificate`: name the file with its certificate");
    insta::assert_snapshot!(refusal("redirect_listen = '[::]:80'"), @"`redirect_listen` is set, but without `tls_certificate` or `acme` there is no `https://` to send visitors to");
    insta::assert_snapshot!(refusal(&format!("{both}public_url = 'http://a.example'")), @"`tls_certificate` is set, but `public_url` does not begin with `https://`");
}

#[test]
fn certificates_are_ordered_only_by_who_has_agreed_to_the_terms_and_for_hosts_that_can_have_one() {
    let agreed = "acme = true\nacme_terms_agreed = true\n";
    let settings = with_file(&format!("{agreed}domain = 'marmot.example'\nlisten = '[::]:443'")).unwrap();
    assert_eq!(settings.public_url(settings.listen).to_string(), "https://marmot.example");
    let setup = settings.acme(settings.listen).unwrap().unwrap();
    assert_eq!(
        (setup.own, setup.apps_domain.as_str()),
        (vec!["marmot.example".to_owned()], "marmot.example")
    );
    assert!(with_file("").unwrap().acme(settings.listen).unwrap().is_none());
    insta::assert_snapshot!(refusal("acme = true\ndomain = 'marmot.example'"), @"`acme` is set, but not `acme_terms_agreed`: read the terms of the authority at `acme_directory`, and set it to `true` if you agree");
    insta::assert_snapshot!(refusal(agreed), @"`acme` is set, but `domain` is `localhost`, which no authority certifies: set `domain`");
    insta::assert_snapshot!(refusal(&format!("{agreed}public_url = 'http://marmot.example'")), @"`acme` is set, but `public_url` does not begin with `https://`");
    insta::assert_snapshot!(refusal("acme_directory = 'http://ca.example/'"), @"setting `acme_directory` (from marmot.toml:1) is `http://ca.example/`: it must be an address that begins with `https://`");
    insta::assert_snapshot!(refusal("acme_contact = 'ada'"), @"setting `acme_contact` (from marmot.toml:1) is `ada`: it must be one address of e-mail, like `ada@example.org`");
}

#[test]
fn what_binds_an_account_is_read_from_a_file_and_never_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("binding");
    let setup = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let path = file.display();
        let settings = with_file(&format!(
            "acme = true\nacme_terms_agreed = true\ndomain = 'marmot.example'\nacme_binding_file = '{path}'"
        ));
        let settings = settings.unwrap();
        settings.acme(settings.listen)
    };
    let external = setup("kid-1:c2VjcmV0-_8\n").unwrap().unwrap().terms.external_account;
    assert_eq!(external, Some(("kid-1".to_owned(), b"secret\xfb\xff".to_vec())));
    for wrong in ["hunter2", "kid:hunter2!", "kid:"] {
        let refusal = format!("{:#}", setup(wrong).unwrap_err());
        assert!(refusal.contains("acme_binding_file") && !refusal.contains("hunter2"), "{refusal}");
    }
}

#[test]
fn a_variable_that_is_no_setting_is_warned_about() {
    let sources = Sources::new().variables([pair("MARMOT_IDLEAFTER", "5s"), pair("MARMOT_TOKEN", "x")]);
    let warnings = Settings::resolve(&sources).unwrap().warnings(&sources);
    assert_eq!(
        warnings,
        ["the variable `MARMOT_IDLEAFTER` is no setting: did you mean `MARMOT_IDLE_AFTER`?"]
    );
}

#[test]
fn the_configuration_reference_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    if std::env::var_os("MARMOT_UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, reference()).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == reference(),
        "docs/configuration.md is out of date: MARMOT_UPDATE=1 cargo test -p marmot configuration"
    );
}

fn provider(more: &str) -> String {
    let first = "[[identity_providers]]\nid = 'uni'\nissuer = 'https://id.example.org'\nclient_id = 'marmot'";
    format!("{first}\n{more}")
}

#[test]
fn identity_providers_come_from_the_file_with_their_secrets_from_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "hunter2\n").unwrap();
    let text = provider(&format!("client_secret_file = '{}'\nallowed_groups = ['lab']", secret.display()));
    let settings = with_file(&text).unwrap();
    let [uni] = &settings.identity_providers[..] else { panic!("{:?}", settings.identity_providers) };
    assert_eq!((uni.title.as_str(), uni.groups_claim.as_str()), ("uni", "groups"));
    assert_eq!(uni.scopes, ["openid", "profile", "email"]);
    assert_eq!(uni.client_secret.as_ref().map(|secret| secret.reveal()), Some("hunter2"));
    assert!(uni.create_accounts && uni.admin_groups.is_empty());
    assert!(!format!("{settings:?}").contains("hunter2"));
}

#[test]
fn identity_providers_that_cannot_be_used_are_refused_by_name() {
    for (more, says) in [
        ("client_secret = 'hunter2'", "unknown field `client_secret`"),
        ("client_secret_file = '/no/such/file'", "cannot read `/no/such/file`"),
        ("client_secret_env = 'NO_SUCH_VARIABLE_HERE'", "the variable `NO_SUCH_VARIABLE_HERE` is not set"),
        ("client_secret_env = 'A'\nclient_secret_file = 'b'", "do not go together"),
        ("scopes = ['profile']", "`scopes` must hold `openid`"),
        ("scopes = ['openid', 'a b']", "each of `scopes` must be one word"),
    ] {
        let refused = refusal(&provider(more));
        assert!(refused.contains(says) && !refused.contains("hunter2"), "{refused}");
        assert!(refused.starts_with("`identity_providers` (from marmot.toml:1)"), "{refused}");
    }
    for issuer in [
        "http://id.example.org",
        "https://u:p@id.example.org",
        "https://id.example.org/?x",
        "file:///etc",
        "id",
    ] {
        let refused = refusal(&provider("").replace("https://id.example.org", issuer));
        assert!(refused.contains("must be an `https://` address"), "{refused}");
    }
    assert!(
        with_file(&provider("").replace("https://id.example.org", "http://127.0.0.1:8081/realms/x")).is_ok()
    );
    assert!(refusal(&format!("{}\n{}", provider(""), provider(""))).contains("is given twice"));
    assert!(refusal(&provider("").replace("'uni'", "'Uni!'")).contains("`id` must be"));
}

#[test]
fn a_resource_class_may_be_for_groups_and_one_must_be_for_everybody() {
    let class = |id: u32, more: &str| {
        format!(
            "[[resource_classes]]\nid = {id}\nname = 'c{id}'\ncpu_millis = 1000\nmemory_mib = 512\n{more}\n"
        )
    };
    let some = class(2, "groups = ['lab', 'institute:editor']");
    let settings = with_file(&(class(1, "") + &some)).unwrap();
    let told: Vec<String> =
        settings.resource_classes[1].groups.iter().map(|group| group.clone().into()).collect();
    assert_eq!(told, ["lab:viewer", "institute:editor"]);
    assert!(settings.resource_classes[0].groups.is_empty());
    for (text, says) in [
        (some.clone(), "one must be for everybody"),
        (class(1, "") + &class(2, "default = true\ngroups = ['lab']"), "`c2` is the default"),
        (class(1, "") + &class(2, "groups = ['Lab!']"), "`Lab!` is no group"),
        (class(1, "") + &class(2, "groups = ['lab:king']"), "`lab:king` is no group"),
    ] {
        let refused = refusal(&text);
        assert!(refused.contains(says), "{refused}");
    }
}

#[test]
fn what_is_said_of_images_is_read_and_a_name_that_would_be_given_twice_is_refused() {
    let text = "push_images_to = 'registry.example.org/{namespace}/{project}/{app}:{build}'\nbase_image = 'debian:12'\n\
                local_images = 'localhost/lab/, localhost/shiny:1'";
    let settings = with_file(text).unwrap();
    assert!(settings.options(settings.listen).makes_images);
    assert_eq!(settings.local_images.0.len(), 2);
    let push = settings.push().unwrap().unwrap();
    let name = push.name("ada", "ice-cores", "explorer", "01JX");
    assert_eq!(name, "registry.example.org/ada/ice-cores/explorer:01jx");
    for wrong in [
        "registry.example.org/{app}:latest",
        "registry.example.org/{app}",
        "{app}:{build}",
        "x.org/A:{build}",
    ] {
        assert!(refusal(&format!("push_images_to = '{wrong}'")).contains("`{build}`"), "{wrong}");
    }
    assert!(refusal("local_images = 'https://x'").contains("references of images"));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("credentials");
    let with = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let settings =
            format!("push_images_to = 'x.org/a:{{build}}'\npush_credentials_file = '{}'", file.display());
        with_file(&settings).unwrap().push()
    };
    let (username, password) = with("robot:open:sesame\n").unwrap().unwrap().login.unwrap();
    assert_eq!((username.as_str(), password.reveal()), ("robot", "open:sesame"));
    let refused = format!("{:#}", with("sesame").unwrap_err());
    assert!(refused.contains("NAME:PASSWORD") && !refused.contains("sesame"), "{refused}");
}

#[test]
fn a_data_directory_is_the_same_from_wherever_it_is_looked_for() {
    let here = std::env::current_dir().unwrap();
    assert_eq!(with_file("data_dir = 'data'").unwrap().data_dir().unwrap(), here.join("data"));
    assert_eq!(with_file("data_dir = '/srv/marmot'").unwrap().data_dir().unwrap(), Path::new("/srv/marmot"));
}
