//! Charts as SVG, drawn here: no script, colours from the style sheet, the numbers told in words as well.
//!
//! A drawing is stretched to the width there is, so it holds shapes alone; words stand around it as HTML.

use std::fmt::Write as _;

use askama::Template;
use marmot_text::tell;

/// The height of a drawing, and the width of one slot in it, in its own units.
const HEIGHT: f64 = 100.0;
const SLOT: usize = 10;

/// One series of a chart.
#[derive(Debug, Clone)]
pub(super) struct Series {
    /// What it shows.
    pub(super) word: &'static str,
    /// The last part of its class in the style sheet.
    pub(super) colour: &'static str,
    /// What it amounts to, in words.
    pub(super) told: String,
    /// Each slot's value.
    pub(super) values: Vec<f64>,
}

/// How the bars of several series stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bars {
    /// On each other: they are parts of a whole.
    Stacked,
    /// Before each other, the first one behind: each holds the next.
    Nested,
}

/// Bars over time.
#[derive(Debug, Template)]
#[template(path = "chart.html")]
pub(super) struct Chart {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// What it amounts to: a number and its unit.
    pub(super) headline: String,
    /// Everything it shows in a sentence, for who does not see it.
    pub(super) summary: String,
    pub(super) series: Vec<Series>,
    /// What the highest line stands for.
    pub(super) top: String,
    /// From when, in the middle, until when.
    pub(super) axis: [String; 3],
    drawing: String,
}

/// What a chart is made of.
pub(super) struct Sketch<'a> {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) headline: String,
    pub(super) bars: Bars,
    pub(super) series: Vec<Series>,
    pub(super) axis: [String; 3],
    /// A value in words, with its unit.
    pub(super) value: &'a dyn Fn(f64) -> String,
    /// When a slot was, in words.
    pub(super) when: &'a dyn Fn(usize) -> String,
}

impl Chart {
    pub(super) fn draw(sketch: Sketch<'_>) -> Self {
        let slots = sketch.series.iter().map(|series| series.values.len()).max().unwrap_or_default();
        let height = |slot: usize| {
            let values =
                sketch.series.iter().map(|series| series.values.get(slot).copied().unwrap_or_default());
            match sketch.bars {
                Bars::Stacked => values.sum::<f64>(),
                Bars::Nested => values.fold(0.0, f64::max),
            }
        };
        let highest = (0..slots).map(height).fold(0.0, f64::max);
        let top = round_up(highest);
        let drawing = drawing(&sketch, slots, top);
        let parts: Vec<String> =
            sketch.series.iter().map(|series| format!("{}: {}", series.word, series.told)).collect();
        let summary = if highest > 0.0 {
            let at = (0..slots).fold(0, |best, slot| if height(slot) > height(best) { slot } else { best });
            tell!(
                "chart-summary",
                title = sketch.title,
                from = sketch.axis[0],
                until = sketch.axis[2],
                parts = parts.join("; "),
                most = (sketch.value)(height(at)),
                when = (sketch.when)(at),
            )
        } else {
            tell!("chart-nothing", title = sketch.title, from = sketch.axis[0], until = sketch.axis[2],)
        };
        Self {
            id: sketch.id,
            title: sketch.title,
            headline: sketch.headline,
            summary,
            top: if highest > 0.0 { (sketch.value)(top) } else { String::new() },
            series: sketch.series,
            axis: sketch.axis,
            drawing,
        }
    }
}

