//! What options cannot be.

use clap::error::ErrorKind;

use super::*;

/// Options that take any text: what they name is looked at when it is there, and refused then with the option's name.
const LOOKED_AT: [&str; 16] = [
    "--cni-config-dir",
    "--cni-plugins-dir",
    "--docker-daemon-json",
    "--docker-socket",
    "--docker-unit",
    "--etcd-ca",
    "--etcd-cert",
    "--etcd-key",
    "--image",
    "--libnetwork-image",
    "--mesos-unit",
    "--node-image",
    "--node-name",
    "--registry-credentials",
    "--registry-mirror",
    "--state-dir",
];

/// Every command that does something, with the words that lead to it.
fn commands() -> Vec<(Vec<String>, clap::Command)> {
    let mut open = vec![(Vec::new(), Cli::command())];
    let mut leaves = Vec::new();
    while let Some((words, command)) = open.pop() {
        let words = [&words[..], &[command.get_name().to_owned()]].concat();
        let inner: Vec<_> = command.get_subcommands().cloned().collect();
        if inner.is_empty() {
            leaves.push((words, command));
        } else {
            open.extend(inner.into_iter().map(|command| (words.clone(), command)));
        }
    }
    leaves
}

/// Whatever it is for, this is none: no number, path, name, address, choice or URL.
#[test]
fn every_option_refuses_what_it_cannot_be_and_says_what_would_be_right() {
    let value = "-/, ?";
    let (mut accepted, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for (words, command) in commands() {
        for option in command.get_arguments().filter(|it| it.get_action().takes_values()) {
            let name = format!("--{}", option.get_long().unwrap());
            let line = words.iter().cloned().chain([format!("{name}={value}")]);
            // Values are looked at before options that are missing.
            let refusal = Cli::command()
                .try_get_matches_from(line)
                .err()
                .filter(|error| matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue));
            let Some(error) = refusal else {
                accepted.insert(name);
                continue;
            };
            let said = error.to_string();
            let is_right = ["it must be", "it must have", "each must have", "[possible values: "];
            let says = is_right.iter().any(|words| said.contains(words));
            assert!(said.contains(&name) && said.contains("'-/") && says, "{said}");
            refused.insert(name);
        }
    }
    assert_eq!(accepted.iter().map(String::as_str).collect::<Vec<_>>(), LOOKED_AT);
    assert!(refused.len() > 30, "{refused:?}");
}
