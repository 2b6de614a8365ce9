//! Destinations that are refused.

use std::fs;
use std::os::unix::fs::symlink;

use rustix::fs::{CWD, FileType, mknodat};

use super::*;

#[test]
fn a_link_anywhere_in_the_path_is_refused() {
    let work = Work::new();
    let target = work.mkdir("published", 0o755);
    symlink("published", work.path("tbot-user")).unwrap();
    assert!(matches!(work.check(), Err(Error::Symlink { path }) if path == work.path("tbot-user")));
    for path in [PathBuf::from("tbot-user/x"), work.path("tbot-user/x")] {
        let error = Destination::check(work.0.path(), &path, UnknownFiles::Keep, None).unwrap_err();
        assert!(matches!(&error, Error::Symlink { path } if *path == work.path("tbot-user")), "{error}");
    }
    assert_eq!(fs::read_dir(target).unwrap().count(), 0);
}

#[test]
fn a_link_that_appears_after_the_check_is_refused_too() {
    let work = Work::new();
    let target = work.mkdir("published", 0o755);
    let destination = work.check().unwrap();
    symlink("published", work.path("tbot-user")).unwrap();
    assert!(matches!(write(&destination, set("1"), soon()), Err(Error::Symlink { .. })));
    assert_eq!(fs::read_dir(target).unwrap().count(), 0);
}

#[test]
fn a_file_is_not_a_destination() {
    let work = Work::new();
    fs::write(work.path("tbot-user"), "").unwrap();
    assert!(matches!(work.check(), Err(Error::NotADirectory { .. })));
}

#[test]
fn an_entry_with_one_of_our_names_must_be_a_file() {
    for unknown_files in [UnknownFiles::Refuse, UnknownFiles::Keep] {
        for name in ["key", ".gitignore", "a temporary file"] {
            let work = Work::new();
            fs::write(work.path("other"), "other").unwrap();
            let directory = work.mkdir("tbot-user", 0o700);
            let temporary = work.directory().temporary_name(0);
            let entry = directory.join(name.replace("a temporary file", &temporary));
            for (kind, create) in entries() {
                create(&entry);
                let error = work.check_as(unknown_files, None).unwrap_err();
                assert!(error.to_string().contains(kind), "{error}");
                fs::remove_file(&entry).or_else(|_| fs::remove_dir(&entry)).unwrap();
            }
            assert_eq!(fs::read_to_string(work.path("other")).unwrap(), "other");
        }
    }
}

/// What an entry is, and how to create it.
type Entry = (&'static str, fn(&Path));

fn entries() -> [Entry; 3] {
    [
        ("a symbolic link", |at| symlink("../other", at).unwrap()),
        ("a directory", |at| fs::create_dir(at).unwrap()),
        ("a special file", |at| mknodat(CWD, at, FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap()),
    ]
}

#[test]
fn nothing_is_written_through_a_link_with_any_name() {
    let work = Work::new();
    fs::write(work.path("other"), "other").unwrap();
    let path = work.mkdir("tbot-user", 0o700);
    symlink("../other", path.join("bundle.pem")).unwrap();
    let files = vec![File::private("key", "new"), File::private("bundle.pem", "new")];
    let error = write(&work.check_as(UnknownFiles::Keep, None).unwrap(), files, soon()).unwrap_err();
    assert!(matches!(error, Error::NotAFile { kind: "a symbolic link", .. }), "{error}");
    assert_eq!(fs::read_to_string(work.path("other")).unwrap(), "other");
    assert_eq!(work.names(), ["bundle.pem"]);
}

#[test]
fn a_name_cannot_leave_the_directory() {
    let work = Work::new();
    for name in ["../key", "/key", "", ".", "..", "a/b", "nul\0"] {
        let error = write(&work.check().unwrap(), vec![File::private(name, "")], soon()).unwrap_err();
        assert!(matches!(error, Error::BadName { .. }), "{name:?}: {error}");
    }
    let long = vec![File::private("x".repeat(256), "")];
    assert!(write(&work.check().unwrap(), long, soon()).is_err());
    assert!(!work.path("tbot-user").exists());
    let fits = "x".repeat(255);
    write(&work.check().unwrap(), vec![File::private(&fits, "")], soon()).unwrap();
    assert_eq!(work.names(), [".gitignore", RECORD, &fits]);
}

#[test]
fn as_a_pipe_unknown_files_are_refused_and_named() {
    let work = Work::new();
    let path = work.mkdir("tbot-user", 0o755);
    fs::write(path.join("README.md"), "").unwrap();
    fs::write(path.join("key"), "").unwrap();
    let error = work.check().unwrap_err();
    assert!(error.to_string().ends_with(": README.md"), "{error}");
    assert_eq!(mode(&path), 0o755);
}

#[test]
fn as_a_pipe_unknown_files_that_appear_after_the_check_are_refused_too() {
    let work = Work::new();
    let path = work.mkdir("tbot-user", 0o755);
    let destination = work.check().unwrap();
    fs::write(path.join("README.md"), "").unwrap();
    assert!(matches!(write(&destination, set("1"), soon()), Err(Error::UnknownFiles { .. })));
    assert_eq!(work.names(), ["README.md"]);
}

#[test]
fn as_tbot_unknown_files_stay_and_so_does_the_mode_of_their_directory() {
    let work = Work::new();
    let path = work.mkdir("tbot-user", 0o755);
    fs::write(path.join("README.md"), "mine").unwrap();
    write(&work.check_as(UnknownFiles::Keep, None).unwrap(), set("1"), soon()).unwrap();
    assert_eq!(work.read("README.md"), "mine");
    assert_eq!(mode(&path), 0o755);
    assert_eq!(mode(&path.join("key")), 0o600);
    assert!(!path.join(".gitignore").exists(), "would hide README.md from git");
}

#[test]
fn as_tbot_a_directory_with_our_files_becomes_private_and_its_gitignore_stays() {
    let work = Work::new();
    let path = work.mkdir("tbot-user", 0o755);
    fs::write(path.join(".gitignore"), "key\n").unwrap();
    write(&work.check_as(UnknownFiles::Keep, None).unwrap(), set("1"), soon()).unwrap();
    assert_eq!(mode(&path), 0o700);
    assert_eq!(work.read(".gitignore"), "key\n");
}
