//! Links: partitions of a testnet. Every node is told, over its API, whom it has no link to.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde_json::json;

use super::state::State;
use crate::api::views::LinksView;
use crate::cli::client::Client;
use crate::cli::context::{Context, block_on};
use crate::cli::errors::{CliError, Exit};

const KEPT: &str = "some links may be cut; `trullo testnet heal` allows all again";

/// Cuts the links between the groups.
pub fn partition(context: &Context, mut state: State, groups: &[String]) -> Result<()> {
    let groups = sides(&state, groups)?;
    state.denied = denied(&groups);
    state.save()?;
    block_on(KEPT, apply(&state, &state.denied))?;
    context.out.result(&json!({ "groups": groups }), || {
        groups.iter().map(|group| group.join(", ") + "\n").collect::<Vec<_>>().join("-- cut --\n")
    })?;
    Ok(())
}

/// Allows all links.
pub fn heal(context: &Context, mut state: State) -> Result<()> {
    state.denied = BTreeMap::new();
    state.save()?;
    let everybody = state.nodes.iter().map(|node| (node.name.clone(), Vec::new())).collect();
    block_on(KEPT, apply(&state, &everybody))?;
    context.out.result(&json!({ "healed": true }), || "all links are allowed".to_owned())?;
    Ok(())
}

/// Tells nodes that were started again what holds.
pub async fn restore(state: &State) -> Result<()> {
    apply(state, &state.denied).await
}

/// Tells each running node whom it has no link to.
async fn apply(state: &State, denied: &BTreeMap<String, Vec<String>>) -> Result<()> {
    for (name, others) in denied {
        let home = state.home(name)?;
        if home.running()?.is_none() {
            continue;
        }
        let deny = others.iter().map(|other| Ok(state.node(other)?.node.clone())).collect::<Result<Vec<_>>>()?;
        let client = Client::of(&home)?;
        let _: LinksView = client.post("/v1/admin/links", &LinksView { deny }).await?;
    }
    Ok(())
}

/// The groups by name, with every node in one of them. Errors: exit 2 for a node twice, 4 for one that is not there.
fn sides(state: &State, groups: &[String]) -> Result<Vec<Vec<String>>> {
    let mut seen = BTreeSet::new();
    let mut sides = Vec::new();
    for group in groups {
        let mut side = Vec::new();
        for name in group.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let name = state.node(name)?.name.clone();
            if !seen.insert(name.clone()) {
                return Err(CliError::new(Exit::Usage, format!("{name} is in two groups")).into());
            }
            side.push(name);
        }
        sides.push(side);
    }
    let rest = state.nodes.iter().map(|node| node.name.clone()).filter(|name| !seen.contains(name));
    match sides.as_mut_slice() {
        [_] => sides.push(rest.collect()),
        [first, ..] => first.extend(rest),
        [] => {}
    }
    if sides.iter().any(Vec::is_empty) {
        return Err(CliError::new(Exit::Usage, "a group is empty: nothing would be cut").into());
    }
    Ok(sides)
}

/// For each node all nodes of the other groups.
fn denied(sides: &[Vec<String>]) -> BTreeMap<String, Vec<String>> {
    let others = |own: usize| {
        let others = sides.iter().enumerate().filter(move |(index, _)| *index != own);
        others.flat_map(|(_, side)| side.clone()).collect::<Vec<_>>()
    };
    let named = sides.iter().enumerate().flat_map(|(index, side)| side.iter().map(move |name| (index, name)));
    named.map(|(index, name)| (name.clone(), others(index))).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::state::NodeState;
    use super::*;

    fn state(names: &[&str]) -> State {
        let node = |name: &&str| NodeState {
            name: (*name).to_owned(),
            role: "validator".to_owned(),
            node: String::new(),
            account: String::new(),
            api: String::new(),
        };
        State::new(Path::new("/n"), String::new(), names.iter().map(node).collect())
    }

    fn split(groups: &[&str]) -> Result<Vec<Vec<String>>> {
        sides(&state(&["a", "b", "c", "d"]), &groups.iter().map(|group| (*group).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn one_group_is_cut_from_all_others() {
        assert_eq!(split(&["a,b"]).expect("valid"), [["a", "b"], ["c", "d"]]);
    }

    #[test]
    fn nodes_that_are_not_named_stay_with_the_first_group() {
        assert_eq!(split(&["a", "b,c"]).expect("valid"), [["a", "d"], ["b", "c"]]);
    }

    #[test]
    fn both_ends_of_every_link_between_groups_are_cut() {
        let denied = denied(&split(&["a", "b,c"]).expect("valid"));
        assert_eq!(denied["a"], ["b", "c"]);
        assert_eq!(denied["b"], ["a", "d"]);
        for (name, others) in &denied {
            assert!(others.iter().all(|other| denied[other].contains(name)));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(split(&["a,a"]).is_err() && split(&["x"]).is_err() && split(&["a,b,c,d"]).is_err());
    }
}
