//! The storage node's side: takes slots and serves them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::protocol::{Answer, Ask, FRAME_BYTES_MAX, FRAMES_AHEAD, receive, receive_frame, send};
use super::ticket::Gate;
use super::{damage, release};
use crate::files::proof::Path;
use crate::ledger::{Key, Record};
use crate::net::StreamInbox;
use crate::node::handle::Handle;
use crate::store::{Slot, SlotError, SlotRefusal, Slots, Upload};
use crate::types::{FileId, Height, NodeId, SlotRoot};
use crate::wire::{PublicManifest, SlotInfo, StorageReceipt, UploadTicket};

/// A peer that neither sends nor takes anything for so long is let go.
const STALLED: Duration = Duration::from_secs(60);
/// Room that is set aside for an upload before its bytes come: a promise costs a stranger nothing, and must not keep the
/// whole capacity from others.
const RESERVE_MAX: u64 = 64 << 20;
/// A slot whose file never came to the chain is thrown away after so many blocks.
pub const UNCOMMITTED_BLOCKS: u64 = 2_000;
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
        let mut held: Option<Held> = None;
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
                Ask::Finish { manifest, slot } => {
                    let answer = match upload.take() {
                        Some(done) => self.finish(done, &manifest, slot).await,
                        None => Answer::Refused("nothing was uploaded on this stream".to_owned()),
                    };
                    send(&mut stream, &answer).await?;
                }
                Ask::Read { root, first, count } => {
                    // What was set aside or removed since is not served.
                    let known = held.take().filter(|held| *held.slot.tree().root() == root);
                    let known = known.filter(|_| self.slots.has(&root).unwrap_or(false));
                    let opened = match known {
                        Some(held) => Ok(held),
                        None => self.open_slot(root).await.map(|slot| Held { slot, fresh: true }),
                    };
                    match opened {
                        Ok(opened) => held = self.read(&mut stream, opened, first, count).await?,
                        Err(error) => {
                            self.harmed(root, &error).await;
                            send(&mut stream, &refused(&error)).await?;
                        }
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
        // Written frames come back to be filled again: new memory for each would cost as much as its bytes on the way.
        let (done, spare) = mpsc::channel::<Vec<u8>>(FRAMES_AHEAD);
        let written = Arc::new(AtomicU64::new(upload.offset()));
        let so_far = Arc::clone(&written);
        let writer = tokio::task::spawn_blocking(move || {
            while let Some(frame) = queue.blocking_recv() {
                let have = upload.offset().saturating_add(frame.len() as u64);
                let appended = match have > most {
                    true => Err(SlotRefusal::WrongLength { have, announced: most }.into()),
                    false => upload.append(&frame),
                };
                if appended.is_err() {
                    return (upload, appended);
                }
                so_far.store(have, Ordering::Release);
                // A full queue has enough of them.
                let _ = done.try_send(frame);
            }
            (upload, Ok(()))
        });
        let received = receive_all(stream, frames, spare, &written).await;
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
                drop(upload);
                // What is under way is taken off the stream, so that the sender gets to read the reason.
                let rest = async {
                    while receive_frame(stream, &mut Vec::new(), FRAME_BYTES_MAX).await? {}
                    io::Result::Ok(())
                };
                tokio::time::timeout(STALLED, rest).await??;
                Err(io::ErrorKind::InvalidData.into())
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

    async fn finish(&self, upload: Upload, manifest: &PublicManifest, slot: u8) -> Answer {
        // A place of a file has one slot, the one in its manifest. A receipt for another would be evidence against this node.
        if let Err(error) = manifest.check() {
            return Answer::Refused(format!("the manifest: {error}"));
        }
        let file = manifest.id();
        let Some(info) = manifest.slots.get(usize::from(slot)).copied() else {
            return Answer::Refused(format!("file {file} has no slot {slot}"));
        };
        match blocking(move || upload.finish(&info, file, slot)).await {
            Ok(()) => {
                // The deal may be open already, when this slot is late.
                release::covered(&self.handle, &self.slots, file).await;
                Answer::Receipt { receipt: receipt(&self.handle, file, slot, &info), info }
            }
            Err(error) => refused(&error),
        }
    }

    /// Reading found something out: if the slot is damaged, it is not served again.
    async fn harmed(&self, root: SlotRoot, error: &SlotError) {
        if damage::is_damage(error) {
            let (handle, slots, why) = (self.handle.clone(), self.slots.clone(), error.to_string());
            // It only fails by a panic, which is logged.
            let _ = tokio::task::spawn_blocking(move || damage::set_aside(&handle, &slots, &root, &why)).await;
        }
    }

    /// Sends blocks of a slot; the next one is read while one is on its way. Returns the slot, if it was whole so far.
    async fn read(&self, stream: &mut impl Link, held: Held, first: u64, count: u64) -> io::Result<Option<Held>> {
        let Held { mut slot, mut fresh } = held;
        let mut indices = blocks(first, count);
        let mut ahead = indices.next().map(|index| (index, read_block(&slot, index, Vec::new())));
        let mut spare = Vec::new();
        while let Some((index, reading)) = ahead.take() {
            let (bytes, read) = reading.await.map_err(io::Error::other)?;
            let error = match read {
                Ok(path) => {
                    ahead = indices.next().map(|next| (next, read_block(&slot, next, std::mem::take(&mut spare))));
                    let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
                    let sending = async {
                        send(stream, &Answer::Block { len, path }).await?;
                        stream.write_all(&bytes).await
                    };
                    tokio::time::timeout(STALLED, sending).await??;
                    spare = bytes;
                    continue;
                }
                // The slot may have been brought again since it was opened: only what is there now counts.
                Err(_) if !fresh => match self.open_slot(*slot.tree().root()).await {
                    Ok(now) => {
                        (slot, fresh) = (now, true);
                        ahead = Some((index, read_block(&slot, index, bytes)));
                        continue;
                    }
                    Err(error) => error,
                },
                Err(error) => error,
            };
            tracing::warn!(%error, "a block of a slot could not be read");
            self.harmed(*slot.tree().root(), &error).await;
            send(stream, &refused(&error)).await?;
            return Ok(None);
        }
        stream.flush().await?;
        Ok(Some(Held { slot, fresh: false }))
    }

    async fn open_slot(&self, root: SlotRoot) -> Result<Arc<Slot>, SlotError> {
        let slots = self.slots.clone();
        blocking(move || slots.get(&root)).await.map(Arc::new)
    }
}

/// The slot that a stream reads from: its file and its tree are opened once, not for each question.
struct Held {
    slot: Arc<Slot>,
    /// Opened for the question at hand.
    fresh: bool,
}

/// Reads a block into a buffer, on a thread that may wait for the disk.
fn read_block(slot: &Arc<Slot>, index: u64, mut buffer: Vec<u8>) -> JoinHandle<(Vec<u8>, Result<Path, SlotError>)> {
    let slot = slot.clone();
    tokio::task::spawn_blocking(move || {
        let read = slot.block_into(index, &mut buffer);
        (buffer, read)
    })
}

/// The blocks that a peer asks for, whatever its numbers: those beyond the slot's end are refused one by one.
fn blocks(first: u64, count: u64) -> std::ops::Range<u64> {
    first..first.saturating_add(count)
}

/// This node's word that it holds a slot. Who gives it has the slot durably, and knows from the file's manifest that it is one.
pub fn receipt(handle: &Handle, file: FileId, slot: u8, info: &SlotInfo) -> StorageReceipt {
    let chain = handle.identity().chain;
    let tip = handle.reader().tip().map_or(Height::GENESIS, |tip| tip.height);
    let until = Height::new(tip.get().saturating_add(RECEIPT_BLOCKS));
    StorageReceipt::sign(&chain, &file, slot, until, info, &handle.inner.key)
}

/// Hands on all frames up to the empty one, and says after each how far the writer is. When that has ended early, with an
/// error that the caller finds, the rest is not received.
async fn receive_all(
    stream: &mut impl Link,
    frames: mpsc::Sender<Vec<u8>>,
    mut spare: mpsc::Receiver<Vec<u8>>,
    written: &AtomicU64,
) -> io::Result<()> {
    loop {
        let mut frame = spare.try_recv().unwrap_or_default();
        let more = tokio::time::timeout(STALLED, receive_frame(stream, &mut frame, FRAME_BYTES_MAX)).await??;
        if !more {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if frame.is_empty() || frames.send(frame).await.is_err() {
            return Ok(());
        }
        let so_far = Answer::Offset(written.load(Ordering::Acquire));
        tokio::time::timeout(STALLED, send(stream, &so_far)).await??;
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
