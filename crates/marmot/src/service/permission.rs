//! Who may do what: the one place that decides, from (who, what, which).

use marmot_core::id::UserId;

use super::error::{Error, Result};
use crate::db::projects::Viewer;
use crate::model::{Role, User, Visibility};

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Somebody who is not signed in.
    Anonymous,
    /// Somebody with an account.
    User(User),
}

impl Identity {
    /// The account, if there is one.
    pub fn user(&self) -> Option<&User> {
        match self {
            Self::Anonymous => None,
            Self::User(user) => Some(user),
        }
    }

    /// The account.
    ///
    /// # Errors
    /// [`Error::SignInNeeded`] when there is none.
    pub fn signed_in(&self) -> Result<&User> {
        self.user().ok_or(Error::SignInNeeded)
    }

    /// The account's id, if there is one.
    pub fn id(&self) -> Option<UserId> {
        self.user().map(|user| user.id)
    }

    /// Whether this person runs the installation.
    pub fn is_admin(&self) -> bool {
        self.user().is_some_and(|user| user.is_admin)
    }

    pub(super) fn viewer(&self) -> Viewer {
        match self {
            Self::Anonymous => Viewer::Anybody,
            Self::User(user) if user.is_admin => Viewer::Administrator,
            Self::User(user) => Viewer::Person(user.id),
        }
    }
}

/// What somebody wants to do with a project or something in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// See it: its launchers, builds, and apps.
    See,
    /// Read the logs of its builds and apps, which may hold more than their authors thought.
    ReadLogs,
    /// Change it and its launchers; see variables.
    Change,
    /// Start and cancel builds, activate apps, wake them, shut them down.
    Operate,
    /// Choose its members.
    Govern,
    /// Delete it.
    Delete,
}

impl Action {
    /// As words that follow *you may not*.
    fn words(self) -> &'static str {
        match self {
            Self::See => "see this project",
            Self::ReadLogs => "read the logs of this project: only its members may",
            Self::Change => "change this project: only its editors and owners may",
            Self::Operate => "build or run apps of this project: only its editors and owners may",
            Self::Govern => "choose the members of this project: only its owners may",
            Self::Delete => "delete this project: only its owners may",
        }
    }

    /// The least role it takes.
    fn least(self) -> Role {
        match self {
            Self::See | Self::ReadLogs => Role::Viewer,
            Self::Change | Self::Operate => Role::Editor,
            Self::Govern | Self::Delete => Role::Owner,
        }
    }
}

/// What the answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Do it.
    Allow,
    /// Say that there is no such thing: that it exists is not for this person to know.
    Hide,
    /// Say that signing in may help.
    SignIn,
    /// Say no.
    Forbid,
}

/// Decides whether `who`, with `role` in a project of this visibility, may do `action`.
pub fn decide(who: &Identity, role: Option<Role>, visibility: Visibility, action: Action) -> Decision {
    if who.is_admin() || role.is_some_and(|role| role >= action.least()) {
        return Decision::Allow;
    }
    match (visibility, role, who) {
        (Visibility::Private, None, _) => Decision::Hide,
        (Visibility::Public, ..) if action == Action::See => Decision::Allow,
        (_, _, Identity::Anonymous) => Decision::SignIn,
        _ => Decision::Forbid,
    }
}

/// Turns a decision into a refusal of `what` called `which`.
pub(super) fn enforce(
    decision: Decision,
    action: Action,
    what: &'static str,
    which: impl ToString,
) -> Result<()> {
    match decision {
        Decision::Allow => Ok(()),
        Decision::Hide => Err(Error::not_found(what, which)),
        Decision::SignIn => Err(Error::SignInNeeded),
        Decision::Forbid => Err(Error::Forbidden { action: action.words() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(is_admin: bool) -> Identity {
        Identity::User(User {
            id: 1.into(),
            username: "ada".parse().unwrap(),
            is_admin,
            email: None,
            first_name: None,
            last_name: None,
            created_at: jiff::Timestamp::UNIX_EPOCH,
        })
    }

    #[test]
    fn every_role_sees_and_does_what_the_table_says() {
        use Action::{Change, Delete, Govern, Operate, ReadLogs, See};
        use Decision::{Allow, Forbid, Hide, SignIn};
        let actions = [See, ReadLogs, Change, Operate, Govern, Delete];
        let (private, public) = (Visibility::Private, Visibility::Public);
        let table = [
            (Identity::Anonymous, None, private, [Hide; 6]),
            (Identity::Anonymous, None, public, [Allow, SignIn, SignIn, SignIn, SignIn, SignIn]),
            (user(false), None, private, [Hide; 6]),
            (user(false), None, public, [Allow, Forbid, Forbid, Forbid, Forbid, Forbid]),
            (user(false), Some(Role::Viewer), private, [Allow, Allow, Forbid, Forbid, Forbid, Forbid]),
            (user(false), Some(Role::Viewer), public, [Allow, Allow, Forbid, Forbid, Forbid, Forbid]),
            (user(false), Some(Role::Editor), private, [Allow, Allow, Allow, Allow, Forbid, Forbid]),
            (user(false), Some(Role::Owner), private, [Allow; 6]),
            (user(true), None, private, [Allow; 6]),
        ];
        for (who, role, visibility, row) in table {
            for (action, expected) in actions.into_iter().zip(row) {
                assert_eq!(
                    decide(&who, role, visibility, action),
                    expected,
                    "{who:?} as {role:?} on a {visibility} project: {action:?}"
                );
            }
        }
    }
}
