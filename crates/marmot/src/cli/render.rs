//! Draws tables and lists of answers. What comes from other people cannot move the cursor.

use serde_json::Value;

/// A table with a row for each item of a list; each column has a title and where its value is in an item.
pub(super) fn table(items: &Value, columns: &[(&str, &str)]) -> String {
    let items = items.as_array().map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() {
        return "none".to_owned();
    }
    let titles = columns.iter().map(|(title, _)| (*title).to_owned()).collect();
    let rows = items.iter().map(|item| columns.iter().map(|(_, pointer)| cell(item, pointer)).collect());
    let rows: Vec<Vec<String>> = std::iter::once(titles).chain(rows).collect();
    let widths: Vec<usize> = (0..columns.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(text, &width)| format!("{text:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The fields of an answer, one a line; those that are absent are left out.
pub(super) fn fields(answer: &Value, fields: &[(&str, &str)]) -> String {
    let width = fields.iter().map(|(title, _)| title.len()).max().unwrap_or(0);
    let known =
        fields.iter().filter(|(_, pointer)| !matches!(answer.pointer(pointer), None | Some(Value::Null)));
    let line = |(title, pointer): &(&str, &str)| format!("{title:<width$}  {}", cell(answer, pointer));
    known.map(line).collect::<Vec<_>>().join("\n")
}

fn cell(item: &Value, pointer: &str) -> String {
    match item.pointer(pointer) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => harmless(text),
        Some(Value::Array(list)) if list.is_empty() => "none".to_owned(),
        Some(Value::Array(list)) if list.iter().all(Value::is_string) => {
            harmless(&list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "))
        }
        Some(Value::Array(list)) => list.len().to_string(),
        Some(other) => harmless(&other.to_string()),
    }
}

/// Text of other people without what a terminal would obey.
pub(super) fn harmless(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() && letter != '\t' { '\u{fffd}' } else { letter })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_is_as_wide_as_it_must_be_and_obeys_nobody() {
        let items = json!([
            {"name": "iris", "phase": "running", "replicas": [{}, {}]},
            {"name": "evil\u{1b}]52;c;aGk=\u{7}", "phase": null, "replicas": []},
        ]);
        let text = table(&items, &[("NAME", "/name"), ("PHASE", "/phase"), ("REPLICAS", "/replicas")]);
        insta::assert_snapshot!(text, @r#"
            NAME              PHASE    REPLICAS
            iris              running  2
            evil�]52;c;aGk=�  -        none
            "#);
    }
}
