//! A parser of the files of `examples/`. The tests of the image include this file, too.

use std::collections::BTreeMap;

/// An item of a script.
pub(crate) enum Item {
    Line(String),
    Pipe(BTreeMap<String, String>),
}

/// The items below a key, such as `script`, of each step. The files have the same indentation everywhere.
pub(crate) fn items(text: &str, key: &str) -> Vec<Vec<Item>> {
    let steps = text.split("      - step:\n").skip(1);
    let items = steps.map(|step| {
        let list = step.split_once(&format!("\n          {key}:\n")).map_or("", |(_, list)| list);
        let lines = list.lines().take_while(|line| line.starts_with("           "));
        let mut items = Vec::new();
        for line in lines.map(str::trim).filter(|line| !line.starts_with('#')) {
            match (line.strip_prefix("- "), items.last_mut()) {
                (Some(line), _) if line.starts_with("pipe: ") => items.push(Item::Pipe(BTreeMap::new())),
                (Some(line), _) => items.push(Item::Line(line.to_owned())),
                (None, _) if line == "variables:" => {}
                (None, Some(Item::Pipe(variables))) => {
                    let (name, value) = line.split_once(": ").unwrap();
                    variables.insert(name.to_owned(), value.trim_matches('\'').to_owned());
                }
                _ => panic!("{line}"),
            }
        }
        items
    });
    items.collect()
}
