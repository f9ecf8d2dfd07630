//! Paging: how long a page is, and the cursor that asks for the next one.

use super::problem::Problem;

/// Entries of a page. Errors: 400 for none, or more than may be.
pub fn limit(wanted: Option<usize>, usual: usize, max: usize) -> Result<usize, Problem> {
    match wanted {
        None => Ok(usual),
        Some(wanted) if (1..=max).contains(&wanted) => Ok(wanted),
        Some(wanted) => Err(Problem::bad(format!("limit is {wanted}; 1 to {max} are possible"))),
    }
}

/// Numbers up to which every client's JSON is exact.
const NUMBER_MAX: u64 = (1 << 53) - 1;

/// A number that may be one. Errors: 400.
pub fn number(key: &str, value: Option<u64>) -> Result<(), Problem> {
    match value.filter(|value| *value > NUMBER_MAX) {
        None => Ok(()),
        Some(value) => Err(Problem::bad(format!("{key} is {value}; at most {NUMBER_MAX} is possible"))),
    }
}
