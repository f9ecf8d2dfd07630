//! Evidence: what nodes were punished for, and the proof of it as a file that needs no network to be checked.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::fill;
use super::problem::Problem;
use super::server::Api;
use crate::ledger::Key;
use crate::ledger::record::{Offence, Record};
use crate::node::accuse;
use crate::types::{ChainId, NodeId, limits};
use crate::wire::certificate::Statement;
use crate::wire::{self, Accusation, Action};

/// How long until a punishment is final.
const WITHIN: Duration = Duration::from_secs(30);
/// The form of an evidence file.
const FORMAT: &str = "trullo evidence 1";

/// What a node was punished for.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct OffenceView {
    /// The node that signed it.
    pub node: String,
    /// Its name, when it is registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `contradiction`: two blocks in one view. `false_receipt`: a slot that the file does not have.
    pub offence: String,
    /// The block that punished it.
    pub height: u64,
    /// The transaction that proves it.
    pub tx: String,
    /// Credits that its stake lost.
    pub lost: u64,
}

/// What nodes were punished for.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct OffencesView {
    /// By node.
    pub offences: Vec<OffenceView>,
}

/// Evidence as a file. Only `chain` and `evidence` count for the check; the rest is for people.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = EvidenceFile)]
pub struct EvidenceView {
    /// `trullo evidence 1`.
    pub format: String,
    /// The chain that the signatures name.
    pub chain: String,
    /// The node that signed.
    pub node: String,
    /// `contradiction` or `false_receipt`.
    pub offence: String,
    /// What it signed, in words.
    pub signed: Vec<String>,
    /// The statements and signatures in canonical bytes, hexadecimal.
    pub evidence: String,
}

/// Evidence that was taken.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PunishedView {
    /// The node.
    pub node: String,
    /// The block that punished it.
    pub height: u64,
}

/// Why a file is no evidence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// Not in the form of such a file.
    #[error("not an evidence file: {0}")]
    Form(String),
    /// It shows nothing.
    #[error("it does not hold: node {0} has not signed this on chain {1}, or an honest node may sign it")]
    Nothing(NodeId, ChainId),
}

impl EvidenceView {
    /// The file of an accusation.
    pub fn of(chain: &ChainId, accusation: &Accusation) -> Self {
        Self {
            format: FORMAT.to_owned(),
            chain: chain.to_string(),
            node: accusation.node().to_string(),
            offence: accusation.name().to_owned(),
            signed: told(accusation),
            evidence: hex::encode(wire::encode(accusation)),
        }
    }
    /// The accusation of a file, checked: no network and no chain is needed. Errors: each of `EvidenceError`.
    pub fn check(&self) -> Result<(ChainId, Accusation), EvidenceError> {
        let form = |what: &str| EvidenceError::Form(what.to_owned());
        if self.format != FORMAT {
            return Err(EvidenceError::Form(format!("its format is {:?}, not {FORMAT:?}", self.format)));
        }
        let chain: ChainId = self.chain.parse().map_err(|_| form("its chain is no id"))?;
        let bytes = hex::decode(&self.evidence).map_err(|_| form("its evidence is not hexadecimal"))?;
        let accusation: Accusation =
            wire::decode(&bytes, limits::TX_BYTES_MAX).map_err(|error| EvidenceError::Form(error.to_string()))?;
        match accusation.holds(&chain) {
            true => Ok((chain, accusation)),
            false => Err(EvidenceError::Nothing(accusation.node(), chain)),
        }
    }
}

/// What was signed, in words.
pub fn told(accusation: &Accusation) -> Vec<String> {
    match accusation {
        Accusation::Contradiction(evidence) => [evidence.first.0, evidence.second.0].iter().map(statement).collect(),
        Accusation::FalseReceipt(shown) => {
            let (slot, file) = (shown.receipt.slot, shown.manifest.id());
            let claimed = format!(
                "receipt: slot {slot} of file {file} has root {} and {} bytes",
                shown.info.root, shown.info.len
            );
            let right = match shown.manifest.slots.get(usize::from(slot)) {
                Some(right) => format!("but the file's manifest has root {} and {} bytes there", right.root, right.len),
                None => format!("but the file has {} slots", shown.manifest.slots.len()),
            };
            vec![claimed, right]
        }
    }
}

fn statement(statement: &Statement) -> String {
    let at = |round: &crate::types::Round| format!("epoch {}, view {}", round.epoch, round.view);
    match statement {
        Statement::Propose { round, block } => format!("{}: proposes block {block}", at(round)),
        Statement::Vote { kind, round, height, block } => {
            format!("{}: votes ({kind:?}) for block {block} at height {height}", at(round))
        }
        Statement::Timeout { round, .. } => format!("{}: gives up", at(round)),
    }
}

