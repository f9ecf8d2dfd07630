//! Template: the text of a new `config.toml`, with every key, its meaning, and what this home sets.

use toml::Value;

use super::keys::KEYS;

/// The text of a configuration file that sets these keys. All others stand in it as comments, with their defaults.
pub fn write(values: &[(&str, Value)]) -> String {
    let mut text = String::from(
        "# Configuration of a trullo node. `trullo config show` prints what is in effect and where it came from;\n\
         # flags (--set key=value) and TRULLO_* variables go before this file. An unknown key is an error.\n",
    );
    let mut section = "";
    for key in KEYS {
        let (this, name) = key.name.split_once('.').unwrap_or(("", key.name));
        if this != section {
            text.push_str(&format!("\n[{this}]\n"));
            section = this;
        }
        text.push_str(&format!("# {}\n", key.help));
        let set = values.iter().find(|(name, _)| *name == key.name);
        match (set, key.default) {
            (Some((_, value)), _) => text.push_str(&format!("{name} = {value}\n")),
            (None, Some(default)) => text.push_str(&format!("# {name} = {default}\n")),
            (None, None) => text.push_str(&format!("# {name} =\n")),
        }
    }
    text
}

/// A list of texts as a value.
pub fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> Value {
    Value::Array(items.into_iter().map(|item| Value::String(item.to_string())).collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, Layers};

    #[test]
    fn a_new_file_is_valid_and_means_what_it_sets() {
        let text = write(&[
            ("node.name", Value::from("a \"quoted\" name")),
            ("node.roles", list(["user", "storage"])),
            ("files.data_shards", Value::from(3)),
            ("files.parity_shards", Value::from(1)),
        ]);
        let layers = Layers::defaults().and_then(|layers| layers.file(Path::new("config.toml"), &text));
        let config = layers.and_then(|layers| Config::load(&layers)).expect("a valid file");
        assert_eq!(config.node.name, "a \"quoted\" name");
        assert_eq!(config.files.shards, Some((3, 1)));
    }
}
