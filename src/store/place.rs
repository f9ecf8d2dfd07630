//! Where a file lies: tells a file in its place from a copy of it.

use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::error::StoreError;

/// Inode and time of birth. A copy or a restored backup has others; a restart, a rename or a remount has not.
pub(super) fn of(path: &Path) -> Result<Vec<u8>, StoreError> {
    let wanted = StatxFlags::INO | StatxFlags::BTIME;
    let stat = statx(CWD, path, AtFlags::empty(), wanted).map_err(|e| StoreError::at("looking at", path, e.into()))?;
    let born = (stat.stx_mask & StatxFlags::BTIME.bits() != 0).then_some(stat.stx_btime);
    let mut place = stat.stx_ino.to_be_bytes().to_vec();
    place.extend_from_slice(&born.map_or(0, |t| t.tv_sec).to_be_bytes());
    place.extend_from_slice(&born.map_or(0, |t| t.tv_nsec).to_be_bytes());
    Ok(place)
}
