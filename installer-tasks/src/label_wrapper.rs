//! A CNI plugin in front of Calico's, for labels that Calico would refuse: their values may have 63 characters, and Mesos
//! has no such limit.
//!
//! It is this program under the plugin's name, with the plugin itself beside it as `NAME-impl`. It changes nothing but
//! label values that are too long, in its standard input, and becomes the plugin: what that says and how it ends is what
//! Mesos gets. A value is shortened as DC/OS' own Calico does it, so that the same policies select the same tasks.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use serde_json::{Value, json};

use crate::host::files::sha256_hex;
use crate::say;

/// What a plugin's file name gets when the wrapper has taken its place.
pub const SUFFIX: &str = "-impl";
/// The plugin that can be wrapped.
const WRAPPED: &str = "calico";
/// The longest value of a label, in characters.
const LONGEST: usize = 63;
/// What a shortened value begins with: so many digits of the whole value's SHA-256, and these dots.
const DIGITS: usize = 7;
const DOTS: &str = "...";
/// CNI's code of a file or program that failed.
const IO_CODE: u32 = 5;

/// The plugin that is to be run when this program was started by its name; `None` when it was started as itself.
///
/// `own` is the program's own file: whoever starts a plugin may give it any directory in its name.
pub fn plugin(name: Option<&OsStr>, own: &Path) -> Option<PathBuf> {
    let name = Path::new(name?).file_name()?;
    (name == WRAPPED).then(|| own.with_file_name(format!("{WRAPPED}{SUFFIX}")))
}

/// Becomes `plugin`, with the standard input that was given but for its labels. Returns only when that is not possible,
/// and has then said so as CNI has it.
pub fn run(plugin: &Path) -> ExitCode {
    let mut input = Vec::new();
    let error = match io::stdin().read_to_end(&mut input).and_then(|_| pipe_of(&shortened(&input))) {
        Ok(stdin) => {
            let mut command = Command::new(plugin);
            command.args(std::env::args_os().skip(1)).stdin(stdin).exec()
        }
        Err(error) => error,
    };
    let version = serde_json::from_slice::<Value>(&input).ok();
    let version = version.as_ref().and_then(|config| config.get("cniVersion")?.as_str());
    let details = format!("{}: {error}", plugin.display());
    say::result(json!({
        "cniVersion": version.unwrap_or("0.1.0"), "code": IO_CODE,
        "msg": "the plugin behind the wrapper of labels cannot be run", "details": details,
    }));
    ExitCode::FAILURE
}

/// A pipe that holds all of `content`: nobody is left behind to write it.
fn pipe_of(content: &[u8]) -> io::Result<Stdio> {
    let (reader, mut writer) = io::pipe()?;
    rustix::pipe::fcntl_setpipe_size(&writer, content.len().max(1))?;
    writer.write_all(content)?;
    Ok(reader.into())
}

/// A network configuration, as Mesos gives it to plugins, without label values that are too long. Whatever has none is
/// left as it is, byte for byte: the plugin itself knows best what is wrong with it.
pub fn shortened(config: &[u8]) -> Cow<'_, [u8]> {
    let Ok(mut document) = serde_json::from_slice::<Value>(config) else { return config.into() };
    let labels = document.pointer_mut("/args/org.apache.mesos/network_info/labels/labels");
    let mut changed = false;
    for label in labels.and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(Value::String(value)) = label.get_mut("value")
            && let Cow::Owned(short) = short(value)
        {
            *value = short;
            changed = true;
        }
    }
    if changed { document.to_string().into_bytes().into() } else { config.into() }
}