/// The shapes: one path for each series, and over each slot in which something was a place that says what.
fn drawing(sketch: &Sketch<'_>, slots: usize, top: f64) -> String {
    let mut svg = String::new();
    let width = slots * SLOT;
    // Writing to a string cannot fail.
    let _ = write!(
        svg,
        r#"<svg class="plot" viewBox="0 0 {width} {HEIGHT}" preserveAspectRatio="none" role="img" aria-labelledby="{}-told">"#,
        sketch.id
    );
    let mut floors = vec![0.0; slots];
    for series in &sketch.series {
        let mut path = String::new();
        for (slot, value) in series.values.iter().enumerate().filter(|(_, value)| **value > 0.0) {
            let low = floors[slot];
            let (from, to) = (y(low, top), y(low + value, top));
            let x = slot * SLOT;
            let _ = write!(path, "M{} {from:.1}V{to:.1}H{}V{from:.1}Z", x + 1, x + SLOT - 1);
            if sketch.bars == Bars::Stacked {
                floors[slot] += value;
            }
        }
        if !path.is_empty() {
            let _ = write!(svg, r#"<path class="c-{}" d="{path}"/>"#, series.colour);
        }
    }
    for slot in 0..slots {
        let told: Vec<String> = sketch
            .series
            .iter()
            .filter(|series| series.values[slot] > 0.0)
            .map(|series| format!("{} {}", (sketch.value)(series.values[slot]), series.word))
            .collect();
        if !told.is_empty() {
            let told = format!("{}: {}", (sketch.when)(slot), told.join(", "));
            let told = super::respond::escaped(&told);
            let x = slot * SLOT;
            let _ = write!(
                svg,
                r#"<path class="hit" d="M{x} 0h{SLOT}v{HEIGHT}h-{SLOT}z"><title>{told}</title></path>"#
            );
        }
    }
    svg.push_str("</svg>");
    svg
}

fn y(value: f64, top: f64) -> f64 {
    if top > 0.0 { HEIGHT - HEIGHT * (value / top).clamp(0.0, 1.0) } else { HEIGHT }
}

/// The next number that reads well: 1, 2, 2.5 or 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|step| step * power >= value - 1e-12);
    step.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sketch(values: [Vec<f64>; 2], bars: Bars) -> Chart {
        let [a, b] = values;
        let series = |word, values| Series { word, colour: "on", told: "x".to_owned(), values };
        Chart::draw(Sketch {
            id: "c",
            title: "Requests",
            headline: "4".to_owned(),
            bars,
            series: vec![series("fine", a), series("<failed>", b)],
            axis: ["an hour ago".to_owned(), String::new(), "now".to_owned()],
            value: &|value| value.to_string(),
            when: &|slot| format!("slot {slot}"),
        })
    }

    #[test]
    fn bars_stand_on_each_other_or_before_each_other() {
        let stacked = sketch([vec![3.0, 0.0], vec![1.0, 0.0]], Bars::Stacked);
        assert!(stacked.drawing.contains("M1 100.0V40.0H9V100.0Z"), "{}", stacked.drawing);
        assert!(stacked.drawing.contains("M1 40.0V20.0H9V40.0Z"), "{}", stacked.drawing);
        assert_eq!(stacked.top, "5");
        let nested = sketch([vec![4.0, 0.0], vec![2.0, 0.0]], Bars::Nested);
        assert!(nested.drawing.contains("M1 100.0V60.0H9V100.0Z"), "{}", nested.drawing);
    }

    #[test]
    fn what_is_drawn_is_told_and_nothing_is_markup() {
        let chart = sketch([vec![0.0, 3.0], vec![0.0, 1.0]], Bars::Stacked);
        assert!(chart.summary.contains("The most was 4, slot 1."), "{}", chart.summary);
        assert!(
            chart.drawing.contains("<title>slot 1: 3 fine, 1 &#60;failed&#62;</title>"),
            "{}",
            chart.drawing
        );
        assert!(!chart.drawing.contains("slot 0"));
        let empty = sketch([vec![0.0], vec![0.0]], Bars::Stacked);
        assert!(empty.summary.ends_with("nothing.") && !empty.drawing.contains("<path"));
    }

    #[test]
    fn scales_end_at_numbers_that_read_well() {
        for (value, top) in [(0.0, 1.0), (0.7, 1.0), (1.0, 1.0), (12.0, 20.0), (21.0, 25.0), (0.003, 0.005)] {
            assert!((round_up(value) - top).abs() < 1e-9, "{value} {}", round_up(value));
        }
    }
}
