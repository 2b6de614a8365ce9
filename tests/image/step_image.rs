//! The image of the step: OpenSSH's client, a shell and some commands of this machine, with their libraries.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::docker::{Output, docker, program};

/// The programs of the image.
const PROGRAMS: [&str; 6] = ["sh", "ssh", "mkdir", "rm", "cat", "id"];
/// The users of the image. There is no user 4242.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nstep:x:1000:1000:step:/home/step:/bin/sh\n";

/// Makes the image, and returns its tag.
pub(crate) fn import(tag: &'static str) -> &'static str {
    let root = TempDir::with_prefix("step-image-").unwrap();
    let root = root.path();
    for name in PROGRAMS {
        let path = program(name);
        copy(&path, &root.join("bin").join(name));
        for library in libraries(&path) {
            copy(&library, &root.join(&library[1..]));
        }
    }
    for directory in ["etc", "root", "home/step", "tmp"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::write(root.join("etc/passwd"), PASSWD).unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\nstep:x:1000:\n").unwrap();
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(root).args(["--owner=0", "--group=0", "--mode=u+rwX,go+rX", "-c", "."]);
    let mut tar = tar.stdout(Stdio::piped()).spawn().unwrap();
    let import = Command::new("docker").args(["import", "-", tag]).stdin(tar.stdout.take().unwrap()).output().unwrap();
    assert!(tar.wait().unwrap().success() && import.status.success(), "{import:?}");
    docker(&["run", "--rm", "--network=none", tag, "ssh", "-V"]).ok();
    tag
}

/// The paths of a program's libraries and of their loader.
fn libraries(program: &str) -> Vec<String> {
    let stdout = Output::run(Command::new("ldd").arg(program)).ok().stdout;
    stdout.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect()
}

fn copy(from: &str, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(from, to).unwrap();
}