/// A label's value in at most 63 bytes. One that is longer keeps its end, which tells apart what has a path in common,
/// and begins with a part of its hash, which tells apart what has not.
pub fn short(value: &str) -> Cow<'_, str> {
    if value.len() <= LONGEST {
        return value.into();
    }
    let mut hash = sha256_hex(value.as_bytes());
    hash.truncate(DIGITS);
    let end = value.ceil_char_boundary(value.len() - (LONGEST - DIGITS - DOTS.len()));
    format!("{hash}{DOTS}{}", &value[end..]).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config(labels: &Value) -> Vec<u8> {
        let info = json!({ "name": "calico", "labels": { "labels": labels } });
        let config = json!({
            "name": "calico", "cniVersion": "0.1.0", "type": "calico", "ipam": { "type": "calico-ipam" },
            "args": { "org.apache.mesos": { "network_info": info } },
        });
        // As nobody would write it, so that what is written anew is seen.
        format!(" {config:#}\n\n").into_bytes()
    }

    #[test]
    fn it_is_the_wrapper_under_the_plugin_s_name_alone() {
        let own = Path::new("/opt/cni/bin/calico");
        let plugin = |name: &str| plugin(Some(OsStr::new(name)), own);
        assert_eq!(plugin("/other/calico"), Some(PathBuf::from("/opt/cni/bin/calico-impl")));
        assert_eq!(plugin("calico"), Some(PathBuf::from("/opt/cni/bin/calico-impl")));
        for name in ["calico-installer", "./calico-installer", "calico-ipam", "calico-impl", ""] {
            assert_eq!(plugin(name), None, "{name}");
        }
        assert_eq!(super::plugin(None, own), None);
    }

    /// The values are what DC/OS' wrapper makes of the same: policies are written for them.
    #[test]
    fn long_values_are_shortened_as_dcos_does() {
        let long = format!("/{}/{}", "a".repeat(40), "b".repeat(40));
        let sha256 = sha256_hex(long.as_bytes());
        let expected = format!("{}...{}", &sha256[..7], &long[long.len() - 53..]);
        assert_eq!((short(&long), expected.len()), (Cow::from(expected.clone()), 63));
        assert_eq!(short(&"c".repeat(63)), "c".repeat(63));
        let labels = json!([{ "key": "k", "value": long }, { "key": long, "value": "v" }, { "key": "none" }]);
        let given = config(&labels);
        let mut wanted: Value = serde_json::from_slice(&given).unwrap();
        wanted["args"]["org.apache.mesos"]["network_info"]["labels"]["labels"][0]["value"] = json!(expected);
        assert_eq!(serde_json::from_slice::<Value>(&shortened(&given)).unwrap(), wanted);
    }

    #[test]
    fn what_it_does_not_know_is_left_to_the_plugin() {
        let long = "x".repeat(64);
        for text in ["", "{", "[]", "{\"args\":7}", &format!("{{\"labels\":[{{\"value\":\"{long}\"}}]}}")] {
            assert_eq!(shortened(text.as_bytes()), text.as_bytes());
        }
        for labels in [json!(null), json!("x"), json!([1, "x", { "value": 7 }, { "value": null }])] {
            assert_eq!(shortened(&config(&labels)), config(&labels));
        }
    }

    proptest! {
        #[test]
        fn values_fit_keep_their_end_and_differ(one in "\\PC{0,99}", other in "\\PC{0,99}") {
            let (short_one, short_other) = (short(&one), short(&other));
            prop_assert!(short_one.len() <= LONGEST);
            prop_assert_eq!(one == other, short_one == short_other);
            prop_assert_eq!(matches!(short_one, Cow::Borrowed(_)), one.len() <= LONGEST);
            // What is short already stays so.
            prop_assert_eq!(&short(&short_one), &short_one);
            let tail = short_one.split_once(DOTS).map_or(&*short_one, |(_, tail)| tail);
            prop_assert!(one.ends_with(tail) || one.len() <= LONGEST);
        }

        #[test]
        fn nothing_but_long_values_is_changed(values in prop::collection::vec("[a-z/\"\\\\é]{0,90}", 0..5)) {
            let labels: Vec<Value> = values.iter().map(|value| json!({ "key": value, "value": value })).collect();
            let given = config(&json!(labels));
            let after = shortened(&given);
            if values.iter().all(|value| value.len() <= LONGEST) {
                prop_assert_eq!(&*after, &given[..]);
            }
            let short: Vec<Value> =
                values.iter().map(|value| json!({ "key": value, "value": &*short(value) })).collect();
            let expected: Value = serde_json::from_slice(&config(&json!(short))).unwrap();
            prop_assert_eq!(serde_json::from_slice::<Value>(&after).unwrap(), expected);
        }

        #[test]
        fn any_bytes_are_passed_on(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(&*shortened(&bytes), &bytes[..]);
        }
    }

    #[test]
    fn a_pipe_takes_more_than_it_does_by_default() {
        // A pipe that is too small would be waited for here, for ever.
        for length in [0, 1, 65_537, 300_000] {
            assert!(pipe_of(&vec![b'x'; length]).is_ok(), "{length}");
        }
    }
}
