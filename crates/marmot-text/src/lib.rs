//! What pages say to people, in English, German and French.
//!
//! Every text stands in `locales/LANGUAGE/*.ftl`, in [Fluent](https://projectfluent.org), which translators know and
//! which has the plurals of each language. Pages name a message: `say("sign-in")`, `tell!("usage-of", name = name)`,
//! and in templates `{{ "sign-in"|say }}` and `{{ "usage-of"|with("name", name) }}`. The tests hold the languages to
//! the same messages with the same variables, the pages to messages that exist, and the files to what pages use.
//!
//! # Words of the product
//!
//! | English | German | French | |
//! |---|---|---|---|
//! | app | App | application | |
//! | launcher | Launcher | lanceur | the recipe of an app |
//! | project | Projekt | projet | |
//! | replica, copy | Replik, Kopie | réplica, copie | a running copy of an app |
//! | revision | Revision | révision | what an app runs: build and settings |
//! | build | Build | build | making something runnable of code |
//! | preview | Vorschau | aperçu | an app of another branch |
//! | secret | Geheimnis | secret | |
//! | asleep, awake | schläft, wach | en veille, éveillée | |
//! | wake-up, cold start | Aufwachen, Kaltstart | réveil, démarrage à froid | |
//! | to shut down | ausschalten | éteindre | for everyone |
//! | resource class | Ressourcenklasse | classe de ressources | |
//! | owner, editor, viewer | Eigentümer, Bearbeiter, Betrachter | propriétaire, éditeur, lecteur | roles |
//!
//! German says *Sie* where a person must be addressed, and mostly need not address anybody; French says *vous*.

pub mod filters;
mod language;
mod messages;
mod now;
mod written;

pub use language::{Language, NoSuchLanguage};
pub use messages::{Message, Value, retold, say};
pub use now::{speak, speaking, speaking_now, spoken};
pub use written::{date, day_and_time, decimal};
