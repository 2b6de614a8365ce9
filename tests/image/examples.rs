//! The example that needs nothing but OpenSSH in the step's image. `tests/it/examples.rs` runs all examples without
//! containers.

use std::fs;
use std::path::Path;

use crate::example_file::{Item, items};
use crate::harness::stories;
use crate::images::IMAGE;
use crate::step::{self, Step};

stories! {
    non_root_step_works needs IMAGE,
}

fn non_root_step_works() {
    const FILE: &str = "bitbucket-pipelines.yml";
    let cluster = step::cluster();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/non-root-step").join(FILE);
    let text = fs::read_to_string(example).unwrap().replace("deploy@", &format!("{}@", cluster.node_login()));
    let mut step = Step::new(&cluster).user("1000:1000");
    fs::write(step.path(FILE), &text).unwrap();
    let (mut printed, mut log) = (String::new(), String::new());
    for item in ["script", "after-script"].iter().flat_map(|key| items(&text, key).remove(0)) {
        match item {
            Item::Line(line) => printed += &step.script(&line).ok().stdout,
            Item::Pipe(variables) => {
                // The step has the address of this cluster and the name of its join token.
                let others = variables.iter().filter(|(name, _)| !["PROXY_SERVER", "TOKEN"].contains(&name.as_str()));
                step = others.fold(step, |step, (name, value)| step.with(name, value));
                log += &step.pipe().ok().stderr;
            }
        }
    }
    assert!(printed.contains("load average"), "{printed}");
    assert!(!log.is_empty() && !log.contains("warning") && !log.contains("guard"), "{log}");
    assert!(!step.path("tbot-user").exists());
}
