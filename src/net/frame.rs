//! Frames on a byte stream: a length of 4 bytes, big-endian, and the bytes. And the greeting before them.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The first byte on a stream, from the side that accepts it. libp2p-stream drops streams that it has no
/// room for, after they were negotiated; this tells the other side that it was not one of those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Greeting {
    Welcome = 0x77,
    Refused = 0x72,
}

/// Frames up to this are sent in one piece with their length.
const SMALL: usize = 4 << 10;

pub(super) async fn write_greeting(io: &mut (impl AsyncWrite + Unpin), greeting: Greeting) -> io::Result<()> {
    io.write_all(&[greeting as u8]).await?;
    io.flush().await
}

/// Errors: `ConnectionRefused` for anything but a welcome, and those of the stream.
pub(super) async fn read_greeting(io: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut first = [0];
    io.read_exact(&mut first).await?;
    match first[0] == Greeting::Welcome as u8 {
        true => Ok(()),
        false => Err(io::ErrorKind::ConnectionRefused.into()),
    }
}

/// Writes one frame without flushing. Large ones are not copied.
pub(super) async fn write_frame(io: &mut (impl AsyncWrite + Unpin), frame: &Bytes) -> io::Result<()> {
    let len = u32::try_from(frame.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut head = BytesMut::with_capacity(4 + SMALL);
    head.put_u32(len);
    if frame.len() <= SMALL {
        head.extend_from_slice(frame);
        return io.write_all(&head).await;
    }
    io.write_all(&head).await?;
    io.write_all(frame).await
}

/// Reads one frame, or nothing at the end of the stream.
/// Errors: `InvalidData` for a frame over `max`; `UnexpectedEof` for half a frame; those of the stream.
pub(super) async fn read_frame(io: &mut (impl AsyncRead + Unpin), max: usize) -> io::Result<Option<Bytes>> {
    let mut head = [0; 4];
    if io.read(&mut head[..1]).await? == 0 {
        return Ok(None);
    }
    io.read_exact(&mut head[1..]).await?;
    let len = usize::try_from(u32::from_be_bytes(head)).unwrap_or(usize::MAX);
    if len > max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {len} bytes; at most {max}")));
    }
    let mut frame = vec![0; len];
    io.read_exact(&mut frame).await?;
    Ok(Some(frame.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use futures::io::Cursor;

    fn now<T>(future: impl Future<Output = T>) -> T {
        future.now_or_never().expect("memory does not block")
    }

    #[test]
    fn frames_of_any_size_come_back_in_order() {
        let frames: Vec<Bytes> = [0, 1, SMALL, SMALL + 1, 1 << 20].map(|len| vec![len as u8; len].into()).into();
        let mut io = Cursor::new(Vec::new());
        for frame in &frames {
            now(write_frame(&mut io, frame)).expect("memory takes it");
        }
        io.set_position(0);
        for frame in &frames {
            assert_eq!(now(read_frame(&mut io, 1 << 20)).expect("a frame").as_ref(), Some(frame));
        }
        assert_eq!(now(read_frame(&mut io, 1 << 20)).expect("the end"), None);
    }

    #[test]
    fn oversized_and_cut_frames_are_errors() {
        let error = |bytes: &[u8]| now(read_frame(&mut Cursor::new(bytes), 8)).expect_err("no frame").kind();
        assert_eq!(error(&[0, 0, 0, 9, 1]), io::ErrorKind::InvalidData);
        assert_eq!(error(&[0xff; 4]), io::ErrorKind::InvalidData);
        assert_eq!(error(&[0, 0]), io::ErrorKind::UnexpectedEof);
        assert_eq!(error(&[0, 0, 0, 2, 1]), io::ErrorKind::UnexpectedEof);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_a_frame_over_the_limit_or_a_panic(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64),
        ) {
            let mut io = Cursor::new(&bytes);
            while let Ok(Some(frame)) = now(read_frame(&mut io, 16)) {
                proptest::prop_assert!(frame.len() <= 16);
            }
        }
    }
}
