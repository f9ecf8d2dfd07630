//! Configuration from a file, the environment and flags: checked, or refused with a reason.

#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use trullo::config::keys::{KEYS, variable};
use trullo::config::{Config, Layers};
use trullo::types::Roles;
use trullo_fuzz::text;

static SAMPLES: LazyLock<Vec<String>> = LazyLock::new(|| {
    vec![
        "[node]\nname = \"a\"\nroles = [\"storage\"]\n[storage]\ncapacity = \"4 GiB\"\nreserve = 1000\n\
         [files]\ndata = 4\nparity = 2\nchunk_size = \"1 MiB\"\n[log]\nlevel = \"info\"\nformat = \"json\"\n"
            .to_owned(),
        "[node]\nname = \"b\"\nroles = [\"user\"]\n[consensus]\nview_floor_ms = 5\nview_cap_ms = 9\n\
         [api]\nlisten = \"[::1]:80\"\n[net]\nlisten = [\"/ip4/0.0.0.0/tcp/0\"]\nconnections_max = 9\n"
            .to_owned(),
    ]
});

fn check(layers: Layers) {
    match Config::load(&layers) {
        Ok(config) => assert!(config.node.roles != Roles::NONE && !config.node.name.is_empty()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fuzz_target!(|data: &[u8]| {
    let defaults = || Layers::defaults().expect("the defaults are good");
    let given = text(data, &SAMPLES);
    if let Ok(layers) = defaults().file(Path::new("config.toml"), &given) {
        check(layers);
    }
    let Some((key, value)) = data.split_first() else { return };
    let key = &KEYS[usize::from(*key) % KEYS.len()];
    let value = String::from_utf8_lossy(value).into_owned();
    let base = || defaults().flags(["node.name=a", "node.roles=storage"]).expect("good flags");
    if let Ok(layers) = base().environment([(variable(key), value.clone())]) {
        check(layers);
    }
    if let Ok(layers) = base().flags([format!("{}={value}", key.name).as_str()]) {
        check(layers);
    }
});
