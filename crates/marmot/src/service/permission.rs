//! Who may do what: the one place that decides, from (who, what, which).

use marmot_core::id::{LauncherId, ProjectId, UserId};

use super::error::{Error, Result};
use crate::db::projects::Viewer;
use crate::model::{Access, Limit, Project, Role, User, Visibility};

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Somebody who is not signed in.
    Anonymous,
    /// Somebody with an account, who may do with it what that person may.
    User(User),
    /// A program with a token of this person, which may do less.
    Token(User, Scope),
}

/// What a token may of that which its owner may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    /// Reads only, or changes, too.
    pub access: Access,
    /// Where; everywhere when absent. Elsewhere it may what anybody may.
    pub limit: Option<Limit>,
}

impl Identity {
    /// Who a token of this person makes a program.
    pub(super) fn of_token(user: User, scope: Scope) -> Self {
        match scope {
            Scope { access: Access::Write, limit: None } => Self::User(user),
            limited => Self::Token(user, limited),
        }
    }

    /// The account, if there is one.
    pub fn user(&self) -> Option<&User> {
        match self {
            Self::Anonymous => None,
            Self::User(user) | Self::Token(user, _) => Some(user),
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

    fn limit(&self) -> Option<Limit> {
        match self {
            Self::Token(_, scope) => scope.limit,
            Self::Anonymous | Self::User(_) => None,
        }
    }

    fn reads_only(&self) -> bool {
        matches!(self, Self::Token(_, Scope { access: Access::Read, .. }))
    }

    /// Whether something lies within what this identity is limited to.
    fn reaches(&self, target: Target, action: Action) -> bool {
        match self.limit() {
            None => true,
            Some(Limit::Project(project)) => target.project == project,
            // That its project is there is all that a launcher's token is told of it.
            Some(Limit::Launcher { launcher, project }) => match target.launcher {
                Some(asked) => asked == launcher,
                None => target.project == project && action == Action::See,
            },
        }
    }

    pub(super) fn viewer(&self) -> Viewer {
        match (self.user(), self.limit()) {
            (None, _) => Viewer::Anybody,
            (Some(user), Some(within)) => {
                Viewer::Limited { user: user.id, administrator: user.is_admin, within }
            }
            (Some(user), None) if user.is_admin => Viewer::Administrator,
            (Some(user), None) => Viewer::Person(user.id),
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
    /// See who did what in it.
    Inspect,
    /// Choose its members.
    Govern,
    /// Give secrets to whoever can push code to any branch.
    Entrust,
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
            Self::Inspect => "see who did what in this project: only its owners may",
            Self::Govern => "choose the members of this project: only its owners may",
            Self::Entrust => "give this project's secrets to previews: only its owners may",
            Self::Delete => "delete this project: only its owners may",
        }
    }

    /// The least role it takes.
    fn least(self) -> Role {
        match self {
            Self::See | Self::ReadLogs => Role::Viewer,
            Self::Change | Self::Operate => Role::Editor,
            Self::Inspect | Self::Govern | Self::Entrust | Self::Delete => Role::Owner,
        }
    }

    fn only_reads(self) -> bool {
        matches!(self, Self::See | Self::ReadLogs | Self::Inspect)
    }
}

/// What it is to be done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The project.
    pub project: ProjectId,
    /// Who may see it.
    pub visibility: Visibility,
    /// The launcher in it, when it is about one, its environment, its builds, or its app.
    pub launcher: Option<LauncherId>,
}

impl Target {
    /// A project as a whole.
    pub fn project(project: &Project) -> Self {
        Self { project: project.id, visibility: project.visibility, launcher: None }
    }

