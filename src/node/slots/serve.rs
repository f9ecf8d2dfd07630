//! The storage node's side: takes slots, serves them, and lets go of those whose deal has ended.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

use super::protocol::{Answer, Ask, FRAME_BYTES_MAX, receive, receive_frame, send};
use super::ticket::Gate;
use crate::ledger::effects::Event;
use crate::ledger::{Key, Record};
use crate::net::StreamInbox;
use crate::node::handle::{Handle, NodeError, receipts};
use crate::store::{Slot, SlotError, SlotRefusal, Slots, Upload};
use crate::types::{FileId, Height, NodeId, SlotRoot};
use crate::wire::{StorageReceipt, UploadTicket};

/// Frames that wait for the disk, per upload.
const FRAMES_AHEAD: usize = 4;
/// A peer that neither sends nor takes anything for so long is let go.
const STALLED: Duration = Duration::from_secs(60);
/// Room that is set aside for an upload before its bytes come: a promise costs a stranger nothing, and must not keep the
/// whole capacity from others.
const RESERVE_MAX: u64 = 64 << 20;
/// Uploads that nobody carries on are thrown away after this.
const UPLOAD_IDLE: Duration = Duration::from_secs(3_600);
/// A slot whose file never came to the chain is thrown away after so many blocks.
const UNCOMMITTED_BLOCKS: u64 = 2_000;
/// Blocks for which a receipt holds: fewer, so that a deal never names a slot that is thrown away.
const RECEIPT_BLOCKS: u64 = UNCOMMITTED_BLOCKS / 2;

/// Serves streams until the network stops.
pub async fn run(handle: Handle, slots: Slots, mut inbox: StreamInbox) {
    while let Some(stream) = inbox.accept().await {
        let (server, peer) = (Server { handle: handle.clone(), slots: slots.clone() }, stream.peer());
        handle.spawn(async move {
            if let Err(error) = server.serve(stream).await {
                tracing::debug!(?peer, %error, "a slot stream ended early");
            }
        });
    }
}

/// Bytes from whoever asks, and back.
trait Link: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Link for T {}

struct Server {
    handle: Handle,
    slots: Slots,
}

impl Server {
    async fn serve(&self, mut stream: impl Link) -> io::Result<()> {
        let mut upload = None;
        loop {
            let asked = tokio::select! {
                asked = tokio::time::timeout(STALLED, receive::<Ask>(&mut stream)) => asked??,
                () = self.handle.stop_token().cancelled() => return Ok(()),
            };
            let Some(ask) = asked else { return stream.shutdown().await };
            match ask {
                Ask::Upload(ticket) => {
                    drop(upload.take());
                    upload = self.upload(&mut stream, &ticket).await?;
                }
                Ask::Finish { file, slot, info } => {
                    let answer = match upload.take() {
                        Some(done) => self.finish(done, file, slot, info).await,
                        None => Answer::Refused("nothing was uploaded on this stream".to_owned()),
                    };
                    send(&mut stream, &answer).await?;
                }
                Ask::Read { root, first, count } => {
                    let slots = self.slots.clone();
                    match blocking(move || slots.get(&root)).await {
                        Ok(slot) => self.read(&mut stream, slot, first, count).await?,
                        Err(error) => send(&mut stream, &refused(&error)).await?,
                    }
                }
            }
        }
    }

    /// Takes the frames of an upload. The disk is written by a thread of its own, so that receiving goes on.
    async fn upload(&self, stream: &mut impl Link, ticket: &UploadTicket) -> io::Result<Option<Upload>> {
        let mut upload = match self.open(ticket).await {
            Ok(upload) => upload,
            Err(answer) => {
                send(stream, &answer).await?;
                return Ok(None);
            }
        };
        let most = ticket.bytes.unwrap_or(u64::MAX);
        send(stream, &Answer::Offset(upload.offset())).await?;
        let (frames, mut queue) = mpsc::channel::<Vec<u8>>(FRAMES_AHEAD);
        let writer = tokio::task::spawn_blocking(move || {
            let mut result = Ok(());
            while let Some(frame) = queue.blocking_recv() {
                let have = upload.offset().saturating_add(frame.len() as u64);
                if have > most {
                    result = Err(SlotRefusal::WrongLength { have, announced: most }.into());
                }
                if result.is_ok() {
                    result = upload.append(&frame);
                }
            }
            (upload, result)
        });
        let received = receive_all(stream, &frames).await;
        drop(frames);
        let (upload, written) = writer.await.map_err(io::Error::other)?;
        if let Err(error) = received {
            // What came is kept for the next try; it has to be durable for that.
            if let Err(error) = blocking(move || upload.pause().map_err(SlotError::from)).await {
                tracing::warn!(%error, "an interrupted upload was not kept");
            }
            return Err(error);
        }
        match written {
            Ok(()) => Ok(Some(upload)),
            Err(error) => {
                send(stream, &refused(&error)).await?;
                Ok(None)
            }
        }
    }

