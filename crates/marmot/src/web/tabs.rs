//! The pages of one launcher and its app, to go from one to the other.

use marmot_text::say;

use crate::service::LauncherView;

/// One of the pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tab {
    pub(super) word: &'static str,
    pub(super) path: String,
    /// It is the page that is shown.
    pub(super) here: bool,
}

/// Which page is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Here {
    Overview,
    Usage,
    Logs,
    Settings,
}

impl Tab {
    /// Those that who looks may open.
    pub(super) fn of(view: &LauncherView, here: Here) -> Vec<Self> {
        Self::below(&super::detail::own_path(view), view.can.read_logs, view.can.change, here)
    }

    /// Those of the launcher at this path.
    pub(super) fn below(path: &str, read_logs: bool, change: bool, here: Here) -> Vec<Self> {
        let all = [
            (Here::Overview, say("tab-overview"), "", true),
            (Here::Usage, say("usage"), "/usage", read_logs),
            (Here::Logs, say("logs"), "/logs", read_logs),
            (Here::Settings, say("tab-settings"), "/edit", change),
        ];
        let shown = all.into_iter().filter(|(.., may)| *may);
        shown
            .map(|(page, word, end, _)| Self { word, path: format!("{path}{end}"), here: page == here })
            .collect()
    }
}