    /// A launcher in a project, its environment, its builds, or its app.
    pub fn launcher(project: &Project, launcher: LauncherId) -> Self {
        Self { launcher: Some(launcher), ..Self::project(project) }
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
    /// Say that the token may only read.
    ReadOnly,
}

/// Decides whether `who`, with `role` in a project, may do `action` with it or something in it.
pub fn decide(who: &Identity, role: Option<Role>, target: Target, action: Action) -> Decision {
    let within = who.reaches(target, action);
    let role = role.filter(|_| within);
    if (who.is_admin() && within) || role.is_some_and(|role| role >= action.least()) {
        return if who.reads_only() && !action.only_reads() { Decision::ReadOnly } else { Decision::Allow };
    }
    match (target.visibility, role, who) {
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
        Decision::ReadOnly => Err(READ_ONLY),
    }
}

const READ_ONLY: Error = Error::Forbidden { action: "change anything with this token: it may only read" };

/// What somebody wants to do that is about no project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errand {
    /// Learn whose token this is.
    Introduce,
    /// See one's own tokens, sessions and identities; see which groups there are.
    LookAround,
    /// Change one's own account; make projects, groups and tokens.
    ActAsOneself,
    /// See everybody's accounts, and who did what.
    Oversee,
    /// Change other people's accounts.
    Administer,
}

/// The account of `who`, if it may be used for this.
///
/// # Errors
/// [`Error::SignInNeeded`], [`Error::Forbidden`].
pub fn allowed(who: &Identity, errand: Errand) -> Result<&User> {
    let user = who.signed_in()?;
    let changes = matches!(errand, Errand::ActAsOneself | Errand::Administer);
    if errand != Errand::Introduce && who.limit().is_some() {
        return Err(Error::Forbidden { action: "do this with this token: it is for one project alone" });
    }
    if matches!(errand, Errand::Oversee | Errand::Administer) && !user.is_admin {
        return Err(Error::Forbidden { action: "do this: only administrators may" });
    }
    if changes && who.reads_only() {
        return Err(READ_ONLY);
    }
    Ok(user)
}

/// What somebody wants to do with a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupAction {
    /// See who its members are.
    SeeMembers,
    /// Make a project in its namespace.
    MakeProject,
    /// Change it and choose its members, or delete it.
    Govern,
}

