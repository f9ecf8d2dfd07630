//! Whole numbers in JSON: `3.0` is one too, as JSON Schema has it and as some languages write it.

use serde::de::{Deserialize, Deserializer, Error};

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Written {
    Whole(u64),
    Fraction(f64),
}

/// A whole number that fits.
pub fn number<'de, D: Deserializer<'de>, T: TryFrom<u64>>(from: D) -> Result<T, D::Error> {
    let wrong = || D::Error::custom("not a whole number that is possible here");
    let value = match Written::deserialize(from).map_err(|_| wrong())? {
        Written::Whole(value) => value,
        // Up to here every whole number has its own float.
        Written::Fraction(value) if value.fract() == 0.0 && (0.0..=9_007_199_254_740_991.0).contains(&value) => {
            value as u64
        }
        Written::Fraction(_) => return Err(wrong()),
    };
    T::try_from(value).map_err(|_| wrong())
}

/// The same with a sign.
fn signed<'de, D: Deserializer<'de>, T: TryFrom<i64>>(from: D) -> Result<T, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Written {
        Whole(i64),
        Fraction(f64),
    }
    const EXACT: f64 = 9_007_199_254_740_991.0;
    let wrong = || D::Error::custom("not a whole number that is possible here");
    let value = match Written::deserialize(from).map_err(|_| wrong())? {
        Written::Whole(value) => value,
        Written::Fraction(value) if value.fract() == 0.0 && (-EXACT..=EXACT).contains(&value) => value as i64,
        Written::Fraction(_) => return Err(wrong()),
    };
    T::try_from(value).map_err(|_| wrong())
}

/// A whole number where it may be absent.
pub fn optional<'de, D: Deserializer<'de>, T: TryFrom<u64>>(from: D) -> Result<Option<T>, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(transparent, bound = "T: TryFrom<u64>")]
    struct One<T>(#[serde(deserialize_with = "number")] T);
    Ok(Option::<One<T>>::deserialize(from)?.map(|One(value)| value))
}

/// The same with a sign.
pub fn optional_signed<'de, D: Deserializer<'de>, T: TryFrom<i64>>(from: D) -> Result<Option<T>, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(transparent, bound = "T: TryFrom<i64>")]
    struct One<T>(#[serde(deserialize_with = "signed")] T);
    Ok(Option::<One<T>>::deserialize(from)?.map(|One(value)| value))
}

#[cfg(test)]
mod tests {
    #[derive(Debug, serde::Deserialize)]
    struct Body {
        #[serde(deserialize_with = "super::number")]
        count: u32,
        #[serde(default, deserialize_with = "super::optional")]
        more: Option<u64>,
    }

    #[test]
    fn a_whole_number_may_have_a_sign_where_that_is_said() {
        let read = |text: &str| super::signed::<_, i64>(&mut serde_json::Deserializer::from_str(text)).ok();
        assert_eq!(read("-3.0"), Some(-3));
        assert_eq!(read("1795297942326000001"), Some(1_795_297_942_326_000_001));
        assert_eq!((read("0.5"), read("1e300"), read("9223372036854775808")), (None, None, None));
    }

    #[test]
    fn a_whole_number_may_be_written_with_a_fraction_of_zero_and_no_other() {
        let read = |text: &str| serde_json::from_str::<Body>(text).map(|body| (body.count, body.more)).ok();
        assert_eq!(read(r#"{"count":3}"#), Some((3, None)));
        assert_eq!(read(r#"{"count":3.0,"more":4.0}"#), Some((3, Some(4))));
        assert_eq!(read(r#"{"count":0,"more":null}"#), Some((0, None)));
        for wrong in
            [r#"{"count":3.5}"#, r#"{"count":-1}"#, r#"{"count":4294967296}"#, r#"{"count":1e300}"#, r#"{"count":"3"}"#]
        {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
