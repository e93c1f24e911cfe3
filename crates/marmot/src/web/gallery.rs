//! The gallery of apps: found by words and by what is going on with them, a page at a time. Works without a script.

use askama::Template;
use marmot_text::{filters, say, tell};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::Web;
use super::live::{Around, Fragments, Part};
use super::pages::Choice;
use super::present::Presenter;
use super::respond::{Failed, drawn};
use super::view::{AppTile, Tone};
use crate::model::Page;
use crate::service::Identity;

/// Apps on one page.
const PER_PAGE: usize = 48;
/// More than so many are not looked through for those in one phase.
const MOST_SEARCHED: u32 = 20;
/// Nobody looks for more words than this.
const LONGEST: usize = 100;

/// What somebody looks for, in an address.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Sought {
    /// Words in name, description or project.
    q: String,
    /// What is going on: a [`Tone`]; all when it is no word for one.
    phase: String,
    page: Option<u32>,
}

const PHASES: [(&str, &str); 5] = [
    ("", "gallery-all"),
    ("on", "gallery-awake"),
    ("asleep", "gallery-asleep"),
    ("busy", "gallery-on-their-way"),
    ("bad", "gallery-failed"),
];

impl Sought {
    fn text(&self) -> String {
        self.q.trim().chars().take(LONGEST).collect()
    }

    fn tone(&self) -> Option<&'static str> {
        PHASES.iter().map(|(word, _)| *word).find(|word| !word.is_empty() && *word == self.phase)
    }

    fn number(&self) -> usize {
        self.page.unwrap_or(1).clamp(1, 10_000) as usize
    }

    fn is_everything(&self) -> bool {
        self.text().is_empty() && self.tone().is_none()
    }

    /// As the query of an address, at another page.
    fn at(&self, page: usize) -> String {
        let q = utf8_percent_encode(&self.text(), NON_ALPHANUMERIC).to_string();
        format!("?q={q}&phase={}&page={page}", self.tone().unwrap_or_default())
    }

    /// Where changes of what is sought are told.
    pub(super) fn live(&self) -> String {
        format!("/events{}", self.at(self.number()))
    }
}

/// The gallery with its form.
#[derive(Debug, Template)]
#[template(path = "gallery.html")]
pub(super) struct Gallery {
    heading: &'static str,
    q: String,
    phases: Vec<Choice>,
    everything: bool,
    /// There is enough to look for something.
    searchable: bool,
    list: AppsList,
}

/// The apps that were found.
#[derive(Debug, Template)]
#[template(path = "apps.html")]
pub(super) struct AppsList {
    pub(super) tiles: Vec<AppTile>,
    /// How many there are, as far as was counted.
    told: String,
    earlier: Option<String>,
    later: Option<String>,
    /// Said where there are none.
    none: &'static str,
    /// The fragment replaces the list that is on the page.
    replaces: bool,
}

impl Gallery {
    pub(super) async fn of(web: &Web, who: &Identity, sought: &Sought) -> Result<Self, Failed> {
        let list = AppsList::of(web, who, sought).await?;
        let choice = |(value, label): (&str, &'static str)| Choice {
            value: value.to_owned(),
            label: say(label).to_owned(),
            chosen: sought.tone().unwrap_or_default() == value,
        };
        Ok(Self {
            heading: if who.user().is_some() { say("gallery-yours") } else { say("gallery-public") },
            q: sought.text(),
            phases: PHASES.map(choice).into(),
            everything: sought.is_everything(),
            searchable: list.tiles.len() > 3 || !sought.is_everything() || sought.number() > 1,
            list,
        })
    }
}

impl AppsList {
    async fn of(web: &Web, who: &Identity, sought: &Sought) -> Result<Self, Failed> {
        let (text, skipped) = (sought.text(), (sought.number() - 1) * PER_PAGE);
        let presenter = Presenter::new(&web.service);
        let (mut tiles, mut passed) = (Vec::new(), if sought.tone().is_none() { skipped } else { 0 });
        // Without a phase the database knows which page it is; with one, what is going on with each has to be looked at.
        let mut page = match sought.tone() {
            None => Page { page: u32::try_from(sought.number()).unwrap_or(1), per_page: PER_PAGE as u32 },
            Some(_) => Page::FIRST,
        };
        let all = loop {
            let found = web.service.find_apps(who, &text, page).await?;
            for (app, project) in &found.items {
                let tile = presenter.tile(app, Some(project));
                if sought.tone().is_some_and(|tone| tone != group(tile.phase.tone)) {
                    continue;
                }
                if passed >= skipped {
                    tiles.push(tile);
                }
                passed += 1;
            }
            let seen = u64::from(page.page) * u64::from(page.per_page);
            let enough = tiles.len() > PER_PAGE || page.page >= MOST_SEARCHED;
            if sought.tone().is_none() || seen >= found.total || enough {
                break found.total;
            }
            page.page += 1;
        };
        let more = match sought.tone() {
            None => (skipped + tiles.len()) as u64 > 0 && ((skipped + tiles.len()) as u64) < all,
            Some(_) => tiles.len() > PER_PAGE,
        };
        tiles.truncate(PER_PAGE);
        let told = match sought.tone() {
            None => tell!("apps-found", count = all),
            Some(_) if more => tell!("apps-found-more", count = skipped + tiles.len()),
            Some(_) => tell!("apps-found", count = skipped + tiles.len()),
        };
        Ok(Self {
            told,
            earlier: (sought.number() > 1).then(|| sought.at(sought.number() - 1)),
            later: more.then(|| sought.at(sought.number() + 1)),
            none: if sought.is_everything() { say("apps-none-on") } else { say("apps-none-found") },
            tiles,
            replaces: false,
        })
    }
}

/// Where an app is found: on its way are those that begin and those that end.
fn group(tone: Tone) -> &'static str {
    match tone {
        Tone::Off => Tone::Busy.as_str(),
        tone => tone.as_str(),
    }
}

/// What has changed since a browser was shown the gallery.
pub(super) async fn fragments(web: &Web, who: &Identity, sought: &Sought) -> Result<Fragments, Failed> {
    let list = AppsList::of(web, who, sought).await?;
    let mut parts = Vec::new();
    for tile in &list.tiles {
        let told = format!("{}: {}", tile.name, tile.phase.word);
        let html = drawn(&AppTile { replaces: true, ..tile.clone() })?;
        parts.push(Part { id: tile.id.clone(), html, told });
    }
    let ids = list.tiles.iter().map(|tile| tile.id.as_str()).collect::<Vec<_>>().join(" ");
    let key = format!("{} {ids}", list.told);
    let html = drawn(&AppsList { replaces: true, ..list })?;
    Ok(Fragments { around: Some(Around { key, html }), parts })
}