    /// Opens an upload that the ticket's account answers for. Errors: what the sender is told.
    async fn open(&self, ticket: &UploadTicket) -> Result<Upload, Answer> {
        let (identity, reader) = (self.handle.identity(), self.handle.reader());
        let gate = Gate {
            chain: identity.chain,
            node: identity.node,
            tip: reader.tip().map_or(Height::GENESIS, |tip| tip.height),
            min_balance: self.handle.config().storage.min_balance,
        };
        let account = self.handle.record(&Key::Account(ticket.account));
        let balance = match account.map_err(|error| Answer::Refused(error.to_string()))? {
            Some(Record::Account(account)) => Some(account.balance),
            _ => None,
        };
        gate.check(ticket, balance).map_err(|denial| Answer::Denied(denial.to_string()))?;
        let (slots, account, id) = (self.slots.clone(), ticket.account, ticket.upload);
        let reserve = ticket.bytes.unwrap_or(0).min(RESERVE_MAX);
        blocking(move || slots.upload_of(account, id, reserve)).await.map_err(|error| refused(&error))
    }

    async fn finish(&self, upload: Upload, file: FileId, slot: u8, info: crate::wire::SlotInfo) -> Answer {
        match blocking(move || upload.finish(&info, file, slot)).await {
            Ok(()) => {
                // The deal may be open already, when this slot is late.
                covered(&self.handle, &self.slots, file).await;
                let chain = self.handle.identity().chain;
                let tip = self.handle.reader().tip().map_or(Height::GENESIS, |tip| tip.height);
                let until = Height::new(tip.get().saturating_add(RECEIPT_BLOCKS));
                Answer::Receipt(StorageReceipt::sign(&chain, &file, slot, until, &info, &self.handle.inner.key))
            }
            Err(error) => refused(&error),
        }
    }

    async fn read(&self, stream: &mut impl Link, slot: Slot, first: u64, count: u64) -> io::Result<()> {
        let mut slot = slot;
        for index in blocks(first, count) {
            let (back, read) = tokio::task::spawn_blocking(move || {
                let read = slot.block(index).and_then(|bytes| {
                    let path = slot
                        .tree()
                        .block_path(index)
                        .map_err(|_| SlotError::from(crate::store::SlotRefusal::Unknown(*slot.tree().root())))?;
                    Ok((bytes, path))
                });
                (slot, read)
            })
            .await
            .map_err(io::Error::other)?;
            slot = back;
            match read {
                Ok((bytes, path)) => {
                    let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
                    let sending = async {
                        send(stream, &Answer::Block { len, path }).await?;
                        stream.write_all(&bytes).await
                    };
                    tokio::time::timeout(STALLED, sending).await??;
                }
                Err(error) => {
                    tracing::warn!(%error, "a block of a slot could not be read");
                    return send(stream, &refused(&error)).await;
                }
            }
        }
        stream.flush().await
    }
}

/// The blocks that a peer asks for, whatever its numbers: those beyond the slot's end are refused one by one.
fn blocks(first: u64, count: u64) -> std::ops::Range<u64> {
    first..first.saturating_add(count)
}

async fn receive_all(stream: &mut impl Link, frames: &mpsc::Sender<Vec<u8>>) -> io::Result<()> {
    loop {
        let mut frame = Vec::new();
        let more = tokio::time::timeout(STALLED, receive_frame(stream, &mut frame, FRAME_BYTES_MAX)).await??;
        if !more {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if frame.is_empty() {
            return Ok(());
        }
        frames.send(frame).await.map_err(|_| io::Error::other("the disk writer has ended"))?;
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SlotError> + Send + 'static,
) -> Result<T, SlotError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(crate::store::StoreError::Stopped.into()))
}

fn refused(error: &SlotError) -> Answer {
    match error {
        SlotError::Refused(SlotRefusal::Busy(_)) => Answer::Busy(error.to_string()),
        SlotError::Refused(SlotRefusal::Quota { .. }) => Answer::Denied(error.to_string()),
        _ => Answer::Refused(error.to_string()),
    }
}

/// A stream to this node's own slots, if it has any and is the one meant: what one node stores for itself needs no network.
pub fn connect_here(handle: &Handle, node: NodeId) -> Option<DuplexStream> {
    let slots = handle.slots().filter(|_| node == handle.identity().node)?.clone();
    let (near, far) = tokio::io::duplex(FRAME_BYTES_MAX);
    let server = Server { handle: handle.clone(), slots };
    handle.spawn(async move {
        if let Err(error) = server.serve(far).await {
            tracing::debug!(%error, "a slot stream within the node ended early");
        }
    });
    Some(near)
}

