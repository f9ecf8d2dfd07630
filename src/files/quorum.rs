//! Quorum: how many slots of a file must be confirmed, waited for, and left before lost ones are rebuilt.
//!
//! Three numbers that its owner chooses. *Quorum*: confirmations that make the deal final. *Success threshold*:
//! confirmations at which a put waits for no more. *Repair threshold*: slots still held at or below which the other nodes
//! rebuild what is lost.

use std::str::FromStr;

use super::parameters::Parameters;
use crate::wire::tx::repair_bounds;

/// Why numbers are not possible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuorumError {
    /// No share of slots.
    #[error("{0:?} is no share of the slots; write a whole percentage from 1 to 100, or a fraction such as 2/3")]
    Share(String),
    /// A number outside of what these shards allow.
    #[error("{what} is {have}; with {data} data and {parity} parity shards {min} to {max} are possible")]
    Range {
        /// Name of the setting.
        what: &'static str,
        /// What was asked for.
        have: u64,
        /// Data shards.
        data: u8,
        /// Parity shards.
        parity: u8,
        /// The least number allowed.
        min: u8,
        /// The greatest number allowed.
        max: u8,
    },
}

/// A share of a file's slots: a whole percentage or a fraction.
///
/// A fraction is exact: 2/3 of 4 slots are 3. A percentage is what people mean by it: the least number of slots that is,
/// rounded to whole percent, so many percent. So 66 and 67 are both 2 of 3 slots; 68 is 3 of 3, and 100 is always all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    parts: u16,
    whole: u16,
}

impl Share {
    /// A whole percentage. Errors: `Share` unless it is 1 to 100.
    pub fn percent(percent: u64) -> Result<Self, QuorumError> {
        match u16::try_from(percent) {
            Ok(100) => Ok(Self { parts: 1, whole: 1 }),
            // Half a percent less is what rounds up to it.
            Ok(percent @ 1..100) => Ok(Self { parts: 2 * percent - 1, whole: 200 }),
            _ => Err(QuorumError::Share(percent.to_string())),
        }
    }
    /// The least number of slots that is such a share, at least 1 of at least 1.
    pub fn of(self, slots: u8) -> u8 {
        let least = (u32::from(slots) * u32::from(self.parts)).div_ceil(u32::from(self.whole));
        u8::try_from(least).unwrap_or(slots)
    }
}

impl FromStr for Share {
    type Err = QuorumError;

    /// Reads `67`, `67 %` or `2/3`. Errors: `Share`.
    fn from_str(text: &str) -> Result<Self, QuorumError> {
        let wrong = || QuorumError::Share(text.to_owned());
        if let Some((parts, whole)) = text.split_once('/') {
            let number = |text: &str| text.trim().parse::<u8>().map(u16::from).map_err(|_| wrong());
            let (parts, whole) = (number(parts)?, number(whole)?);
            return if parts >= 1 && parts <= whole { Ok(Self { parts, whole }) } else { Err(wrong()) };
        }
        let number = text.trim().trim_end_matches('%').trim_end().parse().map_err(|_| wrong())?;
        Self::percent(number).map_err(|_| wrong())
    }
}

/// What an owner asks for; what is not set follows from the shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Confirmations that make the deal final.
    pub min_confirmations: Option<u64>,
    /// The same as a share of the slots; the greater of the two counts.
    pub quorum: Option<Share>,
    /// Confirmations at which a put waits for no more.
    pub success_threshold: Option<u64>,
    /// Slots still held at or below which lost ones are rebuilt.
    pub repair_threshold: Option<u64>,
}

/// The numbers for one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Confirmations that make the deal final: data shards to all slots.
    pub quorum: u8,
    /// Confirmations at which a put waits for no more: the quorum to all slots. Nothing if it waits for all, but after the
    /// quorum only a little.
    pub success: Option<u8>,
    /// Slots still held at or below which lost ones are rebuilt: data shards to one less than all.
    pub repair: u8,
}

