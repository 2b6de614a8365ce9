//! The files of the image, and its metadata.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::docker::{Output, docker};
use crate::harness::stories;
use crate::images::IMAGE;
use crate::images::{self, layout};

stories! {
    the_image_has_one_index_of_two_platforms needs IMAGE,
    the_image_has_four_files needs IMAGE,
    the_binary_needs_no_capabilities_and_no_network needs IMAGE,
}

/// A JSON document of the layout.
fn blob(descriptor: &Value) -> Value {
    let digest = descriptor["digest"].as_str().unwrap().replace(':', "/");
    serde_json::from_slice(&fs::read(layout().join("blobs").join(digest)).unwrap()).unwrap()
}

/// The manifests by architecture.
fn manifests() -> BTreeMap<String, Value> {
    let top: Value = serde_json::from_slice(&fs::read(layout().join("index.json")).unwrap()).unwrap();
    let [index] = &top["manifests"].as_array().unwrap()[..] else { panic!("{top}") };
    let index = blob(index);
    let manifests = index["manifests"].as_array().unwrap().iter();
    manifests.map(|entry| (entry["platform"]["architecture"].as_str().unwrap().to_owned(), blob(entry))).collect()
}

fn the_image_has_one_index_of_two_platforms() {
    let manifests = manifests();
    assert_eq!(manifests.keys().collect::<Vec<_>>(), ["amd64", "arm64"]);
    for (architecture, manifest) in manifests {
        let config = blob(&manifest["config"]);
        assert_eq!((config["architecture"].as_str(), config["os"].as_str()), (Some(&*architecture), Some("linux")));
        // The exec form, because a scratch image has no shell.
        assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/teleport-pipe"]));
        assert_eq!(config["config"]["Cmd"], Value::Null);
        assert_eq!(config["config"]["User"], Value::Null);
        for name in ["title", "version", "revision", "created", "licenses"] {
            let name = format!("org.opencontainers.image.{name}");
            let label = config["config"]["Labels"][&name].as_str();
            assert!(label.is_some_and(|label| !label.is_empty() && !label.contains('$')), "{name}: {label:?}");
            assert_eq!(manifest["annotations"][&name].as_str(), label, "{name}");
        }
        for name in ["source", "url", "documentation", "description"] {
            assert!(config["config"]["Labels"][format!("org.opencontainers.image.{name}")].is_string(), "{name}");
        }
        assert_eq!(config["created"], config["config"]["Labels"]["org.opencontainers.image.created"]);
    }
}

fn the_image_has_four_files() {
    for image in [*images::PIPE, *images::PIPE_ARM64] {
        let directory = TempDir::with_prefix("image-").unwrap();
        let archive = directory.path().join("image.tar");
        docker(&["save", "--output", archive.to_str().unwrap(), image]).ok();
        let tar = |args: &[&str]| Output::run(Command::new("tar").args(args).current_dir(directory.path())).ok().stdout;
        tar(&["-xf", "image.tar"]);
        let manifest: Value =
            serde_json::from_slice(&fs::read(directory.path().join("manifest.json")).unwrap()).unwrap();
        let layers = manifest[0]["Layers"].as_array().unwrap();
        let mut files = Vec::new();
        for layer in layers {
            let list = tar(&["--numeric-owner", "-tvf", layer.as_str().unwrap()]);
            files.extend(list.lines().map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                format!("{} {} {}", words[0], words[1], words[5])
            }));
        }
        files.sort();
        // All files belong to root. There is neither a shell nor a setuid file.
        let expected = [
            "-rw-r--r-- 0/0 LICENSE",
            "-rw-r--r-- 0/0 README.md",
            "-rw-r--r-- 0/0 pipe.yml",
            "-rwxr-xr-x 0/0 teleport-pipe",
        ];
        assert_eq!(files, expected, "{image}");
    }
}

fn the_binary_needs_no_capabilities_and_no_network() {
    let run = ["run", "--rm", "--read-only", "--cap-drop=ALL", "--network=none", *images::PIPE, "version"];
    assert!(docker(&run).ok().stdout.starts_with("teleport-pipe v"));
}
