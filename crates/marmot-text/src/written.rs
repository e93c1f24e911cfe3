//! How a language writes numbers and days.

use jiff::civil::Date;

use crate::{Language, say, spoken, tell};

const MONTHS: [&str; 12] = [
    "month-1", "month-2", "month-3", "month-4", "month-5", "month-6", "month-7", "month-8", "month-9",
    "month-10", "month-11", "month-12",
];

/// A number that was written with a point, with the sign that the language has in its place.
pub fn decimal(text: String) -> String {
    match spoken() {
        Language::English => text,
        Language::German | Language::French => text.replace('.', ","),
    }
}

/// A day with the month as a word: `5 March 2026`, `5. März 2026`, `5 mars 2026`.
pub fn date(day: Date) -> String {
    let month = MONTHS[usize::from(day.month().unsigned_abs().clamp(1, 12)) - 1];
    tell!("date", day = i64::from(day.day()), month = say(month), year = day.year().to_string())
}

/// A day of the year and a time of that day, as short as they can be.
pub fn day_and_time(at: jiff::Timestamp) -> String {
    let format = match spoken() {
        Language::English => "%-d %b, %H:%M",
        Language::German => "%-d.%-m., %H:%M",
        Language::French => "%-d/%m, %H:%M",
    };
    at.strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speaking_now;

    #[test]
    fn days_and_numbers_are_written_as_each_language_does() {
        let day = jiff::civil::date(2026, 3, 5);
        let told = Language::ALL.map(|language| {
            speaking_now(language, || {
                (date(day), decimal("4.2 s".to_owned()), tell!("count-people", count = 0_u64))
            })
        });
        let [english, german, french] = told;
        assert_eq!(english, ("5 March 2026".to_owned(), "4.2 s".to_owned(), "0 people".to_owned()));
        assert_eq!(german, ("5. März 2026".to_owned(), "4,2 s".to_owned(), "0 Personen".to_owned()));
        assert_eq!(french, ("5 mars 2026".to_owned(), "4,2 s".to_owned(), "0 personne".to_owned()));
    }
}