impl Thresholds {
    /// The numbers for a file of these shards. Not asked for: final with all slots but half of the parity, repaired at the
    /// first loss. Errors: `Range`.
    pub fn new(shards: Parameters, wanted: &Wanted) -> Result<Self, QuorumError> {
        let (data, parity, slots) = (shards.data(), shards.parity(), shards.slots());
        let within = |what, value: Option<u64>, min: u8, max: u8| {
            let range = |have| QuorumError::Range { what, have, data, parity, min, max };
            let checked = |have| u8::try_from(have).ok().filter(|have| (min..=max).contains(have)).ok_or(range(have));
            value.map(checked).transpose()
        };
        let least = within("min_confirmations", wanted.min_confirmations, data, slots)?;
        let share = wanted.quorum.map(|share| share.of(slots));
        let quorum = match (least, share) {
            (None, None) => slots - parity / 2,
            (least, share) => data.max(least.unwrap_or(0)).max(share.unwrap_or(0)),
        };
        let success = within("success_threshold", wanted.success_threshold, quorum, slots)?;
        let (least, most) = repair_bounds(data, slots);
        let repair = within("repair_threshold", wanted.repair_threshold, least, most)?.unwrap_or(most);
        Ok(Self { quorum, success, repair })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(text: &str, slots: u8) -> u8 {
        text.parse::<Share>().expect("a share").of(slots)
    }

    fn thresholds(shards: (u8, u8), wanted: Wanted) -> Result<Thresholds, String> {
        let parameters = Parameters::with_shards(shards.0, shards.1).expect("valid shards");
        Thresholds::new(parameters, &wanted).map_err(|error| error.to_string())
    }

    #[test]
    fn two_thirds_of_three_are_two_however_they_are_written() {
        for text in ["66", "67", "2/3", " 67 % ", "67%"] {
            assert_eq!(share(text, 3), 2, "{text}");
        }
        assert_eq!((share("33", 3), share("1/3", 3), share("68", 3), share("1", 3)), (1, 1, 3, 1));
        assert_eq!((share("50", 4), share("51", 4), share("60", 4), share("75", 4)), (2, 3, 3, 3));
        assert_eq!((share("67", 50), share("2/3", 50), share("99", 50)), (34, 34, 50));
        assert_eq!((share("2/3", 4), share("3/3", 255)), (3, 255));
    }

    #[test]
    fn a_percentage_is_never_more_than_half_a_percent_short_and_a_hundred_is_all() {
        for slots in 1..=u8::MAX {
            assert_eq!(share("100", slots), slots);
            for percent in 1..100_u32 {
                let n = u32::from(share(&percent.to_string(), slots));
                assert!(n >= 1 && 200 * n >= (2 * percent - 1) * u32::from(slots), "{percent} % of {slots}: {n}");
                assert!(n == 1 || 200 * (n - 1) < (2 * percent - 1) * u32::from(slots), "{percent} % of {slots}: {n}");
            }
        }
    }

    #[test]
    fn what_is_no_share_is_an_error_that_says_what_is() {
        for text in ["0", "101", "3/2", "0/3", "1/0", "two", "", "66.7", "-1", "1/300"] {
            let error = text.parse::<Share>().expect_err(text).to_string();
            assert!(error.contains("from 1 to 100, or a fraction such as 2/3"), "{error}");
        }
    }

    #[test]
    fn the_quorum_is_the_greatest_of_what_is_asked_for_and_never_below_what_restores_the_file() {
        let quorum = |shards, min, text: Option<&str>| {
            let quorum = text.map(|text| text.parse().expect("a share"));
            thresholds(shards, Wanted { min_confirmations: min, quorum, ..Wanted::default() }).map(|all| all.quorum)
        };
        assert_eq!((quorum((1, 0), None, None), quorum((2, 1), None, None)), (Ok(1), Ok(3)));
        assert_eq!((quorum((4, 2), None, None), quorum((10, 4), None, None)), (Ok(5), Ok(12)));
        assert_eq!((quorum((2, 1), None, Some("2/3")), quorum((2, 1), Some(3), Some("66"))), (Ok(2), Ok(3)));
        assert_eq!((quorum((4, 2), Some(4), Some("1")), quorum((4, 2), None, Some("10"))), (Ok(4), Ok(4)));
        assert_eq!((quorum((34, 16), None, Some("80")), quorum((34, 16), None, None)), (Ok(40), Ok(42)));
    }

    #[test]
    fn an_impossible_number_is_an_error_with_the_bounds() {
        let wrong = |wanted| thresholds((4, 2), wanted).expect_err("an impossible number");
        let none = Wanted::default();
        let text = |what, have, min, max| {
            format!("{what} is {have}; with 4 data and 2 parity shards {min} to {max} are possible")
        };
        for have in [0, 3, 7, 300] {
            let error = wrong(Wanted { min_confirmations: Some(have), ..none });
            assert_eq!(error, text("min_confirmations", have, 4, 6));
        }
        for have in [4, 7] {
            assert_eq!(wrong(Wanted { success_threshold: Some(have), ..none }), text("success_threshold", have, 5, 6));
        }
        for have in [3, 6] {
            assert_eq!(wrong(Wanted { repair_threshold: Some(have), ..none }), text("repair_threshold", have, 4, 5));
        }
    }

    #[test]
    fn a_file_is_repaired_at_its_first_loss_unless_its_owner_waits() {
        let repair = |shards, repair_threshold| {
            thresholds(shards, Wanted { repair_threshold, ..Wanted::default() }).map(|all| all.repair)
        };
        assert_eq!((repair((4, 2), None), repair((4, 2), Some(4)), repair((1, 0), None)), (Ok(5), Ok(4), Ok(0)));
        assert_eq!(repair((3, 0), Some(2)), Ok(2));
        let all = thresholds((4, 2), Wanted { success_threshold: Some(6), ..Wanted::default() }).expect("possible");
        assert_eq!(all, Thresholds { quorum: 5, success: Some(6), repair: 5 });
    }
}