/// The account of `who`, if it may do this with a group in which it has `role`. That a group exists is no secret among
/// those who have signed in.
///
/// # Errors
/// [`Error::SignInNeeded`], [`Error::Forbidden`].
pub fn allowed_in_group(who: &Identity, role: Option<Role>, action: GroupAction) -> Result<&User> {
    let (errand, least, words) = match action {
        GroupAction::SeeMembers => {
            (Errand::LookAround, Role::Viewer, "see the members of this group: only its members may")
        }
        GroupAction::MakeProject => {
            (Errand::ActAsOneself, Role::Editor, "make projects in a namespace that is not yours")
        }
        GroupAction::Govern => (Errand::ActAsOneself, Role::Owner, "change this group: only its owners may"),
    };
    let user = allowed(who, errand)?;
    if user.is_admin || role.is_some_and(|role| role >= least) {
        return Ok(user);
    }
    Err(Error::Forbidden { action: words })
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
            disabled_at: None,
            language: None,
        })
    }

    #[test]
    fn every_role_sees_and_does_what_the_table_says() {
        use Action::{Change, Delete, Govern, Inspect, Operate, ReadLogs, See};
        use Decision::{Allow, Forbid, Hide, SignIn};
        let actions = [See, ReadLogs, Change, Operate, Inspect, Govern, Delete];
        let (private, public) = (Visibility::Private, Visibility::Public);
        let table = [
            (Identity::Anonymous, None, private, [Hide; 7]),
            (Identity::Anonymous, None, public, [Allow, SignIn, SignIn, SignIn, SignIn, SignIn, SignIn]),
            (user(false), None, private, [Hide; 7]),
            (user(false), None, public, [Allow, Forbid, Forbid, Forbid, Forbid, Forbid, Forbid]),
            (
                user(false),
                Some(Role::Viewer),
                private,
                [Allow, Allow, Forbid, Forbid, Forbid, Forbid, Forbid],
            ),
            (user(false), Some(Role::Viewer), public, [Allow, Allow, Forbid, Forbid, Forbid, Forbid, Forbid]),
            (user(false), Some(Role::Editor), private, [Allow, Allow, Allow, Allow, Forbid, Forbid, Forbid]),
            (user(false), Some(Role::Owner), private, [Allow; 7]),
            (user(true), None, private, [Allow; 7]),
        ];
        for (who, role, visibility, row) in table {
            for (action, expected) in actions.into_iter().zip(row) {
                assert_eq!(
                    decide(&who, role, Target { project: 1.into(), visibility, launcher: None }, action),
                    expected,
                    "{who:?} as {role:?} on a {visibility} project: {action:?}"
                );
            }
        }
    }

    #[test]
    fn a_token_may_no_more_than_its_owner_and_outside_its_limit_no_more_than_anybody() {
        let token = |access, limit, admin| {
            let Identity::User(user) = user(admin) else { unreachable!() };
            Identity::of_token(user, Scope { access, limit })
        };
        let target = |project: u128, launcher: Option<u128>, visibility| Target {
            project: project.into(),
            visibility,
            launcher: launcher.map(Into::into),
        };
        let (one, app) =
            (Limit::Project(1.into()), Limit::Launcher { launcher: 7.into(), project: 1.into() });
        let (private, public) = (Visibility::Private, Visibility::Public);
        let owner = Some(Role::Owner);
        use Access::{Read, Write};
        use Action::{Change, Operate, ReadLogs, See};
        for (who, target, action, expected) in [
            (token(Read, None, false), target(1, None, private), ReadLogs, Decision::Allow),
            (token(Read, None, false), target(1, None, private), Change, Decision::ReadOnly),
            (token(Read, None, true), target(1, None, private), Change, Decision::ReadOnly),
            (token(Write, Some(one), false), target(1, Some(7), private), Operate, Decision::Allow),
            (token(Write, Some(one), false), target(2, None, private), See, Decision::Hide),
            (token(Write, Some(one), true), target(2, None, private), See, Decision::Hide),
            (token(Write, Some(one), true), target(2, None, public), See, Decision::Allow),
            (token(Write, Some(one), true), target(2, None, public), Change, Decision::Forbid),
            (token(Write, Some(app), false), target(1, Some(7), private), Operate, Decision::Allow),
            (token(Write, Some(app), false), target(1, Some(8), private), See, Decision::Hide),
            (token(Write, Some(app), false), target(1, None, private), See, Decision::Allow),
            (token(Write, Some(app), false), target(1, None, private), Change, Decision::Hide),
            (token(Read, Some(app), false), target(1, Some(7), private), Operate, Decision::ReadOnly),
        ] {
            assert_eq!(decide(&who, owner, target, action), expected, "{who:?} {target:?} {action:?}");
        }
    }

    #[test]
    fn only_administrators_administer_and_only_with_all_they_have() {
        let Identity::User(root) = user(true) else { unreachable!() };
        let reads = Identity::of_token(root.clone(), Scope { access: Access::Read, limit: None });
        let limited =
            Identity::of_token(root, Scope { access: Access::Write, limit: Some(Limit::Project(1.into())) });
        use Errand::{ActAsOneself, Administer, Introduce, LookAround, Oversee};
        let errands = [Introduce, LookAround, ActAsOneself, Oversee, Administer];
        for (who, row) in [
            (Identity::Anonymous, [false; 5]),
            (user(false), [true, true, true, false, false]),
            (user(true), [true; 5]),
            (reads, [true, true, false, true, false]),
            (limited, [true, false, false, false, false]),
        ] {
            for (errand, expected) in errands.into_iter().zip(row) {
                assert_eq!(allowed(&who, errand).is_ok(), expected, "{who:?} {errand:?}");
            }
        }
    }
}
