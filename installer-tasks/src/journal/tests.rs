use super::*;
use std::fs;
use std::time::Instant;

fn open(directory: &Path, limit: Duration) -> Result<Journal> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(Journal::open(&Files::default(), directory, "cni apply", limit))
}

#[test]
fn a_second_installer_waits_and_then_says_who_is_at_work() {
    let root = tempfile::tempdir().unwrap();
    let state = root.path().join("state");
    let first = open(&state, Duration::ZERO).unwrap();
    let since = Instant::now();
    let failure = open(&state, Duration::from_millis(300)).unwrap_err();
    assert!(since.elapsed() >= Duration::from_millis(300));
    assert_eq!(failure.exit(), Exit::TryAgain);
    let text = failure.to_string();
    for word in [&format!("process {}", std::process::id()), "`cni apply`", THIS_VERSION] {
        assert!(text.contains(word), "{word} is missing in {text}");
    }
    // One that ends in time is waited for.
    let waiting = std::thread::spawn({
        let state = state.clone();
        move || open(&state, Duration::from_secs(30)).map(Journal::close)
    });
    std::thread::sleep(Duration::from_millis(50));
    first.close().unwrap();
    waiting.join().unwrap().unwrap().unwrap();
    assert!(!state.exists(), "nothing of the journal is left");
}

#[test]
fn a_killed_installers_note_names_nobody() {
    let root = tempfile::tempdir().unwrap();
    let _lock = open(root.path(), Duration::ZERO).unwrap();
    let mut gone = lock::Holder::this("cni apply");
    gone.pid = u32::MAX;
    fs::write(root.path().join(lock::NOTE), serde_json::to_vec(&gone).unwrap()).unwrap();
    let failure = open(root.path(), Duration::ZERO).unwrap_err();
    assert!(failure.to_string().contains("it has not said who it is"), "{failure}");
    gone.pid_namespace = "pid:[1]".to_owned();
    fs::write(root.path().join(lock::NOTE), serde_json::to_vec(&gone).unwrap()).unwrap();
    let failure = open(root.path(), Duration::ZERO).unwrap_err();
    assert!(failure.to_string().contains("in another PID namespace"), "{failure}");
}

#[test]
fn a_newer_or_broken_journal_is_not_overwritten() {
    let root = tempfile::tempdir().unwrap();
    for content in ["{\"version\":3}", "{\"version\":2}", "{\"version\":1}", "{"] {
        fs::write(root.path().join(JOURNAL), content).unwrap();
        let failure = open(root.path(), Duration::ZERO).unwrap_err();
        assert_eq!(failure.exit(), Exit::Unsuitable, "{content}");
        assert_eq!(fs::read_to_string(root.path().join(JOURNAL)).unwrap(), content);
    }
}

#[test]
fn version_1_is_read_with_all_it_says() {
    let root = tempfile::tempdir().unwrap();
    // As calico-installer 0.5.0 wrote it.
    let content = r#"{"version":1,"files":[
        {"step":"cni","path":"/opt/cni/bin/calico","staging":"beside",
         "before":{"sha256":"aa","mode":457,"uid":1,"gid":2},"wrote":["bb","cc"]},
        {"step":"cni","path":"/etc/cni/net.d/calico.conf","staging":"outside","before":null,"wrote":["dd"]}]}"#;
    fs::write(root.path().join(JOURNAL), content).unwrap();
    let document = Document::read(&Files::default(), root.path()).unwrap();
    let entry = |path: &str, what| Entry { step: StepName::Cni, path: path.into(), by: None, what };
    let before = Some(Print { sha256: "aa".into(), mode: 0o711, uid: 1, gid: 2 });
    let wrote = vec!["bb".to_owned(), "cc".to_owned()];
    let expected = Document {
        entries: vec![
            entry("/opt/cni/bin/calico", What::File { staging: Staging::Beside, before, wrote }),
            entry(
                "/etc/cni/net.d/calico.conf",
                What::File { staging: Staging::Outside, before: None, wrote: vec!["dd".to_owned()] },
            ),
        ],
        ..Document::default()
    };
    assert_eq!(document, expected);
    // And is written in today's form.
    let text = serde_json::to_vec(&document).unwrap();
    fs::write(root.path().join(JOURNAL), text).unwrap();
    assert_eq!(Document::read(&Files::default(), root.path()).unwrap(), expected);
}