/// Lists what nodes were punished for.
#[utoipa::path(get, path = "/v1/evidence", tag = "validator", operation_id = "evidence",
    responses((status = 200, body = OffencesView, description = "All offences that are on the ledger")))]
pub async fn list(State(api): State<Api>) -> Result<Json<OffencesView>, Problem> {
    let nodes = api.handle.nodes()?;
    let view = |(node, offence): (NodeId, Offence)| OffenceView {
        node: node.to_string(),
        name: fill::name_of(&node, &nodes),
        offence: offence.kind.name().to_owned(),
        height: offence.at.get(),
        tx: offence.tx.to_string(),
        lost: offence.lost.get(),
    };
    Ok(Json(OffencesView { offences: accuse::offences(&api.handle)?.into_iter().map(view).collect() }))
}

/// Gives the proof of a node's offence as a file.
#[utoipa::path(get, path = "/v1/evidence/{node}", tag = "validator", operation_id = "evidence_of",
    params(("node" = String, Path, pattern = "^[0-9a-f]{64}$", description = "The node")),
    responses((status = 200, body = EvidenceView, description = "The evidence; it proves itself")))]
pub async fn export(State(api): State<Api>, Path(node): Path<String>) -> Result<Json<EvidenceView>, Problem> {
    let node: NodeId = node.parse().map_err(|error| Problem::bad(format!("node {node:?}: {error}")))?;
    let Some(Record::Offence(offence)) = api.handle.record(&Key::Offence(node))? else {
        return Err(Problem::not_found(format!("node {node} was not punished for anything")));
    };
    let proof = accuse::proof_of(&api.handle, &offence)?;
    let pruned = || Problem::not_found(format!("the body of block {} was pruned here; ask another node", offence.at));
    Ok(Json(EvidenceView::of(&api.handle.identity().chain, &proof.ok_or_else(pruned)?)))
}

/// Brings evidence onto the ledger; answers when that is final.
#[utoipa::path(post, path = "/v1/evidence", tag = "validator", operation_id = "submit_evidence", request_body = EvidenceView,
    responses((status = 200, body = PunishedView, description = "The node was punished")))]
pub async fn submit(State(api): State<Api>, Json(file): Json<EvidenceView>) -> Result<Json<PunishedView>, Problem> {
    let (chain, accusation) = file.check().map_err(|error| Problem::conflict(error.to_string()))?;
    let here = api.handle.identity().chain;
    if chain != here {
        return Err(Problem::conflict(format!("the evidence is of chain {chain}; this is {here}")));
    }
    let node = accusation.node();
    let done = api.handle.act(Action::Accuse(Box::new(accusation)), WITHIN).await?;
    Ok(Json(PunishedView { node: node.to_string(), height: done.place.height.get() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SecretKey;
    use crate::types::{BlockHash, Epoch, Height, Round, View};
    use crate::wire::{Evidence, VoteKind};

    fn file() -> EvidenceView {
        let (chain, key) = (ChainId::from_bytes([1; 32]), SecretKey::from_seed(&[1; 32]));
        let vote = |block: u8| {
            let (round, block) = (Round::new(Epoch::ZERO, View::new(1)), BlockHash::from_bytes([block; 32]));
            let said = Statement::Vote { kind: VoteKind::Commit, round, height: Height::new(1), block };
            (said, said.sign(&chain, &key))
        };
        let evidence = Evidence { node: key.public().node_id(), first: vote(1), second: vote(2) };
        EvidenceView::of(&chain, &Accusation::Contradiction(evidence))
    }

    #[test]
    fn a_file_proves_itself_and_what_was_changed_in_it_proves_nothing() {
        let good = file();
        let (_, accusation) = good.check().expect("it holds");
        assert_eq!((accusation.node().to_string(), accusation.name()), (good.node.clone(), "contradiction"));
        let other_chain = EvidenceView { chain: ChainId::from_bytes([2; 32]).to_string(), ..good.clone() };
        assert!(matches!(other_chain.check(), Err(EvidenceError::Nothing(..))));
        for at in (0..good.evidence.len()).step_by(2) {
            let mut evidence = good.evidence.clone();
            let flipped = if &evidence[at..=at] == "0" { "1" } else { "0" };
            evidence.replace_range(at..=at, flipped);
            assert!(EvidenceView { evidence, ..good.clone() }.check().is_err(), "digit {at}");
        }
        for (format, evidence) in [("trullo evidence 2", good.evidence.as_str()), (FORMAT, "xyz"), (FORMAT, "00")] {
            let odd = EvidenceView { format: format.to_owned(), evidence: evidence.to_owned(), ..good.clone() };
            assert!(matches!(odd.check(), Err(EvidenceError::Form(_))));
        }
    }
}
