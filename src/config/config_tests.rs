//! Tests of the configuration: precedence, origins, unknown keys, bounds.

use std::path::Path;

use super::*;

const FILE: &str = r#"
[node]
name = "alice"
roles = ["user", "storage"]
[storage]
capacity = "2 GiB"
[files]
data_shards = 3
parity_shards = 2
"#;

fn file(text: &str) -> Result<Layers, ConfigError> {
    Layers::defaults().expect("the built-in defaults are valid").file(Path::new("config.toml"), text)
}

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let layers = file(FILE).expect("a valid file");
    assert_eq!(Config::load(&layers).map(|config| config.files.shards), Ok(Some((3, 2))));
    assert_eq!(layers.origin("net.listen"), Origin::Default);
    assert_eq!(layers.origin("files.data_shards"), Origin::File("config.toml".into()));

    let layers =
        layers.environment(env(&[("TRULLO_FILES_DATA_SHARDS", "5"), ("PATH", "/bin")])).expect("valid variables");
    assert_eq!(Config::load(&layers).map(|config| config.files.shards), Ok(Some((5, 2))));
    assert_eq!(layers.origin("files.data_shards"), Origin::Environment("TRULLO_FILES_DATA_SHARDS".into()));

    let layers = layers.flags(["files.data_shards = 6", "node.roles=validator,storage"]).expect("valid flags");
    let config = Config::load(&layers).expect("a valid configuration");
    assert_eq!((config.files.shards, layers.origin("files.data_shards")), (Some((6, 2)), Origin::Flag));
    assert_eq!(config.node.roles, Roles::of(&[Role::Validator, Role::Storage]));
}

#[test]
fn an_unknown_key_is_an_error_that_names_the_nearest() {
    let error = file("[storage]\ncapasity = 1\n").expect_err("no such key");
    assert_eq!(error.to_string(), "config.toml has the unknown key storage.capasity; did you mean storage.capacity?");
    assert!(matches!(file("surplus = 1"), Err(ConfigError::UnknownKey { .. })));
    let flag = file(FILE).and_then(|layers| layers.flags(["api.lissten=x"]));
    assert!(matches!(flag, Err(ConfigError::UnknownKey { nearest: Some("api.listen"), .. })));
    let variable = file(FILE).and_then(|layers| layers.environment(env(&[("TRULLO_API_LISSTEN", "x")])));
    assert!(matches!(variable, Err(ConfigError::UnknownKey { nearest: Some("api.listen"), .. })));
}

#[test]
fn variables_of_other_programs_are_not_looked_at() {
    let others = env(&[("TRULLO_HOME", "/h"), ("TRULLO_SOMETHING", "1"), ("HOME", "/root")]);
    assert!(file(FILE).and_then(|layers| layers.environment(others)).is_ok());
}

#[test]
fn a_wrong_value_is_blamed_on_the_layer_that_has_it() {
    for (set, expected) in [
        ("files.chunk_size=1 KiB", "files.chunk_size from --set: 1024 is not within 262144 to 16777216"),
        (
            "files.min_confirmations=2",
            "files.min_confirmations from --set: min_confirmations is 2; with 3 data and 2 parity shards 3 to 5 are possible",
        ),
        (
            "files.quorum_percent=101",
            "files.quorum_percent from --set: \"101\" is no share of the slots; write a whole percentage from 1 to 100, or a fraction such as 2/3",
        ),
        (
            "files.success_threshold=6",
            "files.success_threshold from --set: success_threshold is 6; with 3 data and 2 parity shards 4 to 5 are possible",
        ),
        (
            "files.repair_threshold=5",
            "files.repair_threshold from --set: repair_threshold is 5; with 3 data and 2 parity shards 3 to 4 are possible",
        ),
        ("files.data_shards=many", "files.data_shards from --set: \"many\" is no whole number"),
        ("files.data_shards=300", "files.data_shards from --set: 300 is not within 1 to 255"),
        ("storage.capacity=lots", "storage.capacity from --set: no size; write a number of bytes or \"10 GiB\""),
        ("api.listen=here", "api.listen from --set: \"here\" is no address such as 127.0.0.1:0"),
        ("log.format=xml", "log.format from --set: \"xml\" is neither text nor json"),
        (
            "net.bootstrap=host:1",
            "net.bootstrap from --set: \"host:1\" is no multiaddress such as /ip4/127.0.0.1/tcp/4001",
        ),
    ] {
        let error = file(FILE).and_then(|layers| Config::load(&layers.flags([set])?)).expect_err("a wrong value");
        assert_eq!(error.to_string(), expected);
    }
    let error = file("[files]\ndata_shards = \"4\"\n").expect_err("text for a number");
    assert_eq!(error.to_string(), "files.data_shards from config.toml: \"4\" is not a whole number");
}

#[test]
fn data_and_parity_are_set_together_or_follow_from_the_network() {
    let load = |text: &str| file(text).and_then(|layers| Config::load(&layers));
    let node = "[node]\nname = \"n\"\nroles = [\"user\"]\n";
    assert_eq!(load(node).map(|config| config.files.shards), Ok(None));
    let error = load(&format!("{node}[files]\ndata_shards = 4\n")).expect_err("half a setting");
    assert_eq!(error.to_string(), "files.data_shards from config.toml: files.parity_shards has to be set with it");
}

#[test]
fn a_share_is_a_number_or_a_fraction_in_every_layer() {
    let quorum = |layers: Result<Layers, ConfigError>| {
        let config = layers.and_then(|layers| Config::load(&layers)).expect("a valid configuration");
        config.files.wanted.quorum.map(|share| share.of(3))
    };
    let with = |line: &str| file(&format!("{FILE}{line}\n"));
    assert_eq!(quorum(with("quorum_percent = 67")), Some(2));
    assert_eq!(quorum(with("quorum_percent = \"2/3\"")), Some(2));
    assert_eq!(quorum(file(FILE).and_then(|layers| layers.flags(["files.quorum_percent=2/3"]))), Some(2));
    let variable = env(&[("TRULLO_FILES_QUORUM_PERCENT", "66")]);
    assert_eq!(quorum(file(FILE).and_then(|layers| layers.environment(variable))), Some(2));
    assert_eq!(quorum(file(FILE)), None);
}

#[test]
fn what_only_the_operator_knows_has_no_default() {
    let layers = Layers::defaults().expect("the built-in defaults are valid");
    assert_eq!(Config::load(&layers), Err(ConfigError::Missing { key: "node.name" }));
}

#[test]
fn sizes_are_numbers_or_texts_with_units() {
    let config = file(FILE).and_then(|layers| Config::load(&layers)).expect("a valid file");
    assert_eq!(config.storage.capacity, ByteCount::new(2 << 30));
    assert_eq!(config.files.chunk_bytes, None);
    assert_eq!(config.node.operator, "alice");
}
