//! Reads columns into the types of the model.

use std::fmt::Display;
use std::str::FromStr;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::{DbError, Result};

/// Reads a column as what it stands for. Values are never in errors: they may be secrets.
pub(super) trait Columns {
    fn text(&self, column: &'static str) -> Result<String>;
    fn maybe_text(&self, column: &'static str) -> Result<Option<String>>;
    fn int(&self, column: &'static str) -> Result<i64>;
    fn maybe_int(&self, column: &'static str) -> Result<Option<i64>>;

    fn flag(&self, column: &'static str) -> Result<bool> {
        Ok(self.int(column)? != 0)
    }

    fn parsed<T: FromStr<Err: Display>>(&self, column: &'static str) -> Result<T> {
        parse(column, &self.text(column)?)
    }

    fn maybe_parsed<T: FromStr<Err: Display>>(&self, column: &'static str) -> Result<Option<T>> {
        self.maybe_text(column)?.map(|text| parse(column, &text)).transpose()
    }

    fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T> {
        from_json(column, &self.text(column)?)
    }

    fn time(&self, column: &'static str) -> Result<Timestamp> {
        time(column, self.int(column)?)
    }

    fn maybe_time(&self, column: &'static str) -> Result<Option<Timestamp>> {
        self.maybe_int(column)?.map(|millis| time(column, millis)).transpose()
    }
}

fn parse<T: FromStr<Err: Display>>(column: &'static str, text: &str) -> Result<T> {
    text.parse().map_err(|_| DbError::Unreadable { column, why: "not what belongs there".to_owned() })
}

fn time(column: &'static str, millis: i64) -> Result<Timestamp> {
    Timestamp::from_millisecond(millis).map_err(|_| DbError::Unreadable { column, why: "no time".to_owned() })
}

impl Columns for AnyRow {
    fn text(&self, column: &'static str) -> Result<String> {
        Ok(self.try_get(column)?)
    }

    fn maybe_text(&self, column: &'static str) -> Result<Option<String>> {
        Ok(self.try_get(column)?)
    }

    fn int(&self, column: &'static str) -> Result<i64> {
        Ok(self.try_get(column)?)
    }

    fn maybe_int(&self, column: &'static str) -> Result<Option<i64>> {
        Ok(self.try_get(column)?)
    }
}

/// Reads JSON that is in a column which may be empty.
pub(super) fn from_json<T: DeserializeOwned>(column: &'static str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| DbError::Unreadable {
        column,
        why: format!("not the expected JSON ({:?})", error.classify()),
    })
}

/// A value as JSON for a column.
pub(super) fn to_json<T: Serialize>(column: &'static str, value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| DbError::Unreadable { column, why: error.to_string() })
}

/// How many rows a `COUNT(*) AS total` found.
pub(super) fn total(row: &AnyRow) -> Result<u64> {
    Ok(u64::try_from(row.int("total")?).unwrap_or(0))
}