/// Lets go of slots whose deal has ended: at the start all are looked through, then each final block's events.
pub async fn release(handle: Handle, slots: Slots) {
    let mut tips = handle.reader().watch();
    let mut seen = handle.reader().tip().map_or(Height::GENESIS, |tip| tip.height);
    let mut orphans = Orphans::default();
    if let Err(error) = orphans.look_through(&handle, &slots, seen).await {
        tracing::warn!(%error, "held slots could not be looked through");
    }
    let mut sweep = tokio::time::interval(Duration::from_secs(300));
    loop {
        tokio::select! {
            changed = tips.changed() => if changed.is_err() { return },
            _ = sweep.tick() => {
                let idle = slots.clone();
                if let Err(error) = blocking(move || Ok(idle.drop_idle(UPLOAD_IDLE)?)).await {
                    tracing::warn!(%error, "idle uploads could not be dropped");
                }
                if let Err(error) = orphans.look_through(&handle, &slots, seen).await {
                    tracing::warn!(%error, "held slots could not be looked through");
                }
            }
            () = handle.stop_token().cancelled() => return,
        }
        let tip = handle.reader().tip().map_or(seen, |tip| tip.height);
        while let Some(height) = seen.next().filter(|next| *next <= tip) {
            match deals_in(&handle, height) {
                Ok((opened, ended)) => {
                    for file in opened {
                        covered(&handle, &slots, file).await;
                    }
                    for file in ended {
                        remove(&slots, file).await;
                    }
                }
                Err(error) => tracing::warn!(%error, "the events of a block could not be read"),
            }
            seen = height;
        }
    }
}

/// Deals that a block opened, and those that it ended. Those that ended by deadline are in no receipt; the look-through
/// finds them.
fn deals_in(handle: &Handle, height: Height) -> Result<(Vec<FileId>, Vec<FileId>), NodeError> {
    let receipts = receipts(&handle.snapshot()?, height)?;
    let (mut opened, mut ended) = (Vec::new(), Vec::new());
    for event in receipts.into_iter().flat_map(|receipt| receipt.events) {
        match event {
            Event::FileCommitted(file) => opened.push(file),
            Event::FileDeleted(file) | Event::FileExpired(file) | Event::FileEnded(file) => ended.push(file),
            _ => {}
        }
    }
    Ok((opened, ended))
}

/// Slots that are held as the file's open deal has them count against nobody any more.
async fn covered(handle: &Handle, slots: &Slots, file: FileId) {
    let manifest = match handle.file(&file) {
        Ok((deal, Some(manifest))) if deal.status.is_open() => manifest,
        _ => return,
    };
    let held = slots.clone();
    let done = blocking(move || {
        let listed = |(place, root): &(u8, SlotRoot)| {
            manifest.slots.get(usize::from(*place)).is_some_and(|slot| slot.root == *root)
        };
        let places: Vec<u8> = held.of_file(&file)?.iter().filter(|slot| listed(slot)).map(|slot| slot.0).collect();
        held.covered(&file, &places);
        Ok(())
    });
    if let Err(error) = done.await {
        tracing::warn!(%file, %error, "the slots of a deal could not be looked up");
    }
}

async fn remove(slots: &Slots, file: FileId) {
    let held = slots.clone();
    match blocking(move || held.remove_file(&file)).await {
        Ok(removed) if removed.is_empty() => {}
        Ok(removed) => {
            let bytes: u64 = removed.iter().map(|(_, len)| len).sum();
            tracing::info!(%file, slots = removed.len(), bytes, "a deal has ended; its space is free again");
        }
        Err(error) => tracing::warn!(%file, %error, "a slot whose deal has ended could not be removed"),
    }
}

/// Files with slots here that the chain does not know, and since when.
#[derive(Default)]
struct Orphans(std::collections::BTreeMap<FileId, Height>);

impl Orphans {
    async fn look_through(&mut self, handle: &Handle, slots: &Slots, height: Height) -> Result<(), NodeError> {
        let all = slots.clone();
        let files = blocking(move || Ok(all.files()?)).await?;
        let mut unknown = BTreeSet::new();
        for file in files {
            match handle.record(&Key::File(file))? {
                Some(Record::File(deal)) if deal.status.is_open() => covered(handle, slots, file).await,
                Some(_) => remove(slots, file).await,
                None => {
                    unknown.insert(file);
                }
            }
        }
        self.0.retain(|file, _| unknown.contains(file));
        // A node that is behind does not know yet what the chain knows.
        let behind = handle.status().is_none_or(|status| status.sync_target.is_some());
        for file in unknown {
            let since = *self.0.entry(file).or_insert(height);
            if !behind && height.get().saturating_sub(since.get()) > UNCOMMITTED_BLOCKS {
                remove(slots, file).await;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_numbers_of_a_peer_overflow() {
        assert_eq!(blocks(2, 3), 2..5);
        assert_eq!(blocks(u64::MAX, u64::MAX).next(), None);
        assert_eq!(blocks(u64::MAX - 1, u64::MAX).next(), Some(u64::MAX - 1));
    }
}
